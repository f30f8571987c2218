//! Pacing: an agent waits for the reader that submitted its job, and for no other. Whatever it waits for wakes it.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, Config, Input};
use arcp_tests::raw::Raw;
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// A few events ahead are enough to wait.
fn short_credit(config: &mut Config) {
    config.limits.delivery.pace_events = 16;
    config.limits.delivery.agent_credit = 4;
}

fn chatty(raw: &mut Raw, world: &mut World) -> Value {
    raw.submit(world, json!({"agent": "chatty", "input": {"count": 2000}}))["job_id"].clone()
}

#[test]
fn an_agent_does_not_wait_for_a_reader_that_gets_nothing_of_its_job() {
    let mut world = World::configured(1, short_credit);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    chatty(&mut raw, &mut world);
    world.stall(raw.conn, true);
    let left = chatty_while_stalled(&mut raw, &mut world);
    raw.send(&mut world, "job.unsubscribe", json!({"job_id": left}));
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.runtime().stats().running_agents, 1, "the one that is not read goes on to its end");
    assert_eq!(world.runtime().waits().len(), 1, "the other waits for its reader");
    world.stall(raw.conn, false);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.runtime().stats().running_agents, 0, "and goes on when it reads");
    world.finish();
}

/// Submits a job without reading the acceptance; gives its id.
fn chatty_while_stalled(raw: &mut Raw, world: &mut World) -> Value {
    raw.send(world, "job.submit", json!({"agent": "chatty", "input": {"count": 2000}}));
    world.run_for(Duration::from_secs(1));
    let (mut lister, _) = Raw::hello(world, "tok-a");
    lister.send(world, "session.list_jobs", json!({}));
    let page = lister.expect(world, "session.jobs");
    world.cut(lister.conn);
    page["payload"]["jobs"].as_array().and_then(|jobs| jobs.last()).expect("two jobs")["job_id"].clone()
}

#[test]
fn an_agent_goes_on_when_the_session_it_waits_for_is_gone() {
    let mut world = World::configured(2, |config| {
        short_credit(config);
        config.timing.slow_reader_grace = Duration::from_secs(20);
        config.timing.resume_window = Duration::from_secs(10);
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let first = chatty(&mut raw, &mut world);
    chatty(&mut raw, &mut world);
    world.stall(raw.conn, true);
    world.run_for(Duration::from_secs(1));
    // It leaves the one after it began to wait.
    raw.send(&mut world, "job.unsubscribe", json!({"job_id": first}));
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.runtime().stats().running_agents, 1);
    world.run_for(Duration::from_secs(40));
    assert!(raw.is_closed(&world));
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.finish();
}

/// A runtime that holds no more than a few pieces of a result, and has no
/// store to read them from.
fn little_memory(config: &mut Config) {
    config.history = false;
    config.limits.history.job_event_bytes = 300_000;
    config.limits.delivery.agent_credit_bytes = 20_000;
    config.limits.delivery.pace_bytes = 40_000;
}

#[test]
fn a_client_that_reads_at_full_speed_gets_a_result_larger_than_the_memory_for_it() {
    let mut world = World::configured(3, little_memory);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chunker", "input": {"chunks": 100, "bytes": 60000}}));
    let frames = raw.until_end(&mut world);
    let bytes: usize = frames.iter().filter_map(|f| f["payload"]["body"]["data"].as_str()).map(str::len).sum();
    assert_eq!(bytes, 100 * 60000);
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "success");
    world.cut(raw.conn);
    let last = frames.last().and_then(|f| f["event_seq"].as_u64()).expect("a number");
    Raw::resume(&mut world, "tok-a", &welcome, last).expect(&mut world, "session.welcome");
    world.finish();
}

#[test]
fn a_reader_that_stops_is_waited_for_by_bytes_and_loses_nothing() {
    let mut world = World::configured(4, little_memory);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chunker", "input": {"chunks": 100, "bytes": 16384}}));
    world.stall(raw.conn, true);
    world.run_for(Duration::from_secs(20));
    assert!(world.runtime().stats().event_bytes < 64 << 10 << 2, "the agent waits: its pieces are bounded");
    assert_eq!(world.runtime().waits().len(), 1);
    world.stall(raw.conn, false);
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.iter().filter(|f| f["payload"]["body"]["data"].is_string()).count(), 100);
    assert!(world.runtime().waits().is_empty());
    world.finish();
}

#[test]
fn an_agent_does_not_begin_to_speak_to_a_reader_that_is_behind() {
    let mut world = World::configured(5, little_memory);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    for _ in 0..20 {
        raw.send(&mut world, "job.submit", json!({"agent": "chunker", "input": {"chunks": 100, "bytes": 16384}}));
        world.run_for(Duration::from_millis(500));
    }
    let held = world.runtime().stats().event_bytes;
    assert!(held < 200_000, "one credit, not twenty: {held}");
    world.finish();
}

#[test]
fn whoever_looks_at_the_past_meanwhile_is_waited_for_all_the_same() {
    let mut world = World::configured(6, little_memory);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let other = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    raw.submit(&mut world, json!({"agent": "chunker", "input": {"chunks": 200, "bytes": 16384}}));
    world.stall(raw.conn, true);
    for _ in 0..30 {
        raw.send(&mut world, "job.unsubscribe", json!({"job_id": other}));
        raw.send(&mut world, "job.subscribe", json!({"job_id": other, "history": true}));
        world.run_for(Duration::from_millis(2));
    }
    let held = world.runtime().stats().event_bytes;
    assert!(held < 64 << 10 << 2, "the agent waits, whatever else its reader asks for: {held}");
    world.stall(raw.conn, false);
    raw.until_end(&mut world);
    assert!(world.runtime().waits().is_empty());
    world.finish();
}

#[test]
fn what_a_session_is_owed_becomes_less_with_every_frame_that_it_is_sent() {
    let mut options = Options::new(7);
    options.window = 2000;
    let mut world = World::new(options);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let job = JobId::parse(job.as_str().expect("an id")).expect("one of ours");
    world.settle();
    world.stall(raw.conn, true);
    for _ in 0..40 {
        let body = Json::parse(r#"{"level":"info","message":"m"}"#).expect("JSON");
        world.input(Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
    }
    world.settle();
    let mut owed = vec![world.runtime().stats().unsent_bytes];
    for _ in 0..3 {
        world.input(Input::Credit { conn: raw.conn, bytes: 1000, frames: 2 });
        owed.push(world.runtime().stats().unsent_bytes);
    }
    assert!(owed.is_sorted_by(|before, after| before > after) && owed[3] > 0, "{owed:?}");
    world.stall(raw.conn, false);
    world.settle();
    assert_eq!(world.runtime().stats().unsent_bytes, 0);
    world.finish();
}
