//! The table of jobs: by id and by principal, those that are over by their end,
//! and the bytes of all their events.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use super::memory::Memory;
use super::{AgentState, Job, waiting_bytes, weight};
use crate::id::{JobId, LogPos, Principal, WireId};

#[derive(Debug, Default)]
pub(in crate::runtime) struct Table {
    by_id: BTreeMap<JobId, Job>,
    by_principal: BTreeSet<(Principal, JobId)>,
    /// Children that are held, over or not, by their parent and what it knows them by.
    by_parent: BTreeMap<(JobId, WireId), JobId>,
    /// Jobs that are over and that listings still show.
    listed: BTreeSet<(Principal, JobId)>,
    /// Jobs that are over and whose agents are gone, by their end.
    settled: BTreeMap<LogPos, Settled>,
    /// Bytes of those, besides the bodies of their events.
    pub(super) ended_bytes: usize,
    /// What may go to make room.
    pub(super) memory: Memory,
    /// Bytes of all events held in memory.
    bytes: usize,
    /// Bytes of all events that can be had, from memory or the store.
    kept_bytes: u64,
    /// Bytes of the inputs of all jobs: a store keeps each as long as its job.
    pub(super) input_bytes: u64,
}

/// A job that is over and whose agent is gone.
#[derive(Clone, Copy, Debug)]
struct Settled {
    job: JobId,
    /// What it held when it came here.
    weight: usize,
}

impl Table {
    pub(in crate::runtime) fn get(&self, id: JobId) -> Option<&Job> {
        self.by_id.get(&id)
    }

    /// Changes a job, and with it what the events of all hold.
    pub(super) fn change<R>(&mut self, id: JobId, change: impl FnOnce(&mut Job) -> R) -> Option<R> {
        let job = self.by_id.get_mut(&id)?;
        let before = job.events.sizes();
        let changed = change(job);
        let after = job.events.sizes();
        self.bytes = self.bytes + after.0 - before.0;
        self.kept_bytes = self.kept_bytes + after.1 - before.1;
        Some(changed)
    }

    pub(super) fn insert(&mut self, job: Job) {
        debug_assert_eq!(job.events.sizes(), (0, 0), "a new job has no events");
        self.by_principal.insert((job.spec.principal.clone(), job.id));
        self.by_parent.extend(name_in_family(&job).map(|name| (name, job.id)));
        self.input_bytes += job.input_bytes;
        self.by_id.insert(job.id, job);
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.by_id.remove(&id)?;
        self.by_principal.remove(&(job.spec.principal.clone(), id));
        if let Some(name) = name_in_family(&job) {
            self.by_parent.remove(&name);
        }
        if let Some(end) = job.end() {
            let weight = self.settled.remove(&end.pos).map_or(0, |settled| settled.weight);
            self.ended_bytes -= weight;
            self.memory.forget(end.pos);
        }
        let (bytes, kept) = job.events.sizes();
        (self.bytes, self.kept_bytes) = (self.bytes - bytes, self.kept_bytes - kept);
        self.input_bytes -= job.input_bytes;
        Some(job)
    }

    /// Jobs that are held, over or not.
    pub(in crate::runtime) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes of all events held in memory.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all events that can be had, from memory or the store.
    pub(in crate::runtime) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// All of them.
    pub(in crate::runtime) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.by_id.keys().copied()
    }

    /// Principals that have jobs.
    pub(in crate::runtime) fn principals(&self) -> Vec<Principal> {
        let mut principals: Vec<Principal> = self.by_principal.iter().map(|(owner, _)| owner.clone()).collect();
        principals.dedup();
        principals
    }

    /// The principal's jobs after `after`, oldest first.
    pub(in crate::runtime) fn of_principal<'a>(
        &'a self,
        principal: &'a Principal,
        after: Option<JobId>,
    ) -> impl Iterator<Item = (JobId, &'a Job)> {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let from = (principal.clone(), after.unwrap_or(least));
        self.by_principal
            .range(from..)
            .take_while(move |(owner, _)| owner == principal)
            .filter(move |(_, id)| Some(*id) != after)
            .filter_map(|(_, id)| Some((*id, self.by_id.get(id)?)))
    }

    /// Whether a principal has jobs, over or not.
    pub(in crate::runtime) fn has_any(&self, principal: &Principal) -> bool {
        self.of_principal(principal, None).next().is_some()
    }

    /// Everybody's jobs after `after`, oldest first.
    pub(in crate::runtime) fn of_all(&self, after: Option<JobId>) -> impl Iterator<Item = (JobId, &Job)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(id, job)| (*id, job))
    }

    /// A job is over: listings show it for a while.
    pub(super) fn list(&mut self, principal: Principal, id: JobId) {
        self.listed.insert((principal, id));
    }

    /// Listings no longer show a job; false if they did not.
    pub(super) fn unlist(&mut self, principal: Principal, id: JobId) -> bool {
        self.listed.remove(&(principal, id))
    }

    /// The oldest job of a principal that is over and that listings show.
    pub(super) fn oldest_listed(&self, principal: &Principal) -> Option<JobId> {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let (owner, id) = self.listed.range((principal.clone(), least)..).next()?;
        (owner == principal).then_some(*id)
    }

    /// If a job is over, its agent gone and nothing goes on below it, it may be
    /// forgotten, and its events may go to make room.
    pub(in crate::runtime) fn settle(&mut self, id: JobId) {
        let job = self.by_id.get(&id).filter(|job| job.run.state == AgentState::Gone && job.children.is_empty());
        if let Some((job, end)) = job.and_then(|job| Some((job, job.end()?.pos))) {
            let settled = Settled { job: id, weight: weight(job) };
            let before = self.settled.insert(end, settled).map_or(0, |before| before.weight);
            self.ended_bytes = self.ended_bytes + settled.weight - before;
            self.memory.settle(end, id);
        }
    }

    /// Whether a job is over and its agent gone.
    pub(super) fn is_settled(&self, id: JobId) -> bool {
        self.by_id.get(&id).and_then(Job::end).is_some_and(|end| self.settled.contains_key(&end.pos))
    }

    /// The first job that ended, of those whose agents are gone.
    pub(super) fn first_settled(&self) -> Option<JobId> {
        self.settled.first_key_value().map(|(_, settled)| settled.job)
    }
}

/// The child of a job that it knows by this name.
pub(super) fn child_named<'t>(table: &'t Table, parent: JobId, name: &WireId) -> Option<&'t Job> {
    table.get(*table.by_parent.get(&(parent, name.clone()))?)
}

/// What a child is known by: its parent, and its name there.
fn name_in_family(job: &Job) -> Option<(JobId, WireId)> {
    job.spec.bounds.parent.as_ref().map(|parent| (parent.job, parent.delegate_id.clone()))
}

/// Bytes of inputs of jobs that have not started, counted once more.
pub(in crate::runtime) fn recount_inputs(table: &Table) -> usize {
    let inputs = table.by_id.values().filter_map(|job| job.input.as_ref());
    inputs.map(|waits| waiting_bytes(&waits.input, waits.extensions.as_ref())).sum()
}
