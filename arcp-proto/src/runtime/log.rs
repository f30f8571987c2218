//! The log of records: what was given to the store, how far it is durable,
//! and who waits for that.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::io::Record;
use crate::id::{ConnId, JobId, LogPos, SessionId};

#[derive(Debug, Default)]
pub(super) struct Log {
    last: LogPos,
    durable: LogPos,
    /// Records whose durability is not confirmed, in order.
    pending: VecDeque<Pending>,
    waiting: BTreeSet<(LogPos, Waiter)>,
    /// Whether the store has failed and not recovered.
    pub(super) failed: bool,
}

#[derive(Debug)]
struct Pending {
    at: LogPos,
    record: Record,
    /// The job whose agent gets a credit back.
    returns: Option<JobId>,
}

/// Who goes on once a position is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiter {
    /// A connection with frames to send.
    Conn(ConnId),
    /// A job that was accepted.
    Job(JobId),
    /// A session that is being taken from its client.
    Session(SessionId),
}

impl Log {
    /// Takes the next position for a record.
    pub(super) fn append(&mut self, record: Record, returns: Option<JobId>) -> LogPos {
        self.last = LogPos(self.last.0 + 1);
        self.pending.push_back(Pending { at: self.last, record, returns });
        self.last
    }

    /// A record of an earlier run: it is durable.
    pub(super) fn restore(&mut self, at: LogPos) {
        self.last = self.last.max(at);
        self.durable = self.last;
    }

    pub(super) fn last(&self) -> LogPos {
        self.last
    }

    pub(super) fn durable(&self) -> LogPos {
        self.durable
    }

    pub(super) fn is_durable(&self, pos: LogPos) -> bool {
        pos <= self.durable
    }

    pub(super) fn wait(&mut self, pos: LogPos, waiter: Waiter) {
        self.waiting.insert((pos, waiter));
    }

    /// Notes durability up to a position. Gives who may go on, and the jobs
    /// that get credit back, one entry per credit.
    pub(super) fn persisted(&mut self, up_to: LogPos) -> (Vec<Waiter>, Vec<JobId>) {
        let up_to = up_to.min(self.last);
        let (mut awake, mut credits) = (Vec::new(), Vec::new());
        if up_to <= self.durable {
            return (awake, credits);
        }
        self.durable = up_to;
        while let Some(first) = self.pending.front().filter(|first| first.at <= up_to) {
            credits.extend(first.returns);
            self.pending.pop_front();
        }
        while let Some(entry) = self.waiting.first().copied().filter(|(pos, _)| *pos <= up_to) {
            self.waiting.remove(&entry);
            awake.push(entry.1);
        }
        (awake, credits)
    }

    /// The records that have to be given to the store again.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = (LogPos, &Record)> {
        self.pending.iter().map(|pending| (pending.at, &pending.record))
    }
}
