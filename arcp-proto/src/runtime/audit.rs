//! The audit trail: decisions about authority, kept in the log until newer ones
//! need the room. Events are not in it: what costs nobody anything must not fill it.
//!
//! Who is refused the same again and again is written down at once, and then once a
//! minute with how often it was. What was counted and not written yet does not
//! outlive the runtime.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::audit_records::{AuditAct, AuditEntry};
use crate::error::{ErrorCode, Violation};
use crate::id::{LogPos, Principal};
use crate::principal::Account;
use crate::time::Timestamp;

/// For how long the same refusal is counted before it is written down again.
const WINDOW: Duration = Duration::from_secs(60);

/// Where the entries stand, and who is refused what just now.
#[derive(Debug, Default)]
pub(super) struct Trail {
    kept: VecDeque<LogPos>,
    repeated: BTreeMap<Same, Repeated>,
}

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
    /// An entry of an earlier run.
    pub(super) fn restore(&mut self, at: LogPos, undoes: LogPos) {
        if self.kept.front() == Some(&undoes) {
            self.kept.pop_front();
        }
        self.add(at);
    }

    /// An entry has to go for one more; 0: none.
    pub(super) fn make_room(&mut self, most: usize) -> LogPos {
        let oldest = (self.kept.len() >= most).then(|| self.kept.pop_front()).flatten();
        oldest.unwrap_or(LogPos(0))
    }

    /// An entry stands there.
    pub(super) fn add(&mut self, at: LogPos) {
        self.kept.push_back(at);
    }

    /// The first and the last entry that is kept, and how many there are.
    pub(super) fn span(&self) -> (Option<LogPos>, Option<LogPos>, usize) {
        (self.kept.front().copied(), self.kept.back().copied(), self.kept.len())
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
            repeated.last = entry;
            return None;
        }
        self.repeated.insert(same, Repeated { until: now + WINDOW, more: 0, last: entry.clone() });
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
        again
    }

    /// When there is something to be written down again at the earliest.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.repeated.values().map(|repeated| repeated.until).min()
    }
}

/// Whether it is for lack of authority that something is refused.
fn is_of_authority(code: &ErrorCode) -> bool {
    [
        ErrorCode::PermissionDenied,
        ErrorCode::LeaseSubsetViolation,
        ErrorCode::LeaseExpired,
        ErrorCode::LeaseRevoked,
        ErrorCode::BudgetExhausted,
    ]
    .contains(code)
}
