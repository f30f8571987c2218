//! The audit trail: decisions about authority, kept in the log until newer ones
//! need the room. Events are not in it: what costs nobody anything must not fill it.
//!
//! Who is refused the same again and again is written down at once, and then once a
//! minute with how often it was. What was counted and not written yet does not
//! outlive the runtime.
//!
//! An entry goes when its time is over, or newer ones need its room.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::account::{Balance, Charge, HeldFor, Recount};
use super::audit_records::{AuditAct, AuditEntry};
use crate::error::{ErrorCode, Violation};
use crate::id::{LogPos, Principal};
use crate::principal::Account;
use crate::time::{Timestamp, UtcMs};

/// For how long the same refusal is counted before it is written down again.
const WINDOW: Duration = Duration::from_secs(60);

/// Entries that are forgotten by one record at most.
const STEP: usize = 256;

/// Where the entries stand, and who is refused what just now.
#[derive(Debug)]
pub(super) struct Trail {
    kept: VecDeque<Kept>,
    repeated: BTreeMap<Same, Repeated>,
    /// Bytes of those.
    repeated_bytes: usize,
    charge: Charge,
}

/// An entry: where it stands, and since when.
#[derive(Clone, Copy, Debug)]
struct Kept {
    at: LogPos,
    since: UtcMs,
}

/// What the tables hold of a refusal that is counted, besides its entry.
const REPEATED: usize = size_of::<(Same, Repeated)>();

/// What makes two refusals the same: whose, of what and why. Without an account:
/// of everybody for whom there is no room.
type Same = (Option<Account>, AuditAct, String);

/// A refusal that was written down not long ago.
#[derive(Debug)]
struct Repeated {
    until: Timestamp,
    /// How often it came since.
    more: u32,
    last: AuditEntry,
}

impl Trail {
    /// Nothing yet, for this account.
    pub(super) fn new(runtime: &Balance) -> Trail {
        let charge = runtime.charge(HeldFor::Audit, 0);
        Trail { kept: VecDeque::new(), repeated: BTreeMap::new(), repeated_bytes: 0, charge }
    }

    /// An entry of an earlier run.
    pub(super) fn restore(&mut self, at: LogPos, since: UtcMs, undoes: LogPos) {
        self.restore_forgotten(&[undoes]);
        self.add(at, since);
    }

    /// These were forgotten in an earlier run. A store that has let go of them does not
    /// give them.
    pub(super) fn restore_forgotten(&mut self, entries: &[LogPos]) {
        while self.kept.front().is_some_and(|first| entries.contains(&first.at)) {
            self.kept.pop_front();
        }
        self.weigh();
    }

    /// An entry has to go for one more; 0: none.
    pub(super) fn make_room(&mut self, most: usize) -> LogPos {
        let oldest = (self.kept.len() >= most).then(|| self.kept.pop_front()).flatten();
        oldest.map_or(LogPos(0), |oldest| oldest.at)
    }

    /// An entry stands there since then.
    pub(super) fn add(&mut self, at: LogPos, since: UtcMs) {
        self.kept.push_back(Kept { at, since });
        self.weigh();
    }

    /// Takes the first of those that are older than a moment, and of those beyond so
    /// many.
    pub(super) fn forget(&mut self, before: Option<UtcMs>, most: usize) -> Vec<LogPos> {
        let mut forgotten = Vec::new();
        let is_old = |first: &Kept| before.is_some_and(|before| first.since <= before);
        while forgotten.len() < STEP
            && let Some(first) = self.kept.front()
            && (is_old(first) || self.kept.len() > most)
        {
            forgotten.push(first.at);
            self.kept.pop_front();
        }
        self.weigh();
        forgotten
    }

    /// Since when the first entry is kept.
    pub(super) fn oldest(&self) -> Option<UtcMs> {
        self.kept.front().map(|first| first.since)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The first and the last entry that is kept, and how many there are.
    pub(super) fn span(&self) -> (Option<LogPos>, Option<LogPos>, usize) {
        (self.kept.front().map(|first| first.at), self.kept.back().map(|last| last.at), self.kept.len())
    }

    fn weigh(&mut self) {
        self.charge.set(self.kept.len() * size_of::<Kept>() + self.repeated_bytes);
    }

    /// Counts it once more.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        let repeated: usize = self.repeated.values().map(Repeated::bytes).sum();
        recount.add(self.charge.balance(), HeldFor::Audit, self.kept.len() * size_of::<Kept>() + repeated);
    }

    /// Somebody is refused something; gives what is to be written down now. `most`:
    /// refusals that are counted at once.
    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        most: usize,
        entry: AuditEntry,
        why: &Violation,
    ) -> Option<AuditEntry> {
        if !is_of_authority(&why.code) {
            return None;
        }
        let mut entry = AuditEntry { refused: Some(why.code.clone()), ..entry }.because(Some(&why.message));
        let account = entry.principal.as_ref().map(Principal::account);
        let mut same = (account, entry.act, String::from(why.code.as_str()));
        if self.repeated.len() >= most && !self.repeated.contains_key(&same) {
            same.0 = None;
            entry = AuditEntry { principal: None, session: None, job: None, ..entry };
        }
        if let Some(repeated) = self.repeated.get_mut(&same) {
            repeated.more = repeated.more.saturating_add(1);
            let before = repeated.bytes();
            repeated.last = entry;
            self.repeated_bytes = self.repeated_bytes + repeated.bytes() - before;
            self.weigh();
            return None;
        }
        let repeated = Repeated { until: now + WINDOW, more: 0, last: entry.clone() };
        self.repeated_bytes += repeated.bytes();
        self.repeated.insert(same, repeated);
        self.weigh();
        Some(entry)
    }

    /// What was refused again for a while, to be written down now.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<AuditEntry> {
        let mut again = Vec::new();
        for repeated in self.repeated.values_mut().filter(|repeated| repeated.until <= now && repeated.more > 0) {
            let count = core::mem::take(&mut repeated.more);
            repeated.until = now + WINDOW;
            again.push(AuditEntry { count, ..repeated.last.clone() });
        }
        self.repeated.retain(|_, repeated| repeated.until > now);
        self.repeated_bytes = self.repeated.values().map(Repeated::bytes).sum();
        self.weigh();
        again
    }

    /// When there is something to be written down again at the earliest.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.repeated.values().map(|repeated| repeated.until).min()
    }
}

impl Repeated {
    /// Bytes that it and what it is known by hold, roughly.
    fn bytes(&self) -> usize {
        REPEATED + self.last.bytes()
    }
}

/// Whether it is for lack of authority that something is refused.
fn is_of_authority(code: &ErrorCode) -> bool {
    [
        ErrorCode::Unauthenticated,
        ErrorCode::PermissionDenied,
        ErrorCode::LeaseSubsetViolation,
        ErrorCode::LeaseExpired,
        ErrorCode::LeaseRevoked,
        ErrorCode::BudgetExhausted,
    ]
    .contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::account::Accounts;

    #[test]
    fn the_first_entries_go_beyond_a_number_or_a_moment_a_few_at_a_time() {
        let mut trail = Trail::new(Accounts::new().runtime());
        (1..=600).for_each(|n| trail.add(LogPos(n), UtcMs(1000 * n)));
        assert_eq!((trail.forget(None, 600), trail.len()), (Vec::new(), 600));
        let first: Vec<LogPos> = (1..=256).map(LogPos).collect();
        assert_eq!(trail.forget(None, 200), first, "a store deletes a few at once");
        assert_eq!((trail.forget(None, 200).len(), trail.len()), (144, 200));
        assert_eq!(trail.forget(Some(UtcMs(402_000)), 200), [LogPos(401), LogPos(402)]);
        assert_eq!((trail.oldest(), trail.charge.bytes()), (Some(UtcMs(403_000)), 198 * size_of::<Kept>()));
        assert_eq!(trail.make_room(198), LogPos(403));
    }
}
