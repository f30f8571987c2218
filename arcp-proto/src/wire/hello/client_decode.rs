//! Reading frames of hello runtimes, for our client.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::{EVICTED, RETENTION, feature_named, shown_as};
use crate::error::{ErrorCode, Violation};
use crate::json::{Json, Members};
use crate::model::event::{EventKind, JobError, JobEvent, Terminal};
use crate::model::feature::Features;
use crate::model::job::FinalStatus;
use crate::model::reply::{CommandReply, HandshakeReply, Opened, RefusedKind, Reply, RuntimeInfo, SessionReply};
use crate::model::request::{ClientInfo, Target};
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};
use crate::wire::payload::{Payload, RuntimeFrame, agent, chunk, seconds};

/// Reads a frame.
///
/// # Errors
///
/// If a frame of a known type is invalid.
pub(crate) fn read_runtime_frame(header: &Header<'_>, now: UtcMs) -> Result<RuntimeFrame, Violation> {
    let members = Members::parse(header.payload).map_err(|e| Violation::invalid(e.to_string()))?;
    let frame = HelloFrame { payload: Payload { header, members, now } };
    let p = &frame.payload;
    if let Some(reply) = p.shared_reply()? {
        return Ok(RuntimeFrame::Reply { reply, job: header.job.clone(), trace: p.header_trace() });
    }
    let reply = match header.kind.as_ref() {
        "session.welcome" => Reply::Handshake(HandshakeReply::Opened(Box::new(frame.opened()?))),
        "session.error" => {
            let refused = p.refusal(RefusedKind::Session);
            let details = refused.details.as_ref().and_then(|details| details.members().ok());
            if details.is_some_and(|details| details.get(EVICTED) == Some("true")) {
                let reason = refused.message.into_owned();
                Reply::Session(SessionReply::Evicted { code: refused.code, reason })
            } else {
                Reply::Refused(refused)
            }
        }
        "session.bye" => return Ok(RuntimeFrame::Goodbye { reason: p.string(&["reason"]) }),
        "job.accepted" => Reply::Command(CommandReply::Accepted(p.accepted()?)),
        "job.cancelled" => Reply::Command(CommandReply::CancelTaken {
            target: Target::Job(p.job()?),
            reason: p.string(&["reason"]),
            deadline_ms: 0,
            request: p.header.correlation.clone(),
        }),
        "cancel.accepted" => Reply::Command(p.cancel_taken()?),
        "ack" => Reply::Session(SessionReply::Done {
            detail: p.string(&["detail", "note"]).unwrap_or_default(),
            request: p.header.correlation.clone(),
        }),
        "job.event" => return frame.event(),
        kind if shown_as(&EventKind::from(kind)).is_some() => return frame.message(EventKind::from(kind)),
        "job.result" | "job.error" => return frame.terminal(),
        _ => return Ok(RuntimeFrame::Unknown),
    };
    Ok(RuntimeFrame::Reply { reply, job: header.job.clone(), trace: p.header_trace() })
}

/// A question to people or a stream event, from the event that shows it to readers of no messages
/// of the open family.
fn shown(named: &str, body: &Json) -> Option<JobEvent> {
    let mut members = body.members().ok()?;
    let kind = EventKind::from(members.get_str("type")?.as_str());
    members.0.retain(|(name, _)| name != "type");
    (shown_as(&kind) == Some(named)).then(|| JobEvent::Emitted { kind, body: members.to_json() })
}

/// A frame of a hello runtime.
struct HelloFrame<'h, 'a> {
    payload: Payload<'h, 'a>,
}

impl HelloFrame<'_, '_> {
    fn opened(&self) -> Result<Opened, Violation> {
        #[derive(Deserialize, Default)]
        struct Capabilities<'a> {
            #[serde(default)]
            features: Vec<String>,
            #[serde(borrow, default)]
            agents: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize, Default)]
        struct Program {
            #[serde(default)]
            name: String,
            #[serde(default)]
            version: String,
            #[serde(default)]
            fingerprint: Option<String>,
        }
        let session = self.payload.id(&["session_id"]).or_else(|| self.payload.header.session.clone());
        let capabilities: Capabilities<'_> = match self.payload.raw(&["capabilities"]) {
            Some(raw) => payload("session.welcome", raw)?,
            None => Capabilities::default(),
        };
        let runtime: Program =
            self.payload.raw(&["runtime"]).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let features = capabilities.features.iter().filter_map(|name| feature_named(name));
        Ok(Opened {
            session: session.ok_or_else(|| Violation::invalid("`session.welcome` names no session"))?,
            resume_token: Secret::new(self.payload.string(&["resume_token"]).unwrap_or_default()),
            resume_window_s: self.payload.u64(&["resume_window_sec"]).unwrap_or(0),
            heartbeat_s: self.payload.raw(&["heartbeat_interval_sec"]).and_then(seconds),
            job_heartbeat_s: None,
            features: features.fold(Features::default(), Features::with),
            agents: capabilities.agents.unwrap_or_default().into_iter().filter_map(|raw| agent(raw.get())).collect(),
            runtime: RuntimeInfo {
                program: ClientInfo { name: runtime.name, version: runtime.version },
                fingerprint: runtime.fingerprint,
                artifact_retention: self.payload.artifact_retention(RETENTION),
            },
            accepted_at: self.payload.time(&["accepted_at"]).unwrap_or(self.payload.now),
            expires_at: None,
            extensions: Vec::new(),
            anonymous: false,
            capabilities: self.payload.object("capabilities"),
            replay: None,
            request: self.payload.request(),
        })
    }

    fn event(&self) -> Result<RuntimeFrame, Violation> {
        let kind = self.payload.string(&["kind"]).ok_or_else(|| Violation::invalid("`job.event` has no kind"))?;
        let body = self.payload.json(&["body"]).filter(Json::is_object).unwrap_or_else(Json::empty_object);
        let event = if kind == "result_chunk" {
            JobEvent::Chunk(Box::new(chunk(&body, self.payload.header.sidecar)?))
        } else if let Some(shown) = shown(&kind, &body) {
            shown
        } else {
            let stored = body.members().is_ok_and(|members| members.get("artifact_id").is_some());
            let mut kind = EventKind::from(kind.as_str());
            if kind == EventKind::Artifact && stored {
                kind = EventKind::StoredArtifact;
            }
            // A body that the runtime accepted is delivered unchanged rather than lost.
            let body = kind.normalise(&body).unwrap_or(body);
            JobEvent::Emitted { kind, body }
        };
        Ok(RuntimeFrame::Event {
            job: self.payload.job()?,
            seq: self.payload.header.seq,
            at: self.payload.time(&["ts"]),
            event,
        })
    }

    /// Reads a message of the open family as an event of its kind.
    fn message(&self, kind: EventKind) -> Result<RuntimeFrame, Violation> {
        let body = Json::parse(self.payload.header.payload).map_err(|e| Violation::invalid(e.to_string()))?;
        let event = JobEvent::Emitted { kind, body };
        // The payload names no time. The id of a runtime's own frame begins with that of the event.
        let id = self.payload.header.id.as_str().strip_prefix("msg_").and_then(|text| Ulid::from_string(text).ok());
        let at = id.map(|id| UtcMs(id.timestamp_ms()));
        Ok(RuntimeFrame::Event { job: self.payload.job()?, seq: self.payload.header.seq, at, event })
    }

    fn terminal(&self) -> Result<RuntimeFrame, Violation> {
        let said = self.payload.string(&["final_status"]);
        let is_error = self.payload.header.kind == "job.error";
        let status = match said.as_deref() {
            Some("success") if !is_error => FinalStatus::Success,
            Some("cancelled") => FinalStatus::Cancelled,
            Some("timed_out") => FinalStatus::TimedOut,
            None if !is_error => FinalStatus::Success,
            Some(_) | None => FinalStatus::Error,
        };
        let terminal = match status {
            FinalStatus::Success => {
                Terminal::success(self.payload.result(&["result", "output"]), self.payload.string(&["summary"]))
            }
            FinalStatus::Error | FinalStatus::Cancelled | FinalStatus::TimedOut => self.failure(status),
        };
        let seq = self.payload.header.seq;
        // A refused submit may look like the end of a job that never existed; a real end has a
        // number.
        if is_error && seq.is_none() && (self.payload.id(&["request_id"]).is_some() || self.payload.job().is_err()) {
            let reply = Reply::Refused(self.payload.refusal(RefusedKind::Submit));
            return Ok(RuntimeFrame::Reply { reply, job: None, trace: self.payload.trace() });
        }
        let at = self.payload.time(&["completed_at"]);
        Ok(RuntimeFrame::Event { job: self.payload.job()?, seq, at, event: JobEvent::Ended(Box::new(terminal)) })
    }

    fn failure(&self, status: FinalStatus) -> Terminal {
        let (mut code, message, retryable, details) = self.payload.error();
        if self.payload.raw(&["code", "error"]).is_none() {
            code = match status {
                FinalStatus::Cancelled => ErrorCode::Cancelled,
                FinalStatus::TimedOut => ErrorCode::Timeout,
                FinalStatus::Error | FinalStatus::Success => ErrorCode::Internal,
            };
        }
        let status = match (&code, status) {
            // Some runtimes give the cause only in the code.
            (ErrorCode::Cancelled, FinalStatus::Error) => FinalStatus::Cancelled,
            (ErrorCode::Timeout, FinalStatus::Error) => FinalStatus::TimedOut,
            (_, status) => status,
        };
        let retryable = retryable.unwrap_or_else(|| code.retryable());
        let error = JobError { code, message, retryable, details };
        Terminal { status, result: None, summary: None, error: Some(error), reason: None }
    }
}
