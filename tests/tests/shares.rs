//! Shares: however much one principal requests, the next one gets something.

use std::time::Duration;

use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Opens a session as this principal and submits so many jobs of an agent.
fn submit_many(world: &mut World, principal: &str, agent: &str, count: usize) -> Raw {
    let (mut raw, _) = Raw::hello(world, &format!("tok-{principal}"));
    for _ in 0..count {
        raw.submit(world, json!({"agent": agent}));
    }
    raw
}

#[test]
fn one_principal_leaves_slots_for_the_next() {
    let mut world = World::configured(1, |config| config.limits.job.running_jobs = 8);
    submit_many(&mut world, "greedy", "waiter", 20);
    world.settle();
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (2, 18), "a quarter");
    for principal in ["a", "b", "c"] {
        let mut modest = submit_many(&mut world, principal, "echo", 1);
        modest.until_end(&mut world);
    }
    // What ends makes room for the next of those that wait.
    assert_eq!(world.runtime().stats().running_agents, 2);
    world.finish();
}

#[test]
fn one_principal_leaves_slots_for_the_next_after_a_restart() {
    let mut world = World::configured(2, |config| config.limits.job.running_jobs = 8);
    submit_many(&mut world, "greedy", "waiter", 20);
    world.settle();
    world.crash_with(0, true);
    world.run_for(Duration::from_secs(1));
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (2, 16), "two of them were running");
    submit_many(&mut world, "modest", "echo", 1).until_end(&mut world);
    world.finish();
}

#[test]
fn the_last_slot_is_for_who_has_none() {
    let mut world = World::configured(3, |config| config.limits.job.running_jobs = 2);
    submit_many(&mut world, "greedy", "waiter", 3);
    submit_many(&mut world, "modest", "echo", 1).until_end(&mut world);
    world.finish();
}

#[test]
fn without_shares_whoever_comes_first_takes_everything() {
    let mut world = World::configured(4, |config| {
        config.limits.job.running_jobs = 8;
        config.limits.job.principal_share = 100;
    });
    submit_many(&mut world, "greedy", "waiter", 20);
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 8);
    world.finish();
}

#[test]
fn the_job_table_has_room_for_who_has_none_and_a_refusal_says_whose_bound() {
    let mut world = World::configured(5, |config| config.limits.job.jobs = 16);
    let mut greedy = submit_many(&mut world, "greedy", "waiter", 4);
    greedy.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    let refused = greedy.expect(&mut world, "session.error")["payload"].clone();
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("INTERNAL_ERROR"), &json!(true)));
    let expected = json!({"bound": "jobs", "of": "principal", "limit": 4, "retry_after_ms": 1000, "open_code": "RESOURCE_EXHAUSTED"});
    assert_eq!(refused["details"], expected);
    let mut others: Vec<Raw> = (0..12).map(|n| submit_many(&mut world, &format!("p{n}"), "waiter", 1)).collect();
    let (mut last, _) = Raw::hello(&mut world, "tok-last");
    last.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    let full = last.expect(&mut world, "session.error")["payload"]["details"].clone();
    assert_eq!((&full["bound"], &full["of"]), (&json!("jobs"), &json!("runtime")));
    assert!(others.iter_mut().all(|raw| raw.take(&world).iter().all(|frame| frame["type"] != "session.error")));
    world.finish();
}

#[test]
fn inputs_that_wait_are_shared() {
    let mut world = World::configured(6, |config| {
        config.limits.job.running_jobs = 1;
        config.limits.job.waiting_input_bytes = 8000;
    });
    let mut greedy = submit_many(&mut world, "greedy", "waiter", 1);
    world.settle();
    let big = json!({"agent": "echo", "input": "x".repeat(900)});
    greedy.submit(&mut world, big.clone());
    greedy.submit(&mut world, big.clone());
    greedy.send(&mut world, "job.submit", big.clone());
    let refused = greedy.expect(&mut world, "session.error")["payload"]["details"].clone();
    assert_eq!((&refused["bound"], &refused["of"]), (&json!("waiting_input_bytes"), &json!("principal")));
    let (mut modest, _) = Raw::hello(&mut world, "tok-modest");
    modest.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(4000)}));
    world.finish();
}

#[test]
fn a_full_job_table_forgets_the_jobs_of_who_fills_it() {
    let mut world = World::configured(7, |config| config.limits.job.jobs = 8);
    let mut modest = submit_many(&mut world, "modest", "echo", 1);
    modest.until_end(&mut world);
    let (mut greedy, _) = Raw::hello(&mut world, "tok-greedy");
    for _ in 0..20 {
        greedy.submit(&mut world, json!({"agent": "echo"}));
        greedy.until_end(&mut world);
    }
    modest.send(&mut world, "session.list_jobs", json!({}));
    let page = modest.expect(&mut world, "session.jobs");
    assert_eq!(page["payload"]["jobs"].as_array().map(Vec::len), Some(1), "{page}");
    assert!(world.runtime().stats().jobs <= 8);
    world.finish();
}

#[test]
fn who_is_cancelled_in_line_is_in_it_no_more() {
    let mut world = World::configured(8, |config| config.limits.job.running_jobs = 1);
    let mut raw = submit_many(&mut world, "a", "waiter", 1);
    for _ in 0..5 {
        let job: Value = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
        world.settle();
        raw.send(&mut world, "job.cancel", json!({"job_id": job}));
        world.settle();
    }
    let stats = world.runtime().stats();
    assert_eq!((stats.unfinished_jobs, stats.waiting_jobs), (1, 0));
    world.finish();
}

#[test]
fn sessions_without_a_credential_share_slots_by_where_they_come_from() {
    let mut world = World::configured(9, |config| {
        config.anonymous = true;
        config.limits.job.running_jobs = 16;
    });
    for _ in 0..5 {
        let mut raw = Raw::connect(&mut world);
        raw.send(
            &mut world,
            "session.hello",
            json!({"client": {"name": "n", "version": "1"}, "auth": {"scheme": "none"}}),
        );
        raw.expect(&mut world, "session.welcome");
        for _ in 0..3 {
            raw.submit(&mut world, json!({"agent": "waiter"}));
        }
    }
    world.settle();
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (3, 12), "a quarter of what the reserve leaves");
    submit_many(&mut world, "a", "echo", 1).until_end(&mut world);
    world.finish();
}
