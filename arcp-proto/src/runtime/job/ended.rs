//! Ended jobs in the order in which they make room: of the account that holds most, the one that ended first. So no
//! account displaces jobs of another one that holds less.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::{JobId, LogPos};
use crate::principal::Account;

/// Ended jobs by account and end, each with what it holds of a scarce resource.
#[derive(Debug, Default)]
pub(super) struct EndedJobs {
    by_account: BTreeMap<Account, OfAccount>,
    /// Accounts by what all of their jobs hold.
    ranks: BTreeSet<(u64, Account)>,
}

#[derive(Debug, Default)]
struct OfAccount {
    bytes: u64,
    jobs: BTreeMap<LogPos, (JobId, u64)>,
}

impl EndedJobs {
    /// Adds the job that ended at `end`, or updates what it holds.
    pub(super) fn put(&mut self, account: &Account, end: LogPos, id: JobId, bytes: u64) {
        let own = match self.by_account.get_mut(account) {
            Some(own) => own,
            None => self.by_account.entry(account.clone()).or_default(),
        };
        let before = own.jobs.insert(end, (id, bytes)).map(|(_, before)| before);
        if before != Some(bytes) {
            let (account_before, total) = (own.bytes, own.bytes + bytes - before.unwrap_or(0));
            own.bytes = total;
            self.rank(account, account_before, Some(total));
        }
    }

    /// Like [`put`](Self::put), if the job is still there.
    pub(super) fn reweigh(&mut self, account: &Account, end: LogPos, bytes: u64) {
        let known = self.by_account.get(account).and_then(|own| own.jobs.get(&end));
        if let Some((id, _)) = known.copied().filter(|(_, before)| *before != bytes) {
            self.put(account, end, id, bytes);
        }
    }

    /// Removes a job; false if it was not there.
    pub(super) fn remove(&mut self, account: &Account, end: LogPos) -> bool {
        let Some(own) = self.by_account.get_mut(account) else {
            return false;
        };
        let Some((_, bytes)) = own.jobs.remove(&end) else {
            return false;
        };
        let (before, is_empty) = (own.bytes, own.jobs.is_empty());
        own.bytes -= bytes;
        let now = own.bytes;
        if is_empty {
            self.by_account.remove(account);
        }
        self.rank(account, before, (!is_empty).then_some(now));
        true
    }

    fn rank(&mut self, account: &Account, before: u64, now: Option<u64>) {
        if now == Some(before) {
            return;
        }
        // Inserted first, so that the tree always has a node for it.
        self.ranks.extend(now.map(|bytes| (bytes, account.clone())));
        self.ranks.remove(&(before, account.clone()));
    }

    /// Whether a job is there.
    pub(super) fn has(&self, account: &Account, end: LogPos) -> bool {
        self.by_account.get(account).is_some_and(|own| own.jobs.contains_key(&end))
    }

    /// The job that makes room first.
    pub(super) fn first(&self) -> Option<(LogPos, JobId)> {
        let (end, id, _) = self.first_of_most()?.1;
        Some((end, id))
    }

    /// The job of an account that ended first.
    pub(super) fn first_of(&self, account: &Account) -> Option<JobId> {
        self.by_account.get(account)?.jobs.first_key_value().map(|(_, (id, _))| *id)
    }

    /// Moves the job that makes room first to another set.
    pub(super) fn move_first(&mut self, to: &mut EndedJobs) {
        if let Some((account, (end, id, bytes))) = self.first_of_most().map(|(account, job)| (account.clone(), job)) {
            self.remove(&account, end);
            to.put(&account, end, id, bytes);
        }
    }

    fn first_of_most(&self) -> Option<(&Account, (LogPos, JobId, u64))> {
        let (_, account) = self.ranks.last()?;
        let (end, (id, bytes)) = self.by_account.get(account)?.jobs.first_key_value()?;
        Some((account, (*end, *id, *bytes)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_account.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u64) -> JobId {
        JobId::from_ulid(ulid::Ulid::from_parts(n, 0))
    }

    #[test]
    fn who_holds_most_makes_room_and_that_by_what_ended_first() {
        let [many, few] = ["a", "b"].map(|name| crate::id::Principal::new(name).expect("a name").account());
        let mut ended = EndedJobs::default();
        ended.put(&few, LogPos(1), job(1), 10);
        (2..6).for_each(|n| ended.put(&many, LogPos(n), job(n), 4));
        let mut order = alloc::vec::Vec::new();
        while let Some((end, id)) = ended.first() {
            let account = if end == LogPos(1) { &few } else { &many };
            assert!(ended.has(account, end) && ended.remove(account, end) && !ended.remove(account, end));
            order.push(id);
        }
        assert_eq!(order, [2, 3, 1, 4, 5].map(job), "16, 12, then 10 against 8");
        assert!(ended.by_account.is_empty() && ended.ranks.is_empty());
    }

    #[test]
    fn a_job_that_holds_less_by_now_counts_for_less() {
        let [one, other] = ["a", "b"].map(|name| crate::id::Principal::new(name).expect("a name").account());
        let mut ended = EndedJobs::default();
        ended.put(&one, LogPos(1), job(1), 10);
        ended.put(&other, LogPos(2), job(2), 9);
        ended.reweigh(&one, LogPos(1), 8);
        ended.reweigh(&one, LogPos(3), 80);
        assert_eq!(ended.first(), Some((LogPos(2), job(2))));
        ended.put(&one, LogPos(1), job(1), 10);
        assert_eq!(ended.first(), Some((LogPos(1), job(1))));
    }
}
