//! What our decoders make of what others write: every published spelling of
//! it, and what lies on either side of a bound. Written anew with
//! `ARCP_BLESS=1`.

use std::fmt::Write as _;

use arcp_proto::time::UtcMs;
use arcp_proto::wire::envelope::Header;
use arcp_proto::wire::{Family, read_request, read_runtime_frame};
use arcp_tests::scene::golden;
use serde_json::{Value, json};

const AT: UtcMs = UtcMs(1_767_225_600_000);
const JOB: &str = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A frame with these members beside its payload.
fn frame(kind: &str, payload: Value, more: Value) -> String {
    let mut frame = json!({"arcp": "1.1", "id": "m1", "type": kind, "payload": payload});
    for (name, value) in more.as_object().expect("an object") {
        frame[name] = value.clone();
    }
    frame.to_string()
}

fn said_to_a_client() -> Vec<(Family, String)> {
    let mut frames = Vec::new();
    let mut open = |kind, payload, more| frames.push((Family::Open, frame(kind, payload, more)));
    let of_job = || json!({"job_id": JOB, "event_seq": 7, "timestamp": "2026-01-01T00:00:00Z"});
    open("job.heartbeat", json!({"job_id": JOB}), json!({}));
    open("artifact.ref", json!({"artifact_id": "a", "uri": "arcp://a/1", "media_type": "text/plain"}), of_job());
    for redacted in [true, false] {
        open("stream.chunk", json!({"kind": "thought", "content": "hm", "redacted": redacted}), of_job());
    }
    open("job.dance", json!({}), json!({"event_seq": 7}));
    open("job.dance", json!({}), json!({}));
    open("log", json!({"level": "info", "message": "m"}), json!({"correlation_id": "m9"}));
    open("job.failed", json!({"code": "NOT_FOUND", "message": "none"}), json!({"correlation_id": "m9"}));
    open("job.failed", json!({"code": "NOT_FOUND", "message": "none"}), json!({}));
    for why in [
        json!({"reason": "not_found"}),
        json!({"reason": "already_terminal"}),
        json!({"reason": "no"}),
        json!({"code": "INTERNAL", "message": "m"}),
    ] {
        let mut payload = why;
        payload["target_id"] = JOB.into();
        open("cancel.refused", payload, json!({"correlation_id": "m9"}));
    }
    for error in [
        json!({"error": {"code": "NOT_FOUND", "message": "nested", "retryable": true}, "code": "INTERNAL"}),
        json!({"error": {"message": "without a code"}, "code": "NOT_FOUND", "message": "flat"}),
        json!({"code": "NOT_FOUND", "message": "", "details": {"n": 1}, "detail": "passed over"}),
        json!({"code": "NOT_FOUND", "detail": "a sentence"}),
        json!({"error": {"code": "NOT_FOUND"}, "detail": "beside", "details": [1]}),
    ] {
        open("tool.error", error, of_job());
    }
    for replayed in [json!(true), json!(false), Value::Null] {
        let payload = json!({"session_id": "s", "resume_token": "t", "from_seq": 3, "replayed": replayed});
        open("session.resumed", payload, json!({"session_id": "s"}));
    }
    for replayed in [json!(true), json!(0), json!(3), json!("x"), Value::Null] {
        let payload = json!({"job_id": JOB, "current_status": "running", "subscribed_from": 2, "replayed": replayed});
        frames.push((Family::Hello, frame("job.subscribed", payload, json!({"session_id": "s"}))));
    }
    frames
}

fn said_to_a_runtime() -> Vec<(Family, String)> {
    let auth = json!({"scheme": "bearer", "token": "t"});
    let mut frames = Vec::new();
    for features in
        [json!(["cost_budget", "model_use", "ack"]), json!(["cost.budget", "model.use"]), json!(["no.such.feature"])]
    {
        let payload = json!({"auth": auth, "capabilities": {"features": features}});
        frames.push((Family::Hello, frame("session.hello", payload, json!({}))));
    }
    let many = |count: usize| json!(vec!["n"; count]);
    for capabilities in [
        json!({"cost.budget": true, "model.use": true, "result_chunk": false}),
        json!({"cost_budget": true, "model_use": true, "result_chunk": true}),
        json!({"heartbeat_interval_seconds": 0}),
        json!({"heartbeat_interval_seconds": 0.5, "heartbeat_recovery": "block"}),
        json!({"heartbeat_recovery": "fail"}),
        json!({"required": ["anonymous", "heartbeat_recovery", "subscriptions"]}),
        json!({"required": ["artifacts", "interrupt"]}),
        json!({"required": many(64)}),
        json!({"required": many(65)}),
        json!({"extensions": [""]}),
        json!({"extensions": ["x".repeat(256)]}),
        json!({"extensions": ["x".repeat(257)]}),
    ] {
        let payload = json!({"auth": auth, "client": {"kind": "k", "version": "1"}, "capabilities": capabilities});
        frames.push((Family::Open, frame("session.open", payload, json!({}))));
    }
    let mut open = |kind: &str, payload| frames.push((Family::Open, frame(kind, payload, json!({"session_id": "s"}))));
    for deadline in [0, 1, 600_000, 600_001] {
        open("cancel", json!({"target": "job", "target_id": JOB, "deadline_ms": deadline}));
    }
    for budget in [Value::Null, json!([]), json!(["USD:1"])] {
        open("tool.invoke", json!({"tool": "echo", "arguments": {}, "cost_budget": budget}));
    }
    let long = |count| format!("arcpx.{}", "x".repeat(count));
    for kind in ["arcpx.a.v1", &long(250), &long(251), "nodots"] {
        open(kind, json!({}));
    }
    frames
}

#[test]
fn every_published_spelling_is_read() {
    let mut text = String::new();
    for (family, frame) in said_to_a_client() {
        let read = read_runtime_frame(family, &Header::read(&frame).expect("a frame"), AT);
        writeln!(text, "< {frame}\n  {read:?}").expect("a string");
    }
    for (family, frame) in said_to_a_runtime() {
        let read = read_request(family, &Header::read(&frame).expect("a frame")).map(|read| read.request);
        writeln!(text, "> {frame}\n  {read:?}").expect("a string");
    }
    golden("decoded.txt", &text);
}
