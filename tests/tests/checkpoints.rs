//! Jobs that continue from their last checkpoint after the runtime has ended.

use std::time::Duration;

use arcp_proto::runtime::Config;
use arcp_proto::wire::{Compat, Profile};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn progress(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["payload"]["body"]["current"].as_u64()).collect()
}

fn phases(frames: &[Value]) -> usize {
    frames.iter().filter(|frame| frame["payload"]["body"]["phase"] == "restarted").count()
}

/// The runtime ends; its client comes back with what it last saw.
fn crash_and_resume(world: &mut World, welcome: &Value, seen: &[Value]) -> (Raw, Value) {
    world.crash();
    let last = seen.iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
    let mut back = Raw::resume(world, "tok-a", welcome, last);
    let welcomed = back.expect(world, "session.welcome");
    (back, json!({"session_id": welcome["session_id"], "payload": welcomed["payload"]}))
}

#[test]
fn a_job_goes_on_after_its_last_checkpoint() {
    for seed in 0..40 {
        let mut world = World::seeded(seed);
        let (mut raw, mut welcome) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 20}}));
        let mut frames = Vec::new();
        for _ in 0..=world.below(3) {
            let span = Duration::from_micros(world.below(700_000));
            world.run_for(span);
            frames.extend(raw.take(&world));
            (raw, welcome) = crash_and_resume(&mut world, &welcome, &frames);
        }
        frames.extend(raw.until_end(&mut world));
        let end = frames.last().expect("an end");
        assert_eq!(end["payload"]["result"]["steps"], 20, "seed {seed}: {end}");
        assert_eq!(end["payload"]["result"]["restarts"], phases(&frames) as u64);
        let steps = progress(&frames);
        // Never forward past one, and back by at most the one whose checkpoint
        // was not kept.
        assert!(steps.first() == Some(&1) && steps.last() == Some(&20), "{steps:?}");
        assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == pair[0]), "seed {seed}: {steps:?}");
        world.finish();
    }
}

#[test]
fn a_job_that_perhaps_ends_its_runtime_is_not_started_for_ever() {
    let mut world = World::configured(1, |config| config.limits.job.restarts = 2);
    let (mut raw, mut welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 100}}));
    let mut frames = Vec::new();
    for _ in 0..3 {
        world.run_for(Duration::from_millis(500));
        frames.extend(raw.take(&world));
        (raw, welcome) = crash_and_resume(&mut world, &welcome, &frames);
    }
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert!(code(&end) == "INTERNAL_ERROR" && end.to_string().contains("3 times"), "{end}");
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.finish();
}

#[test]
fn a_time_limit_counts_from_the_first_start() {
    let mut world = World::seeded(2);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 200}, "max_runtime_sec": 10}));
    world.run_for(Duration::from_secs(7));
    let seen = raw.take(&world);
    let (mut back, _) = crash_and_resume(&mut world, &welcome, &seen);
    world.run_for(Duration::from_millis(2500));
    assert!(back.take(&world).iter().all(|frame| frame["type"] == "job.event"), "it runs");
    world.run_for(Duration::from_secs(1));
    let frames = back.take(&world);
    assert_eq!(frames.last().map(|end| &end["payload"]["final_status"]), Some(&json!("timed_out")));
    world.finish();
}

#[test]
fn who_was_told_that_a_job_is_cancelled_can_rely_on_it() {
    // A job that runs, one that would be started again, and one that waits.
    for (agent, slots) in [("waiter", 4), ("stepper", 4), ("echo", 1)] {
        for seed in 0..20 {
            let mut world = World::configured(seed, |config| config.limits.job.running_jobs = slots);
            let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
            raw.submit(&mut world, json!({"agent": "stubborn"}));
            let job = raw.submit(&mut world, json!({"agent": agent}))["job_id"].clone();
            world.run_for(Duration::from_millis(20));
            raw.send(&mut world, "job.cancel", json!({"job_id": job}));
            raw.expect(&mut world, "job.cancelled");
            let (mut back, _) = crash_and_resume(&mut world, &welcome, &[]);
            let frames = back.settle(&mut world);
            let ends: Vec<&Value> =
                frames.iter().filter(|f| f["job_id"] == job && f["payload"]["final_status"].is_string()).collect();
            assert_eq!(ends.len(), 1, "{agent} {seed}");
            assert_eq!(code(ends[0]), "CANCELLED", "{agent} {seed}");
            world.finish();
        }
    }
}

#[test]
fn who_was_told_that_a_session_is_cancelled_can_rely_on_it() {
    for seed in 0..20 {
        let mut world = World::seeded(seed);
        let (mut raw, opened) = Raw::open(&mut world, "tok-a");
        let job = raw.invoke(&mut world, json!({"tool": "stepper", "arguments": {"steps": 100}}))["job_id"].clone();
        world.run_for(Duration::from_millis(300));
        raw.send(&mut world, "cancel", json!({"target": "session", "target_id": opened["session_id"]}));
        while !world.frames_of(raw.conn).iter().any(|text| text.contains("session.evicted")) {
            assert!(world.step(), "it is told");
        }
        world.crash_with(0, false);
        let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 0);
        assert_eq!(code(&back.expect(&mut world, "nack")), "DATA_LOSS", "seed {seed}: it is over");
        let (mut other, _) = Raw::open(&mut world, "tok-a");
        other.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        let end = other.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["type"], "job.cancelled", "seed {seed}: {end}");
        world.finish();
    }
}

#[test]
fn a_checkpoint_has_a_bound() {
    let mut world = World::configured(3, |config| config.limits.job.checkpoint_bytes = 1000);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for (bytes, status) in [(1000, "success"), (1001, "error")] {
        raw.submit(&mut world, json!({"agent": "hoarder", "input": {"bytes": bytes}}));
        let end = raw.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["payload"]["final_status"], status, "{end}");
    }
    world.finish();
}

#[test]
fn every_reader_is_told_of_a_checkpoint_in_its_own_terms() {
    let published: fn(&mut Config) = |config| config.compat = Compat::Always(Profile::Rust200);
    for (change, kind) in [((|_| {}) as fn(&mut Config), "job.checkpoint"), (published, "event.emit")] {
        let mut world = World::configured(4, change);
        let (mut open, _) = Raw::open(&mut world, "tok-a");
        let job = open.invoke(&mut world, json!({"tool": "stepper", "arguments": {"steps": 1}}))["job_id"].clone();
        let frames = open.until_end(&mut world);
        let told = frames.iter().find(|frame| frame.to_string().contains("chk_")).expect("it is told");
        assert_eq!(told["type"], kind);
        let body = if kind == "event.emit" { &told["payload"]["data"] } else { &told["payload"] };
        assert_eq!((&body["job_id"], &body["label"]), (&job, &json!("step 1")));
        assert!(body["created_at"].is_string() && body["checkpoint_id"].is_string(), "{told}");
        let (mut hello, _) = Raw::hello(&mut world, "tok-a");
        hello.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        let frames = hello.until_end(&mut world);
        let seen = frames.iter().find(|frame| frame.to_string().contains("chk_")).expect("it is told");
        assert_eq!(seen["payload"]["kind"], "x-vendor.arcp.checkpoint");
        assert_eq!(seen["payload"]["body"]["checkpoint_id"], body["checkpoint_id"]);
        world.finish();
    }
}
