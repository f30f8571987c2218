//! Flow control: credit, slow readers, a failing store, bounds.

use std::time::Duration;

use arcp_proto::client::ClientEvent;
use arcp_proto::id::LogPos;
use arcp_proto::runtime::{CloseReason, Input, Notice, Operator};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

#[test]
fn persist_before_send_holds_while_the_store_fails() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow"}));
    world.store.broken = true;
    let before = raw.settle(&mut world).len();
    assert!(before <= 3, "what was durable already");
    let submitted = raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let refused = raw.expect(&mut world, "session.error");
    assert_eq!(refused["payload"]["request_id"], submitted.as_str());
    assert_eq!(
        (&refused["payload"]["code"], &refused["payload"]["retryable"]),
        (&json!("INTERNAL_ERROR"), &json!(true))
    );
    raw.send(&mut world, "session.ping", json!({"nonce": "still"}));
    raw.expect(&mut world, "session.pong");
    assert!(world.runtime().stats().store_failed);
    world.run_for(Duration::from_secs(20));
    assert!(raw.take(&world).iter().all(|f| f.get("event_seq").is_none()), "nothing numbered");
    world.store.broken = false;
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "success");
    assert!(world.notices.contains(&Notice::StoreFailed) && world.notices.contains(&Notice::StoreRecovered));
    world.finish();
}

#[test]
fn a_late_word_that_what_is_durable_failed_changes_nothing() {
    let mut world = World::seeded(9);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.settle(&mut world);
    // It was given twice: the first time it was written, the second it was not.
    world.input(Input::PersistFailed { from: LogPos(1) });
    assert!(!world.runtime().stats().store_failed);
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn a_reader_that_stops_paces_its_agents_and_slows_nobody_else() {
    let mut world = World::configured(2, |config| config.limits.delivery.pace_events = 32);
    let (mut slow, _) = Raw::hello(&mut world, "tok-a");
    let (mut quick, _) = Raw::hello(&mut world, "tok-b");
    let job = slow.submit(&mut world, json!({"agent": "chatty", "input": {"count": 5000}}))["job_id"].clone();
    world.stall(slow.conn, true);
    world.run_for(Duration::from_secs(5));
    let emitted = events_of(&mut world, &job);
    quick.submit(&mut world, json!({"agent": "chatty", "input": {"count": 200}}));
    quick.until_end(&mut world);
    assert_eq!(events_of(&mut world, &job), emitted, "the agent waits");
    assert!(emitted < 400, "{emitted}");
    world.stall(slow.conn, false);
    let frames = slow.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["result"]["emitted"], 5000);
    world.finish();
}

/// How many events a job has, asked on a connection of its own.
fn events_of(world: &mut World, job: &Value) -> u64 {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    raw.send(world, "session.list_jobs", json!({}));
    let page = raw.expect(world, "session.jobs");
    let jobs = page["payload"]["jobs"].as_array().expect("an array").clone();
    world.cut(raw.conn);
    let of_job = jobs.iter().find(|entry| entry["job_id"] == *job).expect("listed");
    of_job["last_event_seq"].as_u64().expect("a number")
}

#[test]
fn a_reader_that_never_comes_back_is_closed_and_can_resume() {
    let mut world = World::configured(3, |config| {
        config.limits.delivery.pace_events = 32;
        config.timing.heartbeat = None;
    });
    let (mut slow, welcome) = Raw::hello(&mut world, "tok-a");
    slow.submit(&mut world, json!({"agent": "chatty", "input": {"count": 3000}}));
    world.stall(slow.conn, true);
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.close_reason(slow.conn), Some(CloseReason::SlowReader));
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let frames = back.until_end(&mut world);
    assert_eq!(frames.iter().filter(|f| f["event_seq"].is_u64()).count(), 3002, "parked, nothing was lost");
    world.finish();
}

#[test]
fn who_asks_faster_than_it_reads_is_not_read_and_loses_nothing() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    world.stall(raw.conn, true);
    for n in 0..2000 {
        raw.send(&mut world, "session.ping", json!({"nonce": n.to_string()}));
    }
    world.run_for(Duration::from_secs(5));
    assert!(!raw.is_closed(&world), "it was paused in time");
    world.stall(raw.conn, false);
    let pongs = raw.settle(&mut world);
    let nonces: Vec<String> =
        pongs.iter().filter_map(|f| f["payload"]["ping_nonce"].as_str().map(String::from)).collect();
    assert_eq!(nonces, (0..2000).map(|n| n.to_string()).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn history_beyond_the_cap_is_refused_and_never_skipped() {
    let mut world = World::configured(5, |config| {
        config.history = false;
        config.limits.history.job_events = 100;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 300}}))["job_id"].clone();
    raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 10);
    assert_eq!(back.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 250);
    back.expect(&mut world, "session.welcome");
    let seqs: Vec<u64> = back.settle(&mut world).iter().filter_map(|f| f["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (251..=302).collect::<Vec<_>>());
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(watcher.expect(&mut world, "session.error")["payload"]["code"], "RESUME_WINDOW_EXPIRED");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "from_event_seq": 202}));
    assert_eq!(watcher.until_end(&mut world).len(), 101);
    world.finish();
}

#[test]
fn an_agent_cannot_run_ahead_of_the_store() {
    let mut world = World::configured(6, |config| config.limits.delivery.agent_credit = 64);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 1000}}))["job_id"].clone();
    world.store.broken = true;
    world.run_for(Duration::from_millis(900));
    world.store.broken = false;
    world.run_for(Duration::from_millis(1));
    assert!(events_of(&mut world, &job) <= 3 * 64, "its credit");
    assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "success");
    world.finish();
}

#[test]
fn a_slot_comes_back_from_an_agent_that_outlasts_its_jobs_retention() {
    let mut world = World::configured(16, |config| config.limits.job.running_jobs = 1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "deaf", "input": {"seconds": 3600}, "max_runtime_sec": 1}));
    let end = raw.until_end(&mut world);
    assert_eq!(end.last().expect("an end")["payload"]["code"], "TIMEOUT");
    raw.submit(&mut world, json!({"agent": "echo"}));
    for _ in 0..370 {
        world.run_for(Duration::from_secs(10));
        raw.send(&mut world, "session.ping", json!({}));
    }
    assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "success");
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.finish();
}

#[test]
fn a_shutdown_reaches_who_reads_nothing() {
    let mut world = World::seeded(10);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 500}}));
    world.stall(raw.conn, true);
    world.run_for(Duration::from_secs(2));
    assert!(raw.take(&world).len() < 100, "its credit is used up");
    world.input(Input::Operator(Operator::Shutdown));
    let told: Vec<Value> = raw.take(&world).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(told, ["session.closed"]);
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Shutdown));
    world.finish();
}

#[test]
fn frames_per_event_do_not_depend_on_idle_sessions() {
    // Not a time: the number of outputs and their size is the same whoever
    // else is there.
    let outputs = |idle: usize| {
        let mut world = World::configured(9, |config| config.timing.heartbeat = None);
        let others: Vec<Raw> = (0..idle).map(|_| Raw::hello(&mut world, "tok-idle").0).collect();
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let before = world.oracle.frames;
        raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 100}}));
        raw.until_end(&mut world);
        let frames = world.oracle.frames - before;
        drop(others);
        world.finish();
        frames
    };
    assert_eq!(outputs(0), outputs(50));
}

/// What a peer is told of the session that it has asked for, if it is told anything within so long.
fn told(world: &mut World, raw: &mut Raw, millis: u64) -> Option<Value> {
    world.run_for(Duration::from_millis(millis));
    raw.take(world).into_iter().find(|frame| frame["type"] != "session.ping" && frame["type"] != "ping")
}

#[test]
fn whoever_is_new_while_the_store_fails_for_long_is_told_so_and_can_connect_again() {
    for (opens, payload) in [("session.hello", hello_payload("tok-a")), ("session.open", open_payload("tok-a"))] {
        let mut world = World::seeded(30);
        let asks = |world: &mut World| {
            let mut raw = Raw::connect(world);
            raw.send(world, opens, payload.clone());
            raw
        };
        world.store.broken = true;
        let mut first = asks(&mut world);
        assert_eq!(told(&mut world, &mut first, 1000), None, "perhaps it fails for a moment only");
        let refused = told(&mut world, &mut first, 1000).expect("it is told");
        let expected = if opens == "session.hello" { "INTERNAL_ERROR" } else { "UNAVAILABLE" };
        assert_eq!((code(&refused), &refused["payload"]["retryable"]), (expected, &json!(true)), "{refused}");
        assert!(refused["session_id"].as_str().is_none_or(|id| id == "sess_none"), "there is none: {refused}");
        assert!(refused.to_string().contains("the store is failing: connect again later"), "{refused}");
        assert_eq!(world.close_reason(first.conn), Some(CloseReason::StoreFailed));
        let mut second = asks(&mut world);
        let refused = told(&mut world, &mut second, 100).expect("it is told at once");
        assert!(refused.to_string().contains("the store is failing: connect again later"), "{refused}");
        assert_eq!(
            (world.close_reason(second.conn), world.runtime().stats().sessions),
            (Some(CloseReason::Refused), 0)
        );
        world.store.mend();
        world.run_for(Duration::from_secs(3));
        let mut third = asks(&mut world);
        assert!(told(&mut world, &mut third, 100).is_some_and(|frame| !frame.to_string().contains("failing")));
        assert_eq!(world.runtime().stats().sessions, 1);
        world.finish();
    }
}

#[test]
fn a_store_that_fails_for_a_moment_keeps_nobody_out_and_takes_no_session_from_whoever_comes_back() {
    let mut world = World::seeded(31);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    world.store.broken = true;
    let mut new = Raw::connect(&mut world);
    new.send(&mut world, "session.hello", hello_payload("tok-b"));
    world.run_for(Duration::from_millis(900));
    world.store.mend();
    new.expect(&mut world, "session.welcome");
    world.store.broken = true;
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    assert_eq!(told(&mut world, &mut back, 8000), None, "it is not told that its session is lost");
    world.store.mend();
    let resumed = back.expect(&mut world, "session.welcome");
    assert_eq!(resumed["payload"]["session_id"], welcome["payload"]["session_id"]);
    // Once it is known that the store fails, a claim is refused, and consumes nothing.
    world.store.broken = true;
    new.send(&mut world, "job.submit", json!({"agent": "echo"}));
    world.run_for(Duration::from_secs(2));
    world.cut(back.conn);
    let mut refused = Raw::resume(&mut world, "tok-a", &resumed, 0);
    assert!(told(&mut world, &mut refused, 100).is_some_and(|frame| frame.to_string().contains("connect again later")));
    world.store.mend();
    world.run_for(Duration::from_secs(2));
    let again = Raw::resume(&mut world, "tok-a", &resumed, 0).expect(&mut world, "session.welcome");
    assert_eq!(again["payload"]["session_id"], welcome["payload"]["session_id"]);
    world.finish();
}

#[test]
fn a_claim_whose_answer_nobody_has_had_uses_no_token_up() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::seeded(34);
        let (raw, first) = match family {
            Family::Hello => Raw::hello(&mut world, "tok-a"),
            Family::Open => Raw::open(&mut world, "tok-a"),
        };
        let claims = |world: &mut World, told: &Value| match family {
            Family::Hello => Raw::resume(world, "tok-a", told, 0),
            Family::Open => Raw::reclaim(world, "tok-a", told, 0),
        };
        world.cut(raw.conn);
        let answer = if family == Family::Hello { "session.welcome" } else { "session.resumed" };
        let mut back = match family {
            Family::Hello => Raw::connect(&mut world),
            Family::Open => Raw::open(&mut world, "tok-a").0,
        };
        world.store.broken = true;
        let claim = json!({"session_id": first["payload"]["session_id"], "last_event_seq": 0,
            "resume_token": first["payload"]["resume_token"]});
        match family {
            Family::Hello => {
                let mut payload = hello_payload("tok-a");
                payload["resume"] = claim;
                back.send(&mut world, "session.hello", payload);
            }
            Family::Open => drop(back.send(&mut world, "session.resume", claim)),
        }
        assert_eq!(told(&mut world, &mut back, 1000), None, "perhaps it fails for a moment only");
        world.cut(back.conn);
        world.store.mend();
        world.run_for(Duration::from_secs(3));
        world.restores();
        let mut again = claims(&mut world, &first);
        let resumed = again.expect(&mut world, answer);
        assert_eq!(resumed["payload"]["session_id"], first["payload"]["session_id"], "{resumed}");
        // From then on it is worth nothing.
        world.cut(again.conn);
        let refused = claims(&mut world, &first).expect_any(&mut world, &["session.error", "nack", "session.rejected"]);
        assert_eq!(code(&refused), "UNAUTHENTICATED", "{refused}");
        world.finish();
    }
}

#[test]
fn whoever_comes_back_before_it_was_told_claims_by_the_same_token_though_its_connection_is_not_seen_to_be_gone() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::seeded(36);
        let (raw, first) = match family {
            Family::Hello => Raw::hello(&mut world, "tok-a"),
            Family::Open => Raw::open(&mut world, "tok-a"),
        };
        world.cut(raw.conn);
        let claim = json!({"session_id": first["payload"]["session_id"], "last_event_seq": 0,
            "resume_token": first["payload"]["resume_token"]});
        let connect = |world: &mut World, token: &str| match family {
            Family::Hello => Raw::connect(world),
            Family::Open => Raw::open(world, token).0,
        };
        let claims = |world: &mut World, raw: &mut Raw, token: &str| match family {
            Family::Hello => {
                let mut payload = hello_payload(token);
                payload["resume"] = claim.clone();
                drop(raw.send(world, "session.hello", payload));
            }
            Family::Open => drop(raw.send(world, "session.resume", claim.clone())),
        };
        let mut silent = connect(&mut world, "tok-a");
        let mut again = connect(&mut world, "tok-a");
        let mut somebody = connect(&mut world, "tok-b");
        world.store.broken = true;
        claims(&mut world, &mut silent, "tok-a");
        assert_eq!(told(&mut world, &mut silent, 100), None, "perhaps it fails for a moment only");
        claims(&mut world, &mut somebody, "tok-b");
        claims(&mut world, &mut again, "tok-a");
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.close_reason(silent.conn), Some(CloseReason::TakenOver), "whoever claims last has it");
        world.store.mend();
        world.run_for(Duration::from_secs(3));
        world.restores();
        let refused = somebody.expect_any(&mut world, &["session.error", "nack", "session.rejected"]);
        assert_eq!(code(&refused), "UNAUTHENTICATED", "{refused}");
        let answer = if family == Family::Hello { "session.welcome" } else { "session.resumed" };
        let resumed = again.expect(&mut world, answer);
        assert_eq!(resumed["payload"]["session_id"], first["payload"]["session_id"], "{resumed}");
        // It was told: from then on the token is worth nothing, whoever has the session.
        let mut late = connect(&mut world, "tok-a");
        claims(&mut world, &mut late, "tok-a");
        let refused = late.expect_any(&mut world, &["session.error", "nack", "session.rejected"]);
        assert_eq!(code(&refused), "UNAUTHENTICATED", "{refused}");
        assert_eq!(world.close_reason(again.conn), None);
        world.finish();
    }
}

#[test]
fn whoever_claims_a_session_in_one_that_it_was_not_told_of_keeps_it_while_the_store_fails() {
    let mut world = World::seeded(35);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    world.store.broken = true;
    let mut back = Raw::connect(&mut world);
    back.send(&mut world, "session.hello", hello_payload("tok-a"));
    assert_eq!(told(&mut world, &mut back, 100), None, "its new session is not durable");
    let claim = json!({"session_id": welcome["payload"]["session_id"], "last_event_seq": 0,
        "resume_token": welcome["payload"]["resume_token"]});
    back.send(&mut world, "session.resume", claim);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.close_reason(back.conn), None, "it is told of no new session, and waits for its own");
    world.store.mend();
    world.run_for(Duration::from_secs(3));
    let frames = back.take(&world);
    let last = frames.iter().rfind(|frame| frame["type"] == "session.welcome");
    assert_eq!(last.map(|frame| &frame["payload"]["session_id"]), Some(&welcome["payload"]["session_id"]));
    world.finish();
}

#[test]
fn a_client_of_ours_comes_back_to_its_session_however_long_the_store_has_failed() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::of(family, 33);
        let client = world.add_client("a");
        world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let late = world.add_client("b");
        world.store.broken = true;
        let conn = world.conn_of(client).expect("it is connected");
        world.run_for(Duration::from_secs(5));
        world.cut(conn);
        world.run_for(Duration::from_millis(39_500));
        let accepted = |world: &World, client| {
            let accepted = |event: &&ClientEvent| matches!(event, ClientEvent::Accepted { .. });
            world.events(client).iter().filter(accepted).count()
        };
        assert_eq!((accepted(&world, client), accepted(&world, late)), (1, 0));
        world.store.mend();
        world.until(client, |event| matches!(event, ClientEvent::Accepted { resumed: true, .. }));
        world.until(late, |event| matches!(event, ClientEvent::Accepted { resumed: false, .. }));
        assert!(![client, late].iter().any(|at| world.events(*at).iter().any(|e| matches!(e, ClientEvent::Ended(_)))));
        world.finish();
    }
}
