//! The lease of a session: lent for a time, refreshed by proof, or taken back
//! (RFC §8.1, §8.3).
//!
//! ```text
//! lent ──most of it is over──▶ refresh asked ──proof──▶ lent
//!                                    └──deadline──▶ evicted
//! ```

use core::time::Duration;

use super::Runtime;
use super::io::{CloseReason, Record};
use super::log::Waiter;
use super::timers::Timer;
use crate::error::ErrorCode;
use crate::id::{ConnId, Principal, SessionId, WireId};
use crate::model::reply::Reply;

impl Runtime {
    /// How long before its end a lease must be refreshed.
    fn refresh_time(lease: Duration) -> Duration {
        (lease / 4).min(Duration::from_secs(60))
    }

    /// Lends a session to its client from now on.
    pub(super) fn lend(&mut self, id: SessionId) {
        let Some(lease) = self.ctx.config.session_lease else {
            return;
        };
        let (now, expires_at) = (self.ctx.now.mono, self.ctx.now.utc.plus(lease));
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.view.has_session_lease()) else {
            return;
        };
        session.expires_at = Some(expires_at);
        session.refreshing = false;
        self.ctx.timers.set(Timer::SessionLease(id), now + (lease - Self::refresh_time(lease)));
    }

    /// Most of a lease is over, or all of it.
    pub(super) fn on_session_lease(&mut self, id: SessionId) {
        let (Some(lease), Some(session)) = (self.ctx.config.session_lease, self.sessions.get_mut(id)) else {
            return;
        };
        if session.refreshing {
            return self.evict(id, ErrorCode::LeaseExpired, "the session was not refreshed in time");
        }
        session.refreshing = true;
        let (left, conn, deadline) = (Self::refresh_time(lease), self.delivery.conn(id), session.expires_at);
        self.ctx.timers.set(Timer::SessionLease(id), self.ctx.now.mono + left);
        if let (Some(conn), Some(deadline)) = (conn, deadline) {
            let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            self.say_aside(conn, Reply::Refresh { deadline, deadline_ms });
        }
    }

    /// The client of an open session has proved again who it is, or not.
    pub(super) fn on_refreshed(
        &mut self,
        conn: ConnId,
        id: SessionId,
        request: WireId,
        principal: Option<&Principal>,
    ) -> bool {
        let Some(session) = self.sessions.get(id) else {
            return false;
        };
        if !session.principal.is_anonymous() && principal != Some(&session.principal) {
            return false;
        }
        self.lend(id);
        let until = self.sessions.get(id).and_then(|session| session.expires_at);
        let detail = match until {
            Some(until) => alloc::format!("the session is lent until {until}"),
            None => alloc::string::String::from("the session has no end"),
        };
        self.answer_freely(conn, Reply::Done { detail, request: Some(request) });
        true
    }

    /// Takes a session from its client, who is told once that is durable. Its
    /// jobs go on; nothing brings it back.
    pub(super) fn evict(&mut self, id: SessionId, code: ErrorCode, reason: &str) {
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.evicted.is_none()) else {
            return;
        };
        let was_recorded = session.is_recorded();
        session.evicted = Some((code, reason.into()));
        self.delivery.show_nothing_more(&mut self.ctx, id);
        self.carry();
        if !was_recorded {
            return self.on_evicted(id);
        }
        let pos = self.ctx.append(Record::SessionEnded { session: id });
        self.ctx.log.wait(pos, Waiter::Session(id));
    }

    /// That a session is taken from its client is durable.
    pub(super) fn on_evicted(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if let (Some(conn), Some((code, reason))) = (self.delivery.conn(id), session.evicted.clone()) {
            // What it is owed comes first, as far as it reads.
            self.pump(conn);
            self.send_reply(conn, &Reply::Evicted { code, reason });
            self.leave(conn, CloseReason::Evicted);
        }
        self.forget_session(id);
    }
}
