//! Jobs that are handed over to another runtime.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::JobId;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::handoff::Receiver;
use arcp_proto::runtime::{AuditAct, Config, Record, Wait};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::{Says, World};
use serde_json::{Value, json};

const FINGERPRINT: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

/// A world whose operator has named two others, and in which one job runs at a time.
fn world(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.principal_share = 100;
        let east = Receiver { url: "wss://east.test/arcp".into(), fingerprint: Some(FINGERPRINT.into()) };
        let west = Receiver { url: "wss://west.test/arcp".into(), fingerprint: None };
        config.authority.handoff.receivers = [("east".to_string(), east), ("west".to_string(), west)].into();
        change(config);
    })
}

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["agent_handoff"] = json!(true);
    payload["capabilities"]["subscriptions"] = json!(true);
    Raw::open_with(world, payload).0
}

fn hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend(["x-vendor.arcp.agent_handoff", "x-vendor.arcp.cancel_anywhere"].map(Value::from));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

fn id(job: &Value) -> JobId {
    job.as_str().and_then(JobId::parse).expect("the id of a job")
}

/// A job that runs for long, and one that waits behind it.
fn running_and_waiting(world: &mut World, raw: &mut Raw, waiting: Value) -> (Value, Value) {
    let first = raw.invoke(world, json!({"tool": "waiter"}))["job_id"].clone();
    let second = raw.invoke(world, waiting)["job_id"].clone();
    world.settle();
    raw.take(world);
    (first, second)
}

fn hand_over(world: &mut World, raw: &mut Raw, job: &Value, target: Value) {
    raw.send_with(world, "agent.handoff", json!({"target": target}), json!({"job_id": job}));
}

/// What is answered to a handoff.
fn asked(world: &mut World, raw: &mut Raw, job: &Value, target: Value) -> Value {
    hand_over(world, raw, job, target);
    raw.expect_any(world, &["ack", "nack", "session.error", "session.ack"])
}

fn east() -> Value {
    json!({"runtime": "east"})
}

/// The statuses that frames show with this phase.
fn phases<'a>(frames: &'a [Value], phase: &str) -> Vec<&'a Value> {
    let said = |frame: &&Value| frame["payload"]["phase"] == phase || frame["payload"]["body"]["phase"] == phase;
    frames.iter().filter(said).collect()
}

fn ended(frames: &[Value], kind: &str) -> Value {
    let mut ends = frames.iter().filter(|frame| frame["type"] == kind);
    ends.next().unwrap_or_else(|| panic!("no {kind} in {frames:?}"))["payload"].clone()
}

#[test]
fn a_job_that_waits_goes_to_another_runtime_and_says_where_it_is() {
    let mut world = world(1, |_| {});
    let mut alice = open(&mut world, "tok-alice");
    let lease = json!({"tool.call": ["search.*"], "cost.budget": ["USD:5.00"]});
    let (_, job) = running_and_waiting(
        &mut world,
        &mut alice,
        json!({"tool": "echo@2.0.0", "arguments": {"n": 7}, "lease_request": lease, "max_runtime_sec": 60,
            "lease_constraints": {"expires_at": "2026-02-01T00:00:00Z"}}),
    );
    hand_over(&mut world, &mut alice, &job, east());
    world.settle();
    let said = alice.take(&world);
    assert_eq!(said.iter().filter(|frame| frame["type"] == "ack").count(), 1, "{said:?}");
    assert_eq!(phases(&said, "handing_over").len(), 1, "{said:?}");
    let end = ended(&said, "job.cancelled");
    let there = json!({"runtime": "east", "url": "wss://east.test/arcp", "job_id": "job_there0"});
    assert_eq!(end["details"]["handed_over"], there, "{end}");
    let message = end["message"].as_str().expect("text");
    assert!(message.contains("`east`") && message.contains("job_there0"), "{message}");
    // What it is asked is what the job is, and nothing else.
    assert_eq!(world.receiver.orders.len(), 1);
    let order = world.receiver.orders[0].clone();
    assert_eq!((order.job, order.to.as_str()), (id(&job), "east"));
    assert_eq!(order.receiver.fingerprint.as_deref(), Some(FINGERPRINT));
    let submit = order.submit();
    assert_eq!(submit.agent.to_string(), "echo@2.0.0");
    assert_eq!(submit.input.as_ref().map(|input| input.as_str()), Some(r#"{"n":7}"#));
    assert_eq!(submit.max_runtime.map(u32::from), Some(60));
    let granted: Value = serde_json::from_str(submit.lease_request.expect("a lease").as_str()).expect("JSON");
    assert_eq!(granted, json!({"tool.call": ["search.*"], "cost.budget": ["USD:5"]}));
    let bounds: Value = serde_json::from_str(submit.lease_constraints.expect("bounds").as_str()).expect("JSON");
    assert_eq!(bounds["expires_at"], "2026-02-01T00:00:00.000Z");
    assert!(submit.key.expect("a key").as_str().contains(job.as_str().expect("text")));
    assert!(submit.trace.is_some());
    // The right to cancel it has gone with it.
    alice.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
    let refused = alice.expect(&mut world, "cancel.refused");
    assert_eq!(code(&refused), "FAILED_PRECONDITION");
    assert_eq!(refused["payload"]["details"]["handed_over"], there, "{refused}");
    assert!(refused.to_string().contains("cancel job_there0 there"), "{refused}");
    // Asked for again it is done; what it is done with it is not.
    assert_eq!(asked(&mut world, &mut alice, &job, east())["type"], "ack");
    assert_eq!(code(&asked(&mut world, &mut alice, &job, json!({"runtime": "west"}))), "FAILED_PRECONDITION");
    let records = world.store.records(false).into_iter();
    let audited: Vec<_> = records
        .filter_map(|(_, record)| if let Record::Audited(entry) = record { Some(entry) } else { None })
        .filter(|entry| entry.act == AuditAct::HandOver && entry.refused.is_none())
        .collect();
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert_eq!((audited[0].job, audited[0].runtime.as_deref()), (Some(id(&job)), Some("east")));
    world.restores();
    // A restart knows where it is.
    world.crash_with(world.given().count(), true);
    world.settle();
    let mut alice = hello(&mut world, "tok-alice");
    alice.send(&mut world, "job.cancel", json!({"job_id": job}));
    let refused = alice.expect_any(&mut world, &["session.error", "job.error"]);
    assert_eq!(refused["payload"]["details"]["handed_over"], there, "{refused}");
    assert_eq!(world.receiver.orders.len(), 1);
    world.counts();
    world.finish();
}

#[test]
fn in_hello_a_job_goes_to_another_runtime_too() {
    let mut world = world(2, |_| {});
    let mut alice = hello(&mut world, "tok-alice");
    let first = alice.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let job = alice.submit(&mut world, json!({"agent": "echo", "input": "x"}))["job_id"].clone();
    world.settle();
    alice.take(&world);
    hand_over(&mut world, &mut alice, &job, json!({"runtime": "wss://east.test/arcp", "fingerprint": FINGERPRINT}));
    world.settle();
    let said = alice.take(&world);
    assert_eq!(phases(&said, "handing_over").len(), 1, "{said:?}");
    let end = ended(&said, "job.error");
    assert_eq!((&end["final_status"], &end["code"]), (&json!("cancelled"), &json!("CANCELLED")));
    assert_eq!(end["details"]["handed_over"]["job_id"], "job_there0", "{end}");
    alice.send(&mut world, "job.cancel", json!({"job_id": first}));
    world.run_for(Duration::from_secs(6));
    world.finish();
}

#[test]
fn what_another_runtime_does_not_take_stays_with_its_owner_who_is_told_why() {
    for (seed, says, expected) in [
        (3, Says::Refuses(ErrorCode::AgentNotAvailable), "AGENT_NOT_AVAILABLE"),
        (4, Says::Refuses(ErrorCode::ResourceExhausted), "RESOURCE_EXHAUSTED"),
        (5, Says::IsAway(ErrorCode::Unavailable), "UNAVAILABLE"),
        (6, Says::IsAway(ErrorCode::Unauthenticated), "UNAUTHENTICATED"),
    ] {
        let mut world = world(seed, |_| {});
        let mut alice = open(&mut world, "tok-alice");
        let (first, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
        world.receiver.says = says.clone();
        hand_over(&mut world, &mut alice, &job, east());
        world.settle();
        let said = alice.take(&world);
        let failed = phases(&said, "handoff_failed");
        assert_eq!(failed.len(), 1, "{says:?}: {said:?}");
        assert!(failed[0].to_string().contains(&format!("\"code\":\"{expected}\"")), "{failed:?}");
        world.restores();
        // It waits in line again, and comes to its end here.
        assert_eq!(world.waits().get(&id(&job)), Some(&Wait::Slot));
        alice.send(&mut world, "cancel", json!({"target": "job", "target_id": first}));
        world.run_for(Duration::from_secs(6));
        let said = alice.take(&world);
        let end = said.iter().find(|frame| frame["type"] == "job.completed");
        assert!(end.is_some_and(|end| end["job_id"] == job), "{said:?}");
        assert!(world.receiver.has.is_empty());
        world.counts();
        world.finish();
    }
}

#[test]
fn a_receiver_that_does_not_answer_is_asked_again_until_it_does() {
    for (seed, says) in [(7, Says::TakesInSilence), (8, Says::TakesAndHangs), (9, Says::IsLost)] {
        let mut world = world(seed, |_| {});
        let mut alice = open(&mut world, "tok-alice");
        let (first, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
        world.receiver.says = says.clone();
        hand_over(&mut world, &mut alice, &job, east());
        world.run_for(Duration::from_secs(31));
        let said = alice.take(&world);
        assert_eq!(phases(&said, "handoff_in_doubt").len(), 1, "{says:?}: {said:?}");
        // A slot is free, and it is not started here: perhaps it runs there.
        alice.send(&mut world, "cancel", json!({"target": "job", "target_id": first}));
        world.receiver.says = Says::IsAway(ErrorCode::Unavailable);
        world.run_for(Duration::from_secs(120));
        assert_eq!(world.waits().get(&id(&job)), Some(&Wait::Departure), "{says:?}");
        world.restores();
        world.receiver.says = Says::Takes;
        world.run_for(Duration::from_secs(120));
        let end = ended(&alice.take(&world), "job.cancelled");
        assert_eq!(end["reason"], "cancelled", "the other one's: {end}");
        assert!(world.receiver.has(id(&job)) && world.receiver.has.len() == 1);
        assert!(world.waits().is_empty());
        world.counts();
        world.finish();
    }
}

#[test]
fn wherever_a_runtime_ends_a_job_goes_once_or_stays() {
    let mut seen = [0; 2];
    for (n, says) in (0..24).flat_map(|n| [(n, Says::Takes), (n, Says::TakesInSilence), (n, Says::IsLost)]) {
        for kept in [false, true] {
            let mut world = world(100 + n, |config| {
                config.restartable_agents.insert("waiter".into());
            });
            let mut alice = open(&mut world, "tok-alice");
            let (first, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
            world.receiver.says = says.clone();
            hand_over(&mut world, &mut alice, &job, east());
            for _ in 0..n {
                world.step();
            }
            let kept = if kept { world.given().count() } else { 0 };
            // Whoever perhaps has it cannot be asked for a while: that is no reason to run it here.
            world.receiver.says = Says::IsAway(ErrorCode::Unavailable);
            world.crash_with(kept, n % 2 == 0);
            world.settle();
            world.restores();
            world.run_for(Duration::from_secs(10));
            world.receiver.says = Says::Takes;
            let mut alice = open(&mut world, "tok-alice");
            alice.send(&mut world, "cancel", json!({"target": "job", "target_id": first}));
            world.run_for(Duration::from_secs(130));
            assert!(world.waits().is_empty(), "{n} {says:?}: {:?}", world.waits());
            let (here, there) =
                (world.started.iter().any(|spec| spec.agent.name() == "echo"), world.receiver.has(id(&job)));
            assert!(here != there, "{n} {says:?}: it runs here: {here}, and there: {there}");
            seen[usize::from(there)] += 1;
            world.counts();
            world.finish();
        }
    }
    assert!(seen.iter().all(|times| *times > 5), "it stays and goes: {seen:?}");
}

#[test]
fn who_cancels_a_job_that_perhaps_is_elsewhere_is_told_where_or_that_nobody_knows() {
    for (seed, answer, reason) in [
        (10, Some(Says::Takes), "handed over to the runtime `east`"),
        (11, Some(Says::Refuses(ErrorCode::AgentNotAvailable)), "enough"),
        (12, None, "arcp-handoff:"),
    ] {
        let mut world = world(seed, |_| {});
        let mut alice = open(&mut world, "tok-alice");
        let (_, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
        world.receiver.says = Says::IsLost;
        hand_over(&mut world, &mut alice, &job, east());
        world.settle();
        alice.take(&world);
        alice.send(&mut world, "cancel", json!({"target": "job", "target_id": job, "reason": "enough"}));
        world.settle();
        let said = alice.take(&world);
        assert!(said.iter().any(|frame| frame["type"] == "cancel.accepted"), "{said:?}");
        assert!(!said.iter().any(|frame| frame["type"] == "job.cancelled"), "nobody knows yet: {said:?}");
        world.restores();
        world.receiver.says = answer.clone().unwrap_or(Says::IsLost);
        world.run_for(Duration::from_secs(6));
        let end = ended(&alice.take(&world), "job.cancelled");
        assert!(end.to_string().contains(reason), "{end}");
        assert_eq!(end["code"], if answer.is_none() { "ABORTED" } else { "CANCELLED" });
        world.restores();
        world.counts();
        world.finish();
    }
}

#[test]
fn a_job_is_cancelled_at_once_that_nobody_was_asked_to_take() {
    let mut world = world(13, |_| {});
    let mut alice = open(&mut world, "tok-alice");
    let (_, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
    hand_over(&mut world, &mut alice, &job, east());
    alice.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
    world.settle();
    // Both come in one input each, and before the first is durable.
    if world.receiver.orders.is_empty() {
        assert_eq!(ended(&alice.take(&world), "job.cancelled")["reason"], "cancelled");
    }
    world.restores();
    world.finish();
}

#[test]
fn a_job_of_which_nobody_ever_knows_ends_and_its_owner_is_told_by_which_key_to_look() {
    for restarts in [false, true] {
        let mut world = world(14, |config| {
            config.authority.handoff.patience = Duration::from_secs(600);
            config.restartable_agents.insert("waiter".into());
        });
        let mut alice = open(&mut world, "tok-alice");
        let (_, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
        world.receiver.says = Says::IsLost;
        hand_over(&mut world, &mut alice, &job, east());
        world.run_for(Duration::from_secs(300));
        if restarts {
            // Whoever was to have it is not named any more: nobody is asked, and nothing is forgotten.
            world.configure(|config| config.authority.handoff.receivers.clear());
            world.crash_with(world.given().count(), true);
            world.settle();
            alice = open(&mut world, "tok-alice");
            alice.send(&mut world, "job.subscribe", json!({"job_id": job}));
        }
        world.run_for(Duration::from_secs(290));
        assert_eq!(world.waits().get(&id(&job)), Some(&Wait::Departure));
        alice.take(&world);
        world.run_for(Duration::from_secs(20));
        let end = ended(&alice.take(&world), "job.failed");
        assert_eq!(end["code"], "UNAVAILABLE", "{end}");
        assert_eq!(end["details"]["in_doubt"]["runtime"], "east", "{end}");
        let key = end["details"]["in_doubt"]["idempotency_key"].as_str().expect("a key");
        assert!(key.contains(job.as_str().expect("text")), "{end}");
        assert!(world.receiver.orders.len() < 40, "asked {} times", world.receiver.orders.len());
        world.restores();
        world.counts();
        world.finish();
    }
}

#[test]
fn a_job_that_one_runtime_perhaps_has_goes_to_no_other_of_the_same_name() {
    let mut world = world(19, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let mut alice = open(&mut world, "tok-alice");
    let (_, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo", "arguments": 1}));
    world.receiver.says = Says::TakesInSilence;
    hand_over(&mut world, &mut alice, &job, east());
    world.settle();
    let before = world.receiver.orders.len();
    let east = Receiver { url: "wss://elsewhere.test/arcp".into(), fingerprint: None };
    world.configure(|config| drop(config.authority.handoff.receivers.insert("east".into(), east)));
    world.crash_with(world.given().count(), true);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.receiver.orders.len(), before, "another runtime is asked for what the first one has");
    assert_eq!(world.waits().get(&id(&job)), Some(&Wait::Departure));
    world.restores();
    world.finish();
}

#[test]
fn jobs_go_only_where_the_operator_said_and_only_those_that_can() {
    let mut world = world(15, |config| {
        config.anonymous = true;
        config.limits.job.running_jobs = 4;
        config.auditors = [arcp_proto::id::Principal::new("eye").expect("a name")].into();
    });
    let ceiling = Ceiling::new(
        Lease::parse(&arcp_proto::json::Json::parse(r#"{"tool.call":["a.*"]}"#).expect("JSON")).expect("a lease"),
    );
    world.ceilings.insert("tok-bound".into(), Box::new(ceiling));
    let mut alice = open(&mut world, "tok-alice");
    let mut bob = open(&mut world, "tok-bob");
    let mut bound = open(&mut world, "tok-bound");
    let mut eye = open(&mut world, "tok-eye");
    let running: Vec<Value> =
        (0..4).map(|_| alice.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone()).collect();
    let delegates = json!({"tool": "waiter", "lease_request": {"agent.delegate": ["*"]}});
    let job = alice.invoke(&mut world, delegates)["job_id"].clone();
    let bounded = bound.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    world.settle();
    let other = FINGERPRINT.replace("aa", "bb");
    for (target, expected, why) in [
        (json!({"runtime": "north"}), "PERMISSION_DENIED", "`east`, `west`"),
        (json!({"runtime": "wss://elsewhere/arcp"}), "PERMISSION_DENIED", "no such runtime"),
        (json!({"fingerprint": other}), "PERMISSION_DENIED", "no such runtime"),
        (json!({"runtime": "east", "fingerprint": other}), "FAILED_PRECONDITION", "another fingerprint"),
        (json!({"runtime": "west", "fingerprint": FINGERPRINT}), "FAILED_PRECONDITION", "by no fingerprint"),
        (json!({"runtime": "east", "principal": "bob"}), "INVALID_ARGUMENT", "leave the principal"),
        (json!({}), "INVALID_ARGUMENT", "neither"),
    ] {
        let refused = asked(&mut world, &mut alice, &job, target.clone());
        assert_eq!(code(&refused), expected, "{target}: {refused}");
        assert!(refused.to_string().contains(why), "{target}: {refused}");
    }
    let refused = asked(&mut world, &mut alice, &running[0], east());
    assert!(refused.to_string().contains("waits for a slot"), "{refused}");
    let refused = asked(&mut world, &mut bound, &bounded, east());
    assert_eq!(code(&refused), "PERMISSION_DENIED", "{refused}");
    assert_eq!(code(&asked(&mut world, &mut bob, &job, east())), "NOT_FOUND");
    assert_eq!(code(&asked(&mut world, &mut eye, &job, east())), "PERMISSION_DENIED");
    assert!(world.receiver.orders.is_empty());
    // On its way it is nobody's to change, but to cancel.
    world.receiver.says = Says::TakesAndHangs;
    assert_eq!(asked(&mut world, &mut alice, &job, json!({"fingerprint": FINGERPRINT}))["type"], "ack");
    for target in [json!("bob"), json!({"runtime": "west"})] {
        let refused = asked(&mut world, &mut alice, &job, target.clone());
        assert_eq!(code(&refused), "FAILED_PRECONDITION", "{target}: {refused}");
    }
    assert_eq!(asked(&mut world, &mut alice, &job, east())["type"], "ack", "the same once more");
    let below = json!({"target": "waiter", "lease_request": {}});
    alice.send_with(&mut world, "agent.delegate", below, json!({"job_id": job}));
    let refused = alice.expect_any(&mut world, &["nack", "tool.error"]);
    assert!(refused.to_string().contains("handed over"), "{refused}");
    assert_eq!(world.receiver.orders.len(), 1);
    world.restores();
    world.finish();
}

#[test]
fn without_a_receiver_no_job_leaves() {
    let mut world = world(16, |config| config.authority.handoff.receivers.clear());
    let mut alice = open(&mut world, "tok-alice");
    let (_, job) = running_and_waiting(&mut world, &mut alice, json!({"tool": "echo"}));
    assert_eq!(code(&asked(&mut world, &mut alice, &job, east())), "UNIMPLEMENTED");
    world.finish();
}

#[test]
fn so_many_jobs_are_on_their_way_at_once() {
    let mut world = world(17, |config| {
        config.limits.family.departing_jobs = 2;
    });
    let mut alice = open(&mut world, "tok-alice");
    alice.invoke(&mut world, json!({"tool": "waiter"}));
    let jobs: Vec<Value> =
        (0..3).map(|_| alice.invoke(&mut world, json!({"tool": "echo"}))["job_id"].clone()).collect();
    world.settle();
    world.receiver.says = Says::IsLost;
    for job in &jobs[..2] {
        assert_eq!(asked(&mut world, &mut alice, job, east())["type"], "ack");
    }
    let refused = asked(&mut world, &mut alice, &jobs[2], east());
    assert_eq!(code(&refused), "RESOURCE_EXHAUSTED");
    assert_eq!(refused["payload"]["details"]["bound"], "departing_jobs", "{refused}");
    world.receiver.says = Says::Takes;
    world.run_for(Duration::from_secs(10));
    assert_eq!(asked(&mut world, &mut alice, &jobs[2], east())["type"], "ack", "there is room again");
    world.settle();
    assert_eq!(world.receiver.has.len(), 3);
    world.counts();
    world.finish();
}

#[test]
fn a_lease_that_ends_on_the_way_ends_the_job_here_and_there() {
    let mut world = world(18, |_| {});
    let mut alice = open(&mut world, "tok-alice");
    let asks =
        json!({"tool": "echo", "lease_request": {"tool.call": ["a"]}, "lease_constraints": {"expires_in_s": 60}});
    let (_, job) = running_and_waiting(&mut world, &mut alice, asks);
    world.receiver.says = Says::IsLost;
    hand_over(&mut world, &mut alice, &job, east());
    world.run_for(Duration::from_secs(61));
    assert_eq!(ended(&alice.take(&world), "job.failed")["code"], "LEASE_EXPIRED");
    let orders = world.receiver.orders.len();
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.receiver.orders.len(), orders, "nobody is asked any more");
    world.restores();
    world.counts();
    world.finish();
}
