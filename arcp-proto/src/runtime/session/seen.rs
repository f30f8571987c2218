//! Commands that were executed, by message id: one that comes again is answered
//! again and not executed.
//!
//! What is remembered names what a command came to, and is no copy of its answer:
//! that is written anew, of a job as it stands then. Of one that is no longer held
//! its client is told so.
//!
//! Where message ids are the session's they are known again in it, else in all
//! sessions of its principal. Principals that nobody vouches for share what is
//! remembered for their network, and know only their own.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};

use super::Sessions;
use crate::error::Violation;
use crate::id::{JobId, Principal, SessionId, SubscriptionId, WireId};
use crate::limits::SessionLimits;
use crate::principal::Account;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::context::Context;
use crate::runtime::few::Few;

/// What makes another message of the id the same, and what came of the first one.
pub(in crate::runtime) type Executed = ([u8; 32], Outcome);

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Outcome {
    /// A job that was made, or that its key was claimed for.
    Accepted(JobId),
    /// A job that is watched: its events come after that number, and whether
    /// earlier ones are among them.
    Watching { job: JobId, from: u64, replayed: bool },
    /// A subscription.
    Subscribed(SubscriptionId),
    /// An artifact.
    Kept(WireId),
    /// A schedule.
    Scheduled(WireId),
    /// It was done: the command says the rest.
    Done,
    /// It was not done.
    Refused(Violation),
}

/// The id of a message, which mostly tells it apart, and whose it is.
type Id = (WireId, Principal);

/// What holding a command takes besides its id and why it was refused, generously.
const ENTRY: usize = 384;

/// The latest commands, within a bound, in the order in which they came.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Seen {
    commands: VecDeque<Command>,
    /// How many came before those.
    gone: u64,
    /// Which command it is, by what its id comes to, which tells almost all apart: ids
    /// themselves would be all over memory.
    by_sum: BTreeMap<u64, Few<u64>>,
}

/// A command that was executed, in case it comes again.
#[derive(Debug)]
struct Command {
    id: Id,
    executed: (Executed, Charge),
}

/// Commands of principals whose message ids hold across sessions.
pub(in crate::runtime) type SeenOfPrincipals = BTreeMap<Account, Seen>;

/// Bytes that a command takes, roughly.
fn weight((message, _): &Id, (_, outcome): &Executed) -> usize {
    let refused = match outcome {
        Outcome::Refused(Violation { message, details, .. }) => {
            let message = if let Cow::Owned(message) = message { message.len() } else { 0 };
            message + details.as_ref().map_or(0, |details| details.as_str().len())
        }
        Outcome::Kept(id) | Outcome::Scheduled(id) => id.as_str().len(),
        Outcome::Accepted(_) | Outcome::Watching { .. } | Outcome::Subscribed(_) | Outcome::Done => 0,
    };
    ENTRY + message.as_str().len() + refused
}

/// What the id of a message comes to (FNV-1a). Two that come to the same are told apart
/// by comparing them.
fn sum(message: &WireId) -> u64 {
    let mix = |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    message.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl Seen {
    fn get(&self, message: &WireId, principal: &Principal) -> Option<&Executed> {
        self.commands.get(self.place(message, principal)?).map(|seen| &seen.executed.0)
    }

    /// Where a command stands.
    fn place(&self, message: &WireId, principal: &Principal) -> Option<usize> {
        let mut alike = self.by_sum.get(&sum(message))?.iter().map(|n| (n - self.gone) as usize);
        alike.find(|place| {
            self.commands.get(*place).is_some_and(|seen| (&seen.id.0, &seen.id.1) == (message, principal))
        })
    }

    /// Remembers a command; those before it are forgotten as the bounds say.
    fn put(&mut self, limits: &SessionLimits, account: &Balance, id: Id, executed: Executed) {
        let charge = account.charge(HeldFor::Commands, weight(&id, &executed));
        match self.place(&id.0, &id.1) {
            Some(place) => self.commands[place] = Command { id, executed: (executed, charge) },
            None => {
                self.by_sum.entry(sum(&id.0)).or_default().insert(self.gone + self.commands.len() as u64);
                self.commands.push_back(Command { id, executed: (executed, charge) });
            }
        }
        let bytes = || account.principal().bytes(HeldFor::Commands);
        while self.commands.len() > limits.seen_ids_per_session
            || self.commands.len() > 1 && bytes() > limits.seen_bytes_per_principal
        {
            if let Some(oldest) = self.commands.pop_front() {
                let sum = sum(&oldest.id.0);
                if let Some(alike) = self.by_sum.get_mut(&sum)
                    && alike.remove(&self.gone)
                    && alike.is_empty()
                {
                    self.by_sum.remove(&sum);
                }
                self.gone += 1;
            }
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Id) -> bool) {
        self.commands.retain(|seen| keeps(&seen.id));
        self.by_sum.clear();
        for (seen, n) in self.commands.iter().zip(self.gone..) {
            self.by_sum.entry(sum(&seen.id.0)).or_default().insert(n);
        }
    }

    /// All of them: whose, the id, and what it came to.
    pub(in crate::runtime) fn all(&self) -> impl Iterator<Item = (&Principal, &WireId, &Executed)> {
        self.commands.iter().map(|seen| (&seen.id.1, &seen.id.0, &seen.executed.0))
    }

    /// Bytes of all of them, counted once more.
    pub(super) fn recount(&self) -> usize {
        self.commands.iter().map(|seen| weight(&seen.id, &seen.executed.0)).sum()
    }
}

impl Sessions {
    /// What came of a command of a session, if its id was seen.
    pub(in crate::runtime) fn seen(&self, id: SessionId, message: &WireId) -> Option<&Executed> {
        let session = self.get(id)?;
        let seen = match session.view.ids_are_of_principal() {
            true => self.seen.get(&session.principal.account())?,
            false => &session.seen,
        };
        seen.get(message, &session.principal)
    }

    /// Remembers what came of a command of a session.
    pub(in crate::runtime) fn remember(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        message: WireId,
        executed: Executed,
    ) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return; // It has ended, and the store is not tidied up.
        };
        let principal = session.principal.clone();
        if session.view.ids_are_of_principal() {
            self.remember_of(ctx, principal, message, executed);
        } else {
            session.seen.put(&ctx.config.limits.session, &session.account, (message, principal), executed);
        }
    }

    /// As [`remember`](Self::remember), of a principal whose message ids hold
    /// across sessions.
    pub(in crate::runtime) fn remember_of(
        &mut self,
        ctx: &mut Context,
        principal: Principal,
        message: WireId,
        executed: Executed,
    ) {
        let of = principal.account();
        let account = ctx.accounts.of(&of);
        self.seen.entry(of).or_default().put(&ctx.config.limits.session, &account, (message, principal), executed);
    }

    /// Lets go of the commands of principals of whom nothing else is there.
    pub(in crate::runtime) fn forget_seen(&mut self, has_jobs: impl Fn(&Principal) -> bool) {
        let per_principal = &self.per_principal;
        self.seen.retain(|_, seen| {
            seen.retain(|(_, principal)| per_principal.contains_key(principal) || has_jobs(principal));
            !seen.commands.is_empty()
        });
    }

    /// As [`forget_seen`](Self::forget_seen), of one principal.
    pub(in crate::runtime) fn forget_seen_of(&mut self, principal: &Principal, has_jobs: bool) {
        if has_jobs || self.per_principal.contains_key(principal) {
            return;
        }
        let account = principal.account();
        if let Some(seen) = self.seen.get_mut(&account) {
            seen.retain(|(_, whose)| whose != principal);
            if seen.commands.is_empty() {
                self.seen.remove(&account);
            }
        }
    }

    /// All of principals whose message ids hold across sessions.
    pub(in crate::runtime) fn seen_of_principals(&self) -> impl Iterator<Item = (&Principal, &WireId, &Executed)> {
        self.seen.values().flat_map(Seen::all)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::limits::Limits;
    use crate::runtime::account::Accounts;

    /// The first two come to the same, and so do the others.
    const ALIKE: [&str; 4] =
        ["8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ", "gMPflVXtwGDXbIhP73TX", "LtHf1prlU1bCeYZEdqWf"];

    #[test]
    fn a_command_is_known_by_its_id_and_whose_it_is_whatever_that_comes_to() {
        let ids: Vec<Id> = ["p", "q"]
            .into_iter()
            .flat_map(|whose| ALIKE.map(|id| (WireId::new(id).expect("an id"), Principal::new(whose).expect("a name"))))
            .collect();
        assert!(ids.chunks(2).all(|two| sum(&two[0].0) == sum(&two[1].0)));
        let mut limits = Limits::default().session;
        limits.seen_ids_per_session = 5;
        let (accounts, mut seen) = (Accounts::new(), Seen::default());
        let mut plain: VecDeque<(&Id, u8)> = VecDeque::new();
        let mut random = 1_u32;
        for step in 0..10_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (id, what) = (&ids[(random >> 16) as usize % ids.len()], (step & 0xff) as u8);
            if random >> 8 & 15 == 0 {
                seen.retain(|known| known != id);
                plain.retain(|(known, _)| *known != id);
            } else {
                seen.put(&limits, accounts.runtime(), id.clone(), ([what; 32], Outcome::Done));
                match plain.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, before)) => *before = what,
                    None => plain.push_back((id, what)),
                }
                plain.drain(..plain.len().saturating_sub(5));
            }
            let known = |(message, whose): &Id| seen.get(message, whose).map(|(command, _)| command[0]);
            assert!(
                ids.iter().all(|id| known(id) == plain.iter().find(|(known, _)| *known == id).map(|(_, what)| *what))
            );
            let numbers: usize = seen.by_sum.values().map(|alike| alike.iter().count()).sum();
            assert_eq!((numbers, accounts.runtime().bytes(HeldFor::Commands)), (plain.len(), seen.recount()));
        }
    }
}
