//! The weight of a text counts for as long as it is held.

use alloc::string::String;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;

use super::audit_records::AuditEntry;
use super::io::{AgentCall, AgentReply, LocalFrame, Record};

const MORE: usize = 100;
const JOB: &str = "job_01KDVDNA09Z9GEBBX0JS6RDFE6";
const SESSION: &str = "sess_01KDVDNA0233RQ3RRSFQHS1P05";

/// Makes each text with an `xx` longer, one after the other; the weight must grow by as much. `J`
/// and `S` stand for ids.
fn counts<T: DeserializeOwned>(written: &str, weight: impl Fn(&T) -> usize) {
    let written =
        written.replace("\"J\"", &alloc::format!("\"{JOB}\"")).replace("\"S\"", &alloc::format!("\"{SESSION}\""));
    let read = |text: &str| serde_json::from_str::<T>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let before = weight(&read(&written));
    let places: Vec<usize> = written.match_indices("xx").map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{written}");
    for at in places {
        let longer: String = [&written[..at], &"x".repeat(MORE), &written[at..]].concat();
        assert_eq!(weight(&read(&longer)), before + MORE, "{longer}");
    }
}

#[test]
fn a_record_weighs_as_much_as_its_texts() {
    let accepted = r#"{"JobAccepted": {"job": "J", "principal": "p", "session": "S", "agent": {"name": "it", "version": null},
        "input": {"a": "xx"}, "lease": {"fs.read": ["/xx"]}, "trace": "xx", "request": "r", "created_at": 1, "key": null,
        "invocation": {"priority": "Normal", "span": null, "extensions": {"a": "xx"}}, "max_runtime": null}}"#;
    let prompts = r#"{"Prompted": {"job": "J", "prompts": {"last": 6,
        "open": [
            {"number": 1, "event": 1, "expires_at": 1,
             "question": {"Input": {"prompt": "xx", "schema": {"title": "xx"}, "default": "xx"}}},
            {"number": 2, "event": 2, "expires_at": 1,
             "question": {"Choice": {"prompt": "xx", "options": [{"id": "xx", "label": "xx"}]}}},
            {"number": 3, "event": 3, "expires_at": 1,
             "question": {"Permission": {"permission": "xx", "resource": "xx", "operation": "xx", "reason": "xx"}}}],
        "closed": [
            {"number": 4, "event": 4, "at": 1, "question": Q, "closing": {"Answered": {"by": "xx", "answer": {"Value": "xx"}}}},
            {"number": 5, "event": 5, "at": 1, "question": Q, "closing": {"Answered": {"by": "p", "answer": {"Denied": "xx"}}}},
            {"number": 6, "event": 6, "at": 1, "question": Q, "closing": "Expired"}],
        "grants": [{"number": 7, "operation": "xx", "resource": "xx", "permission": "xx"}],
        "interrupted": 1, "interrupts": [{"number": 1, "prompt": "xx", "by": "xx"}]}}}"#;
    let digest = alloc::format!("{:?}", [0; 32]);
    let prompts = prompts.replace('Q', &digest);
    let subscribed = r#"{"Subscribed": {"session": "S", "number": 1, "request": "r", "command": Q, "filter":
        {"sessions": ["xx"], "traces": ["xx"], "jobs": ["xx"], "streams": ["xx"], "types": ["xx"], "min_priority": null}}}"#;
    let scheduled = r#"{"ScheduleKept": {"id": "xx", "principal": "p", "session": "S", "fingerprint": Q, "created_at": 1,
        "job": {"agent": {"name": "it", "version": null}, "input": "xx", "lease_request": {"fs.read": ["/xx"]},
                "lease_constraints": {"a": "xx"}, "trace": "xx",
                "invocation": {"priority": "Normal", "span": "xx", "extensions": {"a": "xx"}}},
        "times": {"every": "DTSTART:20260101T000000xx"}, "ceilings": [{"lease": {"fs.read": ["/xx"]}}]}}"#;
    for record in [
        accepted,
        &prompts,
        &subscribed.replace('Q', &digest),
        &scheduled.replace('Q', &digest),
        r#"{"ScheduleMoved": {"schedule": 1, "at": 1, "upto": 1, "queued": [1, 2], "paused": "xx", "refused": "xx"}}"#,
        r#"{"StepMoved": {"job": "J", "step": 1, "state": {"Succeeded": {"attempt": 1, "child": "J", "result": "xx"}}}}"#,
        r#"{"StepMoved": {"job": "J", "step": 1, "state": {"Failed": {"attempt": 1, "child": null, "error":
            {"code": "Internal", "message": "xx", "retryable": false, "details": {"a": "xx"}}}}}}"#,
        r#"{"HistoryTrimmed": {"job": "J", "upto": 1, "streams": [{"id": "xx", "chunks": 1}]}}"#,
        r#"{"Checkpointed": {"job": "J", "state": {"text": "xx"},
            "kept": {"event": 1, "at": 1, "label": "xx", "asked": ["S", "xx"], "by": "xx"}}}"#,
        r#"{"Audited": {"at": 1, "act": "submit", "count": 1, "granted": {"fs.read": ["/xx"]}, "reason": "xx", "runtime": "xx"}}"#,
        r#"{"Departing": {"job": "J", "departure": {"Asked": {"to": "xx", "url": "xx", "lease": {"a": "xx"}, "since": 1}}}}"#,
        r#"{"Departing": {"job": "J", "departure": {"Gone": {"runtime": "xx", "url": "xx", "job": "xx"}}}}"#,
        r#"{"CancelAsked": {"job": "J", "reason": "xx"}}"#,
        r#"{"Numbered": {"session": "S", "run": {"seq": 1, "frame":
            {"at": 1, "says": {"Detached": {"job": "J", "trace": "xx", "own": true}}}}}}"#,
    ] {
        counts(record, Record::weight);
    }
    let audited =
        r#"{"at": 1, "act": "submit", "count": 1, "granted": {"fs.read": ["/xx"]}, "reason": "xx", "runtime": "xx"}"#;
    counts(audited, AuditEntry::bytes);
    let lagging = r#"{"at": 1, "says": {"LagWarning": {"job": "J", "trace": "xx", "own": false}}}"#;
    counts(lagging, LocalFrame::weight);
}

#[test]
fn a_call_of_an_agent_and_its_answer_weigh_as_much_as_their_texts() {
    for call in [
        r#"{"Emit": {"kind": "log", "body": {"message": "xx"}}}"#,
        r#"{"Chunk": {"data": {"Text": "xx"}, "more": true}}"#,
        r#"{"Checkpoint": {"state": {"text": "xx"}}}"#,
        r#"{"Authorize": {"operation": "xx", "target": "xx", "price": ["xx", "xx"]}}"#,
        r#"{"Delegate": {"agent": "xx", "input": "xx", "lease_request": {"a": "xx"}, "lease_constraints": {"a": "xx"},
            "delegate_id": "xx"}}"#,
        r#"{"RenewCredential": {"id": "xx", "value": "xx"}}"#,
        r#"{"Stream": {"stream": 1, "says": {"Open": {"kind": "Text", "content_type": "xx", "encoding": "xx"}}}}"#,
        r#"{"Stream": {"stream": 1, "says": {"Chunk": {"data": {"Text": "xx"}, "notes": {"attributes": {"a": "xx"}}}}}}"#,
        r#"{"Stream": {"stream": 1, "says": {"Close": {"reason": "xx"}}}}"#,
        r#"{"Stream": {"stream": 1, "says": {"Fail": {"error":
            {"code": "Internal", "message": "xx", "retryable": false, "details": null}}}}}"#,
    ] {
        counts(call, |call: &AgentCall| usize::try_from(call.bytes()).expect("it is small"));
    }
    for reply in [
        r#"{"Refused": {"code": "Internal", "message": "xx", "retryable": false, "details": null}}"#,
        r#"{"Allowed": {"pattern": "xx"}}"#,
        r#"{"Renewed": {"id": "xx", "scheme": "xx", "value": "xx", "endpoint": "xx", "profile": "xx", "constraints": {"a": "xx"}}}"#,
        r#"{"ChildEnded": {"job": "J", "status": "Error", "result": "xx",
            "error": {"code": "Internal", "message": "xx", "retryable": false, "details": null}}}"#,
        r#"{"Answered": {"value": "xx", "by": "xx", "at": 1}}"#,
    ] {
        counts(reply, AgentReply::bytes);
    }
}
