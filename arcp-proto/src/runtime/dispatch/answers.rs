//! Answers to questions of jobs (RFC §12, §15.4).

use alloc::string::ToString as _;

use super::requests::RequestHandler;
use crate::error::Violation;
use crate::id::{PromptId, WireId};
use crate::json::Json;
use crate::model::prompt::PromptAnswer;
use crate::model::request::Answering;
use crate::runtime::Runtime;
use crate::runtime::authority::{self, Act};
use crate::runtime::connection::Checked;
use crate::runtime::job::grants;
use crate::runtime::job::prompt::{self, Answerable, Answerer};
use crate::runtime::job::prompts;
use crate::runtime::job::raises;
use crate::runtime::session::Outcome;
use crate::time::UtcMs;

/// The reply to an answer that was accepted.
pub(super) const DONE: &str = "answered";

/// Handles an answer. `None`: the host has to check it first, and it is handled again then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_answer(asked: &mut RequestHandler<'_>, answering: &Answering) -> Result<Option<Outcome>, Violation> {
    let Answering { prompt, answer } = answering;
    if let PromptAnswer::Extend { .. } | PromptAnswer::Revoke { .. } = answer {
        return on_lease(asked, answering).map(Some);
    }
    let id = prompt_named(asked, prompt)?;
    asked.permitted(Act::Answer, &id.job.into())?;
    let Runtime { ctx, jobs, .. } = &*asked.runtime;
    let most = ctx.config.limits.prompt.answer_bytes;
    let job = jobs.get(id.job).ok_or_else(prompts::unknown)?;
    if let (Answerable::Check(schema), PromptAnswer::Value(value)) =
        (prompt::check_answer(job, most, id.number, answer)?, answer)
        && !fits(asked, id, schema, value)?
    {
        return Ok(None);
    }
    let until = may_grant(asked, id, answer)?;
    let principal = asked.runtime.sessions.get(asked.session).map(|session| session.principal().to_string());
    let by = &principal.ok_or_else(prompts::unknown)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    prompt::answer(jobs, ctx, id, answer.clone(), Answerer { by, session: asked.session, until });
    asked.runtime.carry();
    asked.answer(asked.done(DONE));
    Ok(Some(Outcome::Done))
}

/// Extends or revokes a permission. Whoever may answer the question may do that.
fn on_lease(asked: &mut RequestHandler<'_>, answering: &Answering) -> Result<Outcome, Violation> {
    let Answering { prompt, answer } = answering;
    let id = PromptId::of_lease(prompt.as_str()).ok_or_else(grants::unknown)?;
    asked.permitted(Act::Answer, &id.job.into())?;
    let until = may_grant(asked, id, answer)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    grants::change(jobs, ctx, id, answer, until)?;
    asked.runtime.carry();
    asked.answer(asked.done(DONE));
    Ok(Outcome::Done)
}

/// Until when the session may grant at most what it grants; `None`: until the job ends.
fn may_grant(asked: &mut RequestHandler<'_>, id: PromptId, answer: &PromptAnswer) -> Result<Option<UtcMs>, Violation> {
    let Runtime { ctx, jobs, sessions, .. } = &mut *asked.runtime;
    let job = jobs.get(id.job).ok_or_else(prompts::unknown)?;
    let session = sessions.get(asked.session).ok_or_else(prompts::unknown)?;
    let ceilings = session.allowance().ceilings();
    let trusted = authority::trust(&ctx.config, session.principal(), &ceilings);
    if let PromptAnswer::Grant { .. } | PromptAnswer::Extend { .. } = answer {
        authority::may_grant(&ctx.config, session.subject(), job)?;
    }
    let (who, bounds) = (session.subject(), (ceilings, trusted));
    let until =
        ctx.prove(session.principal(), |ctx, fuel| grants::check(ctx, job, id.number, answer, who, bounds, fuel))?;
    raises::check(ctx, jobs, id, answer, (who, ceilings))?;
    Ok(until)
}

/// Whether a value was checked and fits; false: the check has begun.
fn fits(asked: &mut RequestHandler<'_>, id: PromptId, schema: Json, value: &Json) -> Result<bool, Violation> {
    let of = Checked::Answer(id, schema);
    let Runtime { ctx, connections, sessions, .. } = &mut *asked.runtime;
    if let Some(verdict) = connections.get_mut(asked.conn).and_then(|conn| conn.take_verdict(&of)) {
        return verdict.map(|()| true);
    }
    let session = sessions.get(asked.session).ok_or_else(prompts::unknown)?;
    connections.begin_check(ctx, (asked.conn, session.principal()), of, value)?;
    Ok(false)
}

/// The question with this id, or in the message with this id.
pub(super) fn prompt_named(asked: &RequestHandler<'_>, named: &WireId) -> Result<PromptId, Violation> {
    if let Ok(id) = named.as_str().parse() {
        return Ok(id);
    }
    let Runtime { ctx, jobs, delivery, .. } = &*asked.runtime;
    let behind = delivery.feeds.event_of_message(ctx, jobs, asked.session, named);
    let (job, event) = behind.ok_or_else(prompts::unknown)?;
    let number = jobs.get(job).and_then(|known| prompts::number_of(known, event)).ok_or_else(prompts::unknown)?;
    Ok(PromptId { job, number })
}
