//! The message type for the submit of a workflow (RFC §6.2).

use alloc::string::String;

use serde::Deserialize;

use super::requests::present;
use super::terms::{Terms, submit_on};
use crate::error::Violation;
use crate::json::{Json, Object, Raw, Text};
use crate::model::request::Submit;
use crate::model::workflow::{self, Workflow};
use crate::wire::envelope::{Header, payload};

pub(super) const KIND: &str = "workflow.start";

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(borrow, default)]
    workflow: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<Raw<'a>>,
    #[serde(borrow, default, alias = "cost.budget")]
    cost_budget: Option<Raw<'a>>,
    #[serde(borrow, default, alias = "model.use")]
    model_use: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_request: Option<Raw<'a>>,
    #[serde(borrow, default)]
    lease_constraints: Option<Raw<'a>>,
    #[serde(default)]
    max_runtime_sec: Option<u64>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
}

pub(super) fn read(header: &Header<'_>) -> Result<Submit, Violation> {
    let fields: Start<'_> = payload(KIND, header.payload)?;
    let mut input = Object::new();
    input.opt_json("workflow", fields.workflow.map(Json::from_checked).as_ref());
    input.opt_json("input", fields.input.map(Json::from_checked).as_ref());
    let terms = Terms {
        cost_budget: fields.cost_budget,
        model_use: fields.model_use,
        lease_request: fields.lease_request,
        lease_constraints: fields.lease_constraints,
        max_runtime_sec: fields.max_runtime_sec,
        key: fields.idempotency_key,
    };
    submit_on(header, terms, Submit { input: Some(input.json()), ..Submit::new(workflow::agent()) })
}

/// The type and payload of the submit of a workflow; `None` for other submits.
pub(in crate::wire) fn write_workflow(submit: &Submit) -> Option<(&'static str, String)> {
    if submit.agent != workflow::agent() {
        return None;
    }
    let (graph, input) = Workflow::parts(submit.input.as_ref()).ok()?;
    let mut payload = Object::new();
    payload
        .raw("workflow", graph.as_str())
        .opt_json("input", input.as_ref())
        .opt_json("lease_request", submit.lease_request.as_ref())
        .opt_json("lease_constraints", submit.lease_constraints.as_ref());
    if let Some(seconds) = submit.max_runtime {
        payload.u64("max_runtime_sec", u64::from(seconds.get()));
    }
    Some((KIND, payload.done()))
}
