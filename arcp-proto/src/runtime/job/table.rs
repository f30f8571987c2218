//! All jobs: by id and principal, in line for a slot, and how much of
//! everything they hold.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use super::Job;
use super::shares::Held;
use super::slots::Line;
use crate::id::{JobId, LogPos, Principal};
use crate::json::Json;
use crate::limits::Limits;
use crate::principal::Account;
use crate::time::Timestamp;

/// Ended jobs looked through for one that nobody is owed.
const ENDED_LOOKED_AT: usize = 64;

/// All jobs, and those that wait for a slot.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    by_id: BTreeMap<JobId, Job>,
    by_principal: BTreeSet<(Principal, JobId)>,
    shares: BTreeMap<Account, Share>,
    /// Jobs that are over and that listings still show.
    listed: BTreeSet<(Principal, JobId)>,
    /// Jobs that ended and whose agents are gone, by their end.
    ended: BTreeMap<LogPos, JobId>,
    /// Those of them whose events are still held.
    loaded: BTreeMap<LogPos, JobId>,
    /// The last of those that was looked at in vain.
    looked_at: LogPos,
    /// Those of them whose history can be cut.
    kept: BTreeMap<LogPos, JobId>,
    /// Jobs whose events were let go from memory.
    shed: Vec<JobId>,
    /// Bytes of all events held in memory.
    pub(crate) bytes: usize,
    /// Bytes of all events that can be had, from memory or the store.
    pub(crate) kept_bytes: u64,
    /// What all principals have together.
    total: Share,
    /// Those that wait for a slot.
    line: Line,
}

/// What one account has of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    /// Jobs that are not over.
    live: usize,
    /// Jobs that are, and that listings still show.
    ended: usize,
    /// Bytes of input of jobs that have not started.
    waiting_bytes: usize,
    /// Agents that hold a slot.
    running: usize,
}

impl Jobs {
    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, id: JobId, job: Job) {
        let waiting = job.waiting_bytes();
        self.account(&job.principal, |share| {
            share.live += 1;
            share.waiting_bytes += waiting;
        });
        self.by_principal.insert((job.principal.clone(), id));
        self.by_id.insert(id, job);
    }

    /// Changes what a principal's account has, and with it what all have
    /// together.
    fn account(&mut self, principal: &Principal, change: impl Fn(&mut Share)) {
        let account = principal.account();
        let share = self.shares.entry(account.clone()).or_default();
        change(share);
        if *share == Share::default() {
            self.shares.remove(&account);
        }
        change(&mut self.total);
    }

    /// Principals that have jobs.
    pub(crate) fn principals(&self) -> Vec<Principal> {
        let mut principals: Vec<Principal> = self.by_principal.iter().map(|(owner, _)| owner.clone()).collect();
        principals.dedup();
        principals
    }

    fn share(&self, account: &Account) -> Share {
        self.shares.get(account).copied().unwrap_or_default()
    }

    /// How much an account holds of something, and what there is for it: a
    /// reserve is kept for those with a credential.
    fn held(&self, account: &Account, limits: &Limits, total: usize, of: impl Fn(&Share) -> usize) -> Held {
        let total = if account.is_anonymous() { limits.without_reserve(total) } else { total };
        Held { own: of(&self.share(account)), all: of(&self.total), total }
    }

    /// Jobs of a principal that are over and that listings still show.
    pub(crate) fn ended_of(&self, principal: &Principal) -> usize {
        self.share(&principal.account()).ended
    }

    /// Jobs that are not over, of the table that all share.
    pub(crate) fn live(&self, principal: &Principal, limits: &Limits) -> Held {
        self.held(&principal.account(), limits, limits.jobs, |share| share.live)
    }

    /// Agents that hold a slot, of all slots.
    fn slots(&self, account: &Account, limits: &Limits) -> Held {
        self.held(account, limits, limits.running_jobs, |share| share.running)
    }

    /// Bytes of input of jobs that have not started, of what all may hold.
    pub(crate) fn waiting_bytes(&self, principal: &Principal, limits: &Limits) -> Held {
        self.held(&principal.account(), limits, limits.waiting_input_bytes, |share| share.waiting_bytes)
    }

    /// Agents that hold a slot.
    pub(crate) fn running(&self) -> usize {
        self.total.running
    }

    /// Jobs in line for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Gives a job a slot, if its principal may have one.
    pub(crate) fn take_slot(&mut self, principal: &Principal, limits: &Limits) -> bool {
        let may = self.slots(&principal.account(), limits).check(1, limits.principal_share).is_ok();
        if may {
            self.account(principal, |share| share.running += 1);
        }
        may
    }

    /// Takes the slot of a job back; false if it had none.
    pub(crate) fn return_slot(&mut self, id: JobId) -> bool {
        let Some(job) = self.by_id.get_mut(&id).filter(|job| job.has_slot) else {
            return false;
        };
        job.has_slot = false;
        let principal = job.principal.clone();
        self.account(&principal, |share| share.running -= 1);
        true
    }

    /// All of them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.by_id.keys().copied()
    }

    /// Jobs that are held, over or not.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The job that goes when one more of a principal needs room: the first of
    /// its own that ended, if it has more than its share, or else the first of
    /// all. Its agent is gone.
    pub(crate) fn to_forget(&self, principal: &Principal, limits: &Limits) -> Option<JobId> {
        let share = self.share(&principal.account());
        let own = share.live + share.ended;
        let held = Held { own, all: self.by_id.len().max(own), total: limits.jobs };
        let is_settled =
            |id: &JobId| self.by_id.get(id).and_then(|job| job.ended_at).is_some_and(|at| self.ended.contains_key(&at));
        let own_first = self.oldest_listed(principal).filter(is_settled);
        let first = self.ended.first_key_value().map(|(_, id)| *id);
        own_first.filter(|_| own >= held.share(limits.principal_share)).or(first)
    }

    /// Takes the input of a job, and the extensions that go with it: it
    /// starts, or never will. From then on they wait for nothing.
    pub(crate) fn take_input(&mut self, id: JobId) -> (Json, Option<Json>) {
        let Some(job) = self.by_id.get_mut(&id) else {
            return (Json::null(), None);
        };
        let waiting = job.waiting_bytes();
        let taken = (job.input.take().unwrap_or_else(Json::null), job.invocation.extensions.take());
        let principal = job.principal.clone();
        self.account(&principal, |share| share.waiting_bytes = share.waiting_bytes.saturating_sub(waiting));
        taken
    }

    /// Whether something has to go from memory because this one grew.
    pub(crate) fn is_too_large(&self, growing: JobId, limits: &Limits) -> bool {
        self.bytes > limits.log_bytes || self.by_id.get(&growing).is_some_and(|job| job.is_too_large(limits))
    }

    /// Lets events go from memory until everything held fits: the oldest of
    /// the one that grows within its own bounds, but none from `unsent` on;
    /// then those of the jobs that ended first and are not owed to anybody,
    /// then again the oldest of the one that grows, and those that are owed:
    /// whoever reads loses nothing for who does not. Last goes what is left of
    /// the one that grows.
    pub(crate) fn fit(
        &mut self,
        growing: JobId,
        limits: &Limits,
        durable: LogPos,
        unsent: u64,
        is_owed: impl Fn(JobId, &Job) -> bool,
    ) {
        let Some(job) = self.by_id.get_mut(&growing) else {
            return;
        };
        let before = job.bytes;
        job.fit(limits, durable, unsent);
        self.bytes = self.bytes + job.bytes - before;
        let mut all_owed = false;
        while self.bytes > limits.log_bytes {
            let ended = if all_owed { None } else { self.first_not_owed(durable, &is_owed) };
            // Of those that were not looked at yet some may not be owed.
            all_owed |= ended.is_none() && self.looked_at == LogPos(0);
            let first = self.loaded.first_key_value().map(|(at, id)| (*at, *id)).filter(|(at, _)| *at <= durable);
            let freed = match ended {
                Some(ended) => Some(self.drop_ended(ended)),
                None => match (self.drop_before(growing, durable, unsent), first) {
                    (Some(freed), _) => Some(freed),
                    (None, _) if !all_owed => None,
                    (None, Some(owed)) => Some(self.drop_ended(owed)),
                    (None, None) => self.drop_before(growing, durable, u64::MAX),
                },
            };
            let Some(freed) = freed else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(freed);
        }
    }

    /// Lets the events of a job that is over go from memory; gives their bytes.
    fn drop_ended(&mut self, (at, id): (LogPos, JobId)) -> usize {
        self.loaded.remove(&at);
        self.shed.push(id);
        self.by_id.get_mut(&id).map_or(0, Job::drop_events)
    }

    /// Lets the oldest event of a job go from memory, if it comes before
    /// `unsent`; gives its bytes.
    fn drop_before(&mut self, id: JobId, durable: LogPos, unsent: u64) -> Option<usize> {
        self.by_id.get_mut(&id).filter(|job| job.first_held() < unsent)?.drop_oldest(durable)
    }

    /// The job that ended first of those that are not owed to anybody. A few are
    /// looked at, and where all of them are owed, the next time those after them.
    fn first_not_owed(&mut self, durable: LogPos, is_owed: impl Fn(JobId, &Job) -> bool) -> Option<(LogPos, JobId)> {
        let from = (Bound::Excluded(self.looked_at), Bound::Unbounded);
        let mut looked_at = LogPos(0);
        for (count, (at, id)) in (1..).zip(self.loaded.range(from)).take_while(|(_, (at, _))| **at <= durable) {
            if self.by_id.get(id).is_none_or(|job| !is_owed(*id, job)) {
                return Some((*at, *id));
            }
            if count == ENDED_LOOKED_AT {
                looked_at = *at;
                break;
            }
        }
        self.looked_at = looked_at;
        None
    }

    /// There is no store to read from: what is not held is gone.
    pub(crate) fn forget_dropped(&mut self, growing: JobId) {
        for id in core::mem::take(&mut self.shed).into_iter().chain([growing]) {
            if let Some(dropped) = self.by_id.get(&id).map(|job| job.first_held() - 1) {
                self.forget_events(id, dropped);
            }
        }
    }

    /// Lets events go for good until what the store keeps fits: the oldest of
    /// the one that grows within its own bounds; then of the jobs that ended
    /// first, then again of the one that grows; of that none from `unsent` on.
    /// Gives up to where.
    pub(crate) fn trim(&mut self, growing: JobId, limits: &Limits, unsent: u64) -> Vec<(JobId, u64)> {
        self.shed.clear();
        let mut trimmed = Vec::new();
        loop {
            let Some(job) = self.by_id.get(&growing) else {
                return trimmed;
            };
            let own = job.is_kept_too_large(limits);
            let oldest = self.kept.first_key_value().map(|(at, id)| (*at, *id));
            let may_go = job.history.first_group_end() < unsent;
            let id = match oldest {
                _ if own && may_go => growing,
                Some((_, ended)) if self.kept_bytes > limits.kept_bytes => ended,
                None if self.kept_bytes > limits.kept_bytes && may_go => growing,
                Some(_) | None => return trimmed,
            };
            match self.trim_one(id) {
                Some(upto) => trimmed.push((id, upto)),
                None if id == growing => return trimmed,
                None => drop(oldest.and_then(|(at, _)| self.kept.remove(&at))),
            }
        }
    }

    /// Whether something has to go from the store because this one grew.
    pub(crate) fn is_kept_too_large(&self, growing: JobId, limits: &Limits) -> bool {
        self.kept_bytes > limits.kept_bytes || self.by_id.get(&growing).is_some_and(|job| job.is_kept_too_large(limits))
    }

    fn trim_one(&mut self, id: JobId) -> Option<u64> {
        let job = self.by_id.get_mut(&id)?;
        let before = job.history.bytes();
        let upto = job.history.trim()?;
        self.kept_bytes = self.kept_bytes.saturating_sub((before - job.history.bytes()) as u64);
        Some(upto)
    }

    /// Lets events of a job go for good that need not be kept longer and are
    /// before `needed`; gives up to where.
    pub(crate) fn purge(&mut self, id: JobId, now: Timestamp, needed: u64) -> Option<u64> {
        let upto = self.by_id.get(&id)?.history.purgeable(now, needed)?;
        self.forget_events(id, upto);
        Some(upto)
    }

    /// Lets events of a job up to `upto` go for good.
    pub(crate) fn forget_events(&mut self, id: JobId, upto: u64) {
        if let Some(job) = self.by_id.get_mut(&id) {
            let before = (job.history.bytes(), job.bytes);
            job.history.forget(upto);
            job.drop_before(upto + 1, LogPos(u64::MAX));
            self.kept_bytes = self.kept_bytes.saturating_sub((before.0 - job.history.bytes()) as u64);
            self.bytes = self.bytes.saturating_sub(before.1 - job.bytes);
        }
    }

    /// Lets durable events of a job before `needed` go from memory.
    pub(crate) fn free(&mut self, id: JobId, needed: u64, durable: LogPos) {
        if let Some(job) = self.by_id.get_mut(&id) {
            let before = job.bytes;
            job.drop_before(needed, durable);
            self.bytes = self.bytes.saturating_sub(before - job.bytes);
        }
    }

    /// A job is over and its agent is gone.
    pub(crate) fn settle(&mut self, id: JobId) {
        if let Some(at) = self.by_id.get(&id).and_then(|job| job.ended_at) {
            self.ended.insert(at, id);
            self.loaded.insert(at, id);
            self.kept.insert(at, id);
        }
    }

    /// The principal's jobs after `after`, oldest first.
    pub(crate) fn of_principal<'a>(
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
    pub(crate) fn has_any(&self, principal: &Principal) -> bool {
        self.of_principal(principal, None).next().is_some()
    }

    /// Everybody's jobs after `after`, oldest first.
    pub(crate) fn of_all(&self, after: Option<JobId>) -> impl Iterator<Item = (JobId, &Job)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(id, job)| (*id, job))
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.total.live
    }

    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.by_id.remove(&id)?;
        self.by_principal.remove(&(job.principal.clone(), id));
        if let Some(at) = job.ended_at {
            self.ended.remove(&at);
            self.loaded.remove(&at);
            self.kept.remove(&at);
        }
        self.kept_bytes = self.kept_bytes.saturating_sub(job.history.bytes() as u64);
        self.bytes = self.bytes.saturating_sub(job.bytes);
        self.unlist(job.principal.clone(), id);
        Some(job)
    }

    /// A job is over: listings show it for a while.
    pub(crate) fn end(&mut self, principal: Principal, id: JobId) {
        self.account(&principal, |share| {
            share.live = share.live.saturating_sub(1);
            share.ended += 1;
        });
        self.listed.insert((principal, id));
    }

    /// Listings no longer show a job.
    pub(crate) fn unlist(&mut self, principal: Principal, id: JobId) {
        let entry = (principal, id);
        if self.listed.remove(&entry) {
            self.account(&entry.0, |share| share.ended = share.ended.saturating_sub(1));
        }
    }

    /// The oldest job of a principal that is over and that listings show.
    pub(crate) fn oldest_listed(&self, principal: &Principal) -> Option<JobId> {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let (owner, id) = self.listed.range((principal.clone(), least)..).next()?;
        (owner == principal).then_some(*id)
    }

    pub(crate) fn enqueue(&mut self, id: JobId) {
        if let Some(job) = self.by_id.get(&id) {
            self.line.push(id, job);
        }
    }

    /// A job no longer waits for a slot.
    pub(crate) fn leave_line(&mut self, id: JobId) {
        if let Some(job) = self.by_id.get(&id) {
            self.line.remove(id, job);
        }
    }

    /// The next job in line whose principal may have a slot; it has it.
    pub(crate) fn dequeue(&mut self, limits: &Limits) -> Option<JobId> {
        let may = |account: &Account| self.slots(account, limits).check(1, limits.principal_share).is_ok();
        let id = self.line.first(may)?;
        self.leave_line(id);
        let principal = self.by_id.get(&id)?.principal.clone();
        self.take_slot(&principal, limits);
        if let Some(job) = self.by_id.get_mut(&id) {
            job.has_slot = true;
        }
        Some(id)
    }
}
