//! What one session has read back from the store: events that are no longer in
//! memory, until they are sent.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::id::{JobId, LogPos, OpId};
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::io::EventRecord;
use crate::runtime::job::Stored;

/// What a session reads back.
#[derive(Debug)]
pub(super) struct ReadBack {
    /// What the store was asked for and has not given yet.
    pub(super) pending: Option<PendingLoad>,
    /// By job: events in a row, each with its number.
    ahead: BTreeMap<JobId, VecDeque<(u64, Stored)>>,
    /// Bytes of those.
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

    /// Bytes of what is there, counted once more.
    pub(super) fn recount(&self) -> usize {
        self.ahead.values().flatten().map(|(_, stored)| stored.weight()).sum()
    }

    /// Lets go of what came before event `n` of a job.
    pub(super) fn pass(&mut self, job: JobId, n: u64) {
        if let Some(events) = self.ahead.get_mut(&job) {
            while let Some((_, sent)) = events.front().filter(|(first, _)| *first < n) {
                self.charge.set(self.charge.bytes() - sent.weight());
                events.pop_front();
            }
        }
    }

    /// Event `n` of a job, if it is the first that was read back and not passed.
    pub(super) fn event(&self, job: JobId, n: u64) -> Option<&Stored> {
        let first = self.ahead.get(&job)?.front();
        first.filter(|(first, _)| *first == n).map(|(_, stored)| stored)
    }

    /// Bytes of event `n` of a job, if it was read back.
    pub(super) fn weight(&self, job: JobId, n: u64) -> Option<usize> {
        let events = self.ahead.get(&job)?;
        let at = usize::try_from(n.checked_sub(events.front()?.0)?).ok()?;
        events.get(at).map(|(_, stored)| stored.weight())
    }

    /// Whether event `n` of a job is there.
    pub(super) fn has(&self, job: JobId, n: u64) -> bool {
        let range = self.ahead.get(&job).and_then(|events| Some((events.front()?.0, events.back()?.0)));
        range.is_some_and(|(first, last)| (first..=last).contains(&n))
    }

    /// Takes what the store gave of a job; of more jobs than `bound` some go.
    pub(super) fn put(&mut self, job: JobId, events: Vec<EventRecord>, bound: usize) {
        self.ahead.remove(&job);
        while self.ahead.len() >= bound {
            self.ahead.pop_first();
        }
        // They were durable before they were asked for.
        let stored = |event: EventRecord| (event.n, Stored::kept(LogPos(0), event));
        self.ahead.insert(job, events.into_iter().map(stored).collect());
        self.charge.set(self.recount());
    }
}
