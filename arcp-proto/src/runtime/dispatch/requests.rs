//! Passes requests of sessions to their handlers, and answers them.

use alloc::string::String;

use super::{policy, prompts};
use crate::error::Violation;
use crate::id::{ConnId, SessionId, WireId};
use crate::model::reply::{Refusal, RefusedKind, Reply, SessionReply};
use crate::model::request::{Extension, HandshakeRequest, Proof, Request, SessionRequest};
use crate::runtime::Runtime;
use crate::runtime::connection::{Answer, Content};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{CloseReason, Verdict};
use crate::runtime::list::{JobListing, Listing, ScheduleListing, SessionListing};
use crate::runtime::session::Session;
use crate::wire::ReceivedRequest;
use crate::wire::envelope::Header;

/// Handles one request of a session. `commands` has the handlers of commands, and `submit` that of
/// submits.
pub(super) struct RequestHandler<'r> {
    pub(super) runtime: &'r mut Runtime,
    pub(super) conn: ConnId,
    pub(super) session: SessionId,
    /// The id of its message.
    pub(super) id: WireId,
}

impl<'r> RequestHandler<'r> {
    pub(super) fn new(runtime: &'r mut Runtime, conn: ConnId, session: SessionId, id: WireId) -> RequestHandler<'r> {
        RequestHandler { runtime, conn, session, id }
    }

    /// Handles a message of the session.
    pub(super) fn on_request(
        runtime: &'r mut Runtime,
        conn: ConnId,
        session: SessionId,
        received: ReceivedRequest,
        header: &Header<'_>,
    ) {
        let ReceivedRequest { id, request, session: named, .. } = received;
        let mut handler = RequestHandler::new(runtime, conn, session, id);
        let attached = handler.runtime.sessions.get(session);
        let only_resumes = attached.and_then(|session| session.only_resumes().cloned());
        if let Some(why) = only_resumes.filter(|_| !may_come_before_resuming(&request)) {
            handler.refuse(RefusedKind::Session, why);
            return handler.runtime.connections.leave_after(&mut handler.runtime.ctx, conn, CloseReason::Refused);
        }
        match request {
            Request::Handshake(request) => handler.on_handshake_request(request),
            Request::Session(request) => handler.on_session_request(named.as_ref(), request),
            Request::Command(command) => handler.on_command(command, header),
        }
    }

    /// Answers the request.
    pub(super) fn answer(&mut self, answer: impl Into<Answer>) {
        self.runtime.answer(self.conn, answer);
    }

    /// The answer that the request was done.
    pub(super) fn done(&self, detail: impl Into<String>) -> Reply {
        Reply::Session(SessionReply::Done { detail: detail.into(), request: Some(self.id.clone()) })
    }

    /// Refuses the request.
    pub(super) fn refuse(&mut self, kind: RefusedKind, violation: Violation) {
        let refusal = Refusal::new(kind, violation, Some(self.id.clone()));
        self.runtime.refuse(self.conn, refusal);
    }

    /// Refuses the request as a message that may not be sent.
    fn refuse_frame(&mut self, violation: Violation) {
        self.runtime.refuse_frame(self.conn, violation, Some(self.id.clone()));
    }

    fn on_handshake_request(self, request: HandshakeRequest) {
        let RequestHandler { runtime, conn, session, id } = self;
        match request {
            HandshakeRequest::Open(_) => {
                let open = Violation::invalid("the session is open already: a connection opens one");
                runtime.refuse_frame(conn, open, Some(id));
            }
            HandshakeRequest::Resume(claim) => {
                super::opening::OpeningHandler::resume_here(runtime, conn, session, id, &claim)
            }
            HandshakeRequest::Authenticate(proof) => {
                RequestHandler::new(runtime, conn, session, id).on_proof_again(proof);
            }
        }
    }

    /// `named` is the session that the request names.
    fn on_session_request(mut self, named: Option<&WireId>, request: SessionRequest) {
        match request {
            SessionRequest::Close { reason, answered } => {
                if answered {
                    let request = Some(self.id.clone());
                    self.answer(Answer::free(Reply::Session(SessionReply::Closed { reason, request })));
                }
                let Runtime { ctx, connections, sessions, .. } = self.runtime;
                sessions.close(self.session);
                connections.leave_after(ctx, self.conn, CloseReason::Goodbye);
            }
            SessionRequest::Ping { nonce } => {
                let at = self.runtime.ctx.now.utc;
                self.runtime
                    .say_aside(self.conn, Reply::Session(SessionReply::Pong { nonce, at, request: Some(self.id) }));
                let Runtime { ctx, connections, .. } = self.runtime;
                if let Some(conn) = connections.get_mut(self.conn) {
                    conn.expect_pings(ctx);
                }
            }
            SessionRequest::Echo { nonce } => {
                self.runtime.say_aside(self.conn, Reply::Session(SessionReply::Echo { nonce, request: Some(self.id) }));
            }
            SessionRequest::Extension(message) => self.on_extension(message),
            SessionRequest::Ack { seq } => {
                let Runtime { ctx, delivery, .. } = self.runtime;
                delivery.feeds.acknowledge(ctx, self.session, seq);
            }
            SessionRequest::List(query) => {
                let page = |ctx: &Context, session: &Session, id| JobListing::new(ctx, session, id, query);
                self.on_list(|ctx, session, id| page(ctx, session, id).map(|page| Listing::Jobs(page.into())))
            }
            SessionRequest::ListSessions(query) => {
                self.on_list(|ctx, session, id| SessionListing::new(ctx, session, id, &query).map(Listing::Sessions))
            }
            SessionRequest::ListSchedules(query) => {
                self.on_list(|ctx, session, id| ScheduleListing::new(ctx, session, id, query).map(Listing::Schedules))
            }
            SessionRequest::ListCheckpoints { job } => self.on_list_checkpoints(&job),
            SessionRequest::Replay(asked) => self.on_replay(named, &asked),
            SessionRequest::Pace { stream, every } => self.on_pace(&stream, every),
            SessionRequest::AboutArtifacts(wish) => self.on_artifact_wish(&wish),
            SessionRequest::AwaitPrompt => {
                let due = self.runtime.connections.prompts.await_next(self.conn, &self.id);
                due.into_iter().for_each(|request| self.answer(prompts::told(request)));
            }
            SessionRequest::Pong { .. } | SessionRequest::Echoed { .. } | SessionRequest::Ignored => {}
        }
    }

    fn on_list(&mut self, asked: impl FnOnce(&Context, &Session, WireId) -> Result<Listing, Violation>) {
        let Some(session) = self.runtime.sessions.get(self.session) else {
            debug_assert!(false, "{} is attached", self.session);
            return;
        };
        match asked(&self.runtime.ctx, session, self.id.clone()) {
            Ok(listing) => self.answer(Content::Page(listing)),
            Err(violation) => self.refuse(RefusedKind::Listing, violation),
        }
    }

    /// Passes a message of an extension to the host, if both sides agreed to the extension.
    fn on_extension(&mut self, message: Extension) {
        let Runtime { ctx, sessions, .. } = &mut *self.runtime;
        match sessions.give_extension(ctx, self.session, message) {
            Ok(()) => ctx.ready(self.conn),
            Err(violation) => self.refuse_frame(violation),
        }
    }

    /// Handles a proof for the open session, which renews its lease.
    fn on_proof_again(mut self, proof: Proof) {
        let Some(session) = self.runtime.sessions.get(self.session).expected("who proves something has a session")
        else {
            return;
        };
        let principal = session.principal().clone();
        if principal.is_anonymous() {
            return self.on_proven_again(None);
        }
        let at = self.runtime.position(self.conn);
        let Runtime { ctx, connections, .. } = &mut *self.runtime;
        let vouched = connections.prove_again(ctx, self.conn, &self.id, proof, (at, &principal));
        self.runtime.carry();
        if let Some(verdict) = vouched {
            self.on_proven_again(Some(&verdict));
        }
    }

    /// Handles the verdict on a proof for the open session.
    pub(super) fn on_proven_again(&mut self, verdict: Option<&Verdict>) {
        let Runtime { ctx, sessions, .. } = &mut *self.runtime;
        match sessions.refresh(ctx, self.session, verdict) {
            Some(detail) => {
                if self.runtime.ctx.config.authority.policy.is_some() {
                    policy::judge_anew(self.runtime, self.session);
                    prompts::look_again(self.runtime, self.conn);
                }
                self.answer(Answer::free(self.done(detail)));
            }
            None => {
                let at = self.runtime.position(self.conn);
                let Runtime { ctx, connections, .. } = &mut *self.runtime;
                connections.refuse_wrong_proof(ctx, self.conn, self.id.clone(), at);
                self.runtime.carry();
            }
        }
    }
}

/// Whether a client may send this in a session that exists only to resume another one.
fn may_come_before_resuming(request: &Request) -> bool {
    match request {
        Request::Handshake(HandshakeRequest::Resume(_) | HandshakeRequest::Authenticate(_)) => true,
        Request::Handshake(HandshakeRequest::Open(_)) | Request::Command(_) => false,
        Request::Session(request) => match request {
            SessionRequest::Close { .. }
            | SessionRequest::Ping { .. }
            | SessionRequest::Pong { .. }
            | SessionRequest::Echo { .. }
            | SessionRequest::Echoed { .. }
            | SessionRequest::Ack { .. }
            | SessionRequest::Ignored => true,
            SessionRequest::List(_)
            | SessionRequest::ListSessions(_)
            | SessionRequest::ListSchedules(_)
            | SessionRequest::AboutArtifacts(_)
            | SessionRequest::ListCheckpoints { .. }
            | SessionRequest::AwaitPrompt
            | SessionRequest::Replay(_)
            | SessionRequest::Pace { .. }
            | SessionRequest::Extension(_) => false,
        },
    }
}
