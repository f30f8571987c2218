//! Requests for checkpoints, and for jobs that begin at them (RFC §19).

use super::policy;
use super::requests::RequestHandler;
use super::submit::submit_at;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, WireId};
use crate::json::Json;
use crate::lease::Lease;
use crate::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, RestoreCheckpoint};
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, RefusedKind, Reply, SessionReply};
use crate::model::request::{Invocation, Submit};
use crate::runtime::Runtime;
use crate::runtime::authority::{Act, Reason};
use crate::runtime::checkpoint_records::BegunAt;
use crate::runtime::job::checkpoint::{self, Asked, Asker};
use crate::runtime::job::{Job, begun_by, lease};
use crate::runtime::session::Outcome;

/// Asks the agent of a job for a checkpoint. The request is answered once that is durable.
///
/// # Errors
///
/// Why the agent is not asked.
pub(super) fn on_create(asked: &mut RequestHandler<'_>, wish: &CreateCheckpoint) -> Result<Outcome, Violation> {
    check_negotiated(asked)?;
    let id = asked.permitted(Act::Checkpoint, &wish.job)?;
    let asker = asker(asked)?;
    if let Some(made) = made_before(asked, id, &asker) {
        answer(asked, made);
        return Ok(Outcome::Done);
    }
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    let job = jobs.get(id).ok_or_else(|| Reason::unknown(&ctx.config))?;
    checkpoint::check(job, ctx)?;
    let (session, request) = (asked.session, asked.id.clone());
    checkpoint::ask(jobs, ctx, id, Asked { session, by: asker.by, request, label: wish.label.clone() });
    asked.runtime.carry();
    Ok(Outcome::Done)
}

/// Handles a repeated message: answers with the checkpoint that was made for it, or lets it wait
/// on.
///
/// # Errors
///
/// If no checkpoint was made for it in time.
pub(super) fn create_again(asked: &mut RequestHandler<'_>, wish: &CreateCheckpoint) -> Result<(), Violation> {
    let id = asked.permitted(Act::Checkpoint, &wish.job)?;
    let asker = asker(asked)?;
    if let Some(made) = made_before(asked, id, &asker) {
        answer(asked, made);
        return Ok(());
    }
    if checkpoint::goes_on_waiting(&mut asked.runtime.jobs, id, &asker, &asked.id) {
        return Ok(());
    }
    let why = "no checkpoint was made for this message, or it is kept no more: ask again under a new id";
    Err(Violation::new(ErrorCode::FailedPrecondition, why))
}

/// The checkpoint that was made for this message before, possibly by an earlier run of the runtime.
fn made_before(asked: &RequestHandler<'_>, id: JobId, asker: &Asker) -> Option<CheckpointRef> {
    checkpoint::made_for(asked.runtime.jobs.get(id)?, asker, &asked.id)
}

fn asker(asked: &RequestHandler<'_>) -> Result<Asker, Violation> {
    let session = asked.runtime.sessions.get(asked.session);
    let session = session.ok_or_else(|| Violation::invalid("the session is gone"))?;
    let (by, id_is_of_principal) = (session.principal().clone(), session.view().ids_are_of_principal());
    Ok(Asker { by, session: asked.session, id_is_of_principal })
}

fn answer(asked: &mut RequestHandler<'_>, checkpoint: CheckpointRef) {
    let request = Some(asked.id.clone());
    asked.answer(Reply::Command(CommandReply::Checkpoint { checkpoint, request }));
}

impl RequestHandler<'_> {
    /// Lists the kept checkpoints of a job.
    pub(super) fn on_list_checkpoints(&mut self, job: &WireId) {
        let permitted = check_negotiated(self).and_then(|()| self.permitted(Act::See, job));
        match permitted {
            Ok(id) => {
                let kept = self.runtime.jobs.get(id).map(|job| checkpoint::all(job).collect());
                let (request, checkpoints) = (Some(self.id.clone()), kept.unwrap_or_default());
                let list = CheckpointList { request, job: id.into(), checkpoints };
                self.answer(Reply::Session(SessionReply::Checkpoints(list)));
            }
            Err(violation) => self.refuse(RefusedKind::Listing, violation),
        }
    }
}

/// Submits a job that begins at a checkpoint of another job of the same principal. It is checked as
/// a submit of the same agent, with the same input and what is left of the same lease. `None`: the
/// host has to check the input first, and the request is handled again then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_restore(
    asked: &mut RequestHandler<'_>,
    wish: &RestoreCheckpoint,
    command: [u8; 32],
) -> Result<Option<Outcome>, Violation> {
    check_negotiated(asked)?;
    let (from, event) = checkpoint::named(&wish.checkpoint).ok_or_else(unknown)?;
    if let Some(known) = known_by_key(asked, wish, &BegunAt { job: from, event })? {
        asked.rejoin(known)?;
        return Ok(Some(Outcome::Accepted(known)));
    }
    let from = asked
        .permitted(Act::Restore, &from.into())
        .map_err(|why| if why.code == ErrorCode::JobNotFound { unknown() } else { why })?;
    let Runtime { ctx, jobs, .. } = &*asked.runtime;
    let job = jobs.get(from).ok_or_else(unknown)?;
    if !ctx.config.restarts(&job.spec().agent) {
        let why = alloc::format!("`{}` cannot go on from a checkpoint any more", job.spec().agent.name());
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let (beginning, input, extensions) = checkpoint::beginning(job, event).ok_or_else(unknown)?;
    check_lasts(job, ctx.now.utc)?;
    let spec = job.spec();
    let submit = Submit {
        input: Some(input),
        lease_request: left_of(job),
        lease_constraints: (!spec.bounds.constraints.is_none()).then(|| spec.bounds.constraints.to_json()),
        key: wish.key.clone(),
        max_runtime: spec.bounds.max_runtime,
        parent: spec.parent().map(Into::into),
        trace: Some(spec.trace.clone()),
        ..Submit::new(spec.agent.clone())
    };
    let invocation = Invocation { extensions, ..spec.invocation.clone() };
    let done = submit_at(asked, (&submit, &invocation), command, Some(&beginning));
    if let Err(violation) = &done {
        policy::note_refused(asked.runtime, asked.session, &submit, violation);
    }
    done
}

/// The job of the request's key, if it was submitted before, even if the checkpoint is gone by now.
fn known_by_key(
    asked: &RequestHandler<'_>,
    wish: &RestoreCheckpoint,
    at: &BegunAt,
) -> Result<Option<JobId>, Violation> {
    let session = asked.runtime.sessions.get(asked.session);
    let Some((session, key)) = session.zip(wish.key.as_ref()) else {
        return Ok(None);
    };
    let principal = session.principal();
    let Some(known) = begun_by(&asked.runtime.jobs, principal, key, at)? else {
        return Ok(None);
    };
    if asked.runtime.jobs.get(known).is_some_and(|job| job.spec().principal != *principal) {
        let given = "the job of this key was handed over: use a new one to run it again";
        return Err(Violation::new(ErrorCode::FailedPrecondition, given));
    }
    Ok(Some(known))
}

/// Checks that the lease of a job has not expired, and its budget is not used up.
fn check_lasts(job: &Job, now: crate::time::UtcMs) -> Result<(), Violation> {
    if job.spec().bounds.constraints.is_over(now) {
        let why = "the lease of the job has ended whose checkpoint it is: submit it anew";
        return Err(Violation::new(ErrorCode::LeaseExpired, why));
    }
    if let Some(currency) = lease::budget_left(job).used_up() {
        let why = alloc::format!("no {currency} is left of the budget of the job whose checkpoint it is");
        return Err(Violation::new(ErrorCode::BudgetExhausted, why));
    }
    Ok(())
}

/// The lease of a job, with what is left of its budget; `None` if none was requested.
fn left_of(job: &Job) -> Option<Json> {
    let granted = &job.spec().lease;
    if granted.is_empty_object() {
        return None;
    }
    let bounded = Lease::parse(granted).ok().filter(|lease| !lease.budget().is_empty());
    let left = bounded.map(|lease| lease.spending(lease::budget_left(job)).to_json());
    Some(left.unwrap_or_else(|| granted.clone()))
}

fn check_negotiated(asked: &RequestHandler<'_>) -> Result<(), Violation> {
    let session = asked.runtime.sessions.get(asked.session);
    if session.is_some_and(|session| session.view().features.has(Feature::Checkpoints)) {
        return Ok(());
    }
    let why = "checkpoints were not negotiated: offer the capability `checkpoints`, which a runtime has whose agents \
               can go on from them";
    Err(Violation::new(ErrorCode::Unimplemented, why))
}

fn unknown() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such checkpoint is kept")
}
