//! The events of each sample agent, call by call, and the largest inputs that it accepts.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::EventKind;
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, ChunkData};
use arcp_tests::lone::{Lone, spec};

fn samples_with(add: impl FnOnce(&mut Registry)) -> Lone {
    Lone::new(|registry| {
        samples::add_to(registry);
        add(registry);
    })
}

fn run(agent: &str, input: &str) -> (Vec<AgentCall>, AgentExit) {
    samples_with(|_| {}).run(spec(agent, input))
}

fn emit(kind: EventKind, body: &str) -> AgentCall {
    AgentCall::Emit { kind, body: Json::parse(body).expect("JSON") }
}

fn result(exit: AgentExit) -> String {
    match exit {
        AgentExit::Success { result: Some(result), summary: None } => result.as_str().to_string(),
        other => panic!("{other:?}"),
    }
}

/// What a sample refuses, and why.
fn refusal(agent: &str, input: &str) -> (ErrorCode, String) {
    match run(agent, input) {
        (calls, AgentExit::Failure(error)) if calls.is_empty() => (error.code, error.message),
        other => panic!("{agent} {input}: {other:?}"),
    }
}

#[test]
fn a_result_in_pieces_is_the_same_letters_or_bytes_however_it_is_cut() {
    for (chunks, bytes) in [(1, 60), (3, 20), (4, 27), (2, 0), (0, 9)] {
        for encoding in ["utf8", "base64"] {
            let input = format!(r#"{{"chunks":{chunks},"bytes":{bytes},"encoding":"{encoding}"}}"#);
            let (calls, exit) = run("chunker", &input);
            let piece = |n: u64| {
                let at = n * bytes..(n + 1) * bytes;
                let data = if encoding == "utf8" {
                    ChunkData::Text(at.map(|k| char::from(b'a' + (k % 26) as u8)).collect())
                } else {
                    ChunkData::Binary(at.map(|k| (k % 256) as u8).collect())
                };
                AgentCall::Chunk { data, more: n + 1 < chunks }
            };
            assert_eq!(calls, (0..chunks).map(piece).collect::<Vec<_>>(), "{input}");
            let summary = Some(format!("{chunks} chunks of {bytes} bytes"));
            assert_eq!(exit, AgentExit::Success { result: None, summary }, "{input}");
        }
    }
    let (calls, exit) = run("chunker", r#"{"chunks":1,"bytes":1000,"encoding":"base64"}"#);
    let bytes: Vec<u8> = (0..1000_u32).map(|k| (k % 256) as u8).collect();
    assert_eq!(calls, [AgentCall::Chunk { data: ChunkData::Binary(bytes), more: false }], "{exit:?}");
}

#[test]
fn a_slow_job_says_each_tick_and_the_last_one_may_be_a_short_one() {
    for (ms, tick_ms, ticks) in [(25, 10, 3), (20, 10, 2), (5, 10, 1), (0, 10, 0), (2, 0, 2), (7, 3, 3)] {
        for deaf in [false, true] {
            let input = format!(r#"{{"ms":{ms},"tick_ms":{tick_ms},"ignore_cancel":{deaf}}}"#);
            let (calls, exit) = run("slow", &input);
            let mut expected = vec![emit(EventKind::Status, r#"{"phase":"working"}"#)];
            expected.extend(
                (1..=ticks).map(|n| {
                    emit(EventKind::Progress, &format!(r#"{{"current":{n},"total":{ticks},"units":"ticks"}}"#))
                }),
            );
            assert_eq!(calls, expected, "{input}");
            assert_eq!(result(exit), format!(r#"{{"done":true,"ticks":{ticks}}}"#), "{input}");
        }
    }
}

#[test]
fn a_chatty_job_says_so_many_of_a_kind_or_one_of_each() {
    let emitted = |input: &str| {
        let (calls, exit) = run("chatty", input);
        (calls, result(exit))
    };
    let of = |kind: &str, more: &str| emitted(&format!(r#"{{"count":3,"kind":"{kind}"{more}}}"#));
    let three = |event: fn(u32) -> AgentCall| ((0..3).map(event).collect::<Vec<_>>(), r#"{"emitted":3}"#.to_string());
    let metric = |n: u32| emit(EventKind::Metric, &format!(r#"{{"name":"tick","value":{n},"unit":"count"}}"#));
    assert_eq!(of("metric", ""), three(metric));
    assert_eq!(of("metric", r#","delay_ms":1"#), three(metric));
    let log = |n: u32| emit(EventKind::Log, &format!(r#"{{"level":"info","message":"tick {n}xx"}}"#));
    assert_eq!(of("log", r#","pad":2"#), three(log));
    let vendor = |n: u32| emit(EventKind::from("x-vendor.test.tick"), &format!(r#"{{"i":{n}}}"#));
    assert_eq!(of("vendor", ""), three(vendor));
    let (calls, result) = emitted(r#"{"count":3,"kind":"all"}"#);
    let kinds: Vec<&str> = calls
        .iter()
        .map(|call| match call {
            AgentCall::Emit { kind, .. } => kind.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        ["log", "thought", "status", "metric", "tool_call", "tool_result", "artifact_ref", "x-vendor.test.note"];
    assert_eq!((kinds.as_slice(), result.as_str()), (expected.as_slice(), r#"{"emitted":8}"#));
    assert!(refusal("chatty", r#"{"kind":"other"}"#).1.contains("`kind` is `other`"));
    assert!(refusal("chunker", r#"{"encoding":"other"}"#).1.contains("`encoding` is `other`"));
}

#[test]
fn a_job_in_steps_has_a_checkpoint_of_each_and_goes_on_behind_the_last() {
    let step = |n: u32, of: u32| {
        let label = Some(format!("step {n}"));
        let progress = format!(r#"{{"current":{n},"total":{of},"units":"steps"}}"#);
        [emit(EventKind::Progress, &progress), AgentCall::Checkpoint { state: n.to_string().into_bytes(), label }]
    };
    for (done, restarts) in [(None, 0), (Some(1), 1), (Some(3), 2), (Some(9), 1)] {
        let checkpoint = done.map(|done: u32| done.to_string().into_bytes());
        let again = AgentSpec { checkpoint, restarts, ..spec("stepper", r#"{"steps":3,"step_ms":1}"#) };
        let (calls, exit) = samples_with(|_| {}).run(again);
        let expected: Vec<AgentCall> = (done.unwrap_or(0) + 1..=3).flat_map(|n| step(n, 3)).collect();
        assert_eq!(calls, expected, "after {done:?}");
        assert_eq!(result(exit), format!(r#"{{"steps":3,"restarts":{restarts}}}"#), "after {done:?}");
    }
    // Where it may end the runtime it does so in its first run only.
    let input = r#"{"steps":2,"step_ms":0,"crash_at":2}"#;
    assert_eq!(refusal("stepper", input).0, ErrorCode::PermissionDenied);
    let again = AgentSpec { restarts: 1, checkpoint: Some(b"1".to_vec()), ..spec("stepper", input) };
    let (calls, exit) = samples_with(samples::let_crash).run(again);
    assert_eq!((calls, result(exit)), (step(2, 2).to_vec(), r#"{"steps":2,"restarts":1}"#.to_string()));
}

#[test]
fn a_gate_that_was_opened_holds_nobody_up_and_one_that_was_not_waits() {
    let mut samples = samples_with(|_| {});
    let waiting = || Ok(emit(EventKind::Status, r#"{"phase":"waiting"}"#));
    let (calls, exit) = samples.run(spec("opengate", r#"{"key":"a"}"#));
    assert_eq!((calls, result(exit).as_str()), (Vec::new(), r#"{"opened":"a"}"#));
    let (calls, exit) = samples.run(spec("gate", r#"{"key":"a"}"#));
    assert_eq!((calls.len(), result(exit).as_str()), (1, r#"{"gate":"a"}"#));
    samples.start(spec("gate", "{}"));
    assert_eq!(samples.hear(), waiting());
    samples.stop();
    match samples.hear().map_err(|exit| *exit) {
        Err(AgentExit::Failure(error)) => assert_eq!(error.code, ErrorCode::Cancelled, "the other one is shut"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn jobs_are_counted_by_their_keys() {
    let mut samples = samples_with(|_| {});
    let mut runs = |input: &str| result(samples.run(spec("counter", input)).1);
    let counted =
        [r#"{"key":"a"}"#, r#"{"key":"b"}"#, r#"{"key":"a","ms":1}"#, "{}", r#"{"key":"default"}"#].map(&mut runs);
    assert_eq!(counted, [1, 1, 2, 1, 2].map(|runs| format!(r#"{{"runs":{runs}}}"#)));
}

#[test]
fn a_job_fails_as_it_is_asked_to() {
    let failed = |input: &str| refusal("failer", input);
    assert_eq!(failed("{}"), (ErrorCode::Internal, "boom".to_string()));
    let asked = failed(r#"{"code":"PERMISSION_DENIED","message":"no"}"#);
    assert_eq!(asked, (ErrorCode::PermissionDenied, "no".to_string()));
    assert!(failed(r#"{"code":"X_OF_MINE","message":"why"}"#).1.contains("why"));
    assert_eq!(run("failer", r#"{"plain":true}"#), (Vec::new(), AgentExit::Lost));
}

#[test]
fn a_sample_takes_what_is_just_within_its_bound_and_nothing_beyond() {
    const DAY: u64 = 86_400_000;
    const PIECE: u64 = 4 << 20;
    const MANY: u64 = 1 << 20;
    for (agent, name, most) in [
        ("rotator", "hold_ms", DAY),
        ("spender", "wait_ms", DAY),
        ("asker", "expires_ms", DAY),
        ("permitter", "use_after_ms", DAY),
        ("delegator", "count", MANY),
        ("delegator", "wait_ms", DAY),
        ("streamer", "chunks", MANY),
        ("streamer", "bytes", PIECE),
        ("listener", "ms", DAY),
        ("stepper", "steps", MANY),
        ("stepper", "step_ms", DAY),
        ("slow", "ms", DAY),
        ("slow", "tick_ms", DAY),
        ("chatty", "pad", PIECE),
        ("chatty", "delay_ms", DAY),
        ("artist", "bytes", PIECE),
        ("chunker", "bytes", PIECE),
        ("chunker", "chunks", MANY),
        ("counter", "ms", DAY),
    ] {
        let (code, message) = refusal(agent, &format!(r#"{{"{name}":{}}}"#, most + 1));
        assert_eq!(code, ErrorCode::InvalidRequest, "{agent}");
        assert_eq!(message, format!("`{name}` is {}: at most {most} is accepted", most + 1), "{agent}");
    }
    let is_taken = |agent: &str, input: &str| match run(agent, input).1 {
        AgentExit::Success { .. } => true,
        AgentExit::Failure(error) if error.code == ErrorCode::InvalidRequest => false,
        other => panic!("{agent}: {other:?}"),
    };
    assert!(is_taken("slow", &format!(r#"{{"ms":0,"tick_ms":{DAY}}}"#)));
    assert!(is_taken("slow", r#"{"ms":0,"tick_ms":60000,"ignore_cancel":true}"#));
    assert!(!is_taken("slow", r#"{"ms":0,"tick_ms":60001,"ignore_cancel":true}"#), "it would hear of no cancel");
    assert!(is_taken("chatty", &format!(r#"{{"count":0,"delay_ms":{DAY}}}"#)));
    assert!(is_taken("chunker", &format!(r#"{{"chunks":0,"bytes":{PIECE}}}"#)));
    for agent in ["counter", "opengate"] {
        let key = |bytes| format!(r#"{{"key":"{}"}}"#, "k".repeat(bytes));
        assert!(is_taken(agent, &key(256)) && !is_taken(agent, &key(257)), "{agent}");
    }
}
