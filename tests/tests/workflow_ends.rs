//! Workflows that are ended from outside, and what running workflows wait for.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::JobId;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::model::event::JobError;
use arcp_proto::model::workflow::AGENT;
use arcp_proto::runtime::{AgentExit, Config, Input, Operator, Record, Wait, waits_of};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn world(seed: u64, change: impl Fn(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.authority.workflows = true;
        config.timing.heartbeat = None;
        change(config);
    })
}

fn open(world: &mut World) -> Raw {
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["extensions"] = json!(["arcpx.arcp.types.v1", "arcpx.arcp.list_details.v1"]);
    Raw::open_with(world, payload).0
}

/// Two steps of which the second never begins: the first one is stubborn.
fn steps(agent: &str) -> Value {
    json!([{"id": "a", "tool": agent}, {"id": "b", "tool": "echo", "needs": ["a"]}])
}

fn start(world: &mut World, raw: &mut Raw, mut payload: Value) -> JobId {
    payload["input"] = json!({});
    raw.send(world, "workflow.start", payload);
    let accepted = raw.expect_any(world, &["job.accepted", "nack"]);
    accepted["payload"]["job_id"].as_str().and_then(JobId::parse).unwrap_or_else(|| panic!("{accepted}"))
}

/// What is said last of the job of a workflow: what its steps have come to, and its end.
fn end(frames: &[Value], job: JobId) -> (Value, Value) {
    let id = job.to_string();
    let of_job: Vec<&Value> =
        frames.iter().filter(|frame| frame["job_id"] == id && frame["event_seq"].is_u64()).collect();
    let [.., complete, last] = of_job.as_slice() else { panic!("{frames:#?}") };
    let said = match complete["type"].as_str() {
        Some("job.event") => {
            assert_eq!(complete["payload"]["kind"], "x-vendor.arcp.workflow_complete", "{complete}");
            complete["payload"]["body"].clone()
        }
        _ => {
            assert_eq!(complete["type"], "workflow.complete", "{complete}");
            complete["payload"].clone()
        }
    };
    (said, (*last).clone())
}

#[test]
fn a_workflow_that_is_ended_says_before_what_its_steps_have_come_to() {
    let in_two_seconds = json!({"expires_at": "2026-01-01T00:00:02Z"});
    let bounded = |name: &str, value: &Value| {
        let mut payload = json!({"workflow": {"steps": steps("waiter")}});
        payload[name] = value.clone();
        payload
    };
    for (payload, status, code, first) in [
        (bounded("max_runtime_sec", &json!(2)), "timed_out", "TIMEOUT", "running"),
        (bounded("lease_constraints", &in_two_seconds), "error", "LEASE_EXPIRED", "failed"),
    ] {
        let mut world = world(1, |_| {});
        let mut raw = open(&mut world);
        let job = start(&mut world, &mut raw, payload);
        world.run_for(Duration::from_secs(5));
        let (said, last) = end(&raw.take(&world), job);
        assert_eq!((&said["status"], &last["payload"]["code"]), (&json!(status), &json!(code)), "{said} {last}");
        assert_eq!((&said["steps"]["a"]["state"], &said["steps"]["b"]["state"]), (&json!(first), &json!("waiting")));
        assert!(said["steps"]["a"]["job_id"].is_string(), "{said}");
        world.restores();
        world.finish();
    }
}

#[test]
fn so_does_one_whose_steps_do_not_stop_when_it_is_cancelled() {
    let mut world = world(2, |_| {});
    let mut hello = hello_payload("tok-a");
    hello["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.workflows"));
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", hello);
    raw.expect(&mut world, "session.welcome");
    let input = json!({"workflow": steps("stubborn"), "input": {}});
    let accepted = raw.submit(&mut world, json!({"agent": AGENT, "input": input}));
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    raw.settle(&mut world);
    raw.send(&mut world, "job.cancel", json!({"job_id": job, "reason": "enough"}));
    world.settle();
    assert_eq!(waits_of(world.runtime(), job), [Wait::Child(child(&world, job))], "it waits for its steps");
    world.run_for(Duration::from_secs(120));
    let (said, last) = end(&raw.take(&world), job);
    assert_eq!((&said["status"], &last["payload"]["final_status"]), (&json!("cancelled"), &json!("cancelled")));
    assert!(last["payload"]["message"].as_str().is_some_and(|why| why.contains("did not stop in time")), "{last}");
    world.reap();
    world.finish();
}

#[test]
fn so_does_one_that_is_cancelled_before_it_runs_or_while_its_runtime_was_down() {
    let mut before = world(3, |_| {});
    let mut raw = open(&mut before);
    before.store.broken = true;
    raw.send(&mut before, "workflow.start", json!({"workflow": {"steps": steps("waiter")}, "input": {}}));
    before.settle();
    let job = before.runtime().waits().first().expect("it waits for the store").0;
    before.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    before.store.mend();
    before.run_for(Duration::from_secs(30));
    let (said, _) = end(&raw.take(&before), job);
    assert_eq!((&said["status"], &said["steps"]["a"]["state"]), (&json!("cancelled"), &json!("waiting")), "{said}");
    before.finish();

    let mut down = world(4, |_| {});
    let mut raw = open(&mut down);
    let job = start(&mut down, &mut raw, json!({"workflow": {"steps": steps("stubborn")}}));
    raw.settle(&mut down);
    raw.send(&mut down, "cancel", json!({"target": "job", "target_id": job, "deadline_ms": 60_000}));
    down.settle();
    down.crash();
    down.run_for(Duration::from_secs(1));
    let records = down.store.records(false);
    let of_job = records.iter().filter_map(|(_, record)| match record {
        Record::JobEvent { job: of, event } if *of == job => Some(serde_json::to_string(&event.event).expect("JSON")),
        _ => None,
    });
    let said: Vec<String> = of_job.collect();
    let [.., complete, last] = said.as_slice() else { panic!("{said:#?}") };
    assert!(complete.contains("WorkflowComplete") && complete.contains(r#""status":"cancelled""#), "{complete}");
    assert!(last.contains("Ended"), "{last}");
    down.finish();
}

/// What a listing says that a job waits for.
fn listed(world: &mut World, raw: &mut Raw, job: JobId) -> Value {
    raw.send(world, "session.list_jobs", json!({}));
    let page = raw.expect(world, "session.jobs")["payload"]["jobs"].clone();
    let id = job.to_string();
    page.as_array().expect("a list").iter().find(|shown| shown["job_id"] == id).expect("it is listed")["waits_for"]
        .clone()
}

fn child(world: &World, of: JobId) -> JobId {
    let records = world.store.records(false);
    let mut children = records.iter().filter_map(|(_, record)| match record {
        Record::JobAccepted(job) if job.bounds.parent.as_ref().is_some_and(|parent| parent.job == of) => Some(job.job),
        _ => None,
    });
    children.next_back().expect("a step was begun")
}

#[test]
fn a_workflow_whose_steps_all_wait_says_what_for() {
    let checked = |config: &mut Config| {
        let echo = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        echo.checks_input = true;
    };
    // For the time to try again.
    let mut retrying = world(5, |_| {});
    let mut raw = open(&mut retrying);
    let again = json!({"workflow": {"steps": [{"id": "a", "tool": "waiter", "retry": {"limit": 1, "backoff": 30}}]}});
    let job = start(&mut retrying, &mut raw, again);
    retrying.settle();
    let first = child(&retrying, job);
    assert_eq!(listed(&mut retrying, &mut raw, job), json!(["child"]));
    retrying.stop_script(first);
    let exit = AgentExit::Failure(JobError::new(ErrorCode::Internal, "no luck"));
    retrying.input(Input::AgentExited { job: first, exit });
    retrying.settle();
    assert_eq!(
        (waits_of(retrying.runtime(), job), listed(&mut retrying, &mut raw, job)),
        (vec![Wait::Retry], json!(["retry"]))
    );
    assert_eq!(retrying.waits().get(&job), Some(&Wait::Retry));
    retrying.crash();
    retrying.run_for(Duration::from_secs(1));
    assert_eq!(waits_of(retrying.runtime(), job), [Wait::Retry], "after a restart as well");
    retrying.run_for(Duration::from_secs(31));
    assert_eq!(waits_of(retrying.runtime(), job), [Wait::Child(child(&retrying, job))]);
    retrying.finish();

    // For room.
    let mut full = world(6, |config| {
        checked(config);
        config.limits.workflow.step_checks = 0;
    });
    let mut raw = open(&mut full);
    let job = start(&mut full, &mut raw, json!({"workflow": {"steps": [{"id": "a", "tool": "echo"}]}}));
    full.run_for(Duration::from_secs(60));
    assert_eq!(full.waits().get(&job), Some(&Wait::Room));
    assert_eq!(listed(&mut full, &mut raw, job), json!(["room"]));
    raw.send(&mut full, "cancel", json!({"target": "job", "target_id": job}));
    raw.settle(&mut full);
    assert_eq!(waits_of(full.runtime(), job), []);
    full.finish();

    // For a check.
    let mut silent = world(7, checked);
    silent.checks.silent = true;
    let mut raw = open(&mut silent);
    let job = start(&mut silent, &mut raw, json!({"workflow": {"steps": [{"id": "a", "tool": "echo"}]}}));
    silent.settle();
    assert_eq!(silent.waits().get(&job), Some(&Wait::Check));
    assert_eq!(listed(&mut silent, &mut raw, job), json!(["check"]));
    silent.checks.silent = false;
    silent.run_for(Duration::from_secs(10));
    assert_eq!(waits_of(silent.runtime(), job), []);
    silent.finish();
}
