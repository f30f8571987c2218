//! Delegation: agents have other agents run child jobs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::runtime::{
    AgentCall, AgentExit, AgentReply, ChildEnd, Delegation, Input, Operator, Record, Remaining, Wait,
};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// A job whose agent does nothing by itself, with this lease.
fn parent(world: &mut World, raw: &mut Raw, lease: Value) -> JobId {
    parent_with(world, raw, json!({"lease_request": lease}))
}

fn parent_with(world: &mut World, raw: &mut Raw, more: Value) -> JobId {
    let mut submit = json!({"agent": "waiter"});
    submit.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    let accepted = raw.submit(world, submit);
    world.settle();
    raw.take(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

fn delegation(agent: &str, id: &str, lease: Value) -> Delegation {
    Delegation {
        lease_request: Some(Json::parse(&lease.to_string()).expect("JSON")),
        delegate_id: Some(id.into()),
        ..Delegation::new(agent)
    }
}

/// Its agent calls; gives what it was answered by the time that everything is
/// durable.
fn ask(world: &mut World, job: JobId, call: AgentCall) -> Option<AgentReply> {
    let before = world.replies.len();
    let id = CallId(before as u64 + 1000);
    world.input(Input::AgentAsked { job, id, call });
    world.settle();
    world.replies.get(before).map(|(_, reply)| reply.clone())
}

fn delegate(world: &mut World, job: JobId, asked: Delegation) -> Result<JobId, (ErrorCode, String)> {
    match ask(world, job, AgentCall::Delegate(asked)) {
        Some(AgentReply::Delegated { job }) => Ok(job),
        Some(AgentReply::Refused(error)) => Err((error.code, error.message)),
        other => panic!("{other:?}"),
    }
}

fn left(world: &mut World, job: JobId) -> String {
    match ask(world, job, AgentCall::Remaining) {
        Some(AgentReply::Remaining(Remaining { budget, .. })) => budget.to_json().as_str().to_string(),
        other => panic!("{other:?}"),
    }
}

fn cost(usd: &str) -> AgentCall {
    let body = Json::parse(&format!(r#"{{"name":"cost.t","value":{usd},"unit":"USD"}}"#)).expect("JSON");
    AgentCall::Emit { kind: "metric".into(), body }
}

fn spend(world: &mut World, job: JobId, usd: &str) {
    world.input(Input::Agent { job, call: cost(usd) });
    world.settle();
}

/// Its agent ends, well.
fn exit(world: &mut World, job: JobId) {
    world.stop_script(job);
    world.input(Input::AgentExited { job, exit: AgentExit::Success { result: Json::parse("7").ok(), summary: None } });
    world.settle();
}

fn cancel(world: &mut World, job: JobId) {
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    world.settle();
}

/// What listings show of each job, by its id.
fn listed(world: &mut World, raw: &mut Raw) -> BTreeMap<String, Value> {
    raw.take(world);
    raw.send(world, "session.list_jobs", json!({}));
    let page = raw.expect(world, "session.jobs")["payload"]["jobs"].clone();
    let entries = page.as_array().expect("a list").iter();
    entries.map(|job| (job["job_id"].as_str().expect("an id").to_string(), job.clone())).collect()
}

fn status(world: &mut World, raw: &mut Raw, job: JobId) -> String {
    listed(world, raw)[&job.to_string()]["status"].as_str().expect("a word").to_string()
}

#[test]
fn an_agent_has_another_one_do_something_and_is_handed_the_result() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["echo"], "tool.call": ["search.*"]}));
    let input = Json::parse(r#"{"q":2}"#).expect("JSON");
    let asked =
        Delegation { input: Some(input.clone()), ..delegation("echo", "d1", json!({"tool.call": ["search.web"]})) };
    let child = delegate(&mut world, job, asked).expect("it may");
    let end = ask(&mut world, job, AgentCall::AwaitChild { job: child });
    let expected = ChildEnd { job: child, status: FinalStatus::Success, result: Some(input), error: None };
    assert_eq!(end, Some(AgentReply::ChildEnded(expected)));
    // Its parent says so; the child's own frames come to whoever asks for them.
    let frames = raw.take(&world);
    let [told] = frames.as_slice() else { panic!("{frames:#?}") };
    let body = &told["payload"]["body"];
    assert_eq!((&told["payload"]["kind"], &told["job_id"]), (&json!("delegate"), &json!(job.to_string())));
    assert_eq!((&body["child_job_id"], &body["delegate_id"]), (&json!(child.to_string()), &json!("d1")));
    assert_eq!((&body["lease"], &body["input"]["q"]), (&json!({"tool.call": ["search.web"]}), &json!(2)));
    let shown = listed(&mut world, &mut raw);
    let (above, below) = (&shown[&job.to_string()], &shown[&child.to_string()]);
    assert_eq!((&below["parent_job_id"], &above["parent_job_id"]), (&json!(job.to_string()), &Value::Null));
    assert_eq!((&below["trace_id"], &below["status"]), (&above["trace_id"], &json!("success")));
    raw.send(&mut world, "job.subscribe", json!({"job_id": child.to_string(), "history": true}));
    let watching = raw.expect(&mut world, "job.subscribed");
    assert_eq!(watching["payload"]["parent_job_id"], json!(job.to_string()));
    assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["result"], json!({"q": 2}));
    cancel(&mut world, job);
    world.restores();
    world.finish();
}

#[test]
fn what_a_child_may_is_within_what_its_parent_may() {
    let mut world = World::seeded(2);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({
        "agent.delegate": ["echo", "ponderer"], "fs.read": ["/data/*"], "model.use": ["m-*"], "cost.budget": ["USD:1"],
    });
    let constraints = json!({"expires_in_s": 100});
    let job = parent_with(&mut world, &mut raw, json!({"lease_request": lease, "lease_constraints": constraints}));
    for (n, (agent, lease, constraints, code, word)) in (0..).zip([
        ("echo", json!({"fs.read": ["/data/**"]}), json!({}), ErrorCode::LeaseSubsetViolation, "`/data/"),
        ("echo", json!({"fs.write": ["/data/a"]}), json!({}), ErrorCode::LeaseSubsetViolation, "fs.write"),
        ("echo", json!({"model.use": ["*"]}), json!({}), ErrorCode::LeaseSubsetViolation, "model.use"),
        ("echo", json!({"cost.budget": ["USD:0.6", "USD:0.5"]}), json!({}), ErrorCode::LeaseSubsetViolation, "USD"),
        ("echo", json!({}), json!({"expires_in_s": 101}), ErrorCode::LeaseSubsetViolation, "ends at"),
        ("echo", json!({}), json!({"x": 1}), ErrorCode::InvalidRequest, "`x`"),
        ("echo", json!({"fs.read": []}), json!({}), ErrorCode::InvalidRequest, "fs.read"),
        ("waiter", json!({}), json!({}), ErrorCode::PermissionDenied, "waiter"),
        ("echo@9.9.9", json!({}), json!({}), ErrorCode::AgentVersionNotAvailable, "9.9.9"),
        ("no agent", json!({}), json!({}), ErrorCode::InvalidRequest, "agent"),
    ]) {
        let id = format!("d{n}");
        let constraints = Json::parse(&constraints.to_string()).ok();
        let asked = Delegation { lease_constraints: constraints, ..delegation(agent, &id, lease) };
        let (found, message) = delegate(&mut world, job, asked).expect_err("it may not");
        assert_eq!(found, code, "{message}");
        assert!(message.contains(word), "{message}");
        // It is the result of that call on the parent, which goes on.
        let frames = raw.take(&world);
        let [asked, result] = frames.as_slice() else { panic!("{frames:#?}") };
        assert_eq!(
            (&asked["payload"]["kind"], &result["payload"]["kind"]),
            (&json!("delegate"), &json!("tool_result"))
        );
        let body = &result["payload"]["body"];
        assert_eq!((&body["call_id"], &body["error"]["code"]), (&json!(id), &json!(code.to_string())));
        if n == 0 {
            let example = body["error"]["details"]["counter_example"].as_str().expect("a target").to_string();
            assert!(example.starts_with("/data/") && !example.contains('*'), "{example}");
        }
    }
    assert_eq!(left(&mut world, job), r#"{"USD":1}"#, "what was refused costs nothing");
    let lease = json!({"fs.read": ["/data/a?"], "model.use": ["m-1"], "cost.budget": ["USD:1"]});
    let child =
        delegate(&mut world, job, delegation("ponderer", "all", lease.clone())).expect("an equal budget is within");
    let shown = listed(&mut world, &mut raw)[&child.to_string()].clone();
    assert_eq!(shown["lease"], lease);
    assert!(shown["lease_constraints"]["expires_at"].is_string(), "it ends with its parent's: {shown}");
    assert_eq!(left(&mut world, job), r#"{"USD":0}"#);
    let (found, _) = delegate(&mut world, job, delegation("echo", "more", json!({}))).expect_err("nothing is left");
    assert_eq!(found, ErrorCode::BudgetExhausted);
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_childs_budget_is_its_parents_until_it_ends_and_what_is_left_comes_back() {
    let mut world = World::seeded(3);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["waiter"], "cost.budget": ["USD:10", "EUR:1"]});
    let job = parent(&mut world, &mut raw, lease);
    let may = |amount: &str| json!({"agent.delegate": ["waiter"], "cost.budget": [amount]});
    let child = delegate(&mut world, job, delegation("waiter", "c", may("USD:4"))).expect("it may");
    let grandchild = delegate(&mut world, child, delegation("waiter", "g", may("USD:3"))).expect_err("no EUR is left");
    assert_eq!(grandchild.0, ErrorCode::BudgetExhausted);
    let both = json!({"agent.delegate": ["waiter"], "cost.budget": ["USD:4", "EUR:0.5"]});
    let child = delegate(&mut world, job, delegation("waiter", "b", both)).expect("it may");
    assert_eq!(left(&mut world, job), r#"{"EUR":0.5,"USD":2}"#);
    let grandchild = delegate(&mut world, child, delegation("waiter", "g", may("USD:3"))).expect("it may");
    assert_eq!(left(&mut world, grandchild), r#"{"EUR":0,"USD":3}"#, "of what it was not given it has none");
    spend(&mut world, grandchild, "2.5");
    spend(&mut world, child, "0.25");
    assert_eq!(left(&mut world, child), r#"{"EUR":0.5,"USD":0.75}"#);
    // A parent that ended well leaves its children, whose rest goes on to those above it.
    exit(&mut world, child);
    assert_eq!(left(&mut world, job), r#"{"EUR":1,"USD":2.75}"#);
    spend(&mut world, grandchild, "1");
    exit(&mut world, grandchild);
    assert_eq!(left(&mut world, job), r#"{"EUR":1,"USD":2.25}"#, "below zero its parent pays");
    world.restores();
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    let shown = listed(&mut world, &mut raw)[&job.to_string()]["budget"].clone();
    assert_eq!(shown, json!({"EUR": 1, "USD": 6.25}), "what was spent, its own and its children's, is 3.75");
    world.finish();
}

#[test]
fn a_child_that_writes_a_currency_in_another_case_spends_of_its_parents() {
    let mut world = World::seeded(16);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["*"], "tool.call": ["a"], "cost.budget": ["USD:3"]});
    let job = parent(&mut world, &mut raw, lease);
    let lease = json!({"tool.call": ["a"], "cost.budget": ["usd:1", "Usd:0.5"]});
    let child = delegate(&mut world, job, delegation("waiter", "c", lease)).expect("it may");
    assert_eq!(left(&mut world, job), r#"{"USD":1.5}"#);
    assert_eq!(left(&mut world, child), r#"{"USD":1.5}"#, "they are one currency");
    let authorize =
        AgentCall::Authorize { operation: "tool.call".into(), target: "a".into(), price: vec!["uSD:1".into()] };
    let reply = ask(&mut world, child, authorize);
    assert!(matches!(reply, Some(AgentReply::Allowed { reservation: Some(_), .. })), "{reply:?}");
    let lease = json!({"cost.budget": ["usd:1.6"]});
    let (code, message) = delegate(&mut world, job, delegation("echo", "d", lease)).expect_err("there is less");
    assert_eq!(code, ErrorCode::LeaseSubsetViolation, "{message}");
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn an_agent_that_waits_for_a_child_is_not_silent() {
    let beats = Duration::from_secs(30);
    let mut world = World::configured(17, |config| {
        config.timing.heartbeat = Some(beats);
        config.heartbeat_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let child = delegate(&mut world, job, delegation("waiter", "c", json!({}))).expect("it may");
    assert_eq!(ask(&mut world, job, AgentCall::AwaitChild { job: child }), None);
    // The child is watched as any job, the parent is not.
    let pass = |world: &mut World, raw: &mut Raw| {
        world.run_for(beats);
        raw.send(world, "session.ping", json!({"nonce": "n", "sent_at": "2026-11-22T00:00:00Z"}));
        world.input(Input::Agent { job: child, call: AgentCall::Heartbeat });
        world.settle();
    };
    (0..5).for_each(|_| pass(&mut world, &mut raw));
    assert_eq!(status(&mut world, &mut raw, job), "running");
    exit(&mut world, child);
    assert!(matches!(world.replies.last(), Some((to, AgentReply::ChildEnded(_))) if *to == job));
    // From here on it may be silent as long as any agent.
    world.run_for(beats + beats / 2);
    assert_eq!(status(&mut world, &mut raw, job), "running");
    world.run_for(beats);
    assert_ne!(status(&mut world, &mut raw, job), "running");
    world.finish();
}

#[test]
fn a_budget_that_is_to_end_a_job_ends_it_for_what_a_child_spent() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let submit = json!({
        "lease_request": {"agent.delegate": ["waiter"], "cost.budget": ["USD:1"]},
        "lease_constraints": {"x-vendor.arcp.budget_hard": true},
    });
    let job = parent_with(&mut world, &mut raw, submit);
    let child = delegate(&mut world, job, delegation("waiter", "c", json!({}))).expect("it may");
    spend(&mut world, child, "1");
    assert_eq!(status(&mut world, &mut raw, job), "running");
    exit(&mut world, child);
    assert_eq!(code(raw.until_end(&mut world).last().expect("an end")), "BUDGET_EXHAUSTED");
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn children_end_with_their_parent_wherever_they_stand() {
    for (seed, how) in (5..).zip(["cancel", "failure", "expiry"]) {
        let mut world = World::configured(seed, |config| {
            config.limits.job.running_jobs = 3;
            config.limits.job.principal_share = 100;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let submit = json!({
            "lease_request": {"agent.delegate": ["**"]}, "lease_constraints": {"expires_in_s": 50},
        });
        let job = parent_with(&mut world, &mut raw, submit);
        let may = json!({"agent.delegate": ["*"]});
        let child = delegate(&mut world, job, delegation("waiter", "c", may)).expect("it may");
        let below = delegate(&mut world, child, delegation("waiter", "g", json!({}))).expect("it may");
        let queued = delegate(&mut world, child, delegation("waiter", "q", json!({}))).expect("it may");
        assert_eq!(status(&mut world, &mut raw, queued), "pending");
        // One that waits for its child is answered that it is over.
        let waits = CallId(7);
        world.input(Input::AgentAsked { job: child, id: waits, call: AgentCall::AwaitChild { job: below } });
        assert_eq!(world.waits().get(&child), Some(&Wait::Child(below)));
        let ended = match how {
            "cancel" => {
                raw.send(&mut world, "job.cancel", json!({"job_id": job.to_string()}));
                "cancelled"
            }
            "failure" => {
                world.stop_script(job);
                world.input(Input::AgentExited { job, exit: AgentExit::Lost });
                "cancelled"
            }
            _ => {
                world.run_for(Duration::from_secs(51));
                "error"
            }
        };
        world.run_for(Duration::from_secs(8));
        let shown = listed(&mut world, &mut raw);
        for id in [child, below, queued] {
            assert_eq!(shown[&id.to_string()]["status"], json!(ended), "{how}: {id}");
        }
        assert!(world.replies.contains(&(child, AgentReply::Stopped)), "{how}");
        world.restores();
        assert_eq!(world.runtime().stats().running_agents, 0);
        world.finish();
    }
}

#[test]
fn a_parent_that_is_over_is_kept_while_a_child_is_not_and_its_cancel_reaches_below_it() {
    let mut world = World::configured(8, |config| {
        config.limits.job.ended_jobs_per_principal = 1;
        config.limits.job.jobs = 6;
        config.limits.job.principal_share = 100;
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let top = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"], "cost.budget": ["USD:5"]}));
    let may = json!({"agent.delegate": ["*"], "cost.budget": ["USD:4"]});
    let middle = delegate(&mut world, top, delegation("waiter", "m", may.clone())).expect("it may");
    let below =
        delegate(&mut world, middle, delegation("waiter", "b", json!({"cost.budget": ["USD:3"]}))).expect("it may");
    exit(&mut world, middle);
    for _ in 0..8 {
        raw.submit(&mut world, json!({"agent": "echo"}));
        world.settle();
    }
    world.restores();
    spend(&mut world, below, "1");
    cancel(&mut world, top);
    world.run_for(Duration::from_secs(8));
    let left_of = |world: &World| {
        let records = world.store.records(false).into_iter();
        let budgets = records.filter_map(|(_, record)| {
            let Record::BudgetLeft { job, left, .. } = record else {
                return None;
            };
            (job == top).then(|| left.to_json().as_str().to_string())
        });
        budgets.last()
    };
    assert_eq!(left_of(&world).as_deref(), Some(r#"{"USD":4}"#), "it came up through the one in between");
    assert_eq!(world.runtime().stats().unfinished_jobs, 0);
    world.restores();
    world.finish();
}

#[test]
fn families_have_bounds() {
    let mut world = World::configured(9, |config| {
        config.limits.family.children_per_job = 2;
        config.limits.family.delegation_depth = 2;
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let may = json!({"agent.delegate": ["*"]});
    let job = parent(&mut world, &mut raw, may.clone());
    let first = delegate(&mut world, job, delegation("waiter", "1", may.clone())).expect("it may");
    let second = delegate(&mut world, job, delegation("waiter", "2", may.clone())).expect("it may");
    let (code, message) = delegate(&mut world, job, delegation("waiter", "3", may.clone())).expect_err("two are there");
    assert_eq!(code, ErrorCode::ResourceExhausted, "{message}");
    assert!(message.starts_with("2 children"), "{message}");
    exit(&mut world, second);
    delegate(&mut world, job, delegation("waiter", "3", may.clone())).expect("one has ended");
    let deep = delegate(&mut world, first, delegation("waiter", "1", may.clone())).expect("it may");
    let (code, message) = delegate(&mut world, deep, delegation("waiter", "1", may)).expect_err("deep enough");
    assert_eq!(code, ErrorCode::ResourceExhausted, "{message}");
    assert!(message.starts_with("2 jobs"), "{message}");
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_family_has_a_bound_of_its_own_whoever_in_it_has_ended() {
    let mut world = World::configured(9, |config| config.limits.family.jobs_per_family = 3);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let may = json!({"agent.delegate": ["*"]});
    let job = parent(&mut world, &mut raw, may.clone());
    let first = delegate(&mut world, job, delegation("waiter", "1", may.clone())).expect("it may");
    let second = delegate(&mut world, first, delegation("waiter", "1", may.clone())).expect("it may");
    // It is kept for what is below it, and counts.
    exit(&mut world, first);
    let third = delegate(&mut world, second, delegation("waiter", "1", may.clone())).expect("it may");
    for asking in [job, second, third] {
        let (code, message) = delegate(&mut world, asking, delegation("waiter", "2", may.clone())).expect_err("full");
        assert_eq!(code, ErrorCode::ResourceExhausted, "{message}");
        assert!(message.starts_with("3 jobs of this family"), "{message}");
    }
    exit(&mut world, third);
    delegate(&mut world, job, delegation("waiter", "2", may)).expect("one has ended");
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn whoever_delegates_the_same_again_has_the_child_that_is_there() {
    let mut world = World::configured(10, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let may = json!({"agent.delegate": ["waiter"], "cost.budget": ["USD:5"]});
    let job = parent(&mut world, &mut raw, may);
    let asked = || delegation("waiter", "d", json!({"cost.budget": ["USD:2"]}));
    let child = delegate(&mut world, job, asked()).expect("it may");
    assert_eq!(delegate(&mut world, job, asked()), Ok(child));
    let (code, _) = delegate(&mut world, job, delegation("waiter", "d", json!({}))).expect_err("another one");
    assert_eq!(code, ErrorCode::DuplicateKey);
    // Also once its runtime was started again.
    let kept = world.given().count();
    world.crash_with(kept, true);
    world.settle();
    assert_eq!(delegate(&mut world, job, asked()), Ok(child));
    assert_eq!(left(&mut world, job), r#"{"USD":3}"#, "it was taken once");
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_crash_at_any_commit_loses_no_child_and_no_cent() {
    let asked = || delegation("waiter", "d", json!({"cost.budget": ["USD:2"]}));
    // What is on its way to the store is there up to one batch, and then not.
    for (before, kept, children, expected) in [
        ("it starts", 0, 0, r#"{"USD":5}"#),
        ("it starts", 1, 1, r#"{"USD":3}"#),
        ("it ends", 0, 1, r#"{"USD":3}"#),
        ("it ends", 1, 1, r#"{"USD":3}"#),
        ("it ends", 2, 0, r#"{"USD":4.5}"#),
    ] {
        let mut world = World::configured(11, |config| {
            config.restartable_agents.insert("waiter".into());
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["waiter"], "cost.budget": ["USD:5"]}));
        if before == "it starts" {
            world.input(Input::AgentAsked { job, id: CallId(1), call: AgentCall::Delegate(asked()) });
            assert_eq!(world.given().count(), 1, "a child and its money are one batch");
        } else {
            let child = delegate(&mut world, job, asked()).expect("it may");
            world.input(Input::Agent { job: child, call: cost("0.5") });
            world.stop_script(child);
            let exit = AgentExit::Success { result: None, summary: None };
            world.input(Input::AgentExited { job: child, exit });
            assert_eq!(world.given().count(), 2, "an end and what comes back are one batch");
        }
        world.crash_with(kept, false);
        world.settle();
        assert_eq!(world.runtime().stats().running_agents, 1 + children, "{before}, {kept} kept");
        assert_eq!(left(&mut world, job), expected, "{before}, {kept} kept");
        let child = delegate(&mut world, job, asked()).expect("it may");
        let spent = world.store.records(false).iter().filter(|(_, record)| is_child(record)).count();
        assert_eq!(spent, 1, "{before}, {kept} kept: there is one, whoever asks again: {child}");
        cancel(&mut world, job);
        world.run_for(Duration::from_secs(10));
        world.finish();
    }
}

fn is_child(record: &Record) -> bool {
    matches!(record, Record::JobAccepted(job) if job.bounds.parent.is_some())
}

#[test]
fn a_child_that_its_parent_waits_for_has_the_parents_slot() {
    let mut world = World::configured(12, |config| config.limits.job.running_jobs = 1);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let may = json!({"agent.delegate": ["*"]});
    let child = delegate(&mut world, job, delegation("waiter", "c", may)).expect("it may");
    let stranger = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
    world.settle();
    assert_eq!(status(&mut world, &mut raw, child), "pending");
    assert_eq!(ask(&mut world, job, AgentCall::AwaitChild { job: child }), None);
    assert_eq!(status(&mut world, &mut raw, child), "running");
    let below = delegate(&mut world, child, delegation("echo", "g", json!({}))).expect("it may");
    let end = ask(&mut world, child, AgentCall::AwaitChild { job: below });
    assert!(matches!(end, Some(AgentReply::ChildEnded(ChildEnd { status: FinalStatus::Success, .. }))), "{end:?}");
    let shown = listed(&mut world, &mut raw);
    assert_eq!(shown[stranger.as_str().expect("an id")]["status"], json!("pending"), "it goes back up, not to others");
    exit(&mut world, child);
    assert!(matches!(world.replies.last(), Some((to, AgentReply::ChildEnded(_))) if *to == job));
    assert_eq!(world.runtime().stats().running_agents, 1);
    exit(&mut world, job);
    assert_eq!(
        status(&mut world, &mut raw, JobId::parse(stranger.as_str().expect("an id")).expect("a job")),
        "success"
    );
    world.finish();
}

#[test]
fn an_event_asks_for_a_child_as_a_call_does() {
    let mut world = World::seeded(13);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["echo"]}));
    let none = parent(&mut world, &mut raw, json!({}));
    let say = |world: &mut World, job, body: &str| {
        let call = AgentCall::Emit { kind: "delegate".into(), body: Json::parse(body).expect("JSON") };
        world.input(Input::Agent { job, call });
        world.settle();
    };
    say(&mut world, job, r#"{"delegate_id":"d1","agent":"echo","input":[1],"x-mine":2}"#);
    say(&mut world, job, r#"{"target":"echo","task":"t","context":{"k":1}}"#);
    say(&mut world, job, r#"{"child_job_id":"job_x","agent":"echo"}"#);
    say(&mut world, job, r#"{"delegate_id":"d2","agent":"slow"}"#);
    say(&mut world, none, r#"{"agent":"echo"}"#);
    let bodies: Vec<Value> = raw.take(&world).iter().map(|frame| frame["payload"]["body"].clone()).collect();
    let [asked, open, told, refused, result, unasked] = bodies.as_slice() else { panic!("{bodies:#?}") };
    assert_eq!((&asked["input"], &asked["x-mine"], &asked["delegate_id"]), (&json!([1]), &json!(2), &json!("d1")));
    assert_eq!((&open["agent"], &open["target"]), (&asked["agent"], &json!("echo")));
    assert_eq!((&told["child_job_id"], &refused["agent"]), (&json!("job_x"), &json!("slow")));
    assert_eq!((&result["call_id"], &result["error"]["code"]), (&json!("d2"), &json!("PERMISSION_DENIED")));
    assert_eq!(unasked, &json!({"agent": "echo"}), "who was given no lease tells of what it does elsewhere");
    let shown = listed(&mut world, &mut raw);
    let children = shown.values().filter(|entry| entry["parent_job_id"] == json!(job.to_string())).count();
    assert_eq!((children, shown.len()), (2, 4));
    let inputs: Vec<&str> =
        world.started.iter().filter(|spec| spec.agent.name() == "echo").map(|spec| spec.input.as_str()).collect();
    assert_eq!(inputs, ["[1]", r#"{"task":"t","context":{"k":1}}"#]);
    for job in [job, none] {
        cancel(&mut world, job);
    }
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn only_a_parent_waits_for_a_child() {
    let mut world = World::seeded(14);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let other = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    let child = delegate(&mut world, job, delegation("waiter", "c", json!({}))).expect("it may");
    for (asks, of) in [(other, child), (job, other), (child, job), (job, job)] {
        let reply = ask(&mut world, asks, AgentCall::AwaitChild { job: of });
        let Some(AgentReply::Refused(error)) = reply else { panic!("{reply:?}") };
        assert_eq!(error.code, ErrorCode::JobNotFound);
    }
    // Nobody who cancelled delegates.
    world.store.broken = true;
    world.input(Input::Operator(Operator::CancelJob { job: other, reason: None }));
    for job in [job, other] {
        world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    }
    world.store.mend();
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_childs_acceptance_is_shown_to_those_who_subscribed_and_answers_nobody() {
    let mut world = World::seeded(15);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    open.send(&mut world, "subscribe", json!({"filter": {}}));
    open.expect(&mut world, "subscribe.accepted");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["*"]}));
    world.store.broken = true;
    let id = raw.send(&mut world, "job.submit", json!({"agent": "echo"}));
    world.input(Input::AgentAsked { job, id: CallId(1), call: AgentCall::Delegate(Delegation::new("waiter")) });
    world.store.mend();
    world.run_for(Duration::from_secs(5));
    let Some((_, AgentReply::Delegated { job: child })) = world.replies.last().cloned() else { panic!() };
    let mine: Vec<Value> = raw.take(&world).into_iter().filter(|frame| frame["type"] == "job.accepted").collect();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0]["payload"]["request_id"], json!(id));
    let shown: Vec<String> = open.take(&world).iter().map(Value::to_string).collect();
    let accepted = |text: &&String| text.contains("job.accepted") && text.contains(&child.to_string());
    assert!(shown.iter().find(accepted).expect("it is shown").contains("parent_job_id"));
    raw.send(&mut world, "job.cancel", json!({"job_id": child.to_string()}));
    raw.expect(&mut world, "job.cancelled");
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn slots_of_parents_that_wait_are_for_children_only() {
    let mut world = World::configured(42, |config| {
        config.limits.job.running_jobs = 2;
        config.limits.job.principal_share = 100;
        let child = config.agents.iter_mut().find(|entry| entry.name == "finisher").expect("it is there");
        child.concurrency = NonZeroU32::new(1);
    });
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let may = || json!({"agent.delegate": ["*"]});
    let jobs: Vec<JobId> = (0..6).map(|_| parent(&mut world, &mut raw, may())).collect();
    let children = [0, 1].map(|n| {
        let child = delegate(&mut world, jobs[n], delegation("finisher", "c", json!({}))).expect("it may");
        let call = AgentCall::AwaitChild { job: child };
        world.input(Input::AgentAsked { job: jobs[n], id: CallId(1), call });
        world.settle();
        child
    });
    assert_eq!(
        world.live(),
        [jobs[0], jobs[1], children[0]],
        "the second child waits for the first, all others for both"
    );
    // A child that ends gives its slot to its parent, and the agent is free for the next.
    cancel(&mut world, children[0]);
    assert_eq!(world.live(), [jobs[0], jobs[1], children[1]]);
    assert_eq!(world.runtime().stats().running_agents, 2);
    exit(&mut world, jobs[0]);
    assert_eq!(world.live(), [jobs[1], children[1]], "the slot that was lent is not free");
    cancel(&mut world, children[1]);
    assert_eq!(world.live(), [jobs[1], jobs[2]]);
    world.finish();
}

#[test]
fn over_any_schedule_of_delegations_spends_and_crashes_the_ledger_balances() {
    // The world's ledger counts after every input.
    let (mut made, mut refused, mut deepest) = (0, 0, 0);
    for seed in 100..140 {
        let mut world = World::configured(seed, |config| {
            config.restartable_agents.insert("waiter".into());
            config.limits.job.restarts = 3;
            config.limits.job.running_jobs = 6;
            config.limits.job.principal_share = 100;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let lease = json!({"agent.delegate": ["*"], "tool.call": ["a", "a.*"], "cost.budget": ["USD:100"]});
        let root = parent(&mut world, &mut raw, lease);
        for n in 0..40 {
            let live: Vec<JobId> = world.live();
            let Some(job) = live.get(world.below(live.len().max(1) as u64) as usize).copied() else { break };
            let id = CallId(5000 + n);
            match world.below(12) {
                0..5 => {
                    let tools = ["a", "a.*", "a.b", "*", "a?"][world.below(5) as usize];
                    let amount = format!("USD:{}", world.below(40));
                    let lease = json!({"agent.delegate": ["*"], "tool.call": [tools], "cost.budget": [amount]});
                    let call = AgentCall::Delegate(delegation("waiter", &format!("d{n}"), lease));
                    world.input(Input::AgentAsked { job, id, call });
                }
                5..8 => {
                    let amount = format!("{}.25", world.below(9));
                    world.input(Input::Agent { job, call: cost(&amount) });
                }
                8 if job != root => {
                    world.stop_script(job);
                    let exit = AgentExit::Success { result: None, summary: None };
                    world.input(Input::AgentExited { job, exit });
                }
                9 if job != root => world.input(Input::Operator(Operator::CancelJob { job, reason: None })),
                10 if n % 3 == 0 => world.crash(),
                _ => world.run_for(Duration::from_millis(200)),
            }
            for _ in 0..world.below(10) {
                world.step();
            }
            world.restores();
        }
        refused += world.replies.iter().filter(|(_, reply)| matches!(reply, AgentReply::Refused(_))).count();
        cancel(&mut world, root);
        world.run_for(Duration::from_secs(20));
        world.oracle.ledger.is_settled();
        made += world.oracle.ledger.children;
        deepest = deepest.max(world.oracle.ledger.deepest());
        world.finish();
    }
    assert!(made > 100 && refused > 50 && deepest > 2, "{made} children, {refused} refused, {deepest} deep");
}

#[test]
fn a_client_submits_below_a_job_what_its_agent_could_delegate() {
    let mut world = World::seeded(18);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["waiter"], "tool.call": ["a.*"], "cost.budget": ["USD:5"]});
    let job =
        parent_with(&mut world, &mut raw, json!({"lease_request": lease, "lease_constraints": {"expires_in_s": 100}}));
    let below = |agent: &str, parent: &str, lease: Value| json!({"agent": agent, "parent_job_id": parent, "lease_request": lease});
    let id = job.to_string();
    for (submit, expected) in [
        (below("waiter", &id, json!({"tool.call": ["*"]})), "LEASE_SUBSET_VIOLATION"),
        (below("waiter", &id, json!({"cost.budget": ["USD:5.01"]})), "LEASE_SUBSET_VIOLATION"),
        (below("echo", &id, json!({"tool.call": ["a.b"]})), "PERMISSION_DENIED"),
        (below("waiter", "job_none", json!({"tool.call": ["a.b"]})), "JOB_NOT_FOUND"),
        (below("waiter", "", json!({"tool.call": ["a.b"]})), "INVALID_REQUEST"),
    ] {
        raw.send(&mut world, "job.submit", submit.clone());
        let refused = raw.expect_any(&mut world, &["session.error", "job.error"]);
        assert_eq!(code(&refused), expected, "{submit}");
    }
    assert_eq!(left(&mut world, job), r#"{"USD":5}"#, "what was refused costs nothing");
    let mut submit = below("waiter", &id, json!({"tool.call": ["a.b"], "cost.budget": ["USD:2"]}));
    submit["idempotency_key"] = json!("k");
    let accepted = raw.submit(&mut world, submit.clone());
    assert_eq!(
        (&accepted["payload"]["parent_job_id"], &accepted["payload"]["budget"]),
        (&json!(id), &json!({"USD": 2}))
    );
    assert!(accepted["payload"]["lease_constraints"]["expires_at"].is_string(), "it ends with its parent's lease");
    world.settle();
    let told = raw.take(&world).into_iter().find(|frame| frame["payload"]["kind"] == "delegate").expect("it is told");
    let child = accepted["job_id"].clone();
    assert_eq!((&told["job_id"], &told["payload"]["body"]["child_job_id"]), (&json!(id), &child));
    assert_eq!(raw.submit(&mut world, submit.clone())["job_id"], child, "a key is one job");
    assert_eq!(left(&mut world, job), r#"{"USD":3}"#);
    let shown = listed(&mut world, &mut raw);
    assert_eq!(shown[child.as_str().expect("an id")]["trace_id"], shown[&id]["trace_id"]);
    // Whose the job is not sees none there.
    let (mut other, _) = Raw::hello_with_leases(&mut world, "tok-b");
    other.send(&mut world, "job.submit", submit);
    assert_eq!(code(&other.expect_any(&mut world, &["session.error", "job.error"])), "JOB_NOT_FOUND");
    world.restores();
    // It is its submitter's to follow, and ends with its parent.
    cancel(&mut world, job);
    world.run_for(Duration::from_secs(10));
    let ends = raw.take(&world).into_iter().filter(|frame| frame["type"] == "job.error" && frame["job_id"] == child);
    assert_eq!(ends.count(), 1);
    raw.send(&mut world, "job.submit", below("waiter", &id, json!({"tool.call": ["a.b"]})));
    let refused = raw.expect(&mut world, "session.error");
    assert!(refused["payload"]["message"].to_string().contains("the job has ended"), "{refused}");
    world.finish();
}

#[test]
fn an_open_client_delegates_from_a_job_of_its_own() {
    let mut world = World::seeded(19);
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    let lease = json!({"agent.delegate": ["echo"], "tool.call": ["a.*"]});
    let job = open.invoke(&mut world, json!({"tool": "waiter", "lease_request": lease}))["job_id"].clone();
    open.settle(&mut world);
    let payload = json!({"target": "echo", "task": "t", "context": {"k": 1}, "lease_request": {"tool.call": ["a.b"]}});
    let asked = open.send_with(&mut world, "agent.delegate", payload.clone(), json!({"job_id": job}));
    let accepted = open.expect(&mut world, "job.accepted");
    assert_eq!((&accepted["correlation_id"], &accepted["payload"]["parent_job_id"]), (&json!(asked), &job));
    let end = open.until_end(&mut world).pop().expect("an end");
    assert_eq!(
        (&end["job_id"], &end["payload"]["value"]),
        (&accepted["job_id"], &json!({"task": "t", "context": {"k": 1}}))
    );
    open.send(&mut world, "agent.delegate", payload);
    let refused = open.expect(&mut world, "nack");
    assert!(refused.to_string().contains("`job_id` must name the job"), "{refused}");
    cancel(&mut world, job.as_str().and_then(JobId::parse).expect("a job"));
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_child_is_one_by_its_name_whether_its_parent_or_a_client_has_it_done() {
    let mut world = World::seeded(20);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = parent(&mut world, &mut raw, json!({"agent.delegate": ["waiter"], "tool.call": ["a.*"]}));
    let lease = json!({"tool.call": ["a.b"]});
    let child = delegate(&mut world, job, delegation("waiter", "d", lease.clone())).expect("it may");
    raw.take(&world);
    let below = |agent: &str| json!({"agent": agent, "parent_job_id": job.to_string(), "delegate_id": "d", "lease_request": lease});
    assert_eq!(raw.submit(&mut world, below("waiter"))["job_id"], json!(child.to_string()));
    raw.send(&mut world, "job.submit", below("echo"));
    assert_eq!(code(&raw.expect_any(&mut world, &["session.error", "job.error"])), "DUPLICATE_KEY");
    world.finish();
}
