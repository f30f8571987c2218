//! The lines in which jobs wait for a slot, and whose turn it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::shares::Shares;
use super::{Job, Wait};
use crate::id::{JobId, LogPos};
use crate::limits::Limits;
use crate::model::request::Priority;
use crate::principal::Account;
use crate::runtime::config::Config;

/// The furthest position in its account's queue at which a job is still told its place.
const PLACES: usize = 1000;

/// Jobs that wait for a slot. Each agent with a bound on concurrency has a line of its own; all others share one. So an
/// account with jobs of other agents does not lose its turn because of the bounded one.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Lines {
    lines: BTreeMap<LineName, Line>,
    last_turn: u64,
}

/// Which jobs wait in a line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineName {
    /// The agent, if its concurrency is bounded.
    agent: Option<String>,
    /// Whether they are children, which may get slots that others may not.
    of_children: bool,
}

/// Accounts in turn, each with its jobs.
#[derive(Debug, Default)]
struct Line {
    /// The bound on concurrency, in the line of one agent.
    most: Option<usize>,
    turns: BTreeMap<u64, Account>,
    queues: BTreeMap<Account, Queue>,
}

#[derive(Debug)]
struct Queue {
    turn: u64,
    /// Most urgent first, then oldest.
    jobs: BTreeSet<Position>,
}

type Position = (Reverse<Priority>, LogPos, JobId);

/// The position of a job in the queue of its account.
fn position(job: &Job) -> Position {
    (Reverse(job.spec.invocation.priority), job.accepted_at, job.id)
}

/// The line in which a job waits.
fn line_of(config: &Config, job: &Job) -> LineName {
    let agent = job.spec.agent.name();
    let of_children = job.spec.parent().is_some();
    LineName { agent: config.concurrency(agent).map(|_| agent.to_string()), of_children }
}

impl Lines {
    /// A job waits for a slot.
    pub(super) fn enter(&mut self, config: &Config, job: &mut Job) {
        job.run.waits.insert(Wait::Slot);
        let agent = job.spec.agent.name();
        let line = self.lines.entry(line_of(config, job)).or_insert_with(|| Line::new(config.concurrency(agent)));
        line.enter(&mut self.last_turn, job);
    }

    /// A job starts, or never will. If it was in line, its account's next turn there comes after all others.
    pub(super) fn leave(&mut self, config: &Config, job: &mut Job) {
        if !job.run.waits.remove(&Wait::Slot) {
            return;
        }
        let name = line_of(config, job);
        let left = self.lines.get_mut(&name).is_some_and(|line| line.leave(&mut self.last_turn, job));
        debug_assert!(left, "who waits for a slot stands in line");
        if self.lines.get(&name).is_some_and(|line| line.queues.is_empty()) {
            self.lines.remove(&name);
        }
    }

    /// The next job: the first in turn, of the lines whose agents have room and the accounts that may have a slot. The
    /// accounts that have to be skipped are few: no more than there are slots, or the anonymous ones if none is free
    /// for them.
    pub(super) fn next(&self, limits: &Limits, shares: &Shares) -> Option<JobId> {
        let may_go_on = |agent: Option<&String>, line: &Line| {
            agent.zip(line.most).is_none_or(|(agent, most)| shares.running_of(agent) < most)
        };
        let open = self.lines.iter().filter(|(name, line)| may_go_on(name.agent.as_ref(), line));
        let first =
            |(name, line): (&LineName, &Line)| line.first(|account| shares.may_run(account, limits, name.of_children));
        open.filter_map(first).min().map(|(_, id)| id)
    }

    /// The place of a job, from 1, if slots come free one by one and no other job is submitted. `None` if it is far
    /// back, or not in line.
    pub(in crate::runtime) fn place(&self, config: &Config, job: &Job) -> Option<u64> {
        let waits = job.run.waits.contains(&Wait::Slot);
        self.lines.get(&line_of(config, job)).filter(|_| waits)?.place(job)
    }

    /// All waiting jobs, those of the account whose turn is first before the others.
    pub(super) fn in_turn(&self) -> Vec<JobId> {
        let queues = self.lines.values().flat_map(|line| line.queues.values());
        let mut waiting: Vec<(u64, &Position)> =
            queues.flat_map(|queue| queue.jobs.iter().map(|position| (queue.turn, position))).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, (_, _, id))| *id).collect()
    }

    /// How many jobs wait.
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

    /// Whether the job was in this line.
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
        // Of each other account, as many jobs start before as it has turns until then.
        let others = self.queues.values().filter(|queue| queue.turn != own.turn);
        let others: usize = others.map(|queue| queue.jobs.len().min(before + usize::from(queue.turn < own.turn))).sum();
        Some((before + others) as u64 + 1)
    }
}
