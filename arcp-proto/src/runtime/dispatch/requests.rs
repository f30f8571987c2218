//! Takes what a client asks to whoever does it.

use crate::error::Violation;
use crate::id::{ConnId, SessionId, WireId};
use crate::model::reply::{Concern, Refusal, Reply};
use crate::model::request::{Extension, Request};
use crate::runtime::Runtime;
use crate::runtime::connection::Answer;
use crate::runtime::io::CloseReason;
use crate::wire::Inbound;
use crate::wire::envelope::Header;

impl Runtime {
    pub(in crate::runtime) fn on_request(
        &mut self,
        conn: ConnId,
        session: SessionId,
        inbound: Inbound,
        header: &Header<'_>,
    ) {
        let Inbound { id, request, session: named, .. } = inbound;
        let only_resumes = self.sessions.get(session).and_then(|session| session.only_resumes().cloned());
        if let Some(why) = only_resumes.filter(|_| !may_come_before_resuming(&request)) {
            self.refuse(conn, Refusal::of(Concern::Session, why, Some(id)));
            return self.connections.leave_after(&mut self.ctx, conn, CloseReason::Refused);
        }
        match request {
            Request::Open(_) => {
                let violation = Violation::invalid("the session is open already: a connection opens one");
                self.refuse_frame(conn, violation, Some(id));
            }
            Request::Resume(claim) => self.on_resume_here(conn, session, id, &claim),
            Request::Close { reason, answered } => {
                if answered {
                    self.answer(conn, Answer::free(Reply::Closed { reason, request: Some(id) }));
                }
                self.sessions.close(session);
                self.connections.leave_after(&mut self.ctx, conn, CloseReason::Goodbye);
            }
            Request::Ping { nonce } => {
                let at = self.ctx.now.utc;
                self.say_aside(conn, Reply::Pong { nonce, at, request: Some(id) });
                self.connections.expect_pings(&mut self.ctx, conn);
            }
            Request::Echo { nonce } => self.say_aside(conn, Reply::Echo { nonce, request: Some(id) }),
            Request::Authenticate(proof) => self.on_proof_again(conn, session, id, proof),
            Request::Extension(message) => self.on_extension(conn, session, id, message),
            Request::Pong { .. } | Request::Ignored => {}
            Request::Ack { seq } => self.delivery.acknowledge(&mut self.ctx, session, seq),
            Request::List(query) => self.on_list(conn, session, id, &query),
            Request::Replay(asked) => self.on_replay(conn, session, named.as_ref(), id, &asked),
            Request::Pace { stream, every } => self.on_pace(conn, session, id, &stream, every),
            Request::Submit(..)
            | Request::Cancel(_)
            | Request::Watch(_)
            | Request::Unwatch { .. }
            | Request::Subscribe(_)
            | Request::Unsubscribe { .. } => self.on_command(conn, session, id, request, header),
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
        Request::Resume(_)
        | Request::Close { .. }
        | Request::Ping { .. }
        | Request::Pong { .. }
        | Request::Echo { .. }
        | Request::Authenticate(_)
        | Request::Ack { .. }
        | Request::Ignored => true,
        Request::Open(_)
        | Request::List(_)
        | Request::Submit(..)
        | Request::Cancel(_)
        | Request::Watch(_)
        | Request::Unwatch { .. }
        | Request::Subscribe(_)
        | Request::Unsubscribe { .. }
        | Request::Replay(_)
        | Request::Pace { .. }
        | Request::Extension(_) => false,
    }
}
