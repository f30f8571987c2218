//! Arrivals: peers without a session, what they send until their principal is known, and what they
//! are answered until then.
//!
//! A [`Runtime`](crate::runtime::Runtime) has arrivals inside; an [`Edge`](super::Edge) has nothing
//! else.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use core::net::IpAddr;

use super::channel::Channel;
use super::evidence::Evidence;
use super::handshake::{Handshake, Introduction, Opening, Want};
use super::judging::Judging;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, OpId, WireId};
use crate::model::reply::{Challenge, HandshakeReply, Refusal, RefusedKind, Reply};
use crate::model::request::{Credential, Open};
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{CloseReason, HandOver, Notice, Output, Transport, Verdict};
use crate::runtime::timers::Timer;
use crate::wire::envelope::{Header, Unreadable};
use crate::wire::{self, Stamp, View};

/// All peers without a session, and their credentials that are being judged.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Arrivals {
    by_id: BTreeMap<ConnId, Arrival>,
    judging: Judging,
}

/// A connection as its adapter opens it.
#[derive(Debug)]
pub(in crate::runtime) struct NewConnection {
    pub(in crate::runtime) conn: ConnId,
    pub(in crate::runtime) transport: Transport,
    pub(in crate::runtime) address: Option<IpAddr>,
    pub(in crate::runtime) binding: Option<String>,
    pub(in crate::runtime) peer: Option<Verdict>,
}

/// A peer whose principal and request are known.
#[derive(Debug)]
pub(in crate::runtime) struct Arrived {
    pub(in crate::runtime) opening: Opening,
    pub(in crate::runtime) view: View,
    pub(in crate::runtime) channel: Channel,
    pub(in crate::runtime) evidence: Evidence,
}

#[derive(Debug)]
struct Arrival {
    view: View,
    channel: Channel,
    handshake: Handshake,
    /// Challenges, refused proofs, and the refusal that ends the connection.
    replies: VecDeque<Reply>,
}

impl Arrivals {
    pub(in crate::runtime) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(in crate::runtime) fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.by_id.keys().copied()
    }

    pub(in crate::runtime) fn has(&self, id: ConnId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether no frame of a peer was understood yet.
    pub(super) fn is_fresh(&self, id: ConnId) -> bool {
        self.by_id.get(&id).is_some_and(|arrival| arrival.handshake.is_fresh())
    }

    /// Whether a peer is still to get an answer to what it has sent.
    pub(in crate::runtime) fn owes(&self, id: ConnId) -> bool {
        self.by_id.get(&id).is_some_and(|arrival| arrival.handshake.is_judged() || !arrival.replies.is_empty())
    }

    pub(in crate::runtime) fn judging(&self) -> &Judging {
        &self.judging
    }

    pub(in crate::runtime) fn judging_mut(&mut self) -> &mut Judging {
        &mut self.judging
    }

    /// Opens a connection, beside `others` that have a session but cannot use it yet.
    pub(in crate::runtime) fn on_opened(&mut self, ctx: &mut Context, opened: NewConnection, others: usize) {
        let NewConnection { conn, transport, address, binding, peer } = opened;
        let evidence = Evidence { peer: peer.map(Box::new), address, binding, ..Evidence::default() };
        self.enter(ctx, conn, transport, Handshake::new(evidence, None), others);
    }

    /// Takes a connection from an edge. Returns it, if its peer is admitted at once.
    pub(in crate::runtime) fn on_handed_over(
        &mut self,
        ctx: &mut Context,
        handed: HandOver,
        others: usize,
    ) -> Option<Arrived> {
        let HandOver { conn, transport, address, peer, binding, frame, request, verdict, nonce, failures, credit } =
            handed;
        let evidence = Evidence { peer: peer.map(Box::new), address, binding, nonce, failures, ..Evidence::default() };
        let verdict = evidence.counting(ctx.now.utc, verdict);
        let handshake = Handshake::new(evidence, Some(Introduction { verdict, request }));
        if !self.enter(ctx, conn, transport, handshake, others) {
            return None;
        }
        self.by_id.get_mut(&conn)?.channel.grant(credit.bytes, credit.frames);
        self.on_received(ctx, conn, &frame)
    }

    /// Adds a connection; false if its id is in use, or there are too many.
    fn enter(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        transport: Transport,
        handshake: Handshake,
        others: usize,
    ) -> bool {
        if self.has(id) {
            ctx.observe(Notice::ConnIdInUse { conn: id });
            return false;
        }
        if self.len() + others >= ctx.config.limits.connection.handshaking_connections {
            ctx.output(Output::Close { conn: id, reason: CloseReason::TooMany });
            return false;
        }
        let view = View::before_handshake(transport != Transport::WebSocket);
        let (view, channel) = (View { beside: transport != Transport::Lines, ..view }, Channel::new(id));
        self.by_id.insert(id, Arrival { view, channel, handshake, replies: VecDeque::new() });
        ctx.timers.set(Timer::Handshake(id), ctx.now.mono + ctx.config.timing.handshake_timeout);
        ctx.ready(id);
        true
    }

    /// Adds write credit to a connection.
    pub(in crate::runtime) fn on_credit(&mut self, ctx: &mut Context, id: ConnId, bytes: u32, frames: u32) {
        if let Some(arrival) = self.by_id.get_mut(&id) {
            arrival.channel.on_credit(ctx, bytes, frames);
        }
    }

    /// Takes a frame. Returns the connection, if its peer is admitted.
    pub(in crate::runtime) fn on_received(&mut self, ctx: &mut Context, id: ConnId, bytes: &[u8]) -> Option<Arrived> {
        let arrival = self.by_id.get_mut(&id).filter(|arrival| arrival.channel.leaving().is_none())?;
        let limits = &ctx.config.limits;
        let want = match Header::receive(bytes, limits.frame.handshake_frame_bytes, limits.frame.json_depth) {
            Ok(header) => {
                let all_said = arrival.replies.is_empty();
                arrival.handshake.hear(&mut arrival.view, &ctx.config, &header, all_said)
            }
            Err(Unreadable { subject, violation }) => {
                self.turn_away(ctx, id, violation, subject.id);
                return None;
            }
        };
        self.fulfil(ctx, id, want)
    }

    /// Refuses a frame that is too long.
    pub(in crate::runtime) fn on_too_long(&mut self, ctx: &mut Context, id: ConnId) {
        let Some(arrival) = self.by_id.get_mut(&id).filter(|arrival| arrival.channel.leaving().is_none()) else {
            return; // The connection is closing, or no arrival any more.
        };
        arrival.refuse(
            ctx,
            Refusal::new(RefusedKind::Session, too_long(ctx.config.limits.frame.handshake_frame_bytes), None),
        );
        arrival.channel.leave(ctx, CloseReason::TooLong);
    }

    /// Takes the verdict on the credential of a connection. Returns the connection, if its peer is
    /// admitted.
    pub(in crate::runtime) fn on_judged(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        op: OpId,
        verdict: Option<Verdict>,
    ) -> Option<Arrived> {
        let Some(Arrival { handshake, .. }) = self.by_id.get_mut(&id) else {
            self.judging.settle(ctx, op, verdict.is_some());
            return None;
        };
        let verdict = handshake.evidence.counting(ctx.now.utc, verdict);
        self.judging.settle(ctx, op, verdict.is_some());
        let want = handshake.judged(op, verdict);
        self.fulfil(ctx, id, want)
    }

    /// Refuses a peer whose credential could not be judged; it may try again later.
    pub(in crate::runtime) fn on_not_judged(&mut self, ctx: &mut Context, id: ConnId, op: OpId) {
        self.judging.give_up(op);
        if let Some(Arrival { handshake, .. }) = self.by_id.get_mut(&id) {
            let want = handshake.not_judged(op);
            self.fulfil(ctx, id, want);
        }
    }

    /// Does what a handshake wants. Returns the connection, if its peer is admitted.
    fn fulfil(&mut self, ctx: &mut Context, id: ConnId, want: Want) -> Option<Arrived> {
        match want {
            Want::Nothing => {}
            Want::PassOver => {
                let code = ErrorCode::FailedPrecondition.as_str().into();
                let reason = String::from("another one is being judged");
                let (principal, session, job) = (None, None, None);
                ctx.observe(Notice::Refused { conn: id, principal, session, job, code, reason, told: false });
            }
            Want::Refuse { request, violation } => self.turn_away(ctx, id, violation, Some(request)),
            Want::RefuseProof { request, violation } => self.refuse_proof(ctx, id, request, violation),
            Want::Challenge { request, open } => self.challenge(ctx, id, request, open),
            Want::Judge { request, open, credential, nonce } => self.judge(ctx, id, request, open, (credential, nonce)),
            Want::Opening(opening) => {
                let Arrival { view, channel, handshake, replies } = self.by_id.remove(&id)?;
                debug_assert!(replies.is_empty(), "{id:?} was not told everything before it came in");
                return Some(Arrived { opening, view, channel, evidence: handshake.evidence });
            }
        }
        None
    }

    /// Asks a peer for a proof (RFC §8.1).
    fn challenge(&mut self, ctx: &mut Context, id: ConnId, request: WireId, open: Open) {
        let Some(arrival) = self.by_id.get_mut(&id).expected("who asks to come in is here") else {
            return;
        };
        let nonce = alloc::format!("{:016x}{:016x}", ctx.entropy.public_u64(), ctx.entropy.public_u64());
        let scheme = arrival.handshake.challenge(open, nonce.clone());
        let expires_at = ctx.now.utc.plus(ctx.config.timing.handshake_timeout);
        let challenge = Challenge { nonce, scheme, expires_at, request: Some(request) };
        arrival.replies.push_back(Reply::Handshake(HandshakeReply::Challenge(challenge)));
        ctx.ready(id);
    }

    /// Has a credential judged, with the nonce of its challenge.
    fn judge(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: WireId,
        open: Open,
        (credential, nonce): (Credential, Option<String>),
    ) {
        let Some(arrival) = self.by_id.get_mut(&id).expected("who asks to come in is here") else {
            return;
        };
        let sources = arrival.handshake.evidence.source().into_iter().collect();
        match self.judging.ask(ctx, id, (credential, nonce.clone()), sources) {
            Ok(op) => arrival.handshake.judge(op, request, open, nonce),
            Err(full) => self.turn_away(ctx, id, full, Some(request)),
        }
    }

    /// Refuses a wrong proof. The peer may send another one, but only a few times.
    fn refuse_proof(&mut self, ctx: &mut Context, id: ConnId, request: WireId, wrong: Violation) {
        let Some(arrival) = self.by_id.get_mut(&id).expected("who proves something is here") else {
            return;
        };
        arrival.audit(ctx, &wrong);
        arrival.refuse(ctx, Refusal::new(RefusedKind::Proof, wrong, Some(request)));
        if arrival.handshake.evidence.fail() {
            arrival.channel.leave(ctx, CloseReason::Refused);
        }
    }

    /// Refuses a peer a session, and closes its connection.
    fn turn_away(&mut self, ctx: &mut Context, id: ConnId, why: Violation, request: Option<WireId>) {
        if let Some(arrival) = self.by_id.get_mut(&id) {
            arrival.audit(ctx, &why);
            arrival.refuse(ctx, Refusal::new(RefusedKind::Session, why, request));
            arrival.channel.leave(ctx, CloseReason::Refused);
        }
    }

    pub(in crate::runtime) fn on_handshake_timeout(&mut self, ctx: &mut Context, id: ConnId) {
        if let Some(arrival) = self.by_id.get_mut(&id) {
            let late = late();
            if arrival.is_told(ctx, &late) {
                arrival.send(ctx, &Reply::Refused(late));
            }
            self.leave(ctx, id, CloseReason::HandshakeTimeout);
        }
    }

    /// Sends what may be sent, then closes the connection if it is to close and everything is sent,
    /// or sets whether it is read, and for how long its peer may be stalled.
    pub(in crate::runtime) fn pump(&mut self, ctx: &mut Context, id: ConnId) {
        let Some(arrival) = self.by_id.get_mut(&id) else {
            return; // The connection was closed in the meantime.
        };
        while arrival.may_write()
            && let Some(reply) = arrival.replies.pop_front()
        {
            arrival.send(ctx, &reply);
        }
        let all_said = arrival.replies.is_empty();
        if let Some(reason) = arrival.channel.leaving().filter(|_| all_said) {
            return self.leave(ctx, id, reason);
        }
        let may_be_read = !ctx.log.full;
        arrival.channel.read(ctx, may_be_read);
        arrival.channel.bound_stall(ctx, !all_said);
    }

    /// Closes a connection.
    pub(in crate::runtime) fn leave(&mut self, ctx: &mut Context, id: ConnId, reason: CloseReason) {
        if self.forget(ctx, id) {
            ctx.output(Output::Close { conn: id, reason });
        }
    }

    /// Removes a connection; false if there is none.
    pub(in crate::runtime) fn forget(&mut self, ctx: &mut Context, id: ConnId) -> bool {
        let known = self.by_id.remove(&id).is_some();
        if known {
            ctx.timers.clear(Timer::Handshake(id));
            ctx.timers.clear(Timer::Stalled(id));
        }
        known
    }
}

impl Arrival {
    /// Whether a reply may be written. The last one before closing needs no credit.
    fn may_write(&self) -> bool {
        let last_word = self.replies.len() == 1 && matches!(self.replies.front(), Some(Reply::Refused(_)));
        self.channel.has_credit() || self.channel.leaving().is_some() && last_word
    }

    /// Writes its refusal to the audit trail, if it is for lack of authority.
    fn audit(&self, ctx: &mut Context, why: &Violation) {
        let evidence = &self.handshake.evidence;
        let entry =
            AuditEntry::of_arrival(AuditAct::Login, evidence.peer().map(|peer| &peer.principal), evidence.address);
        ctx.audit_refused(entry, why);
    }

    fn refuse(&mut self, ctx: &mut Context, refusal: Refusal) {
        if self.is_told(ctx, &refusal) {
            self.replies.push_back(Reply::Refused(refusal));
            ctx.ready(self.channel.id());
        }
    }

    fn is_told(&self, ctx: &mut Context, refusal: &Refusal) -> bool {
        let principal = self.handshake.evidence.peer().map(|peer| &peer.principal);
        self.channel.is_told(ctx, self.view, (principal, None), refusal)
    }

    fn send(&mut self, ctx: &mut Context, reply: &Reply) {
        let stamp = Stamp { id: ctx.entropy.ulid(ctx.now.utc), session: None, seq: None };
        if let Some(frame) = wire::write_reply(&self.view, stamp, reply) {
            self.channel.send(ctx, frame);
        }
    }
}

/// The refusal of a peer that opened no session in time.
pub(in crate::runtime) fn late() -> Refusal {
    Refusal::new(RefusedKind::Session, Violation::invalid("no session was opened in time"), None)
}

/// The violation for a frame with too many bytes.
pub(in crate::runtime) fn too_long(most: usize) -> Violation {
    Violation::invalid(alloc::format!("a frame was too long: at most {most} bytes are accepted"))
}
