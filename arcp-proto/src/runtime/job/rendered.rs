//! Payloads that were written for one of several sessions, kept beside their
//! events for the others: counted in bytes, the oldest go first.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::id::JobId;

/// Bytes that keeping one takes besides.
const OVERHEAD: usize = 96;

/// The events that payloads are kept of.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    /// Each with the bytes of a payload: they count until they go from here,
    /// also those of an event that has gone before.
    kept: VecDeque<(JobId, u64, usize)>,
    bytes: usize,
}

impl Rendered {
    /// Makes room for one more payload of an event within a bound: gives the
    /// events whose payloads go for it, or nothing if it can have none.
    pub(crate) fn add(&mut self, job: JobId, n: u64, len: usize, bound: usize) -> Option<Vec<(JobId, u64)>> {
        let bytes = len + OVERHEAD;
        if bytes > bound {
            return None;
        }
        let mut gone = Vec::new();
        while self.bytes > bound - bytes {
            let (job, n, size) = self.kept.pop_front()?;
            self.bytes -= size;
            gone.push((job, n));
        }
        self.kept.push_back((job, n, bytes));
        self.bytes += bytes;
        Some(gone)
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
