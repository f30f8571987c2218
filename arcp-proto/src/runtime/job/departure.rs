//! Jobs that go to another runtime (RFC §14), from the wish for it to where they are.
//!
//! ```text
//! Intended ──durable──▶ Asked ──taken──▶ the job ends here, and says where it is
//!                       ▲   │ └─refused, never in doubt──▶ it stays, and waits in line again
//!                       │   └─no answer──▶ Again (in doubt from here on)
//!                       └──────time─────────┘ └─for too long─▶ the job ends: nobody knows
//! ```
//!
//! That it is to go is durable before anybody is asked, with everything that is asked, and
//! the receiver gets the same key each time: it takes the job once, wherever a runtime
//! ends. Its agent is not started meanwhile. Who might have been asked and has not
//! answered perhaps has the job: it does not come back to its owner then, but is asked for
//! again, over restarts, and ends if nobody ever knows. So no two runtimes run it, and of
//! one that none runs its owner is told.
//!
//! The job ends once the receiver has it; whoever cancels it from then on is told where it
//! is.

use alloc::string::String;
use core::time::Duration;

use super::cause::Cause;
use super::checkpoint;
use super::departures::{self, Stage};
use super::{JobState, Jobs, Wait, lease};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, OpId};
use crate::json::Object;
use crate::lease::Lease;
use crate::model::event::{EventKind, JobEvent};
use crate::model::handoff::{Destination, HandoffAnswer, HandoffOrder};
use crate::model::request::Invocation;
use crate::runtime::account::Holding;
use crate::runtime::context::Context;
use crate::runtime::few::Few;
use crate::runtime::io::{DepartureRecord, DepartureTerms, Output, Record};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;
use crate::trust::TrustLevel;

/// How long to wait before a receiver is asked again: each time twice as long, from the
/// first to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest that is shown of what a receiver says.
const SHOWN: usize = 512;

/// Whether a job can go to another runtime now.
///
/// # Errors
///
/// `FAILED_PRECONDITION` if it cannot as it stands, `PERMISSION_DENIED` if it is not
/// trusted as far as the receiver trusts this runtime, `RESOURCE_EXHAUSTED` if too many
/// are under way.
pub(in crate::runtime) fn check(jobs: &Jobs, ctx: &Context, id: JobId) -> Result<(), Violation> {
    let refused = |why: &'static str| Err(Violation::new(ErrorCode::FailedPrecondition, why));
    let job = jobs.table.get(id).ok_or_else(super::family::gone)?;
    super::handoff::check_goes_on(jobs, ctx, job)?;
    if lease::trust(job) < TrustLevel::Trusted {
        let why = "the job is not trusted as far as another runtime would trust it: only jobs that were submitted with \
                   a credential that bounds nothing go there";
        return Err(Violation::new(ErrorCode::PermissionDenied, why));
    }
    if !job.run.waits.contains(&Wait::Slot) || job.input.is_none() {
        return refused(
            "the agent of the job runs, or is being started, and nobody can run it on elsewhere: only a job that waits \
             for a slot goes to another runtime; hand it over within this one, or cancel it and submit it there",
        );
    }
    // Elsewhere it would run from its beginning, on what it was submitted with alone.
    if job.run.restarts > 0 || job.spec.bounds.begun_at.is_some() || checkpoint::has_any(job) {
        return refused(
            "the job has run, or begins at a checkpoint, which stays here: hand it over within this runtime",
        );
    }
    super::check_growth(job, ctx, departures::ENTRY + job.spec.lease.as_str().len())?;
    let (limits, account) = (&ctx.config.limits, job.spec.principal.account());
    let own = jobs.departures.under_way.values().filter(|departure| departure.account == account).count();
    let held = Holding { own, all: jobs.departures.under_way.len(), total: limits.family.departing_jobs };
    let what = "jobs that are being handed over to other runtimes";
    held.admit(1, limits.job.principal_share, account.bound_of(), "departing_jobs", what)
}

/// A job is to go: from here on its agent is not started.
pub(in crate::runtime) fn depart(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: &str) {
    let Some(job) = jobs.table.get(id) else {
        return; // Whether it can go was checked.
    };
    let granted = Lease::parse(&job.spec.lease).ok().filter(|lease| !lease.budget().is_empty());
    let left = granted.map(|lease| lease.spending(lease::budget_left(job)).to_json());
    let receiver = ctx.config.authority.handoff.receivers.get(to);
    let url = receiver.map(|receiver| receiver.url.clone()).unwrap_or_default();
    let lease = left.unwrap_or_else(|| job.spec.lease.clone());
    let terms = DepartureTerms { to: to.into(), url, lease, since: ctx.now.utc };
    let principal = job.spec.principal.clone();
    jobs.departures.insert(ctx, id, &principal, terms.clone(), Stage::Intended);
    jobs.table.change(id, |job| {
        jobs.lines.leave(&ctx.config, job);
        job.run.waits.insert(Wait::Departure);
    });
    let pos = ctx.append(Record::Departing { job: id, departure: DepartureRecord::Asked(terms).into() });
    ctx.log.wait(pos, Waiter::Departure(id));
    let message = alloc::format!("the job is being handed over to the runtime `{to}`");
    show(jobs, ctx, id, "handing_over", |body| {
        body.str("message", &message).str("runtime", to);
    });
}

/// Says on a job how it stands with it.
fn show(jobs: &mut Jobs, ctx: &mut Context, id: JobId, phase: &str, fill: impl FnOnce(&mut Object)) {
    let mut body = Object::new();
    body.str("phase", phase);
    fill(&mut body);
    let event = JobEvent::Emitted { kind: EventKind::Status, body: body.json() };
    jobs.table.change(id, |job| job.append(ctx, event, false));
}

/// That a job is to go is durable: the receiver is asked.
pub(in crate::runtime) fn on_durable(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    if jobs.departures.under_way.get(&id).is_some_and(|departure| departure.stage == Stage::Intended) {
        ask(jobs, ctx, id);
    }
}

/// Has the host ask the receiver.
fn ask(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let Some((job, departure)) = jobs.table.get(id).zip(jobs.departures.under_way.get_mut(&id)) else {
        return; // It goes nowhere any more.
    };
    let receiver = ctx.config.authority.handoff.receivers.get(&departure.terms.to);
    let known = &departure.terms.url;
    let receiver = receiver.filter(|receiver| known.is_empty() || receiver.url == *known);
    let Some((receiver, input)) = receiver.cloned().zip(job.input.as_ref()) else {
        // An earlier run may have asked it: perhaps a later one can again.
        return unanswered(jobs, ctx, id);
    };
    let invocation = Invocation { extensions: input.extensions.clone(), ..job.spec.invocation.clone() };
    let order = HandoffOrder {
        job: id,
        to: departure.terms.to.clone(),
        receiver,
        agent: job.spec.agent.clone(),
        input: input.input.clone(),
        lease: departure.terms.lease.clone(),
        constraints: job.spec.bounds.constraints,
        max_runtime: job.spec.bounds.max_runtime,
        trace: job.spec.trace.clone(),
        invocation,
    };
    let op = ctx.next_op();
    departure.stage = Stage::Asked(op);
    jobs.departures.asked.insert(op, id);
    ctx.timers.set(Timer::Departure(id), ctx.now.mono + ctx.config.authority.handoff.timeout);
    ctx.output(Output::HandOff { op, order: order.into() });
}

/// The host has an answer of the receiver, or none.
pub(in crate::runtime) fn on_answer(jobs: &mut Jobs, ctx: &mut Context, op: OpId, answer: HandoffAnswer) {
    let Some(id) = jobs.departures.asked.remove(&op) else {
        return; // It came too late: the receiver is asked again, and says the same.
    };
    let Some(departure) = jobs.departures.under_way.get_mut(&id) else {
        return; // Its job has ended.
    };
    match answer {
        HandoffAnswer::Taken { job } => {
            let runtime = departure.terms.to.clone();
            let receivers = &ctx.config.authority.handoff.receivers;
            let url = receivers.get(&runtime).map(|receiver| receiver.url.clone()).unwrap_or_default();
            on_taken(jobs, ctx, id, Destination { runtime, url, job: beginning(&job) });
        }
        HandoffAnswer::Refused { code, message } if is_final(&code, departure.in_doubt) => {
            stay(jobs, ctx, id, &code, &message);
        }
        HandoffAnswer::NotAsked { code, message } if !departure.in_doubt => stay(jobs, ctx, id, &code, &message),
        HandoffAnswer::Unknown { .. } | HandoffAnswer::Refused { .. } | HandoffAnswer::NotAsked { .. } => {
            unanswered(jobs, ctx, id);
        }
    }
}

/// Whether a receiver says by this that it does not have the job, and never had. One that
/// was asked before perhaps took it then, and looks for the job of the key first.
fn is_final(code: &ErrorCode, in_doubt: bool) -> bool {
    match code {
        ErrorCode::AgentNotAvailable
        | ErrorCode::AgentVersionNotAvailable
        | ErrorCode::InvalidRequest
        | ErrorCode::LeaseExpired
        | ErrorCode::LeaseSubsetViolation
        | ErrorCode::BudgetExhausted => true,
        // Something was known by the key.
        ErrorCode::JobNotFound | ErrorCode::DuplicateKey | ErrorCode::ResumeWindowExpired => false,
        // It says nothing of what was asked before.
        ErrorCode::Unimplemented
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::Cancelled
        | ErrorCode::Timeout
        | ErrorCode::HeartbeatLost
        | ErrorCode::LeaseRevoked
        | ErrorCode::BackpressureOverflow
        | ErrorCode::ResourceExhausted
        | ErrorCode::Aborted
        | ErrorCode::FailedPrecondition
        | ErrorCode::OutOfRange
        | ErrorCode::Unavailable
        | ErrorCode::Internal
        | ErrorCode::Other(_)
        | ErrorCode::DataLoss
        | ErrorCode::Unknown => !in_doubt,
    }
}

/// The receiver has the job: it ends here.
fn on_taken(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: Destination) {
    jobs.departures.take_back(ctx, id);
    let Some(principal) = jobs.table.get(id).map(|job| job.spec.principal.clone()) else {
        return; // It ended, and was forgotten.
    };
    ctx.append(Record::Departing { job: id, departure: DepartureRecord::Gone(to.clone()).into() });
    jobs.departures.note_gone(ctx, id, &principal, to.clone());
    jobs.end(ctx, id, Cause::HandedOver(to.into()));
}

/// The receiver does not have the job, and never will: it stays with its owner, and
/// waits in line again.
fn stay(jobs: &mut Jobs, ctx: &mut Context, id: JobId, code: &ErrorCode, why: &str) {
    let Some(to) = jobs.departures.under_way.get(&id).map(|departure| departure.terms.to.clone()) else {
        return; // Its job has ended.
    };
    jobs.departures.take_back(ctx, id);
    ctx.append(Record::Departing { job: id, departure: DepartureRecord::Stays.into() });
    let why = beginning(why);
    let message = alloc::format!("the job stays here: the runtime `{to}` does not take it: {why}");
    show(jobs, ctx, id, "handoff_failed", |body| {
        body.str("message", &message).str("runtime", &to).str("code", code.as_str()).str("reason", &why);
    });
    if jobs.table.get(id).is_some_and(|job| job.state.is_cancelling()) {
        return jobs.end(ctx, id, Cause::Cancelled);
    }
    jobs.table.change(id, |job| {
        job.run.waits.remove(&Wait::Departure);
        jobs.lines.enter(&ctx.config, job);
    });
    jobs.fill_slots(ctx);
}

/// Nobody knows whether the receiver has the job: it is asked again, until that has gone
/// on for too long.
fn unanswered(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let Some(departure) = jobs.departures.under_way.get_mut(&id) else {
        return; // Its job has ended.
    };
    let was_in_doubt = core::mem::replace(&mut departure.in_doubt, true);
    let until = departure.terms.since.plus(ctx.config.authority.handoff.patience);
    if ctx.now.utc >= until {
        let to = departure.terms.to.clone();
        return give_up(jobs, ctx, id, to);
    }
    let (first, longest) = AGAIN;
    let wait = first.saturating_mul(1 << departure.failures.min(16)).min(longest);
    departure.failures = departure.failures.saturating_add(1);
    departure.stage = Stage::Again;
    let at = (ctx.now.mono + wait).min(ctx.moment(until, longest));
    ctx.timers.set(Timer::Departure(id), at);
    if !was_in_doubt {
        let to = departure.terms.to.clone();
        let message = alloc::format!("the runtime `{to}` has not said whether it takes the job: it is asked again");
        show(jobs, ctx, id, "handoff_in_doubt", |body| {
            body.str("message", &message).str("runtime", &to);
        });
    }
}

/// Nobody will ever know here whether the receiver has the job.
fn give_up(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: String) {
    jobs.departures.take_back(ctx, id);
    jobs.end(ctx, id, Cause::InDoubt(to.into()));
}

/// The receiver has not answered for too long, or it is time to ask it again.
pub(in crate::runtime) fn on_due(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    match jobs.departures.under_way.get(&id).map(|departure| departure.stage) {
        Some(Stage::Asked(op)) => {
            jobs.departures.asked.remove(&op);
            unanswered(jobs, ctx, id);
        }
        Some(Stage::Again) => ask(jobs, ctx, id),
        Some(Stage::Intended) | None => {}
    }
}

/// A job is cancelled: true if that waits for the receiver, which perhaps has it.
pub(super) fn holds_up_cancel(jobs: &mut Jobs, ctx: &mut Context, id: JobId, grace: Duration) -> bool {
    let asked = jobs.departures.under_way.get(&id).is_some_and(|departure| departure.stage != Stage::Intended);
    if asked {
        let at = ctx.now.mono + grace.max(Duration::from_micros(1));
        if ctx.timers.is_set(Timer::CancelGrace(id)) {
            ctx.timers.hasten(Timer::CancelGrace(id), at);
        } else {
            ctx.timers.set(Timer::CancelGrace(id), at);
        }
    }
    asked
}

/// What the end of a job comes to that was cancelled while nobody knew whether the
/// receiver had it, and that has waited for long enough.
pub(super) fn end_in_doubt(jobs: &Jobs, id: JobId) -> Option<Cause> {
    let departure = jobs.departures.under_way.get(&id)?;
    Some(Cause::InDoubt(departure.terms.to.as_str().into()))
}

/// A job ends: it goes nowhere any more.
pub(super) fn on_ending(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.departures.take_back(ctx, id);
}

/// How it stood with a job in an earlier run.
pub(in crate::runtime) fn restore(jobs: &mut Jobs, ctx: &mut Context, id: JobId, departure: DepartureRecord) {
    let Some(job) = jobs.table.get(id) else {
        return; // A store that is not tidied up may have its rest.
    };
    let principal = job.spec.principal.clone();
    match departure {
        DepartureRecord::Asked(terms) if !job.is_terminal() => {
            jobs.departures.insert(ctx, id, &principal, terms, Stage::Again);
        }
        DepartureRecord::Asked(_) => {}
        DepartureRecord::Stays => jobs.departures.forget(id),
        DepartureRecord::Gone(to) => {
            jobs.departures.forget(id);
            jobs.departures.note_gone(ctx, id, &principal, to);
        }
    }
}

/// A job goes on that an earlier run was handing over: the receiver perhaps has it, and
/// is asked again. False if it was not.
pub(super) fn resume(jobs: &mut Jobs, ctx: &mut Context, id: JobId) -> bool {
    let Some(departure) = jobs.departures.under_way.get_mut(&id) else {
        return false;
    };
    departure.in_doubt = true;
    let waits = Few::of(Wait::Departure);
    let is_cancelled = jobs.table.change(id, |job| {
        job.run.waits = waits;
        if job.state == JobState::Accepting {
            job.mark_queued();
        }
        job.state.is_cancelling()
    });
    if is_cancelled == Some(true) {
        ctx.timers.set(Timer::CancelGrace(id), ctx.now.mono + ctx.config.timing.cancel_grace);
    }
    ask(jobs, ctx, id);
    true
}

/// The beginning of what somebody else says.
fn beginning(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
