//! The share of time that each principal's proofs may take.
//!
//! Proofs about leases run on the thread that serves everybody. So each principal may use only a
//! small part of its time for them, however many it asks for.
//!
//! For each principal there is the moment until which its proofs so far have used its part. That
//! moment may be a little ahead of now; if it is further ahead, proofs are refused.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::error::Violation;
use crate::id::Principal;
use crate::limits::LeaseLimits;
use crate::principal::Account;
use crate::time::Timestamp;

/// How far ahead of now a principal's part may be used.
const AHEAD: Duration = Duration::from_millis(250);
/// The number of principals at which unused entries are first removed.
const FEWEST: usize = 64;

/// The moment until which each principal has used its part.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    used_until: BTreeMap<Account, Timestamp>,
    /// The number of entries at which those in the past are removed.
    most: usize,
}

impl Proofs {
    /// The refusal, if a principal has used its part.
    pub(super) fn refusal(&self, now: Timestamp, principal: &Principal, limits: &LeaseLimits) -> Option<Violation> {
        if self.used_until.is_empty() {
            return None;
        }
        let account = principal.account();
        let wait = self.used_until.get(&account)?.since(now + AHEAD);
        if wait.is_zero() {
            return None;
        }
        // One more, because whole milliseconds are rounded down.
        let wait = wait + Duration::from_millis(1);
        let why = alloc::format!(
            "proving what your leases may grant has taken your part of this runtime's time: try again in {} ms",
            wait.as_millis()
        );
        let most = limits.proof_units_per_second.get().into();
        Some(Violation::exhausted_for(wait, "proof_units_per_second", account.bound_of(), most, why))
    }

    /// Charges the units of a proof to a principal.
    pub(super) fn charge(&mut self, now: Timestamp, principal: &Principal, units: u32, limits: &LeaseLimits) {
        if units == 0 {
            return; // No proof was needed.
        }
        let account = principal.account();
        if self.used_until.len() >= self.most && !self.used_until.contains_key(&account) {
            self.used_until.retain(|_, until| *until > now);
            self.most = FEWEST.max(2 * self.used_until.len());
        }
        let until = self.used_until.entry(account).or_default();
        *until = (*until).max(now) + Duration::from_secs(1) * units / limits.proof_units_per_second.get();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_part_that_was_used_comes_back_with_time_and_who_owes_nothing_is_let_go() {
        let limits = LeaseLimits::default();
        let (units, somebody) = (limits.proof_units, Principal::new("a").expect("a name"));
        let (mut proofs, mut now) = (Proofs::default(), Timestamp(1));
        let mut begun = 0;
        while proofs.refusal(now, &somebody, &limits).is_none() {
            proofs.charge(now, &somebody, units, &limits);
            begun += 1;
        }
        assert_eq!(begun, 5, "a quarter of a second's worth, and the one that is begun");
        let mut other = 0;
        while other < 10 * FEWEST {
            other += 1;
            proofs.charge(now, &Principal::new(&alloc::format!("p{other}")).expect("a name"), units, &limits);
            now = now + Duration::from_millis(10);
        }
        assert!(proofs.used_until.len() <= 2 * FEWEST, "{}", proofs.used_until.len());
        for _ in 0..160 {
            proofs.charge(now, &somebody, units, &limits);
            assert_eq!(proofs.refusal(now, &somebody, &limits), None);
            now = now + Duration::from_millis(63);
        }
    }

    #[test]
    fn those_who_owe_are_looked_through_once_they_are_twice_as_many() {
        let (limits, mut proofs) = (LeaseLimits::default(), Proofs::default());
        let looked = |proofs: &mut Proofs, n: usize| {
            let (before, name) = (proofs.most, alloc::format!("p{n}"));
            proofs.charge(Timestamp(1), &Principal::new(&name).expect("a name"), limits.proof_units, &limits);
            (proofs.most != before).then_some(n)
        };
        let times: Vec<usize> = (0..1000).filter_map(|n| looked(&mut proofs, n)).collect();
        assert_eq!(times, [0, FEWEST, 2 * FEWEST, 4 * FEWEST, 8 * FEWEST]);
    }
}
