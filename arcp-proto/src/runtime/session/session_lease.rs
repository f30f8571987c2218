//! The lease of a session: the client has the session for a time, renews it by proof, or loses it (RFC §8.1,
//! §8.3). In both families, the lease ends with the credential at the latest.
//!
//! ```text
//! leased ──most of it is over──▶ refresh asked ──proof──▶ leased
//!                                     └──deadline──▶ evicted
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::resume::check_features;
use super::{Session, Sessions};
use crate::error::ErrorCode;
use crate::id::{Principal, SessionId};
use crate::model::reply::{Reply, SessionReply};
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{Record, Verdict};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;
use crate::time::UtcMs;

#[derive(Debug, Default)]
pub(super) struct SessionLease {
    /// When the lease ends; `None`: never.
    expires_at: Option<UtcMs>,
    /// When the credential of the latest proof expires.
    credential_until: Option<UtcMs>,
    /// How long before its end the client must refresh it.
    refresh_time: Duration,
    /// Whether the client was asked to refresh it, or cannot be asked.
    refreshing: bool,
    /// Why the session is being taken from its client.
    evicted: Option<(ErrorCode, String)>,
}

impl SessionLease {
    pub(super) fn expires_at(&self) -> Option<UtcMs> {
        self.expires_at
    }

    /// When the credential of the latest proof expires.
    pub(super) fn credential_until(&self) -> Option<UtcMs> {
        self.credential_until
    }

    pub(super) fn eviction(&self) -> Option<&(ErrorCode, String)> {
        self.evicted.as_ref()
    }
}

/// How long before its end a lease must be refreshed.
fn refresh_time(lease: Duration) -> Duration {
    (lease / 4).min(Duration::from_secs(60))
}

impl Sessions {
    /// Renews the lease of a session. `credential_until`: when the credential of this proof expires.
    pub(in crate::runtime) fn renew(&mut self, ctx: &mut Context, id: SessionId, credential_until: Option<UtcMs>) {
        let Some(session) = self.by_id.get_mut(&id).expected("who proves who it is is there") else {
            return;
        };
        let can_refresh = session.view.has_session_lease();
        let of_credential = credential_until.map(|at| Duration::from_millis(at.0.saturating_sub(ctx.now.utc.0)));
        let leased = ctx.config.timing.session_lease.filter(|_| can_refresh).into_iter().chain(of_credential).min();
        session.lease.credential_until = credential_until;
        session.lease.expires_at = leased.map(|leased| ctx.now.utc.plus(leased));
        session.lease.refreshing = !can_refresh;
        let Some(leased) = leased else {
            return ctx.timers.clear(Timer::SessionLease(id));
        };
        session.lease.refresh_time = if can_refresh { refresh_time(leased) } else { Duration::ZERO };
        let at = ctx.now.mono + (leased - session.lease.refresh_time);
        ctx.timers.set(Timer::SessionLease(id), at.max(ctx.soonest()));
    }

    /// The lease needs a refresh, or is over. Returns the request for a refresh.
    pub(in crate::runtime) fn on_session_lease(&mut self, ctx: &mut Context, id: SessionId) -> Option<Reply> {
        let lease = &mut self.by_id.get_mut(&id)?.lease;
        if lease.refreshing {
            self.evict(ctx, id, ErrorCode::LeaseExpired, "the session was not refreshed in time");
            return None;
        }
        lease.refreshing = true;
        let (deadline, left) = (lease.expires_at?, lease.refresh_time);
        ctx.timers.set(Timer::SessionLease(id), (ctx.now.mono + left).max(ctx.soonest()));
        Some(Reply::Session(SessionReply::Refresh {
            deadline,
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    /// The client of an open session was asked for another proof. Returns what it is told, or `None` if it has not
    /// proved its identity.
    pub(in crate::runtime) fn refresh(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        verdict: Option<&Verdict>,
    ) -> Option<String> {
        let session = self.by_id.get(&id)?;
        let admitted = verdict.filter(|_| authority::check_credential(&ctx.config, verdict).is_ok());
        let proven = admitted.filter(|verdict| verdict.principal == session.principal);
        let proven = proven.filter(|verdict| check_features(session, Some(verdict)).is_ok());
        if proven.is_none() && !session.principal.is_anonymous() {
            return None;
        }
        self.prove(ctx, id, proven);
        Some(match self.by_id.get(&id)?.expires_at() {
            Some(until) => alloc::format!("the session is lent until {until}"),
            None => String::from("the session has no end"),
        })
    }

    /// Takes a session from its client, which is told once that is durable. Its jobs go on. The session cannot be
    /// resumed.
    pub(in crate::runtime) fn evict(&mut self, ctx: &mut Context, id: SessionId, code: ErrorCode, reason: &str) {
        let Some(session) = self.by_id.get_mut(&id).filter(|session| session.lease.evicted.is_none()) else {
            return; // It is being evicted already.
        };
        let was_recorded = session.is_recorded();
        session.lease.evicted = Some((code, reason.into()));
        ctx.effect(Effect::Evicted { session: id, at_once: !was_recorded });
        if was_recorded {
            let pos = ctx.append(Record::SessionEnded { session: id });
            session.note_nobody_left(ctx);
            ctx.log.wait(pos, Waiter::Session(id));
        }
    }

    /// Takes every session of a principal from its client.
    pub(in crate::runtime) fn evict_all(&mut self, ctx: &mut Context, principal: &Principal, reason: &str) {
        let own = self.by_id.iter().filter(|(_, session)| session.principal == *principal);
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.evict(ctx, id, ErrorCode::Unauthenticated, reason);
        }
    }

    /// Takes from their clients the sessions of overseers that were opened with a bounded credential. A principal
    /// may have become an overseer after it opened the session.
    pub(in crate::runtime) fn evict_bounded_overseers(&mut self, ctx: &mut Context) {
        let oversees = |session: &Session| authority::sees_everything(&ctx.config, &session.principal);
        let bounded =
            self.by_id.iter().filter(|(_, session)| session.allowance.ceiling().is_some() && oversees(session));
        for id in bounded.map(|(id, _)| *id).collect::<Vec<_>>() {
            let why = "nobody oversees everybody by a credential that is bounded: use another one";
            self.evict(ctx, id, ErrorCode::Unauthenticated, why);
        }
    }

    /// The message by which a client learns why its session was taken.
    pub(in crate::runtime) fn eviction(&self, id: SessionId) -> Option<Reply> {
        let (code, reason) = self.by_id.get(&id)?.lease.evicted.clone()?;
        Some(Reply::Session(SessionReply::Evicted { code, reason }))
    }
}
