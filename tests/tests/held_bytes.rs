//! Bytes that are held: for readers that are behind, and of jobs that are over.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, Input};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

#[test]
fn events_that_are_taken_back_from_a_reader_are_not_counted_as_unsent() {
    let mut world = World::configured(1, |config| {
        config.history = false;
        config.limits.history.job_events = 64;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut reader, _) = Raw::hello(&mut world, "tok-a");
    let own = reader.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 2000}}))["job_id"].clone();
    reader.send(&mut world, "job.subscribe", json!({"job_id": job}));
    reader.expect(&mut world, "job.subscribed");
    world.stall(reader.conn, true);
    world.run_for(Duration::from_millis(230));
    let own = JobId::parse(own.as_str().expect("an id")).expect("ours");
    let body = Json::parse(r#"{"name":"m","value":1}"#).expect("JSON");
    world.input(Input::Agent { job: own, call: AgentCall::Emit { kind: "metric".into(), body } });
    owner.until_end(&mut world);
    world.settle();
    // Of the other job it is to be told only that it is too far behind.
    let unsent = world.runtime().stats().unsent_bytes;
    assert!((100..400).contains(&unsent), "{unsent}: one event");
    world.stall(reader.conn, false);
    world.settle();
    assert_eq!(world.runtime().stats().unsent_bytes, 0);
    world.finish();
}

#[test]
fn jobs_that_are_owed_to_a_reader_do_not_keep_those_that_ended_after_them() {
    const BOUND: usize = 600 << 10;
    let mut world = World::configured(2, |config| {
        config.history = false;
        config.limits.history.log_bytes = BOUND;
        config.limits.job.ended_jobs_per_principal = 1000;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let text = "x".repeat(2000);
    let mut owed_to = Vec::new();
    for _ in 0..4 {
        let (mut slow, _) = Raw::hello(&mut world, "tok-a");
        world.stall(slow.conn, true);
        for _ in 0..60 {
            slow.send(&mut world, "job.submit", json!({"agent": "echo", "input": text}));
            world.settle();
        }
        owed_to.push(slow);
    }
    let owed = world.runtime().stats().event_bytes;
    assert!((100 * 2000..BOUND).contains(&owed), "{owed}: more jobs than are looked at");
    let (mut reader, _) = Raw::hello(&mut world, "tok-b");
    for _ in 0..300 {
        reader.submit(&mut world, json!({"agent": "echo", "input": text}));
        reader.until_end(&mut world);
    }
    let held = world.runtime().stats().event_bytes;
    assert!(held <= BOUND, "{held}: what was read goes");
    for slow in &mut owed_to {
        world.stall(slow.conn, false);
        let ends = slow.settle(&mut world).into_iter().filter(|frame| frame["type"] == "job.result").count();
        assert_eq!((ends, slow.is_closed(&world)), (60, false), "what was not is still to be had");
    }
    world.finish();
}

#[test]
fn whoever_reads_loses_nothing_for_who_does_not() {
    let mut world = World::configured(3, |config| {
        config.history = false;
        config.limits.history.log_bytes = 64 << 10;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let text = "x".repeat(2000);
    for _ in 0..4 {
        let (mut slow, _) = Raw::hello(&mut world, "tok-a");
        world.stall(slow.conn, true);
        for _ in 0..60 {
            slow.send(&mut world, "job.submit", json!({"agent": "echo", "input": text}));
            world.settle();
        }
    }
    let (mut reader, _) = Raw::hello(&mut world, "tok-b");
    for _ in 0..50 {
        reader.submit(&mut world, json!({"agent": "echo", "input": text}));
        let end = reader.until_end(&mut world).pop().expect("an end");
        assert_eq!(end["payload"]["result"], text.as_str());
    }
    assert!(world.runtime().stats().event_bytes <= 70 << 10);
    world.finish();
}

/// The job of an answer, once its agent is there.
fn started(world: &mut World, accepted: &Value) -> JobId {
    world.settle();
    JobId::parse(accepted["job_id"].as_str().expect("an id")).expect("ours")
}

fn exit_with(world: &mut World, job: JobId, result: &str) {
    let result = Some(Json::parse(&json!(result).to_string()).expect("JSON"));
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result, summary: None } });
}

#[test]
fn the_end_of_a_job_does_not_go_to_make_room_for_itself() {
    let mut world = World::configured(4, |config| {
        config.history = false;
        config.limits.history.log_bytes = 4000;
        config.timing.heartbeat = None;
    });
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let accepted = other.submit(&mut world, json!({"agent": "waiter"}));
    let long = started(&mut world, &accepted);
    let body = Json::parse(&json!({"message": "x".repeat(3000), "level": "info"}).to_string()).expect("JSON");
    world.input(Input::Agent { job: long, call: AgentCall::Emit { kind: "log".into(), body } });
    let (mut owner, welcome) = Raw::hello(&mut world, "tok-a");
    let accepted = owner.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    let read = owner.take(&world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": accepted["job_id"]}));
    watcher.expect(&mut world, "job.subscribed");
    world.cut(owner.conn);
    world.settle();
    exit_with(&mut world, job, &"y".repeat(2000));
    let end = watcher.until_end(&mut world).pop().expect("an end");
    assert_eq!(end["type"], "job.result", "{end}");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, read);
    let answer = back.expect_any(&mut world, &["session.welcome", "session.error"]);
    assert_eq!(answer["type"], "session.welcome", "{answer}");
    assert_eq!(back.until_end(&mut world).pop().expect("an end")["type"], "job.result");
    world.finish();
}

#[test]
fn the_pieces_of_a_result_do_not_go_to_make_room_for_its_last_ones() {
    let mut world = World::configured(5, |config| {
        config.limits.frame.result_frame_bytes = 4096;
        config.limits.history.kept_job_events = 1000;
        config.limits.history.kept_bytes = 20_000;
        config.timing.heartbeat = None;
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let accepted = owner.submit(&mut world, json!({"agent": "waiter"}));
    let job = started(&mut world, &accepted);
    exit_with(&mut world, job, &"y".repeat(100_000));
    let frames = owner.until_end(&mut world);
    let bytes: usize = frames.iter().filter_map(|frame| frame["payload"]["body"]["data"].as_str()).map(str::len).sum();
    assert_eq!(bytes, 100_002, "who reads gets all of it");
    world.finish();
}

#[test]
fn what_was_read_back_and_sent_is_not_counted_as_unsent() {
    let mut world = World::configured(6, |config| {
        config.limits.history.job_events = 16;
        config.limits.delivery.agent_credit_bytes = 20_000;
        config.limits.delivery.pace_bytes = 40_000;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    });
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    let talks = other.submit(&mut world, json!({"agent": "waiter"}));
    let talking = started(&mut world, &talks);
    let (mut reader, _) = Raw::hello(&mut world, "tok-a");
    reader.send(&mut world, "job.subscribe", json!({"job_id": talks["job_id"]}));
    reader.expect(&mut world, "job.subscribed");
    world.stall(reader.conn, true);
    reader.send(&mut world, "job.submit", json!({"agent": "chunker", "input": {"chunks": 200, "bytes": 2000}}));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.runtime().waits().len(), 1, "its agent waits for it");
    world.stall(reader.conn, false);
    // Meanwhile the other job goes on, so that it is never at the end of all.
    let mut least = usize::MAX;
    for _ in 0..15 {
        let body = Json::parse(r#"{"name":"m","value":1}"#).expect("JSON");
        world.input(Input::Agent { job: talking, call: AgentCall::Emit { kind: "metric".into(), body } });
        world.run_for(Duration::from_micros(400));
        least = least.min(world.runtime().stats().unsent_bytes);
    }
    assert!(least < 10_000, "{least}: what it has read is not what its agent waits for");
    reader.until_end(&mut world);
    world.finish();
}
