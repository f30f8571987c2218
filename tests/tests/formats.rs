//! The output streams of coding agents become events. The lines of `tests/streams` are written as the documentation of
//! the agents says.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use arcp_blocking::JobUpdate;
use arcp_host::process::{Format, ProcessAgent};
use arcp_host::registry::Registry;
use arcp_host::store::MemoryStore;
use arcp_proto::client::ResultData;
use arcp_proto::error::ErrorCode;
use arcp_proto::model::event::{JobEvent, Terminal};
use arcp_proto::model::job::FinalStatus;
use arcp_tests::server::{PATIENCE, Running, submit};
use serde_json::{Value, json};

struct Ran {
    events: Vec<(String, Value)>,
    terminal: Terminal,
    result: ResultData,
}

fn run(format: Format, command: &str) -> Ran {
    let mut host = Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    let mut registry = Registry::default();
    registry.add("it", None, ProcessAgent::shell(command).printing(format));
    host.registry = registry;
    let server = Running::serve(host);
    let client = server.client();
    let job = client.submit(submit("it", "null")).expect("accepted");
    let mut events = Vec::new();
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } => {
                events.push((kind.to_string(), serde_json::from_str(body.as_str()).expect("JSON")));
            }
            JobUpdate::Event { .. } => {}
            JobUpdate::Ended { terminal, result, .. } => return Ran { events, terminal, result },
            other => panic!("{other:?}"),
        }
    }
}

fn sample(name: &str) -> String {
    format!("cat {}/streams/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Ran {
    /// The bodies of one kind.
    fn of(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|(of, _)| of == kind).map(|(_, body)| body).collect()
    }

    /// The texts of what was logged.
    fn logged(&self) -> Vec<&str> {
        self.of("log").into_iter().filter_map(|body| body["message"].as_str()).collect()
    }

    /// Metrics by name.
    fn metric(&self, name: &str) -> &Value {
        let found = self.of("metric").into_iter().find(|body| body["name"] == name);
        &found.unwrap_or_else(|| panic!("no metric {name}: {:?}", self.events))["value"]
    }

    fn inline(&self) -> &str {
        match &self.result {
            ResultData::Inline(json) => json.as_str(),
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self) -> &str {
        assert_eq!(self.terminal.status, FinalStatus::Error, "{:?}", self.terminal);
        &self.terminal.error.as_ref().expect("an error").message
    }
}

#[test]
fn what_claude_code_streams_becomes_events_and_a_result() {
    let ran = run(Format::ClaudeJson, &sample("claude.jsonl"));
    assert_eq!(ran.inline(), r#""The test passes.""#);
    let thoughts: Vec<&Value> = ran.of("thought").into_iter().map(|body| &body["text"]).collect();
    assert_eq!(thoughts, ["The test fails; look at it first.", "I look at the failing test."]);
    let calls = ran.of("tool_call");
    assert_eq!(calls.len(), 2);
    assert_eq!((&calls[1]["tool"], &calls[1]["call_id"]), (&json!("Bash"), &json!("toolu_2")));
    assert_eq!(calls[1]["args"]["command"], "make test");
    let results = ran.of("tool_result");
    assert_eq!((&results[0]["call_id"], &results[0]["result"]), (&json!("toolu_1"), &json!("noted")));
    assert_eq!((&results[1]["call_id"], &results[1]["error"]["message"]), (&json!("toolu_2"), &json!("make: no rule")));
    assert_eq!(ran.of("progress"), [&json!({"current": 1, "total": 2, "units": "todos"})]);
    assert_eq!(ran.metric("cost.usd").to_string(), "0.01230", "a decimal keeps its digits");
    assert_eq!((ran.metric("tokens.output").as_u64(), ran.metric("turns").as_u64()), (Some(60), Some(3)));
    assert!(ran.of("status").iter().any(|body| body["message"] == "claude-sonnet-4-5"), "{:?}", ran.events);
    let logged = ran.logged();
    assert_eq!(logged.len(), 3, "what nobody knows is logged: {logged:?}");
    assert!(logged[0].contains("compact_boundary") && logged[1].contains("weather"), "{logged:?}");
}

#[test]
fn what_codex_streams_becomes_events_and_a_result() {
    let ran = run(Format::CodexJson, &sample("codex.jsonl"));
    assert_eq!(ran.inline(), r#""Done.""#, "an error that was got over is none");
    let tools: Vec<&Value> = ran.of("tool_call").into_iter().map(|body| &body["tool"]).collect();
    assert_eq!(tools, ["shell", "tickets.find", "file_change"], "each call once");
    assert_eq!(ran.of("tool_call")[1]["args"], json!({"id": 7}));
    let results = ran.of("tool_result");
    assert_eq!(results[0]["result"], json!({"exit_code": 0, "output": "docs\nsrc\n"}));
    assert_eq!(results[1]["error"]["message"], "no such ticket");
    assert_eq!(results[2]["call_id"], "item_4");
    let progress: Vec<&Value> = ran.of("progress").into_iter().map(|body| &body["current"]).collect();
    assert_eq!(progress, [0, 1]);
    assert_eq!(ran.metric("tokens.input.cached").as_u64(), Some(24448));
    let logged = ran.logged();
    assert!(logged.iter().any(|text| text.contains("hologram")), "{logged:?}");
}

#[test]
fn an_agent_that_says_why_it_failed_fails_with_that_whatever_its_exit_code() {
    let claude = r#"echo '{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":9,"errors":["too many turns"]}'"#;
    let ran = run(Format::ClaudeJson, claude);
    assert_eq!(ran.failure(), "the agent ended with `error_max_turns`: too many turns");
    let ran = run(Format::ClaudeJson, &format!("{claude}; exit 1"));
    assert!(ran.failure().contains("too many turns"));
    let success_that_is_none =
        r#"echo '{"type":"result","subtype":"success","is_error":true,"result":"Invalid API key"}'"#;
    assert!(run(Format::ClaudeJson, success_that_is_none).failure().contains("Invalid API key"));
    let codex = r#"echo '{"type":"turn.failed","error":{"message":"usage limit"}}'; exit 1"#;
    assert_eq!(run(Format::CodexJson, codex).failure(), "the agent failed: usage limit");
    for (format, line) in [
        (Format::ClaudeJson, r#"{"type":"result","subtype":"error_max_budget_usd","is_error":true,"errors":[]}"#),
        (
            Format::ClaudeJson,
            r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 400 {\"error\":{\"type\":\"budget_exceeded\"}}"}"#,
        ),
        (
            Format::CodexJson,
            r#"{"type":"turn.failed","error":{"message":"status 429: {\"error\":{\"code\":\"insufficient_quota\"}}"}}"#,
        ),
    ] {
        let error = run(format, &format!("cat <<'END'\n{line}\nEND\nexit 1")).terminal.error.expect("it failed");
        assert_eq!(error.code, ErrorCode::BudgetExhausted, "{line}");
    }
    let ran = run(Format::CodexJson, "exit 3");
    assert!(ran.failure().contains("code 3"), "without a word its exit code counts");
}

#[test]
fn lines_of_a_known_type_and_an_unknown_shape_are_logged() {
    for (format, line) in [
        (Format::ClaudeJson, r#"{"type":"assistant","message":"text"}"#),
        (Format::ClaudeJson, r#"{"type":7}"#),
        (Format::CodexJson, r#"{"type":"item.completed","item":[]}"#),
        (Format::CodexJson, r#"{"type":"error"}"#),
        (Format::CodexJson, r#"[1,2]"#),
    ] {
        let ran = run(format, &format!("echo '{line}'"));
        assert_eq!((ran.terminal.status, ran.logged()), (FinalStatus::Success, vec![line]), "{line}");
    }
}

#[test]
fn our_own_lines_are_understood_in_every_format() {
    for (_, format) in Format::NAMED {
        let command = r#"echo '{"kind":"metric","body":{"name":"n","value":1}}'; echo '{"result":[1.50]}'"#;
        let ran = run(format, command);
        assert_eq!((ran.inline(), ran.metric("n")), ("[1.50]", &json!(1)), "{format}");
    }
}

#[test]
fn of_lines_of_json_each_is_shown_and_the_last_is_the_result() {
    let ran = run(Format::JsonLines, r#"echo '{"msg":"one","n":1}'; echo text; echo '{"kind":3}'; echo '[2.50]'"#);
    assert_eq!(ran.inline(), "[2.50]");
    assert_eq!(ran.logged(), ["one", "text", r#"{"kind":3}"#, "[2.50]"]);
    assert_eq!(ran.of("log")[0]["attributes"]["data"], json!({"msg": "one", "n": 1}));
}

#[test]
fn a_line_of_json_that_makes_an_event_nested_too_deep_is_text() {
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let ran = run(Format::JsonLines, &format!("echo '{deep}'"));
    assert_eq!((ran.inline(), ran.logged()), (deep.as_str(), vec![deep.as_str()]));
}
