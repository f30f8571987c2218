//! Events that are not in memory, read back from the store for the one session that needs them.
//! No other session waits.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::feeds::Feeds;
use super::index::{EventEntry, IndexEntry};
use super::read_back::{PendingLoad, ReadBack};
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, LogPos, OpId, SessionId};
use crate::model::reply::{Refusal, RefusedKind};
use crate::runtime::account::{Balance, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{CloseReason, EventRecord, Output};
use crate::runtime::job::{Jobs, Stored};
use crate::runtime::timers::Timer;
use crate::wire::FrameRole;

/// How long the store may take to read events back.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The read-back buffers of all sessions that have one.
#[derive(Debug, Default)]
pub(in crate::runtime) struct HistoryPool {
    buffers: BTreeMap<SessionId, ReadBack>,
    /// The session that each operation of the store is for.
    loads: BTreeMap<OpId, SessionId>,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In memory, recorded at this position.
    Held(LogPos),
    /// Only in the store: this event of this job.
    InStore(JobId, u64),
    /// Deleted.
    Gone,
}

impl HistoryPool {
    /// Counts again the events that were read back and not sent.
    pub(super) fn recount(&self, feeds: &Feeds, recount: &mut Recount<'_>) {
        for (id, buffer) in &self.buffers {
            let bytes = buffer.recount();
            match feeds.get(*id) {
                Some(feed) => recount.add(feed.account(), HeldFor::ReadBack, bytes),
                None => debug_assert_eq!(bytes, 0, "{id} is over"),
            }
        }
    }

    /// Where the next event for a session is.
    pub(super) fn find(&self, ctx: &Context, jobs: &Jobs, session: SessionId, entry: IndexEntry) -> Found {
        let (log, n) = match entry {
            IndexEntry::Event(EventEntry { log, n, .. }) => (log, n),
            IndexEntry::Local { .. } => return Found::Held(LogPos(0)),
        };
        let Some((id, job)) = log.job().and_then(|id| Some((id, jobs.get(id)?))) else {
            return Found::Gone;
        };
        match job.position(n) {
            Some(pos) => Found::Held(pos),
            None if self.buffers.get(&session).is_some_and(|buffer| buffer.has(id, n)) => Found::Held(LogPos(0)),
            None if ctx.config.history && job.keeps(n) => Found::InStore(id, n),
            None => Found::Gone,
        }
    }

    /// Event `n` of a job, if it is the next one that was read back for a session; drops those
    /// before it.
    pub(super) fn take(&mut self, session: SessionId, job: JobId, n: u64) -> Option<&Stored> {
        let buffer = self.buffers.get_mut(&session)?;
        buffer.pass(job, n);
        buffer.event(job, n)
    }

    /// Bytes of an entry's event, if it was read back for a session.
    pub(super) fn weight(&self, session: SessionId, entry: IndexEntry) -> Option<usize> {
        let buffer = self.buffers.get(&session)?;
        match entry {
            IndexEntry::Event(EventEntry { log, n, role: FrameRole::Whole, .. }) => buffer.weight(log.job()?, n),
            IndexEntry::Event(_) | IndexEntry::Local { .. } => None,
        }
    }

    /// Asks the store for an event and those that follow it, unless it was asked already.
    pub(super) fn ask(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        (id, account): (SessionId, &Balance),
        job_id: JobId,
        from: u64,
    ) {
        let limits = &ctx.config.limits;
        let (bytes, most) = (limits.delivery.load_bytes, limits.delivery.load_events);
        let Some(job) = jobs.get(job_id).expected("a job whose events are numbered is there") else {
            return;
        };
        let buffer = self.buffers.entry(id).or_insert_with(|| ReadBack::new(account));
        if buffer.pending.is_some() {
            return;
        }
        let last = job.first_held().saturating_sub(1).min(job.count());
        let to = last.min(from.saturating_add(most - 1));
        let op = ctx.next_op();
        buffer.pending = Some(PendingLoad { op, job: job_id, from });
        self.loads.insert(op, id);
        ctx.timers.set(Timer::Read(id), ctx.now.mono + READ_TIMEOUT);
        ctx.output(Output::Load { op, job: job_id, from, to, bytes });
    }

    /// The session that an operation of the store is for.
    pub(super) fn reader_of(&self, op: OpId) -> Option<SessionId> {
        self.loads.get(&op).copied()
    }

    /// Takes events that the store gave back, or its failure. `conn`: the connection of the session
    /// that they are for.
    pub(super) fn on_loaded(
        &mut self,
        ctx: &mut Context,
        conn: Option<ConnId>,
        op: OpId,
        events: Option<Vec<EventRecord>>,
    ) {
        let Some(id) = self.loads.remove(&op) else {
            return; // No load was outstanding, or it was answered.
        };
        let buffer = self.buffers.get_mut(&id);
        let asked = buffer.and_then(|buffer| Some((buffer.pending.take_if(|pending| pending.op == op)?, buffer)));
        let (Some((pending, buffer)), Some(conn)) = (asked, conn) else {
            return; // This load was given up; another one may be outstanding.
        };
        ctx.timers.clear(Timer::Read(id));
        let Some(events) = events else {
            return self.on_failed(ctx, id, Some(conn));
        };
        // The store has fewer events than its records say.
        if events.first().is_none_or(|event| event.n != pending.from) {
            return ctx.effect(Effect::Leave { conn, reason: CloseReason::HistoryLost });
        }
        buffer.put(pending.job, events, ctx.config.limits.delivery.loads_per_session);
        ctx.ready(conn);
    }

    /// The store failed, or takes too long. Nothing is lost: the client may resume later.
    pub(super) fn on_failed(&mut self, ctx: &mut Context, id: SessionId, conn: Option<ConnId>) {
        self.stop(ctx, id);
        if let Some(conn) = conn {
            let failed = Violation::new(ErrorCode::Unavailable, "older events cannot be read just now: resume later");
            let refusal = Refusal::new(RefusedKind::Session, failed, None);
            ctx.effect(Effect::Dismiss { conn, refusal, reason: CloseReason::StoreFailed });
        }
    }

    /// Drops what the store was asked for, if that was of this job, because a session is not sent
    /// more of it. Events of other jobs will be asked for again.
    pub(super) fn stop_reading(&mut self, ctx: &mut Context, id: SessionId, job: JobId) {
        let pending = self.buffers.get(&id).and_then(|buffer| buffer.pending);
        if pending.is_some_and(|pending| pending.job == job) {
            self.stop(ctx, id);
        }
    }

    /// Drops what was read back for a session, and its pending read.
    pub(super) fn stop(&mut self, ctx: &mut Context, id: SessionId) {
        ctx.timers.clear(Timer::Read(id));
        self.buffers.remove(&id);
    }

    /// Drops what was read back for a session that cannot be written to, if all sessions exceed
    /// `ahead_bytes`. It will be read again later.
    pub(in crate::runtime) fn bound(&mut self, ctx: &mut Context, id: SessionId) {
        let waits = self.buffers.get(&id).is_some_and(|buffer| buffer.pending.is_some());
        if !waits && ctx.accounts.runtime().bytes(HeldFor::ReadBack) > ctx.config.limits.delivery.ahead_bytes {
            self.stop(ctx, id);
        }
    }
}
