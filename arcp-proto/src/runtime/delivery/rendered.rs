//! Payloads that were written for one of several sessions, kept for the others:
//! counted in bytes, the oldest go first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::id::LogId;
use crate::wire::{FrameRole, View};

/// Bytes that keeping one takes besides.
const OVERHEAD: usize = 160;

/// An event of a log, how its view is written, and which of its frames it is.
type Key = (u64, u8, FrameRole);

#[derive(Debug, Default)]
pub(in crate::runtime) struct Rendered {
    /// Each with its turn to go.
    payloads: BTreeMap<LogId, BTreeMap<Key, (u64, Arc<str>)>>,
    turns: BTreeMap<u64, (LogId, Key)>,
    last_turn: u64,
    bytes: usize,
}

impl Rendered {
    /// The payload of an event for a view, if it is kept.
    pub(super) fn get(&self, log: LogId, n: u64, view: &View, role: FrameRole) -> Option<Arc<str>> {
        let (_, payload) = self.payloads.get(&log)?.get(&(n, view.render_key(), role))?;
        Some(payload.clone())
    }

    /// Keeps a payload, as far as it fits in so many bytes.
    pub(super) fn keep(&mut self, log: LogId, n: u64, view: &View, role: FrameRole, payload: Arc<str>, bound: usize) {
        let bytes = payload.len() + OVERHEAD;
        let key = (n, view.render_key(), role);
        if bytes > bound || self.payloads.get(&log).is_some_and(|of_log| of_log.contains_key(&key)) {
            return;
        }
        while self.bytes > bound - bytes && self.forget_oldest() {}
        self.last_turn += 1;
        self.turns.insert(self.last_turn, (log, key));
        self.payloads.entry(log).or_default().insert(key, (self.last_turn, payload));
        self.bytes += bytes;
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, (log, key))) = self.turns.pop_first() else {
            return false;
        };
        if let Some(of_log) = self.payloads.get_mut(&log) {
            self.bytes -= of_log.remove(&key).map_or(0, |(_, gone)| gone.len() + OVERHEAD);
            if of_log.is_empty() {
                self.payloads.remove(&log);
            }
        }
        true
    }

    /// A log is gone, and whatever was written of it.
    pub(super) fn forget(&mut self, log: LogId) {
        for (turn, gone) in self.payloads.remove(&log).unwrap_or_default().into_values() {
            self.turns.remove(&turn);
            self.bytes -= gone.len() + OVERHEAD;
        }
    }

    /// Bytes of what is kept.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        self.bytes
    }
}
