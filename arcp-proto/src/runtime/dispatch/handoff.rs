//! Jobs that are handed over to another session (RFC §14).

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::prompts;
use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, Principal, SessionId};
use crate::json::Object;
use crate::model::feature::Feature;
use crate::model::handoff::Receiver;
use crate::model::request::HandOver;
use crate::policy::{Roles, Subject};
use crate::runtime::Runtime;
use crate::runtime::authority::Act;
use crate::runtime::delivery::{self, Joining};
use crate::runtime::job::{account_of, departure, handoff, inbound};
use crate::runtime::session::{Outcome, Session};

/// By which a program knows that nobody takes the job, in the details of the refusal.
const NO_TAKER: &str = "no_taker";

/// What is answered to a handoff that is done, or begun.
pub(super) fn done(wish: &HandOver) -> &'static str {
    if goes_elsewhere(wish) { "handing over" } else { "handed over" }
}

fn goes_elsewhere(wish: &HandOver) -> bool {
    wish.runtime.is_some() || wish.fingerprint.is_some()
}

/// Hands a job over. Both sides have said that they do that, the new one by the
/// session that takes it: nobody is given a job that they have not asked for, nor one
/// that waits for somebody who never came.
///
/// # Errors
///
/// Why not.
pub(super) fn on_hand_over(asked: &mut RequestHandler<'_>, wish: &HandOver) -> Result<Outcome, Violation> {
    let giver = asked.runtime.sessions.get(asked.session).filter(|session| hands_over(session));
    let Some(by) = giver.map(|session| session.principal().clone()) else {
        let why = "handing jobs over needs the feature `agent_handoff`, which was not negotiated";
        return Err(Violation::invalid(why));
    };
    if goes_elsewhere(wish) {
        return on_departure(asked, wish);
    }
    let job = match asked.permitted(Act::HandOver, &wish.job) {
        // The answer was lost, and with it the session in which ids are remembered.
        Err(_) if was_done(asked, wish, &by) => {
            asked.answer(asked.done(done(wish)));
            return Ok(Outcome::Done);
        }
        permitted => permitted?,
    };
    let (session, principal) = taker(asked, wish)?;
    let Runtime { ctx, sessions, jobs, delivery, workflows, .. } = &mut *asked.runtime;
    let gone = || Violation::new(ErrorCode::Unavailable, "whoever was to have the job has left");
    handoff::check(jobs, ctx, job, sessions.get(session).ok_or_else(gone)?.subject())?;
    if jobs.get(job).is_some_and(|given| given.spec().principal != principal) {
        // Its steps are begun as whoever has it may, by no role that a session has proved.
        let roles = Roles::default();
        let who = Subject { principal: &principal, roles: &roles };
        if let Some(tool) = workflows.tools(job).find(|tool| !ctx.config.may_submit(who, tool.name())) {
            let why =
                alloc::format!("policy lets whoever is to have the workflow have none of `{}` by name", tool.name());
            return Err(Violation::new(ErrorCode::FailedPrecondition, why));
        }
    }
    handoff::hand_over(jobs, ctx, job, (&principal, session), Some(&by));
    jobs.get(job).into_iter().for_each(|given| workflows.give(job, account_of(given)));
    delivery.audiences.own(session, job);
    if delivery.audiences.join(session, job) {
        // Said by itself: of the handoffs of a job a store keeps the last.
        delivery.audiences.note_joined(ctx, session, job, Joining::default());
    }
    inbound::on_handed_over(jobs, ctx, job);
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
    prompts::on_given(asked.runtime, job);
    asked.answer(asked.done(done(wish)));
    Ok(Outcome::Done)
}

/// Whether somebody handed a job over before, as it is asked for again.
fn was_done(asked: &RequestHandler<'_>, wish: &HandOver, by: &Principal) -> bool {
    let job = JobId::parse(wish.job.as_str()).and_then(|id| asked.runtime.jobs.get(id));
    job.is_some_and(|job| {
        let spec = job.spec();
        let holds = wish.session.as_ref().is_none_or(|named| named.as_str() == job.sessions.holder.to_string());
        spec.given_by.as_deref() == Some(by) && Some(&spec.principal) == wish.to.as_ref() && holds && !job.is_expired()
    })
}

/// Begins to hand a job over to another runtime, one that the operator of this one has
/// named: what becomes of it is said on the job.
fn on_departure(asked: &mut RequestHandler<'_>, wish: &HandOver) -> Result<Outcome, Violation> {
    let to = receiver(asked, wish)?;
    if wish.to.is_some() || wish.session.is_some() {
        let why = "at another runtime the job is whose token this one was given for it: leave the principal and \
                   `session_id` out";
        return Err(Violation::invalid(why));
    }
    let job = asked.permitted(Act::HandOver, &wish.job)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    if jobs.departures.destined(job) != Some(to.as_str()) {
        departure::check(jobs, ctx, job)?;
        departure::depart(jobs, ctx, job, &to);
        asked.runtime.carry();
    }
    asked.answer(asked.done(done(wish)));
    Ok(Outcome::Done)
}

/// What the runtime is called here to which a job is to go: nobody is asked because a
/// client says where it is.
fn receiver(asked: &RequestHandler<'_>, wish: &HandOver) -> Result<String, Violation> {
    let receivers = &asked.runtime.ctx.config.authority.handoff.receivers;
    if receivers.is_empty() {
        let why = "jobs are handed over within this runtime, whose operator has named no other (`arcp serve \
                   --handoff-to`): leave `runtime` out, or submit the job there";
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let named = |(name, receiver): &(&String, &Receiver)| match (&wish.runtime, &wish.fingerprint) {
        (Some(runtime), _) => runtime == *name || *runtime == receiver.url,
        (None, Some(_)) => receiver.fingerprint == wish.fingerprint,
        (None, None) => false,
    };
    let Some((name, receiver)) = receivers.iter().find(named) else {
        let names: Vec<String> = receivers.keys().map(|name| alloc::format!("`{name}`")).collect();
        let why = alloc::format!("jobs are handed over to no such runtime from here, but to {}", names.join(", "));
        return Err(Violation::new(ErrorCode::PermissionDenied, why));
    };
    match (&wish.fingerprint, &receiver.fingerprint) {
        (Some(asked), Some(known)) if asked != known => {
            let why = alloc::format!("`{name}` is known here by another fingerprint: {known}");
            Err(Violation::new(ErrorCode::FailedPrecondition, why))
        }
        (Some(_), None) => {
            let why = alloc::format!("`{name}` is known here by what vouches for its URL, and by no fingerprint");
            Err(Violation::new(ErrorCode::FailedPrecondition, why))
        }
        (Some(_), Some(_)) | (None, _) => Ok(name.clone()),
    }
}

/// Whether jobs are handed over in a session, and to it.
fn hands_over(session: &Session) -> bool {
    session.view().features.has(Feature::AgentHandoff)
}

/// The session that takes a job: of the named principal, which has proved there that
/// it is that, and is connected; the one that is named, or the latest.
fn taker(asked: &RequestHandler<'_>, wish: &HandOver) -> Result<(SessionId, Principal), Violation> {
    let Some(to) = &wish.to else {
        return Err(Violation::invalid("whose is the job to be? name the principal"));
    };
    let takes = |session: &Session| {
        let is_there = session.is_attached() && !session.is_closed() && session.is_recorded();
        // What its credential bounds cannot have more by a job of somebody else.
        is_there && hands_over(session) && session.allowance().opened_with().1.is_none()
    };
    let is_named = |id: SessionId| wish.session.as_ref().is_none_or(|named| named.as_str() == id.to_string());
    let of_principal = asked.runtime.sessions.all().filter(|(_, session)| session.principal() == to);
    let taking = of_principal.filter(|(id, session)| takes(session) && is_named(*id));
    let taker = taking.max_by_key(|(id, _)| *id);
    taker.map(|(id, session)| (id, session.principal().clone())).ok_or_else(|| {
        let why = alloc::format!(
            "`{to}` has no such session that is connected and takes jobs: one that offers `agent_handoff`, by a \
             credential that bounds nothing"
        );
        let mut details = Object::new();
        details.str("why", NO_TAKER);
        Violation::new(ErrorCode::FailedPrecondition, why).with_details(details.json())
    })
}
