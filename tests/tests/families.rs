//! How long child jobs last, depending on the jobs above them.

use std::time::Duration;

use arcp_proto::id::{JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentExit, Delegation, Input, Operator};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A job of an agent that does nothing by itself.
fn submit(world: &mut World, raw: &mut Raw, payload: Value) -> JobId {
    let accepted = raw.submit(world, payload);
    world.settle();
    accepted["job_id"].as_str().and_then(JobId::parse).unwrap_or_else(|| panic!("{accepted}"))
}

/// A child by what its parent's agent calls; it may delegate in turn.
fn delegate(world: &mut World, job: JobId, agent: &str) -> JobId {
    let lease = Json::parse(r#"{"agent.delegate":["*"]}"#).expect("JSON");
    let delegation = Delegation { lease_request: Some(lease), ..Delegation::new(agent) };
    let before: Vec<JobId> = world.live();
    world.input(Input::Agent { job, call: AgentCall::Delegate(delegation) });
    world.settle();
    let made: Vec<JobId> = world.live().into_iter().filter(|id| !before.contains(id)).collect();
    assert_eq!(made.len(), 1, "one child");
    made[0]
}

/// Its agent ends, well.
fn exit(world: &mut World, job: JobId) {
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: Json::parse("7").ok(), summary: None } });
    world.settle();
}

fn status(world: &mut World, raw: &mut Raw, job: JobId) -> String {
    raw.take(world);
    raw.send(world, "session.list_jobs", json!({}));
    let page = raw.expect(world, "session.jobs")["payload"]["jobs"].clone();
    let entry = page.as_array().expect("a list").iter().find(|entry| entry["job_id"] == job.to_string()).cloned();
    entry.unwrap_or_else(|| panic!("{page}"))["status"].as_str().expect("a word").to_string()
}

#[test]
fn a_time_limit_holds_for_the_children_that_a_job_leaves_behind() {
    for (seed, crashes) in [(1, false), (2, true)] {
        let mut world = World::configured(seed, |config| {
            config.restartable_agents.insert("waiter".into());
            config.limits.job.principal_share = 100;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let lease = json!({"agent.delegate": ["*"]});
        let bounded = json!({"agent": "waiter", "lease_request": lease, "max_runtime_sec": 60});
        let bounded = submit(&mut world, &mut raw, bounded);
        let free = submit(&mut world, &mut raw, json!({"agent": "waiter", "lease_request": lease}));
        let child = delegate(&mut world, bounded, "waiter");
        let below = delegate(&mut world, child, "waiter");
        let other = delegate(&mut world, free, "waiter");
        world.run_for(Duration::from_secs(10));
        for job in [bounded, child, free] {
            exit(&mut world, job);
        }
        if crashes {
            world.crash_with(world.given().count(), true);
            (raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
            world.settle();
        }
        world.run_for(Duration::from_secs(45));
        assert_eq!(status(&mut world, &mut raw, below), "running", "its time is not over");
        world.restores();
        world.run_for(Duration::from_secs(15));
        assert_eq!(status(&mut world, &mut raw, below), "cancelled", "crashes: {crashes}");
        assert_eq!(status(&mut world, &mut raw, child), "success");
        assert_eq!(status(&mut world, &mut raw, other), "running", "nobody bounded it");
        world.input(Input::Operator(Operator::CancelJob { job: other, reason: None }));
        world.run_for(Duration::from_secs(10));
        world.finish();
    }
}

#[test]
fn a_limit_an_operator_and_a_restart_end_a_job_with_all_that_is_below_it() {
    for (seed, how) in (3..).zip(["limit", "operator", "restart"]) {
        let mut world = World::configured(seed, |config| {
            config.operators = [Principal::new("boss").expect("a name")].into();
            // A parent that is not started again, and children that are.
            config.restartable_agents.insert("waiter".into());
            config.limits.job.principal_share = 100;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let lease = json!({"agent.delegate": ["*"]});
        let parent = json!({"agent": "finisher", "lease_request": lease, "max_runtime_sec": 30});
        let parent = submit(&mut world, &mut raw, parent);
        let child = delegate(&mut world, parent, "waiter");
        let below = delegate(&mut world, child, "waiter");
        world.run_for(Duration::from_secs(10));
        let ended = match how {
            "limit" => {
                world.run_for(Duration::from_secs(21));
                "timed_out"
            }
            "operator" => {
                let (mut boss, _) = Raw::hello(&mut world, "tok-boss");
                boss.send(&mut world, "job.cancel", json!({"job_id": parent.to_string()}));
                "cancelled"
            }
            _ => {
                world.crash_with(world.given().count(), false);
                (raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
                "error"
            }
        };
        world.run_for(Duration::from_secs(8));
        assert_eq!(status(&mut world, &mut raw, parent), ended, "{how}");
        for job in [child, below] {
            assert_eq!(status(&mut world, &mut raw, job), "cancelled", "{how}: {job}");
        }
        world.restores();
        assert_eq!(world.runtime().stats().running_agents, 0, "{how}");
        world.finish();
    }
}
