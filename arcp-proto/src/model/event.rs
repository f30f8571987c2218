//! The events of a job (1.1 §8, RFC §10).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::convert::Infallible;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Violation};
use crate::json::{Json, Members, Object};
use crate::model::artifact::ArtifactRef;
use crate::model::job::FinalStatus;
use crate::model::stored_form::is_stored_form;

/// One event in the history of a job. Contents of which a job has few are boxed, so that the many
/// other events take little memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEvent {
    /// The agent began to run.
    Started,
    /// An event that the agent emitted.
    #[serde(alias = "Said")]
    Emitted {
        /// Its kind.
        kind: EventKind,
        /// Its content: an object, with members as [`EventKind::normalise`] leaves them.
        body: Json,
    },
    /// One chunk of the result.
    Chunk(Box<ResultChunk>),
    /// The end. No event follows it.
    Ended(Box<Terminal>),
}

/// Declares the classes once: the type, and the list of all of them.
macro_rules! event_classes {
    ($($class:ident = $number:literal,)*) => {
        /// The class of an event: all that is known of it without its content. It decides which
        /// sessions get the event and in how many frames. It is kept for every event, also where
        /// the event itself is not in memory. Its number is its bit in stored [`EventClasses`]:
        /// numbers never change and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "each is the event or the kind of its name")]
        pub enum EventClass {
            $($class = $number,)*
        }

        impl EventClass {
            /// Every class, in the order of their numbers.
            pub const ALL: [EventClass; [$($number),*].len()] = [$(EventClass::$class),*];
        }
    };
}

event_classes! {
    Started = 0,
    Log = 1,
    Thought = 2,
    ToolCall = 3,
    ToolResult = 4,
    Status = 5,
    Metric = 6,
    Artifact = 7,
    Delegate = 8,
    Progress = 9,
    Checkpoint = 10,
    Vendor = 11,
    Chunk = 12,
    Succeeded = 13,
    Failed = 14,
    Cancelled = 15,
    InputRequest = 16,
    ChoiceRequest = 17,
    PermissionRequest = 18,
    PromptClosed = 19,
    LeaseGranted = 20,
    LeaseExtended = 21,
    LeaseRevoked = 22,
    StreamOpen = 23,
    StreamChunk = 24,
    StreamClose = 25,
    StreamError = 26,
    StoredArtifact = 27,
    WorkflowComplete = 28,
}

// Events are counted in a table that is indexed by these numbers.
const _: () = {
    let mut at = 0;
    while at < EventClass::ALL.len() {
        assert!(EventClass::ALL[at] as usize == at, "classes are numbered 0, 1, 2, ... in order");
        at += 1;
    }
};

impl EventClass {
    /// Whether it is the end of a job.
    pub fn is_end(self) -> bool {
        EventClasses::ENDS.has(self)
    }
}

impl FromIterator<EventClass> for EventClasses {
    fn from_iter<T: IntoIterator<Item = EventClass>>(classes: T) -> EventClasses {
        EventClasses(classes.into_iter().fold(0, |bits, class| bits | EventClasses::new(&[class]).0))
    }
}

/// A set of [`EventClass`]es. The log stores it as bits, by the numbers of the classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventClasses(u32);

impl EventClasses {
    /// Every class.
    pub const ALL: EventClasses = EventClasses::new(&EventClass::ALL);
    /// The ends of a job.
    pub const ENDS: EventClasses =
        EventClasses::new(&[EventClass::Succeeded, EventClass::Failed, EventClass::Cancelled]);

    /// The set of these classes.
    pub const fn new(classes: &[EventClass]) -> EventClasses {
        let (mut bits, mut at) = (0, 0);
        while at < classes.len() {
            bits |= 1 << classes[at] as u32;
            at += 1;
        }
        EventClasses(bits)
    }

    /// Whether the set contains a class.
    pub const fn has(self, class: EventClass) -> bool {
        self.0 & (1 << class as u32) != 0
    }

    /// This set with one more class.
    #[must_use]
    pub(crate) const fn with(self, class: EventClass) -> EventClasses {
        EventClasses(self.0 | 1 << class as u32)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The classes of this set that are not in the other.
    #[must_use]
    pub const fn without(self, those: EventClasses) -> EventClasses {
        EventClasses(self.0 & !those.0)
    }

    /// The classes that are in both sets.
    #[must_use]
    pub const fn and(self, those: EventClasses) -> EventClasses {
        EventClasses(self.0 & those.0)
    }

    /// The classes, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = EventClass> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let class = EventClass::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*class)
        })
    }
}

impl JobEvent {
    /// Bytes that it holds, approximately.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 160;
        FIXED
            + match self {
                JobEvent::Started => 0,
                JobEvent::Emitted { body, .. } => body.as_str().len(),
                JobEvent::Chunk(chunk) => chunk.data.len(),
                JobEvent::Ended(terminal) => match &terminal.result {
                    Some(JobResult::Inline(json) | JobResult::Streamed { inline: Some(json), .. }) => {
                        json.as_str().len()
                    }
                    Some(JobResult::Stored(artifact)) => size_of::<ArtifactRef>() + artifact.weight(),
                    Some(JobResult::Streamed { inline: None, .. }) | None => 0,
                },
            }
    }

    /// An extension that the agent put into an emitted event: a member of the body whose name
    /// begins with `x-`, such as `x-my-field`. `None` if there is no such member.
    pub fn extension(&self, name: &str) -> Option<Json> {
        match self {
            JobEvent::Emitted { body, .. } if name.starts_with("x-") => {
                Json::parse(body.members().ok()?.get(name)?).ok()
            }
            JobEvent::Started | JobEvent::Emitted { .. } | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
        }
    }

    /// Its class.
    pub fn class(&self) -> EventClass {
        match self {
            JobEvent::Started => EventClass::Started,
            JobEvent::Emitted { kind, .. } => match kind {
                EventKind::Log => EventClass::Log,
                EventKind::Thought => EventClass::Thought,
                EventKind::ToolCall => EventClass::ToolCall,
                EventKind::ToolResult => EventClass::ToolResult,
                EventKind::Status => EventClass::Status,
                EventKind::Metric => EventClass::Metric,
                EventKind::Artifact => EventClass::Artifact,
                EventKind::Delegate => EventClass::Delegate,
                EventKind::Progress => EventClass::Progress,
                EventKind::Checkpoint => EventClass::Checkpoint,
                EventKind::InputRequest => EventClass::InputRequest,
                EventKind::ChoiceRequest => EventClass::ChoiceRequest,
                EventKind::PermissionRequest => EventClass::PermissionRequest,
                EventKind::PromptClosed => EventClass::PromptClosed,
                EventKind::LeaseGranted => EventClass::LeaseGranted,
                EventKind::LeaseExtended => EventClass::LeaseExtended,
                EventKind::LeaseRevoked => EventClass::LeaseRevoked,
                EventKind::StreamOpen => EventClass::StreamOpen,
                EventKind::StreamChunk => EventClass::StreamChunk,
                EventKind::StreamClose => EventClass::StreamClose,
                EventKind::StreamError => EventClass::StreamError,
                EventKind::StoredArtifact => EventClass::StoredArtifact,
                EventKind::WorkflowComplete => EventClass::WorkflowComplete,
                EventKind::Vendor(_) => EventClass::Vendor,
            },
            JobEvent::Chunk(_) => EventClass::Chunk,
            JobEvent::Ended(terminal) => match terminal.status {
                FinalStatus::Success => EventClass::Succeeded,
                FinalStatus::Error | FinalStatus::TimedOut => EventClass::Failed,
                FinalStatus::Cancelled => EventClass::Cancelled,
            },
        }
    }
}

/// Declares the kinds once: the type, its names in both directions, and the list of all kinds
/// except vendor kinds.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The kinds of events that an agent emits (1.1 §8.2).
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
            /// `x-vendor.<vendor>.<name>`, body as given.
            Vendor(Box<str>),
        }

        /// The kinds under which the hello family shows questions to people and streams to clients
        /// that read no messages of the open family.
pub(crate) const SHOWN_AS: [&str; 2] = ["x-vendor.arcp.request", "x-vendor.arcp.stream"];

impl EventKind {
            /// Every kind except vendor kinds.
            pub const NAMED: [EventKind; [$($name),*].len()] = [$(EventKind::$kind),*];

            /// The name, as both families write it in the body of an event.
            pub fn as_str(&self) -> &str {
                match self {
                    $(EventKind::$kind => $name,)*
                    EventKind::Vendor(name) => name,
                }
            }
        }

        /// The kind of this name. An unknown name is a vendor kind; [`EventKind::normalise`] checks
        /// whether it is well formed.
        impl From<&str> for EventKind {
            fn from(name: &str) -> EventKind {
                match name {
                    $($name => EventKind::$kind,)*
                    other => EventKind::Vendor(other.into()),
                }
            }
        }
    };
}

event_kinds! {
    /// `{level, message, attributes?}`
    Log = "log",
    /// `{text}`
    Thought = "thought",
    /// `{tool, call_id, args}`
    ToolCall = "tool_call",
    /// `{call_id, result | error}`
    ToolResult = "tool_result",
    /// `{phase, message?}`
    Status = "status",
    /// `{name, value, unit?, dimensions?}`
    Metric = "metric",
    /// `{uri, content_type?, byte_size?, sha256?}`
    Artifact = "artifact_ref",
    /// The agent delegated to a child job.
    Delegate = "delegate",
    /// `{current, total?, units?, message?}`
    Progress = "progress",
    /// `{checkpoint_id, label?}`: a state from which a job can continue was kept.
    Checkpoint = "x-vendor.arcp.checkpoint",
    /// `{prompt_id, prompt, response_schema, default?, expires_at}`: a question to people for a
    /// value.
    InputRequest = "human.input.request",
    /// `{prompt_id, prompt, options, default?, expires_at}`: a question to people to choose an
    /// option.
    ChoiceRequest = "human.choice.request",
    /// `{prompt_id, permission, resource, operation, reason?, requested_lease_seconds?,
    /// expires_at}`: a question to people for a permission.
    PermissionRequest = "permission.request",
    /// `{prompt_id, code, reason, message, responded_by?}`: a question was closed.
    PromptClosed = "human.input.cancelled",
    /// `{prompt_id, lease_id, permission, resource, operation, expires_at?, once?}`: a permission
    /// was granted.
    LeaseGranted = "lease.granted",
    /// `{prompt_id, lease_id, permission, resource, operation, expires_at}`: a granted permission
    /// was extended.
    LeaseExtended = "lease.extended",
    /// `{prompt_id, lease_id, permission, resource, operation, reason}`: a granted permission was
    /// revoked.
    LeaseRevoked = "lease.revoked",
    /// `{stream_id, kind, content_type?, encoding?, inbound?}`: a stream was opened.
    StreamOpen = "stream.open",
    /// `{stream_id, sequence, data, encoding?, content_type?, sha256?, role?, redacted?,
    /// attributes?}`: the next chunk of a stream.
    StreamChunk = "stream.chunk",
    /// `{stream_id, reason?, final_sequence?, shed?}`: a stream was closed.
    StreamClose = "stream.close",
    /// `{stream_id, code, message, final_sequence?, shed?}`: a stream failed.
    StreamError = "stream.error",
    /// `{artifact_id, uri, content_type, byte_size, sha256, expires_at}`: the agent stored an
    /// artifact with the runtime.
    StoredArtifact = "artifact.ref",
    /// `{status, steps}`: the outcome of the steps of a workflow, before its end.
    WorkflowComplete = "x-vendor.arcp.workflow_complete",
}

impl FromStr for EventKind {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<EventKind, Infallible> {
        Ok(EventKind::from(name))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl EventKind {
    /// Brings a body to the form that is stored: alternative spellings of published clients get the
    /// usual names, defaults are added, and unknown members stay as they are, in place.
    ///
    /// ```
    /// use arcp_proto::{json::Json, model::event::EventKind};
    /// let body = Json::parse(r#"{"name":"grep","tool_call_id":"c1","x-mine":1.0}"#).unwrap();
    /// let stored = EventKind::ToolCall.normalise(&body).unwrap();
    /// assert_eq!(stored.as_str(), r#"{"tool":"grep","call_id":"c1","x-mine":1.0,"args":{}}"#);
    /// ```
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the member that is missing or wrong.
    pub fn normalise(&self, body: &Json) -> Result<Json, Violation> {
        if is_stored_form(self, body) { Ok(body.clone()) } else { rewritten(self, body) }
    }

    fn to_stored_form<'a>(&self, m: &mut Members<'a>, error: Option<&'a Json>) -> Result<(), Violation> {
        match self {
            EventKind::Log => self.log(m)?,
            EventKind::Thought => self.need_str(m, "text")?,
            EventKind::ToolCall => {
                m.rename(&["tool_call_id"], "call_id");
                m.rename(&["name"], "tool");
                m.rename(&["arguments"], "args");
                self.need_str(m, "tool")?;
                self.need_str(m, "call_id")?;
                match m.0.iter_mut().find(|(name, _)| name == "args") {
                    Some((_, args)) if *args == "null" => *args = "{}",
                    Some((_, args)) if !args.starts_with('{') => return Err(self.bad("`args` must be an object")),
                    Some(_) => {}
                    None => m.0.push((Cow::Borrowed("args"), "{}")),
                }
            }
            EventKind::ToolResult => {
                m.rename(&["tool_call_id"], "call_id");
                m.rename(&["output"], "result");
                self.need_str(m, "call_id")?;
                if let Some((_, given)) = m.0.iter_mut().find(|(name, _)| name == "error") {
                    *given = error.map_or("null", Json::as_str);
                }
                m.0.retain(|(name, value)| name != "error" || *value != "null");
            }
            EventKind::Status => self.need_str(m, "phase")?,
            EventKind::Metric => self.metric(m)?,
            EventKind::Artifact => {
                m.rename(&["size_bytes"], "byte_size");
                m.rename(&["media_type"], "content_type");
                self.need_str(m, "uri")?;
            }
            EventKind::Delegate => {}
            EventKind::Checkpoint => self.need_str(m, "checkpoint_id")?,
            EventKind::Progress => self.progress(m)?,
            EventKind::InputRequest
            | EventKind::ChoiceRequest
            | EventKind::PermissionRequest
            | EventKind::PromptClosed
            | EventKind::LeaseGranted
            | EventKind::LeaseExtended
            | EventKind::LeaseRevoked
            | EventKind::StreamOpen
            | EventKind::StreamChunk
            | EventKind::StreamClose
            | EventKind::StreamError
            | EventKind::StoredArtifact
            | EventKind::WorkflowComplete => return Err(self.bad("the runtime says that, not its agents")),
            EventKind::Vendor(name) if SHOWN_AS.contains(&&**name) => {
                return Err(self.bad("the runtime says that, not its agents"));
            }
            EventKind::Vendor(name) if name.starts_with("x-vendor.") && name.len() <= 256 => {}
            EventKind::Vendor(_) => return Err(self.bad("unknown kinds must begin with `x-vendor.`")),
        }
        Ok(())
    }

    /// Whether it is about a question to people, or a permission that was granted: both families
    /// have messages of its name.
    pub(crate) fn is_of_prompts(&self) -> bool {
        match self {
            EventKind::InputRequest
            | EventKind::ChoiceRequest
            | EventKind::PermissionRequest
            | EventKind::PromptClosed
            | EventKind::LeaseGranted
            | EventKind::LeaseExtended
            | EventKind::LeaseRevoked => true,
            EventKind::Log
            | EventKind::Thought
            | EventKind::ToolCall
            | EventKind::ToolResult
            | EventKind::Status
            | EventKind::Metric
            | EventKind::Artifact
            | EventKind::Delegate
            | EventKind::Progress
            | EventKind::Checkpoint
            | EventKind::StreamOpen
            | EventKind::StreamChunk
            | EventKind::StreamClose
            | EventKind::StreamError
            | EventKind::StoredArtifact
            | EventKind::WorkflowComplete
            | EventKind::Vendor(_) => false,
        }
    }

    /// Whether it is about a stream: both families have messages of its name.
    pub(crate) fn is_of_streams(&self) -> bool {
        matches!(self, EventKind::StreamOpen | EventKind::StreamChunk | EventKind::StreamClose | EventKind::StreamError)
    }

    fn log(&self, m: &mut Members<'_>) -> Result<(), Violation> {
        const LEVELS: [(&str, &str); 8] = [
            ("trace", "\"trace\""),
            ("debug", "\"debug\""),
            ("info", "\"info\""),
            ("warn", "\"warn\""),
            ("warning", "\"warn\""),
            ("error", "\"error\""),
            ("critical", "\"critical\""),
            ("fatal", "\"critical\""),
        ];
        m.rename(&["fields"], "attributes");
        self.need_str(m, "message")?;
        let given = m.get_str("level").unwrap_or_else(|| "info".to_string());
        let level = LEVELS.iter().find(|(name, _)| given.eq_ignore_ascii_case(name));
        let Some((_, literal)) = level else {
            return Err(self.bad("`level` must be trace, debug, info, warn, error or critical"));
        };
        match m.0.iter_mut().find(|(name, _)| name == "level") {
            Some(member) => member.1 = literal,
            None => m.0.insert(0, (Cow::Borrowed("level"), literal)),
        }
        Ok(())
    }

    fn metric(&self, m: &mut Members<'_>) -> Result<(), Violation> {
        self.need_str(m, "name")?;
        number(m, "value").ok_or_else(|| self.bad("`value` must be a number"))?;
        m.rename(&["dims", "attributes"], "dimensions");
        if let Some(dimensions) = m.get("dimensions") {
            // A duplicate: each family writes the names that its readers know.
            m.0.retain(|(name, value)| name != "dims" || *value != dimensions);
        }
        Ok(())
    }

    fn progress(&self, m: &Members<'_>) -> Result<(), Violation> {
        let current = number(m, "current").ok_or_else(|| self.bad("`current` must be a number"))?;
        let total = match m.get("total") {
            None | Some("null") => None,
            Some(_) => Some(number(m, "total").ok_or_else(|| self.bad("`total` must be a number"))?),
        };
        if current < 0.0 || total.is_some_and(|total| current > total) {
            return Err(self.bad("`current` must be 0 or more, and at most `total`"));
        }
        Ok(())
    }

    fn need_str(&self, m: &Members<'_>, name: &str) -> Result<(), Violation> {
        match m.get(name) {
            Some(raw) if raw.starts_with('"') => Ok(()),
            _ => Err(self.bad(&alloc::format!("`{name}` must be a string"))),
        }
    }

    fn bad(&self, why: &str) -> Violation {
        let name: String = self.as_str().chars().take(64).collect();
        Violation::invalid(alloc::format!("event of kind `{name}`: {why}"))
    }
}

/// A body in the stored form, which may differ from the given one.
pub(super) fn rewritten(kind: &EventKind, body: &Json) -> Result<Json, Violation> {
    let error = if *kind == EventKind::ToolResult { whole_error(body) } else { None };
    let mut members = body.members().map_err(|e| kind.bad(&e.to_string()))?;
    kind.to_stored_form(&mut members, error.as_ref())?;
    Ok(members.to_json())
}

/// The error of a tool's result, with every member that strict readers require.
fn whole_error(body: &Json) -> Option<Json> {
    let members = body.members().ok()?;
    let given = members.get("error").filter(|raw| *raw != "null")?;
    let said = Members::parse(given).unwrap_or_default();
    let code = said.get_str("code").unwrap_or_else(|| "INTERNAL_ERROR".to_string());
    let message = said.get_str("message").or_else(|| serde_json::from_str(given).ok());
    let retryable = matches!(said.get("retryable"), Some("true"))
        || said.get("retryable") != Some("false") && matches!(code.as_str(), "INTERNAL_ERROR" | "TIMEOUT");
    let mut error = Object::new();
    error
        .str("code", &code)
        .str("message", message.as_deref().filter(|text| !text.is_empty()).unwrap_or("the tool gave no message"))
        .bool("retryable", retryable);
    for (name, value) in &said.0 {
        if !matches!(name.as_ref(), "code" | "message" | "retryable") {
            error.member(name, value);
        }
    }
    Some(error.json())
}

fn number(m: &Members<'_>, name: &str) -> Option<f64> {
    m.get(name)?.parse().ok()
}

/// The encoding of a chunk's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkEncoding {
    /// Text.
    Utf8,
    /// Base64 with padding.
    Base64,
}

/// One chunk of a result (1.1 §8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultChunk {
    /// The result to which it belongs.
    pub result_id: String,
    /// 0, 1, 2, ...
    pub chunk_seq: u64,
    /// The data, in this encoding.
    pub data: String,
    /// The encoding of `data`.
    pub encoding: ChunkEncoding,
    /// Whether another chunk follows.
    pub more: bool,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// How it ended.
    pub status: FinalStatus,
    /// The result of a success; `None` if it has none.
    pub result: Option<JobResult>,
    /// A summary of the result in one line.
    pub summary: Option<String>,
    /// The error of any other end.
    pub error: Option<JobError>,
    /// The reason of a cancel, as its sender gave it.
    pub reason: Option<Box<str>>,
}

/// Where the result of a success is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobResult {
    /// In this event.
    Inline(Json),
    /// In the chunks sent before.
    Streamed {
        /// The result id that the chunks carry.
        result_id: String,
        /// Bytes after decoding. Some published runtimes do not say.
        size: Option<u64>,
        /// The same result once more, for peers that cannot read chunks.
        inline: Option<Json>,
    },
    /// In an artifact that the agent stored (RFC §16).
    Stored(Box<ArtifactRef>),
}

/// Why a job did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The code.
    pub code: ErrorCode,
    /// What happened, for a person. Never empty.
    pub message: String,
    /// Whether the same job may succeed later.
    pub retryable: bool,
    /// More for programs: an object.
    pub details: Option<Json>,
}

impl JobError {
    /// An error with the default `retryable` of its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> JobError {
        let message = Some(message.into()).filter(|m: &String| !m.is_empty());
        JobError {
            retryable: code.retryable(),
            code,
            message: message.unwrap_or_else(|| "no message was given".to_string()),
            details: None,
        }
    }

    /// An error with a code that an agent made up: it becomes `INTERNAL_ERROR`, with the original
    /// in `details.code`.
    pub fn invented(code: &str, message: &str) -> JobError {
        let mut details = Object::new();
        details.str("code", code);
        JobError { details: Some(details.json()), ..JobError::new(ErrorCode::Internal, message) }
    }
}

impl Terminal {
    /// A success.
    pub fn success(result: Option<JobResult>, summary: Option<String>) -> Terminal {
        Terminal { status: FinalStatus::Success, result, summary, error: None, reason: None }
    }

    /// Any other end; the code of the error decides which.
    pub fn failure(error: JobError) -> Terminal {
        let status = match &error.code {
            ErrorCode::Cancelled | ErrorCode::Aborted => FinalStatus::Cancelled,
            ErrorCode::Timeout => FinalStatus::TimedOut,
            ErrorCode::InvalidRequest
            | ErrorCode::Unimplemented
            | ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::JobNotFound
            | ErrorCode::DuplicateKey
            | ErrorCode::AgentNotAvailable
            | ErrorCode::AgentVersionNotAvailable
            | ErrorCode::ResumeWindowExpired
            | ErrorCode::HeartbeatLost
            | ErrorCode::LeaseExpired
            | ErrorCode::LeaseRevoked
            | ErrorCode::LeaseSubsetViolation
            | ErrorCode::BudgetExhausted
            | ErrorCode::BackpressureOverflow
            | ErrorCode::ResourceExhausted
            | ErrorCode::FailedPrecondition
            | ErrorCode::OutOfRange
            | ErrorCode::Unavailable
            | ErrorCode::Internal
            | ErrorCode::DataLoss
            | ErrorCode::Unknown
            | ErrorCode::Other(_) => FinalStatus::Error,
        };
        Terminal { status, result: None, summary: None, error: Some(error), reason: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_extensions_stay_in_events_and_are_read_by_name() {
        let said = Json::parse(r#"{"phase":"p","x-my-field":{"a":1.50},"x-null":null}"#).expect("JSON");
        let body = EventKind::Status.normalise(&said).expect("it fits");
        let event = JobEvent::Emitted { kind: EventKind::Status, body };
        let read = |name: &str| event.extension(name).map(|value| value.as_str().to_string());
        assert_eq!(read("x-my-field").as_deref(), Some(r#"{"a":1.50}"#));
        assert_eq!((read("x-null").as_deref(), read("x-other"), read("phase")), (Some("null"), None, None));
        assert_eq!(JobEvent::Started.extension("x-my-field"), None);
    }

    #[test]
    fn progress_is_checked() {
        let says = |body: &str| EventKind::Progress.normalise(&Json::parse(body).expect("JSON")).is_ok();
        assert!(
            says(r#"{"current":0}"#) && says(r#"{"current":1.5,"total":1.5}"#) && says(r#"{"current":1,"total":null}"#)
        );
        for wrong in [r#"{}"#, r#"{"current":-1}"#, r#"{"current":2,"total":1}"#, r#"{"current":"1"}"#] {
            assert!(!says(wrong), "{wrong}");
        }
    }
}
