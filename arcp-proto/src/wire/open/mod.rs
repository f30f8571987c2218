//! The open family (RFC-0001-v2 with the additions of 1.1).
//!
//! Reading is tolerant, writing is exact: the published Rust client drops its connection at the
//! first frame that it cannot decode.

mod client_decode;
mod client_encode;
mod events;
mod replies;
mod requests;
mod subscriptions;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use ulid::Ulid;

use crate::error::ErrorCode;
use crate::id::{IdText, WireId, prefixed};
use crate::json::{Object, Text};
use crate::model::feature::{Feature, Features};
use crate::model::job::{FinalStatus, JobStatus};
use crate::model::request::Priority;
use crate::time::UtcMs;
use crate::wire::shared::Words;
use crate::wire::{Profile, View};

pub(crate) use client_decode::read_runtime_frame;
pub(crate) use client_encode::write_request;
pub(crate) use events::{prepare, render_event, write_event};
pub(crate) use replies::write_reply;
pub(crate) use requests::{is_own, opens, read_request};
pub(crate) use subscriptions::{observed_type, observed_types, write_boundary, write_observed};

/// Features that every session of this family has: no capability stands for their messages.
pub(crate) const IMPLIED: Features =
    Features::new(&[Feature::Ack, Feature::ListJobs, Feature::WatchJobs, Feature::Progress, Feature::AgentVersions]);

/// The extension of peers that read the error codes of 1.1.
const TYPES: &str = "arcpx.arcp.types.v1";

/// The capability with the encodings of bytes.
const BINARY_ENCODING: &str = "binary_encoding";

/// The encodings of a peer that takes sidecars; every peer reads the first.
const ENCODINGS: [&str; 2] = ["base64", "sidecar"];

/// The sidecar feature, if a peer's list of encodings has it.
fn names_sidecars(list: &str) -> Option<Feature> {
    let names: Vec<Text<'_>> = serde_json::from_str(list).ok()?;
    names.iter().any(|Text(name)| name == "sidecar").then_some(Feature::Sidecars)
}

/// The extensions for features without a capability in the RFC.
const EXTENSIONS: [(Feature, &str); 6] = [
    (Feature::CancelAnywhere, "arcpx.arcp.cancel_anywhere.v1"),
    (Feature::ListDetails, "arcpx.arcp.list_details.v1"),
    (Feature::AgentDetails, "arcpx.arcp.agent_details.v1"),
    (Feature::Sessions, "arcpx.arcp.sessions.v1"),
    (Feature::Workflows, "arcpx.arcp.workflows.v1"),
    (Feature::JobTokens, "arcpx.arcp.job_tokens.v1"),
];

/// The feature of an extension.
fn extension_feature(name: &str) -> Option<Feature> {
    EXTENSIONS.into_iter().find(|(_, known)| *known == name).map(|(feature, _)| feature)
}

/// The feature of a capability or extension.
pub(super) fn feature_named(name: &str) -> Option<Feature> {
    capability_named(name).or_else(|| extension_feature(name))
}

/// The extensions of these features.
fn extension_names<'a>(features: Features) -> impl Iterator<Item = &'a str> {
    EXTENSIONS.into_iter().filter(move |(feature, _)| features.has(*feature)).map(|(_, name)| name)
}

/// The capability of a feature, if it is a boolean.
fn capability_name(feature: Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::ResultChunk => "result_chunk",
        Feature::CostBudget => "cost_budget",
        Feature::ModelUse => "model_use",
        Feature::ProvisionedCredentials => "provisioned_credentials",
        Feature::FilterSubscriptions => "subscriptions",
        Feature::DurableJobs => "durable_jobs",
        Feature::HumanInput => "human_input",
        Feature::Interrupts => "interrupt",
        Feature::AgentHandoff => "agent_handoff",
        Feature::Artifacts => "artifacts",
        Feature::Schedules => "scheduled_jobs",
        Feature::Streaming => "streaming",
        Feature::BinaryStreams => "binary_streams",
        Feature::Checkpoints => "checkpoints",
        Feature::Heartbeat
        | Feature::Ack
        | Feature::ListJobs
        | Feature::WatchJobs
        | Feature::LeaseExpiresAt
        | Feature::Progress
        | Feature::AgentVersions
        | Feature::BlockOnSilence
        | Feature::CancelAnywhere
        | Feature::ListDetails
        | Feature::AgentDetails
        | Feature::OpenSurfaces
        | Feature::Sessions
        | Feature::Workflows
        | Feature::JobTokens
        | Feature::Sidecars => return None,
    })
}

fn capability_named(name: &str) -> Option<Feature> {
    match name {
        "cost.budget" => Some(Feature::CostBudget),
        "model.use" => Some(Feature::ModelUse),
        "heartbeat_interval_seconds" => Some(Feature::Heartbeat),
        _ => Feature::ALL.into_iter().find(|feature| capability_name(*feature) == Some(name)),
    }
}

/// The code that this peer reads, and the code of 1.1 if that differs.
fn code_name<'a>(view: &View, code: &'a ErrorCode) -> (&'a str, Option<&'a str>) {
    let own = code.as_str();
    // Two codes have a spelling in this family that every peer reads.
    let respelled = *code == ErrorCode::Internal || *code == ErrorCode::InvalidRequest;
    let name = if matches!(code, ErrorCode::Other(_)) && view.profile == Profile::Rust200 {
        "UNKNOWN"
    } else if view.profile == Profile::Native && !respelled {
        own
    } else {
        code.in_open()
    };
    (name, (name != own && !respelled).then_some(own))
}

/// The word for the status of a job (RFC §10.2).
fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Pending => "queued",
        JobStatus::Running => "running",
        JobStatus::Blocked => "blocked",
        JobStatus::Paused => "paused",
        JobStatus::Ended(FinalStatus::Success) => "completed",
        JobStatus::Ended(FinalStatus::Error | FinalStatus::TimedOut) => "failed",
        JobStatus::Ended(FinalStatus::Cancelled) => "cancelled",
    }
}

fn words(view: &View) -> Words<'_> {
    Words { view, status: status_word, is_trace: |trace| !trace.is_empty() }
}

fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}

/// The extensions of a message whose type the receiver need not know.
const OPTIONAL: &str = "{\"optional\":true}";

/// The members of an envelope, in the order in which they are written.
#[derive(Default)]
struct Envelope<'a> {
    id: Ulid,
    kind: &'a str,
    session: Option<Cow<'a, str>>,
    job: Option<Cow<'a, str>>,
    stream: Option<Cow<'a, str>>,
    subscription: Option<&'a str>,
    trace: Option<&'a str>,
    span: Option<&'a str>,
    correlation: Option<&'a str>,
    key: Option<&'a str>,
    priority: Option<Priority>,
    extensions: Option<&'a str>,
    seq: Option<u64>,
}

impl Envelope<'_> {
    fn around(&self, payload: &str) -> String {
        let mut frame = Object::with_capacity(payload.len() + 384);
        frame
            .str("arcp", "1.1")
            .str("id", IdText::new("msg_", self.id).as_str())
            .time("timestamp", UtcMs(self.id.timestamp_ms()))
            .opt_str("session_id", self.session.as_deref())
            .opt_str("job_id", self.job.as_deref())
            .opt_str("stream_id", self.stream.as_deref())
            .opt_str("subscription_id", self.subscription)
            .opt_str("trace_id", self.trace.filter(|trace| !trace.is_empty()))
            .opt_str("span_id", self.span)
            .opt_str("correlation_id", self.correlation)
            .opt_str("idempotency_key", self.key)
            .opt_str("priority", self.priority.map(priority_name));
        if let Some(extensions) = self.extensions {
            frame.raw("extensions", extensions);
        }
        if let Some(seq) = self.seq {
            frame.u64("event_seq", seq);
        }
        frame.str("type", self.kind).raw("payload", payload);
        frame.done()
    }
}

/// The request that a frame follows from, if this peer can read its id.
fn correlation<'a>(view: &View, request: Option<&'a WireId>) -> Option<&'a str> {
    let id = request.map(WireId::as_str);
    id.filter(|id| view.profile != Profile::Rust200 || id.strip_prefix("msg_").is_some_and(|rest| !rest.is_empty()))
}

/// Whether an id may be a `job_id`: strict clients require its prefix.
fn is_job(id: &WireId) -> bool {
    id.as_str().strip_prefix("job_").is_some_and(|rest| !rest.is_empty())
}

/// The priority that is written for this peer, if any.
fn shown(view: &View, priority: Priority) -> Option<Priority> {
    (priority != Priority::Normal || view.profile == Profile::Swift1).then_some(priority)
}

/// The thought stream of a job.
fn stream_id(job: crate::id::JobId) -> String {
    prefixed("str_", job.ulid())
}
