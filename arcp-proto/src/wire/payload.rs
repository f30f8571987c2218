//! Frames of runtimes as our client reads them: the parts that both families share, in every
//! published spelling.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::{Header, payload};
use super::names::status_named;
use super::shared::{
    DETAILS, SESSIONS, read_artifact, read_checkpoint_reply, read_of_artifacts, read_reference, read_schedule_reply,
    read_token_reply,
};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Members, Object};
use crate::lease::{Budget, Constraints};
use crate::model::agent::AgentEntry;
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{ChunkEncoding, JobEvent, JobResult, ResultChunk};
use crate::model::job::{JobStatus, JobSummary, JobWaits};
use crate::model::reply::{
    Accepted, ArtifactRetention, CommandReply, JobPage, Refusal, RefusedKind, Reply, SessionReply, Watching,
};
use crate::model::request::Target;
use crate::model::session::{SessionPage, SessionSummary};
use crate::secret::Secret;
use crate::time::UtcMs;

/// A frame of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeFrame {
    /// An answer, or an unrequested message.
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
        /// Its number in this session's stream, if the runtime gave one.
        seq: Option<u64>,
        /// When it happened, if the runtime said so.
        at: Option<UtcMs>,
        /// The event.
        event: JobEvent,
    },
    /// The runtime requests an echo.
    Echo {
        /// The nonce to repeat.
        nonce: Option<String>,
    },
    /// The runtime says goodbye.
    Goodbye {
        /// Why.
        reason: Option<String>,
    },
    /// A numbered frame whose content other frames repeat.
    Counted,
    /// A heartbeat of a job.
    Heartbeat {
        /// The job.
        job: WireId,
    },
    /// A message that this client does not know; never an error.
    Unknown,
}

/// The payload of a frame, with its header.
pub(super) struct Payload<'h, 'a> {
    pub(super) header: &'h Header<'a>,
    pub(super) members: Members<'a>,
    pub(super) now: UtcMs,
}

impl Payload<'_, '_> {
    /// Reads a reply of a type that both families have; `None` for other types.
    pub(super) fn shared_reply(&self) -> Result<Option<Reply>, Violation> {
        let nonce = |names: &[&str]| self.string(names).unwrap_or_default();
        let request = self.header.correlation.clone();
        Ok(Some(match self.header.kind.as_ref() {
            "session.closed" => Reply::Session(SessionReply::Closed { reason: self.string(&["reason"]), request }),
            "session.ping" => Reply::Session(SessionReply::Ping { nonce: nonce(&["nonce"]), at: self.now }),
            "session.pong" => {
                Reply::Session(SessionReply::Pong { nonce: nonce(&["ping_nonce", "nonce"]), at: self.now, request })
            }
            "session.jobs" => Reply::Session(SessionReply::Jobs(self.page()?)),
            SESSIONS => Reply::Session(SessionReply::Sessions(self.sessions()?)),
            "job.subscribed" => Reply::Command(CommandReply::Watching(self.watching()?)),
            _ => {
                let artifact = read_artifact(self.header, &self.members, self.request())?;
                let of_parts = || read_of_artifacts(self.header, &self.members, self.request());
                let artifact = artifact.map_or_else(of_parts, |artifact| Ok(Some(artifact)))?;
                let other = || read_schedule_reply(self.header, &self.members, self.request());
                let found = artifact.map_or_else(other, |artifact| Ok(Some(artifact)))?;
                let checkpoint = || read_checkpoint_reply(self.header, &self.members, self.request());
                let found = found.map_or_else(checkpoint, |found| Ok(Some(found)))?;
                let token = || read_token_reply(self.header, &self.members, self.request());
                return found.map_or_else(token, |found| Ok(Some(found)));
            }
        }))
    }

    /// Reads that a cancel was accepted. The client knows its target from the request.
    pub(super) fn cancel_taken(&self) -> Result<CommandReply, Violation> {
        Ok(CommandReply::CancelTaken {
            target: Target::Job(self.id(&["target_id"]).map_or_else(|| self.job(), Ok)?),
            reason: None,
            deadline_ms: self.u64(&["deadline_ms"]).unwrap_or(0),
            request: self.header.correlation.clone(),
        })
    }

    /// Reads how long artifacts are kept, from a member of the capabilities.
    pub(super) fn artifact_retention(&self, name: &str) -> Option<ArtifactRetention> {
        let capabilities = Members::parse(self.raw(&["capabilities"])?).ok()?;
        let retention = Members::parse(capabilities.get(name)?).ok()?;
        let seconds = |name: &str| retention.get(name)?.parse().ok();
        Some(ArtifactRetention { default_s: seconds("default_seconds")?, max_s: seconds("max_seconds")? })
    }

    pub(super) fn header_trace(&self) -> Option<String> {
        self.header.trace.as_deref().map(ToString::to_string)
    }

    pub(super) fn raw(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.members.get(name)).filter(|raw| *raw != "null")
    }

    pub(super) fn string(&self, names: &[&str]) -> Option<String> {
        self.raw(names).and_then(|raw| serde_json::from_str(raw).ok())
    }

    pub(super) fn id(&self, names: &[&str]) -> Option<WireId> {
        self.string(names).and_then(|id| WireId::new(&id))
    }

    pub(super) fn u64(&self, names: &[&str]) -> Option<u64> {
        self.raw(names).and_then(|raw| serde_json::from_str(raw).ok())
    }

    pub(super) fn time(&self, names: &[&str]) -> Option<UtcMs> {
        self.string(names).and_then(|text| UtcMs::parse(&text))
    }

    pub(super) fn json(&self, names: &[&str]) -> Option<Json> {
        names.iter().find_map(|name| self.members.get(name)).and_then(|raw| Json::parse(raw).ok())
    }

    pub(super) fn job(&self) -> Result<WireId, Violation> {
        self.id(&["job_id"])
            .or_else(|| self.header.job.clone())
            .ok_or_else(|| Violation::invalid(alloc::format!("`{}` names no job", self.header.kind)))
    }

    /// The request that this answers, if the runtime names it.
    pub(super) fn request(&self) -> Option<WireId> {
        self.id(&["request_id"]).or_else(|| self.header.correlation.clone())
    }

    pub(super) fn trace(&self) -> Option<String> {
        self.string(&["trace_id"]).or_else(|| self.header.trace.as_deref().map(ToString::to_string))
    }

    pub(super) fn lease(&self) -> Json {
        self.object("lease")
    }

    /// An object, as sent; `{}` when there is none.
    pub(super) fn object(&self, name: &str) -> Json {
        self.json(&[name]).filter(Json::is_object).unwrap_or_else(Json::empty_object)
    }

    pub(super) fn error(&self) -> (ErrorCode, String, Option<bool>, Option<Json>) {
        // Some runtimes nest the error, others do not.
        let nested = self.raw(&["error"]).and_then(|raw| Members::parse(raw).ok());
        let m = match &nested {
            Some(inner) if inner.get("code").is_some() => inner,
            Some(_) | None => &self.members,
        };
        let code = m.get_str("code").map_or(ErrorCode::Internal, |code| ErrorCode::from(code.as_str()));
        let message = m.get_str("message").filter(|text| !text.is_empty());
        let message = message.unwrap_or_else(|| "the runtime gave no message".to_string());
        let retryable = m.get("retryable").and_then(|raw| serde_json::from_str(raw).ok());
        // Some write these members beside the nested error.
        let given = |name: &str| m.get(name).or_else(|| self.members.get(name));
        let detail = m.get_str("detail").or_else(|| self.members.get_str("detail"));
        let details = match (given("details"), detail) {
            (Some(raw), _) if raw.starts_with('{') => Json::parse(raw).ok(),
            (_, Some(text)) => {
                let mut details = Object::new();
                details.str("detail", &text);
                Some(details.json())
            }
            _ => None,
        };
        // A runtime of this project gives a code that the family lacks beside the nearest one.
        let own = details.as_ref().and_then(|details| details.members().ok()?.get_str("open_code"));
        let own = own.as_deref().map(ErrorCode::from).filter(|own| own.in_hello() == code.as_str());
        (own.unwrap_or(code), message, retryable, details)
    }

    pub(super) fn refusal(&self, kind: RefusedKind) -> Refusal {
        let (code, message, retryable, details) = self.error();
        Refusal {
            kind,
            retryable: retryable.unwrap_or_else(|| code.retryable()),
            code,
            message: Cow::Owned(message),
            details,
            request: self.request(),
            job: self.id(&["job_id"]).or_else(|| self.header.job.clone()),
            trace: self.header_trace(),
        }
    }

    pub(super) fn page(&self) -> Result<JobPage, Violation> {
        let rows: Vec<&RawValue> = match self.raw(&["jobs"]) {
            Some(raw) => payload("session.jobs", raw)?,
            None => Vec::new(),
        };
        let rows = rows.into_iter().filter_map(|raw| self.nested(raw.get())?.summary());
        Ok(JobPage { request: self.request(), jobs: rows.collect(), next: self.string(&["next_cursor"]) })
    }

    fn sessions(&self) -> Result<SessionPage, Violation> {
        let rows: Vec<&RawValue> = match self.raw(&["sessions"]) {
            Some(raw) => payload(SESSIONS, raw)?,
            None => Vec::new(),
        };
        let summary = |row: Payload<'_, '_>| {
            Some(SessionSummary {
                session: row.id(&["session_id"])?,
                principal: row.string(&["principal"]).unwrap_or_default(),
                opened_at: row.time(&["opened_at"]),
                connected: row.raw(&["connected"]) == Some("true"),
                expires_at: row.time(&["expires_at"]),
            })
        };
        let rows = rows.into_iter().filter_map(|raw| summary(self.nested(raw.get())?));
        Ok(SessionPage { request: self.request(), sessions: rows.collect(), next: self.id(&["next_after"]) })
    }

    pub(super) fn nested<'b>(&'b self, raw: &'b str) -> Option<Payload<'b, 'b>> {
        Some(Payload { header: self.header, members: Members::parse(raw).ok()?, now: self.now })
    }

    pub(super) fn summary(&self) -> Option<JobSummary> {
        Some(JobSummary {
            job: self.id(&["job_id"])?,
            agent: self.string(&["agent"]).unwrap_or_default(),
            status: self.status(&["status"]),
            lease: self.lease(),
            constraints: Constraints::read_granted(&self.object("lease_constraints")),
            budget: Budget::read_shown(&self.object("budget")),
            raised: Budget::read_shown(&self.object("budget_raised")),
            parent: self.id(&["parent_job_id"]),
            created_at: self.time(&["created_at", "submitted_at"]),
            trace: self.string(&["trace_id"]),
            last_event: self.u64(&["last_event_seq"]).unwrap_or(0),
            ended_at: self.time(&["ended_at"]),
            owner: self.string(&["principal"]),
            trust: self.string(&["trust_level"]).and_then(|level| level.parse().ok()),
            waits: JobWaits { place: self.u64(&["place"]), what: self.words("waits_for") },
        })
    }

    /// A list of words; empty for any other value.
    fn words(&self, name: &str) -> Vec<String> {
        self.raw(&[name]).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    }

    pub(super) fn status(&self, names: &[&str]) -> Option<JobStatus> {
        self.string(names).and_then(|word| status_named(&word))
    }

    pub(super) fn accepted(&self) -> Result<Accepted, Violation> {
        Ok(Accepted {
            request: self.request(),
            job: self.job()?,
            agent: self.string(&["agent"]).unwrap_or_default(),
            lease: self.lease(),
            constraints: Constraints::read_granted(&self.object("lease_constraints")),
            budget: Budget::read_shown(&self.object("budget")),
            trace: self.trace(),
            accepted_at: self.time(&["accepted_at"]).unwrap_or(self.now),
            parent: self.id(&["parent_job_id"]),
            delegate_id: self.id(&["delegate_id"]),
            credentials: self.credentials(),
        })
    }

    /// The readable credentials. Those with an unknown scheme are kept, because nothing uses them
    /// by mistake.
    fn credentials(&self) -> Vec<ProvisionedCredential> {
        let rows: Vec<&RawValue> =
            self.raw(&["credentials"]).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let read = |row: &RawValue| {
            let each = self.nested(row.get())?;
            Some(ProvisionedCredential {
                id: each.string(&["id"])?,
                scheme: each.string(&["scheme"])?,
                value: Secret::new(each.string(&["value"])?),
                endpoint: each.string(&["endpoint"]).unwrap_or_default(),
                profile: each.string(&["profile"]),
                constraints: each.json(&["constraints"]),
            })
        };
        rows.into_iter().filter_map(read).collect()
    }

    pub(super) fn watching(&self) -> Result<Watching, Violation> {
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
            constraints: Constraints::read_granted(&self.object("lease_constraints")),
            budget: Budget::read_shown(&self.object("budget")),
            parent: self.id(&["parent_job_id"]),
            trace: self.trace(),
            from: self.u64(&["subscribed_from"]).unwrap_or(0),
            replayed,
        })
    }

    /// The result of a success; `names`: the members of an inline one.
    pub(super) fn result(&self, names: &[&str]) -> Option<JobResult> {
        let inline = self.json(names);
        if let Some(result_id) = self.string(&["result_id"]) {
            return Some(JobResult::Streamed { result_id, size: self.u64(&["result_size"]), inline });
        }
        let reference = self.raw(&["result_ref"]).filter(|raw| *raw != "null");
        let stored = reference.and_then(|raw| Members::parse(raw).ok()).and_then(|said| read_reference(&said));
        // An incomplete reference, or one to something else, is returned as it is rather than lost.
        let whole = || {
            let mut said = Object::new();
            said.raw("result_ref", reference?);
            Some(JobResult::Inline(said.json()))
        };
        stored
            .map(|stored| JobResult::Stored(Box::new(stored)))
            .or_else(|| inline.map(JobResult::Inline))
            .or_else(whole)
    }
}

pub(super) fn seconds(raw: &str) -> Option<u64> {
    let number: f64 = raw.parse().ok()?;
    // `as` saturates; a fraction of a second counts as a whole one.
    (number > 0.0).then(|| (number as u64).max(1))
}

pub(super) fn agent(raw: &str) -> Option<AgentEntry> {
    if raw.starts_with('"') {
        let name: String = serde_json::from_str(raw).ok()?;
        return Some(AgentEntry { name, ..AgentEntry::default() });
    }
    let members = Members::parse(raw).ok()?;
    let versions = members.get("versions").and_then(|raw| serde_json::from_str(raw).ok());
    let details = members.get(DETAILS).and_then(|raw| Members::parse(raw).ok()).unwrap_or_default();
    Some(AgentEntry {
        name: members.get_str("name")?,
        versions: versions.unwrap_or_default(),
        default: members.get_str("default"),
        concurrency: details.get("concurrency").and_then(|raw| raw.parse().ok()),
        description: details.get_str("description"),
        input_schema: details.get("input_schema").and_then(|raw| Json::parse(raw).ok()),
        ..AgentEntry::default()
    })
}

pub(super) fn chunk(body: &Json, beside: Option<&[u8]>) -> Result<ResultChunk, Violation> {
    #[derive(Deserialize)]
    struct Fields {
        result_id: String,
        chunk_seq: u64,
        #[serde(default)]
        data: Option<String>,
        #[serde(default)]
        encoding: Option<String>,
        more: bool,
    }
    let fields: Fields = payload("result_chunk", body.as_str())?;
    let (data, encoding) = match (fields.data, beside, fields.encoding.as_deref()) {
        (None, Some(bytes), _) => (BASE64.encode(bytes), ChunkEncoding::Base64),
        (data, _, None | Some("utf8" | "utf-8")) => (data.unwrap_or_default(), ChunkEncoding::Utf8),
        (data, _, Some("base64")) => (data.unwrap_or_default(), ChunkEncoding::Base64),
        (_, _, Some(_)) => return Err(Violation::invalid("result chunk in an unknown encoding")),
    };
    Ok(ResultChunk { result_id: fields.result_id, chunk_seq: fields.chunk_seq, data, encoding, more: fields.more })
}
