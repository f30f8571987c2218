//! Schedules of a random run: each client has a few, with ids of its own.

use arcp_proto::wire::Family;
use serde_json::{Value, json};

use super::{Peer, ask, say};
use crate::world::World;

/// The most schedules of a client.
const EACH: u64 = 3;

/// The id of a schedule.
fn name(peer: &Peer, n: u64) -> String {
    format!("{}-{}-{n}", peer.token, peer.family.as_str())
}

/// Adds, pauses, resumes, lists or deletes a schedule.
pub(super) fn act(world: &mut World, peer: &mut Peer, n: u64) {
    let id = name(peer, world.below(EACH));
    match world.below(8) {
        0..4 => {
            let wish = wish(world, &id, peer.family == Family::Hello, n);
            match peer.family {
                // The answer does not name its request.
                Family::Hello => say(world, peer, "job.schedule", wish),
                Family::Open => ask(world, peer, "job.schedule", wish),
            }
        }
        4 => ask(world, peer, "x-vendor.arcp.schedules.pause", json!({"schedule_id": id})),
        5 => ask(world, peer, "x-vendor.arcp.schedules.resume", json!({"schedule_id": id})),
        6 => ask(world, peer, "x-vendor.arcp.schedules.list", json!({"limit": 1 + n % 5})),
        _ => super::cancel(world, peer, &id),
    }
}

/// A request for a schedule, soon or every few seconds, with any policy for missed times.
fn wish(world: &mut World, id: &str, is_hello: bool, n: u64) -> Value {
    let agent = ["echo", "echo", "slow", "waiter", "failer"][world.below(5) as usize];
    let missed = ["last", "all", "none"][world.below(3) as usize];
    let overlap = ["skip", "queue", "allow"][world.below(3) as usize];
    let (interval, count) = (1 + world.below(9), 1 + world.below(12));
    let when = match world.below(4) {
        0 => json!({"after": 1 + n % 30}),
        1 => json!({"every": format!("FREQ=SECONDLY;INTERVAL={interval}")}),
        2 => {
            json!({"every": format!("DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL={interval};BYMINUTE=0,1,2,3")})
        }
        _ => json!({"every": format!("FREQ=SECONDLY;INTERVAL={interval};COUNT={count}")}),
    };
    let input = json!({"ticks": 2, "n": n});
    // Some of the jobs need credentials, where jobs get credentials.
    let lease = if n.is_multiple_of(3) { json!({"model.use": ["gpt-4"]}) } else { json!({}) };
    let mut payload = json!({"max_runtime_sec": 20, "lease_request": lease});
    let (kind, of, with) =
        if is_hello { ("job.submit", "agent", "input") } else { ("tool.invoke", "tool", "arguments") };
    payload[of] = json!(agent);
    payload[with] = input;
    let job = json!({"type": kind, "payload": payload});
    let (missed_name, overlap_name) = ("x-vendor.arcp.missed", "x-vendor.arcp.overlap");
    json!({"job": job, "when": when, "schedule_id": id, missed_name: missed, overlap_name: overlap})
}

/// Deletes all schedules, so that the world can come to rest.
pub(super) fn end(world: &mut World, peers: &mut [Peer]) {
    for peer in peers {
        for n in 0..EACH {
            let id = name(peer, n);
            super::cancel(world, peer, &id);
        }
    }
}
