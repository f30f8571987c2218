//! Jobs that are handed over to another session (RFC §14).

use alloc::string::ToString as _;

use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::id::{Principal, SessionId};
use crate::model::feature::Feature;
use crate::model::request::HandOver;
use crate::runtime::Runtime;
use crate::runtime::authority::Act;
use crate::runtime::delivery::{self, Joining};
use crate::runtime::job::handoff;
use crate::runtime::session::{Outcome, Session};

/// That a job is somebody else's.
pub(super) const DONE: &str = "handed over";

/// Hands a job over. Both sides have said that they do that, the new one by the
/// session that takes it: nobody is given a job that they have not asked for, nor one
/// that waits for somebody who never came.
///
/// # Errors
///
/// Why not.
pub(super) fn on_hand_over(asked: &mut RequestHandler<'_>, wish: &HandOver) -> Result<Outcome, Violation> {
    let giver = asked.runtime.sessions.get(asked.session).filter(|session| hands_over(session));
    if giver.is_none() {
        let why = "handing jobs over needs the feature `agent_handoff`, which was not negotiated";
        return Err(Violation::invalid(why));
    }
    if wish.runtime.is_some() {
        let why = "jobs are handed over within this runtime: leave `runtime` out, or submit the job there";
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let job = asked.permitted(Act::HandOver, &wish.job)?;
    let (session, principal) = taker(asked, wish)?;
    let Runtime { ctx, sessions, jobs, delivery, .. } = &mut *asked.runtime;
    let gone = || Violation::new(ErrorCode::Unavailable, "whoever was to have the job has left");
    handoff::check(jobs, ctx, job, sessions.get(session).ok_or_else(gone)?.subject())?;
    handoff::hand_over(jobs, ctx, job, &principal, session);
    delivery.audiences.own(session, job);
    if delivery.audiences.join(session, job) {
        // Said by itself: of the handoffs of a job a store keeps the last.
        delivery.audiences.note_joined(ctx, session, job, Joining::default());
    }
    handoff::show(jobs, ctx, job, &principal);
    asked.runtime.carry();
    let Runtime { ctx, jobs, delivery, .. } = &mut *asked.runtime;
    for lost in delivery::hand_over(delivery, ctx, jobs, job, session) {
        delivery.audiences.note_left(ctx, lost, job);
    }
    delivery.subscriptions.show(ctx, (jobs, &delivery.feeds), job);
    // Whoever gave it may have a slot that it held, and whoever has it one that it waits for.
    jobs.fill_slots(ctx);
    asked.runtime.carry();
    asked.answer(asked.done(DONE));
    Ok(Outcome::Done)
}

/// Whether jobs are handed over in a session, and to it.
fn hands_over(session: &Session) -> bool {
    session.view().features.has(Feature::AgentHandoff)
}

/// The session that takes a job: of the named principal, which has proved there that
/// it is that, and is connected; the one that is named, or the latest.
fn taker(asked: &RequestHandler<'_>, wish: &HandOver) -> Result<(SessionId, Principal), Violation> {
    let takes = |session: &Session| {
        let is_there = session.is_attached() && !session.is_closed() && session.is_recorded();
        // What its credential bounds cannot have more by a job of somebody else.
        is_there && hands_over(session) && session.allowance().opened_with().1.is_none()
    };
    let is_named = |id: SessionId| wish.session.as_ref().is_none_or(|named| named.as_str() == id.to_string());
    let of_principal = asked.runtime.sessions.all().filter(|(_, session)| *session.principal() == wish.to);
    let taking = of_principal.filter(|(id, session)| takes(session) && is_named(*id));
    let taker = taking.max_by_key(|(id, _)| *id);
    taker.map(|(id, session)| (id, session.principal().clone())).ok_or_else(|| {
        let to = &wish.to;
        let why = alloc::format!(
            "`{to}` has no such session that is connected and takes jobs: one that offers `agent_handoff`, by a \
             credential that bounds nothing"
        );
        Violation::new(ErrorCode::FailedPrecondition, why)
    })
}
