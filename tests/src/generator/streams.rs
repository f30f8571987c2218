//! Streams in a random run: clients pace and cancel those of agents, and send their own to agents.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Peer, ask};
use crate::world::World;

/// Streams that a client has seen begin, and the state of its own.
#[derive(Debug, Default)]
pub(super) struct Seen {
    streams: Vec<String>,
    /// The sequence of the next chunk in its own stream, by job.
    next: BTreeMap<String, u64>,
}

impl Seen {
    pub(super) fn look(&mut self, frame: &Value) {
        if frame["type"] == "stream.open"
            && let Some(stream) = frame["payload"]["stream_id"].as_str()
        {
            self.streams.push(stream.into());
        }
    }
}

pub(super) fn act(world: &mut World, peer: &mut Peer) {
    for _ in 0..4 {
        act_once(world, peer);
    }
}

fn act_once(world: &mut World, peer: &mut Peer) {
    // One of the latest streams may still be open.
    let lately = world.below(2) as usize;
    let stream = peer.streams.streams.iter().rev().nth(lately).cloned();
    match (world.below(4), stream) {
        (0, Some(stream)) if peer.family.has_open_requests() => {
            ask(world, peer, "cancel", json!({"target": "stream", "target_id": stream}));
        }
        (1 | 2, Some(stream)) if peer.family.has_open_requests() => {
            let rate = 1 + world.below(50);
            if let Some(raw) = &mut peer.raw {
                let pace = json!({"desired_rate_per_second": rate});
                raw.send_with(world, "backpressure", pace, json!({"stream_id": stream}));
            }
        }
        _ => speak(world, peer),
    }
}

/// Sends a message of a stream to the agent of a job that it submitted.
fn speak(world: &mut World, peer: &mut Peer) {
    let Some(job) = peer.pick_open_job(world) else {
        return;
    };
    let named = |mut payload: Value| {
        payload["job_id"] = json!(job);
        payload["stream_id"] = json!("mine");
        payload
    };
    let next = peer.streams.next.get(&job).copied();
    let (kind, payload) = match (world.below(8), next) {
        (0, Some(_)) => ("stream.close", named(json!({}))),
        (1, Some(_)) => ("stream.error", named(json!({"code": "ABORTED", "message": "m"}))),
        (_, Some(n)) => ("stream.chunk", named(json!({"sequence": n, "data": "text"}))),
        (_, None) => ("stream.open", named(json!({"kind": "text"}))),
    };
    match kind {
        "stream.chunk" => *peer.streams.next.entry(job).or_default() += 1,
        "stream.open" => drop(peer.streams.next.insert(job, 0)),
        _ => drop(peer.streams.next.remove(&job)),
    }
    ask(world, peer, kind, payload);
}
