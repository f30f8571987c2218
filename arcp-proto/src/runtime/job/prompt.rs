//! Prompts: questions of an agent to people. The job is blocked while it waits for an answer (RFC §12, §15.4).
//!
//! ```text
//!   ask ──schema is checked──▶ Checking ──bad, or not in time──▶ refused
//!    └────────no schema──────┐    │fits
//!                            ▼    ▼
//!                             Open ──the first answer that fits──▶ Answered
//!                              ├──time is over, with a default───▶ Answered by `default`
//!                              ├──time is over───────────────────▶ Expired
//!                              └──cancel, or end of the job──────▶ Withdrawn
//! ```
//!
//! An open prompt is an event of its job, shown like any other, and shown again to a session that starts to
//! watch. All prompts of a job are in one record, of which the latest counts.
//!
//! An open prompt outlives the runtime; the calls that wait for it do not. An agent that is started again and
//! asks the same question takes the prompt over, or gets the answer that came meanwhile, until its next
//! checkpoint.

use alloc::boxed::Box;

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use super::grants::{self, Terms};
use super::heartbeat::phase;
use super::jobs::Looks;
use super::prompts::{Asked, Checking, Prompts, answered, keep, kept, plan, unblock, unknown};
use super::questions::reply;
use super::table::Table;
use super::{Job, Jobs, Wait, append_for, check_growth, lease, raises};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{CallId, JobId, OpId, PromptId, SessionId};
use crate::json::{Json, Object};
use crate::model::event::{EventKind, JobEvent};
use crate::model::prompt::{PromptAnswer, Question};
use crate::principal::Account;
use crate::runtime::account::Holding;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AgentReply, InputFault, LONGEST_CHECK, Notice, Output};
use crate::runtime::timers::Timer;
use crate::runtime::{AnswerRecord, ClosedPrompt, Closing, KeptPrompts, OpenPrompt};
use crate::time::UtcMs;

/// How long people have to answer a permission request if the agent gives no timeout.
const PERMISSION_TIMEOUT: Duration = Duration::from_secs(300);
/// The name of the answerer if the default is the answer.
const DEFAULT: &str = "default";

/// Whether an answer counts, as far as the core can judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Answerable {
    /// The answer counts.
    Fits,
    /// The answer counts if the host finds that it fits this schema.
    Check(Json),
}

/// The session that answers.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Answerer<'a> {
    pub(in crate::runtime) by: &'a str,
    pub(in crate::runtime) session: SessionId,
    /// The latest end of a permission that this session may grant.
    pub(in crate::runtime) until: Option<UtcMs>,
}

/// Asks people, or has the host check the question first. `None`: the call is answered later.
///
/// # Errors
///
/// Why the question is not asked.
pub(super) fn ask(
    job: &mut Job,
    ctx: &mut Context,
    call: CallId,
    question: Question,
    timeout_ms: Option<u64>,
) -> Result<Option<AgentReply>, Violation> {
    if job.state.is_cancelling() {
        return Ok(Some(AgentReply::Stopped));
    }
    let limits = &ctx.config.limits.prompt;
    let (bytes, most) = (question.bytes(), limits.question_bytes);
    if bytes > most {
        let why = alloc::format!("the question has {bytes} bytes: at most {most}");
        return Err(Violation::exhausted("question_bytes", BoundOf::Request, most as u64, why));
    }
    question.check()?;
    raises::check_asked(job, &question)?;
    let room = check_growth(job, ctx, bytes);
    let prompts = job.prompts.get_or_insert_default();
    if let Some(answer) = prompts.take_earlier(question.fingerprint()) {
        return Ok(Some(answer));
    }
    if let Some(number) = prompts.unattended(&question) {
        prompts.waiting.insert(number, call);
        block(job, ctx);
        return Ok(None);
    }
    let most = limits.open_prompts_per_job;
    if prompts.kept.open.len() + prompts.checking.len() >= most {
        let full = alloc::format!("{most} questions of this job are not answered yet: ask again after the first");
        return Err(Violation::exhausted("open_prompts_per_job", BoundOf::Job, most as u64, full));
    }
    room?;
    let usual = match question {
        Question::Permission(_) => PERMISSION_TIMEOUT,
        Question::Input { .. } | Question::Choice { .. } => ctx.config.timing.prompt_timeout,
    };
    let asked = Asked { timeout: timeout_ms.map_or(usual, Duration::from_millis), question };
    if asked.question.schema().is_none() {
        open(job, ctx, call, asked, true);
        return Ok(None);
    }
    let op = ctx.next_op();
    ctx.effect(Effect::Checking { op, job: job.id });
    let until = ctx.now.mono + LONGEST_CHECK;
    prompts.checking.push(Checking { op, until, asked: Some((call, asked)) });
    job.run.waits.insert(Wait::Check);
    plan(job, ctx);
    Ok(None)
}

/// Has the host check a question, unless it is checking too many.
pub(in crate::runtime) fn begin_check(jobs: &mut Jobs, ctx: &mut Context, op: OpId, id: JobId) {
    let Some(account) = jobs.table.get(id).map(|job| job.spec.principal.account()) else {
        return; // The job ended in this input, and was forgotten to make room.
    };
    let admitted = admit_check(jobs, ctx, &account, "questions that are being checked");
    let begun = jobs.table.change(id, |job| {
        let checking = &mut job.prompts.as_deref_mut()?.checking;
        let at = checking.iter().position(|checking| checking.op == op)?;
        match admitted {
            Ok(()) => {
                let question = &checking[at].asked.as_ref()?.1.question;
                let schema = question.schema()?.clone();
                ctx.output(Output::CheckValue { op, schema, value: question.default_value() });
                Some(())
            }
            Err(full) => {
                let (call, _) = checking.remove(at).asked?;
                note_checked(job);
                plan(job, ctx);
                reply(ctx, id, call, full.into());
                None
            }
        }
    });
    if begun.flatten().is_some() {
        jobs.checking.insert(op, (id, Looks::Question));
    }
}

/// Whether the host may check one more value for agents of an account. `what` names the values in the refusal.
///
/// # Errors
///
/// The bound that is reached.
pub(super) fn admit_check(jobs: &Jobs, ctx: &Context, account: &Account, what: &str) -> Result<(), Violation> {
    let of = |id: &JobId| jobs.table.get(*id).map(|job| job.spec.principal.account());
    let own = jobs.checking.values().filter(|(other, _)| of(other).as_ref() == Some(account)).count();
    let limits = &ctx.config.limits.job;
    let checks = Holding { own, all: jobs.checking.len(), total: limits.input_checks };
    checks.admit(1, limits.principal_share, account.bound_of(), "input_checks", what)
}

/// The host has checked a question.
fn on_checked(job: &mut Job, ctx: &mut Context, op: OpId, fault: Option<&InputFault>) {
    let Some(prompts) = job.prompts.as_deref_mut().expected("its question is looked at") else {
        return;
    };
    let Some(at) = prompts.checking.iter().position(|checking| checking.op == op).expected("its question is looked at")
    else {
        return;
    };
    let checked = prompts.checking.remove(at);
    note_checked(job);
    let Some((call, asked)) = checked.asked else {
        return; // The call does not wait any longer.
    };
    match fault {
        None => open(job, ctx, call, asked, false),
        Some(fault) => reply(ctx, job.id, call, fault.violation("the question cannot be asked").into()),
    }
    plan(job, ctx);
}

fn note_checked(job: &mut Job) {
    let waits = |prompts: &Prompts| prompts.checking.iter().any(|checking| checking.asked.is_some());
    if !job.prompts.as_deref().is_some_and(waits) {
        job.run.waits.remove(&Wait::Check);
    }
}

/// Opens a prompt. `of_call`: whether the call that asks is part of this input.
fn open(job: &mut Job, ctx: &mut Context, call: CallId, asked: Asked, of_call: bool) {
    let Asked { question, timeout } = asked;
    let number = kept(job).map_or(0, |kept| kept.last) + 1;
    let expires_at = ctx.now.utc.plus(timeout);
    let id = PromptId { job: job.id, number };
    let (kind, body) = (question.kind(), question.body(id, expires_at));
    job.append(ctx, JobEvent::Emitted { kind, body }, of_call);
    ctx.observe(Notice::PeopleAsked { job: job.id, question: number });
    let event = job.count();
    let prompts = job.prompts.get_or_insert_default();
    prompts.kept.last = number;
    prompts.kept.open.push(OpenPrompt { number, event, question, expires_at });
    prompts.due.insert(number, ctx.moment(expires_at, timeout));
    prompts.waiting.insert(number, call);
    keep(job, ctx);
    block(job, ctx);
    plan(job, ctx);
}

/// The job waits for people, and shows that.
fn block(job: &mut Job, ctx: &mut Context) {
    if job.run.waits.insert(Wait::Prompt) {
        job.run.silence_at = job.append(ctx, phase("blocked", Some("it waits for an answer")), false);
    }
}

/// Resumes the timeouts of prompts that an earlier run left open.
pub(super) fn resume(job: &mut Job, ctx: &mut Context) {
    let since = job.spec.created_at;
    if let Some(Prompts { kept, due, .. }) = job.prompts.as_deref_mut() {
        for OpenPrompt { number, expires_at, .. } in &kept.open {
            let longest = Duration::from_millis(expires_at.0.saturating_sub(since.0));
            due.insert(*number, ctx.moment(*expires_at, longest));
        }
    }
    plan(job, ctx);
}

/// Whether an open question can have this answer.
///
/// # Errors
///
/// If another answer came first, or this answer does not fit the question.
pub(in crate::runtime) fn check_answer(
    job: &Job,
    most: usize,
    number: u32,
    answer: &PromptAnswer,
) -> Result<Answerable, Violation> {
    let prompts = job.prompts.as_deref().ok_or_else(unknown)?;
    let open = prompts.open(number).ok_or_else(|| prompts.why_closed(number))?;
    let other = |asks: &str| Err(Violation::invalid(alloc::format!("this question asks for {asks}")));
    match (&open.question, answer) {
        (Question::Input { .. }, PromptAnswer::Value(value)) => {
            if value.as_str().len() > most {
                let why = alloc::format!("an answer has at most {most} bytes");
                return Err(Violation::exhausted("answer_bytes", BoundOf::Request, most as u64, why));
            }
            Ok(open.question.schema().cloned().map_or(Answerable::Fits, Answerable::Check))
        }
        (Question::Choice { options, .. }, PromptAnswer::Choice(choice)) => {
            if options.iter().all(|option| option.id != *choice) {
                let ids: Vec<&str> = options.iter().map(|option| option.id.as_str()).collect();
                return Err(Violation::invalid(alloc::format!("`choice_id` is one of: {}", ids.join(", "))));
            }
            Ok(Answerable::Fits)
        }
        (Question::Permission(_), PromptAnswer::Grant { .. } | PromptAnswer::Deny { .. }) => Ok(Answerable::Fits),
        (Question::Input { .. }, _) => other("a value: `human.input.response`"),
        (Question::Choice { .. }, _) => other("a choice: `human.choice.response`"),
        (Question::Permission(_), _) => other("a permission: `permission.grant` or `permission.deny`"),
    }
}

/// A session answers a question: closes it, and tells all other readers.
fn take_answer(job: &mut Job, ctx: &mut Context, number: u32, answer: PromptAnswer, who: Answerer<'_>) {
    let Answerer { by, session, until } = who;
    let Some(question) = job
        .prompts
        .as_deref()
        .and_then(|prompts| prompts.open(number))
        .expected("it was found open")
        .map(|open| &open.question)
    else {
        return;
    };
    let answer = match (answer, question) {
        (PromptAnswer::Value(value), _) => AnswerRecord::Value(value),
        (PromptAnswer::Choice(choice), _) => AnswerRecord::Value(Json::string(&choice)),
        (PromptAnswer::Deny { reason }, _) => AnswerRecord::Denied(reason),
        (PromptAnswer::Grant { lease_seconds, resource, once }, Question::Permission(asked)) => {
            let mut asked = asked.clone();
            asked.resource = resource.unwrap_or(asked.resource);
            asked.lease_seconds = asked.lease_seconds.into_iter().chain(lease_seconds).min();
            AnswerRecord::Value(match asked.budget() {
                Some(_) => grants::add(job, ctx, number, asked),
                None => grants::give(job, ctx, number, asked, Terms { once, until, by }),
            })
        }
        (PromptAnswer::Grant { .. }, Question::Input { .. } | Question::Choice { .. }) => return,
        (PromptAnswer::Extend { .. } | PromptAnswer::Revoke { .. }, _) => return,
    };
    close_answered(job, ctx, number, answer, by, Some(session));
    keep(job, ctx);
    unblock(job, ctx);
    plan(job, ctx);
}

fn close_answered(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    answer: AnswerRecord,
    by: &str,
    but: Option<SessionId>,
) {
    // Only an agent that can be started again may ask for the answer a second time.
    let kept = ctx.config.restarts(&job.spec.agent).then(|| answer.clone());
    let closing = Closing::Answered { by: by.to_string(), answer: kept };
    if let Some(call) = close(job, ctx, number, closing, but) {
        let answer = answered(&answer, by, ctx.now.utc);
        job.run.answer(ctx, (job.id, call), answer, true);
    }
}

/// Closes an open question, and tells every session but `but`. Returns the call that waits for the answer.
fn close(job: &mut Job, ctx: &mut Context, number: u32, closing: Closing, but: Option<SessionId>) -> Option<CallId> {
    let most = ctx.config.limits.prompt.open_prompts_per_job;
    let prompts = job.prompts.as_deref_mut()?;
    let at = prompts.kept.open.iter().position(|open| open.number == number)?;
    let OpenPrompt { event, question, .. } = prompts.kept.open.remove(at);
    let call = prompts.waiting.remove(&number);
    prompts.due.remove(&number);
    let body = closed_body(PromptId { job: job.id, number }, &closing);
    if call.is_none() {
        prompts.earlier.insert(number);
    }
    let closed = ClosedPrompt { number, event, question: question.fingerprint(), closing, at: ctx.now.utc };
    prompts.kept.closed.push(closed);
    if prompts.kept.closed.len() > most {
        let gone = prompts.kept.closed.remove(0);
        prompts.earlier.remove(&gone.number);
    }
    append_for(job, ctx, JobEvent::Emitted { kind: EventKind::PromptClosed, body }, false, but);
    call
}

/// Closes the questions whose time is over, and refuses those that the host has not checked in time.
fn close_overdue(job: &mut Job, ctx: &mut Context) {
    let Some(prompts) = job.prompts.as_deref_mut().expected("one of its questions is due") else {
        return;
    };
    let mut overdue = Vec::new();
    for checking in prompts.checking.iter_mut().filter(|checking| checking.until <= ctx.now.mono) {
        overdue.extend(checking.asked.take().map(|(call, _)| call));
    }
    let over = |open: &&OpenPrompt| prompts.due.get(&open.number).is_none_or(|due| *due <= ctx.now.mono);
    let over: Vec<(u32, Option<Json>)> =
        prompts.kept.open.iter().filter(over).map(|open| (open.number, open.question.default_value())).collect();
    for call in overdue {
        let why = "the question was not checked in time: ask again";
        reply(ctx, job.id, call, Violation::new(ErrorCode::Unavailable, why).into());
    }
    note_checked(job);
    let any = grants::sweep(job, ctx) || !over.is_empty();
    for (number, default) in over {
        match default {
            Some(default) => close_answered(job, ctx, number, AnswerRecord::Value(default), DEFAULT, None),
            None => {
                if let Some(call) = close(job, ctx, number, Closing::Expired, None) {
                    let why = "nobody has answered in time";
                    reply(ctx, job.id, call, Violation::new(ErrorCode::Timeout, why).into());
                }
            }
        }
    }
    if any {
        keep(job, ctx);
        unblock(job, ctx);
    }
    plan(job, ctx);
}

/// The job is told to stop, or is over: withdraws its questions.
pub(super) fn withdraw(job: &mut Job, ctx: &mut Context) {
    let Some(prompts) = job.prompts.as_deref_mut() else {
        return; // The job has no prompts.
    };
    let checked = prompts.checking.iter_mut().filter_map(|checking| checking.asked.take());
    let mut calls: Vec<CallId> = checked.map(|(call, _)| call).collect();
    let open: Vec<u32> = prompts.kept.open.iter().map(|open| open.number).collect();
    for number in &open {
        calls.extend(close(job, ctx, *number, Closing::Withdrawn, None));
    }
    for call in calls {
        reply(ctx, job.id, call, AgentReply::Stopped);
    }
    let interrupted = job.prompts.as_deref_mut().is_some_and(Prompts::withdraw_interrupts);
    if interrupted || !open.is_empty() {
        keep(job, ctx);
    }
    stop_waiting(job);
    // Permissions hold until the agent is gone.
    plan(job, ctx);
}

/// The job is over, and with it its prompts and permissions.
pub(super) fn end(job: &mut Job, ctx: &mut Context) {
    withdraw(job, ctx);
    ctx.timers.clear(Timer::Prompt(job.id));
}

/// The agent is gone: drops the calls that wait for answers.
pub(super) fn drop_calls(job: &mut Job) {
    if let Some(prompts) = job.prompts.as_deref_mut() {
        prompts.waiting.clear();
        prompts.checking.iter_mut().for_each(|checking| checking.asked = None);
    }
    stop_waiting(job);
}

fn stop_waiting(job: &mut Job) {
    job.run.waits.retain(|wait| !matches!(wait, Wait::Check | Wait::Prompt | Wait::Interrupt));
}

/// The host has checked a question.
pub(in crate::runtime) fn on_question_checked(
    jobs: &mut Jobs,
    ctx: &mut Context,
    op: OpId,
    fault: Option<&InputFault>,
) {
    if let Some((id, Looks::Question)) = jobs.checking.get(&op).copied() {
        jobs.checking.remove(&op);
        jobs.table.change(id, |job| {
            if !job.is_terminal() {
                on_checked(job, ctx, op, fault);
            }
        });
    }
}

/// A question of a job has reached its deadline.
pub(in crate::runtime) fn on_due(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| {
        if !job.is_terminal() {
            close_overdue(job, ctx);
        }
    });
}

/// A session answers a question of a job. The answer was checked before.
pub(in crate::runtime) fn answer(
    jobs: &mut Jobs,
    ctx: &mut Context,
    prompt: PromptId,
    answer: PromptAnswer,
    who: Answerer<'_>,
) {
    let raises = jobs.table.get(prompt.job).and_then(|job| raises::amounts(job, prompt.number, &answer));
    jobs.table.change(prompt.job, |job| take_answer(job, ctx, prompt.number, answer, who));
    if let Some(amounts) = raises {
        lease::raise(jobs, ctx, prompt.job, &amounts);
    }
}

/// Restores the prompts of a job.
pub(in crate::runtime) fn restore(table: &mut Table, id: JobId, kept: KeptPrompts) {
    table.change(id, |job| job.prompts = Some(Box::new(Prompts::restored(kept))));
}

/// What the other readers are told of a closed question.
fn closed_body(id: PromptId, closing: &Closing) -> Json {
    let (code, reason, message, by) = match closing {
        Closing::Answered { by, .. } => {
            (ErrorCode::Cancelled, "answered", alloc::format!("it was answered by {by}"), Some(by.as_str()))
        }
        Closing::Expired => (ErrorCode::Timeout, "expired", "nobody has answered in time".to_string(), None),
        Closing::Withdrawn => {
            (ErrorCode::Cancelled, "withdrawn", "the job does not wait for an answer any more".to_string(), None)
        }
    };
    let mut body = Object::new();
    body.display("prompt_id", id).str("code", code.in_open()).str("reason", reason).str("message", &message);
    body.opt_str("responded_by", by);
    body.json()
}
