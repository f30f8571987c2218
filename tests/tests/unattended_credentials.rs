//! Credentials for jobs that no client submits directly: steps of workflows, and jobs of schedules (1.1 §9.8, RFC
//! §6.2, §10.6).

use std::collections::BTreeSet;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::model::event::JobError;
use arcp_proto::model::workflow::AGENT;
use arcp_proto::runtime::{
    AgentCall, AgentExit, Config, HeldFor, Input, Models, Operator, Record, Wait, held_bytes_of,
};
use arcp_tests::canaries::CANARY;
use arcp_tests::raw::{Raw, open_payload};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const HOURLY: &str = "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY";

fn world(seed: u64) -> World {
    configured(seed, |_| {})
}

/// Credentials are issued, and the inputs of `echo` and `waiter` checked before.
fn configured(seed: u64, change: impl Fn(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.authority.workflows = true;
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(100 * 24 * HOUR);
        config.models = Models { provisions: true, ..Models::default() };
        let checked = config.agents.iter_mut().filter(|entry| ["echo", "waiter"].contains(&entry.name.as_str()));
        checked.for_each(|entry| entry.checks_input = true);
        change(config);
    })
}

fn open(world: &mut World) -> Raw {
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    payload["capabilities"]["provisioned_credentials"] = json!(true);
    Raw::open_with(world, payload).0
}

/// Runs the world until this is so.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    while !is_so(world) {
        assert!(world.step(), "nothing more happens");
    }
}

/// A step with a lease by which credentials are issued.
fn with_models(id: &str, tool: &str, more: Value) -> Value {
    let lease = json!({"model.use": ["gpt-4"], "cost.budget": ["USD:1"]});
    let mut step = json!({"id": id, "tool": tool, "lease_request": lease});
    step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    step
}

fn may_use_models() -> Value {
    json!({"model.use": ["gpt-*"], "cost.budget": ["USD:4"]})
}

/// Starts a workflow that may use models; gives its job.
fn start(world: &mut World, raw: &mut Raw, steps: Value) -> JobId {
    raw.send(world, "workflow.start", json!({"workflow": {"steps": steps}, "lease_request": may_use_models()}));
    let accepted = raw.expect_any(world, &["job.accepted", "nack"]);
    assert_eq!(accepted["type"], "job.accepted", "{accepted}");
    accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// The agent of a job ends.
fn exit(world: &mut World, job: JobId, exit: AgentExit) {
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit });
    world.settle();
}

fn success() -> AgentExit {
    AgentExit::Success { result: None, summary: None }
}

fn cancel(world: &mut World, job: JobId) {
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
}

/// Jobs whose credentials count.
fn counting(world: &World) -> BTreeSet<JobId> {
    world.provisioner.counting.keys().map(|(job, _)| *job).collect()
}

/// The values that agents were started with.
fn started_with(world: &World) -> Vec<String> {
    let all = world.started.iter().flat_map(|spec| &spec.credentials);
    all.map(|credential| credential.value.expose().to_string()).collect()
}

#[test]
fn a_step_has_credentials_of_its_own_and_who_started_the_workflow_sees_them_renewed() {
    let mut world = world(1);
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let mut later = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let steps = json!([with_models("a", "waiter", json!({})), {"id": "b", "tool": "waiter"}]);
    let submit = json!({"agent": AGENT, "input": {"workflow": steps}, "lease_request": may_use_models()});
    let accepted = raw.submit(&mut world, submit);
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    world.run_for(SECOND);
    let children = world.children_of(job);
    let (a, b) = (children["a/1"], children["b/1"]);
    let [order] = world.provisioner.ordered.as_slice() else { panic!("{:?}", world.provisioner.ordered) };
    assert_eq!((order.job, order.lease.as_str()), (a, r#"{"model.use":["gpt-4"],"cost.budget":["USD:1"]}"#));
    assert_eq!(started_with(&world), [format!("{CANARY}{a}-1")], "one of two steps has one");
    assert_eq!(world.started.len(), 2);
    assert_eq!(world.checks.asked.len(), 2, "the input of each is checked once");
    for raw in [&mut raw, &mut later] {
        raw.send(&mut world, "job.subscribe", json!({"job_id": a.to_string(), "history": true}));
        raw.expect(&mut world, "job.subscribed");
    }
    world.input(Input::AgentAsked {
        job: a,
        id: CallId(1),
        call: AgentCall::RenewCredential { id: "cred-1".into(), value: None },
    });
    world.run_for(SECOND);
    let (own, other) = (raw.take(&world), later.take(&world));
    let renewed =
        |frames: &[Value]| frames.iter().filter(|frame| frame.to_string().contains("credential_rotated")).count();
    assert_eq!((renewed(&own), renewed(&other)), (1, 1));
    assert!(format!("{own:?}").contains(CANARY) && !format!("{other:?}").contains(CANARY));
    world.restores();
    exit(&mut world, a, success());
    assert_eq!(counting(&world), BTreeSet::new(), "before its end is seen");
    exit(&mut world, b, success());
    world.run_for(SECOND);
    assert!(world.end_of(job).is_some_and(|end| end["status"] == "Success"));
    world.finish();
}

#[test]
fn a_step_without_its_credentials_fails_or_is_tried_again_and_late_ones_are_revoked() {
    let mut world = world(2);
    let mut raw = open(&mut world);
    world.provisioner.fails = Some("the gateway is away".into());
    let refused = start(&mut world, &mut raw, json!([with_models("a", "echo", json!({}))]));
    world.run_for(SECOND);
    let why = world.end_of(refused).expect("it has failed").to_string();
    assert!(why.contains("step `a`: the job gets no credentials: the gateway is away"), "{why}");
    assert!(why.contains("Unavailable"), "{why}");
    world.provisioner.fails = None;
    world.provisioner.silent = true;
    let silent = start(&mut world, &mut raw, json!([with_models("a", "echo", json!({}))]));
    world.run_for(9 * SECOND);
    assert_eq!((world.end_of(silent), world.waits().get(&silent)), (None, Some(&Wait::Check)));
    world.run_for(2 * SECOND);
    let why = world.end_of(silent).expect("it has failed").to_string();
    assert!(why.contains("step `a`: the credentials of the job were not issued in time"), "{why}");
    assert_eq!(counting(&world).len(), 1, "nobody says so");
    let retry = json!({"retry": {"limit": 1, "backoff": 1}});
    let again = start(&mut world, &mut raw, json!([with_models("a", "waiter", retry)]));
    world.run_for(10 * SECOND + SECOND / 2);
    assert_eq!(world.waits().get(&again), Some(&Wait::Retry));
    world.provisioner.silent = false;
    world.run_for(2 * SECOND);
    let step = world.children_of(again)["a/2"];
    assert_eq!(world.children_of(again).len(), 1, "the first try had no job");
    world.say_issued();
    world.run_for(SECOND);
    assert_eq!(counting(&world), BTreeSet::from([step]), "what came too late is revoked");
    exit(&mut world, step, success());
    world.run_for(SECOND);
    assert!(world.end_of(again).is_some_and(|end| end["status"] == "Success"));
    assert_eq!(counting(&world), BTreeSet::new());
    world.restores();
    world.finish();
}

#[test]
fn a_step_whose_money_is_gone_once_its_credentials_are_there_fails_and_they_are_revoked() {
    let mut world = world(3);
    let mut raw = open(&mut world);
    world.provisioner.silent = true;
    let dear = json!({"lease_request": {"model.use": ["gpt-4"], "cost.budget": ["USD:3"]}});
    let other = json!({"id": "b", "tool": "waiter", "lease_request": {"cost.budget": ["USD:2"]}});
    let job = start(&mut world, &mut raw, json!([with_models("a", "waiter", dear), other]));
    world.run_for(SECOND);
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["b/1"]);
    assert_eq!(counting(&world).len(), 1);
    world.say_issued();
    world.run_for(SECOND);
    let why = world.end_of(job).expect("it has failed").to_string();
    assert!(why.contains("LeaseSubsetViolation"), "{why}");
    assert_eq!(counting(&world), BTreeSet::new());
    world.restores();
    world.finish();
}

#[test]
fn a_workflow_that_stops_while_a_step_waits_for_credentials_leaves_none() {
    for (seed, (says_first, how)) in
        (10..).zip([(false, "cancelled"), (true, "cancelled"), (false, "failed"), (true, "failed")])
    {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        world.provisioner.silent = true;
        let steps = json!([with_models("a", "waiter", json!({})), {"id": "b", "tool": "waiter"}]);
        let job = start(&mut world, &mut raw, steps);
        world.run_for(SECOND);
        let children = world.children_of(job);
        assert_eq!(children.keys().collect::<Vec<_>>(), ["b/1"]);
        assert_eq!(counting(&world).len(), 1);
        if says_first {
            // It comes in the same moment.
            world.say_issued();
        }
        match how {
            "cancelled" => cancel(&mut world, job),
            _ => exit(&mut world, children["b/1"], AgentExit::Failure(JobError::new(ErrorCode::Cancelled, "no"))),
        }
        world.run_for(2 * SECOND);
        world.say_issued();
        world.settle();
        let begun = world.children_of(job).len();
        assert!(begun == 1 || says_first && how == "failed", "{how}: {begun}");
        assert_eq!(counting(&world), BTreeSet::new(), "{how}");
        assert!(world.end_of(job).is_some(), "{how}");
        assert_eq!(world.runtime().stats().unfinished_jobs, 0, "{how}");
        world.restores();
        world.finish();
    }
}

#[test]
fn a_crash_while_a_step_waits_leaves_no_credentials_and_the_step_is_begun_again() {
    let (mut ordered, mut lost) = (0, 0);
    for seed in 20..44 {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        let steps = json!([with_models("a", "echo", json!({"retry": {"limit": 2}}))]);
        let job = start(&mut world, &mut raw, steps);
        for _ in 0..seed - 20 {
            world.step();
        }
        let begun = world.children_of(job).len();
        let is_ended = world.end_of(job).is_some();
        world.crash();
        world.run_for(5 * SECOND);
        let why = world.end_of(job).expect("it goes on by itself").to_string();
        assert!(why.contains("Success"), "seed {seed}: {why}");
        assert_eq!(counting(&world), BTreeSet::new(), "seed {seed}");
        (ordered, lost) = (
            ordered + usize::from(world.provisioner.ordered.len() > 1 && begun == 0),
            lost + usize::from(begun == 1 && !is_ended),
        );
        world.restores();
        world.finish();
    }
    assert!(ordered > 0, "none was ordered once more");
    assert!(lost > 0, "none had begun");
}

#[test]
fn a_step_waits_while_its_principal_has_as_many_credentials_as_it_may() {
    let mut world = configured(50, |config| config.limits.credential.jobs_with_credentials = 1);
    let mut raw = open(&mut world);
    let steps = json!([with_models("a", "waiter", json!({})), with_models("b", "waiter", json!({}))]);
    let job = start(&mut world, &mut raw, steps);
    world.run_for(20 * SECOND);
    assert_eq!(world.provisioner.ordered.len(), 1);
    let first = world.children_of(job);
    assert_eq!(first.len(), 1);
    first.into_values().for_each(|step| exit(&mut world, step, success()));
    world.run_for(6 * SECOND);
    let both = world.children_of(job);
    assert_eq!((both.len(), world.provisioner.ordered.len()), (2, 2));
    both.into_values()
        .filter(|step| world.provisioner.counts(*step))
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|step| exit(&mut world, step, success()));
    world.run_for(SECOND);
    assert!(world.end_of(job).is_some_and(|end| end["status"] == "Success"));
    assert_eq!(counting(&world), BTreeSet::new());
    world.finish();
}

/// Keeps a schedule `s` of `waiter` that may use models.
fn schedule(world: &mut World, raw: &mut Raw, when: Value, more: Value) {
    let lease = json!({"model.use": ["gpt-4"]});
    let payload = json!({"tool": "waiter", "arguments": {"n": 1}, "lease_request": lease});
    let mut wish = json!({"schedule_id": "s", "job": {"type": "tool.invoke", "payload": payload}, "when": when});
    wish.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    raw.send(world, "job.schedule", wish);
    let kept = raw.expect_any(world, &["ack", "nack"]);
    assert_eq!(kept["type"], "ack", "{kept}");
}

fn shown(world: &mut World, raw: &mut Raw) -> Value {
    raw.send(world, "x-vendor.arcp.schedules.list", json!({}));
    raw.expect(world, "x-vendor.arcp.schedules")["payload"]["schedules"][0].clone()
}

/// The times that had a job, with it, in the order of the jobs: none has two.
fn fired(world: &World) -> Vec<(String, JobId)> {
    let mut times = Vec::new();
    for (_, record) in world.store.records(false) {
        let Record::JobAccepted(job) = record else { continue };
        let Some(firing) = &job.bounds.firing else { continue };
        let time = firing.at.to_string()[11..19].to_string();
        assert!(times.iter().all(|(other, _)| *other != time), "{time} has two jobs");
        times.push((time, job.job));
    }
    times
}

fn times(world: &World) -> Vec<String> {
    fired(world).into_iter().map(|(time, _)| time).collect()
}

#[test]
fn the_job_of_each_time_has_credentials_of_its_own() {
    let mut world = world(60);
    let mut raw = open(&mut world);
    schedule(&mut world, &mut raw, json!({"every": HOURLY}), json!({}));
    assert!(world.provisioner.ordered.is_empty(), "none are issued before its time");
    for hour in 1..=2 {
        world.run_for(HOUR + SECOND);
        let (_, job) = fired(&world).pop().expect("a job");
        assert_eq!((fired(&world).len(), world.provisioner.ordered.len()), (hour, hour));
        assert_eq!(counting(&world), BTreeSet::from([job]));
        assert_eq!(started_with(&world).pop(), Some(format!("{CANARY}{job}-1")));
        world.restores();
        exit(&mut world, job, success());
        assert_eq!(counting(&world), BTreeSet::new());
    }
    assert_eq!(shown(&mut world, &mut raw)["fired"], 2);
    assert!(!format!("{:?}", raw.take(&world)).contains(CANARY));
    world.finish();
}

#[test]
fn a_time_without_credentials_passes_with_why_and_the_next_one_has_its_job() {
    let mut world = world(61);
    let mut raw = open(&mut world);
    schedule(&mut world, &mut raw, json!({"every": HOURLY}), json!({}));
    world.provisioner.fails = Some("the gateway is away".into());
    world.run_for(HOUR + SECOND);
    let failed = shown(&mut world, &mut raw);
    assert_eq!((&failed["fired"], &failed["skipped"]), (&json!(0), &json!(1)), "{failed}");
    assert!(failed.to_string().contains("the job gets no credentials: the gateway is away"), "{failed}");
    world.provisioner.fails = None;
    world.provisioner.silent = true;
    world.run_for(HOUR + 8 * SECOND);
    assert_eq!(shown(&mut world, &mut raw)["skipped"], 1, "it is still waited for");
    world.run_for(4 * SECOND);
    let silent = shown(&mut world, &mut raw);
    assert_eq!(silent["skipped"], 2, "{silent}");
    assert!(silent.to_string().contains("the credentials of the job were not issued in time"), "{silent}");
    world.say_issued();
    world.run_for(SECOND);
    assert_eq!(counting(&world), BTreeSet::new(), "what came too late is revoked");
    world.provisioner.silent = false;
    world.run_for(HOUR);
    assert_eq!(times(&world), ["03:00:00"]);
    assert_eq!(counting(&world).len(), 1);
    world.restores();
    world.finish();
}

#[test]
fn what_comes_while_a_run_waits_for_credentials_overlaps_it() {
    let rule = "DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=2;COUNT=40";
    let (first, all) = (vec!["00:01:02"], vec!["00:01:02", "00:01:04", "00:01:06"]);
    let cases = [("skip", first.clone(), 0), ("queue", first, 2), ("allow", all, 0)];
    for (seed, (overlap, at_once, queued)) in (70..).zip(cases) {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        // Worlds begin at midnight.
        world.run_for(Duration::from_millis(61_000 - world.now().utc.0 % 60_000));
        let more = json!({"x-vendor.arcp.overlap": overlap});
        schedule(&mut world, &mut raw, json!({"every": rule}), more);
        world.provisioner.silent = true;
        until(&mut world, |world| !world.provisioner.ordered.is_empty());
        world.run_for(5 * SECOND);
        assert_eq!((times(&world).len(), world.provisioner.ordered.len()), (0, 1), "{overlap}: one after the other");
        world.provisioner.silent = false;
        world.say_issued();
        world.run_for(Duration::from_millis(700));
        assert_eq!(times(&world), at_once, "{overlap}");
        assert_eq!(shown(&mut world, &mut raw)["queued"], queued, "{overlap}");
        raw.send(&mut world, "x-vendor.arcp.schedules.pause", json!({"schedule_id": "s"}));
        raw.expect(&mut world, "ack");
        fired(&world).into_iter().for_each(|(_, job)| exit(&mut world, job, success()));
        assert_eq!(counting(&world), BTreeSet::new());
        world.finish();
    }
}

#[test]
fn a_schedule_that_stops_while_its_job_waits_for_credentials_leaves_none() {
    for (seed, how) in (80..).zip(["paused", "ended", "revoked", "drained"]) {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        world.provisioner.silent = true;
        schedule(&mut world, &mut raw, json!({"every": HOURLY}), json!({}));
        world.run_for(HOUR + SECOND);
        assert_eq!(counting(&world).len(), 1);
        match how {
            "paused" => {
                raw.send(&mut world, "x-vendor.arcp.schedules.pause", json!({"schedule_id": "s"}));
                raw.expect(&mut world, "ack");
            }
            "ended" => {
                raw.send(&mut world, "cancel", json!({"target": "job", "target_id": "s"}));
                raw.expect(&mut world, "cancel.accepted");
            }
            "revoked" => {
                let principal = Principal::new("a").expect("a name");
                world.input(Input::Operator(Operator::Revoke { principal }));
            }
            _ => world.input(Input::Operator(Operator::Drain)),
        }
        world.say_issued();
        world.run_for(20 * SECOND);
        assert_eq!((times(&world).len(), counting(&world)), (0, BTreeSet::new()), "{how}");
        world.restores();
        world.finish();
    }
}

#[test]
fn a_crash_while_the_job_of_a_time_waits_leaves_no_credentials_and_one_job_of_that_time() {
    let (mut before, mut after) = (0, 0);
    for seed in 90..110 {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        schedule(&mut world, &mut raw, json!({"at": "2026-01-01T01:00:00Z"}), json!({}));
        until(&mut world, |world| world.checks.asked.len() > 1);
        for _ in 0..seed - 90 {
            world.step();
        }
        let had = times(&world).len();
        world.crash();
        world.run_for(30 * SECOND);
        assert_eq!(times(&world), ["01:00:00"], "seed {seed}");
        (before, after) = (before + had, after + 1 - had);
        let (_, job) = fired(&world).pop().expect("a job");
        let left = if world.end_of(job).is_some() { BTreeSet::new() } else { BTreeSet::from([job]) };
        assert_eq!(counting(&world), left, "seed {seed}");
        world.restores();
        world.finish();
    }
    assert!(before > 0 && after > 0, "{before} had their job before the crash, {after} after it");
}

#[test]
fn a_host_that_issues_too_many_already_keeps_steps_and_times_waiting_and_refuses_who_asks_himself() {
    let mut world = world(120);
    let mut raw = open(&mut world);
    schedule(&mut world, &mut raw, json!({"every": HOURLY}), json!({}));
    world.run_for(HOUR - SECOND);
    world.provisioner.busy = true;
    let job = start(&mut world, &mut raw, json!([with_models("a", "waiter", json!({}))]));
    world.run_for(20 * SECOND);
    assert_eq!((times(&world).len(), world.children_of(job).len()), (0, 0));
    assert_eq!((world.end_of(job), world.waits().get(&job)), (None, Some(&Wait::Room)));
    let listed = shown(&mut world, &mut raw);
    assert_eq!((&listed["fired"], &listed["skipped"]), (&json!(0), &json!(0)), "{listed}");
    let lease = json!({"model.use": ["gpt-4"]});
    raw.send(&mut world, "tool.invoke", json!({"tool": "slow", "lease_request": lease}));
    let refused = raw.expect_any(&mut world, &["job.accepted", "nack"]);
    assert_eq!(refused["payload"]["code"], "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!(world.provisioner.revocations.len(), 0, "nothing was begun that is to be revoked");
    world.restores();
    world.provisioner.busy = false;
    world.run_for(10 * SECOND);
    assert_eq!(times(&world), ["01:00:00"]);
    assert_eq!(world.children_of(job).len(), 1);
    assert_eq!((counting(&world).len(), world.provisioner.ordered.len()), (2, 2));
    world.finish();
}

#[test]
fn no_calendar_says_how_long_credentials_are_waited_for() {
    let mut back = world(130);
    let mut raw = open(&mut back);
    back.provisioner.silent = true;
    schedule(&mut back, &mut raw, json!({"every": HOURLY}), json!({}));
    back.run_for(HOUR + SECOND);
    let job = start(&mut back, &mut raw, json!([with_models("a", "waiter", json!({}))]));
    back.run_for(SECOND);
    assert_eq!(counting(&back).len(), 2);
    back.set_clock(-3_600_000);
    back.run_for(11 * SECOND);
    let why = back.end_of(job).expect("it has failed").to_string();
    assert!(why.contains("the credentials of the job were not issued in time"), "{why}");
    let late = shown(&mut back, &mut raw);
    assert_eq!(late["skipped"], 1, "{late}");
    assert!(late.to_string().contains("the credentials of the job were not issued in time"), "{late}");
    back.say_issued();
    back.run_for(SECOND);
    assert_eq!(counting(&back), BTreeSet::new());
    back.finish();

    let mut ahead = world(131);
    let mut raw = open(&mut ahead);
    ahead.provisioner.silent = true;
    let steps = json!([with_models("a", "waiter", json!({})), {"id": "b", "tool": "waiter"}]);
    let job = start(&mut ahead, &mut raw, steps);
    ahead.run_for(SECOND);
    ahead.set_clock(3_600_000);
    let other = ahead.children_of(job)["b/1"];
    exit(&mut ahead, other, success());
    ahead.run_for(5 * SECOND);
    ahead.say_issued();
    ahead.run_for(SECOND);
    let step = ahead.children_of(job).remove("a/1").expect("it has waited for six seconds");
    assert_eq!(counting(&ahead), BTreeSet::from([step]));
    ahead.finish();
}

#[test]
fn what_comes_while_a_run_waits_for_credentials_was_not_missed_though_no_more_times_are_known() {
    // The host is asked for times before there are none; some of these waits meet that.
    for (seed, before) in (140..).zip(0..16) {
        let mut world = world(seed);
        let mut raw = open(&mut world);
        let lease = json!({"model.use": ["gpt-4"]});
        let payload = json!({"tool": "echo", "arguments": {"n": 1}, "lease_request": lease});
        let rule = "DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=2";
        let wish = json!({"schedule_id": "s", "job": {"type": "tool.invoke", "payload": payload},
            "when": {"every": rule}, "x-vendor.arcp.overlap": "allow"});
        raw.send(&mut world, "job.schedule", wish);
        raw.expect(&mut world, "ack");
        world.run_for(before * 2 * SECOND + SECOND / 4);
        world.provisioner.silent = true;
        let ordered = world.provisioner.ordered.len();
        until(&mut world, |world| world.provisioner.ordered.len() > ordered);
        world.run_for(7 * SECOND);
        world.provisioner.silent = false;
        world.say_issued();
        world.run_for(20 * SECOND);
        let shown = shown(&mut world, &mut raw);
        assert_eq!(shown["skipped"], 0, "after {before}: {shown}");
        raw.send(&mut world, "x-vendor.arcp.schedules.pause", json!({"schedule_id": "s"}));
        raw.expect(&mut world, "ack");
        world.settle();
        world.finish();
    }
}

#[test]
fn a_time_that_waits_for_its_turn_with_the_host_was_not_missed() {
    let mut world = world(160);
    let mut raw = open(&mut world);
    for n in 0..40 {
        let payload = json!({"tool": "echo", "arguments": {"n": n}});
        let wish = json!({"schedule_id": format!("s{n}"), "job": {"type": "tool.invoke", "payload": payload},
            "when": {"at": "2026-01-01T01:00:00Z"}, "x-vendor.arcp.missed": "none"});
        raw.send(&mut world, "job.schedule", wish);
        raw.expect(&mut world, "ack");
    }
    world.run_for(HOUR + 600 * SECOND);
    let firings = world
        .store
        .records(false)
        .into_iter()
        .filter(|(_, record)| matches!(record, Record::JobAccepted(job) if job.bounds.firing.is_some()));
    assert_eq!(firings.count(), 40);
    world.finish();
}

#[test]
fn what_schedules_put_before_the_store_their_principal_has_caused_and_no_more_than_its_share() {
    let mut options = Options::new(161);
    options.config.timing.schedules = true;
    options.config.limits.history.undurable_bytes = 100_000;
    options.latency = 5 * SECOND;
    let mut world = World::new(options);
    let mut raw = open(&mut world);
    for n in 0..16 {
        let payload = json!({"tool": "echo", "arguments": {"n": "x".repeat(4000)}});
        let wish = json!({"schedule_id": format!("s{n}"), "job": {"type": "tool.invoke", "payload": payload},
            "when": {"at": "2026-01-01T01:00:00Z"}});
        raw.send(&mut world, "job.schedule", wish);
        raw.expect(&mut world, "ack");
    }
    world.run_for(Duration::from_millis(3_601_000 - world.now().utc.0 % 3_600_000));
    let principal = Principal::new("a").expect("a name");
    let caused = held_bytes_of(world.runtime(), &principal, HeldFor::Records);
    assert!((25_000..35_000).contains(&caused), "{caused}: a quarter, and one more");
    world.run_for(600 * SECOND);
    let firings = world
        .store
        .records(false)
        .into_iter()
        .filter(|(_, record)| matches!(record, Record::JobAccepted(job) if job.bounds.firing.is_some()));
    assert_eq!(firings.count(), 16);
    world.finish();
}

#[test]
fn who_waits_to_have_an_input_checked_waits_for_the_others_and_no_clock() {
    const MANY: usize = 64;
    let mut world = world(162);
    let mut raw = open(&mut world);
    for n in 0..MANY {
        let payload = json!({"tool": "echo", "arguments": {"n": n}});
        let wish = json!({"schedule_id": format!("s{n}"), "job": {"type": "tool.invoke", "payload": payload},
            "when": {"at": "2026-01-01T01:00:00Z"}});
        raw.send(&mut world, "job.schedule", wish);
        raw.expect(&mut world, "ack");
    }
    world.run_for(Duration::from_millis(3_602_000 - world.now().utc.0 % 3_600_000));
    let is_fired = |record: &Record| matches!(record, Record::JobAccepted(job) if job.bounds.firing.is_some());
    let fired = world.store.records(false).into_iter().filter(|(_, record)| is_fired(record)).count();
    assert_eq!(fired, MANY, "two seconds after their time");
    world.finish();
}

#[test]
fn what_a_workflow_submits_its_principal_has_caused_whatever_let_it_go_on() {
    let long = "x".repeat(10_000);
    for tool in ["echo", "chatty"] {
        let mut options = Options::new(163);
        options.config.authority.workflows = true;
        options.config.timing.heartbeat = None;
        let checked = options.config.agents.iter_mut().filter(|entry| entry.name == "echo");
        checked.for_each(|entry| entry.checks_input = true);
        options.latency = 5 * SECOND;
        let mut world = World::new(options);
        let mut raw = Raw::open_with(&mut world, open_payload("tok-a")).0;
        let steps: Vec<Value> =
            (0..4).map(|n| json!({"id": format!("s{n}"), "tool": tool, "arguments": {"n": n, "text": long}})).collect();
        raw.send(&mut world, "workflow.start", json!({"workflow": {"steps": steps}}));
        let principal = Principal::new("a").expect("a name");
        let caused = |world: &World| held_bytes_of(world.runtime(), &principal, HeldFor::Records);
        let mut most = 0;
        for _ in 0..200 {
            world.run_for(SECOND / 10);
            let all = world.runtime().stats().undurable_bytes;
            assert!(
                all < caused(&world) + 2000,
                "{tool}: {all} bytes, of which {} are its principal's",
                caused(&world)
            );
            most = most.max(all);
        }
        assert!(most > 40_000, "{tool}: {most}");
        world.finish();
    }
}
