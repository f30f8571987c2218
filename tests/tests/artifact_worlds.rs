//! Random worlds of artifacts: two principals and their agents store, fetch and delete them, whole and in parts, with
//! crashes and a disk that loses some.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arcp_proto::id::{CallId, JobId};
use arcp_proto::model::artifact::BlobDigest;
use arcp_tests::raw::{Raw, open_payload};
use arcp_tests::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

const TOKENS: [&str; 2] = ["tok-alice", "tok-bob"];
const ANSWERS: [&str; 6] =
    ["x-vendor.arcp.artifact.received", "x-vendor.arcp.artifacts", "artifact.ref", "artifact.put", "ack", "nack"];

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["artifacts"] = json!(true);
    Raw::open_with(world, payload).0
}

/// What one world knows of what was left.
struct Known {
    raws: Vec<Raw>,
    /// Agents that wait to be told to leave something, one for each principal.
    jobs: Vec<Option<JobId>>,
    calls: u64,
    /// By whose and by which id: the bytes.
    kept: BTreeMap<(usize, String), Vec<u8>>,
    /// Bytes that the disk has lost.
    lost: BTreeSet<BlobDigest>,
    came: BTreeMap<&'static str, usize>,
}

impl Known {
    fn ask(&mut self, world: &mut World, who: usize, kind: &str, payload: Value) -> Value {
        self.raws[who].send(world, kind, payload);
        self.raws[who].expect_any(world, &ANSWERS)
    }

    fn note(&mut self, what: &'static str) {
        *self.came.entry(what).or_default() += 1;
    }

    fn keep(&mut self, who: usize, answer: &Value, bytes: Vec<u8>) {
        if answer["type"] == "artifact.ref" {
            let id = answer["payload"]["artifact_id"].as_str().expect("an id").to_string();
            self.lost.remove(&BlobDigest::of(&bytes));
            self.kept.insert((who, id), bytes);
        }
    }

    /// Bytes that only this principal has, few enough to be equal sometimes.
    fn bytes(world: &mut World, who: usize) -> Vec<u8> {
        let (size, last) = (1 + world.below(20) as usize, world.below(3) as u8);
        let mut bytes = vec![b'A' + who as u8; size];
        bytes.push(last);
        bytes
    }

    fn step(&mut self, world: &mut World) {
        let who = world.below(2) as usize;
        match world.below(12) {
            0..=2 => {
                let bytes = Known::bytes(world, who);
                let put = json!({"media_type": "a/b", "data": BASE64.encode(&bytes)});
                let answer = self.ask(world, who, "artifact.put", put);
                self.note("put");
                self.keep(who, &answer, bytes);
            }
            3 | 4 => {
                let bytes = Known::bytes(world, who);
                let (sha256, size) = (BlobDigest::of(&bytes).to_string(), bytes.len());
                // Sometimes the last part never comes.
                let end = if world.below(3) == 0 { size - 1 } else { size };
                for (from, to) in [(0, size / 2), (size / 2, end)] {
                    let part = json!({"sha256": sha256, "size": size, "offset": from,
                        "data": BASE64.encode(&bytes[from..to])});
                    self.ask(world, who, "x-vendor.arcp.artifact.part", part);
                }
                let keep = json!({"sha256": sha256, "size": size, "media_type": "a/b"});
                let answer = self.ask(world, who, "x-vendor.arcp.artifact.keep", keep);
                self.note(if answer["type"] == "artifact.ref" { "whole" } else { "half" });
                self.keep(who, &answer, bytes);
            }
            5 => {
                if self.jobs[who].is_none() {
                    self.raws[who].send(world, "tool.invoke", json!({"tool": "stubborn"}));
                    let accepted = self.raws[who].expect(world, "job.accepted");
                    self.jobs[who] = JobId::parse(accepted["payload"]["job_id"].as_str().expect("an id"));
                    world.settle();
                }
                let (Some(job), bytes) = (self.jobs[who], Known::bytes(world, who)) else { return };
                self.calls += 1;
                world.offer(job, CallId(self.calls), &bytes);
                let shown = self.raws[who].expect(world, "artifact.ref");
                self.note("agent");
                self.keep(who, &shown, bytes);
            }
            6 | 7 => {
                let Some(((whose, id), _)) = self.any(world) else { return };
                self.ask(world, who, "artifact.release", json!({"artifact_id": id}));
                if whose == who {
                    self.kept.remove(&(whose, id));
                    self.note("released");
                }
            }
            8 => {
                let Some((_, bytes)) = self.any(world) else { return };
                let digest = BlobDigest::of(&bytes);
                world.blobs.stored.remove(&digest);
                self.lost.insert(digest);
                self.note("lost");
            }
            9 => {
                world.crash();
                self.raws = TOKENS.iter().map(|token| open(world, token)).collect();
                self.jobs = vec![None, None];
                self.note("crash");
            }
            _ => self.fetch(world, who),
        }
    }

    fn any(&self, world: &mut World) -> Option<((usize, String), Vec<u8>)> {
        let at = world.below(self.kept.len().max(1) as u64) as usize;
        self.kept.iter().nth(at).map(|(key, bytes)| (key.clone(), bytes.clone()))
    }

    fn fetch(&mut self, world: &mut World, who: usize) {
        let Some(((whose, id), bytes)) = self.any(world) else { return };
        let answer = self.ask(world, who, "artifact.fetch", json!({"artifact_id": id}));
        if answer["type"] != "artifact.put" {
            let is_lost = self.lost.contains(&BlobDigest::of(&bytes));
            assert!(whose != who || is_lost, "what is kept is there: {answer}");
            return self.note(if whose == who { "damaged" } else { "foreign" });
        }
        assert_eq!(whose, who, "no byte is shown to another principal: {answer}");
        assert_eq!(answer["payload"]["data"], BASE64.encode(bytes), "they are those that were left");
        self.note("fetched");
    }

    /// What is kept is listed, and its bytes are there but those that were lost.
    fn check(&mut self, world: &mut World) {
        world.settle();
        for who in 0..2 {
            let page = self.ask(world, who, "x-vendor.arcp.artifacts.list", json!({"limit": 1000}));
            let listed = page["payload"]["artifacts"].as_array().expect("a page");
            let ids = |id: &Value| id["artifact_id"].as_str().expect("an id").to_string();
            let listed: BTreeSet<String> = listed.iter().map(ids).collect();
            let kept = self.kept.keys().filter(|(whose, _)| *whose == who).map(|(_, id)| id.clone()).collect();
            assert_eq!(listed, kept, "a listing is what is kept");
        }
        for bytes in self.kept.values() {
            let digest = BlobDigest::of(bytes);
            let there = world.blobs.stored.contains_key(&digest);
            assert!(there || self.lost.contains(&digest), "no record is without its bytes");
        }
        let named: BTreeSet<BlobDigest> = self.kept.values().map(|bytes| BlobDigest::of(bytes)).collect();
        assert!(world.blobs.stored.keys().all(|digest| named.contains(digest)), "no bytes are nobody's");
    }
}

#[test]
fn random_worlds_show_no_byte_to_another_principal_and_no_record_is_without_its_bytes() {
    let mut came = BTreeMap::<&str, usize>::new();
    for seed in 0..30 {
        let mut world = World::configured(900 + seed, |config| {
            config.timing.artifact_retention = Some(Duration::from_secs(3600));
        });
        let raws = TOKENS.iter().map(|token| open(&mut world, token)).collect();
        let (kept, lost) = (BTreeMap::new(), BTreeSet::new());
        let mut known = Known { raws, jobs: vec![None, None], calls: 0, kept, lost, came: BTreeMap::new() };
        for _ in 0..40 {
            known.step(&mut world);
        }
        known.check(&mut world);
        world.restores();
        world.run_for(Duration::from_secs(3700));
        assert!(world.blobs.stored.is_empty() && world.blobs.parts.is_empty(), "{seed}: their time is over");
        known.came.into_iter().for_each(|(what, n)| *came.entry(what).or_default() += n);
        world.finish();
    }
    for what in ["put", "whole", "half", "agent", "released", "lost", "crash", "fetched", "foreign", "damaged"] {
        assert!(came.get(what).is_some_and(|n| *n > 5), "{what}: {came:?}");
    }
}
