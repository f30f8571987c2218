//! The runtime crashes at any moment, and another one continues from the store: what was shown stays true.
//! `ARCP_CRASHES=FROM..TO` runs other and more crashes than the usual ones.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_proto::client::ClientEvent;
use arcp_proto::id::{JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::Submit;
use arcp_proto::runtime::{AgentCall, Input};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

const FAMILIES: [Family; 2] = [Family::Hello, Family::Open];

fn accepted(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Accepted { .. })
}

fn ended(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::JobEnded { .. })
}

#[test]
fn a_client_of_ours_goes_on_over_any_crash_without_gap_or_duplicate() {
    let crashes = std::env::var("ARCP_CRASHES").ok();
    let (from, to) = crashes.as_deref().and_then(|s| s.split_once("..")).map_or((0, 60), |(from, to)| {
        (from.parse().expect("ARCP_CRASHES=FROM..TO"), to.parse().expect("ARCP_CRASHES=FROM..TO"))
    });
    for family in FAMILIES {
        for seed in from..to {
            let mut world = World::of(family, seed);
            let client = world.add_client("a");
            world.until(client, accepted);
            let input = Json::parse(r#"{"count":60}"#).expect("JSON");
            let submit = Submit { input: Some(input), ..Submit::new(AgentRef::parse("chatty").expect("a name")) };
            world.command(client, |c| c.session().and_then(|mut s| s.submit(submit))).expect("given");
            for _ in 0..world.below(120) {
                world.step();
            }
            world.crash();
            world.until(client, ended);
            let values: Vec<u64> = world.events(client).iter().filter_map(value).collect();
            assert_eq!(values, (0..values.len() as u64).collect::<Vec<_>>(), "{family:?} {seed}");
            let ends: Vec<&ClientEvent> = world.events(client).iter().filter(|event| ended(event)).collect();
            let [ClientEvent::JobEnded { terminal, .. }] = ends.as_slice() else { panic!("{seed}: {ends:?}") };
            let whole = terminal.status == FinalStatus::Success && values.len() == 60;
            let lost = terminal.error.as_ref().is_some_and(|e| e.retryable && e.message.contains("restarted"));
            assert!(whole || lost, "{family:?} {seed}: {terminal:?} after {}", values.len());
            world.finish();
        }
    }
}

fn value(event: &ClientEvent) -> Option<u64> {
    match event {
        ClientEvent::Job { event: JobEvent::Emitted { body, .. }, .. } => {
            body.members().ok()?.get("value")?.parse().ok()
        }
        _ => None,
    }
}

#[test]
fn a_session_comes_back_with_its_token_its_numbers_and_its_jobs() {
    let mut world = World::seeded(3);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 5}, "idempotency_key": "k"}));
    let job = job["job_id"].clone();
    let before = raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut once = Raw::resume(&mut world, "tok-a", &welcome, 7);
    let rotated = once.expect(&mut world, "session.welcome");
    world.crash();
    // The token that was rotated away is dead.
    let mut thief = Raw::resume(&mut world, "tok-a", &welcome, 2);
    assert_eq!(code(&thief.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    let mut back = Raw::resume(&mut world, "tok-a", &rotated, 2);
    let again = back.expect(&mut world, "session.welcome");
    assert_eq!(again["payload"]["session_id"], welcome["payload"]["session_id"]);
    let replayed = back.until_end(&mut world);
    assert_eq!(replayed, before[before.len() - replayed.len()..], "the same frames again");
    assert_eq!(replayed[0]["event_seq"], 3);
    // The key is claimed, the job is listed.
    let submit = json!({"agent": "chatty", "input": {"count": 5}, "idempotency_key": "k"});
    assert_eq!(back.submit(&mut world, submit)["job_id"], job);
    back.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(back.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["status"], "success");
    // Numbers go on.
    let next = back.submit(&mut world, json!({"agent": "echo"}));
    assert_ne!(next["job_id"], job);
    let frames = back.until_end(&mut world);
    // The retry with the key was shown the end once more, as the eighth.
    assert_eq!(frames[0]["event_seq"], 9);
    world.finish();
}

#[test]
fn what_waited_runs_and_what_ran_is_over() {
    let mut world = World::configured(4, |config| config.limits.job.running_jobs = 1);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let running = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let waiting = raw.submit(&mut world, json!({"agent": "echo", "input": 7}))["job_id"].clone();
    world.settle();
    world.crash();
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let ends = back.settle(&mut world);
    let ends: Vec<&Value> = ends.iter().filter(|frame| frame["payload"]["final_status"].is_string()).collect();
    let end_of = |job: &Value| ends.iter().find(|end| end["job_id"] == *job).expect("an end");
    assert_eq!((code(end_of(&running)), &end_of(&running)["payload"]["retryable"]), ("INTERNAL_ERROR", &json!(true)));
    assert_eq!(end_of(&waiting)["payload"]["result"], 7);
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.finish();
}

#[test]
fn a_principal_can_submit_after_a_restart() {
    for compact in [false, true] {
        let mut world = World::configured(11, |config| config.limits.job.waiting_input_bytes_per_principal = 10_000);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        for _ in 0..4 {
            raw.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(3000)}));
            raw.until_end(&mut world);
        }
        world.settle();
        world.crash_with(world.given().count(), compact);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        for _ in 0..4 {
            // Inputs of jobs that are over wait for nothing.
            raw.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(9000)}));
            raw.until_end(&mut world);
        }
        world.finish();
    }
}

#[test]
fn what_is_over_stays_over_and_what_expires_expires() {
    for purged in [false, true] {
        let mut world = World::configured(5, |config| config.timing.resume_window = Duration::from_secs(60));
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
        raw.until_end(&mut world);
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(61));
        world.crash_with(world.given().count(), purged);
        let mut late = Raw::resume(&mut world, "tok-a", &welcome, 0);
        late.expect(&mut world, "session.error");
        let stats = world.runtime().stats();
        assert_eq!((stats.sessions, stats.jobs), (0, 0));
        // The key outlives its job: a retry is told, and runs nothing.
        let (mut other, _) = Raw::hello(&mut world, "tok-a");
        other.send(&mut world, "job.submit", json!({"agent": "echo", "idempotency_key": "k"}));
        assert_eq!(code(&other.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
        world.finish();
    }
}

#[test]
fn a_message_that_was_executed_is_not_executed_again() {
    for family in FAMILIES {
        let mut world = World::of(family, 9);
        let (mut raw, welcome, kind, submit) = match family {
            Family::Hello => {
                let (raw, welcome) = Raw::hello(&mut world, "tok-a");
                (raw, welcome, "job.submit", json!({"agent": "stepper"}))
            }
            Family::Open => {
                let (raw, welcome) = Raw::open(&mut world, "tok-a");
                (raw, welcome, "tool.invoke", json!({"tool": "stepper", "arguments": {}}))
            }
        };
        raw.send_text(&mut world, &json!({"arcp": "1.1", "id": "m-once", "type": kind, "payload": submit}).to_string());
        let job = raw.expect(&mut world, "job.accepted")["job_id"].clone();
        world.settle();
        world.crash_with(world.given().count(), true);
        let mut back = match family {
            Family::Hello => Raw::resume(&mut world, "tok-a", &welcome, 0),
            // There an id is of the principal, on any connection.
            Family::Open => Raw::open(&mut world, "tok-a").0,
        };
        back.settle(&mut world);
        back.send_text(
            &mut world,
            &json!({"arcp": "1.1", "id": "m-once", "type": kind, "payload": submit}).to_string(),
        );
        let again = back.expect(&mut world, "job.accepted");
        assert_eq!(again["job_id"], job, "{family:?}");
        assert_eq!(world.runtime().stats().jobs, 1);
        let other = json!({"arcp": "1.1", "id": "m-once", "type": kind, "payload": {"agent": "echo", "tool": "echo", "arguments": {}}});
        back.send_text(&mut world, &other.to_string());
        back.expect_any(&mut world, &["session.error", "nack"]);
        world.finish();
    }
}

#[test]
fn a_message_is_not_executed_again_though_its_session_is_over() {
    // With the session of somebody else of the principal still there, with none,
    // and with none and a restart, tidied or not.
    for (other, restart) in [(true, None), (false, None), (true, Some(true)), (false, Some(true)), (false, Some(false))]
    {
        let mut world = World::configured(14, |config| config.timing.heartbeat = None);
        let (mut raw, _) = Raw::open(&mut world, "tok-a");
        let text = json!({"arcp": "1.1", "id": "m-once", "type": "tool.invoke", "payload": {"tool": "waiter", "arguments": {}}});
        raw.send_text(&mut world, &text.to_string());
        let job = raw.expect(&mut world, "job.accepted")["job_id"].clone();
        if other {
            Raw::open(&mut world, "tok-a");
        }
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(601));
        assert_eq!(world.runtime().stats().sessions, usize::from(other));
        if let Some(compact) = restart {
            world.crash_with(world.given().count(), compact);
        }
        let (mut back, _) = Raw::open(&mut world, "tok-a");
        back.send_text(&mut world, &text.to_string());
        assert_eq!(back.expect(&mut world, "job.accepted")["job_id"], job, "{other} {restart:?}");
        assert_eq!(world.runtime().stats().jobs, 1);
        back.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
        back.settle(&mut world);
        world.finish();
    }
}

#[test]
fn a_number_of_an_event_that_never_came_is_given_again() {
    let mut world = World::seeded(7);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    raw.take(&world);
    let id = JobId::parse(job.as_str().expect("a job")).expect("ours");
    let body = Json::parse(r#"{"level":"info","message":"lost"}"#).expect("JSON");
    world.input(Input::Agent { job: id, call: AgentCall::Emit { kind: "log".into(), body } });
    let given: Vec<usize> = world.given().map(|batch| batch.records.len()).collect();
    assert_eq!(given, [2], "the number and its event are one batch");
    world.crash_with(0, false);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 1);
    let welcomed = back.expect(&mut world, "session.welcome");
    let frames = back.settle(&mut world);
    let shown: Vec<(&Value, &Value)> = frames.iter().map(|frame| (&frame["type"], &frame["event_seq"])).collect();
    assert_eq!(shown, [(&json!("job.error"), &json!(2))], "the end, once");
    // Over one more crash, the number that was given again counts.
    world.crash_with(world.given().count(), false);
    let rotated = json!({"session_id": welcome["session_id"], "payload": welcomed["payload"]});
    let mut back = Raw::resume(&mut world, "tok-a", &rotated, 1);
    back.expect(&mut world, "session.welcome");
    let again: Vec<Value> = back.settle(&mut world);
    assert_eq!(again, frames);
    world.finish();
}

#[test]
fn who_was_told_that_it_is_with_a_job_can_rely_on_it() {
    for (kind, answer) in [("job.submit", "job.accepted"), ("job.subscribe", "job.subscribed")] {
        let mut world = World::seeded(8);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let mut payload = json!({"agent": "waiter", "idempotency_key": "k"});
        let job = owner.submit(&mut world, payload.clone())["job_id"].clone();
        world.settle();
        payload["job_id"] = job;
        let (mut other, welcome) = Raw::hello(&mut world, "tok-a");
        other.send(&mut world, kind, payload);
        while !world.frames_of(other.conn).iter().any(|text| text.contains(answer)) {
            assert!(world.step(), "it is told");
        }
        // It has been told: whatever the store has not got is of no matter.
        world.crash_with(0, true);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        let frames = back.settle(&mut world);
        assert_eq!(code(frames.last().expect("an end")), "INTERNAL_ERROR", "{kind}: {frames:#?}");
        world.finish();
    }
}

#[test]
fn who_stopped_watching_is_not_with_the_job_after_a_restart() {
    let mut world = World::seeded(33);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 40}}))["job_id"].clone();
    let (mut watcher, welcome) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.expect(&mut world, "job.subscribed");
    watcher.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    world.run_for(Duration::from_millis(50));
    let last = watcher.take(&world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
    world.crash_with(world.given().count(), false);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, last);
    back.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(20));
    assert!(back.take(&world).iter().all(|frame| frame["type"] == "session.ping"));
    world.finish();
}

#[test]
fn who_joined_by_a_key_is_still_there() {
    for family in FAMILIES {
        let mut world = World::seeded(8);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let submit = json!({"agent": "waiter", "idempotency_key": "k"});
        let job = owner.submit(&mut world, submit.clone())["job_id"].clone();
        world.settle();
        let (mut other, welcome) = match family {
            Family::Hello => Raw::hello(&mut world, "tok-a"),
            Family::Open => Raw::open(&mut world, "tok-a"),
        };
        let again = match family {
            Family::Hello => other.submit(&mut world, submit),
            Family::Open => {
                let invoke = json!({"tool": "waiter", "arguments": {}, "idempotency_key": "k"});
                other.invoke(&mut world, invoke)
            }
        };
        assert_eq!(again["job_id"], job);
        world.settle();
        world.crash();
        let mut back = match family {
            Family::Hello => Raw::resume(&mut world, "tok-a", &welcome, 0),
            Family::Open => Raw::reclaim(&mut world, "tok-a", &welcome, 1),
        };
        let frames = back.settle(&mut world);
        let end = frames.last().expect("an end");
        assert_eq!((&end["job_id"], end["event_seq"].is_u64()), (&job, true), "{frames:#?}");
        assert_eq!(end["correlation_id"], again["correlation_id"]);
        world.finish();
    }
}

#[test]
fn a_frame_names_the_request_it_named_before_the_restart_whoever_is_gone() {
    for compact in [false, true] {
        let mut world = World::configured(12, |config| config.timing.heartbeat = None);
        let invoke = json!({"tool": "waiter", "arguments": {}});
        let keyed = json!({"idempotency_key": "k"});
        let [mut first, mut second, mut third] = [(); 3].map(|()| {
            let (mut raw, opened) = Raw::open(&mut world, "tok-a");
            raw.send_with(&mut world, "tool.invoke", invoke.clone(), keyed.clone());
            raw.expect(&mut world, "job.accepted");
            (raw, opened)
        });
        world.cut(first.0.conn);
        world.run_for(Duration::from_secs(601));
        assert_eq!(world.runtime().stats().sessions, 2, "the session of the first request is over");
        for (raw, _) in [&mut first, &mut second, &mut third] {
            raw.settle(&mut world);
        }
        world.crash_with(world.given().count(), compact);
        for (raw, opened) in [second, third] {
            let before = numbered(&world, &raw);
            let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 0);
            back.settle(&mut world);
            assert_eq!(numbered(&world, &back)[..before.len()], before, "{compact}");
        }
        world.finish();
    }
}

/// What a connection was sent of a session's numbered frames.
fn numbered(world: &World, raw: &Raw) -> Vec<Value> {
    let frames = world.frames_of(raw.conn).iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    frames.filter(|frame| frame["event_seq"].is_u64()).collect()
}

#[test]
fn nobody_is_shown_the_message_id_of_another_principal_after_a_restart() {
    for compact in [false, true] {
        let mut world = World::configured(13, |config| {
            config.timing.heartbeat = None;
            config.auditors = [Principal::new("boss").expect("a name")].into();
        });
        let invoke = json!({"tool": "waiter", "arguments": {}});
        let keyed = json!({"idempotency_key": "k"});
        let [(first, _), (_, opened)] = [(); 2].map(|()| {
            let (mut raw, opened) = Raw::open(&mut world, "tok-a");
            raw.send_with(&mut world, "tool.invoke", invoke.clone(), keyed.clone());
            let job = raw.expect(&mut world, "job.accepted")["job_id"].clone();
            (raw, (opened, job))
        });
        let (opened, job) = opened;
        let (mut auditor, _) = Raw::open(&mut world, "tok-boss");
        let watch = auditor.send(&mut world, "job.subscribe", json!({"job_id": job}));
        auditor.expect(&mut world, "job.subscribed");
        world.cut(first.conn);
        world.run_for(Duration::from_secs(601));
        world.crash_with(world.given().count(), compact);
        let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 0);
        back.settle(&mut world);
        assert!(numbered(&world, &back).len() > 1);
        let shown = world.frames_of(back.conn).iter().any(|text| text.contains(&watch));
        assert!(!shown, "{compact}: {:#?}", numbered(&world, &back));
        world.finish();
    }
}

#[test]
fn ids_and_times_go_on_over_a_restart_with_a_clock_that_is_behind() {
    for compact in [false, true] {
        let mut world = World::configured(15, |config| config.timing.heartbeat = None);
        let (mut raw, opened) = Raw::hello(&mut world, "tok-a");
        world.set_clock(3_600_000);
        let first = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 3}}))["job_id"].clone();
        raw.until_end(&mut world);
        world.settle();
        // It was an hour ahead; the next run knows better.
        world.set_clock(0);
        world.crash_with(world.given().count(), compact);
        let mut raw = Raw::resume(&mut world, "tok-a", &opened, 0);
        raw.expect(&mut world, "session.welcome");
        let second = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 3}}))["job_id"].clone();
        raw.until_end(&mut world);
        let frames = numbered(&world, &raw);
        let times: Vec<&str> = frames.iter().filter_map(|frame| frame["payload"]["ts"].as_str()).collect();
        assert!(times.len() >= 6 && times.is_sorted(), "{compact}: {times:?}");
        assert!(first.as_str() < second.as_str(), "listings show the oldest first");
        let (mut observer, _) = Raw::open(&mut world, "tok-a");
        let third = observer.invoke(&mut world, json!({"tool": "slow", "arguments": {"ticks": 3}}));
        observer.until_end(&mut world);
        observer.send(&mut world, "subscribe", json!({"filter": {}, "since": {"after_message_id": third["id"]}}));
        observer.expect(&mut world, "subscribe.accepted");
        let past = observer.settle(&mut world);
        let ticks = past.iter().filter(|frame| frame["payload"]["event"]["type"] == "job.progress");
        assert_eq!(ticks.count(), 3, "{compact}: what came after it, and nothing from before: {past:#?}");
        world.finish();
    }
}

#[test]
fn a_key_is_free_again_when_its_window_is_over_and_counts_once() {
    for compact in [false, true] {
        let mut world = World::configured(16, |config| {
            config.timing.heartbeat = None;
            config.timing.resume_window = Duration::from_secs(60);
            config.timing.key_window = Duration::from_secs(1000);
            config.limits.job.keys_per_principal = 3;
        });
        let keyed = |key: &str| json!({"agent": "echo", "idempotency_key": key});
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let first = raw.submit(&mut world, keyed("first"))["job_id"].clone();
        raw.until_end(&mut world);
        world.run_for(Duration::from_secs(30));
        raw.submit(&mut world, keyed("second"));
        raw.until_end(&mut world);
        world.cut(raw.conn);
        // The first job is forgotten, its key is not.
        world.run_for(Duration::from_secs(65));
        world.crash_with(world.given().count(), compact);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, keyed("third"));
        raw.send(&mut world, "job.submit", keyed("first"));
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "JOB_NOT_FOUND", "{compact}");
        world.run_for(Duration::from_secs(1000 - 30 - 65 + 5));
        assert_ne!(raw.submit(&mut world, keyed("first"))["job_id"], first, "{compact}");
        world.finish();
    }
}

#[test]
fn ended_jobs_are_bounded_after_a_restart_as_before() {
    for compact in [false, true] {
        let mut world = World::configured(17, |config| config.limits.job.ended_jobs_per_principal = 2);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        for _ in 0..5 {
            raw.submit(&mut world, json!({"agent": "slow"}));
        }
        // They end while nobody is there to whom that is sent: all are held.
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.runtime().stats().jobs, 5);
        let listed = |world: &mut World| {
            let (mut raw, _) = Raw::hello(world, "tok-a");
            raw.send(world, "session.list_jobs", json!({}));
            raw.expect(world, "session.jobs")["payload"]["jobs"].clone()
        };
        let before = listed(&mut world);
        assert_eq!(before.as_array().map(Vec::len), Some(2));
        world.settle();
        world.crash_with(world.given().count(), compact);
        assert_eq!(listed(&mut world), before, "{compact}");
        world.finish();
    }
}

#[test]
fn watchers_of_both_families_find_what_they_watched() {
    let mut world = World::seeded(6);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, opened) = Raw::open(&mut world, "tok-a");
    let (mut left, left_welcome) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    open.expect(&mut world, "job.subscribed");
    left.send(&mut world, "job.subscribe", json!({"job_id": job}));
    left.expect(&mut world, "job.subscribed");
    left.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    world.settle();
    let seen = open.take(&world);
    world.crash();
    let mut back = Raw::reclaim(&mut world, "tok-a", &opened, 0);
    back.expect(&mut world, "session.resumed");
    let frames = back.until_end(&mut world);
    assert_eq!(frames[0], seen[0], "the same frame again, its request too");
    assert_eq!(frames.last().map(|end| &end["type"]), Some(&json!("job.failed")));
    let mut gone = Raw::resume(&mut world, "tok-a", &left_welcome, 0);
    gone.expect(&mut world, "session.welcome");
    assert_eq!(gone.settle(&mut world), Vec::<Value>::new(), "who left gets nothing");
    world.finish();
}

#[test]
fn a_digest_is_of_all_sessions_and_of_the_log_up_to_its_end() {
    let mut world = World::seeded(7);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let none = world.runtime().digest();
    let message = raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    raw.until_end(&mut world);
    world.settle();
    let one = world.runtime().digest();
    assert!(one.at.0 > 3 && one.at == world.store.last(), "{:?}: otherwise worlds compare no restart", one.at);
    let made = one.differences(&none);
    let message = format!(" {message}: lived");
    assert!(made.iter().any(|fact| fact.contains(&message)), "what made the job: {made:?}");
    Raw::hello(&mut world, "tok-a");
    assert_eq!(world.runtime().digest().differences(&one).len(), 2, "a session and its subscriptions");
    world.finish();
}
