//! Creation of spans, with all fields that are recorded later.

use arcp_proto::id::{JobId, SessionId};
use arcp_proto::runtime::JobRecord;
use tracing::Span;
use tracing::field::{Empty, display};

use super::TARGET;
use crate::trace_context::{Caller, SpanContext};

/// The span of a session, which begins at the time in its id.
pub(super) fn session(session: SessionId) -> Span {
    let at = SpanContext::of_session(session);
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "arcp.session",
        otel.kind = "server",
        trace_id = %at.trace(),
        span_id = %at.span(),
        started_at_ms = session.ulid().timestamp_ms(),
        unfinished = Empty,
        arcp.session_id = %session,
        arcp.principal = Empty,
        arcp.client = Empty,
    )
}

/// The place of a job's span: its parent, its link and its caller.
pub(super) struct Place {
    pub(super) at: SpanContext,
    pub(super) parent: Option<SpanContext>,
    /// The span of the parent job, if that is in another trace.
    pub(super) linked: Option<SpanContext>,
    pub(super) caller: Caller,
}

/// The span of a job.
pub(super) fn job(record: &JobRecord, place: &Place, parent: &Span) -> Span {
    let Place { at, parent: above, linked, caller } = place;
    let linked = linked.unwrap_or(SpanContext::of_session(record.session));
    let bounds = &record.bounds;
    tracing::info_span!(
        target: TARGET,
        parent: parent,
        "arcp.job",
        otel.kind = "server",
        otel.status_code = Empty,
        trace_id = %at.trace(),
        span_id = %at.span(),
        parent_span_id = above.map(|above| display(above.span())),
        link_trace_id = %linked.trace(),
        link_span_id = %linked.span(),
        sampled = caller.sampled,
        started_at_ms = record.created_at.0,
        unfinished = Empty,
        arcp.session_id = %record.session,
        arcp.job_id = %record.job,
        arcp.parent_job_id = bounds.parent.as_ref().map(|parent| display(parent.job)),
        arcp.trace_id = record.trace.as_str(),
        arcp.principal = %record.principal,
        arcp.agent = %record.agent,
        arcp.lease.capabilities = Empty,
        arcp.lease.expires_at = bounds.constraints.expires_at.map(display),
        arcp.budget.remaining = Empty,
        arcp.status = Empty,
        arcp.error.code = Empty,
    )
}

/// The span of a delegation.
pub(super) fn delegation(record: &JobRecord, at: SpanContext, above: SpanContext, parent: &Span) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: parent,
        "arcp.delegate",
        otel.kind = "client",
        trace_id = %at.trace(),
        span_id = %at.span(),
        parent_span_id = %above.span(),
        started_at_ms = record.created_at.0,
        unfinished = Empty,
        arcp.job_id = record.bounds.parent.as_ref().map(|parent| display(parent.job)),
        arcp.child_job_id = %record.job,
        arcp.agent = %record.agent,
        arcp.status = Empty,
    )
}

/// The span of an operation below another span, or in a trace of its own.
pub(super) fn operation(parent: &Span, name: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: parent,
        "arcp.operation",
        otel.name = name,
        otel.status_code = Empty,
        arcp.job_id = Empty,
        arcp.agent = Empty,
        arcp.restarts = Empty,
        arcp.scheme = Empty,
        arcp.principal = Empty,
        arcp.tool = Empty,
        arcp.call_id = Empty,
        arcp.namespace = Empty,
        arcp.child_job_id = Empty,
        arcp.outcome = Empty,
        arcp.error.code = Empty,
    )
}

/// The span of an operation of a job.
pub(super) fn operation_of(job: JobId, parent: &Span, name: &'static str) -> Span {
    let span = operation(parent, name);
    span.record("arcp.job_id", display(job));
    span
}

/// Marks a failed span as an error.
pub(super) fn fail(span: &Span, failed: bool) {
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// Marks a span as unfinished: another process reports its end.
pub(super) fn leave(span: &Span) {
    span.record("unfinished", true);
}

/// Adds an event to a span.
pub(super) fn note(span: &Span, what: &'static str) {
    tracing::info!(target: TARGET, parent: span, "{what}");
}
