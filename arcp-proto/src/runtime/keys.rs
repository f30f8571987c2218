//! Idempotency keys: same key, same principal, same job (1.1 §7.2).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::ToString as _;

use sha2::{Digest as _, Sha256};

use super::Runtime;
use super::io::{KeyRecord, Record};
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, Principal};
use crate::limits::Limits;
use crate::principal::Account;
use crate::time::Timestamp;

/// Claims by a digest of principal and key: a claim is held for a day, and
/// costs the same whatever its key.
#[derive(Debug, Default)]
pub(super) struct Keys {
    claims: BTreeMap<KeyDigest, Claim>,
    per_account: BTreeMap<Account, usize>,
    /// Claims by age; the window is the same for all.
    order: VecDeque<(Timestamp, KeyDigest)>,
}

type KeyDigest = [u8; 32];

/// What a key was claimed for.
#[derive(Debug)]
pub(super) struct Claim {
    account: Account,
    /// What makes two submits the same.
    pub(super) fingerprint: [u8; 32],
    pub(super) job: JobId,
}

impl Keys {
    pub(super) fn get(&self, principal: &Principal, key: &str) -> Option<&Claim> {
        self.claims.get(&digest(principal, key))
    }

    /// Whether one more key of this principal can be held. None is ever let
    /// go early: a retry must not run a job twice.
    pub(super) fn check_room(&self, principal: &Principal, limits: &Limits) -> Result<(), Violation> {
        let account = principal.account();
        let own = self.per_account.get(&account).copied().unwrap_or(0);
        if own >= limits.keys_per_principal {
            let full = "too many of your idempotency keys are held: submit without one, or later";
            return Err(Violation::new(ErrorCode::ResourceExhausted, full));
        }
        let most = if account.is_anonymous() { limits.without_reserve(limits.keys) } else { limits.keys };
        if self.claims.len() >= most {
            let full = "too many idempotency keys are held: submit without one, or later";
            return Err(Violation::new(ErrorCode::ResourceExhausted, full));
        }
        Ok(())
    }

    fn insert(&mut self, until: Timestamp, key: KeyDigest, claim: Claim) {
        *self.per_account.entry(claim.account.clone()).or_default() += 1;
        self.order.push_back((until, key));
        self.claims.insert(key, claim);
    }

    fn remove_expired(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.order.front().filter(|(until, _)| *until <= now) {
            let claim = self.claims.remove(key);
            self.order.pop_front();
            let Some(claim) = claim else {
                continue;
            };
            if let Some(count) = self.per_account.get_mut(&claim.account) {
                *count -= 1;
                if *count == 0 {
                    self.per_account.remove(&claim.account);
                }
            }
        }
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.order.front().map(|(until, _)| *until)
    }
}

impl Runtime {
    /// Claims a key for a job that was just accepted.
    pub(super) fn claim(&mut self, principal: Principal, key: KeyRecord, job: JobId, until: Timestamp) {
        let KeyRecord { digest, fingerprint } = key;
        self.keys.insert(until, digest, Claim { account: principal.account(), fingerprint, job });
        if !self.timers.is_set(Timer::KeyExpiry) {
            self.timers.set(Timer::KeyExpiry, until);
        }
    }

    /// A job is about to be forgotten: its key is not, if it still holds.
    pub(super) fn keep_key(&mut self, id: JobId) {
        let Some((job, key)) = self.jobs.get(id).and_then(|job| Some((job, job.key?))) else {
            return;
        };
        let until = job.created_at.plus(self.config.key_window);
        if until > self.now.utc {
            let principal = job.principal.clone();
            self.append(Record::KeyKept { job: id, principal, key, until }, None);
        }
    }

    pub(super) fn on_key_expiry(&mut self) {
        self.keys.remove_expired(self.now.mono);
        if let Some(at) = self.keys.next_expiry() {
            self.timers.set(Timer::KeyExpiry, at);
        }
    }
}

pub(super) fn digest(principal: &Principal, key: &str) -> KeyDigest {
    // Lengths first, so that no two pairs read the same.
    let principal = principal.to_string();
    let length = (principal.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(principal).chain_update(key).finalize().into()
}
