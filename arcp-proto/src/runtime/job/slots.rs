//! Slots: how many agents run at once, and which comes next.
//!
//! Whatever says that an agent is started is durable before it is: no job runs
//! twice because its runtime ended in between. A job that is accepted while a
//! slot is free says so in its acceptance; one that waited says so later.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::checkpoint::restarted;
use super::delegation;
use super::shares::Shares;
use super::{AgentState, Job, JobState, Jobs, Wait};
use crate::id::{JobId, LogPos, SessionId};
use crate::json::Json;
use crate::limits::Limits;
use crate::model::event::JobEvent;
use crate::model::request::Priority;
use crate::principal::Account;
use crate::runtime::config::Config;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AgentSpec, Output};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

/// How far back in its queue a job is still told its place.
const PLACES: usize = 1000;

/// Jobs that wait for a slot: those of each agent of which only so many may run
/// in a line of their own, all others in one. So whoever has jobs of another
/// agent does not lose its turn for this one.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Lines {
    lines: BTreeMap<Option<String>, Line>,
    last_turn: u64,
}

/// Accounts in turn, each with its jobs.
#[derive(Debug, Default)]
struct Line {
    /// How many jobs of its agent may run, in the line of one agent.
    most: Option<usize>,
    turns: BTreeMap<u64, Account>,
    queues: BTreeMap<Account, Queue>,
}

#[derive(Debug)]
struct Queue {
    turn: u64,
    /// The most urgent first, then the oldest.
    jobs: BTreeSet<Position>,
}

type Position = (Reverse<Priority>, LogPos, JobId);

/// Where a job stands in the queue of its account.
fn position(job: &Job) -> Position {
    (Reverse(job.spec.invocation.priority), job.accepted_at, job.id)
}

/// In which line the jobs of an agent wait.
fn line_of(config: &Config, agent: &str) -> Option<String> {
    config.concurrency(agent).map(|_| agent.to_string())
}

impl Lines {
    /// A job waits for a slot from now on.
    pub(super) fn enter(&mut self, config: &Config, job: &mut Job) {
        job.run.waits.insert(Wait::Slot);
        let agent = job.spec.agent.name();
        let line = self.lines.entry(line_of(config, agent)).or_insert_with(|| Line::new(config.concurrency(agent)));
        line.enter(&mut self.last_turn, job);
    }

    /// A job starts, or never will: if it was in line, others of its account
    /// have their next turn there after everybody else's.
    pub(super) fn leave(&mut self, config: &Config, job: &mut Job) {
        if !job.run.waits.remove(&Wait::Slot) {
            return;
        }
        let name = line_of(config, job.spec.agent.name());
        let left = self.lines.get_mut(&name).is_some_and(|line| line.leave(&mut self.last_turn, job));
        debug_assert!(left, "who waits for a slot stands in line");
        if self.lines.get(&name).is_some_and(|line| line.queues.is_empty()) {
            self.lines.remove(&name);
        }
    }

    /// The next job, of the lines that may go on and the accounts that may have
    /// a slot: that whose turn came first. Accounts that may not have one
    /// already: there are no more of them than slots, or none is free for
    /// anonymous ones.
    fn next(&self, limits: &Limits, shares: &Shares) -> Option<JobId> {
        let may_go_on = |agent: Option<&String>, line: &Line| {
            agent.zip(line.most).is_none_or(|(agent, most)| shares.running_of(agent) < most)
        };
        let open = self.lines.iter().filter(|(agent, line)| may_go_on(agent.as_ref(), line));
        let may_run = |account: &Account| shares.may_run(account, limits);
        open.filter_map(|(_, line)| line.first(may_run)).min().map(|(_, id)| id)
    }

    /// The place of a job, from 1: how many are started before it and it, if
    /// slots come free one by one and nobody else comes. `None` if that is far
    /// behind, or the job is not in line.
    pub(in crate::runtime) fn place(&self, config: &Config, job: &Job) -> Option<u64> {
        let waits = job.run.waits.contains(&Wait::Slot);
        self.lines.get(&line_of(config, job.spec.agent.name())).filter(|_| waits)?.place(job)
    }

    /// Who waits, those of the account whose turn comes first before the others.
    fn in_turn(&self) -> Vec<JobId> {
        let queues = self.lines.values().flat_map(|line| line.queues.values());
        let mut waiting: Vec<(u64, &Position)> =
            queues.flat_map(|queue| queue.jobs.iter().map(|position| (queue.turn, position))).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, (_, _, id))| *id).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lines.values().flat_map(|line| line.queues.values()).map(|queue| queue.jobs.len()).sum()
    }
}

impl Line {
    fn new(most: Option<usize>) -> Line {
        Line { most, ..Line::default() }
    }

    fn enter(&mut self, last_turn: &mut u64, job: &Job) {
        let account = job.spec.principal.account();
        let queue = self.queues.entry(account.clone()).or_insert_with(|| {
            *last_turn += 1;
            self.turns.insert(*last_turn, account);
            Queue { turn: *last_turn, jobs: BTreeSet::new() }
        });
        queue.jobs.insert(position(job));
    }

    /// Whether it stood here.
    fn leave(&mut self, last_turn: &mut u64, job: &Job) -> bool {
        let account = job.spec.principal.account();
        let Some(queue) = self.queues.get_mut(&account) else {
            return false;
        };
        let left = queue.jobs.remove(&position(job));
        self.turns.remove(&queue.turn);
        if queue.jobs.is_empty() {
            self.queues.remove(&account);
            return left;
        }
        *last_turn += 1;
        queue.turn = *last_turn;
        self.turns.insert(*last_turn, account);
        left
    }

    /// The next job of the first account that may have a slot, and its turn.
    fn first(&self, may_run: impl Fn(&Account) -> bool) -> Option<(u64, JobId)> {
        let (turn, account) = self.turns.iter().find(|(_, account)| may_run(account))?;
        self.queues.get(account)?.jobs.first().map(|(_, _, id)| (*turn, *id))
    }

    fn place(&self, job: &Job) -> Option<u64> {
        let own = self.queues.get(&job.spec.principal.account())?;
        let before = own.jobs.range(..position(job)).take(PLACES).count();
        if before == PLACES || !own.jobs.contains(&position(job)) {
            return None;
        }
        // Of every other account as many as it has turns until then.
        let others = self.queues.values().filter(|queue| queue.turn != own.turn);
        let others: usize = others.map(|queue| queue.jobs.len().min(before + usize::from(queue.turn < own.turn))).sum();
        Some((before + others) as u64 + 1)
    }
}

impl Jobs {
    /// What a job waited for is durable: its acceptance, or its start.
    pub(in crate::runtime) fn on_durable(&mut self, ctx: &mut Context, id: JobId) {
        let Some(job) = self.table.get(id).expected("a job waits for the store until that answers") else {
            return;
        };
        match (&job.state, job.run.state) {
            (JobState::Accepting, _) if job.run.has_slot => {
                self.table.change(id, |job| job.start(ctx));
                ctx.effect(Effect::StartAgent(id));
            }
            (JobState::Accepting, _) => {
                self.table.change(id, |job| {
                    job.mark_queued();
                    job.run.waits.remove(&Wait::Store);
                    self.lines.enter(&ctx.config, job);
                });
                if let Some(parent) = self.table.get(id).and_then(delegation::parent_of) {
                    delegation::lend_slot(self, ctx, parent);
                }
                self.fill_slots(ctx);
            }
            (JobState::Running, AgentState::Idle) => ctx.effect(Effect::StartAgent(id)),
            (JobState::Queued | JobState::Running | JobState::Cancelling(_) | JobState::Ended(_), _) => {}
        }
    }

    /// Agents may have other bounds: who waits stands where it belongs now, and
    /// keeps its turn.
    pub(in crate::runtime) fn arrange_lines(&mut self, ctx: &Context) {
        let waiting = core::mem::take(&mut self.lines).in_turn();
        for id in waiting {
            self.table.change(id, |job| self.lines.enter(&ctx.config, job));
        }
    }

    /// Begins with waiting jobs, whose principals may have a slot, while there
    /// are slots: each waits for that to be durable.
    pub(in crate::runtime) fn fill_slots(&mut self, ctx: &mut Context) {
        while let Some(id) = self.lines.next(&ctx.config.limits, &self.shares) {
            begin(self, ctx, id);
        }
    }

    /// Starts the agent of a job. It may call nothing yet, if `reader`, who paces
    /// it, is far behind.
    pub(in crate::runtime) fn start_agent(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        let is_due = |job: &Job| job.state == JobState::Running && job.run.state == AgentState::Idle;
        if !self.table.get(id).is_some_and(is_due) {
            return;
        }
        self.table.change(id, |job| {
            let (input, extensions) =
                job.input.take().map_or((Json::null(), None), |waited| (waited.input, waited.extensions));
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
                lease: job.spec.lease.clone(),
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
        if let (Some(limit), Some(since)) = (self.spec.bounds.max_runtime, self.run.started_at) {
            let limit = Duration::from_secs(u64::from(limit.get()));
            let at = ctx.moment(since.plus(limit), limit);
            ctx.timers.set(Timer::MaxRuntime(self.id), at);
        }
        let event = if again { restarted() } else { JobEvent::Started };
        self.append(ctx, event, false);
    }
}

/// Begins with a job that is in line, whoever else is, if so many of its agent may
/// run and its principal may have a slot.
pub(super) fn start_first(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let may = |job: &Job| jobs.shares.may_start(&ctx.config, &job.spec.principal.account(), job.spec.agent.name());
    if jobs.table.get(id).is_some_and(may) {
        begin(jobs, ctx, id);
    }
}

/// Begins with a job that is in line: it waits for that to be durable.
fn begin(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| {
        jobs.lines.leave(&ctx.config, job);
        jobs.shares.take_slot(job);
        job.run.waits.insert(Wait::Store);
        job.start(ctx);
    });
    let pos = ctx.log.last();
    ctx.log.wait(pos, Waiter::Job(id));
}
