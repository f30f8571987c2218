//! The owner of all jobs: their table, the shares of accounts, the lines for slots, and the keys.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::backlog::Backlogs;
use super::cause::Cause;
use super::credentials::Credentials;
use super::deferred::Deferred;
use super::departures::Departures;
use super::idempotency::Keys;
use super::lines::Lines;
use super::purge;
use super::shares::Shares;
use super::table::{Table, recount_table};
use super::tokens::Tokens;
use super::{Job, JobSpec, Wait, is_workflow};
use crate::error::Violation;
use crate::id::{JobId, OpId, Principal, SessionId};
use crate::limits::Limits;
use crate::runtime::account::{HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::Record;
use crate::runtime::timers::Timer;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Jobs {
    pub(super) table: Table,
    /// What each account holds: jobs and slots.
    pub(super) shares: Shares,
    /// Jobs that wait for a slot.
    pub(super) lines: Lines,
    pub(super) keys: Keys,
    pub(in crate::runtime) credentials: Credentials,
    /// Jobs on their way to other runtimes.
    pub(in crate::runtime) departures: Departures,
    /// Tokens by which sessions that did not submit a job come to it.
    pub(in crate::runtime) tokens: Tokens,
    /// Jobs whose questions, or whose children's inputs, the host is checking.
    pub(super) checking: BTreeMap<OpId, (JobId, Looks)>,
    /// Jobs with a child that waits for the host.
    pub(super) deferring: BTreeSet<JobId>,
    /// Jobs to be heard again in this input: a child of theirs has its answer from the host, or they have ended with
    /// calls left in their backlog.
    pub(in crate::runtime) unheard: VecDeque<JobId>,
    /// Jobs whose agents' calls are processed later.
    pub(super) backlogs: Backlogs,
    /// Workflows that end in this input, with the cause: once their event says how their steps stand.
    pub(super) ending: BTreeMap<JobId, Cause>,
    /// Which sessions have opened streams to which unended jobs.
    pub(super) inputs: BTreeSet<(SessionId, JobId)>,
}

/// What the host checks for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// A question of its agent.
    Question,
    /// The input of a child.
    Child,
}

/// Numbers of jobs.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct JobCounts {
    /// Jobs that have not ended.
    pub(in crate::runtime) unfinished: usize,
    /// Jobs in line for a slot.
    pub(in crate::runtime) waiting: usize,
    /// Agents that hold a slot.
    pub(in crate::runtime) running: usize,
}

impl Jobs {
    pub(in crate::runtime) fn get(&self, id: JobId) -> Option<&Job> {
        self.table.get(id)
    }

    pub(in crate::runtime) fn table(&self) -> &Table {
        &self.table
    }

    pub(in crate::runtime) fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// The lines for slots.
    pub(in crate::runtime) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(in crate::runtime) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(in crate::runtime) fn keys_mut(&mut self) -> &mut Keys {
        &mut self.keys
    }

    pub(in crate::runtime) fn counts(&self) -> JobCounts {
        let total = self.shares.total();
        JobCounts { unfinished: total.live, waiting: self.lines.len(), running: total.running }
    }

    /// What each unended job waits for, if it waits for anything but its agent.
    pub(in crate::runtime) fn waits(&self) -> Vec<(JobId, Wait)> {
        let go_on = self.table.of_all(None).filter(|(_, job)| !job.is_terminal());
        go_on.filter_map(|(id, job)| Some((id, job.run.wait()?))).collect()
    }

    pub(super) fn insert(&mut self, job: Box<Job>) {
        let workflow = usize::from(is_workflow(&job));
        self.shares.change(&job.spec.principal, |share| {
            share.live += 1;
            share.workflows += workflow;
        });
        if let Some(parent) = job.spec.parent() {
            self.table.change(parent, |parent| parent.children.insert(job.id));
        }
        self.table.insert(job);
    }

    /// A job has ended: listings show it until it expires.
    pub(super) fn list(&mut self, id: JobId) {
        let job = self.table.get(id).map(|job| (job.spec.principal.clone(), usize::from(is_workflow(job))));
        if let Some((principal, workflow)) = job {
            self.shares.change(&principal, |share| {
                share.live -= 1;
                share.workflows -= workflow;
                share.ended += 1;
            });
            self.table.list(&principal, id);
        }
    }

    /// The oldest ended job that listings show of a principal, if there are too many.
    pub(in crate::runtime) fn one_too_many(&self, principal: &Principal, limits: &Limits) -> Option<JobId> {
        let ended = self.shares.of(&principal.account()).ended;
        self.table.oldest_listed(principal).filter(|_| ended > limits.job.ended_jobs_per_principal)
    }

    /// An ended job expires: listings leave it out, and only references keep it.
    pub(in crate::runtime) fn expire(&mut self, ctx: &mut Context, id: JobId) {
        ctx.timers.clear(Timer::Retention(id));
        ctx.timers.clear(Timer::EndMissed(id));
        self.table.change(id, |job| (job.expired, job.released) = (true, true));
        self.unlist(id);
    }

    /// A resume window has passed since a job ended: drops its events from memory, if the store has them.
    pub(in crate::runtime) fn on_end_missed(&mut self, ctx: &Context, id: JobId) {
        self.table.change(id, |job| job.released = true);
        purge::unload(&mut self.table, ctx, id);
    }

    /// The job that is to be forgotten, if those that are over hold too much in
    /// memory or the store keeps too much: of who has most of that the one that ended
    /// first, but not this one.
    pub(in crate::runtime) fn one_too_heavy(&mut self, ctx: &Context, but: Option<JobId>) -> Option<JobId> {
        let limits = &ctx.config.limits.history;
        let in_memory = ctx.accounts.runtime().bytes(HeldFor::EndedJobs) > limits.ended_bytes;
        let kept = self.table.kept_bytes() + self.table.input_bytes;
        let in_store = ctx.config.history && kept > limits.kept_bytes;
        let heavy = if in_memory { self.table.first_settled() } else { None };
        let large = if in_store && heavy.is_none() { self.table.memory.first_stored() } else { None };
        heavy.or(large).filter(|id| Some(*id) != but)
    }

    fn unlist(&mut self, id: JobId) {
        let principal = self.table.get(id).map(|job| job.spec.principal.clone());
        if let Some(principal) = principal.filter(|principal| self.table.unlist(principal, id)) {
            self.shares.change(&principal, |share| share.ended -= 1);
        }
    }

    /// Forgets a job whose agent is gone; its key is not, if it still holds.
    pub(in crate::runtime) fn forget(&mut self, ctx: &mut Context, id: JobId) -> Option<Box<Job>> {
        ctx.timers.clear(Timer::Retention(id));
        ctx.timers.clear(Timer::EndMissed(id));
        ctx.timers.clear(Timer::Purge(id));
        ctx.timers.clear(Timer::MaxRuntime(id));
        if let Some(JobSpec { principal, key: Some(key), .. }) = self.table.get(id).map(|job| &job.spec) {
            self.keys.keep(ctx, principal, **key, id);
        }
        let job = self.remove(id);
        ctx.append(Record::JobForgotten { job: id });
        job
    }

    /// Takes a job away.
    pub(in crate::runtime) fn remove(&mut self, id: JobId) -> Option<Box<Job>> {
        self.unlist(id);
        self.departures.forget(id);
        self.tokens.forget(id);
        self.table.remove(id)
    }
}

/// Records the host's verdict on a deferred child, or a refusal if the delegation was given up, if `is_due` says
/// that it is for the child that the job has deferred. The job is heard again in this input.
pub(super) fn judge_deferred(
    jobs: &mut Jobs,
    id: JobId,
    verdict: Result<(), Violation>,
    is_due: impl FnOnce(&Deferred) -> bool,
) {
    if jobs.table.get(id).is_none_or(|job| job.run.questions.deferred.is_none()) {
        return; // Mostly none waits.
    }
    let judged = jobs.table.change(id, |job| {
        let deferred = job.run.questions.deferred.as_deref_mut()?;
        if deferred.verdict.is_none() && is_due(deferred) {
            deferred.verdict = Some(verdict);
            return Some(());
        }
        None
    });
    jobs.unheard.extend(judged.flatten().map(|()| id));
}

/// A job ends: its backlog is processed in this input.
pub(super) fn end_backlog(jobs: &mut Jobs, id: JobId) {
    if jobs.table.get(id).is_some_and(|job| job.run.allowance.backlog.is_some()) {
        jobs.unheard.push_back(id);
    }
}

/// Counts anew what jobs and their keys hold.
pub(in crate::runtime) fn recount(jobs: &Jobs, recount: &mut Recount<'_>) {
    recount_table(&jobs.table, recount);
    jobs.keys.recount(recount);
    jobs.credentials.recount(recount);
    jobs.departures.recount(recount);
    jobs.tokens.recount(recount);
}

/// Whether all unended jobs of a principal are workflows.
pub(in crate::runtime) fn has_workflows_only(jobs: &Jobs, principal: &Principal) -> bool {
    let share = jobs.shares.of(&principal.account());
    share.live == share.workflows
}
