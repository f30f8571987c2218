//! Jobs that are handed over to another principal.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_blocking::{ClientError, Target};
use arcp_proto::client::{ClientConfig, ClientEvent};
use arcp_proto::error::{ApiMisuse, ErrorCode};
use arcp_proto::id::{JobId, Principal};
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{JobError, JobEvent};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, HandOver, Submit};
use arcp_proto::runtime::{AgentExit, AuditAct, Input, Operator, Record};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::server::{PATIENCE, Running, submit};
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
fn a_handoff_whose_answer_was_lost_with_its_session_is_done_when_it_is_asked_for_again() {
    for restarts in [false, true] {
        let mut world = World::configured(14, |config| {
            config.restartable_agents.insert("waiter".into());
        });
        let ((mut alice, _), (mut bob, _)) = (hello(&mut world, "tok-alice"), hello(&mut world, "tok-bob"));
        let job = alice.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        world.settle();
        let asked = json!({"target": "bob", "job_id": job});
        alice.send_with(&mut world, "agent.handoff", asked, json!({"job_id": job}));
        world.settle();
        if restarts {
            world.crash_with(world.given().count(), true);
            world.settle();
            bob = hello(&mut world, "tok-bob").0;
        }
        let (mut alice, _) = hello(&mut world, "tok-alice");
        let (mut carol, _) = hello(&mut world, "tok-carol");
        let written = entries(&world).len();
        let again = hand_over(&mut world, &mut alice, &job, json!({"target": "bob"}));
        assert_eq!(again["type"], "ack", "{again}");
        assert_eq!(entries(&world).len(), written, "nothing was done");
        // To nobody else, and by nobody else.
        for (giver, target) in [(&mut alice, "carol"), (&mut carol, "bob")] {
            let refused = hand_over(&mut world, giver, &job, json!({"target": target}));
            assert!(refused.to_string().contains("no such job"), "{target}: {refused}");
        }
        assert_eq!(listed(&mut world, &mut bob)[0]["job_id"], job);
        // Once it is somebody else's again, it was not she who did that.
        assert_eq!(hand_over(&mut world, &mut bob, &job, json!({"target": "carol"}))["type"], "ack");
        let refused = hand_over(&mut world, &mut alice, &job, json!({"target": "carol"}));
        assert!(refused.to_string().contains("no such job"), "{refused}");
        world.restores();
        world.finish();
    }
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
        (json!({"target": {"principal": "nobody"}}), "INVALID_REQUEST", "takes jobs"),
        (json!({"target": {"principal": "bob", "runtime": "other"}}), "UNIMPLEMENTED", "within this runtime"),
        (json!({"target": {"principal": "bob", "fingerprint": "sha256:0b"}}), "UNIMPLEMENTED", "within this runtime"),
        (json!({"target": {"runtime": "other"}}), "UNIMPLEMENTED", "within this runtime"),
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
fn a_workflow_that_is_handed_over_leaves_its_steps_room_where_it_is_now_and_nowhere_else() {
    let mut world = World::configured(9, |config| {
        config.authority.workflows = true;
        config.limits.job.jobs_per_principal = 2;
    });
    let (mut alice, _bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
    let start = |world: &mut World, raw: &mut Raw, steps: Value| {
        raw.send(world, "workflow.start", json!({"workflow": {"steps": steps}}));
        let job = raw.expect(world, "job.accepted")["payload"]["job_id"].clone();
        world.settle();
        job
    };
    let retry = json!({"limit": 2, "backoff": 10});
    let job = start(&mut world, &mut alice, json!([{"id": "a", "tool": "waiter", "retry": retry}]));
    let [step] = world.live()[..] else { panic!("one step runs: {:?}", world.live()) };
    world.stop_script(step);
    let failed = AgentExit::Failure(JobError::new(ErrorCode::Internal, "no luck"));
    world.input(Input::AgentExited { job: step, exit: failed });
    world.settle();
    assert_eq!(hand_over(&mut world, &mut alice, &job, json!({"target": "bob"}))["type"], "ack");
    world.restores();
    let steps = ["a", "b", "c"].map(|id| json!({"id": id, "tool": "waiter"}));
    start(&mut world, &mut alice, json!(steps));
    assert_eq!(world.live().len(), 2, "her own workflow leaves room for two of its steps");
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.live().len(), 3, "his for its one");
    world.restores();
    world.finish();
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

/// A client of ours that hands jobs over and takes them.
fn client(world: &mut World, family: Family, token: &str) -> usize {
    let mut config = ClientConfig::new("world", "1", Credential::Bearer(Secret::new(token.to_string())));
    config.family = family;
    config.features = config.features.with(Feature::AgentHandoff);
    config.give_up_after = None;
    let client = world.add_client_with(config);
    world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
    client
}

/// What a client was told of a job: events by kind, and what became of it.
fn told(world: &World, client: usize) -> Vec<String> {
    let word = |event: &ClientEvent| match event {
        ClientEvent::Taken { .. } => Some("taken".to_string()),
        ClientEvent::HandedOver { .. } => Some("handed".to_string()),
        ClientEvent::Job { event: JobEvent::Emitted { kind, .. }, .. } => Some(kind.as_str().to_string()),
        ClientEvent::Job { .. } => Some("event".to_string()),
        ClientEvent::JobEnded { .. } => Some("ended".to_string()),
        ClientEvent::Refused { refusal, .. } => Some(refusal.code.as_str().to_string()),
        _ => None,
    };
    world.events(client).iter().filter_map(word).collect()
}

#[test]
fn our_client_takes_a_job_and_the_one_that_gave_it_is_told_that_it_is_gone() {
    for (seed, family) in [(8, Family::Hello), (9, Family::Open)] {
        let mut world = World::of(family, seed);
        let (alice, bob) = (client(&mut world, family, "tok-alice"), client(&mut world, family, "tok-bob"));
        let asked = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(alice, |c| c.session().and_then(|mut s| s.submit(asked))).expect("given");
        let ClientEvent::Submitted { accepted, .. } =
            world.until(alice, |event| matches!(event, ClientEvent::Submitted { .. }))
        else {
            panic!("an acceptance")
        };
        world.run_for(Duration::from_secs(1));
        // Bob awaits an acceptance of his own meanwhile: nothing of either job is mixed up.
        let other = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(bob, |c| c.session().and_then(|mut s| s.submit(other))).expect("given");
        let to = Principal::new("bob").expect("a name");
        let wish = HandOver::to(accepted.job.clone(), to);
        world.command(alice, |c| c.session().and_then(|mut s| s.hand_over(wish))).expect("given");
        let taken = world.until(bob, |event| matches!(event, ClientEvent::Taken { .. }));
        let ClientEvent::Taken { watching } = taken else { panic!("a job") };
        assert_eq!((&watching.job, watching.agent.split('@').next()), (&accepted.job, Some("waiter")));
        world.run_for(Duration::from_secs(1));
        let of_alice = told(&world, alice);
        assert_eq!(of_alice.iter().filter(|word| *word == "handed").count(), 1, "{of_alice:?}");
        assert_eq!(of_alice.last().map(String::as_str), Some("JOB_NOT_FOUND"), "{of_alice:?}");
        // What follows is bob's, over a lost session too: once, and in order.
        let metric = |n: u64| {
            let body = arcp_proto::json::Json::parse(&format!(r#"{{"name":"n","value":{n}}}"#)).expect("JSON");
            arcp_proto::runtime::AgentCall::Emit { kind: "metric".into(), body }
        };
        let job = JobId::parse(accepted.job.as_str()).expect("an id");
        world.stop_script(job);
        world.input(Input::Agent { job, call: metric(1) });
        world.run_for(Duration::from_secs(1));
        world.unplug(bob, true);
        let conn = world.conn_of(bob).expect("connected");
        world.input(Input::Closed { conn });
        world.input(Input::Agent { job, call: metric(2) });
        world.run_for(Duration::from_secs(700));
        world.unplug(bob, false);
        world.input(Input::Agent { job, call: metric(3) });
        world.run_for(Duration::from_secs(60));
        let of_bob = told(&world, bob);
        let metrics = of_bob.iter().filter(|word| *word == "metric").count();
        assert_eq!(metrics, 3, "{of_bob:?}");
        let at = of_bob.iter().position(|word| word == "taken").expect("taken");
        assert_eq!(of_bob[at + 1], "status", "it begins with that it was handed over: {of_bob:?}");
        world.command(bob, |c| c.session().and_then(|mut s| s.cancel(accepted.job, None))).expect("given");
        world.until(bob, |event| matches!(event, ClientEvent::JobEnded { .. }));
        assert_eq!(told(&world, alice).iter().filter(|word| *word == "metric" || *word == "ended").count(), 0);
        world.finish();
    }
}

#[test]
fn clients_over_threads_and_over_tokio_hand_jobs_to_each_other() {
    let server = Running::start(&[], |_| {});
    let target: Target = server.url().parse().expect("a URL");
    let config = |token: &str, family: Family| {
        let mut config = ClientConfig::new("test", "1", Credential::Bearer(Secret::new(token.to_string())));
        config.family = family;
        config.features = config.features.with(Feature::AgentHandoff);
        config
    };
    let wish = |job: &arcp_proto::id::WireId, to: &str| HandOver::to(job.clone(), Principal::new(to).expect("a name"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for family in [Family::Hello, Family::Open] {
        let a = arcp_blocking::Client::connect(target.clone(), config("tok-a", family)).expect("a session");
        let b = arcp_tokio_adapter::Client::connect(target.clone(), config("tok-b", family));
        let b = runtime.block_on(b).expect("a session");
        let job = a.submit(submit("slow", r#"{"ms":600000}"#)).expect("it is accepted");
        assert!(a.next_handed_job(Duration::ZERO).expect("a session").is_none());
        // There, and back: whoever gave it is told, and whoever has it follows it.
        a.hand_over(wish(&job.id, "b")).expect("it is taken");
        let mut taken = runtime.block_on(b.next_handed_job()).expect("a job");
        assert_eq!((&taken.id, &taken.agent), (&job.id, &job.agent));
        assert!(matches!(job.wait(), Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::JobNotFound));
        a.hand_over(wish(&job.id, "b")).expect("it is done");
        let refused = a.hand_over(wish(&job.id, "c"));
        assert!(matches!(refused, Err(ClientError::Refused(_))), "it is not hers any more: {refused:?}");
        runtime.block_on(b.hand_over(wish(&taken.id, "a"))).expect("it is taken");
        let again = a.next_handed_job(PATIENCE).expect("a session").expect("a job");
        assert!(matches!(runtime.block_on(taken.wait()), Err(ClientError::Refused(_))));
        a.cancel(again.id.clone(), None).expect("she may");
        assert_eq!(again.wait().expect("it ends").terminal.status, FinalStatus::Cancelled);
        runtime.block_on(b.close());
        drop(a);
    }
}

#[test]
fn a_client_that_offers_no_handoff_neither_hands_over_nor_takes() {
    let mut world = World::seeded(10);
    let plain = world.add_client("alice");
    world.until(plain, |event| matches!(event, ClientEvent::Accepted { .. }));
    let to = Principal::new("bob").expect("a name");
    let job = arcp_proto::id::WireId::new("job_1").expect("an id");
    let wish = HandOver::to(job, to);
    let refused = world.command(plain, |c| c.session().and_then(|mut s| s.hand_over(wish)));
    assert_eq!(refused.err(), Some(ApiMisuse::NotNegotiated(Feature::AgentHandoff)));
    world.finish();
}

#[test]
fn nobody_is_given_a_job_who_has_left() {
    let mut world = World::seeded(14);
    let mut alice = open(&mut world, "tok-alice");
    let job = alice.invoke(&mut world, json!({"tool": "waiter"}))["job_id"].clone();
    world.settle();
    let (mut bob, _) = hello(&mut world, "tok-bob");
    bob.send(&mut world, "session.bye", json!({}));
    world.settle();
    let (carol, _) = hello(&mut world, "tok-carol");
    world.input(Input::Closed { conn: carol.conn });
    world.settle();
    for (gone, why) in [("bob", "it said goodbye"), ("carol", "it may come back, and is not there")] {
        let refused = hand_over(&mut world, &mut alice, &job, json!({"target": gone}));
        assert_eq!(code(&refused), "FAILED_PRECONDITION", "{why}");
    }
    world.finish();
}

#[test]
fn a_message_that_asked_for_a_job_runs_it_once_though_whoever_sent_it_has_nothing_here_any_more() {
    for (seed, restarts) in [(11, false), (12, true)] {
        let mut world = World::seeded(seed);
        let (mut alice, mut bob) = (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"));
        let invoke = json!({"tool": "waiter"});
        let message = alice.send(&mut world, "tool.invoke", invoke.clone());
        let job = alice.expect(&mut world, "job.accepted")["job_id"].clone();
        world.settle();
        assert_eq!(hand_over(&mut world, &mut alice, &job, json!({"target": "bob"}))["type"], "ack");
        alice.send(&mut world, "session.close", json!({}));
        alice.expect(&mut world, "session.closed");
        world.run_for(Duration::from_secs(1300));
        if restarts {
            world.crash_with(world.given().count(), true);
            world.settle();
            bob = open(&mut world, "tok-bob");
        }
        alice = open(&mut world, "tok-alice");
        let again = json!({"arcp": "1.0", "type": "tool.invoke", "payload": invoke, "id": message});
        alice.send_text(&mut world, &again.to_string());
        assert_eq!(code(&alice.expect(&mut world, "nack")), "NOT_FOUND");
        assert!(listed(&mut world, &mut alice).is_empty());
        world.restores();
        // Once the job is forgotten so is the message: nothing is held for ever.
        world.input(Input::Operator(Operator::CancelJob { job: id(&job), reason: None }));
        alice.send(&mut world, "session.close", json!({}));
        bob.send(&mut world, "session.close", json!({}));
        world.run_for(Duration::from_secs(8000));
        world.counts();
        world.restores();
        alice = open(&mut world, "tok-alice");
        alice.send_text(&mut world, &again.to_string());
        alice.expect(&mut world, "job.accepted");
        world.finish();
    }
}

#[test]
fn nobody_is_given_a_job_that_holds_more_than_its_share_leaves() {
    let mut world = World::configured(13, |config| {
        config.limits.history.unfinished_bytes = 64 << 10;
    });
    let (mut alice, _) = hello(&mut world, "tok-alice");
    let (mut bob, _) = hello(&mut world, "tok-bob");
    let lease = |bytes: usize| json!({"agent": "waiter", "lease_request": {"tool.call": ["x".repeat(bytes)]}});
    let [large, small] = [2500, 20].map(|bytes| alice.submit(&mut world, lease(bytes))["job_id"].clone());
    bob.submit(&mut world, lease(800));
    world.settle();
    let refused = hand_over(&mut world, &mut alice, &large, json!({"target": "bob"}));
    assert_eq!(refused["payload"]["details"]["open_code"], "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!(refused["payload"]["details"]["bound"], "unfinished_bytes", "{refused}");
    let taken = hand_over(&mut world, &mut alice, &small, json!({"target": "bob"}));
    assert_ne!(taken["type"], "session.error", "{taken}");
    world.counts();
    world.finish();
}
