//! Pure agents: they start before their jobs are durable. Until then nothing of them is shown, and a crash takes all
//! of it or nothing.

use std::time::Duration;

use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Models};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// `echo`, `chatty` and `waiter` are pure.
fn pure(config: &mut Config) {
    for entry in config.agents.iter_mut().filter(|entry| ["echo", "chatty", "waiter"].contains(&entry.name.as_str())) {
        entry.pure = true;
    }
}

/// Has the runtime hear a submit at once, and not do anything else.
fn submit(world: &mut World, raw: &Raw, id: &str, payload: Value) {
    let frame = json!({"id": id, "type": "job.submit", "payload": payload}).to_string();
    world.input(Input::Received { conn: raw.conn, frame: frame.into_bytes() });
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect()
}

#[test]
fn a_pure_agent_starts_with_its_submit_and_any_other_once_that_is_durable() {
    for (agent, at_once) in [("echo", 1), ("stepper", 0)] {
        let mut world = World::configured(1, pure);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.settle(&mut world);
        submit(&mut world, &raw, "s", json!({"agent": agent, "input": 7}));
        assert_eq!((world.started.len(), world.given().count()), (at_once, 1), "{agent}");
        assert_eq!(raw.take(&world), Vec::<Value>::new(), "{agent}: nothing is durable");
        world.settle();
        assert_eq!(world.started.len(), 1, "{agent}");
        world.finish();
    }
}

#[test]
fn the_acceptance_the_events_and_the_end_of_a_pure_agents_job_are_one_commit() {
    let mut world = World::configured(2, pure);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.settle(&mut world);
    let before = world.commits;
    submit(&mut world, &raw, "s", json!({"agent": "echo", "input": 7}));
    let job = world.live()[0];
    let exit = AgentExit::Success { result: Some(Json::parse("7").expect("JSON")), summary: None };
    world.input(Input::AgentExited { job, exit });
    assert_eq!(world.given().count(), 2, "two inputs are two batches");
    assert!(raw.take(&world).is_empty(), "nothing is durable");
    let frames = raw.settle(&mut world);
    assert_eq!(world.commits, before + 1);
    assert_eq!(kinds(&frames), ["job.accepted", "job.event", "job.result"]);
    assert_eq!(frames[2]["payload"]["result"], 7);
    world.finish();
}

#[test]
fn a_round_trip_is_two_commits_in_both_families_and_one_if_the_agent_is_pure_and_instant() {
    for open in [false, true] {
        let (mut world, at_once) = (World::configured(10, |_| {}), World::configured(10, pure));
        let connect: fn(&mut World, &str) -> (Raw, Value) = if open { Raw::open } else { Raw::hello };
        let kind = if open { "tool.invoke" } else { "job.submit" };
        let payload = if open { json!({"tool": "echo", "arguments": 7}) } else { json!({"agent": "echo", "input": 7}) };
        let (mut raw, _) = connect(&mut world, "tok-a");
        raw.settle(&mut world);
        let before = world.commits;
        raw.send(&mut world, kind, payload.clone());
        // Which commit each frame waited for.
        let mut shown = Vec::new();
        while world.step() && shown.len() < 3 {
            let frames = raw.take(&world);
            shown.extend(
                frames.iter().map(|frame| (world.commits - before, kinds(std::slice::from_ref(frame))[0].to_string())),
            );
        }
        let shown: Vec<(u64, &str)> = shown.iter().map(|(commit, kind)| (*commit, kind.as_str())).collect();
        // That it runs is no commit of its own.
        let expected = if open {
            [(1, "job.accepted"), (1, "job.started"), (2, "job.completed")]
        } else {
            [(1, "job.accepted"), (1, "job.event"), (2, "job.result")]
        };
        assert_eq!(shown, expected);
        world.finish();
        let mut world = at_once;
        let (mut raw, _) = connect(&mut world, "tok-a");
        raw.settle(&mut world);
        let before = world.commits;
        let frame = json!({"arcp": "1.1", "id": "s", "type": kind, "payload": payload}).to_string().into_bytes();
        world.input(Input::Received { conn: raw.conn, frame });
        let job = world.live()[0];
        let exit = AgentExit::Success { result: Some(Json::parse("7").expect("JSON")), summary: None };
        world.input(Input::AgentExited { job, exit });
        let frames = raw.settle(&mut world);
        assert_eq!((world.commits, kinds(&frames).len()), (before + 1, 3), "{frames:?}");
        world.finish();
    }
}

#[test]
fn while_the_store_fails_nothing_of_a_pure_agent_is_seen_and_then_all_of_it() {
    let mut world = World::configured(3, pure);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.settle(&mut world);
    world.store.fill(0);
    submit(&mut world, &raw, "s", json!({"agent": "chatty", "input": {"count": 5}}));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.started.len(), 1, "it ran");
    let shown: Vec<Value> = raw.take(&world).into_iter().filter(|frame| frame["type"] != "session.ping").collect();
    assert_eq!(shown, Vec::<Value>::new());
    world.store.mend();
    // By then the store is asked again.
    world.run_for(Duration::from_secs(2));
    let frames: Vec<Value> =
        raw.settle(&mut world).into_iter().filter(|frame| frame["type"] != "session.ping").collect();
    assert_eq!(frames[0]["type"], "job.accepted");
    let seqs: Vec<&Value> = frames[1..].iter().map(|frame| &frame["event_seq"]).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "success");
    assert_eq!(world.started.len(), 1, "and not again");
    world.finish();
}

#[test]
fn a_crash_takes_a_pure_job_whole_before_it_was_accepted_and_runs_it_again_after_that() {
    // How many of the batches got to the store: none, the acceptance, and some events.
    for kept in 0..=3 {
        let mut world = World::configured(4, pure);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        raw.settle(&mut world);
        submit(&mut world, &raw, "s", json!({"agent": "chatty", "input": {"count": 3}, "idempotency_key": "k"}));
        let job = world.live()[0];
        for value in 0..2 {
            let body = Json::parse(&json!({"name": "tick", "value": value}).to_string()).expect("JSON");
            let call = AgentCall::Emit { kind: "metric".into(), body };
            world.input(Input::Agent { job, call });
        }
        assert_eq!((world.given().count(), raw.take(&world).len()), (3, 0), "nothing was said");
        world.crash_with(kept, false);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        let frames = back.settle(&mut world);
        let ends = |frames: &[Value]| frames.iter().filter(|frame| frame["type"] == "job.result").count();
        let started = world.started.len();
        if kept == 0 {
            assert_eq!((started, ends(&frames)), (1, 0), "nobody knows of it");
            // Its key is free.
            let again = json!({"agent": "chatty", "input": {"count": 3}, "idempotency_key": "k"});
            assert_ne!(back.submit(&mut world, again)["job_id"], job.to_string());
            back.until_end(&mut world);
        } else {
            assert_eq!((started, ends(&frames)), (2, 1), "{kept}: {frames:#?}");
            assert_eq!(world.started[1].restarts, 1);
            let restarted = frames.iter().find(|frame| frame["payload"]["body"]["phase"] == "restarted");
            let said = restarted.expect("it is said")["payload"]["body"]["message"].as_str().expect("why").to_string();
            assert!(said.contains("once more from its beginning"), "{said}");
        }
        world.finish();
    }
}

#[test]
fn a_pure_job_that_waited_for_a_slot_starts_when_its_turn_comes_and_is_not_lost_with_it() {
    let mut world = World::configured(5, |config| {
        pure(config);
        config.limits.job.running_jobs = 1;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let first = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].as_str().expect("an id").to_string();
    raw.submit(&mut world, json!({"agent": "echo", "input": 7}));
    world.settle();
    assert_eq!(world.started.len(), 1, "one slot");
    let first = first.parse().expect("an id");
    let given = world.given().count();
    world.input(Input::AgentExited { job: first, exit: AgentExit::Success { result: None, summary: None } });
    assert_eq!((world.started.len(), world.given().count()), (2, given + 1), "its turn is not durable");
    world.crash_with(0, false);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let frames = back.settle(&mut world);
    // That its turn had come is not known any more: it was as if it had not been started.
    let again: Vec<(&str, u32)> = world.started[2..].iter().map(|spec| (spec.agent.name(), spec.restarts)).collect();
    assert_eq!(again, [("echo", 0), ("waiter", 1)]);
    assert!(frames.iter().any(|frame| frame["payload"]["result"] == 7), "{frames:#?}");
    world.finish();
}

#[test]
fn a_pure_job_that_may_have_gone_down_with_its_runtime_starts_once_that_is_durable() {
    let mut world = World::configured(9, |config| {
        pure(config);
        config.limits.job.running_jobs = 1;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let first = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].as_str().expect("an id").to_string();
    raw.submit(&mut world, json!({"agent": "echo", "input": 7}));
    world.settle();
    let job = first.parse().expect("an id");
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    assert_eq!(world.started.len(), 2, "its turn came");
    for _ in 0..3 {
        // Its start takes the runtime down each time: otherwise nobody would count that.
        world.crash_with(0, false);
        assert_eq!(world.started.len(), 2, "nothing says that it is started");
    }
    world.settle();
    assert_eq!(world.started[2].agent.name(), "echo");
    world.finish();
}

#[test]
fn a_pure_job_that_goes_down_with_its_runtime_again_and_again_is_given_up() {
    let mut world = World::configured(6, |config| {
        pure(config);
        config.limits.job.restarts = 2;
    });
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "waiter"}));
    for restarts in 0..=2 {
        world.settle();
        assert_eq!(world.started.last().expect("it runs").restarts, restarts);
        world.crash_with(0, false);
    }
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let frames = back.settle(&mut world);
    let end = frames.iter().find(|frame| frame["type"] == "job.error").expect("an end");
    assert_eq!(code(end), "INTERNAL_ERROR");
    world.finish();
}

#[test]
fn what_an_agent_is_reaches_the_runtime_and_nobody_else() {
    let mut world = World::configured(7, pure);
    let (_, welcome) = Raw::hello(&mut world, "tok-a");
    assert!(!welcome.to_string().contains("pure"), "{welcome}");
    world.finish();
}

#[test]
fn a_pure_agent_whose_job_has_credentials_starts_once_that_is_durable() {
    let mut world = World::configured(8, |config| {
        pure(config);
        config.models = Models { provisions: true, ..Models::default() };
    });
    let (mut raw, _) = Raw::hello_with_credentials(&mut world, "tok-a");
    raw.settle(&mut world);
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "lease_request": {"model.use": ["gpt-*"]}}));
    while world.started.is_empty() {
        assert!(world.step(), "it starts");
    }
    assert_eq!(kinds(&raw.take(&world))[0], "job.accepted", "it is durable");
    world.settle();
    world.finish();
}
