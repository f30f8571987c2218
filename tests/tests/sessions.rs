//! Sessions: opening, resuming, heartbeats, acknowledging, closing.

use std::time::Duration;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{CloseReason, Config, Input, Record, Runtime, Transport};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::raw::{Raw, code, hello_payload};
use arcp_tests::world::{Options, World};
use serde_json::json;

#[test]
fn welcome_has_every_member_that_strict_readers_need() {
    let mut world = World::seeded(1);
    let (_raw, welcome) = Raw::hello(&mut world, "tok-a");
    let payload = &welcome["payload"];
    assert_eq!(welcome["session_id"], payload["session_id"]);
    assert_eq!(welcome["arcp"], "1.1");
    assert!(payload["resume_token"].as_str().is_some_and(|token| token.len() >= 43));
    assert_eq!(payload["resume_window_sec"], 600);
    assert_eq!(payload["heartbeat_interval_sec"], 30);
    assert!(payload["accepted_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    assert_eq!(payload["capabilities"]["encodings"], json!(["json"]));
    let agents = payload["capabilities"]["agents"].as_array().expect("agents");
    assert!(agents.iter().all(|agent| agent["versions"].is_array()));
    let echo = agents.iter().find(|agent| agent["name"] == "echo").expect("echo");
    assert_eq!(*echo, json!({"name": "echo", "versions": ["1.0.0", "2.0.0"], "default": "2.0.0"}));
    world.finish();
}

#[test]
fn features_are_the_intersection() {
    let mut world = World::seeded(2);
    let mut raw = Raw::connect(&mut world);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"] =
        json!(["progress", "cost.budget", "provisioned_credentials", "from_the_future", "ack"]);
    raw.send(&mut world, "session.hello", payload);
    let welcome = raw.expect(&mut world, "session.welcome");
    assert_eq!(welcome["payload"]["capabilities"]["features"], json!(["ack", "cost.budget", "progress"]));
    assert!(welcome["payload"].get("heartbeat_interval_sec").is_none());
    world.finish();
}

#[test]
fn a_wrong_token_is_refused_and_closed() {
    let mut world = World::seeded(3);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", hello_payload("wrong"));
    let error = raw.expect(&mut world, "session.error");
    assert_eq!(code(&error), "UNAUTHENTICATED");
    assert!(error["session_id"].is_string(), "strict readers need one even here");
    assert!(!error.to_string().contains("wrong"));
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
    world.finish();
}

#[test]
fn one_name_of_two_issuers_is_two_principals() {
    const ISSUED: &str = "tok-https://login.example#alice";
    let mut world =
        World::configured(36, |config| config.operators = [Principal::new("alice").expect("a name")].into());
    let (mut own, welcome) = Raw::hello(&mut world, "tok-alice");
    let (mut issued, _) = Raw::hello(&mut world, ISSUED);
    let submit = json!({"agent": "waiter", "idempotency_key": "k"});
    let own_job = own.submit(&mut world, submit.clone())["job_id"].clone();
    let job = issued.submit(&mut world, submit)["job_id"].clone();
    assert_ne!(own_job, job, "each has keys of its own");
    issued.send(&mut world, "job.cancel", json!({"job_id": own_job}));
    assert_eq!(code(&issued.expect(&mut world, "session.error")), "JOB_NOT_FOUND", "it is no operator either");
    issued.send(&mut world, "session.list_jobs", json!({}));
    let listed = issued.expect(&mut world, "session.jobs")["payload"]["jobs"].clone();
    assert_eq!(listed.as_array().expect("jobs").iter().map(|entry| &entry["job_id"]).collect::<Vec<_>>(), [&job]);
    world.input(Input::Closed { conn: own.conn });
    let mut thief = Raw::resume(&mut world, ISSUED, &welcome, 0);
    assert_eq!(code(&thief.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    world.crash();
    let (mut issued, _) = Raw::hello(&mut world, ISSUED);
    issued.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(issued.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["job_id"], job, "and after a restart");
    world.finish();
}

#[test]
fn each_anonymous_session_has_a_principal_of_its_own() {
    let mut world = World::configured(4, |config| config.anonymous = true);
    let open = |world: &mut World| {
        let mut raw = Raw::connect(world);
        let mut payload = hello_payload("");
        payload["auth"] = json!({"scheme": "none"});
        payload["client"]["principal"] = json!("root");
        raw.send(world, "session.hello", payload);
        let welcome = raw.expect(world, "session.welcome");
        (raw, welcome)
    };
    let (mut one, _) = open(&mut world);
    let (mut two, _) = open(&mut world);
    let job = one.submit(&mut world, json!({"agent": "echo"}))["payload"]["job_id"].clone();
    two.send(&mut world, "job.subscribe", json!({"job_id": job}));
    assert_eq!(code(&two.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
    two.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(two.expect(&mut world, "session.jobs")["payload"]["jobs"], json!([]));
    world.finish();
}

#[test]
fn anonymous_is_refused_unless_enabled_and_resumes_by_token_alone() {
    let mut world = World::seeded(5);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", json!({"client": {"name": "x", "version": "1"}}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    world.finish();

    let mut world = World::configured(6, |config| config.anonymous = true);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", json!({"auth": {"scheme": "anonymous"}}));
    let welcome = raw.expect(&mut world, "session.welcome");
    let mut again = Raw::connect(&mut world);
    let token = welcome["payload"]["resume_token"].clone();
    again.send(&mut world, "session.resume", json!({"resume_token": token, "last_event_seq": 0}));
    let back = again.expect(&mut world, "session.welcome");
    assert_eq!(back["payload"]["session_id"], welcome["payload"]["session_id"]);
    assert_ne!(back["payload"]["resume_token"], token);
    world.finish();
}

#[test]
fn a_second_hello_is_refused_and_the_session_lives_on() {
    let mut world = World::seeded(7);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let id = raw.send(&mut world, "session.hello", hello_payload("tok-a"));
    let error = raw.expect(&mut world, "session.error");
    assert_eq!((code(&error), error["payload"]["request_id"].as_str()), ("INVALID_REQUEST", Some(id.as_str())));
    raw.submit(&mut world, json!({"agent": "echo"}));
    world.finish();
}

#[test]
fn anything_before_the_handshake_gets_an_error_then_the_close() {
    for (kind, payload) in [("job.submit", json!({"agent": "echo"})), ("session.ping", json!({})), ("what", json!({}))]
    {
        let mut world = World::seeded(8);
        let mut raw = Raw::connect(&mut world);
        raw.send(&mut world, kind, payload);
        let error = raw.expect(&mut world, "session.error");
        assert_eq!(code(&error), "INVALID_REQUEST");
        assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
        world.finish();
    }
}

#[test]
fn time_that_goes_back_stands_still() {
    let at = |seconds: u64| Now { mono: Timestamp(seconds * 1_000_000), utc: UtcMs(1_767_225_600_000) };
    let seeds = Seeds { public: [1; 32], secret: [2; 32] };
    let mut runtime = Runtime::new(Config::new("t", "1"), seeds, at(100)).expect("the configuration works");
    let open = |conn| Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
    runtime.handle(at(50), open(ConnId(1)));
    assert_eq!(runtime.next_deadline().map(|deadline| deadline.at), Some(at(110).mono));
    runtime.handle(at(60), Input::Tick);
    assert_eq!(runtime.next_deadline().map(|deadline| deadline.at), Some(at(110).mono));
}

#[test]
fn a_silent_connection_is_closed_after_ten_seconds() {
    let mut world = World::seeded(10);
    let raw = Raw::connect(&mut world);
    world.run_for(Duration::from_millis(9_990));
    assert!(!raw.is_closed(&world));
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::HandshakeTimeout));
    world.finish();
}

#[test]
fn pings_come_when_it_is_quiet_and_are_answered() {
    let mut world = World::seeded(11);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let ping = raw.expect(&mut world, "session.ping");
    assert!(ping.get("event_seq").is_none());
    raw.send(&mut world, "session.pong", json!({"ping_nonce": ping["payload"]["nonce"]}));
    raw.send(&mut world, "session.ping", json!({"nonce": "n1", "sent_at": "2026-01-01T00:00:00Z"}));
    let pong = raw.expect(&mut world, "session.pong");
    assert_eq!(pong["payload"]["ping_nonce"], "n1");
    assert!(pong["payload"]["received_at"].as_str().is_some_and(|at| at.starts_with("2026")), "gl16");
    world.finish();
}

#[test]
fn a_silent_client_is_pinged_while_events_flow() {
    let mut world = World::seeded(27);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 900}}));
    world.run_for(Duration::from_secs(31));
    let frames = raw.take(&world);
    let count = |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
    assert!(count("job.event") > 300);
    assert_eq!(count("session.ping"), 1, "what is sent proves nothing about who receives it");
    world.finish();
}

#[test]
fn a_peer_is_lost_after_two_silent_intervals_and_its_jobs_live_on() {
    let mut world = World::seeded(12);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 900}}));
    world.run_for(Duration::from_secs(59));
    assert!(!raw.is_closed(&world));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::HeartbeatLost));
    let lost = raw.take(&world).pop().expect("an error");
    assert_eq!(code(&lost), "HEARTBEAT_LOST");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    let frames = back.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "success", "b18_loss_cancels_nothing");
    world.finish();
}

#[test]
fn a_peer_that_nobody_could_ask_while_the_driver_was_held_is_asked_before_it_is_lost() {
    let mut world = World::seeded(12);
    let (mut lively, _) = Raw::hello(&mut world, "tok-a");
    let (silent, _) = Raw::hello(&mut world, "tok-b");
    world.run_for(Duration::from_secs(5));
    let before = world.now().mono;
    world.hold(Duration::from_secs(300));
    let ping = lively.expect(&mut world, "session.ping");
    lively.send(&mut world, "session.pong", json!({"ping_nonce": ping["payload"]["nonce"]}));
    world.run_for(Duration::from_secs(29));
    assert!(!lively.is_closed(&world) && !silent.is_closed(&world), "an interval to answer");
    world.run_for(Duration::from_secs(2));
    assert!(!lively.is_closed(&world), "it has answered");
    assert_eq!(world.close_reason(silent.conn), Some(CloseReason::HeartbeatLost));
    assert!(world.now().mono.since(before) < Duration::from_secs(335));
    world.finish();
}

#[test]
fn what_waits_while_the_driver_is_held_arrived_when_it_did() {
    let mut world = World::seeded(12);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "slow", "input": {"ticks": 1}}));
    let sent = world.now().utc;
    world.hold(Duration::from_secs(20));
    let accepted = raw.expect(&mut world, "job.accepted");
    let at = accepted["payload"]["accepted_at"].as_str().and_then(UtcMs::parse).expect("a time");
    assert!(at.0 - sent.0 <= 10, "accepted at {at}, sent at {sent}");
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn silence_is_judged_as_of_the_tick_however_late_that_is_handed_over() {
    let at = |seconds: u64| Now { mono: Timestamp(seconds * 1_000_000), utc: UtcMs(1_767_225_600_000) };
    let seeds = Seeds { public: [1; 32], secret: [2; 32] };
    let mut runtime = Runtime::new(Config::new("t", "1"), seeds, at(0)).expect("the configuration works");
    let open = |conn| Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
    runtime.handle(at(0), open(ConnId(1)));
    // This one comes while the driver is held; what the first said meanwhile is not handed over yet.
    runtime.handle(at(12), open(ConnId(2)));
    runtime.handle(at(9), Input::Tick);
    assert_eq!(runtime.stats().connections, 2, "by then it had a second left");
    runtime.handle(at(12), Input::Tick);
    assert_eq!(runtime.stats().connections, 1, "it has said nothing");
}

#[test]
fn a_peer_without_heartbeat_is_not_killed_for_silence() {
    let mut world = World::seeded(13);
    let mut raw = Raw::connect(&mut world);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"] = json!([]);
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(3600));
    assert!(!raw.is_closed(&world));
    world.finish();
}

#[test]
fn acknowledged_events_are_freed_and_a_resume_needs_none_of_them() {
    let mut world = World::seeded(14);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 10}}));
    raw.until_end(&mut world);
    raw.send(&mut world, "session.ack", json!({"last_processed_seq": 5}));
    world.settle();
    world.cut(raw.conn);
    let mut early = Raw::resume(&mut world, "tok-a", &welcome, 4);
    assert_eq!(code(&early.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED", "b12_b13");
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 5);
    back.expect(&mut world, "session.welcome");
    let seqs: Vec<u64> = back.settle(&mut world).iter().filter_map(|f| f["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (6..=12).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn the_store_is_told_now_and_then_what_a_session_needs_no_more() {
    let mut world = World::seeded(33);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let released = |world: &World| {
        let upto = |record: &Record| if let Record::Released { upto, .. } = record { Some(*upto) } else { None };
        world.store.records(false).iter().filter_map(|(_, record)| upto(record)).collect::<Vec<_>>()
    };
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 600}}));
    raw.until_end(&mut world);
    for (ack, expected) in [(255, &[][..]), (256, &[256]), (511, &[256]), (600, &[256, 600])] {
        raw.send(&mut world, "session.ack", json!({"last_processed_seq": ack}));
        raw.settle(&mut world);
        assert_eq!(released(&world), expected, "after {ack}");
    }
    world.finish();
}

#[test]
fn an_ack_beyond_what_was_sent_is_clamped() {
    let mut world = World::seeded(15);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "session.ack", json!({"last_processed_seq": u64::MAX}));
    raw.submit(&mut world, json!({"agent": "echo"}));
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["event_seq"], 2);

    // What is numbered and not sent yet is not acknowledged either.
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 300}}));
    world.stall(raw.conn, true);
    world.run_for(Duration::from_secs(1));
    raw.send(&mut world, "session.ack", json!({"last_processed_seq": u64::MAX}));
    world.run_for(Duration::from_secs(1));
    let before = raw.take(&world);
    assert!(before.len() < 100, "{} frames for who does not read", before.len());
    world.stall(raw.conn, false);
    let after = raw.until_end(&mut world);
    let seqs: Vec<u64> = before.iter().chain(&after).filter_map(|f| f["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (3..=304).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn an_acknowledgement_counts_only_where_it_was_agreed_to() {
    for (features, replayed) in [(json!([]), 1..=7), (json!(["ack"]), 6..=7)] {
        let mut world = World::seeded(16);
        let mut raw = Raw::connect(&mut world);
        let mut payload = hello_payload("tok-a");
        payload["capabilities"]["features"] = features;
        raw.send(&mut world, "session.hello", payload);
        let welcome = raw.expect(&mut world, "session.welcome");
        raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 5}}));
        raw.until_end(&mut world);
        raw.send(&mut world, "session.ack", json!({"last_processed_seq": 5}));
        world.settle();
        world.cut(raw.conn);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, replayed.start() - 1);
        back.expect(&mut world, "session.welcome");
        let seqs: Vec<u64> = back.settle(&mut world).iter().filter_map(|f| f["event_seq"].as_u64()).collect();
        assert_eq!(seqs, replayed.collect::<Vec<_>>());
        world.finish();
    }
}

#[test]
fn close_is_answered_and_cancels_nothing() {
    let mut world = World::seeded(16);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow"}));
    raw.send(&mut world, "session.close", json!({"reason": "bye"}));
    let closed = raw.expect(&mut world, "session.closed");
    assert_eq!(closed["payload"]["reason"], "bye");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Goodbye));
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let end = back.until_end(&mut world);
    assert_eq!(end.last().expect("an end")["payload"]["final_status"], "success");
    world.finish();
}

#[test]
fn bye_is_accepted_without_a_reply() {
    let mut world = World::seeded(17);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "session.bye", json!({}));
    let frames = raw.settle(&mut world);
    assert!(frames.is_empty(), "{frames:?}");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Goodbye));
    world.finish();
}

#[test]
fn resume_replays_what_was_missed_in_all_three_forms() {
    for form in ["block", "flat", "message"] {
        let mut world = World::seeded(18);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "slow"}));
        let third = loop {
            let frame = raw.expect(&mut world, "job.event");
            if frame["event_seq"] == 3 {
                break frame;
            }
        };
        world.cut(raw.conn);
        world.run_for(Duration::from_millis(400));
        let token = welcome["payload"]["resume_token"].clone();
        let mut back = Raw::connect(&mut world);
        let mut hello = hello_payload("tok-a");
        match form {
            "block" => {
                hello["resume"] = json!({"session_id": welcome["session_id"], "token": token, "last_event_seq": 2});
                back.send(&mut world, "session.hello", hello);
            }
            "flat" => {
                hello["resume_token"] = token;
                hello["last_event_seq"] = json!(2);
                back.send(&mut world, "session.hello", hello);
            }
            _ => {
                back.send(&mut world, "session.hello", hello);
                back.expect(&mut world, "session.welcome");
                back.send(&mut world, "session.resume", json!({"resume_token": token, "last_event_seq": 2}));
            }
        }
        let frames = back.until_end(&mut world);
        assert_eq!(frames[0]["type"], "session.welcome", "b42_welcome_before_replay");
        assert_eq!(frames[0]["payload"]["session_id"], welcome["session_id"]);
        assert_eq!(frames[1], third, "a replayed frame is the same frame");
        let seqs: Vec<u64> = frames.iter().filter_map(|f| f["event_seq"].as_u64()).collect();
        assert_eq!(seqs, (3..=13).collect::<Vec<_>>(), "gl1_replay_before_live");
        world.finish();
    }
}

#[test]
fn a_refused_resume_consumes_nothing() {
    let mut world = World::seeded(19);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut forged = welcome.clone();
    forged["payload"]["resume_token"] = json!("rtk_AAAA");
    let mut elsewhere = welcome.clone();
    elsewhere["payload"]["session_id"] = json!("sess_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    for (who, claim, last, expected) in [
        ("tok-a", &forged, 0, "UNAUTHENTICATED"),
        ("tok-b", &welcome, 0, "UNAUTHENTICATED"),
        ("tok-a", &elsewhere, 0, "UNAUTHENTICATED"),
        ("tok-a", &welcome, 3, "RESUME_WINDOW_EXPIRED"),
    ] {
        let mut attempt = Raw::resume(&mut world, who, claim, last);
        assert_eq!(code(&attempt.expect(&mut world, "session.error")), expected);
        assert!(attempt.is_closed(&world));
    }
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 2);
    back.expect(&mut world, "session.welcome");
    assert!(back.settle(&mut world).is_empty(), "the newest number is fine and brings nothing");
    world.finish();
}

#[test]
fn the_token_rotates_and_the_old_one_is_worth_nothing() {
    let mut world = World::seeded(20);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let second = back.expect(&mut world, "session.welcome");
    assert_ne!(second["payload"]["resume_token"], welcome["payload"]["resume_token"]);
    let mut thief = Raw::resume(&mut world, "tok-a", &welcome, 0);
    assert_eq!(code(&thief.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert!(!back.is_closed(&world), "the live session is not disturbed");
    world.finish();
}

#[test]
fn the_newest_transport_takes_a_half_open_one_over() {
    let mut world = World::seeded(21);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow"}));
    world.run_for(Duration::from_millis(300));
    let mut newer = Raw::resume(&mut world, "tok-a", &welcome, 1);
    newer.expect(&mut world, "session.welcome");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::TakenOver));
    let told = raw.take(&world);
    assert!(told.iter().any(|frame| frame["type"] == "session.error"), "the old one is told");
    let end = newer.until_end(&mut world);
    let seqs: Vec<u64> = end.iter().filter_map(|f| f["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (2..=13).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn a_replay_larger_than_the_window_does_not_stand_still() {
    let mut options = Options::new(22);
    options.window = 2048;
    let mut world = World::new(options);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 500}}));
    raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let frames = back.until_end(&mut world);
    assert_eq!(frames.iter().filter(|f| f["event_seq"].is_u64()).count(), 502);
    world.finish();
}

#[test]
fn the_resume_window_ends_and_says_so() {
    let mut world = World::configured(23, |config| config.timing.resume_window = Duration::from_secs(60));
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(61));
    let mut late = Raw::resume(&mut world, "tok-a", &welcome, 0);
    assert_eq!(code(&late.expect(&mut world, "session.error")), "RESUME_WINDOW_EXPIRED");
    assert_eq!(world.runtime().stats().sessions, 0, "b75_nothing_is_left");
    world.finish();
}

#[test]
fn a_session_that_is_over_makes_room_for_another() {
    let mut world = World::configured(28, |config| {
        config.timing.resume_window = Duration::from_secs(60);
        config.limits.session.sessions_per_principal = 1;
    });
    for _ in 0..3 {
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        // So that it is not one that goes early.
        raw.submit(&mut world, json!({"agent": "echo"}));
        world.settle();
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(61));
        assert_eq!(world.runtime().stats().sessions, 0);
    }
    world.finish();
}

#[test]
fn a_used_session_does_not_resume_another_on_its_connection() {
    let mut world = World::seeded(24);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.cut(raw.conn);
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    other.submit(&mut world, json!({"agent": "echo"}));
    other.until_end(&mut world);
    let token = welcome["payload"]["resume_token"].clone();
    other.send(&mut world, "session.resume", json!({"resume_token": token, "last_event_seq": 0}));
    assert_eq!(code(&other.expect(&mut world, "session.error")), "INVALID_REQUEST");
    assert!(!other.is_closed(&world));
    world.finish();
}

#[test]
fn a_vouched_transport_needs_no_credential() {
    let mut world = World::seeded(25);
    let conn = world.open_vouched("local");
    world.send_raw(conn, br#"{"id":"1","type":"session.hello","payload":{"auth":{"token":"anything"}}}"#.to_vec());
    world.settle();
    assert!(world.frames_of(conn)[0].contains("session.welcome"));
    world.finish();
}

#[test]
fn too_many_sessions_of_one_principal_are_refused() {
    let mut world = World::configured(26, |config| config.limits.session.sessions_per_principal = 2);
    let (_a, _) = Raw::hello(&mut world, "tok-a");
    let (_b, _) = Raw::hello(&mut world, "tok-a");
    let mut third = Raw::connect(&mut world);
    third.send(&mut world, "session.hello", hello_payload("tok-a"));
    let error = third.expect(&mut world, "session.error");
    assert_eq!(code(&error), "INTERNAL_ERROR");
    assert_eq!(error["payload"]["details"]["open_code"], "RESOURCE_EXHAUSTED");
    assert_eq!(error["payload"]["retryable"], true);
    let (_other, _) = Raw::hello(&mut world, "tok-b");
    world.finish();
}
