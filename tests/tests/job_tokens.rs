//! Job tokens: they give a session of either family the rest of a job.

use std::time::Duration;

use arcp_proto::client::{ClientConfig, ClientEvent, Session, job_tokens};
use arcp_proto::id::JobId;
use arcp_proto::model::job_token::{ExchangeToken, JobToken};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{Config, HeldFor, Record, held_bytes};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const BOTH: [Family; 2] = [Family::Open, Family::Hello];

fn person(world: &mut World, family: Family, token: &str) -> Raw {
    match family {
        Family::Open => {
            let mut payload = open_payload(token);
            payload["capabilities"]["extensions"] = json!(["arcpx.arcp.job_tokens.v1"]);
            payload["capabilities"]["agent_handoff"] = json!(true);
            Raw::open_with(world, payload).0
        }
        Family::Hello => {
            let mut payload = hello_payload(token);
            let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
            // It reads no `job.subscribe`: the token is enough.
            features.retain(|feature| feature != "subscribe");
            features.push(json!("x-vendor.arcp.job_tokens"));
            let mut raw = Raw::connect(world);
            raw.send(world, "session.hello", payload);
            raw.expect(world, "session.welcome");
            raw
        }
    }
}

fn run(world: &mut World, raw: &mut Raw, family: Family, agent: &str, input: Value) -> JobId {
    let accepted = match family {
        Family::Open => raw.invoke(world, json!({"tool": agent, "arguments": input})),
        Family::Hello => raw.submit(world, json!({"agent": agent, "input": input})),
    };
    world.run_for(Duration::from_millis(50));
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn issue(world: &mut World, raw: &mut Raw, job: JobId) -> Value {
    raw.send(world, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
    raw.expect(world, "x-vendor.arcp.job_token")["payload"].clone()
}

/// What comes of a token: that the job is watched, or a refusal.
fn exchange(world: &mut World, raw: &mut Raw, token: &Value, after: Option<u64>) -> Value {
    let mut wish = json!({"token": token});
    if let Some(after) = after {
        wish["from_event_seq"] = json!(after);
    }
    raw.send(world, "x-vendor.arcp.job_token.exchange", wish);
    raw.expect_any(world, &["job.subscribed", "nack", "session.error"])
}

/// The numbers that ticks of `slow` say, as far as they came.
fn ticks(frames: &[Value]) -> usize {
    let is_tick = |frame: &&Value| frame["type"] == "job.progress" || frame["payload"]["kind"] == "progress";
    frames.iter().filter(is_tick).count()
}

/// What of a token nobody can guess.
fn secret(token: &str) -> String {
    token["jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV_".len()..].to_string()
}

fn is_end(frame: &Value) -> bool {
    matches!(frame["type"].as_str(), Some("job.completed" | "job.result"))
}

#[test]
fn a_session_of_either_family_is_shown_the_rest_of_a_job_for_its_token() {
    for (first, second) in BOTH.into_iter().flat_map(|first| BOTH.map(|second| (first, second))) {
        let mut world = World::seeded(1);
        let mut alice = person(&mut world, first, "tok-a");
        let job = run(&mut world, &mut alice, first, "slow", json!({"ticks": 50}));
        world.run_for(Duration::from_secs(2));
        let issued = issue(&mut world, &mut alice, job);
        let had = alice.take(&world).len();
        assert!(issued["from_event_seq"].as_u64().is_some_and(|after| after > 1), "{issued} {had}");
        world.cut(alice.conn);
        let mut phone = person(&mut world, second, "tok-a");
        let answer = exchange(&mut world, &mut phone, &issued["token"], None);
        let shown = &answer["payload"];
        assert_eq!((&answer["type"], &shown["job_id"]), (&json!("job.subscribed"), &json!(job)), "{answer}");
        let rest = phone.until_end(&mut world);
        assert!(is_end(rest.last().expect("an end")), "{rest:#?}");
        // From the beginning, for who asks for that.
        let mut tablet = person(&mut world, second, "tok-a");
        let all = exchange(&mut world, &mut tablet, &issued["token"], Some(0));
        assert_eq!(all["type"], "job.subscribed");
        let all = tablet.until_end(&mut world);
        assert!(
            ticks(&all) > ticks(&rest) && ticks(&rest) > 0,
            "{first:?} {second:?}: {} {}",
            ticks(&all),
            ticks(&rest)
        );
        world.restores();
        world.finish();
    }
}

#[test]
fn a_token_counts_after_a_crash_and_makes_its_session_one_that_submitted_the_job() {
    for family in BOTH {
        let mut world = World::seeded(2);
        let mut alice = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut alice, family, "waiter", json!({}));
        let token = issue(&mut world, &mut alice, job)["token"].clone();
        world.cut(alice.conn);
        // What is kept of it is its digest.
        let secret = secret(token.as_str().expect("a token"));
        let stored =
            serde_json::to_string(&world.store.records(false).iter().map(|(_, record)| record).collect::<Vec<_>>());
        assert!(!stored.expect("JSON").contains(&secret), "the store has the token itself");
        world.crash();
        world.settle();
        let mut phone = person(&mut world, family, "tok-a");
        // The agent is gone with its runtime: the end is the rest of the job.
        assert_eq!(exchange(&mut world, &mut phone, &token, None)["type"], "job.subscribed");
        let rest = phone.until_end(&mut world);
        assert!(matches!(rest.last().expect("an end")["type"].as_str(), Some("job.failed" | "job.error")), "{rest:#?}");
        // Whoever came by a token may end what goes on.
        let mut alice = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut alice, family, "waiter", json!({}));
        let token = issue(&mut world, &mut alice, job)["token"].clone();
        assert_eq!(exchange(&mut world, &mut phone, &token, None)["type"], "job.subscribed");
        phone.settle(&mut world);
        world.restores();
        match family {
            Family::Open => phone.send(&mut world, "cancel", json!({"target": "job", "target_id": job})),
            Family::Hello => phone.send(&mut world, "job.cancel", json!({"job_id": job, "reason": "r"})),
        };
        let rest = phone.until_end(&mut world);
        assert!(
            matches!(rest.last().expect("an end")["type"].as_str(), Some("job.cancelled" | "job.error")),
            "{rest:#?}"
        );
        world.finish();
    }
}

#[test]
fn a_token_of_somebody_else_a_wrong_one_and_one_of_another_job_look_alike() {
    for family in BOTH {
        let mut world = World::seeded(3);
        let mut alice = person(&mut world, family, "tok-a");
        let (job, other) = (
            run(&mut world, &mut alice, family, "waiter", json!({})),
            run(&mut world, &mut alice, family, "waiter", json!({})),
        );
        let token = issue(&mut world, &mut alice, job)["token"].as_str().expect("a token").to_string();
        let own = issue(&mut world, &mut alice, other)["token"].as_str().expect("a token").to_string();
        let mut mallory = person(&mut world, family, "tok-b");
        let secret = secret(&token);
        let ulid = |job: JobId| job.ulid().to_string();
        let mut wrong = token.clone();
        let last = if wrong.ends_with('A') { 'B' } else { 'A' };
        wrong.replace_range(wrong.len() - 1.., &last.to_string());
        let missing = format!("jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV_{secret}");
        let swapped = format!("jtk_{}_{secret}", ulid(other));
        let mut said = Vec::new();
        for (is_foreign, token) in [(true, &token), (false, &wrong), (false, &missing), (false, &swapped)] {
            let raw = if is_foreign { &mut mallory } else { &mut alice };
            let refusal = exchange(&mut world, raw, &json!(token), None);
            assert!(matches!(code(&refusal), "NOT_FOUND" | "JOB_NOT_FOUND"), "{refusal}");
            said.push(refusal["payload"]["message"].clone());
        }
        said.dedup();
        assert_eq!(said.len(), 1, "{said:?}");
        let malformed = exchange(&mut world, &mut alice, &json!("jtk_x"), None);
        assert!(matches!(code(&malformed), "INVALID_ARGUMENT" | "INVALID_REQUEST"), "{malformed}");
        // Nobody has one issued for a job of somebody else, and what was wrong has cost nothing.
        mallory.send(&mut world, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
        let refusal = mallory.expect_any(&mut world, &["nack", "session.error"]);
        assert!(matches!(code(&refusal), "NOT_FOUND" | "JOB_NOT_FOUND"), "{refusal}");
        for token in [token, own] {
            assert_eq!(exchange(&mut world, &mut alice, &json!(token), None)["type"], "job.subscribed");
        }
        world.finish();
    }
}

#[test]
fn whoever_oversees_a_job_has_no_token_for_it_and_who_is_handed_it_none_of_before() {
    let mut world = World::configured(4, |config| {
        config.operators.insert(arcp_proto::id::Principal::new("b").expect("a name"));
    });
    let mut alice = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut alice, Family::Open, "waiter", json!({}));
    let token = issue(&mut world, &mut alice, job)["token"].clone();
    let mut operator = person(&mut world, Family::Open, "tok-b");
    operator.send(&mut world, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
    assert_eq!(code(&operator.expect(&mut world, "nack")), "PERMISSION_DENIED");
    assert_eq!(code(&exchange(&mut world, &mut operator, &token, None)), "NOT_FOUND");
    // To whom it is handed over it is as if there were none, and back again as well.
    for (to, from) in [("b", &mut alice), ("a", &mut operator)] {
        from.send_with(&mut world, "agent.handoff", json!({"target": {"principal": to}}), json!({"job_id": job}));
        from.expect(&mut world, "ack");
        world.settle();
        world.restores();
    }
    for raw in [&mut alice, &mut operator] {
        assert_eq!(code(&exchange(&mut world, raw, &token, None)), "NOT_FOUND");
    }
    world.crash();
    world.settle();
    let mut alice = person(&mut world, Family::Open, "tok-a");
    assert_eq!(code(&exchange(&mut world, &mut alice, &token, None)), "NOT_FOUND");
    world.finish();
}

#[test]
fn so_many_tokens_of_a_job_count_at_once_and_none_once_it_is_forgotten() {
    let mut world = World::configured(5, |config: &mut Config| config.limits.credential.tokens_per_job = 2);
    let mut alice = person(&mut world, Family::Hello, "tok-a");
    let job = run(&mut world, &mut alice, Family::Hello, "echo", json!({}));
    let held = held_bytes(world.runtime(), HeldFor::Jobs);
    let tokens: Vec<Value> = (0..5).map(|_| issue(&mut world, &mut alice, job)["token"].clone()).collect();
    let grown = held_bytes(world.runtime(), HeldFor::Jobs) - held;
    assert!(grown < 512, "two are held: {grown} bytes");
    world.restores();
    for (at, token) in tokens.iter().enumerate() {
        let answer = exchange(&mut world, &mut alice, token, None);
        assert_eq!(answer["type"] == "job.subscribed", at >= 3, "{at}: {answer}");
    }
    // The same message once more is answered with a token, of which nobody has heard.
    let frame =
        json!({"arcp": "1.1", "id": "again", "type": "x-vendor.arcp.job_token.issue", "payload": {"job_id": job}});
    let again: Vec<Value> = (0..2)
        .map(|_| {
            alice.send_text(&mut world, &frame.to_string());
            alice.expect(&mut world, "x-vendor.arcp.job_token")["payload"]["token"].clone()
        })
        .collect();
    assert_ne!(again[0], again[1]);
    let kept = world.store.records(true);
    let records = kept.iter().filter(|(_, record)| matches!(record, Record::TokensIssued { .. })).count();
    assert_eq!(records, 1, "the latest one counts");
    world.run_for(Duration::from_secs(1300));
    let mut phone = person(&mut world, Family::Hello, "tok-a");
    assert_eq!(code(&exchange(&mut world, &mut phone, &again[1], None)), "JOB_NOT_FOUND");
    world.finish();
}

#[test]
fn whoever_has_not_negotiated_tokens_is_refused() {
    let mut world = World::seeded(6);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    raw.send(&mut world, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "UNIMPLEMENTED");
    world.finish();
}

#[test]
fn our_client_follows_the_rest_of_a_job_for_its_token_over_a_lost_session_too() {
    for family in BOTH {
        let mut world = World::of(family, 7);
        let first = world.add_client("a");
        let config = |token: &str| {
            let credential = Credential::Bearer(Secret::new(token.into()));
            ClientConfig { family, ..ClientConfig::new("other", "1", credential) }
        };
        world.settle();
        world.command(first, |client| {
            let submit = arcp_proto::model::request::Submit::new("slow".parse().expect("an agent"));
            client.session().expect("a session").submit(submit).expect("a handle");
        });
        let ClientEvent::Submitted { accepted, .. } =
            world.until(first, |event| matches!(event, ClientEvent::Submitted { .. }))
        else {
            unreachable!("it was waited for")
        };
        let ask = |session: &mut Session<'_>| job_tokens::issue(session, accepted.job.clone()).expect("a handle");
        world.command(first, |client| ask(&mut client.session().expect("a session")));
        let ClientEvent::Token { issued, .. } = world.until(first, |event| matches!(event, ClientEvent::Token { .. }))
        else {
            unreachable!("it was waited for")
        };
        let text = issued.token.secret().expose().to_string();
        assert!(!format!("{issued:?}").contains(&text), "{issued:?}");
        world.unplug(first, true);
        let second = world.add_client_with(config("tok-a"));
        world.settle();
        let token = JobToken::parse(&text).expect("a token");
        world.command(second, |client| {
            let wish = ExchangeToken { token, after: Some(0) };
            job_tokens::exchange(&mut client.session().expect("a session"), wish).expect("a handle")
        });
        world.until(second, |event| matches!(event, ClientEvent::Watching { .. }));
        let conn = world.conn_of(second).expect("a connection");
        world.cut(conn);
        world.until(second, |event| matches!(event, ClientEvent::JobEnded { job, .. } if *job == accepted.job));
        world.finish();
    }
}
