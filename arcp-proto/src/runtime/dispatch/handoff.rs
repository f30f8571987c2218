//! Handing jobs over: to another session, or to another runtime (RFC §14).

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

/// The member of the refusal's details by which a program recognises that no session takes the job.
const NO_TAKER: &str = "no_taker";

/// The reply to a handoff that is done, or a departure that has begun.
pub(super) fn done(wish: &HandOver) -> &'static str {
    if goes_elsewhere(wish) { "handing over" } else { "handed over" }
}

fn goes_elsewhere(wish: &HandOver) -> bool {
    wish.runtime.is_some() || wish.fingerprint.is_some()
}

/// Hands a job over. Both sides have agreed: the giver by its request, the taker by a connected
/// session with the feature. So no principal is given a job that it did not ask for, and no job
/// waits for a taker that never comes.
///
/// # Errors
///
/// Why it is refused.
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
        // The job was handed over before, and the answer was lost, with the session that remembered
        // ids.
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
        // Its steps are submitted as the new principal may, without roles that a session has
        // proved.
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
        // In a record of its own, because a store keeps only the last `HandedOver` of a job.
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
    // The giver may get a slot that the job held, and the taker one that it waits for.
    jobs.fill_slots(ctx);
    asked.runtime.carry();
    prompts::on_given(asked.runtime, job);
    asked.answer(asked.done(done(wish)));
    Ok(Outcome::Done)
}

/// Whether the same principal handed the job over before, as it is requested again.
fn was_done(asked: &RequestHandler<'_>, wish: &HandOver, by: &Principal) -> bool {
    let job = JobId::parse(wish.job.as_str()).and_then(|id| asked.runtime.jobs.get(id));
    job.is_some_and(|job| {
        let spec = job.spec();
        let holds = wish.session.as_ref().is_none_or(|named| named.as_str() == job.sessions.holder.to_string());
        spec.given_by.as_deref() == Some(by) && Some(&spec.principal) == wish.to.as_ref() && holds && !job.is_expired()
    })
}

/// Begins the departure of a job to another runtime that the operator has named. Events of the job
/// say what becomes of it.
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

/// The local name of the runtime that a job is to depart to. A client can only choose among those
/// that the operator named.
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

/// Whether jobs can be handed over from and to a session.
fn hands_over(session: &Session) -> bool {
    session.view().features.has(Feature::AgentHandoff)
}

/// The session that takes a job. It is a connected session of the named principal, proved by a
/// credential: the named session, or else the latest.
fn taker(asked: &RequestHandler<'_>, wish: &HandOver) -> Result<(SessionId, Principal), Violation> {
    let Some(to) = &wish.to else {
        return Err(Violation::invalid("whose is the job to be? name the principal"));
    };
    let takes = |session: &Session| {
        let is_there = session.is_attached() && !session.is_closed() && session.is_recorded();
        // A bounded credential must not get more by another principal's job.
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
