//! Traces of jobs, as their agents have them.

use super::{AsyncContext, Context};
use crate::trace_context::Caller;

/// The W3C `traceparent` for what a job has others do: in its trace, below its own span.
/// `None` where the trace is not one of W3C: clients of the open family call theirs as
/// they like.
pub fn traceparent(job: &Context) -> Option<String> {
    Caller::of(&job.spec.trace, None, job.spec.unsampled).traceparent(job.job)
}

/// As [`traceparent`], of an async agent.
pub fn traceparent_of(job: &AsyncContext) -> Option<String> {
    traceparent(&job.0)
}
