//! Operators: who may end what others began.

use std::time::Duration;

use arcp_proto::id::{JobId, Principal};
use arcp_proto::runtime::{Input, Operator};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn world(seed: u64) -> World {
    World::configured(seed, |config| {
        config.operators = [Principal::new("boss").expect("a name")].into();
        config.auditors = [Principal::new("clerk").expect("a name")].into();
    })
}

fn id_of(job: &Value) -> JobId {
    JobId::parse(job.as_str().expect("an id")).expect("a job's id")
}

#[test]
fn an_operator_principal_cancels_the_job_of_another_and_an_auditor_does_not() {
    let mut world = world(1);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut clerk, _) = Raw::hello(&mut world, "tok-clerk");
    clerk.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&clerk.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    let (mut boss, _) = Raw::hello(&mut world, "tok-boss");
    boss.send(&mut world, "session.list_jobs", json!({}));
    let page = boss.expect(&mut world, "session.jobs");
    assert_eq!(page["payload"]["jobs"][0]["job_id"], job);
    boss.send(&mut world, "job.cancel", json!({"job_id": job, "reason": "maintenance"}));
    boss.expect(&mut world, "job.cancelled");
    let frames = owner.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "cancelled");
    world.finish();
}

#[test]
fn the_operator_of_the_program_ends_a_job_that_does_not_want_to() {
    let mut world = world(2);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "stubborn"}))["job_id"].clone();
    world.settle();
    let cancel = Operator::CancelJob { job: id_of(&job), reason: Some("maintenance".into()) };
    world.input(Input::Operator(cancel.clone()));
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.runtime().stats().running_agents, 1, "it has its grace");
    world.run_for(Duration::from_secs(2));
    let frames = owner.take(&world);
    let end = frames.last().expect("an end");
    assert_eq!(end["payload"]["final_status"], "cancelled");
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.input(Input::Operator(cancel));
    owner.submit(&mut world, json!({"agent": "echo"}));
    assert_eq!(owner.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "success");
    world.finish();
}

#[test]
fn a_job_that_an_operator_cancelled_does_not_start_after_a_crash() {
    let mut world = world(3);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    owner.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 100}}));
    world.run_for(Duration::from_secs(1));
    let running = world.started.len();
    let job = owner.take(&world).iter().rev().find_map(|f| f["job_id"].as_str().map(|id| json!(id))).expect("a job");
    world.input(Input::Operator(Operator::CancelJob { job: id_of(&job), reason: None }));
    world.crash_with(1, true);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.started.len(), running, "it ends as cancelled");
    assert_eq!(world.runtime().stats().unfinished_jobs, 0);
    world.finish();
}
