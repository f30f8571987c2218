//! Departures: jobs that go to another runtime (RFC §14), from the intent until it is known where they are.
//!
//! ```text
//! Intended ──durable──▶ Asked ──taken──▶ the job ends here, and says where it is
//!                       ▲   │ └─refused, never in doubt──▶ it stays, and is queued again
//!                       │   └─no answer──▶ Again (in doubt from here on)
//!                       └──────time─────────┘ └─for too long─▶ the job ends in doubt
//! ```
//!
//! The intent is durable before the receiver is asked, with everything that it is asked. The receiver gets the same key
//! each time, so it takes the job once, whichever runtime ends meanwhile. The agent is not started here in the
//! meantime.
//!
//! A receiver that may have been asked and has not answered may have the job. The job is then not given back to its
//! owner: the receiver is asked again, over restarts, until its answer is known or the job ends in doubt. So no two
//! runtimes run the job, and if none runs it, its owner is told.
//!
//! The job ends here once the receiver has it. A client that cancels it after that is told where it is.

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

/// Delays before a receiver is asked again: the first, doubled each time up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Characters that are shown of a receiver's message.
const SHOWN: usize = 512;

/// Whether a job can go to another runtime.
///
/// # Errors
///
/// `FAILED_PRECONDITION` if its state does not allow that, `PERMISSION_DENIED` if its trust level is lower than the
/// receiver takes it for, `RESOURCE_EXHAUSTED` if too many departures are under way.
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
    // The receiver would run it from its beginning, with its input alone.
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

/// Begins a departure. The agent is not started here from this point on.
pub(in crate::runtime) fn depart(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: &str) {
    let Some(job) = jobs.table.get(id) else {
        return; // The caller has checked that the job can go.
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

/// Adds a status event about the departure to the job.
fn show(jobs: &mut Jobs, ctx: &mut Context, id: JobId, phase: &str, fill: impl FnOnce(&mut Object)) {
    let mut body = Object::new();
    body.str("phase", phase);
    fill(&mut body);
    let event = JobEvent::Emitted { kind: EventKind::Status, body: body.json() };
    jobs.table.change(id, |job| job.append(ctx, event, false));
}

/// The intent is durable: asks the receiver.
pub(in crate::runtime) fn on_durable(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    if jobs.departures.under_way.get(&id).is_some_and(|departure| departure.stage == Stage::Intended) {
        ask(jobs, ctx, id);
    }
}

/// Has the host ask the receiver.
fn ask(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let Some((job, departure)) = jobs.table.get(id).zip(jobs.departures.under_way.get_mut(&id)) else {
        return; // The departure is over.
    };
    let receiver = ctx.config.authority.handoff.receivers.get(&departure.terms.to);
    let known = &departure.terms.url;
    let receiver = receiver.filter(|receiver| known.is_empty() || receiver.url == *known);
    let Some((receiver, input)) = receiver.cloned().zip(job.input.as_ref()) else {
        // An earlier run may have asked the receiver, and a later one may know it again.
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

/// The host has an answer of the receiver, or no answer.
pub(in crate::runtime) fn on_answer(jobs: &mut Jobs, ctx: &mut Context, op: OpId, answer: HandoffAnswer) {
    let Some(id) = jobs.departures.asked.remove(&op) else {
        return; // Too late: the receiver is asked again, and answers the same.
    };
    let Some(departure) = jobs.departures.under_way.get_mut(&id) else {
        return; // The job has ended.
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

/// Whether this refusal means that the receiver does not have the job. A receiver that was asked before may have taken
/// it then; it looks up the key first.
fn is_final(code: &ErrorCode, in_doubt: bool) -> bool {
    match code {
        ErrorCode::AgentNotAvailable
        | ErrorCode::AgentVersionNotAvailable
        | ErrorCode::InvalidRequest
        | ErrorCode::LeaseExpired
        | ErrorCode::LeaseSubsetViolation
        | ErrorCode::BudgetExhausted => true,
        // The receiver knows the key, or has known it.
        ErrorCode::JobNotFound | ErrorCode::DuplicateKey | ErrorCode::ResumeWindowExpired => false,
        // A refusal that tells nothing about an earlier request.
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
        return; // The job ended, and was forgotten.
    };
    ctx.append(Record::Departing { job: id, departure: DepartureRecord::Gone(to.clone()).into() });
    jobs.departures.note_gone(ctx, id, &principal, to.clone());
    jobs.end(ctx, id, Cause::HandedOver(to.into()));
}

/// The receiver does not have the job, and never will: the job stays with its owner, and is queued again.
fn stay(jobs: &mut Jobs, ctx: &mut Context, id: JobId, code: &ErrorCode, why: &str) {
    let Some(to) = jobs.departures.under_way.get(&id).map(|departure| departure.terms.to.clone()) else {
        return; // The job has ended.
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

/// The receiver may or may not have the job: it is asked again, until the patience of the configuration is over.
fn unanswered(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let Some(departure) = jobs.departures.under_way.get_mut(&id) else {
        return; // The job has ended.
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

/// It cannot be found out whether the receiver has the job: ends it in doubt.
fn give_up(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: String) {
    jobs.departures.take_back(ctx, id);
    jobs.end(ctx, id, Cause::InDoubt(to.into()));
}

/// The receiver has not answered in time, or is to be asked again.
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

/// A job is cancelled: returns whether its end waits for the receiver, which may have it.
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

/// The cause of the end of a job that was cancelled in doubt, when its grace is over.
pub(super) fn end_in_doubt(jobs: &Jobs, id: JobId) -> Option<Cause> {
    let departure = jobs.departures.under_way.get(&id)?;
    Some(Cause::InDoubt(departure.terms.to.as_str().into()))
}

/// The job ends: its departure is over.
pub(super) fn on_ending(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.departures.take_back(ctx, id);
}

/// Restores how a departure stood.
pub(in crate::runtime) fn restore(jobs: &mut Jobs, ctx: &mut Context, id: JobId, departure: DepartureRecord) {
    let Some(job) = jobs.table.get(id) else {
        return; // The job is forgotten; an untidied store may still have this record.
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

/// Resumes a departure of an earlier run: the receiver may have the job, and is asked again. False if there was none.
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

/// The beginning of a foreign text.
fn beginning(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
