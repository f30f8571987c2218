//! Takes what connections hear to sessions and jobs, and what those are sent
//! to connections.

use crate::error::Violation;
use crate::id::{ConnId, OpId, WireId};
use crate::model::reply::{Refusal, Reply, Subject};
use crate::runtime::Runtime;
use crate::runtime::connection::{Answer, Conn, Heard, Judged, Next};
use crate::runtime::delivery::Feed;
use crate::runtime::effect::Position;
use crate::runtime::io::{CloseReason, Verdict};

impl Runtime {
    pub(in crate::runtime) fn on_received(&mut self, conn: ConnId, frame: &[u8]) {
        let heard = self.connections.on_received(&mut self.ctx, &self.sessions, conn, frame);
        self.carry();
        match heard {
            Heard::Nothing => {}
            Heard::Refused(subject, violation) => self.refuse_message(conn, subject, violation),
            Heard::Opening(opening) => self.on_opening(conn, opening),
            Heard::Request(session, received, header) => self.on_request(conn, session, received, &header),
        }
    }

    pub(in crate::runtime) fn on_too_long(&mut self, conn: ConnId) {
        let at = self.position(conn);
        self.connections.on_too_long(&mut self.ctx, &self.sessions, conn, at);
        self.carry();
    }

    pub(in crate::runtime) fn on_authenticated(&mut self, op: OpId, verdict: Option<Verdict>) {
        let judged = self.connections.on_authenticated(&mut self.ctx, op, verdict);
        self.carry();
        match judged {
            Some((conn, Judged::Opening(opening))) => self.on_opening(conn, opening),
            Some((conn, Judged::Again { session, request, verdict })) => {
                self.on_proven_again(conn, session, request, verdict.as_ref());
            }
            None => {}
        }
    }

    /// Lets connections send what they can before this input is over.
    pub(in crate::runtime) fn pump_ready(&mut self) {
        while let Some(conn) = self.ctx.next_ready() {
            self.pump(conn);
        }
    }

    /// Sends everything that may be sent now.
    pub(in crate::runtime) fn pump(&mut self, conn: ConnId) {
        while self.send_next(conn) {}
        self.settle(conn);
    }

    /// Sends what comes next; false if nothing can be sent.
    fn send_next(&mut self, conn: ConnId) -> bool {
        let cursor = self.position(conn).cursor;
        let Some(attached) = self.connections.get_mut(conn) else {
            return false;
        };
        match attached.next(&mut self.ctx, cursor) {
            Next::Sent => true,
            Next::Page(turn, listing) => {
                let page = Reply::Jobs(listing.page(&self.ctx, &self.jobs));
                if let Some(conn) = self.connections.get_mut(conn) {
                    conn.put_page(&self.ctx, turn, page);
                }
                true
            }
            Next::Replay(upto) => self.pump_replay(conn) || self.send_next_event(conn, upto),
            Next::Numbered(upto) => self.send_next_event(conn, upto),
            Next::Nothing => false,
        }
    }

    fn settle(&mut self, conn: ConnId) {
        let at = self.position(conn);
        let session = self.connections.session(conn);
        let most = self.ctx.config.limits.extension_bytes;
        let attached = session.and_then(|session| self.sessions.get(session));
        let host_is_full = attached.is_some_and(|session| session.extensions().untaken_bytes() >= most);
        self.connections.settle(&mut self.ctx, conn, at, host_is_full);
        if let Some(session) = session.filter(|_| !self.connections.get(conn).is_some_and(Conn::has_credit)) {
            self.delivery.bound_reading(&mut self.ctx, session);
        }
        self.carry();
    }

    /// How far the session of a connection is.
    pub(in crate::runtime) fn position(&self, conn: ConnId) -> Position {
        let feed = self.connections.session(conn).and_then(|session| self.delivery.feed(session));
        feed.map(Feed::position).unwrap_or_default()
    }

    /// Queues an answer; it may be seen once whatever was appended before it,
    /// with the rest of its batch, is durable.
    pub(in crate::runtime) fn answer(&mut self, conn: ConnId, answer: impl Into<Answer>) {
        let at = self.position(conn);
        self.connections.answer(&mut self.ctx, conn, answer.into(), at);
        self.carry();
    }

    /// Refuses what a record decides, durable or not.
    pub(in crate::runtime) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let at = self.position(conn);
        self.connections.refuse(&mut self.ctx, conn, refusal, at);
        self.carry();
    }

    /// Refuses a frame that could not be understood or may not be sent.
    pub(in crate::runtime) fn refuse_frame(&mut self, conn: ConnId, violation: Violation, request: Option<WireId>) {
        self.refuse_message(conn, Subject { id: request, ..Subject::unknown() }, violation);
    }

    fn refuse_message(&mut self, conn: ConnId, subject: Subject, violation: Violation) {
        let at = self.position(conn);
        self.connections.refuse_message(&mut self.ctx, conn, subject, violation, at);
        self.carry();
    }

    /// Queues what is no answer: it passes the answers by.
    pub(in crate::runtime) fn say_aside(&mut self, conn: ConnId, reply: Reply) {
        self.connections.say_aside(&mut self.ctx, conn, reply);
        self.carry();
    }

    /// Refuses a connection, and ends it at once.
    pub(in crate::runtime) fn dismiss(&mut self, conn: ConnId, refusal: Refusal, reason: CloseReason) {
        self.connections.dismiss(&mut self.ctx, conn, refusal, reason);
        self.carry();
    }

    /// Ends a connection.
    pub(in crate::runtime) fn leave(&mut self, conn: ConnId, reason: CloseReason) {
        self.connections.leave(&mut self.ctx, conn, reason);
        self.carry();
    }
}
