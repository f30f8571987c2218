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

use alloc::collections::{BTreeMap, VecDeque};

use super::Sessions;
use crate::error::Violation;
use crate::id::{JobId, Principal, SessionId, SubscriptionId, WireId};
use crate::principal::Account;

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
    /// It was done: the command says the rest.
    Done,
    /// It was not done.
    Refused(Violation),
}

/// The latest commands, within a bound.
#[derive(Debug)]
pub(in crate::runtime) struct Seen<Id> {
    executed: BTreeMap<Id, Executed>,
    order: VecDeque<Id>,
}

/// Commands of principals whose message ids hold across sessions.
pub(in crate::runtime) type SeenOfPrincipals = BTreeMap<Account, Seen<(Principal, WireId)>>;

impl<Id: Ord + Clone> Seen<Id> {
    fn put(&mut self, id: Id, executed: Executed, bound: usize) {
        if self.executed.insert(id.clone(), executed).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > bound {
            if let Some(oldest) = self.order.pop_front() {
                self.executed.remove(&oldest);
            }
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Id) -> bool) {
        self.executed.retain(|id, _| keeps(id));
        self.order.retain(|id| keeps(id));
    }

    /// All of them, by id.
    pub(in crate::runtime) fn all(&self) -> impl Iterator<Item = (&Id, &Executed)> {
        self.executed.iter()
    }
}

impl<Id> Default for Seen<Id> {
    fn default() -> Seen<Id> {
        Seen { executed: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl Sessions {
    /// What came of a command of a session, if its id was seen.
    pub(in crate::runtime) fn seen(&self, id: SessionId, message: &WireId) -> Option<&Executed> {
        let session = self.get(id)?;
        if session.view.ids_are_of_principal() {
            let of_account = self.seen.get(&session.principal.account())?;
            of_account.executed.get(&(session.principal.clone(), message.clone()))
        } else {
            session.seen.executed.get(message)
        }
    }

    /// Remembers what came of a command of a session.
    pub(in crate::runtime) fn remember(&mut self, id: SessionId, message: WireId, executed: Executed, bound: usize) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        if session.view.ids_are_of_principal() {
            let principal = session.principal.clone();
            self.remember_of(principal, message, executed, bound);
        } else {
            session.seen.put(message, executed, bound);
        }
    }

    /// As [`remember`](Self::remember), of a principal whose message ids hold
    /// across sessions.
    pub(in crate::runtime) fn remember_of(
        &mut self,
        principal: Principal,
        message: WireId,
        executed: Executed,
        bound: usize,
    ) {
        self.seen.entry(principal.account()).or_default().put((principal, message), executed, bound);
    }

    /// Lets go of the commands of principals of whom nothing else is there.
    pub(in crate::runtime) fn forget_seen(&mut self, has_jobs: impl Fn(&Principal) -> bool) {
        let per_principal = &self.per_principal;
        self.seen.retain(|_, seen| {
            seen.retain(|(principal, _)| per_principal.contains_key(principal) || has_jobs(principal));
            !seen.order.is_empty()
        });
    }

    /// As [`forget_seen`](Self::forget_seen), of one principal.
    pub(in crate::runtime) fn forget_seen_of(&mut self, principal: &Principal, has_jobs: bool) {
        if has_jobs || self.per_principal.contains_key(principal) {
            return;
        }
        let account = principal.account();
        if let Some(seen) = self.seen.get_mut(&account) {
            seen.retain(|(whose, _)| whose != principal);
            if seen.order.is_empty() {
                self.seen.remove(&account);
            }
        }
    }

    /// All of principals whose message ids hold across sessions.
    pub(in crate::runtime) fn seen_of_principals(&self) -> impl Iterator<Item = (&(Principal, WireId), &Executed)> {
        self.seen.values().flat_map(Seen::all)
    }
}
