//! Authority in random worlds, besides answers: clients extend and revoke permissions and hand jobs over, and the
//! provisioner fails, is late, or cannot revoke.

use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::handoff::Receiver;
use arcp_proto::runtime::{Config, Models};
use arcp_proto::trust::TrustLevel;
use serde_json::{Value, json};

use super::{Peer, ask};
use crate::world::{Says, World};

/// The token of an operator, who may elevate jobs to any level.
pub(super) const OPERATOR_TOKEN: &str = "tok-o";

/// The configuration: operators always; credentials for models, trust levels and a bounded credential in some worlds.
pub(super) fn configure(config: &mut Config, seed: u64) {
    config.operators = [Principal::new(OPERATOR_TOKEN.trim_start_matches("tok-")).expect("a name")].into();
    if seed.is_multiple_of(2) {
        config.models = Models { provisions: true, ..Models::default() };
    }
    // Also for agents that other agents delegate to.
    let checks = seed % 4 < 2 && seed % 5 < 4;
    for entry in config.agents.iter_mut().filter(|_| checks) {
        entry.checks_input |= ["echo", "steward", "waiter"].contains(&entry.name.as_str());
    }
    let east = Receiver { url: "wss://east.test/arcp".into(), fingerprint: None };
    config.authority.handoff.receivers = [("east".to_string(), east)].into();
    config.limits.family.departing_jobs = 3;
    if needs_trust(seed) {
        config.authority.needs_trust = [
            (TrustLevel::Trusted, lease(&json!({"fs.read": ["/w/a/*"]}))),
            (TrustLevel::Privileged, lease(&json!({"tool.call": ["a.b"]}))),
        ]
        .into();
    }
}

/// Whether some operations need more trust than jobs have.
pub(super) fn needs_trust(seed: u64) -> bool {
    seed % 3 == 1
}

/// In some worlds the credential of `b` has bounds.
pub(super) fn bound(world: &mut World, seed: u64) {
    if seed % 6 == 1 {
        let most = json!({"tool.call": ["*"], "fs.read": ["/w/**"], "agent.delegate": ["*"], "cost.budget": ["USD:8"]});
        world.ceilings.insert("tok-b".into(), Box::new(Ceiling::new(lease(&most))));
    }
}

fn lease(json: &Value) -> Lease {
    Lease::parse(&Json::parse(&json.to_string()).expect("JSON")).expect("a lease")
}

/// Extends or revokes a permission that the client was shown, which may have ended or be another principal's.
pub(super) fn change_lease(world: &mut World, peer: &mut Peer) {
    let lately = &peer.leases[peer.leases.len().saturating_sub(4)..];
    let Some(lease) = lately.get(world.below(lately.len().max(1) as u64) as usize).cloned() else { return };
    let seconds = 1 + world.below(90);
    match world.below(5) {
        0 | 1 => ask(world, peer, "lease.refresh", json!({"lease_id": lease, "requested_seconds": seconds})),
        2 => ask(world, peer, "lease.refresh", json!({"lease_id": lease, "additional_seconds": seconds})),
        _ => ask(world, peer, "lease.revoked", json!({"lease_id": lease, "reason": "no more"})),
    }
}

/// Hands a job over, mostly its own, to another runtime, which may refuse it.
pub(super) fn send_away(world: &mut World, peer: &mut Peer) {
    let open = if world.below(8) > 0 { peer.pick_open_job(world) } else { peer.pick_job(world) };
    let Some(job) = open else { return };
    if let Some(raw) = &mut peer.raw {
        let payload = json!({"target": {"runtime": "east"}, "reason": "too much to do"});
        let id = raw.send_with(world, "agent.handoff", payload, json!({"job_id": job}));
        peer.waiting.insert(id);
    }
}

/// Hands a job over, mostly its own, to a principal that may take none.
pub(super) fn hand_over(world: &mut World, peer: &mut Peer, to: &str) {
    let open = if world.below(8) > 0 { peer.pick_open_job(world) } else { peer.pick_job(world) };
    let Some(job) = open else { return };
    if let Some(raw) = &mut peer.raw {
        let id = raw.send_with(world, "agent.handoff", json!({"target": to}), json!({"job_id": job}));
        peer.waiting.insert(id);
    }
    // A client that hands a job over is owed nothing more, whether or not the job is taken.
    peer.jobs.remove(&job);
    peer.left.insert(job);
}

/// The provisioner or another runtime gets into trouble, or out of it. This concerns credentials of new jobs, and new
/// values for existing credentials.
pub(super) fn trouble(world: &mut World) {
    match world.below(8) {
        6 | 7 => {
            let all = [
                Says::TakesInSilence,
                Says::TakesAndHangs,
                Says::IsLost,
                Says::Refuses(ErrorCode::ResourceExhausted),
                Says::Refuses(ErrorCode::AgentNotAvailable),
                Says::IsAway(ErrorCode::Unavailable),
                Says::Takes,
            ];
            world.receiver.says = all[world.below(all.len() as u64) as usize].clone();
        }
        0 => world.provisioner.fails = Some("out of keys".into()),
        1 => world.provisioner.silent = true,
        2 => world.provisioner.cannot_revoke += 1 + world.below(4) as usize,
        3 => world.provisioner.issues = 1 + world.below(3) as usize,
        4 => world.say_issued(),
        _ => mend(world),
    }
}

/// The provisioner works again, and sends the answers that it had withheld.
pub(super) fn mend(world: &mut World) {
    let provisioner = &mut world.provisioner;
    (provisioner.fails, provisioner.silent, provisioner.cannot_revoke) = (None, false, 0);
    world.receiver.says = Says::Takes;
    world.say_issued();
}

/// No credential of an ended job is valid any more.
pub(super) fn nothing_counts(world: &World) {
    let known = |job| world.oracle.ledger.knows(job);
    let counting: Vec<_> = world.provisioner.counting.keys().filter(|(job, _)| known(*job)).collect();
    assert!(counting.is_empty(), "they count for jobs that are over: {counting:?}");
}
