//! Takes what a client asks to whoever does it.

use crate::error::Violation;
use crate::id::{ConnId, SessionId, WireId};
use crate::model::reply::{Refusal, RefusedKind, Reply};
use crate::model::request::{Extension, HandshakeRequest, ListQuery, Request, SessionRequest};
use crate::runtime::Runtime;
use crate::runtime::connection::{Answer, Content};
use crate::runtime::io::CloseReason;
use crate::runtime::list::Listing;
use crate::wire::ReceivedRequest;
use crate::wire::envelope::Header;

impl Runtime {
    pub(in crate::runtime) fn on_request(
        &mut self,
        conn: ConnId,
        session: SessionId,
        received: ReceivedRequest,
        header: &Header<'_>,
    ) {
        let ReceivedRequest { id, request, session: named, .. } = received;
        let only_resumes = self.sessions.get(session).and_then(|session| session.only_resumes().cloned());
        if let Some(why) = only_resumes.filter(|_| !may_come_before_resuming(&request)) {
            self.refuse(conn, Refusal::of(RefusedKind::Session, why, Some(id)));
            return self.connections.leave_after(&mut self.ctx, conn, CloseReason::Refused);
        }
        match request {
            Request::Handshake(request) => self.on_handshake_request(conn, session, id, request),
            Request::Session(request) => self.on_session_request(conn, session, named.as_ref(), id, request),
            Request::Command(command) => self.on_command(conn, session, id, command, header),
        }
    }

    fn on_handshake_request(&mut self, conn: ConnId, session: SessionId, id: WireId, request: HandshakeRequest) {
        match request {
            HandshakeRequest::Open(_) => {
                let violation = Violation::invalid("the session is open already: a connection opens one");
                self.refuse_frame(conn, violation, Some(id));
            }
            HandshakeRequest::Resume(claim) => self.on_resume_here(conn, session, id, &claim),
            HandshakeRequest::Authenticate(proof) => self.on_proof_again(conn, session, id, proof),
        }
    }

    /// `named` is the session that the request names.
    fn on_session_request(
        &mut self,
        conn: ConnId,
        session: SessionId,
        named: Option<&WireId>,
        id: WireId,
        request: SessionRequest,
    ) {
        match request {
            SessionRequest::Close { reason, answered } => {
                if answered {
                    self.answer(conn, Answer::free(Reply::Closed { reason, request: Some(id) }));
                }
                self.sessions.close(session);
                self.connections.leave_after(&mut self.ctx, conn, CloseReason::Goodbye);
            }
            SessionRequest::Ping { nonce } => {
                let at = self.ctx.now.utc;
                self.say_aside(conn, Reply::Pong { nonce, at, request: Some(id) });
                if let Some(conn) = self.connections.get_mut(conn) {
                    conn.expect_pings(&mut self.ctx);
                }
            }
            SessionRequest::Echo { nonce } => self.say_aside(conn, Reply::Echo { nonce, request: Some(id) }),
            SessionRequest::Extension(message) => self.on_extension(conn, session, id, message),
            SessionRequest::Ack { seq } => self.delivery.acknowledge(&mut self.ctx, session, seq),
            SessionRequest::List(query) => self.on_list(conn, session, id, query),
            SessionRequest::Replay(asked) => self.on_replay(conn, session, named, id, &asked),
            SessionRequest::Pace { stream, every } => self.on_pace(conn, session, id, &stream, every),
            SessionRequest::Pong { .. } | SessionRequest::Ignored => {}
        }
    }

    fn on_list(&mut self, conn: ConnId, session: SessionId, id: WireId, query: ListQuery) {
        let Some(session) = self.sessions.get(session) else {
            debug_assert!(false, "{session} is attached");
            return;
        };
        match Listing::new(&self.ctx, session, id.clone(), query) {
            Ok(listing) => self.answer(conn, Content::Page(listing)),
            Err(violation) => self.refuse(conn, Refusal::of(RefusedKind::Listing, violation, Some(id))),
        }
    }

    /// A message of an extension goes to the host, if both sides speak it.
    fn on_extension(&mut self, conn: ConnId, session: SessionId, id: WireId, message: Extension) {
        match self.sessions.give_extension(&mut self.ctx, session, message) {
            Ok(()) => self.ctx.ready(conn),
            Err(violation) => self.refuse_frame(conn, violation, Some(id)),
        }
    }

    /// The host has taken a message: perhaps its sender is read again.
    pub(in crate::runtime) fn on_extension_taken(&mut self, session: SessionId) {
        self.sessions.take_extension(session);
        if let Some(conn) = self.delivery.conn(session) {
            self.ctx.ready(conn);
        }
    }
}

/// What a client may ask in a session that is there to resume another one.
fn may_come_before_resuming(request: &Request) -> bool {
    match request {
        Request::Handshake(HandshakeRequest::Resume(_) | HandshakeRequest::Authenticate(_)) => true,
        Request::Handshake(HandshakeRequest::Open(_)) | Request::Command(_) => false,
        Request::Session(request) => match request {
            SessionRequest::Close { .. }
            | SessionRequest::Ping { .. }
            | SessionRequest::Pong { .. }
            | SessionRequest::Echo { .. }
            | SessionRequest::Ack { .. }
            | SessionRequest::Ignored => true,
            SessionRequest::List(_)
            | SessionRequest::Replay(_)
            | SessionRequest::Pace { .. }
            | SessionRequest::Extension(_) => false,
        },
    }
}
