//! Answers come in the order of requests, and contain nothing that a restart takes back.

use std::time::Duration;

use arcp_proto::runtime::{CloseReason, Notice};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// The requests that unnumbered frames, and acceptances, answer.
fn answered(frames: &[Value]) -> Vec<&str> {
    let answers = frames.iter().filter(|frame| frame["event_seq"].is_null() || frame["type"] == "job.accepted");
    answers.filter_map(|f| f["payload"]["request_id"].as_str().or(f["correlation_id"].as_str())).collect()
}

#[test]
fn a_refusal_does_not_overtake_an_acceptance() {
    for (family, kind, good, bad) in [
        (Family::Hello, "job.submit", json!({"agent": "echo"}), json!({"agent": "nobody"})),
        (Family::Open, "tool.invoke", json!({"tool": "echo"}), json!({"tool": "nobody"})),
    ] {
        let mut world = World::of(family, 1);
        let (mut raw, _) = match family {
            Family::Hello => Raw::hello(&mut world, "tok-a"),
            Family::Open => Raw::open(&mut world, "tok-a"),
        };
        let asked: Vec<String> = [&good, &bad, &good, &bad, &bad]
            .into_iter()
            .map(|payload| raw.send(&mut world, kind, payload.clone()))
            .collect();
        let frames = raw.settle(&mut world);
        assert_eq!(answered(&frames), asked, "{family:?}");
        world.finish();
    }
}

#[test]
fn answers_keep_their_order_whatever_the_store_does() {
    let mut world = World::seeded(2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "stubborn"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    world.store.broken = true;
    let asked = [
        ("job.cancel", json!({"job_id": job})),
        // The store fails by now: it is refused for that alone.
        ("job.submit", json!({"agent": "echo"})),
        ("session.list_jobs", json!({})),
        ("job.submit", json!({"agent": "nobody"})),
        ("session.list_jobs", json!({"cursor": "made up"})),
    ]
    .map(|(kind, payload)| {
        let id = raw.send(&mut world, kind, payload);
        world.settle();
        id
    });
    raw.send(&mut world, "session.ping", json!({"nonce": "still"}));
    let before: Vec<Value> = raw.settle(&mut world);
    let kinds: Vec<&Value> = before.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["session.pong"], "signs of life pass by");
    world.store.broken = false;
    world.run_for(Duration::from_secs(2));
    let frames = raw.take(&world);
    assert_eq!(answered(&frames), asked[1..], "in hello a cancel's answer names the job alone");
    assert_eq!(frames[0]["type"], "job.cancelled", "{frames:#?}");
    world.finish();
}

#[test]
fn a_refusal_reveals_nothing_that_a_restart_takes_back() {
    let mut world = World::seeded(3);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 5}}))["job_id"].clone();
    world.run_for(Duration::from_millis(50));
    raw.take(&world);
    world.store.broken = true;
    world.run_for(Duration::from_secs(3));
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::JobEnded { .. })), "it ended");
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    raw.send(&mut world, "job.submit", json!({"agent": "nobody"}));
    world.settle();
    assert_eq!(raw.take(&world), Vec::<Value>::new(), "that it has ended is not durable");
    world.store.broken = false;
    world.crash_with(0, true);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let end = back.settle(&mut world).pop().expect("an end");
    assert_eq!((code(&end), &end["job_id"]), ("INTERNAL_ERROR", &job), "it ended otherwise");
    world.finish();
}

#[test]
fn a_key_in_use_is_named_once_that_is_durable() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    world.settle();
    world.store.broken = true;
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": 1, "idempotency_key": "k"}));
    world.run_for(Duration::from_secs(1));
    other.send(&mut world, "job.submit", json!({"agent": "echo", "input": 2, "idempotency_key": "k"}));
    world.run_for(Duration::from_secs(1));
    assert_eq!((raw.take(&world), other.take(&world)), (vec![], vec![]));
    world.store.broken = false;
    assert_eq!(code(&other.expect(&mut world, "session.error")), "DUPLICATE_KEY");
    world.finish();
}

/// A job that has ended, with six events, and what a session does with it.
fn told_and_crashed(seed: u64, kind: &str, payload: impl Fn(&Value) -> Value, answer: &str) -> (World, Vec<Value>) {
    let options = Options { split_commits: true, ..Options::new(seed) };
    let mut world = World::new(options);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let submit = json!({"agent": "chatty", "input": {"count": 4}, "idempotency_key": "k"});
    let job = owner.submit(&mut world, submit)["job_id"].clone();
    world.settle();
    let (mut other, welcome) = Raw::hello(&mut world, "tok-a");
    other.send(&mut world, kind, payload(&job));
    while !world.frames_of(other.conn).iter().any(|text| text.contains(answer)) {
        assert!(world.step(), "it is told");
    }
    // It has been told: whatever the store has not got is of no matter.
    world.crash_with(0, true);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let frames = back.settle(&mut world);
    (world, frames)
}

#[test]
fn who_was_told_of_a_history_gets_it_over_a_restart() {
    for seed in 0..20 {
        let watch = |job: &Value| json!({"job_id": job, "history": true});
        let (world, frames) = told_and_crashed(seed, "job.subscribe", watch, "job.subscribed");
        assert_eq!(frames.iter().filter(|frame| frame["event_seq"].is_u64()).count(), 6, "{seed}: {frames:#?}");
        world.finish();
    }
}

#[test]
fn who_was_told_of_a_job_by_its_key_gets_its_end_over_a_restart() {
    for seed in 0..20 {
        let again = |_: &Value| json!({"agent": "chatty", "input": {"count": 4}, "idempotency_key": "k"});
        let (world, frames) = told_and_crashed(seed, "job.submit", again, "job.accepted");
        let end = frames.last().expect("an end");
        assert_eq!((&end["type"], &end["event_seq"]), (&json!("job.result"), &json!(1)), "{seed}");
        world.finish();
    }
}

#[test]
fn who_was_told_of_a_subscription_gets_the_end_of_its_past_over_a_restart() {
    for seed in 0..20 {
        let options = Options { split_commits: true, ..Options::new(seed) };
        let mut world = World::new(options);
        let (mut raw, opened) = Raw::open(&mut world, "tok-a");
        raw.invoke(&mut world, json!({"tool": "echo"}));
        let last = raw.settle(&mut world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max();
        raw.send(&mut world, "subscribe", json!({"filter": {}, "since": {}}));
        while !world.frames_of(raw.conn).iter().any(|text| text.contains("subscribe.accepted")) {
            assert!(world.step(), "it is told");
        }
        world.crash_with(0, true);
        let mut back = Raw::reclaim(&mut world, "tok-a", &opened, last.expect("frames"));
        let frames = back.settle(&mut world);
        assert!(frames.iter().any(|frame| frame.to_string().contains("subscription.backfill_complete")), "{frames:#?}");
        world.finish();
    }
}

#[test]
fn a_refused_submit_carries_its_trace() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut world = World::seeded(5);
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    hello.send_with(&mut world, "job.submit", json!({"agent": "nobody"}), json!({"trace_id": trace}));
    assert_eq!(hello.expect(&mut world, "session.error")["trace_id"], trace);
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    open.send_with(&mut world, "tool.invoke", json!({"tool": "nobody"}), json!({"trace_id": "mine"}));
    assert_eq!(open.expect(&mut world, "nack")["trace_id"], "mine");
    world.finish();
}

#[test]
fn a_session_that_is_taken_from_its_client_is_not_resumed() {
    let mut world = World::seeded(6);
    let (mut raw, opened) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "waiter"}));
    world.settle();
    let (mut other, _) = Raw::open(&mut world, "tok-a");
    world.store.broken = true;
    raw.send(&mut world, "cancel", json!({"target": "session", "target_id": opened["payload"]["session_id"]}));
    world.settle();
    world.cut(raw.conn);
    let claim = json!({"resume_token": opened["payload"]["resume_token"], "last_event_seq": 0});
    other.send(&mut world, "session.resume", claim);
    world.settle();
    other.take(&world);
    world.store.broken = false;
    world.run_for(Duration::from_secs(2));
    let frames = other.take(&world);
    assert!(!frames.iter().any(|frame| frame["type"] == "session.resumed"), "{frames:#?}");
    assert_eq!(world.close_reason(other.conn), Some(CloseReason::Refused));
    world.finish();
}

#[test]
fn a_page_is_looked_up_when_it_can_be_written() {
    let mut world = World::seeded(7);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    // They take up the credit there is.
    for _ in 0..65 {
        raw.send(&mut world, "session.ping", json!({"nonce": "n"}));
    }
    for _ in 0..20 {
        raw.send(&mut world, "session.list_jobs", json!({}));
    }
    world.run_for(Duration::from_secs(1));
    let job = other.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    other.until_end(&mut world);
    world.stall(raw.conn, false);
    let frames = raw.settle(&mut world);
    let pages: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "session.jobs").collect();
    assert_eq!(pages.len(), 20);
    for page in pages {
        assert_eq!(page["payload"]["jobs"][0]["job_id"], job, "a job that was not there when it was asked for");
    }
    world.finish();
}

#[test]
fn nobody_is_pinged_before_it_is_let_in() {
    let mut world = World::seeded(8);
    let (_, welcome) = Raw::hello(&mut world, "tok-a");
    world.store.broken = true;
    let mut raw = Raw::resume(&mut world, "tok-a", &welcome, 0);
    world.run_for(Duration::from_secs(120));
    assert_eq!(raw.take(&world), Vec::<Value>::new());
    assert!(!raw.is_closed(&world), "who waits to be let in says nothing");
    world.store.broken = false;
    raw.expect(&mut world, "session.welcome");
    world.finish();
}

#[test]
fn a_store_that_failed_for_a_moment_is_asked_again_in_a_moment() {
    let mut world = World::seeded(9);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "waiter"}));
    world.store.broken = true;
    while !world.runtime().stats().store_failed {
        assert!(world.step(), "it fails");
    }
    world.store.broken = false;
    let failed = world.now();
    while world.runtime().stats().store_failed {
        assert!(world.step(), "it works");
    }
    assert!(world.now().mono.since(failed.mono) < Duration::from_millis(50));
    // One that fails for long is not asked all the time.
    world.store.broken = true;
    let commits = world.commits;
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    world.run_for(Duration::from_secs(60));
    assert!(world.commits - commits < 80, "{}", world.commits - commits);
    world.store.broken = false;
    world.run_for(Duration::from_secs(2));
    world.finish();
}

#[test]
fn a_goodbye_is_the_last_answer() {
    let mut world = World::seeded(10);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    raw.send(&mut world, "session.close", json!({}));
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let frames = raw.settle(&mut world);
    let kinds: Vec<&str> =
        frames.iter().filter(|f| f["event_seq"].is_null()).filter_map(|f| f["type"].as_str()).collect();
    assert_eq!(kinds, ["job.accepted", "session.closed"]);
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Goodbye));
    assert_eq!(world.runtime().stats().jobs, 1, "what comes after it is not read");
    world.finish();
}
