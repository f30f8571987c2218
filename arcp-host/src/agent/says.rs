//! The calls that agents make.

use std::cell::Cell;

use arcp_proto::json::{Json, Object};
use arcp_proto::lease::{Amount, Currency};
use arcp_proto::model::event::EventKind;
use arcp_proto::runtime::AgentCall;

use super::Level;

thread_local! {
    /// The buffer for bodies, which an agent writes one after the other.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

/// A buffer with a larger capacity is not kept.
const MOST_BYTES: usize = 16 << 10;

/// Begins a body.
fn begin() -> Object {
    Object::in_buffer(BUFFER.take())
}

/// Finishes a body.
fn finish(body: Object) -> Json {
    let (json, buffer) = body.json_and_buffer();
    if buffer.capacity() <= MOST_BYTES {
        BUFFER.set(buffer);
    }
    json
}

pub(super) fn log(level: Level, message: &str, attributes: Option<&Json>) -> AgentCall {
    let mut body = begin();
    body.str("level", level.name()).str("message", message).opt_json("attributes", attributes);
    event(EventKind::Log, finish(body))
}

pub(super) fn thought(text: &str) -> AgentCall {
    let mut body = begin();
    body.str("text", text);
    event(EventKind::Thought, finish(body))
}

pub(super) fn status(phase: &str, message: Option<&str>) -> AgentCall {
    let mut body = begin();
    body.str("phase", phase).opt_str("message", message);
    event(EventKind::Status, finish(body))
}

pub(super) fn progress(current: u64, total: Option<u64>, units: Option<&str>) -> AgentCall {
    let mut body = begin();
    body.u64("current", current);
    if let Some(total) = total {
        body.u64("total", total);
    }
    body.opt_str("units", units);
    event(EventKind::Progress, finish(body))
}

pub(super) fn metric(name: &str, value: &Json, unit: Option<&str>) -> AgentCall {
    let mut body = begin();
    body.str("name", name).raw("value", value.as_str()).opt_str("unit", unit);
    event(EventKind::Metric, finish(body))
}

pub(super) fn cost(name: &str, currency: &Currency, amount: Amount, reservation: Option<u64>) -> AgentCall {
    let mut body = begin();
    body.str("name", name).raw("value", &amount.to_string()).str("unit", currency.as_str());
    if let Some(number) = reservation {
        body.u64("reservation", number);
    }
    event(EventKind::Metric, finish(body))
}

pub(super) fn tool_call(tool: &str, call_id: &str, args: &Json) -> AgentCall {
    let mut body = begin();
    body.str("tool", tool).str("call_id", call_id).opt_json("args", Some(args));
    event(EventKind::ToolCall, finish(body))
}

pub(super) fn tool_result(call_id: &str, result: Result<&Json, &Json>) -> AgentCall {
    let mut body = begin();
    body.str("call_id", call_id);
    match result {
        Ok(result) => body.opt_json("result", Some(result)),
        Err(error) => body.opt_json("error", Some(error)),
    };
    event(EventKind::ToolResult, finish(body))
}

pub(super) fn artifact(uri: &str, content_type: Option<&str>, byte_size: Option<u64>) -> AgentCall {
    let mut body = begin();
    body.str("uri", uri).opt_str("content_type", content_type);
    if let Some(size) = byte_size {
        body.u64("byte_size", size);
    }
    event(EventKind::Artifact, finish(body))
}

pub(super) fn checkpoint(state: Vec<u8>, label: Option<&str>) -> AgentCall {
    AgentCall::Checkpoint { state, label: label.map(ToString::to_string) }
}

pub(super) fn event(kind: EventKind, body: Json) -> AgentCall {
    AgentCall::Emit { kind, body }
}
