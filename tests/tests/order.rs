//! The order of frames where answers and subscriptions meet.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, Input};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Subscribes.
fn subscribe(world: &mut World, raw: &mut Raw, payload: Value) {
    raw.send(world, "subscribe", payload);
    raw.expect(world, "subscribe.accepted");
}

/// An agent says so much.
fn emit(world: &mut World, job: &Value, count: u32) {
    let job = JobId::parse(job.as_str().expect("an id")).expect("ours");
    for _ in 0..count {
        let body = Json::parse(r#"{"name":"m","value":1}"#).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "metric".into(), body } });
        world.run_for(Duration::from_millis(50));
    }
}

#[test]
fn a_subscription_that_is_too_slow_ends_after_what_it_was_shown_of_other_jobs() {
    let mut world = World::configured(16, |config| {
        config.history = false;
        config.limits.history.job_events = 64;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
    });
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    // Both come to the gap with the same event.
    let types = ["metric", "job.accepted", "job.completed"];
    subscribe(&mut world, &mut observer, json!({"filter": {"types": types}}));
    let job = agent.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    world.settle();
    observer.take(&world);
    world.stall(observer.conn, true);
    emit(&mut world, &job, 50);
    agent.send(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": 1}));
    world.run_for(Duration::from_secs(1));
    emit(&mut world, &job, 200);
    world.stall(observer.conn, false);
    let frames = observer.settle(&mut world);
    let ended = |frame: &&Value| frame["type"] == "subscribe.closed";
    assert_eq!(frames.iter().filter(ended).count(), 2, "{frames:?}");
    let mut over = Vec::new();
    for frame in &frames {
        if ended(&frame) {
            over.push(frame["payload"]["subscription_id"].clone());
        }
        assert!(!over.contains(&frame["subscription_id"]), "{frame} comes after its end");
    }
    assert!(frames.iter().any(|frame| frame["payload"]["event"]["type"] == "job.completed"), "{frames:?}");
    world.finish();
}

#[test]
fn a_replay_that_waits_for_the_store_lets_no_event_pass_its_subscription() {
    let mut world = World::configured(17, |config| config.limits.history.job_events = 16);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "thinker", "arguments": {"count": 40}}));
    let seen = raw.until_end(&mut world);
    let job = raw.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    world.read_latency = Duration::from_secs(20);
    raw.send(&mut world, "resume", json!({"after_message_id": seen[9]["id"]}));
    raw.send(&mut world, "subscribe", json!({"filter": {}}));
    world.run_for(Duration::from_millis(100));
    emit(&mut world, &job, 3);
    let frames = raw.settle(&mut world);
    let at = |kind: &str| frames.iter().position(|frame| frame["type"] == kind).expect("it is there");
    assert!(at("subscribe.accepted") < at("subscribe.event"), "{frames:?}");
    world.finish();
}

#[test]
fn what_is_new_does_not_wait_for_a_replay_that_waits_for_the_store() {
    let mut world = World::configured(18, |config| config.limits.history.job_events = 16);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "thinker", "arguments": {"count": 40}}));
    let seen = raw.until_end(&mut world);
    let job = raw.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    world.read_latency = Duration::from_secs(20);
    raw.send(&mut world, "resume", json!({"after_message_id": seen[9]["id"]}));
    emit(&mut world, &job, 3);
    let kinds: Vec<Value> = raw.take(&world).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(kinds, ["metric"; 3]);
    let replayed = raw.settle(&mut world);
    assert!(replayed.starts_with(&seen[10..]), "{replayed:?}");
    assert_eq!(replayed.last().expect("an answer")["type"], "ack");
    world.finish();
}
