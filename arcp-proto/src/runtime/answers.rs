//! What a connection is answered: in the order of its requests, refusals too,
//! each once everything that had been appended by then is durable. A refusal
//! that needs no record to be true waits for its turn only. Signs of life pass
//! by; numbered frames wait in the log, not here.

use alloc::collections::VecDeque;
use alloc::string::ToString as _;

use super::Runtime;
use super::conn::Conn;
use super::delivery::{Feed, Replay, Withdrawn};
use super::io::{CloseReason, Notice};
use super::list::Listing;
use super::log::Waiter;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, LogPos, WireId};
use crate::model::reply::{Concern, Refusal, Reply, Subject};
use crate::wire::profile::RefusalForm;
use crate::wire::{self, Stamp};

/// Answers may pile up to this many times their bounds while a driver still
/// hands over what it had read before it was told to pause.
const FLOOD_FACTOR: usize = 16;

/// The answers that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: VecDeque<Answer>,
    /// Pongs, and what else is no answer to a request for something.
    asides: VecDeque<Reply>,
    /// Bytes that both hold, roughly.
    bytes: usize,
    /// The last answer that is a numbered frame.
    numbered: u64,
}

#[derive(Debug)]
struct Answer {
    turn: Turn,
    content: Content,
}

/// When an answer may be sent.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// What must be durable first.
    gate: LogPos,
    /// Numbered frames up to this one come before it.
    follows: u64,
    /// Numbered frames after this one come after it.
    precedes: u64,
}

#[derive(Debug)]
pub(super) enum Content {
    Reply(Reply),
    /// A page, looked up when it can be written: it is as large as its reader
    /// asks for.
    Page(Listing),
    /// Frames that are sent once more.
    Replay(Replay),
}

impl From<Reply> for Content {
    fn from(reply: Reply) -> Content {
        Content::Reply(reply)
    }
}

impl Content {
    fn weight(&self) -> usize {
        match self {
            Content::Reply(reply) => reply.weight(),
            Content::Page(listing) => listing.weight(),
            Content::Replay(_) => size_of::<Answer>(),
        }
    }
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.asides.len()
    }

    /// Whether this many, or that many bytes, wait.
    fn reach(&self, count: usize, bytes: usize) -> bool {
        self.len() >= count || self.bytes >= bytes
    }

    fn push(&mut self, answer: Answer) {
        self.bytes += answer.content.weight();
        self.queue.push_back(answer);
    }

    fn pop(&mut self) -> Option<Answer> {
        let answer = self.queue.pop_front()?;
        self.bytes -= answer.content.weight();
        Some(answer)
    }

    pub(super) fn push_aside(&mut self, reply: Reply) {
        self.bytes += reply.weight();
        self.asides.push_back(reply);
    }

    pub(super) fn pop_aside(&mut self) -> Option<Reply> {
        let reply = self.asides.pop_front()?;
        self.bytes -= reply.weight();
        Some(reply)
    }

    /// Whether nothing waits but a word that may be the last one.
    pub(super) fn is_last_word(&self) -> bool {
        let word = |answer: &Answer| matches!(answer.content, Content::Reply(Reply::Refused(_) | Reply::Closed { .. }));
        self.queue.len() == 1 && self.queue.iter().all(word)
    }

    /// A request is answered by a numbered frame: later answers follow that.
    pub(super) fn follow(&mut self, seq: u64) {
        self.numbered = seq;
    }

    /// Numbers were taken back: what comes before and after each is the same.
    pub(super) fn renumber(&mut self, withdrawn: &Withdrawn) {
        self.numbered = withdrawn.moved(self.numbered);
        for Answer { turn, .. } in &mut self.queue {
            (turn.follows, turn.precedes) = (withdrawn.moved(turn.follows), withdrawn.moved(turn.precedes));
        }
    }

    pub(super) fn has_replay(&self) -> bool {
        self.queue.iter().any(|answer| matches!(answer.content, Content::Replay(_)))
    }
}

impl Runtime {
    /// Queues an answer; it may be seen once whatever was appended before it,
    /// with the rest of its batch, is durable.
    pub(super) fn answer(&mut self, id: ConnId, content: impl Into<Content>) {
        self.enqueue(id, self.ctx.log.last(), content.into());
    }

    /// Queues an answer that needs no record to be true.
    pub(super) fn answer_freely(&mut self, id: ConnId, reply: Reply) {
        self.enqueue(id, LogPos(0), Content::Reply(reply));
    }

    /// Queues what is no answer: it passes the answers by.
    pub(super) fn say_aside(&mut self, id: ConnId, reply: Reply) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.answers.push_aside(reply);
            self.bound_answers(id);
        }
    }

    fn enqueue(&mut self, id: ConnId, gate: LogPos, content: Content) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let feed = conn.session().and_then(|session| self.delivery.feed(session));
        let (cursor, head) = feed.map_or((0, 0), |feed| (feed.cursor(), feed.head()));
        let (follows, precedes) = match &content {
            // The welcome comes before any replay.
            Content::Reply(Reply::Opened(_)) => (0, cursor),
            // What was numbered for a subscription comes before its end.
            Content::Reply(Reply::Unsubscribed { .. }) => (head, head),
            Content::Reply(_) | Content::Page(_) | Content::Replay(_) => (conn.answers.numbered, head),
        };
        conn.answers.push(Answer { turn: Turn { gate, follows, precedes }, content });
        self.bound_answers(id);
    }

    fn bound_answers(&mut self, id: ConnId) {
        let limits = &self.ctx.config.limits;
        let (count, bytes) = (limits.replies_per_connection, limits.reply_bytes_per_connection);
        if self.conns.get(&id).is_some_and(|conn| conn.answers.reach(count * FLOOD_FACTOR, bytes * FLOOD_FACTOR)) {
            return self.leave(id, CloseReason::Flood);
        }
        self.ctx.ready(id);
    }

    /// Whether a connection is to be read: neither its answers nor the log nor
    /// what its host has not taken may grow without bound.
    pub(super) fn may_read(&self, conn: &Conn, was_paused: bool) -> bool {
        let limits = &self.ctx.config.limits;
        // What was paused goes on once half of what paused it is gone.
        let part = if was_paused { 4 } else { 2 };
        let count = limits.replies_per_connection.div_ceil(part);
        let answers = conn.answers.reach(count, limits.reply_bytes_per_connection / part);
        !self.ctx.log.full && !answers && !self.awaits_host(conn)
    }

    /// Answers a frame that could not be understood, whatever else there is.
    /// Before the handshake that is the end of the connection.
    pub(super) fn refuse_frame(&mut self, id: ConnId, violation: Violation, request: Option<WireId>) {
        self.refuse_message(id, Subject { id: request, ..Subject::unknown() }, violation);
    }

    /// Answers a message that could not be understood or may not be sent, as
    /// the refusal of what it asks for. Before the handshake that is the end
    /// of the connection.
    pub(super) fn refuse_message(&mut self, id: ConnId, subject: Subject, violation: Violation) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        if conn.session().is_some() {
            return self.refuse_freely(id, Refusal::about(subject, violation));
        }
        self.refuse_freely(id, Refusal::of(Concern::Session, violation, subject.id));
        self.leave_after(id, CloseReason::Refused);
    }

    /// Refuses what a record decides, durable or not.
    pub(super) fn refuse(&mut self, id: ConnId, refusal: Refusal) {
        // That it cannot be done just now follows from no record.
        if refusal.code == ErrorCode::Unavailable {
            return self.refuse_freely(id, refusal);
        }
        if self.is_told(id, &refusal) {
            self.answer(id, Reply::Refused(refusal));
        }
    }

    /// Refuses what no record decides.
    pub(super) fn refuse_freely(&mut self, id: ConnId, refusal: Refusal) {
        if self.is_told(id, &refusal) {
            self.answer_freely(id, Reply::Refused(refusal));
        }
    }

    /// Refuses a connection, and ends it at once.
    pub(super) fn dismiss(&mut self, id: ConnId, refusal: Refusal, reason: CloseReason) {
        if self.is_told(id, &refusal) {
            self.send_reply(id, &Reply::Refused(refusal));
        }
        self.leave(id, reason);
    }

    /// Whether a peer is told of a refusal; an operator is.
    fn is_told(&mut self, id: ConnId, refusal: &Refusal) -> bool {
        let Some(conn) = self.conns.get(&id) else {
            return false;
        };
        let told = conn.view.profile.refusal_form(refusal.concern) != RefusalForm::Silent;
        let code = wire::error_name(&refusal.code).to_string();
        self.ctx.observe(Notice::Refused { conn: id, code, told });
        told
    }

    /// Sends the next answer or numbered frame; false if neither can be sent.
    pub(super) fn pump_ordered(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else {
            return false;
        };
        let turn = conn.answers.queue.front().map(|answer| answer.turn).filter(|_| conn.replay.is_none());
        if let Some(turn) = turn {
            let cursor = conn.session().and_then(|session| self.delivery.feed(session)).map_or(0, Feed::cursor);
            if !self.ctx.log.is_durable(turn.gate) {
                self.ctx.log.wait(turn.gate, Waiter::Conn(id));
            } else if cursor >= turn.follows && self.send_answer(id) {
                return true;
            }
        }
        let has_credit = self.conns.get(&id).is_some_and(Conn::has_credit);
        has_credit && self.send_next_event(id, turn.map_or(u64::MAX, |turn| turn.precedes))
    }

    /// Sends the first answer; false if its content cannot be had yet.
    fn send_answer(&mut self, id: ConnId) -> bool {
        let Some(answer) = self.conns.get_mut(&id).and_then(|conn| conn.answers.pop()) else {
            return false;
        };
        let Answer { turn, content } = answer;
        let first = match content {
            Content::Reply(reply) => {
                self.send_reply(id, &reply);
                return true;
            }
            Content::Replay(replay) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.replay = Some(replay);
                }
                return true;
            }
            // A page that cannot be sent is not looked up.
            Content::Page(listing) if self.ctx.log.failed => {
                self.ctx.log.wait(self.ctx.log.last(), Waiter::Conn(id));
                Answer { turn, content: Content::Page(listing) }
            }
            // It shows what is there now: that must be durable too.
            Content::Page(listing) => {
                let content = Reply::Jobs(self.page(&listing)).into();
                Answer { turn: Turn { gate: self.ctx.log.last(), ..turn }, content }
            }
        };
        let again = matches!(first.content, Content::Reply(_));
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.answers.bytes += first.content.weight();
            conn.answers.queue.push_front(first);
        }
        again
    }

    pub(super) fn send_reply(&mut self, id: ConnId, reply: &Reply) {
        let ulid = self.ctx.entropy.ulid(self.ctx.now.utc);
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let stamp = Stamp { id: ulid, session: conn.session(), seq: None };
        let written = wire::write_reply(&conn.view, stamp, reply);
        if let Reply::Opened(_) = reply {
            conn.welcomed = true;
        }
        if let Some(frame) = written {
            self.send_frame(id, frame);
        }
        if let Reply::Watching(_) = reply {
            let session = self.conns.get(&id).and_then(Conn::session);
            if let Some(session) = session {
                self.delivery.hold_after_watching(&mut self.ctx, session, id);
            }
        }
    }
}
