//! Audit entries for the commands of sessions.

use super::answers;
use super::requests::RequestHandler;
use crate::error::Violation;
use crate::id::{JobId, LogPos, Principal, PromptId, SessionId};
use crate::json::Json;
use crate::model::prompt::PromptAnswer;
use crate::model::request::{Answering, Command};
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::authority;
use crate::runtime::job::{Job, grants};
use crate::runtime::session::Outcome;

/// The principal that a command concerns besides its sender: the one that is to get the job, or
/// whose session is to be taken.
pub(super) fn concerned(handler: &RequestHandler<'_>, command: &Command) -> Option<Principal> {
    match command {
        Command::HandOver(wish) => wish.to.clone(),
        Command::Evict(eviction) => {
            let session = SessionId::parse(eviction.session.as_str())?;
            handler.runtime.sessions.get(session).map(|session| session.principal().clone())
        }
        Command::Submit(..)
        | Command::Cancel(_)
        | Command::Interrupt(_)
        | Command::Stream(_)
        | Command::Watch(_)
        | Command::Unwatch { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe { .. }
        | Command::PutArtifact(_)
        | Command::KeepParts(_)
        | Command::ReleaseArtifact { .. }
        | Command::Schedule(_)
        | Command::ChangeSchedule(_)
        | Command::CreateCheckpoint(_)
        | Command::RestoreCheckpoint(_)
        | Command::IssueToken { .. }
        | Command::ExchangeToken(_)
        | Command::Answer(_) => None,
    }
}

/// After a command was done or refused: writes an entry if authority was given, or used over
/// others. `before`: the last position before this input; `to`: the principal that the command
/// concerned then.
pub(super) fn note(
    handler: &mut RequestHandler<'_>,
    command: &Command,
    done: &Result<Outcome, Violation>,
    (before, to): (LogPos, Option<Principal>),
) {
    let Some(session) = handler.runtime.sessions.get(handler.session) else {
        return; // The command has ended the session.
    };
    let named = |job: &str| JobId::parse(job);
    let (act, job, reason) = match command {
        Command::Submit(..) => (AuditAct::Submit, None, None),
        Command::Cancel(cancel) => (AuditAct::Cancel, named(cancel.target.id().as_str()), cancel.reason.as_deref()),
        Command::Interrupt(interrupt) => {
            let job = interrupt.target.job().and_then(|job| named(job.as_str()));
            (AuditAct::Interrupt, job, Some(interrupt.prompt.as_str()).filter(|said| !said.is_empty()))
        }
        Command::Watch(watch) => (AuditAct::Watch, named(watch.job.as_str()), None),
        Command::ExchangeToken(wish) => (AuditAct::Watch, named(wish.token.job().as_str()), None),
        Command::Subscribe(_) => (AuditAct::Subscribe, None, None),
        Command::Answer(answering) => {
            let asked = answered(handler, answering);
            let job = asked.map(|prompt| prompt.job);
            let elevates = |asked: PromptId| grants::elevation(handler.runtime.jobs.get(asked.job)?, asked.number);
            match &answering.answer {
                PromptAnswer::Value(_) | PromptAnswer::Choice(_) => (AuditAct::Answer, job, None),
                PromptAnswer::Grant { .. } if asked.and_then(elevates).is_some() => (AuditAct::Elevate, job, None),
                PromptAnswer::Grant { .. } => (AuditAct::Approve, job, None),
                PromptAnswer::Deny { reason } => (AuditAct::Deny, job, reason.as_deref()),
                PromptAnswer::Extend { .. } => (AuditAct::Extend, job, None),
                PromptAnswer::Revoke { reason } => (AuditAct::Revoke, job, reason.as_deref()),
            }
        }
        Command::Evict(eviction) => (AuditAct::Evict, None, eviction.reason.as_deref()),
        Command::HandOver(wish) => (AuditAct::HandOver, named(wish.job.as_str()), wish.reason.as_deref()),
        Command::Schedule(_) => (AuditAct::Schedule, None, None),
        Command::ChangeSchedule(change) if change.paused => (AuditAct::PauseSchedule, None, Some(change.id.as_str())),
        Command::ChangeSchedule(change) => (AuditAct::ResumeSchedule, None, Some(change.id.as_str())),
        Command::CreateCheckpoint(wish) => (AuditAct::Checkpoint, named(wish.job.as_str()), wish.label.as_deref()),
        Command::RestoreCheckpoint(wish) => (AuditAct::Submit, None, Some(wish.checkpoint.as_str())),
        Command::Unwatch { .. }
        | Command::Stream(_)
        | Command::Unsubscribe { .. }
        | Command::PutArtifact(_)
        | Command::KeepParts(_)
        | Command::IssueToken { .. }
        | Command::ReleaseArtifact { .. } => return,
    };
    let principal = session.principal();
    // A repeated handoff was done before.
    if done.is_ok() && act == AuditAct::HandOver && handler.runtime.ctx.log.last() == before {
        return;
    }
    let taken = if let Command::Evict(eviction) = command { eviction.session.as_str().parse().ok() } else { None };
    let entry = AuditEntry { session: Some(handler.session), job, taken, to, ..AuditEntry::new(act, principal) };
    let runtime = if let Command::HandOver(wish) = command { wish.runtime.clone() } else { None };
    let entry = AuditEntry { runtime, ..entry.because(reason) };
    let ctx = &handler.runtime.ctx;
    let entry = match done {
        Err(why) => return handler.runtime.ctx.audit_refused(entry, why),
        Ok(Outcome::Accepted(job)) => {
            // A repeated submit by key grants nothing.
            let new = |job: &&Job| job.accepted_at() > before && !job.spec().lease.is_empty_object();
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
        Ok(Outcome::Subscribed(_)) if !authority::sees_others(&ctx.config, session.viewer()) => return,
        Ok(Outcome::Subscribed(_) | Outcome::Done) => AuditEntry { granted: granted(handler, command), ..entry },
        Ok(Outcome::Scheduled(id)) => {
            let job = if let Command::Schedule(wish) = command { wish.job.lease_request.clone() } else { None };
            AuditEntry { granted: job, ..entry.because(Some(id.as_str())) }
        }
        Ok(Outcome::Refused(_) | Outcome::Kept(_)) => return,
    };
    handler.runtime.ctx.audit(entry);
}

/// The question or permission that an answer is about, by its own id or that of the message that
/// showed it.
fn answered(handler: &RequestHandler<'_>, answering: &Answering) -> Option<PromptId> {
    let named = &answering.prompt;
    PromptId::of_lease(named.as_str()).or_else(|| answers::prompt_named(handler, named).ok())
}

/// The permission that a command has granted or extended, as it is now.
fn granted(handler: &RequestHandler<'_>, command: &Command) -> Option<Json> {
    let Command::Answer(answering) = command else {
        return None;
    };
    match answering.answer {
        PromptAnswer::Grant { .. } | PromptAnswer::Extend { .. } => {
            let prompt = answered(handler, answering)?;
            grants::shown(handler.runtime.jobs.get(prompt.job)?, prompt.number)
        }
        PromptAnswer::Value(_) | PromptAnswer::Choice(_) | PromptAnswer::Deny { .. } | PromptAnswer::Revoke { .. } => {
            None
        }
    }
}
