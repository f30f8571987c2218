//! Idempotency keys, watching and listing.

use std::collections::BTreeSet;
use std::time::Duration;

use arcp_proto::runtime::Record;
use arcp_tests::raw::{Raw, code, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn without_request(accepted: &Value) -> Value {
    let mut payload = accepted["payload"].clone();
    payload.as_object_mut().expect("an object").remove("request_id");
    payload
}

fn values(frames: &[Value]) -> Vec<i64> {
    frames.iter().filter_map(|frame| frame["payload"]["body"]["value"].as_i64()).collect()
}

#[test]
fn a_retry_gets_the_same_acceptance_and_the_terminal() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let submit = json!({"agent": "echo", "input": {"a": 1, "b": 2}, "idempotency_key": "k"});
    let first = raw.submit(&mut world, submit.clone());
    let end = raw.until_end(&mut world);
    let second = raw.submit(&mut world, submit);
    assert_eq!(without_request(&first), without_request(&second));
    let again = raw.until_end(&mut world);
    assert_eq!(again.len(), 1, "the terminal alone: {again:#?}");
    assert_eq!(again[0]["payload"], end.last().expect("an end")["payload"]);
    assert_eq!(again[0]["event_seq"], 3, "with a number of its own");
    world.finish();
}

#[test]
fn parameters_are_compared_by_meaning() {
    let mut world = World::seeded(2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let same = [
        r#"{"agent":"waiter","input":{"a":1,"b":[1, 2]},"idempotency_key":"k"}"#,
        r#"{"idempotency_key":"k","input":{"b":[1,2],"a":1},"agent":"waiter","lease_request":{},"lease_constraints":{}}"#,
    ];
    let mut jobs = BTreeSet::new();
    for (n, payload) in same.iter().enumerate() {
        raw.send_text(&mut world, &format!(r#"{{"id":"s{n}","type":"job.submit","payload":{payload}}}"#));
        jobs.insert(raw.expect(&mut world, "job.accepted")["job_id"].to_string());
    }
    assert_eq!(jobs.len(), 1);
    for different in [
        json!({"agent": "waiter", "input": {"a": 1, "b": [2, 1]}, "idempotency_key": "k"}),
        json!({"agent": "waiter", "input": {"a": 1, "b": [1, 2]}, "idempotency_key": "k", "max_runtime_sec": 5}),
        json!({"agent": "echo", "input": {"a": 1, "b": [1, 2]}, "idempotency_key": "k"}),
        json!({"agent": "waiter", "input": {"a": 1, "b": [1, 2]}, "idempotency_key": "k", "lease_request": {"tool.call": ["x"]}}),
    ] {
        raw.send(&mut world, "job.submit", different.clone());
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "DUPLICATE_KEY", "{different}");
    }
    assert_eq!(world.runtime().stats().unfinished_jobs, 1);
    let versions = ["echo@1.0.0", "echo@2.0.0"].map(|agent| json!({"agent": agent, "idempotency_key": "v"}));
    raw.submit(&mut world, versions[0].clone());
    raw.send(&mut world, "job.submit", versions[1].clone());
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "DUPLICATE_KEY", "another version of the agent");
    world.finish();
}

#[test]
fn a_key_holds_across_sessions_of_the_principal() {
    let mut world = World::seeded(3);
    let submit = json!({"agent": "slow", "idempotency_key": "k"});
    let (mut one, _) = Raw::hello(&mut world, "tok-a");
    let (mut two, _) = Raw::hello(&mut world, "tok-a");
    let (mut foreign, _) = Raw::hello(&mut world, "tok-b");
    let a = one.submit(&mut world, submit.clone());
    world.run_for(Duration::from_millis(350));
    let b = two.submit(&mut world, submit.clone());
    let c = foreign.submit(&mut world, submit);
    assert_eq!(without_request(&a), without_request(&b));
    assert_ne!(a["job_id"], c["job_id"]);
    two.send(&mut world, "job.cancel", json!({"job_id": b["job_id"]}));
    two.expect(&mut world, "job.cancelled");
    let end = one.until_end(&mut world);
    assert_eq!(
        end.last().expect("an end")["payload"]["final_status"],
        "cancelled",
        "the key brings the right to cancel"
    );
    world.finish();
}

#[test]
fn two_submits_with_one_key_in_the_same_moment_run_once() {
    for seed in 0..20 {
        let mut world = World::seeded(seed);
        let (mut one, _) = Raw::hello(&mut world, "tok-a");
        let (mut two, _) = Raw::hello(&mut world, "tok-a");
        let submit = json!({"agent": "echo", "idempotency_key": "k"});
        one.send(&mut world, "job.submit", submit.clone());
        two.send(&mut world, "job.submit", submit);
        let jobs = [&mut one, &mut two].map(|raw| raw.expect(&mut world, "job.accepted")["job_id"].clone());
        assert_eq!(jobs[0], jobs[1]);
        for raw in [&mut one, &mut two] {
            assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "success");
        }
        world.finish();
    }
}

#[test]
fn a_refused_submit_claims_no_key() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "nobody", "idempotency_key": "k"}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "AGENT_NOT_AVAILABLE");
    raw.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
    world.finish();
}

#[test]
fn keys_are_forgotten_after_a_day() {
    let mut world = World::seeded(5);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let one = raw.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(24 * 3600 + 60));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let two = raw.submit(&mut world, json!({"agent": "echo", "input": 2, "idempotency_key": "k"}));
    assert_ne!(one["job_id"], two["job_id"]);
    world.finish();
}

#[test]
fn a_repeated_message_id_is_answered_and_not_done_again() {
    let mut world = World::seeded(6);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let text = r#"{"id":"one","type":"job.submit","payload":{"agent":"echo","input":1}}"#;
    raw.send_text(&mut world, text);
    let first = raw.expect(&mut world, "job.accepted");
    raw.until_end(&mut world);
    raw.send_text(&mut world, text);
    let second = raw.expect(&mut world, "job.accepted");
    assert_eq!(first["payload"], second["payload"]);
    raw.send_text(&mut world, r#"{"id":"one","type":"job.submit","payload":{"agent":"echo","input":2}}"#);
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST");
    assert!(raw.settle(&mut world).is_empty());
    world.finish();
}

/// Says something under an id; gives what is answered first.
fn said(world: &mut World, raw: &mut Raw, id: &str, kind: &str, payload: &Value) -> Value {
    raw.send_text(world, &json!({"id": id, "type": kind, "payload": payload}).to_string());
    let answered = raw.settle(world);
    let answer = answered.into_iter().find(|frame| !frame["type"].as_str().unwrap_or_default().ends_with("event"));
    answer.unwrap_or_else(|| panic!("an answer to {kind} {payload}"))
}

#[test]
fn every_command_that_comes_again_is_answered_as_it_was() {
    let mut world = World::seeded(30);
    let (raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-a");
    let job = other.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (reason, none) = ("no longer wanted", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    let subscribed = said(&mut world, &mut open, "s", "subscribe", &json!({"filter": {}}));
    let subscription = &subscribed["payload"]["subscription_id"];
    let mut raws = [raw, other, open];
    for (at, kind, payload, answer) in [
        (0, "job.submit", json!({"agent": "waiter", "lease_request": {"tool.call": ["x"]}}), "job.accepted"),
        (0, "job.submit", json!({"agent": "nobody"}), "session.error"),
        (0, "job.subscribe", json!({"job_id": job}), "job.subscribed"),
        (0, "job.subscribe", json!({"job_id": none}), "session.error"),
        (1, "job.cancel", json!({"job_id": job, "reason": reason}), "job.cancelled"),
        (1, "job.cancel", json!({"job_id": none}), "session.error"),
        (2, "subscribe", json!({"filter": {"job_id": [job]}}), "subscribe.accepted"),
        (2, "unsubscribe", json!({"subscription_id": subscription}), "subscribe.closed"),
        (2, "unsubscribe", json!({"subscription_id": none}), "nack"),
    ] {
        let id = format!("{kind} {payload}");
        let [first, again] = [(); 2].map(|()| said(&mut world, &mut raws[at], &id, kind, &payload));
        assert_eq!(first["type"], answer, "{first}");
        let told = |frame: &Value| json!([frame["type"], frame["payload"], frame["job_id"], frame["correlation_id"]]);
        assert_eq!(told(&first), told(&again));
    }
    world.finish();
}

#[test]
fn a_submit_that_comes_again_after_its_job_is_forgotten_is_told_so_and_runs_nothing() {
    let mut world = World::configured(31, |config| config.limits.job.ended_jobs_per_principal = 1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let submit = json!({"agent": "echo", "lease_request": {"tool.call": ["x"]}});
    said(&mut world, &mut raw, "one", "job.submit", &submit);
    said(&mut world, &mut raw, "two", "job.submit", &submit);
    raw.send(&mut world, "session.ack", json!({"last_processed_seq": 4}));
    world.settle();
    assert_eq!((world.runtime().stats().jobs, world.started.len()), (1, 2));
    let gone = said(&mut world, &mut raw, "one", "job.submit", &submit);
    assert_eq!((code(&gone), &gone["payload"]["request_id"]), ("JOB_NOT_FOUND", &json!("one")), "{gone}");
    let held = said(&mut world, &mut raw, "two", "job.submit", &submit);
    assert_eq!((&held["type"], &held["payload"]["lease"]), (&json!("job.accepted"), &submit["lease_request"]));
    assert_eq!(world.started.len(), 2, "neither runs again");
    world.finish();
}

#[test]
fn history_and_live_meet_without_gap_or_duplicate() {
    for seed in 0..30 {
        let mut world = World::seeded(seed);
        let (mut owner, _) = Raw::hello(&mut world, "tok-a");
        let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 60}}))["job_id"].clone();
        let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
        for _ in 0..world.below(120) {
            world.step();
        }
        let id = watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        let frames = watcher.until_end(&mut world);
        let subscribed = &frames[0];
        assert_eq!(subscribed["type"], "job.subscribed", "before the replay");
        assert_eq!(subscribed["payload"]["request_id"], id.as_str());
        assert_eq!(subscribed["payload"]["replayed"], true);
        assert!(subscribed["payload"].get("credentials").is_none());
        assert_eq!(values(&frames), (0..60).collect::<Vec<_>>());
        let seqs: Vec<u64> = frames.iter().filter_map(|f| f["event_seq"].as_u64()).collect();
        assert_eq!(seqs, (1..=62).collect::<Vec<_>>(), "the watcher's own numbers");
        world.finish();
    }
}

#[test]
fn replay_begins_strictly_after_the_number_of_the_listing() {
    let mut world = World::seeded(7);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    owner.submit(&mut world, json!({"agent": "echo"}));
    let job = owner.submit(&mut world, json!({"agent": "chatty", "input": {"count": 10}}))["job_id"].clone();
    world.settle();
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "from_event_seq": 6}));
    let subscribed = watcher.expect(&mut world, "job.subscribed");
    assert_eq!(subscribed["payload"]["subscribed_from"], 6);
    assert_eq!(subscribed["payload"]["current_status"], "success");
    assert_eq!(values(&watcher.until_end(&mut world)), (5..10).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn who_gets_the_events_already_gets_nothing_twice() {
    let mut world = World::seeded(8);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "slow"}))["job_id"].clone();
    owner.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let subscribed = owner.expect(&mut world, "job.subscribed");
    assert_eq!(subscribed["payload"]["replayed"], false);
    let mut frames = owner.take(&world);
    frames.extend(owner.until_end(&mut world));
    let currents: Vec<u64> = frames.iter().filter_map(|f| f["payload"]["body"]["current"].as_u64()).collect();
    assert_eq!(currents, (1..=10).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn unsubscribe_ends_it() {
    let mut world = World::seeded(9);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "slow"}))["job_id"].clone();
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.expect(&mut world, "job.subscribed");
    watcher.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    world.run_for(Duration::from_millis(50));
    watcher.take(&world);
    owner.until_end(&mut world);
    assert!(watcher.settle(&mut world).is_empty());
    world.finish();
}

#[test]
fn foreign_and_unknown_jobs_look_alike() {
    let mut world = World::seeded(10);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let mut answers = BTreeSet::new();
    for id in [job.as_str().expect("an id"), "job_01ARZ3NDEKTSV4RRFFQ69G5FAV", "whatever"] {
        let request = other.send(&mut world, "job.subscribe", json!({"job_id": id}));
        let error = other.expect(&mut world, "session.error");
        assert_eq!(error["payload"]["request_id"], request.as_str(), "its waiter is told");
        let shown = error["payload"].to_string().replace(id, "ID").replace(&request, "REQUEST");
        answers.insert(shown);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    world.finish();
}

#[test]
fn features_not_negotiated_are_refused() {
    let mut world = World::seeded(11);
    let mut raw = Raw::connect(&mut world);
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["features"] = json!([]);
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.welcome");
    for (kind, payload) in [("session.list_jobs", json!({})), ("job.subscribe", json!({"job_id": "job_1"}))] {
        raw.send(&mut world, kind, payload);
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST");
    }
    world.finish();
}

#[test]
fn sw_gl4_gl5_listings() {
    let mut world = World::seeded(12);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let id = raw.send(&mut world, "session.list_jobs", json!({}));
    let empty = raw.expect(&mut world, "session.jobs");
    assert_eq!(empty["payload"], json!({"request_id": id, "jobs": [], "next_cursor": null}));
    for agent in ["echo@1.0.0", "echo", "failer"] {
        raw.submit(&mut world, json!({"agent": agent}));
        raw.until_end(&mut world);
    }
    raw.submit(&mut world, json!({"agent": "waiter"}));
    world.settle();
    let mut list = |filter: Value| {
        raw.send(&mut world, "session.list_jobs", json!({"filter": filter}));
        let page = raw.expect(&mut world, "session.jobs");
        page["payload"]["jobs"].as_array().expect("an array").clone()
    };
    let all = list(json!({}));
    let shown: Vec<(&str, &str)> =
        all.iter().map(|job| (job["agent"].as_str().unwrap_or(""), job["status"].as_str().unwrap_or(""))).collect();
    assert_eq!(
        shown,
        [("echo@1.0.0", "success"), ("echo@2.0.0", "success"), ("failer", "error"), ("waiter", "running")],
        "ended ones too, oldest first"
    );
    for job in &all {
        assert_eq!(job["created_at"], job["submitted_at"]);
        assert!(job["last_event_seq"].is_u64() && job["lease"].is_object() && job["parent_job_id"].is_null());
    }
    assert_eq!(list(json!({"agent": "echo"})).len(), 2);
    assert_eq!(list(json!({"agent": "echo@1.0.0"})).len(), 1);
    assert_eq!(list(json!({"status": ["success", "failed"]})).len(), 3, "in either family's words");
    assert_eq!(list(json!({"status": "running"})).len(), 1);
    assert_eq!(list(json!({"created_after": all[1]["created_at"]})), all[2..]);
    assert_eq!(list(json!({"created_before": all[1]["created_at"]})), all[..2]);
    world.finish();
}

#[test]
fn pages_by_keyset_cursor_are_stable_under_new_jobs() {
    let mut world = World::seeded(13);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for _ in 0..7 {
        jobs.push(raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone());
    }
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut payload = json!({"limit": 2});
        if cursor.is_string() {
            payload["cursor"] = cursor.clone();
        }
        raw.send(&mut world, "session.list_jobs", payload);
        let page = raw.expect(&mut world, "session.jobs");
        seen.extend(page["payload"]["jobs"].as_array().expect("an array").iter().map(|job| job["job_id"].clone()));
        cursor = page["payload"]["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
        if seen.len() < 5 {
            jobs.push(raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone());
        }
    }
    assert_eq!(seen, jobs);
    raw.send(&mut world, "session.list_jobs", json!({"limit": 2}));
    let cursor = raw.expect(&mut world, "session.jobs")["payload"]["next_cursor"].clone();
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "session.list_jobs", json!({"cursor": cursor}));
    assert_eq!(code(&other.expect(&mut world, "session.error")), "INVALID_REQUEST", "a cursor is its principal's");
    for bad in [
        json!({"cursor": "2"}),
        json!({"cursor": ""}),
        json!({"limit": 0}),
        json!({"limit": 1001}),
        json!({"filter": {"status": ["odd"]}}),
        json!({"filter": {"created_after": "yesterday"}}),
    ] {
        raw.send(&mut world, "session.list_jobs", bad.clone());
        assert_eq!(code(&raw.expect(&mut world, "session.error")), "INVALID_REQUEST", "{bad}");
    }
    world.finish();
}

#[test]
fn a_listing_does_bounded_work() {
    let mut world = World::configured(14, |config| config.limits.connection.list_scan = 4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..10 {
        raw.submit(&mut world, json!({"agent": "echo"}));
    }
    let last = raw.submit(&mut world, json!({"agent": "failer"}))["job_id"].clone();
    raw.settle(&mut world);
    let (mut found, mut pages, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let mut payload = json!({"filter": {"agent": "failer"}});
        if cursor.is_string() {
            payload["cursor"] = cursor.clone();
        }
        raw.send(&mut world, "session.list_jobs", payload);
        let page = raw.expect(&mut world, "session.jobs")["payload"].clone();
        pages += 1;
        found.extend(page["jobs"].as_array().expect("an array").iter().map(|job| job["job_id"].clone()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found, [last]);
    assert!(pages >= 3, "{pages}");
    world.finish();
}

#[test]
fn ended_jobs_are_forgotten_after_the_retention() {
    let mut world = World::configured(15, |config| config.timing.resume_window = Duration::from_secs(60));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    raw.until_end(&mut world);
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(125));
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(raw.expect(&mut world, "session.jobs")["payload"]["jobs"], json!([]));
    raw.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "JOB_NOT_FOUND");
    world.finish();
}

#[test]
fn retries_and_leavings_that_change_nothing_leave_nothing_in_the_store() {
    let mut world = World::seeded(60);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let submit = json!({"agent": "waiter", "idempotency_key": "k"});
    let job = raw.submit(&mut world, submit.clone())["payload"]["job_id"].clone();
    for _ in 0..20 {
        assert_eq!(raw.submit(&mut world, submit.clone())["payload"]["job_id"], job);
    }
    let of_readers = |world: &World| {
        let kept = world.store.records(false);
        kept.iter().filter(|(_, record)| matches!(record, Record::Joined { .. } | Record::Left { .. })).count()
    };
    assert_eq!(of_readers(&world), 0);
    for _ in 0..20 {
        raw.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
        raw.settle(&mut world);
    }
    assert_eq!(of_readers(&world), 1, "that it left");
    world.finish();
}
