//! Opens sessions, and resumes them on other connections (1.1 §6.1 to §6.3).

use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::policy;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, Principal, SessionId, WireId};
use crate::json::Json;
use crate::model::agent::AgentEntry;
use crate::model::feature::{Feature, Features};
use crate::model::reply::{HandshakeReply, Opened, Refusal, RefusedKind, Reply, RuntimeInfo};
use crate::model::request::{Open, ResumeClaim};
use crate::policy::Subject;
use crate::runtime::Runtime;
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::authority;
use crate::runtime::config::Config;
use crate::runtime::connection::{Conn, heartbeat_interval, refuse_untold, untold, untold_claim};
use crate::runtime::delivery::{asked_after, go_beside};
use crate::runtime::edge::{Opening, Wish};
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{CloseReason, Notice};
use crate::runtime::session::{Proof, Session};
use crate::secret::{Secret, SecretDigest};

/// Handles the request of a known peer that opens or resumes a session.
pub(super) struct OpeningHandler<'r> {
    runtime: &'r mut Runtime,
    conn: ConnId,
    request: WireId,
}

/// Handles a failure of the store. Once it has lasted for a while, peers that wait to be told of a
/// new session are refused, as are new peers. A peer that waits for an earlier session has resumed
/// it already, and waits on.
pub(in crate::runtime) fn on_persist_failed(runtime: &mut Runtime) {
    let was_down = runtime.ctx.store_is_down();
    runtime.ctx.on_persist_failed();
    if was_down || !runtime.ctx.store_is_down() {
        return; // Peers were told already, or the failure may be short.
    }
    for (conn, session) in untold(&runtime.connections) {
        // A request in the session may have been carried out before its client was told of it.
        if runtime.sessions.get(session).is_some_and(Session::is_commanded) || !runtime.delivery.is_unused(session) {
            continue;
        }
        refuse_untold(&mut runtime.connections, &mut runtime.ctx, conn, store_fails());
        runtime.sessions.end(&mut runtime.ctx, &runtime.jobs, session);
        runtime.carry();
    }
}

fn store_fails() -> Violation {
    Violation::new(ErrorCode::Unavailable, "the store is failing: connect again later")
}

impl<'r> OpeningHandler<'r> {
    /// Handles the request of a peer whose principal is known.
    pub(super) fn on_opening(runtime: &'r mut Runtime, conn: ConnId, opening: Opening) {
        let Opening { request, wish, verdict } = opening;
        let proof = Proof::from(verdict);
        let mut handler = OpeningHandler { runtime, conn, request };
        match wish {
            Wish::New(open) => handler.open(open, proof),
            Wish::Earlier(claim) => drop(handler.resume(&claim, &proof)),
        }
    }

    /// Handles `session.resume` on a connection that has a session of its own.
    pub(super) fn resume_here(
        runtime: &'r mut Runtime,
        conn: ConnId,
        fresh: SessionId,
        request: WireId,
        claim: &ResumeClaim,
    ) {
        let Some(session) = runtime.sessions.get(fresh) else {
            debug_assert!(false, "{fresh} is attached");
            return;
        };
        let is_unused = !session.is_commanded() && runtime.delivery.is_unused(fresh);
        if !is_unused {
            let used = Violation::invalid("this connection's session has been used: resume on a fresh connection");
            return runtime.refuse(conn, Refusal::new(RefusedKind::Frame, used, Some(request)));
        }
        let proof = session.proof();
        let mut handler = OpeningHandler { runtime, conn, request };
        if handler.resume(claim, &proof) {
            let Runtime { ctx, sessions, jobs, .. } = &mut *handler.runtime;
            sessions.end(ctx, jobs, fresh);
            handler.runtime.carry();
        }
    }

    fn open(&mut self, open: Open, proof: Proof) {
        let Runtime { ctx, connections, sessions, jobs, delivery, .. } = &mut *self.runtime;
        let Some(peer) =
            connections.get(self.conn).expected("who was let in is there").map(|conn| (conn.view(), conn.network()))
        else {
            return;
        };
        let principal = proof.verdict().map(|verdict| verdict.principal.clone());
        let down = ctx.store_is_down();
        let opened = authority::check_credential(&ctx.config, proof.verdict());
        let opened = opened.and_then(|()| if down { Err(store_fails()) } else { Ok(()) });
        let (session, token) = match opened.and_then(|()| sessions.open(ctx, jobs, open, proof, peer)) {
            Ok(opened) => opened,
            Err(why) => return self.turn_away(AuditAct::Login, principal.as_ref(), why),
        };
        let Some(opened) = sessions.get(session) else {
            debug_assert!(false, "{session} was just opened");
            return;
        };
        delivery.open(session, opened.principal().clone(), *opened.view(), opened.account());
        policy::view_anew(sessions, delivery, session);
        self.runtime.carry();
        self.attach(session, 0);
        self.welcome(session, token, None);
    }

    /// Resumes a session on this connection. A refused claim leaves the token valid, as does one
    /// whose answer was never sent.
    fn resume(&mut self, claim: &ResumeClaim, proof: &Proof) -> bool {
        let session = match self.claimed(claim, proof) {
            Ok(session) => session,
            Err(violation) => {
                let code = violation.code.as_str().to_string();
                self.runtime.ctx.observe(Notice::ResumeRefused { conn: self.conn, code });
                let principal = proof.verdict().map(|verdict| &verdict.principal);
                self.turn_away(AuditAct::Resume, principal, violation);
                return false;
            }
        };
        let old = self.runtime.delivery.feeds.conn(session);
        if old == Some(self.conn) {
            let same = Violation::invalid("this connection has that session already");
            self.runtime.refuse_frame(self.conn, same, Some(self.request.clone()));
            return false;
        }
        if let Some(old) = old {
            let newer = Violation::new(ErrorCode::Aborted, "the session was resumed on another connection");
            self.runtime.dismiss(old, Refusal::new(RefusedKind::Session, newer, None), CloseReason::TakenOver);
        }
        let token = self.runtime.sessions.resume(&mut self.runtime.ctx, session, proof);
        self.attach(session, claim.last_seq);
        let Runtime { connections, jobs, delivery, .. } = &mut *self.runtime;
        let asked = asked_after(delivery, jobs, session, claim.last_seq);
        if let Some(conn) = connections.get_mut(self.conn) {
            // As at the beginning of the watch, on a connection that is gone.
            conn.follow(asked);
            conn.claimed = Some(Box::new(claim.token.digest()));
        }
        let behind = self.runtime.delivery.feeds.get(session).is_some_and(|feed| feed.head() > claim.last_seq);
        self.welcome(session, token, Some((claim.last_seq, behind)));
        if self.runtime.ctx.config.authority.policy.is_some() {
            policy::judge_anew(self.runtime, session);
        }
        true
    }

    fn claimed(&self, claim: &ResumeClaim, proof: &Proof) -> Result<SessionId, Violation> {
        let Runtime { ctx, connections, sessions, jobs, delivery, .. } = &*self.runtime;
        authority::check_credential(&ctx.config, proof.verdict())?;
        if ctx.store_is_down() {
            return Err(store_fails()); // The token must not be used up.
        }
        let gone = || Violation::new(ErrorCode::Unavailable, "the connection is gone");
        let view = connections.get(self.conn).map(Conn::view).ok_or_else(gone)?;
        let token = self.counting(claim).unwrap_or_else(|| claim.token.digest());
        let session = sessions.claimed(claim, &token, proof, view.family)?;
        delivery.feeds.get(session).ok_or_else(gone)?.check_resume(claim.last_seq, jobs)?;
        Ok(session)
    }

    /// The token that counts for a session which was claimed by this one before, on a connection that was not told yet
    /// and is perhaps gone: nobody has another.
    fn counting(&self, claim: &ResumeClaim) -> Option<SecretDigest> {
        let Runtime { connections, sessions, delivery, .. } = &*self.runtime;
        let session = SessionId::parse(claim.session.as_ref()?.as_str())?;
        let conn = connections.get(delivery.feeds.conn(session)?)?;
        let is_same = untold_claim(conn) == Some(claim.token.digest());
        sessions.get(session).filter(|_| is_same).map(|session| *session.token())
    }

    /// Attaches a session to the connection; frames after `last_seq` are owed.
    fn attach(&mut self, id: SessionId, last_seq: u64) {
        let Runtime { ctx, connections, sessions, jobs, delivery, .. } = &mut *self.runtime;
        sessions.attach(ctx, id);
        delivery.feeds.attach(ctx, jobs, id, self.conn, last_seq);
        if let Some(session) = sessions.get(id) {
            let admits = session.only_resumes().is_none();
            connections.attach(ctx, self.conn, (id, session.principal(), session.account()), *session.view(), admits);
            let beside = connections.get(self.conn).is_some_and(|conn| conn.view().takes_sidecars());
            go_beside(&mut delivery.feeds, id, beside);
        }
        self.runtime.carry();
    }

    /// Tells the client that the session is open; if it was resumed, where it continues, and
    /// whether frames are replayed.
    fn welcome(&mut self, id: SessionId, token: Secret, replay: Option<(u64, bool)>) {
        let Runtime { ctx, sessions, fingerprint, .. } = &*self.runtime;
        let Some(session) = sessions.get(id) else {
            debug_assert!(false, "{id} was just attached");
            return;
        };
        // The features of the session that its present transport supports.
        let view = self.runtime.connections.get(self.conn).map_or(*session.view(), Conn::view);
        let config = &ctx.config;
        let opened = Opened {
            session: id.into(),
            resume_token: token,
            resume_window_s: config.timing.resume_window.as_secs(),
            heartbeat_s: heartbeat_interval(ctx, view).map(|interval| interval.as_secs()),
            job_heartbeat_s: config
                .timing
                .heartbeat
                .filter(|_| view.announces_job_heartbeats())
                .map(|interval| interval.as_secs()),
            features: view.features,
            agents: agents_for(config, session.subject(), view.features),
            runtime: RuntimeInfo {
                program: config.runtime.clone(),
                fingerprint: fingerprint.clone(),
                artifact_retention: config.artifact_retention(),
            },
            accepted_at: ctx.now.utc,
            expires_at: session.expires_at(),
            extensions: session.extensions().names().to_vec(),
            anonymous: config.anonymous,
            capabilities: Json::empty_object(),
            replay,
            request: Some(self.request.clone()),
        };
        self.runtime.answer(self.conn, Reply::Handshake(HandshakeReply::Opened(Box::new(opened))));
    }

    /// Refuses a peer a session, and closes its connection.
    fn turn_away(&mut self, act: AuditAct, principal: Option<&Principal>, why: Violation) {
        self.runtime.ctx.audit_refused(AuditEntry::of_arrival(act, principal, None), &why);
        if let Some((conn, principal)) = self.runtime.connections.get_mut(self.conn).zip(principal) {
            conn.is_of(principal);
        }
        self.runtime.refuse(self.conn, Refusal::new(RefusedKind::Session, why, Some(self.request.clone())));
        self.runtime.connections.leave_after(&mut self.runtime.ctx, self.conn, CloseReason::Refused);
    }
}

/// The agents that a client may submit, as it is told of them. It gets schemas if it asked for
/// them, as far as there is room in the welcome.
fn agents_for(config: &Config, who: Subject<'_>, features: Features) -> Vec<AgentEntry> {
    let room = if features.has(Feature::AgentDetails) { config.limits.frame.result_frame_bytes / 2 } else { 0 };
    let mut bytes = 0;
    let told = config.agents.iter().filter(|agent| config.may_submit(who, &agent.name)).map(|agent| {
        let size = agent.input_schema.as_ref().map_or(0, |schema| schema.as_str().len());
        bytes += size;
        let input_schema = agent.input_schema.clone().filter(|_| bytes <= room);
        AgentEntry { input_schema, ..agent.clone() }
    });
    told.collect()
}
