//! Admission: how many sessions there may be, and which one ends when another
//! one needs its place.
//!
//! A session counts for its principal's account; those without a credential
//! share the account of the network that they come from. At a bound a session
//! goes that has lost its connection: the oldest that has nothing left to give,
//! or else the oldest that its client left in order. If there is none, nobody
//! new comes in.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};

use super::Sessions;
use crate::error::{BoundOf, Violation};
use crate::id::{Principal, SessionId};
use crate::limits::Limits;
use crate::policy::{Roles, Subject};
use crate::principal::Account;
use crate::runtime::context::Context;
use crate::runtime::io::Notice;
use crate::runtime::job::Jobs;
use crate::time::Timestamp;

/// How many sessions each account has, and which of them nobody would miss.
#[derive(Debug, Default)]
pub(super) struct Admission {
    all: usize,
    anonymous: usize,
    accounts: BTreeMap<Account, Share>,
    /// Of all accounts of peers without a credential.
    idle_anonymous: BTreeSet<(Idle, SessionId)>,
}

/// The sessions of one account.
#[derive(Debug, Default)]
struct Share {
    count: usize,
    /// Those of them that have a connection.
    attached: usize,
    idle: BTreeSet<(Idle, SessionId)>,
}

/// A session without a connection that nobody would miss: in the order in which they
/// go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Idle {
    /// Whether it has something left to give, to whoever left it in order.
    has_something: bool,
    since: Timestamp,
}

impl Admission {
    pub(super) fn enter(&mut self, principal: &Principal) {
        self.all += 1;
        self.anonymous += usize::from(principal.is_anonymous());
        self.accounts.entry(principal.account()).or_default().count += 1;
    }

    pub(super) fn leave(&mut self, principal: &Principal) {
        self.all -= 1;
        self.anonymous -= usize::from(principal.is_anonymous());
        let account = principal.account();
        if let Some(sessions) = self.accounts.get_mut(&account) {
            sessions.count -= 1;
            if sessions.count == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    /// A session has a connection now, or has none any more.
    pub(super) fn attached(&mut self, principal: &Principal, attached: bool) {
        if let Some(sessions) = self.accounts.get_mut(&principal.account()) {
            sessions.attached = if attached { sessions.attached + 1 } else { sessions.attached.saturating_sub(1) };
        }
    }

    /// Whether there is a session that a client of this account can resume.
    pub(super) fn has_detached(&self, principal: &Principal) -> bool {
        self.accounts.get(&principal.account()).is_some_and(|sessions| sessions.count > sessions.attached)
    }

    /// Nobody would miss this session.
    pub(super) fn idle(&mut self, principal: &Principal, idle: (Idle, SessionId)) {
        let account = principal.account();
        if account.is_anonymous() {
            self.idle_anonymous.insert(idle);
        }
        self.accounts.entry(account).or_default().idle.insert(idle);
    }

    /// Its client is back, or it is over.
    pub(super) fn not_idle(&mut self, principal: &Principal, idle: (Idle, SessionId)) {
        self.idle_anonymous.remove(&idle);
        if let Some(sessions) = self.accounts.get_mut(&principal.account()) {
            sessions.idle.remove(&idle);
        }
    }

    /// How many sessions an account has.
    fn count_of(&self, account: &Account) -> usize {
        self.accounts.get(account).map_or(0, |sessions| sessions.count)
    }

    /// What keeps one more session of an account out, and the session that can
    /// make room for it. `quota`: how many policy lets it have.
    fn obstacle(
        &self,
        account: &Account,
        quota: Option<usize>,
        limits: &Limits,
    ) -> Option<(Violation, Option<SessionId>)> {
        let sessions = self.accounts.get(account);
        let own = self.count_of(account);
        let own_idle = sessions.and_then(|sessions| sessions.idle.first()).map(|(_, id)| *id);
        let idle_anonymous = self.idle_anonymous.first().map(|(_, id)| *id);
        let (most_own, most) = match account {
            Account::Known(_) => (limits.session.sessions_per_principal, limits.session.sessions),
            Account::Anonymous(_) => {
                (limits.session.anonymous_sessions_per_network, limits.without_reserve(limits.session.sessions))
            }
        };
        let full = |bound, of, most: usize, message| Violation::exhausted(bound, of, most as u64, message);
        if let Some(most) = quota.filter(|most| own >= *most) {
            let message = alloc::format!("you may have {most} sessions: resume one, close some, or let them expire");
            return Some((Violation::exhausted("policy_sessions", account.bound_of(), most as u64, message), own_idle));
        }
        if own >= most_own {
            let (bound, message) = match account {
                Account::Known(_) => {
                    ("sessions_per_principal", "you have too many sessions: resume one, close some, or let them expire")
                }
                Account::Anonymous(_) => (
                    "anonymous_sessions_per_network",
                    "too many sessions without a credential come from where you are: try again later",
                ),
            };
            return Some((full(bound, account.bound_of(), most_own, message), own_idle));
        }
        if account.is_anonymous() && self.anonymous >= limits.session.anonymous_sessions {
            let message = "too many sessions without a credential: try again later";
            let most = limits.session.anonymous_sessions;
            return Some((full("anonymous_sessions", BoundOf::Anonymous, most, message), idle_anonymous));
        }
        let message = "the runtime has too many sessions: try again later";
        (self.all >= most).then(|| (full("sessions", BoundOf::Runtime, most, message), own_idle.or(idle_anonymous)))
    }
}

impl Sessions {
    /// Makes room for one more session of a principal.
    ///
    /// # Errors
    ///
    /// If there is none, and whoever asks can do something about it or not.
    pub(super) fn admit(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        (principal, named): (&Principal, &Roles),
    ) -> Result<(), Violation> {
        let account = principal.account();
        let (mut quota, mut rule) = (None, String::new());
        if let Some(policy) = &ctx.config.authority.policy {
            let roles = policy.counting(principal, named);
            let said = policy.sessions(Subject { principal, roles: &roles });
            rule = said.map(|said| said.rule.to_string()).unwrap_or_default();
            quota = said.map(|said| said.most.get() as usize);
        }
        while let Some((full, idle)) = self.admission.obstacle(&account, quota, &ctx.config.limits) {
            let Some(idle) = idle else {
                if self.admission.count_of(&account) >= quota.unwrap_or(usize::MAX) {
                    let why = alloc::format!("a session more than rule `{rule}` lets it have");
                    ctx.observe(Notice::PolicyRefused { principal: principal.clone(), session: None, why });
                }
                return Err(full);
            };
            self.end(ctx, jobs, idle);
        }
        Ok(())
    }

    /// A session without a connection goes first when room is needed, if a
    /// client that came back to it would find nothing new, as `has_nothing` says, or
    /// left it in order.
    pub(in crate::runtime) fn note_idle(&mut self, ctx: &Context, id: SessionId, has_nothing: bool) {
        if let Some(session) = self.by_id.get_mut(&id).filter(|session| has_nothing || session.left) {
            let idle = Idle { has_something: !has_nothing, since: ctx.now.mono };
            session.idle = Some(idle);
            self.admission.idle(&session.principal, (idle, id));
        }
    }
}
