//! A refusal at a bound names the bound, whose it is, how much it allows, and when to try again.

use std::time::Duration;

use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// The details of a refusal, in whatever frame it came.
fn details(refused: &Value) -> Value {
    let mut details = refused["payload"]["details"].clone();
    if let Some(members) = details.as_object_mut() {
        members.remove("open_code");
    }
    details
}

fn reached(bound: &str, of: &str, limit: u64) -> Value {
    json!({"bound": bound, "of": of, "limit": limit, "retry_after_ms": 1000})
}

/// Opens a session; gives why it was refused.
fn kept_out(world: &mut World, address: &str, auth: Value) -> Value {
    let mut raw = Raw::connect_from(world, address);
    let mut payload = hello_payload("");
    payload["auth"] = auth;
    raw.send(world, "session.hello", payload);
    details(&raw.expect(world, "session.error"))
}

fn nobody() -> Value {
    json!({"scheme": "none"})
}

fn enter(world: &mut World, address: &str) -> Raw {
    let mut raw = Raw::connect_from(world, address);
    raw.send(world, "session.hello", json!({"client": {"name": "n", "version": "1"}, "auth": nobody()}));
    raw.expect(world, "session.welcome");
    raw
}

#[test]
fn whoever_is_kept_out_is_told_of_the_bound() {
    let mut world = World::configured(1, |config| {
        config.anonymous = true;
        config.limits.session.sessions_per_principal = 1;
        config.limits.session.anonymous_sessions_per_network = 1;
        config.limits.session.anonymous_sessions = 2;
        config.limits.session.sessions = 4;
    });
    enter(&mut world, "203.0.113.1");
    let refused = kept_out(&mut world, "203.0.113.1", nobody());
    assert_eq!(refused, reached("anonymous_sessions_per_network", "network", 1));
    enter(&mut world, "203.0.113.2");
    let refused = kept_out(&mut world, "203.0.113.3", nobody());
    assert_eq!(refused, reached("anonymous_sessions", "anonymous", 2));
    Raw::hello(&mut world, "tok-a");
    let refused = kept_out(&mut world, "203.0.113.4", json!({"scheme": "bearer", "token": "tok-a"}));
    assert_eq!(refused, reached("sessions_per_principal", "principal", 1));
    Raw::hello(&mut world, "tok-b");
    let mut late = Raw::connect(&mut world);
    late.send(&mut world, "session.open", open_payload("tok-c"));
    let refused = late.expect(&mut world, "session.rejected");
    assert_eq!(details(&refused), reached("sessions", "runtime", 4));
    world.finish();
}

#[test]
fn a_refused_key_is_told_when_there_may_be_room() {
    let mut world = World::configured(2, |config| {
        config.anonymous = true;
        config.limits.job.keys_per_principal = 1;
        config.limits.job.keys = 2;
        config.limits.session.reserve = 0;
        config.timing.key_window = Duration::from_secs(60);
    });
    let keyed = |key: &str| json!({"agent": "echo", "idempotency_key": key});
    let (mut first, _) = Raw::hello(&mut world, "tok-a");
    first.submit(&mut world, keyed("a"));
    let refuse = |world: &mut World, raw: &mut Raw| {
        raw.send(world, "job.submit", keyed("b"));
        details(&raw.expect(world, "session.error"))
    };
    let own = refuse(&mut world, &mut first);
    assert_eq!(
        (&own["bound"], &own["of"], &own["limit"]),
        (&json!("keys_per_principal"), &json!("principal"), &json!(1))
    );
    let mut anonymous = enter(&mut world, "203.0.113.1");
    anonymous.submit(&mut world, keyed("a"));
    let network = refuse(&mut world, &mut anonymous);
    assert_eq!((&network["bound"], &network["of"]), (&json!("keys_per_principal"), &json!("network")));
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let all = refuse(&mut world, &mut other);
    assert_eq!((&all["bound"], &all["of"], &all["limit"]), (&json!("keys"), &json!("runtime"), &json!(2)));
    let wait = all["retry_after_ms"].as_u64().expect("when to try again");
    assert!((50_000..=61_000).contains(&wait), "a key is held for a minute: {wait}");
    world.run_for(Duration::from_millis(wait));
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.submit(&mut world, keyed("b"));
    world.finish();
}

#[test]
fn a_refused_watch_or_retry_is_told_of_the_bound() {
    let mut world = World::configured(3, |config| {
        config.limits.session.watches_per_session = 1;
        config.limits.job.requests_per_job = 1;
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let jobs = [(); 2].map(|()| owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone());
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    for job in &jobs {
        watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    }
    let refused = watcher.expect(&mut world, "session.error");
    assert_eq!(details(&refused), reached("watches_per_session", "session", 1));
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    for _ in 0..2 {
        let invoke = json!({"tool": "waiter", "arguments": {}});
        open.send_with(&mut world, "tool.invoke", invoke, json!({"idempotency_key": "k"}));
    }
    assert_eq!(details(&open.expect(&mut world, "nack")), reached("requests_per_job", "job", 1));
    world.finish();
}

#[test]
fn a_refused_subscription_is_told_of_the_bound() {
    let mut world = World::configured(4, |config| {
        config.limits.session.subscriptions_per_session = 1;
        config.limits.session.subscriptions_per_principal = 2;
        config.limits.session.backfill_events = 1;
    });
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    agent.invoke(&mut world, json!({"tool": "echo", "arguments": 1}));
    agent.until_end(&mut world);
    let ask = |world: &mut World, raw: &mut Raw, payload: Value| {
        raw.send(world, "subscribe", payload);
        details(&raw.expect_any(world, &["subscribe.accepted", "nack"]))
    };
    // The same request can never be met: there is no time to try it again.
    let large = ask(&mut world, &mut agent, json!({"filter": {}, "since": {}}));
    assert_eq!(large, json!({"bound": "backfill_events", "of": "request", "limit": 1}));
    assert_eq!(ask(&mut world, &mut agent, json!({"filter": {}})), json!(null));
    let of_session = ask(&mut world, &mut agent, json!({"filter": {}}));
    assert_eq!(of_session, reached("subscriptions_per_session", "session", 1));
    let (mut second, _) = Raw::open(&mut world, "tok-a");
    assert_eq!(ask(&mut world, &mut second, json!({"filter": {}})), json!(null));
    let (mut third, _) = Raw::open(&mut world, "tok-a");
    let of_principal = ask(&mut world, &mut third, json!({"filter": {}}));
    assert_eq!(of_principal, reached("subscriptions_per_principal", "principal", 2));
    world.finish();
}

#[test]
fn a_share_of_peers_without_a_credential_is_that_of_their_network() {
    let mut world = World::configured(5, |config| {
        config.anonymous = true;
        config.limits.job.jobs_per_principal = 1;
    });
    let mut raw = enter(&mut world, "203.0.113.1");
    raw.submit(&mut world, json!({"agent": "waiter"}));
    raw.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    assert_eq!(details(&raw.expect(&mut world, "session.error")), reached("jobs_per_principal", "network", 1));
    world.finish();
}

#[test]
fn a_cursor_is_taken_from_its_principal_and_whole() {
    let mut world = World::seeded(9);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..2 {
        raw.submit(&mut world, json!({"agent": "waiter"}));
    }
    let mut page = |raw: &mut Raw, cursor: Option<&str>| {
        raw.send(&mut world, "session.list_jobs", json!({"limit": 1, "cursor": cursor}));
        raw.expect_any(&mut world, &["session.jobs", "session.error"])
    };
    let first = page(&mut raw, None);
    let cursor = first["payload"]["next_cursor"].as_str().expect("there is more");
    let second = page(&mut raw, Some(cursor));
    assert_ne!(second["payload"]["jobs"][0]["job_id"], first["payload"]["jobs"][0]["job_id"]);
    for at in 0..cursor.len() {
        let other = if cursor.as_bytes()[at] == b'A' { "B" } else { "A" };
        let altered = format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]);
        assert_eq!(page(&mut raw, Some(&altered))["type"], "session.error", "{cursor} {altered}");
        assert_eq!(page(&mut raw, Some(&cursor[..at]))["type"], "session.error", "{at}");
    }
    let (mut stranger, _) = Raw::hello(&mut world, "tok-b");
    stranger.send(&mut world, "session.list_jobs", json!({"cursor": cursor}));
    assert_eq!(code(&stranger.expect(&mut world, "session.error")), "INVALID_REQUEST");
    world.finish();
}

#[test]
fn a_member_of_the_wrong_type_is_named_and_its_value_is_not() {
    let mut world = World::seeded(90);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let wrong = [
        ("agent", json!({"agent": 4711, "input": 1})),
        ("max_runtime_sec", json!({"agent": "echo", "input": {"a": "\n"}, "max_runtime_sec": "4711"})),
        ("idempotency_key", json!({"agent": "echo", "idempotency_key": ["4711"], "input": 1})),
    ];
    for (member, payload) in wrong {
        raw.send(&mut world, "job.submit", payload);
        let refused = raw.expect(&mut world, "session.error");
        let message = refused["payload"]["message"].as_str().expect("text");
        assert_eq!(message, format!("`job.submit`: `{member}` has the wrong type"));
    }
    world.finish();
}

#[test]
fn a_new_session_gives_nobody_a_new_allowance_of_submits() {
    let mut world = World::configured(21, |config| {
        config.limits.session.submits_per_second = core::num::NonZeroU32::new(4);
        config.limits.session.sessions_per_principal = 1;
    });
    for round in 0..3 {
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let mut taken = 0;
        loop {
            raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
            let answer = raw.expect_any(&mut world, &["session.error", "job.accepted"]);
            if answer["type"] == "session.error" {
                assert_eq!(details(&answer)["bound"], "submits_per_second");
                break;
            }
            taken += 1;
        }
        assert_eq!(taken, if round == 0 { 4 } else { 0 }, "round {round}");
        raw.send(&mut world, "session.close", json!({}));
        raw.expect(&mut world, "session.closed");
        world.settle();
    }
    world.finish();
}

#[test]
fn who_submits_too_fast_is_told_when_to_go_on_and_keeps_nobody_else_waiting() {
    let mut world = World::configured(20, |config| {
        config.limits.session.submits_per_second = core::num::NonZeroU32::new(4);
    });
    let (mut first, _) = Raw::hello(&mut world, "tok-a");
    let (mut second, _) = Raw::open(&mut world, "tok-a");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    let keyed = json!({"agent": "echo", "idempotency_key": "k"});
    let known = first.submit(&mut world, keyed.clone())["job_id"].clone();
    first.submit(&mut world, json!({"agent": "echo"}));
    for _ in 0..2 {
        second.invoke(&mut world, json!({"tool": "echo"}));
    }
    let mut refused = |world: &mut World| {
        first.send(world, "job.submit", json!({"agent": "echo"}));
        let answer = first.expect_any(world, &["job.error", "session.error", "job.accepted"]);
        (answer["type"] != "job.accepted").then(|| details(&answer))
    };
    let told = refused(&mut world).expect("it was too fast");
    let wait = told["retry_after_ms"].as_u64().expect("a time");
    assert!((1..=251).contains(&wait), "{told}");
    assert_eq!(told, json!({"bound": "submits_per_second", "of": "principal", "limit": 4, "retry_after_ms": wait}));
    assert!(refused(&mut world).is_some(), "what is refused does not count");
    other.submit(&mut world, json!({"agent": "echo"}));
    world.run_for(Duration::from_millis(wait));
    assert_eq!(refused(&mut world), None, "and one more may come");
    assert!(refused(&mut world).is_some());
    world.run_for(Duration::from_secs(5));
    let at_once = (0..9).take_while(|_| refused(&mut world).is_none()).count();
    assert_eq!(at_once, 4, "what nobody used for long is not saved");
    first.send(&mut world, "job.submit", keyed);
    let again = first.expect_any(&mut world, &["job.error", "session.error", "job.accepted"]);
    assert_eq!(again["payload"]["job_id"], known, "a key that is used again submits nothing: {again}");
    world.finish();
}
