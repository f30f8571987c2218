//! Requests at the limits of what they may contain: the last that is accepted, and the first that is not.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::Config;
use arcp_tests::raw::{Raw, code, open_payload};
use arcp_tests::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

fn open(world: &mut World, capabilities: &[&str]) -> Raw {
    let mut payload = open_payload("tok-a");
    for name in capabilities {
        payload["capabilities"][name] = json!(true);
    }
    Raw::open_with(world, payload).0
}

fn invoke(world: &mut World, raw: &mut Raw, agent: &str) -> JobId {
    let accepted = raw.invoke(world, json!({"tool": agent}));
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// What answers: its type, or the code of the refusal.
fn ask(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> (String, Value) {
    raw.send(world, kind, payload);
    let answers = [
        "x-vendor.arcp.artifact.received",
        "artifact.ref",
        "job.accepted",
        "cancel.accepted",
        "cancel.refused",
        "ack",
        "nack",
    ];
    let answer = raw.expect_any(world, &answers);
    let refused = answer["type"] == "nack" || answer["type"] == "cancel.refused";
    let said = if refused { code(&answer) } else { answer["type"].as_str().expect("a type") };
    (said.into(), answer)
}

fn giving(config: &mut Config) {
    config.restartable_agents.insert("waiter".into());
    let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
    waiter.gives_checkpoints = true;
}

#[test]
fn who_did_not_agree_to_checkpoints_asks_for_none() {
    let mut world = World::configured(1, giving);
    let mut raw = open(&mut world, &[]);
    let job = invoke(&mut world, &mut raw, "waiter");
    let (said, nack) = ask(&mut world, &mut raw, "checkpoint.create", json!({"job_id": job}));
    assert!(said == "UNIMPLEMENTED" && nack.to_string().contains("not negotiated"), "{nack}");
    assert!(world.wanted.is_empty(), "its agent is not asked");
    let mut raw = open(&mut world, &["checkpoints"]);
    raw.send(&mut world, "checkpoint.create", json!({"job_id": job}));
    world.settle();
    assert_eq!(world.wanted.len(), 1);
    world.finish();
}

#[test]
fn a_cancel_gives_a_job_ten_minutes_at_most() {
    let mut world = World::seeded(2);
    let mut raw = open(&mut world, &[]);
    let job = invoke(&mut world, &mut raw, "waiter");
    for (deadline, expected) in [(600_001, "INVALID_ARGUMENT"), (600_000, "cancel.accepted")] {
        let cancel = json!({"target": "job", "target_id": job, "deadline_ms": deadline});
        let (said, answer) = ask(&mut world, &mut raw, "cancel", cancel);
        assert_eq!(said, expected, "{answer}");
    }
    world.finish();
}

#[test]
fn what_came_in_parts_is_not_kept_under_an_id_that_names_something_else() {
    let mut world = World::configured(3, |config| {
        config.timing.artifact_retention = Some(Duration::from_secs(3600));
    });
    let mut raw = open(&mut world, &["artifacts"]);
    let put = json!({"artifact_id": "there", "media_type": "a/b", "data": BASE64.encode(b"abc")});
    assert_eq!(ask(&mut world, &mut raw, "artifact.put", put).0, "artifact.ref");
    let mut keep = |whole: &[u8], media_type: &str| {
        let sha256 = BlobDigest::of(whole).to_string();
        let part = json!({"sha256": sha256, "size": whole.len(), "offset": 0, "data": BASE64.encode(whole)});
        let (said, _) = ask(&mut world, &mut raw, "x-vendor.arcp.artifact.part", part);
        assert_eq!(said, "x-vendor.arcp.artifact.received");
        let terms = json!({"artifact_id": "there", "sha256": sha256, "size": whole.len(), "media_type": media_type});
        ask(&mut world, &mut raw, "x-vendor.arcp.artifact.keep", terms).0
    };
    assert_eq!(keep(b"abd", "a/b"), "FAILED_PRECONDITION", "other bytes");
    assert_eq!(keep(b"abc", "a/c"), "FAILED_PRECONDITION", "of another kind");
    assert_eq!(keep(b"abc", "a/b"), "artifact.ref", "it is there");
    world.finish();
}

#[test]
fn a_graph_that_no_event_could_show_is_refused() {
    let mut world = World::configured(4, |config| {
        config.authority.workflows = true;
        config.limits.frame.event_body_bytes = 4096;
    });
    let mut raw = open(&mut world, &[]);
    let steps = |count: usize| {
        let step = |n: usize| json!({"id": format!("{n:0>60}"), "tool": "echo"});
        json!({"workflow": {"steps": (0..count).map(step).collect::<Vec<_>>()}})
    };
    let (said, nack) = ask(&mut world, &mut raw, "workflow.start", steps(40));
    assert!(said == "RESOURCE_EXHAUSTED" && nack.to_string().contains("event_body_bytes"), "{nack}");
    assert_eq!(ask(&mut world, &mut raw, "workflow.start", steps(10)).0, "job.accepted");
    raw.until_end(&mut world);
    world.finish();
}
