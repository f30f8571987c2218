//! Agents that wait for the outcome of their calls, and ask.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{CallId, JobId};
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, AgentReply, ChunkData, Input, Operator, Remaining, Wait};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn emit(kind: &str, body: &str) -> AgentCall {
    AgentCall::Emit { kind: kind.into(), body: Json::parse(body).expect("JSON") }
}

fn log() -> AgentCall {
    emit("log", r#"{"level":"info","message":"m"}"#)
}

fn checkpoint(bytes: usize) -> AgentCall {
    AgentCall::Checkpoint { state: vec![b'x'; bytes], label: None }
}

fn chunk(more: bool) -> AgentCall {
    AgentCall::Chunk { data: ChunkData::Text("abc".into()), more }
}

/// A job whose agent does nothing by itself.
fn waiter(world: &mut World, raw: &mut Raw, more: &Value) -> JobId {
    let mut submit = json!({"agent": "waiter"});
    submit.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let accepted = raw.submit(world, submit);
    world.settle();
    raw.take(world);
    accepted["job_id"].as_str().and_then(JobId::parse).expect("a job")
}

/// Its agent asks; gives what it was answered at once.
fn ask(world: &mut World, job: JobId, id: u64, call: AgentCall) -> Option<AgentReply> {
    let before = world.replies.len();
    world.input(Input::AgentAsked { job, id: CallId(id), call });
    world.replies.get(before).map(|(_, reply)| reply.clone())
}

fn refused(reply: Option<AgentReply>) -> (ErrorCode, String) {
    match reply {
        Some(AgentReply::Refused(error)) => (error.code, error.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_agent_is_told_the_number_of_an_event_once_that_is_durable() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    assert_eq!(ask(&mut world, job, 7, log()), None);
    assert_eq!(world.waits().get(&job), Some(&Wait::Answer));
    world.settle();
    // The first event is its start.
    assert_eq!(world.replies, [(job, AgentReply::Taken { event: Some(2) })]);
    assert_eq!(world.waits().get(&job), None);
    assert_eq!(raw.take(&world).len(), 1, "it is shown");
    world.finish();
}

#[test]
fn what_is_refused_is_said_and_the_job_goes_on_as_if_nothing_had_been_called() {
    let mut world = World::configured(2, |config| {
        config.limits.job.checkpoint_bytes = 100;
        config.limits.frame.event_body_bytes = 1000;
        config.limits.frame.result_bytes = 5;
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    let empty = r#"{"level":"info","message":""}"#;
    let long = |bytes: usize| empty.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - empty.len())));
    let calls = [
        (emit("progress", r#"{"current":"no number"}"#), "current"),
        (emit("log", &long(1001)), "at most 1000"),
        (checkpoint(101), "larger"),
        (AgentCall::Checkpoint { state: Vec::new(), label: Some("l".repeat(1000)) }, "label"),
        (AgentCall::Chunk { data: ChunkData::Text("abcdef".into()), more: true }, "larger"),
    ];
    for (n, (call, why)) in (0..).zip(calls) {
        let (code, message) = refused(ask(&mut world, job, n, call));
        assert_eq!(code, ErrorCode::InvalidRequest);
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(ask(&mut world, job, 9, emit("log", &long(1000))), None);
    // Nothing of the refused piece is left: the whole fits.
    assert_eq!(ask(&mut world, job, 10, chunk(false)), None);
    assert!(refused(ask(&mut world, job, 11, chunk(false))).1.contains("last piece"));
    world.settle();
    assert_eq!(raw.take(&world).len(), 2, "only the event and the piece are shown");
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    assert_eq!(raw.until_end(&mut world).last().expect("an end")["payload"]["code"], "CANCELLED");
    world.finish();
}

#[test]
fn a_state_that_nobody_would_go_on_from_is_refused() {
    let mut world = World::seeded(3);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    assert!(refused(ask(&mut world, job, 1, checkpoint(1))).1.contains("not kept"));
    world.finish();
}

#[test]
fn what_is_left_of_a_job_is_said_at_once() {
    let mut world = World::configured(4, |config| config.limits.delivery.agent_credit = 9);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let endless = waiter(&mut world, &mut raw, &json!({}));
    let job = waiter(&mut world, &mut raw, &json!({"max_runtime_sec": 60}));
    world.run_for(Duration::from_secs(10));
    world.store.broken = true;
    let left = |reply| match reply {
        Some(AgentReply::Remaining(Remaining { time_ms, calls, bytes, .. })) => (time_ms, calls, bytes),
        other => panic!("{other:?}"),
    };
    assert_eq!(left(ask(&mut world, endless, 1, AgentCall::Remaining)), (None, 9, 1 << 20));
    let (time_ms, calls, _) = left(ask(&mut world, job, 1, AgentCall::Remaining));
    assert!(time_ms.is_some_and(|left| (49_000..=50_000).contains(&left)), "{time_ms:?}");
    assert_eq!(calls, 9, "the call before cost nothing in the end");
    world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
    let (time_ms, ..) = left(ask(&mut world, job, 2, AgentCall::Remaining));
    assert_eq!(time_ms, Some(5000), "then it is made to stop");
    world.store.broken = false;
    world.settle();
    world.finish();
}

#[test]
fn a_cancel_answers_an_open_call_at_once() {
    let mut world = World::configured(5, |config| {
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (cancelled, late) =
        (waiter(&mut world, &mut raw, &json!({})), waiter(&mut world, &mut raw, &json!({"max_runtime_sec": 1})));
    world.store.broken = true;
    for job in [cancelled, late] {
        assert_eq!(ask(&mut world, job, 1, checkpoint(10)), None);
    }
    world.input(Input::Operator(Operator::CancelJob { job: cancelled, reason: None }));
    assert_eq!(world.replies, [(cancelled, AgentReply::Stopped)]);
    world.run_for(Duration::from_millis(1100));
    assert_eq!(world.replies.last(), Some(&(late, AgentReply::Stopped)), "the end of the job as well");
    world.store.broken = false;
    // The store is asked again within a second.
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.replies.len(), 2, "each once");
    world.finish();
}

#[test]
fn an_agent_whose_job_is_over_waits_for_no_answer() {
    let mut world = World::seeded(6);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let accepted = raw.submit(&mut world, json!({"agent": "undead", "max_runtime_sec": 1}));
    let job = accepted["job_id"].as_str().and_then(JobId::parse).expect("a job");
    raw.until_end(&mut world);
    assert_eq!(ask(&mut world, job, 1, log()), Some(AgentReply::Stopped));
    assert_eq!(ask(&mut world, job, 2, AgentCall::Remaining), Some(AgentReply::Stopped));
    world.run_for(Duration::from_secs(10));
    world.reap();
    world.finish();
}

#[test]
fn open_calls_have_a_bound() {
    let mut world = World::configured(7, |config| config.limits.delivery.open_calls_per_job = 2);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    world.store.broken = true;
    assert_eq!((ask(&mut world, job, 1, log()), ask(&mut world, job, 2, log())), (None, None));
    let (code, message) = refused(ask(&mut world, job, 3, log()));
    assert_eq!(code, ErrorCode::ResourceExhausted);
    assert!(message.starts_with("2 calls"), "{message}");
    world.store.broken = false;
    world.settle();
    assert_eq!(ask(&mut world, job, 3, log()), None);
    assert!(refused(ask(&mut world, job, 3, log())).1.contains("choose another"), "an id stands for one open call");
    world.settle();
    assert_eq!(world.replies.len(), 5);
    assert_eq!(raw.take(&world).len(), 3, "the refused ones are not shown");
    world.finish();
}

#[test]
fn a_call_that_leaves_no_record_has_its_credit_back_at_once() {
    for credit in 1..4 {
        let mut world = World::configured(8, |config| {
            *config = std::mem::replace(config, arcp_proto::runtime::Config::new("w", "1")).with_agent("asker", &[]);
            config.limits.delivery.agent_credit = credit;
        });
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "asker", "input": {"count": 3}}));
        let frames = raw.until_end(&mut world);
        assert_eq!(frames.last().expect("an end")["type"], "job.result");
        assert_eq!(world.replies.len(), 5 * 3);
        world.finish();
    }
}

#[test]
fn what_an_agent_was_told_is_kept_is_kept_whatever_happens() {
    for seed in 0..20 {
        let mut world = World::configured(seed, |config| {
            *config = std::mem::replace(config, arcp_proto::runtime::Config::new("w", "1")).with_agent("asker", &[]);
            config.restartable_agents.insert("asker".into());
        });
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "asker", "input": {"count": 30}}));
        let span = Duration::from_micros(200_000 + world.below(700_000));
        world.run_for(span);
        let kept = world.replies.iter().filter(|(_, reply)| matches!(reply, AgentReply::Taken { .. })).count();
        world.crash();
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        back.expect(&mut world, "session.welcome");
        let frames = back.until_end(&mut world);
        assert!(kept > 0 && frames.len() >= kept, "seed {seed}");
        assert!(world.started.last().is_some_and(|spec| spec.checkpoint.is_some()), "seed {seed}");
        world.finish();
    }
}

fn authorize(operation: &str, target: &str) -> AgentCall {
    AgentCall::Authorize { operation: operation.into(), target: target.into(), price: Vec::new() }
}

fn priced(price: &str) -> AgentCall {
    AgentCall::Authorize { operation: "tool.call".into(), target: "t".into(), price: vec![price.into()] }
}

fn cost(value: &str, unit: &str) -> AgentCall {
    emit("metric", &format!(r#"{{"name":"cost.search","value":{value},"unit":"{unit}"}}"#))
}

fn tool_call(tool: &str) -> AgentCall {
    emit("tool_call", &format!(r#"{{"tool":"{tool}","call_id":"c1"}}"#))
}

/// What an agent is answered, or the code of the refusal.
fn verdict(reply: Option<AgentReply>) -> String {
    match reply {
        Some(AgentReply::Allowed { pattern, .. }) => pattern,
        Some(AgentReply::Refused(error)) => error.code.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The metrics that were shown, by name and value.
fn metrics(frames: &[Value]) -> Vec<(String, String)> {
    let bodies = frames.iter().map(|frame| &frame["payload"]["body"]).filter(|body| body["value"].is_number());
    bodies.map(|body| (body["name"].as_str().unwrap_or_default().to_string(), body["value"].to_string())).collect()
}

#[test]
fn an_agent_may_do_what_its_lease_says_and_nothing_else() {
    let mut world = World::seeded(10);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"fs.read": ["/a/**"], "tool.call": ["search.*"], "model.use": ["m-*"], "x-vendor.a.b": ["c"]});
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
    let none = waiter(&mut world, &mut raw, &json!({}));
    // It is said at once, whatever the store does.
    world.store.broken = true;
    for (n, (operation, target, said)) in (0..).zip([
        ("fs.read", "/a/b/c", "/a/**"),
        ("fs.read", "/a/../etc", "PERMISSION_DENIED"),
        ("fs.read", "/b", "PERMISSION_DENIED"),
        ("fs.write", "/a/b", "PERMISSION_DENIED"),
        ("tool.call", "search.web", "search.*"),
        ("tool.call", "Search.web", "PERMISSION_DENIED"),
        ("model.use", "m-1", "m-*"),
        ("model.use", "n-1", "PERMISSION_DENIED"),
        ("agent.delegate", "search.web", "PERMISSION_DENIED"),
        ("x-vendor.a.b", "c", "c"),
        ("fs.delete", "/a/b", "INVALID_REQUEST"),
        ("cost.budget", "USD:1", "INVALID_REQUEST"),
        ("", "", "INVALID_REQUEST"),
    ]) {
        assert_eq!(verdict(ask(&mut world, job, n, authorize(operation, target))), said, "{operation} {target}");
        let nothing = if said == "INVALID_REQUEST" { said } else { "PERMISSION_DENIED" };
        assert_eq!(verdict(ask(&mut world, none, n, authorize(operation, target))), nothing, "without a lease");
    }
    world.store.broken = false;
    world.settle();
    world.finish();
}

#[test]
fn a_job_ends_with_its_lease_wherever_it_stands() {
    let mut world = World::configured(11, |config| {
        config.limits.job.running_jobs = 1;
        config.restartable_agents.insert("waiter".into());
    });
    let (mut raw, welcome) = Raw::hello_with_leases(&mut world, "tok-a");
    let short = json!({"lease_constraints": {"expires_in_s": 100}});
    let running = waiter(&mut world, &mut raw, &short);
    let queued = waiter(&mut world, &mut raw, &short);
    let left = ask(&mut world, running, 1, AgentCall::Remaining);
    assert!(matches!(left, Some(AgentReply::Remaining(Remaining { time_ms: Some(99_000..=100_000), .. }))), "{left:?}");
    world.run_for(Duration::from_secs(50));
    // It is counted from the calendar after a restart.
    world.crash_with(0, true);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 1);
    back.expect(&mut world, "session.welcome");
    world.run_for(Duration::from_secs(48));
    assert!(back.take(&world).iter().all(|frame| frame["type"] != "job.error"));
    for _ in [running, queued] {
        let end = back.expect(&mut world, "job.error")["payload"].clone();
        assert_eq!((&end["code"], &end["final_status"]), (&json!("LEASE_EXPIRED"), &json!("error")));
        assert_eq!(end["retryable"], json!(false));
    }
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn whoever_asks_by_the_calendar_after_the_end_of_its_lease_is_told_so_and_ended() {
    let mut world = World::seeded(12);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"lease_request": {"tool.call": ["**"]}, "lease_constraints": {"expires_in_s": 3600}});
    let (asks, tells) = (waiter(&mut world, &mut raw, &lease), waiter(&mut world, &mut raw, &lease));
    assert_eq!(verdict(ask(&mut world, asks, 1, authorize("tool.call", "t"))), "**");
    world.set_clock(3_600_000);
    assert_eq!(verdict(ask(&mut world, asks, 2, authorize("tool.call", "t"))), "LEASE_EXPIRED");
    world.input(Input::Agent { job: tells, call: tool_call("t") });
    let frames = raw.settle(&mut world);
    let of = |job: JobId| frames.iter().filter(move |frame| frame["job_id"] == job.to_string()).collect::<Vec<_>>();
    assert_eq!(code(of(asks).last().expect("an end")), "LEASE_EXPIRED");
    let told = of(tells);
    let [call, result, end] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!(call["payload"]["kind"], "tool_call");
    assert_eq!(result["payload"]["body"]["call_id"], "c1", "no call is left without a result");
    assert_eq!((&result["payload"]["body"]["error"]["code"], code(end)), (&json!("LEASE_EXPIRED"), "LEASE_EXPIRED"));
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_job_that_was_cancelled_before_its_lease_ended_ends_as_cancelled() {
    let mut world = World::seeded(13);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let submit = json!({"agent": "stubborn", "lease_constraints": {"expires_in_s": 4}});
    let job = raw.submit(&mut world, submit)["job_id"].clone();
    world.run_for(Duration::from_secs(3));
    raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(raw.until_end(&mut world).last().expect("an end")), "CANCELLED");
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn costs_count_exactly_and_what_comes_after_the_last_cent_is_refused() {
    let mut world = World::seeded(14);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"tool.call": ["t"], "cost.budget": ["USD:0.3", "EUR:5"]});
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
    let unsaid = emit("metric", r#"{"name":"cost.usd","value":1e-07}"#);
    let gauge = emit("metric", r#"{"name":"cost.budget.remaining","value":0.1,"unit":"USD"}"#);
    let no_cost = emit("metric", r#"{"name":"tokens","value":5,"unit":"USD"}"#);
    for call in [cost("0.1", "USD"), cost("0.10", "usd"), unsaid, gauge, no_cost, cost("7", "GBP"), cost("-1", "USD")] {
        world.input(Input::Agent { job, call });
    }
    assert_eq!(verdict(ask(&mut world, job, 1, authorize("tool.call", "t"))), "t");
    assert_eq!(refused(ask(&mut world, job, 2, cost("-0.1", "USD"))).0, ErrorCode::InvalidRequest);
    assert_eq!(ask(&mut world, job, 3, cost("0.2", "USD")), None);
    // Whatever it asks for: the money comes before the patterns.
    assert_eq!(verdict(ask(&mut world, job, 4, authorize("tool.call", "other"))), "BUDGET_EXHAUSTED");
    assert_eq!(verdict(ask(&mut world, job, 5, authorize("fs.read", "/a"))), "BUDGET_EXHAUSTED");
    let frames = raw.settle(&mut world);
    let remaining = "cost.budget.remaining";
    let expected = [
        ("cost.search", "0.1"),
        (remaining, "0.2"),
        ("cost.search", "0.10"),
        (remaining, "0.1"),
        ("cost.usd", "1e-07"),
        (remaining, "0.0999999"),
        (remaining, "0.1"),
        ("tokens", "5"),
        ("cost.search", "7"),
        ("cost.search", "0.2"),
        (remaining, "-0.1000001"),
    ];
    let shown = metrics(&frames);
    let shown: Vec<(&str, &str)> = shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(shown, expected);
    let warned = frames.iter().filter(|frame| frame["payload"]["kind"] == "log").count();
    assert_eq!(warned, 1, "a negative cost that nobody asked about leaves a trace");
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Taken { event: Some(_) }))));
    raw.send(&mut world, "session.list_jobs", json!({}));
    let listed = raw.expect(&mut world, "session.jobs")["payload"]["jobs"][0]["budget"].clone();
    assert_eq!(listed, json!({"USD": -0.1000001, "EUR": 5}));
    world.finish();
}

#[test]
fn a_price_is_reserved_until_it_is_settled() {
    let mut world = World::configured(15, |config| config.limits.delivery.reservations_per_job = 2);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"tool.call": ["t"], "cost.budget": ["USD:1"]});
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
    let reserve = |world: &mut World, id, price: &str| {
        let at_once = ask(world, job, id, priced(price));
        world.settle();
        match at_once.or_else(|| world.replies.last().map(|(_, reply)| reply.clone())) {
            Some(AgentReply::Allowed { reservation, .. }) => Ok(reservation),
            reply => Err(verdict(reply)),
        }
    };
    assert_eq!(reserve(&mut world, 1, "USD:0.0"), Ok(Some(1)));
    assert_eq!(reserve(&mut world, 2, "USD:0.7"), Ok(Some(2)));
    assert_eq!(reserve(&mut world, 3, "USD:0.1"), Err("RESOURCE_EXHAUSTED".into()));
    let settle = |number: u64, value: &str| {
        emit("metric", &format!(r#"{{"name":"cost.t","value":{value},"unit":"USD","reservation":{number}}}"#))
    };
    world.input(Input::Agent { job, call: settle(1, "0") });
    assert_eq!(reserve(&mut world, 4, "USD:0.4"), Err("BUDGET_EXHAUSTED".into()), "0.3 are left");
    assert_eq!(reserve(&mut world, 5, "USD:0.3"), Ok(Some(3)));
    assert_eq!(reserve(&mut world, 6, "x"), Err("INVALID_REQUEST".into()));
    assert_eq!(verdict(ask(&mut world, job, 7, authorize("tool.call", "t"))), "BUDGET_EXHAUSTED", "all is reserved");
    for (number, value) in [(2, "0.25"), (2, "0.25"), (3, "0.1")] {
        world.input(Input::Agent { job, call: settle(number, value) });
    }
    let shown = metrics(&raw.settle(&mut world));
    let left: Vec<&str> =
        shown.iter().filter(|(name, _)| name.ends_with("remaining")).map(|(_, v)| v.as_str()).collect();
    assert_eq!(left, ["0.3", "0.45", "0.2", "0.4"], "each is settled once");
    world.finish();
}

#[test]
fn what_was_spent_before_a_crash_stays_spent() {
    for seed in 0..10 {
        let mut world = World::configured(seed, |config| {
            config.restartable_agents.insert("waiter".into());
            config.limits.history.job_events = 16;
        });
        let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
        let lease = json!({"tool.call": ["t"], "cost.budget": ["USD:1"]});
        let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
        for n in 0..20 {
            world.input(Input::Agent { job, call: cost("0.01", "USD") });
            assert!(n > 0 || ask(&mut world, job, 1, priced("USD:0.5")).is_none());
            world.settle();
        }
        world.restores();
        let kept = world.given().count();
        world.crash_with(kept, seed % 2 == 0);
        world.settle();
        let left = |world: &mut World| match ask(world, job, 1, AgentCall::Remaining) {
            Some(AgentReply::Remaining(left)) => left.budget.left("USD").expect("bounded").to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(left(&mut world), "0.3", "seed {seed}: what nobody can settle any more is spent");
        world.input(Input::Agent { job, call: cost("0.3", "USD") });
        assert_eq!(verdict(ask(&mut world, job, 2, authorize("tool.call", "t"))), "BUDGET_EXHAUSTED");
        world.settle();
        world.input(Input::Operator(Operator::CancelJob { job, reason: None }));
        world.run_for(Duration::from_secs(10));
        world.restores();
        world.finish();
    }
}

#[test]
fn a_price_in_a_currency_that_is_not_bounded_reserves_nothing() {
    let mut world = World::configured(18, |config| config.limits.delivery.reservations_per_job = 1);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"tool.call": ["t"], "cost.budget": ["USD:1"]});
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
    // No cost in it would ever settle it.
    for id in 1..=3 {
        let Some(AgentReply::Allowed { reservation: None, .. }) = ask(&mut world, job, id, priced("GBP:9")) else {
            panic!("{:?}", world.replies.last());
        };
    }
    let price = vec!["GBP:9".into(), "USD:0.5".into()];
    let both = AgentCall::Authorize { operation: "tool.call".into(), target: "t".into(), price };
    assert_eq!(ask(&mut world, job, 4, both), None, "what is recorded is answered once it is durable");
    world.settle();
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Allowed { reservation: Some(1), .. }))));
    world.finish();
}

#[test]
fn a_price_is_taken_out_of_the_budget_that_a_cost_would_be_counted_against() {
    let mut world = World::seeded(19);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"tool.call": ["t"], "cost.budget": ["USD:1"]});
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": lease}));
    assert_eq!(verdict(ask(&mut world, job, 1, priced("usd:1.01"))), "BUDGET_EXHAUSTED");
    let price = vec!["USD:0.6".into(), "usd:0.6".into()];
    let twice = AgentCall::Authorize { operation: "tool.call".into(), target: "t".into(), price };
    assert_eq!(verdict(ask(&mut world, job, 2, twice)), "BUDGET_EXHAUSTED", "of one currency, added");
    assert_eq!(ask(&mut world, job, 3, priced("usd:1")), None);
    assert_eq!(verdict(ask(&mut world, job, 4, authorize("tool.call", "t"))), "BUDGET_EXHAUSTED");
    world.finish();
}

#[test]
fn a_hard_budget_that_is_reserved_to_the_last_cent_is_not_spent_yet() {
    let mut world = World::seeded(20);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let submit = json!({
        "lease_request": {"tool.call": ["t"], "cost.budget": ["USD:1", "EUR:1"]},
        "lease_constraints": {"x-vendor.arcp.budget_hard": true},
    });
    let job = waiter(&mut world, &mut raw, &submit);
    assert_eq!(ask(&mut world, job, 1, priced("USD:1")), None);
    world.settle();
    assert!(matches!(world.replies.last(), Some((_, AgentReply::Allowed { reservation: Some(1), .. }))));
    let settled =
        |value| emit("metric", &format!(r#"{{"name":"cost.t","value":{value},"unit":"USD","reservation":1}}"#));
    world.input(Input::Agent { job, call: settled("0.25") });
    world.settle();
    assert_eq!(world.runtime().stats().running_agents, 1);
    world.input(Input::Agent { job, call: settled("0.75") });
    assert_eq!(code(raw.until_end(&mut world).last().expect("an end")), "BUDGET_EXHAUSTED");
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn what_was_spent_is_the_same_after_a_restart_however_much_it_was() {
    let mut world = World::seeded(21);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": {"cost.budget": ["USD:1"]}}));
    for _ in 0..3 {
        world.input(Input::Agent { job, call: cost("999999999999999.999999999999", "USD") });
    }
    world.settle();
    world.restores();
    world.finish();
}

#[test]
fn a_hard_budget_ends_the_job_of_who_does_not_ask() {
    let mut world = World::seeded(16);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let submit = json!({
        "lease_request": {"cost.budget": ["USD:1"]}, "lease_constraints": {"x-vendor.arcp.budget_hard": true},
    });
    let job = waiter(&mut world, &mut raw, &submit);
    world.input(Input::Agent { job, call: cost("0.999999999999999999", "USD") });
    world.settle();
    assert!(world.runtime().stats().running_agents == 1 && world.replies.is_empty());
    world.input(Input::Agent { job, call: cost("0.0000000000000000001", "USD") });
    let frames = raw.until_end(&mut world);
    assert_eq!(code(frames.last().expect("an end")), "BUDGET_EXHAUSTED");
    let before = &frames[frames.len() - 2]["payload"]["body"];
    assert_eq!((&before["name"], &before["value"]), (&json!("cost.budget.remaining"), &json!(0)));
    world.run_for(Duration::from_secs(10));
    world.finish();
}

#[test]
fn a_tool_that_the_lease_does_not_allow_has_failed_for_everybody_to_see() {
    let mut world = World::seeded(17);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({"lease_request": {"tool.call": ["search.*"]}}));
    let none = waiter(&mut world, &mut raw, &json!({}));
    let kinds = |frames: Vec<Value>| {
        let kind = |frame: &Value| frame["payload"]["kind"].as_str().unwrap_or_default().to_string();
        frames.iter().map(kind).collect::<Vec<_>>()
    };
    world.input(Input::Agent { job, call: tool_call("search.web") });
    world.input(Input::Agent { job, call: tool_call("shell") });
    world.input(Input::Agent { job, call: emit("delegate", r#"{"agent":"echo","delegate_id":"d1"}"#) });
    let frames = raw.settle(&mut world);
    assert_eq!(frames[2]["payload"]["body"]["error"]["code"], "PERMISSION_DENIED");
    assert_eq!(frames[4]["payload"]["body"]["call_id"], "d1");
    assert_eq!(kinds(frames), ["tool_call", "tool_call", "tool_result", "delegate", "tool_result"]);
    assert_eq!(verdict(ask(&mut world, job, 1, tool_call("shell"))), "PERMISSION_DENIED");
    assert_eq!(ask(&mut world, job, 2, tool_call("search.x")), None);
    assert_eq!(kinds(raw.settle(&mut world)), ["tool_call", "tool_result", "tool_call"]);
    // Who was given no lease is told so if it asks, and is not accused if it does not.
    world.input(Input::Agent { job: none, call: tool_call("shell") });
    assert_eq!(kinds(raw.settle(&mut world)), ["tool_call"]);
    assert_eq!(verdict(ask(&mut world, none, 1, tool_call("shell"))), "PERMISSION_DENIED");
    assert_eq!(kinds(raw.settle(&mut world)), ["tool_call", "tool_result"]);
    world.finish();
}

#[test]
fn an_agent_that_waits_for_a_store_that_fails_is_not_silent() {
    let mut world = World::configured(22, |config| {
        config.heartbeat_agents.insert("waiter".into());
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    world.store.broken = true;
    assert_eq!(ask(&mut world, job, 1, log()), None);
    world.run_for(Duration::from_secs(300));
    world.store.broken = false;
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.replies.last(), Some(&(job, AgentReply::Taken { event: Some(2) })));
    world.finish();
}

#[test]
fn a_call_that_is_refused_without_a_trace_gives_its_credit_back() {
    let mut world = World::configured(31, |config| config.limits.delivery.agent_credit = 3);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = waiter(&mut world, &mut raw, &json!({}));
    for id in 1..=10 {
        refused(ask(&mut world, job, id, AgentCall::AwaitChild { job }));
        world.settle();
    }
    assert_eq!(raw.take(&world), Vec::<Value>::new(), "its job goes on");
    world.finish();
}
