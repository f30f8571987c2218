//! Events that are no longer in memory, read back from the store for the one
//! session that needs them. Everybody else goes on.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::Runtime;
use super::index::Place;
use super::io::{CloseReason, EventRecord, Output};
use super::job::Stored;
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, LogPos, OpId, SessionId};
use crate::model::reply::{Concern, Refusal};
use crate::wire::Part;

/// How long a store may take to read something back.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What a session reads back.
#[derive(Debug, Default)]
pub(super) struct Reading {
    asked: Option<Asked>,
    /// By job: events in a row, each with its number.
    ahead: BTreeMap<JobId, VecDeque<(u64, Stored)>>,
    /// Bytes of those.
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    op: OpId,
    job: JobId,
    from: u64,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In memory; it stands here in the log.
    Held(LogPos),
    /// In the store only.
    InStore,
    /// Nowhere any more.
    Gone,
}

impl Reading {
    /// Lets go of what came before event `n` of a job; gives its bytes.
    pub(super) fn pass(&mut self, job: JobId, n: u64) -> usize {
        let before = self.bytes;
        if let Some(events) = self.ahead.get_mut(&job) {
            while let Some((_, sent)) = events.front().filter(|(first, _)| *first < n) {
                self.bytes -= sent.weight();
                events.pop_front();
            }
        }
        before - self.bytes
    }

    /// Event `n` of a job, if it is the first that was read back and not passed.
    pub(super) fn event(&self, job: JobId, n: u64) -> Option<&Stored> {
        let first = self.ahead.get(&job)?.front();
        first.filter(|(first, _)| *first == n).map(|(_, stored)| stored)
    }

    fn has(&self, job: JobId, n: u64) -> bool {
        let range = self.ahead.get(&job).and_then(|events| Some((events.front()?.0, events.back()?.0)));
        range.is_some_and(|(first, last)| (first..=last).contains(&n))
    }

    fn put(&mut self, job: JobId, events: Vec<EventRecord>, bound: usize) {
        self.ahead.remove(&job);
        while self.ahead.len() >= bound {
            self.ahead.pop_first();
        }
        // They were durable before they were asked for.
        let stored = |event: EventRecord| (event.n, Stored::kept(LogPos(0), event));
        self.ahead.insert(job, events.into_iter().map(stored).collect());
        let held = self.ahead.values().flatten();
        self.bytes = held.map(|(_, stored)| stored.weight()).sum();
    }
}

impl Runtime {
    /// Where an event is that a session is owed.
    pub(super) fn find_event(&self, session: SessionId, place: Place) -> Found {
        if place.part == Part::Boundary {
            return Found::Held(LogPos(0));
        }
        let Some(job) = self.jobs.get(place.job) else {
            return Found::Gone;
        };
        if place.part.is_local() {
            return Found::Held(LogPos(0));
        }
        let read = self.sessions.get(session).is_some_and(|session| session.reading.has(place.job, place.event));
        match job.position(place.event) {
            Some(pos) => Found::Held(pos),
            None if read => Found::Held(LogPos(0)),
            None if self.ctx.config.history && job.keeps(place.event) => Found::InStore,
            None => Found::Gone,
        }
    }

    /// Asks for an event and those that follow it, once.
    pub(super) fn read_back(&mut self, id: SessionId, place: Place) {
        let limits = &self.ctx.config.limits;
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.reading.asked.is_none()) else {
            return;
        };
        let Some(job) = self.jobs.get(place.job) else {
            return;
        };
        let (from, bytes) = (place.event, limits.load_bytes);
        let last = job.first_held().saturating_sub(1).min(job.count());
        let to = last.min(from.saturating_add(limits.load_events - 1));
        let op = self.ctx.next_op();
        session.reading.asked = Some(Asked { op, job: place.job, from });
        self.reads.insert(op, id);
        self.ctx.timers.set(Timer::Read(id), self.ctx.now.mono + READ_TIMEOUT);
        self.ctx.output(Output::Load { op, job: place.job, from, to, bytes });
    }

    pub(super) fn on_loaded(&mut self, op: OpId, events: Option<Vec<EventRecord>>) {
        let bound = self.ctx.config.limits.loads_per_session;
        let Some(id) = self.reads.remove(&op) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(asked) = session.reading.asked.take_if(|asked| asked.op == op) else {
            return;
        };
        let Some(conn) = session.conn else {
            return;
        };
        self.ctx.timers.clear(Timer::Read(id));
        let Some(events) = events else {
            return self.on_read_failed(id);
        };
        // A store that has less than it was said to have.
        if events.first().is_none_or(|event| event.n != asked.from) {
            return self.leave(conn, CloseReason::HistoryLost);
        }
        let before = session.reading.bytes;
        session.reading.put(asked.job, events, bound);
        self.ahead_bytes = self.ahead_bytes + session.reading.bytes - before;
        self.ctx.ready(conn);
    }

    /// Lets go of what was read back for a session, and of what was asked for.
    pub(super) fn stop_reading(&mut self, id: SessionId) {
        self.ctx.timers.clear(Timer::Read(id));
        if let Some(session) = self.sessions.get_mut(id) {
            self.ahead_bytes -= session.reading.bytes;
            session.reading = Reading::default();
        }
    }

    /// Whoever cannot be written to just now reads again later, when too much
    /// waits for such as it.
    pub(super) fn bound_reading(&mut self, id: SessionId) {
        let idle = self.sessions.get(id).is_some_and(|session| session.reading.asked.is_none());
        if idle && self.ahead_bytes > self.ctx.config.limits.ahead_bytes {
            self.stop_reading(id);
        }
    }

    /// Nothing was lost: the client may resume and ask again.
    pub(super) fn on_read_failed(&mut self, id: SessionId) {
        self.stop_reading(id);
        if let Some(conn) = self.sessions.get(id).and_then(|session| session.conn) {
            let failed = Violation::new(ErrorCode::Unavailable, "older events cannot be read just now: resume later");
            self.dismiss(conn, Refusal::of(Concern::Session, failed, None), CloseReason::StoreFailed);
        }
    }
}
