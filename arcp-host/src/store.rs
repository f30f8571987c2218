//! Where records are made durable.

use arcp_proto::id::LogPos;
use arcp_proto::runtime::Record;

/// Makes records durable.
///
/// The core gives records in the order of their positions, and holds every
/// frame that reveals one until it is told that the position is durable.
/// Whatever is queued is committed as one batch: the cost of a flush is
/// shared. After a failure the same positions are given again; a position
/// that is durable already is skipped. What was queued behind a failure comes
/// before that: a batch that leaves a gap is refused, because a position stands
/// for all before it.
pub trait Store: Send {
    /// Commits a batch: all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if nothing was committed; the core asks again.
    fn commit(&mut self, batch: &[(LogPos, Record)]) -> Result<(), StoreError>;

    /// Gives every record that is kept, in the order of their positions, and
    /// the last position ever committed. Called once, before any commit.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if something cannot be read; nothing may be served then.
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        let _ = each;
        Ok(LogPos(0))
    }

    /// Whether `commit` never waits for anything: then it is called on the
    /// loop instead of on a thread of its own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// A commit that did not happen.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

/// What is new in a batch, once each and in order.
pub(crate) fn following(mut last: LogPos, batch: &[(LogPos, Record)]) -> Result<Vec<&(LogPos, Record)>, StoreError> {
    let mut new = Vec::with_capacity(batch.len());
    for entry in batch {
        let at = entry.0;
        if at <= last {
            continue;
        }
        if at.0 != last.0 + 1 {
            return Err(StoreError(format!("position {} after {}", at.0, last.0)));
        }
        last = at;
        new.push(entry);
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
    fn commit(&mut self, batch: &[(LogPos, Record)]) -> Result<(), StoreError> {
        if let Some((at, _)) = following(self.last, batch)?.last() {
            self.last = *at;
        }
        Ok(())
    }

    fn is_instant(&self) -> bool {
        true
    }
}
