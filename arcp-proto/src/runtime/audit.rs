//! The audit trail: decisions about authority, kept in the log until newer ones need the room. It
//! has no events of jobs: these cost nothing, and would fill it.
//!
//! A refusal that repeats is written at once, and then once a minute with its count. Refusals that
//! were counted and not yet written are lost when the runtime ends.
//!
//! An entry goes when its retention is over, or when a newer one needs its room: then the oldest
//! entry of the account that has most, so that no account can push out the entries of others.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::account::{Balance, Charge, HeldFor, Recount};
use super::audit_records::{AuditAct, AuditEntry};
use crate::error::{ErrorCode, Violation};
use crate::id::{LogPos, Principal};
use crate::principal::Account;
use crate::runtime::expected::Expected as _;
use crate::time::{Timestamp, UtcMs};

/// How long the same refusal is counted before it is written again.
const WINDOW: Duration = Duration::from_secs(60);

/// How many entries one record forgets at most.
const STEP: usize = 256;

/// The positions of the entries, and the refusals of the last minute.
#[derive(Debug)]
pub(super) struct Trail {
    kept: BTreeMap<LogPos, Kept>,
    /// The positions of each owner's entries.
    by_owner: BTreeMap<Owner, BTreeSet<LogPos>>,
    /// Owners by their number of entries.
    ranks: BTreeSet<(usize, Owner)>,
    repeated: BTreeMap<Same, Repeated>,
    /// Bytes of `repeated`.
    repeated_bytes: usize,
    charge: Charge,
}

/// The owner of an entry; `None`: several principals, or an unknown one.
type Owner = Arc<Option<Account>>;

/// A kept entry.
#[derive(Clone, Debug)]
struct Kept {
    since: UtcMs,
    owner: Owner,
}

/// Bytes that the tables hold for an entry.
const KEPT: usize = size_of::<(LogPos, Kept)>() + size_of::<LogPos>();

/// Bytes that the table holds for a counted refusal, besides its entry.
const REPEATED: usize = size_of::<(Same, Repeated)>();

/// Refusals are the same if account, act and reason are. Without an account: all that exceed the
/// bound on accounts.
type Same = (Option<Account>, AuditAct, String);

/// A refusal that was written within the last minute.
#[derive(Debug)]
struct Repeated {
    until: Timestamp,
    /// How often it was repeated since.
    more: u32,
    last: AuditEntry,
}

impl Trail {
    /// An empty trail, charged to this account.
    pub(super) fn new(runtime: &Balance) -> Trail {
        let charge = runtime.charge(HeldFor::Audit, 0);
        Trail {
            kept: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            ranks: BTreeSet::new(),
            repeated: BTreeMap::new(),
            repeated_bytes: 0,
            charge,
        }
    }

    /// Adds an entry of an earlier run.
    pub(super) fn restore(&mut self, at: LogPos, entry: &AuditEntry) {
        self.restore_forgotten(&[entry.undoes]);
        self.add(at, entry);
    }

    /// Removes entries that an earlier run forgot. A store that has deleted them does not give them
    /// back.
    pub(super) fn restore_forgotten(&mut self, entries: &[LogPos]) {
        entries.iter().for_each(|at| self.remove(*at));
        self.weigh();
    }

    /// Makes room for an entry of a principal. Returns the entry that goes; 0: none.
    pub(super) fn make_room(&mut self, most: usize, principal: Option<&Principal>) -> LogPos {
        let goes = (self.kept.len() >= most).then(|| self.next_to_go(principal)).flatten();
        goes.map_or(LogPos(0), |at| {
            self.remove(at);
            at
        })
    }

    /// The oldest entry of the owner that has most. If several have as many, and the principal of
    /// the new entry is one of them, its own.
    fn next_to_go(&self, principal: Option<&Principal>) -> Option<LogPos> {
        let (most, holder) = self.ranks.last()?;
        let own = self.by_owner.get(&principal.map(Principal::account)).filter(|own| own.len() >= *most);
        own.or_else(|| self.by_owner.get(holder))?.first().copied()
    }

    /// Adds an entry at a position.
    pub(super) fn add(&mut self, at: LogPos, entry: &AuditEntry) {
        let owner = entry.principal.as_ref().map(Principal::account);
        let owner = self.by_owner.get_key_value(&owner).map_or_else(|| Arc::new(owner), |(owner, _)| Arc::clone(owner));
        let own = self.by_owner.entry(Arc::clone(&owner)).or_default();
        self.ranks.remove(&(own.len(), Arc::clone(&owner)));
        own.insert(at);
        self.ranks.insert((own.len(), Arc::clone(&owner)));
        self.kept.insert(at, Kept { since: entry.at, owner });
        self.weigh();
    }

    fn remove(&mut self, at: LogPos) {
        let Some(Kept { owner, .. }) = self.kept.remove(&at) else {
            return; // The store had deleted this entry.
        };
        let Some(own) = self.by_owner.get_mut(&owner).expected("who has an entry is there") else {
            return;
        };
        self.ranks.remove(&(own.len(), Arc::clone(&owner)));
        own.remove(&at);
        match own.len() {
            0 => {
                self.by_owner.remove(&owner);
            }
            left => {
                self.ranks.insert((left, owner));
            }
        }
    }

    /// Removes the first entries that are at least as old as `before`, and those beyond `most`.
    pub(super) fn forget(&mut self, before: Option<UtcMs>, most: usize) -> Vec<LogPos> {
        let mut forgotten = Vec::new();
        let is_old = |first: &Kept| before.is_some_and(|before| first.since <= before);
        while forgotten.len() < STEP
            && let Some((first, kept)) = self.kept.first_key_value()
            && let Some(at) = match is_old(kept) {
                true => Some(*first),
                false => (self.kept.len() > most).then(|| self.next_to_go(None)).flatten(),
            }
        {
            forgotten.push(at);
            self.remove(at);
        }
        self.weigh();
        forgotten
    }

    /// The time of the oldest entry.
    pub(super) fn oldest(&self) -> Option<UtcMs> {
        self.kept.first_key_value().map(|(_, first)| first.since)
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The positions of the first and the last entry, and their number.
    pub(super) fn span(&self) -> (Option<LogPos>, Option<LogPos>, usize) {
        (self.kept.keys().next().copied(), self.kept.keys().next_back().copied(), self.kept.len())
    }

    fn weigh(&mut self) {
        self.charge.set(self.kept.len() * KEPT + self.repeated_bytes);
    }

    /// Counts its bytes again.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        let repeated: usize = self.repeated.values().map(Repeated::bytes).sum();
        recount.add(self.charge.balance(), HeldFor::Audit, self.kept.len() * KEPT + repeated);
    }

    /// Counts a refusal; returns the entry to be written at once, if any. `most`: how many
    /// different refusals are counted.
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

    /// The repeated refusals that are due to be written.
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

    /// When the next repeated refusal is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.repeated.values().map(|repeated| repeated.until).min()
    }
}

impl Repeated {
    /// Bytes that it and its key hold, approximately.
    fn bytes(&self) -> usize {
        REPEATED + self.last.bytes()
    }
}

/// Whether a refusal with this code is a decision about authority.
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
        (1..=600).for_each(|n| trail.add(LogPos(n), &entry("a", n)));
        assert_eq!((trail.forget(None, 600), trail.len()), (Vec::new(), 600));
        let first: Vec<LogPos> = (1..=256).map(LogPos).collect();
        assert_eq!(trail.forget(None, 200), first, "a store deletes a few at once");
        assert_eq!((trail.forget(None, 200).len(), trail.len()), (144, 200));
        assert_eq!(trail.forget(Some(UtcMs(402_000)), 200), [LogPos(401), LogPos(402)]);
        assert_eq!((trail.oldest(), trail.charge.bytes()), (Some(UtcMs(403_000)), 198 * KEPT));
        assert_eq!(trail.make_room(198, None), LogPos(403));
    }

    #[test]
    fn who_has_most_entries_makes_room_by_its_oldest() {
        let mut trail = Trail::new(Accounts::new().runtime());
        let owners = ["few", "many", "many", "many", "few", "many"];
        for (owner, n) in owners.into_iter().zip(1..) {
            trail.add(LogPos(n), &entry(owner, n));
        }
        let few = Principal::new("few").expect("a name");
        assert_eq!(trail.make_room(7, Some(&few)), LogPos(0));
        assert_eq!([2, 3].map(|_| trail.make_room(1, Some(&few))), [LogPos(2), LogPos(3)]);
        assert_eq!(trail.make_room(1, Some(&few)), LogPos(1), "who is to have one more goes before who has as many");
        trail.restore_forgotten(&[LogPos(4), LogPos(2)]);
        assert_eq!(trail.span(), (Some(LogPos(5)), Some(LogPos(6)), 2));
    }

    fn entry(owner: &str, n: u64) -> AuditEntry {
        let owner = Principal::new(owner).expect("a name");
        AuditEntry { at: UtcMs(1000 * n), ..AuditEntry::new(AuditAct::Submit, &owner) }
    }
}
