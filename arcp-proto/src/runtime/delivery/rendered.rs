//! Payloads that were written for one of several sessions, kept for the others:
//! counted in bytes, the oldest go first.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use crate::id::JobId;
use crate::wire::{Part, View};

/// Bytes that keeping one takes besides.
const OVERHEAD: usize = 160;

/// An event, by job and number, how its view is written, and which of its
/// frames it is.
type Key = (JobId, u64, u8, Part);

#[derive(Debug, Default)]
pub(super) struct Rendered {
    payloads: BTreeMap<Key, Arc<str>>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Rendered {
    /// The payload of an event for a view, if it is kept.
    pub(super) fn get(&self, job: JobId, n: u64, view: &View, part: Part) -> Option<Arc<str>> {
        self.payloads.get(&(job, n, view.render_key(), part)).cloned()
    }

    /// Keeps a payload, as far as it fits in so many bytes.
    pub(super) fn keep(&mut self, job: JobId, n: u64, view: &View, part: Part, payload: Arc<str>, bound: usize) {
        let bytes = payload.len() + OVERHEAD;
        let key = (job, n, view.render_key(), part);
        if bytes > bound || self.payloads.contains_key(&key) {
            return;
        }
        while self.bytes > bound - bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.bytes -= self.payloads.remove(&oldest).map_or(0, |gone| gone.len() + OVERHEAD);
        }
        self.order.push_back(key);
        self.payloads.insert(key, payload);
        self.bytes += bytes;
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
