//! Bytes to requests and replies to bytes: which family's reader and writer.

use alloc::string::{String, ToString as _};

use ulid::Ulid;

use super::envelope::Header;
use super::payload::RuntimeFrame;
use super::profile::Profile;
use super::{Family, FrameRole, View, hello, open, shared, sidecar};
use crate::error::Violation;
use crate::id::{IdText, JobId, SessionId, SubscriptionId, WireId};
use crate::json::Object;
use crate::model::event::{EventClass, JobEvent};
use crate::model::feature::Feature;
use crate::model::reply::{RefusedKind, Reply, Subject};
use crate::model::request::{Priority, Request};
use crate::time::UtcMs;

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
    /// What its session must have agreed to, for a message of the other family.
    pub needs: Option<Feature>,
}

impl Subject {
    /// Of a message that could not be read at all.
    pub fn unknown() -> Subject {
        Subject { kind: RefusedKind::Frame, id: None, job: None, trace: None }
    }

    /// Of a message whose header could be read.
    pub fn from_header(header: &Header<'_>) -> Subject {
        Subject {
            kind: shared::refused_kind(&header.kind),
            id: Some(header.id.clone()),
            job: header.job.clone(),
            trace: header.trace.as_deref().and_then(bounded_trace),
        }
    }

    /// Of a frame that did not pass `frame::ingest`.
    pub fn from_refused(bytes: &[u8]) -> Subject {
        match core::str::from_utf8(bytes).map(Header::read) {
            Ok(Ok(header)) => Subject::from_header(&header),
            Ok(Err(unreadable)) => unreadable.subject,
            Err(_) => Subject::unknown(),
        }
    }
}

/// A trace that is short enough to be said back.
pub(super) fn bounded_trace(text: &str) -> Option<String> {
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
    /// Whether its bytes go beside it.
    pub sidecars: bool,
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
    let frame = match family {
        Family::Hello => hello::read_runtime_frame(header, now)?,
        Family::Open => open::read_runtime_frame(header, now)?,
    };
    Ok(match header.sidecar {
        Some(bytes) => sidecar::inside(frame, bytes),
        None => frame,
    })
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

/// The payload of one frame of a job event, out of `View::roles`, as every
/// session with this view gets it.
pub fn render_event(view: &View, snapshot: &EventSnapshot<'_>, role: FrameRole) -> String {
    render_event_in((String::new(), &mut Beginning::default()), view, snapshot, role)
}

/// The same, perhaps in a buffer that was used before, with how the payload before begins.
pub(crate) fn render_event_in(
    (buffer, beginning): (String, &mut Beginning),
    view: &View,
    snapshot: &EventSnapshot<'_>,
    role: FrameRole,
) -> String {
    let announcing = if view.takes_sidecars() { sidecar::announcing(view, snapshot.event) } else { None };
    let snapshot = &EventSnapshot { event: announcing.as_ref().unwrap_or(snapshot.event), ..*snapshot };
    match view.family {
        // Here every event is one frame.
        Family::Hello => hello::render_event(view, snapshot, (buffer, beginning)),
        Family::Open => open::render_event(view, snapshot, role, buffer),
    }
}

/// How payloads begin that say their kind and when: those of one kind and millisecond, which
/// an agent says in a row, begin alike.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    kind: String,
    at: UtcMs,
    text: String,
}

impl Beginning {
    /// That of a payload, which `write` writes if the one before began otherwise.
    pub(super) fn of(&mut self, kind: &str, at: UtcMs, write: impl FnOnce(&mut Object)) -> &str {
        if self.text.is_empty() || self.at != at || self.kind != kind {
            let mut payload = Object::reusing(core::mem::take(&mut self.text), 0);
            write(&mut payload);
            self.text = payload.unfinished();
            self.at = at;
            self.kind.clear();
            self.kind.push_str(kind);
        }
        &self.text
    }
}

/// A numbered frame around a rendered event.
pub fn write_event(view: &View, frame: &EventFrame<'_>) -> String {
    write_event_in(String::new(), view, &mut prepare(view, frame), frame)
}

/// What is the same in the envelopes of the events of one job for one session and view, and
/// in those of one millisecond and type, written once.
#[derive(Debug)]
pub(crate) struct Prepared {
    ids: String,
    context: String,
    /// What the ids of the messages of a millisecond are without their last digits, and how
    /// the envelopes begin up to there.
    messages: u128,
    beginning: String,
    /// What stands between id and number, of this type and stream.
    middle: String,
    of: (String, String),
}

impl Prepared {
    /// With session and job, and in the hello family the trace; and in the open family trace
    /// and span, if there are any.
    pub(super) fn new(ids: String, context: String) -> Prepared {
        let of = (String::new(), String::new());
        Prepared { ids, context, messages: 0, beginning: String::new(), middle: String::new(), of }
    }

    /// Goes on with what another job's envelopes have in common with these.
    pub(crate) fn after(mut self, other: Prepared) -> Prepared {
        let Prepared { ids: _, context: _, messages, beginning, mut middle, of } = other;
        middle.clear();
        (self.messages, self.beginning, self.middle, self.of) = (messages, beginning, middle, of);
        self
    }

    pub(super) fn ids(&self) -> &str {
        &self.ids
    }

    pub(super) fn context(&self) -> &str {
        &self.context
    }

    /// The envelope of a message of this type, and of this stream if it is of one: up to its
    /// number, in this buffer, with room for so many bytes more. `write` writes what stands
    /// between its id and that.
    pub(super) fn begin(
        &mut self,
        id: Ulid,
        (kind, stream): (&str, &str),
        (buffer, bytes): (String, usize),
        write: impl FnOnce(&Prepared, &mut Object),
    ) -> Object {
        let messages = IdText::before_last(id);
        if self.beginning.is_empty() || self.messages != messages {
            let mut envelope = Object::reusing(core::mem::take(&mut self.beginning), 0);
            envelope.raw("arcp", "\"1.1\"").id("id", "msg_", id);
            self.beginning = envelope.unfinished();
            self.beginning.truncate(self.beginning.len() - 1 - IdText::LAST);
            self.messages = messages;
            self.middle.clear();
        }
        if self.middle.is_empty() || (self.of.0.as_str(), self.of.1.as_str()) != (kind, stream) {
            let mut members = Object::reusing(core::mem::take(&mut self.middle), 0);
            write(self, &mut members);
            self.middle = members.into_members();
            self.of.0.clear();
            self.of.0.push_str(kind);
            self.of.1.clear();
            self.of.1.push_str(stream);
        }
        let mut envelope = Object::begun(buffer, &self.beginning, IdText::LAST + 2 + self.middle.len() + bytes);
        envelope.last_digits(id).members(&self.middle);
        envelope
    }
}

/// Prepares the frames of a job for a session.
pub(crate) fn prepare(view: &View, frame: &EventFrame<'_>) -> Prepared {
    match view.family {
        Family::Hello => hello::prepare(frame),
        Family::Open => open::prepare(frame),
    }
}

/// The same in a buffer that was used before, with what was prepared.
pub(crate) fn write_event_in(buffer: String, view: &View, about: &mut Prepared, frame: &EventFrame<'_>) -> String {
    match view.family {
        Family::Hello => hello::write_event(view, about, frame, buffer),
        Family::Open => open::write_event(view, about, frame, buffer),
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
pub fn observed_type(class: Option<EventClass>, role: FrameRole) -> (u32, Priority) {
    open::observed_type(class, role)
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
    pub role: FrameRole,
    /// Its payload, rendered for this view.
    pub payload: &'a str,
}
