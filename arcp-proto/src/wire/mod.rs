//! Bytes to requests and replies to bytes, once per wire family.
//!
//! [`hello`] and [`open`] are the only modules that know message type
//! strings. Everything outside `wire` speaks [`crate::model`].

pub mod envelope;
pub mod frame;
pub mod hello;
pub mod open;
pub mod profile;

use alloc::string::String;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::Violation;
use crate::id::{JobId, SessionId, WireId};
use crate::limits::Limits;
use crate::model::event::{EventKind, JobEvent};
use crate::model::feature::{Feature, Features};
use crate::model::reply::Reply;
use crate::model::request::Request;
use crate::time::UtcMs;
use envelope::Header;
/// Codes and states by the names that people read, whoever is served.
pub use hello::{error_name, status_name};
pub use profile::{Compat, Profile, ServerProfile};

/// The two wire families. The first frame of a connection decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// `session.hello`, `job.submit`, `job.event` (draft 1.1).
    Hello,
    /// `session.open`, `tool.invoke`, `job.completed` (RFC-0001-v2).
    Open,
}

impl Family {
    /// The family whose handshake this is; `None` if it is no handshake.
    pub fn of_first(header: &Header<'_>) -> Option<Family> {
        match header.kind.as_ref() {
            kind if hello::opens(kind) => Some(Family::Hello),
            kind if open::opens(kind) => Some(Family::Open),
            _ => None,
        }
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

impl View {
    /// A peer that has not said anything yet.
    pub fn before_handshake(lines: bool) -> View {
        View { family: Family::Hello, features: Features::default(), profile: Profile::Plain, lines }
    }

    /// How many numbered frames an event is for this peer: 0 when it is
    /// withheld.
    pub fn slots(&self, event: &JobEvent) -> u8 {
        let shown = match event {
            JobEvent::Started | JobEvent::Ended(_) => true,
            JobEvent::Said { kind: EventKind::Progress, .. } => self.features.has(Feature::Progress),
            JobEvent::Said { .. } => true,
            JobEvent::Chunk(_) => self.features.has(Feature::ResultChunk),
        };
        match self.family {
            Family::Hello => u8::from(shown),
            // No open session exists yet: its handshake is refused.
            Family::Open => 0,
        }
    }

    /// The largest frame of a result for this peer, in bytes.
    pub fn result_frame_bytes(&self, limits: &Limits) -> usize {
        self.profile.result_frame_bytes(self.lines).unwrap_or(limits.result_frame_bytes)
    }

    /// A small number that is equal for views that render events equally.
    pub fn render_key(&self) -> u8 {
        let versions = u8::from(self.features.has(Feature::AgentVersions));
        let chunks = u8::from(self.features.has(Feature::ResultChunk));
        self.profile.index() << 2 | versions << 1 | chunks
    }
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The message's id.
    pub id: WireId,
    /// The session it names, if any.
    pub session: Option<WireId>,
    /// What it asks.
    pub request: Request,
    /// The published client that sent it, as far as its opening tells.
    pub profile: Profile,
}

/// Reads a request in a family.
///
/// # Errors
///
/// What the peer must be told; the session survives.
pub fn read_request(family: Family, header: &Header<'_>) -> Result<Inbound, Violation> {
    match family {
        Family::Hello => hello::read_request(header),
        Family::Open => open::read_request(header),
    }
}

/// What stands on a frame besides its content.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The message id.
    pub id: Ulid,
    /// The session, where one exists.
    pub session: Option<SessionId>,
}

/// Writes a reply, or nothing if this peer's profile must not see it.
pub fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    match view.family {
        Family::Hello => hello::write_reply(view, stamp, reply),
        Family::Open => Some(open::write_reply(stamp, reply)),
    }
}

/// The payload of one frame of a job event (`part`, from 0, below
/// [`View::slots`]) as every session with this view gets it.
pub fn render_event(view: &View, job: JobId, at: UtcMs, event: &JobEvent, part: u8) -> String {
    match view.family {
        // Here every event is one frame.
        Family::Hello => hello::render_event(view, job, at, event),
        Family::Open => {
            debug_assert!(part == 0, "no open session exists yet");
            String::new()
        }
    }
}

/// A numbered frame around a rendered event.
pub fn write_event(view: &View, frame: &EventFrame<'_>) -> String {
    match view.family {
        Family::Hello => hello::write_event(view, frame),
        Family::Open => String::new(),
    }
}

/// A job event on its way to one session.
#[derive(Clone, Copy, Debug)]
pub struct EventFrame<'a> {
    /// The message id.
    pub id: Ulid,
    /// The session.
    pub session: SessionId,
    /// Its sequence number there.
    pub seq: u64,
    /// The job.
    pub job: JobId,
    /// The job's trace.
    pub trace: &'a str,
    /// The event.
    pub event: &'a JobEvent,
    /// Which of its frames this is.
    pub part: u8,
    /// Its payload, rendered for this view.
    pub payload: &'a str,
}
