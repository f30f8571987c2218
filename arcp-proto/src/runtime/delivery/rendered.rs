//! Payloads that were written for one of several sessions, and are kept for the others up to a
//! bound in bytes. The oldest go first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::id::LogId;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::wire::{FrameRole, View};

/// Bytes of an entry besides its text.
const OVERHEAD: usize = 160;

/// The event's number in its log, the key of the view, and the role of the frame.
type Key = (u64, u16, FrameRole);

#[derive(Debug, Default)]
pub(in crate::runtime) struct Rendered {
    payloads: BTreeMap<LogId, BTreeMap<Key, Payload>>,
    turns: BTreeMap<u64, (LogId, Key)>,
    last_turn: u64,
}

#[derive(Debug)]
struct Payload {
    /// The order in which payloads go.
    turn: u64,
    text: Arc<str>,
    _charge: Charge,
}

impl Rendered {
    /// The payload of an event for a view, if it is kept.
    pub(super) fn get(&self, log: LogId, n: u64, view: &View, role: FrameRole) -> Option<Arc<str>> {
        Some(self.payloads.get(&log)?.get(&(n, view.render_key(), role))?.text.clone())
    }

    /// Keeps the payload of event `n` of a log, within this bound in bytes.
    pub(super) fn keep(
        &mut self,
        (account, bound): (&Balance, usize),
        (log, n): (LogId, u64),
        view: &View,
        role: FrameRole,
        text: Arc<str>,
    ) {
        let bytes = text.len() + OVERHEAD;
        let key = (n, view.render_key(), role);
        if bytes > bound || self.payloads.get(&log).is_some_and(|of_log| of_log.contains_key(&key)) {
            return;
        }
        while account.bytes(HeldFor::Payloads) > bound - bytes && self.forget_oldest() {}
        self.last_turn += 1;
        self.turns.insert(self.last_turn, (log, key));
        let payload = Payload { turn: self.last_turn, text, _charge: account.charge(HeldFor::Payloads, bytes) };
        self.payloads.entry(log).or_default().insert(key, payload);
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, (log, key))) = self.turns.pop_first() else {
            return false;
        };
        if let Some(of_log) = self.payloads.get_mut(&log) {
            of_log.remove(&key);
            if of_log.is_empty() {
                self.payloads.remove(&log);
            }
        }
        true
    }

    /// Removes the payloads of a log that is gone.
    pub(super) fn forget(&mut self, log: LogId) {
        for gone in self.payloads.remove(&log).unwrap_or_default().into_values() {
            self.turns.remove(&gone.turn);
        }
    }

    /// Bytes of the payloads, counted again.
    pub(super) fn recount(&self) -> usize {
        self.payloads.values().flat_map(BTreeMap::values).map(|payload| payload.text.len() + OVERHEAD).sum()
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::id::JobId;
    use crate::runtime::account::Accounts;

    #[test]
    fn what_was_written_of_a_log_goes_with_it_and_nothing_else() {
        let accounts = Accounts::new();
        let (account, view) = (accounts.runtime(), View::before_handshake(false));
        let logs = [1, 2].map(|n| LogId::Job(JobId::from_ulid(Ulid::from_parts(n, 0))));
        let mut rendered = Rendered::default();
        for log in logs {
            for n in 1..=3 {
                rendered.keep((account, 10_000), (log, n), &view, FrameRole::Whole, "text".into());
            }
        }
        assert_eq!(account.bytes(HeldFor::Payloads), 6 * (4 + OVERHEAD));
        rendered.forget(logs[0]);
        assert_eq!((account.bytes(HeldFor::Payloads), rendered.recount()), (3 * (4 + OVERHEAD), 3 * (4 + OVERHEAD)));
        let kept = logs.map(|log| (1..=3).filter_map(|n| rendered.get(log, n, &view, FrameRole::Whole)).count());
        assert_eq!((kept, rendered.turns.len()), ([0, 3], 3));
    }
}
