//! Jobs that are handed over to somebody else.

use std::time::Duration;

use arcp_proto::id::{JobId, Principal};
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::runtime::{AgentExit, AuditAct, Input, Operator, Record};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A session of the open family that hands jobs over and takes them.
fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["agent_handoff"] = json!(true);
    payload["capabilities"]["subscriptions"] = json!(true);
    let (raw, accepted) = Raw::open_with(world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["agent_handoff"], true, "{accepted}");
    raw
}

/// The same of the other family; gives its id, too.
fn hello(world: &mut World, token: &str) -> (Raw, Value) {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend(["x-vendor.arcp.agent_handoff", "x-vendor.arcp.list_details"].map(Value::from));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    let id = raw.expect(world, "session.welcome")["payload"]["session_id"].clone();
    (raw, id)
}

/// Asks for a handoff; gives its answer.
fn hand_over(world: &mut World, raw: &mut Raw, job: &Value, payload: Value) -> Value {
    raw.send_with(world, "agent.handoff", payload, json!({"job_id": job}));
    world.settle();
    let answers = raw.take(world).into_iter();
    let kinds = ["ack", "nack", "session.error", "session.ack"];
    let mut answers = answers.filter(|frame| kinds.contains(&frame["type"].as_str().expect("a type")));
    answers.next_back().expect("an answer")
}

fn listed(world: &mut World, raw: &mut Raw) -> Vec<Value> {
    raw.take(world);
    raw.send(world, "session.list_jobs", json!({}));
    raw.expect(world, "session.jobs")["payload"]["jobs"].as_array().expect("a list").clone()
}

fn id(job: &Value) -> JobId {
    job.as_str().and_then(JobId::parse).expect("the id of a job")
}

/// Who handed over which job to whom, and whether that was refused, as it was written
/// down.
fn entries(world: &World) -> Vec<[String; 4]> {
    let name = |principal: Option<Principal>| principal.map_or_else(String::new, |principal| principal.to_string());
    let mut entries = Vec::new();
    for (_, record) in world.store.records(false) {
        if let Record::Audited(entry) = record
            && entry.act == AuditAct::HandOver
        {
            let job = entry.job.map_or_else(String::new, |job| job.to_string());
            entries.push([name(entry.principal), name(entry.to), job, entry.refused.is_some().to_string()]);
        }
    }
    entries
}

#[test]
fn a_job_is_handed_over_with_the_right_to_cancel_it() {
    let mut world = World::seeded(1);
    let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let job = alice.invoke(&mut world, json!({"tool": "ponderer"}))["job_id"].clone();
    alice.send(&mut world, "subscribe", json!({"filter": {}}));
    bob.send(&mut world, "subscribe", json!({"filter": {}}));
    world.settle();
    alice.take(&world);
    bob.take(&world);
    let asked = alice.send_with(
        &mut world,
        "agent.handoff",
        json!({"target": "bob", "reason": "my shift is over"}),
        json!({"job_id": job}),
    );
    world.settle();
    let said = alice.take(&world);
    assert!(said.iter().any(|frame| frame["type"] == "ack" && frame["correlation_id"] == asked.as_str()), "{said:?}");
    let told = |frames: &[Value]| frames.iter().filter(|frame| frame.to_string().contains("handed_over")).count();
    assert_eq!(told(&said), 2, "where she watches it, and by her subscription");
    assert_eq!(told(&bob.take(&world)), 1);
    world.restores();
    // What happens from now on is bob's alone.
    world.stop_script(id(&job));
    let metric = arcp_proto::json::Json::parse(r#"{"name":"n","value":1}"#).expect("JSON");
    let call = arcp_proto::runtime::AgentCall::Emit { kind: "metric".into(), body: metric };
    world.input(Input::Agent { job: id(&job), call });
    world.settle();
    assert_eq!(alice.take(&world), Vec::<Value>::new());
    assert_eq!(bob.take(&world).len(), 2, "as its owner, and by his subscription");
    assert!(listed(&mut world, &mut alice).is_empty());
    assert_eq!(listed(&mut world, &mut bob)[0]["job_id"], job);
    for (kind, payload) in [
        ("cancel", json!({"target": "job", "target_id": job})),
        ("job.subscribe", json!({"job_id": job})),
        ("agent.handoff", json!({"job_id": job, "target": "alice"})),
    ] {
        alice.send(&mut world, kind, payload);
        let refused = alice.expect_any(&mut world, &["nack", "cancel.refused"]);
        assert_eq!(code(&refused), "NOT_FOUND", "{kind}");
    }
    // Whoever ends her session ends its jobs, and this is none of them any more.
    let session = said[0]["session_id"].clone();
    alice.send(&mut world, "cancel", json!({"target": "session", "target_id": session}));
    alice.expect(&mut world, "cancel.accepted");
    world.run_for(Duration::from_secs(6));
    assert_eq!(listed(&mut world, &mut bob)[0]["status"], "running");
    // The session that took it cancels it as its own.
    bob.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
    bob.expect(&mut world, "job.cancelled");
    world.restores();
    assert_eq!(entries(&world)[0], ["alice", "bob", job.as_str().expect("text"), "false"]);
    world.finish();
}

#[test]
fn a_restart_leaves_a_job_whose_it_became() {
    for (seed, compact) in [(2, false), (3, true)] {
        let mut world = World::configured(seed, |config| {
            config.restartable_agents.insert("waiter".into());
            config.operators = [Principal::new("boss").expect("a name")].into();
        });
        let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
        let job = alice.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
        // There and back, and there again: the last one counts.
        for (giver, target) in [(0, "bob"), (1, "alice"), (0, "bob")] {
            let giver = [&mut alice, &mut bob].into_iter().nth(giver).expect("one of two");
            assert_eq!(hand_over(&mut world, giver, &job, json!({"target": target}))["type"], "ack", "{target}");
        }
        world.restores();
        world.crash_with(world.given().count(), compact);
        world.settle();
        world.restores();
        let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
        assert!(listed(&mut world, &mut alice).is_empty());
        assert_eq!(listed(&mut world, &mut bob)[0]["job_id"], job);
        alice.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
        assert_eq!(code(&alice.expect(&mut world, "cancel.refused")), "NOT_FOUND");
        // An operator gives it to somebody else, whose only he is then.
        let (mut boss, mut carol) = (open(&mut world, "tok-boss"), open(&mut world, "tok-carol"));
        assert_eq!(hand_over(&mut world, &mut boss, &job, json!({"target": "carol"}))["type"], "ack");
        carol.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
        carol.expect(&mut world, "job.cancelled");
        world.finish();
    }
}

#[test]
fn a_job_is_handed_to_whoever_takes_jobs_and_by_whom_it_belongs_to() {
    let mut world = World::configured(4, |config| {
        config.auditors = [Principal::new("eye").expect("a name")].into();
        config.limits.job.jobs_per_principal = 2;
        config.limits.job.principal_share = 100;
    });
    let ceiling = Ceiling::new(Lease::parse(&json(r#"{"tool.call":["a.*"]}"#)).expect("a lease"));
    world.ceilings.insert("tok-bound".into(), Box::new(ceiling));
    let (mut alice, own) = hello(&mut world, "tok-alice");
    let (mut bob, _) = hello(&mut world, "tok-bob");
    let (_bound, _) = hello(&mut world, "tok-bound");
    let (mut plain, _) = Raw::hello(&mut world, "tok-plain");
    let (mut eye, _) = hello(&mut world, "tok-eye");
    let lease = json!({"agent.delegate": ["*"]});
    let job = alice.submit(&mut world, json!({"agent": "waiter", "lease_request": lease}))["job_id"].clone();
    world.settle();
    for (target, expected, why) in [
        (json!({"target": "nobody"}), "INVALID_REQUEST", "takes jobs"),
        (json!({"target": "plain"}), "INVALID_REQUEST", "takes jobs"),
        (json!({"target": "bound"}), "INVALID_REQUEST", "takes jobs"),
        (json!({"target": "bob", "session_id": own}), "INVALID_REQUEST", "takes jobs"),
        (json!({"target": "bob", "runtime": "wss://elsewhere/arcp"}), "UNIMPLEMENTED", "within this runtime"),
        (json!({"target": ""}), "INVALID_REQUEST", "nobody's"),
        (json!({}), "INVALID_REQUEST", "target"),
    ] {
        let refused = hand_over(&mut world, &mut alice, &job, target.clone());
        assert!(refused.to_string().contains(why), "{target}: {refused}");
        assert!(refused.to_string().contains(expected), "{target}: {refused}");
    }
    for (giver, expected) in [(&mut plain, "agent_handoff"), (&mut bob, "no such job"), (&mut eye, "for its principal")]
    {
        let refused = hand_over(&mut world, giver, &job, json!({"target": "bob"}));
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    // Who stands in a family does not leave it.
    let below = json!({"agent": "waiter", "parent_job_id": job});
    let child = alice.submit(&mut world, below)["job_id"].clone();
    for (job, expected) in [(&job, "jobs below this one"), (&child, "hand that over")] {
        let refused = hand_over(&mut world, &mut alice, job, json!({"target": "bob"}));
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    for job in [&child, &job] {
        alice.send(&mut world, "job.cancel", json!({"job_id": job}));
        world.run_for(Duration::from_secs(6));
    }
    let refused = hand_over(&mut world, &mut alice, &job, json!({"target": "bob"}));
    assert!(refused.to_string().contains("has ended"), "{refused}");
    // Nobody is given more than there is room for.
    let jobs = [(); 3].map(|()| alice_job(&mut world, &mut alice));
    assert_eq!(jobs.iter().filter(|job| job.is_some()).count(), 2);
    let [Some(first), Some(second), None] = jobs else { panic!("{jobs:?}") };
    bob.submit(&mut world, json!({"agent": "waiter"}));
    world.settle();
    let answer = hand_over(&mut world, &mut alice, &first, json!({"target": "bob"}));
    assert_ne!(answer["type"], "session.error", "{answer}");
    let refused = hand_over(&mut world, &mut alice, &second, json!({"target": "bob"}));
    assert!(["no room", "RESOURCE_EXHAUSTED"].iter().all(|word| refused.to_string().contains(word)), "{refused}");
    assert!(alice_job(&mut world, &mut alice).is_some(), "she has room again");
    world.counts();
    world.restores();
    assert!(entries(&world).iter().any(|[who, .., refused]| (who.as_str(), refused.as_str()) == ("eye", "true")));
    world.finish();
}

fn alice_job(world: &mut World, alice: &mut Raw) -> Option<Value> {
    alice.send(world, "job.submit", json!({"agent": "waiter"}));
    let answer = alice.expect_any(world, &["job.accepted", "session.error", "job.error"]);
    world.settle();
    (answer["type"] == "job.accepted").then(|| answer["payload"]["job_id"].clone())
}

fn json(text: &str) -> arcp_proto::json::Json {
    arcp_proto::json::Json::parse(text).expect("JSON")
}

#[test]
fn a_key_and_a_message_that_came_before_give_no_job_back_that_was_handed_over() {
    let mut world = World::configured(5, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut alice, _bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let invoke = json!({"tool": "waiter", "idempotency_key": "k"});
    let message = alice.send(&mut world, "tool.invoke", invoke.clone());
    let job = alice.expect(&mut world, "job.accepted")["job_id"].clone();
    world.settle();
    assert_eq!(hand_over(&mut world, &mut alice, &job, json!({"target": "bob"}))["type"], "ack");
    let again = |world: &mut World, alice: &mut Raw, id: Option<&str>| {
        let mut frame = json!({"type": "tool.invoke", "payload": invoke, "id": id.unwrap_or("another")});
        frame["arcp"] = json!("1.0");
        alice.send_text(world, &frame.to_string());
        let refused = alice.expect(world, "nack");
        let why = ["handed over", "no longer kept", "has been forgotten"];
        assert!(why.iter().any(|why| refused.to_string().contains(why)), "{refused}");
    };
    again(&mut world, &mut alice, Some(&message));
    again(&mut world, &mut alice, None);
    world.crash_with(world.given().count(), true);
    world.settle();
    alice = open(&mut world, "tok-alice");
    again(&mut world, &mut alice, None);
    // A key of the same name of whoever has it now is another one.
    let mut bob = open(&mut world, "tok-bob");
    let other = bob.invoke(&mut world, invoke.clone())["job_id"].clone();
    assert_ne!(other, job);
    // Also when the job is long gone.
    for job in [&job, &other] {
        world.input(Input::Operator(Operator::CancelJob { job: id(job), reason: None }));
    }
    world.run_for(Duration::from_secs(1300));
    world.restores();
    world.crash_with(world.given().count(), true);
    world.settle();
    alice = open(&mut world, "tok-alice");
    bob = open(&mut world, "tok-bob");
    assert!(listed(&mut world, &mut bob).is_empty());
    again(&mut world, &mut alice, None);
    world.finish();
}

#[test]
fn a_job_that_waits_is_in_the_line_of_whom_it_became() {
    let mut world = World::configured(6, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.principal_share = 100;
    });
    let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let running = alice.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    let waiting = alice.invoke(&mut world, json!({"tool": "waiter", "arguments": {"a": 1}}))["job_id"].clone();
    alice.send(&mut world, "subscribe", json!({"filter": {}}));
    world.settle();
    for job in [&waiting, &running] {
        assert_eq!(hand_over(&mut world, &mut alice, job, json!({"target": "bob"}))["type"], "ack");
        world.counts();
    }
    world.restores();
    alice.take(&world);
    world.stop_script(id(&running));
    world.input(Input::AgentExited { job: id(&running), exit: AgentExit::Success { result: None, summary: None } });
    world.settle();
    assert_eq!(world.live(), [id(&waiting)], "it has the slot that came free");
    assert_eq!(alice.take(&world), Vec::<Value>::new(), "nobody else's subscription has it");
    let shown = listed(&mut world, &mut bob);
    assert_eq!(shown.len(), 2, "{shown:?}");
    bob.send(&mut world, "cancel", json!({"target": "job", "target_id": waiting}));
    world.run_for(Duration::from_secs(10));
    world.counts();
    world.finish();
}

#[test]
fn a_job_that_waits_starts_as_soon_as_a_handoff_makes_room_for_it() {
    for given in [0, 1] {
        let mut world = World::configured(7, |config| {
            config.limits.job.running_jobs = 2;
            config.limits.job.principal_share = 50;
        });
        let (mut alice, _bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
        let jobs = [1, 2].map(|n| alice.invoke(&mut world, json!({"tool": "waiter", "arguments": {"a": n}})));
        let jobs = jobs.map(|accepted| accepted["job_id"].clone());
        world.settle();
        assert_eq!(world.live(), [id(&jobs[0])], "the other slot is left for others");
        // Its own place in line is bob's, or the slot of the one that runs.
        assert_eq!(hand_over(&mut world, &mut alice, &jobs[given], json!({"target": "bob"}))["type"], "ack");
        let mut live = world.live();
        live.sort();
        assert_eq!(live, [id(&jobs[0]), id(&jobs[1])]);
        world.restores();
        world.finish();
    }
}

#[test]
fn a_restart_leaves_who_watches_a_job_that_was_handed_over() {
    let mut world = World::seeded(8);
    let (mut alice, _) = hello(&mut world, "tok-alice");
    let (_other, elsewhere) = hello(&mut world, "tok-alice");
    let (mut bob, _) = hello(&mut world, "tok-bob");
    let job = alice.submit(&mut world, json!({"agent": "waiter"}))["payload"]["job_id"].clone();
    world.settle();
    let given = |world: &mut World, raw: &mut Raw, to: Value| {
        let answer = hand_over(world, raw, &job, to);
        assert_ne!(answer["type"], "session.error", "{answer}");
        world.restores();
    };
    given(&mut world, &mut alice, json!({"target": "bob"}));
    let (mut phone, _) = hello(&mut world, "tok-bob");
    phone.send(&mut world, "job.subscribe", json!({"job_id": job}));
    phone.expect(&mut world, "job.subscribed");
    // Whoever watches it goes on when it moves between the sessions of its principal.
    let (_desk, desk) = hello(&mut world, "tok-bob");
    given(&mut world, &mut bob, json!({"target": "bob", "session_id": desk}));
    // What had lost it does not come back to it.
    given(&mut world, &mut phone, json!({"target": "alice", "session_id": elsewhere}));
    world.finish();
}
