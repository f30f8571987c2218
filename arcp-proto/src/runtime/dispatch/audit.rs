//! What is written down of the commands of sessions.

use super::requests::RequestHandler;
use crate::error::Violation;
use crate::id::{JobId, LogPos, PromptId};
use crate::json::Json;
use crate::model::prompt::PromptAnswer;
use crate::model::request::{Answering, Command};
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::authority;
use crate::runtime::job::Job;
use crate::runtime::session::Outcome;

/// A command was done or refused: writes down whether somebody was given authority,
/// or used it over others. `before`: the last position before this input.
pub(super) fn note(
    handler: &mut RequestHandler<'_>,
    command: &Command,
    done: &Result<Outcome, Violation>,
    before: LogPos,
) {
    let Some(session) = handler.runtime.sessions.get(handler.session) else {
        return; // The command has ended it.
    };
    let named = |job: &str| JobId::parse(job);
    let (act, job, reason) = match command {
        Command::Submit(..) => (AuditAct::Submit, None, None),
        Command::Cancel(cancel) => (AuditAct::Cancel, named(cancel.target.id().as_str()), cancel.reason.as_deref()),
        Command::Watch(watch) => (AuditAct::Watch, named(watch.job.as_str()), None),
        Command::Subscribe(_) => (AuditAct::Subscribe, None, None),
        Command::Answer(Answering { prompt, answer }) => {
            let of_question = prompt.as_str().parse().ok().or_else(|| PromptId::of_lease(prompt.as_str()));
            let job = of_question.map(|prompt: PromptId| prompt.job);
            match answer {
                PromptAnswer::Value(_) | PromptAnswer::Choice(_) => (AuditAct::Answer, job, None),
                PromptAnswer::Grant { .. } => (AuditAct::Approve, job, None),
                PromptAnswer::Deny { reason } => (AuditAct::Deny, job, reason.as_deref()),
                PromptAnswer::Extend { .. } => (AuditAct::Extend, job, None),
                PromptAnswer::Revoke { reason } => (AuditAct::Revoke, job, reason.as_deref()),
            }
        }
        Command::Evict(eviction) => (AuditAct::Evict, None, eviction.reason.as_deref()),
        Command::Unwatch { .. } | Command::Unsubscribe { .. } => return,
    };
    let principal = session.principal();
    let taken = if let Command::Evict(eviction) = command { eviction.session.as_str().parse().ok() } else { None };
    let entry = AuditEntry { session: Some(handler.session), job, taken, ..AuditEntry::new(act, principal) };
    let entry = entry.because(reason);
    let ctx = &handler.runtime.ctx;
    let entry = match done {
        Err(why) => return handler.runtime.ctx.audit_refused(entry, why),
        Ok(Outcome::Accepted(job)) => {
            // A key that is used again grants nothing.
            let new = |job: &&Job| job.accepted_at() > before && job.spec().lease != Json::empty_object();
            match handler.runtime.jobs.get(*job).filter(new) {
                Some(accepted) => AuditEntry { job: Some(*job), granted: Some(accepted.spec().lease.clone()), ..entry },
                None => return,
            }
        }
        Ok(Outcome::Watching { job, .. }) => {
            let foreign = handler.runtime.jobs.get(*job).is_some_and(|job| job.spec().principal != *principal);
            if !foreign {
                return;
            }
            AuditEntry { job: Some(*job), ..entry }
        }
        Ok(Outcome::Subscribed(_)) if !authority::sees_everything(&ctx.config, principal) => return,
        Ok(Outcome::Subscribed(_) | Outcome::Done) => entry,
        Ok(Outcome::Refused(_)) => return,
    };
    handler.runtime.ctx.audit(entry);
}
