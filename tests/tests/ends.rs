//! How jobs end when several causes meet.

use std::time::Duration;

use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::json;

#[test]
fn a_cancelled_job_whose_time_limit_comes_ends_as_cancelled() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "stubborn", "max_runtime_sec": 4}))["job_id"].clone();
    world.run_for(Duration::from_secs(2));
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    let frames = raw.until_end(&mut world);
    let end = frames.last().expect("an end");
    assert_eq!((code(end), &end["payload"]["final_status"]), ("CANCELLED", &json!("cancelled")));
    assert!((4_000_000..4_100_000).contains(&world.now().mono.0), "its time limit holds all the same");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.runtime().stats().running_agents, 1, "its agent still has its grace");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.finish();
}

#[test]
fn cancelling_a_session_cancels_the_jobs_it_no_longer_watches() {
    let mut world = World::seeded(2);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-a");
    let job = raw.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    raw.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    raw.send(&mut world, "cancel", json!({"target": "session", "target_id": accepted["session_id"]}));
    world.run_for(Duration::from_secs(1));
    let stats = world.runtime().stats();
    assert_eq!((stats.unfinished_jobs, stats.running_agents), (0, 0));
    world.finish();
}

#[test]
fn a_message_id_with_another_key_priority_or_extension_is_another_message() {
    let mut world = World::seeded(3);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let first = json!({"idempotency_key": "k1", "priority": "high", "extensions": {"x-vendor.a.b": 1}});
    let mut say = |world: &mut World, beside: &serde_json::Value| {
        let mut frame = json!({"id": "msg_1", "type": "tool.invoke", "payload": {"tool": "waiter"}});
        for (name, value) in beside.as_object().expect("an object") {
            frame[name] = value.clone();
        }
        raw.send_text(world, &frame.to_string());
        let answer = raw.expect_any(world, &["job.accepted", "nack"]);
        if answer["type"] == "nack" { code(&answer).to_string() } else { "accepted".to_string() }
    };
    assert_eq!([say(&mut world, &first), say(&mut world, &first)], ["accepted", "accepted"]);
    for (name, value) in
        [("idempotency_key", json!("k2")), ("priority", json!("low")), ("extensions", json!({"x-vendor.a.b": 2}))]
    {
        let mut other = first.clone();
        other[name] = value;
        assert_eq!(say(&mut world, &other), "INVALID_ARGUMENT", "{name}");
    }
    assert_eq!(world.runtime().stats().jobs, 1);
    world.finish();
}
