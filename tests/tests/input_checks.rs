//! Inputs that are checked before their jobs are accepted, and agents that change while a runtime runs.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_proto::limits::Limits;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::runtime::{Config, Input};
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Value, json};

fn check_inputs(config: &mut Config, agent: &str) {
    let entry = config.agents.iter_mut().find(|entry| entry.name == agent).expect("it is there");
    entry.checks_input = true;
}

fn checked(seed: u64) -> World {
    World::configured(seed, |config| check_inputs(config, "echo"))
}

/// The types of what came, in order.
fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str()).collect()
}

#[test]
fn an_input_that_does_not_fit_is_refused_with_its_place_and_why_in_both_families() {
    let mut world = checked(1);
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let id = hello.send(&mut world, "job.submit", json!({"agent": "echo", "input": {"bad": 1}}));
    let refused = hello.expect(&mut world, "session.error")["payload"].clone();
    assert_eq!((&refused["code"], &refused["request_id"]), (&json!("INVALID_REQUEST"), &json!(id)));
    assert_eq!(refused["message"], "the input does not fit the agent: `/bad`: must not be there");
    assert_eq!(refused["details"]["pointer"], "/bad");
    let (mut open, _) = Raw::open(&mut world, "tok-b");
    open.send(&mut world, "tool.invoke", json!({"tool": "echo", "arguments": {"bad": 1}}));
    let refused = open.expect(&mut world, "nack")["payload"].clone();
    assert_eq!((&refused["code"], &refused["details"]["pointer"]), (&json!("INVALID_ARGUMENT"), &json!("/bad")));
    let good = hello.submit(&mut world, json!({"agent": "echo", "input": {"good": 1.50}}));
    assert_eq!(hello.until_end(&mut world).last().expect("an end")["job_id"], good["job_id"]);
    assert_eq!(world.checks.asked.len(), 3);
    assert_eq!(world.started.len(), 1, "nothing else was accepted");
    world.finish();
}

#[test]
fn requests_behind_one_that_is_checked_keep_their_order() {
    let mut world = checked(2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.take(&world);
    // As a driver may that had read them before it was told to pause.
    for (n, (kind, payload)) in [
        ("job.submit", json!({"agent": "echo", "input": 1})),
        ("session.list_jobs", json!({})),
        ("job.submit", json!({"agent": "echo", "input": {"bad": 2}})),
        ("session.ping", json!({"nonce": "n"})),
        ("job.submit", json!({"agent": "slow"})),
    ]
    .into_iter()
    .enumerate()
    {
        let frame = json!({"arcp": "1.1", "id": format!("x{n}"), "type": kind, "payload": payload});
        world.input(Input::Received { conn: raw.conn, frame: frame.to_string().into_bytes() });
    }
    world.input(Input::TooLong { conn: raw.conn });
    world.settle();
    let frames = raw.take(&world);
    let answers: Vec<&str> =
        types(&frames).into_iter().filter(|kind| !["job.event", "job.result", "session.pong"].contains(kind)).collect();
    let expected = ["job.accepted", "session.jobs", "session.error", "job.accepted", "session.error"];
    assert_eq!(answers, expected, "signs of life pass by");
    world.finish();
}

#[test]
fn whoever_is_not_checked_in_time_is_refused_and_goes_on() {
    let mut world = checked(3);
    world.checks.silent = true;
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let before = world.now().mono;
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let refused = raw.expect(&mut world, "session.error")["payload"].clone();
    assert!(refused["message"].as_str().expect("a text").contains("not checked in time"), "{refused}");
    let waited = Duration::from_micros(world.now().mono.0 - before.0);
    assert!((2..3).contains(&waited.as_secs()), "{waited:?}");
    raw.submit(&mut world, json!({"agent": "slow"}));
    raw.until_end(&mut world);
    world.finish();
}

#[test]
fn a_check_of_a_connection_that_is_gone_changes_nothing() {
    let mut world = checked(4);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "idempotency_key": "k"}));
    while world.checks.asked.is_empty() {
        assert!(world.step());
    }
    world.cut(raw.conn);
    world.settle();
    assert_eq!(world.runtime().stats().unfinished_jobs, 0);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    back.expect(&mut world, "session.welcome");
    let accepted = back.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
    let again = back.submit(&mut world, json!({"agent": "echo", "idempotency_key": "k"}));
    assert_eq!(accepted["job_id"], again["job_id"]);
    assert_eq!(world.checks.asked.len(), 2, "a retry of what was accepted is not checked again");
    world.finish();
}

#[test]
fn inputs_that_are_checked_have_bounds() {
    let mut world = World::configured(5, |config| {
        check_inputs(config, "echo");
        config.limits.job.checked_input_bytes = 100;
        config.limits.job.input_checks = 1;
    });
    world.checks.silent = true;
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": "x".repeat(99)}));
    let refused = raw.expect(&mut world, "session.error")["payload"]["details"].clone();
    assert_eq!((&refused["bound"], &refused["of"]), (&json!("checked_input_bytes"), &json!("request")));
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "input": "x".repeat(98)}));
    world.run_for(Duration::from_millis(100));
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let refused = other.expect(&mut world, "session.error")["payload"]["details"].clone();
    assert_eq!((&refused["bound"], &refused["of"]), (&json!("input_checks"), &json!("runtime")));
    world.finish();
}

#[test]
fn checks_of_one_principal_leave_room_for_those_of_others() {
    let mut world = World::configured(8, |config| {
        check_inputs(config, "echo");
        config.limits.job.input_checks = 4;
    });
    world.checks.silent = true;
    for _ in 0..4 {
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    }
    world.run_for(Duration::from_millis(100));
    let of_one = world.checks.asked.len();
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "job.submit", json!({"agent": "echo"}));
    world.run_for(Duration::from_millis(100));
    assert_eq!((of_one, world.checks.asked.len()), (1, 2));
    world.finish();
}

#[test]
fn a_check_counts_until_it_is_answered_whoever_waits_for_it() {
    let mut world = World::configured(9, |config| {
        check_inputs(config, "echo");
        config.limits.job.input_checks = 1;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..3 {
        raw.submit(&mut world, json!({"agent": "echo"}));
    }
    world.checks.silent = true;
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    world.run_for(Duration::from_secs(3));
    world.cut(raw.conn);
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "job.submit", json!({"agent": "echo"}));
    let refused = other.expect(&mut world, "session.error")["payload"]["details"].clone();
    assert_eq!((&refused["bound"], &refused["of"]), (&json!("input_checks"), &json!("runtime")));
    assert_eq!(world.checks.asked.len(), 4, "its host still works on the fourth");
    world.finish();
}

#[test]
fn a_connection_that_sends_on_and_on_while_it_is_checked_is_closed() {
    // So many frames, or four times the bytes of the largest one.
    let large = 4 * Limits::default().frame.frame_bytes / 500_000 + 1;
    for (bytes, most) in [(0, 1024), (500_000, large)] {
        let mut world = checked(6);
        world.checks.silent = true;
        let (raw, _) = Raw::hello(&mut world, "tok-a");
        let mut sent = 0;
        while world.close_reason(raw.conn).is_none() {
            let payload = json!({"agent": "echo", "input": "x".repeat(if sent == 0 { 0 } else { bytes })});
            let frame = json!({"arcp": "1.1", "id": format!("x{sent}"), "type": "job.submit", "payload": payload});
            world.input(Input::Received { conn: raw.conn, frame: frame.to_string().into_bytes() });
            sent += 1;
            assert!(sent < 10_000, "its bound");
        }
        assert_eq!(sent, most + 1, "frames of {bytes} bytes");
        world.finish();
    }
}

#[test]
fn agents_change_while_the_runtime_runs_and_jobs_go_on() {
    let bounded =
        |most| AgentEntry { name: "waiter".to_string(), concurrency: NonZeroU32::new(most), ..AgentEntry::default() };
    let mut world = World::configured(7, |config| {
        config.limits.job.principal_share = 100;
        config.agents = vec![bounded(1)];
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..4 {
        raw.submit(&mut world, json!({"agent": "waiter"}));
    }
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 1);
    let echo = AgentEntry { name: "echo".to_string(), ..AgentEntry::default() };
    let hosts = |agents: Vec<AgentEntry>| Input::Agents { agents, restartable: BTreeSet::new() };
    world.input(hosts(vec![bounded(3), echo.clone()]));
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 3, "who waits starts where there is room now");
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    // Twice the same name cannot be.
    world.input(hosts(vec![echo.clone(), echo.clone()]));
    world.input(hosts(vec![echo]));
    world.settle();
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.waiting_jobs), (4, 0), "an agent that is gone holds nobody up");
    raw.send(&mut world, "job.submit", json!({"agent": "waiter"}));
    assert_eq!(raw.expect(&mut world, "session.error")["payload"]["code"], "AGENT_NOT_AVAILABLE");
    world.finish();
}

#[test]
fn what_was_found_of_an_input_counts_for_the_version_that_was_asked() {
    let echo = |version: &str| AgentEntry {
        name: "echo".to_string(),
        versions: vec![version.to_string()],
        default: Some(version.to_string()),
        checks_input: true,
        ..AgentEntry::default()
    };
    let mut world = World::configured(11, |config| config.agents = vec![echo("1")]);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    while world.checks.asked.is_empty() {
        assert!(world.step());
    }
    world.input(Input::Agents { agents: vec![echo("2")], restartable: BTreeSet::new() });
    assert_eq!(raw.expect(&mut world, "job.accepted")["payload"]["agent"], "echo@2");
    let asked: Vec<String> = world.checks.asked.iter().map(|(agent, _)| agent.to_string()).collect();
    assert_eq!(asked, ["echo@1", "echo@2"], "each may take other inputs");
    world.finish();
}
