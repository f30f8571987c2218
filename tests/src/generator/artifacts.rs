//! Artifacts in random worlds: what clients do with them, and faults of the host's disk.

use std::time::Duration;

use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{Config, kept_artifacts};
use arcp_proto::wire::Family;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Peer, ask, authority, say};
use crate::artifact_log::letter;
use crate::world::World;

/// How many ids are remembered.
const LATELY: usize = 24;

/// The ids of all artifacts that were left: any client may try any of them.
#[derive(Debug, Default)]
pub(super) struct Left(Vec<String>);

impl Left {
    pub(super) fn look(&mut self, frame: &Value) {
        let payload = &frame["payload"];
        let known = [&payload["artifact_id"], &payload["body"]["artifact_id"], &payload["result_ref"]["artifact_id"]];
        for id in known.into_iter().filter_map(Value::as_str) {
            if !self.0.iter().any(|known| known == id) {
                self.0.push(id.to_string());
            }
        }
        self.0.drain(..self.0.len().saturating_sub(LATELY));
    }

    fn any(&self, world: &mut World) -> String {
        let at = world.below(self.0.len() as u64 + 1) as usize;
        self.0.get(at).cloned().unwrap_or_else(|| "art_none".into())
    }
}

/// Most worlds keep artifacts, some of them few.
pub(super) fn configure(config: &mut Config, seed: u64) {
    if seed % 6 == 5 {
        return;
    }
    config.timing.artifact_retention = Some(Duration::from_secs(40));
    config.timing.longest_artifact_retention = Duration::from_secs(400);
    config.limits.artifact.artifacts = if seed.is_multiple_of(2) { 12 } else { 60 };
    config.limits.artifact.all_artifact_bytes = 2000;
    config.limits.artifact.artifact_bytes = 60;
    config.limits.artifact.whole_artifact_bytes = 100;
}

/// Gives the oracle the bounds.
pub(super) fn watch(world: &mut World, config: &Config) {
    let limits = &config.limits.artifact;
    world.oracle.artifacts.bounds = Some((limits.artifacts, limits.all_artifact_bytes));
    let operator = authority::OPERATOR_TOKEN.trim_start_matches("tok-").to_string();
    let auditors = config.auditors.iter().map(ToString::to_string);
    world.oracle.artifacts.sees_all = auditors.chain([operator]).collect();
}

pub(super) fn act(world: &mut World, peer: &mut Peer, left: &Left) {
    for _ in 0..1 + world.below(3) {
        act_once(world, peer, left);
    }
}

fn act_once(world: &mut World, peer: &mut Peer, left: &Left) {
    let id = left.any(world);
    match world.below(16) {
        0..4 => {
            let mut put = json!({"media_type": "a/b", "data": BASE64.encode(bytes(world, peer, 60))});
            if world.below(3) == 0 {
                put["artifact_id"] = json!(["mine", "report"][world.below(2) as usize]);
            }
            if world.below(3) == 0 {
                put["ttl_seconds"] = json!(1 + world.below(90));
            }
            request(world, peer, "artifact.put", put);
        }
        4 | 5 => in_parts(world, peer),
        6..9 => {
            let mut fetch = json!({"artifact_id": id});
            if world.below(3) == 0 {
                fetch["offset"] = json!(world.below(8));
                fetch["length"] = json!(world.below(40));
            }
            request(world, peer, "artifact.fetch", fetch);
        }
        9 | 10 => {
            for _ in 0..1 + world.below(2) {
                request(world, peer, "artifact.release", json!({"artifact_id": id}));
            }
        }
        11 | 12 => {
            let job = peer.pick_job(world).filter(|_| world.below(2) == 0);
            let mut list = json!({"limit": 1 + world.below(20)});
            if let Some(job) = job {
                list["job_id"] = json!(job);
            }
            request(world, peer, "x-vendor.arcp.artifacts.list", list);
        }
        _ => trouble(world),
    }
}

/// Bytes that show whose they are, few enough to be equal sometimes.
fn bytes(world: &mut World, peer: &Peer, most: u64) -> Vec<u8> {
    let size = 1 + world.below(most) as usize;
    vec![letter(peer.token.trim_start_matches("tok-")); size]
}

/// Stores in parts; sometimes the last part never comes, or missing bytes are asked for.
fn in_parts(world: &mut World, peer: &mut Peer) {
    let whole = bytes(world, peer, 100);
    let (sha256, size) = (BlobDigest::of(&whole).to_string(), whole.len());
    let end = if world.below(4) == 0 { size - 1 } else { size };
    for (from, to) in [(0, size / 2), (size / 2, end)] {
        let data = BASE64.encode(&whole[from..to]);
        let part = json!({"sha256": sha256, "size": size, "offset": from, "data": data});
        request(world, peer, "x-vendor.arcp.artifact.part", part);
    }
    let keep = json!({"sha256": sha256, "size": size, "media_type": "a/b"});
    request(world, peer, "x-vendor.arcp.artifact.keep", keep);
}

/// The disk loses bytes, is full, or is silent for a while.
fn trouble(world: &mut World) {
    match world.below(8) {
        0..3 => {
            let at = world.below(world.blobs.stored.len() as u64 + 1) as usize;
            let lost = world.blobs.stored.keys().nth(at).copied();
            lost.map(|digest| world.blobs.stored.remove(&digest));
        }
        3 => world.blobs.full = true,
        4 => world.blobs.silent = true,
        _ => mend(world),
    }
}

/// The disk works again; what it has lost stays lost.
pub(super) fn mend(world: &mut World) {
    world.blobs.full = false;
    world.speak_of_blobs();
}

/// Answers of the host that were not sent are lost with the runtime.
pub(super) fn crash(world: &mut World) {
    world.blobs.unsaid.clear();
    world.blobs.silent = false;
    world.crash();
}

/// No artifact and no bytes are kept any more.
pub(super) fn nothing_is_left(world: &World) {
    assert_eq!(kept_artifacts(world.runtime(), None), (0, 0), "their time is over");
    let (stored, parts) = (world.blobs.stored.len(), world.blobs.parts.len());
    assert_eq!((stored, parts), (0, 0), "bytes that are nobody's");
}

/// Sends a request. Answers of the hello family do not name their request.
fn request(world: &mut World, peer: &mut Peer, kind: &str, payload: Value) {
    match peer.family {
        Family::Hello => say(world, peer, kind, payload),
        Family::Open => ask(world, peer, kind, payload),
    }
}
