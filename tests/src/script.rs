//! Agents of the virtual world: lists of steps.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::model::prompt::{Choice, Question};
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, ChunkData, StreamCall};

use crate::artifact_log::letter;
use crate::steward;
use crate::stream_log;

/// A step of a scripted agent.
#[derive(Clone, Debug)]
pub enum Step {
    /// A call, when there is credit.
    Call(AgentCall),
    /// A call, when there is credit, and the wait for its answer.
    Ask(AgentCall),
    /// Leaves these bytes with the runtime, when there is credit, and waits for the answer.
    Leave(Vec<u8>),
    /// Waits for the child that it made last.
    AwaitChild,
    /// A pause in virtual time.
    Sleep(Duration),
    /// Exits.
    Exit(AgentExit),
    /// Exits with the artifact that it left last as the result; if it has left none, with an artifact that does not
    /// exist.
    ExitStored,
    /// Does nothing until told to stop, then exits.
    UntilStopped,
    /// Does nothing until it is forced to stop.
    Stubborn,
    /// Does nothing until told to stop, then exits with a success.
    FinishWhenStopped,
    /// Does nothing until told to stop, then exits after this time, forced or not.
    ExitLate(Duration),
    /// Never exits, forced or not, until the world [reaps](crate::world::World::reap) it.
    Never,
}

/// Makes the script of a job from its specification.
pub fn script(spec: &AgentSpec) -> Vec<Step> {
    let (agent, input) = (spec.agent.name(), &spec.input);
    let number = |name: &str, default: u64| {
        let members = input.members().ok();
        members.and_then(|m| m.get(name).and_then(|raw| raw.parse().ok())).unwrap_or(default)
    };
    match agent {
        "echo" => vec![success(input.as_str())],
        "slow" => {
            let ticks = number("ticks", 10);
            let tick = |n| {
                vec![
                    Step::Sleep(Duration::from_millis(100)),
                    say("progress", &format!(r#"{{"current":{n},"total":{ticks}}}"#)),
                ]
            };
            let mut steps = vec![say("status", r#"{"phase":"working"}"#)];
            steps.extend((1..=ticks).flat_map(tick));
            steps.push(success(&format!(r#"{{"done":true,"ticks":{ticks}}}"#)));
            steps
        }
        "chatty" => {
            let count = number("count", 20);
            let tick = |n| say("metric", &format!(r#"{{"name":"tick","value":{n},"unit":"count"}}"#));
            let mut steps: Vec<Step> = (0..count).map(tick).collect();
            steps.push(success(&format!(r#"{{"emitted":{count}}}"#)));
            steps
        }
        // Emits events for as long as a random world runs.
        "talker" => {
            let tick = |n| {
                let sleep = Step::Sleep(Duration::from_millis(if n % 4 == 0 { 40 } else { 0 }));
                [sleep, say("metric", &format!(r#"{{"name":"tick","value":{n},"unit":"count"}}"#))]
            };
            let mut steps: Vec<Step> = (0..number("count", 20)).flat_map(tick).collect();
            steps.push(success("null"));
            steps
        }
        // Writes to two streams, and leaves one open.
        "streamer" => {
            let say = |stream: u32, says: StreamCall| Step::Call(AgentCall::Stream { stream, says });
            let chunk = |stream, data, notes| say(stream, StreamCall::Chunk { data, notes: Box::new(notes), shed: 0 });
            let round = |n: u64| {
                let redacted = ChunkNotes { redacted: true, ..ChunkNotes::default() };
                let low = ChunkNotes { low_priority: true, ..ChunkNotes::default() };
                [
                    chunk(1, ChunkData::Text(stream_log::REDACTED.into()), redacted),
                    chunk(2, ChunkData::Binary(vec![n as u8; 5]), ChunkNotes::default()),
                    Step::Sleep(Duration::from_millis(40)),
                    chunk(1, ChunkData::Text(format!("low {n}")), low),
                ]
            };
            let mut steps = vec![
                say(1, StreamCall::Open(StreamTerms::new(StreamKind::Thought))),
                say(2, StreamCall::Open(StreamTerms::new(StreamKind::Binary))),
            ];
            steps.extend((0..number("count", 20).min(30)).flat_map(round));
            steps.push(say(1, StreamCall::Close { reason: None, shed: 0 }));
            steps.push(success("null"));
            steps
        }
        "thinker" => {
            let mut steps: Vec<Step> =
                (0..number("count", 20)).map(|n| say("thought", &format!(r#"{{"text":"t{n}"}}"#))).collect();
            steps.push(success("null"));
            steps
        }
        // Continues after its last checkpoint.
        "stepper" => {
            let steps = number("steps", 10);
            let done = spec.checkpoint.as_deref().map_or(0, |state| u64::from(state[0]));
            let step = |n: u64| {
                [
                    Step::Sleep(Duration::from_millis(100)),
                    say("progress", &format!(r#"{{"current":{n},"total":{steps}}}"#)),
                    Step::Call(AgentCall::Checkpoint { state: vec![n as u8], label: Some(format!("step {n}")) }),
                ]
            };
            let mut all: Vec<Step> = (done + 1..=steps).flat_map(step).collect();
            all.push(success(&format!(r#"{{"steps":{steps},"restarts":{}}}"#, spec.restarts)));
            all
        }
        // Waits for the outcome of each call.
        "asker" => {
            let event =
                |kind: &str, body: &str| AgentCall::Emit { kind: kind.into(), body: Json::parse(body).expect("JSON") };
            let checkpoint = |bytes: u64| AgentCall::Checkpoint { state: vec![b'x'; bytes as usize], label: None };
            let round = |n: u64| {
                vec![
                    Step::Ask(AgentCall::Remaining),
                    Step::Ask(event("metric", &format!(r#"{{"name":"tick","value":{n}}}"#))),
                    Step::Ask(event("progress", r#"{"current":"not a number"}"#)),
                    Step::Ask(checkpoint(n)),
                    Step::Ask(checkpoint(number("bytes", 10))),
                    Step::Sleep(Duration::from_millis(40)),
                ]
            };
            let mut steps: Vec<Step> = (0..number("count", 3)).flat_map(round).collect();
            steps.push(success("null"));
            steps
        }
        // Asks one question after another, and continues after its last checkpoint.
        "questioner" => {
            let done = spec.checkpoint.as_deref().map_or(0, |state| u64::from(state[0]));
            let schema =
                |n: u64| Json::parse(if n.is_multiple_of(2) { "{}" } else { r#"{"type":"object"}"# }).expect("JSON");
            let question = |n: u64| match n % 3 {
                2 => {
                    let option = |id: &str| Choice { id: id.into(), label: id.to_uppercase() };
                    Question::Choice {
                        prompt: format!("which {n}?"),
                        options: ["a", "b"].map(option).into(),
                        default: None,
                    }
                }
                _ => Question::Input { prompt: format!("what {n}?"), schema: schema(n), default: None },
            };
            let round = |n: u64| {
                let question = Box::new(question(n));
                [
                    Step::Ask(AgentCall::Ask { question, timeout_ms: Some(number("patience", 3000)) }),
                    Step::Ask(AgentCall::Checkpoint { state: vec![n as u8 + 1], label: None }),
                ]
            };
            let mut steps: Vec<Step> = (done..number("questions", 2)).flat_map(round).collect();
            steps.push(success("null"));
            steps
        }
        // Leaves artifacts of letters, each one letter longer.
        "artist" => {
            let letters = |n: u64| (0..number("bytes", 10) + n).map(|k| b'a' + (k % 26) as u8).collect();
            let leave = |n| [Step::Leave(letters(n)), Step::Sleep(Duration::from_millis(40))];
            let mut steps: Vec<Step> = (0..number("count", 1)).flat_map(leave).collect();
            let as_result = input.as_str().contains("\"as_result\":true");
            steps.push(if as_result { Step::ExitStored } else { success("null") });
            steps
        }
        // Leaves artifacts that show whose they are, some of them too large, and ends with the last.
        "curator" => {
            let letter = letter(&spec.principal.to_string());
            let leave =
                |n: u64| [Step::Leave(vec![letter; 1 + (n * 37) as usize]), Step::Sleep(Duration::from_millis(40))];
            let rounds = number("rounds", 2);
            let mut steps: Vec<Step> = (0..rounds).flat_map(leave).collect();
            steps.push(if rounds == 1 { success("null") } else { Step::ExitStored });
            steps
        }
        "steward" => steward::script(spec),
        "hoarder" => {
            let state = vec![b'x'; number("bytes", 10) as usize];
            vec![Step::Call(AgentCall::Checkpoint { state, label: None }), success("null")]
        }
        "kinds" => {
            let mut steps: Vec<Step> = KINDS.iter().map(|(kind, body)| say(kind, body)).collect();
            steps.push(success("null"));
            steps
        }
        "delegator" => vec![say("delegate", r#"{"target":"child","task":"t"}"#), success("null")],
        "chunker" => {
            let (chunks, bytes) = (number("chunks", 3), number("bytes", 10));
            let binary = spec.input.as_str().contains("\"base64\"");
            let piece = |n: u64| {
                let text: String = (0..bytes).map(|k| char::from(b'a' + ((n * bytes + k) % 26) as u8)).collect();
                let data = if binary { ChunkData::Binary(text.into_bytes()) } else { ChunkData::Text(text) };
                Step::Call(AgentCall::Chunk { data, more: n + 1 < chunks })
            };
            let mut steps: Vec<Step> = (0..chunks).map(piece).collect();
            steps.push(Step::Exit(AgentExit::Success { result: None, summary: Some("letters".into()) }));
            steps
        }
        "ponderer" => {
            let mut steps: Vec<Step> = (0..number("count", 1)).map(|_| say("thought", r#"{"text":"hm"}"#)).collect();
            steps.push(Step::UntilStopped);
            steps
        }
        "waiter" => vec![Step::UntilStopped],
        "stubborn" => vec![Step::Stubborn],
        "finisher" => vec![Step::FinishWhenStopped],
        "lingerer" => vec![Step::ExitLate(Duration::from_secs(number("seconds", 8)))],
        "undead" => vec![Step::Never],
        "deaf" => vec![Step::Sleep(Duration::from_secs(number("seconds", 3600))), success("null")],
        "failer" => vec![Step::Exit(AgentExit::Failure(JobError::new(ErrorCode::Internal, "boom")))],
        "panicker" => vec![Step::Exit(AgentExit::Lost)],
        "inventor" => vec![Step::Exit(AgentExit::Failure(JobError::invented("MY_CODE", "no luck")))],
        other => panic!("no script for agent {other}"),
    }
}

/// One event of each kind, as an agent emits it.
pub const KINDS: [(&str, &str); 8] = [
    ("log", r#"{"level":"WARNING","message":"m","fields":{"a":1.50}}"#),
    ("thought", r#"{"text":"hm"}"#),
    ("tool_call", r#"{"name":"grep","tool_call_id":"c1"}"#),
    ("tool_result", r#"{"call_id":"c1","output":{"ok":true}}"#),
    ("status", r#"{"phase":"demo"}"#),
    ("metric", r#"{"name":"m","value":1.250,"unit":"s","dims":{"k":"v"}}"#),
    ("artifact_ref", r#"{"uri":"arcp://a/1","media_type":"text/plain","size_bytes":4}"#),
    ("x-vendor.test.note", r#"{"n":10.00,"x-mine":[]}"#),
];

/// A step that emits an event.
pub fn say(kind: &str, body: &str) -> Step {
    Step::Call(AgentCall::Emit { kind: kind.into(), body: Json::parse(body).expect("scripts are JSON") })
}

/// A step that ends with a result.
pub fn success(result: &str) -> Step {
    let result = Some(Json::parse(result).expect("scripts are JSON"));
    Step::Exit(AgentExit::Success { result, summary: None })
}
