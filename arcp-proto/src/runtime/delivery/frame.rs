//! Writes the frame of a number.

use alloc::string::String;
use alloc::sync::Arc;

use super::audiences::Audiences;
use super::buffers::Buffers;
use super::feed::Feed;
use super::feeds::Feeds;
use super::history_pool::HistoryPool;
use super::index::{EventEntry, IndexEntry};
use super::message_id::{copy_id, message_id};
use super::rendered::Rendered;
use crate::id::{LogPos, SessionId};
use crate::json::{Json, Object};
use crate::model::event::{EventKind, JobEvent};
use crate::runtime::account::Balance;
use crate::runtime::io::{EventRecord, LocalFrame, LocalWord};
use crate::runtime::job::provisioning::renewal_body;
use crate::runtime::job::{Jobs, Stored};
use crate::time::UtcMs;
use crate::wire::sidecar::{self, Written};
use crate::wire::{self, Beginning, EventFrame, FrameRole, Stamp, View};

/// Everything that frames are written from.
pub(super) struct FrameWriter<'a> {
    pub(super) jobs: &'a Jobs,
    pub(super) feeds: &'a Feeds,
    pub(super) audiences: &'a Audiences,
    pub(super) history: &'a mut HistoryPool,
    pub(super) rendered: &'a mut Rendered,
    pub(super) buffers: &'a mut Buffers,
    /// The account that payloads are charged to, and how many bytes of them may be kept.
    pub(super) keeps: (&'a Balance, usize),
}

impl FrameWriter<'_> {
    /// The frame of a number of a session, written from events in memory or read back for `reader`.
    /// It is the same each time.
    pub(super) fn frame_of(
        &mut self,
        session: SessionId,
        reader: SessionId,
        seq: u64,
        entry: IndexEntry,
    ) -> Option<Written> {
        let feed = self.feeds.get(session)?;
        let view = if self.feeds.get(reader)?.beside { feed.view } else { feed.view.without_sidecars() };
        let entry = match entry {
            IndexEntry::Event(entry) => entry,
            IndexEntry::Local { n } => return local_frame(session, &view, seq, feed.index().local(n)?).map(Into::into),
        };
        let numbered = |id| Stamp { id, session: Some(session), seq: Some(seq) };
        if entry.subscription > 0 {
            // Inside another envelope, bytes are encoded as they are on lines.
            let view = view.without_sidecars();
            let (at, envelope) = self.copy_of(&view, reader, entry)?;
            let stamp = numbered(message_id(session, seq, at));
            return Some(observed(session, &view, stamp, entry.subscription, &envelope).into());
        }
        if entry.n == 0 {
            let id = entry.log.job()?;
            let job = self.jobs.get(id)?;
            let stamp = numbered(message_id(session, seq, job.spec().created_at));
            let request = self.audiences.get(id)?.requests().get(session, entry.request);
            let accepted = self.jobs.credentials.attach(id, session, job.accepted(request));
            return wire::write_reply(&view, stamp, &accepted).map(Into::into);
        }
        let stamp = |at| numbered(message_id(session, seq, at));
        let renewed = match entry.log.job() {
            Some(job) => self.jobs.credentials.renewed_by(job, entry.n, session),
            None => None,
        };
        let shown = renewed.filter(|renewed| view.shows_credential(renewed));
        let own = shown.map(|renewed| renewal_body(&renewed.id, Some(&renewed.value)));
        self.event_frame(&view, (session, reader), (entry, own), stamp).map(|(_, frame)| frame)
    }

    /// An event in the envelope of the session `numbered`, where it has the number, written from
    /// what was read back for `reader`. `own` replaces the body with one that only the first
    /// session may see.
    fn event_frame(
        &mut self,
        view: &View,
        (numbered, reader): (SessionId, SessionId),
        (entry, own): (EventEntry, Option<Json>),
        stamp: impl FnOnce(UtcMs) -> Stamp,
    ) -> Option<(UtcMs, Written)> {
        let EventEntry { log, n, role, request, .. } = entry;
        let job = log.job()?;
        let owner = self.jobs.get(job)?;
        let audience = self.audiences.get(job)?;
        let (held, is_held) = match owner.event(n) {
            Some(held) => (held, true),
            None => (self.history.take(reader, job, n)?, false),
        };
        let submitted = |feed: &Feed| owner.spec().submitted_by() == feed.principal();
        let shown = held.redacted(n).filter(|_| !self.feeds.get(numbered).is_some_and(submitted));
        let is_shared = is_held && shown.is_none() && self.feeds.is_shared(log);
        let stored = shown.as_ref().unwrap_or(held);
        let buffer = (core::mem::take(&mut self.buffers.payload), &mut self.buffers.beginning);
        let (payload, shared) = match own {
            Some(body) => {
                let event = Arc::new(JobEvent::Emitted { kind: EventKind::Status, body });
                let own = Stored::kept(LogPos(0), EventRecord { n, at: stored.at, thoughts: 0, event });
                (own.render(buffer, view, job, role), None)
            }
            None if is_shared => {
                let kept = self.rendered.get(log, n, view, role).unwrap_or_else(|| {
                    let written: Arc<str> = stored.render((String::new(), buffer.1), view, job, role).into();
                    self.rendered.keep(self.keeps, (log, n), view, role, written.clone());
                    written
                });
                (buffer.0, Some(kept))
            }
            None => (stored.render(buffer, view, job, role), None),
        };
        let Stamp { id, session, seq } = stamp(stored.at);
        let session = session?;
        let frame = EventFrame {
            id,
            session,
            seq,
            job,
            trace: &owner.spec().trace,
            span: owner.spec().invocation.span.as_deref(),
            request: audience.requests().get(numbered, request),
            own: !view.profile.wraps_watched() || audience.owners().contains(&session),
            event: &stored.event,
            role,
            payload: shared.as_deref().unwrap_or(&payload),
        };
        let buffer = self.buffers.take_frame();
        let about = self.buffers.about((session, job, request, *view), || wire::prepare(view, &frame));
        let written = wire::write_event_in(buffer, view, about, &frame);
        let sidecar = if view.takes_sidecars() { sidecar::of_event(view, &frame) } else { None };
        let written = Written { frame: written, sidecar };
        let at = stored.at;
        self.buffers.keep_payload(payload);
        Some((at, written))
    }

    /// The inner frame for a subscription: the envelope as the job's submitter has it, without its
    /// number.
    fn copy_of(&mut self, view: &View, reader: SessionId, entry: EventEntry) -> Option<(UtcMs, String)> {
        let EventEntry { log, n, role, .. } = entry;
        let job = self.jobs.get(log.job()?)?;
        let copy = |at| Stamp { id: copy_id(log, n, role, at), session: Some(job.submitter()), seq: None };
        if n == 0 {
            let at = job.spec().created_at;
            return Some((at, wire::write_reply(view, copy(at), &job.accepted(None))?));
        }
        // A copy answers no request.
        let (at, written) = self.event_frame(view, (reader, reader), (entry, None), copy)?;
        Some((at, written.frame))
    }
}

/// A local frame: of a subscription, or as a status of a job.
fn local_frame(session: SessionId, view: &View, seq: u64, local: &LocalFrame) -> Option<String> {
    let id = message_id(session, seq, local.at);
    let (about, phase, message) = match &local.says {
        LocalWord::Boundary { subscription } => {
            let stamp = Stamp { id, session: Some(session), seq: Some(seq) };
            return Some(observed(session, view, stamp, *subscription, &wire::write_boundary(view, id)));
        }
        LocalWord::LagWarning(about) => {
            (about, "back_pressure", "what is sent is not read or acknowledged as fast as it comes")
        }
        LocalWord::Detached(about) => (about, "detached", "this was read too slowly: watch the job again to go on"),
    };
    let mut body = Object::new();
    body.str("phase", phase).str("message", message);
    let event = Arc::new(JobEvent::Emitted { kind: EventKind::Status, body: body.json() });
    let stored = Stored::kept(LogPos(0), EventRecord { n: 0, at: local.at, thoughts: 0, event });
    let payload = stored.render((String::new(), &mut Beginning::default()), view, about.job, FrameRole::Whole);
    let frame = EventFrame {
        id,
        session,
        seq: Some(seq),
        job: about.job,
        trace: &about.trace,
        span: None,
        request: None,
        own: !view.profile.wraps_watched() || about.own,
        event: &stored.event,
        role: FrameRole::Whole,
        payload: &payload,
    };
    Some(wire::write_event_in(String::new(), view, &mut wire::prepare(view, &frame), &frame))
}

fn observed(session: SessionId, view: &View, stamp: Stamp, subscription: u32, envelope: &str) -> String {
    wire::write_observed(view, stamp, super::subscription_id(session, subscription), envelope)
}
