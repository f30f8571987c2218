//! Hostile bytes: valid frames with flipped bits, cut, repeated and spliced. Nothing panics, and well-behaved clients
//! are served.

use std::path::PathBuf;

use arcp_proto::client::{Client, ClientConfig, ClientInput};
use arcp_proto::entropy::Seeds;
use arcp_proto::json::Members;
use arcp_proto::model::request::Credential;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::json;

/// Numbers by chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(out.len());
            match self.below(7) {
                0 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                1 => out.truncate(at),
                2 => out.insert(at.min(out.len()), b"\"{}[],:\\0"[self.below(9)]),
                3 if !out.is_empty() => {
                    out.remove(at.min(out.len() - 1));
                }
                4 => {
                    let other = &others[self.below(others.len())];
                    out.splice(at..at, other[self.below(other.len())..].iter().copied());
                }
                5 => {
                    let end = at + self.below(out.len() - at + 1);
                    let piece = out[at..end].to_vec();
                    out.splice(at..at, piece);
                }
                _ => {
                    let end = at + self.below(out.len() - at + 1);
                    out.drain(at..end);
                }
            }
        }
        out
    }
}

const FAMILIES: [(Family, &str); 2] = [(Family::Hello, "python-1.1.3"), (Family::Open, "rust-2.0.0")];

fn recorded(peer: &str, direction: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded").join(peer);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("recorded").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).expect("text"));
    // As text: some frames hold what no tree of values can.
    let frames = texts.flat_map(|text| {
        let lines = text.lines().map(|line| Members::parse(line).expect("JSON"));
        let of_direction = lines.filter(|line| line.get_str("dir").as_deref() == Some(direction));
        let frames = of_direction.filter_map(|line| line.get("msg")).filter(|frame| frame.starts_with('{'));
        frames.map(|frame| frame.as_bytes().to_vec()).collect::<Vec<_>>()
    });
    frames.collect()
}

#[test]
fn no_frame_breaks_the_runtime() {
    FAMILIES.into_iter().for_each(|(family, peer)| break_the_runtime(family, &recorded(peer, "c2r")));
}

fn break_the_runtime(family: Family, frames: &[Vec<u8>]) {
    let mut chance = Chance(0x5eed);
    for seed in 0..20 {
        let mut world = World::seeded(seed);
        let (mut honest, _) = Raw::hello(&mut world, "tok-honest");
        for _ in 0..20 {
            let (mut evil, _) = match family {
                Family::Hello => Raw::hello(&mut world, "tok-evil"),
                Family::Open => Raw::open(&mut world, "tok-evil"),
            };
            for _ in 0..20 {
                let frame = &frames[chance.below(frames.len())];
                let mutated = chance.mutate(frame, frames);
                world.send_raw(evil.conn, mutated);
            }
            world.settle();
            evil.take(&world);
        }
        honest.submit(&mut world, json!({"agent": "echo", "input": seed}));
        let end = honest.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["payload"]["result"], seed);
        world.finish();
    }
}

#[test]
fn no_frame_breaks_the_client() {
    FAMILIES.into_iter().for_each(|(family, peer)| break_the_client(family, &recorded(peer, "r2c")));
}

fn break_the_client(family: Family, frames: &[Vec<u8>]) {
    const WELCOME: &str = r#"{"id":"msg_1","type":"session.welcome","payload":{"session_id":"s","resume_token":"t","capabilities":{"features":["ack"]}}}"#;
    const ACCEPTED: &str =
        r#"{"id":"msg_1","type":"session.accepted","payload":{"session_id":"s","resume_token":"t","capabilities":{}}}"#;
    let opened = if family == Family::Open { ACCEPTED } else { WELCOME };
    let mut chance = Chance(0xc11e);
    for round in 0..2000 {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let config = ClientConfig { family, ..ClientConfig::new("c", "1", Credential::Anonymous) };
        let mut client = Client::new(config, seeds, now).expect("it works");
        client.handle(now, ClientInput::Tick);
        client.handle(now, ClientInput::Connected);
        client.handle(now, ClientInput::Received { frame: opened.as_bytes().to_vec() });
        assert!(client.session().is_ok());
        for _ in 0..10 {
            let frame = &frames[chance.below(frames.len())];
            let frame = chance.mutate(frame, frames);
            now.mono = Timestamp(now.mono.0 + 1000);
            client.handle(now, ClientInput::Received { frame });
            if let Some((at, timer)) = client.next_deadline() {
                assert!(at > now.mono, "round {round}: {timer:?}");
            }
        }
        let mut outputs = 0;
        while client.poll_output().is_some() {
            outputs += 1;
        }
        assert!(outputs < 200, "round {round}: {outputs} outputs");
    }
}
