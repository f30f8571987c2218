//! Ended jobs whose events may go to make room.

use alloc::vec::Vec;

use super::Job;
use super::ended::EndedJobs;
use crate::id::{JobId, LogPos};
use crate::principal::Account;

/// The most ended jobs that one search looks at.
const ENDED_LOOKED_AT: usize = 64;

/// Ended jobs whose events may go to make room.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Jobs with events in memory, by their bytes.
    pub(super) loaded: EndedJobs,
    /// Those found to be owed since the last time that all were looked at.
    pub(super) owed: EndedJobs,
    /// All of them, by what the store keeps of them.
    stored: EndedJobs,
    /// Jobs whose history can be trimmed, by its bytes.
    pub(super) kept: EndedJobs,
    /// Jobs whose events were dropped from memory.
    pub(super) shed: Vec<JobId>,
}

impl Memory {
    /// A job has ended, and its agent is gone.
    pub(super) fn settle(&mut self, account: &Account, end: LogPos, job: &Job) {
        let ((held, kept), id) = (job.events.sizes(), job.id);
        self.owed.remove(account, end);
        self.loaded.put(account, end, id, held as u64);
        self.stored.put(account, end, id, kept + job.input_bytes);
        if job.history().can_be_trimmed() {
            self.kept.put(account, end, id, kept);
        }
    }

    /// The events of an ended job have other sizes.
    pub(super) fn reweigh(&mut self, account: &Account, end: LogPos, events: (usize, u64), input: u64) {
        self.loaded.reweigh(account, end, events.0 as u64);
        self.owed.reweigh(account, end, events.0 as u64);
        self.stored.reweigh(account, end, events.1 + input);
        self.kept.reweigh(account, end, events.1);
    }

    /// A job is forgotten.
    pub(super) fn forget(&mut self, account: &Account, end: LogPos) {
        self.unload(account, end);
        self.stored.remove(account, end);
        self.kept.remove(account, end);
    }

    /// The events of a job are dropped from memory.
    pub(super) fn unload(&mut self, account: &Account, end: LogPos) {
        self.loaded.remove(account, end);
        self.owed.remove(account, end);
    }

    /// The first job that ended of who has most in the store.
    pub(super) fn first_stored(&mut self) -> Option<JobId> {
        self.stored.first().map(|(_, id)| id)
    }

    /// The job that ended first of the account that holds most events in memory, if
    /// they are durable.
    pub(super) fn first_loaded(&mut self, durable: LogPos) -> Option<(LogPos, JobId)> {
        self.loaded.first().filter(|(at, _)| *at <= durable)
    }

    /// The first job that is not owed to any session, by the same order. Looks at a few jobs only: if all of them are
    /// owed, the next call looks at others, until all were looked at.
    pub(super) fn first_not_owed(
        &mut self,
        durable: LogPos,
        is_owed: impl Fn(JobId) -> bool,
    ) -> Option<(LogPos, JobId)> {
        for _ in 0..ENDED_LOOKED_AT {
            match self.first_loaded(durable) {
                Some((_, id)) if is_owed(id) => self.loaded.move_first(&mut self.owed),
                Some(found) => return Some(found),
                None if self.loaded.is_empty() => {
                    core::mem::swap(&mut self.loaded, &mut self.owed);
                    return None;
                }
                None => return None,
            }
        }
        None
    }
}
