//! Releases what a session does not need any more: numbers that its client has, and the jobs that
//! only these refer to.

use alloc::vec::Vec;

use super::feeds::Feeds;
use crate::id::{JobId, LogId, SessionId};
use crate::model::feature::Feature;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Record;
use crate::runtime::job::Jobs;
use crate::runtime::timers::Timer;

/// Released numbers are recorded once there are this many.
const RELEASE_STEP: u64 = 256;

impl Feeds {
    /// A client acknowledges numbers up to this one.
    pub(in crate::runtime) fn acknowledge(&mut self, ctx: &mut Context, id: SessionId, seq: u64) {
        let feed = self.by_session.get_mut(&id).filter(|feed| feed.view.features.has(Feature::Ack));
        if let Some(feed) = feed {
            let released = feed.acknowledge(seq, ctx.config.limits.delivery.ack_lag);
            self.unreference(ctx, id, &released);
            self.note_released(ctx, id);
        }
    }

    /// Releases a number whose event is deleted and that a replay passed over, so that no later
    /// replay has to do so again.
    pub(super) fn release_gone(&mut self, ctx: &mut Context, id: SessionId, gone: u64) {
        if let Some(feed) = self.by_session.get_mut(&id).filter(|feed| feed.index.floor() + 1 == gone) {
            let released = feed.index.release(gone);
            self.unreference(ctx, id, &released);
        }
    }

    /// Releases the oldest entries of a session that refer to released jobs and that its client
    /// has. Frames that were sent and not acknowledged may be in flight: this is called again once
    /// they must have arrived.
    pub(in crate::runtime) fn release_expired(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) {
        let expired = |log: LogId| log.job().and_then(|job| jobs.get(job)).is_none_or(|job| job.released);
        let Some(feed) = self.by_session.get_mut(&id).filter(|feed| feed.conn.is_some()) else {
            return; // Without a connection, the client may still ask for all entries.
        };
        let released = feed.index.release_done(feed.receipts.received, expired);
        let waits = feed.index.begins_with(expired);
        if waits && !ctx.timers.is_set(Timer::Arrived(id)) {
            feed.receipts.in_flight = feed.cursor;
            ctx.timers.set(Timer::Arrived(id), ctx.now.mono + ctx.config.timing.resume_window);
        }
        self.unreference(ctx, id, &released);
    }

    /// Like [`release_expired`](Self::release_expired), for every session that has numbers of a
    /// job.
    pub(in crate::runtime) fn release_expired_job(&mut self, ctx: &mut Context, jobs: &Jobs, job: JobId) {
        for reader in self.refs.sessions(job.into()).collect::<Vec<SessionId>>() {
            self.release_expired(ctx, jobs, reader);
        }
    }

    /// The connection has stayed open for a resume window since the frames in flight were sent, so
    /// they have arrived: a lost peer is noticed earlier.
    pub(in crate::runtime) fn on_arrived(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) {
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.receipts.received = feed.receipts.received.max(feed.receipts.in_flight);
        }
        self.release_expired(ctx, jobs, id);
    }

    /// Counts the frames of a job that were sent as received, as there is no room to wait.
    pub(in crate::runtime) fn take_as_received(&mut self, job: JobId) {
        for reader in self.refs.sessions(job.into()) {
            if let Some(feed) = self.by_session.get_mut(&reader).filter(|feed| feed.conn.is_some()) {
                feed.receipts.received = feed.receipts.received.max(feed.cursor);
            }
        }
    }

    /// Restores that an earlier run released a session's first numbers.
    pub(in crate::runtime) fn restore_released(&mut self, ctx: &mut Context, id: SessionId, upto: u64) {
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.receipts.released = upto;
            let released = feed.index.restore_floor(upto);
            self.unreference(ctx, id, &released);
        }
    }

    /// Records which numbers a session has released, but not for each of them.
    pub(super) fn note_released(&mut self, ctx: &mut Context, id: SessionId) {
        let Some(feed) = self.by_session.get_mut(&id).expected("its index was just bounded") else {
            return;
        };
        let upto = feed.index.floor();
        if upto >= feed.receipts.released + RELEASE_STEP {
            feed.receipts.released = upto;
            ctx.append(Record::Released { session: id, upto });
        }
    }

    /// A session's index released runs; there is one entry for each. Jobs to which no index refers
    /// may be forgotten.
    pub(super) fn unreference(&mut self, ctx: &mut Context, session: SessionId, released: &[Option<LogId>]) {
        self.runs = self.runs.saturating_sub(released.len());
        if let Some(feed) = self.by_session.get_mut(&session) {
            feed.weigh();
        }
        for log in released.iter().copied().flatten() {
            if let Some(job) = log.job().filter(|_| self.refs.drop_one(log, session)) {
                ctx.effect(Effect::Unreferenced(job));
            }
        }
    }
}
