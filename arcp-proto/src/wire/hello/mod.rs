//! The hello family (draft 1.1).
//!
//! Reading is tolerant: every spelling of a published SDK is read. Writing is complete: what is
//! written is the superset that the strictest of them accepts.

mod client_decode;
mod client_encode;
mod events;
mod replies;
mod requests;

use alloc::string::String;

use ulid::Ulid;

use crate::error::{ErrorCode, Violation};
use crate::json::Object;
use crate::model::event::{EventKind, SHOWN_AS};
use crate::model::feature::Feature;
use crate::model::job::JobStatus;
use crate::time::UtcMs;
use crate::wire::View;
use crate::wire::shared::Words;

pub(crate) use client_decode::read_runtime_frame;
pub(crate) use client_encode::write_request;

pub(crate) use events::{prepare, render_event, write_event};
pub(crate) use replies::write_reply;
pub(crate) use requests::{opens, read_request};

/// A feature that only this implementation offers: a client that offers it needs no profile.
const OURS: &str = "x-vendor.arcp.native";
/// The kind of events that show questions to people to clients that cannot answer.
const REQUEST: &str = SHOWN_AS[0];

const OURS_PREFIX: &str = "x-vendor.arcp.";
/// The capability with the retention of artifacts.
const RETENTION: &str = "x-vendor.arcp.artifact_retention";
/// The kind of events that show streams to clients that read no messages of the open family.
const STREAM: &str = SHOWN_AS[1];

/// The kind under which an event is shown, if it is a message of the open family.
fn shown_as(kind: &EventKind) -> Option<&'static str> {
    if kind.is_of_streams() { Some(STREAM) } else { kind.is_of_prompts().then_some(REQUEST) }
}

/// The name of a feature, if this family has one.
fn feature_name(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::Heartbeat
        | Feature::Ack
        | Feature::ListJobs
        | Feature::WatchJobs
        | Feature::LeaseExpiresAt
        | Feature::CostBudget
        | Feature::ModelUse
        | Feature::ProvisionedCredentials
        | Feature::Progress
        | Feature::ResultChunk
        | Feature::AgentVersions => Some(feature.as_str()),
        Feature::CancelAnywhere => Some("x-vendor.arcp.cancel_anywhere"),
        Feature::ListDetails => Some("x-vendor.arcp.list_details"),
        Feature::AgentDetails => Some("x-vendor.arcp.agent_details"),
        Feature::OpenSurfaces => Some("x-vendor.arcp.open_surfaces"),
        Feature::Sessions => Some("x-vendor.arcp.sessions"),
        Feature::AgentHandoff => Some("x-vendor.arcp.agent_handoff"),
        Feature::Artifacts => Some("x-vendor.arcp.artifacts"),
        Feature::Schedules => Some("x-vendor.arcp.scheduled_jobs"),
        Feature::Workflows => Some("x-vendor.arcp.workflows"),
        Feature::Sidecars => Some("x-vendor.arcp.sidecar"),
        Feature::Checkpoints => Some("x-vendor.arcp.checkpoints"),
        Feature::JobTokens => Some("x-vendor.arcp.job_tokens"),
        Feature::BlockOnSilence
        | Feature::FilterSubscriptions
        | Feature::DurableJobs
        | Feature::HumanInput
        | Feature::Interrupts
        | Feature::Streaming
        | Feature::BinaryStreams => None,
    }
}

pub(super) fn feature_named(name: &str) -> Option<Feature> {
    match name {
        "cost_budget" => Some(Feature::CostBudget),
        "model_use" => Some(Feature::ModelUse),
        _ => Feature::ALL.into_iter().find(|feature| feature_name(*feature) == Some(name)),
    }
}

/// The detail of an error that ends its session, for clients that would reconnect: this family has
/// no message for an eviction.
const EVICTED: &str = "evicted";

/// The code that this family writes, and the code of the model if that differs.
fn code_name(code: &ErrorCode) -> (&'static str, Option<&str>) {
    let (own, name) = (code.as_str(), code.in_hello());
    (name, (name != own).then_some(own))
}

/// The `retryable` that strict clients expect for each code: they refuse frames with another one.
fn code_retryable(name: &str) -> bool {
    matches!(name, "INTERNAL_ERROR" | "TIMEOUT")
}

fn words(view: &View) -> Words<'_> {
    let exact = view.features.has(Feature::ListDetails);
    Words { view, status: if exact { JobStatus::as_str } else { status_word }, is_trace }
}

/// The status of a job for clients that know only 1.1, which has no blocked and paused jobs.
fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Blocked | JobStatus::Paused => JobStatus::Running.as_str(),
        JobStatus::Pending | JobStatus::Running | JobStatus::Ended(_) => status.as_str(),
    }
}

/// Reads a trace id: 32 lower-case hex digits, or the trace of a W3C traceparent. All zeros mean
/// none: disabled tracers write them.
fn trace_id(text: &str) -> Result<Option<String>, Violation> {
    let id = if text.contains('-') { Traceparent::parse(text).map_or("", |parent| parent.trace) } else { text };
    if id.len() == 32 && id.bytes().all(|digit| digit == b'0') {
        return Ok(None);
    }
    is_trace(id)
        .then(|| Some(String::from(id)))
        .ok_or_else(|| Violation::invalid("`trace_id` must be 32 lower-case hex digits, or a W3C traceparent"))
}

fn is_trace(id: &str) -> bool {
    id.len() == 32 && is_some_hex(id)
}

/// The trace of a frame. The open family allows any text, which strict clients of this one refuse.
fn shown_trace(trace: Option<&str>) -> Option<&str> {
    trace.filter(|trace| is_trace(trace))
}

/// Whether the digits are lower-case hex, and not all zeros.
fn is_some_hex(digits: &str) -> bool {
    // Loops without an early exit are vectorised.
    let hex = |are, c: u8| are & ((c.wrapping_sub(b'0') < 10) | (c.wrapping_sub(b'a') < 6));
    let some = |set, c: u8| set | (c ^ b'0');
    digits.bytes().fold(true, hex) && digits.bytes().fold(0, some) != 0
}

/// A W3C traceparent: `VERSION-TRACE-SPAN-FLAGS`.
struct Traceparent<'a> {
    trace: &'a str,
    span: &'a str,
    flags: &'a str,
}

impl<'a> Traceparent<'a> {
    fn parse(text: &'a str) -> Option<Traceparent<'a>> {
        let mut parts = text.split('-').skip(1);
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = span.len() == 16 && flags.len() == 2 && parts.next().is_none();
        is_whole.then_some(Traceparent { trace, span, flags })
    }

    /// The span of the caller; all zeros mean none.
    fn span(&self) -> Option<&'a str> {
        Some(self.span).filter(|span| is_some_hex(span))
    }

    /// Whether the caller may have recorded its trace. Unreadable flags count as yes.
    fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.flags, 16).map_or(true, |flags| flags & 1 == 1)
    }
}

/// The beginning of a frame, up to the payload.
struct Envelope<'a> {
    id: Id<'a>,
    kind: &'a str,
    at: Option<UtcMs>,
    session: Option<Id<'a>>,
    job: Option<&'a str>,
    trace: Option<&'a str>,
    correlation: Option<&'a str>,
    seq: Option<u64>,
}

/// An id in a frame.
enum Id<'a> {
    Text(&'a str),
    /// A prefix and a ULID, which are written in place.
    Ulid(&'static str, Ulid),
}

impl Id<'_> {
    fn write(&self, frame: &mut Object, name: &'static str) {
        match self {
            Id::Text(text) => frame.str(name, text),
            Id::Ulid(prefix, ulid) => frame.id(name, prefix, *ulid),
        };
    }
}

fn message_id<'a>(id: Ulid) -> Id<'a> {
    Id::Ulid("msg_", id)
}

/// When a message was made, for clients that need a timestamp.
fn timestamp(view: &View, id: Ulid) -> Option<UtcMs> {
    view.profile.wants_timestamps().then(|| UtcMs(id.timestamp_ms()))
}

impl Envelope<'_> {
    fn around(&self, payload: &str) -> String {
        let mut frame = Object::with_capacity(payload.len() + 256);
        frame.raw("arcp", r#""1.1""#);
        self.id.write(&mut frame, "id");
        frame.str("type", self.kind);
        if let Some(at) = self.at {
            frame.time("timestamp", at);
        }
        if let Some(session) = &self.session {
            session.write(&mut frame, "session_id");
        }
        frame.opt_str("job_id", self.job);
        frame.opt_str("trace_id", self.trace);
        frame.opt_str("correlation_id", self.correlation);
        if let Some(seq) = self.seq {
            frame.u64("event_seq", seq);
        }
        frame.raw("payload", payload);
        frame.done()
    }
}
