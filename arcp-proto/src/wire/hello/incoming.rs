//! Frames of hello runtimes, read by our client: every published spelling.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{code_named, feature_named, status_named};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Members, Object};
use crate::model::agent::AgentEntry;
use crate::model::event::{ChunkEncoding, EventKind, JobError, JobEvent, JobResult, ResultChunk, Terminal};
use crate::model::feature::Features;
use crate::model::job::{FinalStatus, JobStatus, JobSummary};
use crate::model::reply::{Accepted, Concern, JobPage, Opened, Refusal, Reply, Watching};
use crate::model::request::ClientInfo;
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};

/// One frame from a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An answer, or something said unasked.
    Reply {
        /// The reply.
        reply: Reply,
        /// The job in the envelope.
        job: Option<WireId>,
        /// The trace in the envelope.
        trace: Option<String>,
    },
    /// A job event.
    Event {
        /// The job.
        job: WireId,
        /// Its number in this session, if the runtime gave one.
        seq: Option<u64>,
        /// When it happened, if the runtime said so.
        at: Option<UtcMs>,
        /// The event.
        event: JobEvent,
    },
    /// The runtime says goodbye.
    Goodbye {
        /// Why.
        reason: Option<String>,
    },
    /// Nothing this client knows; never an error.
    Unknown,
}

/// Reads a frame.
///
/// # Errors
///
/// A frame of a known type that makes no sense.
pub fn read_incoming(header: &Header<'_>, now: UtcMs) -> Result<Incoming, Violation> {
    let members = Members::of(header.payload).map_err(|e| Violation::invalid(e.to_string()))?;
    let p = Payload { header, members, now };
    let reply = match header.kind.as_ref() {
        "session.welcome" => Reply::Opened(p.opened()?),
        "session.error" => Reply::Refused(p.refusal(Concern::Session)),
        "session.closed" => Reply::Closed { reason: p.string(&["reason"]) },
        "session.bye" => return Ok(Incoming::Goodbye { reason: p.string(&["reason"]) }),
        "session.ping" => Reply::Ping { nonce: p.string(&["nonce"]).unwrap_or_default(), at: p.now },
        "session.pong" => Reply::Pong { nonce: p.string(&["ping_nonce", "nonce"]).unwrap_or_default(), at: p.now },
        "session.jobs" => Reply::Jobs(p.page()?),
        "job.accepted" => Reply::Accepted(p.accepted()?),
        "job.cancelled" => Reply::CancelTaken { job: p.job()?, reason: p.string(&["reason"]) },
        "job.subscribed" => Reply::Watching(p.watching()?),
        "job.event" => return p.event(),
        "job.result" | "job.error" => return p.terminal(),
        _ => return Ok(Incoming::Unknown),
    };
    let trace = header.trace.as_deref().map(ToString::to_string);
    Ok(Incoming::Reply { reply, job: header.job.clone(), trace })
}

struct Payload<'h, 'a> {
    header: &'h Header<'a>,
    members: Members<'a>,
    now: UtcMs,
}

impl Payload<'_, '_> {
    fn raw(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.members.get(name)).filter(|raw| *raw != "null")
    }

    fn string(&self, names: &[&str]) -> Option<String> {
        self.raw(names).and_then(|raw| serde_json::from_str(raw).ok())
    }

    fn id(&self, names: &[&str]) -> Option<WireId> {
        self.string(names).and_then(|id| WireId::new(&id))
    }

    fn u64(&self, names: &[&str]) -> Option<u64> {
        self.raw(names).and_then(|raw| serde_json::from_str(raw).ok())
    }

    fn time(&self, names: &[&str]) -> Option<UtcMs> {
        self.string(names).and_then(|text| UtcMs::parse(&text))
    }

    fn json(&self, names: &[&str]) -> Option<Json> {
        names.iter().find_map(|name| self.members.get(name)).and_then(|raw| Json::parse(raw).ok())
    }

    fn job(&self) -> Result<WireId, Violation> {
        self.id(&["job_id"])
            .or_else(|| self.header.job.clone())
            .ok_or_else(|| Violation::invalid(alloc::format!("`{}` names no job", self.header.kind)))
    }

    /// The request this answers: by id where the runtime says so, else by an
    /// envelope id that repeats the request's.
    fn request(&self) -> Option<WireId> {
        self.id(&["request_id"]).or_else(|| self.header.correlation.clone()).or_else(|| Some(self.header.id.clone()))
    }

    fn trace(&self) -> Option<String> {
        self.string(&["trace_id"]).or_else(|| self.header.trace.as_deref().map(ToString::to_string))
    }

    fn lease(&self) -> Json {
        self.json(&["lease"]).filter(Json::is_object).unwrap_or_else(Json::empty_object)
    }

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
        }
        let session = self.id(&["session_id"]).or_else(|| self.header.session.clone());
        let capabilities: Capabilities<'_> = match self.raw(&["capabilities"]) {
            Some(raw) => payload("session.welcome", raw)?,
            None => Capabilities::default(),
        };
        let runtime: Program =
            self.raw(&["runtime"]).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let features = capabilities.features.iter().filter_map(|name| feature_named(name));
        Ok(Opened {
            session: session.ok_or_else(|| Violation::invalid("`session.welcome` names no session"))?,
            resume_token: Secret::new(self.string(&["resume_token"]).unwrap_or_default()),
            resume_window_s: self.u64(&["resume_window_sec"]).unwrap_or(0),
            heartbeat_s: self.raw(&["heartbeat_interval_sec"]).and_then(seconds),
            features: features.fold(Features::default(), Features::with),
            agents: capabilities.agents.unwrap_or_default().into_iter().filter_map(|raw| agent(raw.get())).collect(),
            runtime: ClientInfo { name: runtime.name, version: runtime.version },
            accepted_at: self.time(&["accepted_at"]).unwrap_or(self.now),
        })
    }

    fn error(&self) -> (ErrorCode, String, Option<bool>, Option<Json>) {
        // Some runtimes nest what others write flat.
        let nested = self.raw(&["error"]).and_then(|raw| Members::of(raw).ok());
        let m = match &nested {
            Some(inner) if inner.get("code").is_some() => inner,
            Some(_) | None => &self.members,
        };
        let code = m.get_str("code").map_or(ErrorCode::Internal, |code| code_named(&code));
        let message = m.get_str("message").filter(|text| !text.is_empty());
        let message = message.unwrap_or_else(|| "the runtime gave no message".to_string());
        let retryable = m.get("retryable").and_then(|raw| serde_json::from_str(raw).ok());
        let details = match (m.get("details"), m.get_str("detail")) {
            (Some(raw), _) if raw.starts_with('{') => Json::parse(raw).ok(),
            (_, Some(text)) => {
                let mut details = Object::new();
                details.str("detail", &text);
                Some(details.json())
            }
            _ => None,
        };
        (code, message, retryable, details)
    }

    fn refusal(&self, concern: Concern) -> Refusal {
        let (code, message, retryable, details) = self.error();
        Refusal {
            concern,
            retryable: retryable.unwrap_or_else(|| code.retryable()),
            code,
            message: Cow::Owned(message),
            details,
            request: self.request(),
            job: self.id(&["job_id"]).or_else(|| self.header.job.clone()),
        }
    }

    fn page(&self) -> Result<JobPage, Violation> {
        let rows: Vec<&RawValue> = match self.raw(&["jobs"]) {
            Some(raw) => payload("session.jobs", raw)?,
            None => Vec::new(),
        };
        let rows = rows.into_iter().filter_map(|raw| self.nested(raw.get())?.summary());
        Ok(JobPage { request: self.request(), jobs: rows.collect(), next: self.string(&["next_cursor"]) })
    }

    fn nested<'b>(&'b self, raw: &'b str) -> Option<Payload<'b, 'b>> {
        Some(Payload { header: self.header, members: Members::of(raw).ok()?, now: self.now })
    }

    fn summary(&self) -> Option<JobSummary> {
        Some(JobSummary {
            job: self.id(&["job_id"])?,
            agent: self.string(&["agent"]).unwrap_or_default(),
            status: self.status(&["status"]),
            lease: self.lease(),
            parent: self.id(&["parent_job_id"]),
            created_at: self.time(&["created_at", "submitted_at"]),
            trace: self.string(&["trace_id"]),
            last_event: self.u64(&["last_event_seq"]).unwrap_or(0),
        })
    }

    fn status(&self, names: &[&str]) -> Option<JobStatus> {
        self.string(names).and_then(|word| status_named(&word))
    }

    fn accepted(&self) -> Result<Accepted, Violation> {
        Ok(Accepted {
            request: self.request(),
            job: self.job()?,
            agent: self.string(&["agent"]).unwrap_or_default(),
            lease: self.lease(),
            trace: self.trace(),
            accepted_at: self.time(&["accepted_at"]).unwrap_or(self.now),
        })
    }

    fn watching(&self) -> Result<Watching, Violation> {
        let replayed = match self.raw(&["replayed"]) {
            Some("true") => true,
            Some(raw) => raw.parse::<u64>().is_ok_and(|count| count > 0),
            None => false,
        };
        Ok(Watching {
            request: self.request(),
            job: self.job()?,
            status: self.status(&["current_status"]),
            agent: self.string(&["agent"]).unwrap_or_default(),
            lease: self.lease(),
            parent: self.id(&["parent_job_id"]),
            trace: self.trace(),
            from: self.u64(&["subscribed_from"]).unwrap_or(0),
            replayed,
        })
    }

    fn event(&self) -> Result<Incoming, Violation> {
        let kind = self.string(&["kind"]).ok_or_else(|| Violation::invalid("`job.event` has no kind"))?;
        let body = self.json(&["body"]).filter(Json::is_object).unwrap_or_else(Json::empty_object);
        let event = if kind == "result_chunk" {
            JobEvent::Chunk(chunk(&body)?)
        } else {
            let kind = EventKind::of(&kind);
            // What a runtime let through is shown as it is rather than lost.
            let body = kind.normalise(&body).unwrap_or(body);
            JobEvent::Said { kind, body }
        };
        Ok(Incoming::Event { job: self.job()?, seq: self.header.seq, at: self.time(&["ts"]), event })
    }

    fn terminal(&self) -> Result<Incoming, Violation> {
        let said = self.string(&["final_status"]);
        let is_error = self.header.kind == "job.error";
        let status = match said.as_deref() {
            Some("success") if !is_error => FinalStatus::Success,
            Some("cancelled") => FinalStatus::Cancelled,
            Some("timed_out") => FinalStatus::TimedOut,
            None if !is_error => FinalStatus::Success,
            Some(_) | None => FinalStatus::Error,
        };
        let terminal = match status {
            FinalStatus::Success => Terminal::success(self.result(), self.string(&["summary"])),
            FinalStatus::Error | FinalStatus::Cancelled | FinalStatus::TimedOut => self.failure(status),
        };
        let seq = self.header.seq;
        // A refused submit may look like the end of a job that never was.
        if is_error && seq.is_none() && self.id(&["request_id"]).is_some() {
            let reply = Reply::Refused(self.refusal(Concern::Submit));
            return Ok(Incoming::Reply { reply, job: None, trace: self.trace() });
        }
        let at = self.time(&["completed_at"]);
        Ok(Incoming::Event { job: self.job()?, seq, at, event: JobEvent::Ended(terminal) })
    }

    fn result(&self) -> Option<JobResult> {
        let inline = self.json(&["result", "output"]);
        match (self.string(&["result_id"]), inline) {
            (Some(result_id), inline) => {
                Some(JobResult::Streamed { result_id, size: self.u64(&["result_size"]).unwrap_or(0), inline })
            }
            (None, inline) => inline.map(JobResult::Inline),
        }
    }

    fn failure(&self, status: FinalStatus) -> Terminal {
        let (mut code, message, retryable, details) = self.error();
        if self.raw(&["code", "error"]).is_none() {
            code = match status {
                FinalStatus::Cancelled => ErrorCode::Cancelled,
                FinalStatus::TimedOut => ErrorCode::Timeout,
                FinalStatus::Error | FinalStatus::Success => ErrorCode::Internal,
            };
        }
        let status = match (&code, status) {
            // Some write the cause only into the code.
            (ErrorCode::Cancelled, FinalStatus::Error) => FinalStatus::Cancelled,
            (ErrorCode::Timeout, FinalStatus::Error) => FinalStatus::TimedOut,
            (_, status) => status,
        };
        let retryable = retryable.unwrap_or_else(|| code.retryable());
        let error = JobError { code, message, retryable, details };
        Terminal { status, result: None, summary: None, error: Some(error) }
    }
}

fn seconds(raw: &str) -> Option<u64> {
    let number: f64 = raw.parse().ok()?;
    // `as` saturates; a fraction of a second counts as a whole one.
    (number > 0.0).then(|| (number as u64).max(1))
}

fn agent(raw: &str) -> Option<AgentEntry> {
    if raw.starts_with('"') {
        let name: String = serde_json::from_str(raw).ok()?;
        return Some(AgentEntry { name, versions: Vec::new(), default: None });
    }
    let members = Members::of(raw).ok()?;
    let versions = members.get("versions").and_then(|raw| serde_json::from_str(raw).ok());
    Some(AgentEntry {
        name: members.get_str("name")?,
        versions: versions.unwrap_or_default(),
        default: members.get_str("default"),
    })
}

fn chunk(body: &Json) -> Result<ResultChunk, Violation> {
    #[derive(Deserialize)]
    struct Fields {
        result_id: String,
        chunk_seq: u64,
        #[serde(default)]
        data: String,
        #[serde(default)]
        encoding: Option<String>,
        more: bool,
    }
    let fields: Fields = payload("result_chunk", body.as_str())?;
    let encoding = match fields.encoding.as_deref() {
        None | Some("utf8" | "utf-8") => ChunkEncoding::Utf8,
        Some("base64") => ChunkEncoding::Base64,
        Some(_) => return Err(Violation::invalid("result chunk in an unknown encoding")),
    };
    Ok(ResultChunk {
        result_id: fields.result_id,
        chunk_seq: fields.chunk_seq,
        data: fields.data,
        encoding,
        more: fields.more,
    })
}
