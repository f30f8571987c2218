//! A session: a principal's place in the runtime. It outlives connections.
//!
//! ```text
//! attached ──connection lost or closed──▶ detached ──resume──▶ attached
//!                                            └──window over──▶ ended
//! ```
//!
//! What it is shown is its [`Feed`](super::delivery::Feed)'s.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::Runtime;
use super::admission::Admission;
use super::io::{Notice, Record};
use super::seen::{Seen, SeenOfPrincipals};
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, Principal, SessionId, WireId};
use crate::secret::SecretDigest;
use crate::time::{Timestamp, UtcMs};
use crate::wire::View;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) principal: Principal,
    pub(super) view: View,
    pub(super) token: SecretDigest,
    /// Whether it has a connection.
    attached: bool,
    /// Since when nobody would miss it.
    pub(super) idle_since: Option<Timestamp>,
    /// Whether its client has left it in order.
    pub(super) closed: bool,
    /// Why its client can do no more in it than resume another one.
    pub(super) only_resumes: Option<Violation>,
    /// Namespaces of extensions negotiated with its client.
    pub(super) extensions: Vec<String>,
    /// Bytes of each message of an extension that its host has not taken.
    untaken: VecDeque<usize>,
    /// All of those.
    untaken_bytes: usize,
    /// When its lease ends.
    pub(super) expires_at: Option<UtcMs>,
    /// Why it is being taken from its client.
    pub(super) evicted: Option<(ErrorCode, String)>,
    /// Whether its client was asked to refresh it.
    pub(super) refreshing: bool,
    /// Its commands, where message ids are its own.
    pub(super) seen: Seen<WireId>,
    /// Whether a command was given in it.
    pub(super) commanded: bool,
}

impl Session {
    pub(super) fn new(principal: Principal, view: View, token: SecretDigest) -> Session {
        Session {
            principal,
            view,
            token,
            attached: false,
            idle_since: None,
            closed: false,
            only_resumes: None,
            extensions: Vec::new(),
            untaken: VecDeque::new(),
            untaken_bytes: 0,
            expires_at: None,
            evicted: None,
            refreshing: false,
            seen: Seen::default(),
            commanded: false,
        }
    }

    /// The host is given a message of an extension of so many bytes.
    pub(super) fn give_extension(&mut self, bytes: usize) {
        self.untaken.push_back(bytes);
        self.untaken_bytes += bytes;
    }

    /// The host has taken the oldest of them.
    pub(super) fn take_extension(&mut self) {
        self.untaken_bytes -= self.untaken.pop_front().unwrap_or(0);
    }

    /// Bytes of those that it has not taken.
    pub(super) fn untaken_bytes(&self) -> usize {
        self.untaken_bytes
    }

    /// Whether it survives the process: it is neither being taken from its client
    /// nor there to resume another one only.
    pub(super) fn is_recorded(&self) -> bool {
        self.evicted.is_none() && self.only_resumes.is_none()
    }
}

/// All sessions, and the traces of those that ended.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_token: BTreeMap<SecretDigest, SessionId>,
    pub(super) per_principal: BTreeMap<Principal, usize>,
    pub(super) seen: SeenOfPrincipals,
    pub(super) admission: Admission,
    ended: BTreeMap<SecretDigest, Principal>,
    ended_order: VecDeque<SecretDigest>,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    /// All of them, by id.
    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.admission.enter(&session.principal);
        *self.per_principal.entry(session.principal.clone()).or_default() += 1;
        self.by_token.insert(session.token, id);
        self.by_id.insert(id, session);
    }

    pub(super) fn find(&self, token: &SecretDigest) -> Option<SessionId> {
        self.by_token.get(token).copied()
    }

    /// Whose session this token belonged to, if it ended not long ago.
    pub(super) fn ended(&self, token: &SecretDigest) -> Option<&Principal> {
        self.ended.get(token)
    }

    pub(super) fn rotate(&mut self, id: SessionId, token: SecretDigest) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.by_token.remove(&session.token);
            session.token = token;
            self.by_token.insert(token, id);
        }
    }

    /// A session has a connection now, or has none any more.
    pub(super) fn set_attached(&mut self, id: SessionId, attached: bool) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        if core::mem::replace(&mut session.attached, attached) != attached {
            self.admission.attached(&session.principal, attached);
        }
        if let Some(since) = session.idle_since.take() {
            self.admission.not_idle(&session.principal, (since, id));
        }
    }

    fn remove(&mut self, id: SessionId, remember: usize) -> Option<Session> {
        self.set_attached(id, false);
        let session = self.by_id.remove(&id)?;
        self.by_token.remove(&session.token);
        self.admission.leave(&session.principal);
        if let Some(count) = self.per_principal.get_mut(&session.principal) {
            *count -= 1;
            if *count == 0 {
                self.per_principal.remove(&session.principal);
            }
        }
        self.ended.insert(session.token, session.principal.clone());
        self.ended_order.push_back(session.token);
        while self.ended_order.len() > remember {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
        Some(session)
    }
}

impl Runtime {
    /// The connection is gone: from its last sign of life on, the session
    /// waits to be resumed.
    pub(super) fn detach(&mut self, id: SessionId, alive: Timestamp) {
        self.sessions.set_attached(id, false);
        self.delivery.detach(&mut self.ctx, id);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.only_resumes.is_some() {
            return self.end_session(id);
        }
        let at = (alive + self.ctx.config.resume_window).max(self.ctx.soonest());
        self.ctx.timers.set(Timer::ResumeWindow(id), at);
        self.ctx.observe(Notice::SessionDetached { session: id });
        self.note_idle(id);
    }

    /// Attaches a session to a connection; frames after `last_seq` are owed.
    pub(super) fn attach(&mut self, id: SessionId, conn: ConnId, last_seq: u64) {
        self.sessions.set_attached(id, true);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.closed = false;
        let view = session.view;
        self.ctx.timers.clear(Timer::ResumeWindow(id));
        self.delivery.attach(&mut self.ctx, &self.jobs, id, conn, last_seq);
        self.attached(conn, id, view);
    }

    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.is_recorded() {
            self.ctx.append(Record::SessionEnded { session: id });
        }
        self.forget_session(id);
    }

    /// A session is over, and the store knows.
    pub(super) fn forget_session(&mut self, id: SessionId) {
        if self.remove_session(id) {
            self.ctx.observe(Notice::SessionEnded { session: id });
        }
    }

    /// Takes a session away, and itself from whatever it watched and owned;
    /// false if there is none.
    pub(super) fn remove_session(&mut self, id: SessionId) -> bool {
        self.ctx.timers.clear(Timer::ResumeWindow(id));
        self.ctx.timers.clear(Timer::SessionLease(id));
        let Some(session) = self.sessions.remove(id, self.ctx.config.limits.ended_sessions) else {
            return false;
        };
        self.delivery.close(&mut self.ctx, id);
        self.sessions.forget_seen_of(&session.principal, self.jobs.has_any(&session.principal));
        true
    }
}
