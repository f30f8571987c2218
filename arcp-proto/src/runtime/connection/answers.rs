//! What a connection is answered: in the order of its requests, refusals too,
//! each once everything that had been appended by then is durable. A refusal
//! that needs no record to be true waits for its turn only. Signs of life pass
//! by; numbered frames wait in the log, not here.

use alloc::collections::VecDeque;
use alloc::string::ToString as _;

use super::{Connections, Position};
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, LogPos};
use crate::model::reply::{Concern, Refusal, Reply, Subject};
use crate::runtime::context::Context;
use crate::runtime::delivery::{Replay, Withdrawn};
use crate::runtime::io::{CloseReason, Notice};
use crate::runtime::list::Listing;
use crate::runtime::log::Waiter;
use crate::wire::profile::RefusalForm;

/// Answers may pile up to this many times their bounds while a driver still
/// hands over what it had read before it was told to pause.
const FLOOD_FACTOR: usize = 16;

/// The answers that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: VecDeque<Queued>,
    /// Pongs, and what else is no answer to a request for something.
    asides: VecDeque<Reply>,
    /// Bytes that both hold, roughly.
    bytes: usize,
    /// The last answer that is a numbered frame.
    numbered: u64,
}

#[derive(Debug)]
struct Queued {
    turn: Turn,
    content: Content,
}

/// When an answer may be sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Turn {
    /// What must be durable first.
    gate: LogPos,
    /// Numbered frames up to this one come before it.
    follows: u64,
    /// Numbered frames after this one come after it.
    precedes: u64,
}

/// An answer, and whether it needs what was appended before it to be true.
#[derive(Debug)]
pub(in crate::runtime) struct Answer {
    content: Content,
    gated: bool,
}

#[derive(Debug)]
pub(in crate::runtime) enum Content {
    Reply(Reply),
    /// A page, looked up when it can be written: it is as large as its reader
    /// asks for.
    Page(Listing),
    /// Frames that are sent once more.
    Replay(Replay),
}

/// What a connection can be sent next.
pub(in crate::runtime) enum Next {
    /// It was sent something.
    Sent,
    /// A page, which has to be looked up.
    Page(Turn, Listing),
    /// The next frame of a replay, else a numbered one.
    Replay,
    /// The next numbered frame, up to this one.
    Numbered(u64),
    /// Nothing just now.
    Nothing,
}

impl Answer {
    /// What may be seen once whatever was appended before it, with the rest of
    /// its batch, is durable.
    pub(in crate::runtime) fn gated(content: Content) -> Answer {
        Answer { content, gated: true }
    }

    /// What needs no record to be true.
    pub(in crate::runtime) fn free(reply: Reply) -> Answer {
        Answer { content: Content::Reply(reply), gated: false }
    }

    /// A refusal that a record decides, durable or not. That something cannot
    /// be done just now follows from no record.
    pub(in crate::runtime) fn refusal(refusal: Refusal) -> Answer {
        let gated = refusal.code != ErrorCode::Unavailable;
        Answer { content: Content::Reply(Reply::Refused(refusal)), gated }
    }
}

impl From<Content> for Answer {
    fn from(content: Content) -> Answer {
        Answer::gated(content)
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer::gated(Content::Reply(reply))
    }
}

impl Content {
    fn weight(&self) -> usize {
        match self {
            Content::Reply(reply) => reply.weight(),
            Content::Page(listing) => listing.weight(),
            Content::Replay(_) => size_of::<Queued>(),
        }
    }
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.asides.len()
    }

    /// Whether this many, or that many bytes, wait.
    pub(super) fn reach(&self, count: usize, bytes: usize) -> bool {
        self.len() >= count || self.bytes >= bytes
    }

    fn push(&mut self, content: Content, gate: LogPos, at: Position) {
        let (follows, precedes) = match &content {
            // The welcome comes before any replay.
            Content::Reply(Reply::Opened(_)) => (0, at.cursor),
            // What was numbered for a subscription comes before its end.
            Content::Reply(Reply::Unsubscribed { .. }) => (at.head, at.head),
            Content::Reply(_) | Content::Page(_) | Content::Replay(_) => (self.numbered, at.head),
        };
        self.bytes += content.weight();
        self.queue.push_back(Queued { turn: Turn { gate, follows, precedes }, content });
    }

    fn push_first(&mut self, turn: Turn, content: Content) {
        self.bytes += content.weight();
        self.queue.push_front(Queued { turn, content });
    }

    fn pop(&mut self) -> Option<Queued> {
        let answer = self.queue.pop_front()?;
        self.bytes -= answer.content.weight();
        Some(answer)
    }

    /// The turn of the first one.
    fn turn(&self) -> Option<Turn> {
        self.queue.front().map(|answer| answer.turn)
    }

    fn push_aside(&mut self, reply: Reply) {
        self.bytes += reply.weight();
        self.asides.push_back(reply);
    }

    fn pop_aside(&mut self) -> Option<Reply> {
        let reply = self.asides.pop_front()?;
        self.bytes -= reply.weight();
        Some(reply)
    }

    /// Whether nothing waits but a word that may be the last one.
    pub(super) fn is_last_word(&self) -> bool {
        let word = |answer: &Queued| matches!(answer.content, Content::Reply(Reply::Refused(_) | Reply::Closed { .. }));
        self.queue.len() == 1 && self.queue.iter().all(word)
    }

    /// A request is answered by a numbered frame: later answers follow that.
    pub(super) fn follow(&mut self, seq: u64) {
        self.numbered = seq;
    }

    /// Numbers were taken back: what comes before and after each is the same.
    pub(super) fn renumber(&mut self, withdrawn: &Withdrawn) {
        self.numbered = withdrawn.moved(self.numbered);
        for Queued { turn, .. } in &mut self.queue {
            (turn.follows, turn.precedes) = (withdrawn.moved(turn.follows), withdrawn.moved(turn.precedes));
        }
    }

    pub(super) fn has_replay(&self) -> bool {
        self.queue.iter().any(|answer| matches!(answer.content, Content::Replay(_)))
    }
}

impl Connections {
    /// Queues an answer; `at` is how far the session of the connection is.
    pub(in crate::runtime) fn answer(&mut self, ctx: &mut Context, id: ConnId, answer: Answer, at: Position) {
        let Some(conn) = self.by_id.get_mut(&id) else {
            return;
        };
        let Answer { content, gated } = answer;
        let gate = if gated { ctx.log.last() } else { LogPos(0) };
        conn.answers.push(content, gate, at);
        self.bound_answers(ctx, id);
    }

    /// Queues what is no answer: it passes the answers by.
    pub(in crate::runtime) fn say_aside(&mut self, ctx: &mut Context, id: ConnId, reply: Reply) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.answers.push_aside(reply);
            self.bound_answers(ctx, id);
        }
    }

    fn bound_answers(&mut self, ctx: &mut Context, id: ConnId) {
        let limits = &ctx.config.limits;
        let (count, bytes) = (limits.replies_per_connection, limits.reply_bytes_per_connection);
        if self.by_id.get(&id).is_some_and(|conn| conn.answers.reach(count * FLOOD_FACTOR, bytes * FLOOD_FACTOR)) {
            return self.leave(ctx, id, CloseReason::Flood);
        }
        ctx.ready(id);
    }

    /// Refuses what a record decides, durable or not, or what none decides.
    pub(in crate::runtime) fn refuse(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, at: Position) {
        if self.is_told(ctx, id, &refusal) {
            self.answer(ctx, id, Answer::refusal(refusal), at);
        }
    }

    /// Refuses what no record decides.
    pub(in crate::runtime) fn refuse_freely(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, at: Position) {
        if self.is_told(ctx, id, &refusal) {
            self.answer(ctx, id, Answer::free(Reply::Refused(refusal)), at);
        }
    }

    /// Answers a message that could not be understood or may not be sent, as
    /// the refusal of what it asks for. Before there is a session that is the
    /// end of the connection.
    pub(in crate::runtime) fn refuse_message(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        subject: Subject,
        violation: Violation,
        at: Position,
    ) {
        if self.session(id).is_some() {
            return self.refuse_freely(ctx, id, Refusal::about(subject, violation), at);
        }
        self.refuse_freely(ctx, id, Refusal::of(Concern::Session, violation, subject.id), at);
        self.leave_after(ctx, id, CloseReason::Refused);
    }

    /// Refuses a connection, and ends it at once.
    pub(in crate::runtime) fn dismiss(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, reason: CloseReason) {
        if self.is_told(ctx, id, &refusal) {
            self.send_reply(ctx, id, &Reply::Refused(refusal));
        }
        self.leave(ctx, id, reason);
    }

    /// Whether a peer is told of a refusal; an operator is.
    fn is_told(&mut self, ctx: &mut Context, id: ConnId, refusal: &Refusal) -> bool {
        let Some(conn) = self.by_id.get(&id) else {
            return false;
        };
        let told = conn.view.profile.refusal_form(refusal.concern) != RefusalForm::Silent;
        let code = refusal.code.name().to_string();
        ctx.observe(Notice::Refused { conn: id, code, told });
        told
    }

    /// Sends what can be sent of what waits here, or says what comes before it;
    /// `cursor` is the last number that was sent.
    pub(in crate::runtime) fn next(&mut self, ctx: &mut Context, id: ConnId, cursor: u64) -> Next {
        let Some(conn) = self.by_id.get_mut(&id).filter(|conn| conn.may_write()) else {
            return Next::Nothing;
        };
        // Nobody is asked for signs of life before it was let in.
        if conn.welcomed && conn.channel.has_credit() {
            if let Some(reply) = conn.answers.pop_aside() {
                self.send_reply(ctx, id, &reply);
                return Next::Sent;
            }
            if conn.heartbeat.ping_is_due() && self.ping(ctx, id) {
                return Next::Sent;
            }
        }
        let Some(conn) = self.by_id.get_mut(&id) else {
            return Next::Nothing;
        };
        if conn.replay.is_some() {
            return Next::Replay;
        }
        let turn = conn.answers.turn();
        if let Some(turn) = turn {
            if !ctx.log.is_durable(turn.gate) {
                ctx.log.wait(turn.gate, Waiter::Conn(id));
            } else if cursor >= turn.follows
                && let Some(next) = self.next_answer(ctx, id)
            {
                return next;
            }
        }
        Next::Numbered(turn.map_or(u64::MAX, |turn| turn.precedes))
    }

    /// Sends the first answer, or says what it needs; `None` if its content
    /// cannot be had yet.
    fn next_answer(&mut self, ctx: &mut Context, id: ConnId) -> Option<Next> {
        let conn = self.by_id.get_mut(&id)?;
        let Queued { turn, content } = conn.answers.pop()?;
        match content {
            Content::Reply(reply) => self.send_reply(ctx, id, &reply),
            Content::Replay(replay) => conn.replay = Some(replay),
            // A page that cannot be sent is not looked up.
            Content::Page(listing) if ctx.log.failed => {
                ctx.log.wait(ctx.log.last(), Waiter::Conn(id));
                conn.answers.push_first(turn, Content::Page(listing));
                return None;
            }
            Content::Page(listing) => return Some(Next::Page(turn, listing)),
        }
        Some(Next::Sent)
    }

    /// Gives the first answer what it says. It shows what is there now: that
    /// must be durable too.
    pub(in crate::runtime) fn put_page(&mut self, ctx: &Context, id: ConnId, turn: Turn, page: Reply) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            let turn = Turn { gate: ctx.log.last(), ..turn };
            conn.answers.push_first(turn, Content::Reply(page));
        }
    }
}
