//! Admission: how many sessions there may be, and which one ends when room is needed.
//!
//! A session counts against its principal's account; anonymous sessions share the account of their network. At a
//! bound, a session without a connection ends: the oldest that holds nothing for its client, or else the oldest
//! that its client has closed. If there is none, the new session is refused.

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

/// How many sessions each account has, and which of them end first.
#[derive(Debug, Default)]
pub(super) struct Admission {
    all: usize,
    anonymous: usize,
    accounts: BTreeMap<Account, Share>,
    /// Idle sessions of all anonymous accounts.
    idle_anonymous: BTreeSet<(Idle, SessionId)>,
}

/// The sessions of one account.
#[derive(Debug, Default)]
struct Share {
    count: usize,
    /// How many have a connection.
    attached: usize,
    idle: BTreeSet<(Idle, SessionId)>,
}

/// A session without a connection that may end when room is needed. The order is that in which they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Idle {
    /// Whether it still holds something for its client, which has closed it.
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

    /// A session has got or lost its connection.
    pub(super) fn attached(&mut self, principal: &Principal, attached: bool) {
        if let Some(sessions) = self.accounts.get_mut(&principal.account()) {
            sessions.attached = if attached { sessions.attached + 1 } else { sessions.attached.saturating_sub(1) };
        }
    }

    /// Whether a client of this account has a session that it can resume.
    pub(super) fn has_detached(&self, principal: &Principal) -> bool {
        self.accounts.get(&principal.account()).is_some_and(|sessions| sessions.count > sessions.attached)
    }

    /// This session may end when room is needed.
    pub(super) fn idle(&mut self, principal: &Principal, idle: (Idle, SessionId)) {
        let account = principal.account();
        if account.is_anonymous() {
            self.idle_anonymous.insert(idle);
        }
        self.accounts.entry(account).or_default().idle.insert(idle);
    }

    /// The client of this session is back, or the session is over.
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

    /// The bound that refuses an account one more session, and the session that can end to make room. `quota`: how
    /// many sessions policy allows the account.
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
    /// The bound that is reached, if no session can end.
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

    /// Notes that a session without a connection may end when room is needed: its client would find nothing new in it
    /// (`has_nothing`), or has closed it.
    pub(in crate::runtime) fn note_idle(&mut self, ctx: &Context, id: SessionId, has_nothing: bool) {
        if let Some(session) = self.by_id.get_mut(&id).filter(|session| has_nothing || session.left) {
            let idle = Idle { has_something: !has_nothing, since: ctx.now.mono };
            session.idle = Some(idle);
            self.admission.idle(&session.principal, (idle, id));
        }
    }
}
