//! Sessions of the open family, in virtual time.

use std::time::Duration;

use arcp_proto::runtime::{CloseReason, Notice};
use arcp_proto::scope::Scopes;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn opened_as(world: &mut World, auth: Value) -> (Raw, Value) {
    let mut payload = open_payload("");
    payload["auth"] = auth;
    let mut raw = Raw::connect(world);
    raw.send(world, "session.open", payload);
    let answer =
        raw.expect_any(world, &["session.accepted", "session.rejected", "session.challenge", "session.evicted"]);
    (raw, answer)
}

fn with_capabilities(world: &mut World, capabilities: Value) -> (Raw, Value) {
    let mut payload = open_payload("tok-alice");
    payload["capabilities"] = capabilities;
    let mut raw = Raw::connect(world);
    raw.send(world, "session.open", payload);
    let answer = raw.expect_any(world, &["session.accepted", "session.rejected"]);
    (raw, answer)
}

#[test]
fn an_open_session_is_accepted_with_every_member() {
    let mut world = World::seeded(1);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-alice");
    let payload = &accepted["payload"];
    assert_eq!(accepted["correlation_id"], "m1-1");
    assert_eq!(accepted["session_id"], payload["session_id"]);
    assert_eq!(payload["runtime"], json!({"kind": "world", "version": "1.0.0"}));
    assert!(payload["resume_token"].as_str().is_some_and(|token| token.len() > 40));
    assert_eq!(payload["resume_window_sec"], 600);
    assert_eq!(accepted["timestamp"].as_str().map(str::len), Some("2026-01-01T00:00:00.000Z".len()));
    raw.send(&mut world, "session.close", json!({"reason": "done"}));
    let closed = raw.expect(&mut world, "session.closed");
    assert_eq!((&closed["payload"]["reason"], &closed["correlation_id"]), (&json!("done"), &json!("m1-2")));
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Goodbye));
    world.finish();
}

#[test]
fn envelopes_are_read_with_every_member_and_without_most() {
    let mut world = World::seeded(2);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-alice");
    let more = json!({
        "timestamp": "2026-01-01T00:00:00Z", "source": "a", "target": "b", "session_id": accepted["session_id"],
        "trace_id": "any text", "span_id": "s1", "parent_span_id": "p1", "causation_id": "c", "priority": "high",
        "idempotency_key": "k", "extensions": {"arcpx.test.note.v1": {"n": 1.50}}, "unknown": [1],
    });
    raw.send_with(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": 1}), more);
    let frames = raw.until_end(&mut world);
    for frame in &frames {
        assert_eq!(
            (&frame["trace_id"], &frame["span_id"].is_null()),
            (&json!("any text"), &(frame["type"] == "job.accepted"))
        );
    }
    raw.send_text(&mut world, r#"{"id":"bare","type":"ping"}"#);
    assert_eq!(raw.expect(&mut world, "pong")["correlation_id"], "bare");
    world.finish();
}

#[test]
fn a_missing_token_is_asked_for_and_may_be_given_late() {
    for (scheme, answer) in [
        ("bearer", json!({"response": "tok-alice"})),
        ("bearer", json!({"token": "tok-alice", "fingerprint": "f"})),
        ("bearer", json!({"auth": {"scheme": "bearer", "token": "tok-alice"}})),
    ] {
        let mut world = World::seeded(3);
        let (mut raw, challenge) = opened_as(&mut world, json!({"scheme": scheme}));
        assert_eq!(challenge["type"], "session.challenge");
        assert_eq!(challenge["payload"]["challenge"], challenge["payload"]["nonce"]);
        assert_eq!(challenge["payload"]["scheme"], scheme);
        // What is no proof is passed over, and the operator is told once.
        raw.send(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {}}));
        raw.send(&mut world, "log", json!({"level": "info", "message": "x"}));
        assert_eq!(raw.settle(&mut world), Vec::<Value>::new());
        let told = world.notices.iter().filter(|notice| matches!(notice, Notice::Refused { told: false, .. }));
        assert_eq!(told.count(), 1);
        let mut answer = answer;
        answer["nonce"] = challenge["payload"]["nonce"].clone();
        raw.send(&mut world, "session.authenticate", answer);
        raw.expect(&mut world, "session.accepted");
        assert_eq!(world.runtime().stats().unfinished_jobs, 0, "what came early was not done");
        world.finish();
    }
}

#[test]
fn three_wrong_proofs_end_the_connection() {
    let mut world = World::seeded(4);
    let (mut raw, challenge) = opened_as(&mut world, json!({"scheme": "bearer"}));
    for (response, nonce) in [("wrong", challenge["payload"]["nonce"].clone()), ("tok-alice", json!("another"))] {
        raw.send(&mut world, "session.authenticate", json!({"response": response, "nonce": nonce}));
        let refused = raw.expect(&mut world, "session.unauthenticated");
        assert_eq!((code(&refused), refused["payload"]["detail"].is_string()), ("UNAUTHENTICATED", true));
        assert!(!raw.is_closed(&world));
    }
    raw.send(&mut world, "session.authenticate", json!({"response": "wrong"}));
    raw.expect(&mut world, "session.unauthenticated");
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
    world.finish();
}

#[test]
fn a_refused_opening_is_told_flat_and_nested_and_closed() {
    for auth in [
        json!({"scheme": "bearer", "token": "nobody"}),
        json!({"scheme": "oauth2", "token": "x"}),
        json!({"scheme": "bogus", "token": "x"}),
        json!({"scheme": "none"}),
    ] {
        let mut world = World::seeded(5);
        let (raw, rejected) = opened_as(&mut world, auth);
        assert_eq!(rejected["type"], "session.rejected");
        assert_eq!(code(&rejected), "UNAUTHENTICATED");
        assert_eq!(rejected["payload"]["error"]["code"], "UNAUTHENTICATED");
        assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Refused));
        world.finish();
    }
}

#[test]
fn anonymous_open_sessions_have_principals_of_their_own() {
    let mut world = World::configured(6, |config| config.anonymous = true);
    let (mut one, accepted) = opened_as(&mut world, json!({"scheme": "none"}));
    assert_eq!(accepted["payload"]["capabilities"]["anonymous"], true);
    let (mut two, _) = opened_as(&mut world, json!({"scheme": "none"}));
    one.invoke(&mut world, json!({"tool": "waiter", "arguments": {}}));
    two.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(two.expect(&mut world, "session.jobs")["payload"]["jobs"], json!([]));
    world.finish();
}

#[test]
fn capabilities_are_what_both_sides_have() {
    let mut world = World::configured(7, |config| config.extensions = vec!["arcpx.test".into(), "org.example".into()]);
    let offered = json!({
        "result_chunk": true, "streaming": true, "artifacts": true, "cost_budget": true, "future_thing": {"a": 1},
        "heartbeat_recovery": "block", "extensions": ["arcpx.test", "arcpx.other"], "agents": ["x"],
        "binary_streams": true, "binary_encoding": ["base64", "sidecar"],
    });
    let (_, accepted) = with_capabilities(&mut world, offered);
    let capabilities = &accepted["payload"]["capabilities"];
    assert_eq!(capabilities["result_chunk"], true);
    assert_eq!(capabilities["heartbeat_recovery"], "block");
    assert_eq!(capabilities["extensions"], json!(["arcpx.test"]));
    assert_eq!(capabilities["cost_budget"], true);
    // Every agent may say something in streams, of bytes too.
    assert_eq!((&capabilities["streaming"], &capabilities["binary_streams"]), (&json!(true), &json!(true)));
    assert_eq!(capabilities["binary_encoding"], json!(["base64", "sidecar"]));
    for absent in ["artifacts", "artifact_retention", "future_thing", "anonymous", "heartbeat_interval_seconds"] {
        assert!(capabilities[absent].is_null(), "{absent} is advertised");
    }
    let (_, accepted) = with_capabilities(&mut world, json!({}));
    assert!(accepted["payload"]["capabilities"]["result_chunk"].is_null());
    assert_eq!(accepted["payload"]["capabilities"]["heartbeat_recovery"], "fail");
    assert_eq!(accepted["payload"]["capabilities"]["binary_encoding"], json!(["base64"]));
    assert_eq!(accepted["payload"]["capabilities"]["streaming"], Value::Null);
    // Lines have no bytes beside them.
    let mut raw = Raw::on(world.open_vouched("alice"));
    raw.send(
        &mut world,
        "session.open",
        json!({"auth": {"scheme": "bearer", "token": "tok-alice"},
        "client": {"kind": "k", "version": "1"}, "capabilities": {"binary_encoding": ["base64", "sidecar"]}}),
    );
    let accepted = raw.expect(&mut world, "session.accepted");
    assert_eq!(accepted["payload"]["capabilities"]["binary_encoding"], json!(["base64"]));
    world.finish();
}

#[test]
fn whoever_requires_jobs_that_outlive_the_runtime_is_refused_where_none_does() {
    for (history, opened) in [(true, "session.accepted"), (false, "session.rejected")] {
        let mut world = World::configured(8, |config| config.history = history);
        let (_, answer) = with_capabilities(&mut world, json!({"durable_jobs": true, "required": ["durable_jobs"]}));
        assert_eq!(answer["type"], opened, "history: {history}");
        world.finish();
    }
}

#[test]
fn what_is_required_and_not_there_is_refused() {
    for (required, accepted) in [
        (json!(["result_chunk"]), true),
        (json!(["streaming", "binary_streams", "binary_encoding"]), true),
        (json!(["artifacts"]), false),
        (json!(["cost_budget"]), true),
        (json!(["x"]), false),
    ] {
        let mut world = World::seeded(8);
        let (raw, answer) = with_capabilities(&mut world, json!({"result_chunk": true, "required": required}));
        assert_eq!(answer["type"] == "session.accepted", accepted, "{required}");
        if !accepted {
            assert_eq!(code(&answer), "UNIMPLEMENTED");
            assert!(raw.is_closed(&world));
        }
        world.finish();
    }
}

#[test]
fn a_second_opening_is_refused_and_a_foreign_session_too() {
    let mut world = World::seeded(9);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    raw.send(&mut world, "session.open", open_payload("tok-bob"));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    raw.send_with(&mut world, "ping", json!({}), json!({"session_id": "sess_other"}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    raw.send(&mut world, "ping", json!({"nonce": "n"}));
    assert_eq!(raw.expect(&mut world, "pong")["payload"], json!({"nonce": "n"}));
    world.finish();
}

#[test]
fn a_stray_first_frame_is_refused_in_its_own_words() {
    let mut world = World::seeded(10);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "tool.invoke", json!({"tool": "echo"}));
    let rejected = raw.expect(&mut world, "session.rejected");
    assert_eq!(code(&rejected), "INVALID_ARGUMENT");
    assert!(raw.is_closed(&world));
    world.finish();
}

#[test]
fn what_cannot_be_read_is_answered_and_the_session_survives() {
    let mut world = World::seeded(11);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    for (text, correlation) in [
        ("{bad", Value::Null),
        ("[]", Value::Null),
        (r#"{"id":"m","type":"tool.invoke","payload":{}}"#, json!("m")),
        (r#"{"id":"p","type":"tool.invoke","priority":"urgent","payload":{"tool":"echo"}}"#, json!("p")),
        (r#"{"id":"t","type":"cancel","payload":{"target":"moon","target_id":"job_1"}}"#, json!("t")),
        (r#"{"id":"d","type":"cancel","payload":{"target_id":"job_1","deadline_ms":600001}}"#, json!("d")),
        (r#"{"id":"v","arcp":"9.9","type":"ping","payload":{}}"#, json!("v")),
    ] {
        raw.send_text(&mut world, text);
        let nack = raw.expect(&mut world, "nack");
        assert_eq!((code(&nack), &nack["correlation_id"]), ("INVALID_ARGUMENT", &correlation), "{text}");
        assert_eq!(nack["payload"]["error"]["code"], "INVALID_ARGUMENT");
    }
    for kind in ["ping", "session.ping"] {
        raw.send(&mut world, kind, json!({"nonce": "n".repeat(257)}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), "INVALID_ARGUMENT", "{kind}");
    }
    raw.send(&mut world, "ping", json!({}));
    raw.expect(&mut world, "pong");
    world.finish();
}

#[test]
fn types_nobody_serves_are_told_from_extensions() {
    let mut world = World::configured(12, |config| config.extensions = vec!["arcpx.test".into()]);
    let (mut raw, _) = with_capabilities(&mut world, json!({"extensions": ["arcpx.test", "com.example.thing"]}));
    let optional = json!({"extensions": {"optional": true}});
    // Types of the protocol are not passed over, wished or not.
    for kind in ["workflow.start", "nonsense", "job.submit"] {
        raw.send_with(&mut world, kind, json!({}), optional.clone());
        assert_eq!(code(&raw.expect(&mut world, "nack")), "UNIMPLEMENTED", "{kind}");
    }
    for kind in ["arcpx.other.v1", "x-vendor.acme.thing", "com.example.thing", "arcpx.testing.v1"] {
        raw.send(&mut world, kind, json!({}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), "UNIMPLEMENTED", "{kind}");
        raw.send_with(&mut world, kind, json!({}), optional.clone());
        assert_eq!(raw.settle(&mut world), Vec::<Value>::new(), "{kind}");
    }
    raw.send(&mut world, "arcpx.test.note.v1", json!({"kept": 1.50, "x": null}));
    assert_eq!(raw.settle(&mut world), Vec::<Value>::new());
    assert_eq!(world.extensions.len(), 1);
    assert_eq!(world.extensions[0].payload.as_str(), r#"{"kept":1.5,"x":null}"#);
    world.finish();
}

#[test]
fn a_session_is_claimed_on_a_fresh_one() {
    let mut world = World::seeded(13);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-alice");
    raw.send(&mut world, "tool.invoke", json!({"tool": "kinds", "arguments": {}}));
    let first = raw.until_end(&mut world);
    world.cut(raw.conn);
    let mut again = Raw::reclaim(&mut world, "tok-alice", &accepted, 4);
    let resumed = again.expect(&mut world, "session.resumed");
    assert_eq!(resumed["payload"]["session_id"], accepted["payload"]["session_id"]);
    assert_ne!(resumed["payload"]["resume_token"], accepted["payload"]["resume_token"]);
    assert_eq!((&resumed["payload"]["replayed_from"], &resumed["payload"]["replayed"]), (&json!(4), &json!(true)));
    let replayed = again.until_end(&mut world);
    assert_eq!(replayed, first[4..], "the same frames again");
    assert_eq!(world.runtime().stats().sessions, 1, "the fresh session is gone");
    let next = again.invoke(&mut world, json!({"tool": "echo", "arguments": {}}));
    assert_eq!(next["event_seq"], first.len() as u64 + 1);
    world.finish();
}

#[test]
fn a_claim_needs_the_right_principal_family_and_an_unused_session() {
    let mut world = World::seeded(14);
    let (raw, accepted) = Raw::open(&mut world, "tok-alice");
    world.cut(raw.conn);
    // Somebody else's credential with the token.
    let mut thief = Raw::reclaim(&mut world, "tok-bob", &accepted, 0);
    assert_eq!(code(&thief.expect(&mut world, "nack")), "UNAUTHENTICATED");
    assert!(thief.is_closed(&world));
    // The other family.
    let mut hello = Raw::resume(&mut world, "tok-alice", &accepted, 0);
    assert_eq!(code(&hello.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    // A session that has been used.
    let (mut used, _) = Raw::open(&mut world, "tok-alice");
    used.invoke(&mut world, json!({"tool": "echo", "arguments": {}}));
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 0});
    used.send(&mut world, "session.resume", claim);
    assert_eq!(code(&used.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    assert!(!used.is_closed(&world));
    // One that was asked something, whatever came of it.
    let (mut asked, _) = Raw::open(&mut world, "tok-alice");
    let nothing = json!({"target": "job", "target_id": "job_01KDVDNA09Z9GEBBX0JS6RDFE6"});
    asked.send(&mut world, "cancel", nothing);
    asked.expect(&mut world, "cancel.refused");
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 0});
    asked.send(&mut world, "session.resume", claim);
    assert_eq!(code(&asked.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    // Nothing of that used the claim up.
    let mut owner = Raw::reclaim(&mut world, "tok-alice", &accepted, 0);
    owner.expect(&mut world, "session.resumed");
    // What was never sent cannot have been seen.
    let mut ahead = Raw::reclaim(&mut world, "tok-alice", &accepted, 99);
    assert_eq!(code(&ahead.expect(&mut world, "nack")), "UNAUTHENTICATED");
    world.finish();
}

#[test]
fn a_session_of_an_earlier_run_with_events_is_not_given_up_for_another_one() {
    let mut world = World::seeded(14);
    let (mut first, accepted) = Raw::open(&mut world, "tok-alice");
    first.invoke(&mut world, json!({"tool": "echo", "arguments": {}}));
    first.until_end(&mut world);
    let (_, other) = Raw::open(&mut world, "tok-alice");
    world.crash();
    let mut first = Raw::reclaim(&mut world, "tok-alice", &accepted, 0);
    let resumed = first.expect(&mut world, "session.resumed");
    first.until_end(&mut world);
    let claim = json!({"resume_token": other["payload"]["resume_token"], "last_event_seq": 0});
    first.send(&mut world, "session.resume", claim);
    assert_eq!(code(&first.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    world.cut(first.conn);
    Raw::reclaim(&mut world, "tok-alice", &resumed, 0).expect(&mut world, "session.resumed");
    world.finish();
}

#[test]
fn silence_ends_only_a_session_that_asked_for_heartbeats_or_pings_itself() {
    let lives = |capabilities: Value, pings: bool| {
        let mut world = World::seeded(15);
        let (mut raw, _) = with_capabilities(&mut world, capabilities);
        if pings {
            raw.send(&mut world, "session.ping", json!({"nonce": "a"}));
            assert_eq!(raw.expect(&mut world, "session.pong")["payload"]["ping_nonce"], "a");
        }
        world.run_for(Duration::from_secs(65));
        let frames = raw.take(&world);
        let asked = frames.iter().any(|frame| frame["type"] == "session.ping");
        let closed = raw.is_closed(&world);
        if closed {
            let evicted = frames.iter().find(|frame| frame["type"] == "session.evicted").expect("told why");
            assert_eq!(code(evicted), "HEARTBEAT_LOST");
        }
        world.finish();
        (asked, closed)
    };
    assert_eq!(lives(json!({}), false), (false, false));
    // That is how often a job is to give a sign of life.
    assert_eq!(lives(json!({"heartbeat_interval_seconds": 30}), false), (false, false));
    let ours = json!({"heartbeat_interval_seconds": 30, "extensions": ["arcpx.arcp.types.v1"]});
    assert_eq!(lives(ours, false), (true, true));
    assert_eq!(lives(json!({}), true), (false, true));
}

#[test]
fn a_session_lease_is_refreshed_by_proof_or_ends() {
    let mut world = World::configured(16, |config| config.timing.session_lease = Some(Duration::from_secs(100)));
    let (mut raw, accepted) = Raw::open_with(&mut world, json!({"auth": {"scheme": "bearer", "token": "tok-alice"}}));
    let expires_at = accepted["payload"]["lease"]["expires_at"].as_str().expect("a time");
    assert!(expires_at.starts_with("2026-01-01T00:01:40."), "{expires_at}");
    let refresh = raw.expect(&mut world, "session.refresh");
    assert_eq!(refresh["payload"]["deadline_ms"], 25_000);
    assert_eq!(refresh["payload"]["deadline"], accepted["payload"]["lease"]["expires_at"]);
    // Another principal's proof is none.
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-bob"}));
    raw.expect(&mut world, "session.unauthenticated");
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-alice"}));
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-alice"}));
    let answers = [raw.expect_any(&mut world, &["ack", "nack"]), raw.expect_any(&mut world, &["ack", "nack"])];
    let refused = answers.iter().filter(|answer| answer["type"] == "nack").count();
    assert_eq!(refused, 1, "one proof is judged at a time: {answers:?}");
    // Refreshed: the old end passes, the next refresh comes.
    raw.expect(&mut world, "session.refresh");
    // To come back is a proof too.
    let accepted = json!({"payload": {"resume_token": accepted["payload"]["resume_token"]}});
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.open", json!({"auth": {"scheme": "bearer", "token": "tok-alice"}}));
    raw.expect(&mut world, "session.accepted");
    let claim = json!({"resume_token": accepted["payload"]["resume_token"], "last_event_seq": 0});
    raw.send(&mut world, "session.resume", claim);
    raw.expect(&mut world, "session.resumed");
    let back = world.now().mono;
    let evicted = raw.expect(&mut world, "session.evicted");
    assert!((99..=100).contains(&world.now().mono.since(back).as_secs()));
    assert_eq!(code(&evicted), "LEASE_EXPIRED");
    assert!(evicted["payload"]["reason"].is_string());
    assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Evicted));
    assert_eq!(world.runtime().stats().sessions, 0, "it cannot come back");
    // Nobody asks a hello session.
    let (hello, _) = Raw::hello(&mut world, "tok-alice");
    world.run_for(Duration::from_secs(20));
    assert!(!hello.is_closed(&world));
    world.finish();
}

#[test]
fn a_credential_that_expires_ends_its_session_in_both_families() {
    let mut world = World::seeded(21);
    let until = world.now().utc.plus(Duration::from_secs(40));
    world.credentials_until.insert("tok-alice".into(), until);
    let (mut raw, accepted) = Raw::open(&mut world, "tok-alice");
    let (mut hello, _) = Raw::hello(&mut world, "tok-alice");
    assert_eq!(accepted["payload"]["lease"]["expires_at"], until.to_string());
    // Whoever can prove itself again is asked to.
    assert_eq!(raw.expect(&mut world, "session.refresh")["payload"]["deadline"], until.to_string());
    let (evicted, error) = (raw.expect(&mut world, "session.evicted"), hello.expect(&mut world, "session.error"));
    assert_eq!((code(&evicted), code(&error)), ("LEASE_EXPIRED", "LEASE_EXPIRED"));
    assert!((until.0..until.0 + 200).contains(&world.now().utc.0), "{}", world.now().utc);
    assert_eq!(world.runtime().stats().sessions, 0, "nothing brings them back");
    world.finish();
}

#[test]
fn a_session_goes_on_with_the_credential_that_it_is_renewed_by() {
    let mut world = World::seeded(22);
    let until = world.now().utc.plus(Duration::from_secs(40));
    world.credentials_until.insert("tok-alice".into(), until);
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    let (hello, welcome) = Raw::hello(&mut world, "tok-alice");
    // The credential is prolonged: it is renewed by a proof, or by coming back.
    world.credentials_until.clear();
    raw.expect(&mut world, "session.refresh");
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-alice"}));
    raw.expect(&mut world, "ack");
    world.cut(hello.conn);
    let mut back = Raw::resume(&mut world, "tok-alice", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(20));
    assert!(world.now().utc > until);
    assert_eq!((raw.is_closed(&world), back.is_closed(&world)), (false, false));
    world.finish();
}

#[test]
fn a_credential_that_is_over_vouches_for_nobody() {
    let mut world = World::seeded(23);
    world.credentials_until.insert("tok-alice".into(), world.now().utc);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", hello_payload("tok-alice"));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert_eq!(world.runtime().stats().sessions, 0);
    world.finish();
}

#[test]
fn a_credential_that_is_bound_counts_on_its_own_channel_only() {
    let mut world = World::seeded(24);
    world.credentials.insert("tok-alice".into(), (Scopes::default(), Some("sha256:a".into())));
    for (binding, admitted) in [(None, false), (Some("sha256:b"), false), (Some("sha256:a"), true)] {
        world.binding = binding.map(str::to_string);
        let mut raw = Raw::connect(&mut world);
        raw.send(&mut world, "session.hello", hello_payload("tok-alice"));
        let answer = raw.expect_any(&mut world, &["session.welcome", "session.error"]);
        assert_eq!(answer["type"] == "session.welcome", admitted, "{binding:?}: {answer}");
    }
    // A proof that comes later is bound as well.
    let (mut raw, _) = Raw::open(&mut world, "tok-alice");
    world.credentials.insert("tok-alice".into(), (Scopes::default(), Some("sha256:b".into())));
    raw.send(&mut world, "session.authenticate", json!({"response": "tok-alice"}));
    assert_eq!(code(&raw.expect(&mut world, "session.unauthenticated")), "UNAUTHENTICATED");
    world.finish();
}

#[test]
fn the_scopes_that_a_session_was_opened_with_outlive_the_process() {
    let mut world = World::seeded(25);
    let scopes: Scopes = ["job.submit", "job.cancel"].into_iter().collect();
    world.credentials.insert("tok-alice".into(), (scopes, None));
    let (_, welcome) = Raw::hello(&mut world, "tok-alice");
    world.settle();
    let granted = |world: &World| format!("{:?}", world.runtime().digest()).contains("job.cancel");
    assert!(granted(&world));
    // A restart must come to the same; nor does whoever comes back change it.
    world.crash();
    world.settle();
    assert!(granted(&world));
    world.credentials.clear();
    let mut back = Raw::resume(&mut world, "tok-alice", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    assert!(granted(&world));
    world.finish();
}

#[test]
fn message_ids_of_a_principal_of_whom_nothing_is_left_are_forgotten() {
    let mut world = World::configured(18, |config| config.timing.resume_window = Duration::from_secs(60));
    for tool in ["echo", "chatty"] {
        let (mut raw, _) = Raw::open(&mut world, "tok-alice");
        let invoke = json!({"id": "msg_once", "type": "tool.invoke", "payload": {"tool": tool, "arguments": {}}});
        raw.send_text(&mut world, &invoke.to_string());
        raw.until_end(&mut world);
        world.cut(raw.conn);
        world.run_for(Duration::from_secs(300));
        assert_eq!((world.runtime().stats().sessions, world.runtime().stats().jobs), (0, 0));
    }
    world.finish();
}

#[test]
fn a_message_id_of_a_principal_is_executed_once_on_any_connection() {
    let mut world = World::seeded(17);
    let (mut one, _) = Raw::open(&mut world, "tok-alice");
    let (mut two, _) = Raw::open(&mut world, "tok-alice");
    let (mut bob, _) = Raw::open(&mut world, "tok-bob");
    let invoke = r#"{"id":"msg_once","type":"tool.invoke","payload":{"tool":"echo","arguments":{"n":1}}}"#;
    one.send_text(&mut world, invoke);
    let first = one.until_end(&mut world);
    two.send_text(&mut world, invoke);
    let second = two.until_end(&mut world);
    assert_eq!(first[0]["job_id"], second[0]["job_id"]);
    assert_eq!(second.last().map(|end| &end["payload"]["value"]), Some(&json!({"n": 1})));
    assert_eq!(second[0]["event_seq"], 1, "numbered in its own session");
    bob.send_text(&mut world, invoke);
    assert_ne!(bob.until_end(&mut world)[0]["job_id"], first[0]["job_id"]);
    one.send_text(&mut world, &invoke.replace("echo", "slow"));
    assert_eq!(code(&one.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    world.finish();
}
