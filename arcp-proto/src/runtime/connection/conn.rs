//! One connection whose peer is known: its credit, its answers, and what it is sent next.

use alloc::boxed::Box;
use core::time::Duration;

use super::answers::{Answers, Content, Next, Turn};
use super::check::{Blob, Check, Checked};
use super::heartbeat::Heartbeat;
use super::is_log_flooded;
use super::sidecars::Beside;
use crate::error::Violation;
use crate::id::{ConnId, OpId, Principal, SessionId, WireId};
use crate::limits::ConnectionLimits;
use crate::model::artifact::BlobDigest;
use crate::model::reply::{CommandReply, HandshakeReply, Refusal, Reply, SessionReply};
use crate::model::schedule::{Plan, Rule};
use crate::principal::Network;
use crate::runtime::account::Balance;
use crate::runtime::asker::Ordered;
use crate::runtime::context::Context;
use crate::runtime::delivery::Replay;
use crate::runtime::edge::{Channel, Evidence};
use crate::runtime::effect::Withdrawn;
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;
use crate::secret::SecretDigest;
use crate::time::Timestamp;
use crate::wire::sidecar::{self, Written};
use crate::wire::{self, Stamp, View};

#[derive(Debug)]
pub(in crate::runtime) struct Conn {
    pub(super) view: View,
    pub(super) channel: Channel,
    pub(super) heartbeat: Heartbeat,
    pub(super) evidence: Evidence,
    /// The attached session.
    pub(super) session: Option<SessionId>,
    /// The principal of its peer.
    pub(super) principal: Option<Principal>,
    /// The token with which its peer resumed the session.
    pub(in crate::runtime) claimed: Option<Box<SecretDigest>>,
    /// A proof for the session that is being judged.
    pub(super) proving: Option<Box<(OpId, WireId)>>,
    /// Whether its peer cannot use a session yet.
    pub(super) opening: bool,
    /// Whether its peer was told of the session.
    pub(super) welcomed: bool,
    pub(super) answers: Answers,
    /// The replay that has begun.
    replay: Option<Box<Replay>>,
    /// Whether its numbered frames are held back for a moment.
    pub(super) held: bool,
    /// What its next request waits for.
    pub(super) check: Check,
    /// A frame that waits for its binary message.
    pub(super) beside: Beside,
}

impl Conn {
    /// A connection whose peer is admitted.
    pub(super) fn new(view: View, channel: Channel, evidence: Evidence, (now, account): (Timestamp, Balance)) -> Conn {
        Conn {
            beside: Beside::default(),
            view,
            channel,
            heartbeat: Heartbeat::new(now),
            evidence,
            session: None,
            principal: None,
            claimed: None,
            proving: None,
            opening: true,
            welcomed: false,
            answers: Answers::new(account),
            replay: None,
            held: false,
            check: Check::default(),
        }
    }

    pub(super) fn id(&self) -> ConnId {
        self.channel.id()
    }

    /// The account of the connection.
    pub(in crate::runtime) fn account(&self) -> &Balance {
        self.answers.account()
    }

    /// The attached session.
    pub(in crate::runtime) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// How its peer sees things.
    pub(in crate::runtime) fn view(&self) -> View {
        self.view
    }

    /// The network of its peer.
    pub(in crate::runtime) fn network(&self) -> Option<Network> {
        self.evidence.network()
    }

    pub(in crate::runtime) fn has_credit(&self) -> bool {
        self.channel.has_credit()
    }

    /// Whether it can be sent numbered frames at present.
    pub(in crate::runtime) fn takes_numbered(&self) -> bool {
        self.channel.has_credit() && !self.held
    }

    /// Whether a frame can be written at once.
    pub(in crate::runtime) fn can_write(&self) -> bool {
        self.welcomed && self.channel.has_credit() && self.answers.len() == 0
    }

    /// Whether a reply may be written. The last one before closing needs no credit.
    fn may_write(&self) -> bool {
        self.channel.has_credit()
            || self.channel.leaving().is_some() && self.replay.is_none() && self.answers.is_last_word()
    }

    /// Whether everything but numbered frames was sent.
    pub(super) fn is_done(&self) -> bool {
        self.answers.len() == 0 && self.replay.is_none()
    }

    /// Whether its peer is still to get an answer to what it has sent; `cursor` is the last number
    /// that it was sent.
    pub(super) fn owes(&self, cursor: u64) -> bool {
        let is_asked = self.proving.is_some() || self.check.is_waiting();
        is_asked || !self.is_done() || self.answers.follows(cursor)
    }

    /// The longest frame that it may send, in bytes.
    pub(super) fn most_bytes(&self, ctx: &Context) -> usize {
        let limits = &ctx.config.limits;
        if self.opening { limits.frame.handshake_frame_bytes } else { limits.frame.frame_bytes }
    }

    /// Whether it may be read: its answers, the log, and the messages that the host has not taken
    /// must stay within bounds.
    pub(super) fn may_be_read(&self, ctx: &Context, host_is_full: bool) -> bool {
        // Reading resumes once half of what stopped it is gone.
        let part = if self.channel.is_paused() { 4 } else { 2 };
        let answers = self.has_answers(&ctx.config.limits.connection, part);
        !ctx.log.full && !self.account().is_full() && !answers && !host_is_full && !self.check.is_waiting()
    }

    /// Whether it sends more than may be taken from it, or from all connections.
    pub(super) fn is_flooding(&self, ctx: &Context) -> bool {
        is_log_flooded(ctx) || ctx.accounts.is_flooded(&ctx.config.limits, self.account().principal())
    }

    /// Whether so many answers wait for it that a large one must wait until they are written.
    pub(in crate::runtime) fn is_behind(&self, ctx: &Context) -> bool {
        self.has_answers(&ctx.config.limits.connection, 2)
    }

    /// Whether the answers that wait reach the bound divided by `part`.
    fn has_answers(&self, limits: &ConnectionLimits, part: usize) -> bool {
        self.answers.reach(limits.replies_per_connection.div_ceil(part), limits.reply_bytes_per_connection / part)
    }

    /// Whether one more unrequested message may wait for it.
    pub(in crate::runtime) fn has_room(&self, ctx: &Context) -> bool {
        let limits = &ctx.config.limits;
        !self.answers.reach(limits.connection.replies_per_connection, limits.connection.reply_bytes_per_connection)
    }

    pub(in crate::runtime) fn on_hold_over(&mut self, ctx: &mut Context) {
        self.held = false;
        ctx.ready(self.id());
    }

    /// Notes that a numbered frame answers a request, so that later answers follow it.
    pub(in crate::runtime) fn follow(&mut self, seq: u64) {
        self.answers.follow(seq);
    }

    /// Adjusts to numbers of its session that were taken back.
    pub(in crate::runtime) fn renumber(&mut self, withdrawn: &Withdrawn) {
        self.answers.renumber(withdrawn);
    }

    /// Whether a replay has begun or waits.
    pub(in crate::runtime) fn is_replaying(&self) -> bool {
        self.replay.is_some() || self.answers.has_replay()
    }

    /// Takes the replay that has begun, to send its next frame.
    pub(in crate::runtime) fn take_replay(&mut self) -> Option<Replay> {
        self.replay.take().map(|replay| *replay)
    }

    /// Puts the replay back.
    pub(in crate::runtime) fn go_on_replaying(&mut self, replay: Replay) {
        self.replay = Some(Box::new(replay));
    }

    /// Sends the next reply that may be sent, or returns what comes before it; `cursor` is the last
    /// number that was sent.
    pub(in crate::runtime) fn next(&mut self, ctx: &mut Context, cursor: u64) -> Next {
        if !self.may_write() {
            return Next::Nothing;
        }
        // A peer that was not admitted yet is not pinged.
        if self.welcomed && self.channel.has_credit() {
            if let Some((reply, _)) = self.answers.pop_aside() {
                self.send_reply(ctx, &reply);
                return Next::Sent;
            }
            if self.heartbeat.take_ping() {
                self.ping(ctx);
                return Next::Sent;
            }
        }
        let turn = self.answers.turn();
        let mut precedes = turn.map_or(u64::MAX, |turn| turn.precedes);
        if self.replay.is_some() {
            return Next::Replay(precedes);
        }
        if let Some(turn) = turn {
            if !ctx.log.is_durable(turn.gate) {
                ctx.log.wait(turn.gate, Waiter::Conn(self.id()));
            } else if cursor < turn.follows {
                precedes = precedes.min(turn.follows);
            } else if let Some(next) = self.next_answer(ctx) {
                return next;
            }
        }
        Next::Numbered(precedes)
    }

    /// Sends the first answer, or returns what it needs; `None` if its content cannot be made yet.
    fn next_answer(&mut self, ctx: &mut Context) -> Option<Next> {
        let (turn, content) = self.answers.pop()?;
        match content {
            Content::Reply(reply) => self.send_reply(ctx, &reply),
            Content::Replay(replay) => self.replay = Some(Box::new(replay)),
            // A page that cannot be sent is not made.
            Content::Page(listing) if ctx.log.failed => {
                ctx.log.wait(ctx.log.last(), Waiter::Conn(self.id()));
                self.answers.push_first(turn, Content::Page(listing));
                return None;
            }
            Content::Page(listing) => return Some(Next::Page(turn, listing)),
        }
        Some(Next::Sent)
    }

    /// Puts a page in the place of its answer. The page shows the present state, which must be
    /// durable first.
    pub(in crate::runtime) fn put_page(&mut self, ctx: &Context, turn: Turn, page: Reply) {
        self.answers.push_first(Turn { gate: ctx.log.last(), ..turn }, Content::Reply(page));
    }

    fn ping(&mut self, ctx: &mut Context) {
        let nonce = alloc::format!("{:016x}", ctx.entropy.public_u64());
        let at = ctx.now.utc;
        self.send_reply(ctx, &Reply::Session(SessionReply::Ping { nonce, at }));
    }

    pub(in crate::runtime) fn send_frame(&mut self, ctx: &mut Context, written: Written) {
        self.heartbeat.last_sent = ctx.now.mono;
        self.channel.send(ctx, written.frame);
        if let Some(message) = written.sidecar {
            self.channel.send_sidecar(ctx, message);
        }
    }

    pub(in crate::runtime) fn send_reply(&mut self, ctx: &mut Context, reply: &Reply) {
        let id = ctx.entropy.ulid(ctx.now.utc);
        if let Reply::Handshake(HandshakeReply::Opened(_)) = reply {
            self.welcomed = true;
        }
        if let Reply::Command(CommandReply::Watching(_)) = reply {
            self.hold(ctx);
        }
        let stamp = Stamp { id, session: self.session(), seq: None };
        if let Some(frame) = wire::write_reply(&self.view, stamp, reply) {
            self.send_frame(ctx, Written { frame, sidecar: sidecar::of_reply(&self.view, stamp, reply) });
        }
    }

    /// Some clients drop frames that arrive just after a watch began.
    fn hold(&mut self, ctx: &mut Context) {
        let hold = self.view.profile.hold_after_watching_ms();
        if hold > 0 {
            self.held = true;
            ctx.timers.set(Timer::Hold(self.id()), ctx.now.mono + Duration::from_millis(hold));
        }
    }

    /// After a request was handled: keeps it if its value is being checked.
    pub(in crate::runtime) fn keep_checked(&mut self, frame: &[u8], sidecar: Option<&[u8]>) {
        self.check.keep((frame, sidecar), self.answers.account());
    }

    /// The verdict on a value, if it was checked.
    pub(in crate::runtime) fn take_verdict(&mut self, of: &Checked) -> Option<Result<(), Violation>> {
        self.check.take_verdict(of)
    }

    /// The outcome of issuing credentials for the job of its submit, if it waited for them.
    pub(in crate::runtime) fn take_issued(&mut self) -> Option<(Ordered, Result<(), Violation>)> {
        self.check.take_issued()
    }

    /// What the host did with the bytes that its request waited for.
    pub(in crate::runtime) fn take_blob(&mut self, of: BlobDigest) -> Option<Result<Blob, Violation>> {
        self.check.take_blob(of)
    }

    /// The times of the rule that its request waited for.
    pub(in crate::runtime) fn take_plan(&mut self, of: &Rule) -> Option<Result<Plan, Violation>> {
        self.check.take_plan(of)
    }

    /// Whether its submit waits for credentials.
    pub(in crate::runtime) fn awaits_credentials(&self) -> bool {
        self.check.awaits_credentials()
    }

    /// Notes that its peer pings by itself, and is lost when it stops.
    pub(in crate::runtime) fn expect_pings(&mut self, ctx: &mut Context) {
        if !self.view.is_alive_by_pings() || !self.heartbeat.expect_pings() {
            return;
        }
        let timer = Timer::Heartbeat(self.id());
        if let Some(interval) = ctx.config.timing.heartbeat.filter(|_| !ctx.timers.is_set(timer)) {
            ctx.timers.set(timer, ctx.now.mono + interval);
        }
    }

    /// Notes the principal of a peer that gets no session, for notices to operators.
    pub(in crate::runtime) fn is_of(&mut self, principal: &Principal) {
        self.principal = Some(principal.clone());
    }

    /// Tells the operator of a refusal, and returns whether its peer is told.
    pub(super) fn is_told(&self, ctx: &mut Context, refusal: &Refusal) -> bool {
        let principal = self.principal.as_ref().or(self.evidence.peer().map(|peer| &peer.principal));
        self.channel.is_told(ctx, self.view, (principal, self.session), refusal)
    }
}

/// The token with which the peer resumed its session, if it has not been sent a newer one.
pub(in crate::runtime) fn untold_claim(conn: &Conn) -> Option<SecretDigest> {
    conn.claimed.as_deref().copied().filter(|_| conn.answers.owes_resumption())
}
