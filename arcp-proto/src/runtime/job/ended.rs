//! Ended jobs in the order in which they make room: of the account that holds most, the one that ended first. So no
//! account displaces jobs of another one that holds less.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::{JobId, LogPos};
use crate::principal::Account;
use crate::runtime::rising::Rising;

/// Ended jobs by account and end, each with what it holds of a scarce resource.
#[derive(Debug, Default)]
pub(super) struct EndedJobs {
    by_account: BTreeMap<Account, OfAccount>,
    ranks: Ranks,
}

#[derive(Debug, Default)]
struct OfAccount {
    bytes: u64,
    jobs: Rising<LogPos, (JobId, u64)>,
    /// Whether it is ranked, by those bytes.
    is_ranked: bool,
}

/// Accounts by what all of their jobs hold. Where nothing is scarce nobody asks for that, however often it changes.
#[derive(Debug, Default)]
struct Ranks {
    known: BTreeSet<(u64, Account)>,
    /// Those that hold something else since it was last asked who holds most.
    unknown: BTreeSet<Account>,
}

impl Ranks {
    /// All jobs of an account hold so much from now on.
    fn weigh(&mut self, account: &Account, own: &mut OfAccount, bytes: u64) {
        if core::mem::take(&mut own.is_ranked) {
            self.known.remove(&(own.bytes, account.clone()));
            self.unknown.insert(account.clone());
        }
        own.bytes = bytes;
    }
}

impl EndedJobs {
    /// Adds the job that ended at `end`, or updates what it holds.
    pub(super) fn put(&mut self, account: &Account, end: LogPos, id: JobId, bytes: u64) {
        let own = match self.by_account.get_mut(account) {
            Some(own) => own,
            None => {
                self.ranks.unknown.insert(account.clone());
                self.by_account.entry(account.clone()).or_default()
            }
        };
        let before = own.jobs.insert(end, (id, bytes)).map_or(0, |(_, before)| before);
        if before != bytes {
            self.ranks.weigh(account, own, own.bytes + bytes - before);
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
        self.ranks.weigh(account, own, own.bytes - bytes);
        if own.jobs.is_empty() {
            self.by_account.remove(account);
            self.ranks.unknown.remove(account);
        }
        true
    }

    /// Whether a job is there.
    pub(super) fn has(&self, account: &Account, end: LogPos) -> bool {
        self.by_account.get(account).is_some_and(|own| own.jobs.get(&end).is_some())
    }

    /// The job that makes room first.
    pub(super) fn first(&mut self) -> Option<(LogPos, JobId)> {
        let (end, id, _) = self.first_of_most()?.1;
        Some((end, id))
    }

    /// The job of an account that ended first.
    pub(super) fn first_of(&self, account: &Account) -> Option<JobId> {
        self.by_account.get(account)?.jobs.first().map(|(_, (id, _))| *id)
    }

    /// Moves the job that makes room first to another set.
    pub(super) fn move_first(&mut self, to: &mut EndedJobs) {
        if let Some((account, (end, id, bytes))) = self.first_of_most().map(|(account, job)| (account.clone(), job)) {
            self.remove(&account, end);
            to.put(&account, end, id, bytes);
        }
    }

    fn first_of_most(&mut self) -> Option<(&Account, (LogPos, JobId, u64))> {
        while let Some(account) = self.ranks.unknown.pop_first() {
            if let Some(own) = self.by_account.get_mut(&account) {
                own.is_ranked = true;
                self.ranks.known.insert((own.bytes, account));
            }
        }
        let (_, account) = self.ranks.known.last()?;
        let (end, (id, bytes)) = self.by_account.get(account)?.jobs.first()?;
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
            assert!(ended.by_account.len() == ended.ranks.known.len() + ended.ranks.unknown.len(), "each once");
            order.push(id);
        }
        assert_eq!(order, [2, 3, 1, 4, 5].map(job), "16, 12, then 10 against 8");
        assert!(ended.by_account.is_empty() && ended.ranks.known.is_empty() && ended.ranks.unknown.is_empty());
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
