//! Workflows with random graphs.

use arcp_proto::model::workflow::AGENT;
use arcp_proto::wire::Family;
use serde_json::{Value, json};

use super::Peer;
use crate::world::World;

/// Starts a workflow.
pub(super) fn start(world: &mut World, peer: &mut Peer, n: u64) {
    const AGENTS: [&str; 8] = ["echo", "echo", "echo", "echo", "slow", "failer", "kinds", "waiter"];
    // Some of the steps need credentials, where jobs get credentials.
    let uses_models = n.is_multiple_of(3);
    let lease = if uses_models { json!({"model.use": ["gpt-*"]}) } else { json!({}) };
    let steps: Vec<Value> = (0..1 + world.below(5))
        .map(|at| {
            let agent = AGENTS[world.below(AGENTS.len() as u64) as usize];
            let mut step = json!({"id": format!("s{at}"), "tool": agent});
            if uses_models && at % 2 == 0 {
                step["lease_request"] = json!({"model.use": ["gpt-4"]});
            }
            let needs: Vec<String> = (0..at).filter(|_| world.below(2) == 0).map(|need| format!("s{need}")).collect();
            if let Some(need) = needs.first() {
                step["arguments"] = json!({"x": {"$from": format!("/steps/{need}/result"), "default": null}});
                if world.below(3) == 0 {
                    step["when"] = json!({"$from": format!("/steps/{need}/state"), "not": "failed"});
                }
            }
            step["needs"] = json!(needs);
            step["retry"] = json!({"limit": world.below(3), "backoff": world.below(3)});
            step["on_failure"] = json!(["fail", "continue"][world.below(2) as usize]);
            step["on_skipped"] = json!(["skip", "run"][world.below(2) as usize]);
            step
        })
        .collect();
    let key = if world.below(2) == 0 { json!(format!("workflow{}", n % 7)) } else { Value::Null };
    let input = json!({"n": n});
    let id = match (&mut peer.raw, peer.family) {
        (None, _) => return,
        (Some(raw), Family::Hello) => {
            let input = json!({"workflow": {"steps": steps}, "input": input});
            let mut submit = json!({"agent": AGENT, "input": input, "max_runtime_sec": 30, "lease_request": lease});
            if key.is_string() {
                submit["idempotency_key"] = key;
            }
            raw.send(world, "job.submit", submit)
        }
        (Some(raw), Family::Open) => {
            let start = json!({"workflow": steps, "input": input, "max_runtime_sec": 30, "lease_request": lease});
            raw.send_with(world, "workflow.start", start, json!({"idempotency_key": key}))
        }
    };
    peer.waiting.insert(id);
}
