//! Children that wait for the host: their inputs are checked and their credentials issued as for jobs that clients
//! submit.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arcp_host::input_schema::InputSchema;
use arcp_host::process::ProcessAgent;
use arcp_host::provisioner::{InMemoryProvisioner, ProvisionError, Provisioner};
use arcp_host::registry::{Registry, Terms};
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Revocation};
use arcp_proto::model::event::JobError;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::runtime::{
    AgentCall, AgentExit, AgentReply, Config, Delegation, Input, Models, Operator, Record, Remaining, Wait,
};
use arcp_proto::secret::Secret;
use arcp_tests::canaries::CANARY;
use arcp_tests::kept::Folder;
use arcp_tests::raw::{Raw, code, credentials_payload};
use arcp_tests::server::{self, Running};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Inputs of `echo` and `waiter` are checked, and credentials issued.
fn configure(config: &mut Config) {
    config.models = Models { provisions: true, ..Models::default() };
    let checked = config.agents.iter_mut().filter(|entry| ["echo", "waiter"].contains(&entry.name.as_str()));
    checked.for_each(|entry| entry.checks_input = true);
}

fn world(seed: u64) -> World {
    World::configured(seed, configure)
}

/// A job whose agent does nothing by itself, with this lease.
fn parent(world: &mut World, raw: &mut Raw, lease: Value) -> JobId {
    let accepted = raw.submit(world, json!({"agent": "waiter", "lease_request": lease}));
    world.run_for(Duration::from_millis(200));
    raw.take(world);
    let id = accepted["job_id"].as_str().or_else(|| accepted["payload"]["job_id"].as_str()).map(JobId::parse);
    id.flatten().expect("a job")
}

fn json_of(value: &Value) -> Json {
    Json::parse(&value.to_string()).expect("JSON")
}

fn child(agent: &str, id: &str, input: Value, lease: Value) -> AgentCall {
    AgentCall::Delegate(Delegation {
        input: Some(json_of(&input)),
        lease_request: Some(json_of(&lease)),
        delegate_id: Some(id.into()),
        ..Delegation::new(agent)
    })
}

/// With a lease by which credentials are issued.
fn with_models(agent: &str, id: &str) -> AgentCall {
    child(agent, id, json!({}), json!({"model.use": ["gpt-4"], "cost.budget": ["USD:3"]}))
}

fn may_use_models() -> Value {
    json!({"agent.delegate": ["*"], "model.use": ["gpt-*"], "cost.budget": ["USD:4"]})
}

fn log(text: &str) -> AgentCall {
    AgentCall::Emit { kind: "log".into(), body: json_of(&json!({"message": text})) }
}

fn asks(world: &mut World, job: JobId, id: u64, call: AgentCall) {
    world.input(Input::AgentAsked { job, id: CallId(id), call });
}

/// Its agent calls; gives what it was answered once nothing more happens.
fn ask(world: &mut World, job: JobId, id: u64, call: AgentCall) -> AgentReply {
    let before = world.replies.iter().filter(|(of, _)| *of == job).count();
    asks(world, job, id, call);
    world.settle();
    answer(world, job, before + 1).unwrap_or_else(|| panic!("call {id} of {job} is answered"))
}

/// What the agent of a job was answered as the `n`th.
fn answer(world: &World, job: JobId, n: usize) -> Option<AgentReply> {
    let mut answers = world.replies.iter().filter(|(of, _)| *of == job);
    answers.nth(n - 1).map(|(_, reply)| reply.clone())
}

fn made(reply: &AgentReply) -> JobId {
    let AgentReply::Delegated { job } = reply else { panic!("{reply:?}") };
    *job
}

fn refusal(reply: &AgentReply) -> &JobError {
    let AgentReply::Refused(error) = reply else { panic!("{reply:?}") };
    error
}

fn left(world: &mut World, job: JobId, id: u64) -> String {
    let reply = ask(world, job, id, AgentCall::Remaining);
    let AgentReply::Remaining(Remaining { budget, .. }) = reply else { panic!("{reply:?}") };
    budget.to_json().as_str().to_string()
}

fn cancel(world: &mut World, job: JobId) {
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
}

fn exits(world: &mut World, job: JobId, exit: AgentExit) {
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit });
}

fn success() -> AgentExit {
    AgentExit::Success { result: None, summary: None }
}

/// Runs the world until this is so.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    while !is_so(world) {
        assert!(world.step(), "nothing more happens");
    }
}

/// The kinds of the events that were sent of a job, and `end`.
fn kinds(frames: &[Value], job: JobId) -> Vec<String> {
    let of_job = frames.iter().filter(|frame| frame["job_id"] == job.to_string());
    of_job.map(|frame| frame["payload"]["kind"].as_str().unwrap_or("end").to_string()).collect()
}

#[test]
fn the_input_of_an_agents_child_is_checked_as_that_of_a_clients_job() {
    let mut world = world(1);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"], "cost.budget": ["USD:4"]}));
    let asked = world.checks.asked.len();
    let bad = ask(&mut world, job, 1, child("echo", "d1", json!({"bad": 1}), json!({"cost.budget": ["USD:3"]})));
    let error = refusal(&bad);
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert_eq!(error.message, "the input does not fit the agent: `/bad`: must not be there");
    let frames = raw.take(&world);
    assert_eq!(kinds(&frames, job), ["delegate", "tool_result"]);
    assert_eq!(frames[1]["payload"]["body"]["error"]["details"]["pointer"], "/bad");
    assert_eq!(left(&mut world, job, 2), r#"{"USD":4}"#, "what was refused costs nothing");
    let good = made(&ask(&mut world, job, 3, child("echo", "d2", json!({"good": 1}), json!({}))));
    let end = ask(&mut world, job, 4, AgentCall::AwaitChild { job: good });
    let AgentReply::ChildEnded(end) = end else { panic!("{end:?}") };
    assert_eq!((end.status, end.result), (FinalStatus::Success, Some(json_of(&json!({"good": 1})))));
    let again = made(&ask(&mut world, job, 5, child("echo", "d2", json!({"good": 1}), json!({}))));
    assert_eq!(again, good);
    assert_eq!(world.checks.asked.len(), asked + 2, "what is there is not checked again");
    cancel(&mut world, job);
    world.settle();
    world.restores();
    world.finish();
}

#[test]
fn an_agents_child_has_credentials_of_its_own_which_its_owner_is_shown() {
    let mut world = world(2);
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let job = parent(&mut world, &mut raw, may_use_models());
    let of_job = |world: &World, job: JobId| {
        let mut counting = world.provisioner.counting.keys().filter(|(of, _)| *of == job);
        counting.next().map(|(_, value)| value.clone()).expect("it counts")
    };
    let below = made(&ask(&mut world, job, 1, with_models("waiter", "d")));
    let (above, value) = (of_job(&world, job), of_job(&world, below));
    assert_ne!(above, value);
    let started = world.started.last().expect("it is started");
    assert_eq!(started.credentials[0].value.expose(), value);
    let lease = r#"{"model.use":["gpt-4"],"cost.budget":["USD:3"]}"#;
    let order = world.provisioner.ordered.last().expect("they were ordered");
    assert_eq!((order.job, order.lease.as_str()), (below, lease));
    // What it says shows none of it.
    raw.send(&mut world, "job.subscribe", json!({"job_id": below.to_string(), "history": true}));
    raw.expect(&mut world, "job.subscribed");
    world.input(Input::Agent { job: below, call: log(&format!("{value}!")) });
    world.run_for(Duration::from_millis(200));
    let frames = raw.take(&world);
    let said = frames.iter().find(|frame| frame["payload"]["kind"] == "log").expect("it was said");
    assert_eq!(said["payload"]["body"]["message"], format!("{}!", "*".repeat(value.len())));
    assert!(!format!("{frames:?}").contains(CANARY));
    // Its owner comes to it by the name that the agent gave it.
    let submit = json!({"agent": "waiter", "input": {}, "parent_job_id": job.to_string(), "delegate_id": "d",
        "lease_request": {"model.use": ["gpt-4"], "cost.budget": ["USD:3"]}});
    let accepted = raw.submit(&mut world, submit);
    assert_eq!(accepted["payload"]["job_id"], below.to_string());
    assert_eq!(accepted["payload"]["credentials"][0]["value"], value);
    cancel(&mut world, job);
    world.settle();
    assert!(world.provisioner.counting.is_empty(), "{:?}", world.provisioner.counting);
    world.finish();
}

#[test]
fn what_an_agent_says_keeps_its_order_while_a_child_waits_and_so_does_its_end() {
    let mut world = world(3);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let delegate = |id: &str| AgentCall::Emit {
        kind: "delegate".into(),
        body: json_of(&json!({"agent": "echo", "input": {}, "delegate_id": id})),
    };
    let state = b"s".to_vec();
    let calls = vec![
        log("one"),
        delegate("a"),
        log("two"),
        AgentCall::Heartbeat,
        AgentCall::Checkpoint { state, label: Some("c".into()) },
        delegate("b"),
        log("three"),
    ];
    world.input(Input::AgentSays { job, calls });
    exits(&mut world, job, success());
    assert_eq!(world.waits().get(&job), Some(&Wait::Delegation));
    let before =
        world.store.records(false).iter().filter(|(_, record)| matches!(record, Record::JobAccepted(_))).count();
    assert_eq!(before, 1, "nothing of a child is in the store");
    world.settle();
    let frames = raw.take(&world);
    assert_eq!(kinds(&frames, job), ["log", "delegate", "log", "x-vendor.arcp.checkpoint", "delegate", "log", "end"]);
    let ids: Vec<&Value> = frames.iter().map(|frame| &frame["payload"]["body"]["delegate_id"]).collect();
    assert_eq!((ids[1], ids[4]), (&json!("a"), &json!("b")));
    assert_eq!(frames[6]["payload"]["final_status"], "success");
    assert_eq!(world.runtime().stats().unfinished_jobs, 0, "and both have ended");
    world.restores();
    world.finish();
}

#[test]
fn a_child_that_the_host_takes_too_long_for_is_refused_and_late_credentials_are_revoked() {
    let mut world = world(4);
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let job = parent(&mut world, &mut raw, may_use_models());
    world.checks.silent = true;
    let before = world.now().mono;
    asks(&mut world, job, 1, child("echo", "d1", json!({}), json!({})));
    until(&mut world, |world| answer(world, job, 1).is_some());
    let late = answer(&world, job, 1).expect("an answer");
    assert_eq!(refusal(&late).code, ErrorCode::Unavailable);
    assert_eq!(refusal(&late).message, "it was not checked in time: delegate it again");
    assert_eq!(Duration::from_micros(world.now().mono.0 - before.0).as_secs(), 2);
    world.checks.silent = false;
    world.provisioner.silent = true;
    let before = world.now().mono;
    asks(&mut world, job, 2, with_models("echo", "d2"));
    until(&mut world, |world| answer(world, job, 2).is_some());
    let late = answer(&world, job, 2).expect("an answer");
    assert!(refusal(&late).message.contains("not issued in time"), "{late:?}");
    assert_eq!(Duration::from_micros(world.now().mono.0 - before.0).as_secs(), 10);
    let ordered = world.provisioner.ordered.last().expect("they were ordered").job;
    assert!(world.provisioner.counts(ordered));
    world.say_issued();
    world.run_for(Duration::from_secs(1));
    assert!(!world.provisioner.counts(ordered));
    world.provisioner.silent = false;
    world.provisioner.fails = Some("the gateway is away".into());
    let failed = ask(&mut world, job, 3, with_models("echo", "d3"));
    assert_eq!(refusal(&failed).message, "the job gets no credentials: the gateway is away");
    assert_eq!(left(&mut world, job, 4), r#"{"USD":4}"#);
    cancel(&mut world, job);
    world.settle();
    assert!(world.provisioner.counting.is_empty());
    world.finish();
}

#[test]
fn a_parent_that_ends_while_its_child_waits_has_none_and_whatever_was_issued_is_revoked() {
    for (seed, (says_first, how)) in
        (10..).zip([(false, "cancelled"), (true, "cancelled"), (false, "failed"), (true, "failed")])
    {
        let mut world = world(seed);
        let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
        let job = parent(&mut world, &mut raw, may_use_models());
        world.provisioner.silent = true;
        asks(&mut world, job, 1, with_models("waiter", "d"));
        world.run_for(Duration::from_millis(500));
        asks(&mut world, job, 2, log("after it"));
        let ordered = world.provisioner.ordered.last().expect("they were ordered").job;
        assert_ne!(ordered, job);
        if says_first {
            // It comes in the same moment.
            world.say_issued();
        }
        match how {
            "cancelled" => {
                cancel(&mut world, job);
                let refused = answer(&world, job, 1).expect("a cancel answers it");
                assert_eq!(refusal(&refused).code, ErrorCode::Cancelled);
            }
            _ => {
                exits(&mut world, job, AgentExit::Failure(JobError::new(ErrorCode::Internal, "boom")));
                assert!(answer(&world, job, 1).is_none(), "nobody is there who could be answered");
            }
        }
        world.provisioner.silent = false;
        world.run_for(Duration::from_secs(11));
        world.say_issued();
        world.settle();
        assert!(world.provisioner.counting.is_empty(), "{how}: {:?}", world.provisioner.counting);
        let frames = raw.take(&world);
        let shown = kinds(&frames, job);
        assert!(shown.starts_with(&["delegate".into(),]), "{how}: {shown:?}");
        assert_eq!(shown.last().map(String::as_str), Some("end"), "{how}: {shown:?}");
        assert_eq!(world.runtime().stats().unfinished_jobs, 0);
        world.restores();
        world.finish();
    }
}

#[test]
fn an_agent_that_is_gone_holds_its_slot_no_longer_than_one_child_waits() {
    let event = |n: u32| AgentCall::Emit {
        kind: "delegate".into(),
        body: json_of(&json!({"agent": "failer", "lease_request": may_use_models(), "delegate_id": format!("d{n}")})),
    };
    let call = |n: u32| with_models("failer", &format!("d{n}"));
    let checked = |n: u32| child("echo", &format!("d{n}"), json!({}), json!({}));
    let ways: [&dyn Fn(u32) -> AgentCall; 3] = [&event, &call, &checked];
    for (seed, (asks, exit)) in (90..).zip(ways.iter().flat_map(|way| [(way, AgentExit::Lost), (way, success())])) {
        let mut world = world(seed);
        let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
        let job = parent(&mut world, &mut raw, may_use_models());
        (world.checks.silent, world.provisioner.silent) = (true, true);
        world.input(Input::AgentSays { job, calls: (0..50).map(asks).collect() });
        let within = if exit == AgentExit::Lost { Duration::ZERO } else { Duration::from_secs(10) };
        exits(&mut world, job, exit);
        world.run_for(within);
        world.settle();
        let stats = world.runtime().stats();
        assert_eq!((stats.running_agents, stats.unfinished_jobs), (0, 0), "{seed}");
        let shown = kinds(&raw.take(&world), job);
        // Nothing that it asked for is passed over.
        let refused = shown.iter().filter(|kind| *kind == "tool_result").count();
        assert_eq!((refused, shown.last().map(String::as_str)), (50, Some("end")), "{seed}");
        world.finish();
    }
}

#[test]
fn a_child_behind_one_that_gets_no_credentials_is_had_or_refused_though_the_agent_is_gone() {
    for is_gone in [false, true] {
        let mut world = world(100);
        let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
        let job = parent(&mut world, &mut raw, may_use_models());
        world.provisioner.fails = Some("the gateway is away".into());
        let calls = vec![with_models("echo", "d1"), child("echo", "d2", json!({}), json!({}))];
        world.input(Input::AgentSays { job, calls });
        if is_gone {
            exits(&mut world, job, success());
        }
        world.run_for(Duration::from_secs(5));
        let shown = kinds(&raw.take(&world), job);
        assert_eq!(shown[..3], ["delegate", "tool_result", "delegate"], "{is_gone}");
        cancel(&mut world, job);
        world.settle();
        world.finish();
    }
}

#[test]
fn money_that_was_spent_while_a_child_waited_is_not_granted_twice() {
    let mut world = world(20);
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let job = parent(&mut world, &mut raw, may_use_models());
    world.provisioner.silent = true;
    asks(&mut world, job, 1, with_models("waiter", "d"));
    world.run_for(Duration::from_millis(500));
    let below = json!({"agent": "waiter", "parent_job_id": job.to_string(), "delegate_id": "c",
        "lease_request": {"cost.budget": ["USD:2"]}});
    let accepted = raw.submit(&mut world, below);
    assert!(accepted["payload"]["job_id"].is_string(), "{accepted}");
    world.provisioner.silent = false;
    world.say_issued();
    world.run_for(Duration::from_secs(1));
    let refused = answer(&world, job, 1).expect("an answer");
    assert_eq!(refusal(&refused).code, ErrorCode::LeaseSubsetViolation, "{refused:?}");
    let ordered = world.provisioner.ordered.last().expect("they were ordered").job;
    assert!(!world.provisioner.counts(ordered));
    assert_eq!(left(&mut world, job, 2), r#"{"USD":2}"#);
    cancel(&mut world, job);
    world.settle();
    world.finish();
}

#[test]
fn a_crash_while_a_child_waits_leaves_none_and_no_credentials_and_whoever_asks_again_has_one() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 30..50 {
        let mut world = World::configured(seed, |config| {
            configure(config);
            config.restartable_agents.insert("waiter".into());
        });
        let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
        let uses_models = seed % 2 == 0;
        let lease = if uses_models { may_use_models() } else { json!({"agent.delegate": ["*"]}) };
        let job = parent(&mut world, &mut raw, lease);
        let asked = || match uses_models {
            true => with_models("waiter", "d"),
            false => child("waiter", "d", json!({}), json!({})),
        };
        asks(&mut world, job, 1, asked());
        for _ in 0..(seed - 30) / 2 {
            world.step();
        }
        world.crash();
        world.run_for(Duration::from_secs(1));
        if uses_models {
            // Nobody has the values of its parent's credentials any more.
            assert!(world.provisioner.counting.is_empty(), "seed {seed}: {:?}", world.provisioner.counting);
            assert_eq!(world.runtime().stats().unfinished_jobs, 0, "seed {seed}");
        } else {
            let there = world.runtime().stats().running_agents - 1;
            (kept, lost) = (kept + there, lost + 1 - there);
            let id = made(&ask(&mut world, job, 2, asked()));
            let accepted = |record: &Record| matches!(record, Record::JobAccepted(job) if job.bounds.parent.is_some());
            let records = world.store.records(false);
            assert_eq!(records.iter().filter(|(_, record)| accepted(record)).count(), 1, "seed {seed}: {id}");
            cancel(&mut world, job);
        }
        world.settle();
        world.restores();
        world.finish();
    }
    assert!(kept > 0 && lost > 0, "{kept} children were there, {lost} were not");
}

#[test]
fn an_agent_says_no_more_while_its_child_waits_than_it_has_credit_for() {
    for (more, is_over) in [(2, false), (3, true)] {
        let mut world = World::configured(60, |config| {
            configure(config);
            config.limits.delivery.agent_credit = 3;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
        world.checks.silent = true;
        asks(&mut world, job, 1, child("echo", "d", json!({}), json!({})));
        for _ in 0..more {
            // What is free stays free.
            world.input(Input::Agent { job, call: AgentCall::Heartbeat });
            world.input(Input::Agent { job, call: log("more") });
        }
        world.run_for(Duration::from_secs(3));
        let frames = raw.take(&world);
        let end = frames.iter().find(|frame| frame["type"] == "job.error");
        assert_eq!(end.is_some(), is_over, "{frames:#?}");
        if let Some(end) = end {
            assert_eq!(code(end), "INTERNAL_ERROR", "{end}");
            assert_eq!(answer(&world, job, 1), Some(AgentReply::Stopped));
        } else {
            assert_eq!(kinds(&frames, job), ["delegate", "tool_result", "log", "log"]);
            cancel(&mut world, job);
        }
        world.settle();
        world.finish();
    }
}

#[test]
fn inputs_of_agents_children_that_are_checked_have_bounds() {
    let mut world = World::configured(70, |config| {
        configure(config);
        config.limits.job.checked_input_bytes = 20;
        config.limits.job.input_checks = 1;
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut other, _) = Raw::hello_with_leases(&mut world, "tok-b");
    let one = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let two = parent(&mut world, &mut other, json!({"agent.delegate": ["*"]}));
    let long = ask(&mut world, one, 1, child("echo", "d", json!("x".repeat(19)), json!({})));
    assert!(refusal(&long).message.contains("may have at most 20 bytes"), "{long:?}");
    world.checks.silent = true;
    asks(&mut world, one, 2, child("echo", "d", json!("x".repeat(18)), json!({})));
    asks(&mut world, two, 3, child("echo", "d", json!({}), json!({})));
    let full = answer(&world, two, 1).expect("it is refused at once");
    assert_eq!(refusal(&full).code, ErrorCode::ResourceExhausted);
    assert!(
        refusal(&full).details.as_ref().is_some_and(|details| details.as_str().contains("input_checks")),
        "{full:?}"
    );
    cancel(&mut world, one);
    cancel(&mut world, two);
    world.settle();
    world.finish();
}

#[test]
fn a_value_that_an_agent_chose_is_masked_while_its_renewal_waits_behind_a_child() {
    let mut world = world(80);
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let job = parent(&mut world, &mut raw, may_use_models());
    world.checks.silent = true;
    asks(&mut world, job, 1, child("echo", "d", json!({}), json!({})));
    let chosen = format!("{CANARY}{job}-chosen");
    let renew = AgentCall::RenewCredential { id: "cred-1".into(), value: Some(Secret::new(chosen.clone())) };
    asks(&mut world, job, 2, renew);
    world.input(Input::Agent { job, call: log(&chosen) });
    world.run_for(Duration::from_secs(5));
    assert!(matches!(answer(&world, job, 2), Some(AgentReply::Renewed(_))), "{:?}", answer(&world, job, 2));
    let frames = raw.take(&world);
    let said = frames.iter().find(|frame| frame["payload"]["kind"] == "log").expect("it was said");
    assert_eq!(said["payload"]["body"]["message"], "*".repeat(chosen.len()));
    cancel(&mut world, job);
    world.settle();
    world.finish();
}

#[test]
fn a_value_that_an_agent_chose_is_masked_while_its_renewal_waits_for_the_store() {
    let mut world = World::configured(81, |config| {
        configure(config);
        config.limits.history.agent_undurable_bytes = 1;
    });
    let mut raw = Raw::hello_with_credentials(&mut world, "tok-a").0;
    let job = parent(&mut world, &mut raw, may_use_models());
    world.store.broken = true;
    let chosen = format!("{CANARY}{job}-chosen");
    world.input(Input::Agent { job, call: log("before") });
    let renew = AgentCall::RenewCredential { id: "cred-1".into(), value: Some(Secret::new(chosen.clone())) };
    asks(&mut world, job, 1, renew);
    world.input(Input::Agent { job, call: log(&chosen) });
    assert_eq!(world.waits().get(&job), Some(&Wait::Backlog));
    world.store.mend();
    world.run_for(Duration::from_secs(5));
    assert!(matches!(answer(&world, job, 1), Some(AgentReply::Renewed(_))), "{:?}", answer(&world, job, 1));
    let frames = raw.take(&world);
    let said = frames.iter().filter(|frame| frame["payload"]["kind"] == "log");
    let said = said.filter_map(|frame| frame["payload"]["body"]["message"].as_str());
    assert_eq!(Vec::from_iter(said), ["before".to_string(), "*".repeat(chosen.len())]);
    cancel(&mut world, job);
    world.settle();
    world.finish();
}

/// A program has another one do something: one line, and its answer.
#[test]
fn a_program_that_another_one_delegates_to_has_its_input_checked_and_credentials_in_its_environment() {
    let provisioner = Arc::new(InMemoryProvisioner::default());
    let line = |id: u64, n: &str| {
        let lease = r#"{"model.use":["gpt-4"]}"#;
        let body = format!(r#"{{"agent":"worker","input":{{"n":{n}}},"lease_request":{lease},"delegate_id":"d{id}"}}"#);
        format!(r#"echo '{{"kind":"delegate","id":{id},"body":{body}}}'; read answer; "#)
    };
    let boss = format!(
        r#"read input; {}case "$answer" in *'"pointer":"/n"'*) ;; *) echo "$answer"; exit 1;; esac; {}child="${{answer##*job_id\":\"}}"; child="${{child%%\"*}}"
        echo '{{"kind":"await","id":3,"body":{{"job_id":"'$child'"}}}}'; read answer
        case "$answer" in *'"result":"own"'*) echo '{{"result":"both"}}';; *) echo "$answer"; exit 1;; esac"#,
        line(1, r#""one""#),
        line(2, "1"),
    );
    let worker = r#"read input; case "$ARCP_CREDENTIALS" in
        *"sk-sample-$ARCP_JOB_ID\""*) echo '{"result":"own"}';; *) echo '{"result":"none"}';; esac"#;
    let mut registry = Registry::default();
    registry.add("boss", None, ProcessAgent::shell(&boss).answered());
    registry.add("worker", None, ProcessAgent::shell(worker));
    let schema = json_of(&json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    let schema = Some(Arc::new(InputSchema::new(&schema).expect("a schema")));
    registry.set_terms("worker", Terms { schema, ..Terms::default() });
    let folder = Folder::new("deferred-children");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let host = Running::host_of(Box::new(store), registry, |_| {});
    let server = Running::serve(host.with_provisioner(provisioner.clone()));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    let submit = json!({"agent": "boss", "lease_request": {"model.use": ["gpt-*"], "agent.delegate": ["worker"]}});
    server::send(&mut socket, "s", "job.submit", submit);
    server::expect(&mut socket, "job.accepted");
    assert_eq!(server::expect(&mut socket, "job.result")["payload"]["result"], json!("both"));
    assert!(provisioner.counting().is_empty(), "all ended before that was seen");
}

#[test]
fn a_program_that_ends_while_it_waits_for_a_child_is_not_waited_for_as_long_as_that() {
    let delegate = r#"{"kind":"delegate","id":1,"body":{"agent":"worker","delegate_id":"d"}}"#;
    let boss = format!(
        r#"read input; echo '{delegate}'; read answer; child="${{answer##*job_id\":\"}}"; child="${{child%%\"*}}"
        echo '{{"kind":"await","id":2,"body":{{"job_id":"'$child'"}}}}'; sleep 1; exit 3"#
    );
    let mut registry = Registry::default();
    registry.add("boss", None, ProcessAgent::shell(&boss).answered());
    registry.add("worker", None, ProcessAgent::shell("read input; exec sleep 600"));
    let folder = Folder::new("gone-while-waiting");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let server = Running::serve(Running::host_of(Box::new(store), registry, |_| {}));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    let submit = json!({"agent": "boss", "lease_request": {"agent.delegate": ["worker"]}});
    server::send(&mut socket, "s", "job.submit", submit);
    server::expect(&mut socket, "job.accepted");
    let end = server::expect(&mut socket, "job.error");
    assert!(end.to_string().contains("exited with code 3"), "{end}");
}

/// Issues nothing for children until its other end is gone.
struct Late(Mutex<Receiver<()>>);

impl Provisioner for Late {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        if order.agent.name() == "boss" {
            return Ok(Vec::new());
        }
        let gone = self.0.lock().expect("nobody panics").recv();
        Err(ProvisionError::new(format!("{gone:?}")))
    }

    fn revoke(&self, _: JobId, _: &Revocation) -> Result<(), ProvisionError> {
        Ok(())
    }
}

#[test]
fn a_program_that_has_exited_waits_for_none_of_the_children_that_it_asked_for() {
    let boss = r#"read input; for n in 1 2 3 4 5 6 7 8; do echo '{"kind":"delegate","id":'$n',"body":{"agent":"worker",
        "lease_request":{"model.use":["gpt-4"]},"delegate_id":"d'$n'"}}' | tr -d '\n'; echo; done; echo '{"result":"gone"}'"#;
    let mut registry = Registry::default();
    registry.add("boss", None, ProcessAgent::shell(boss).answered());
    registry.add("worker", None, ProcessAgent::shell("cat"));
    let folder = Folder::new("gone-with-children");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let host = Running::host_of(Box::new(store), registry, |config| {
        config.timing.provision_timeout = Duration::from_secs(3);
    });
    let (held, late) = channel();
    let server = Running::serve(host.with_provisioner(Arc::new(Late(Mutex::new(late)))));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    let submit = json!({"agent": "boss", "lease_request": {"agent.delegate": ["worker"], "model.use": ["gpt-*"]}});
    server::send(&mut socket, "s", "job.submit", submit);
    server::expect(&mut socket, "job.accepted");
    let mut refused = Vec::new();
    let end = loop {
        let frame = server::next(&mut socket).expect("a frame");
        match frame["type"].as_str() {
            Some("job.event") if frame["payload"]["kind"] == "tool_result" => refused.push(frame),
            Some("job.result" | "job.error") => break frame,
            _ => {}
        }
    };
    drop(held);
    assert_eq!(end["payload"]["result"], "gone", "{end}");
    let has_ended = |frame: &&Value| frame.to_string().contains("the agent that delegates has ended");
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert!(refused.iter().filter(has_ended).count() >= 3, "{refused:?}");
}
