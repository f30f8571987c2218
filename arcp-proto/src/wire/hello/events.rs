//! Writing job events for hello clients.

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};

use super::replies::write_error;
use super::{shown_as, shown_trace, timestamp};
use crate::id::{JobId, WireId};
use crate::json::{Json, Object};
use crate::model::event::{EventKind, JobError, JobEvent, JobResult, Terminal};
use crate::model::feature::Feature;
use crate::model::job::FinalStatus;
use crate::time::UtcMs;
use crate::wire::codec::{Beginning, Prepared};
use crate::wire::shared::{WRITTEN_TWICE, chunk_members};
use crate::wire::{EventFrame, EventSnapshot, View};

/// Room for session, job and trace, which every frame of a job has.
const PREPARED: usize = 150;

/// Renders the payload of an event, in a reused buffer; the same for every session with this view.
pub(crate) fn render_event(
    view: &View,
    &EventSnapshot { job, at, event, .. }: &EventSnapshot<'_>,
    (buffer, beginning): (String, &mut Beginning),
) -> String {
    let mut begun = |buffer: String, kind: &str, bytes: usize| {
        let beginning = beginning.of(kind, at, |payload| {
            payload.str("kind", kind).time("ts", at);
        });
        Object::begun(buffer, beginning, bytes + 16)
    };
    let mut said = |buffer: String, kind: &str, body: &str| {
        let mut payload = begun(buffer, kind, body.len());
        payload.raw("body", body);
        payload.done()
    };
    match event {
        JobEvent::Started => said(buffer, "status", "{\"phase\":\"running\"}"),
        JobEvent::Emitted { kind: EventKind::Progress, body } if view.profile.whole_progress() => {
            said(buffer, "progress", whole_progress(body).as_str())
        }
        JobEvent::Emitted { kind: EventKind::Metric, body } if let Some(body) = metric_with_dims(body) => {
            said(buffer, "metric", body.as_str())
        }
        JobEvent::Emitted { kind, body } if let Some(other) = shown_as(kind) => {
            // This peer reads type and payload of the open family.
            if view.features.has(Feature::OpenSurfaces) {
                return body.as_str().to_string();
            }
            let mut shown = Object::with_capacity(body.as_str().len() + 48);
            shown.str("type", kind.as_str());
            for (name, value) in &body.members().unwrap_or_default().0 {
                shown.member(name, value);
            }
            said(buffer, other, &shown.done())
        }
        // Hello has no stored artifacts: its clients get an artifact reference with an id.
        JobEvent::Emitted { kind: EventKind::StoredArtifact, body } => {
            said(buffer, EventKind::Artifact.as_str(), body.as_str())
        }
        JobEvent::Emitted { kind, body } => said(buffer, kind.as_str(), body.as_str()),
        JobEvent::Chunk(chunk) => {
            let mut payload = begun(buffer, "result_chunk", chunk.data.len() + 120);
            payload.object("body", |body| chunk_members(body, view, chunk));
            payload.done()
        }
        JobEvent::Ended(terminal) => write_terminal(view, job, (at, terminal), buffer),
    }
}

/// Writes the shared parts for the frames of a job in a session.
pub(crate) fn prepare(frame: &EventFrame<'_>) -> Prepared {
    let mut about = Object::with_capacity(PREPARED);
    about.id("session_id", "sess_", frame.session.ulid()).id("job_id", "job_", frame.job.ulid());
    about.opt_str("trace_id", shown_trace(Some(frame.trace)));
    Prepared::new(about.into_members(), String::new())
}

/// Writes the frame around a rendered payload, in a reused buffer.
pub(crate) fn write_event(view: &View, about: &mut Prepared, frame: &EventFrame<'_>, buffer: String) -> String {
    let ends = matches!(frame.event, JobEvent::Ended(_));
    let correlation = frame.request.filter(|_| ends && frame.own && view.profile.correlates_ends());
    let mut around = |kind: &str, payload: &str, buffer: String| {
        let room = (buffer, payload.len() + 64 + correlation.map_or(0, |id| id.as_str().len()));
        let mut envelope = about.begin(frame.id, (kind, ""), room, |about, members| {
            members.str("type", kind);
            if let Some(at) = timestamp(view, frame.id) {
                members.time("timestamp", at);
            }
            members.members(about.ids());
        });
        envelope.opt_str("correlation_id", correlation.map(WireId::as_str));
        if let Some(seq) = frame.seq {
            envelope.u64("event_seq", seq);
        }
        envelope.raw("payload", payload);
        envelope.done()
    };
    let written = around(kind_of(view, frame.event), frame.payload, buffer);
    if frame.own || !view.profile.wraps_watched() {
        return written;
    }
    let mut payload = Object::with_capacity(written.len() + 16);
    payload.raw("event", &written);
    around("subscribe.event", &payload.done(), String::new())
}

fn kind_of<'a>(view: &View, event: &'a JobEvent) -> &'a str {
    match event {
        JobEvent::Emitted { kind, .. } if shown_as(kind).is_some() && view.features.has(Feature::OpenSurfaces) => {
            kind.as_str()
        }
        JobEvent::Started | JobEvent::Emitted { .. } | JobEvent::Chunk(_) => "job.event",
        JobEvent::Ended(terminal) if ends_as_result(view, terminal) => "job.result",
        JobEvent::Ended(_) => "job.error",
    }
}

fn ends_as_result(view: &View, terminal: &Terminal) -> bool {
    match terminal.status {
        FinalStatus::Success => true,
        FinalStatus::Cancelled | FinalStatus::TimedOut => view.profile.ends_as_result(),
        FinalStatus::Error => false,
    }
}

/// A metric with its dimensions under both names that clients read, if it has dimensions.
fn metric_with_dims(body: &Json) -> Option<Json> {
    let dimensions = body.member("dimensions").filter(|dimensions| dimensions.len() <= WRITTEN_TWICE)?;
    let mut members = body.members().ok().filter(|members| members.get("dims").is_none())?;
    members.0.push((Cow::Borrowed("dims"), dimensions));
    Some(members.to_json())
}

/// Progress with its numbers cut to integers.
fn whole_progress(body: &Json) -> Json {
    let Ok(members) = body.members() else {
        return body.clone();
    };
    let mut out = Object::new();
    for (name, value) in &members.0 {
        match value.parse::<f64>() {
            // `as` saturates, and progress is never negative.
            Ok(number) if name.as_ref() == "current" => out.u64("current", number as u64),
            Ok(number) if name.as_ref() == "total" => out.u64("total", number as u64),
            _ => out.member(name, value),
        };
    }
    out.json()
}

fn write_terminal(view: &View, job: JobId, (at, terminal): (UtcMs, &Terminal), buffer: String) -> String {
    let mut payload = Object::reusing(buffer, 126);
    payload.str("final_status", terminal.status.as_str()).id("job_id", "job_", job.ulid());
    match &terminal.error {
        Some(error) if !ends_as_result(view, terminal) => write_failure(&mut payload, error),
        Some(_) | None => {}
    }
    match &terminal.result {
        Some(JobResult::Inline(result)) => write_inline(view, &mut payload, result),
        Some(JobResult::Streamed { result_id, size, inline }) => match inline {
            Some(whole) if !view.features.has(Feature::ResultChunk) => write_inline(view, &mut payload, whole),
            Some(_) | None => {
                payload.str("result_id", result_id);
                if let Some(size) = size {
                    payload.u64("result_size", *size);
                }
            }
        },
        // The family has no stored results: the result is an object that names the artifact.
        Some(JobResult::Stored(stored)) => {
            write_inline(view, &mut payload, &stored.as_result());
            payload.object("result_ref", |reference| stored.write_members(reference));
        }
        None => {}
    }
    payload.opt_str("summary", terminal.summary.as_deref()).time("completed_at", at);
    payload.done()
}

fn write_inline(view: &View, payload: &mut Object, result: &Json) {
    let name = if view.profile.result_as_output() { "output" } else { "result" };
    payload.raw(name, result.as_str());
}

fn write_failure(payload: &mut Object, error: &JobError) {
    write_error(payload, &error.code, &error.message, error.details.as_ref());
}
