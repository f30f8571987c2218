//! Checkpoints: states from which an agent can go on after a restart of the runtime, and at which other jobs
//! can begin (RFC §10.2, §19).
//!
//! ```text
//! asked for ──▶ Asked ──the agent makes one──▶ kept ──▶ answered once it is durable
//!                 └──────too late, job over or handed over──▶ refused
//!
//! made ──room──▶ kept ──▶ forgotten: for newer ones, or with its job
//!   └──no room──▶ what its own agent goes on from, until there is a newer one
//! ```
//!
//! A kept checkpoint is in memory and in one record. Which request waits for a checkpoint is in memory only:
//! after a restart, a repeated message with the same id is answered with the checkpoint that was made for it,
//! or has another one made.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::cause::Fault;
pub(in crate::runtime) use super::kept_checkpoints::Asked;
use super::kept_checkpoints::{ENTRY, Kept};
use super::{AgentState, Input, Job, JobState, Jobs, is_over};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::json::{Json, Object};
use crate::model::checkpoint::CheckpointRef;
use crate::model::event::{EventKind, JobEvent};
use crate::model::reply::{CommandReply, Refusal, RefusedKind, Reply, Subject};
use crate::runtime::account::{HeldFor, Holding};
use crate::runtime::checkpoint_records::{BegunAt, CheckpointMark};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{Output, Record};
use crate::runtime::timers::Timer;

/// The checkpoint at which a job is to begin, and its state.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Beginning {
    pub(in crate::runtime) at: BegunAt,
    pub(in crate::runtime) state: Arc<[u8]>,
}

/// The id of a checkpoint, which contains the number of its event.
pub(in crate::runtime) fn id_of(job: JobId, event: u64) -> WireId {
    WireId::new(&alloc::format!("chk_{}_{event}", job.ulid())).expect("it is as long as an id may be")
}

/// The job and the event number of the checkpoint with this id.
pub(in crate::runtime) fn named(id: &WireId) -> Option<(JobId, u64)> {
    let (job, event) = id.as_str().strip_prefix("chk_")?.split_once('_')?;
    let (job, event) = (JobId::parse(&alloc::format!("job_{job}"))?, event.parse().ok()?);
    // Only the canonical spelling of a number is valid.
    (id_of(job, event) == *id).then_some((job, event))
}

impl Job {
    /// Keeps a state that the agent can go on from. The state stands in the log before its event, so that every
    /// reader of the event can rely on it. With `asked`, the agent wants to know whether the state is kept.
    pub(super) fn checkpoint(
        &mut self,
        ctx: &mut Context,
        state: Vec<u8>,
        label: Option<&str>,
        asked: bool,
    ) -> Result<(), Fault> {
        let restarts = ctx.config.restarts(&self.spec.agent);
        if asked && !restarts {
            return Err(Fault("the agent is not started again after a restart of the runtime: its state is not kept"));
        }
        if state.len() > ctx.config.limits.job.checkpoint_bytes {
            return Err(Fault("the checkpoint is larger than this runtime allows"));
        }
        let waiting = self.run.checkpoints.as_ref().and_then(|own| own.asked.clone()).filter(|_| restarts);
        // The label of the request counts before that of the agent.
        let label = waiting.as_ref().and_then(|asked| asked.label.clone()).or_else(|| label.map(Into::into));
        let event = self.count() + 1;
        let mut body = Object::new();
        body.str("checkpoint_id", id_of(self.id, event).as_str()).opt_str("label", label.as_deref());
        let body = body.json();
        if body.as_str().len() > ctx.config.limits.frame.event_body_bytes {
            return Err(Fault("the label of the checkpoint is longer than an event may be"));
        }
        let made = restarts.then(|| {
            let by = waiting.as_ref().map(|asked| asked.by.clone());
            let asked = waiting.map(|asked| Box::new((asked.session, asked.request)));
            let mark = CheckpointMark { event, at: ctx.now.utc, label, asked, by };
            keep(self, ctx, state, mark)
        });
        self.append(ctx, JobEvent::Emitted { kind: EventKind::Checkpoint, body }, true);
        if let Some(made) = made {
            answer(self, ctx, made);
        }
        Ok(())
    }
}

/// Keeps a state: always for the agent of this job; for other jobs, if there is room.
///
/// # Errors
///
/// If there is no room for other jobs to begin at it.
fn keep(job: &mut Job, ctx: &mut Context, state: Vec<u8>, mark: CheckpointMark) -> Result<CheckpointRef, Violation> {
    let room = make_room(job, ctx, ENTRY + state.len() + mark.bytes());
    if let Some(prompts) = &mut job.prompts {
        prompts.forget_answers();
    }
    let kept = room.is_ok().then(|| Box::new(mark.clone()));
    let pos = ctx.append(Record::Checkpointed { job: job.id, state: state.clone(), kept });
    room?;
    let account = job.held.job.balance().clone();
    let shown = shown(job.id, &mark, state.len());
    job.run.checkpoints.get_or_insert_default().keep(&account, pos, mark, state.into());
    Ok(shown)
}

/// Makes room for one more, by forgetting checkpoints that the agent made unasked, oldest first.
fn make_room(job: &mut Job, ctx: &mut Context, bytes: usize) -> Result<(), Violation> {
    let limits = ctx.config.limits.artifact.clone();
    let id = job.id;
    let Some(own) = job.run.checkpoints.as_mut().filter(|own| own.input.is_some()) else {
        let why = "this runtime has no room for what jobs that begin at it would be started with";
        return Err(exhausted("all_checkpoint_bytes", limits.all_checkpoint_bytes, why.into()));
    };
    let most = limits.checkpoint_bytes_per_job;
    if bytes > most {
        let why = alloc::format!("the checkpoint has {bytes} bytes: at most {most} are kept of a job");
        return Err(exhausted("checkpoint_bytes_per_job", most, why));
    }
    // Checkpoints that a client asked for are never evicted. If evicting all others is not enough, none is
    // evicted.
    let by_itself: Vec<(LogPos, usize)> = {
        let of_agent = own.kept.iter().filter(|kept| kept.mark.asked.is_none());
        of_agent.map(|kept| (kept.pos, kept.charge.bytes())).collect()
    };
    let (mut gone, mut freed) = (0, 0);
    loop {
        let beyond = if own.kept.len() - gone >= limits.checkpoints_per_job {
            let most = limits.checkpoints_per_job;
            let why = alloc::format!("{most} checkpoints of this job are kept: all were asked for");
            Err(exhausted("checkpoints_per_job", most, why))
        } else if own.bytes() - freed + bytes > most {
            let why = alloc::format!("the checkpoints of this job would have more than {most} bytes");
            Err(exhausted("checkpoint_bytes_per_job", most, why))
        } else {
            admit(ctx, &job.spec.principal.account(), bytes, freed)
        };
        let Err(why) = beyond else { break };
        freed += by_itself.get(gone).ok_or(why)?.1;
        gone += 1;
    }
    let entries: Vec<LogPos> = by_itself[..gone].iter().map(|(pos, _)| *pos).collect();
    if !entries.is_empty() {
        own.kept.retain(|kept| !entries.contains(&kept.pos));
        ctx.append(Record::CheckpointsForgotten { job: id, entries });
    }
    Ok(())
}

fn exhausted(bound: &'static str, most: usize, why: String) -> Violation {
    Violation::exhausted(bound, BoundOf::Job, most as u64, why)
}

/// Whether an account may hold this many more bytes of checkpoints, after it has freed `freed`.
fn admit(ctx: &Context, account: &crate::principal::Account, bytes: usize, freed: usize) -> Result<(), Violation> {
    let limits = &ctx.config.limits;
    let held = ctx.accounts.held(account, HeldFor::Checkpoints, limits, limits.artifact.all_checkpoint_bytes);
    let held = Holding { own: held.own - freed, all: held.all - freed, ..held };
    let (share, of) = (limits.job.principal_share, account.bound_of());
    held.admit(bytes, share, of, "all_checkpoint_bytes", "the checkpoints of jobs, with what these began with,")
}

fn shown(job: JobId, mark: &CheckpointMark, bytes: usize) -> CheckpointRef {
    CheckpointRef {
        id: id_of(job, mark.event),
        job: job.into(),
        label: mark.label.clone(),
        created_at: Some(mark.at),
        size: bytes as u64,
        asked_for: mark.asked.is_some(),
    }
}

/// All checkpoints that are kept of a job, oldest first.
pub(in crate::runtime) fn all(job: &Job) -> impl Iterator<Item = CheckpointRef> {
    let kept = job.run.checkpoints.iter().flat_map(|own| &own.kept);
    kept.map(|kept| shown(job.id, &kept.mark, kept.state.len()))
}

/// Whether the job still holds what it was started with, as far as anything needs it: its agent that is to be
/// started, or jobs that may begin at its checkpoints.
pub(in crate::runtime) fn is_whole(job: &Job) -> bool {
    let own = job.run.checkpoints.as_ref();
    job.input.is_some() || own.is_none_or(|own| own.kept.is_empty() || own.input.is_some())
}

/// Whether the agent of a job has a state to go on from.
pub(super) fn has_any(job: &Job) -> bool {
    job.run.checkpoints.as_ref().is_some_and(|own| own.last.is_some() || !own.kept.is_empty())
}

/// What a job needs to begin at a checkpoint of this one: the state, and the input and extensions of this job.
pub(in crate::runtime) fn beginning(job: &Job, event: u64) -> Option<(Beginning, Json, Option<Json>)> {
    let own = job.run.checkpoints.as_ref()?;
    let kept = own.kept.iter().find(|kept| kept.mark.event == event)?;
    // A job that is about to be started again still has its input.
    let started = own.input.as_ref().or(job.input.as_ref())?;
    let beginning = Beginning { at: BegunAt { job: job.id, event }, state: kept.state.clone() };
    Some((beginning, started.input.clone(), started.extensions.clone()))
}

/// Whether a principal may have a job that begins with a state of this size.
pub(super) fn check_beginning(
    ctx: &Context,
    account: &crate::principal::Account,
    beginning: &Beginning,
) -> Result<(), Violation> {
    admit(ctx, account, beginning.state.len(), 0)
}

/// A job that was just accepted begins at a checkpoint of another one.
pub(super) fn begin_at(job: &mut Job, ctx: &mut Context, beginning: &Beginning) {
    let state = beginning.state.clone();
    ctx.append(Record::Checkpointed { job: job.id, state: state.to_vec(), kept: None });
    let charge = job.held.job.balance().charge(HeldFor::Checkpoints, state.len());
    job.run.checkpoints.get_or_insert_default().last = Some((state, charge));
}

/// Starts the agent of a job: returns the state that it goes on from. The input is kept if other jobs may
/// begin at checkpoints of this one.
pub(super) fn start(job: &mut Job, ctx: &mut Context) -> Option<Vec<u8>> {
    let input = job.input.take();
    if !ctx.config.restarts(&job.spec.agent) {
        job.run.checkpoints = None;
        return None;
    }
    let has_some = job.run.checkpoints.as_ref().is_some_and(|own| !own.kept.is_empty());
    let account = job.spec.principal.account();
    let has_room = |input: &Input| has_some || admit(ctx, &account, input.charge.bytes(), 0).is_ok();
    if let Some(mut input) = input.filter(has_room) {
        input.charge.turn_into(HeldFor::Checkpoints);
        job.run.checkpoints.get_or_insert_default().input = Some(input);
    }
    let own = job.run.checkpoints.as_mut()?;
    let latest = own.kept.last().map(|kept| kept.state.to_vec());
    own.last.take().map(|(state, _)| state.to_vec()).or(latest)
}

/// The agent of a job will not be started: drops the input, unless other jobs may begin at checkpoints of this
/// one.
pub(super) fn drop_input(job: &mut Job) {
    let input = job.input.take();
    if let Some(own) = job.run.checkpoints.as_mut().filter(|own| !own.kept.is_empty() && own.input.is_none()) {
        own.input = input.map(|mut input| {
            input.charge.turn_into(HeldFor::Checkpoints);
            input
        });
    }
}

/// A job has ended: refuses the waiting request. Kept checkpoints stay with the job.
pub(super) fn end(job: &mut Job, ctx: &mut Context) {
    let over = || Violation::new(ErrorCode::FailedPrecondition, "the job ended before its agent made a checkpoint");
    answer(job, ctx, Err(over()));
    restore_end(job);
}

/// Restores what the end of a job does to its checkpoints.
pub(super) fn restore_end(job: &mut Job) {
    if let Some(own) = &mut job.run.checkpoints {
        own.last = None;
        if own.kept.is_empty() {
            job.run.checkpoints = None;
        }
    }
}

/// Whether a client can ask for a checkpoint of a job.
///
/// # Errors
///
/// `UNIMPLEMENTED` if the agent gives none on request, `FAILED_PRECONDITION` if it is not running or is making
/// one already, `RESOURCE_EXHAUSTED` at a bound.
pub(in crate::runtime) fn check(job: &Job, ctx: &Context) -> Result<(), Violation> {
    let name = job.spec.agent.name();
    let unable = |why: String| Err(Violation::new(ErrorCode::Unimplemented, why));
    if !ctx.config.restarts(&job.spec.agent) {
        return unable(alloc::format!("`{name}` cannot go on from a checkpoint: its jobs have none"));
    }
    if !ctx.config.gives_checkpoints(name) {
        return unable(alloc::format!("`{name}` makes its checkpoints by itself and gives none when asked"));
    }
    let not_now = |why: &'static str| Err(Violation::new(ErrorCode::FailedPrecondition, why));
    match job.state {
        JobState::Running if !is_over(job) && job.run.state == AgentState::Running => {}
        JobState::Running if is_over(job) => return not_now("the job is about to end: its agent makes no more"),
        JobState::Accepting | JobState::Queued | JobState::Running => {
            return not_now("the job does not run yet: ask for a checkpoint once it does");
        }
        JobState::Cancelling(_) => return not_now("the job was told to stop"),
        JobState::Ended(_) => return not_now("the job has ended: its last checkpoints are kept with it"),
    }
    let own = job.run.checkpoints.as_ref();
    if own.is_some_and(|own| own.asked.is_some()) {
        return not_now("a checkpoint of this job is being made for another request: ask again when it is there");
    }
    let most = ctx.config.limits.artifact.checkpoints_per_job;
    let asked_for = own.map_or(0, |own| own.kept.iter().filter(|kept| kept.mark.asked.is_some()).count());
    if asked_for >= most {
        let why = alloc::format!("{most} checkpoints of this job are kept that were asked for");
        return Err(exhausted("checkpoints_per_job", most, why));
    }
    Ok(())
}

/// Asks the agent for a checkpoint. The caller has [checked](check) that it can be asked.
pub(in crate::runtime) fn ask(jobs: &mut Jobs, ctx: &mut Context, id: JobId, asked: Asked) {
    let at = ctx.now.mono + ctx.config.limits.artifact.checkpoint_wait;
    ctx.timers.set(Timer::Checkpoint(id), at);
    ctx.output(Output::AskCheckpoint { job: id, label: asked.label.clone() });
    jobs.table.change(id, |job| job.run.checkpoints.get_or_insert_default().asked = Some(asked));
}

/// The sender of a message, and the scope of its id: one session, or the principal.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Asker {
    pub(in crate::runtime) by: Principal,
    pub(in crate::runtime) session: SessionId,
    pub(in crate::runtime) id_is_of_principal: bool,
}

impl Asker {
    /// Whether a message with the same id, from that principal and session, is the same message.
    fn is(&self, by: Option<&Principal>, session: SessionId) -> bool {
        by == Some(&self.by) && (self.id_is_of_principal || session == self.session)
    }
}

/// The checkpoint that was made for an earlier copy of this message.
pub(in crate::runtime) fn made_for(job: &Job, asker: &Asker, request: &WireId) -> Option<CheckpointRef> {
    let kept = &job.run.checkpoints.as_ref()?.kept;
    let found = kept.iter().find(|Kept { mark, .. }| {
        let asked = mark.asked.as_deref();
        asked.is_some_and(|(session, id)| id == request && asker.is(mark.by.as_ref(), *session))
    })?;
    Some(shown(job.id, &found.mark, found.state.len()))
}

/// Whether a message still waits for a checkpoint. If it does, its answer goes to this session from here on.
pub(in crate::runtime) fn goes_on_waiting(jobs: &mut Jobs, id: JobId, asker: &Asker, request: &WireId) -> bool {
    let waits = |job: &mut Job| {
        let asked = job.run.checkpoints.as_mut().and_then(|own| own.asked.as_mut());
        let is_it = |asked: &&mut Asked| asked.request == *request && asker.is(Some(&asked.by), asked.session);
        asked.filter(is_it).map(|asked| asked.session = asker.session).is_some()
    };
    jobs.table.change(id, waits) == Some(true)
}

/// The agent has not made a checkpoint in time.
pub(in crate::runtime) fn on_due(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let span = ctx.config.limits.artifact.checkpoint_wait;
    let why = alloc::format!("the agent has made no checkpoint within {}", crate::time::InWords(span));
    jobs.table.change(id, |job| answer(job, ctx, Err(Violation::new(ErrorCode::Timeout, why))));
}

/// The job was handed over to another principal: the waiting request is refused.
pub(super) fn hand_over(job: &mut Job, ctx: &mut Context) {
    let why = "the job was handed over: its checkpoints are whose it is now";
    answer(job, ctx, Err(Violation::new(ErrorCode::FailedPrecondition, why)));
}

/// Answers the request that waits for a checkpoint of a job, if there is one.
fn answer(job: &mut Job, ctx: &mut Context, made: Result<CheckpointRef, Violation>) {
    let Some(asked) = job.run.checkpoints.as_mut().and_then(|own| own.asked.take()) else {
        return; // No request waits.
    };
    ctx.timers.clear(Timer::Checkpoint(job.id));
    let request = Some(asked.request);
    let reply = match made {
        Ok(checkpoint) => Reply::Command(CommandReply::Checkpoint { checkpoint, request }),
        Err(why) => {
            let subject = Subject { kind: RefusedKind::Frame, id: request, job: Some(job.id.into()), trace: None };
            Reply::Refused(Refusal::about(subject, why))
        }
    };
    ctx.effect(Effect::Tell { session: asked.session, reply });
}

/// Restores a checkpoint of a job.
pub(in crate::runtime) fn restore(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    (pos, mark): (LogPos, Option<Box<CheckpointMark>>),
    state: Vec<u8>,
) {
    jobs.table.change(id, |job| {
        let account = ctx.accounts.of(&job.spec.principal.account());
        if let Some(prompts) = &mut job.prompts {
            prompts.forget_answers();
        }
        let own = job.run.checkpoints.get_or_insert_default();
        match mark {
            Some(mark) => own.keep(&account, pos, *mark, state.into()),
            None => {
                let charge = account.charge(HeldFor::Checkpoints, state.len());
                own.last = Some((state.into(), charge));
            }
        }
    });
}

/// Restores that checkpoints of a job were forgotten.
pub(in crate::runtime) fn restore_forgotten(jobs: &mut Jobs, id: JobId, entries: &[LogPos]) {
    jobs.table.change(id, |job| {
        if let Some(own) = &mut job.run.checkpoints {
            own.kept.retain(|kept| !entries.contains(&kept.pos));
        }
    });
}
