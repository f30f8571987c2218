//! The message type for a submit below a job (RFC §14).

use alloc::string::String;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::requests::{delegate_id, key, max_runtime, object, present};
use super::terms::{free_text, with_budgets};
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Json, Object, Text};
use crate::model::agent::AgentRef;
use crate::model::request::Submit;
use crate::wire::envelope::{Header, payload};

pub(super) const KIND: &str = "agent.delegate";

#[derive(Deserialize)]
struct Delegate<'a> {
    #[serde(borrow)]
    target: Text<'a>,
    #[serde(borrow, default)]
    task: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    lease_constraints: Option<&'a RawValue>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    delegate_id: Option<Text<'a>>,
}

/// Reads the submit of a child of the job that the envelope names (RFC §14).
pub(super) fn read(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields: Delegate<'_> = payload(KIND, header.payload)?;
    let missing = || Violation::invalid("`agent.delegate`: `job_id` must name the job that has it done");
    let parent = header.job.clone().ok_or_else(missing)?;
    let lease = object("lease_request", fields.lease_request)?;
    let trace = header.trace.as_deref().map(|trace| free_text("trace_id", trace)).transpose()?;
    let said = |raw: Option<&RawValue>| raw.filter(|raw| raw.get() != "null").map(Json::from_checked);
    // Without an input, the task and its context are the input.
    let task = || {
        let mut input = Object::new();
        input.opt_json("task", Some(&said(fields.task)?)).opt_json("context", said(fields.context).as_ref());
        Some(input.json())
    };
    Ok(Submit {
        input: fields.input.map(Json::from_checked).or_else(task),
        lease_request: with_budgets(lease, None, None)?,
        lease_constraints: object("lease_constraints", fields.lease_constraints)?,
        key: key(header.key.as_deref().map(|key| Text(key.into())))?,
        max_runtime: max_runtime(fields.max_runtime_sec)?,
        parent: Some(parent),
        delegate_id: delegate_id(fields.delegate_id)?,
        trace,
        ..Submit::new(AgentRef::parse(&fields.target.0)?)
    })
}

/// The type and payload of a submit below the job that the envelope names.
pub(in crate::wire) fn write_delegate(submit: &Submit) -> (&'static str, String) {
    let mut payload = Object::new();
    payload
        .display("target", &submit.agent)
        .opt_json("input", submit.input.as_ref())
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref())
        .opt_str("delegate_id", submit.delegate_id.as_ref().map(WireId::as_str));
    if let Some(seconds) = submit.max_runtime {
        payload.u64("max_runtime_sec", u64::from(seconds.get()));
    }
    (KIND, payload.done())
}
