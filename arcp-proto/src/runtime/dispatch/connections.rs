//! Passes what connections receive to its handlers, and answers and messages to connections.

use alloc::collections::VecDeque;

use super::hearing::{hear, on_binary, on_missing};
use super::opening::OpeningHandler;
use super::requests::RequestHandler;
use super::writer::Writer;
use crate::error::Violation;
use crate::id::{ConnId, JobId, OpId, SessionId, WireId};
use crate::model::feature::Feature;
use crate::model::reply::{JobHeartbeat, Refusal, RefusedKind, Reply, SessionReply, Subject};
use crate::model::request::Extension;
use crate::runtime::Runtime;
use crate::runtime::asker::Asker;
use crate::runtime::connection::{Answer, Conn, Held, Judged, on_not_judged as given_up};
use crate::runtime::delivery::{Audience, Feed};
use crate::runtime::edge::not_judged;
use crate::runtime::effect::Position;
use crate::runtime::io::{CloseReason, Notice};
use crate::runtime::job::provisioning;
use crate::time::Timestamp;

/// A credential could not be judged.
pub(in crate::runtime) fn on_not_judged(runtime: &mut Runtime, op: OpId) {
    if let Some((conn, request)) = given_up(&mut runtime.connections, &mut runtime.ctx, op) {
        let at = runtime.position(conn);
        let refusal = Refusal::new(RefusedKind::Frame, not_judged(), Some(request));
        runtime.connections.refuse_freely(&mut runtime.ctx, conn, refusal, at);
    }
    runtime.carry();
}

impl Runtime {
    pub(in crate::runtime) fn on_received(&mut self, conn: ConnId, frame: &[u8]) {
        on_missing(self, conn);
        hear(self, conn, frame, None);
    }

    /// Handles the frames that waited while the host was busy, the request first. If one of them
    /// has to wait for the host too, those after it wait for that.
    pub(in crate::runtime) fn hear_again(&mut self, judged: Option<(ConnId, VecDeque<Held>)>) {
        let Some((conn, held)) = judged else {
            return; // No frames waited for this.
        };
        for said in held {
            match said {
                Held::Frame(frame, None) => self.on_received(conn, &frame),
                Held::Frame(frame, Some(bytes)) => hear(self, conn, &frame, Some(&bytes)),
                Held::Binary(message) => on_binary(self, conn, &message),
                Held::TooLong => self.on_too_long(conn),
            }
        }
        if !self.connections.get(conn).is_some_and(Conn::awaits_credentials) {
            provisioning::abandon(&mut self.jobs, &mut self.ctx, Asker::Conn(conn));
        }
    }

    pub(in crate::runtime) fn on_too_long(&mut self, conn: ConnId) {
        let at = self.position(conn);
        self.connections.on_too_long(&mut self.ctx, &self.sessions, conn, at);
        self.carry();
    }

    /// A peer's principal is known, or was proved again.
    pub(in crate::runtime) fn on_judged(&mut self, judged: Option<(ConnId, Judged)>) {
        self.carry();
        match judged {
            Some((conn, Judged::Opening(opening))) => OpeningHandler::on_opening(self, conn, opening),
            Some((conn, Judged::Again { session, request, verdict })) => {
                RequestHandler::new(self, conn, session, request).on_proven_again(verdict.as_ref());
            }
            None => {}
        }
    }

    /// The position of a connection's session.
    pub(in crate::runtime) fn position(&self, conn: ConnId) -> Position {
        let feed = self.connections.session(conn).and_then(|session| self.delivery.feeds.get(session));
        feed.map(Feed::position).unwrap_or_default()
    }

    /// Queues an answer. It is sent once everything appended before it, with the rest of its batch,
    /// is durable.
    pub(in crate::runtime) fn answer(&mut self, conn: ConnId, answer: impl Into<Answer>) {
        let at = self.position(conn);
        self.connections.answer(&mut self.ctx, conn, answer.into(), at);
        self.carry();
    }

    /// Queues a refusal, which waits for the records before it unless it follows from none.
    pub(in crate::runtime) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let at = self.position(conn);
        self.connections.refuse(&mut self.ctx, conn, refusal, at);
        self.carry();
    }

    /// Refuses a frame that could not be understood or may not be sent.
    pub(in crate::runtime) fn refuse_frame(&mut self, conn: ConnId, violation: Violation, request: Option<WireId>) {
        self.refuse_message(conn, Subject { id: request, ..Subject::unknown() }, violation);
    }

    pub(super) fn refuse_message(&mut self, conn: ConnId, subject: Subject, violation: Violation) {
        let at = self.position(conn);
        self.connections.refuse_message(&mut self.ctx, conn, subject, violation, at);
        self.carry();
    }

    /// Queues a reply that overtakes the answers.
    pub(in crate::runtime) fn say_aside(&mut self, conn: ConnId, reply: Reply) {
        self.connections.say_aside(&mut self.ctx, conn, reply);
        self.carry();
    }

    /// Refuses a connection, and closes it at once.
    pub(in crate::runtime) fn dismiss(&mut self, conn: ConnId, refusal: Refusal, reason: CloseReason) {
        self.connections.dismiss(&mut self.ctx, conn, refusal, reason);
        self.carry();
    }

    /// Closes a connection.
    pub(in crate::runtime) fn leave(&mut self, conn: ConnId, reason: CloseReason) {
        self.connections.leave(&mut self.ctx, conn, reason);
        self.carry();
    }

    /// Sends a message of an extension to a client that agreed to it and reads.
    pub(in crate::runtime) fn on_send_extension(&mut self, session: SessionId, message: Extension) {
        let agreed = self.sessions.get(session).is_some_and(|session| message.is_of(session.extensions().names()));
        let conn = self.delivery.feeds.conn(session).filter(|_| agreed);
        match conn.filter(|conn| self.connections.get(*conn).is_some_and(|conn| conn.has_room(&self.ctx))) {
            Some(conn) => self.say_aside(conn, SessionReply::Extension(message).into()),
            None => self.ctx.observe(Notice::ExtensionDropped { session, kind: message.kind }),
        }
    }

    /// A session has lost its connection.
    pub(super) fn detach(&mut self, id: SessionId, alive: Timestamp) {
        self.delivery.detach(&mut self.ctx, id);
        // A client that resumed the session would find nothing.
        let has_nothing = self.delivery.has_nothing_left(id);
        self.sessions.detach(&mut self.ctx, &self.jobs, id, alive, has_nothing);
    }

    /// The lease of a session is nearly or completely over.
    pub(in crate::runtime) fn on_session_lease(&mut self, id: SessionId) {
        let asked = self.sessions.on_session_lease(&mut self.ctx, id);
        self.carry();
        if let (Some(asked), Some(conn)) = (asked, self.delivery.feeds.conn(id)) {
            self.say_aside(conn, asked);
        }
    }

    /// The eviction of a session is durable: closes its connection.
    pub(in crate::runtime) fn on_evicted(&mut self, id: SessionId) {
        if let (Some(conn), Some(evicted)) = (self.delivery.feeds.conn(id), self.sessions.eviction(id)) {
            // First its frames, as far as its credit allows.
            Writer::pump(self, conn);
            if let Some(attached) = self.connections.get_mut(conn) {
                attached.send_reply(&mut self.ctx, &evicted);
            }
            self.leave(conn, CloseReason::Evicted);
        }
        self.sessions.forget(&mut self.ctx, &self.jobs, id);
        self.carry();
    }

    /// Sends a job's heartbeat to its watchers. A session that cannot be written to now gets the
    /// next one.
    pub(in crate::runtime) fn on_job_heartbeat(&mut self, id: JobId) {
        let Some(heartbeat) = self.jobs.on_heartbeat(&mut self.ctx, id) else {
            return; // The job has ended.
        };
        let watchers = self.delivery.audiences.get(id).map(|audience| audience.watchers().to_vec()).unwrap_or_default();
        for watcher in watchers {
            if !self.sessions.get(watcher).is_some_and(|session| session.view().has_job_heartbeats()) {
                continue;
            }
            let conn = self.delivery.feeds.conn(watcher);
            let Some(conn) = conn.and_then(|conn| self.connections.get_mut(conn)).filter(|conn| conn.can_write())
            else {
                continue;
            };
            let requests = self.delivery.audiences.get(id).map(Audience::requests);
            let request = requests.and_then(|requests| requests.get(watcher, requests.latest(watcher))).cloned();
            conn.send_reply(
                &mut self.ctx,
                &Reply::Session(SessionReply::JobHeartbeat(JobHeartbeat { request, ..heartbeat.clone() })),
            );
        }
    }

    /// An agent may have been silent for too long. The job is blocked if its submitter asked for
    /// that.
    pub(in crate::runtime) fn on_agent_silence(&mut self, id: JobId) {
        let submitter = self.jobs.get(id).and_then(|job| self.sessions.get(job.submitter()));
        let blocks = submitter.is_some_and(|session| session.view().features.has(Feature::BlockOnSilence));
        self.jobs.on_agent_silence(&mut self.ctx, id, blocks);
    }
}
