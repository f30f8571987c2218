//! Agents whose principal has much before the store are handled later, so that others wait no longer than that.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::runtime::{
    AgentCall, AgentExit, AgentReply, HeldFor, Input, Operator, Timer, Wait, held_bytes_of, waits_of,
};
use arcp_tests::raw::Raw;
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// What agents of one principal may have before the store here.
const BOUND: usize = 20_000;
/// What ten of their events weigh at most, with the numbers of one session.
const TEN: usize = 10 * (256 + 400 + 256);

fn world(seed: u64) -> World {
    World::configured(seed, |config| config.limits.history.agent_undurable_bytes = BOUND)
}

/// Opens a session as this principal, and has so many agents started that do nothing by themselves.
fn speakers(world: &mut World, principal: &str, count: usize) -> (Raw, Vec<JobId>) {
    let (mut raw, _) = Raw::hello(world, &format!("tok-{principal}"));
    let waiter = json!({"agent": "waiter"});
    let ids: Vec<Value> = (0..count).map(|_| raw.submit(world, waiter.clone())["job_id"].clone()).collect();
    world.settle();
    raw.take(world);
    (raw, ids.iter().map(|id| JobId::parse(id.as_str().expect("an id")).expect("ours")).collect())
}

fn says(n: u32) -> AgentCall {
    let body = json!({"level": "info", "message": format!("{n} {}", "x".repeat(200))});
    AgentCall::Emit { kind: "log".into(), body: Json::parse(&body.to_string()).expect("JSON") }
}

fn say(world: &mut World, job: JobId, from: u32) {
    world.input(Input::AgentSays { job, calls: (from..from + 10).map(says).collect() });
}

/// Bytes of records that a principal has caused and that are not durable.
fn caused(world: &World, principal: &str) -> usize {
    held_bytes_of(world.runtime(), &Principal::new(principal).expect("a name"), HeldFor::Records)
}

/// What a job has said, in the order in which it was sent.
fn said(frames: &[Value], job: JobId) -> Vec<u32> {
    let of_job = frames.iter().filter(|frame| frame["job_id"] == job.to_string());
    let texts = of_job.filter_map(|frame| frame["payload"]["body"]["message"].as_str());
    texts.map(|text| text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")).collect()
}

fn exit(world: &mut World, job: JobId) {
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
}

#[test]
fn what_stands_before_others_in_the_store_does_not_grow_with_the_jobs_of_a_principal() {
    let mut world = world(1);
    let (mut greedy, jobs) = speakers(&mut world, "greedy", 40);
    let (mut modest, own) = speakers(&mut world, "modest", 1);
    world.store.broken = true;
    for from in [0, 10, 20] {
        jobs.iter().for_each(|job| say(&mut world, *job, from));
    }
    let before = caused(&world, "greedy");
    assert!((BOUND..BOUND + TEN).contains(&before), "{before}: one input beyond the bound at most");
    let held = jobs.iter().filter(|job| waits_of(world.runtime(), **job).contains(&Wait::Backlog)).count();
    assert!(held > 35, "{held} agents are heard later");
    say(&mut world, own[0], 0);
    assert!(caused(&world, "modest") > 0, "whoever has caused little is heard at once");
    world.run_for(Duration::from_secs(5));
    assert_eq!(caused(&world, "greedy"), before, "nobody is heard while nothing is durable");
    world.store.mend();
    world.run_for(Duration::from_secs(20));
    assert_eq!(said(&modest.take(&world), own[0]), Vec::from_iter(0..10));
    let frames = greedy.take(&world);
    for job in &jobs {
        assert_eq!(said(&frames, *job), Vec::from_iter(0..30), "all is heard, in order");
    }
    assert!(world.waits().is_empty(), "{:?}", world.waits());
    world.finish();
}

#[test]
fn agents_that_speak_faster_than_the_store_keep_it_busy_within_the_bound_and_all_get_to_their_ends() {
    let mut options = Options::new(2);
    options.config.limits.history.agent_undurable_bytes = BOUND;
    options.latency = Duration::from_millis(200);
    options.together = 8;
    let mut world = World::new(options);
    let (mut greedy, _) = Raw::hello(&mut world, "tok-greedy");
    for _ in 0..30 {
        greedy.send(&mut world, "job.submit", json!({"agent": "chatty", "input": {"count": 100}}));
    }
    // What it asks for itself is durable by then.
    let (mut most, asked) = (0, world.now().mono + Duration::from_secs(2));
    while world.now().mono < asked || world.runtime().stats().unfinished_jobs > 0 {
        assert!(world.step(), "somebody waits for ever");
        if world.now().mono > asked {
            most = most.max(caused(&world, "greedy"));
        }
    }
    assert!((BOUND..BOUND + 2 * TEN).contains(&most), "{most}: one turn beyond the bound at most");
    let frames = greedy.settle(&mut world);
    assert_eq!(frames.iter().filter(|frame| frame["payload"]["final_status"] == "success").count(), 30);
    world.finish();
}

#[test]
fn an_agent_alone_is_heard_at_once_whatever_it_says_within_its_credit() {
    let mut world = World::seeded(3);
    let (mut raw, jobs) = speakers(&mut world, "a", 1);
    world.store.broken = true;
    let text = format!(r#"{{"level":"info","message":"{}"}}"#, "x".repeat(4000));
    let call = AgentCall::Emit { kind: "log".into(), body: Json::parse(&text).expect("JSON") };
    for _ in 0..256 {
        world.input(Input::Agent { job: jobs[0], call: call.clone() });
        assert!(!waits_of(world.runtime(), jobs[0]).contains(&Wait::Backlog));
    }
    assert!(caused(&world, "a") > 1 << 20, "all of its credit");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    assert_eq!(raw.take(&world).iter().filter(|frame| frame["payload"]["kind"] == "log").count(), 256);
    world.finish();
}

#[test]
fn how_an_agent_ends_and_what_it_asks_come_after_what_it_has_said() {
    let mut world = world(4);
    let (mut raw, jobs) = speakers(&mut world, "a", 12);
    world.store.broken = true;
    jobs.iter().for_each(|job| say(&mut world, *job, 0));
    let (ends, asks) = (jobs[10], jobs[11]);
    exit(&mut world, ends);
    world.input(Input::AgentAsked { job: asks, id: CallId(1), call: says(10) });
    world.input(Input::Agent { job: asks, call: AgentCall::Heartbeat });
    let running = world.runtime().stats().running_agents;
    assert_eq!((running, world.replies.len()), (12, 0), "both are heard later");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    let frames = raw.take(&world);
    assert_eq!(said(&frames, ends), Vec::from_iter(0..10));
    assert_eq!(said(&frames, asks), Vec::from_iter(0..11));
    let of_job: Vec<&Value> = frames.iter().filter(|frame| frame["job_id"] == ends.to_string()).collect();
    assert_eq!(of_job.last().expect("its end")["payload"]["final_status"], "success");
    assert!(matches!(world.replies[..], [(job, AgentReply::Taken { event: Some(_) })] if job == asks));
    world.finish();
}

#[test]
fn of_a_job_that_is_over_nothing_is_heard_later() {
    let mut world = world(5);
    let (_, jobs) = speakers(&mut world, "a", 12);
    world.store.broken = true;
    jobs.iter().for_each(|job| say(&mut world, *job, 0));
    let over = jobs[11];
    world.input(Input::AgentAsked { job: over, id: CallId(1), call: says(10) });
    world.input(Input::Operator(Operator::CancelJob { job: over, reason: None }));
    assert_eq!(world.replies, [(over, AgentReply::Stopped)], "nobody waits for an answer any more");
    world.stop_script(over);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.runtime().stats().running_agents, 12, "it does not stop");
    exit(&mut world, over);
    assert_eq!(world.runtime().stats().running_agents, 11, "it gives its slot back at once");
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    assert!(world.waits().is_empty(), "{:?}", world.waits());
    world.finish();
}

#[test]
fn what_is_more_than_an_agent_has_credit_for_ends_its_job_although_it_is_heard_later() {
    let mut world = World::configured(6, |config| {
        config.limits.history.agent_undurable_bytes = BOUND;
        config.limits.delivery.agent_credit = 20;
    });
    let (mut raw, jobs) = speakers(&mut world, "a", 6);
    world.store.broken = true;
    jobs.iter().for_each(|job| say(&mut world, *job, 0));
    let [fine, .., greedy] = jobs[..] else { panic!("six") };
    say(&mut world, fine, 10);
    say(&mut world, greedy, 10);
    say(&mut world, greedy, 20);
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    let frames = raw.take(&world);
    let ends: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "job.error").collect();
    assert_eq!(ends.len(), 1, "{ends:#?}");
    assert_eq!(ends[0]["job_id"], greedy.to_string());
    assert_eq!(said(&frames, fine), Vec::from_iter(0..20));
    world.finish();
}

#[test]
fn what_is_heard_later_in_an_input_of_somebody_else_is_not_counted_as_theirs() {
    let mut world = world(7);
    let (_, jobs) = speakers(&mut world, "greedy", 10);
    let (_, own) = speakers(&mut world, "modest", 1);
    for from in [0, 10, 20] {
        jobs.iter().for_each(|job| say(&mut world, *job, from));
    }
    let is_due = |world: &World| world.runtime().next_deadline().is_some_and(|due| due.reason == Timer::Backlog);
    while !is_due(&world) {
        assert!(world.step(), "something gets durable");
    }
    let before = caused(&world, "greedy");
    world.input_late(Duration::from_millis(1), Input::Agent { job: own[0], call: says(0) });
    assert!(caused(&world, "greedy") > before, "greedy is heard first");
    assert!((1..TEN / 10).contains(&caused(&world, "modest")), "{}: one event", caused(&world, "modest"));
    world.settle();
    world.finish();
}

#[test]
fn a_child_that_is_asked_for_meanwhile_keeps_its_place_in_what_its_parent_says() {
    let mut world = World::configured(8, |config| {
        config.limits.history.agent_undurable_bytes = 1;
        let checked = config.agents.iter_mut().filter(|entry| entry.name == "echo");
        checked.for_each(|entry| entry.checks_input = true);
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let waiter = json!({"agent": "waiter", "lease_request": {"agent.delegate": ["*"]}});
    let id = raw.submit(&mut world, waiter)["job_id"].clone();
    let job = JobId::parse(id.as_str().expect("an id")).expect("ours");
    world.settle();
    raw.take(&world);
    let delegate = |id: u32| {
        let body = json!({"agent": "echo", "input": {}, "delegate_id": id.to_string()}).to_string();
        AgentCall::Emit { kind: "delegate".into(), body: Json::parse(&body).expect("JSON") }
    };
    for call in [says(0), delegate(1), says(2), says(3), delegate(4), delegate(5), says(6)] {
        world.input(Input::Agent { job, call });
    }
    exit(&mut world, job);
    world.run_for(Duration::from_secs(5));
    let frames = raw.take(&world);
    let of_job = frames.iter().filter(|frame| frame["job_id"] == job.to_string());
    let kinds: Vec<&str> = of_job.map(|frame| frame["payload"]["kind"].as_str().unwrap_or("end")).collect();
    assert_eq!(kinds, ["log", "delegate", "log", "log", "delegate", "delegate", "log", "end"]);
    assert_eq!(world.started.len(), 4, "three children");
    world.finish();
}

#[test]
fn a_job_that_ends_gives_its_slot_back_though_the_exit_of_its_agent_was_to_be_heard_later() {
    let mut world = world(9);
    let (mut raw, jobs) = speakers(&mut world, "a", 12);
    world.store.broken = true;
    jobs.iter().for_each(|job| say(&mut world, *job, 0));
    let over = jobs[11];
    exit(&mut world, over);
    world.input(Input::Operator(Operator::CancelJob { job: over, reason: None }));
    assert_eq!(world.runtime().stats().running_agents, 12, "it is heard later");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.runtime().stats().running_agents, 11, "its job is over, whatever the store does");
    // Somebody else still says something for that agent.
    world.input(Input::Agent { job: over, call: says(10) });
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.runtime().stats().running_agents, 11);
    assert_eq!(said(&raw.take(&world), over), [0; 0]);
    world.finish();
}

#[test]
fn children_of_an_agent_that_is_gone_wait_together_no_longer_than_one_though_it_is_heard_later() {
    let mut world = World::configured(10, |config| {
        config.limits.history.agent_undurable_bytes = 1;
        let checked = config.agents.iter_mut().filter(|entry| entry.name == "echo");
        checked.for_each(|entry| entry.checks_input = true);
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let waiter = json!({"agent": "waiter", "lease_request": {"agent.delegate": ["*"]}});
    let id = raw.submit(&mut world, waiter)["job_id"].clone();
    let job = JobId::parse(id.as_str().expect("an id")).expect("ours");
    world.settle();
    let delegate = |n: u32| {
        let body = json!({"agent": "echo", "input": {}, "delegate_id": n.to_string()}).to_string();
        AgentCall::Emit { kind: "delegate".into(), body: Json::parse(&body).expect("JSON") }
    };
    world.checks.silent = true;
    world.input(Input::AgentSays { job, calls: (0..30).map(delegate).collect() });
    exit(&mut world, job);
    world.run_for(Duration::from_secs(15));
    let stats = world.runtime().stats();
    assert_eq!((stats.running_agents, stats.unfinished_jobs), (0, 0), "it holds its slot no longer");
    world.finish();
}

#[test]
fn an_event_that_asks_for_a_child_does_so_though_its_agent_is_gone_before_it_is_heard() {
    let mut world = world(11);
    let (mut raw, jobs) = speakers(&mut world, "a", 12);
    world.store.broken = true;
    jobs.iter().for_each(|job| say(&mut world, *job, 0));
    let asks = jobs[11];
    let body = json!({"agent": "echo", "input": {}, "delegate_id": "d"}).to_string();
    let call = AgentCall::Emit { kind: "delegate".into(), body: Json::parse(&body).expect("JSON") };
    world.input(Input::AgentAsked { job: asks, id: CallId(1), call });
    exit(&mut world, asks);
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    let frames = raw.take(&world);
    let of_job = frames.iter().filter(|frame| frame["job_id"] == asks.to_string());
    let kinds: Vec<&str> = of_job.map(|frame| frame["payload"]["kind"].as_str().unwrap_or("end")).collect();
    assert_eq!(kinds[10..], ["delegate", "tool_result", "end"], "it was asked for, and is refused");
    world.finish();
}

#[test]
fn of_how_an_agent_has_ended_no_more_waits_than_may_be_said() {
    for waits_for_child in [false, true] {
        let mut world = World::configured(12, |config| {
            config.limits.history.agent_undurable_bytes = if waits_for_child { BOUND } else { 1 };
            config.limits.frame.result_bytes = 2 << 20;
            let checked = config.agents.iter_mut().filter(|entry| entry.name == "echo");
            checked.for_each(|entry| entry.checks_input = true);
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let waiter = json!({"agent": "waiter", "lease_request": {"agent.delegate": ["*"]}});
        let results = [(2 << 20) - 2, (2 << 20) - 1];
        let jobs = results.map(|_| raw.submit(&mut world, waiter.clone())["job_id"].clone());
        let jobs = jobs.map(|id| JobId::parse(id.as_str().expect("an id")).expect("ours"));
        world.settle();
        world.checks.silent = true;
        world.store.broken = !waits_for_child;
        let before = held_bytes_of(world.runtime(), &Principal::new("a").expect("a name"), HeldFor::Jobs);
        for (job, bytes) in jobs.into_iter().zip(results) {
            let body = json!({"agent": "echo", "input": {}, "delegate_id": "d"}).to_string();
            let call = AgentCall::Emit { kind: "delegate".into(), body: Json::parse(&body).expect("JSON") };
            world.input(Input::Agent { job, call: if waits_for_child { call } else { says(0) } });
            world.stop_script(job);
            let result = Some(Json::string(&"r".repeat(bytes)));
            let summary = Some("s".repeat(4 << 20));
            world.input(Input::AgentExited { job, exit: AgentExit::Success { result, summary } });
        }
        let held = held_bytes_of(world.runtime(), &Principal::new("a").expect("a name"), HeldFor::Jobs) - before;
        assert!((2 << 20..3 << 20).contains(&held), "{held}: one result, and a summary that fits in a frame");
        world.store.mend();
        world.run_for(Duration::from_secs(30));
        let frames = raw.take(&world);
        let end = |job: JobId| {
            let mut of_job = frames.iter().filter(|frame| frame["job_id"] == job.to_string());
            of_job.next_back().expect("an end").clone()
        };
        assert_eq!(end(jobs[0])["type"], "job.result", "it is as long as it may be");
        let too_long = end(jobs[1]);
        assert!(too_long.to_string().contains("larger than this runtime allows"), "{too_long}");
        world.finish();
    }
}

#[test]
fn the_end_of_an_agent_that_fails_fits_in_a_frame_whatever_it_calls_its_fault() {
    for is_held in [false, true] {
        let mut world = World::configured(13, |config| {
            config.limits.history.agent_undurable_bytes = if is_held { 1 } else { BOUND };
            config.limits.frame.result_frame_bytes = 64 << 10;
        });
        let (mut raw, jobs) = speakers(&mut world, "a", 1);
        world.store.broken = true;
        say(&mut world, jobs[0], 0);
        world.stop_script(jobs[0]);
        let held = |world: &World| held_bytes_of(world.runtime(), &Principal::new("a").expect("a name"), HeldFor::Jobs);
        let before = held(&world);
        let error = JobError::new(ErrorCode::from("X".repeat(8 << 20).as_str()), "m");
        world.input(Input::AgentExited { job: jobs[0], exit: AgentExit::Failure(error) });
        assert_eq!(held(&world) > before, is_held, "how it has ended is held too");
        world.store.mend();
        world.run_for(Duration::from_secs(10));
        let end = raw.take(&world).into_iter().find(|frame| frame["type"] == "job.error").expect("an end");
        assert!(end.to_string().len() <= 64 << 10, "{} bytes", end.to_string().len());
        world.finish();
    }
}
