//! The agents that submits name.

use crate::error::{ErrorCode, Violation};
use crate::model::agent::AgentRef;
use crate::policy::Subject;
use crate::runtime::context::Context;

/// The agent and version that a submit means, and whether its input is checked. An agent that policy denies the
/// subject looks as if it did not exist.
pub(super) fn resolve(ctx: &Context, who: Subject<'_>, asked: &AgentRef) -> Result<(AgentRef, bool), Violation> {
    let entry = ctx.config.agents.iter().find(|entry| entry.name == asked.name());
    let unknown = || {
        let message = alloc::format!("no agent is called `{}`", asked.name());
        Violation::new(ErrorCode::AgentNotAvailable, message)
    };
    let entry = entry.filter(|_| ctx.config.may_submit(who, asked.name())).ok_or_else(unknown)?;
    Ok((entry.resolve(asked)?, entry.checks_input))
}
