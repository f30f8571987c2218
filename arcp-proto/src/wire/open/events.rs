//! Writing job events for open clients.

use alloc::string::String;

use super::replies::write_failure;
use super::{code_name, correlation, priority_name, shown, stream_id};
use crate::error::ErrorCode;
use crate::json::{Json, Object};
use crate::model::event::{EventClass, EventKind, JobError, JobEvent, JobResult, Terminal};
use crate::model::feature::Feature;
use crate::model::job::FinalStatus;
use crate::model::request::Priority;
use crate::time::UtcMs;
use crate::wire::codec::Prepared;
use crate::wire::profile::OneName;
use crate::wire::shared::{self, WRITTEN_TWICE, chunk_members};
use crate::wire::{EventFrame, EventSnapshot, FrameRole, View};

/// Renders the payload of one frame of an event, in a reused buffer; the same for every session
/// with this view.
pub(crate) fn render_event(view: &View, snapshot: &EventSnapshot<'_>, role: FrameRole, buffer: String) -> String {
    let mut payload = Object::reusing(buffer, 64);
    match (role, snapshot.event) {
        (FrameRole::StreamOpen, _) => {
            payload.str("kind", "thought").str("content_type", "text/plain; charset=utf-8");
        }
        (FrameRole::StreamClose, _) => {
            payload.u64("final_sequence", snapshot.thoughts.saturating_sub(1));
        }
        (FrameRole::Whole, JobEvent::Started) => {
            payload.id("job_id", "job_", snapshot.job.ulid()).time("started_at", snapshot.at);
        }
        (_, JobEvent::Emitted { kind, body }) => return render_emitted(view, snapshot, kind, body, payload.done()),
        (_, JobEvent::Chunk(chunk)) => chunk_members(&mut payload, view, chunk),
        (_, JobEvent::Ended(terminal)) => write_terminal(&mut payload, view, terminal),
    }
    payload.done()
}

/// Writes the shared parts for the frames of a job in a session: those before and after the stream
/// id.
pub(crate) fn prepare(frame: &EventFrame<'_>) -> Prepared {
    let (mut ids, mut context) = (Object::new(), Object::new());
    ids.id("session_id", "sess_", frame.session.ulid()).id("job_id", "job_", frame.job.ulid());
    context.opt_str("trace_id", Some(frame.trace).filter(|trace| !trace.is_empty())).opt_str("span_id", frame.span);
    Prepared::new(ids.into_members(), context.into_members())
}

/// Writes the frame around a rendered payload, in a reused buffer.
pub(crate) fn write_event(view: &View, about: &mut Prepared, frame: &EventFrame<'_>, buffer: String) -> String {
    let kind = kind_of(frame.event.class(), frame.role);
    let priority = priority_of(frame.event.class(), frame.role);
    let is_of_stream = kind.starts_with("stream.");
    let stream = is_of_stream.then(|| shared::stream_of(frame.event).unwrap_or_else(|| stream_id(frame.job)));
    let of = (kind, stream.as_deref().unwrap_or_default());
    let mut envelope = about.begin(frame.id, of, (buffer, frame.payload.len() + 128), |about, members| {
        members.time("timestamp", UtcMs(frame.id.timestamp_ms())).members(about.ids());
        members.opt_str("stream_id", stream.as_deref()).members(about.context());
        members.opt_str("correlation_id", correlation(view, frame.request));
        members.opt_str("priority", shown(view, priority).map(priority_name));
    });
    if let Some(seq) = frame.seq {
        envelope.u64("event_seq", seq);
    }
    envelope.str("type", if reads(view, kind) { kind } else { "event.emit" }).raw("payload", frame.payload);
    envelope.done()
}

/// The priority of one frame of an event.
pub(super) fn priority_of(class: EventClass, role: FrameRole) -> Priority {
    let is_urgent = class.is_end() || class == EventClass::PermissionRequest;
    if is_urgent && role == FrameRole::Whole { Priority::Critical } else { Priority::Normal }
}

/// Whether a peer reads messages of this type. Questions to people are only for peers that offer to
/// show them.
fn reads(view: &View, kind: &str) -> bool {
    view.profile.reads(kind) && (!kind.starts_with("human.") || view.features.has(Feature::HumanInput))
}

/// The message type of one frame of an event.
pub(super) fn kind_of(class: EventClass, role: FrameRole) -> &'static str {
    match (role, class) {
        (FrameRole::StreamOpen, _) => "stream.open",
        (FrameRole::StreamClose, _) => "stream.close",
        (FrameRole::Whole, class) => match class {
            EventClass::Started => "job.started",
            EventClass::Log => "log",
            EventClass::Thought => "stream.chunk",
            EventClass::Status => "job.status",
            EventClass::Metric => "metric",
            EventClass::Delegate => "agent.delegate",
            EventClass::Progress => "job.progress",
            EventClass::Checkpoint => "job.checkpoint",
            EventClass::InputRequest => "human.input.request",
            EventClass::ChoiceRequest => "human.choice.request",
            EventClass::PermissionRequest => "permission.request",
            EventClass::PromptClosed => "human.input.cancelled",
            EventClass::LeaseGranted => "lease.granted",
            EventClass::LeaseExtended => "lease.extended",
            EventClass::LeaseRevoked => "lease.revoked",
            EventClass::StreamOpen => "stream.open",
            EventClass::StreamChunk => "stream.chunk",
            EventClass::StreamClose => "stream.close",
            EventClass::StreamError => "stream.error",
            EventClass::StoredArtifact => "artifact.ref",
            EventClass::WorkflowComplete => "workflow.complete",
            // An artifact reference names an artifact that is not stored here.
            EventClass::ToolCall | EventClass::ToolResult | EventClass::Artifact | EventClass::Vendor => "event.emit",
            EventClass::Chunk => "job.result_chunk",
            EventClass::Succeeded => "job.completed",
            EventClass::Failed => "job.failed",
            EventClass::Cancelled => "job.cancelled",
        },
    }
}

fn render_emitted(
    view: &View,
    snapshot: &EventSnapshot<'_>,
    kind: &EventKind,
    body: &Json,
    mut buffer: String,
) -> String {
    let own = kind_of(snapshot.event.class(), FrameRole::Whole);
    let said = match kind {
        EventKind::Log
        | EventKind::Status
        | EventKind::Delegate
        | EventKind::InputRequest
        | EventKind::ChoiceRequest
        | EventKind::PermissionRequest
        | EventKind::PromptClosed
        | EventKind::LeaseGranted
        | EventKind::LeaseExtended
        | EventKind::LeaseRevoked
        | EventKind::StreamOpen
        | EventKind::WorkflowComplete
        | EventKind::StreamClose => {
            buffer.clear();
            buffer.push_str(body.as_str());
            buffer
        }
        EventKind::StreamError => write_stream_error(view, body),
        EventKind::StreamChunk => write_stream_chunk(view, body),
        EventKind::Thought => write_thought(view, snapshot.thoughts, body),
        EventKind::Metric => write_metric(body, buffer),
        EventKind::Progress => write_progress(body, buffer),
        EventKind::Checkpoint => write_checkpoint(snapshot, body),
        EventKind::StoredArtifact => write_stored(body),
        EventKind::ToolCall | EventKind::ToolResult | EventKind::Artifact | EventKind::Vendor(_) => {
            return emitted(view, kind.as_str(), body.as_str());
        }
    };
    if reads(view, own) { said } else { emitted(view, own, &said) }
}

/// An event that has no message type.
fn emitted(view: &View, name: &str, body: &str) -> String {
    let mut payload = Object::with_capacity(2 * body.len() + 64);
    payload.str("name", name);
    twice(&mut payload, view, ["data", "attributes"], body);
    payload.done()
}

fn write_thought(view: &View, sequence: u64, body: &Json) -> String {
    let members = body.members().unwrap_or_default();
    let text = members.get("text").unwrap_or("\"\"");
    let redacted = members.get("redacted") == Some("true");
    let mut payload = Object::new();
    payload.u64("sequence", sequence);
    twice(&mut payload, view, ["data", "content"], text);
    payload.str("role", "assistant_thought").bool("redacted", redacted);
    for (name, value) in members.0.iter().filter(|(name, _)| {
        // With the last two, clients would read another kind of chunk.
        !matches!(
            name.as_ref(),
            "text" | "redacted" | "sequence" | "data" | "content" | "role" | "sidecar" | "stream_id"
        )
    }) {
        payload.member(name, value);
    }
    payload.done()
}

/// A chunk of a stream; a text is under both names that clients read. Only `shared::stream_data`
/// writes bytes.
fn write_stream_chunk(view: &View, body: &Json) -> String {
    let members = body.members().unwrap_or_default();
    let mut payload = Object::with_capacity(body.as_str().len() + 64);
    let is_text = members.get("encoding") != Some("\"base64\"");
    for (name, value) in &members.0 {
        match name.as_ref() {
            "data" if is_text => twice(&mut payload, view, ["data", "content"], value),
            "data" => shared::stream_data(&mut payload, value),
            _ => drop(payload.member(name, value)),
        }
    }
    payload.done()
}

fn write_stream_error(view: &View, body: &Json) -> String {
    let members = body.members().unwrap_or_default();
    let code = ErrorCode::from(members.get_str("code").unwrap_or_default().as_str());
    let (name, own) = code_name(view, &code);
    let mut payload = Object::new();
    for (member, value) in &members.0 {
        match member.as_ref() {
            "code" => drop(payload.str("code", name)),
            _ => drop(payload.member(member, value)),
        }
    }
    if let Some(own) = own {
        payload.object("details", |details| {
            details.str("code", own);
        });
    }
    payload.done()
}

/// A metric, with the unit that strict clients require and their name for the dimensions.
fn write_metric(body: &Json, buffer: String) -> String {
    let mut payload = Object::reusing(buffer, body.as_str().len() + 16);
    let (mut unit, mut dims, mut dimensions) = (None, None, None);
    for (name, value) in body.entries() {
        match name {
            "unit" => unit = Some(value),
            "dims" => dims = Some(value),
            "dimensions" => dimensions = Some(value),
            _ => drop(payload.written(name, value)),
        }
    }
    if let Some(dimensions) = dims.or(dimensions) {
        payload.raw("dims", dimensions);
    }
    match unit.filter(|unit| unit.starts_with('"')) {
        Some(unit) => payload.raw("unit", unit),
        None => payload.str("unit", "1"),
    };
    payload.done()
}

fn write_progress(body: &Json, buffer: String) -> String {
    let number = |name: &str| body.member(name).and_then(|raw| raw.parse::<f64>().ok());
    let mut payload = Object::reusing(buffer, body.as_str().len() + 32);
    for (name, value) in body.entries().filter(|(name, value)| *name != "percent" && *value != "null") {
        payload.written(name, value);
    }
    if let (Some(current), Some(total)) = (number("current"), number("total"))
        && total > 0.0
    {
        payload.raw("percent", &alloc::format!("{}", percent(current, total)));
    } else if let Some(percent) = body.member("percent").filter(|_| number("percent").is_some()) {
        payload.raw("percent", percent);
    }
    payload.done()
}

fn write_checkpoint(snapshot: &EventSnapshot<'_>, body: &Json) -> String {
    let members = body.members().unwrap_or_default();
    let mut payload = Object::new();
    payload.raw("checkpoint_id", members.get("checkpoint_id").unwrap_or("\"\"")).display("job_id", snapshot.job);
    for (name, value) in members.0.iter().filter(|(name, _)| name != "checkpoint_id") {
        payload.member(name, value);
    }
    payload.display("created_at", snapshot.at);
    payload.done()
}

/// The reference of a stored artifact, as in the answer to a put. Published clients read it inside
/// `artifact`, or beside it.
fn write_stored(body: &Json) -> String {
    let members = body.members().unwrap_or_default();
    let write = |out: &mut Object| {
        for (name, value) in &members.0 {
            match name.as_ref() {
                "content_type" => out.member("media_type", value),
                "byte_size" => out.member("size", value),
                name => out.member(name, value),
            };
        }
    };
    let mut payload = Object::new();
    payload.object("artifact", write);
    write(&mut payload);
    payload.done()
}

/// A percentage with two digits after the point.
fn percent(current: f64, total: f64) -> f64 {
    // `as` saturates; progress was checked to be within 0 and its total.
    ((current / total * 10_000.0) as u32) as f64 / 100.0
}

fn write_terminal(payload: &mut Object, view: &View, terminal: &Terminal) {
    match (&terminal.error, terminal.status) {
        (Some(error), FinalStatus::Cancelled) => write_cancelled(payload, terminal, error),
        (Some(error), FinalStatus::Error | FinalStatus::TimedOut | FinalStatus::Success) => {
            write_failure(payload, view, &error.code, &error.message, error.retryable, error.details.as_ref());
        }
        (None, _) => write_result(payload, view, terminal),
    }
}

fn write_cancelled(payload: &mut Object, terminal: &Terminal, error: &JobError) {
    let reason = terminal.reason.as_deref().unwrap_or(&error.message);
    let code = if error.code == ErrorCode::Aborted { "ABORTED" } else { "CANCELLED" };
    payload.str("reason", reason).str("code", code).str("message", &error.message);
    payload.opt_json("details", error.details.as_ref());
}

fn write_result(payload: &mut Object, view: &View, terminal: &Terminal) {
    match &terminal.result {
        Some(JobResult::Inline(result)) => twice(payload, view, ["value", "result"], result.as_str()),
        Some(JobResult::Streamed { inline: Some(whole), .. }) if !view.features.has(Feature::ResultChunk) => {
            twice(payload, view, ["value", "result"], whole.as_str());
        }
        Some(JobResult::Streamed { result_id, size, .. }) => {
            payload.str("result_id", result_id);
            if let Some(size) = size {
                payload.u64("result_size", *size);
            }
        }
        Some(JobResult::Stored(stored)) => {
            payload.object("result_ref", |reference| stored.write_members(reference));
        }
        None => {}
    }
    payload.opt_str("summary", terminal.summary.as_deref());
}

/// Writes a value under both names that clients read: that of the RFC and that of the Swift SDK. A
/// large value is written once, so that it does not double its frame.
fn twice(payload: &mut Object, view: &View, [rfc, swift]: [&'static str; 2], value: &str) {
    match view.profile.reads_one_name() {
        Some(OneName::Rfc) => drop(payload.raw(rfc, value)),
        Some(OneName::Swift) => drop(payload.raw(swift, value)),
        None if value.len() > WRITTEN_TWICE => drop(payload.raw(rfc, value)),
        None => drop(payload.raw(rfc, value).raw(swift, value)),
    }
}
