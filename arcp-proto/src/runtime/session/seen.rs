//! Executed commands, by message id: a repeated message is answered again, and not executed.
//!
//! What is remembered is the outcome of a command, not a copy of its answer. The answer is written anew, with the
//! present status of the job. If that is no longer held, the client is told so.
//!
//! If message ids are the session's own, a command is recognised in that session only; otherwise in all sessions
//! of its principal. Anonymous principals share the memory of their network, but each recognises only its own
//! commands.

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

/// The digest that a repeated message must match, and the outcome of the first one.
pub(in crate::runtime) type Executed = ([u8; 32], Outcome);

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Outcome {
    /// The job that was accepted, or that the key already named.
    Accepted(JobId),
    /// The job that is watched: its events follow after `from`; `replayed` says whether earlier ones are among them.
    Watching { job: JobId, from: u64, replayed: bool },
    /// The subscription.
    Subscribed(SubscriptionId),
    /// The artifact.
    Kept(WireId),
    /// The schedule.
    Scheduled(WireId),
    /// It was done. The command itself says the rest.
    Done,
    /// It was refused.
    Refused(Violation),
}

/// The id of a message, and the principal that sent it. The id alone usually differs.
type Id = (WireId, Principal);

/// Bytes of a command besides its id and its refusal, rounded up.
const ENTRY: usize = 384;

/// The latest commands, in the order in which they came.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Seen {
    commands: VecDeque<Command>,
    /// How many older ones are forgotten.
    gone: u64,
    /// Numbers of commands by the hash of their message ids. Comparing the ids themselves would scatter memory
    /// accesses.
    by_sum: BTreeMap<u64, Few<u64>>,
}

/// An executed command, in case its message is repeated.
#[derive(Debug)]
struct Command {
    id: Id,
    executed: (Executed, Charge),
}

/// Commands of principals whose message ids hold across sessions.
pub(in crate::runtime) type SeenOfPrincipals = BTreeMap<Account, Seen>;

/// Approximate bytes of a command.
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

/// The hash of a message id (FNV-1a). Equal hashes are resolved by comparing the ids.
fn sum(message: &WireId) -> u64 {
    let mix = |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    message.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl Seen {
    fn get(&self, message: &WireId, principal: &Principal) -> Option<&Executed> {
        self.commands.get(self.place(message, principal)?).map(|seen| &seen.executed.0)
    }

    /// Index of a command.
    fn place(&self, message: &WireId, principal: &Principal) -> Option<usize> {
        let mut alike = self.by_sum.get(&sum(message))?.iter().map(|n| (n - self.gone) as usize);
        alike.find(|place| {
            self.commands.get(*place).is_some_and(|seen| (&seen.id.0, &seen.id.1) == (message, principal))
        })
    }

    /// Remembers a command, and forgets the oldest ones beyond the bounds.
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

    /// All commands: principal, message id and outcome.
    pub(in crate::runtime) fn all(&self) -> impl Iterator<Item = (&Principal, &WireId, &Executed)> {
        self.commands.iter().map(|seen| (&seen.id.1, &seen.id.0, &seen.executed.0))
    }

    /// Bytes of all commands, counted anew.
    pub(super) fn recount(&self) -> usize {
        self.commands.iter().map(|seen| weight(&seen.id, &seen.executed.0)).sum()
    }
}

impl Sessions {
    /// The outcome of a command of a session, if its message id was seen.
    pub(in crate::runtime) fn seen(&self, id: SessionId, message: &WireId) -> Option<&Executed> {
        let session = self.get(id)?;
        let seen = match session.view.ids_are_of_principal() {
            true => self.seen.get(&session.principal.account())?,
            false => &session.seen,
        };
        seen.get(message, &session.principal)
    }

    /// Remembers the outcome of a command of a session.
    pub(in crate::runtime) fn remember(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        message: WireId,
        executed: Executed,
    ) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return; // The session has ended; an untidied store may still have this record.
        };
        let principal = session.principal.clone();
        if session.view.ids_are_of_principal() {
            self.remember_of(ctx, principal, message, executed);
        } else {
            session.seen.put(&ctx.config.limits.session, &session.account, (message, principal), executed);
        }
    }

    /// Like [`remember`](Self::remember), for a principal whose message ids hold across sessions.
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

    /// Forgets the commands of principals that have neither sessions nor jobs.
    pub(in crate::runtime) fn forget_seen(&mut self, has_jobs: impl Fn(&Principal) -> bool) {
        let per_principal = &self.per_principal;
        self.seen.retain(|_, seen| {
            seen.retain(|(_, principal)| per_principal.contains_key(principal) || has_jobs(principal));
            !seen.commands.is_empty()
        });
    }

    /// Like [`forget_seen`](Self::forget_seen), for one principal.
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

    /// All commands of principals whose message ids hold across sessions.
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

    /// The first two have the same hash, and so have the last two.
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
