//! Events that are no longer in memory, read back from the store for the one
//! session that needs them. Everybody else goes on.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::{Delivery, IndexEntry};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, LogPos, OpId, SessionId};
use crate::model::reply::{Refusal, RefusedKind};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{CloseReason, EventRecord, Output};
use crate::runtime::job::{Jobs, Stored};
use crate::runtime::timers::Timer;
use crate::wire::FrameRole;

/// How long a store may take to read something back.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What a session reads back.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    pending: Option<PendingLoad>,
    /// By job: events in a row, each with its number.
    ahead: BTreeMap<JobId, VecDeque<(u64, Stored)>>,
    /// Bytes of those.
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct PendingLoad {
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

impl ReadBack {
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

    /// Bytes of event `n` of a job, if it was read back.
    pub(super) fn weight(&self, job: JobId, n: u64) -> Option<usize> {
        let events = self.ahead.get(&job)?;
        let at = usize::try_from(n.checked_sub(events.front()?.0)?).ok()?;
        events.get(at).map(|(_, stored)| stored.weight())
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

impl Delivery {
    /// Where an event is that a session is owed.
    pub(super) fn find(&self, ctx: &Context, jobs: &Jobs, reader: SessionId, entry: IndexEntry) -> Found {
        if entry.part == FrameRole::Boundary {
            return Found::Held(LogPos(0));
        }
        let Some(job) = jobs.get(entry.job) else {
            return Found::Gone;
        };
        if entry.part.is_local() {
            return Found::Held(LogPos(0));
        }
        let read = self.feeds.get(&reader).is_some_and(|feed| feed.read_back.has(entry.job, entry.event));
        match job.position(entry.event) {
            Some(pos) => Found::Held(pos),
            None if read => Found::Held(LogPos(0)),
            None if ctx.config.history && job.keeps(entry.event) => Found::InStore,
            None => Found::Gone,
        }
    }

    /// Asks for an event and those that follow it, once.
    pub(super) fn read_back(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, entry: IndexEntry) {
        let limits = &ctx.config.limits;
        let (from, bytes, most) = (entry.event, limits.load_bytes, limits.load_events);
        let Some(feed) = self.feeds.get_mut(&id).filter(|feed| feed.read_back.pending.is_none()) else {
            return;
        };
        let Some(job) = jobs.get(entry.job) else {
            return;
        };
        let last = job.first_held().saturating_sub(1).min(job.count());
        let to = last.min(from.saturating_add(most - 1));
        let op = ctx.next_op();
        feed.read_back.pending = Some(PendingLoad { op, job: entry.job, from });
        self.loads.insert(op, id);
        ctx.timers.set(Timer::Read(id), ctx.now.mono + READ_TIMEOUT);
        ctx.output(Output::Load { op, job: entry.job, from, to, bytes });
    }

    /// The store has given events back, or failed.
    pub(in crate::runtime) fn on_loaded(&mut self, ctx: &mut Context, op: OpId, events: Option<Vec<EventRecord>>) {
        let Some(id) = self.loads.remove(&op) else {
            return;
        };
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        let Some(pending) = feed.read_back.pending.take_if(|pending| pending.op == op) else {
            return;
        };
        let Some(conn) = feed.conn else {
            return;
        };
        ctx.timers.clear(Timer::Read(id));
        let Some(events) = events else {
            return self.on_read_failed(ctx, id);
        };
        // A store that has less than it was said to have.
        if events.first().is_none_or(|event| event.n != pending.from) {
            return ctx.effect(Effect::Leave { conn, reason: CloseReason::HistoryLost });
        }
        let before = feed.read_back.bytes;
        feed.read_back.put(pending.job, events, ctx.config.limits.loads_per_session);
        self.ahead_bytes = self.ahead_bytes + feed.read_back.bytes - before;
        ctx.ready(conn);
    }

    /// Drops what was read back for a session, and what was asked for.
    pub(super) fn stop_reading(&mut self, ctx: &mut Context, id: SessionId) {
        ctx.timers.clear(Timer::Read(id));
        if let Some(feed) = self.feeds.get_mut(&id) {
            self.ahead_bytes -= feed.read_back.bytes;
            feed.read_back = ReadBack::default();
        }
    }

    /// Drops the read-back buffer of a session that cannot be written to, once
    /// `ahead_bytes` is exceeded: it reads again later.
    pub(in crate::runtime) fn bound_reading(&mut self, ctx: &mut Context, id: SessionId) {
        let idle = self.feeds.get(&id).is_some_and(|feed| feed.read_back.pending.is_none());
        if idle && self.ahead_bytes > ctx.config.limits.ahead_bytes {
            self.stop_reading(ctx, id);
        }
    }

    /// Nothing was lost: the client may resume and ask again.
    pub(in crate::runtime) fn on_read_failed(&mut self, ctx: &mut Context, id: SessionId) {
        self.stop_reading(ctx, id);
        if let Some(conn) = self.conn(id) {
            let failed = Violation::new(ErrorCode::Unavailable, "older events cannot be read just now: resume later");
            let refusal = Refusal::of(RefusedKind::Session, failed, None);
            ctx.effect(Effect::Dismiss { conn, refusal, reason: CloseReason::StoreFailed });
        }
    }
}
