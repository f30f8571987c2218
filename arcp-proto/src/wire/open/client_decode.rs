//! Reading frames of open runtimes, for our client.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::requests::read_extension;
use super::{BINARY_ENCODING, IMPLIED, capability_named, extension_feature, names_sidecars};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Members, Object};
use crate::model::event::{EventKind, JobError, JobEvent, Terminal};
use crate::model::feature::{Feature, Features};
use crate::model::job::FinalStatus;
use crate::model::reply::{
    Challenge, CommandReply, HandshakeReply, Opened, RefusedKind, Reply, RuntimeInfo, SessionReply,
};
use crate::model::request::ClientInfo;
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::envelope::Header;
use crate::wire::payload::{Payload, RuntimeFrame, agent, chunk, seconds};

/// Reads a frame.
pub(crate) fn read_runtime_frame(header: &Header<'_>, now: UtcMs) -> Result<RuntimeFrame, Violation> {
    let members = Members::parse(header.payload).map_err(|e| Violation::invalid(e.to_string()))?;
    let frame = OpenFrame { payload: Payload { header, members, now } };
    match frame.payload.shared_reply()? {
        Some(reply) => Ok(frame.answer(reply)),
        None => frame.own(),
    }
}

/// A frame of an open runtime.
struct OpenFrame<'h, 'a> {
    payload: Payload<'h, 'a>,
}

impl OpenFrame<'_, '_> {
    fn answer(&self, reply: Reply) -> RuntimeFrame {
        RuntimeFrame::Reply { reply, job: self.payload.header.job.clone(), trace: self.payload.header_trace() }
    }

    fn own(&self) -> Result<RuntimeFrame, Violation> {
        let reply = match self.payload.header.kind.as_ref() {
            "session.accepted" => Reply::Handshake(HandshakeReply::Opened(Box::new(self.accepted_session()?))),
            "session.resumed" => Reply::Handshake(HandshakeReply::Opened(Box::new(self.resumed_session()?))),
            "session.challenge" => Reply::Handshake(HandshakeReply::Challenge(self.challenge())),
            "session.rejected" | "session.unauthenticated" => {
                Reply::Refused(self.payload.refusal(RefusedKind::Session))
            }
            "session.refresh" => Reply::Session(SessionReply::Refresh {
                deadline: self.payload.time(&["deadline"]).unwrap_or(self.payload.now),
                deadline_ms: self.payload.u64(&["deadline_ms"]).unwrap_or(0),
            }),
            "session.evicted" => Reply::Session(SessionReply::Evicted {
                code: self.payload.error().0,
                reason: self.payload.string(&["reason"]).unwrap_or_else(|| "no reason was given".to_string()),
            }),
            "nack" => Reply::Refused(self.payload.refusal(RefusedKind::Frame)),
            "cancel.refused" => Reply::Refused(self.cancel_refused()),
            "cancel.accepted" => Reply::Command(self.payload.cancel_taken()?),
            "pong" => Reply::Session(SessionReply::Echo {
                nonce: self.payload.string(&["nonce"]),
                request: self.payload.header.correlation.clone(),
            }),
            "ack" => Reply::Session(SessionReply::Done {
                detail: self.payload.string(&["detail", "note"]).unwrap_or_default(),
                request: self.payload.header.correlation.clone(),
            }),
            "job.accepted" => Reply::Command(CommandReply::Accepted(self.payload.accepted()?)),
            "subscribe.accepted" => Reply::Command(CommandReply::Subscribed {
                subscription: self.subscription()?,
                request: self.payload.header.correlation.clone(),
            }),
            "subscribe.closed" => Reply::Command(CommandReply::Unsubscribed {
                subscription: self.subscription()?,
                code: self.payload.error().0,
                reason: self.payload.string(&["reason"]).unwrap_or_default(),
                request: self.payload.header.correlation.clone(),
            }),
            "ping" => return Ok(RuntimeFrame::Echo { nonce: self.payload.string(&["nonce"]) }),
            "job.heartbeat" => return Ok(RuntimeFrame::Heartbeat { job: self.payload.job()? }),
            _ => return self.job_event(),
        };
        Ok(self.answer(reply))
    }

    fn subscription(&self) -> Result<WireId, Violation> {
        let missing =
            || Violation::invalid(alloc::format!("`{}`: `subscription_id` is missing", self.payload.header.kind));
        self.payload.id(&["subscription_id"]).ok_or_else(missing)
    }

    /// Reads a message of a job's stream.
    fn job_event(&self) -> Result<RuntimeFrame, Violation> {
        let event = match self.payload.header.kind.as_ref() {
            "job.started" => JobEvent::Started,
            "log" => self.whole_body(EventKind::Log)?,
            "metric" => self.whole_body(EventKind::Metric)?,
            "job.progress" => self.progress()?,
            "job.status" => self.whole_body(EventKind::Status)?,
            "job.checkpoint" => self.whole_body(EventKind::Checkpoint)?,
            "workflow.complete" => self.whole_body(EventKind::WorkflowComplete)?,
            // No runtime of ours sends this: it is delivered unchanged.
            "trace.span" => self.whole_body(EventKind::from("trace.span"))?,
            kind if EventKind::from(kind).is_of_prompts() => self.whole_body(EventKind::from(kind))?,
            "agent.delegate" => self.whole_body(EventKind::Delegate)?,
            "artifact.ref" => self.artifact()?,
            "event.emit" => self.emitted()?,
            "stream.chunk" => match self.thought() {
                Some(thought) => thought,
                None => self.stream(EventKind::StreamChunk)?,
            },
            "stream.error" => self.stream(EventKind::StreamError)?,
            // The stream of a job's thoughts has no events of its own for opening and closing.
            "stream.open" | "stream.close" if self.is_of_thoughts() => return Ok(RuntimeFrame::Counted),
            "stream.open" => self.stream(EventKind::StreamOpen)?,
            "stream.close" => self.stream(EventKind::StreamClose)?,
            "job.result_chunk" => JobEvent::Chunk(Box::new(chunk(&self.whole()?, self.payload.header.sidecar)?)),
            "job.completed" | "tool.result" => JobEvent::Ended(Box::new(self.completed())),
            "job.failed" | "tool.error" => JobEvent::Ended(Box::new(self.failed())),
            "job.cancelled" => JobEvent::Ended(Box::new(self.cancelled())),
            _ if self.payload.header.seq.is_some() => return Ok(RuntimeFrame::Counted),
            _ => {
                let message = read_extension(self.payload.header)?;
                return Ok(message
                    .map_or(RuntimeFrame::Unknown, |message| self.answer(SessionReply::Extension(message).into())));
            }
        };
        let Some(job) = self.payload.id(&["job_id"]).or_else(|| self.payload.header.job.clone()) else {
            // The end of a job that never existed refuses its submit. Other messages without a job
            // concern the session.
            let refused = matches!(event, JobEvent::Ended(_)) && self.payload.header.correlation.is_some();
            let refusal = || self.answer(Reply::Refused(self.payload.refusal(RefusedKind::Submit)));
            return Ok(if refused { refusal() } else { RuntimeFrame::Counted });
        };
        let at = self.payload.header.timestamp.and_then(|raw| serde_json::from_str::<String>(raw).ok());
        let at = at.and_then(|text| UtcMs::parse(&text));
        Ok(RuntimeFrame::Event { job, seq: self.payload.header.seq, at, event })
    }

    fn whole(&self) -> Result<Json, Violation> {
        Json::parse(self.payload.header.payload)
            .map_err(|e| Violation::invalid(alloc::format!("`{}`: {e}", self.payload.header.kind)))
    }

    fn whole_body(&self, kind: EventKind) -> Result<JobEvent, Violation> {
        let body = self.whole()?;
        // A body that the runtime accepted is delivered unchanged rather than lost.
        let body = kind.normalise(&body).unwrap_or(body);
        Ok(JobEvent::Emitted { kind, body })
    }

    /// Published runtimes send only a percentage, and no `current`.
    fn progress(&self) -> Result<JobEvent, Violation> {
        if self.payload.raw(&["current"]).is_some() {
            return self.whole_body(EventKind::Progress);
        }
        let mut body = Object::new();
        body.raw("current", self.payload.raw(&["percent"]).unwrap_or("0")).u64("total", 100);
        body.opt_str("message", self.payload.string(&["message"]).as_deref());
        let body = body.json();
        let kind = EventKind::Progress;
        let body = kind.normalise(&body).unwrap_or(body);
        Ok(JobEvent::Emitted { kind, body })
    }

    fn artifact(&self) -> Result<JobEvent, Violation> {
        let nested = self.payload.raw(&["artifact"]).and_then(|raw| Json::parse(raw).ok());
        let body = match nested {
            Some(nested) => nested,
            None => self.whole()?,
        };
        let mut members = body.members().map_err(|e| Violation::invalid(e.to_string()))?;
        members.rename(&["size"], "byte_size");
        members.rename(&["media_type"], "content_type");
        Ok(JobEvent::Emitted { kind: EventKind::StoredArtifact, body: members.to_json() })
    }

    /// Reads an event from an `event.emit`: `name` is the type of its message, or its kind.
    fn emitted(&self) -> Result<JobEvent, Violation> {
        let name = self.payload.string(&["name"]).ok_or_else(|| Violation::invalid("`event.emit` has no name"))?;
        let body =
            self.payload.json(&["attributes", "data"]).filter(Json::is_object).unwrap_or_else(Json::empty_object);
        let kind = match name.as_str() {
            "job.status" => EventKind::Status,
            "job.checkpoint" => EventKind::Checkpoint,
            "workflow.complete" => EventKind::WorkflowComplete,
            "agent.delegate" => EventKind::Delegate,
            other => EventKind::from(other),
        };
        let body = kind.normalise(&body).unwrap_or(body);
        Ok(JobEvent::Emitted { kind, body })
    }

    /// Whether it belongs to the stream of the job's thoughts, whose id has the ULID of the job.
    fn is_of_thoughts(&self) -> bool {
        let header = self.payload.header;
        let job = header.job.as_ref().and_then(|job| job.as_str().strip_prefix("job_"));
        let stream = header.stream.as_deref().and_then(|stream| stream.strip_prefix("str_"));
        job.is_some() && job == stream
    }

    /// Reads an event of a stream, with the stream id among its members.
    fn stream(&self, kind: EventKind) -> Result<JobEvent, Violation> {
        let body = self.whole()?;
        let mut members = body.members().map_err(|e| Violation::invalid(e.to_string()))?;
        let named = self.payload.header.stream.as_deref().map(Json::string);
        if let Some(named) = named.as_ref().filter(|_| members.get("stream_id").is_none()) {
            members.0.insert(0, ("stream_id".into(), named.as_str()));
        }
        // The text may be under both names.
        if members.get("data").is_some() {
            members.0.retain(|(name, _)| name != "content");
        }
        members.rename(&["content"], "data");
        Ok(JobEvent::Emitted { kind, body: members.to_json() })
    }

    fn thought(&self) -> Option<JobEvent> {
        // A chunk with a stream id in its payload belongs to a stream that an agent opened.
        let in_stream = self.payload.raw(&["stream_id"]).is_some();
        if in_stream || self.payload.string(&["role"]).as_deref() != Some("assistant_thought") {
            return None;
        }
        let mut body = Object::new();
        body.str("text", &self.payload.string(&["content", "data"]).unwrap_or_default());
        if self.payload.raw(&["redacted"]) == Some("true") {
            body.bool("redacted", true);
        }
        Some(JobEvent::Emitted { kind: EventKind::Thought, body: body.json() })
    }

    fn completed(&self) -> Terminal {
        let result = self.payload.result(&["value", "result"]);
        Terminal::success(result, self.payload.string(&["summary"]))
    }

    fn failed(&self) -> Terminal {
        let (code, message, retryable, details) = self.payload.error();
        // The code of 1.1 in the details is more precise than the one for older clients.
        let own = details.as_ref().and_then(|details| details.members().ok()?.get_str("code"));
        let code = match own.as_deref().map(ErrorCode::from) {
            Some(ErrorCode::Other(_)) | None => code,
            Some(own) => own,
        };
        let retryable = retryable.unwrap_or_else(|| code.retryable());
        Terminal::failure(JobError { code, message, retryable, details })
    }

    fn cancelled(&self) -> Terminal {
        let reason = self.payload.string(&["reason"]);
        let code = match self.payload.string(&["code"]).as_deref() {
            Some("ABORTED") => ErrorCode::Aborted,
            Some(_) | None => ErrorCode::Cancelled,
        };
        let message = self.payload.string(&["message"]).or_else(|| reason.clone()).unwrap_or_default();
        let error = JobError {
            details: self.payload.json(&["details"]).filter(Json::is_object),
            ..JobError::new(code, message)
        };
        Terminal { status: FinalStatus::Cancelled, reason: reason.map(Into::into), ..Terminal::failure(error) }
    }

    fn challenge(&self) -> Challenge {
        Challenge {
            nonce: self.payload.string(&["nonce", "challenge"]).unwrap_or_default(),
            scheme: self.payload.string(&["scheme"]).unwrap_or_else(|| "bearer".to_string()),
            expires_at: self.payload.time(&["expires_at"]).unwrap_or(self.payload.now),
            request: self.payload.header.correlation.clone(),
        }
    }

    fn cancel_refused(&self) -> crate::model::reply::Refusal {
        let said = self.payload.string(&["reason"]).unwrap_or_default();
        let code = match (self.payload.raw(&["code"]), said.as_str()) {
            (Some(_), _) => self.payload.error().0,
            (None, "not_found") => ErrorCode::JobNotFound,
            (None, "already_terminal") => ErrorCode::FailedPrecondition,
            (None, _) => ErrorCode::PermissionDenied,
        };
        let message =
            self.payload.string(&["message"]).unwrap_or_else(|| alloc::format!("the cancel was refused: {said}"));
        crate::model::reply::Refusal {
            job: self.payload.id(&["target_id"]),
            details: self.payload.json(&["details"]).filter(Json::is_object),
            ..crate::model::reply::Refusal::new(
                RefusedKind::Cancel,
                Violation::new(code, message),
                self.payload.request(),
            )
        }
    }

    fn session(&self) -> Result<WireId, Violation> {
        let session = self.payload.id(&["session_id"]).or_else(|| self.payload.header.session.clone());
        session.ok_or_else(|| Violation::invalid(alloc::format!("`{}` names no session", self.payload.header.kind)))
    }

    fn accepted_session(&self) -> Result<Opened, Violation> {
        let nested = |name| self.payload.raw(&[name]).and_then(|raw| self.payload.nested(raw));
        let capabilities = nested("capabilities");
        let runtime = nested("runtime");
        let name = |name| runtime.as_ref().and_then(|runtime| runtime.string(&[name])).unwrap_or_default();
        let list = |name| capabilities.as_ref().and_then(|c| c.raw(&[name]));
        let agents: Vec<&serde_json::value::RawValue> =
            list("agents").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let heartbeat = self.payload.raw(&["heartbeat_interval_sec"]).and_then(seconds);
        let extensions: Vec<String> =
            list("extensions").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let features = capabilities.as_ref().map_or(IMPLIED, |c| features_of(&c.members));
        let extended = extensions.iter().filter_map(|name| extension_feature(name));
        Ok(Opened {
            session: self.session()?,
            resume_token: Secret::new(self.payload.string(&["resume_token"]).unwrap_or_default()),
            resume_window_s: self.payload.u64(&["resume_window_sec"]).unwrap_or(0),
            heartbeat_s: heartbeat,
            job_heartbeat_s: list("heartbeat_interval_seconds").and_then(seconds),
            features: extended.fold(features, Features::with),
            agents: agents.into_iter().filter_map(|raw| agent(raw.get())).collect(),
            runtime: RuntimeInfo {
                program: ClientInfo { name: name("kind"), version: name("version") },
                fingerprint: runtime.as_ref().and_then(|runtime| runtime.string(&["fingerprint"])),
                artifact_retention: self.payload.artifact_retention("artifact_retention"),
            },
            accepted_at: self.payload.now,
            expires_at: nested("lease").and_then(|lease| lease.time(&["expires_at"])),
            extensions,
            anonymous: list("anonymous") == Some("true"),
            capabilities: self.payload.object("capabilities"),
            replay: None,
            request: self.payload.header.correlation.clone(),
        })
    }

    /// Reads a resumed session, which keeps what it had.
    fn resumed_session(&self) -> Result<Opened, Violation> {
        let from = self.payload.u64(&["replayed_from"]).unwrap_or(0);
        let replayed = self.payload.raw(&["replayed"]) == Some("true");
        Ok(Opened { replay: Some((from, replayed)), ..self.accepted_session()? })
    }
}

/// The features among the capabilities of a runtime.
fn features_of(capabilities: &Members<'_>) -> Features {
    let mut features = IMPLIED;
    for (name, value) in &capabilities.0 {
        let given = match name.as_ref() {
            "heartbeat_interval_seconds" => Some(Feature::Heartbeat),
            "heartbeat_recovery" => (*value == "\"block\"").then_some(Feature::BlockOnSilence),
            BINARY_ENCODING => names_sidecars(value),
            name => capability_named(name).filter(|_| *value == "true"),
        };
        features = given.map_or(features, |feature| features.with(feature));
    }
    features
}
