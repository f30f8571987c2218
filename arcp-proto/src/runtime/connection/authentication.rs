//! Proofs that are sent in an open session: they are judged like those before it, and renew its
//! lease.

use alloc::boxed::Box;
use core::net::IpAddr;

use super::Connections;
use crate::error::Violation;
use crate::id::{ConnId, OpId, Principal, SessionId, WireId};
use crate::model::reply::{Refusal, RefusedKind};
use crate::model::request::Proof;
use crate::principal::Network;
use crate::runtime::context::Context;
use crate::runtime::edge::{Opening, Source, wrong_proof};
use crate::runtime::effect::Position;
use crate::runtime::io::{CloseReason, Verdict};
use crate::secret::SecretDigest;
use crate::time::Timestamp;

/// What a verdict was for.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is given")]
pub(in crate::runtime) enum Judged {
    /// A peer that is admitted.
    Opening(Opening),
    /// The proof for an open session.
    Again { session: SessionId, request: WireId, verdict: Option<Verdict> },
}

impl Connections {
    /// Takes a proof for the open session of this principal. Returns the verdict of the transport
    /// if there is one: then nothing has to be judged.
    pub(in crate::runtime) fn prove_again(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: &WireId,
        proof: Proof,
        (at, principal): (Position, &Principal),
    ) -> Option<Verdict> {
        let conn = self.by_id.get_mut(&id)?;
        if let Some(peer) = conn.evidence.peer() {
            return Some(peer.clone());
        }
        let refused = if conn.proving.is_some() {
            Violation::invalid("a proof is being judged already: wait for what comes of it")
        } else {
            match conn.evidence.prove_again(proof) {
                Ok(proof) => {
                    let network = conn.evidence.network().map(Source::Network);
                    let sources = network.into_iter().chain([Source::Principal(principal.clone())]).collect();
                    match self.arrivals.judging_mut().ask(ctx, id, proof, sources) {
                        Ok(op) => {
                            conn.proving = Some(Box::new((op, request.clone())));
                            return None;
                        }
                        Err(full) => full,
                    }
                }
                Err(_) => {
                    self.refuse_wrong_proof(ctx, id, request.clone(), at);
                    return None;
                }
            }
        };
        self.refuse_freely(ctx, id, Refusal::new(RefusedKind::Frame, refused, Some(request.clone())), at);
        None
    }

    /// Refuses a wrong proof. The client may send another one, but only a few times.
    pub(in crate::runtime) fn refuse_wrong_proof(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        request: WireId,
        at: Position,
    ) {
        self.refuse_freely(ctx, id, Refusal::new(RefusedKind::Proof, wrong_proof(), Some(request)), at);
        if self.by_id.get_mut(&id).is_some_and(|conn| conn.evidence.fail()) {
            self.leave_after(ctx, id, CloseReason::Refused);
        }
    }

    /// Takes the verdict on a credential.
    pub(in crate::runtime) fn on_authenticated(
        &mut self,
        ctx: &mut Context,
        op: OpId,
        verdict: Option<Verdict>,
    ) -> Option<(ConnId, Judged)> {
        let id = self.arrivals.judging_mut().conn(op)?;
        let Some(conn) = self.by_id.get_mut(&id) else {
            let arrived = self.arrivals.on_judged(ctx, id, op, verdict);
            return Some((id, Judged::Opening(self.let_in(ctx, arrived)?)));
        };
        let verdict = conn.evidence.counting(ctx.now.utc, verdict);
        self.arrivals.judging_mut().settle(ctx, op, verdict.is_some());
        let session = conn.session()?;
        let (_, request) = *conn.proving.take_if(|proving| proving.0 == op)?;
        Some((id, Judged::Again { session, request, verdict }))
    }
}

/// A credential could not be judged. An arrival is refused, and may try again. For a proof in an
/// open session, returns the connection and the request.
pub(in crate::runtime) fn on_not_judged(
    connections: &mut Connections,
    ctx: &mut Context,
    op: OpId,
) -> Option<(ConnId, WireId)> {
    let id = connections.arrivals.judging_mut().conn(op)?;
    connections.arrivals.on_not_judged(ctx, id, op);
    let (_, request) = *connections.by_id.get_mut(&id)?.proving.take_if(|proving| proving.0 == op)?;
    Some((id, request))
}

/// Whether a credential from this address would be judged.
///
/// # Errors
///
/// If not: when to try again.
pub(in crate::runtime) fn may_judge(
    connections: &Connections,
    (ctx, now): (&Context, Timestamp),
    address: IpAddr,
    credential: SecretDigest,
) -> Result<(), Violation> {
    connections.arrivals.judging().check((&ctx.config, now.max(ctx.now.mono)), address, credential)
}

/// The network from which a credential came that is being judged.
pub(in crate::runtime) fn judged_for(connections: &Connections, op: OpId) -> Option<Network> {
    connections.arrivals.judging().network(op)
}

/// Takes the verdict on a credential that came from an address, without a connection.
pub(in crate::runtime) fn on_judged_elsewhere(
    connections: &mut Connections,
    ctx: &Context,
    (address, credential): (IpAddr, SecretDigest),
    counts: bool,
) {
    connections.arrivals.judging_mut().note(ctx, &[Source::of(address)], credential, counts);
}
