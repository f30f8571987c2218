//! Slots: how many agents run at once, and which comes next.
//!
//! Whatever says that an agent is started is durable before it is: no job runs
//! twice because its runtime ended in between. A job that is accepted while a
//! slot is free says so in its acceptance; one that waited says so later.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::time::Duration;

use super::checkpoint::restarted;
use super::{AgentState, Job, JobState};
use crate::id::{JobId, LogPos};
use crate::json::Json;
use crate::model::event::JobEvent;
use crate::model::request::Priority;
use crate::principal::Account;
use crate::runtime::Runtime;
use crate::runtime::io::{AgentSpec, Output};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

/// Jobs that wait for a slot: accounts in turn, each with its jobs.
#[derive(Debug, Default)]
pub(crate) struct Line {
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
    pub(crate) fn push(&mut self, id: JobId, job: &Job) {
        let account = job.principal.account();
        let queue = self.queues.entry(account.clone()).or_insert_with(|| {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, account);
            Queue { turn: self.last_turn, jobs: BTreeSet::new() }
        });
        queue.jobs.insert((Reverse(job.invocation.priority), job.accepted_at, id));
    }

    /// A job starts, or never will: if it was in line, others of its account
    /// have their next turn after everybody else's.
    pub(crate) fn remove(&mut self, id: JobId, job: &Job) {
        let account = job.principal.account();
        let Some(queue) = self.queues.get_mut(&account) else {
            return;
        };
        if !queue.jobs.remove(&(Reverse(job.invocation.priority), job.accepted_at, id)) {
            return;
        }
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
    pub(crate) fn first(&self, may: impl Fn(&Account) -> bool) -> Option<JobId> {
        let account = self.turns.values().find(|account| may(account))?;
        self.queues.get(account)?.jobs.first().map(|(_, _, id)| *id)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.jobs.len()).sum()
    }
}

impl Runtime {
    /// What a job waited for is durable: its acceptance, or its start.
    pub(crate) fn on_job_durable(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match job.state {
            JobState::Accepting if job.has_slot => {
                self.begin(id);
                self.launch(id);
            }
            JobState::Accepting => {
                job.state = JobState::Queued;
                self.jobs.enqueue(id);
                self.fill_slots();
            }
            JobState::Running if job.agent_state == AgentState::Idle => self.launch(id),
            JobState::Queued | JobState::Running | JobState::Cancelling | JobState::Ended(_) => {}
        }
    }

    /// Begins with waiting jobs while there are slots.
    pub(crate) fn fill_slots(&mut self) {
        while let Some(id) = self.jobs.dequeue(&self.ctx.config.limits) {
            self.begin(id);
            let pos = self.ctx.log.last();
            self.ctx.log.wait(pos, Waiter::Job(id));
        }
    }

    /// Says that a job is started.
    fn begin(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.state = JobState::Running;
        let again = job.started_at.is_some();
        let since = *job.started_at.get_or_insert(self.ctx.now.utc);
        if let Some(limit) = job.max_runtime {
            let limit = Duration::from_secs(u64::from(limit.get()));
            let at = self.moment(since.plus(limit), limit);
            self.ctx.timers.set(Timer::MaxRuntime(id), at);
        }
        let event = if again { restarted() } else { JobEvent::Started };
        self.append_event(id, event, false);
    }

    /// Starts it.
    fn launch(&mut self, id: JobId) {
        let (input, extensions) = self.jobs.take_input(id);
        let credit = self.first_credit(id);
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.agent_state = AgentState::Running;
        job.last_call = self.ctx.now.mono;
        let spec = AgentSpec {
            agent: job.agent.clone(),
            input,
            principal: job.principal.clone(),
            trace: job.trace.clone(),
            extensions: extensions.unwrap_or_else(Json::empty_object),
            credit: credit.calls,
            credit_bytes: u64::try_from(credit.bytes).unwrap_or(0),
            checkpoint: job.checkpoint.take(),
            restarts: job.restarts,
        };
        self.begin_beats(id);
        self.ctx.output(Output::StartAgent { job: id, spec: spec.into() });
    }
}
