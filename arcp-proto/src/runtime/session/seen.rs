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
use alloc::sync::Arc;

use super::Sessions;
use crate::error::Violation;
use crate::id::{JobId, Principal, SessionId, SubscriptionId, WireId};
use crate::limits::SessionLimits;
use crate::principal::Account;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::context::Context;

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

/// The latest commands, within a bound.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Seen {
    executed: BTreeMap<Arc<Id>, (Executed, Charge)>,
    order: VecDeque<Arc<Id>>,
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

impl Seen {
    fn get(&self, id: &Id) -> Option<&Executed> {
        self.executed.get(id).map(|(executed, _)| executed)
    }

    /// Remembers a command; those before it are forgotten as the bounds say.
    fn put(&mut self, limits: &SessionLimits, account: &Balance, id: Id, executed: Executed) {
        let charge = account.charge(HeldFor::Commands, weight(&id, &executed));
        let id = Arc::new(id);
        if self.executed.insert(id.clone(), (executed, charge)).is_none() {
            self.order.push_back(id);
        }
        let bytes = || account.principal().bytes(HeldFor::Commands);
        while self.order.len() > limits.seen_ids_per_session
            || self.order.len() > 1 && bytes() > limits.seen_bytes_per_principal
        {
            if let Some(oldest) = self.order.pop_front() {
                self.executed.remove(&oldest);
            }
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Id) -> bool) {
        self.executed.retain(|id, _| keeps(id));
        self.order.retain(|id| keeps(id));
    }

    /// All of them: whose, the id, and what it came to.
    pub(in crate::runtime) fn all(&self) -> impl Iterator<Item = (&Principal, &WireId, &Executed)> {
        self.executed.iter().map(|(id, (executed, _))| (&id.1, &id.0, executed))
    }

    /// Bytes of all of them, counted once more.
    pub(super) fn recount(&self) -> usize {
        self.executed.iter().map(|(id, (executed, _))| weight(id, executed)).sum()
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
        seen.get(&(message.clone(), session.principal.clone()))
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
            seen.retain(|(_, whose)| whose != principal);
            if seen.order.is_empty() {
                self.seen.remove(&account);
            }
        }
    }

    /// All of principals whose message ids hold across sessions.
    pub(in crate::runtime) fn seen_of_principals(&self) -> impl Iterator<Item = (&Principal, &WireId, &Executed)> {
        self.seen.values().flat_map(Seen::all)
    }
}
