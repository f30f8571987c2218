//! Members of a submit in the open family besides agent and input.

use alloc::string::{String, ToString as _};

use super::requests::{self, max_runtime, object};
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Json, Members, Object, Raw, Text};
use crate::model::request::Submit;
use crate::wire::envelope::Header;

/// Members of a submit besides agent and input.
pub(in crate::wire) struct Terms<'a> {
    pub(in crate::wire) cost_budget: Option<Raw<'a>>,
    pub(in crate::wire) model_use: Option<Raw<'a>>,
    pub(in crate::wire) lease_request: Option<Raw<'a>>,
    pub(in crate::wire) lease_constraints: Option<Raw<'a>>,
    pub(in crate::wire) max_runtime_sec: Option<u64>,
    pub(in crate::wire) key: Option<Text<'a>>,
}

/// Completes a submit with these members and those of the envelope.
pub(in crate::wire) fn submit_on(header: &Header<'_>, terms: Terms<'_>, submit: Submit) -> Result<Submit, Violation> {
    let key = match header.key.as_deref() {
        Some(key) => Some(Text(key.into())),
        None => terms.key,
    };
    let lease = object("lease_request", terms.lease_request)?;
    let constraints = object("lease_constraints", terms.lease_constraints)?.or_else(|| expiry_within(lease.as_ref()));
    let lease = with_budgets(lease, terms.cost_budget, terms.model_use)?;
    // Disabled tracers write zeros.
    let trace = header.trace.as_deref().filter(|trace| trace.len() != 32 || trace.bytes().any(|digit| digit != b'0'));
    let trace = trace.map(|trace| free_text("trace_id", trace)).transpose()?;
    Ok(Submit {
        lease_request: lease,
        lease_constraints: constraints,
        key: requests::key(key)?,
        max_runtime: max_runtime(terms.max_runtime_sec)?,
        trace,
        ..submit
    })
}

pub(in crate::wire) fn free_text(name: &str, text: &str) -> Result<String, Violation> {
    if !(1..=WireId::MAX).contains(&text.len()) {
        return Err(Violation::invalid(alloc::format!("`{name}` must have 1 to {} bytes", WireId::MAX)));
    }
    Ok(text.to_string())
}

/// The end of a lease that a client put into the lease itself.
fn expiry_within(lease: Option<&Json>) -> Option<Json> {
    let members = lease?.members().ok()?;
    let at = members.get("expires_at").filter(|at| *at != "null")?;
    let mut constraints = Object::new();
    constraints.raw("expires_at", at);
    Some(constraints.json())
}

/// The list of patterns in an object that one published client writes around it.
fn patterns(value: &str) -> &str {
    Members::parse(value).ok().and_then(|around| around.get("patterns")).unwrap_or(value)
}

/// The requested lease with the names of 1.1: published clients write them with `_`, and some of
/// them beside the lease.
pub(super) fn with_budgets(
    lease: Option<Json>,
    cost: Option<Raw<'_>>,
    models: Option<Raw<'_>>,
) -> Result<Option<Json>, Violation> {
    const NAMES: [(&str, &str); 7] = [
        ("cost_budget", "cost.budget"),
        ("model_use", "model.use"),
        ("fs_read", "fs.read"),
        ("fs_write", "fs.write"),
        ("net_fetch", "net.fetch"),
        ("tool_call", "tool.call"),
        ("agent_delegate", "agent.delegate"),
    ];
    if lease.is_none() && cost.is_none() && models.is_none() {
        return Ok(None);
    }
    let mut out = Object::new();
    let mut any = false;
    let members = lease.as_ref().map(|lease| lease.members()).transpose();
    let members = members.map_err(|e| Violation::invalid(alloc::format!("`lease_request`: {e}")))?.unwrap_or_default();
    let beside = [("cost.budget", cost), ("model.use", models)];
    let beside = beside.into_iter().filter_map(|(name, raw)| Some((name, raw?.get())));
    let inside = members.0.iter().map(|(name, value)| {
        let known = NAMES.iter().find(|(snake, _)| *snake == name.as_ref());
        (known.map_or(name.as_ref(), |(_, dotted)| *dotted), *value)
    });
    for (name, value) in inside.chain(beside) {
        // A published client puts the end of the lease into the lease.
        if value != "null" && value != "[]" && name != "expires_at" {
            any = true;
            out.member(name, if name == "model.use" { patterns(value) } else { value });
        }
    }
    if !any {
        return Ok(None);
    }
    let lease = out.json();
    lease.members().map_err(|_| Violation::invalid("`lease_request`: the same thing is asked for twice"))?;
    Ok(Some(lease))
}
