//! Executables as agents.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::{Duration, Instant};

use arcp_blocking::{Job, JobUpdate};
use arcp_proto::client::ResultData;
use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent, Terminal};
use arcp_proto::model::job::FinalStatus;
use arcp_tests::server::{PATIENCE, Running, submit};

struct Ran {
    events: Vec<(String, Json)>,
    terminal: Terminal,
    result: ResultData,
}

fn finish(job: &Job) -> Ran {
    let mut events = Vec::new();
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event: JobEvent::Said { kind, body }, .. } => {
                events.push((kind.name().to_string(), body))
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

fn logs(ran: &Ran) -> Vec<(String, String)> {
    let of = |(kind, body): &(String, Json)| {
        let members = body.members().ok()?;
        (kind == "log")
            .then(|| (members.get_str("level").unwrap_or_default(), members.get_str("message").unwrap_or_default()))
    };
    ran.events.iter().filter_map(of).collect()
}

#[test]
fn the_input_comes_as_one_line_and_text_is_the_result() {
    let ran = run("read line; echo \"got $line\"; cat", r#"{"a":1.50}"#);
    assert_eq!(ran.terminal.status, FinalStatus::Success);
    assert_eq!(inline(&ran), r#""got {\"a\":1.50}""#);
    assert_eq!(logs(&ran), [("info".to_string(), "got {\"a\":1.50}".to_string())]);
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
    assert!(ran.events.iter().any(|(kind, _)| EventKind::of(kind) == EventKind::Progress));
    let logs = logs(&ran);
    assert!(logs.iter().any(|(level, text)| level == "warn" && text.contains("`value` must be a number")), "{logs:?}");
    assert!(logs.iter().any(|(_, text)| text.contains("not the last line")), "{logs:?}");
}

#[test]
fn stderr_is_a_warning_and_the_exit_code_is_carried() {
    let ran = run("echo oops >&2; exit 3", "null");
    assert_eq!(logs(&ran), [("warn".to_string(), "oops".to_string())]);
    let error = ran.terminal.error.expect("an error");
    assert_eq!(error.code, ErrorCode::Internal);
    assert_eq!(error.details.expect("details").as_str(), r#"{"exit_code":3}"#);
    let killed = run("kill -9 $$", "null").terminal.error.expect("an error");
    assert_eq!(killed.details.expect("details").as_str(), r#"{"signal":9}"#);
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

#[test]
fn a_cancel_is_sigterm_to_the_whole_group() {
    let command = "trap 'echo stopping; exit 0' TERM; echo ready; sleep 60 & wait";
    let server = Running::start(&[("it", command)], |_| {});
    let client = server.client();
    let job = client.submit(submit("it", "null")).expect("accepted");
    wait_for_log(&job, "ready");
    let begun = Instant::now();
    client.cancel(job.id.clone(), None).expect("taken");
    let ran = finish(&job);
    assert_eq!(ran.terminal.status, FinalStatus::Cancelled);
    assert!(logs(&ran).iter().any(|(_, text)| text == "stopping"));
    assert!(begun.elapsed() < Duration::from_secs(1), "before the grace was over");
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

fn wait_for_log(job: &Job, needle: &str) -> String {
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event: JobEvent::Said { kind: EventKind::Log, body }, .. } => {
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
    assert!(begun.elapsed() < Duration::from_secs(10));
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
fn a_line_without_end_is_dropped_with_a_warning() {
    let ran = run("head -c 2000000 /dev/zero | tr '\\0' x; echo; echo after", "null");
    let logs = logs(&ran);
    assert_eq!(logs.len(), 2, "{:?}", logs.iter().map(|(_, text)| text.len()).collect::<Vec<_>>());
    assert!(logs[0].0 == "warn" && logs[0].1.contains("was dropped"));
    assert_eq!(inline(&ran), r#""after""#);
}
