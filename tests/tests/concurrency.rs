//! How many jobs of one agent run at once, and in which order.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_proto::json::Json;
use arcp_proto::runtime::{Config, Input};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// At most so many jobs of an agent run at once.
fn bound(config: &mut Config, agent: &str, most: u32) {
    let entry = config.agents.iter_mut().find(|entry| entry.name == agent).expect("it is there");
    entry.concurrency = NonZeroU32::new(most);
}

fn submit_many(world: &mut World, raw: &mut Raw, agent: &str, count: usize) -> Vec<Value> {
    (0..count).map(|_| raw.submit(world, json!({"agent": agent}))["job_id"].clone()).collect()
}

#[test]
fn an_agent_runs_no_more_jobs_at_once_than_it_may_and_others_do_not_wait_for_it() {
    let mut world = World::configured(1, |config| {
        config.limits.job.principal_share = 100;
        bound(config, "waiter", 2);
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let jobs = submit_many(&mut world, &mut raw, "waiter", 5);
    world.settle();
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (2, 3));
    submit_many(&mut world, &mut raw, "echo", 1);
    raw.until_end(&mut world);
    // Each that ends makes room for the next, however it ends.
    for (n, job) in jobs.iter().enumerate() {
        raw.send(&mut world, "job.cancel", json!({"job_id": job}));
        raw.until_end(&mut world);
        world.settle();
        let left = jobs.len() - n - 1;
        let stats = world.runtime().stats();
        assert_eq!((stats.running_agents, stats.waiting_jobs), (left.min(2), left.saturating_sub(2)));
    }
    world.finish();
}

#[test]
fn the_turns_for_an_agent_go_round_by_principal_whatever_else_they_run() {
    let mut world = World::configured(2, |config| {
        config.limits.job.running_jobs = 2;
        config.limits.job.principal_share = 100;
        bound(config, "slow", 1);
    });
    let (mut greedy, _) = Raw::hello(&mut world, "tok-greedy");
    submit_many(&mut world, &mut greedy, "slow", 5);
    let (mut busy, _) = Raw::hello(&mut world, "tok-busy");
    let wanted = busy.submit(&mut world, json!({"agent": "slow"}))["job_id"].clone();
    // Each of them takes a turn for the other slot, after the latest one for `slow`.
    for _ in 0..30 {
        busy.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 3}}));
    }
    loop {
        let ended = busy.until_end(&mut world);
        if ended.last().is_some_and(|frame| frame["job_id"] == wanted) {
            break;
        }
    }
    assert!(world.now().mono.0 < 3_500_000, "one greedy job ran before it, not five");
    world.finish();
}

#[test]
fn the_bound_of_an_agent_holds_after_a_restart() {
    let mut world = World::configured(3, |config| {
        config.limits.job.principal_share = 100;
        bound(config, "waiter", 2);
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    submit_many(&mut world, &mut raw, "waiter", 6);
    world.settle();
    world.crash_with(0, true);
    world.run_for(Duration::from_secs(1));
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (2, 2), "two of them were running");
    world.finish();
}

/// A session that is told the details of jobs and agents.
fn session_with_details(world: &mut World, token: &str) -> (Raw, Value) {
    let mut payload = hello_payload(token);
    for feature in ["x-vendor.arcp.list_details", "x-vendor.arcp.agent_details"] {
        payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!(feature));
    }
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    let welcome = raw.expect(world, "session.welcome");
    (raw, welcome)
}

/// The places of a session's jobs, the oldest first.
fn places(world: &mut World, raw: &mut Raw) -> Vec<Option<u64>> {
    world.settle();
    raw.take(world);
    raw.send(world, "session.list_jobs", json!({}));
    let page = raw.expect(world, "session.jobs")["payload"]["jobs"].clone();
    page.as_array().expect("a list").iter().map(|job| job["place"].as_u64()).collect()
}

#[test]
fn whoever_waits_is_told_at_which_place() {
    let mut world = World::configured(4, |config| {
        config.limits.job.principal_share = 100;
        bound(config, "waiter", 1);
    });
    let (mut first, _) = session_with_details(&mut world, "tok-first");
    let jobs = submit_many(&mut world, &mut first, "waiter", 4);
    assert_eq!(places(&mut world, &mut first), [None, Some(1), Some(2), Some(3)]);
    let (mut second, _) = session_with_details(&mut world, "tok-second");
    submit_many(&mut world, &mut second, "waiter", 2);
    assert_eq!(places(&mut world, &mut second), [Some(2), Some(4)], "in turn");
    assert_eq!(places(&mut world, &mut first), [None, Some(1), Some(3), Some(5)]);
    first.send(&mut world, "job.cancel", json!({"job_id": jobs[0]}));
    first.until_end(&mut world);
    assert_eq!(places(&mut world, &mut first)[1..], [None, Some(2), Some(4)]);
    assert_eq!(places(&mut world, &mut second), [Some(1), Some(3)]);
    let (mut plain, _) = Raw::hello(&mut world, "tok-first");
    assert_eq!(places(&mut world, &mut plain), [None; 4], "who does not ask is not told");
    world.finish();
}

#[test]
fn agents_that_change_take_nobodys_turn() {
    let mut agents = Vec::new();
    let mut world = World::configured(6, |config| {
        config.limits.job.principal_share = 100;
        bound(config, "waiter", 1);
        agents = config.agents.clone();
    });
    let (mut greedy, _) = session_with_details(&mut world, "tok-greedy");
    let jobs = submit_many(&mut world, &mut greedy, "waiter", 4);
    let (mut other, _) = session_with_details(&mut world, "tok-other");
    submit_many(&mut world, &mut other, "waiter", 1);
    greedy.send(&mut world, "job.cancel", json!({"job_id": jobs[0]}));
    greedy.until_end(&mut world);
    assert_eq!(places(&mut world, &mut other), [Some(1)]);
    world.input(Input::Agents { agents, restartable: BTreeSet::new() });
    assert_eq!(places(&mut world, &mut other), [Some(1)], "the jobs that were there first had their turn");
    assert_eq!(places(&mut world, &mut greedy)[1..], [None, Some(2), Some(3)]);
    world.finish();
}

#[test]
fn the_details_of_agents_go_to_who_asks_for_them_as_far_as_there_is_room() {
    let schema = |bytes: usize| Json::string(&"x".repeat(bytes));
    let mut world = World::configured(5, |config| {
        bound(config, "slow", 3);
        let room = config.limits.frame.result_frame_bytes / 2;
        for (name, bytes) in [("slow", 10), ("echo", room), ("kinds", 20)] {
            let entry = config.agents.iter_mut().find(|entry| entry.name == name).expect("it is there");
            (entry.description, entry.input_schema) = (Some(format!("the {name}")), Some(schema(bytes)));
        }
    });
    let agents = |welcome: &Value| welcome["payload"]["capabilities"]["agents"].as_array().expect("a list").clone();
    let (_, welcome) = session_with_details(&mut world, "tok-a");
    let told = agents(&welcome);
    let details = |name: &str| {
        let agent = told.iter().find(|agent| agent["name"] == name).expect("it is there");
        agent["x-vendor.arcp.details"].clone()
    };
    assert_eq!(details("slow"), json!({"concurrency": 3, "description": "the slow", "input_schema": "x".repeat(10)}));
    assert_eq!(details("echo"), json!({"description": "the echo"}), "what has no room is left out");
    let (_, welcome) = Raw::hello(&mut world, "tok-b");
    assert!(agents(&welcome).iter().all(|agent| agent.get("x-vendor.arcp.details").is_none()));
    let mut payload = open_payload("tok-c");
    payload["capabilities"]["extensions"] = json!(["arcpx.arcp.agent_details.v1"]);
    let (_, accepted) = Raw::open_with(&mut world, payload);
    let told = agents(&accepted);
    let slow = told.iter().find(|agent| agent["name"] == "slow").expect("it is there");
    assert_eq!(slow["x-vendor.arcp.details"]["description"], "the slow");
    world.finish();
}
