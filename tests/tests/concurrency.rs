//! How many jobs of one agent run at once, and in which turn.

use std::num::NonZeroU32;
use std::time::Duration;

use arcp_proto::runtime::Config;
use arcp_tests::raw::Raw;
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
        config.limits.principal_share = 100;
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
        config.limits.running_jobs = 2;
        config.limits.principal_share = 100;
        bound(config, "slow", 1);
    });
    let (mut greedy, _) = Raw::hello(&mut world, "tok-greedy");
    submit_many(&mut world, &mut greedy, "slow", 5);
    let (mut busy, _) = Raw::hello(&mut world, "tok-busy");
    let wanted = busy.submit(&mut world, json!({"agent": "slow"}))["job_id"].clone();
    submit_many(&mut world, &mut busy, "echo", 40);
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
        config.limits.principal_share = 100;
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
