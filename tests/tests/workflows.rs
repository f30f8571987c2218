//! Workflows: graphs of steps that run as one job (RFC §6.2).

use std::path::Path;
use std::time::Duration;

use arcp_host::policy_file;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::model::event::JobError;
use arcp_proto::model::workflow::AGENT;
use arcp_proto::runtime::{AgentExit, Config, HeldFor, Input, Operator, Record, StepState, Wait, held_bytes};
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn world(seed: u64) -> World {
    configured(seed, |_| {})
}

fn configured(seed: u64, change: impl Fn(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.authority.workflows = true;
        config.timing.heartbeat = None;
        change(config);
    })
}

fn open(world: &mut World) -> Raw {
    Raw::open_with(world, open_payload("tok-a")).0
}

fn step(id: &str, tool: &str, more: Value) -> Value {
    let mut step = json!({"id": id, "tool": tool});
    step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    step
}

/// Starts a workflow, as the open family spells it; gives its job.
fn start(world: &mut World, raw: &mut Raw, steps: Value, input: Value) -> JobId {
    raw.send(world, "workflow.start", json!({"workflow": {"steps": steps}, "input": input}));
    let accepted = raw.expect_any(world, &["job.accepted", "nack"]);
    assert_eq!(accepted["type"], "job.accepted", "{accepted}");
    accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// Why a workflow is refused.
fn refused(world: &mut World, raw: &mut Raw, steps: Value) -> Value {
    raw.send(world, "workflow.start", json!({"workflow": {"steps": steps}, "input": {"x": 1}}));
    let nack = raw.expect_any(world, &["job.accepted", "nack"]);
    assert_eq!(nack["type"], "nack", "{nack}");
    nack
}

/// What is set otherwise.
type Change = fn(&mut Config);

/// How each step stood, one after the other, as the store knows it. None is begun twice for
/// one try, and none is begun before what it needs is over: the oracle.
fn moves(world: &World, of: JobId) -> Vec<(u32, String)> {
    let mut moves = Vec::new();
    for (_, record) in world.store.records(false) {
        if let Record::StepMoved(step) = record
            && step.job == of
        {
            let attempt = if let StepState::Running { attempt, .. } = &step.state { *attempt } else { 1 };
            let attempt = if attempt > 1 { format!(" {attempt}") } else { String::new() };
            moves.push((step.step, format!("{}{attempt}", step.state.as_str())));
        }
    }
    moves
}

/// The agent of a job ends so.
fn exit(world: &mut World, job: JobId, result: Result<&str, ErrorCode>) {
    world.stop_script(job);
    let exit = match result {
        Ok(result) => AgentExit::Success { result: Json::parse(result).ok(), summary: None },
        Err(code) => AgentExit::Failure(JobError::new(code, "no luck")),
    };
    world.input(Input::AgentExited { job, exit });
    world.settle();
}

#[test]
fn steps_are_run_in_order_and_their_results_filled_into_later_ones_in_both_families() {
    for is_open in [true, false] {
        let mut world = world(1);
        let steps = json!([
            step(
                "show",
                "echo",
                json!({"needs": ["left", "right"], "arguments": {
                    "l": {"$from": "/steps/left/result/n"}, "r": {"$from": "/steps/right/result"},
                    "none": {"$from": "/steps/left/result/z", "default": "-"}, "state": {"$from": "/steps/left/state"},
                }})
            ),
            step("left", "echo", json!({"arguments": {"n": {"$from": "/input/list/1"}}})),
            step("right", "echo", json!({"arguments": ["a", {"$value": {"$from": "b"}}]})),
        ]);
        let input = json!({"list": [1, 2]});
        let mut raw = if is_open { open(&mut world) } else { Raw::hello(&mut world, "tok-a").0 };
        if is_open {
            start(&mut world, &mut raw, steps, input);
        } else {
            let input = json!({"workflow": steps, "input": input});
            raw.submit(&mut world, json!({"agent": AGENT, "input": input}));
        }
        let frames = raw.until_end(&mut world);
        let results = json!({
            "show": {"l": 2, "r": ["a", {"$from": "b"}], "none": "-", "state": "succeeded"},
            "left": {"n": 2}, "right": ["a", {"$from": "b"}],
        });
        let [.., complete, last] = frames.as_slice() else { panic!("{frames:#?}") };
        let (complete, result) = match is_open {
            true => (&complete["payload"], &last["payload"]["value"]),
            false => (&complete["payload"]["body"], &last["payload"]["result"]),
        };
        assert_eq!(*result, results, "{last}");
        assert_eq!(complete["status"], "success", "{complete}");
        assert_eq!(complete["steps"]["show"]["result"]["l"], 2, "{complete}");
        let events: Vec<&Value> = frames
            .iter()
            .map(|frame| if is_open { &frame["payload"] } else { &frame["payload"]["body"] })
            .filter(|body| body["phase"] == "step")
            .collect();
        let shown: Vec<String> =
            events.iter().map(|body| format!("{} {}", body["step"]["id"], body["step"]["state"])).collect();
        let expected = ["left running", "right running", "left succeeded", "right succeeded", "show running"];
        for (shown, expected) in shown.iter().zip(expected) {
            assert_eq!(shown.replace('"', ""), expected);
        }
        assert!(events[0]["step"]["job_id"].as_str().is_some_and(|job| job.starts_with("job_")), "{events:?}");
        assert_eq!(held_bytes(world.runtime(), HeldFor::Workflows), 0);
        world.restores();
        world.finish();
    }
}

#[test]
fn what_is_wrong_with_a_workflow_is_one_refusal_that_names_the_step_and_nothing_is_begun() {
    let mut world = configured(2, |config| config.limits.workflow.workflow_steps = 3);
    let mut raw = open(&mut world);
    for (steps, said) in [
        (json!([step("a", "echo", json!({"needs": ["b"]})), step("b", "echo", json!({"needs": ["a"]}))]), "step `a`"),
        (json!([step("a", "echo", json!({"needs": ["c"]}))]), "step `a`: `needs`: there is no step `c`"),
        (json!([step("a", "nobody", json!({}))]), "step `a`: no agent is called `nobody`"),
        (json!([step("a", "echo@9.9.9", json!({}))]), "step `a`: agent `echo` has no version"),
        (json!([step("a", AGENT, json!({}))]), "step `a`: `tool`"),
        (json!([step("a", "echo", json!({"arguments": {"$from": "/input/y"}}))]), "step `a`: `arguments`: `/input/y`"),
        (json!([step("a", "echo", json!({"lease_request": {"fs.read": ["/x"]}}))]), "step `a`: "),
        (json!([]), "no steps"),
        (json!((0..4).map(|n| step(&n.to_string(), "echo", json!({}))).collect::<Vec<_>>()), "it has 4 steps"),
    ] {
        let nack = refused(&mut world, &mut raw, steps);
        assert!(nack["payload"]["message"].as_str().is_some_and(|why| why.contains(said)), "{said}: {nack}");
    }
    assert_eq!(world.store.records(false).iter().filter(|(_, r)| matches!(r, Record::JobAccepted(_))).count(), 0);
    world.finish();
}

#[test]
fn a_runtime_without_workflows_runs_none() {
    let mut world = World::seeded(3);
    let mut raw = open(&mut world);
    let nack = refused(&mut world, &mut raw, json!([step("a", "echo", json!({}))]));
    assert_eq!(code(&nack), "UNIMPLEMENTED");
    world.finish();
}

#[test]
fn a_step_that_fails_is_tried_again_after_twice_as_long_and_known_by_its_try() {
    let mut world = world(4);
    let mut raw = open(&mut world);
    let job = start(
        &mut world,
        &mut raw,
        json!([
            step("a", "waiter", json!({"retry": {"limit": 2, "backoff": 10}})),
            step("b", "echo", json!({"needs": ["a"], "arguments": {"$from": "/steps/a/result"}})),
        ]),
        json!({}),
    );
    world.settle();
    for (attempt, wait) in [(1, 10), (2, 20)] {
        let tried = world.children_of(job);
        assert_eq!(tried.len(), attempt, "{tried:?}");
        exit(&mut world, tried[&format!("a/{attempt}")], Err(ErrorCode::Internal));
        world.run_for(Duration::from_secs(wait - 1));
        assert_eq!(world.children_of(job).len(), attempt);
        world.restores();
        world.run_for(Duration::from_secs(2));
    }
    let third = world.children_of(job)["a/3"];
    exit(&mut world, third, Ok(r#"{"x":1}"#));
    let end = world.end_of(job).expect("it is over");
    assert_eq!(end["result"], json!({"Inline": {"a": {"x": 1}, "b": {"x": 1}}}), "{end}");
    let expected = ["running", "retrying", "running 2", "retrying", "running 3", "succeeded"];
    let of_a = moves(&world, job).into_iter().filter(|(step, _)| *step == 0).map(|(_, state)| state);
    assert_eq!(of_a.collect::<Vec<String>>(), expected);
    world.finish();
}

#[test]
fn a_failure_ends_the_workflow_and_what_else_runs_of_it_unless_the_step_says_otherwise() {
    let mut world = world(5);
    let mut raw = open(&mut world);
    let job = start(
        &mut world,
        &mut raw,
        json!([
            step("a", "failer", json!({})),
            step("b", "waiter", json!({})),
            step("c", "echo", json!({"needs": ["a"]}))
        ]),
        json!({}),
    );
    let frames = raw.until_end(&mut world);
    let last = frames.last().expect("an end");
    assert_eq!(last["type"], "job.failed", "{last}");
    assert_eq!(last["payload"]["message"], "step `a`: boom", "{last}");
    let complete = frames.iter().find(|frame| frame["type"] == "workflow.complete").expect("it says so");
    assert_eq!(complete["payload"]["steps"]["a"]["state"], "failed", "{complete}");
    assert_eq!(complete["payload"]["steps"]["c"]["state"], "waiting", "{complete}");
    world.settle();
    let b = world.children_of(job)["b/1"];
    assert_eq!(world.end_of(b).expect("it is over")["status"], "Cancelled");
    assert_eq!(world.children_of(job).len(), 2);
    // It goes on where that is said.
    let steps = json!([
        step("a", "failer", json!({"on_failure": "continue"})),
        step("b", "echo", json!({"needs": ["a"], "arguments": {"$from": "/steps/a/error/message"}})),
        step("c", "echo", json!({"needs": ["a"], "when": {"$from": "/steps/a/state", "equals": "succeeded"}})),
    ]);
    start(&mut world, &mut raw, steps, json!({}));
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["value"], json!({"b": "boom"}));
    world.finish();
}

#[test]
fn a_step_whose_condition_does_not_hold_is_skipped_with_what_needs_it_unless_that_says_otherwise() {
    let mut world = world(6);
    let mut raw = open(&mut world);
    let steps = json!([
        step("a", "echo", json!({"when": {"$from": "/input/deep"}})),
        step("b", "echo", json!({"needs": ["a"]})),
        step("c", "echo", json!({"needs": ["b"]})),
        step("d", "echo", json!({"needs": ["b"], "on_skipped": "run", "arguments": {"$from": "/steps/a/state"}})),
    ]);
    let job = start(&mut world, &mut raw, steps, json!({"deep": false}));
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["value"], json!({"d": "skipped"}));
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["d/1"]);
    world.restores();
    world.finish();
}

#[test]
fn what_is_over_is_not_run_again_after_a_crash_and_what_ran_is_tried_again_if_it_may_be() {
    for retries in [0, 1] {
        let mut world = world(7);
        let mut raw = open(&mut world);
        let retry = json!({"needs": ["a"], "retry": {"limit": retries}});
        let steps = json!([
            step("a", "echo", json!({"arguments": {"n": 1}})),
            step("b", "waiter", retry),
            step("c", "echo", json!({"needs": ["b"], "arguments": {"$from": "/steps/a/result"}})),
        ]);
        let job = start(&mut world, &mut raw, steps, json!({}));
        world.settle();
        assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["a/1", "b/1"]);
        world.restores();
        for _ in 0..2 {
            world.crash();
            world.settle();
            world.run_for(Duration::from_millis(100));
            world.restores();
        }
        let tried = world.children_of(job);
        if retries == 0 {
            assert_eq!(tried.len(), 2, "{tried:?}");
            let end = world.end_of(job).expect("its second step ran when the runtime ended");
            assert!(end["error"]["message"].as_str().is_some_and(|why| why.starts_with("step `b`: ")), "{end}");
        } else {
            assert_eq!(tried.into_keys().collect::<Vec<_>>(), ["a/1", "b/1", "b/2"]);
        }
        assert_eq!(world.started.iter().filter(|spec| spec.agent.name() == "echo").count(), 1);
        world.finish();
    }
}

#[test]
fn a_workflow_is_cancelled_listed_and_bounded_in_time_with_its_steps() {
    let mut world = world(8);
    let mut raw = open(&mut world);
    let steps = json!([step("a", "waiter", json!({})), step("b", "echo", json!({"needs": ["a"]}))]);
    let job = start(&mut world, &mut raw, steps.clone(), json!({}));
    world.settle();
    let child = world.children_of(job)["a/1"];
    assert_eq!(world.runtime().waits(), [(job, Wait::Child(child))]);
    raw.send(&mut world, "session.list_jobs", json!({}));
    let jobs = raw.expect(&mut world, "session.jobs")["payload"]["jobs"].clone();
    assert!(jobs.as_array().expect("a list").iter().any(|shown| shown["agent"] == AGENT), "{jobs}");
    raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job.to_string(), "reason": "enough"}));
    let frames = raw.until_end(&mut world);
    let last = frames.last().expect("an end");
    assert_eq!((&last["type"], &last["payload"]["reason"]), (&json!("job.cancelled"), &json!("enough")), "{last}");
    let complete = frames.iter().find(|frame| frame["type"] == "workflow.complete").expect("it says so");
    assert_eq!(complete["payload"]["steps"]["a"]["state"], "failed", "{complete}");
    assert_eq!(world.end_of(child).expect("it is over")["status"], "Cancelled");
    // With its time limit its steps end too.
    let asked = json!({"workflow": steps, "max_runtime_sec": 5});
    raw.send(&mut world, "workflow.start", asked);
    let accepted = raw.expect(&mut world, "job.accepted");
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    world.run_for(Duration::from_secs(6));
    assert_eq!(world.end_of(job).expect("it is over")["status"], "TimedOut");
    assert_eq!(world.end_of(world.children_of(job)["a/1"]).expect("it is over")["status"], "Cancelled");
    assert_eq!(held_bytes(world.runtime(), HeldFor::Workflows), 0);
    world.restores();
    world.finish();
}

#[test]
fn a_steps_agent_is_judged_as_of_a_submit_when_it_is_begun() {
    let policy = |agents: &str| {
        let text = format!("[[rule]]\nname = \"all\"\nprincipals = [\"*\"]\nagents = {agents}\n");
        Box::new(policy_file::parse(Path::new("policy.toml"), &text).expect("a policy"))
    };
    let mut world = configured(9, |config| config.authority.policy = Some(policy(r#"["echo", "waiter"]"#)));
    let mut raw = open(&mut world);
    let nack = refused(&mut world, &mut raw, json!([step("a", "slow", json!({}))]));
    assert!(nack.to_string().contains("step `a`: no agent is called `slow`"), "{nack}");
    let steps = json!([step("a", "waiter", json!({})), step("b", "echo", json!({"needs": ["a"]}))]);
    let job = start(&mut world, &mut raw, steps, json!({}));
    world.settle();
    world.input(Input::Operator(Operator::Policy(Some(policy(r#"["waiter"]"#)))));
    let child = world.children_of(job)["a/1"];
    exit(&mut world, child, Ok("1"));
    let end = world.end_of(job).expect("it is over");
    assert_eq!(end["error"]["message"], "step `b`: no agent is called `echo`", "{end}");
    world.finish();
}

#[test]
fn leases_and_budgets_of_steps_are_out_of_those_of_their_workflow() {
    let mut world = world(10);
    let mut raw = open(&mut world);
    let lease = json!({"tool.call": ["search.*"], "cost.budget": ["USD:3"]});
    let step_lease = json!({"tool.call": ["search.web"], "cost.budget": ["USD:2"]});
    let steps = json!([step("a", "waiter", json!({"lease_request": step_lease}))]);
    raw.send(&mut world, "workflow.start", json!({"workflow": steps, "lease_request": lease}));
    let accepted = raw.expect(&mut world, "job.accepted");
    let job = accepted["payload"]["job_id"].as_str().and_then(JobId::parse).expect("a job");
    world.settle();
    let child = world.children_of(job)["a/1"];
    let spec = &world.started[0];
    assert_eq!(spec.lease.as_str(), r#"{"tool.call":["search.web"],"cost.budget":["USD:2"]}"#);
    exit(&mut world, child, Ok("1"));
    world.restores();
    let too_much = json!([step("a", "waiter", json!({"lease_request": {"cost.budget": ["USD:4"]}}))]);
    raw.send(&mut world, "workflow.start", json!({"workflow": too_much, "lease_request": lease}));
    let nack = raw.expect_any(&mut world, &["nack", "job.accepted"]);
    assert!(nack.to_string().contains("step `a`: `cost.budget`"), "{nack}");
    world.finish();
}

#[test]
fn arguments_are_checked_by_the_host_where_an_agent_wants_that() {
    let mut world = configured(11, |config| {
        let entry = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        entry.checks_input = true;
    });
    let mut raw = open(&mut world);
    let steps = json!([
        step("a", "echo", json!({"arguments": {"n": 1}})),
        step("b", "echo", json!({"needs": ["a"], "arguments": {"$from": "/steps/a/result"}})),
    ]);
    let job = start(&mut world, &mut raw, steps, json!({}));
    let frames = raw.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["value"], json!({"a": {"n": 1}, "b": {"n": 1}}));
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["a/1", "b/1"], "a check is no try");
    world.finish();
}

#[test]
fn a_step_whose_arguments_are_too_long_to_be_checked_fails_at_once() {
    let mut world = configured(31, |config| {
        config.limits.job.checked_input_bytes = 20;
        let entry = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        entry.checks_input = true;
    });
    let mut raw = open(&mut world);
    for (bytes, fits) in [(18, true), (19, false)] {
        let steps = json!([step("a", "echo", json!({"arguments": "x".repeat(bytes)}))]);
        let job = start(&mut world, &mut raw, steps, json!({}));
        world.settle();
        let end = world.end_of(job).expect("it waits for nobody");
        assert_eq!(end.to_string().contains("at most 20 bytes"), !fits, "{end}");
    }
    world.finish();
}

#[test]
fn nobody_puts_a_job_below_a_workflow_and_no_workflow_is_below_a_job() {
    let mut world = world(12);
    let mut payload = hello_payload("tok-a");
    payload["capabilities"]["features"].as_array_mut().expect("a list").push(json!("x-vendor.arcp.workflows"));
    let mut raw = Raw::connect(&mut world);
    raw.send(&mut world, "session.hello", payload);
    let welcome = raw.expect(&mut world, "session.welcome");
    assert!(welcome.to_string().contains("x-vendor.arcp.workflows"), "{welcome}");
    let steps = json!([step("a", "waiter", json!({}))]);
    let job = raw.submit(&mut world, json!({"agent": AGENT, "input": {"workflow": steps}}))["job_id"].clone();
    raw.send(&mut world, "job.submit", json!({"agent": "echo", "parent_job_id": job}));
    let refused = raw.expect_any(&mut world, &["session.error", "job.error"]);
    assert!(refused.to_string().contains("nothing but its steps"), "{refused}");
    let above = raw.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    raw.send(&mut world, "job.submit", json!({"agent": AGENT, "input": {"workflow": steps}, "parent_job_id": above}));
    let refused = raw.expect_any(&mut world, &["session.error", "job.error"]);
    assert_ne!(code(&refused), "INTERNAL_ERROR", "{refused}");
    world.finish();
}

#[test]
fn each_bound_of_a_graph_refuses_what_is_beyond_it() {
    let deep = json!([
        step("a", "echo", json!({})),
        step("b", "echo", json!({"needs": ["a"], "arguments": {"x": {"$from": "/steps/a/result"}}})),
        step("c", "echo", json!({"needs": ["b"], "retry": {"limit": 2}, "when": {"$from": "/steps/b/state"}})),
    ]);
    let bounds: [(&str, Change); 5] = [
        ("workflow_depth", |config| config.limits.workflow.workflow_depth = 2),
        ("workflow_pointers", |config| config.limits.workflow.workflow_pointers = 1),
        ("workflow_bytes", |config| config.limits.workflow.workflow_bytes = 100),
        ("step_retries", |config| config.limits.workflow.step_retries = 1),
        ("all_workflow_bytes", |config| config.limits.workflow.all_workflow_bytes = 2048),
    ];
    for (bound, set) in bounds {
        let mut world = configured(13, set);
        let mut raw = open(&mut world);
        let nack = refused(&mut world, &mut raw, deep.clone());
        assert_eq!(code(&nack), "RESOURCE_EXHAUSTED", "{nack}");
        assert!(nack.to_string().contains(bound), "{bound}: {nack}");
        world.finish();
    }
    let mut world = world(13);
    let mut raw = open(&mut world);
    start(&mut world, &mut raw, deep, json!({}));
    world.finish();
}

#[test]
fn pointers_are_followed_as_far_as_that_is_no_work() {
    let mut world = configured(17, |config| config.limits.workflow.pointer_work_bytes = 300);
    let mut raw = open(&mut world);
    let input = json!({"deep": {"deep": {"deep": "x".repeat(90)}}});
    let at = |pointer: &str| json!({"arguments": {"$from": pointer}});
    for (pointer, is_followed) in [("/input/deep/deep", true), ("/input/deep/deep/deep", false)] {
        let start = json!({"workflow": [step("a", "echo", at(pointer))], "input": input});
        raw.send(&mut world, "workflow.start", start);
        let answer = raw.expect_any(&mut world, &["job.accepted", "nack"]);
        assert_eq!(answer["type"] == "job.accepted", is_followed, "{answer}");
    }
    // Of what a step has come to that is found when it is asked for.
    let steps = json!([
        step("a", "echo", json!({"arguments": {"$value": input}, "on_failure": "continue"})),
        step(
            "b",
            "echo",
            json!({"needs": ["a"], "arguments": {"$from": "/steps/a/result/deep/deep/deep"},
            "on_failure": "continue"})
        ),
        step("c", "echo", json!({"needs": ["b"], "arguments": {"$from": "/steps/b/error/message"}})),
    ]);
    raw.until_end(&mut world);
    start(&mut world, &mut raw, steps, json!({}));
    let frames = raw.until_end(&mut world);
    let end = frames.last().expect("an end");
    assert!(end["payload"]["value"]["c"].as_str().is_some_and(|why| why.contains("too deep")), "{end}");
    world.finish();
}

#[test]
fn only_so_many_steps_run_at_once() {
    let mut world = configured(14, |config| config.limits.workflow.concurrent_steps = 2);
    let mut raw = open(&mut world);
    let steps: Vec<Value> = ["a", "b", "c"].map(|id| step(id, "waiter", json!({}))).into();
    let job = start(&mut world, &mut raw, json!(steps), json!({}));
    world.settle();
    let begun = world.children_of(job);
    assert_eq!(begun.keys().collect::<Vec<_>>(), ["a/1", "b/1"]);
    exit(&mut world, begun["b/1"], Ok("1"));
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["a/1", "b/1", "c/1"]);
    world.finish();
}

#[test]
fn a_step_fails_whose_arguments_or_results_are_too_long() {
    let steps = json!([
        step("a", "echo", json!({"arguments": {"$from": "/input/long"}, "on_failure": "continue"})),
        step("b", "echo", json!({"needs": ["a"], "arguments": {"$from": "/steps/a/error", "default": "none"}})),
    ]);
    let long = json!({"long": "x".repeat(400)});
    let bounds: [(&str, Change); 2] = [
        ("`arguments`: they have more than 300 bytes", |config| config.limits.workflow.step_argument_bytes = 300),
        ("the results of a workflow have at most 350 bytes", |config| config.limits.workflow.step_result_bytes = 350),
    ];
    for (said, set) in bounds {
        let mut world = configured(15, set);
        let mut raw = open(&mut world);
        start(&mut world, &mut raw, steps.clone(), long.clone());
        let frames = raw.until_end(&mut world);
        let end = frames.last().expect("an end");
        assert!(end["payload"]["value"]["b"]["message"].as_str().is_some_and(|why| why.contains(said)), "{end}");
        world.restores();
        world.finish();
    }
}

#[test]
fn a_step_waits_that_has_no_room_now_and_says_why() {
    let mut world = configured(16, |config| {
        config.limits.workflow.step_checks = 0;
        let entry = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        entry.checks_input = true;
    });
    let mut raw = open(&mut world);
    let job = start(&mut world, &mut raw, json!([step("a", "echo", json!({}))]), json!({}));
    world.run_for(Duration::from_secs(60));
    let said: Vec<String> = raw
        .take(&world)
        .iter()
        .filter(|frame| frame["payload"]["phase"] == "step")
        .map(|frame| frame["payload"]["message"].to_string())
        .collect();
    assert_eq!(said, ["\"step a waits: too many inputs are being checked\""], "it is said once");
    world.configure(|config| config.limits.workflow.step_checks = 1);
    world.crash();
    world.run_for(Duration::from_secs(6));
    assert_eq!(world.end_of(job).expect("it is over")["status"], "Success");
    world.finish();
}

#[test]
fn what_is_kept_of_a_workflow_can_be_read_again_however_deep_a_result_is() {
    let mut world = world(18);
    let mut raw = open(&mut world);
    let nested = |inner: Value, levels: usize| (0..levels).fold(inner, |inner, _| json!([inner]));
    let steps = json!([
        step("a", "echo", json!({"arguments": nested(json!(1), 100)})),
        step(
            "b",
            "echo",
            json!({"needs": ["a"], "arguments": nested(json!({"$from": "/steps/a/result"}), 20),
            "retry": {"limit": 3}})
        ),
    ]);
    let job = start(&mut world, &mut raw, steps, json!({}));
    raw.until_end(&mut world);
    world.settle();
    let said = world.end_of(job).expect("it is over")["error"]["message"].to_string();
    assert!(said.contains("step `b`: its result: JSON is nested deeper than 119 levels"), "{said}");
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["a/1", "b/1"], "it has done what it should");
    world.restores();
    world.crash();
    world.settle();
    world.finish();
}

#[test]
fn a_step_that_did_what_it_should_or_says_that_it_is_of_no_use_is_not_tried_again() {
    let mut world = configured(19, |config| config.limits.workflow.step_result_bytes = 100);
    let mut raw = open(&mut world);
    let retry = json!({"retry": {"limit": 5}, "on_failure": "continue"});
    let steps =
        json!([step("a", "waiter", retry.clone()), step("b", "waiter", retry.clone()), step("c", "waiter", retry)]);
    let job = start(&mut world, &mut raw, steps, json!({}));
    world.settle();
    let tried = world.children_of(job);
    exit(&mut world, tried["a/1"], Ok(&format!("\"{}\"", "x".repeat(200))));
    let final_error = JobError { retryable: false, ..JobError::new(ErrorCode::Internal, "no use") };
    for (name, error) in [("b/1", final_error), ("c/1", JobError::new(ErrorCode::HeartbeatLost, "silent"))] {
        world.stop_script(tried[name]);
        world.input(Input::AgentExited { job: tried[name], exit: AgentExit::Failure(error) });
        world.settle();
    }
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.children_of(job).into_keys().collect::<Vec<_>>(), ["a/1", "b/1", "c/1", "c/2"]);
    world.restores();
    world.finish();
}

#[test]
fn a_workflow_leaves_its_steps_room_and_ends_where_only_its_own_end_would_make_some() {
    let steps = json!([step("a", "echo", json!({"arguments": 1}))]);
    let mut world = configured(20, |config| config.limits.job.jobs_per_principal = 1);
    let mut raw = open(&mut world);
    let job = start(&mut world, &mut raw, steps.clone(), json!({}));
    world.settle();
    assert_eq!(world.end_of(job).map(|end| end["status"].clone()), Some(json!("Success")));
    world.finish();
    let mut world = configured(21, |config| {
        config.limits.job.jobs = 1;
        config.limits.job.principal_share = 100;
    });
    let mut raw = open(&mut world);
    let job = start(&mut world, &mut raw, steps, json!({}));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.end_of(job), None, "perhaps others make room");
    world.run_for(Duration::from_secs(300));
    let end = world.end_of(job).expect("nothing but its end makes room");
    assert_eq!(end["error"]["code"], "ResourceExhausted", "{end}");
    world.restores();
    world.finish();
}

#[test]
fn what_the_host_checks_for_steps_is_bounded_though_workflows_end_and_shared() {
    let mut world = configured(22, |config| {
        config.limits.workflow.step_checks = 8;
        let entry = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        entry.checks_input = true;
    });
    world.checks.silent = true;
    let mut raw = open(&mut world);
    let steps: Vec<Value> = (0..8).map(|n| step(&format!("s{n}"), "echo", json!({}))).collect();
    for _ in 0..4 {
        let job = start(&mut world, &mut raw, json!(steps), json!({}));
        raw.send(&mut world, "cancel", json!({"target": "job", "target_id": job.to_string()}));
        raw.until_end(&mut world);
    }
    let own = world.checks.asked.len();
    assert!((1..8).contains(&own), "{own} are with the host, of 8 that all may have");
    let mut other = Raw::open_with(&mut world, open_payload("tok-b")).0;
    start(&mut world, &mut other, json!(steps), json!({}));
    world.settle();
    assert!(world.checks.asked.len() > own, "it has its share");
    world.finish();
}

#[test]
fn a_step_goes_on_whose_check_was_never_answered() {
    let mut world = configured(23, |config| {
        let entry = config.agents.iter_mut().find(|entry: &&mut AgentEntry| entry.name == "echo").expect("it is there");
        entry.checks_input = true;
    });
    world.checks.silent = true;
    let mut raw = open(&mut world);
    let job = start(&mut world, &mut raw, json!([step("a", "echo", json!({}))]), json!({}));
    world.settle();
    assert_eq!(world.checks.asked.len(), 1);
    world.checks.silent = false;
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.end_of(job).map(|end| end["status"].clone()), Some(json!("Success")));
    world.finish();
}

#[test]
fn workflows_that_come_at_once_are_held_as_they_are_accepted() {
    let mut world = configured(25, |config| config.limits.workflow.all_workflow_bytes = 60_000);
    let mut raw = open(&mut world);
    let steps = json!([step("a", "waiter", json!({}))]);
    let frames: Vec<String> = (0..8)
        .map(|n| {
            let payload = json!({"workflow": steps, "input": "x".repeat(5_000)});
            json!({"arcp": "1.1", "id": format!("w{n}"), "type": "workflow.start", "payload": payload}).to_string()
        })
        .collect();
    for frame in &frames {
        raw.send_text(&mut world, frame);
    }
    let frames = raw.settle(&mut world);
    let accepted = frames.iter().filter(|frame| frame["type"] == "job.accepted").count();
    assert!((1..4).contains(&accepted), "{accepted} have 12,000 bytes each");
    assert!(held_bytes(world.runtime(), HeldFor::Workflows) <= 60_000);
    world.finish();
}

#[test]
fn a_step_that_waits_to_have_its_arguments_checked_waits_for_others_and_no_clock() {
    let mut world = configured(42, |config| {
        let checked = config.agents.iter_mut().filter(|entry| entry.name == "echo");
        checked.for_each(|entry| entry.checks_input = true);
        config.limits.workflow.concurrent_steps = 40;
    });
    let mut raw = open(&mut world);
    let steps: Vec<Value> = (0..40).map(|n| step(&format!("s{n}"), "echo", json!({}))).collect();
    let jobs = [0, 1].map(|_| start(&mut world, &mut raw, json!(steps), json!({})));
    world.run_for(Duration::from_secs(4));
    for job in jobs {
        assert!(world.end_of(job).is_some(), "{job} goes on");
    }
    world.finish();
}
