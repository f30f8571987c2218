//! What a handshake wants is done: proofs are asked for, credentials judged.

use alloc::string::{String, ToString as _};

use super::answers::Answer;
use super::handshake::{Opening, Want, wrong_proof};
use super::{Connections, Heard};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, OpId, Principal, SessionId, WireId};
use crate::model::reply::{Challenge, HandshakeReply, Refusal, RefusedKind, Reply, Subject};
use crate::model::request::{Credential, Open, Proof};
use crate::runtime::context::Context;
use crate::runtime::effect::Position;
use crate::runtime::io::{CloseReason, Notice, Output, Verdict};
use crate::wire::envelope::Header;

/// What became of a credential.
#[derive(Debug)]
pub(in crate::runtime) enum Judged {
    /// Its peer may come in.
    Opening(Opening),
    /// It was the proof for a session that is open.
    Again { session: SessionId, request: WireId, verdict: Option<Verdict> },
}

impl Connections {
    /// A frame of a peer that has no session.
    pub(super) fn hear<'a>(&mut self, ctx: &mut Context, id: ConnId, header: &Header<'a>) -> Heard<'a> {
        let Some(conn) = self.by_id.get_mut(&id) else {
            return Heard::Nothing;
        };
        let want = conn.handshake.hear(&mut conn.view, &ctx.config, header);
        match self.fulfil(ctx, id, want) {
            Some(opening) => Heard::Opening(opening),
            None => Heard::Nothing,
        }
    }

    /// Does what a handshake wants, but for what needs sessions: that is given
    /// back.
    fn fulfil(&mut self, ctx: &mut Context, id: ConnId, want: Want) -> Option<Opening> {
        match want {
            Want::Nothing => {}
            Want::PassOver => {
                let code = ErrorCode::FailedPrecondition.as_str().to_string();
                ctx.observe(Notice::Refused { conn: id, code, told: false });
            }
            Want::Refuse { request, violation } => {
                let subject = Subject { id: Some(request), ..Subject::unknown() };
                self.refuse_message(ctx, id, subject, violation, Position::default());
            }
            Want::RefuseProof { request, violation } => {
                self.refuse_proof(ctx, id, request, violation, Position::default());
            }
            Want::Challenge { request, open } => self.challenge(ctx, id, request, open),
            Want::Judge { request, open, credential, nonce } => {
                self.judge(ctx, id, request, open, credential, nonce);
            }
            Want::Opening(opening) => return Some(opening),
        }
        None
    }

    /// Asks for proof (RFC §8.1).
    fn challenge(&mut self, ctx: &mut Context, id: ConnId, request: WireId, open: Open) {
        let Some(conn) = self.by_id.get_mut(&id) else {
            return;
        };
        let nonce = alloc::format!("{:016x}{:016x}", ctx.entropy.public_u64(), ctx.entropy.public_u64());
        let scheme = conn.handshake.challenge(open, nonce.clone());
        let expires_at = ctx.now.utc.plus(ctx.config.handshake_timeout);
        let challenge = Challenge { nonce, scheme, expires_at, request: Some(request) };
        self.answer(ctx, id, Answer::free(Reply::Handshake(HandshakeReply::Challenge(challenge))), Position::default());
    }

    /// Has a credential judged for an opening.
    fn judge(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: WireId,
        open: Open,
        credential: Credential,
        nonce: Option<String>,
    ) {
        if let Err(violation) = self.check_judging(ctx) {
            let subject = Subject { id: Some(request), ..Subject::unknown() };
            return self.refuse_message(ctx, id, subject, violation, Position::default());
        }
        let op = self.authenticate(ctx, id, credential, nonce.clone());
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.handshake.judge(op, request, open, nonce);
        }
    }

    /// Credentials are judged until that is done, also those of peers that have
    /// left meanwhile.
    fn check_judging(&self, ctx: &Context) -> Result<(), Violation> {
        let most = ctx.config.limits.handshaking_connections;
        if self.judging.len() < most {
            return Ok(());
        }
        let full = "too many credentials are being judged: try again later";
        Err(Violation::exhausted("handshaking_connections", BoundOf::Runtime, most as u64, full))
    }

    fn authenticate(&mut self, ctx: &mut Context, conn: ConnId, credential: Credential, nonce: Option<String>) -> OpId {
        let op = ctx.next_op();
        self.judging.insert(op, conn);
        ctx.output(Output::Authenticate { op, conn, credential, challenge: nonce });
        op
    }

    /// A proof for the session that is open. Gives whom the transport vouches
    /// for: then nothing has to be judged.
    pub(in crate::runtime) fn prove_again(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: &WireId,
        proof: Proof,
        at: Position,
    ) -> Option<Principal> {
        let handshake = &self.by_id.get(&id)?.handshake;
        if let Some(peer) = handshake.peer() {
            return Some(peer.clone());
        }
        if handshake.is_judged_again() {
            let busy = Violation::invalid("a proof is being judged already: wait for what comes of it");
            self.refuse_freely(ctx, id, Refusal::of(RefusedKind::Frame, busy, Some(request.clone())), at);
            return None;
        }
        let (credential, nonce) = match handshake.prove_again(proof) {
            Ok(proven) => proven,
            Err(wrong) => {
                self.refuse_proof(ctx, id, request.clone(), wrong, at);
                return None;
            }
        };
        if let Err(full) = self.check_judging(ctx) {
            self.refuse_freely(ctx, id, Refusal::of(RefusedKind::Frame, full, Some(request.clone())), at);
            return None;
        }
        let op = self.authenticate(ctx, id, credential, nonce);
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.handshake.judge_again(op, request.clone());
        }
        None
    }

    /// A proof was wrong: it may be given again, but not often.
    pub(in crate::runtime) fn refuse_wrong_proof(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: WireId,
        at: Position,
    ) {
        self.refuse_proof(ctx, id, request, wrong_proof(), at);
    }

    fn refuse_proof(&mut self, ctx: &mut Context, id: ConnId, request: WireId, wrong: Violation, at: Position) {
        self.refuse_freely(ctx, id, Refusal::of(RefusedKind::Proof, wrong, Some(request)), at);
        if self.by_id.get_mut(&id).is_some_and(|conn| conn.handshake.fail()) {
            self.leave_after(ctx, id, CloseReason::Refused);
        }
    }

    /// A credential was judged.
    pub(in crate::runtime) fn on_authenticated(
        &mut self,
        ctx: &mut Context,
        op: OpId,
        verdict: Option<Verdict>,
    ) -> Option<(ConnId, Judged)> {
        let id = self.judging.remove(&op)?;
        let now = ctx.now.utc;
        let verdict = verdict.filter(|verdict| verdict.expires_at.is_none_or(|at| now < at));
        let handshake = &mut self.by_id.get_mut(&id)?.handshake;
        if let Some(session) = handshake.session() {
            let request = handshake.judged_again(op)?;
            return Some((id, Judged::Again { session, request, verdict }));
        }
        let want = handshake.judged(op, verdict);
        let opening = self.fulfil(ctx, id, want)?;
        Some((id, Judged::Opening(opening)))
    }
}
