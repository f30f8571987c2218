//! Bounds on the events of all jobs: events that do not fit in memory are dropped there, and events that do not
//! fit in the store are let go for good.

use alloc::vec::Vec;
use core::time::Duration;

use super::Job;
use super::table::Table;
use crate::id::{JobId, LogPos};
use crate::limits::Limits;
use crate::runtime::context::Context;
use crate::runtime::io::Record;
use crate::runtime::timers::Timer;

/// How often in a resume window a job is searched for events that clients have acknowledged.
const PURGES_PER_WINDOW: u32 = 8;
/// The pause between two steps, when there is much to let go.
const NEXT_STEP: Duration = Duration::from_millis(10);

impl Table {
    /// Whether some events have to go because a job has grown.
    pub(in crate::runtime) fn is_beyond(&self, ctx: &Context, id: JobId) -> bool {
        let limits = &ctx.config.limits;
        let events = self.get(id).map(|job| &job.events);
        if ctx.config.history {
            self.kept_bytes() > limits.history.kept_bytes
                || events.is_some_and(|events| events.is_kept_too_large(limits))
        } else {
            self.bytes() > limits.history.log_bytes || events.is_some_and(|events| events.is_too_large(limits))
        }
    }

    /// A job has grown: brings memory and store back within their bounds. Events dropped from memory are read back
    /// from the store on demand; without a store they are gone for good, as are those that the store lets go.
    /// The job keeps its events from `unsent` on, as far as that is possible, and from `new` on in any case. An
    /// ended job that is owed to a session keeps all of its events while others can go.
    pub(in crate::runtime) fn bound(
        &mut self,
        ctx: &mut Context,
        id: JobId,
        (unsent, new): (u64, u64),
        is_owed: impl Fn(JobId) -> bool,
    ) {
        let beyond = self.is_beyond(ctx, id);
        let limits = &ctx.config.limits;
        if ctx.config.history {
            self.fit(id, limits, ctx.log.durable(), (u64::MAX, u64::MAX), |_| false);
            if beyond {
                for (job, upto) in self.trim(id, limits, unsent.min(new)) {
                    self.note_trimmed(ctx, job, upto);
                }
            }
        } else if beyond {
            self.fit(id, limits, LogPos(u64::MAX), (unsent, new), is_owed);
            self.forget_dropped(id);
        }
    }

    /// Like [`bound`](Self::bound), for a restored event.
    pub(super) fn bound_restored(&mut self, ctx: &Context, id: JobId) {
        let limits = &ctx.config.limits;
        self.fit(id, limits, LogPos(u64::MAX), (u64::MAX, u64::MAX), |_| false);
        if !ctx.config.history {
            self.forget_dropped(id);
        }
    }

    /// Tells the store which events it may delete.
    fn note_trimmed(&self, ctx: &mut Context, id: JobId, upto: u64) {
        // The record keeps what a restart would otherwise learn from those events.
        let started = self.get(id).and_then(|job| job.run.started_at);
        let streams = self.get(id).map_or_else(Vec::new, |job| job.run.sends.streams.opened());
        ctx.append(Record::HistoryTrimmed { job: id, upto, started, streams });
    }

    /// A job has begun another group of events, and no session needs any before `needed`: perhaps others can go.
    pub(in crate::runtime) fn on_grown(&mut self, ctx: &mut Context, id: JobId, needed: u64) {
        self.free(ctx, id, needed);
        if !ctx.timers.is_set(Timer::Purge(id)) {
            self.plan_purge(ctx, id);
        }
    }

    /// Sets the timer for the next search, if events of a job may be let go then.
    pub(in crate::runtime) fn plan_purge(&self, ctx: &mut Context, id: JobId) {
        if self.get(id).is_some_and(|job| may_let_go(job, ctx.config.history)) {
            let interval = ctx.config.timing.resume_window / PURGES_PER_WINDOW;
            ctx.timers.set(Timer::Purge(id), ctx.now.mono + interval);
        }
    }

    /// Lets events of an unended job go for good, if their resume window has passed and no session needs them.
    pub(in crate::runtime) fn on_purge(&mut self, ctx: &mut Context, id: JobId, needed: u64) {
        self.free(ctx, id, needed);
        self.plan_purge(ctx, id);
        // Events that the store does not have yet stay, and so do those that a failing store cannot delete.
        let may_go = self.get(id).filter(|job| !ctx.log.failed && !job.is_terminal());
        let Some(upto) = may_go.and_then(|job| job.history().purgeable(ctx.now.mono, needed)) else {
            return; // None may go yet.
        };
        self.change(id, |job| job.events.forget(upto));
        if ctx.config.history {
            self.note_trimmed(ctx, id, upto);
        }
        // There may be more. Other inputs come between the steps.
        ctx.timers.set(Timer::Purge(id), ctx.now.mono + NEXT_STEP);
    }

    /// Drops events before `needed` from memory: the store has them, and every reader that was to get them has
    /// them too.
    fn free(&mut self, ctx: &Context, id: JobId, needed: u64) {
        if ctx.config.history {
            self.change(id, |job| job.events.drop_before(needed, ctx.log.durable()));
        }
    }

    /// Drops events from memory until everything fits, in this order:
    ///
    /// 1. the oldest of the growing job, until it is within its own bounds, but none from `unsent` on;
    /// 2. those of ended jobs that are not owed to any session: of the account that holds most, first ended first;
    /// 3. more of the growing job, but none from `unsent` on;
    /// 4. those of ended jobs that are owed, in the same order: a session that reads loses nothing because of one that
    ///    does not;
    /// 5. the rest of the growing job, but none from `new` on.
    fn fit(
        &mut self,
        growing: JobId,
        limits: &Limits,
        durable: LogPos,
        (unsent, new): (u64, u64),
        is_owed: impl Fn(JobId) -> bool,
    ) {
        self.change(growing, |job| job.events.fit(limits, durable, unsent.min(new)));
        let mut all_owed = false;
        while self.bytes() > limits.history.log_bytes {
            let ended = if all_owed { None } else { self.memory.first_not_owed(durable, &is_owed) };
            // Some of the jobs that were not looked at yet may not be owed.
            all_owed |= ended.is_none() && self.memory.owed.is_empty();
            let went = match ended {
                Some(ended) => self.drop_ended(ended),
                None if self.drop_oldest(growing, durable, unsent.min(new)) => true,
                None if !all_owed => false,
                None => match self.memory.first_loaded(durable) {
                    Some(owed) => self.drop_ended(owed),
                    None => self.drop_oldest(growing, durable, new),
                },
            };
            if !went {
                return;
            }
        }
    }

    /// Drops the events of an ended job from memory.
    fn drop_ended(&mut self, (at, id): (LogPos, JobId)) -> bool {
        if let Some(account) = self.get(id).map(|job| job.spec.principal.account()) {
            self.memory.unload(&account, at);
        }
        self.memory.shed.push(id);
        self.change(id, |job| job.events.drop_all());
        true
    }

    /// Drops the oldest event of a job from memory, if it is before `before`.
    fn drop_oldest(&mut self, id: JobId, durable: LogPos, before: u64) -> bool {
        self.change(id, |job| job.events.first_held() < before && job.events.drop_oldest(durable)) == Some(true)
    }

    /// Without a store, events that are not in memory are gone.
    fn forget_dropped(&mut self, growing: JobId) {
        for id in core::mem::take(&mut self.memory.shed).into_iter().chain([growing]) {
            self.change(id, |job| job.events.forget(job.events.first_held() - 1));
        }
    }

    /// Lets events go for good until the store fits: the oldest of the growing job until it is within its own bounds,
    /// then those of ended jobs (of the account that has most, first ended first), then more of the growing job, but
    /// none of it from `unsent` on. Returns the jobs, each with the last event that went.
    fn trim(&mut self, growing: JobId, limits: &Limits, unsent: u64) -> Vec<(JobId, u64)> {
        self.memory.shed.clear();
        let mut trimmed = Vec::new();
        loop {
            let oldest = self.memory.kept.first();
            let Some(job) = self.get(growing) else {
                return trimmed;
            };
            let own = job.events.is_kept_too_large(limits);
            let may_go = job.history().first_group_end() < unsent;
            let id = match oldest {
                _ if own && may_go => growing,
                Some((_, ended)) if self.kept_bytes() > limits.history.kept_bytes => ended,
                None if self.kept_bytes() > limits.history.kept_bytes && may_go => growing,
                Some(_) | None => return trimmed,
            };
            match self.change(id, |job| job.events.trim()).flatten() {
                Some(upto) => trimmed.push((id, upto)),
                None if id == growing => return trimmed,
                None => {
                    if let Some((at, account)) =
                        oldest.and_then(|(at, id)| Some((at, self.get(id)?.spec.principal.account())))
                    {
                        self.memory.kept.remove(&account, at);
                    }
                }
            }
        }
    }
}

/// Drops the events of an ended job from memory, if the store has them.
pub(super) fn unload(table: &mut Table, ctx: &Context, id: JobId) {
    let ended = table.get(id).and_then(|job| Some((job.spec.principal.account(), job.end()?.pos)));
    if let Some((account, end)) = ended.filter(|(_, end)| ctx.config.history && *end <= ctx.log.durable()) {
        table.memory.unload(&account, end);
        table.change(id, |job| job.events.drop_all());
    }
}

/// Whether events of a job may go before it is forgotten: from memory, if they are in a store, or for good while
/// the job has not ended.
fn may_let_go(job: &Job, in_store: bool) -> bool {
    if job.is_terminal() { in_store && job.events.can_be_dropped() } else { job.history().can_be_trimmed() }
}
