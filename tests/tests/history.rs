//! Events that are not in memory any more: loaded from the store for sessions that need them, and deleted there when
//! their time has passed.

use std::time::Duration;

use arcp_proto::runtime::Config;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Memory for sixteen events of a job, and reads of seven at once.
fn small(config: &mut Config) {
    config.limits.history.job_events = 16;
    config.limits.delivery.load_events = 7;
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect()
}

fn ticks(frames: &[Value]) -> Vec<u64> {
    let value = |frame: &Value| frame["payload"]["body"]["value"].as_u64().or(frame["payload"]["value"].as_u64());
    frames.iter().filter(|frame| frame["event_seq"].is_u64()).filter_map(value).collect()
}

fn opened(world: &mut World, family: Family) -> (Raw, Value) {
    match family {
        Family::Hello => Raw::hello(world, "tok-a"),
        Family::Open => Raw::open(world, "tok-a"),
    }
}

/// Runs the talkative agent to its end.
fn chat(world: &mut World, raw: &mut Raw, count: u64) -> Value {
    let job = raw.submit(world, json!({"agent": "chatty", "input": {"count": count}}))["job_id"].clone();
    raw.until_end(world);
    job
}

#[test]
fn a_resume_reads_back_what_memory_no_longer_holds() {
    let mut world = World::configured(1, small);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    chat(&mut world, &mut raw, 300);
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 10);
    back.expect(&mut world, "session.welcome");
    let frames = back.settle(&mut world);
    assert_eq!(seqs(&frames), (11..=302).collect::<Vec<_>>());
    assert_eq!(ticks(&frames), (9..300).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn whoever_asks_for_the_history_gets_all_of_it_once() {
    for family in [Family::Hello, Family::Open] {
        for crash in [None, Some(false), Some(true)] {
            let mut world = World::configured(2, small);
            let (mut raw, _) = Raw::hello(&mut world, "tok-a");
            let job = chat(&mut world, &mut raw, 100);
            if let Some(compact) = crash {
                world.settle();
                world.crash_with(world.given().count(), compact);
            }
            let (mut watcher, _) = opened(&mut world, family);
            watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
            let frames = watcher.until_end(&mut world);
            assert_eq!(ticks(&frames), (0..100).collect::<Vec<_>>(), "{family:?} {crash:?}");
            assert_eq!(seqs(&frames), (1..=102).collect::<Vec<_>>());
            world.finish();
        }
    }
}

#[test]
fn thoughts_read_back_are_counted_as_they_were_and_their_stream_closes() {
    let mut world = World::configured(3, small);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut live, _) = Raw::open(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "thinker", "input": {"count": 40}}))["job_id"].clone();
    live.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let seen = live.until_end(&mut world);
    world.crash();
    let (mut late, _) = Raw::open(&mut world, "tok-a");
    late.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = late.until_end(&mut world);
    let payloads = |frames: &[Value]| -> Vec<(Value, Value)> {
        frames
            .iter()
            .map(|f| (f["type"].clone(), f["payload"].clone()))
            .filter(|(kind, _)| kind != "job.subscribed")
            .collect()
    };
    assert_eq!(payloads(&frames), payloads(&seen));
    let kinds: Vec<&Value> = frames.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "stream.chunk").count(), 40);
    assert_eq!(kinds.iter().filter(|kind| **kind == "stream.open" || **kind == "stream.close").count(), 2);
    world.finish();
}

#[test]
fn jobs_that_took_turns_are_read_back_in_their_order() {
    let mut world = World::configured(4, |config| {
        small(config);
        config.limits.delivery.loads_per_session = 2;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    for _ in 0..4 {
        raw.send(&mut world, "job.submit", json!({"agent": "chatty", "input": {"count": 60}}));
    }
    let seen: Vec<Value> = raw.settle(&mut world).into_iter().filter(|f| f["event_seq"].is_u64()).collect();
    assert_eq!(seen.len(), 4 * 62);
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    assert_eq!(back.settle(&mut world), seen, "byte for byte the same frames");
    world.finish();
}

#[test]
fn a_slow_read_delays_nobody_but_its_reader() {
    let mut world = World::configured(5, small);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = chat(&mut world, &mut raw, 100);
    world.read_latency = Duration::from_secs(20);
    let (mut reader, _) = Raw::hello(&mut world, "tok-a");
    reader.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    reader.expect(&mut world, "job.subscribed");
    let before = world.now().mono;
    chat(&mut world, &mut raw, 100);
    assert!(world.now().mono.since(before) < Duration::from_secs(2), "the other one did not wait");
    assert!(ticks(&reader.take(&world)).len() < 100, "the reader does");
    world.finish();
}

#[test]
fn a_read_that_fails_or_hangs_is_said_and_loses_nothing() {
    for hangs in [false, true] {
        let mut world = World::configured(6, small);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        chat(&mut world, &mut raw, 100);
        world.cut(raw.conn);
        if hangs {
            world.read_latency = Duration::from_secs(100_000);
        }
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 5);
        let welcomed = back.expect(&mut world, "session.welcome");
        world.store.broken = !hangs;
        world.run_for(Duration::from_secs(40));
        let frames = back.take(&world);
        let told = frames.iter().find(|frame| frame["type"] == "session.error").expect("it is said why");
        assert_eq!((&told["payload"]["details"]["open_code"], back.is_closed(&world)), (&json!("UNAVAILABLE"), true));
        world.store.broken = false;
        world.read_latency = Duration::from_millis(1);
        let seen = seqs(&frames).last().copied().unwrap_or(5);
        let rotated = json!({"session_id": welcome["session_id"], "payload": welcomed["payload"]});
        let mut again = Raw::resume(&mut world, "tok-a", &rotated, seen);
        again.expect(&mut world, "session.welcome");
        assert_eq!(seqs(&again.settle(&mut world)), (seen + 1..=102).collect::<Vec<_>>());
        world.finish();
    }
}

#[test]
fn who_comes_back_before_a_read_is_done_does_not_pay_for_it() {
    let mut world = World::configured(14, |config| {
        small(config);
        config.timing.heartbeat = None;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    chat(&mut world, &mut raw, 100);
    world.cut(raw.conn);
    world.read_latency = Duration::from_secs(25);
    let mut slow = Raw::resume(&mut world, "tok-a", &welcome, 5);
    let welcomed = slow.expect(&mut world, "session.welcome");
    world.cut(slow.conn);
    let rotated = json!({"session_id": welcome["session_id"], "payload": welcomed["payload"]});
    let mut back = Raw::resume(&mut world, "tok-a", &rotated, 102);
    back.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(60));
    assert!(!back.is_closed(&world) && back.take(&world).is_empty());
    world.finish();
}

#[test]
fn what_is_read_back_for_those_who_do_not_read_has_a_bound() {
    let mut world = World::configured(15, |config| {
        small(config);
        config.limits.delivery.load_events = 64;
        config.limits.delivery.ahead_bytes = 4000;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = chat(&mut world, &mut raw, 400);
    let mut readers: Vec<Raw> = (0..10).map(|_| Raw::hello(&mut world, "tok-a").0).collect();
    for reader in &mut readers {
        reader.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        world.stall(reader.conn, true);
    }
    world.run_for(Duration::from_secs(5));
    let held = world.runtime().stats().read_ahead_bytes;
    assert!(held <= 4000, "{held}");
    for reader in &mut readers {
        world.stall(reader.conn, false);
        assert_eq!(ticks(&reader.until_end(&mut world)), (0..400).collect::<Vec<_>>());
    }
    // The last one of each is let go when its reader goes.
    assert!(world.runtime().stats().read_ahead_bytes < 10 * 300);
    for reader in &readers {
        world.cut(reader.conn);
    }
    world.settle();
    assert_eq!(world.runtime().stats().read_ahead_bytes, 0);
    world.finish();
}

#[test]
fn what_a_store_keeps_of_one_job_has_a_bound() {
    let mut world = World::configured(7, |config| {
        small(config);
        config.limits.history.kept_job_events = 3000;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let job = chat(&mut world, &mut raw, 6000);
    world.cut(raw.conn);
    let mut late = Raw::resume(&mut world, "tok-a", &welcome, 1000);
    assert_eq!(code(&late.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED");
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(code(&watcher.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 5000);
    back.expect(&mut world, "session.welcome");
    assert_eq!(seqs(&back.settle(&mut world)), (5001..=6002).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn bytes_that_a_store_keeps_of_one_job_have_a_bound() {
    let mut world = World::configured(12, |config| {
        small(config);
        config.limits.history.kept_job_bytes = 300_000;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    chat(&mut world, &mut raw, 3000);
    world.cut(raw.conn);
    let mut late = Raw::resume(&mut world, "tok-a", &welcome, 1000);
    assert_eq!(code(&late.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 2900);
    back.expect(&mut world, "session.welcome");
    assert_eq!(seqs(&back.settle(&mut world)), (2901..=3002).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn a_read_takes_few_bytes_but_one_event_in_any_case() {
    let mut world = World::configured(13, |config| {
        small(config);
        config.limits.delivery.load_bytes = 1;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    chat(&mut world, &mut raw, 50);
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    assert_eq!(seqs(&back.settle(&mut world)), (1..=52).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn what_a_store_keeps_of_all_jobs_has_a_bound_and_the_ended_ones_go_first() {
    let mut world = World::configured(8, |config| {
        small(config);
        config.limits.history.kept_bytes = 500_000;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let jobs = [1500, 1500, 1500].map(|count| chat(&mut world, &mut raw, count));
    let answers = jobs.map(|job| {
        let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        watcher.expect_any(&mut world, &["session.error", "job.subscribed"])["type"].clone()
    });
    assert_eq!(answers, [json!("session.error"), json!("session.error"), json!("job.subscribed")]);
    world.finish();
}

#[test]
fn numbers_go_on_after_what_was_acknowledged_is_let_go() {
    for compact in [false, true] {
        let mut world = World::configured(9, small);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        chat(&mut world, &mut raw, 600);
        raw.send(&mut world, "session.ack", json!({"last_processed_seq": 602}));
        world.settle();
        world.crash_with(world.given().count(), compact);
        let mut early = Raw::resume(&mut world, "tok-a", &welcome, 300);
        assert_eq!(code(&early.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED", "it was acknowledged");
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 602);
        back.expect(&mut world, "session.welcome");
        back.submit(&mut world, json!({"agent": "echo"}));
        assert_eq!(seqs(&back.until_end(&mut world)), [603, 604]);
        world.cut(back.conn);
        world.run_for(Duration::from_secs(1300));
        let stats = world.runtime().stats();
        assert_eq!((stats.sessions, stats.jobs, stats.index_runs), (0, 0, 0), "held for nobody");
        world.finish();
    }
}

#[test]
fn numbers_given_together_are_let_go_one_by_one() {
    for compact in [false, true] {
        let mut world = World::configured(10, small);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let job = chat(&mut world, &mut raw, 600);
        let (mut watcher, welcome) = Raw::hello(&mut world, "tok-a");
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        watcher.until_end(&mut world);
        watcher.send(&mut world, "session.ack", json!({"last_processed_seq": 300}));
        world.settle();
        world.crash_with(world.given().count(), compact);
        let mut early = Raw::resume(&mut world, "tok-a", &welcome, 100);
        assert_eq!(code(&early.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED");
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 300);
        back.expect(&mut world, "session.welcome");
        let frames = back.settle(&mut world);
        assert_eq!(seqs(&frames), (301..=602).collect::<Vec<_>>());
        assert_eq!(ticks(&frames), (299..600).collect::<Vec<_>>());
        world.finish();
    }
}

#[test]
fn what_is_not_durable_yet_stays_in_memory_whatever_its_bound() {
    let mut world = World::configured(11, small);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 200}}));
    world.store.broken = true;
    world.run_for(Duration::from_secs(3));
    let before = ticks(&raw.take(&world));
    assert!(before.len() < 100, "the store failed early");
    world.store.broken = false;
    let frames = raw.until_end(&mut world);
    assert_eq!([before, ticks(&frames)].concat(), (0..200).collect::<Vec<_>>());
    world.finish();
}
