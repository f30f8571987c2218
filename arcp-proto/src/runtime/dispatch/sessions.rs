//! Opens sessions, hands them on to other connections, and ends them
//! (1.1 §6.1 to §6.3).

use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, SessionId, WireId};
use crate::json::Json;
use crate::model::reply::{Opened, Refusal, RefusedKind, Reply};
use crate::model::request::{Open, Proof as ClientProof, ResumeClaim};
use crate::runtime::Runtime;
use crate::runtime::connection::{Answer, Conn, Opening, Wish, heartbeat_interval};
use crate::runtime::delivery::Feed;
use crate::runtime::io::{CloseReason, Verdict};
use crate::runtime::session::Proof;
use crate::secret::Secret;
use crate::time::Timestamp;

/// What a welcome says besides what the session is.
struct Welcome {
    request: WireId,
    /// For a session that is back: where it goes on, and whether something
    /// is replayed.
    replay: Option<(u64, bool)>,
}

impl Runtime {
    /// A peer of whom it is known who it is wants to come in.
    pub(super) fn on_opening(&mut self, conn: ConnId, opening: Opening) {
        let Opening { request, wish, proof } = opening;
        match wish {
            Wish::New(open) => self.open_session(conn, request, open, proof),
            Wish::Earlier(claim) => {
                self.resume(conn, &request, &claim, &proof);
            }
        }
    }

    fn open_session(&mut self, conn: ConnId, request: WireId, open: Open, proof: Proof) {
        let Some(peer) = self.connections.get(conn).map(|conn| (conn.view(), conn.network())) else {
            return;
        };
        let (session, token) = match self.sessions.open(&mut self.ctx, &self.jobs, open, proof, peer) {
            Ok(opened) => opened,
            Err(full) => return self.turn_away(conn, request, full),
        };
        let Some(opened) = self.sessions.get(session) else {
            debug_assert!(false, "{session} was just opened");
            return;
        };
        self.delivery.open(session, opened.principal().clone(), *opened.view());
        self.carry();
        self.attach(session, conn, 0);
        self.welcome(conn, session, token, Welcome { request, replay: None });
    }

    /// Refuses whoever wants to come in.
    fn turn_away(&mut self, conn: ConnId, request: WireId, why: Violation) {
        self.refuse(conn, Refusal::of(RefusedKind::Session, why, Some(request)));
        self.connections.leave_after(&mut self.ctx, conn, CloseReason::Refused);
    }

    fn welcome(&mut self, conn: ConnId, id: SessionId, token: Secret, welcome: Welcome) {
        let Some(session) = self.sessions.get(id) else {
            debug_assert!(false, "{id} was just attached");
            return;
        };
        let (view, config) = (session.view(), &self.ctx.config);
        let opened = Opened {
            session: id.into(),
            resume_token: token,
            resume_window_s: config.resume_window.as_secs(),
            heartbeat_s: heartbeat_interval(&self.ctx, *view).map(|interval| interval.as_secs()),
            job_heartbeat_s: config
                .heartbeat
                .filter(|_| view.announces_job_heartbeats())
                .map(|interval| interval.as_secs()),
            features: view.features,
            agents: config.agents.clone(),
            runtime: config.runtime.clone(),
            accepted_at: self.ctx.now.utc,
            expires_at: session.expires_at(),
            extensions: session.extensions().names().to_vec(),
            anonymous: config.anonymous,
            capabilities: Json::empty_object(),
            replay: welcome.replay,
            request: Some(welcome.request),
        };
        self.answer(conn, Reply::Opened(opened));
    }

    /// `session.resume` on a connection whose own session is open.
    pub(super) fn on_resume_here(&mut self, conn: ConnId, fresh: SessionId, id: WireId, claim: &ResumeClaim) {
        let Some(session) = self.sessions.get(fresh) else {
            debug_assert!(false, "{fresh} is attached");
            return;
        };
        let is_unused = !session.is_commanded() && self.delivery.feed(fresh).is_some_and(Feed::is_unused);
        if !is_unused {
            let used = Violation::invalid("this connection's session has been used: resume on a fresh connection");
            return self.refuse(conn, Refusal::of(RefusedKind::Frame, used, Some(id)));
        }
        if self.resume(conn, &id, claim, &session.proof()) {
            self.sessions.end(&mut self.ctx, &self.jobs, fresh);
            self.carry();
        }
    }

    /// Hands an earlier session to this connection. A refused claim consumes
    /// nothing.
    fn resume(&mut self, conn: ConnId, request: &WireId, claim: &ResumeClaim, proof: &Proof) -> bool {
        let session = match self.claimed(conn, claim, proof) {
            Ok(session) => session,
            Err(violation) => {
                self.turn_away(conn, request.clone(), violation);
                return false;
            }
        };
        let old = self.delivery.conn(session);
        if old == Some(conn) {
            let same = Violation::invalid("this connection has that session already");
            self.refuse_frame(conn, same, Some(request.clone()));
            return false;
        }
        if let Some(old) = old {
            let newer = Violation::new(ErrorCode::Aborted, "the session was resumed on another connection");
            self.dismiss(old, Refusal::of(RefusedKind::Session, newer, None), CloseReason::TakenOver);
        }
        let token = self.sessions.resume(&mut self.ctx, session, proof);
        self.attach(session, conn, claim.last_seq);
        let behind = self.delivery.feed(session).is_some_and(|feed| feed.head() > claim.last_seq);
        let welcome = Welcome { request: request.clone(), replay: Some((claim.last_seq, behind)) };
        self.welcome(conn, session, token, welcome);
        true
    }

    fn claimed(&self, conn: ConnId, claim: &ResumeClaim, proof: &Proof) -> Result<SessionId, Violation> {
        let gone = || Violation::new(ErrorCode::Unavailable, "the connection is gone");
        let view = self.connections.get(conn).map(Conn::view).ok_or_else(gone)?;
        let session = self.sessions.claimed(claim, proof, view.family)?;
        let feed = self.delivery.feed(session).ok_or_else(gone)?;
        feed.check_resume(claim.last_seq, &self.jobs)?;
        Ok(session)
    }

    /// Attaches a session to a connection; frames after `last_seq` are owed.
    fn attach(&mut self, id: SessionId, conn: ConnId, last_seq: u64) {
        self.sessions.attach(&mut self.ctx, id);
        self.delivery.attach(&mut self.ctx, &self.jobs, id, conn, last_seq);
        if let Some(session) = self.sessions.get(id) {
            let admits = session.only_resumes().is_none();
            self.connections.attach(&mut self.ctx, conn, id, *session.view(), admits);
        }
        self.carry();
    }

    /// The connection of a session is gone.
    pub(super) fn detach(&mut self, id: SessionId, alive: Timestamp) {
        self.delivery.detach(&mut self.ctx, id);
        let idle = self.has_nothing_left(id);
        self.sessions.detach(&mut self.ctx, &self.jobs, id, alive, idle);
    }

    /// Whether a client that resumed a session would find nothing new.
    pub(in crate::runtime) fn has_nothing_left(&self, id: SessionId) -> bool {
        let closed = self.sessions.get(id).is_some_and(|session| session.is_closed());
        self.delivery.feed(id).is_some_and(|feed| feed.has_nothing_left(closed))
    }

    /// A proof for the session that is open: it renews the lease.
    pub(super) fn on_proof_again(&mut self, conn: ConnId, session: SessionId, id: WireId, proof: ClientProof) {
        let anonymous = self.sessions.get(session).is_some_and(|session| session.principal().is_anonymous());
        if anonymous {
            return self.on_proven_again(conn, session, id, None);
        }
        let at = self.position(conn);
        let vouched = self.connections.prove_again(&mut self.ctx, conn, &id, proof, at);
        self.carry();
        if let Some(peer) = vouched {
            self.on_proven_again(conn, session, id, Some(&peer.into()));
        }
    }

    /// The proof for a session that is open was judged.
    pub(super) fn on_proven_again(
        &mut self,
        conn: ConnId,
        session: SessionId,
        request: WireId,
        verdict: Option<&Verdict>,
    ) {
        match self.sessions.refresh(&mut self.ctx, session, verdict) {
            Some(detail) => self.answer(conn, Answer::free(Reply::Done { detail, request: Some(request) })),
            None => {
                let at = self.position(conn);
                self.connections.refuse_wrong_proof(&mut self.ctx, conn, request, at);
                self.carry();
            }
        }
    }

    /// Most of a lease is over, or all of it.
    pub(in crate::runtime) fn on_session_lease(&mut self, id: SessionId) {
        let asked = self.sessions.on_session_lease(&mut self.ctx, id);
        self.carry();
        if let (Some(asked), Some(conn)) = (asked, self.delivery.conn(id)) {
            self.say_aside(conn, asked);
        }
    }

    /// That a session is taken from its client is durable.
    pub(in crate::runtime) fn on_evicted(&mut self, id: SessionId) {
        if let (Some(conn), Some(evicted)) = (self.delivery.conn(id), self.sessions.eviction(id)) {
            // What it is owed comes first, as far as it reads.
            self.pump(conn);
            self.connections.send_reply(&mut self.ctx, conn, &evicted);
            self.leave(conn, CloseReason::Evicted);
        }
        self.sessions.forget(&mut self.ctx, &self.jobs, id);
        self.carry();
    }
}
