//! The table of jobs: by id and by principal, ended jobs by their end, and the bytes of all their events.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use super::ended::EndedJobs;
use super::memory::Memory;
use super::{Job, waiting_bytes, weigh, weight};
use crate::id::{JobId, Principal, SessionId, WireId};
use crate::policy::Roles;
use crate::runtime::account::{HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::recent::Recent;
use crate::runtime::rising::Rising;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Table {
    by_id: Recent<JobId, Job>,
    by_principal: BTreeMap<Principal, Owned>,
    /// Jobs that were handed over, by their first submitter.
    handed_over: BTreeSet<(Principal, JobId)>,
    /// Children, by their parent and its id for them.
    by_parent: BTreeMap<(JobId, WireId), JobId>,
    /// Ended jobs whose agents are gone, by what they hold besides the bodies of their events.
    settled: EndedJobs,
    /// Ended jobs whose events may go to make room.
    pub(super) memory: Memory,
    /// Bytes of all events in memory.
    bytes: usize,
    /// Bytes of all events that are kept, in memory or in the store.
    kept_bytes: u64,
    /// Bytes of the inputs of all jobs. A store keeps each input as long as its job.
    pub(super) input_bytes: u64,
}

/// The jobs of a principal. The name is looked up once for all of them.
#[derive(Debug, Default)]
struct Owned {
    jobs: Rising<JobId, ()>,
    /// Those that are over and that listings still show.
    listed: BTreeSet<JobId>,
}

impl Table {
    pub(in crate::runtime) fn get(&self, id: JobId) -> Option<&Job> {
        self.by_id.get(&id)
    }

    /// Changes a job and updates what it holds. Every change goes through here.
    pub(super) fn change<R>(&mut self, id: JobId, change: impl FnOnce(&mut Job) -> R) -> Option<R> {
        let job = self.by_id.get_mut(&id)?;
        let (before, weight) = (job.events.sizes(), job.held.job.bytes());
        let changed = change(job);
        let after = job.events.sizes();
        weigh(job);
        self.bytes = self.bytes + after.0 - before.0;
        self.kept_bytes = self.kept_bytes + after.1 - before.1;
        let is_settled = job.held.job.is_for(HeldFor::EndedJobs);
        if is_settled
            && (job.held.job.bytes(), after) != (weight, before)
            && let Some(end) = job.end().map(|end| end.pos)
        {
            let account = job.spec.principal.account();
            self.settled.reweigh(&account, end, job.held.job.bytes() as u64);
            self.memory.reweigh(&account, end, after, job.input_bytes);
        }
        Some(changed)
    }

    pub(super) fn insert(&mut self, mut job: Box<Job>) {
        weigh(&mut job);
        debug_assert_eq!(job.events.sizes(), (0, 0), "a new job has no events");
        own(&mut self.by_principal, &job.spec.principal, job.id);
        self.by_parent.extend(name_in_family(&job).map(|name| (name, job.id)));
        self.input_bytes += job.input_bytes;
        self.by_id.insert(job.id, job);
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Box<Job>> {
        let job = self.by_id.remove(&id)?;
        disown(&mut self.by_principal, &job.spec.principal, id);
        if let Some(name) = name_in_family(&job) {
            self.by_parent.remove(&name);
        }
        if let Some(asked_by) = job.spec.asked_by.as_deref().cloned() {
            self.handed_over.remove(&(asked_by, id));
        }
        if let Some(end) = job.end() {
            let account = job.spec.principal.account();
            self.settled.remove(&account, end.pos);
            self.memory.forget(&account, end.pos);
        }
        let (bytes, kept) = job.events.sizes();
        (self.bytes, self.kept_bytes) = (self.bytes - bytes, self.kept_bytes - kept);
        self.input_bytes -= job.input_bytes;
        Some(job)
    }

    /// The number of jobs, ended or not.
    pub(in crate::runtime) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes of all events in memory.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all events that are kept, in memory or in the store.
    pub(in crate::runtime) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// The ids of all jobs.
    pub(in crate::runtime) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.by_id.keys().copied()
    }

    /// The principals that have jobs.
    pub(in crate::runtime) fn principals(&self) -> Vec<Principal> {
        self.by_principal.keys().cloned().collect()
    }

    /// The principal's jobs after `after`, oldest first.
    pub(in crate::runtime) fn of_principal<'a>(
        &'a self,
        principal: &'a Principal,
        after: Option<JobId>,
    ) -> impl Iterator<Item = (JobId, &'a Job)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let owned = self.by_principal.get(principal).into_iter();
        owned
            .flat_map(move |owned| owned.jobs.range((from, Bound::Unbounded)))
            .filter_map(|(id, ())| Some((*id, self.by_id.get(id)?)))
    }

    /// Whether a principal has jobs, ended or not, or has submitted some that were handed over.
    pub(in crate::runtime) fn has_any(&self, principal: &Principal) -> bool {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let gave = self.handed_over.range((principal.clone(), least)..).next();
        gave.is_some_and(|(asked_by, _)| asked_by == principal) || self.by_principal.contains_key(principal)
    }

    /// Everybody's jobs after `after`, oldest first.
    pub(in crate::runtime) fn of_all(&self, after: Option<JobId>) -> impl Iterator<Item = (JobId, &Job)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(id, job)| (*id, job))
    }

    /// A job has ended: listings show it until it expires.
    pub(super) fn list(&mut self, principal: &Principal, id: JobId) {
        if let Some(owned) = self.by_principal.get_mut(principal).expected("its principal has it") {
            owned.listed.insert(id);
        }
    }

    /// Takes a job out of the listings; false if they did not show it.
    pub(super) fn unlist(&mut self, principal: &Principal, id: JobId) -> bool {
        self.by_principal.get_mut(principal).is_some_and(|owned| owned.listed.remove(&id))
    }

    /// The oldest ended job of a principal that listings show.
    pub(super) fn oldest_listed(&self, principal: &Principal) -> Option<JobId> {
        self.by_principal.get(principal)?.listed.first().copied()
    }

    /// If a job has ended, its agent is gone and no child or credential of it is left, the job may be forgotten, and
    /// its events may go to make room.
    pub(in crate::runtime) fn settle(&mut self, id: JobId) {
        let is_at_rest = |job: &&mut Job| job.run.is_gone() && job.children.is_empty() && !job.run.credentials;
        let job = self.by_id.get_mut(&id).filter(is_at_rest);
        if let Some((job, end)) = job.and_then(|job| job.end().map(|end| end.pos).map(|end| (job, end))) {
            job.held.job.turn_into(HeldFor::EndedJobs);
            let account = job.spec.principal.account();
            self.settled.put(&account, end, id, job.held.job.bytes() as u64);
            self.memory.settle(&account, end, job);
        }
    }

    /// The first settled job of a principal, by its end.
    pub(super) fn first_settled_of(&self, principal: &Principal) -> Option<JobId> {
        self.settled.first_of(&principal.account())
    }

    /// Whether there are any whose agents are gone.
    pub(super) fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Of those whose agents are gone, the first job that ended of who holds most in
    /// memory.
    pub(super) fn first_settled(&mut self) -> Option<JobId> {
        self.settled.first().map(|(_, id)| id)
    }
}

/// Makes a job another principal's. Returns whether listings show it as ended.
pub(super) fn give(table: &mut Table, ctx: &mut Context, id: JobId, to: &Principal, holder: SessionId) -> bool {
    let Some(job) = table.by_id.get(&id) else {
        return false; // The job was forgotten.
    };
    let (from, end) = (job.spec.principal.clone(), job.end().map(|end| end.pos));
    let asked_by = job.spec.submitted_by().clone();
    let was_settled = end.is_some_and(|end| table.settled.has(&from.account(), end));
    if let Some(end) = end {
        table.settled.remove(&from.account(), end);
        table.memory.forget(&from.account(), end);
    }
    let listed = table.unlist(&from, id);
    disown(&mut table.by_principal, &from, id);
    own(&mut table.by_principal, to, id);
    let account = ctx.accounts.of(&to.account());
    table.handed_over.insert((asked_by, id));
    table.change(id, |job| {
        job.spec.asked_by.get_or_insert_with(|| Box::new(from.clone()));
        if from != *to {
            // Roles belong to the principal that proved them.
            job.spec.bounds.roles = Roles::default();
        }
        job.spec.principal = to.clone();
        job.spec.key = None;
        job.held.spec = job.spec.weight();
        job.sessions.holder = holder;
        job.held.job.move_to(&account);
        job.held.events.move_to(&account);
        if let Some(input) = &mut job.input {
            input.charge.move_to(&account);
        }
        if let Some(checkpoints) = &mut job.run.checkpoints {
            checkpoints.move_to(&account);
        }
    });
    if listed {
        table.list(to, id);
    }
    if was_settled {
        table.settle(id);
    }
    listed
}

/// Adds a job to those of a principal.
fn own(by_principal: &mut BTreeMap<Principal, Owned>, principal: &Principal, id: JobId) {
    let owned = match by_principal.get_mut(principal) {
        Some(owned) => owned,
        None => by_principal.entry(principal.clone()).or_default(),
    };
    owned.jobs.insert(id, ());
}

/// Removes a job from those of a principal, listings included.
fn disown(by_principal: &mut BTreeMap<Principal, Owned>, principal: &Principal, id: JobId) {
    if let Some(owned) = by_principal.get_mut(principal)
        && owned.jobs.remove(&id).is_some()
        && owned.jobs.is_empty()
    {
        by_principal.remove(principal);
    }
}

/// The child that a job has under this id.
pub(super) fn child_named<'t>(table: &'t Table, parent: JobId, name: &WireId) -> Option<&'t Job> {
    table.get(*table.by_parent.get(&(parent, name.clone()))?)
}

/// The parent of a child, and its id for the child.
fn name_in_family(job: &Job) -> Option<(JobId, WireId)> {
    job.spec.bounds.parent.as_ref().map(|parent| (parent.job, parent.delegate_id.clone()))
}

/// Counts anew what all jobs hold.
pub(super) fn recount_table(table: &Table, recount: &mut Recount<'_>) {
    for job in table.by_id.values() {
        let account = job.spec.principal.account();
        let is_settled = job.end().is_some_and(|end| table.settled.has(&account, end.pos));
        let itself = if is_settled { HeldFor::EndedJobs } else { HeldFor::Jobs };
        recount.add_for(&account, itself, weight(job, job.spec.weight()));
        recount.add_for(&account, HeldFor::Events, job.events.recount());
        let input = job.input.as_ref().map(|waits| waiting_bytes(waits.input.as_str(), waits.extensions.as_ref()));
        recount.add_for(&account, HeldFor::Inputs, input.unwrap_or(0));
        let checkpoints = job.run.checkpoints.as_ref().map_or(0, |own| own.recount());
        recount.add_for(&account, HeldFor::Checkpoints, checkpoints);
    }
}
