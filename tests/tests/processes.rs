//! Programs as agents.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use arcp_blocking::{Job, JobUpdate};
use arcp_host::agent::{AsyncContext, Context, Outcome};
use arcp_host::process::ProcessAgent;
use arcp_host::registry::{Registry, Terms};
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_proto::client::ResultData;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent, Terminal};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::prompt::{PromptAnswer, Question};
use arcp_proto::model::request::Answering;
use arcp_tests::server::{PATIENCE, Running, submit};
use serde_json::{Value, json};

struct Ran {
    events: Vec<(String, Json)>,
    terminal: Terminal,
    result: ResultData,
}

fn finish(job: &Job) -> Ran {
    let mut events = Vec::new();
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => {
                events.push((kind.as_str().to_string(), body))
            }
            JobUpdate::Event { .. } => {}
            JobUpdate::Ended { terminal, result, .. } => return Ran { events, terminal, result },
            other => panic!("{other:?}"),
        }
    }
}

fn run(command: &str, input: &str) -> Ran {
    let server = Running::start(&[("it", command)], |_| {});
    let client = server.client();
    let job = client.submit(submit("it", input)).expect("accepted");
    finish(&job)
}

fn inline(ran: &Ran) -> &str {
    match &ran.result {
        ResultData::Inline(json) => json.as_str(),
        other => panic!("{other:?}"),
    }
}

/// Of each log where the program printed it, or else its level, and its text.
fn logs(ran: &Ran) -> Vec<(String, String)> {
    let of = |(kind, body): &(String, Json)| {
        let members = body.members().ok().filter(|_| kind == "log")?;
        let attributes = Json::parse(members.get("attributes").unwrap_or("{}")).expect("JSON");
        let stream = attributes.members().expect("an object").get_str("stream");
        Some((stream.or(members.get_str("level"))?, members.get_str("message")?))
    };
    ran.events.iter().filter_map(of).collect()
}

#[test]
fn the_input_comes_as_one_line_and_text_is_the_result() {
    let ran = run("read line; echo \"got $line\"; cat", r#"{"a":1.50}"#);
    assert_eq!(ran.terminal.status, FinalStatus::Success);
    assert_eq!(inline(&ran), r#""got {\"a\":1.50}""#);
    assert_eq!(logs(&ran), [("stdout".to_string(), "got {\"a\":1.50}".to_string())]);
}

#[test]
fn an_input_larger_than_a_pipe_is_read_whole_and_who_closes_one_output_is_heard_on_the_other() {
    let input = format!("\"{}\"", "x".repeat(100_000));
    let ran = run("exec 2>&-; read=$(wc -c); sleep 0.3; echo \"read $read\"", &input);
    assert_eq!(inline(&ran), "\"read 100003\"");
}

#[test]
fn lines_with_an_id_are_answered_on_stdin() {
    let command = r#"read input
        echo '{"kind":"progress","id":1,"body":{"current":1}}'; read taken
        echo '{"kind":"progress","id":"two","body":{"current":"x"}}'; read refused
        echo '{"kind":"remaining","id":[3.0]}'; read left
        echo '{"kind":"checkpoint","id":4,"body":{"state":{"at":1}}}'; read kept
        echo '{"kind":"heartbeat","id":5}'; read alive
        echo '{"kind":"log","body":{"message":"nobody asks"}}'
        printf '{"result":[%s,%s,%s,%s,%s]}\n' "$taken" "$refused" "$left" "$kept" "$alive""#;
    let mut registry = Registry::default();
    registry.add_restartable("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit("it", "{}");
    asked.max_runtime = NonZeroU32::new(60);
    let ran = finish(&server.client().submit(asked).expect("accepted"));
    let answers: Value = serde_json::from_str(inline(&ran)).expect("JSON");
    assert_eq!(answers[0], json!({"id": 1, "ok": true, "event": 2}), "after its start");
    assert_eq!(answers[1]["id"], "two");
    assert_eq!(answers[1]["error"]["code"], "INVALID_REQUEST", "{answers}");
    assert_eq!(answers[2]["id"].to_string(), "[3.0]", "as it was written");
    let left = answers[2]["remaining"]["time_ms"].as_u64().expect("a time");
    assert!((1..=60_000).contains(&left) && answers[2]["remaining"]["calls"].as_u64() > Some(1), "{answers}");
    assert_eq!(answers[3], json!({"id": 4, "ok": true, "event": 3}));
    assert_eq!(answers[4], json!({"id": 5, "ok": true}));
}

#[test]
fn a_line_with_an_id_that_is_no_whole_call_is_refused_and_not_left_without_an_answer() {
    let command = r#"read input
        echo '{"kind":"checkpoint","id":1,"body":{"label":"without a state"}}'; read stateless
        echo '{"kind":"progress","id":2}'; read bodiless
        echo '{"kind":7,"id":3,"body":{}}'; read kindless
        printf '{"result":[%s,%s,%s]}\n' "$stateless" "$bodiless" "$kindless""#;
    let mut registry = Registry::default();
    registry.add_restartable("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit("it", "{}");
    asked.max_runtime = NonZeroU32::new(30);
    let ran = finish(&server.client().submit(asked).expect("accepted"));
    let answers: Value = serde_json::from_str(inline(&ran)).expect("JSON");
    for (at, why) in [(0, "`state`"), (1, "`body`"), (2, "`kind`")] {
        let answer = &answers[at];
        assert_eq!((&answer["id"], &answer["ok"]), (&json!(at + 1), &json!(false)), "{answer}");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains(why)), "{answer}");
    }
}

#[test]
fn a_program_asks_what_it_may_do_and_is_told() {
    let command = r#"read input
        echo '{"kind":"authorize","id":1,"body":{"operation":"fs.read","target":"/a/b"}}'; read allowed
        echo '{"kind":"authorize","id":2,"body":{"operation":"fs.read","target":"/a/../b"}}'; read denied
        echo '{"kind":"authorize","id":3,"body":{"operation":"fs.read","target":"/a/b","price":"USD:0.6"}}'; read priced
        echo '{"kind":"authorize","id":4,"body":{"operation":"fs.read","target":"/a/b","price":["USD:0.6"]}}'; read dear
        echo '{"kind":"metric","id":5,"body":{"name":"cost.x","value":0.5,"unit":"USD","reservation":1}}'; read taken
        echo '{"kind":"remaining","id":6}'; read left
        echo '{"kind":"tool_call","id":7,"body":{"tool":"shell","call_id":"c"}}'; read shell
        echo '{"kind":"authorize","id":8}'; read empty
        printf '{"result":[%s,%s,%s,%s,%s,%s,%s]}\n' "$allowed" "$denied" "$priced" "$dear" "$left" "$shell" "$empty""#;
    let mut registry = Registry::default();
    registry.add("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit("it", "{}");
    asked.lease_request = Some(Json::parse(r#"{"fs.read":["/a/**"],"cost.budget":["USD:1"]}"#).expect("JSON"));
    let ran = finish(&server.client().submit(asked).expect("accepted"));
    let answers: Value = serde_json::from_str(inline(&ran)).expect("JSON");
    assert_eq!(answers[0], json!({"id": 1, "ok": true, "pattern": "/a/**"}));
    assert_eq!(answers[2], json!({"id": 3, "ok": true, "pattern": "/a/**", "reservation": 1}));
    assert_eq!(answers[4]["remaining"]["budget"], json!({"USD": 0.5}), "{answers}");
    for (answer, code) in [(1, "PERMISSION_DENIED"), (3, "BUDGET_EXHAUSTED"), (5, "PERMISSION_DENIED")] {
        assert_eq!((&answers[answer]["ok"], &answers[answer]["error"]["code"]), (&json!(false), &json!(code)));
    }
    assert_eq!(answers[6]["error"]["code"], "INVALID_REQUEST", "who asks for nothing is told so: {answers}");
}

#[test]
fn a_program_has_agents_do_something_and_reads_how_they_ended() {
    let command = r#"read input
        child() { child=${made#*\"job_id\":\"}; child=${child%%\"*}; }
        echo '{"kind":"delegate","id":1,"body":{"agent":"echo","input":{"q":1},"lease_request":{"cost.budget":["USD:2"]},"delegate_id":"d1"}}'
        read -r made; child
        printf '{"kind":"await","id":2,"body":{"job_id":"%s"}}\n' "$child"; read -r ended
        echo '{"kind":"delegate","id":3,"body":{"agent":"failer"}}'; read -r made; child
        printf '{"kind":"await","id":4,"body":{"job_id":"%s"}}\n' "$child"; read -r failed
        echo '{"kind":"delegate","id":5,"body":{"agent":"slow"}}'; read -r denied
        echo '{"kind":"delegate","id":6,"body":{"agent":"echo","lease_request":{"fs.read":["/a"]}}}'; read -r wide
        echo '{"kind":"await","id":7,"body":{"job_id":7}}'; read -r nobody
        echo '{"kind":"await","id":8}'; read -r empty
        printf '{"kind":"await","id":9,"body":{"job_id":"%s"}}\n' "$ARCP_JOB_ID"; read -r stranger
        echo '{"kind":"delegate","id":10}'; read -r bodiless
        echo '{"kind":"remaining","id":11}'; read -r left
        printf '{"result":[%s,%s,%s,%s,%s,%s,%s,%s,%s]}\n' "$ended" "$failed" "$denied" "$wide" "$nobody" "$empty" "$stranger" "$bodiless" "$left""#;
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    registry.add("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut asked = submit("it", "{}");
    let lease = r#"{"agent.delegate":["echo","failer"],"cost.budget":["USD:3"]}"#;
    asked.lease_request = Some(Json::parse(lease).expect("JSON"));
    let ran = finish(&server.client().submit(asked).expect("accepted"));
    let answers: Vec<Value> = serde_json::from_str(inline(&ran)).expect("JSON");
    let [ended, failed, denied, wide, nobody, empty, stranger, bodiless, left] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!((&ended["id"], &ended["ok"], &ended["status"]), (&json!(2), &json!(true), &json!("success")));
    assert_eq!(ended["result"], json!({"q": 1}));
    assert!(ended["job_id"].as_str().is_some_and(|job| job.starts_with("job_")), "{ended}");
    assert_eq!(
        (&failed["ok"], &failed["status"]),
        (&json!(true), &json!("error")),
        "it is told, and goes on: {failed}"
    );
    assert_eq!((&failed["error"]["code"], failed.get("result")), (&json!("INTERNAL_ERROR"), None), "{failed}");
    for (answer, code) in [
        (denied, "PERMISSION_DENIED"),
        (wide, "LEASE_SUBSET_VIOLATION"),
        (nobody, "INVALID_REQUEST"),
        (empty, "INVALID_REQUEST"),
        (stranger, "JOB_NOT_FOUND"),
        (bodiless, "INVALID_REQUEST"),
    ] {
        assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!(code)), "{answer}");
    }
    assert_eq!(left["remaining"]["budget"], json!({"USD": 3}), "what the child had is back: {left}");
}

#[test]
fn a_program_asks_people_and_reads_what_came_of_it_in_any_order() {
    let command = r#"read input
        echo '{"kind":"ask","id":1,"body":{"prompt":"n?","response_schema":{"type":"integer"},"default":3,"timeout_s":0.3}}'
        echo '{"kind":"choose","id":2,"body":{"prompt":"which?","options":["a",{"id":"b"}],"timeout_s":0.1}}'
        echo '{"kind":"ask","id":3,"body":{"prompt":"n?","response_schema":{"type":"whole"}}}'
        echo '{"kind":"ask","id":4,"body":{"prompt":"n?","response_schema":{"type":"integer"},"default":"three"}}'
        echo '{"kind":"choose","id":5,"body":{"prompt":"which?","options":7}}'
        echo '{"kind":"ask_permission","id":6,"body":{"operation":"fs.read","resource":"/a","timeout_s":0.1}}'
        for n in 1 2 3 4 5 6; do read -r line; all="$all,$line"; done
        printf '{"result":[%s]}\n' "${all#,}""#;
    let mut registry = Registry::default();
    registry.add("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let ran = finish(&server.client().submit(submit("it", "{}")).expect("accepted"));
    let answers: Vec<Value> = serde_json::from_str(inline(&ran)).expect("JSON");
    let answer = |id: u64| answers.iter().find(|answer| answer["id"] == id).expect("each is answered");
    assert_eq!((&answer(1)["value"], &answer(1)["responded_by"]), (&json!(3), &json!("default")));
    for (id, code, why) in [
        (2, "TIMEOUT", "in time"),
        (3, "INVALID_REQUEST", "not a JSON Schema"),
        (4, "INVALID_REQUEST", "integer"),
        (5, "INVALID_REQUEST", "`options`"),
        (6, "TIMEOUT", "in time"),
    ] {
        let error = &answer(id)["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|said| said.contains(why)), "{error}");
    }
}

/// Agents that wait for an interrupt, ask people what to do, and go on: what was said,
/// by whom, and what was answered is their result.
fn interruptible() -> Registry {
    let question = || Question::Input { prompt: "What now?".into(), schema: Json::empty_object(), default: None };
    let mut registry = Registry::default();
    registry.add("function", None, move |job: &Context| {
        job.status("ready", None)?;
        assert_eq!(job.interrupt_within(Duration::ZERO)?, None, "nobody can have said anything");
        job.status("listening", None)?;
        let interrupt = job.interrupt_within(PATIENCE)?.expect("in time");
        let answer = job.ask_people(question(), None)?.value;
        let said = [interrupt.prompt(), interrupt.by(), answer.as_str()].map(String::from);
        job.go_on(interrupt)?;
        Outcome::of(&said)
    });
    registry.add_async("task", None, move |job: AsyncContext, _| async move {
        job.status("listening", None).await?;
        let interrupt = job.interrupted().await?;
        let answer = job.ask_people(question(), None).await?.value;
        let said = [interrupt.prompt(), interrupt.by(), answer.as_str()].map(String::from);
        job.go_on(interrupt).await?;
        Outcome::of(&said)
    });
    let program = r#"read -r input; echo '{"kind":"status","body":{"phase":"listening"}}'; read -r interrupt
        echo '{"kind":"ask","id":1,"body":{"prompt":"What now?"}}'; read -r answer
        echo '{"kind":"go_on","id":2}'; read -r taken
        echo '{"kind":"go_on","id":3,"body":{"interrupt":1}}'; read -r refused
        printf '{"result":[%s,%s,%s,%s]}\n' "$interrupt" "$answer" "$taken" "$refused""#;
    registry.add("program", None, ProcessAgent::shell(program).answered());
    for name in ["function", "task", "program"] {
        registry.set_terms(name, Terms { observes_interrupts: true, ..Terms::default() });
    }
    registry
}

#[test]
fn a_function_and_a_program_are_interrupted_ask_people_and_go_on() {
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), interruptible(), |_| {}));
    let client = server.client();
    for agent in ["function", "task", "program"] {
        let job = client.submit(submit(agent, "{}")).expect("accepted");
        let (mut phases, mut result) = (Vec::new(), None);
        while result.is_none() {
            match job.next_update_in(PATIENCE).expect("in time") {
                JobUpdate::Event { event: JobEvent::Emitted { body, .. }, .. } => {
                    let members = body.members().expect("an object");
                    if let Some(id) = members.get_str("prompt_id").filter(|_| members.get_str("prompt").is_some()) {
                        let prompt = WireId::new(&id).expect("an id");
                        let answer = PromptAnswer::Value(Json::string("wait"));
                        client.answer(Answering { prompt, answer }).expect("taken");
                    }
                    let phase = members.get_str("phase").unwrap_or_default();
                    if phase == "listening" {
                        client.interrupt(job.id.clone(), "stop that".into()).expect("kept");
                    }
                    phases.extend(Some(phase).filter(|phase| ["blocked", "running"].contains(&phase.as_str())));
                }
                JobUpdate::Event { .. } => {}
                JobUpdate::Ended { result: ResultData::Inline(ended), .. } => result = Some(ended),
                other => panic!("{agent}: {other:?}"),
            }
        }
        let result: Value = result.expect("it has ended").decode().expect("JSON");
        if agent == "program" {
            let by = result[0]["by"].as_str().expect("a principal");
            let said = json!({"kind": "interrupt", "interrupt": 1, "prompt": "stop that", "by": by});
            assert_eq!((&result[0], &result[1]["value"], &result[2]["ok"]), (&said, &json!("wait"), &json!(true)));
            assert_eq!(result[3]["error"]["code"], "INVALID_REQUEST", "{result}");
        } else {
            assert_eq!((&result[0], &result[2]), (&json!("stop that"), &json!("\"wait\"")));
        }
        assert_eq!(phases.last().map(String::as_str), Some("running"), "{agent}: {phases:?}");
    }
}

#[test]
fn a_program_that_reads_none_of_its_answers_is_stopped_by_a_cancel() {
    let command =
        r#"while :; do echo '{"kind":"remaining","id":"an id of some length, so that soon much is unread"}'; done"#;
    let mut registry = Registry::default();
    registry.add("it", None, ProcessAgent::shell(command).answered());
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let client = server.client();
    let job = client.submit(submit("it", "{}")).expect("accepted");
    let mut asked = submit("it", "{}");
    asked.max_runtime = NonZeroU32::new(1);
    let limited = client.submit(asked).expect("accepted");
    assert_eq!(finish(&limited).terminal.error.map(|error| error.code), Some(ErrorCode::Timeout));
    client.cancel(job.id.clone(), None).expect("asked");
    assert_eq!(finish(&job).terminal.error.map(|error| error.code), Some(ErrorCode::Cancelled));
}

#[test]
fn events_and_the_result_line() {
    let command = r#"echo '{"kind":"progress","body":{"current":1,"total":2}}'
        echo '{"kind":"x-vendor.t.e","body":{"n":1.0}}'
        echo '{"kind":"metric","body":{"name":"broken"}}'
        echo '{"result":"not the last line"}'
        echo '{"result":{"ok":[1.0]}}'"#;
    let ran = run(command, "null");
    assert_eq!(inline(&ran), r#"{"ok":[1.0]}"#);
    assert!(ran.events.contains(&("x-vendor.t.e".to_string(), Json::parse(r#"{"n":1.0}"#).expect("JSON"))));
    assert!(ran.events.iter().any(|(kind, _)| EventKind::from(kind.as_str()) == EventKind::Progress));
    let logs = logs(&ran);
    assert!(logs.iter().any(|(level, text)| level == "warn" && text.contains("`value` must be a number")), "{logs:?}");
    assert!(logs.iter().any(|(_, text)| text.contains("not the last line")), "{logs:?}");
}

#[test]
fn a_line_that_says_more_than_a_result_is_text() {
    let line = r#"{"result":1,"note":2}"#;
    assert_eq!(inline(&run(&format!("echo '{line}'"), "null")), Json::string(line).as_str());
    let line = r#"{"note":2}"#;
    assert_eq!(inline(&run(&format!("echo '{line}'"), "null")), Json::string(line).as_str());
}

#[test]
fn stderr_is_told_apart_and_the_exit_code_is_carried() {
    let ran = run("echo oops >&2; exit 3", "null");
    assert_eq!(logs(&ran), [("stderr".to_string(), "oops".to_string())]);
    let error = ran.terminal.error.expect("an error");
    assert_eq!(error.code, ErrorCode::Internal);
    assert_eq!(error.details.expect("details").as_str(), r#"{"exit_code":3}"#);
    let killed = run("kill -9 $$", "null").terminal.error.expect("an error");
    assert_eq!(killed.details.expect("details").as_str(), r#"{"signal":9}"#);
}

#[test]
fn what_an_upstream_has_nothing_left_for_is_the_budgets_end_of_the_job_or_of_one_call() {
    let line = |more: &str| format!(r#"echo '{{"kind":"upstream_error","body":{{"status":400{more}}}}}'"#);
    let exhausted = r#","answer":{"error":{"type":"budget_exceeded","message":"key sk-1"}}"#;
    let as_text = r#","answer":"{\"error\":{\"type\":\"budget_exceeded\"}}""#;
    for (script, code) in [
        (line(exhausted), ErrorCode::BudgetExhausted),
        (line(exhausted) + "; exit 1", ErrorCode::BudgetExhausted),
        (line(as_text), ErrorCode::BudgetExhausted),
        (line(""), ErrorCode::Internal),
    ] {
        let error = run(&script, "null").terminal.error.expect("it failed");
        assert_eq!(error.code, code, "{script}");
        assert!(!error.message.contains("sk-1"), "{}", error.message);
    }
    // One call failed, and the program has gone on; or it has got over it.
    let of_call = line(&format!(r#"{exhausted},"call_id":"c1""#));
    let ran = run(&format!("{of_call}; echo '{{\"result\":7}}'"), "null");
    let (_, result) = ran.events.iter().find(|(kind, _)| kind == "tool_result").expect("the call's result");
    let result: Value = serde_json::from_str(result.as_str()).expect("JSON");
    assert_eq!((&result["call_id"], &result["error"]["code"]), (&json!("c1"), &json!("BUDGET_EXHAUSTED")));
    assert_eq!(inline(&ran), "7");
    assert_eq!(inline(&run(&format!("{}; echo '{{\"result\":8}}'", line(exhausted)), "null")), "8");
}

#[test]
fn chunks_are_streamed() {
    let command = r#"echo '{"kind":"result_chunk","body":{"data":"ab"}}'
        echo '{"kind":"result_chunk","body":{"data":"Y2Q=","encoding":"base64"}}'"#;
    let ran = run(command, "null");
    assert_eq!(ran.result, ResultData::Streamed { bytes: b"abcd".to_vec(), text: false });
}

#[test]
fn output_without_a_last_newline_and_without_any_is_fine() {
    assert_eq!(inline(&run("printf 'no end'", "null")), r#""no end""#);
    assert_eq!(inline(&run("true", "null")), r#""""#);
    assert_eq!(inline(&run("printf '\\377\\n'", "null")), "\"\u{fffd}\"");
}

#[test]
fn a_program_that_does_not_read_its_input_is_fine() {
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(run("exit 0", &big).terminal.status, FinalStatus::Success);
}

/// Runs a program that is cancelled once it has printed `ready`: it ends because
/// it was told to, not because it was made to.
fn cancelled_when_ready(command: &str) -> Ran {
    let server = Running::start(&[("it", command)], |config| config.timing.cancel_grace = 10 * PATIENCE);
    let client = server.client();
    let job = client.submit(submit("it", "null")).expect("accepted");
    wait_for_log(&job, "ready");
    client.cancel(job.id.clone(), None).expect("taken");
    let ran = finish(&job);
    assert_eq!(ran.terminal.status, FinalStatus::Cancelled);
    ran
}

#[test]
fn a_cancel_is_sigterm_to_the_whole_group() {
    // The leader waits for its child, and has its own word.
    let child = "trap 'echo the child stops; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let command = format!("trap 'echo the leader stops' TERM; sh -c \"{child}\" & wait; wait");
    let ran = cancelled_when_ready(&command);
    for told in ["the leader stops", "the child stops"] {
        assert!(logs(&ran).iter().any(|(_, text)| text == told), "{told}");
    }
}

#[test]
fn what_a_program_started_has_the_grace_of_a_cancel_though_the_program_is_gone() {
    // The shell that is told to stop goes at once, what it runs takes longer than last words do.
    let child = "trap 'sleep 1; echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let command = format!("sh -c \"{child}\"; true");
    let ran = cancelled_when_ready(&command);
    assert!(logs(&ran).iter().any(|(_, text)| text == "cleaned"));
}

#[test]
fn a_stubborn_program_is_killed_after_the_grace() {
    let server = Running::start(&[("it", "trap '' TERM; echo $$; while :; do sleep 0.1; done")], |_| {});
    let client = server.client();
    let job = client.submit(submit("it", "null")).expect("accepted");
    let pid = wait_for_log(&job, "");
    client.cancel(job.id.clone(), None).expect("taken");
    let ran = finish(&job);
    assert_eq!(ran.terminal.status, FinalStatus::Cancelled);
    let process = format!("/proc/{pid}");
    let begun = Instant::now();
    while std::path::Path::new(&process).exists() {
        assert!(begun.elapsed() < PATIENCE, "{pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_program_that_closes_its_outputs_is_waited_for_and_what_it_leaves_behind_ends_with_it() {
    let ran = run("sleep 600 & echo $!; exec >&- 2>&-; sleep 0.3; exit 7", "null");
    let error = ran.terminal.error.as_ref().expect("an error");
    assert_eq!(error.details.as_ref().expect("details").as_str(), r#"{"exit_code":7}"#);
    let (_, pid) = &logs(&ran)[0];
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // What nobody has waited for yet has ended all the same.
        stat.contains("(sleep)") && !stat.contains(") Z ")
    };
    let begun = Instant::now();
    while lives() {
        assert!(begun.elapsed() < PATIENCE, "{pid} lives on");
        std::thread::yield_now();
    }
}

fn wait_for_log(job: &Job, needle: &str) -> String {
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event: JobEvent::Emitted { kind: EventKind::Log, body }, .. } => {
                let message = body.members().expect("an object").get_str("message").expect("a message");
                if message.contains(needle) {
                    return message;
                }
            }
            JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_its_job() {
    let begun = Instant::now();
    let ran = run("sleep 60 & echo done", "null");
    assert_eq!(inline(&ran), r#""done""#);
    assert!(begun.elapsed() < PATIENCE, "half of what it leaves behind takes");
}

#[test]
fn a_flood_is_slowed_and_the_text_result_is_bounded() {
    let ran = run("yes 0123456789 | head -c 3000000", "null");
    assert_eq!(ran.terminal.status, FinalStatus::Success);
    let ResultData::Streamed { bytes, .. } = &ran.result else { panic!("{:?}", ran.result) };
    assert!((1 << 20) - 100 < bytes.len() && bytes.len() < (2 << 20), "{}", bytes.len());
    assert_eq!(logs(&ran).len(), 272_728, "every line is an event");
}

#[test]
fn a_line_that_is_too_long_fails_the_job_and_its_size_is_named() {
    let ran = run("head -c 2000000 /dev/zero | tr '\\0' x; echo; echo after", "null");
    let error = ran.terminal.error.expect("an error");
    assert!(error.message.contains("a line of 2000000 bytes"), "{}", error.message);
    assert!(error.details.expect("details").as_str().contains(r#""line_bytes":2000000"#));
    let on_stderr = run("head -c 2000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo fine", "null");
    assert_eq!(inline(&on_stderr), r#""fine""#, "a result is not on stderr");
    let logs = logs(&on_stderr);
    assert!(logs.iter().any(|(level, text)| level == "stderr" && text.contains("a line of 2000000 bytes")));
}

#[test]
fn text_that_is_too_long_for_a_result_is_cut_once_and_has_no_hole() {
    let command = "for c in a b c; do head -c 400000 /dev/zero | tr '\\0' $c; echo; done; echo short";
    let ran = run(command, "null");
    let lines = format!("{}\n{}", "a".repeat(400_000), "b".repeat(400_000));
    let text: String = serde_json::from_str(inline(&ran)).expect("JSON");
    assert!(text == lines, "nothing comes after the cut: {} bytes, {}", text.len(), text.ends_with("short"));
    assert!(logs(&ran).iter().any(|(_, text)| text == "short"), "it is in the events");
}

#[test]
fn a_line_that_does_not_end_fails_the_job_while_the_program_goes_on() {
    let begun = Instant::now();
    let ran = run("head -c 1000000 /dev/zero | tr '\\0' x; sleep 1000", "null");
    let error = ran.terminal.error.expect("an error");
    assert!(error.message.contains("a line of 1000000 bytes"), "{}", error.message);
    let endless = run("tr '\\0' x < /dev/zero", "null");
    let error = endless.terminal.error.expect("an error");
    assert!(error.message.contains("a line of 671"), "{}", error.message);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_piece_of_the_result_that_cannot_be_read_fails_the_job() {
    let command = r#"echo '{"kind":"result_chunk","body":{"data":"Y2Q=","encoding":"base64"}}'
        echo '{"kind":"result_chunk","body":{"data":"not base64!","encoding":"base64"}}'"#;
    let error = run(command, "null").terminal.error.expect("an error");
    assert!(error.message.contains("`data` is not valid base64"), "{}", error.message);
    for (line, why) in [
        (r#"{"kind":"result_chunk","body":{"data":7}}"#, "`data`"),
        (r#"{"kind":"result_chunk","body":{}}"#, "`data`"),
        (r#"{"kind":"result_chunk","body":{"data":"ab","encoding":"hex"}}"#, "`encoding`"),
        (r#"{"kind":"result_chunk"}"#, "`body`"),
    ] {
        let command = format!(r#"echo '{{"kind":"result_chunk","body":{{"data":"whole"}}}}'; echo '{line}'"#);
        let error = run(&command, "null").terminal.error.unwrap_or_else(|| panic!("half a result, with {line}"));
        assert!(error.message.contains("`result_chunk`") && error.message.contains(why), "{}", error.message);
    }
}

#[test]
fn what_stays_with_a_pipe_of_a_program_holds_neither_its_job_nor_a_thread() {
    let big = format!("\"{}\"", "x".repeat(600 << 10));
    let server = Running::start(
        &[
            ("writes", "while :; do echo more; done & echo mine"),
            // Out of the group: nobody ends it.
            ("away", "setsid sh -c 'while sleep 0.01; do echo more; done' & echo mine"),
            ("reads", "setsid sleep 40 <&0 >/dev/null 2>&1 & echo mine"),
            ("both", "setsid sleep 40 <&0 & echo mine"),
        ],
        |_| {},
    );
    let client = server.client();
    let mut threads = Vec::new();
    for agent in ["writes", "away", "reads", "both"] {
        let job = client.submit(submit(agent, &big)).expect("accepted");
        threads.push(job.id.as_str()[..THREAD_NAME].to_string());
        let ran = finish(&job);
        assert_eq!(ran.terminal.status, FinalStatus::Success, "{agent}");
        let ResultData::Inline(result) = &ran.result else { continue };
        assert!(result.as_str().contains("mine"), "{agent}: {result}");
    }
    let begun = Instant::now();
    while threads_of(&threads) > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} threads are left", threads_of(&threads));
        std::thread::yield_now();
    }
}

/// Bytes of its name that a thread has here.
const THREAD_NAME: usize = 15;

/// How many threads have these names: a thread is named by its job, and other tests of
/// this process have jobs too.
fn threads_of(names: &[String]) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("a list").map(|thread| thread.expect("one").path());
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    threads.filter(|path| names.iter().any(|own| name(path.clone()).trim_end() == own)).count()
}

#[test]
fn what_a_program_wrote_before_it_exited_is_read_however_slowly() {
    // More than a pipe holds is never behind a program that has exited.
    let ran = run("i=0; while [ $i -lt 9000 ]; do echo $i; i=$((i+1)); done; sleep 40 &", "null");
    let said: Vec<String> = logs(&ran).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, (0..9000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn programs_that_print_nothing_but_heartbeats_starve_nobody() {
    let server = Running::start(&[("alive", r#"yes '{"kind":"heartbeat"}'"#)], |_| {});
    let client = server.client();
    let floods: Vec<Job> = (0..16).map(|_| client.submit(submit("alive", "null")).expect("accepted")).collect();
    for n in 0..20 {
        let ran = finish(&client.submit(submit("echo", &n.to_string())).expect("accepted"));
        assert_eq!(inline(&ran), n.to_string());
    }
    for job in &floods {
        client.cancel(job.id.clone(), None).expect("taken");
    }
    for job in &floods {
        assert_eq!(finish(job).terminal.status, FinalStatus::Cancelled);
    }
}
