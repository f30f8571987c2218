//! Idempotency keys: same key, same principal, same job (1.1 §7.2).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString as _;
use core::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::{BoundOf, Violation};
use crate::id::{IdempotencyKey, JobId, Principal};
use crate::limits::Limits;
use crate::principal::Account;
use crate::runtime::account::{Accounts, Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::io::{KeyRecord, Record};
use crate::runtime::timers::Timer;
use crate::time::{Timestamp, UtcMs};

/// Keys that expire within this span are removed together.
const EXPIRY_STEP: Duration = Duration::from_secs(1);

/// Claims by a digest of principal and key, so that all take the same space. A claim is held for the key window.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Keys {
    claims: BTreeMap<KeyDigest, Claim>,
    /// Bytes of the claims of each account.
    per_account: BTreeMap<Account, Charge>,
    /// Claims by when they expire.
    order: BTreeSet<(Timestamp, KeyDigest)>,
}

type KeyDigest = [u8; 32];

/// Approximate bytes that the tables hold for a claim.
const CLAIM: usize = 2 * (size_of::<Claim>() + 2 * size_of::<KeyDigest>());

/// What a key was claimed for.
#[derive(Debug)]
pub(in crate::runtime) struct Claim {
    account: Account,
    /// The digest that another submit under the key must match.
    pub(in crate::runtime) fingerprint: [u8; 32],
    pub(in crate::runtime) job: JobId,
    /// When it expires, as recorded.
    until: UtcMs,
    /// When it expires in monotonic time, which decides.
    over_at: Timestamp,
    /// Whether it outlives its job in the store.
    kept: bool,
}

impl Keys {
    pub(in crate::runtime) fn get(&self, key: &KeyDigest) -> Option<&Claim> {
        self.claims.get(key)
    }

    /// All claims: key, account, fingerprint, job and end.
    pub(in crate::runtime) fn claims(
        &self,
    ) -> impl Iterator<Item = (&KeyDigest, (&Account, &KeyDigest, JobId, UtcMs))> {
        self.claims.iter().map(|(key, claim)| (key, (&claim.account, &claim.fingerprint, claim.job, claim.until)))
    }

    /// Counts all claims anew.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for claim in self.claims.values() {
            recount.add_for(&claim.account, HeldFor::Keys, CLAIM);
        }
    }

    /// Whether one more key of this principal can be held. No claim is removed early: a retry must not make a second
    /// job.
    pub(in crate::runtime) fn check_room(
        &self,
        principal: &Principal,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(), Violation> {
        // When the first of all claims expires: no claim of this account expires earlier.
        let wait = self.next_expiry().map_or(Duration::ZERO, |at| at.since(now));
        let account = principal.account();
        let own = self.per_account.get(&account).map_or(0, Charge::bytes) / CLAIM;
        if own >= limits.job.keys_per_principal {
            let (most, full) = (limits.job.keys_per_principal as u64, "too many of your idempotency keys are held");
            return Err(no_room(wait, "keys_per_principal", account.bound_of(), most, full));
        }
        let most = if account.is_anonymous() { limits.without_reserve(limits.job.keys) } else { limits.job.keys };
        if self.claims.len() >= most {
            return Err(no_room(wait, "keys", BoundOf::Runtime, most as u64, "too many idempotency keys are held"));
        }
        Ok(())
    }

    /// Adds a claim, in place of an earlier one of the same key.
    fn insert(&mut self, accounts: &mut Accounts, key: KeyDigest, claim: Claim) {
        self.remove(&key);
        let charge = || accounts.of(&claim.account).charge(HeldFor::Keys, 0);
        self.per_account.entry(claim.account.clone()).or_insert_with(charge).add(CLAIM);
        self.order.insert((claim.over_at, key));
        self.claims.insert(key, claim);
    }

    fn remove(&mut self, key: &KeyDigest) -> Option<Claim> {
        let claim = self.claims.remove(key)?;
        self.order.remove(&(claim.over_at, *key));
        if let Some(charge) = self.per_account.get_mut(&claim.account) {
            charge.set(charge.bytes() - CLAIM);
            if charge.bytes() == 0 {
                self.per_account.remove(&claim.account);
            }
        }
        Some(claim)
    }

    /// Removes expired claims. Returns the latest end among those that the store keeps.
    fn remove_expired(&mut self, now: Timestamp) -> Option<UtcMs> {
        let mut kept = None;
        while let Some((_, key)) = self.order.first().copied().filter(|(over_at, _)| *over_at <= now) {
            kept = self.remove(&key).filter(|claim| claim.kept).map(|claim| claim.until).max(kept);
        }
        kept
    }

    /// Restores that claims up to a moment had expired.
    pub(in crate::runtime) fn restore_expired(&mut self, until: UtcMs) {
        let over: alloc::vec::Vec<KeyDigest> =
            self.claims.iter().filter(|(_, claim)| claim.until <= until).map(|(key, _)| *key).collect();
        for key in over {
            self.remove(&key);
        }
    }

    /// The time is known: sets anew when each claim expires.
    fn reschedule(&mut self, over_at: impl Fn(UtcMs) -> Timestamp) {
        self.order.clear();
        for (key, claim) in &mut self.claims {
            claim.over_at = over_at(claim.until);
            self.order.insert((claim.over_at, *key));
        }
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.order.first().map(|(over_at, _)| *over_at + EXPIRY_STEP)
    }
}

impl Keys {
    /// Claims a key for a job that was just accepted.
    pub(super) fn claim(&mut self, ctx: &mut Context, principal: &Principal, key: KeyRecord, job: JobId) {
        let window = ctx.config.timing.key_window;
        let (until, over_at) = (ctx.now.utc.plus(window), ctx.now.mono + window);
        let KeyRecord { digest, fingerprint } = key;
        let claim = Claim { account: principal.account(), fingerprint, job, until, over_at, kept: false };
        self.insert(&mut ctx.accounts, digest, claim);
        self.plan_expiry(ctx);
    }

    /// Restores a claim. `kept`: its job is forgotten. Its monotonic end is set once the time is known.
    pub(in crate::runtime) fn restore(
        &mut self,
        ctx: &mut Context,
        principal: &Principal,
        key: KeyRecord,
        (job, until): (JobId, UtcMs),
        kept: bool,
    ) {
        let KeyRecord { digest, fingerprint } = key;
        let over_at = ctx.now.mono + ctx.config.timing.key_window;
        let claim = Claim { account: principal.account(), fingerprint, job, until, over_at, kept };
        self.insert(&mut ctx.accounts, digest, claim);
    }

    /// All records are restored, and the time is known.
    pub(in crate::runtime) fn on_restored(&mut self, ctx: &mut Context) {
        let (now, window) = (ctx.now, ctx.config.timing.key_window);
        self.reschedule(|until| now.until(until, window));
        self.on_expiry(ctx);
    }

    /// A job is about to be forgotten: records its key by itself, if that still holds.
    pub(super) fn keep(&mut self, ctx: &mut Context, principal: &Principal, key: KeyRecord, job: JobId) {
        if let Some(claim) = self.claims.get_mut(&key.digest).filter(|claim| claim.job == job) {
            claim.kept = true;
            ctx.append(Record::KeyKept { job, principal: principal.clone(), key, until: claim.until });
        }
    }

    /// Removes expired claims, and tells the store, which has no clock, until when they were held.
    pub(in crate::runtime) fn on_expiry(&mut self, ctx: &mut Context) {
        if let Some(until) = self.remove_expired(ctx.now.mono) {
            ctx.append(Record::KeysExpired { until });
        }
        self.plan_expiry(ctx);
    }

    fn plan_expiry(&self, ctx: &mut Context) {
        match self.next_expiry() {
            Some(at) if !ctx.timers.is_set(Timer::KeyExpiry) => ctx.timers.set(Timer::KeyExpiry, at),
            Some(_) | None => {}
        }
    }
}

fn no_room(wait: Duration, bound: &'static str, of: BoundOf, most: u64, full: &str) -> Violation {
    let message = alloc::format!("{full}: submit without one, or later");
    Violation::exhausted_for(wait, bound, of, most, message)
}

pub(in crate::runtime) fn digest(principal: &Principal, key: &IdempotencyKey) -> KeyDigest {
    // The length first, so that no two pairs give the same bytes.
    let principal = principal.to_string();
    let length = (principal.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(principal).chain_update(key.as_str()).finalize().into()
}
