//! The answers of a connection. They leave in the order of its requests, refusals included, each
//! once everything that was appended before it is durable. A refusal that needs no record to be
//! true waits only for its turn. Heartbeats overtake answers; numbered frames wait in the log, not
//! here.

use alloc::collections::VecDeque;

use super::Connections;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, LogPos};
use crate::model::reply::{CommandReply, HandshakeReply, Opened, Refusal, Reply, SessionReply, Subject};
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::context::Context;
use crate::runtime::delivery::Replay;
use crate::runtime::effect::{Position, Withdrawn};
use crate::runtime::io::CloseReason;
use crate::runtime::list::Listing;

/// Answers may grow to this many times their bounds while a driver still hands over frames that it
/// had read before it was told to pause.
const FLOOD_FACTOR: usize = 16;

/// The answers that wait for one connection.
#[derive(Debug)]
pub(super) struct Answers {
    queue: VecDeque<Queued>,
    /// Replies that overtake the queue: pongs, and messages that answer no request.
    asides: VecDeque<(Reply, Charge)>,
    /// The account of the connection.
    account: Balance,
    /// The last numbered frame that answers a request.
    numbered: u64,
}

#[derive(Debug)]
struct Queued {
    turn: Turn,
    content: Content,
    /// Bytes that it holds, approximately.
    charge: Charge,
}

/// The conditions under which an answer may be sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Turn {
    /// The position that must be durable first.
    pub(super) gate: LogPos,
    /// Numbered frames up to this one come before it.
    pub(super) follows: u64,
    /// Numbered frames after this one come after it.
    pub(super) precedes: u64,
}

/// An answer, and whether the records appended before it must be durable first.
#[derive(Debug)]
pub(in crate::runtime) struct Answer {
    content: Content,
    gated: bool,
}

#[derive(Debug)]
pub(in crate::runtime) enum Content {
    Reply(Reply),
    /// A page, made when it can be written, because the client decides how large it is.
    Page(Listing),
    /// Frames that are sent again.
    Replay(Replay),
}

/// What a connection can be sent next.
pub(in crate::runtime) enum Next {
    /// Something was sent.
    Sent,
    /// A page, which has to be made.
    Page(Turn, Listing),
    /// The next frame of a replay, or else a numbered one, up to this number.
    Replay(u64),
    /// Numbered frames, up to this number.
    Numbered(u64),
    /// Nothing at present.
    Nothing,
}

impl Answer {
    /// An answer that may be seen once everything appended before it, with the rest of its batch,
    /// is durable.
    pub(in crate::runtime) fn gated(content: Content) -> Answer {
        Answer { content, gated: true }
    }

    /// An answer that needs no record to be true.
    pub(in crate::runtime) fn free(reply: Reply) -> Answer {
        Answer { content: Content::Reply(reply), gated: false }
    }

    /// A refusal that follows from records, durable or not. `UNAVAILABLE` is the exception: it
    /// follows from no record.
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
    pub(super) fn new(account: Balance) -> Answers {
        Answers { queue: VecDeque::new(), asides: VecDeque::new(), account, numbered: 0 }
    }

    /// The account of the connection.
    pub(super) fn account(&self) -> &Balance {
        &self.account
    }

    /// Charges the answers to the session's account, as its principal is known.
    pub(super) fn belong_to(&mut self, account: Balance) {
        let asides = self.asides.iter_mut().map(|(_, charge)| charge);
        for charge in self.queue.iter_mut().map(|answer| &mut answer.charge).chain(asides) {
            charge.move_to(&account);
        }
        self.account = account;
    }

    /// Bytes of the answers, counted again.
    pub(super) fn recount(&self) -> usize {
        let asides = self.asides.iter().map(|(reply, _)| reply.weight());
        self.queue.iter().map(|answer| answer.content.weight()).chain(asides).sum()
    }

    fn charge(&self, bytes: usize) -> Charge {
        self.account.charge(HeldFor::Answers, bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.asides.len()
    }

    /// Whether at least this many, or this many bytes, wait.
    pub(super) fn reach(&self, count: usize, bytes: usize) -> bool {
        self.len() >= count || self.account.bytes(HeldFor::Answers) >= bytes
    }

    fn push(&mut self, content: Content, gate: LogPos, at: Position) {
        let (follows, precedes) = match &content {
            // The welcome comes before any replay.
            Content::Reply(Reply::Handshake(HandshakeReply::Opened(_))) => (0, at.cursor),
            // Frames numbered for a subscription come before its end.
            Content::Reply(Reply::Command(CommandReply::Unsubscribed { .. })) => (at.head, at.head),
            Content::Reply(_) | Content::Page(_) | Content::Replay(_) => (self.numbered, at.head),
        };
        let charge = self.charge(content.weight());
        if self.queue.capacity() == 0 {
            // The first answer is usually sent before there is a second.
            self.queue.reserve_exact(1);
        }
        self.queue.push_back(Queued { turn: Turn { gate, follows, precedes }, content, charge });
    }

    pub(super) fn push_first(&mut self, turn: Turn, content: Content) {
        let charge = self.charge(content.weight());
        self.queue.push_front(Queued { turn, content, charge });
    }

    pub(super) fn pop(&mut self) -> Option<(Turn, Content)> {
        let first = self.queue.pop_front().map(|answer| (answer.turn, answer.content));
        if self.queue.is_empty() {
            // A connection without answers holds no memory for them.
            self.queue = VecDeque::new();
        }
        first
    }

    /// The turn of the first answer.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.queue.front().map(|answer| answer.turn)
    }

    pub(super) fn push_aside(&mut self, reply: Reply) {
        let charge = self.charge(reply.weight());
        self.asides.push_back((reply, charge));
    }

    pub(super) fn pop_aside(&mut self) -> Option<(Reply, Charge)> {
        let first = self.asides.pop_front()?;
        if self.asides.is_empty() {
            self.asides = VecDeque::new();
        }
        Some(first)
    }

    /// Whether only one answer waits, of a kind that may be the last one.
    pub(super) fn is_last_word(&self) -> bool {
        let word = |answer: &Queued| {
            matches!(answer.content, Content::Reply(Reply::Refused(_) | Reply::Session(SessionReply::Closed { .. })))
        };
        self.queue.len() == 1 && self.queue.iter().all(word)
    }

    /// Whether a numbered frame that answers a request was not sent yet.
    pub(super) fn follows(&self, cursor: u64) -> bool {
        self.numbered > cursor
    }

    /// Notes that a numbered frame answers a request, so that later answers follow it.
    pub(super) fn follow(&mut self, seq: u64) {
        self.numbered = seq;
    }

    /// Adjusts turns to numbers that were taken back.
    pub(super) fn renumber(&mut self, withdrawn: &Withdrawn) {
        self.numbered = withdrawn.moved(self.numbered);
        for Queued { turn, .. } in &mut self.queue {
            (turn.follows, turn.precedes) = (withdrawn.moved(turn.follows), withdrawn.moved(turn.precedes));
        }
    }

    /// The answer that tells of a new session.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.openings().find(|opened| opened.replay.is_none())
    }

    /// Whether the answer that tells of a resumed session still waits.
    pub(super) fn owes_resumption(&self) -> bool {
        self.openings().any(|opened| opened.replay.is_some())
    }

    fn openings(&self) -> impl Iterator<Item = &Opened> {
        self.queue.iter().filter_map(|answer| match &answer.content {
            Content::Reply(Reply::Handshake(HandshakeReply::Opened(opened))) => Some(&**opened),
            Content::Reply(_) | Content::Page(_) | Content::Replay(_) => None,
        })
    }

    pub(super) fn has_replay(&self) -> bool {
        self.queue.iter().any(|answer| matches!(answer.content, Content::Replay(_)))
    }
}

impl Connections {
    /// Queues an answer; `at` is the position of the connection's session.
    pub(in crate::runtime) fn answer(&mut self, ctx: &mut Context, id: ConnId, answer: Answer, at: Position) {
        let Some(conn) = self.by_id.get_mut(&id) else {
            return; // The connection is closed.
        };
        let Answer { content, gated } = answer;
        let gate = if gated { ctx.log.last() } else { LogPos(0) };
        conn.answers.push(content, gate, at);
        self.bound_answers(ctx, id);
    }

    /// Queues a reply that overtakes the answers.
    pub(in crate::runtime) fn say_aside(&mut self, ctx: &mut Context, id: ConnId, reply: Reply) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.answers.push_aside(reply);
            self.bound_answers(ctx, id);
        }
    }

    fn bound_answers(&mut self, ctx: &mut Context, id: ConnId) {
        let limits = &ctx.config.limits;
        let (count, bytes) = (limits.connection.replies_per_connection, limits.connection.reply_bytes_per_connection);
        if self.by_id.get(&id).is_some_and(|conn| conn.answers.reach(count * FLOOD_FACTOR, bytes * FLOOD_FACTOR)) {
            return self.leave(ctx, id, CloseReason::Flood);
        }
        ctx.ready(id);
    }

    /// Queues a refusal, which is gated unless it follows from no record.
    pub(in crate::runtime) fn refuse(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, at: Position) {
        if self.get(id).is_some_and(|conn| conn.is_told(ctx, &refusal)) {
            self.answer(ctx, id, Answer::refusal(refusal), at);
        }
    }

    /// Queues a refusal that follows from no record.
    pub(in crate::runtime) fn refuse_freely(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, at: Position) {
        if self.get(id).is_some_and(|conn| conn.is_told(ctx, &refusal)) {
            self.answer(ctx, id, Answer::free(Reply::Refused(refusal)), at);
        }
    }

    /// Refuses a message that could not be understood or may not be sent, in the form of a refusal
    /// of its request.
    pub(in crate::runtime) fn refuse_message(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        subject: Subject,
        violation: Violation,
        at: Position,
    ) {
        self.refuse_freely(ctx, id, Refusal::about(subject, violation), at);
    }

    /// Refuses a connection, and closes it at once.
    pub(in crate::runtime) fn dismiss(&mut self, ctx: &mut Context, id: ConnId, refusal: Refusal, reason: CloseReason) {
        if let Some(conn) = self.by_id.get_mut(&id).filter(|conn| conn.is_told(ctx, &refusal)) {
            conn.send_reply(ctx, &Reply::Refused(refusal));
        }
        self.leave(ctx, id, reason);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use core::time::Duration;

    use super::*;
    use crate::entropy::Seeds;
    use crate::id::{Principal, SessionId, WireId};
    use crate::json::Json;
    use crate::model::feature::{Feature, Features};
    use crate::model::reply::{RefusedKind, Watching};
    use crate::model::request::{ClientInfo, Credential, Open, Replay as ReplayRequest};
    use crate::runtime::Config;
    use crate::runtime::account::Accounts;
    use crate::runtime::delivery::Delivery;
    use crate::runtime::edge::{Arrived, Channel, Evidence, Opening, Wish};
    use crate::runtime::io::{Input, Output, Record};
    use crate::runtime::job::Jobs;
    use crate::runtime::session::Sessions;
    use crate::runtime::timers::Timer;
    use crate::time::{Now, Timestamp};
    use crate::wire::{Family, Profile, View};

    const PEER: ConnId = ConnId(1);

    fn connected() -> (Context, Connections) {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let (mut ctx, mut connections) =
            (Context::new(Config::new("t", "1"), &seeds, Now::default()).expect("it works"), Connections::default());
        let client = ClientInfo { name: "c".into(), version: "1".into() };
        let wish = Wish::New(Open::new(client, Credential::Anonymous, Features::default()));
        let request = WireId::new("1").expect("an id");
        let (view, channel, evidence) = (View::before_handshake(false), Channel::new(PEER), Evidence::default());
        let opening = Opening { request, wish, verdict: None };
        connections.let_in(&ctx, Some(Arrived { opening, view, channel, evidence }));
        connections.on_credit(&mut ctx, PEER, 1 << 20, 100);
        (ctx, connections)
    }

    fn done_reply() -> Reply {
        Reply::Session(SessionReply::Done { detail: "done".to_string(), request: None })
    }

    fn done() -> Answer {
        Answer::free(done_reply())
    }

    #[test]
    fn an_answer_comes_between_what_was_numbered_before_it_and_after_it() {
        let (mut ctx, mut connections) = connected();
        connections.get_mut(PEER).expect("it is open").follow(3);
        connections.answer(&mut ctx, PEER, done(), Position { cursor: 2, head: 5 });
        let conn = connections.get_mut(PEER).expect("it is open");
        assert!(matches!(conn.next(&mut ctx, 2), Next::Numbered(3)), "frame 3 comes first, and then the answer");
        assert!(matches!(conn.next(&mut ctx, 3), Next::Sent));
        assert!(matches!(conn.next(&mut ctx, 3), Next::Numbered(u64::MAX)));
    }

    #[test]
    fn whoever_asks_faster_than_it_reads_is_left_at_the_bound() {
        let (mut ctx, mut connections) = connected();
        ctx.config.limits.connection.replies_per_connection = 2;
        let mut answered = 0;
        while connections.get(PEER).is_some() {
            connections.answer(&mut ctx, PEER, done(), Position::default());
            answered += 1;
        }
        assert_eq!(answered, 2 * FLOOD_FACTOR);
        let left = Output::Close { conn: PEER, reason: CloseReason::Flood };
        assert_eq!(core::iter::from_fn(|| ctx.poll_output()).last(), Some(left));
    }

    /// Like `connected`, with this credit.
    fn with_credit(bytes: u32, frames: u32) -> (Context, Connections) {
        let (mut ctx, mut connections) = connected();
        let conn = connections.get_mut(PEER).expect("it is open");
        conn.channel = Channel::new(PEER);
        conn.channel.on_credit(&mut ctx, bytes, frames);
        (ctx, connections)
    }

    fn refused() -> Answer {
        Answer::free(Reply::Refused(Refusal::new(RefusedKind::Session, Violation::invalid("no"), None)))
    }

    fn replay() -> Answer {
        let (session, request) = (SessionId::from_ulid(ulid::Ulid::nil()), WireId::new("1").expect("an id"));
        let (mut delivery, accounts) = (Delivery::default(), Accounts::new());
        delivery.open(session, Principal::new("a").expect("a name"), View::before_handshake(false), accounts.runtime());
        let asked = ReplayRequest { after: None, checkpoint: None, open_streams: false };
        let replay = Replay::new((&delivery.feeds, &Jobs::default()), session, None, &request, &asked);
        Answer::from(Content::Replay(replay.expect("its own frames")))
    }

    #[test]
    fn only_a_last_word_is_written_without_credit() {
        let is_sent = |leaves: bool, answers: &[fn() -> Answer]| {
            let (mut ctx, mut connections) = with_credit(0, 0);
            answers.iter().for_each(|answer| connections.answer(&mut ctx, PEER, answer(), Position::default()));
            let conn = connections.get_mut(PEER).expect("it is open");
            if leaves {
                conn.channel.leave(&mut ctx, CloseReason::Goodbye);
            }
            matches!(conn.next(&mut ctx, 0), Next::Sent)
        };
        assert!(is_sent(true, &[refused]));
        assert!(!is_sent(false, &[refused]), "it goes on");
        assert!(!is_sent(true, &[done]) && !is_sent(true, &[refused, refused]) && !is_sent(true, &[]));
    }

    #[test]
    fn credit_is_bytes_and_frames() {
        let (mut ctx, mut connections) = with_credit(10, 2);
        let conn = connections.get_mut(PEER).expect("it is open");
        assert!(conn.has_credit() && conn.takes_numbered());
        conn.send_frame(&mut ctx, "ten bytes!".to_string().into());
        assert!(!conn.has_credit(), "no byte is left");
        conn.channel.on_credit(&mut ctx, 1, 0);
        assert!(conn.has_credit());
        conn.send_frame(&mut ctx, "1".to_string().into());
        conn.channel.on_credit(&mut ctx, 1, 0);
        assert!(!conn.has_credit(), "no frame is left");
    }

    #[test]
    fn who_is_not_read_for_its_answers_is_read_again_once_half_of_them_are_gone() {
        let (mut ctx, mut connections) = connected();
        let weight = Content::Reply(done_reply()).weight();
        ctx.config.limits.connection.reply_bytes_per_connection = 8 * weight;
        let mut put = |answers: usize, paused: bool| {
            let conn = connections.get_mut(PEER).expect("it is open");
            while conn.answers.pop().is_some() {}
            conn.channel.read(&mut ctx, !paused);
            for _ in 0..answers {
                conn.answers.push(Content::Reply(done_reply()), LogPos(0), Position::default());
            }
            conn.may_be_read(&ctx, false)
        };
        assert_eq!([put(3, false), put(4, false)], [true, false]);
        assert_eq!([put(1, true), put(2, true)], [true, false]);
    }

    #[test]
    fn a_replay_is_gone_on_with_until_it_is_over() {
        let (mut ctx, mut connections) = connected();
        connections.answer(&mut ctx, PEER, replay(), Position::default());
        let conn = connections.get_mut(PEER).expect("it is open");
        assert!(conn.is_replaying(), "it is to come");
        assert!(matches!(conn.next(&mut ctx, 0), Next::Sent) && conn.is_replaying());
        assert!(conn.take_replay().is_some() && !conn.is_replaying());
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up_if_something_waits_for_it() {
        let is_bounded = |act: &dyn Fn(&mut Context, &mut Connections), at: Position| {
            let (mut ctx, mut connections) = with_credit(0, 0);
            act(&mut ctx, &mut connections);
            connections.settle(&mut ctx, PEER, at, false);
            ctx.timers.is_set(Timer::Stalled(PEER))
        };
        let nothing = |_: &mut Context, _: &mut Connections| {};
        let sent = Position { cursor: 2, head: 2 };
        assert!(!is_bounded(&nothing, sent) && is_bounded(&nothing, Position { cursor: 1, head: 2 }));
        assert!(is_bounded(&|ctx, connections| connections.answer(ctx, PEER, done(), sent), sent));
        let pinged = |ctx: &mut Context, connections: &mut Connections| {
            let conn = connections.get_mut(PEER).expect("it is open");
            conn.view.features = Features::new(&[Feature::Heartbeat]);
            ctx.config.timing.heartbeat = Some(Duration::from_secs(30));
            ctx.advance(Now { mono: Timestamp(31_000_000), ..Now::default() }, &Input::Tick);
            connections.on_heartbeat(ctx, PEER);
        };
        assert!(is_bounded(&pinged, sent));
    }

    #[test]
    fn only_the_silence_of_a_peer_that_may_stop_pinging_is_judged() {
        for (family, judged) in [(Family::Hello, false), (Family::Open, true)] {
            let (mut ctx, mut connections) = connected();
            ctx.config.timing.heartbeat = Some(Duration::from_secs(30));
            let conn = connections.get_mut(PEER).expect("it is open");
            conn.view.family = family;
            conn.expect_pings(&mut ctx);
            let timer = Timer::Heartbeat(PEER);
            assert_eq!(ctx.timers.at(timer), judged.then_some(Timestamp(30_000_000)));
            ctx.timers.clear(timer);
            conn.expect_pings(&mut ctx);
            assert!(!ctx.timers.is_set(timer), "that was said");
        }
    }

    #[test]
    fn only_readers_that_need_it_are_held_after_a_watch_began() {
        let (mut ctx, mut connections) = connected();
        let conn = connections.get_mut(PEER).expect("it is open");
        let watching = Reply::Command(CommandReply::Watching(Watching {
            request: None,
            job: WireId::new("job_1").expect("an id"),
            status: None,
            agent: "a".to_string(),
            lease: Json::empty_object(),
            constraints: Default::default(),
            budget: Default::default(),
            parent: None,
            trace: None,
            from: 0,
            replayed: false,
        }));
        for (profile, held) in [(Profile::Plain, false), (Profile::Python113, true)] {
            conn.view.profile = profile;
            conn.send_reply(&mut ctx, &watching);
            assert_eq!((conn.takes_numbered(), ctx.timers.is_set(Timer::Hold(PEER))), (!held, held));
        }
        conn.on_hold_over(&mut ctx);
        assert!(conn.takes_numbered());
    }

    #[test]
    fn whoever_writes_while_too_much_is_not_durable_is_left_at_the_bound() {
        let (mut ctx, mut connections) = connected();
        ctx.config.limits.history.undurable_bytes = 0;
        let mut say = |ctx: &mut Context| {
            connections.on_received(ctx, &Sessions::default(), PEER, b"{}", None);
            connections.len()
        };
        assert_eq!(say(&mut ctx), 1, "nothing waits for the store");
        ctx.append(Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid::nil()) });
        assert_eq!(say(&mut ctx), 0);
    }

    #[test]
    fn everybody_is_looked_at_when_the_log_is_full_or_no_longer() {
        let (mut ctx, connections) = connected();
        while ctx.next_ready().is_some() {}
        connections.on_log_bounded(&mut ctx);
        assert_eq!((ctx.next_ready(), ctx.next_ready(), connections.len()), (Some(PEER), None, 1));
    }
}
