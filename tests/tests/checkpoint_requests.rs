//! Checkpoints that clients request, and jobs that begin at them.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::model::handoff::Receiver;
use arcp_proto::runtime::{AgentCall, Config, Input};
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A runtime whose `waiter` gives checkpoints, when a test says so, and whose `stepper` makes
/// them by itself.
fn giving(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.restartable_agents.insert("waiter".into());
        let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
        waiter.gives_checkpoints = true;
        change(config);
    })
}

/// A session whose client asks for checkpoints.
fn person(world: &mut World, family: Family, token: &str) -> Raw {
    match family {
        Family::Open => {
            let mut payload = open_payload(token);
            payload["capabilities"]["checkpoints"] = json!(true);
            Raw::open_with(world, payload).0
        }
        Family::Hello => {
            let mut raw = Raw::connect(world);
            raw.send(world, "session.hello", with_checkpoints(token));
            raw.expect(world, "session.welcome");
            raw
        }
    }
}

fn with_checkpoints(token: &str) -> Value {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.push(json!("x-vendor.arcp.checkpoints"));
    payload
}

fn run(world: &mut World, raw: &mut Raw, family: Family, agent: &str, input: Value) -> JobId {
    let accepted = match family {
        Family::Open => raw.invoke(world, json!({"tool": agent, "arguments": input})),
        Family::Hello => raw.submit(world, json!({"agent": agent, "input": input})),
    };
    raw.settle(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn make(world: &mut World, job: JobId, state: &str, label: Option<&str>) {
    let call = AgentCall::Checkpoint { state: state.into(), label: label.map(String::from) };
    world.input(Input::Agent { job, call });
    world.settle();
}

fn create(world: &mut World, raw: &mut Raw, job: JobId, label: &str) -> String {
    let id = raw.send(world, "checkpoint.create", json!({"job_id": job, "label": label}));
    world.settle();
    id
}

/// What was answered, not what the job was said to have had.
fn answer(raw: &mut Raw, world: &mut World, id: &str) -> Value {
    let is_it = |frame: &Value| {
        let correlated = frame["correlation_id"] == *id || frame["payload"]["request_id"] == *id;
        correlated && frame["event_seq"].is_null() || frame["payload"]["details"]["request_id"] == *id
    };
    world.settle();
    let frames = raw.take(world);
    frames.iter().find(|frame| is_it(frame)).unwrap_or_else(|| panic!("no answer to {id}: {frames:?}")).clone()
}

/// A checkpoint of a job that was asked for and is kept.
fn made(world: &mut World, raw: &mut Raw, job: JobId, state: &str) -> Value {
    let id = create(world, raw, job, "mine");
    make(world, job, state, None);
    answer(raw, world, &id)["payload"]["checkpoint_id"].clone()
}

fn listed(world: &mut World, raw: &mut Raw, job: JobId) -> Vec<Value> {
    raw.send(world, "x-vendor.arcp.checkpoints.list", json!({"job_id": job}));
    raw.expect(world, "x-vendor.arcp.checkpoints")["payload"]["checkpoints"].as_array().expect("a list").clone()
}

fn restored(world: &mut World, raw: &mut Raw, checkpoint: &Value) -> JobId {
    raw.send(world, "checkpoint.restore", json!({"checkpoint_id": checkpoint}));
    let accepted = raw.expect(world, "job.accepted");
    raw.settle(world);
    accepted["job_id"].as_str().or(accepted["payload"]["job_id"].as_str()).and_then(JobId::parse).expect("a job")
}

const BOTH: [Family; 2] = [Family::Open, Family::Hello];

#[test]
fn a_checkpoint_that_is_asked_for_is_answered_once_it_is_made_and_a_job_begins_at_it() {
    for family in BOTH {
        let mut world = giving(1, |_| {});
        let mut raw = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut raw, family, "waiter", json!({"a": 1}));
        let id = create(&mut world, &mut raw, job, "before");
        assert_eq!(world.wanted, [(job, Some("before".into()))]);
        assert!(raw.take(&world).is_empty(), "nothing is said before it is there");
        make(&mut world, job, "\"here\"", Some("step"));
        let told = answer(&mut raw, &mut world, &id);
        assert_eq!(told["type"], "job.checkpoint", "{told}");
        let payload = &told["payload"];
        assert_eq!((&payload["label"], &payload["job_id"]), (&json!("before"), &json!(job)), "who asks names it");
        let new = restored(&mut world, &mut raw, &payload["checkpoint_id"]);
        assert_ne!(new, job);
        let started = world.started.last().expect("it is started");
        assert_eq!(started.checkpoint.as_deref(), Some(b"\"here\"".as_slice()), "{family:?}");
        assert_eq!((started.input.as_str(), started.restarts), ("{\"a\":1}", 0));
        world.finish();
    }
}

#[test]
fn a_job_that_begins_at_a_checkpoint_names_the_job_that_it_is_from() {
    let mut world = giving(2, |_| {});
    let mut raw = person(&mut world, Family::Hello, "tok-a");
    let job = run(&mut world, &mut raw, Family::Hello, "waiter", json!({}));
    let checkpoint = made(&mut world, &mut raw, job, "1");
    raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": checkpoint}));
    assert_eq!(raw.expect(&mut world, "job.accepted")["payload"]["parent_job_id"], json!(job));
    world.finish();
}

#[test]
fn no_frame_tells_of_a_checkpoint_before_it_is_durable_and_none_is_lost_that_was_told_of() {
    for seed in 0..40 {
        let mut world = giving(seed, |_| {});
        let mut raw = person(&mut world, Family::Open, "tok-a");
        let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
        raw.send(&mut world, "checkpoint.create", json!({"job_id": job}));
        let call = AgentCall::Checkpoint { state: b"7".to_vec(), label: None };
        // However far it came when the runtime was killed.
        for _ in 0..world.below(6) {
            world.step();
        }
        if !world.wanted.is_empty() {
            world.input(Input::Agent { job, call });
        }
        for _ in 0..world.below(6) {
            world.step();
        }
        let told: Vec<Value> = raw.take(&world).into_iter().filter(|frame| frame["type"] == "job.checkpoint").collect();
        world.crash();
        let mut raw = person(&mut world, Family::Open, "tok-a");
        let there = listed(&mut world, &mut raw, job);
        for frame in &told {
            let id = &frame["payload"]["checkpoint_id"];
            assert!(there.iter().any(|kept| kept["checkpoint_id"] == *id), "seed {seed}: {id} of {there:?}");
        }
        if let Some(kept) = there.first() {
            let new = restored(&mut world, &mut raw, &kept["checkpoint_id"]);
            assert_ne!(new, job);
            assert_eq!(world.started.last().and_then(|spec| spec.checkpoint.clone()), Some(b"7".to_vec()));
        }
        world.finish();
    }
}

#[test]
fn wherever_a_runtime_is_killed_a_restored_job_runs_once_under_its_key() {
    for seed in 0..40 {
        let mut world = giving(seed, |_| {});
        let mut raw = person(&mut world, Family::Open, "tok-a");
        let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({"n": 2}));
        let checkpoint = made(&mut world, &mut raw, job, "9");
        let wish = json!({"checkpoint_id": checkpoint, "idempotency_key": "once"});
        raw.send(&mut world, "checkpoint.restore", wish.clone());
        for _ in 0..world.below(8) {
            world.step();
        }
        let told: Vec<Value> = raw.take(&world).into_iter().filter(|frame| frame["type"] == "job.accepted").collect();
        world.crash();
        let mut raw = person(&mut world, Family::Open, "tok-a");
        raw.send(&mut world, "checkpoint.restore", wish.clone());
        let new = raw.expect(&mut world, "job.accepted")["job_id"].clone();
        assert!(told.iter().all(|frame| frame["job_id"] == new), "seed {seed}: it was told of another one");
        raw.settle(&mut world);
        let last = world.started.last().expect("it is started");
        assert_eq!((last.checkpoint.as_deref(), last.input.as_str()), (Some(b"9".as_slice()), "{\"n\":2}"));
        raw.send(&mut world, "checkpoint.restore", wish);
        assert_eq!(raw.expect(&mut world, "job.accepted")["job_id"], new, "seed {seed}");
        raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": made_up(job), "idempotency_key": "once"}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), "ALREADY_EXISTS", "seed {seed}");
        world.finish();
    }
}

fn made_up(job: JobId) -> String {
    format!("chk_{}_999", job.ulid())
}

#[test]
fn nobody_else_sees_a_checkpoint_or_begins_at_it() {
    for family in BOTH {
        let mut world = giving(3, |_| {});
        let mut raw = person(&mut world, family, "tok-a");
        let job = run(&mut world, &mut raw, family, "waiter", json!({}));
        let checkpoint = made(&mut world, &mut raw, job, "1");
        let mut other = person(&mut world, family, "tok-b");
        let refusal = if family == Family::Open { "nack" } else { "session.error" };
        let mut said = Vec::new();
        for (kind, payload) in [
            ("checkpoint.restore", json!({"checkpoint_id": checkpoint})),
            ("checkpoint.restore", json!({"checkpoint_id": made_up(job)})),
            ("checkpoint.restore", json!({"checkpoint_id": "chk_1"})),
            ("checkpoint.create", json!({"job_id": job})),
            ("x-vendor.arcp.checkpoints.list", json!({"job_id": job})),
        ] {
            other.send(&mut world, kind, payload);
            let frame = other.expect(&mut world, refusal);
            said.push((code(&frame).to_string(), frame["payload"]["message"].to_string()));
        }
        assert!(said.iter().all(|(code, _)| code == "NOT_FOUND" || code == "JOB_NOT_FOUND"), "{said:?}");
        assert!(said[..3].iter().all(|refused| *refused == said[0]), "all look alike: {said:?}");
        assert!(world.wanted.len() == 1, "its agent was not asked");
        world.finish();
    }
}

#[test]
fn who_can_give_no_checkpoint_is_not_asked_and_the_capability_is_there_only_where_some_can() {
    let mut world = World::configured(4, |config| config.restartable_agents.clear());
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["checkpoints"] = json!(true);
    let (mut raw, accepted) = Raw::open_with(&mut world, payload);
    assert_ne!(accepted["payload"]["capabilities"]["checkpoints"], json!(true), "{accepted}");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    create(&mut world, &mut raw, job, "");
    assert_eq!(code(&raw.expect(&mut world, "nack")), "UNIMPLEMENTED");
    world.finish();

    let mut world = giving(4, |_| {});
    let mut raw = person(&mut world, Family::Open, "tok-a");
    for (agent, why) in [("stubborn", "cannot go on from a checkpoint"), ("stepper", "gives none when asked")] {
        let job = run(&mut world, &mut raw, Family::Open, agent, json!({"steps": 100}));
        create(&mut world, &mut raw, job, "");
        let nack = raw.expect(&mut world, "nack");
        assert_eq!(code(&nack), "UNIMPLEMENTED");
        assert!(nack["payload"]["message"].to_string().contains(why), "{nack}");
        raw.take(&world);
        if agent == "stepper" {
            break;
        }
    }
    assert!(world.wanted.is_empty());
    world.finish();
}

#[test]
fn an_agent_that_says_nothing_has_a_deadline_and_one_request_waits_at_a_time() {
    let mut world = giving(5, |config| config.limits.artifact.checkpoint_wait = Duration::from_secs(7));
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let id = create(&mut world, &mut raw, job, "");
    create(&mut world, &mut raw, job, "");
    assert_eq!(code(&raw.expect(&mut world, "nack")), "FAILED_PRECONDITION", "one waits already");
    world.run_for(Duration::from_millis(6900));
    assert!(raw.take(&world).iter().all(|frame| frame["type"] == "job.heartbeat"));
    world.run_for(Duration::from_millis(200));
    let told = answer(&mut raw, &mut world, &id);
    assert_eq!(code(&told), "DEADLINE_EXCEEDED");
    // Another one can be asked for, and the end of the job answers it.
    let id = create(&mut world, &mut raw, job, "");
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job}));
    world.settle();
    let told = answer(&mut raw, &mut world, &id);
    assert_eq!(code(&told), "FAILED_PRECONDITION", "{told}");
    world.finish();
}

#[test]
fn the_same_message_once_more_is_answered_with_the_same_checkpoint_after_a_restart_too() {
    let mut world = giving(6, |_| {});
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let wish = json!({"job_id": job, "label": "l"});
    let id = raw.send(&mut world, "checkpoint.create", wish.clone());
    world.settle();
    let again =
        |id: &str| json!({"arcp": "1.1", "id": id, "type": "checkpoint.create", "payload": wish.clone()}).to_string();
    // While its agent is at it, from another session as well.
    let mut second = person(&mut world, Family::Open, "tok-a");
    second.send_text(&mut world, &again(&id));
    world.settle();
    make(&mut world, job, "1", None);
    let first = answer(&mut second, &mut world, &id)["payload"]["checkpoint_id"].clone();
    second.send_text(&mut world, &again(&id));
    assert_eq!(answer(&mut second, &mut world, &id)["payload"]["checkpoint_id"], first);
    world.crash();
    let mut back = person(&mut world, Family::Open, "tok-a");
    back.send_text(&mut world, &again(&id));
    assert_eq!(answer(&mut back, &mut world, &id)["payload"]["checkpoint_id"], first);
    assert_eq!(world.wanted.len(), 1, "its agent was asked once");
    world.finish();
}

#[test]
fn the_oldest_that_an_agent_made_by_itself_goes_first_and_what_was_asked_for_stays() {
    let mut world = giving(7, |config| config.limits.artifact.checkpoints_per_job = 3);
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let asked = made(&mut world, &mut raw, job, "0");
    for state in ["1", "2", "3", "4"] {
        make(&mut world, job, state, Some(state));
    }
    let labels = |list: &[Value]| list.iter().map(|kept| kept["label"].to_string()).collect::<Vec<_>>();
    let there = listed(&mut world, &mut raw, job);
    assert_eq!(labels(&there), ["\"mine\"", "\"3\"", "\"4\""]);
    assert_eq!(there[0]["checkpoint_id"], asked);
    made(&mut world, &mut raw, job, "5");
    made(&mut world, &mut raw, job, "6");
    assert_eq!(labels(&listed(&mut world, &mut raw, job)), ["\"mine\"", "\"mine\"", "\"mine\""]);
    create(&mut world, &mut raw, job, "");
    let nack = raw.expect(&mut world, "nack");
    assert_eq!(code(&nack), "RESOURCE_EXHAUSTED");
    make(&mut world, job, "7", Some("7"));
    assert_eq!(listed(&mut world, &mut raw, job).len(), 3, "no room for one that nobody asked for");
    // It is what its own agent goes on from all the same.
    world.crash();
    world.settle();
    assert_eq!(world.started.last().and_then(|spec| spec.checkpoint.clone()), Some(b"7".to_vec()));
    world.finish();
}

#[test]
fn bytes_of_checkpoints_have_a_bound_for_each_job_and_for_all() {
    let mut world = giving(8, |config| config.limits.artifact.checkpoint_bytes_per_job = 1500);
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let large = "x".repeat(1000);
    for _ in 0..3 {
        make(&mut world, job, &large, None);
        assert_eq!(listed(&mut world, &mut raw, job).len(), 1, "the newest takes the place of the one before");
    }
    make(&mut world, job, &"x".repeat(1400), None);
    assert_eq!(listed(&mut world, &mut raw, job).len(), 1, "what is too large takes no place");
    world.finish();

    let mut world = giving(9, |config| config.limits.artifact.all_checkpoint_bytes = 8000);
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let jobs = [(); 3].map(|()| run(&mut world, &mut raw, Family::Open, "waiter", json!({})));
    for job in jobs {
        make(&mut world, job, &large, None);
    }
    let kept: Vec<usize> = jobs.iter().map(|job| listed(&mut world, &mut raw, *job).len()).collect();
    assert_eq!(kept, [1, 0, 0], "its share is a quarter of what is there");
    let id = create(&mut world, &mut raw, jobs[1], "");
    make(&mut world, jobs[1], &large, None);
    assert_eq!(code(&answer(&mut raw, &mut world, &id)), "RESOURCE_EXHAUSTED");
    world.finish();
}

#[test]
fn a_checkpoint_is_kept_as_long_as_its_job() {
    let mut world = giving(10, |config| config.timing.job_retention = Some(Duration::from_secs(60)));
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "stepper", json!({"steps": 3}));
    world.run_for(Duration::from_secs(30));
    raw.take(&world);
    let there = listed(&mut world, &mut raw, job);
    assert_eq!(there.len(), 3, "{there:?}");
    let after = |world: &mut World, raw: &mut Raw, wish: &Value| {
        raw.send(world, "checkpoint.restore", json!({"checkpoint_id": wish}));
        let frames = raw.until_end(world);
        frames.iter().filter(|frame| frame["type"] == "job.progress").count()
    };
    assert_eq!(after(&mut world, &mut raw, &there[1]["checkpoint_id"]), 1, "the third step alone is done again");
    world.crash();
    let mut raw = person(&mut world, Family::Open, "tok-a");
    assert_eq!(
        after(&mut world, &mut raw, &there[0]["checkpoint_id"]),
        2,
        "a restart keeps them, of jobs that are over too"
    );
    world.run_for(Duration::from_secs(600));
    let mut raw = person(&mut world, Family::Open, "tok-a");
    raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": there[0]["checkpoint_id"]}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "NOT_FOUND");
    world.finish();
}

#[test]
fn a_restored_job_may_do_and_spend_what_is_left_of_the_lease_and_no_more() {
    let mut world = giving(11, |_| {});
    let mut payload = with_checkpoints("tok-a");
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.extend([json!("cost.budget"), json!("lease_expires_at")]);
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", payload);
    raw.expect(&mut world, "session.welcome");
    let end = "2099-01-01T00:00:00Z";
    let asked = json!({
        "agent": "waiter", "lease_constraints": {"expires_at": end}, "max_runtime_sec": 500,
        "lease_request": {"tool.call": ["demo.*"], "cost.budget": ["USD:5.00"]},
    });
    let job = raw.submit(&mut world, asked)["job_id"].as_str().and_then(JobId::parse).expect("a job");
    raw.settle(&mut world);
    let spend = |world: &mut World, job: JobId, value: &str| {
        let body = Json::parse(&format!(r#"{{"name":"cost.inference","value":{value},"unit":"USD"}}"#));
        let call = AgentCall::Emit { kind: "metric".into(), body: body.expect("JSON") };
        world.input(Input::Agent { job, call });
        world.settle();
    };
    spend(&mut world, job, "3.5");
    let checkpoint = made(&mut world, &mut raw, job, "1");
    raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": checkpoint}));
    let accepted = raw.expect(&mut world, "job.accepted");
    let lease = &accepted["payload"]["lease"];
    assert_eq!(lease["tool.call"], json!(["demo.*"]), "{accepted}");
    assert!(accepted["payload"]["lease"]["cost.budget"].to_string().contains("USD:1.5"), "{accepted}");
    let constraints = accepted["payload"]["lease_constraints"]["expires_at"].to_string();
    assert!(constraints.contains("2099-01-01T00:00:00"), "{accepted}");
    spend(&mut world, job, "2");
    raw.settle(&mut world);
    raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": checkpoint}));
    assert_eq!(code(&raw.expect(&mut world, "session.error")), "BUDGET_EXHAUSTED");
    world.finish();
}

#[test]
fn whoever_resumes_at_a_checkpoint_is_sent_what_came_after_it() {
    let mut world = giving(12, |_| {});
    let mut raw = person(&mut world, Family::Open, "tok-a");
    raw.invoke(&mut world, json!({"tool": "stepper", "arguments": {"steps": 4}}));
    let frames = raw.until_end(&mut world);
    let told: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "job.checkpoint").collect();
    assert_eq!(told.len(), 4);
    let seen = |frames: &[Value]| frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect::<Vec<_>>();
    let wanted: Vec<u64> = seen(&frames).into_iter().filter(|seq| Some(*seq) > told[1]["event_seq"].as_u64()).collect();
    let checkpoint = &told[1]["payload"]["checkpoint_id"];
    raw.send(&mut world, "resume", json!({"checkpoint_id": checkpoint, "include_open_streams": true}));
    world.settle();
    let replayed = raw.take(&world);
    assert_eq!(seen(&replayed), wanted);
    assert!(replayed.last().is_some_and(|ack| ack["payload"]["detail"].to_string().contains("resume complete")));
    // With a message as well, the later one counts.
    let later = json!({"checkpoint_id": checkpoint, "after_message_id": told[3]["id"]});
    raw.send(&mut world, "resume", later);
    world.settle();
    assert_eq!(seen(&raw.take(&world)).first(), wanted.iter().find(|seq| Some(**seq) > told[3]["event_seq"].as_u64()));
    let job = told[0]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    for unknown in [json!(made_up(job)), json!("chk_1")] {
        raw.send(&mut world, "resume", json!({"checkpoint_id": unknown}));
        assert_eq!(code(&raw.expect(&mut world, "nack")), "DATA_LOSS");
    }
    world.finish();
}

#[test]
fn a_handed_over_job_takes_its_checkpoints_with_it() {
    let mut world = giving(13, |_| {});
    let [mut raw, mut other] = ["tok-alice", "tok-bob"].map(|token| {
        let mut payload = open_payload(token);
        payload["capabilities"]["checkpoints"] = json!(true);
        payload["capabilities"]["agent_handoff"] = json!(true);
        Raw::open_with(&mut world, payload).0
    });
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let checkpoint = made(&mut world, &mut raw, job, "1");
    let id = create(&mut world, &mut raw, job, "");
    raw.send(&mut world, "agent.handoff", json!({"job_id": job, "target": {"principal": "bob"}}));
    world.settle();
    let frames = raw.take(&world);
    let refused = frames.iter().find(|frame| frame["type"] == "nack" && frame["correlation_id"] == *id);
    assert_eq!(refused.map(code), Some("FAILED_PRECONDITION"), "{frames:?}");
    raw.send(&mut world, "checkpoint.restore", json!({"checkpoint_id": checkpoint}));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "NOT_FOUND");
    other.settle(&mut world);
    restored(&mut world, &mut other, &checkpoint);
    world.finish();
}

#[test]
fn what_an_agent_made_by_itself_stays_where_a_new_one_has_no_room_anyway() {
    let mut world = giving(20, |config| config.limits.artifact.checkpoint_bytes_per_job = 1600);
    let mut raw = person(&mut world, Family::Open, "tok-a");
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    made(&mut world, &mut raw, job, &"x".repeat(600));
    make(&mut world, job, "own", Some("own"));
    make(&mut world, job, &"x".repeat(800), None);
    let kept = listed(&mut world, &mut raw, job);
    assert_eq!(kept.len(), 2, "{kept:?}");
    world.restores();
    world.finish();
}

#[test]
fn a_job_that_has_run_or_begins_at_a_checkpoint_goes_to_no_other_runtime() {
    let mut world = giving(21, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.principal_share = 100;
        let east = Receiver { url: "wss://east.test/arcp".into(), fingerprint: None };
        config.authority.handoff.receivers = [("east".to_string(), east)].into();
    });
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["checkpoints"] = json!(true);
    payload["capabilities"]["agent_handoff"] = json!(true);
    let mut raw = Raw::open_with(&mut world, payload).0;
    let job = run(&mut world, &mut raw, Family::Open, "waiter", json!({}));
    let checkpoint = made(&mut world, &mut raw, job, "1");
    let waiting = restored(&mut world, &mut raw, &checkpoint);
    raw.send_with(
        &mut world,
        "agent.handoff",
        json!({"target": {"runtime": "east"}}),
        json!({"job_id": waiting.to_string()}),
    );
    let refused = raw.expect_any(&mut world, &["ack", "nack"]);
    assert_eq!(code(&refused), "FAILED_PRECONDITION", "{refused}");
    assert!(refused.to_string().contains("checkpoint"), "{refused}");
    assert!(world.receiver.orders.is_empty());
    world.finish();
}

#[test]
fn ids_of_messages_are_each_ones_own_where_two_ask_for_checkpoints_of_a_job() {
    let mut world = giving(22, |config| {
        config.limits.artifact.checkpoint_wait = Duration::from_secs(7);
        config.operators = [arcp_proto::id::Principal::new("eye").expect("a name")].into();
    });
    let mut alice = person(&mut world, Family::Open, "tok-a");
    let mut eye = person(&mut world, Family::Open, "tok-eye");
    let job = run(&mut world, &mut alice, Family::Open, "waiter", json!({}));
    let wish = json!({"arcp": "1.1", "id": "1", "type": "checkpoint.create", "payload": {"job_id": job}}).to_string();
    eye.send_text(&mut world, &wish);
    world.run_for(Duration::from_secs(8));
    assert_eq!(code(&answer(&mut eye, &mut world, "1")), "DEADLINE_EXCEEDED");
    alice.send_text(&mut world, &wish);
    world.settle();
    eye.send_text(&mut world, &wish);
    assert_eq!(code(&answer(&mut eye, &mut world, "1")), "FAILED_PRECONDITION", "its own was never made");
    make(&mut world, job, "1", None);
    assert_eq!(answer(&mut alice, &mut world, "1")["type"], "job.checkpoint");
    eye.send_text(&mut world, &wish);
    assert_eq!(code(&answer(&mut eye, &mut world, "1")), "FAILED_PRECONDITION", "that is alice's");
    world.finish();
}

#[test]
fn ids_of_messages_are_each_sessions_own_where_its_family_has_it_so() {
    let mut world = giving(31, |_| {});
    let [mut one, mut two] = [(); 2].map(|()| person(&mut world, Family::Hello, "tok-a"));
    let job = run(&mut world, &mut one, Family::Hello, "waiter", json!({}));
    let wish = json!({"arcp": "1.1", "id": "1", "type": "checkpoint.create", "payload": {"job_id": job}}).to_string();
    one.send_text(&mut world, &wish);
    world.settle();
    make(&mut world, job, "1", None);
    let first = answer(&mut one, &mut world, "1")["payload"]["checkpoint_id"].clone();
    two.send_text(&mut world, &wish);
    world.settle();
    assert_eq!(world.wanted.len(), 2, "the agent is asked once more");
    make(&mut world, job, "2", None);
    let second = answer(&mut two, &mut world, "1")["payload"]["checkpoint_id"].clone();
    assert!(first.is_string() && second.is_string() && first != second, "{first} {second}");
    world.finish();
}
