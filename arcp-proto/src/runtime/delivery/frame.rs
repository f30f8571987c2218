//! What stands behind a number, as the frame that its session gets.

use alloc::string::String;
use alloc::sync::Arc;

use ulid::Ulid;

use super::audiences::Audiences;
use super::feeds::Feeds;
use super::history_pool::HistoryPool;
use super::index::{IndexEntry, message_id, tag};
use super::rendered::Rendered;
use crate::id::{JobId, LogPos, SessionId};
use crate::json::Object;
use crate::model::event::{EventKind, JobEvent};
use crate::runtime::io::EventRecord;
use crate::runtime::job::{Jobs, Stored};
use crate::time::UtcMs;
use crate::wire::{self, EventFrame, FrameRole, Stamp, View};

/// What frames are written from.
pub(super) struct FrameWriter<'a> {
    pub(super) jobs: &'a Jobs,
    pub(super) feeds: &'a Feeds,
    pub(super) audiences: &'a Audiences,
    pub(super) history: &'a mut HistoryPool,
    pub(super) rendered: &'a mut Rendered,
    /// How many bytes of payloads may be kept.
    pub(super) rendered_bytes: usize,
}

impl FrameWriter<'_> {
    /// The frame of a number of a session, from what is in memory or was read
    /// back for `reader`: the same whenever it is asked for.
    pub(super) fn frame_of(
        &mut self,
        session: SessionId,
        reader: SessionId,
        seq: u64,
        entry: IndexEntry,
    ) -> Option<String> {
        let view = self.feeds.get(session)?.view;
        let numbered = |id| Stamp { id, session: Some(session), seq: Some(seq) };
        if entry.part == FrameRole::Boundary {
            let id = message_id(session, seq, UtcMs(entry.event));
            let envelope = wire::write_boundary(&view, id);
            return Some(observed(session, &view, numbered(id), entry, &envelope));
        }
        if entry.part.is_local() {
            return self.local_frame(session, &view, seq, entry);
        }
        if entry.subscription > 0 {
            let (at, envelope) = self.copy_of(&view, reader, entry)?;
            let stamp = numbered(message_id(session, seq, at));
            return Some(observed(session, &view, stamp, entry, &envelope));
        }
        if entry.event == 0 {
            let job = self.jobs.get(entry.job)?;
            let stamp = numbered(message_id(session, seq, job.spec().created_at));
            let request = self.audiences.get(entry.job)?.requests().get(session, entry.request);
            return wire::write_reply(&view, stamp, &job.accepted(request));
        }
        let stamp = |at| numbered(message_id(session, seq, at));
        self.event_frame(&view, (session, reader), entry, stamp).map(|(_, frame)| frame)
    }

    /// An event in the envelope of a session, for the one in which it has a
    /// number, and the one for which it was read back.
    fn event_frame(
        &mut self,
        view: &View,
        (numbered, reader): (SessionId, SessionId),
        entry: IndexEntry,
        stamp: impl FnOnce(UtcMs) -> Stamp,
    ) -> Option<(UtcMs, String)> {
        let IndexEntry { job, event: n, part, request, .. } = entry;
        let owner = self.jobs.get(job)?;
        let audience = self.audiences.get(job)?;
        let (at, event, payload) = match owner.event(n) {
            Some(held) if self.feeds.is_shared(job) => {
                let payload = self.rendered.get(job, n, view, part).unwrap_or_else(|| {
                    let written = held.render(view, job, part);
                    self.rendered.keep(job, n, view, part, written.clone(), self.rendered_bytes);
                    written
                });
                (held.at, held.event.clone(), payload)
            }
            Some(held) => (held.at, held.event.clone(), held.render(view, job, part)),
            None => {
                let read = self.history.take(reader, job, n)?;
                (read.at, read.event.clone(), read.render(view, job, part))
            }
        };
        let Stamp { id, session, seq } = stamp(at);
        let session = session?;
        let frame = EventFrame {
            id,
            session,
            seq,
            job,
            trace: &owner.spec().trace,
            span: owner.spec().invocation.span.as_deref(),
            request: audience.requests.get(numbered, request),
            own: !view.profile.wraps_watched() || audience.owners.contains(&session),
            event: &event,
            part,
            payload: &payload,
        };
        Some((at, wire::write_event(view, &frame)))
    }

    /// What a subscription is shown: the envelope as the job's submitter has
    /// it, but for its number there.
    fn copy_of(&mut self, view: &View, reader: SessionId, entry: IndexEntry) -> Option<(UtcMs, String)> {
        let job = self.jobs.get(entry.job)?;
        let copy = |at| Stamp {
            id: copy_id(entry.job, entry.event, entry.part, at),
            session: Some(job.submitter()),
            seq: None,
        };
        if entry.event == 0 {
            let at = job.spec().created_at;
            return Some((at, wire::write_reply(view, copy(at), &job.accepted(None))?));
        }
        // A copy follows from no request.
        self.event_frame(view, (reader, reader), entry, copy)
    }

    /// A word to one session about itself, as a status of a job.
    fn local_frame(&self, session: SessionId, view: &View, seq: u64, entry: IndexEntry) -> Option<String> {
        let job = self.jobs.get(entry.job)?;
        let (phase, message) = match entry.part {
            FrameRole::LagWarning => ("back_pressure", "what is sent is not read or acknowledged as fast as it comes"),
            FrameRole::Detached => ("detached", "this was read too slowly: watch the job again to go on"),
            FrameRole::Whole | FrameRole::StreamOpen | FrameRole::StreamClose | FrameRole::Boundary => return None,
        };
        let mut body = Object::new();
        body.str("phase", phase).str("message", message);
        let at = UtcMs(entry.event);
        let event = Arc::new(JobEvent::Emitted { kind: EventKind::Status, body: body.json() });
        let stored = Stored::kept(LogPos(0), EventRecord { n: 0, at, thoughts: 0, event });
        let payload = stored.render(view, entry.job, FrameRole::Whole);
        let owned = self.audiences.owns(session, entry.job);
        let frame = EventFrame {
            id: message_id(session, seq, at),
            session,
            seq: Some(seq),
            job: entry.job,
            trace: &job.spec().trace,
            span: None,
            request: None,
            own: !view.profile.wraps_watched() || owned,
            event: &stored.event,
            part: FrameRole::Whole,
            payload: &payload,
        };
        Some(wire::write_event(view, &frame))
    }
}

fn observed(session: SessionId, view: &View, stamp: Stamp, entry: IndexEntry, envelope: &str) -> String {
    let subscription = super::subscription_id(session, entry.subscription);
    wire::write_observed(view, stamp, subscription, envelope)
}

/// The id of what subscriptions are shown of an event: the same for all, and
/// what came after it can be found by it.
fn copy_id(job: JobId, n: u64, part: FrameRole, at: UtcMs) -> Ulid {
    let low = n << 2 | part_number(part);
    Ulid::from_parts(at.0, u128::from(tag(job.ulid())) << 40 | u128::from(low & ((1 << 40) - 1)))
}

/// The last event that has been shown whole with the frame of such an id.
pub(super) fn event_of_copy(number: u64) -> u64 {
    let opens_or_closes = number & 0b11 == part_number(FrameRole::StreamOpen);
    (number >> 2).saturating_sub(u64::from(opens_or_closes))
}

fn part_number(part: FrameRole) -> u64 {
    match part {
        FrameRole::StreamOpen | FrameRole::StreamClose => 0,
        FrameRole::Whole | FrameRole::Boundary | FrameRole::LagWarning | FrameRole::Detached => 1,
    }
}
