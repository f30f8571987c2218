//! Why jobs end, and what their terminal event says.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};

use super::{Job, JobState};
use crate::error::ErrorCode;
use crate::id::JobId;
use crate::json::{Json, Object};
use crate::model::event::{JobError, Terminal};
use crate::model::handoff::{Destination, key};
use crate::model::job::FinalStatus;

/// Why a job ends. The first cause counts, but a cancelled job ends as cancelled whatever comes after that, unless it
/// is handed over or in doubt.
#[derive(Debug)]
pub(super) enum Cause {
    /// It was cancelled, and its agent did not stop in time.
    GraceOver,
    /// It was cancelled before its agent was started.
    Cancelled,
    /// Its time limit was reached.
    TimeLimit,
    /// Its lease has expired.
    LeaseExpired,
    /// Its agent broke a rule, fell silent or cannot go on; or a hard budget is used up.
    Failed(JobError),
    /// Its agent is gone.
    Exited(Terminal),
    /// Another runtime has it.
    HandedOver(Box<Destination>),
    /// The named runtime may or may not have it: its answer was lost.
    InDoubt(Box<str>),
}

impl Cause {
    /// A failure of the agent, or of its environment.
    pub(super) fn failed(message: &str) -> Cause {
        Cause::Failed(JobError::new(ErrorCode::Internal, message))
    }

    /// The final status of an unended job that ends for this cause.
    pub(super) fn status(&self, job: &Job) -> FinalStatus {
        match self {
            Cause::HandedOver(_) | Cause::InDoubt(_) => FinalStatus::Error,
            Cause::GraceOver | Cause::Cancelled => FinalStatus::Cancelled,
            _ if job.state.is_cancelling() => FinalStatus::Cancelled,
            Cause::TimeLimit => FinalStatus::TimedOut,
            Cause::LeaseExpired => FinalStatus::Error,
            Cause::Failed(error) => Terminal::failure(error.clone()).status,
            Cause::Exited(terminal) => terminal.status,
        }
    }

    /// The terminal event of an unended job.
    pub(super) fn terminal(self, job: &Job) -> Option<Terminal> {
        match (&job.state, self) {
            (JobState::Ended(_), _) => None,
            // A cancel that came too late does not change this.
            (_, Cause::HandedOver(to)) => Some(handed_over(&to)),
            (state, Cause::InDoubt(to)) => {
                let (message, details) = in_doubt(job.id, &to);
                let code = if state.is_cancelling() { ErrorCode::Aborted } else { ErrorCode::Unavailable };
                Some(Terminal::failure(JobError {
                    details: Some(details),
                    retryable: false,
                    ..JobError::new(code, message)
                }))
            }
            (JobState::Cancelling(reason), Cause::GraceOver) => Some(cancelled(ErrorCode::Aborted, reason.as_deref())),
            (JobState::Cancelling(reason), _) => Some(cancelled(ErrorCode::Cancelled, reason.as_deref())),
            (_, Cause::GraceOver | Cause::Cancelled) => {
                debug_assert!(false, "whoever cancels says so first");
                Some(cancelled(ErrorCode::Cancelled, None))
            }
            (_, Cause::TimeLimit) => {
                let limit = job.spec.bounds.max_runtime.map_or(0, |limit| limit.get());
                let why = alloc::format!("the time limit of {limit} s was reached");
                Some(Terminal::failure(JobError::new(ErrorCode::Timeout, why)))
            }
            (_, Cause::LeaseExpired) => {
                let why = match job.spec.bounds.constraints.expires_at {
                    Some(at) => alloc::format!("the lease ended at {at}"),
                    None => "the lease is over".to_string(),
                };
                Some(Terminal::failure(JobError::new(ErrorCode::LeaseExpired, why)))
            }
            (_, Cause::Failed(error)) => Some(Terminal::failure(error)),
            (_, Cause::Exited(terminal)) => Some(terminal),
        }
    }
}

/// The end of a job that another runtime has taken.
fn handed_over(to: &Destination) -> Terminal {
    let Destination { runtime, job, .. } = to;
    let message = alloc::format!("handed over to the runtime `{runtime}`, where it is {job}");
    let error = JobError { details: Some(to.to_json()), ..JobError::new(ErrorCode::Cancelled, message) };
    Terminal::failure(JobError { retryable: false, ..error })
}

/// The error of a job that a runtime may have, with the key by which to look for it there.
fn in_doubt(job: JobId, to: &str) -> (String, Json) {
    let key = key(job);
    let key = key.as_str();
    let message = alloc::format!(
        "whether the runtime `{to}` has the job is not known: look there for the key {key} before you submit it again"
    );
    let mut details = Object::new();
    details.object("in_doubt", |details| {
        details.str("runtime", to).str("idempotency_key", key);
    });
    (message, details.json())
}

/// A rule that an agent broke: its job fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) &'static str);

impl From<Fault> for Cause {
    fn from(Fault(why): Fault) -> Cause {
        Cause::failed(why)
    }
}

/// The end of a cancelled job, whether its agent stopped or not.
fn cancelled(code: ErrorCode, reason: Option<&str>) -> Terminal {
    let mut message = match reason {
        Some(reason) if !reason.is_empty() => alloc::format!("cancelled: {reason}"),
        Some(_) | None => "cancelled".to_string(),
    };
    if code == ErrorCode::Aborted {
        message.push_str("; the agent did not stop in time");
    }
    Terminal { reason: reason.map(Into::into), ..Terminal::failure(JobError::new(code, message)) }
}
