//! Bytes held, counted in one account for each owner.
//!
//! ```text
//! runtime ◀── principal ◀── session, connection
//! ```
//!
//! A charge to one account is also a charge to those above it. Each value that holds bytes has its
//! [`Charge`] inside, and dropping the value gives the bytes back, so that no code can forget to.
//! `recount` counts the values themselves, to check this.
//!
//! Anonymous principals share the account of their network.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::proofs::Proofs;
use crate::error::{BoundOf, Violation};
use crate::limits::Limits;
use crate::principal::Account;

/// The number of principals' accounts at which unused ones are first removed.
const FEWEST: usize = 64;
/// Connections of an account that holds this multiple of its share are closed if they still send.
const FLOOD_FACTOR: usize = 2;

/// The purpose for which bytes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HeldFor {
    /// Records that are not durable, charged to the peer or agent that caused them.
    Records,
    /// Answers that a connection was not sent yet.
    Answers,
    /// Frames that wait until an input is checked.
    Frames,
    /// Messages of extensions that the host has not taken.
    Extensions,
    /// Executed commands that are remembered by message id.
    Commands,
    /// Filters of subscriptions.
    Filters,
    /// Payloads written for several sessions.
    Payloads,
    /// Events read back from the store.
    ReadBack,
    /// Inputs of jobs that have not started.
    Inputs,
    /// Unfinished jobs: their requests, budgets, questions, and the classes of their events.
    Jobs,
    /// The same for jobs that have ended and whose agents have exited.
    EndedJobs,
    /// Events held in memory.
    Events,
    /// Checkpoints from which agents that an earlier run started are to go on.
    Checkpoints,
    /// Idempotency keys.
    Keys,
    /// Session indexes: the event and role of each numbered frame, and frames without an event.
    Numbers,
    /// Watches and owners of jobs, and the requests through which sessions have access to them.
    Watches,
    /// The positions of the audit trail's entries, and refusals that are counted.
    Audit,
    /// Credentials of jobs, and their pending operations.
    Credentials,
    /// Artifacts, without their bytes, which the host has.
    Artifacts,
    /// Schedules: what they submit, and when.
    Schedules,
    /// Unfinished workflows: their graphs, and the results of their steps.
    Workflows,
}

impl HeldFor {
    /// All purposes.
    pub const ALL: [HeldFor; 21] = [
        HeldFor::Records,
        HeldFor::Answers,
        HeldFor::Frames,
        HeldFor::Extensions,
        HeldFor::Commands,
        HeldFor::Filters,
        HeldFor::Payloads,
        HeldFor::ReadBack,
        HeldFor::Inputs,
        HeldFor::Jobs,
        HeldFor::EndedJobs,
        HeldFor::Events,
        HeldFor::Checkpoints,
        HeldFor::Keys,
        HeldFor::Numbers,
        HeldFor::Watches,
        HeldFor::Audit,
        HeldFor::Credentials,
        HeldFor::Artifacts,
        HeldFor::Schedules,
        HeldFor::Workflows,
    ];

    /// The purposes for which bytes wait until a peer or the host takes them.
    const WAITING: [HeldFor; 3] = [HeldFor::Answers, HeldFor::Frames, HeldFor::Extensions];
}

/// The account of one owner. A clone is the same account.
#[derive(Clone, Debug)]
pub(super) struct Balance(Arc<Sums>);

/// Bytes by purpose.
type Bytes = [usize; HeldFor::ALL.len()];

#[derive(Debug, Default)]
struct Sums {
    above: Option<Balance>,
    bytes: [AtomicUsize; HeldFor::ALL.len()],
    /// Whether it is the account of a network.
    anonymous: bool,
    /// Whether its connections are not read.
    full: AtomicBool,
}

/// Bytes held on an account. Dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub(super) struct Charge {
    balance: Balance,
    held_for: HeldFor,
    bytes: usize,
}

/// The accounts of the runtime and of all principals.
#[derive(Debug)]
pub(super) struct Accounts {
    runtime: Balance,
    principals: BTreeMap<Account, Balance>,
    /// The number of principals' accounts at which unused ones are removed.
    most: usize,
    /// Accounts whose connections are not read.
    full: Vec<Balance>,
    /// Proof work done for each principal.
    pub(super) proofs: Proofs,
}

impl Balance {
    fn new(above: Option<Balance>, anonymous: bool) -> Balance {
        Balance(Arc::new(Sums { above, anonymous, ..Sums::default() }))
    }

    /// A new account below this one.
    pub(super) fn below(&self) -> Balance {
        Balance::new(Some(self.clone()), self.0.anonymous)
    }

    /// The principal's account above this one. The account of a connection without a session stands
    /// for itself.
    pub(super) fn principal(&self) -> &Balance {
        self.0.above.as_ref().filter(|above| above.0.above.is_some()).unwrap_or(self)
    }

    /// Whether both are the same account.
    pub(super) fn is(&self, other: &Balance) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Charges bytes to this account.
    pub(super) fn charge(&self, held_for: HeldFor, bytes: usize) -> Charge {
        let mut charge = Charge { balance: self.clone(), held_for, bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// Bytes held for a purpose.
    pub(super) fn bytes(&self, held_for: HeldFor) -> usize {
        self.0.bytes[held_for as usize].load(Relaxed)
    }

    /// Bytes that wait until a peer or the host takes them.
    pub(super) fn waiting(&self) -> usize {
        HeldFor::WAITING.into_iter().map(|held_for| self.bytes(held_for)).sum()
    }

    fn upwards(&self) -> impl Iterator<Item = &Balance> {
        core::iter::successors(Some(self), |balance| balance.0.above.as_ref())
    }

    /// Whether connections of this account are not read.
    pub(super) fn is_full(&self) -> bool {
        self.upwards().any(|balance| balance.0.full.load(Relaxed))
    }
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The account that is charged.
    pub(super) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Whether the bytes are held for this purpose.
    pub(super) fn is_for(&self, held_for: HeldFor) -> bool {
        self.held_for == held_for
    }

    /// Changes the number of bytes.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        // Only `&mut Runtime` changes charges, so load and store need not be one operation.
        for balance in self.balance.upwards() {
            let held = &balance.0.bytes[self.held_for as usize];
            held.store(held.load(Relaxed) + bytes - self.bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// Adds to the number of bytes.
    pub(super) fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    /// Changes the purpose.
    pub(super) fn turn_into(&mut self, held_for: HeldFor) {
        if self.held_for != held_for {
            *self = self.balance.charge(held_for, self.bytes);
        }
    }

    /// Moves the bytes to another account.
    pub(super) fn move_to(&mut self, balance: &Balance) {
        *self = balance.charge(self.held_for, self.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Accounts {
    pub(super) fn new() -> Accounts {
        let runtime = Balance::new(None, false);
        let (principals, full, proofs) = (BTreeMap::new(), Vec::new(), Proofs::default());
        Accounts { runtime, principals, most: FEWEST, full, proofs }
    }

    /// The account of the runtime, which includes all others.
    pub(super) fn runtime(&self) -> &Balance {
        &self.runtime
    }

    /// The account of a principal, or of a network.
    pub(super) fn of(&mut self, account: &Account) -> Balance {
        if let Some(balance) = self.principals.get(account) {
            return balance.clone();
        }
        if self.principals.len() >= self.most {
            self.principals.retain(|_, balance| Arc::strong_count(&balance.0) > 1);
            self.most = FEWEST.max(2 * self.principals.len());
        }
        let balance = Balance::new(Some(self.runtime.clone()), account.is_anonymous());
        self.principals.insert(account.clone(), balance.clone());
        balance
    }

    /// Bytes that an account holds for a purpose.
    pub(super) fn bytes(&self, account: &Account, held_for: HeldFor) -> usize {
        self.principals.get(account).map_or(0, |balance| balance.bytes(held_for))
    }

    /// How much of a total an account holds.
    pub(super) fn held(&self, account: &Account, held_for: HeldFor, limits: &Limits, total: usize) -> Holding {
        let own = self.bytes(account, held_for);
        Holding { own, all: self.runtime.bytes(held_for), total: limits.total_for(account, total) }
    }

    /// Called after an input that this account caused. Returns the accounts whose connections are
    /// to be read no more, or again.
    pub(super) fn bound(&mut self, limits: &Limits, cause: &Balance) -> Vec<Balance> {
        let mut changed = Vec::new();
        if !cause.is(&self.runtime) && !cause.is_full() && self.is_beyond(limits, cause, 1) {
            cause.0.full.store(true, Relaxed);
            self.full.push(cause.clone());
            changed.push(cause.clone());
        }
        if self.full.is_empty() {
            return changed;
        }
        // Reading resumes once half of the share is free.
        let (full, read): (Vec<Balance>, Vec<Balance>) =
            core::mem::take(&mut self.full).into_iter().partition(|balance| self.is_beyond(limits, balance, 2));
        self.full = full;
        for balance in read {
            balance.0.full.store(false, Relaxed);
            changed.push(balance);
        }
        changed
    }

    /// Whether a principal's account holds its share of what waits or of what is not durable,
    /// divided by `part`.
    fn is_beyond(&self, limits: &Limits, balance: &Balance, part: usize) -> bool {
        let percent = limits.job.principal_share;
        let records = |balance: &Balance| balance.bytes(HeldFor::Records);
        let (waiting, undurable) = (limits.connection.waiting_bytes, limits.history.undurable_bytes);
        self.share(limits, balance, waiting, Balance::waiting).is_reached(percent, part)
            || self.share(limits, balance, undurable, records).is_reached(percent, part)
    }

    /// Whether so much waits for an account whose connections are not read that those which still
    /// send are to be closed.
    pub(super) fn is_flooded(&self, limits: &Limits, balance: &Balance) -> bool {
        if !balance.0.full.load(Relaxed) {
            return false;
        }
        let waiting = self.share(limits, balance, limits.connection.waiting_bytes, Balance::waiting);
        waiting.own > waiting.share(limits.job.principal_share).saturating_mul(FLOOD_FACTOR)
    }

    /// How much of a total the principal of an account holds.
    pub(super) fn held_by(&self, balance: &Balance, held_for: HeldFor, limits: &Limits, total: usize) -> Holding {
        self.share(limits, balance.principal(), total, |balance| balance.bytes(held_for))
    }

    /// Whether the principal of an account holds more than its share of a total, or all accounts
    /// hold more than the total.
    pub(super) fn is_beyond_share(&self, limits: &Limits, balance: &Balance, held_for: HeldFor, total: usize) -> bool {
        let held = self.held_by(balance, held_for, limits, total);
        held.all > held.total || held.own > held.share(limits.job.principal_share)
    }

    fn share(&self, limits: &Limits, balance: &Balance, total: usize, of: impl Fn(&Balance) -> usize) -> Holding {
        let total = if balance.0.anonymous { limits.without_reserve(total) } else { total };
        Holding { own: of(balance), all: of(&self.runtime), total }
    }
}

/// Bytes counted from the values themselves, for each account.
#[derive(Debug)]
pub(super) struct Recount<'a> {
    accounts: &'a Accounts,
    /// By the address of each account's sums.
    there: BTreeMap<usize, (String, Balance, Bytes)>,
    lost: Vec<Miscount>,
}

/// An account whose count differs from what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// The owner of the account.
    pub owner: String,
    /// The purpose.
    pub held_for: HeldFor,
    /// Bytes that the account has counted.
    pub counted: usize,
    /// Bytes found by counting again.
    pub there: usize,
}

impl<'a> Recount<'a> {
    /// Starts with no bytes. Knows all accounts except those of sessions and connections.
    pub(super) fn new(accounts: &'a Accounts) -> Recount<'a> {
        let mut recount = Recount { accounts, there: BTreeMap::new(), lost: Vec::new() };
        recount.know("the runtime", &accounts.runtime);
        for (account, balance) in &accounts.principals {
            recount.know(&alloc::format!("{account:?}"), balance);
        }
        recount
    }

    /// Adds an account, which may hold nothing.
    pub(super) fn know(&mut self, owner: &str, balance: &Balance) {
        let known = || (owner.to_string(), balance.clone(), Bytes::default());
        self.there.entry(Arc::as_ptr(&balance.0).addr()).or_insert_with(known);
    }

    /// Adds bytes that are held on an account, and on those above it.
    pub(super) fn add(&mut self, balance: &Balance, held_for: HeldFor, bytes: usize) {
        for balance in balance.upwards() {
            self.know("somebody", balance);
            if let Some((_, _, there)) = self.there.get_mut(&Arc::as_ptr(&balance.0).addr()) {
                there[held_for as usize] += bytes;
            }
        }
    }

    /// Like [`add`](Self::add), for the account of a principal or of a network.
    pub(super) fn add_for(&mut self, account: &Account, held_for: HeldFor, bytes: usize) {
        match self.accounts.principals.get(account) {
            Some(balance) => self.add(balance, held_for, bytes),
            None => {
                let owner = alloc::format!("{account:?}");
                self.lost.push(Miscount { owner, held_for, counted: 0, there: bytes });
            }
        }
    }

    /// The accounts whose counts differ.
    pub(super) fn miscounts(self) -> Vec<Miscount> {
        let mut miscounts = self.lost;
        for (owner, balance, there) in self.there.into_values() {
            for (held_for, there) in HeldFor::ALL.into_iter().zip(there) {
                let (owner, counted) = (owner.clone(), balance.bytes(held_for));
                if counted != there {
                    miscounts.push(Miscount { owner, held_for, counted, there });
                }
            }
        }
        miscounts
    }
}

/// How much of a total one account, and all accounts, hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// Held by this account.
    pub(super) own: usize,
    /// Held by all accounts, this one included.
    pub(super) all: usize,
    /// The bound on what all hold.
    pub(super) total: usize,
}

/// The bound that a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// The account's share.
    Share,
    /// The total.
    All,
}

impl Holding {
    /// The share of this account.
    pub(super) fn share(self, percent: u32) -> usize {
        let left = self.total.saturating_sub(self.all - self.own) as u64;
        usize::try_from(left * u64::from(percent) / 100).unwrap_or(usize::MAX).max(1)
    }

    /// Whether this account holds something, and at least its share divided by `part`.
    fn is_reached(self, percent: u32, part: usize) -> bool {
        self.own > 0 && self.own >= self.share(percent) / part
    }

    /// Whether this account may hold `more`.
    ///
    /// # Errors
    ///
    /// The bound that it would exceed.
    pub(super) fn check(self, more: usize, percent: u32) -> Result<(), Beyond> {
        let free = self.total.saturating_sub(self.all);
        if more > free {
            return Err(Beyond::All);
        }
        let beyond = self.own.saturating_add(more) > self.share(percent) || more == free;
        if percent < 100 && self.own > 0 && beyond { Err(Beyond::Share) } else { Ok(()) }
    }

    /// Like [`check`](Self::check), with a refusal that names the bound; `own` says whose share it
    /// is.
    pub(super) fn admit(
        self,
        more: usize,
        percent: u32,
        own: BoundOf,
        bound: &'static str,
        what: &str,
    ) -> Result<(), Violation> {
        self.check(more, percent).map_err(|beyond| {
            let (of, limit, message) = match beyond {
                Beyond::Share => {
                    let message = alloc::format!("{what} have reached your share, which leaves room for others");
                    (own, self.share(percent), message)
                }
                Beyond::All => {
                    let message = alloc::format!("{what} of everybody have reached the bound of this runtime");
                    (BoundOf::Runtime, self.total, message)
                }
            };
            let message = alloc::format!("{message}: submit again when some have ended");
            Violation::exhausted(bound, of, limit as u64, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Principal;

    fn most_of(total: usize, others: usize) -> usize {
        let fits = |own: &usize| Holding { own: *own, all: others + own, total }.check(1, 25).is_ok();
        (0..).take_while(fits).count()
    }

    #[test]
    fn a_share_is_a_quarter_of_what_the_others_leave() {
        assert_eq!([0, 64, 112].map(|others| most_of(256, others)), [64, 48, 36]);
        let mut others = 0;
        for _ in 0..10 {
            others += most_of(256, others);
        }
        assert!(others < 256, "ten who take all they may leave something: {others}");
    }

    #[test]
    fn the_last_one_is_for_who_has_none() {
        assert_eq!([1, 2, 3].map(|total| most_of(total, 0)), [1, 1, 1]);
        assert_eq!((most_of(8, 7), most_of(8, 8)), (1, 0));
        let all_of_it = Holding { own: 7, all: 7, total: 8 };
        assert_eq!((all_of_it.check(1, 100), all_of_it.check(1, 99)), (Ok(()), Err(Beyond::Share)));
    }

    #[test]
    fn accounts_that_nobody_holds_are_let_go_and_others_stay_the_same() {
        let account = |n: usize| Principal::new(&alloc::format!("p{n}")).expect("a name").account();
        let mut accounts = Accounts::new();
        let held: Vec<Balance> = (0..10).map(|n| accounts.of(&account(n))).collect();
        (10..10 * FEWEST).for_each(|n| drop(accounts.of(&account(n))));
        assert!(accounts.principals.len() <= FEWEST, "{}", accounts.principals.len());
        for (n, balance) in held.iter().enumerate() {
            assert!(accounts.of(&account(n)).is(balance), "{n}");
        }
        let held: Vec<Balance> = (0..4 * FEWEST).map(|n| accounts.of(&account(n))).collect();
        assert!(accounts.principals.len() >= held.len(), "as many as are held");
    }

    #[test]
    fn accounts_are_looked_through_when_there_are_many_and_not_for_each_that_comes() {
        let account = |n: usize| Principal::new(&alloc::format!("p{n}")).expect("a name").account();
        let mut accounts = Accounts::new();
        (0..FEWEST).for_each(|n| drop(accounts.of(&account(n))));
        assert_eq!(accounts.principals.len(), FEWEST);
        drop(accounts.of(&account(FEWEST)));
        assert_eq!(accounts.principals.len(), 1, "nobody held the others");
    }

    #[test]
    fn whose_connections_are_not_read_any_more_is_said_once_until_they_are() {
        let mut limits = Limits::default();
        limits.connection.waiting_bytes = 1000;
        let mut accounts = Accounts::new();
        let balance = accounts.of(&Principal::new("p").expect("a name").account());
        let mut charge = balance.charge(HeldFor::Frames, 0);
        let changed = [249, 250, 300, 125, 124, 249, 250].map(|bytes| {
            charge.set(bytes);
            accounts.bound(&limits, &balance).len()
        });
        assert_eq!((changed, accounts.full.len()), ([0, 1, 0, 0, 1, 0, 1], 1));
        let runtime = accounts.runtime().clone();
        assert!(accounts.bound(&limits, &runtime).is_empty(), "what the runtime does itself stops nobody");
    }

    #[test]
    fn a_charge_that_moves_is_held_by_its_new_owner_alone() {
        let mut accounts = Accounts::new();
        let [from, to] = ["p", "q"].map(|name| accounts.of(&Principal::new(name).expect("a name").account()));
        let mut charge = from.charge(HeldFor::Jobs, 7);
        charge.move_to(&to);
        let held = [&from, &to, accounts.runtime()].map(|balance| balance.bytes(HeldFor::Jobs));
        assert_eq!((held, charge.balance().is(&to)), ([0, 7, 7], true));
        drop(charge);
        assert_eq!([&to, accounts.runtime()].map(|balance| balance.bytes(HeldFor::Jobs)), [0, 0]);
    }

    #[test]
    fn who_holds_nothing_has_not_reached_a_share_of_nothing() {
        let reached = |own, part| Holding { own, all: own, total: 400 }.is_reached(25, part);
        assert_eq!([0, 49, 50, 99, 100].map(|own| reached(own, 1)), [false, false, false, false, true]);
        assert_eq!([0, 49, 50, 99, 100].map(|own| reached(own, 2)), [false, false, true, true, true]);
        assert!(!Holding { own: 0, all: 400, total: 400 }.is_reached(25, 2), "half of one byte is none");
    }

    #[test]
    fn a_principal_is_flooded_beyond_many_times_its_share_once_it_is_not_read() {
        let mut limits = Limits::default();
        limits.connection.waiting_bytes = 1000;
        let mut accounts = Accounts::new();
        let balance = accounts.of(&Principal::new("p").expect("a name").account());
        let mut charge = balance.charge(HeldFor::Frames, 0);
        let mut is_flooded = |bytes: usize| {
            charge.set(bytes);
            let before = accounts.is_flooded(&limits, &balance);
            accounts.bound(&limits, &balance);
            (before, accounts.is_flooded(&limits, &balance))
        };
        let most = 250 * FLOOD_FACTOR;
        assert_eq!(is_flooded(most), (false, false));
        assert_eq!(is_flooded(most + 1), (true, true));
        assert_eq!(is_flooded(2 * most), (true, true));
        assert_eq!((is_flooded(0), is_flooded(2 * most)), ((false, false), (false, true)), "it was read meanwhile");
    }

    #[test]
    fn a_charge_is_for_what_it_was_made_for_until_it_turns_into_something_else() {
        let accounts = Accounts::new();
        let mut charge = accounts.runtime().charge(HeldFor::Jobs, 7);
        let is_for = |charge: &Charge| [HeldFor::Jobs, HeldFor::EndedJobs].map(|held_for| charge.is_for(held_for));
        assert_eq!(is_for(&charge), [true, false]);
        charge.turn_into(HeldFor::EndedJobs);
        assert_eq!((is_for(&charge), charge.bytes()), ([false, true], 7));
    }

    #[test]
    fn what_is_counted_and_not_there_or_there_and_not_counted_is_found_with_its_owner() {
        let account = |name| Principal::new(name).expect("a name").account();
        let mut accounts = Accounts::new();
        let (p, q) = (accounts.of(&account("p")), accounts.of(&account("q")));
        let session = p.below();
        let _held = session.charge(HeldFor::Jobs, 5);
        let recounted = |there: &[(&Balance, HeldFor, usize)]| {
            let mut recount = Recount::new(&accounts);
            recount.know("its session", &session);
            there.iter().for_each(|(balance, held_for, bytes)| recount.add(balance, *held_for, *bytes));
            recount.miscounts()
        };
        assert_eq!(recounted(&[(&session, HeldFor::Jobs, 5)]), []);
        assert_eq!(recounted(&[(&session, HeldFor::Jobs, 2), (&session, HeldFor::Jobs, 3)]), []);
        let owners = |there: &[(&Balance, HeldFor, usize)]| {
            let mut found: Vec<(String, HeldFor, usize, usize)> =
                recounted(there).into_iter().map(|m| (m.owner, m.held_for, m.counted, m.there)).collect();
            found.sort();
            found
        };
        let whose = |balance: &Balance| {
            let name = if balance.is(&p) { "p" } else { "q" };
            alloc::format!("{:?}", account(name))
        };
        let mut lost = alloc::vec![
            ("its session".to_string(), HeldFor::Jobs, 5, 4),
            ("the runtime".to_string(), HeldFor::Jobs, 5, 4),
            (whose(&p), HeldFor::Jobs, 5, 4),
        ];
        lost.sort();
        assert_eq!(owners(&[(&session, HeldFor::Jobs, 4)]), lost);
        let mut uncounted =
            alloc::vec![("the runtime".to_string(), HeldFor::Keys, 0, 1), (whose(&q), HeldFor::Keys, 0, 1),];
        uncounted.sort();
        assert_eq!(owners(&[(&session, HeldFor::Jobs, 5), (&q, HeldFor::Keys, 1)]), uncounted);
        let stranger = Balance::new(None, false);
        assert_eq!(
            owners(&[(&session, HeldFor::Jobs, 5), (&stranger, HeldFor::Keys, 2)]),
            [("somebody".to_string(), HeldFor::Keys, 0, 2)]
        );
        let mut recount = Recount::new(&accounts);
        recount.add(&session, HeldFor::Jobs, 5);
        recount.add_for(&account("nobody"), HeldFor::Keys, 3);
        let gone = recount.miscounts();
        assert_eq!((gone.len(), gone[0].held_for, gone[0].counted, gone[0].there), (1, HeldFor::Keys, 0, 3));
    }

    #[test]
    fn a_refusal_names_the_bound_and_how_much_of_it_there_is() {
        let admit = |own, all| {
            let holding = Holding { own, all, total: 40 };
            holding.admit(4, 25, BoundOf::Principal, "jobs", "jobs").map_err(|violation| violation.details)
        };
        assert!(admit(0, 35).is_ok() && admit(6, 6).is_ok());
        let share = admit(7, 7).expect_err("a quarter of 40 is 10");
        let all = admit(0, 37).expect_err("3 are free");
        let shown = [share, all].map(|details| details.map(|details| details.as_str().to_string()).unwrap_or_default());
        assert!(shown[0].contains(r#""of":"principal","limit":10,"#), "{shown:?}");
        assert!(shown[1].contains(r#""of":"runtime","limit":40,"#), "{shown:?}");
    }
}
