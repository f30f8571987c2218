//! The read-back buffer of one session: events from the store that are not in memory, until they
//! are sent.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::id::{JobId, LogPos, OpId};
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::io::EventRecord;
use crate::runtime::job::Stored;

/// The read-back buffer of a session.
#[derive(Debug)]
pub(super) struct ReadBack {
    /// The read that the store has not answered.
    pub(super) pending: Option<PendingLoad>,
    /// By job: consecutive events, each with its number.
    ahead: BTreeMap<JobId, VecDeque<(u64, Stored)>>,
    /// The charge for those.
    charge: Charge,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PendingLoad {
    pub(super) op: OpId,
    pub(super) job: JobId,
    pub(super) from: u64,
}

impl ReadBack {
    pub(super) fn new(account: &Balance) -> ReadBack {
        ReadBack { pending: None, ahead: BTreeMap::new(), charge: account.charge(HeldFor::ReadBack, 0) }
    }

    /// Bytes of the events, counted again.
    pub(super) fn recount(&self) -> usize {
        self.ahead.values().flatten().map(|(_, stored)| stored.weight()).sum()
    }

    /// Drops events before event `n` of a job.
    pub(super) fn pass(&mut self, job: JobId, n: u64) {
        if let Some(events) = self.ahead.get_mut(&job) {
            while let Some((_, sent)) = events.front().filter(|(first, _)| *first < n) {
                self.charge.set(self.charge.bytes() - sent.weight());
                events.pop_front();
            }
        }
    }

    /// Event `n` of a job, if it is the first one in the buffer.
    pub(super) fn event(&self, job: JobId, n: u64) -> Option<&Stored> {
        let first = self.ahead.get(&job)?.front();
        first.filter(|(first, _)| *first == n).map(|(_, stored)| stored)
    }

    /// Bytes of event `n` of a job, if it is in the buffer.
    pub(super) fn weight(&self, job: JobId, n: u64) -> Option<usize> {
        let events = self.ahead.get(&job)?;
        let at = usize::try_from(n.checked_sub(events.front()?.0)?).ok()?;
        events.get(at).map(|(_, stored)| stored.weight())
    }

    /// Whether event `n` of a job is in the buffer.
    pub(super) fn has(&self, job: JobId, n: u64) -> bool {
        let range = self.ahead.get(&job).and_then(|events| Some((events.front()?.0, events.back()?.0)));
        range.is_some_and(|(first, last)| (first..=last).contains(&n))
    }

    /// Adds events that the store gave of a job. Of more jobs than `bound`, some are dropped.
    pub(super) fn put(&mut self, job: JobId, events: Vec<EventRecord>, bound: usize) {
        self.ahead.remove(&job);
        while self.ahead.len() >= bound {
            self.ahead.pop_first();
        }
        // They were durable before the read.
        let stored = |event: EventRecord| (event.n, Stored::kept(LogPos(0), event));
        self.ahead.insert(job, events.into_iter().map(stored).collect());
        self.charge.set(self.recount());
    }
}
