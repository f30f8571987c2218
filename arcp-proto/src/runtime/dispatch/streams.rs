//! Requests about streams: data for an agent, an end, or another rate (RFC §11).

use core::time::Duration;

use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, WireId};
use crate::model::reply::RefusedKind;
use crate::model::request::Cancel;
use crate::model::stream::StreamRequest;
use crate::runtime::Runtime;
use crate::runtime::authority::{Act, Reason};
use crate::runtime::job::{inbound, streams};
use crate::runtime::session::Outcome;

/// The reply to data that the agent gets.
pub(super) const DONE: &str = "taken";

/// Passes what a client sends in a stream to the agent of a job.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_said(asked: &mut RequestHandler<'_>, said: &StreamRequest) -> Result<Outcome, Violation> {
    let Runtime { ctx, sessions, .. } = &*asked.runtime;
    let view = sessions.get(asked.session).ok_or_else(|| Reason::unknown(&ctx.config))?.view();
    if !view.features.has(view.family.streams_with()) {
        let why =
            "streams to agents were not negotiated: offer the capability, which a runtime has whose agents take input";
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let id = asked.permitted(Act::Input, &said.job)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    inbound::say(jobs, ctx, id, asked.session, said)?;
    asked.runtime.carry();
    asked.answer(asked.done(DONE));
    Ok(Outcome::Done)
}

/// Ends a stream without its job.
///
/// # Errors
///
/// Why it does not end, or that it does not exist.
pub(super) fn on_cancel(
    asked: &mut RequestHandler<'_>,
    cancel: &Cancel,
    stream: &WireId,
) -> Result<Outcome, Violation> {
    let id = permitted(asked, Act::Cancel, stream)?;
    if is_of_thoughts(stream) {
        return Err(Violation::new(ErrorCode::Unimplemented, "this stream ends with its job: cancel that"));
    }
    let job = asked.runtime.jobs.get(id).ok_or_else(none)?;
    if !streams::is_open(job, stream.as_str()) {
        return Err(Violation::new(ErrorCode::FailedPrecondition, "the stream is over already"));
    }
    asked.answer(asked.cancel_taken(cancel));
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    streams::cancel(jobs, ctx, id, stream.as_str(), cancel.reason.as_deref());
    asked.runtime.carry();
    Ok(Outcome::Done)
}

impl RequestHandler<'_> {
    /// Sets how often chunks may be sent in a stream of a job (RFC §11.2). Only an owner of the job
    /// may. The rate of the stream of thoughts holds for all events of the agent.
    pub(super) fn on_pace(&mut self, stream: &WireId, every: Option<Duration>) {
        match permitted(self, Act::Pace, stream) {
            Ok(job) if is_of_thoughts(stream) => {
                self.runtime.jobs.table_mut().set_pace(&mut self.runtime.ctx, job, every);
                self.runtime.agents().return_credit(job);
            }
            Ok(job) => {
                let Runtime { ctx, jobs, .. } = &mut *self.runtime;
                streams::pace(jobs, ctx, job, stream.as_str(), every);
                self.runtime.carry();
            }
            Err(violation) => self.refuse(RefusedKind::Frame, violation),
        }
    }
}

/// The job of a stream, if the session may do this to it. Unknown and foreign streams look alike.
fn permitted(asked: &RequestHandler<'_>, act: Act, stream: &WireId) -> Result<JobId, Violation> {
    let job = job_of(stream).ok_or_else(none)?;
    asked.permitted(Act::See, &job).map_err(|_| none())?;
    asked.permitted(act, &job)
}

/// The job of the stream with this id.
fn job_of(stream: &WireId) -> Option<WireId> {
    let rest = stream.as_str().strip_prefix("str_")?;
    WireId::new(&alloc::format!("job_{}", rest.split('_').next()?))
}

/// Whether it is the stream of a job's thoughts.
fn is_of_thoughts(stream: &WireId) -> bool {
    stream.as_str().strip_prefix("str_").is_some_and(|rest| !rest.contains('_'))
}

/// That the stream does not exist.
pub(super) fn none() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such stream")
}
