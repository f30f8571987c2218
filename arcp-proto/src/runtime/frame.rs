//! What stands behind a number, as the frame that its session gets.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;

use ulid::Ulid;

use super::Runtime;
use super::index::{Place, message_id, tag};
use super::io::EventRecord;
use super::job::{Job, Stored};
use crate::id::{JobId, LogPos, SessionId};
use crate::json::Object;
use crate::model::event::{EventKind, JobEvent};
use crate::time::UtcMs;
use crate::wire::{self, EventFrame, Part, Stamp, View};

impl Runtime {
    /// The frame of a number of a session, from what is in memory or was read
    /// back for `reader`: the same whenever it is asked for.
    pub(super) fn frame_of(&mut self, session: SessionId, reader: SessionId, seq: u64, place: Place) -> Option<String> {
        let view = self.sessions.get(session)?.view;
        if place.part == Part::Boundary {
            let id = message_id(session, seq, UtcMs(place.event));
            let envelope = wire::write_boundary(&view, id);
            return Some(self.observed(
                session,
                &view,
                Stamp { id, session: Some(session), seq: Some(seq) },
                place,
                &envelope,
            ));
        }
        if place.part.is_local() {
            return self.local_frame(session, &view, seq, place);
        }
        if place.subscription > 0 {
            let (at, envelope) = self.copy_of(&view, reader, place)?;
            let stamp = Stamp { id: message_id(session, seq, at), session: Some(session), seq: Some(seq) };
            return Some(self.observed(session, &view, stamp, place, &envelope));
        }
        if place.event == 0 {
            let owner = self.jobs.get(place.job)?;
            let stamp =
                Stamp { id: message_id(session, seq, owner.created_at), session: Some(session), seq: Some(seq) };
            return wire::write_reply(
                &view,
                stamp,
                &owner.accepted(place.job, owner.requests.get(session, place.request)),
            );
        }
        self.event_frame(&view, session, reader, place, |at| (message_id(session, seq, at), session, Some(seq)))
            .map(|(_, frame)| frame)
    }

    /// An event in the envelope of a session, for the one in which it has a
    /// number.
    fn event_frame(
        &mut self,
        view: &View,
        numbered: SessionId,
        reader: SessionId,
        place: Place,
        stamp: impl FnOnce(UtcMs) -> (Ulid, SessionId, Option<u64>),
    ) -> Option<(UtcMs, String)> {
        let Place { job, event: n, part, request, .. } = place;
        let owner = self.jobs.get(job)?;
        let (at, event, payload) = match owner.event(n) {
            Some(held) => {
                let kept = held.rendered(view, part);
                let written = kept.is_none() && owner.is_shared();
                let payload = kept.unwrap_or_else(|| held.render(view, job, part));
                let event = (held.at, held.event.clone(), payload.clone());
                if written {
                    let bound = self.ctx.config.limits.rendered_bytes;
                    self.jobs.keep_rendered(job, n, view, part, payload, bound);
                }
                event
            }
            None => {
                let reading = &mut self.sessions.get_mut(reader)?.reading;
                self.ahead_bytes -= reading.pass(job, n);
                let read = reading.event(job, n)?;
                (read.at, read.event.clone(), read.render(view, job, part))
            }
        };
        let owner = self.jobs.get(job)?;
        let (id, session, seq) = stamp(at);
        let frame = EventFrame {
            id,
            session,
            seq,
            job,
            trace: &owner.trace,
            span: owner.invocation.span.as_deref(),
            request: owner.requests.get(numbered, request),
            own: !view.profile.wraps_watched() || owner.owners.contains(&session),
            event: &event,
            part,
            payload: &payload,
        };
        Some((at, wire::write_event(view, &frame)))
    }

    /// What a subscription is shown: the envelope as the job's submitter has
    /// it, but for its number there.
    fn copy_of(&mut self, view: &View, reader: SessionId, place: Place) -> Option<(UtcMs, String)> {
        let owner = self.jobs.get(place.job)?;
        let submitter = owner.submitter;
        if place.event == 0 {
            let at = owner.created_at;
            let id = copy_id(place.job, 0, place.part, at);
            let stamp = Stamp { id, session: Some(submitter), seq: None };
            return Some((at, wire::write_reply(view, stamp, &owner.accepted(place.job, None))?));
        }
        // A copy follows from no request.
        self.event_frame(view, reader, reader, place, |at| {
            (copy_id(place.job, place.event, place.part, at), submitter, None)
        })
    }

    fn observed(&self, session: SessionId, view: &View, stamp: Stamp, place: Place, envelope: &str) -> String {
        let subscription = super::subscribe::id_of(session, place.subscription);
        wire::write_observed(view, stamp, subscription, envelope)
    }

    /// A word to one session about itself, as a status of a job.
    fn local_frame(&mut self, session: SessionId, view: &View, seq: u64, place: Place) -> Option<String> {
        let owner: &Job = self.jobs.get(place.job)?;
        let (phase, message) = match place.part {
            Part::Behind => ("back_pressure", "what is sent is not read or acknowledged as fast as it comes"),
            Part::Detached => ("detached", "this was read too slowly: watch the job again to go on"),
            Part::Whole | Part::StreamOpen | Part::StreamClose | Part::Boundary => return None,
        };
        let mut body = Object::new();
        body.str("phase", phase).str("message", message);
        let at = UtcMs(place.event);
        let event = Arc::new(JobEvent::Said { kind: EventKind::Status, body: body.json() });
        let trace = owner.trace.to_string();
        let owned = owner.owners.contains(&session);
        let record = EventRecord { n: 0, at, thoughts: 0, event };
        let stored = Stored::kept(LogPos(0), record);
        let payload = stored.render(view, place.job, Part::Whole);
        let frame = EventFrame {
            id: message_id(session, seq, at),
            session,
            seq: Some(seq),
            job: place.job,
            trace: &trace,
            span: None,
            request: None,
            own: !view.profile.wraps_watched() || owned,
            event: &stored.event,
            part: Part::Whole,
            payload: &payload,
        };
        Some(wire::write_event(view, &frame))
    }
}

/// The id of what subscriptions are shown of an event: the same for all, and
/// what came after it can be found by it.
fn copy_id(job: JobId, n: u64, part: Part, at: UtcMs) -> Ulid {
    let low = n << 2 | part_number(part);
    Ulid::from_parts(at.0, u128::from(tag(job.ulid())) << 40 | u128::from(low & ((1 << 40) - 1)))
}

/// The last event that has been shown whole with the frame of such an id.
pub(super) fn event_of_copy(number: u64) -> u64 {
    let opens_or_closes = number & 0b11 == part_number(Part::StreamOpen);
    (number >> 2).saturating_sub(u64::from(opens_or_closes))
}

fn part_number(part: Part) -> u64 {
    match part {
        Part::StreamOpen | Part::StreamClose => 0,
        Part::Whole | Part::Boundary | Part::Behind | Part::Detached => 1,
    }
}
