//! Trace contexts of jobs, for their agents.

use super::{AsyncContext, Context};
use crate::trace_context::Caller;

/// The W3C `traceparent` for requests that a job makes: in its trace, below its own span. `None` if
/// the trace id is not one of W3C: clients of the open family may use any text.
pub fn traceparent(job: &Context) -> Option<String> {
    Caller::of(&job.spec.trace, None, job.spec.unsampled).traceparent(job.job)
}

/// As [`traceparent`], for an async agent.
pub fn traceparent_of(job: &AsyncContext) -> Option<String> {
    traceparent(&job.0)
}
