//! Bytes to requests and replies to bytes, once per wire family.
//!
//! `hello` and `open` are the only modules that know message type strings.
//! Everything outside `wire` speaks [`crate::model`].

pub mod envelope;
pub mod frame;
mod hello;
mod names;
mod open;
mod payload;
pub mod profile;
mod shared;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString as _};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::{ParseError, Violation};
use crate::id::{JobId, SessionId, SubscriptionId, WireId};
use crate::limits::Limits;
use crate::model::event::{EventClass, EventClasses, JobEvent};
use crate::model::feature::{Feature, Features};
use crate::model::reply::{RefusedKind, Reply, Subject};
use crate::model::request::{Priority, Request};
use crate::time::UtcMs;
use envelope::Header;
pub use payload::RuntimeFrame;
pub use profile::{Compat, Profile, ServerProfile};

/// The two wire families. The first frame of a connection decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// `session.hello`, `job.submit`, `job.event` (draft 1.1).
    Hello,
    /// `session.open`, `tool.invoke`, `job.completed` (RFC-0001-v2).
    Open,
}

impl FromStr for Family {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Family, ParseError> {
        let named = [Family::Hello, Family::Open].into_iter().find(|family| family.as_str() == name);
        named.ok_or(ParseError::new("hello or open"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Family {
    /// Its name, as on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Hello => "hello",
            Family::Open => "open",
        }
    }

    /// The family whose handshake this is; `None` if it is no handshake.
    pub fn of_first(header: &Header<'_>) -> Option<Family> {
        match header.kind.as_ref() {
            kind if hello::opens(kind) => Some(Family::Hello),
            kind if open::opens(kind) => Some(Family::Open),
            _ => None,
        }
    }

    /// In whose words to refuse a frame that should have been a handshake.
    pub fn of_stray(header: &Header<'_>) -> Family {
        if open::is_own(&header.kind) { Family::Open } else { Family::Hello }
    }

    /// What a session of this family uses without negotiating it.
    fn implied(self) -> Features {
        match self {
            Family::Hello => Features::default(),
            Family::Open => open::IMPLIED,
        }
    }

    /// Whether an earlier session is claimed after a new one was opened, not
    /// with the opening.
    pub fn resumes_after_opening(self) -> bool {
        self == Family::Open
    }

    /// Whether a client can ask for more than both families have.
    pub fn has_open_requests(self) -> bool {
        self == Family::Open
    }

    /// Whether the end of a job always has a number.
    pub fn numbers_every_end(self) -> bool {
        self == Family::Hello
    }
}

/// How one session's peer sees things: fixed when the session is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its family.
    pub family: Family,
    /// What was negotiated.
    pub features: Features,
    /// The published client it is, if it needs special care.
    pub profile: Profile,
    /// Whether frames are lines of a pipe.
    pub lines: bool,
}

/// What a numbered frame is to its event, of which it may be one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FrameRole {
    /// The event itself.
    Whole,
    /// What opens the stream that it is the first of.
    StreamOpen,
    /// What closes the stream that ends with it.
    StreamClose,
}

impl View {
    /// A peer that has not said anything yet.
    pub fn before_handshake(lines: bool) -> View {
        View { family: Family::Hello, features: Features::default(), profile: Profile::Plain, lines }
    }

    /// The view of a peer that offers features to a runtime that has `ours`.
    #[must_use]
    pub fn negotiated(self, offered: Features, ours: Features) -> View {
        let known = self.family.implied().or(self.profile.implied());
        View { features: offered.or(known).and(ours), ..self }
    }

    /// The classes of events that this peer gets, as one frame each or several.
    pub fn classes(&self) -> EventClasses {
        let needs = [(Feature::Progress, EventClass::Progress), (Feature::ResultChunk, EventClass::Chunk)];
        let withheld = needs.into_iter().filter(|(feature, _)| !self.features.has(*feature));
        withheld.fold(EventClasses::ALL, |all, (_, class)| all.without(EventClasses::of(&[class])))
    }

    /// Those of them that are several frames. `streaming`: a stream of this job
    /// was opened to the session before. A job has at most one event that opens
    /// its stream and one that closes it.
    pub fn several(&self, streaming: bool) -> EventClasses {
        match (self.family, streaming) {
            (Family::Hello, _) => EventClasses::default(),
            (Family::Open, false) => EventClasses::of(&[EventClass::Thought]),
            (Family::Open, true) => EventClasses::ENDS,
        }
    }

    /// The numbered frames that an event is for this peer, in order: none
    /// when it is withheld.
    pub fn parts(&self, class: EventClass, streaming: bool) -> &'static [FrameRole] {
        if !self.classes().has(class) {
            &[]
        } else if !self.several(streaming).has(class) {
            &[FrameRole::Whole]
        } else if streaming {
            &[FrameRole::StreamClose, FrameRole::Whole]
        } else {
            &[FrameRole::StreamOpen, FrameRole::Whole]
        }
    }

    /// Whether a reply is one of the session's numbered frames.
    pub fn numbers(&self, reply: &Reply) -> bool {
        self.family == Family::Open && matches!(reply, Reply::Accepted(_))
    }

    /// Whether frames name the request they follow from.
    pub fn correlates(&self) -> bool {
        self.family == Family::Open || self.profile.correlates_ends()
    }

    /// Whether the silence of a peer ends its connection, without it having
    /// pinged. In the open family what is negotiated is how often a job gives
    /// a sign of life (RFC §10.3), and only we take it for more.
    pub fn is_expected_to_be_heard(&self) -> bool {
        self.features.has(Feature::Heartbeat) && (self.family == Family::Hello || self.profile == Profile::Native)
    }

    /// The request as this peer wants answers to name it in their payload.
    fn reply_to<'a>(&self, request: Option<&'a WireId>) -> Option<&'a str> {
        request.filter(|_| self.profile.wants_reply_to()).map(WireId::as_str)
    }

    /// Whether a message id stands for one message of the principal, not of
    /// the session.
    pub fn ids_are_of_principal(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether what comes before a session is open is passed over, not the
    /// end of the connection.
    pub fn passes_early_frames(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it can be asked for a proof.
    pub fn challenges(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether its sessions are lent for a time and refreshed.
    pub fn has_session_lease(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it is told that its jobs are alive.
    pub fn has_job_heartbeats(&self) -> bool {
        self.family == Family::Open
    }

    /// Whether it asked how often that is.
    pub fn announces_job_heartbeats(&self) -> bool {
        self.has_job_heartbeats() && self.features.has(Feature::Heartbeat)
    }

    /// Whether a peer that pings is expected to go on.
    pub fn is_alive_by_pings(&self) -> bool {
        self.family == Family::Open
    }

    /// The largest frame of a result for this peer, in bytes.
    pub fn result_frame_bytes(&self, limits: &Limits) -> usize {
        let own = self.profile.result_frame_bytes(self.lines).unwrap_or(usize::MAX);
        own.min(limits.result_frame_bytes)
    }

    /// A small number that is equal for views that render events equally.
    pub fn render_key(&self) -> u8 {
        let versions = u8::from(self.features.has(Feature::AgentVersions));
        let chunks = u8::from(self.features.has(Feature::ResultChunk));
        let family = u8::from(self.family == Family::Open);
        self.profile.index() << 3 | family << 2 | versions << 1 | chunks
    }
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// The message's id.
    pub id: WireId,
    /// The session it names, if any.
    pub session: Option<WireId>,
    /// What it asks.
    pub request: Request,
    /// The published client that sent it, as far as its opening tells.
    pub profile: Profile,
}

impl Subject {
    /// Of a message that could not be read at all.
    pub fn unknown() -> Subject {
        Subject { kind: RefusedKind::Frame, id: None, job: None, trace: None }
    }

    /// Of a message whose header could be read.
    pub fn of(header: &Header<'_>) -> Subject {
        Subject {
            kind: shared::refused_kind(&header.kind),
            id: Some(header.id.clone()),
            job: header.job.clone(),
            trace: header.trace.as_deref().and_then(bounded_trace),
        }
    }

    /// Of a frame that did not pass [`frame::ingest`].
    pub fn of_refused(bytes: &[u8]) -> Subject {
        match core::str::from_utf8(bytes).map(Header::read) {
            Ok(Ok(header)) => Subject::of(&header),
            Ok(Err(unreadable)) => unreadable.subject,
            Err(_) => Subject::unknown(),
        }
    }
}

/// A trace that is short enough to be said back.
fn bounded_trace(text: &str) -> Option<String> {
    (1..=WireId::MAX).contains(&text.len()).then(|| String::from(text))
}

/// Reads a request in a family.
///
/// # Errors
///
/// What the peer must be told; the session survives.
pub fn read_request(family: Family, header: &Header<'_>) -> Result<ReceivedRequest, Violation> {
    match family {
        Family::Hello => hello::read_request(header),
        Family::Open => open::read_request(header),
    }
}

/// A request on its way to a runtime.
#[derive(Clone, Copy, Debug)]
pub struct RequestToSend<'a> {
    /// The message id.
    pub id: Ulid,
    /// The session, once there is one.
    pub session: Option<&'a WireId>,
    /// The present time.
    pub at: UtcMs,
    /// The request.
    pub request: &'a Request,
}

/// Writes a request; `None` if the family has no word for it.
pub fn write_request(family: Family, out: &RequestToSend<'_>) -> Option<String> {
    match family {
        Family::Hello => hello::write_request(out),
        Family::Open => open::write_request(out),
    }
}

/// Reads a frame from a runtime.
///
/// # Errors
///
/// A frame of a known type that makes no sense.
pub fn read_runtime_frame(family: Family, header: &Header<'_>, now: UtcMs) -> Result<RuntimeFrame, Violation> {
    match family {
        Family::Hello => hello::read_runtime_frame(header, now),
        Family::Open => open::read_runtime_frame(header, now),
    }
}

/// What stands on a frame besides its content.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The message id.
    pub id: Ulid,
    /// The session, where one exists.
    pub session: Option<SessionId>,
    /// Its number there, if it is a numbered frame.
    pub seq: Option<u64>,
}

/// Writes a reply, or nothing if this peer has no use for it.
pub fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    match view.family {
        Family::Hello => hello::write_reply(view, stamp, reply),
        Family::Open => open::write_reply(view, stamp, reply),
    }
}

/// An event as it is kept, to be written for whoever reads it.
#[derive(Clone, Copy, Debug)]
pub struct EventSnapshot<'a> {
    /// The job.
    pub job: JobId,
    /// When it happened.
    pub at: UtcMs,
    /// How many thoughts its job had before.
    pub thoughts: u64,
    /// The event.
    pub event: &'a JobEvent,
}

/// The payload of one frame of a job event, out of [`View::parts`], as every
/// session with this view gets it.
pub fn render_event(view: &View, told: &EventSnapshot<'_>, part: FrameRole) -> String {
    match view.family {
        // Here every event is one frame.
        Family::Hello => hello::render_event(view, told.job, told.at, told.event),
        Family::Open => open::render_event(view, told, part),
    }
}

/// A numbered frame around a rendered event.
pub fn write_event(view: &View, frame: &EventFrame<'_>) -> String {
    match view.family {
        Family::Hello => hello::write_event(view, frame),
        Family::Open => open::write_event(view, frame),
    }
}

/// What a subscription of this peer's session is shown: a whole envelope in
/// one of its own numbered frames.
pub fn write_observed(view: &View, stamp: Stamp, subscription: SubscriptionId, envelope: &str) -> String {
    match view.family {
        // Nobody subscribes here.
        Family::Hello => String::new(),
        Family::Open => open::write_observed(view, stamp, &subscription.to_string(), envelope),
    }
}

/// The envelope that ends the history that a subscription is shown.
pub fn write_boundary(view: &View, id: Ulid) -> String {
    match view.family {
        Family::Hello => String::new(),
        Family::Open => open::write_boundary(view, id),
    }
}

/// Which of the types of envelopes that a subscription can name these are; a
/// bit for each.
pub fn observed_types(names: &[String]) -> u32 {
    open::observed_types(names)
}

/// The bit of the type that one frame of an event, or with `None` the
/// acceptance, has for a subscription; and how urgent it is.
pub fn observed_type(class: Option<EventClass>, part: FrameRole) -> (u32, Priority) {
    open::observed_type(class, part)
}

/// A job event on its way to one session.
#[derive(Clone, Copy, Debug)]
pub struct EventFrame<'a> {
    /// The message id.
    pub id: Ulid,
    /// The session.
    pub session: SessionId,
    /// Its sequence number there; `None` on a copy shown to somebody else.
    pub seq: Option<u64>,
    /// The job.
    pub job: JobId,
    /// The job's trace.
    pub trace: &'a str,
    /// The span the job was asked for in.
    pub span: Option<&'a str>,
    /// The session's own request that it follows from.
    pub request: Option<&'a WireId>,
    /// Whether the session submitted the job, or came by its key.
    pub own: bool,
    /// The event.
    pub event: &'a JobEvent,
    /// Which of its frames this is.
    pub part: FrameRole,
    /// Its payload, rendered for this view.
    pub payload: &'a str,
}
