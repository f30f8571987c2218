//! Where records are made durable.

use arcp_proto::id::{JobId, LogPos};
use arcp_proto::runtime::{Batch, EventRecord, Record};

/// Makes records durable.
///
/// The core gives batches in the order of their positions, and holds every
/// frame that reveals one until it is told that it is durable. A batch is what
/// one input made: no restart may see half of it. Whatever is queued is
/// committed together: the cost of a flush is shared. After a failure the same
/// batches are given again; one that is durable already is skipped. What was
/// queued behind a failure comes before that: a batch that leaves a gap is
/// refused, because a position stands for all before it.
pub trait Store: Send {
    /// Commits batches: all of them or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if nothing was committed. The driver asks a store that is
    /// unavailable again, a few times, then the core does: a store need not, and may
    /// where it knows for how long.
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError>;

    /// Gives every record that a restart needs and the last position ever
    /// committed. Called once, before any commit. Records of the same job or
    /// session come in the order of their positions, but for two things: of a job
    /// with a [`Record::JobHistory`] only the last event needs to come, after that,
    /// and of any other none that a [`Record::HistoryTrimmed`] let go, of which
    /// only the last one counts; and numbers of sessions may come after everything
    /// else.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if something cannot be read; nothing may be served then.
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        let _ = each;
        Ok(LogPos(0))
    }

    /// A way to read events back while this commits; `None`: they are gone once
    /// the runtime lets them go. Called once, before `load`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it has them and cannot be read.
    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(None)
    }

    /// Deletes a little of what nobody needs any more, between commits; true if
    /// there is more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is lost by it.
    fn tidy(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Whether `commit` never waits for anything: then it is called on the
    /// loop instead of on a thread of its own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// Reads events of jobs, on a thread of its own.
pub trait History: Send {
    /// One more, to read with beside this one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there can be none just now.
    fn another(&mut self) -> Result<Box<dyn History>, StoreError>;

    /// The events of a job from `from` to `to`, in order and without a gap:
    /// fewer after this many bytes, but one in any case, and none if the first
    /// is not kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read now.
    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError>;
}

/// Why a store did not do what it was asked. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not now: no room, no right, another program's lock. It may work later.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// It is somebody else's by now: nothing that is committed here counts, and
    /// trying again is of no use.
    #[error("the store is not this runtime's any more: {0}")]
    Fenced(String),
    /// What it holds is damaged, and where.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// What is new among batches, once each and in order.
pub(crate) fn following(mut last: LogPos, batches: &[Batch]) -> Result<Vec<&Batch>, StoreError> {
    let mut new = Vec::with_capacity(batches.len());
    for batch in batches.iter().filter(|batch| !batch.records.is_empty()) {
        if batch.last() <= last {
            continue;
        }
        if batch.first.0 != last.0 + 1 {
            return Err(StoreError::Unavailable(format!("position {} after {}", batch.first.0, last.0)));
        }
        last = batch.last();
        new.push(batch);
    }
    Ok(new)
}

/// Keeps nothing beyond the process: as durable as the process itself. What
/// the runtime still needs, it holds in memory anyway.
#[derive(Debug, Default)]
pub struct MemoryStore {
    last: LogPos,
}

impl Store for MemoryStore {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if let Some(batch) = following(self.last, batches)?.last() {
            self.last = batch.last();
        }
        Ok(())
    }

    fn is_instant(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_memory_takes_what_follows_at_once_and_gives_nothing_back() {
        let session = arcp_proto::id::SessionId::from_ulid(ulid::Ulid::nil());
        let batch = |first| Batch { first: LogPos(first), records: vec![Record::SessionEnded { session }].into() };
        let mut store = MemoryStore::default();
        assert!(store.is_instant() && matches!(store.history(), Ok(None)));
        assert_eq!(store.commit(&[batch(1), batch(2)]), Ok(()));
        assert_eq!(store.commit(&[batch(2), batch(3)]), Ok(()), "what is durable already is passed over");
        assert!(matches!(store.commit(&[batch(5)]), Err(StoreError::Unavailable(_))), "4 is missing");
        assert_eq!(store.load(&mut |_, _| panic!("nothing is kept")), Ok(LogPos(0)));
    }
}
