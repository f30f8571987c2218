//! Opening and resuming sessions (1.1 §6.1 to §6.3).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Runtime;
use super::conn::Phase;
use super::delivery::Feed;
use super::io::{CloseReason, Notice, Output, Record};
use super::session::Session;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, OpId, Principal, SessionId, WireId};
use crate::json::Json;
use crate::model::reply::{Challenge, Concern, Opened, Refusal, Reply};
use crate::model::request::{Credential, Open, Proof as ClientProof, Request, ResumeClaim};
use crate::secret::Secret;
use crate::wire::{self, Compat, Inbound, Profile, View};

/// Who stands behind a connection that wants a session.
enum Proof {
    /// An authenticator or the transport says so.
    Known(Principal),
    /// Nobody says so.
    Nobody,
}

/// What a welcome says besides what the session is.
struct Welcome {
    request: WireId,
    /// For a session that is back: where it goes on, and whether something
    /// is replayed.
    replay: Option<(u64, bool)>,
}

/// How many wrong proofs end a connection.
const PROOFS: u8 = 3;

fn wrong_proof() -> Violation {
    Violation::new(ErrorCode::Unauthenticated, "the proof was not accepted")
}

/// A credential of the scheme that was opened with, with the proof that was
/// asked for.
fn proven(opened: &Credential, response: Secret) -> Credential {
    match opened {
        Credential::Bearer(_) | Credential::Anonymous => Credential::Bearer(response),
        Credential::Other { scheme, .. } => Credential::Other { scheme: scheme.clone(), token: response },
    }
}

impl Runtime {
    /// The first frame of a connection, understood.
    pub(super) fn on_handshake(&mut self, conn: ConnId, inbound: Inbound) {
        let Inbound { id, request, profile, .. } = inbound;
        match request {
            Request::Open(open) => self.on_open(conn, id, open, profile),
            Request::Resume(claim) => {
                let peer = self.conns.get(&conn).and_then(|conn| conn.peer.clone());
                let proof = peer.map_or(Proof::Nobody, Proof::Known);
                self.resume(conn, &id, &claim, &proof);
            }
            Request::Close { .. }
            | Request::Ping { .. }
            | Request::Echo { .. }
            | Request::Authenticate(_)
            | Request::Pong { .. }
            | Request::Ack { .. }
            | Request::List(_)
            | Request::Submit(..)
            | Request::Cancel(_)
            | Request::Watch(_)
            | Request::Unwatch { .. }
            | Request::Subscribe(_)
            | Request::Unsubscribe { .. }
            | Request::Replay(_)
            | Request::Pace { .. }
            | Request::Extension(_)
            | Request::Ignored => {}
        }
    }

    fn on_open(&mut self, id: ConnId, request: WireId, open: Open, sender: Profile) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.scheme = match &open.credential {
            Credential::Bearer(_) | Credential::Anonymous => None,
            Credential::Other { scheme, .. } => Some(scheme.clone()),
        };
        conn.view.profile = match self.ctx.config.compat {
            Compat::Auto => sender,
            Compat::Off => Profile::Plain,
            Compat::Always(profile) => profile,
        };
        let view = conn.view;
        if let Some(lacking) = self.lacking(&open, view) {
            let message = alloc::format!("`{lacking}` is required and not there");
            let refusal =
                Refusal::of(Concern::Session, Violation::new(ErrorCode::Unimplemented, message), Some(request));
            self.refuse_freely(id, refusal);
            return self.leave_after(id, CloseReason::Refused);
        }
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        if let Some(peer) = conn.peer.clone() {
            return self.opened(id, request, open, Proof::Known(peer));
        }
        match &open.credential {
            Credential::Anonymous if self.ctx.config.anonymous => self.opened(id, request, open, Proof::Nobody),
            Credential::Anonymous => {
                let denied = "anonymous sessions are not allowed here: send a bearer token";
                self.deny(id, ErrorCode::Unauthenticated, denied, Some(request));
            }
            Credential::Bearer(token) | Credential::Other { token, .. }
                if token.expose().is_empty() && view.challenges() =>
            {
                self.challenge(id, Some(request), open);
            }
            Credential::Bearer(_) | Credential::Other { .. } => {
                let credential = open.credential.clone();
                self.judge(id, request, open, credential, None);
            }
        }
    }

    /// What a client cannot do without and this runtime does not have.
    fn lacking(&self, open: &Open, view: View) -> Option<String> {
        let ours =
            View { features: open.required, ..view }.negotiated(open.required, self.ctx.config.features()).features;
        let missing = ours.lacks(open.required).and_then(wire::feature_name).map(ToString::to_string);
        missing.or_else(|| open.required_unknown.clone())
    }

    /// Asks for proof (RFC §8.1).
    fn challenge(&mut self, id: ConnId, request: Option<WireId>, open: Open) {
        let nonce = self.nonce();
        let expires_at = self.ctx.now.utc.plus(self.ctx.config.handshake_timeout);
        let scheme = match &open.credential {
            Credential::Bearer(_) | Credential::Anonymous => "bearer".to_string(),
            Credential::Other { scheme, .. } => scheme.clone(),
        };
        let challenge = Challenge { nonce: nonce.clone(), scheme, expires_at, request };
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.nonce = Some(nonce.clone());
            conn.phase = Phase::Challenged { open, nonce };
        }
        self.answer_freely(id, Reply::Challenge(challenge));
    }

    fn nonce(&mut self) -> String {
        alloc::format!("{:016x}{:016x}", self.ctx.entropy.public_u64(), self.ctx.entropy.public_u64())
    }

    /// Has a credential judged.
    fn judge(&mut self, id: ConnId, request: WireId, open: Open, credential: Credential, nonce: Option<String>) {
        if let Err(full) = self.check_judging() {
            self.refuse_freely(id, Refusal::of(Concern::Session, full, Some(request)));
            return self.leave_after(id, CloseReason::Refused);
        }
        let op = self.authenticate(id, credential, nonce.clone());
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.phase = Phase::Authenticating { op, id: request, open, nonce };
        }
    }

    /// Credentials are judged until that is done, also those of peers that have
    /// left meanwhile.
    fn check_judging(&self) -> Result<(), Violation> {
        let most = self.ctx.config.limits.handshaking_connections;
        if self.ops.len() < most {
            return Ok(());
        }
        let full = "too many credentials are being judged: try again later";
        Err(Violation::exhausted("handshaking_connections", BoundOf::Runtime, most as u64, full))
    }

    fn authenticate(&mut self, conn: ConnId, credential: Credential, challenge: Option<String>) -> OpId {
        let op = self.ctx.next_op();
        self.ops.insert(op, conn);
        self.ctx.output(Output::Authenticate { op, conn, credential, challenge });
        op
    }

    /// The answer to a challenge.
    pub(super) fn on_proof(&mut self, id: ConnId, request: WireId, proof: ClientProof) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match core::mem::replace(&mut conn.phase, Phase::Fresh) {
            Phase::Challenged { open, nonce } if proof.nonce.as_ref().is_none_or(|named| *named == nonce) => {
                let credential = proven(&open.credential, proof.response);
                self.judge(id, request, open, credential, Some(nonce));
            }
            Phase::Challenged { open, nonce } => {
                conn.phase = Phase::Challenged { open, nonce };
                self.not_proven(id, request, wrong_proof());
            }
            phase @ (Phase::Fresh | Phase::Authenticating { .. } | Phase::Attached(_)) => conn.phase = phase,
        }
    }

    /// A proof for the session that is open: it refreshes the lease.
    pub(super) fn on_proof_again(&mut self, conn: ConnId, session: SessionId, id: WireId, proof: ClientProof) {
        let anonymous = self.sessions.get(session).is_some_and(|session| session.principal.is_anonymous());
        if anonymous {
            self.on_refreshed(conn, session, id, None);
            return;
        }
        let peer = self.conns.get(&conn).and_then(|conn| conn.peer.clone());
        if peer.is_some() {
            self.on_refreshed(conn, session, id, peer.as_ref());
            return;
        }
        if self.conns.get(&conn).is_some_and(|conn| conn.proving.is_some()) {
            let busy = Violation::invalid("a proof is being judged already: wait for what comes of it");
            return self.refuse_freely(conn, Refusal::of(Concern::Frame, busy, Some(id)));
        }
        let asked = self.conns.get(&conn).map(|conn| (conn.scheme.clone(), conn.nonce.clone()));
        let (scheme, nonce) = asked.unwrap_or_default();
        // Only what this runtime asked for is proof of anything.
        if nonce.is_some() && proof.nonce.is_some() && proof.nonce != nonce {
            return self.not_proven(conn, id, wrong_proof());
        }
        let credential = match scheme {
            Some(scheme) => Credential::Other { scheme, token: proof.response },
            None => Credential::Bearer(proof.response),
        };
        if let Err(full) = self.check_judging() {
            return self.refuse_freely(conn, Refusal::of(Concern::Frame, full, Some(id)));
        }
        let op = self.authenticate(conn, credential, nonce);
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.proving = Some((op, id));
        }
    }

    /// A proof was wrong: it may be given again, but not often.
    pub(super) fn not_proven(&mut self, id: ConnId, request: WireId, wrong: Violation) {
        self.refuse_freely(id, Refusal::of(Concern::Proof, wrong, Some(request)));
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.failures += 1;
        if conn.failures >= PROOFS {
            self.leave_after(id, CloseReason::Refused);
        }
    }

    pub(super) fn on_authenticated(&mut self, op: OpId, principal: Option<Principal>) {
        let Some(id) = self.ops.remove(&op) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match core::mem::replace(&mut conn.phase, Phase::Fresh) {
            Phase::Authenticating { op: current, id: request, open, nonce } if current == op => {
                match (principal, nonce) {
                    (Some(principal), _) => self.opened(id, request, open, Proof::Known(principal)),
                    (None, Some(nonce)) => {
                        conn.phase = Phase::Challenged { open, nonce };
                        self.not_proven(id, request, wrong_proof());
                    }
                    (None, None) => {
                        self.deny(id, ErrorCode::Unauthenticated, "the credential was not accepted", Some(request));
                    }
                }
            }
            Phase::Attached(session) => {
                conn.phase = Phase::Attached(session);
                let Some((_, request)) = conn.proving.take_if(|(current, _)| *current == op) else {
                    return;
                };
                if !self.on_refreshed(id, session, request.clone(), principal.as_ref()) {
                    self.not_proven(id, request, wrong_proof());
                }
            }
            phase @ (Phase::Fresh | Phase::Challenged { .. } | Phase::Authenticating { .. }) => conn.phase = phase,
        }
    }

    fn opened(&mut self, id: ConnId, request: WireId, open: Open, proof: Proof) {
        if let Some(claim) = &open.resume {
            self.resume(id, &request, claim, &proof);
            return;
        }
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let (view, network) = (conn.view, conn.network);
        let session = SessionId::from_ulid(self.ctx.entropy.ulid(self.ctx.now.utc));
        let principal = match proof {
            Proof::Known(principal) => principal,
            Proof::Nobody => Principal::anonymous(session, network),
        };
        let only_resumes = match self.admit(&principal) {
            Ok(()) => None,
            // Whoever has to open a session to resume another one may do so.
            Err(full) if view.family.resumes_after_opening() && self.sessions.admission.has_detached(&principal) => {
                Some(full)
            }
            Err(full) => {
                self.refuse(id, Refusal::of(Concern::Session, full, Some(request)));
                return self.leave_after(id, CloseReason::Refused);
            }
        };
        let view = view.negotiated(open.features, self.ctx.config.features());
        let extensions: Vec<String> =
            open.extensions.iter().filter(|name| self.ctx.config.extensions.contains(name)).cloned().collect();
        let token = self.fresh_token();
        let digest = token.digest();
        let anonymous = principal.is_anonymous();
        let mut made = Session::new(principal.clone(), view, digest);
        made.extensions = extensions.clone();
        made.only_resumes = only_resumes;
        self.sessions.insert(session, made);
        self.delivery.open(session, principal.clone(), view);
        let record =
            Record::SessionOpened { session, principal: principal.clone(), anonymous, view, token: digest, extensions };
        // What is there to resume another one is gone with its connection.
        if self.sessions.get(session).is_some_and(Session::is_recorded) {
            self.ctx.append(record);
        }
        let client = alloc::format!("{} {}", open.client.name, open.client.version);
        self.ctx.observe(Notice::SessionOpened { session, principal, client });
        self.lend(session);
        self.attach(session, id, 0);
        self.welcome(id, session, token, Welcome { request, replay: None });
    }

    fn welcome(&mut self, conn: ConnId, id: SessionId, token: Secret, welcome: Welcome) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let view = session.view;
        let opened = Opened {
            session: id.into(),
            resume_token: token,
            resume_window_s: self.ctx.config.resume_window.as_secs(),
            heartbeat_s: self.heartbeat_of(view).map(|interval| interval.as_secs()),
            beat_s: self.ctx.config.heartbeat.filter(|_| view.announces_job_beats()).map(|interval| interval.as_secs()),
            features: view.features,
            agents: self.ctx.config.agents.clone(),
            runtime: self.ctx.config.runtime.clone(),
            accepted_at: self.ctx.now.utc,
            expires_at: session.expires_at,
            extensions: session.extensions.clone(),
            anonymous: self.ctx.config.anonymous,
            capabilities: Json::empty_object(),
            replay: welcome.replay,
            request: Some(welcome.request),
        };
        self.answer(conn, Reply::Opened(opened));
    }

    /// `session.resume` on a connection whose own session is open.
    pub(super) fn on_resume_here(&mut self, conn: ConnId, fresh: SessionId, id: WireId, claim: &ResumeClaim) {
        let Some(session) = self.sessions.get(fresh) else {
            return;
        };
        let is_unused = !session.commanded && self.delivery.feed(fresh).is_some_and(Feed::is_unused);
        if !is_unused {
            let used = Violation::invalid("this connection's session has been used: resume on a fresh connection");
            return self.refuse(conn, Refusal::of(Concern::Frame, used, Some(id)));
        }
        let proof =
            if session.principal.is_anonymous() { Proof::Nobody } else { Proof::Known(session.principal.clone()) };
        if self.resume(conn, &id, claim, &proof) {
            self.end_session(fresh);
        }
    }

    /// Hands an earlier session to this connection. A refused claim consumes
    /// nothing.
    fn resume(&mut self, conn: ConnId, request: &WireId, claim: &ResumeClaim, proof: &Proof) -> bool {
        let session = match self.claimed(conn, claim, proof) {
            Ok(session) => session,
            Err(violation) => {
                self.refuse(conn, Refusal::of(Concern::Session, violation, Some(request.clone())));
                self.leave_after(conn, CloseReason::Refused);
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
            self.dismiss(old, Refusal::of(Concern::Session, newer, None), CloseReason::TakenOver);
        }
        let token = self.fresh_token();
        self.sessions.rotate(session, token.digest());
        self.ctx.append(Record::TokenRotated { session, token: token.digest() });
        self.ctx.observe(Notice::SessionResumed { session });
        // Its client has just proved who it is.
        self.lend(session);
        self.attach(session, conn, claim.last_seq);
        let behind = self.delivery.feed(session).is_some_and(|feed| feed.head() > claim.last_seq);
        let welcome = Welcome { request: request.clone(), replay: Some((claim.last_seq, behind)) };
        self.welcome(conn, session, token, welcome);
        true
    }

    fn claimed(&self, conn: ConnId, claim: &ResumeClaim, proof: &Proof) -> Result<SessionId, Violation> {
        let unproven = || Violation::new(ErrorCode::Unauthenticated, "the resume token was not accepted");
        let expired = |why: String| Violation::new(ErrorCode::ResumeWindowExpired, why);
        let digest = claim.token.digest();
        let Some(id) = self.sessions.find(&digest) else {
            return Err(match (self.sessions.ended(&digest), proof) {
                (Some(owner), Proof::Known(principal)) if owner == principal => {
                    expired("the session ended: its resume window is over".to_string())
                }
                (Some(_), Proof::Nobody) => expired("the session ended: its resume window is over".to_string()),
                (Some(_) | None, Proof::Known(_) | Proof::Nobody) => unproven(),
            });
        };
        let session = self.sessions.get(id).ok_or_else(unproven)?;
        let taken = session.evicted.is_some();
        let proven = match proof {
            Proof::Known(principal) => *principal == session.principal,
            Proof::Nobody => session.principal.is_anonymous(),
        };
        let named = claim.session.as_ref().is_none_or(|named| named.as_str() == id.to_string());
        let family = self.conns.get(&conn).map(|conn| conn.view.family);
        if !proven || !named || family != Some(session.view.family) {
            return Err(unproven());
        }
        if taken {
            return Err(expired("the session was taken from its client".to_string()));
        }
        if session.only_resumes.is_some() {
            return Err(expired("the session is there to resume another one, and has nothing itself".to_string()));
        }
        let feed = self.delivery.feed(id).ok_or_else(unproven)?;
        if claim.last_seq > feed.sent() {
            let why =
                alloc::format!("nothing after {} was ever sent, `last_event_seq` is {}", feed.sent(), claim.last_seq);
            return Err(expired(why));
        }
        if let Some(lost) = feed.index().first_lost(claim.last_seq, &self.jobs) {
            let why = alloc::format!(
                "not all events after {} are still held: number {lost} is the first that is not",
                claim.last_seq
            );
            return Err(expired(why));
        }
        Ok(id)
    }

    fn fresh_token(&mut self) -> Secret {
        use base64::Engine as _;
        let mut text = String::from("rtk_");
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_string(self.ctx.entropy.secret_256(), &mut text);
        Secret::new(text)
    }

    fn deny(&mut self, conn: ConnId, code: ErrorCode, why: &'static str, request: Option<WireId>) {
        self.refuse_freely(conn, Refusal::of(Concern::Session, Violation::new(code, why), request));
        self.leave_after(conn, CloseReason::Refused);
    }
}
