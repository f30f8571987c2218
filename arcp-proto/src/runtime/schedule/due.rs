//! What becomes of the times of a schedule when they have come.

use core::time::Duration;

use super::{
    AGAIN, Account, JobId, LogPos, Missed, NEVER, Operation, Overlap, PATIENCE, Phase, Preparing, Running, Schedule,
    Schedules, UtcMs, Violation,
};
use crate::id::OpId;
use crate::runtime::context::Context;

/// How late a time may be decided without being missed.
const LATE: Duration = Duration::from_secs(60);
/// Characters that are kept of the reason for a refusal.
const REASON: usize = 256;

/// A turn of a schedule: the times that it decides in one look.
#[derive(Debug)]
pub(in crate::runtime) struct Turn {
    at: LogPos,
    /// Whether the turn decided something, so that the state must be recorded.
    decided: bool,
    /// When to look again, if something was refused for now.
    again: Option<UtcMs>,
    stops: bool,
}

/// What became of a time.
#[derive(Debug)]
pub(in crate::runtime) enum Decided {
    /// Its job was accepted.
    Fired(JobId),
    /// Its job was refused.
    Refused(Violation),
    /// Its job was refused, and so would be every later one.
    Over(Violation),
    /// It was refused for now, and is tried again.
    Later,
    /// The host prepares its job first.
    Waits(Preparing),
}

impl Schedules {
    /// The next schedule that is due for a look.
    pub(in crate::runtime) fn take_due(&mut self, ctx: &Context) -> Option<LogPos> {
        let (next, at) = self.by_next.first().copied().filter(|(next, _)| *next <= ctx.now.utc)?;
        self.by_next.remove(&(next, at));
        if let Some(schedule) = self.kept.get_mut(&at) {
            schedule.next = None;
        }
        Some(at)
    }

    /// Puts off a look because nothing is accepted just then.
    pub(in crate::runtime) fn put_off(&mut self, ctx: &mut Context, at: LogPos) {
        let again = ctx.now.utc.plus(AGAIN);
        self.look(ctx, at, Some(again));
    }

    /// All due schedules were looked at, or as many as one input may.
    pub(in crate::runtime) fn on_looked(&self, ctx: &mut Context) {
        self.set_timer(ctx);
    }

    /// The latest job of a schedule.
    pub(in crate::runtime) fn last_job(&self, at: LogPos) -> Option<JobId> {
        self.kept.get(&at)?.state.last.map(|(_, job)| job)
    }

    /// A job has ended: a queued time of its schedule may be decided.
    pub(in crate::runtime) fn on_job_ended(&mut self, ctx: &mut Context, job: JobId) {
        if let Some(at) = self.by_job.remove(&job)
            && self.kept.get(&at).is_some_and(|schedule| !schedule.state.queued.is_empty())
        {
            let now = ctx.now.utc;
            self.look(ctx, at, Some(now));
        }
    }

    /// Begins a turn. `None`: nothing can be decided.
    pub(in crate::runtime) fn begin_turn(&mut self, ctx: &mut Context, at: LogPos) -> Option<Turn> {
        let now = ctx.now.utc;
        let schedule = self.kept.get_mut(&at).filter(|schedule| schedule.state.paused.is_none())?;
        let is_lost = |op: OpId| self.running.get(&op).is_none_or(|(_, _, until)| *until <= now);
        match schedule.phase {
            Phase::Preparing(op) if is_lost(op) => (schedule.phase, schedule.waited) = (Phase::Waiting, true),
            Phase::Planning(op) if is_lost(op) => schedule.phase = Phase::Stalled,
            Phase::Preparing(_) => {
                self.look(ctx, at, None);
                return None; // The turn comes with the host's verdict.
            }
            Phase::Unplanned | Phase::Planning(_) | Phase::Waiting | Phase::Stalled => {}
        }
        Some(Turn { at, decided: false, again: None, stops: false })
    }

    /// Takes the times that have come, and skips those that were missed.
    pub(in crate::runtime) fn take_times(&mut self, ctx: &mut Context, turn: &mut Turn) {
        let (at, now) = (turn.at, ctx.now.utc);
        let Some(schedule) = self.kept.get_mut(&at).filter(|_| !turn.stops) else {
            return; // The schedule waits for the host, or is over.
        };
        while schedule.coming.front().is_some_and(|time| *time <= now)
            && let Some(time) = schedule.coming.pop_front()
        {
            // A time that was taken when it came is not missed, however long it waits for its turn.
            if schedule.record.missed == Missed::None && time.plus(LATE) < now {
                schedule.pass(time);
                turn.decided = true;
            } else {
                schedule.due.push_back(time);
            }
        }
        if schedule.phase == Phase::Stalled
            || schedule.phase == Phase::Waiting && !schedule.is_all && schedule.coming.len() < super::REFILL
        {
            schedule.phase = Phase::Unplanned;
            self.want_plan(ctx, at);
        }
        let Some(schedule) = self.kept.get_mut(&at) else {
            return; // Unreachable: it was found above.
        };
        if !schedule.misses_more() {
            let most = ctx.config.limits.schedule.missed_firings;
            let in_time = |time: &&UtcMs| time.plus(LATE) >= now;
            let counts = match schedule.record.missed {
                // Times that came while the host prepared an earlier job were not missed.
                Missed::Last if schedule.waited => schedule.due.iter().filter(in_time).count().clamp(1, most.max(1)),
                Missed::Last => 1,
                Missed::All => most,
                Missed::None => most.max(1),
            };
            schedule.waited = false;
            while schedule.due.len() > counts
                && let Some(time) = schedule.due.pop_front()
            {
                schedule.pass(time);
                turn.decided = true;
            }
        }
    }

    /// The next time that is to get a job. `goes_on`: whether the latest job has not ended.
    pub(in crate::runtime) fn next_in_turn(&mut self, ctx: &Context, turn: &mut Turn, goes_on: bool) -> Option<UtcMs> {
        let schedule = self.kept.get_mut(&turn.at).filter(|_| !turn.stops)?;
        let most = ctx.config.limits.schedule.queued_firings;
        loop {
            let due = schedule.due.front().copied().filter(|_| !schedule.misses_more());
            match (schedule.record.overlap, goes_on) {
                (Overlap::Skip | Overlap::Queue | Overlap::Allow, false) | (Overlap::Allow, true) => {
                    return schedule.state.queued.first().copied().or(due);
                }
                (Overlap::Skip, true) => schedule.pass(due?),
                (Overlap::Queue, true) if schedule.state.queued.len() < most => {
                    schedule.state.queued.push(due?);
                    schedule.state.upto = schedule.state.upto.max(due?);
                }
                (Overlap::Queue, true) => schedule.pass(due?),
            }
            schedule.due.pop_front();
            turn.decided = true;
        }
    }

    /// Notes what became of a time.
    pub(in crate::runtime) fn decide(&mut self, now: UtcMs, turn: &mut Turn, time: UtcMs, decided: Decided) {
        let Some(schedule) = self.kept.get_mut(&turn.at) else {
            turn.stops = true;
            return; // The schedule was ended in this input.
        };
        match decided {
            Decided::Fired(job) => {
                schedule.take(time);
                schedule.state.upto = schedule.state.upto.max(time);
                schedule.state.last = Some((time, job));
                schedule.state.fired += 1;
                schedule.state.refused = None;
                if schedule.record.overlap == Overlap::Queue {
                    self.by_job.insert(job, turn.at);
                }
                turn.decided = true;
            }
            Decided::Refused(why) => {
                schedule.take(time);
                schedule.pass(time);
                schedule.state.refused = Some(why.message.chars().take(REASON).collect());
                turn.decided = true;
            }
            Decided::Over(_) => {
                schedule.due.clear();
                schedule.coming.clear();
                schedule.state.queued.clear();
                (schedule.is_all, schedule.phase) = (true, Phase::Waiting);
            }
            Decided::Later => {
                turn.again = Some(now.plus(AGAIN));
                turn.stops = true;
            }
            Decided::Waits(preparing) => {
                let until = if preparing.issues() { NEVER } else { now.plus(PATIENCE) };
                let (op, account) = (preparing.op(), schedule.record.principal.account());
                schedule.phase = Phase::Preparing(op);
                let operation = Operation::Prepare(turn.at, time, preparing);
                self.running.insert(op, (account, operation, until));
                turn.stops = true;
            }
        }
    }

    /// Whether the host may be asked to check one more input for a schedule. If not, that is looked at again once it
    /// may.
    pub(in crate::runtime) fn may_check(&mut self, ctx: &Context, at: LogPos) -> bool {
        let Some(schedule) = self.kept.get_mut(&at) else {
            return false; // It was ended meanwhile.
        };
        let account = schedule.record.principal.account();
        let may = may_check(&self.running, ctx, &account);
        if !may && schedule.awaits_check.is_none() {
            schedule.awaits_check = Some(self.unchecked.enter(&account, at));
        }
        may
    }

    /// Ends a turn: records the state if it has changed, and sets the next look.
    pub(in crate::runtime) fn end_turn(&mut self, ctx: &mut Context, turn: &Turn) {
        let Some(schedule) = self.kept.get_mut(&turn.at) else {
            return; // The schedule is over.
        };
        if schedule.is_over() {
            return self.forget(ctx, turn.at);
        }
        // Whoever still waits for a check keeps its place, however often the clock looks at it.
        if turn.again.is_none()
            && let Some(number) = schedule.awaits_check.take()
        {
            self.unchecked.leave(&schedule.record.principal.account(), number);
        }
        let next = turn.again.or(schedule.coming.front().copied());
        if turn.decided {
            self.note(ctx, turn.at);
        }
        self.look(ctx, turn.at, next);
    }
}

/// The next schedule in line that may ask the host to check an input.
pub(in crate::runtime) fn next_unchecked(schedules: &mut Schedules, ctx: &Context) -> Option<LogPos> {
    let Schedules { unchecked, running, kept, .. } = schedules;
    let at = unchecked.next(|account| may_check(running, ctx, account))?;
    kept.get_mut(&at)?.awaits_check = None;
    Some(at)
}

/// Whether the host may be asked to check one more input of an account.
fn may_check(running: &Running, ctx: &Context, account: &Account) -> bool {
    let is_check: fn(&Operation) -> bool =
        |operation| matches!(operation, Operation::Prepare(..)) && !operation.issues();
    super::held_of(running, ctx, account, is_check).check(1, ctx.config.limits.job.principal_share).is_ok()
}

/// The host has done something for a job: gives the schedule that waits for that, and the
/// time that the job is of.
pub(in crate::runtime) fn on_prepared(schedules: &mut Schedules, op: OpId) -> Option<(LogPos, UtcMs, Preparing)> {
    let Some((_, Operation::Prepare(..), _)) = schedules.running.get(&op) else {
        return None;
    };
    let Some((_, Operation::Prepare(at, time, preparing), _)) = schedules.running.remove(&op) else {
        return None; // Unreachable: it was found above.
    };
    let schedule = schedules.kept.get_mut(&at).filter(|schedule| schedule.phase == Phase::Preparing(op))?;
    (schedule.phase, schedule.waited) = (Phase::Waiting, true);
    Some((at, time, preparing))
}

/// Whether a schedule waits for the credentials of a job.
pub(in crate::runtime) fn awaits_credentials(schedules: &Schedules, at: LogPos) -> bool {
    let Some(Phase::Preparing(op)) = schedules.kept.get(&at).map(|schedule| schedule.phase) else {
        return false;
    };
    schedules.running.get(&op).is_some_and(|(_, operation, _)| operation.issues())
}

impl Schedule {
    /// Whether further missed times may be unknown, so that it is not known which one is the last.
    fn misses_more(&self) -> bool {
        self.coming.is_empty() && !self.is_all
    }

    /// Skips a time.
    fn pass(&mut self, time: UtcMs) {
        self.state.skipped += 1;
        self.state.upto = self.state.upto.max(time);
    }

    /// Removes a decided time from those that wait.
    fn take(&mut self, time: UtcMs) {
        if self.state.queued.first() == Some(&time) {
            self.state.queued.remove(0);
        } else if self.due.front() == Some(&time) {
            self.due.pop_front();
        }
    }
}
