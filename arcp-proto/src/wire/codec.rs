//! Reading requests and writing replies with the reader and writer of a family.

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

/// A request as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// The message's id.
    pub id: WireId,
    /// The session that it names, if any.
    pub session: Option<WireId>,
    /// What it asks.
    pub request: Request,
    /// The published client that sent it, as far as its opening shows.
    pub profile: Profile,
    /// The feature that its session needs, for a message of the other family.
    pub needs: Option<Feature>,
}

impl Subject {
    /// The subject of a message that could not be read at all.
    pub fn unknown() -> Subject {
        Subject { kind: RefusedKind::Frame, id: None, job: None, trace: None }
    }

    /// The subject of a message whose header could be read.
    pub fn from_header(header: &Header<'_>) -> Subject {
        Subject {
            kind: shared::refused_kind(&header.kind),
            id: Some(header.id.clone()),
            job: header.job.clone(),
            trace: header.trace.as_deref().and_then(bounded_trace),
        }
    }

    /// The subject of a frame that `frame::ingest` refused.
    pub fn from_refused(bytes: &[u8]) -> Subject {
        match core::str::from_utf8(bytes).map(Header::read) {
            Ok(Ok(header)) => Subject::from_header(&header),
            Ok(Err(unreadable)) => unreadable.subject,
            Err(_) => Subject::unknown(),
        }
    }
}

/// A trace, if it is short enough to be repeated in an answer.
pub(super) fn bounded_trace(text: &str) -> Option<String> {
    (1..=WireId::MAX).contains(&text.len()).then(|| String::from(text))
}

/// Reads a request of a family.
///
/// # Errors
///
/// The violation to send to the peer; the session continues.
pub fn read_request(family: Family, header: &Header<'_>) -> Result<ReceivedRequest, Violation> {
    match family {
        Family::Hello => hello::read_request(header),
        Family::Open => open::read_request(header),
    }
}

/// A request that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct RequestToSend<'a> {
    /// The message id.
    pub id: Ulid,
    /// The session, if there is one.
    pub session: Option<&'a WireId>,
    /// The present time.
    pub at: UtcMs,
    /// The request.
    pub request: &'a Request,
    /// Whether its bytes go into a sidecar.
    pub sidecars: bool,
}

/// Writes a request; `None` if the family has no message for it.
pub fn write_request(family: Family, out: &RequestToSend<'_>) -> Option<String> {
    match family {
        Family::Hello => hello::write_request(out),
        Family::Open => open::write_request(out),
    }
}

/// Reads a frame of a runtime.
///
/// # Errors
///
/// If a frame of a known type is invalid.
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

/// The members of a frame besides its content.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The message id.
    pub id: Ulid,
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// Its sequence number, if it is a numbered frame.
    pub seq: Option<u64>,
}

/// Writes a reply; `None` if the peer has no use for it.
pub fn write_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<String> {
    match view.family {
        Family::Hello => hello::write_reply(view, stamp, reply),
        Family::Open => open::write_reply(view, stamp, reply),
    }
}

/// A kept event that is to be written for readers.
#[derive(Clone, Copy, Debug)]
pub struct EventSnapshot<'a> {
    /// The job.
    pub job: JobId,
    /// When it happened.
    pub at: UtcMs,
    /// The number of earlier thoughts of its job.
    pub thoughts: u64,
    /// The event.
    pub event: &'a JobEvent,
}

/// Renders the payload of one frame of an event, one of `View::roles`. It is the same for every
/// session with this view.
pub fn render_event(view: &View, snapshot: &EventSnapshot<'_>, role: FrameRole) -> String {
    render_event_in((String::new(), &mut Beginning::default()), view, snapshot, role)
}

/// The same as [`render_event`], in a reused buffer, and with the beginning of the previous
/// payload.
pub(crate) fn render_event_in(
    (buffer, beginning): (String, &mut Beginning),
    view: &View,
    snapshot: &EventSnapshot<'_>,
    role: FrameRole,
) -> String {
    let announcing = if view.takes_sidecars() { sidecar::announcing(view, snapshot.event) } else { None };
    let snapshot = &EventSnapshot { event: announcing.as_ref().unwrap_or(snapshot.event), ..*snapshot };
    match view.family {
        // In hello every event is one frame.
        Family::Hello => hello::render_event(view, snapshot, (buffer, beginning)),
        Family::Open => open::render_event(view, snapshot, role, buffer),
    }
}

/// The beginning of a payload, with kind and time. Events of one kind that an agent emits within
/// one millisecond share it.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    kind: String,
    at: UtcMs,
    text: String,
}

impl Beginning {
    /// The beginning of a payload. `write` is called if it differs from the previous one.
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

/// Writes a numbered frame around a rendered event.
pub fn write_event(view: &View, frame: &EventFrame<'_>) -> String {
    write_event_in(String::new(), view, &mut prepare(view, frame), frame)
}

/// Shared parts of envelopes, each written once: those of one job, session and view, and those of
/// one millisecond, type and stream.
#[derive(Debug)]
pub(crate) struct Prepared {
    ids: String,
    context: String,
    /// The common digits of message ids of one millisecond; `beginning` is the envelope up to them.
    messages: u128,
    beginning: String,
    /// The members between id and number, for the type and stream in `of`.
    middle: String,
    of: (String, String),
}

impl Prepared {
    /// `ids` has session and job, and in the hello family the trace; `context` has the trace and
    /// span of the open family, if there are any.
    pub(super) fn new(ids: String, context: String) -> Prepared {
        let of = (String::new(), String::new());
        Prepared { ids, context, messages: 0, beginning: String::new(), middle: String::new(), of }
    }

    /// Takes over the parts of another job's envelopes that these share.
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

    /// Begins the envelope of a message of this type and stream, up to its number, in `buffer` with
    /// room for `bytes` more bytes. `write` writes the members between id and number.
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

/// Writes the shared parts for the frames of a job in a session.
pub(crate) fn prepare(view: &View, frame: &EventFrame<'_>) -> Prepared {
    match view.family {
        Family::Hello => hello::prepare(frame),
        Family::Open => open::prepare(frame),
    }
}

/// The same as [`write_event`], in a reused buffer and with the shared parts.
pub(crate) fn write_event_in(buffer: String, view: &View, about: &mut Prepared, frame: &EventFrame<'_>) -> String {
    match view.family {
        Family::Hello => hello::write_event(view, about, frame, buffer),
        Family::Open => open::write_event(view, about, frame, buffer),
    }
}

/// Writes an event for a subscription: a whole envelope inside a numbered frame of the subscriber's
/// session.
pub fn write_observed(view: &View, stamp: Stamp, subscription: SubscriptionId, envelope: &str) -> String {
    match view.family {
        // The hello family has no subscriptions.
        Family::Hello => String::new(),
        Family::Open => open::write_observed(view, stamp, &subscription.to_string(), envelope),
    }
}

/// Writes the envelope that marks the end of a subscription's history.
pub fn write_boundary(view: &View, id: Ulid) -> String {
    match view.family {
        Family::Hello => String::new(),
        Family::Open => open::write_boundary(view, id),
    }
}

/// The set of these message types, as far as a subscription can name them; one bit for each.
pub fn observed_types(names: &[String]) -> u32 {
    open::observed_types(names)
}

/// The bit of the message type of one frame of an event, or of the acceptance (`None`), and its
/// priority.
pub fn observed_type(class: Option<EventClass>, role: FrameRole) -> (u32, Priority) {
    open::observed_type(class, role)
}

/// A frame of a job event for one session.
#[derive(Clone, Copy, Debug)]
pub struct EventFrame<'a> {
    /// The message id.
    pub id: Ulid,
    /// The session.
    pub session: SessionId,
    /// Its sequence number there; `None` on the copy for a subscriber.
    pub seq: Option<u64>,
    /// The job.
    pub job: JobId,
    /// The job's trace.
    pub trace: &'a str,
    /// The span of the submit.
    pub span: Option<&'a str>,
    /// The session's own request that the frame follows from.
    pub request: Option<&'a WireId>,
    /// Whether the session submitted the job, or claimed it by its key.
    pub own: bool,
    /// The event.
    pub event: &'a JobEvent,
    /// The frame's part in the event.
    pub role: FrameRole,
    /// The payload, rendered for this view.
    pub payload: &'a str,
}
