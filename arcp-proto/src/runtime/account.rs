//! What is held for whom, in bytes: one account for each owner.
//!
//! ```text
//! runtime ◀── principal ◀── session, connection
//! ```
//!
//! What is charged to one account is charged to those above it. Whatever is held
//! has its [`Charge`] with it, and gives it back when it goes: none is forgotten,
//! whoever drops it. `recount` counts once more what is there.
//!
//! Principals without a credential share the account of their network.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::proofs::Proofs;
use crate::error::{BoundOf, Violation};
use crate::limits::Limits;
use crate::principal::Account;

/// Accounts of principals that are looked through for some that nobody holds.
const FEWEST: usize = 64;
/// Whoever goes on at so many times its share is closed.
const FLOOD_FACTOR: usize = 2;

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HeldFor {
    /// Records that are not durable, by the peer that caused them.
    Records,
    /// Answers that their connection was not sent.
    Answers,
    /// Frames that wait until an input is checked.
    Frames,
    /// Messages of extensions that a host has not taken.
    Extensions,
    /// Commands that were executed, by message id.
    Commands,
    /// Filters of subscriptions.
    Filters,
    /// Payloads written for several sessions.
    Payloads,
    /// Events read back from the store.
    ReadBack,
    /// Inputs of jobs that have not started.
    Inputs,
    /// Jobs that are not over: what was asked for, what they may spend, what they
    /// ask people, and what each of their events was.
    Jobs,
    /// The same of jobs that are over and whose agents are gone.
    EndedJobs,
    /// Events held in memory.
    Events,
    /// What agents are to go on from that an earlier run of the runtime started.
    Checkpoints,
    /// Idempotency keys.
    Keys,
    /// Which frame of which event stands behind each number of a session, and
    /// frames of no event.
    Numbers,
    /// Jobs that sessions watch and own, and the requests by which they came to them.
    Watches,
    /// Where the entries of the audit trail stand, and refusals that are counted.
    Audit,
    /// Credentials of jobs, and what is to be done about them.
    Credentials,
    /// What is known of artifacts; their bytes are the host's.
    Artifacts,
    /// Schedules: what they submit, and when.
    Schedules,
    /// Workflows that go on: their graphs, and what their steps have come to.
    Workflows,
}

impl HeldFor {
    /// All of them.
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

    /// Those that go once somebody outside has read or taken them.
    const WAITING: [HeldFor; 3] = [HeldFor::Answers, HeldFor::Frames, HeldFor::Extensions];
}

/// What one owner holds. A clone is the same account.
#[derive(Clone, Debug)]
pub(super) struct Balance(Arc<Sums>);

/// Bytes by what they are held for.
type Bytes = [usize; HeldFor::ALL.len()];

#[derive(Debug, Default)]
struct Sums {
    above: Option<Balance>,
    bytes: [AtomicUsize; HeldFor::ALL.len()],
    /// Whether it is a network's.
    anonymous: bool,
    /// Whether none of its connections is read.
    full: AtomicBool,
}

/// Bytes that are held. They are given back when it is dropped.
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
    /// At so many principals those are let go that hold nothing.
    most: usize,
    /// Those of which no connection is read.
    full: Vec<Balance>,
    /// What was proved for whom.
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

    /// The account of the principal that it is of. That of a connection without a
    /// session stands for itself.
    pub(super) fn principal(&self) -> &Balance {
        self.0.above.as_ref().filter(|above| above.0.above.is_some()).unwrap_or(self)
    }

    /// Whether both are the same one.
    pub(super) fn is(&self, other: &Balance) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Holds bytes.
    pub(super) fn charge(&self, held_for: HeldFor, bytes: usize) -> Charge {
        let mut charge = Charge { balance: self.clone(), held_for, bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// Bytes that are held for something.
    pub(super) fn bytes(&self, held_for: HeldFor) -> usize {
        self.0.bytes[held_for as usize].load(Relaxed)
    }

    /// Bytes that wait for somebody outside.
    pub(super) fn waiting(&self) -> usize {
        HeldFor::WAITING.into_iter().map(|held_for| self.bytes(held_for)).sum()
    }

    fn upwards(&self) -> impl Iterator<Item = &Balance> {
        core::iter::successors(Some(self), |balance| balance.0.above.as_ref())
    }

    /// Whether nothing is read that is said for it.
    pub(super) fn is_full(&self) -> bool {
        self.upwards().any(|balance| balance.0.full.load(Relaxed))
    }
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whose it is.
    pub(super) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Whether it is held for that.
    pub(super) fn is_for(&self, held_for: HeldFor) -> bool {
        self.held_for == held_for
    }

    /// What is held has so many bytes now.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        // Whoever changes a charge has the runtime to itself.
        for balance in self.balance.upwards() {
            let held = &balance.0.bytes[self.held_for as usize];
            held.store(held.load(Relaxed) + bytes - self.bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// So much more is held.
    pub(super) fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    /// It is held for something else now.
    pub(super) fn turn_into(&mut self, held_for: HeldFor) {
        if self.held_for != held_for {
            *self = self.balance.charge(held_for, self.bytes);
        }
    }

    /// It is held for another owner now.
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

    /// The account of the runtime: all that is held.
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

    /// Bytes that an account holds for something.
    pub(super) fn bytes(&self, account: &Account, held_for: HeldFor) -> usize {
        self.principals.get(account).map_or(0, |balance| balance.bytes(held_for))
    }

    /// How much of a total an account holds.
    pub(super) fn held(&self, account: &Account, held_for: HeldFor, limits: &Limits, total: usize) -> Holding {
        let own = self.bytes(account, held_for);
        Holding { own, all: self.runtime.bytes(held_for), total: limits.total_for(account, total) }
    }

    /// After an input that this account caused: gives those of which no connection
    /// is read from now on, or is again.
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
        // It goes on once half of what stopped it is gone.
        let (full, read): (Vec<Balance>, Vec<Balance>) =
            core::mem::take(&mut self.full).into_iter().partition(|balance| self.is_beyond(limits, balance, 2));
        self.full = full;
        for balance in read {
            balance.0.full.store(false, Relaxed);
            changed.push(balance);
        }
        changed
    }

    /// Whether a principal's account holds its share, or a part of it, of what
    /// waits or of what is not durable.
    fn is_beyond(&self, limits: &Limits, balance: &Balance, part: usize) -> bool {
        let percent = limits.job.principal_share;
        let records = |balance: &Balance| balance.bytes(HeldFor::Records);
        let (waiting, undurable) = (limits.connection.waiting_bytes, limits.history.undurable_bytes);
        self.share(limits, balance, waiting, Balance::waiting).is_reached(percent, part)
            || self.share(limits, balance, undurable, records).is_reached(percent, part)
    }

    /// Whether so much waits for an account, none of whose connections is read,
    /// that whoever sends on is closed.
    pub(super) fn is_flooded(&self, limits: &Limits, balance: &Balance) -> bool {
        if !balance.0.full.load(Relaxed) {
            return false;
        }
        let waiting = self.share(limits, balance, limits.connection.waiting_bytes, Balance::waiting);
        waiting.own > waiting.share(limits.job.principal_share).saturating_mul(FLOOD_FACTOR)
    }

    /// How much of a total whoever an account is of holds.
    pub(super) fn held_by(&self, balance: &Balance, held_for: HeldFor, limits: &Limits, total: usize) -> Holding {
        self.share(limits, balance.principal(), total, |balance| balance.bytes(held_for))
    }

    /// Whether whoever an account is of holds more of a total than its share, or
    /// everybody holds more than all of it.
    pub(super) fn is_beyond_share(&self, limits: &Limits, balance: &Balance, held_for: HeldFor, total: usize) -> bool {
        let held = self.held_by(balance, held_for, limits, total);
        held.all > held.total || held.own > held.share(limits.job.principal_share)
    }

    fn share(&self, limits: &Limits, balance: &Balance, total: usize, of: impl Fn(&Balance) -> usize) -> Holding {
        let total = if balance.0.anonymous { limits.without_reserve(total) } else { total };
        Holding { own: of(balance), all: of(&self.runtime), total }
    }
}

/// What is there, counted once more for each account.
#[derive(Debug)]
pub(super) struct Recount<'a> {
    accounts: &'a Accounts,
    /// By the address of what an account has counted.
    there: BTreeMap<usize, (String, Balance, Bytes)>,
    lost: Vec<Miscount>,
}

/// An account of which something else is counted than is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// Whose it is.
    pub owner: String,
    /// What is held.
    pub held_for: HeldFor,
    /// Bytes that are counted.
    pub counted: usize,
    /// Bytes that are there.
    pub there: usize,
}

impl<'a> Recount<'a> {
    /// Nothing is counted yet; all accounts are known but those of sessions and
    /// connections.
    pub(super) fn new(accounts: &'a Accounts) -> Recount<'a> {
        let mut recount = Recount { accounts, there: BTreeMap::new(), lost: Vec::new() };
        recount.know("the runtime", &accounts.runtime);
        for (account, balance) in &accounts.principals {
            recount.know(&alloc::format!("{account:?}"), balance);
        }
        recount
    }

    /// There is an account, which perhaps holds nothing.
    pub(super) fn know(&mut self, owner: &str, balance: &Balance) {
        let known = || (owner.to_string(), balance.clone(), Bytes::default());
        self.there.entry(Arc::as_ptr(&balance.0).addr()).or_insert_with(known);
    }

    /// So much is there that is held for an account, and for those above it.
    pub(super) fn add(&mut self, balance: &Balance, held_for: HeldFor, bytes: usize) {
        for balance in balance.upwards() {
            self.know("somebody", balance);
            if let Some((_, _, there)) = self.there.get_mut(&Arc::as_ptr(&balance.0).addr()) {
                there[held_for as usize] += bytes;
            }
        }
    }

    /// As [`add`](Self::add), for a principal, or for a network.
    pub(super) fn add_for(&mut self, account: &Account, held_for: HeldFor, bytes: usize) {
        match self.accounts.principals.get(account) {
            Some(balance) => self.add(balance, held_for, bytes),
            None => {
                let owner = alloc::format!("{account:?}");
                self.lost.push(Miscount { owner, held_for, counted: 0, there: bytes });
            }
        }
    }

    /// The accounts that have counted something else.
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

/// How much there is of something, and who holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// What the principal holds.
    pub(super) own: usize,
    /// What everybody holds, the principal included.
    pub(super) all: usize,
    /// What there is.
    pub(super) total: usize,
}

/// What somebody would go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Its share of it.
    Share,
    /// All there is.
    All,
}

impl Holding {
    /// What the principal may hold altogether.
    pub(super) fn share(self, percent: u32) -> usize {
        let left = self.total.saturating_sub(self.all - self.own) as u64;
        usize::try_from(left * u64::from(percent) / 100).unwrap_or(usize::MAX).max(1)
    }

    /// Whether the principal holds something, and its share or a part of that.
    fn is_reached(self, percent: u32, part: usize) -> bool {
        self.own > 0 && self.own >= self.share(percent) / part
    }

    /// Whether the principal may have so much more.
    ///
    /// # Errors
    ///
    /// What is reached.
    pub(super) fn check(self, more: usize, percent: u32) -> Result<(), Beyond> {
        let free = self.total.saturating_sub(self.all);
        if more > free {
            return Err(Beyond::All);
        }
        let beyond = self.own.saturating_add(more) > self.share(percent) || more == free;
        if percent < 100 && self.own > 0 && beyond { Err(Beyond::Share) } else { Ok(()) }
    }

    /// As [`check`](Self::check), as a refusal that names the bound; `own` is
    /// whose the share is.
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
