//! Answers to questions, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.open_surfaces`.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::present;
use crate::error::Violation;
use crate::id::{PromptId, WireId};
use crate::json::{Json, Object, Text};
use crate::model::prompt::PromptAnswer;
use crate::model::request::Answering;
use crate::wire::envelope::{Header, payload};

/// The request to be notified of questions to people: an extension of ours in both families.
pub(super) const AWAIT: &str = "x-vendor.arcp.prompts.await";
const VALUE: &str = "human.input.response";
const CHOICE: &str = "human.choice.response";
const GRANT: &str = "permission.grant";
const DENY: &str = "permission.deny";
const EXTEND: &str = "lease.refresh";
const REVOKE: &str = "lease.revoked";

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    prompt_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choice_id: Option<Text<'a>>,
    #[serde(default)]
    lease_seconds: Option<u32>,
    #[serde(borrow, default)]
    resource: Option<Text<'a>>,
    #[serde(borrow, default, alias = "cost.budget")]
    cost_budget: Option<Vec<Text<'a>>>,
    #[serde(default, rename = "x-vendor.arcp.once")]
    once: bool,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    lease_id: Option<Text<'a>>,
    #[serde(default)]
    requested_seconds: Option<u32>,
    #[serde(default)]
    additional_seconds: Option<u32>,
}

/// Reads an answer; `None` for any other message. Who answers is known from the session, and when
/// from the clock of the runtime.
pub(super) fn read_answer(header: &Header<'_>) -> Result<Option<Answering>, Violation> {
    let kind = header.kind.as_ref();
    if !matches!(kind, VALUE | CHOICE | GRANT | DENY | EXTEND | REVOKE) {
        return Ok(None);
    }
    let said: Said<'_> = payload(kind, header.payload)?;
    let reason = || said.reason.as_ref().map(|Text(why)| why.chars().take(1024).collect());
    let missing = |name: &str| Violation::invalid(alloc::format!("`{kind}`: `{name}` is missing"));
    let answer = match kind {
        VALUE => PromptAnswer::Value(Json::from_checked(said.value.ok_or_else(|| missing("value"))?)),
        CHOICE => {
            let Text(choice) = said.choice_id.ok_or_else(|| missing("choice_id"))?;
            PromptAnswer::Choice(choice.into())
        }
        GRANT => {
            // RFC §15.4 has the granted budget here, and the requested resource beside it.
            let amounts = said.cost_budget.filter(|amounts| !amounts.is_empty());
            let amounts = amounts.map(|all| all.iter().map(|Text(text)| text.as_ref()).collect::<Vec<_>>().join(","));
            let resource = amounts.or(said.resource.map(|Text(resource)| resource.into()));
            PromptAnswer::Grant { lease_seconds: said.lease_seconds, resource, once: said.once }
        }
        EXTEND => {
            let seconds = said.requested_seconds.or(said.additional_seconds).and_then(NonZeroU32::new);
            let seconds = seconds.ok_or_else(|| {
                let why = "`requested_seconds` or `additional_seconds` must be 1 or more";
                Violation::invalid(alloc::format!("`{kind}`: {why}"))
            })?;
            PromptAnswer::Extend { seconds, from_end: said.requested_seconds.is_none() }
        }
        REVOKE => PromptAnswer::Revoke { reason: reason() },
        _ => PromptAnswer::Deny { reason: reason() },
    };
    if let PromptAnswer::Extend { .. } | PromptAnswer::Revoke { .. } = answer {
        let lease = said.lease_id.and_then(|Text(id)| WireId::new(&id)).ok_or_else(|| missing("lease_id"))?;
        return Ok(Some(Answering { prompt: lease, answer }));
    }
    let named = said.prompt_id.and_then(|Text(id)| WireId::new(&id));
    let prompt = named.or_else(|| header.correlation.clone()).ok_or_else(|| {
        let why = "what it answers is missing: `correlation_id` names the message, or `prompt_id` the question";
        Violation::invalid(alloc::format!("`{kind}`: {why}"))
    })?;
    Ok(Some(Answering { prompt, answer }))
}

/// The type and payload of a request to be notified of questions.
pub(in crate::wire) fn write_await() -> (&'static str, String) {
    (AWAIT, Object::new().done())
}

/// The type and payload of an answer.
pub(in crate::wire) fn write_answer(answering: &Answering) -> (&'static str, String) {
    let Answering { prompt, answer } = answering;
    let mut payload = Object::new();
    let name = if is_of_lease(answer) { "lease_id" } else { "prompt_id" };
    payload.opt_str(name, correlates(answering).is_none().then_some(prompt.as_str()));
    let kind = match answer {
        PromptAnswer::Value(value) => {
            payload.raw("value", value.as_str());
            VALUE
        }
        PromptAnswer::Choice(choice) => {
            payload.str("choice_id", choice);
            CHOICE
        }
        PromptAnswer::Grant { lease_seconds, resource, once } => {
            payload.opt_str("resource", resource.as_deref());
            if let Some(seconds) = lease_seconds {
                payload.u64("lease_seconds", u64::from(*seconds));
            }
            if *once {
                payload.bool("x-vendor.arcp.once", true);
            }
            GRANT
        }
        PromptAnswer::Extend { seconds, from_end } => {
            let name = if *from_end { "additional_seconds" } else { "requested_seconds" };
            payload.u64(name, u64::from(seconds.get()));
            EXTEND
        }
        PromptAnswer::Revoke { reason } => {
            payload.opt_str("reason", reason.as_deref());
            REVOKE
        }
        PromptAnswer::Deny { reason } => {
            payload.opt_str("reason", reason.as_deref());
            DENY
        }
    };
    (kind, payload.done())
}

/// The message that an answer names, if it names one in place of the question.
pub(in crate::wire) fn correlates(answering: &Answering) -> Option<&WireId> {
    let by_message = !is_of_lease(&answering.answer) && answering.prompt.as_str().parse::<PromptId>().is_err();
    by_message.then_some(&answering.prompt)
}

/// Whether the answer changes a granted permission, and names that.
fn is_of_lease(answer: &PromptAnswer) -> bool {
    match answer {
        PromptAnswer::Extend { .. } | PromptAnswer::Revoke { .. } => true,
        PromptAnswer::Value(_) | PromptAnswer::Choice(_) | PromptAnswer::Grant { .. } | PromptAnswer::Deny { .. } => {
            false
        }
    }
}
