//! What agents say, as calls.

use arcp_proto::json::{Json, Object};
use arcp_proto::lease::{Amount, Currency};
use arcp_proto::runtime::AgentCall;

use super::Level;

pub(super) fn log(level: Level, message: &str, attributes: Option<&Json>) -> AgentCall {
    let mut body = Object::new();
    body.str("level", level.name()).str("message", message).opt_json("attributes", attributes);
    event("log", body.json())
}

pub(super) fn thought(text: &str) -> AgentCall {
    let mut body = Object::new();
    body.str("text", text);
    event("thought", body.json())
}

pub(super) fn status(phase: &str, message: Option<&str>) -> AgentCall {
    let mut body = Object::new();
    body.str("phase", phase).opt_str("message", message);
    event("status", body.json())
}

pub(super) fn progress(current: u64, total: Option<u64>, units: Option<&str>) -> AgentCall {
    let mut body = Object::new();
    body.u64("current", current);
    if let Some(total) = total {
        body.u64("total", total);
    }
    body.opt_str("units", units);
    event("progress", body.json())
}

pub(super) fn metric(name: &str, value: &Json, unit: Option<&str>) -> AgentCall {
    let mut body = Object::new();
    body.str("name", name).raw("value", value.as_str()).opt_str("unit", unit);
    event("metric", body.json())
}

pub(super) fn cost(name: &str, currency: &Currency, amount: Amount, reservation: Option<u64>) -> AgentCall {
    let mut body = Object::new();
    body.str("name", name).raw("value", &amount.to_string()).str("unit", currency.as_str());
    if let Some(number) = reservation {
        body.u64("reservation", number);
    }
    event("metric", body.json())
}

pub(super) fn tool_call(tool: &str, call_id: &str, args: &Json) -> AgentCall {
    let mut body = Object::new();
    body.str("tool", tool).str("call_id", call_id).opt_json("args", Some(args));
    event("tool_call", body.json())
}

pub(super) fn tool_result(call_id: &str, result: Result<&Json, &Json>) -> AgentCall {
    let mut body = Object::new();
    body.str("call_id", call_id);
    match result {
        Ok(result) => body.opt_json("result", Some(result)),
        Err(error) => body.opt_json("error", Some(error)),
    };
    event("tool_result", body.json())
}

pub(super) fn artifact(uri: &str, content_type: Option<&str>, byte_size: Option<u64>) -> AgentCall {
    let mut body = Object::new();
    body.str("uri", uri).opt_str("content_type", content_type);
    if let Some(size) = byte_size {
        body.u64("byte_size", size);
    }
    event("artifact_ref", body.json())
}

pub(super) fn checkpoint(state: Vec<u8>, label: Option<&str>) -> AgentCall {
    AgentCall::Checkpoint { state, label: label.map(ToString::to_string) }
}

pub(super) fn event(kind: &str, body: Json) -> AgentCall {
    AgentCall::Emit { kind: kind.to_string(), body }
}
