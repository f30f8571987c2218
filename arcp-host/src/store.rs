//! Stores, which make records durable.

use arcp_proto::id::{JobId, LogPos};
use arcp_proto::runtime::{Batch, EventRecord, Record};

/// Makes records durable.
///
/// The core gives batches in the order of their positions, and holds back every frame that reveals
/// a record until that record is durable. A batch holds the records of one input: no restart may
/// see half of it. All queued batches are committed together, so that they share the cost of a
/// flush.
///
/// After a failure the core gives the failed batches again; the store skips a batch that is already
/// durable. Batches that were queued behind a failure may arrive first. The store refuses a batch
/// that leaves a gap, because a durable position implies that all positions before it are durable.
pub trait Store: Send {
    /// Commits all of the batches, or none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if nothing was committed. The driver retries an unavailable store a few
    /// times, and then the core does. So a store need not retry, but it may if it knows how long it
    /// will be unavailable.
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError>;

    /// Hands every record that a restart needs to `each`, and returns the last position ever
    /// committed. Called once, before any commit. Records of the same job or session come in the
    /// order of their positions, with these exceptions:
    ///
    /// * Of a job with a [`Record::JobHistory`] only the last event has to come, after that record.
    /// * Events that a [`Record::HistoryTrimmed`] deleted need not come. Only the last such record
    ///   of a job counts.
    /// * Numbers of sessions may come after everything else.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a record cannot be read; the runtime then serves nothing.
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        let _ = each;
        Ok(LogPos(0))
    }

    /// A reader of events that works while the store commits. `None`: events are gone once the
    /// runtime drops them from memory. Called once, before `load`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store keeps events but cannot read them.
    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(None)
    }

    /// Deletes some obsolete records, between commits; returns true if there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; no data is lost.
    fn tidy(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Whether `commit` never waits. It is then called on the loop instead of on a thread of its
    /// own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// Reads events of jobs, on a thread of its own.
pub trait History: Send {
    /// Another reader, to be used beside this one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there can be no further reader at present.
    fn another(&mut self) -> Result<Box<dyn History>, StoreError>;

    /// The events of a job from `from` to `to`, in order and without a gap. It stops after `bytes`
    /// bytes, but returns at least one event. If the first event is not kept, it returns none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read at present.
    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError>;
}

/// Why a store refused an operation. The operation had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not at present: the disk is full, permission is missing, or another program holds the lock.
    /// A later attempt may succeed.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// Another runtime owns the store. Nothing is committed here any more, and retrying does not
    /// help.
    #[error("the store is not this runtime's any more: {0}")]
    Fenced(String),
    /// The stored data are damaged. The text says where.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// The batches that are not yet durable, once each and in order.
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

/// Keeps nothing beyond the process. The runtime holds what it still needs in memory anyway.
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
