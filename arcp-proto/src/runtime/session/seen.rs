//! Commands that were answered, by message id: one that comes again is answered
//! again and not executed.
//!
//! Where message ids are the session's they are known again in it, else in all
//! sessions of its principal. Principals that nobody vouches for share what is
//! remembered for their network, and know only their own.

use alloc::collections::{BTreeMap, VecDeque};

use super::Sessions;
use crate::id::{Principal, SessionId, WireId};
use crate::model::reply::Reply;
use crate::principal::Account;

/// What makes another message of the id the same, and the answer, if it has one.
pub(in crate::runtime) type Answered = ([u8; 32], Option<Reply>);

/// The latest commands, within a bound.
#[derive(Debug)]
pub(in crate::runtime) struct Seen<Id> {
    answers: BTreeMap<Id, Answered>,
    order: VecDeque<Id>,
}

/// Commands of principals whose message ids hold across sessions.
pub(in crate::runtime) type SeenOfPrincipals = BTreeMap<Account, Seen<(Principal, WireId)>>;

impl<Id: Ord + Clone> Seen<Id> {
    fn put(&mut self, id: Id, answered: Answered, bound: usize) {
        if self.answers.insert(id.clone(), answered).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > bound {
            if let Some(oldest) = self.order.pop_front() {
                self.answers.remove(&oldest);
            }
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Id) -> bool) {
        self.answers.retain(|id, _| keeps(id));
        self.order.retain(|id| keeps(id));
    }

    /// All that had an answer, by id.
    pub(in crate::runtime) fn answered(&self) -> impl Iterator<Item = (&Id, &[u8; 32], &Reply)> {
        self.answers.iter().filter_map(|(id, (command, answer))| Some((id, command, answer.as_ref()?)))
    }
}

impl<Id> Default for Seen<Id> {
    fn default() -> Seen<Id> {
        Seen { answers: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl Sessions {
    /// What came of a command of a session, if its id was seen.
    pub(in crate::runtime) fn seen(&self, id: SessionId, message: &WireId) -> Option<&Answered> {
        let session = self.get(id)?;
        if session.view.ids_are_of_principal() {
            let of_account = self.seen.get(&session.principal.account())?;
            of_account.answers.get(&(session.principal.clone(), message.clone()))
        } else {
            session.seen.answers.get(message)
        }
    }

    /// Remembers what came of a command of a session.
    pub(in crate::runtime) fn remember(&mut self, id: SessionId, message: WireId, answered: Answered, bound: usize) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        if session.view.ids_are_of_principal() {
            let principal = session.principal.clone();
            self.remember_of(principal, message, answered, bound);
        } else {
            session.seen.put(message, answered, bound);
        }
    }

    /// As [`remember`](Self::remember), of a principal whose message ids hold
    /// across sessions.
    pub(in crate::runtime) fn remember_of(
        &mut self,
        principal: Principal,
        message: WireId,
        answered: Answered,
        bound: usize,
    ) {
        self.seen.entry(principal.account()).or_default().put((principal, message), answered, bound);
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

    /// All that had an answer, of principals whose message ids hold across
    /// sessions.
    pub(in crate::runtime) fn seen_of_principals(
        &self,
    ) -> impl Iterator<Item = (&(Principal, WireId), &[u8; 32], &Reply)> {
        self.seen.values().flat_map(Seen::answered)
    }
}
