//! Schedules: jobs that are submitted at times, whether or not their client is connected (RFC §10.6).
//!
//! ```text
//!            times wanted      times found            its time
//! kept ─▶ unplanned ─▶ planning ─▶ waiting ─────────────────────▶ preparing
//!             ▲                      │ ▲  ╰─ or at once ─▶ fired      │
//!             ╰── no times left ─────╯ ╰─────── fired, skipped ◀──────╯
//!
//! any of them ─▶ paused ─▶ as kept          any of them ─▶ ended: forgotten
//! ```
//!
//! The host finds the times; the core knows them as UTC. The outcome of a time is in one record with the state of
//! the schedule, in the batch of the job that was submitted for it: a crash takes back both or neither, and no
//! time is decided twice. In addition, the idempotency key of the job is made of the schedule and the time.
//!
//! Times are decided in order, each once, when the clock has passed them. A clock that steps back is clamped. A
//! clock that steps forward passes all times in between at once, and they count as missed.

mod due;
mod held;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

use super::account::{Balance, Charge, HeldFor, Holding, Recount};
use super::asker::{Asker, Preparing};
use super::context::Context;
use super::effect::Effect;
use super::io::{Output, Record};
use super::line::Line;
use super::schedule_records::{ScheduleRecord, ScheduleState};
use super::timers::Timer;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, JobId, LogPos, OpId, Principal, WireId};
use crate::model::schedule::{Missed, Overlap, Plan, PlanFault, Rule, ScheduleSummary, Scheduled, Times};
use crate::principal::Account;
use crate::time::UtcMs;

pub(super) use due::{Decided, awaits_credentials, next_unchecked, on_prepared};

/// How many coming times are asked for at once.
const AHEAD: usize = 16;
/// More times are asked for when fewer than this many are left.
const REFILL: usize = 2;
/// How often the wall clock is looked at, because it may step.
const LOOK: Duration = Duration::from_secs(60);
/// How long the host may take for an operation. After that it is asked again, and a late answer is ignored.
const PATIENCE: Duration = Duration::from_secs(60);
/// The deadline of credentials here: their order has its own.
const NEVER: UtcMs = UtcMs(u64::MAX);
/// The delay before something that was refused for now is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Bytes of a schedule besides its texts, rounded up.
const ENTRY: usize = 2048;
/// How many coming times a listing names.
const SHOWN: usize = 5;

/// All schedules, by the log position of their record.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    kept: BTreeMap<LogPos, Schedule>,
    by_name: BTreeMap<(Principal, WireId), LogPos>,
    /// When each is to be looked at.
    by_next: BTreeSet<(UtcMs, LogPos)>,
    /// The latest unended jobs of schedules whose times may wait for them to end.
    by_job: BTreeMap<JobId, LogPos>,
    counts: BTreeMap<Account, usize>,
    /// Operations that the host is at.
    running: Running,
    /// Those whose times are wanted, account by account.
    unplanned: Line<LogPos>,
    /// Those for whose jobs an input is to be checked, once the host has checked others.
    unchecked: Line<LogPos>,
}

/// Operations of the host: the account that each counts against, what it is, and until when an answer counts.
type Running = BTreeMap<OpId, (Account, Operation, UtcMs)>;

#[derive(Debug)]
struct Schedule {
    record: ScheduleRecord,
    state: ScheduleState,
    /// Log position of the latest state record; 0: the state is that of a new schedule.
    state_at: LogPos,
    phase: Phase,
    /// The next times, as far as they are known.
    coming: VecDeque<UtcMs>,
    /// Times that have come and are not decided, in order.
    due: VecDeque<UtcMs>,
    /// Whether there are no more times than these.
    is_all: bool,
    /// Whether times may have come while the host was preparing the job of an earlier one, and it was not yet judged
    /// which of them were missed.
    waited: bool,
    /// Its number in the line, while it waits there.
    in_line: Option<u64>,
    /// Its number in the line of those for whom an input is to be checked.
    awaits_check: Option<u64>,
    /// When it is looked at.
    next: Option<UtcMs>,
    charge: Charge,
}

/// What a schedule waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its turn for the host to find its times.
    Unplanned,
    /// The host, which finds its times.
    Planning(OpId),
    /// Its next time, or nothing while it is paused.
    Waiting,
    /// A delay, before the host, which could not find the times, is asked again.
    Stalled,
    /// The host, which prepares the job of a time before it is accepted.
    Preparing(OpId),
}

/// An operation that the host is at.
#[derive(Debug)]
enum Operation {
    /// Finds the times of a schedule that a connection asks for.
    New(ConnId),
    /// Finds the times of a schedule that is kept.
    Plan(LogPos),
    /// Prepares the job of a time of a schedule.
    Prepare(LogPos, UtcMs, Preparing),
}

impl Operation {
    /// Whether it issues credentials.
    fn issues(&self) -> bool {
        matches!(self, Operation::Prepare(_, _, preparing) if preparing.issues())
    }
}

impl Schedules {
    /// The principal's schedule with this id.
    pub(super) fn named(&self, principal: &Principal, id: &WireId) -> Option<LogPos> {
        self.by_name.get(&(principal.clone(), id.clone())).copied()
    }

    /// The schedule with this id, if only one principal has such a one.
    pub(super) fn only_named(&self, id: &WireId) -> Option<LogPos> {
        let mut named = self.kept.iter().filter(|(_, schedule)| schedule.record.id == *id).map(|(at, _)| *at);
        named.next().filter(|_| named.next().is_none())
    }

    /// The record of a schedule.
    pub(super) fn record(&self, at: LogPos) -> Option<&ScheduleRecord> {
        self.kept.get(&at).map(|schedule| &schedule.record)
    }

    /// The answer that a schedule is kept.
    pub(super) fn shown(&self, at: LogPos, request: WireId) -> Option<Scheduled> {
        let schedule = self.kept.get(&at)?;
        Some(Scheduled { id: schedule.record.id.clone(), next: schedule.next_time(), request: Some(request) })
    }

    /// Everybody's schedules after `after`, in the order in which they were kept.
    pub(super) fn all_after(&self, after: Option<LogPos>) -> impl Iterator<Item = (LogPos, ScheduleSummary)> {
        let from = LogPos(after.map_or(0, |after| after.0.saturating_add(1)));
        self.kept.range(from..).map(|(at, schedule)| (*at, schedule.summary()))
    }

    /// A principal's schedules after `after`, by id.
    pub(super) fn own_after<'a>(
        &'a self,
        principal: &'a Principal,
        after: Option<&WireId>,
    ) -> impl Iterator<Item = (LogPos, ScheduleSummary)> + use<'a> {
        let own = self.of(principal, after);
        own.filter_map(|at| Some((at, self.kept.get(&at)?.summary())))
    }

    /// Whether there is room for one more schedule.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(super) fn check_room(
        &self,
        ctx: &Context,
        principal: &Principal,
        record: &ScheduleRecord,
    ) -> Result<(), Violation> {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let (share, of) = (limits.job.principal_share, account.bound_of());
        let (bytes, most) = (record.bytes(), limits.schedule.schedule_bytes);
        if bytes > most {
            let why = alloc::format!("what a schedule submits may have at most {most} bytes, and this has {bytes}");
            return Err(Violation::exhausted("schedule_bytes", BoundOf::Request, most as u64, why));
        }
        let own = self.counts.get(&account).copied().unwrap_or_default();
        let most = limits.schedule.schedules_per_principal;
        if own >= most {
            let why = alloc::format!("you have {own} schedules, and may have {most}: end one with `cancel`");
            return Err(Violation::exhausted("schedules_per_principal", of, most as u64, why));
        }
        let all = Holding { own, all: self.kept.len(), total: limits.total_for(&account, limits.schedule.schedules) };
        all.admit(1, share, of, "schedules", "schedules")?;
        let held = ctx.accounts.held(&account, HeldFor::Schedules, limits, limits.schedule.all_schedule_bytes);
        held.admit(ENTRY + bytes, share, of, "all_schedule_bytes", "the bytes of schedules")
    }

    /// Has the host find the first times of a rule, for a connection that asks for a schedule.
    ///
    /// # Errors
    ///
    /// If the host is finding too many already.
    pub(super) fn begin_new(
        &mut self,
        ctx: &mut Context,
        (conn, principal): (ConnId, &Principal),
        rule: &Rule,
    ) -> Result<OpId, Violation> {
        let (limits, account, now) = (&ctx.config.limits, principal.account(), ctx.now.utc);
        self.running.retain(|_, (_, _, until)| *until > now);
        let is_new: fn(&Operation) -> bool = |operation| matches!(operation, Operation::New(_));
        let running = held_of(&self.running, ctx, &account, is_new);
        let what = "rules whose times are being found";
        running.admit(1, limits.job.principal_share, account.bound_of(), "schedule_plans", what)?;
        let op = ctx.next_op();
        self.running.insert(op, (account, Operation::New(conn), now.plus(PATIENCE)));
        let rule = rule.clone();
        ctx.output(Output::PlanSchedule { op, rule, after: now, now, missed: 0, coming: AHEAD, ends: None });
        Ok(op)
    }

    /// Keeps a schedule.
    pub(super) fn keep(&mut self, ctx: &mut Context, record: ScheduleRecord, plan: Option<Plan>) -> LogPos {
        let at = ctx.append(Record::ScheduleKept(Box::new(record.clone())));
        self.add(ctx, at, record);
        if let Some(schedule) = self.kept.get_mut(&at) {
            schedule.phase = Phase::Waiting;
            match (&schedule.record.times, plan) {
                (Times::At(once), _) => schedule.coming.push_back(*once),
                (Times::Every(_), Some(plan)) => {
                    schedule.coming.extend(plan.coming);
                    schedule.is_all = plan.is_all;
                }
                (Times::Every(_), None) => schedule.phase = Phase::Unplanned,
            }
        }
        self.plan(ctx, at);
        at
    }

    fn add(&mut self, ctx: &mut Context, at: LogPos, record: ScheduleRecord) {
        let account = record.principal.account();
        *self.counts.entry(account.clone()).or_default() += 1;
        self.by_name.insert((record.principal.clone(), record.id.clone()), at);
        let state = ScheduleState { schedule: at, upto: record.created_at, ..ScheduleState::default() };
        let charge = ctx.accounts.of(&account).charge(HeldFor::Schedules, ENTRY + record.bytes());
        let (coming, due, phase) = (VecDeque::new(), VecDeque::new(), Phase::Unplanned);
        let is_all = matches!(record.times, Times::At(_));
        let schedule = Schedule {
            record,
            state,
            state_at: LogPos(0),
            phase,
            coming,
            due,
            is_all,
            waited: false,
            in_line: None,
            awaits_check: None,
            next: None,
            charge,
        };
        self.kept.insert(at, schedule);
    }

    /// Pauses a schedule (`why`), or lets it go on from its next time; false if nothing changes.
    pub(super) fn set_paused(&mut self, ctx: &mut Context, at: LogPos, why: Option<&str>) -> bool {
        let now = ctx.now.utc;
        let Some(schedule) = self.kept.get_mut(&at).filter(|schedule| schedule.state.paused.is_some() != why.is_some())
        else {
            return false;
        };
        give_up(&mut self.running, ctx, at, schedule.phase);
        let passed = schedule.due.len() + schedule.state.queued.len();
        schedule.state.skipped += passed as u64;
        schedule.state.queued.clear();
        schedule.due.clear();
        schedule.coming.clear();
        schedule.state.upto = now.max(schedule.state.upto);
        schedule.state.paused = why.map(String::from);
        (schedule.phase, schedule.waited) = (Phase::Waiting, false);
        if why.is_none() {
            match schedule.record.times {
                Times::At(once) => schedule.coming.extend(Some(once).filter(|once| *once > now)),
                Times::Every(_) => (schedule.phase, schedule.is_all) = (Phase::Unplanned, false),
            }
        }
        self.note(ctx, at);
        self.plan(ctx, at);
        true
    }

    /// Pauses all schedules of a principal. Returns the ids of those that were not paused before.
    pub(super) fn pause_all(&mut self, ctx: &mut Context, principal: &Principal, why: &str) -> Vec<WireId> {
        let own: Vec<LogPos> = self.of(principal, None).collect();
        let paused: Vec<LogPos> = own.into_iter().filter(|at| self.set_paused(ctx, *at, Some(why))).collect();
        paused.into_iter().filter_map(|at| Some(self.record(at)?.id.clone())).collect()
    }

    /// A principal's schedules after `after`, by id.
    fn of<'a>(&'a self, principal: &'a Principal, after: Option<&WireId>) -> impl Iterator<Item = LogPos> + use<'a> {
        let first = after.cloned().or_else(|| WireId::new("\0"));
        let from = first.map(|first| (principal.clone(), first));
        let from = from.map_or(Bound::Unbounded, if after.is_some() { Bound::Excluded } else { Bound::Included });
        let own = self.by_name.range((from, Bound::Unbounded));
        own.take_while(move |((whose, _), _)| whose == principal).map(|(_, at)| *at)
    }

    /// Ends a schedule.
    pub(super) fn forget(&mut self, ctx: &mut Context, at: LogPos) {
        if let Some(schedule) = self.kept.get(&at) {
            give_up(&mut self.running, ctx, at, schedule.phase);
        }
        if let Some(state_at) = self.remove(at) {
            let entries = [at, state_at].into_iter().filter(|at| at.0 > 0).collect();
            ctx.append(Record::SchedulesForgotten { entries });
            self.set_timer(ctx);
        }
    }

    fn remove(&mut self, at: LogPos) -> Option<LogPos> {
        let Schedule { record, state, state_at, next, in_line, awaits_check, .. } = self.kept.remove(&at)?;
        next.map(|next| self.by_next.remove(&(next, at)));
        state.last.map(|(_, job)| self.by_job.remove(&job));
        let account = record.principal.account();
        in_line.into_iter().for_each(|number| self.unplanned.leave(&account, number));
        awaits_check.into_iter().for_each(|number| self.unchecked.leave(&account, number));
        if let Some(count) = self.counts.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&account);
            }
        }
        self.by_name.remove(&(record.principal, record.id));
        Some(state_at)
    }

    /// The host has found the times of a rule, or has failed to. Returns the connection that waits for them, or says
    /// that they are of a kept schedule.
    pub(super) fn on_planned(&mut self, ctx: &mut Context, op: OpId, plan: Result<Plan, PlanFault>) -> Option<Planned> {
        match self.running.remove(&op)? {
            (_, Operation::New(conn), _) => Some(Planned::New(conn, plan)),
            (_, Operation::Plan(at), _) => {
                self.take_plan(ctx, at, op, plan);
                self.ask_for_plans(ctx);
                Some(Planned::Kept)
            }
            other @ (_, Operation::Prepare(..), _) => {
                debug_assert!(false, "what is done for a job finds no times");
                self.running.insert(op, other);
                None
            }
        }
    }

    fn take_plan(&mut self, ctx: &mut Context, at: LogPos, op: OpId, plan: Result<Plan, PlanFault>) {
        let Some(schedule) = self.kept.get_mut(&at).filter(|schedule| schedule.phase == Phase::Planning(op)) else {
            return; // The schedule is over, or was paused meanwhile.
        };
        schedule.phase = Phase::Waiting;
        match plan {
            Ok(plan) => {
                schedule.is_all = plan.is_all || plan.coming.is_empty();
                // Missed times come before those to come. Times out of order, which only a faulty host gives, are
                // ignored.
                for time in plan.missed.into_iter().chain(plan.coming) {
                    if time > schedule.last_known() {
                        schedule.coming.push_back(time);
                    }
                }
            }
            Err(fault) if fault.again => schedule.phase = Phase::Stalled,
            Err(fault) => {
                schedule.is_all = true;
                schedule.state.refused = Some(fault.reason);
            }
        }
        let later = if schedule.phase == Phase::Stalled { ctx.now.utc.plus(AGAIN) } else { ctx.now.utc };
        self.look(ctx, at, Some(later));
    }

    /// Plans what a schedule does next: when it is looked at, or that the host is to find its times.
    fn plan(&mut self, ctx: &mut Context, at: LogPos) {
        let Some(schedule) = self.kept.get(&at) else {
            return; // The schedule is over.
        };
        if schedule.phase == Phase::Unplanned && schedule.state.paused.is_none() {
            self.look(ctx, at, None);
            return self.want_plan(ctx, at);
        }
        let next = schedule.next_time().filter(|_| schedule.state.paused.is_none());
        let over = schedule.is_over().then_some(ctx.now.utc);
        self.look(ctx, at, over.or(next));
    }

    /// Sets when a schedule is looked at: at `next`, or when its operation is overdue.
    fn look(&mut self, ctx: &mut Context, at: LogPos, next: Option<UtcMs>) {
        let Some(schedule) = self.kept.get_mut(&at) else {
            return; // The schedule is over.
        };
        let waits = match schedule.phase {
            Phase::Planning(op) | Phase::Preparing(op) => {
                self.running.get(&op).map(|(_, _, until)| *until).filter(|until| *until < NEVER)
            }
            Phase::Unplanned | Phase::Waiting | Phase::Stalled => None,
        };
        let next = next.into_iter().chain(waits).min();
        if let Some(before) = core::mem::replace(&mut schedule.next, next) {
            self.by_next.remove(&(before, at));
        }
        self.by_next.extend(next.map(|next| (next, at)));
        self.set_timer(ctx);
    }

    /// A schedule enters the line for its times to be found.
    fn want_plan(&mut self, ctx: &mut Context, at: LogPos) {
        if let Some(schedule) = self.kept.get_mut(&at).filter(|schedule| schedule.in_line.is_none()) {
            schedule.in_line = Some(self.unplanned.enter(&schedule.record.principal.account(), at));
        }
        self.ask_for_plans(ctx);
    }

    /// Has the host find the times of schedules in line, within the bounds on operations.
    fn ask_for_plans(&mut self, ctx: &mut Context) {
        let now = ctx.now.utc;
        self.running.retain(|_, (_, _, until)| *until > now);
        while let Some(at) = next_unplanned(&self.running, &mut self.unplanned, ctx) {
            let Some(schedule) = self.kept.get_mut(&at) else {
                debug_assert!(false, "what is over leaves the line");
                continue;
            };
            schedule.in_line = None;
            if schedule.phase != Phase::Unplanned || schedule.state.paused.is_some() {
                continue; // The schedule was paused meanwhile.
            }
            let Times::Every(rule) = schedule.record.times.clone() else {
                debug_assert!(false, "one time is known");
                continue;
            };
            let missed = match schedule.record.missed {
                Missed::Last if !schedule.waited => 1,
                Missed::Last | Missed::All => ctx.config.limits.schedule.missed_firings,
                Missed::None => 0,
            };
            let (op, after, next) = (ctx.next_op(), schedule.last_known(), schedule.next);
            let ends = schedule.record.ends;
            schedule.phase = Phase::Planning(op);
            let account = schedule.record.principal.account();
            self.running.insert(op, (account, Operation::Plan(at), now.plus(PATIENCE)));
            ctx.output(Output::PlanSchedule { op, rule, after, now, missed, coming: AHEAD, ends });
            self.look(ctx, at, next);
        }
    }

    fn set_timer(&self, ctx: &mut Context) {
        match self.by_next.first() {
            Some((next, _)) => {
                let at = ctx.moment(*next, LOOK);
                ctx.timers.set(Timer::Schedules, at);
            }
            None => ctx.timers.clear(Timer::Schedules),
        }
    }

    /// Records the state of a schedule.
    fn note(&mut self, ctx: &mut Context, at: LogPos) {
        let Some(schedule) = self.kept.get_mut(&at) else {
            return; // The schedule is over.
        };
        schedule.state.undoes = schedule.state_at;
        schedule.state.at = ctx.now.utc;
        schedule.state_at = ctx.append(Record::ScheduleMoved(Box::new(schedule.state.clone())));
    }
}

/// The balance of the account that a schedule counts against.
pub(super) fn account_of(schedules: &Schedules, at: LogPos) -> Option<&Balance> {
    schedules.kept.get(&at).map(|schedule| schedule.charge.balance())
}

/// A schedule stops waiting for credentials, if it does.
fn give_up(running: &mut Running, ctx: &mut Context, at: LogPos, phase: Phase) {
    if let Phase::Preparing(op) = phase
        && running.get(&op).is_some_and(|(_, operation, _)| operation.issues())
    {
        running.remove(&op);
        ctx.effect(Effect::Unheard(Asker::Schedule(at)));
    }
}

/// The next in line that may have its times found.
fn next_unplanned(running: &Running, unplanned: &mut Line<LogPos>, ctx: &Context) -> Option<LogPos> {
    let is_plan: fn(&Operation) -> bool = |operation| matches!(operation, Operation::Plan(_));
    let limits = &ctx.config.limits;
    let now = ctx.now.utc;
    let all = running.values().filter(|(_, operation, until)| is_plan(operation) && *until > now).count();
    if all >= limits.schedule.schedule_plans {
        return None;
    }
    unplanned.next(|account| held_of(running, ctx, account, is_plan).check(1, limits.job.principal_share).is_ok())
}

/// How many operations of a kind there are, of an account and in all.
fn held_of(running: &Running, ctx: &Context, account: &Account, is_one: fn(&Operation) -> bool) -> Holding {
    let mut held = Holding { own: 0, all: 0, total: ctx.config.limits.schedule.schedule_plans };
    let now = ctx.now.utc;
    for (whose, _, _) in running.values().filter(|(_, operation, until)| is_one(operation) && *until > now) {
        held.all += 1;
        held.own += usize::from(whose == account);
    }
    held
}

/// Whose times the host has found.
#[derive(Debug)]
pub(super) enum Planned {
    /// Those of a schedule that a connection asks for.
    New(ConnId, Result<Plan, PlanFault>),
    /// Those of a kept schedule.
    Kept,
}

impl Schedule {
    /// The last known time, decided or not.
    fn last_known(&self) -> UtcMs {
        self.coming.back().or(self.due.back()).copied().unwrap_or(self.state.upto).max(self.state.upto)
    }

    fn next_time(&self) -> Option<UtcMs> {
        self.due.front().or(self.coming.front()).copied()
    }

    /// Whether no times are left.
    fn is_over(&self) -> bool {
        let is_empty = self.due.is_empty() && self.coming.is_empty() && self.state.queued.is_empty();
        is_empty && self.is_all && self.phase == Phase::Waiting && self.state.paused.is_none()
    }

    fn summary(&self) -> ScheduleSummary {
        let Schedule { record, state, coming, due, .. } = self;
        ScheduleSummary {
            id: record.id.clone(),
            principal: alloc::format!("{}", record.principal),
            agent: alloc::format!("{}", record.job.agent),
            times: Some(record.times.clone()),
            missed: record.missed,
            overlap: record.overlap,
            created_at: Some(record.created_at),
            paused: state.paused.clone(),
            next: due.iter().chain(coming).take(SHOWN).copied().collect(),
            queued: state.queued.len() as u64,
            fired: state.fired,
            skipped: state.skipped,
            last_at: state.last.map(|(at, _)| at),
            last_job: state.last.map(|(_, job)| job.into()),
            last_refused: state.refused.clone(),
        }
    }
}

/// The refusal for a schedule that is not the asker's: unknown, foreign and ended ones look alike.
pub(super) fn unknown() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such schedule of yours is kept here")
}
