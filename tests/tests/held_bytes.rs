//! Bytes that are held: for readers that are behind, of jobs that are over, and
//! for principals that take more than their share.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, CloseReason, HeldFor, Input, held_bytes};
use arcp_tests::raw::{Raw, code};
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

/// A quarter of what waits.
const SHARE: usize = 16 << 10;

/// A world where nothing but its share stops a principal that reads nothing.
fn shared(seed: u64) -> World {
    World::configured(seed, |config| {
        config.limits.connection.waiting_bytes = 4 * SHARE;
        config.limits.connection.replies_per_connection = 10_000;
        config.limits.connection.reply_bytes_per_connection = 1 << 30;
        config.timing.slow_reader_grace = Duration::from_secs(3600);
        config.timing.heartbeat = None;
    })
}

#[test]
fn connections_of_a_principal_that_read_nothing_hold_its_share_and_others_are_read() {
    const ASKED: usize = 300;
    let mut world = shared(7);
    let mut raws: Vec<Raw> = (0..4).map(|_| Raw::hello(&mut world, "tok-a").0).collect();
    for raw in &mut raws {
        world.stall(raw.conn, true);
        for _ in 0..ASKED {
            raw.send(&mut world, "job.cancel", json!({"job_id": "job_none"}));
        }
    }
    world.run_for(Duration::from_secs(10));
    let waits = held_bytes(world.runtime(), HeldFor::Answers);
    assert!((SHARE..SHARE + (2 << 10)).contains(&waits), "{waits}");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, json!({"agent": "echo"}));
    other.until_end(&mut world);
    raws.iter().for_each(|raw| world.stall(raw.conn, false));
    world.settle();
    for raw in &mut raws {
        let refused = raw.take(&world).iter().filter(|frame| frame["type"] == "session.error").count();
        assert_eq!(refused, ASKED, "all of it is read and answered in the end");
    }
    assert_eq!(held_bytes(world.runtime(), HeldFor::Answers), 0);
    world.finish();
}

#[test]
fn whoever_sends_on_at_its_share_of_what_waits_is_closed() {
    let mut world = shared(8);
    let (raw, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    let mut most = 0;
    for n in 0..2000 {
        let frame = json!({"id": format!("x{n}"), "type": "job.cancel", "payload": {"job_id": "job_none"}});
        world.input(Input::Received { conn: raw.conn, frame: frame.to_string().into_bytes() });
        most = most.max(held_bytes(world.runtime(), HeldFor::Answers));
    }
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Flood));
    assert!((2 * SHARE..2 * SHARE + 1024).contains(&most), "{most}");
    assert_eq!(held_bytes(world.runtime(), HeldFor::Answers), 0, "it goes with the connection");
    world.finish();
}

#[test]
fn whoever_is_read_is_not_closed_because_others_hold_more_by_now() {
    let mut world = shared(12);
    let ask = |world: &mut World, raw: &mut Raw| {
        raw.send(world, "job.cancel", json!({"job_id": "job_none"}));
        world.run_for(Duration::from_millis(100));
        held_bytes(world.runtime(), HeldFor::Answers)
    };
    // It is read: it has almost its share.
    let (mut raw, _) = Raw::hello(&mut world, "tok-first");
    world.stall(raw.conn, true);
    while ask(&mut world, &mut raw) < SHARE - 1024 {}
    let own = held_bytes(world.runtime(), HeldFor::Answers);
    for n in 0..6 {
        let (mut other, _) = Raw::hello(&mut world, &format!("tok-{n}"));
        world.stall(other.conn, true);
        for _ in 0..300 {
            other.send(&mut world, "job.cancel", json!({"job_id": "job_none"}));
        }
        world.run_for(Duration::from_secs(1));
    }
    let left = 4 * SHARE - (held_bytes(world.runtime(), HeldFor::Answers) - own);
    assert!(own > 2 * (left / 4), "{own} of {left}: it has more than twice of what is its share now");
    for _ in 0..2 {
        ask(&mut world, &mut raw);
        assert_eq!(world.close_reason(raw.conn), None, "it waits to be read");
    }
    world.stall(raw.conn, false);
    world.settle();
    world.finish();
}

#[test]
fn whoever_fills_its_share_of_what_is_not_durable_stops_nobody_else() {
    let bound = 40_000;
    let mut world = World::configured(9, |config| config.limits.history.undurable_bytes = bound);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    world.store.broken = true;
    // Each of these changes something.
    for n in 0..200 {
        raw.send(&mut world, ["job.unsubscribe", "job.subscribe"][n % 2], json!({"job_id": job}));
    }
    world.run_for(Duration::from_secs(1));
    let undurable = world.runtime().stats().undurable_bytes;
    assert!((bound / 4..bound / 4 + 1000).contains(&undurable), "{undurable}");
    other.send(&mut world, "session.ping", json!({"nonce": "n"}));
    other.expect(&mut world, "session.pong");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    let watched = raw.take(&world).iter().filter(|frame| frame["type"] == "job.subscribed").count();
    assert_eq!(watched, 100, "what it said is done once it is read again");
    world.finish();
}

#[test]
fn what_is_remembered_of_the_commands_of_a_principal_has_a_bound_in_bytes() {
    let mut world = World::configured(10, |config| config.limits.session.seen_bytes_per_principal = 2000);
    let mut raws = [(); 2].map(|()| Raw::hello(&mut world, "tok-a").0);
    let mut submit = |at: usize, id: &str| {
        let said = json!({"id": id, "type": "job.submit", "payload": {"agent": "waiter"}}).to_string();
        raws[at].send_text(&mut world, &said);
        let job = raws[at].expect(&mut world, "job.accepted")["job_id"].clone();
        (job, held_bytes(world.runtime(), HeldFor::Commands))
    };
    let (first, own) = submit(0, "one");
    assert_eq!(submit(0, "one"), (first.clone(), own), "executed once");
    assert!((0..8).all(|n| submit(1, &format!("{n}")).1 <= 2000), "its sessions share it");
    assert_eq!(submit(0, "one").0, first, "what another session says makes this one forget nothing");
    submit(0, "two");
    assert_ne!(submit(0, "one").0, first, "what it says itself does");
    world.finish();
}

#[test]
fn a_filter_has_a_bound_in_bytes() {
    let mut world = World::configured(11, |config| config.limits.session.filter_bytes = 100);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let mut subscribe = |traces: &[String]| {
        raw.send(&mut world, "subscribe", json!({"filter": {"trace_id": traces}}));
        let answer = raw.expect_any(&mut world, &["subscribe.accepted", "nack"]);
        (code(&answer).to_string(), held_bytes(world.runtime(), HeldFor::Filters))
    };
    let (fits, held) = subscribe(&["x".repeat(50), "y".repeat(50)]);
    assert!(fits.is_empty() && held > 100, "{fits} {held}");
    assert_eq!(subscribe(&["x".repeat(50), "y".repeat(51)]), ("RESOURCE_EXHAUSTED".to_string(), held));
    world.finish();
}
