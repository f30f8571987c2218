//! Schedules: requests about them, and the jobs that are submitted when they fire (RFC §10.6).

use alloc::string::String;
use core::time::Duration;

use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use super::requests::RequestHandler;
use super::{on_behalf, workflows};
use crate::error::{ErrorCode, Violation};
use crate::id::{IdempotencyKey, JobId, LogPos, OpId, Principal, WireId, prefixed};
use crate::json::Json;
use crate::lease::Constraints;
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, Reply};
use crate::model::schedule::{NewSchedule, Plan, PlanFault, Rule, ScheduleChange, Scheduled, Times, When};
use crate::runtime::account::HeldFor;
use crate::runtime::asker::{Asker, Prepared};
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::context::Context;
use crate::runtime::io::{Firing, InputFault, Notice, Output, ScheduleRecord};
use crate::runtime::job::preparation::{self, Next};
use crate::runtime::job::{NewJob, Submission, SubmitContext, check_for_later, lease, provisioning, slots};
use crate::runtime::schedule::{self, Decided, Planned, Schedules, unknown};
use crate::runtime::session::{Outcome, Session};
use crate::runtime::{Runtime, authority, connection};
use crate::time::UtcMs;

/// How many schedules are handled in one input, so that other work has its turn.
const STEP: usize = 16;
/// The longest id that a client may choose, in bytes, because keys are made of it.
const LONGEST_ID: usize = 128;
/// The longest delay of anything.
const LONGEST_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The replies to a changed schedule.
const PAUSED: &str = "paused";
const RESUMED: &str = "resumed";
/// The reason of a pause that the principal requested.
const ASKED_FOR: &str = "its principal has paused it";

/// What the host did for the job of a time.
type Came = (UtcMs, Prepared);

/// Handles schedules whose times have come.
pub(in crate::runtime) fn on_due(runtime: &mut Runtime) {
    for _ in 0..STEP {
        let Some(at) = runtime.schedules.take_due(&runtime.ctx) else { break };
        look(runtime, at, None);
    }
    runtime.schedules.on_looked(&mut runtime.ctx);
}

/// The host has found the times of a rule, or has not.
pub(in crate::runtime) fn on_planned(runtime: &mut Runtime, op: OpId, plan: Result<Plan, PlanFault>) {
    let Runtime { ctx, connections, schedules, .. } = &mut *runtime;
    match schedules.on_planned(ctx, op, plan) {
        Some(Planned::New(conn, plan)) => {
            let judged = connection::on_plan(connections, ctx, conn, op, plan.map_err(|fault| fault_of(&fault)));
            runtime.hear_again(judged);
        }
        Some(Planned::Kept) | None => {}
    }
}

fn fault_of(fault: &PlanFault) -> Violation {
    let why = alloc::format!("`when`: `every`: {}", fault.reason);
    if fault.again { Violation::new(ErrorCode::Unavailable, why) } else { Violation::invalid(why) }
}

/// The host has checked an input; it may be that of a schedule's job.
pub(in crate::runtime) fn on_input_checked(runtime: &mut Runtime, op: OpId, fault: Option<&InputFault>) {
    let misfit = |fault: &InputFault| fault.violation("the input does not fit the agent");
    on_prepared(runtime, op, fault.map_or(Ok(()), |fault| Err(misfit(fault))));
}

/// The host did something for the job of a time, or could not.
pub(super) fn on_prepared(runtime: &mut Runtime, op: OpId, verdict: Result<(), Violation>) {
    if let Some((at, time, preparing)) = schedule::on_prepared(&mut runtime.schedules, op) {
        look(runtime, at, Some((time, (preparing, verdict))));
    }
    // There is room for others, perhaps.
    for _ in 0..STEP {
        let Some(at) = schedule::next_unchecked(&mut runtime.schedules, &runtime.ctx) else { break };
        look(runtime, at, None);
    }
}

/// Decides what can be decided of a schedule now: what comes of that its principal has caused.
fn look(runtime: &mut Runtime, at: LogPos, came: Option<Came>) {
    let account = schedule::account_of(&runtime.schedules, at).cloned();
    on_behalf(runtime, account, |runtime| {
        take_turn(runtime, at, came);
        let Runtime { ctx, jobs, schedules, .. } = &mut *runtime;
        if !schedule::awaits_credentials(schedules, at) {
            provisioning::abandon(jobs, ctx, Asker::Schedule(at));
        }
        runtime.carry();
    });
}

/// Whether a schedule has to wait because its principal, or all together, have too much that is not
/// durable, or because no jobs are accepted.
fn is_put_off(runtime: &Runtime, at: LogPos) -> bool {
    let Runtime { ctx, schedules, .. } = runtime;
    let limits = &ctx.config.limits;
    let is_beyond = |record: &ScheduleRecord| {
        let account = record.principal.account();
        let held = ctx.accounts.held(&account, HeldFor::Records, limits, limits.history.undurable_bytes);
        held.check(0, limits.job.principal_share).is_err()
    };
    ctx.draining || ctx.log.failed || ctx.log.full || schedules.record(at).is_some_and(is_beyond)
}

fn take_turn(runtime: &mut Runtime, at: LogPos, came: Option<Came>) {
    let puts_off = is_put_off(runtime, at);
    let Runtime { ctx, schedules, .. } = &mut *runtime;
    if puts_off {
        return schedules.put_off(ctx, at);
    }
    let Some(mut turn) = schedules.begin_turn(ctx, at) else {
        return; // The schedule is paused, or waits for the host.
    };
    if let Some((time, prepared)) = came {
        // Overlap with other jobs was judged when its time came.
        let decided = fire(runtime, at, time, Some(prepared));
        runtime.schedules.decide(runtime.ctx.now.utc, &mut turn, time, decided);
    }
    runtime.schedules.take_times(&mut runtime.ctx, &mut turn);
    loop {
        let Runtime { ctx, jobs, schedules, .. } = &mut *runtime;
        let goes_on = |id: JobId| jobs.get(id).is_some_and(|job| !job.is_terminal());
        let goes_on = schedules.last_job(at).is_some_and(goes_on);
        let Some(time) = schedules.next_in_turn(ctx, &mut turn, goes_on) else { break };
        let decided = fire(runtime, at, time, None);
        runtime.schedules.decide(runtime.ctx.now.utc, &mut turn, time, decided);
    }
    runtime.schedules.end_turn(&mut runtime.ctx, &turn);
}

/// Submits the job of a time, as its principal may submit it now.
fn fire(runtime: &mut Runtime, at: LogPos, time: UtcMs, came: Option<Prepared>) -> Decided {
    let Some(record) = runtime.schedules.record(at).cloned() else {
        return Decided::Later; // The schedule was ended in the meantime.
    };
    let decided = submit(runtime, (at, &record), time, came);
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    let entry = AuditEntry { session: Some(record.session), ..AuditEntry::new(AuditAct::Submit, &record.principal) };
    let entry = entry.because(Some(&alloc::format!("schedule {}", record.id)));
    match &decided {
        Decided::Refused(why) | Decided::Over(why) => {
            ctx.audit_refused(entry, why);
            let (principal, schedule) = (record.principal, record.id);
            let reason = why.message.chars().take(256).collect();
            ctx.observe(Notice::FiringRefused { principal, schedule, at: time, reason });
        }
        Decided::Fired(job) => {
            let lease = jobs.get(*job).map(|job| &job.spec().lease).filter(|lease| !lease.is_empty_object());
            if let Some(granted) = lease.cloned() {
                ctx.audit(AuditEntry { job: Some(*job), granted: Some(granted), ..entry });
            }
        }
        Decided::Later | Decided::Waits(_) => {}
    }
    decided
}

fn submit(
    runtime: &mut Runtime,
    (at, record): (LogPos, &ScheduleRecord),
    time: UtcMs,
    came: Option<Prepared>,
) -> Decided {
    let Runtime { ctx, sessions, jobs, schedules, .. } = &mut *runtime;
    let Some(key) = IdempotencyKey::new(&alloc::format!("schedule {} {time}", record.id)) else {
        return Decided::Refused(Violation::invalid("the id of the schedule is too long"));
    };
    if is_over(record, ctx.now.utc) {
        let why = "the lease that the schedule may ask for has ended";
        return Decided::Over(Violation::new(ErrorCode::LeaseExpired, why));
    }
    let submit = record.job.submit(Some(key));
    let policy = ctx.config.authority.policy.as_deref();
    let roles = policy.map(|policy| policy.counting(&record.principal, &record.roles)).unwrap_or_default();
    let firing = Firing { schedule: record.id.clone(), at: time };
    let asked = SubmitContext {
        id: None,
        submit: &submit,
        invocation: &record.job.invocation,
        command: None,
        request: &record.id,
        id_is_of_principal: false,
        principal: &record.principal,
        roles: &roles,
        session: record.session,
        parent: None,
        features: record.features,
        ceilings: [record.ceilings.first(), record.ceilings.get(1)],
        firing: Some(&firing),
        begins: None,
    };
    let is_paced = came.as_ref().is_some_and(|(preparing, _)| preparing.issues());
    let may = if is_paced { Ok(()) } else { sessions.pace().check_submits(ctx, asked.subject()) };
    let new = match may.and_then(|()| jobs.check(ctx, asked)) {
        Ok(Submission::Known(job)) => return Decided::Fired(job),
        Ok(Submission::New(new)) => new,
        Err(why) if matches!(why.code, ErrorCode::ResourceExhausted | ErrorCode::Unavailable) => return Decided::Later,
        Err(why) => return Decided::Refused(why),
    };
    let came = match preparation::judge(came, &new) {
        Ok(came) => came,
        // The host was not asked for anything yet.
        Err(why) if why.code == ErrorCode::ResourceExhausted => return Decided::Later,
        Err(why) => return Decided::Refused(why),
    };
    let asker = (Asker::Schedule(at), &record.principal);
    let next = preparation::prepare(jobs, ctx, asker, &new, came.as_ref(), |_, ctx| {
        check_input(schedules, ctx, (at, record), &new)
    });
    let issued = match next {
        Ok(Next::Accept(issued)) => issued,
        Ok(Next::Wait(preparing)) => {
            if preparing.issues() {
                // This asks the host for work, whatever becomes of the job.
                sessions.pace().note_submit(ctx, asked.subject());
            }
            return Decided::Waits(preparing);
        }
        Err(_) => return Decided::Later,
    };
    if issued.is_none() {
        sessions.pace().note_submit(ctx, asked.subject());
    }
    accept(runtime, SubmitContext { id: issued, ..asked }, new)
}

/// Has the host check the input of a schedule's job.
fn check_input(
    schedules: &mut Schedules,
    ctx: &mut Context,
    (at, record): (LogPos, &ScheduleRecord),
    new: &NewJob,
) -> Result<OpId, Violation> {
    if !schedules.may_check(ctx, at) {
        return Err(Violation::new(ErrorCode::Unavailable, "too many inputs are being checked"));
    }
    let (op, agent) = (ctx.next_op(), new.agent().clone());
    let input = record.job.input.clone().unwrap_or_else(Json::empty_object);
    ctx.output(Output::CheckInput { op, agent, input });
    Ok(op)
}

/// Accepts the job of a time.
fn accept(runtime: &mut Runtime, asked: SubmitContext<'_>, new: NewJob) -> Decided {
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    if let Some(ended) = jobs.first_to_forget(ctx, asked.principal) {
        runtime.retention().forget(ended);
    }
    // As that of a child, the acceptance answers no request. Subscriptions and watches are sent it.
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    let taken = new.taken().to_vec();
    let input = asked.submit.input.clone();
    let job = jobs.accept(ctx, asked, new);
    workflows::reserve(runtime, job, input.as_ref());
    let Runtime { ctx, jobs, delivery, .. } = &mut *runtime;
    delivery.add_job(job);
    delivery.subscriptions.show(ctx, (jobs, &delivery.feeds), job);
    delivery.number_for_all(ctx, jobs, job, 0..=0, None);
    runtime.carry();
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    lease::show_taken(jobs, ctx, job, &taken);
    slots::start_accepted(jobs, ctx, job);
    runtime.carry();
    Decided::Fired(job)
}

/// Whether the jobs of a schedule can never be granted anything again.
fn is_over(record: &ScheduleRecord, now: UtcMs) -> bool {
    let ends = record.job.lease_constraints.as_ref().and_then(|json| Constraints::read_granted(json).expires_at);
    ends.is_some_and(|at| at <= now) || record.ceilings.iter().any(|ceiling| ceiling.is_over(now))
}

/// Creates a schedule. `None`: its input has to be checked or its times found first, and the
/// request is handled again then.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_schedule(asked: &mut RequestHandler<'_>, wish: &NewSchedule) -> Result<Option<Outcome>, Violation> {
    let principal = owner(asked)?;
    let Runtime { ctx, .. } = &mut *asked.runtime;
    if ctx.draining || ctx.log.failed {
        return Err(Violation::new(ErrorCode::Unavailable, "the runtime takes no schedules now: try again later"));
    }
    let fingerprint = wish.fingerprint();
    let id = id_of(asked, wish, &principal, fingerprint)?;
    let Runtime { schedules, .. } = &mut *asked.runtime;
    if let Some(there) = schedules.named(&principal, &id) {
        if schedules.record(there).is_some_and(|record| record.fingerprint != fingerprint) {
            let why = alloc::format!("another schedule of yours is known as `{id}`: end it first");
            return Err(Violation::new(ErrorCode::FailedPrecondition, why));
        }
        return Ok(Some(answer(asked, id)));
    }
    let (record, new) = check(asked, wish, (&principal, id.clone()), fingerprint)?;
    let plan = match &record.times {
        Times::At(_) => None,
        Times::Every(rule) => take_plan(asked, rule)?,
    };
    if plan.is_none() {
        if new.checks_input() && !asked.is_checked(&principal, new.agent(), record.job.input.as_ref())? {
            return Ok(None);
        }
        if let Times::Every(rule) = &record.times {
            let Runtime { ctx, connections, schedules, .. } = &mut *asked.runtime;
            let op = schedules.begin_new(ctx, (asked.conn, &principal), rule)?;
            connection::await_plan(connections, ctx, asked.conn, op, rule.clone());
            return Ok(None);
        }
    }
    let times = match (&plan, record.times) {
        (Some(plan), Times::Every(_)) if plan.coming.is_empty() => {
            return Err(Violation::invalid("`when`: `every`: the rule has no time to come"));
        }
        (Some(plan), Times::Every(_)) => Times::Every(plan.rule.clone()),
        (_, times) => times,
    };
    let Runtime { ctx, schedules, .. } = &mut *asked.runtime;
    let ends = plan.as_ref().and_then(|plan| plan.ends);
    schedules.keep(ctx, ScheduleRecord { times, ends, ..record }, plan);
    Ok(Some(answer(asked, id)))
}

/// The times of the rule in the request, if they were found.
fn take_plan(asked: &mut RequestHandler<'_>, rule: &Rule) -> Result<Option<Plan>, Violation> {
    let conn = asked.runtime.connections.get_mut(asked.conn);
    conn.and_then(|conn| conn.take_plan(rule)).transpose()
}

/// Its id. If the client gives none, the id follows from the message, so that a repeated message
/// has the same one.
fn id_of(
    asked: &RequestHandler<'_>,
    wish: &NewSchedule,
    principal: &Principal,
    fingerprint: [u8; 32],
) -> Result<WireId, Violation> {
    if let Some(id) = &wish.id {
        if id.as_str().len() > LONGEST_ID || JobId::parse(id.as_str()).is_some() {
            let why = alloc::format!("`schedule_id` has at most {LONGEST_ID} bytes and does not name a job");
            return Err(Violation::invalid(why));
        }
        return Ok(id.clone());
    }
    let of_principal = asked.runtime.sessions.get(asked.session).is_some_and(|s| s.view().ids_are_of_principal());
    let session = if of_principal { String::new() } else { alloc::format!("{}", asked.session) };
    let mut digest = Sha256::new();
    for part in [&alloc::format!("{principal}"), &session, asked.id.as_str()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.update(fingerprint);
    let digest: [u8; 32] = digest.finalize().into();
    let number = digest[..16].iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let minted = WireId::new(&prefixed("sched_", Ulid::from(number)));
    minted.ok_or_else(|| Violation::invalid("`schedule_id` is missing"))
}

/// The record of the schedule, and its job, if its principal may submit that now.
fn check(
    asked: &mut RequestHandler<'_>,
    wish: &NewSchedule,
    (principal, id): (&Principal, WireId),
    fingerprint: [u8; 32],
) -> Result<(ScheduleRecord, NewJob), Violation> {
    let Runtime { ctx, sessions, schedules, .. } = &mut *asked.runtime;
    let session = sessions.get(asked.session).ok_or_else(unknown)?;
    if wish.job.agent.version().is_some() && !session.view().features.has(Feature::AgentVersions) {
        return Err(Violation::invalid("`name@version` needs the feature `agent_versions`, which was not negotiated"));
    }
    let now = ctx.now.utc;
    let times = match &wish.when {
        When::At(at) if *at <= now => {
            return Err(Violation::invalid(alloc::format!("`when`: `at`: {at} is over: it is {now}")));
        }
        When::At(at) => Times::At(*at),
        When::After(span) if *span > LONGEST_DELAY => {
            return Err(Violation::invalid("`when`: `after` is ten years at most, in seconds"));
        }
        When::After(span) => Times::At(now.plus(*span)),
        When::Every(rule) => Times::Every(rule.clone()),
    };
    let ceilings = session.allowance().ceilings();
    let record = ScheduleRecord {
        id,
        principal: principal.clone(),
        session: asked.session,
        fingerprint,
        job: wish.job.clone(),
        times,
        ends: None,
        missed: wish.missed,
        overlap: wish.overlap,
        created_at: now,
        features: session.view().lease_features(),
        roles: session.allowance().roles().clone(),
        ceilings: ceilings.into_iter().flatten().cloned().collect(),
    };
    schedules.check_room(ctx, principal, &record)?;
    let submit = record.job.submit(None);
    let context = SubmitContext {
        id: None,
        submit: &submit,
        invocation: &record.job.invocation,
        command: None,
        request: &record.id,
        id_is_of_principal: false,
        principal,
        roles: &record.roles,
        session: asked.session,
        parent: None,
        features: record.features,
        ceilings,
        firing: None,
        begins: None,
    };
    let new = check_for_later(ctx, context)?;
    Ok((record, new))
}

/// Answers that a schedule was created.
fn answer(asked: &mut RequestHandler<'_>, id: WireId) -> Outcome {
    let principal = asked.runtime.sessions.get(asked.session).map(|session| session.principal().clone());
    let there = principal.and_then(|principal| asked.runtime.schedules.named(&principal, &id));
    let shown = there.and_then(|there| asked.runtime.schedules.shown(there, asked.id.clone()));
    // A schedule that has ended after its last time was created all the same.
    let shown = shown.unwrap_or_else(|| Scheduled { id: id.clone(), next: None, request: Some(asked.id.clone()) });
    asked.answer(Reply::Command(CommandReply::Scheduled(shown)));
    Outcome::Scheduled(id)
}

/// Answers a repeated request.
pub(super) fn answer_again(asked: &mut RequestHandler<'_>, id: WireId) {
    answer(asked, id);
}

/// Pauses or resumes a schedule.
///
/// # Errors
///
/// If the session has no such schedule.
pub(super) fn on_change(asked: &mut RequestHandler<'_>, change: &ScheduleChange) -> Result<Outcome, Violation> {
    owner(asked)?;
    let at = find(asked, &change.id).ok_or_else(unknown)?;
    may_change(asked, at)?;
    let Runtime { ctx, schedules, .. } = &mut *asked.runtime;
    schedules.set_paused(ctx, at, change.paused.then_some(ASKED_FOR));
    asked.answer(asked.done(changed(change)));
    Ok(Outcome::Done)
}

/// The reply to a change.
pub(super) fn changed(change: &ScheduleChange) -> &'static str {
    if change.paused { PAUSED } else { RESUMED }
}

/// Ends a schedule; its jobs go on.
///
/// # Errors
///
/// If the session may not.
pub(super) fn end(asked: &mut RequestHandler<'_>, at: LogPos) -> Result<(), Violation> {
    may_change(asked, at)?;
    let Runtime { ctx, schedules, .. } = &mut *asked.runtime;
    schedules.forget(ctx, at);
    Ok(())
}

/// The schedule that an id names for this session: the principal's own, or, for an operator, that
/// of another principal, if only one principal has that id.
pub(super) fn find(asked: &RequestHandler<'_>, id: &WireId) -> Option<LogPos> {
    let Runtime { ctx, sessions, schedules, .. } = &*asked.runtime;
    let principal = sessions.get(asked.session)?.principal();
    let operates = || authority::may_evict(&ctx.config, principal).is_ok() && JobId::parse(id.as_str()).is_none();
    schedules.named(principal, id).or_else(|| operates().then(|| schedules.only_named(id)).flatten())
}

/// A session with a bounded credential may change only the schedules that it created.
fn may_change(asked: &RequestHandler<'_>, at: LogPos) -> Result<(), Violation> {
    let Runtime { sessions, schedules, .. } = &*asked.runtime;
    let session = sessions.get(asked.session).ok_or_else(unknown)?;
    let is_bounded = session.allowance().ceilings().iter().any(Option::is_some);
    if is_bounded && schedules.record(at).is_some_and(|record| record.session != asked.session) {
        let why = "the credential of this session is bounded: it may change the schedules that it made";
        return Err(Violation::new(ErrorCode::PermissionDenied, why));
    }
    Ok(())
}

/// A credential of a principal was revoked: its schedules are paused until it resumes them.
pub(in crate::runtime) fn on_revoked(runtime: &mut Runtime, principal: &Principal) {
    let Runtime { ctx, schedules, .. } = runtime;
    let why = "a credential of its principal was revoked";
    for schedule in schedules.pause_all(ctx, principal, why) {
        let entry = AuditEntry::new(AuditAct::PauseSchedule, principal);
        ctx.audit(entry.because(Some(&alloc::format!("schedule {schedule}: {why}"))));
    }
}

/// The principal whose schedules the session may name.
pub(super) fn owner(asked: &RequestHandler<'_>) -> Result<Principal, Violation> {
    if !asked.runtime.ctx.config.timing.schedules {
        // The session is of an earlier run, which had schedules.
        return Err(Violation::new(ErrorCode::Unimplemented, "this runtime keeps no schedules"));
    }
    let session = asked.runtime.sessions.get(asked.session);
    let has = |session: &&Session| session.view().features.has(Feature::Schedules);
    let session = session
        .filter(has)
        .ok_or_else(|| Violation::invalid("schedules need the feature `scheduled_jobs`, which was not negotiated"))?;
    if session.principal().is_anonymous() {
        let why = "a schedule outlives its session, and nobody vouches for you: open one with a credential";
        return Err(Violation::new(ErrorCode::PermissionDenied, why));
    }
    Ok(session.principal().clone())
}
