//! What a runner does for its agents, and the sample agents.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fmt::{Debug, Write as _};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use arcp_blocking::{ClientError, JobUpdate, Target};
use arcp_host::agent::{AsyncChild, AsyncContext, CallError, Child, Context, Level, Outcome};
use arcp_host::client::{Decision, PermissionAsked};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Currency, Namespace};
use arcp_proto::model::event::{EventKind, JobError, JobEvent};
use arcp_proto::model::prompt::{PromptAnswer, Question};
use arcp_proto::model::request::{Answering, Credential};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, ChildEnd, ChunkData, Delegation, Input};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::lone::{Lone, job, runner, spec};
use arcp_tests::scene::golden;
use arcp_tests::server::{PATIENCE, Running, submit};

/// Runs a sample to its end.
fn sample(agent: &str, input: &str) -> AgentExit {
    Lone::new(samples::add_to).run(spec(agent, input)).1
}

fn refusal(exit: AgentExit) -> JobError {
    let AgentExit::Failure(error) = exit else { panic!("{exit:?}") };
    error
}

#[test]
fn a_function_is_an_agent_and_its_context_shows_the_cancel() {
    let mut registry = Registry::default();
    registry.add("function", None, |job: &Context| {
        assert!(!job.cancelled());
        job.status(&format!("{} asks {}", job.principal(), job.input()), None)?;
        let stopped = job.sleep(Duration::from_secs(3600));
        assert!(stopped.is_err() && job.cancelled());
        stopped?;
        Ok(Outcome::Empty)
    });
    registry.add_inline("inline", None, |spec: &AgentSpec| Ok(Outcome::Json(spec.input.clone())));
    let (mut runner, inputs) = runner(registry);
    let next = || inputs.recv_timeout(PATIENCE).expect("in time");
    runner.start(job(), spec("function", r#"{"n":1}"#));
    let said = next();
    let Input::Agent { call: AgentCall::Emit { body, .. }, .. } = &said else { panic!("{said:?}") };
    assert_eq!(body.as_str(), r#"{"phase":"me asks {\"n\":1}"}"#);
    runner.stop(job(), false);
    let exit = next();
    let Input::AgentExited { exit: AgentExit::Failure(error), .. } = &exit else { panic!("{exit:?}") };
    assert_eq!(error.code, ErrorCode::Cancelled);
    runner.start(job(), spec("inline", "[2]"));
    let exit = next();
    let Input::AgentExited { exit: AgentExit::Success { result: Some(result), .. }, .. } = &exit else {
        panic!("{exit:?}")
    };
    assert_eq!(result.as_str(), "[2]");
}

#[test]
fn of_many_beats_one_is_on_its_way_and_the_next_follows_once_it_was_taken() {
    let mut registry = Registry::default();
    registry.add("alive", None, |job: &Context| {
        for _ in 0..100_000 {
            job.heartbeat()?;
        }
        job.status("half", None)?;
        let _ = job.sleep(Duration::from_secs(3600));
        for _ in 0..100_000 {
            job.heartbeat()?;
        }
        Ok(Outcome::Empty)
    });
    let (mut runner, inputs) = runner(registry);
    runner.start(job(), spec("alive", "{}"));
    let next = || inputs.recv_timeout(PATIENCE).expect("in time");
    let beat = next();
    assert!(matches!(beat, Input::Agent { call: AgentCall::Heartbeat, .. }), "{beat:?}");
    // In order: all of the first half was given before this.
    let said = next();
    assert!(matches!(said, Input::Agent { call: AgentCall::Emit { .. }, .. }), "one is pending: {said:?}");
    runner.takes(&beat);
    runner.stop(job(), false);
    let beat = next();
    assert!(matches!(beat, Input::Agent { call: AgentCall::Heartbeat, .. }), "{beat:?}");
    let exit = next();
    assert!(matches!(exit, Input::AgentExited { .. }), "one is pending: {exit:?}");
}

#[test]
fn a_sample_refuses_what_it_would_allocate_or_wait_for_beyond_reason() {
    for (agent, input, name) in [
        ("chunker", r#"{"bytes":17592186044416}"#, "`bytes` is 17592186044416"),
        ("chunker", r#"{"bytes":17592186044416,"encoding":"base64"}"#, "`bytes`"),
        ("chunker", r#"{"chunks":18446744073709551615,"bytes":0}"#, "`chunks`"),
        ("chatty", r#"{"kind":"log","pad":17592186044416}"#, "`pad`"),
        ("chatty", r#"{"delay_ms":18446744073709551615}"#, "`delay_ms`"),
        ("slow", r#"{"ms":18446744073709551615}"#, "`ms`"),
        ("slow", r#"{"ms":100,"tick_ms":3600000,"ignore_cancel":true}"#, "`tick_ms`"),
        ("stepper", r#"{"step_ms":18446744073709551615}"#, "`step_ms`"),
        ("stepper", r#"{"steps":18446744073709551615,"step_ms":0}"#, "`steps`"),
        ("counter", r#"{"ms":18446744073709551615}"#, "`ms`"),
        ("delegator", r#"{"count":18446744073709551615}"#, "`count`"),
        ("delegator", r#"{"wait_ms":18446744073709551615}"#, "`wait_ms`"),
    ] {
        let error = refusal(sample(agent, input));
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{agent} {input}");
        assert!(error.message.contains(name) && error.message.contains("at most"), "{}", error.message);
    }
    let key = format!(r#"{{"key":"{}"}}"#, "k".repeat(257));
    for agent in ["counter", "gate", "opengate"] {
        assert_eq!(refusal(sample(agent, &key)).code, ErrorCode::InvalidRequest, "{agent}");
    }
}

#[test]
fn samples_spend_and_ask_within_their_lease() {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let client = server.client();
    let run = |agent: &str, input: &str, lease: &str| {
        let mut asked = submit(agent, input);
        asked.lease_request = Some(Json::parse(lease).expect("JSON"));
        let job = client.submit(asked).expect("accepted");
        let end = job.wait().expect("an end");
        let result = match &end.result {
            ResultData::Inline(result) => result.as_str().to_string(),
            _ => String::new(),
        };
        (result, end.terminal.error.as_ref().map(|error| error.code.clone()))
    };
    let demo = r#"{"tool.call":["demo.*"],"cost.budget":["USD:1"]}"#;
    let spent = |spent: &str| (format!(r#"{{"spent":{spent},"denied":["BUDGET_EXHAUSTED"]}}"#), None);
    // The fourth brings it to -0.2, and the fifth is not made.
    assert_eq!(run("spender", "{}", demo), spent("1.2"));
    assert_eq!(run("spender", r#"{"amounts":[0.5,0.5,0.5]}"#, demo), spent("1"));
    assert_eq!(run("spender", r#"{"fatal":true}"#, demo).1, Some(ErrorCode::BudgetExhausted));
    let other = run("spender", r#"{"amounts":[0.1]}"#, r#"{"tool.call":["search.*"]}"#);
    assert_eq!(other.0, r#"{"spent":0,"denied":["PERMISSION_DENIED"]}"#);
    let ops = r#"{"charge":[0.4,0.4],"ops":[["tool.call","demo.x"],["tool.call","x"],["fs.write","/a/b"],["fs.write","/a//b"]]}"#;
    let guard = run("guard", ops, r#"{"tool.call":["demo.*"],"fs.write":["/a/**"],"cost.budget":["USD:1"]}"#);
    assert_eq!(guard.0, r#"{"verdicts":["ALLOW","PERMISSION_DENIED","ALLOW","PERMISSION_DENIED"]}"#);
    let poor = run("guard", r#"{"charge":[1],"ops":[["tool.call","demo.x"]]}"#, demo);
    assert_eq!(poor.0, r#"{"verdicts":["BUDGET_EXHAUSTED"]}"#);
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

/// Runs one job of an agent with this lease, beside the samples; gives its result.
fn result_of(agent: &str, lease: &str, add: impl FnOnce(&mut Registry)) -> String {
    run_to_its_end((agent, "{}"), lease, add).1
}

/// The same with an input; gives what it said and its result.
fn run_to_its_end(
    (agent, input): (&str, &str),
    lease: &str,
    add: impl FnOnce(&mut Registry),
) -> (Vec<(EventKind, Json)>, String) {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    add(&mut registry);
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit(agent, input);
    asked.lease_request = Some(json(lease));
    let client = server.client();
    let job = client.submit(asked).expect("accepted");
    let mut said = Vec::new();
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Ended { result: ResultData::Inline(result), .. } => return (said, result.as_str().to_string()),
            JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => said.push((kind, body)),
            JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code of what was refused.
fn code<T: Debug>(asked: Result<T, CallError>) -> String {
    match asked {
        Err(CallError::Refused(error)) => error.code.to_string(),
        other => format!("{other:?}"),
    }
}

fn delegation(agent: &str, id: &str, input: &str, lease: &str) -> Delegation {
    Delegation {
        input: Some(json(input)),
        lease_request: Some(json(lease)),
        delegate_id: Some(id.into()),
        ..Delegation::new(agent)
    }
}

/// How a child ended, with its result or why there is none.
fn shown(end: &ChildEnd) -> String {
    let error = end.error.as_ref().map(|error| error.code.to_string());
    format!("{:?} {}", end.status, end.result.as_ref().map_or(error.unwrap_or_default(), ToString::to_string))
}

#[test]
fn an_agent_has_others_do_something_and_is_told_how_they_ended() {
    const LEASE: &str = r#"{"agent.delegate":["echo","failer","gate","opengate"],"cost.budget":["USD:3"]}"#;
    const POOR: &str = r#"{"cost.budget":["USD:2"]}"#;
    const EXPECTED: &str = r#"["Success {\"q\":1.50}",true,"Error INTERNAL_ERROR","LEASE_SUBSET_VIOLATION","PERMISSION_DENIED","JOB_NOT_FOUND","{\"USD\":1}","{\"USD\":3}"]"#;
    let waiting = result_of("boss", LEASE, |registry| {
        registry.add("boss", None, |job: &Context| {
            let child = job.delegate(delegation("echo", "d1", r#"{"q":1.50}"#, POOR))?;
            let end = child.wait()?;
            let again = job.delegate(delegation("echo", "d1", r#"{"q":1.50}"#, POOR))?;
            let is_same = (again.job(), Child::of(job, child.job()).wait()?) == (child.job(), end.clone());
            let failed = job.delegate(delegation("failer", "d2", "{}", "{}"))?.wait()?;
            let wide = code(job.delegate(delegation("echo", "d3", "{}", r#"{"fs.read":["/a/**"]}"#)));
            let other = code(job.delegate(delegation("slow", "d4", "{}", "{}")));
            let stranger = code(Child::of(job, job.job()).wait());
            let gate = job.delegate(delegation("gate", "d5", "{}", POOR))?;
            let reserved = job.ask_remaining()?.budget.to_json().to_string();
            job.delegate(delegation("opengate", "d6", "{}", "{}"))?;
            gate.wait()?;
            let left = job.ask_remaining()?.budget.to_json().to_string();
            Outcome::of(&(shown(&end), is_same, shown(&failed), wide, other, stranger, reserved, left))
        });
    });
    assert_eq!(waiting, EXPECTED);
    let polled = result_of("boss", LEASE, |registry| {
        registry.add_async("boss", None, |job: AsyncContext, _: Json| async move {
            let child = job.delegate(delegation("echo", "d1", r#"{"q":1.50}"#, POOR)).await?;
            let end = child.wait().await?;
            let again = job.delegate(delegation("echo", "d1", r#"{"q":1.50}"#, POOR)).await?;
            let known = AsyncChild::of(&job, child.job()).wait().await?;
            let is_same = (again.job(), known) == (child.job(), end.clone());
            let failed = job.delegate(delegation("failer", "d2", "{}", "{}")).await?.wait().await?;
            let wide = code(job.delegate(delegation("echo", "d3", "{}", r#"{"fs.read":["/a/**"]}"#)).await);
            let other = code(job.delegate(delegation("slow", "d4", "{}", "{}")).await);
            let stranger = code(AsyncChild::of(&job, job.job()).wait().await);
            let gate = job.delegate(delegation("gate", "d5", "{}", POOR)).await?;
            let reserved = job.ask_remaining().await?.budget.to_json().to_string();
            job.delegate(delegation("opengate", "d6", "{}", "{}")).await?;
            gate.wait().await?;
            let left = job.ask_remaining().await?.budget.to_json().to_string();
            Outcome::of(&(shown(&end), is_same, shown(&failed), wide, other, stranger, reserved, left))
        });
    });
    assert_eq!(polled, EXPECTED);
}

#[test]
fn an_async_agent_asks_what_it_may_do_and_says_what_it_cost() {
    let lease = r#"{"fs.read":["/a/**"],"tool.call":["demo.*"],"cost.budget":["USD:1"]}"#;
    let result = result_of("careful", lease, |registry| {
        registry.add_async("careful", None, |job: AsyncContext, _: Json| async move {
            let currency = |name: &str| name.parse::<Currency>().expect("a currency");
            let amount = |text: &str| text.parse::<Amount>().expect("an amount");
            let (usd, eur) = (currency("USD"), currency("EUR"));
            let (tool, args) = (Namespace::ToolCall, Json::empty_object());
            let pattern = job.authorize(&Namespace::FsRead, "/a/b").await?;
            let denied = code(job.authorize(&Namespace::FsRead, "/b").await);
            let reserved = job.reserve(&tool, "demo.x", (&usd, amount("0.6"))).await?;
            let dear = code(job.reserve(&tool, "demo.x", (&usd, amount("0.6"))).await);
            let unbounded = job.reserve(&tool, "demo.x", (&eur, amount("9"))).await?.is_none();
            job.call_tool("demo.x", "c1", &args).await?;
            let shell = code(job.call_tool("shell", "c2", &args).await);
            job.cost("cost.demo", (&usd, amount("0.5")), reserved).await?;
            let left = job.ask_remaining().await?.budget.to_json().to_string();
            job.cost("cost.demo", (&usd, amount("0.5")), None).await?;
            let over = code(job.call_tool("demo.x", "c3", &args).await);
            Outcome::of(&(pattern, denied, dear, unbounded, shell, left, over))
        });
    });
    let expected = r#"["/a/**","PERMISSION_DENIED","BUDGET_EXHAUSTED",true,"PERMISSION_DENIED","{\"USD\":0.5}","BUDGET_EXHAUSTED"]"#;
    assert_eq!(result, expected);
}

#[test]
fn a_sample_delegates_and_goes_on_where_it_may_not() {
    let asked = r#"{"count":3,"delegate_id":"d8","input":{"ms":3600000},"lease_request":{"cost.budget":["USD:2"]},"wait_ms":0}"#;
    let lease = r#"{"agent.delegate":["slow"],"cost.budget":["USD:5"]}"#;
    let asked = asked.replacen('{', r#"{"agent":"slow","#, 1);
    let (said, result) = run_to_its_end(("delegator", &asked), lease, |_| {});
    assert_eq!(result, r#"{"delegated":3}"#);
    let member = |body: &Json, name: &str| body.members().expect("an object").get_str(name);
    let calls = said.iter().filter(|(kind, _)| *kind == EventKind::Delegate);
    let calls: Vec<_> =
        calls.map(|(_, body)| (member(body, "delegate_id"), member(body, "child_job_id").is_some())).collect();
    let call = |id: &str, made| (Some(id.to_string()), made);
    assert_eq!(calls, [call("d8", true), call("d9", true), call("d10", false)]);
    let refused: Vec<_> = said.iter().filter(|(kind, _)| *kind == EventKind::ToolResult).collect();
    let [(_, refused)] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(member(refused, "call_id"), Some("d10".into()));
    assert!(refused.as_str().contains("LEASE_SUBSET_VIOLATION"), "{refused}");
}

#[test]
fn keys_that_samples_remember_have_a_bound() {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    let (mut runner, inputs) = runner(registry);
    let mut open = |n: u32| {
        runner.start(job(), spec("opengate", &format!(r#"{{"key":"{n}"}}"#)));
        let input = inputs.recv_timeout(PATIENCE).expect("it ends");
        runner.takes(&input);
        match input {
            Input::AgentExited { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    };
    for n in 0..10_000 {
        assert!(matches!(open(n), AgentExit::Success { .. }), "{n}");
    }
    assert_eq!(refusal(open(10_000)).code, ErrorCode::ResourceExhausted);
    assert!(matches!(open(9_999), AgentExit::Success { .. }), "those that are known go on");
}

#[test]
fn a_sample_ends_its_runtime_only_where_the_operator_lets_it() {
    let error = refusal(sample("stepper", r#"{"steps":1,"step_ms":0,"crash_at":1}"#));
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    let exit = sample("stepper", r#"{"steps":1,"step_ms":0}"#);
    assert!(matches!(exit, AgentExit::Success { .. }), "{exit:?}");
}

#[test]
fn a_span_that_no_clock_can_count_is_slept_until_the_job_is_told_to_stop() {
    let mut registry = Registry::default();
    registry.add("sleeper", None, |job: &Context| {
        job.status("asleep", None)?;
        job.sleep(Duration::MAX)?;
        Ok(Outcome::Empty)
    });
    let (mut runner, inputs) = runner(registry);
    runner.start(job(), spec("sleeper", "{}"));
    inputs.recv_timeout(PATIENCE).expect("it sleeps");
    runner.stop(job(), false);
    match inputs.recv_timeout(PATIENCE).expect("it ends") {
        Input::AgentExited { exit, .. } => assert_eq!(refusal(exit).code, ErrorCode::Cancelled),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_asks_people_and_goes_on_where_nobody_answers() {
    let mut registry = Registry::default();
    registry.add("asker", None, |job: &Context| {
        let json = |text: &str| Json::parse(text).expect("JSON");
        let number = |schema: &str, default: Option<&str>| Question::Input {
            prompt: "How many?".into(),
            schema: json(schema),
            default: default.map(json),
        };
        let soon = Some(Duration::from_millis(50));
        let answered = job.ask_people(number(r#"{"type":"integer"}"#, Some("3")), soon)?;
        let code = |asked: Result<_, CallError>| match asked {
            Err(CallError::Refused(error)) => error.code.to_string(),
            other => format!("{other:?}"),
        };
        let late = code(job.ask_people(number("{}", None), soon).map(|_| ()));
        let wrong = code(job.choose("Which?", &[("a", "A"), ("a", "B")]).map(|_| ()));
        Outcome::of(&(answered.value.as_str().to_string(), answered.by, late, wrong))
    });
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let client = server.client();
    let job = client.submit(submit("asker", "{}")).expect("accepted");
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Ended { result: ResultData::Inline(result), .. } => {
                return assert_eq!(result.as_str(), r#"["3","default","TIMEOUT","INVALID_REQUEST"]"#);
            }
            JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_agent_is_told_what_is_durable_what_is_refused_and_what_is_left() {
    let mut registry = Registry::default();
    registry.add_restartable("asker", None, |job: &Context| {
        let left = job.ask_remaining()?;
        let progress = |current: &str| Json::parse(&format!(r#"{{"current":{current}}}"#)).expect("JSON");
        let event = job.emit_durably(&EventKind::Progress, &progress("1"))?;
        let refused = job.emit_durably(&EventKind::Progress, &progress("\"x\""));
        let kept = job.checkpoint_durably("state", None)?;
        let refused = matches!(refused, Err(CallError::Refused(error)) if error.code == ErrorCode::InvalidRequest);
        Outcome::of(&(left.time_ms.is_some(), left.calls > 1, event, refused, kept))
    });
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit("asker", "{}");
    asked.max_runtime = std::num::NonZeroU32::new(60);
    let client = server.client();
    let job = client.submit(asked).expect("accepted");
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Ended { result: ResultData::Inline(result), .. } => {
                return assert_eq!(result.as_str(), "[true,true,2,true,3]");
            }
            JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Each call of an agent, as a line.
fn calls(inputs: &Receiver<Input>) -> String {
    let mut text = String::new();
    loop {
        match inputs.recv_timeout(PATIENCE).expect("in time") {
            Input::Agent { call: AgentCall::Emit { kind, body }, .. } => writeln!(text, "{kind} {}", body.as_str()),
            Input::Agent { call, .. } => writeln!(text, "{call:?}"),
            Input::AgentExited { exit, .. } => {
                return text + &format!("{exit:?}\n");
            }
            other => panic!("{other:?}"),
        }
        .expect("a string");
    }
}

#[test]
fn whatever_an_agent_says_comes_as_an_event_of_its_kind() {
    let json = |text: &str| Json::parse(text).expect("JSON");
    let mut registry = Registry::default();
    registry.add("talker", None, move |job: &Context| {
        let known = format!("{} {:?} {}", job.trace(), job.restored(), job.restarts());
        job.log(Level::Warn, &known)?;
        job.log_with(Level::Info, "m", &json(r#"{"a":1}"#))?;
        job.thought("hm")?;
        job.status("p", Some("m"))?;
        job.status("p", None)?;
        job.progress(1, Some(3), Some("files"))?;
        job.progress(1, None, None)?;
        job.metric("m", &json("1.50"), Some("s"))?;
        job.metric("m", &json("1.50"), None)?;
        job.tool_call("grep", "c", &json(r#"{"q":"x"}"#))?;
        job.tool_result("c", Ok(&json("1")))?;
        job.tool_result("c", Err(&json(r#"{"code":"NOT_FOUND","message":"none"}"#)))?;
        job.artifact("arcp://a/1", Some("text/plain"), Some(4))?;
        job.artifact("arcp://a/1", None, None)?;
        job.emit(&EventKind::Checkpoint, &json(r#"{"checkpoint_id":"c"}"#))?;
        job.checkpoint(*b"state", Some("half"))?;
        job.checkpoint(*b"state", None)?;
        job.chunk("text")?;
        job.chunk_bytes(*b"bytes")?;
        job.last_chunk(ChunkData::Text("end".into()))?;
        Ok(Outcome::Empty)
    });
    let (mut runner, inputs) = runner(registry);
    runner.start(job(), AgentSpec { checkpoint: Some(b"kept".to_vec()), restarts: 7, ..spec("talker", "{}") });
    golden("agent-calls.txt", &calls(&inputs));
}

/// What the sample that asks for a permission comes to for a client of each adapter,
/// whose handler decides; and what was said when it denied one and the client then
/// granted it.
fn permitted(server: &Running, tokio: bool, family: Family, resource: &str) -> (String, Vec<String>) {
    let decide = |asked: &PermissionAsked| match asked.request.resource.as_str() {
        "mine" => Decision::Grant { lease_seconds: Some(30), resource: None, once: true },
        "theirs" => Decision::Deny { reason: Some("never".to_string()) },
        _ => Decision::Leave,
    };
    let mut config = ClientConfig::new("test", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.family = family;
    let target: Target = server.url().parse().expect("a URL");
    let asked = submit("permitter", &format!(r#"{{"resource":"{resource}"}}"#));
    let grants = |event: &JobEvent| match event {
        JobEvent::Emitted { kind: EventKind::PermissionRequest, body } => {
            let prompt = body.members().ok()?.get_str("prompt_id").and_then(|id| WireId::new(&id))?;
            let answer = PromptAnswer::Grant { lease_seconds: None, resource: None, once: false };
            Some(Answering { prompt, answer })
        }
        _ => None,
    };
    let mut said = Vec::new();
    let mut note =
        |result: Result<(), ClientError>| said.push(result.map_or_else(|why| why.to_string(), |()| "granted".into()));
    let end = if tokio {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = arcp_tokio_adapter::Client::connect(target, config).await.expect("a session");
            client.decide_permissions(decide).await.expect("it is told");
            let mut job = client.submit(asked).await.expect("it is accepted");
            while let Some(event) = job.next_event().await {
                if let Some(answering) = grants(&event) {
                    note(client.answer(answering).await);
                }
            }
            job.wait().await.expect("it ends").result.clone()
        })
    } else {
        let client = arcp_blocking::Client::connect(target, config).expect("a session");
        client.decide_permissions(decide).expect("it is told");
        let job = client.submit(asked).expect("it is accepted");
        for event in job.events() {
            if let Some(answering) = grants(&event) {
                note(client.answer(answering));
            }
        }
        job.wait().expect("it ends").result.clone()
    };
    let ResultData::Inline(result) = end else { panic!("{end:?}") };
    (result.as_str().to_string(), said)
}

#[test]
fn a_client_grants_and_vetoes_what_its_jobs_ask_for_and_leaves_the_rest_to_people() {
    let server = Running::start(&[], |_| {});
    for (tokio, family) in [(false, Family::Hello), (false, Family::Open), (true, Family::Hello), (true, Family::Open)]
    {
        // What it has decided, nobody in the same client decides otherwise.
        for (resource, allowed, later) in
            [("mine", true, "already, by a"), ("theirs", false, "already, by a"), ("other", true, "granted")]
        {
            let (result, said) = permitted(&server, tokio, family, resource);
            let used = if allowed { r#""used":"ALLOW""# } else { r#""used":"PERMISSION_DENIED""# };
            assert!(
                result.contains(used) && result.contains(&format!("\"granted\":{allowed}")),
                "{resource}: {result}"
            );
            assert!(matches!(&said[..], [said] if said.contains(later)), "{resource} {family:?} {tokio}: {said:?}");
        }
    }
}
