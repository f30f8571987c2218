//! Slots: how many agents run at once, and which comes next.
//!
//! Whatever says that an agent is started is durable before it is: no job runs
//! twice because its runtime ended in between. A job that is accepted while a
//! slot is free says so in its acceptance; one that waited says so later.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::time::Duration;

use super::checkpoint::restarted;
use super::{AgentState, Input, Job, JobState, Jobs, Wait};
use crate::id::{JobId, LogPos, SessionId};
use crate::json::Json;
use crate::model::event::JobEvent;
use crate::model::request::Priority;
use crate::principal::Account;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{AgentSpec, Output};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

/// Jobs that wait for a slot: accounts in turn, each with its jobs.
#[derive(Debug, Default)]
pub(super) struct Line {
    turns: BTreeMap<u64, Account>,
    queues: BTreeMap<Account, Queue>,
    last_turn: u64,
}

#[derive(Debug)]
struct Queue {
    turn: u64,
    /// The most urgent first, then the oldest.
    jobs: BTreeSet<(Reverse<Priority>, LogPos, JobId)>,
}

impl Line {
    /// A job waits for a slot from now on.
    pub(super) fn enter(&mut self, job: &mut Job) {
        job.run.waits.insert(Wait::Slot);
        let account = job.spec.principal.account();
        let queue = self.queues.entry(account.clone()).or_insert_with(|| {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, account);
            Queue { turn: self.last_turn, jobs: BTreeSet::new() }
        });
        queue.jobs.insert((Reverse(job.spec.invocation.priority), job.accepted_at, job.id));
    }

    /// A job starts, or never will: if it was in line, others of its account
    /// have their next turn after everybody else's.
    pub(super) fn leave(&mut self, job: &mut Job) {
        if !job.run.waits.remove(&Wait::Slot) {
            return;
        }
        let account = job.spec.principal.account();
        let Some(queue) = self.queues.get_mut(&account) else {
            debug_assert!(false, "who waits for a slot stands in line");
            return;
        };
        queue.jobs.remove(&(Reverse(job.spec.invocation.priority), job.accepted_at, job.id));
        self.turns.remove(&queue.turn);
        if queue.jobs.is_empty() {
            self.queues.remove(&account);
            return;
        }
        self.last_turn += 1;
        queue.turn = self.last_turn;
        self.turns.insert(self.last_turn, account);
    }

    /// The next job of the first account in turn that may have a slot. Those
    /// that may not have one already: there are no more of them than slots, or
    /// none is free for anonymous ones.
    pub(super) fn first(&self, may: impl Fn(&Account) -> bool) -> Option<JobId> {
        let account = self.turns.values().find(|account| may(account))?;
        self.queues.get(account)?.jobs.first().map(|(_, _, id)| *id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.jobs.len()).sum()
    }
}

impl Jobs {
    /// What a job waited for is durable: its acceptance, or its start.
    pub(in crate::runtime) fn on_durable(&mut self, ctx: &mut Context, id: JobId) {
        let Some(job) = self.table.get(id) else {
            return;
        };
        match (&job.state, job.run.state) {
            (JobState::Accepting, _) if job.run.has_slot => {
                self.table.change(id, |job| job.start(ctx));
                ctx.effect(Effect::Launch(id));
            }
            (JobState::Accepting, _) => {
                self.table.change(id, |job| {
                    job.mark_queued();
                    job.run.waits.remove(&Wait::Store);
                    self.line.enter(job);
                });
                self.fill_slots(ctx);
            }
            (JobState::Running, AgentState::Idle) => ctx.effect(Effect::Launch(id)),
            (JobState::Queued | JobState::Running | JobState::Cancelling(_) | JobState::Ended(_), _) => {}
        }
    }

    /// Begins with waiting jobs, whose principals may have a slot, while there
    /// are slots: each waits for that to be durable.
    pub(in crate::runtime) fn fill_slots(&mut self, ctx: &mut Context) {
        while let Some(id) = self.line.first(|account| self.shares.may_run(account, &ctx.config.limits)) {
            self.table.change(id, |job| {
                self.line.leave(job);
                self.shares.take_slot(job);
                job.run.waits.insert(Wait::Store);
                job.start(ctx);
            });
            let pos = ctx.log.last();
            ctx.log.wait(pos, Waiter::Job(id));
        }
    }

    /// Starts the agent of a job. It may call nothing yet, if `reader`, who paces
    /// it, is far behind.
    pub(in crate::runtime) fn launch(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        let is_due = |job: &Job| job.state == JobState::Running && job.run.state == AgentState::Idle;
        if !self.table.get(id).is_some_and(is_due) {
            return;
        }
        self.table.change(id, |job| {
            let none = || Input { input: Json::null(), extensions: None };
            let Input { input, extensions } = self.shares.take_input(job).unwrap_or_else(none);
            job.run.waits.remove(&Wait::Store);
            let credit = job.run.first_credit(&ctx.config.limits, reader);
            job.run.state = AgentState::Running;
            job.run.last_call = ctx.now.mono;
            let spec = AgentSpec {
                agent: job.spec.agent.clone(),
                input,
                principal: job.spec.principal.clone(),
                trace: job.spec.trace.clone(),
                extensions: extensions.unwrap_or_else(Json::empty_object),
                credit: credit.calls,
                credit_bytes: u64::try_from(credit.bytes).unwrap_or(0),
                checkpoint: job.run.checkpoint.take(),
                restarts: job.run.restarts,
            };
            job.begin_heartbeats(ctx);
            ctx.output(Output::StartAgent { job: id, spec: spec.into() });
        });
    }
}

impl Job {
    /// Says that it is started.
    fn start(&mut self, ctx: &mut Context) {
        let again = self.mark_started(ctx.now.utc);
        if let (Some(limit), Some(since)) = (self.spec.max_runtime, self.run.started_at) {
            let limit = Duration::from_secs(u64::from(limit.get()));
            let at = ctx.moment(since.plus(limit), limit);
            ctx.timers.set(Timer::MaxRuntime(self.id), at);
        }
        let event = if again { restarted() } else { JobEvent::Started };
        self.append(ctx, event, false);
    }
}
