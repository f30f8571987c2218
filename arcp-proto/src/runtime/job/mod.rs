//! A job: one run of an agent on behalf of a principal. It outlives sessions.
//!
//! ```text
//!     ┌──────durable, with a slot────────┐
//! Accepting ──durable──▶ Queued ──slot──▶ Running ──exit──▶ Ended
//!     └────────cancel───────┘  │             ├─cancel─▶ Cancelling ──exit or grace──▶ Ended
//!              └──▶ Ended ◀────┘             └─time limit──▶ Ended
//! ```
//!
//! A job that is being cancelled ends as cancelled, even if its time limit passes first.
//!
//! The agent of a running job is started once the record of that is durable: see `slots`.
//!
//! `Ended` is final: exactly one terminal event, nothing after it.

mod agent;
pub(in crate::runtime) mod artifact;
mod backlog;
mod cause;
pub(in crate::runtime) mod checkpoint;
mod credentials;
mod credit;
pub(in crate::runtime) mod deferral;
pub(in crate::runtime) mod deferred;
pub(in crate::runtime) mod delegation;
pub(in crate::runtime) mod departure;
mod departures;
mod end;
mod ended;
mod events;
mod family;
pub(in crate::runtime) mod grants;
pub(in crate::runtime) mod handoff;
mod heartbeat;
mod history;
mod idempotency;
pub(in crate::runtime) mod inbound;
pub(in crate::runtime) mod interrupt;
mod jobs;
mod kept_checkpoints;
pub(in crate::runtime) mod lease;
mod lines;
pub(in crate::runtime) mod masking;
mod memory;
mod open_calls;
pub(in crate::runtime) mod preparation;
pub(in crate::runtime) mod prompt;
pub(in crate::runtime) mod prompts;
pub(in crate::runtime) mod provisioning;
mod purge;
mod questions;
pub(in crate::runtime) mod raises;
mod recover;
mod resolve;
mod restore;
mod result;
mod run;
mod shares;
pub(in crate::runtime) mod slots;
pub(in crate::runtime) mod streams;
mod submit;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
pub(in crate::runtime) mod turns;
mod waits;
#[cfg(test)]
mod weights;
pub(in crate::runtime) mod workflow;
mod workflow_check;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::error::Violation;
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::event::JobEvent;
use crate::model::job::{FinalStatus, JobStatus};
use crate::model::reply::{Accepted, CommandReply, Reply, Watching};
use crate::model::request::Invocation;
use crate::model::workflow::is_agent;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::checkpoint_records::BegunAt;
use crate::runtime::context::Context;
use crate::runtime::few::Few;
use crate::runtime::io::{Firing, JobBounds, KeyRecord, ParentRecord};
use crate::time::UtcMs;
pub(in crate::runtime) use backlog::Said;
pub(in crate::runtime) use end::end_workflow;
pub(in crate::runtime) use events::Stored;
pub(in crate::runtime) use history::History;
pub(in crate::runtime) use jobs::{Jobs, has_workflows_only, recount};
pub(in crate::runtime) use result::ChunkTerms;
pub(in crate::runtime) use submit::{NewJob, Submission, SubmitContext, begun_by, check_for_later, level_of};
pub use waits::Wait;
pub(in crate::runtime) use workflow_check::submit_of;

use events::Events;
use lease::Purse;
use prompts::Prompts;
use run::{AgentRun, AgentState};
use shares::Slot;

/// Approximate bytes that the tables of jobs hold for one job, rounded up.
const TABLES: usize = 512;
/// Bytes held by a job that has no events yet.
const NEW_JOB: usize = TABLES + size_of::<Job>();
/// Approximate bytes that a job holds for each child that has not ended.
const CHILD: usize = 64;

#[derive(Debug)]
pub(in crate::runtime) struct Job {
    id: JobId,
    spec: JobSpec,
    /// The input for the agent, until the agent is started or never will be.
    input: Option<Input>,
    /// Bytes of the input, as the store keeps it.
    input_bytes: u64,
    state: JobState,
    /// Log position of the acceptance.
    accepted_at: LogPos,
    pub(in crate::runtime) sessions: JobSessions,
    run: AgentRun,
    /// What the job may still spend, if it has a budget.
    purse: Option<Box<Purse>>,
    /// Children that have not ended, or that have such children themselves.
    children: BTreeSet<JobId>,
    /// The questions that the agent asked people, if any.
    prompts: Option<Box<Prompts>>,
    events: Events,
    held: Held,
    /// Whether the retention has passed, so that only references keep the job.
    expired: bool,
    /// Whether the runtime has let go of the frames that clients were sent of this job: a resume window has
    /// passed since the end, or the job is expired.
    pub(in crate::runtime) released: bool,
}

/// The sessions that the job belongs to, open or ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct JobSessions {
    /// The session in which the job was submitted.
    pub(in crate::runtime) submitter: SessionId,
    /// The session that its children belong to: the submitter, or the session that the job was handed over to.
    pub(in crate::runtime) holder: SessionId,
}

/// What the job holds of its principal's account, besides the input that waits for the agent.
#[derive(Debug)]
struct Held {
    /// Bytes of the spec.
    spec: usize,
    /// The job itself, without its events.
    job: Charge,
    events: Charge,
}

/// What the submit asked for, as it was accepted.
#[derive(Debug)]
pub(in crate::runtime) struct JobSpec {
    pub(in crate::runtime) principal: Principal,
    pub(in crate::runtime) agent: AgentRef,
    /// The effective lease, as clients are shown it. It does not change.
    pub(in crate::runtime) lease: Json,
    pub(in crate::runtime) trace: String,
    /// What the open family adds to a submit. Its extensions are kept with the input.
    pub(in crate::runtime) invocation: Invocation,
    pub(in crate::runtime) created_at: UtcMs,
    pub(in crate::runtime) bounds: JobBounds,
    /// The idempotency key that the submit claimed.
    pub(in crate::runtime) key: Option<Box<KeyRecord>>,
    /// The principal that submitted the job, if the job was handed over to another one: a repeated message of
    /// that submitter makes no new job.
    pub(in crate::runtime) asked_by: Option<Box<Principal>>,
    /// The principal that handed the job over to its present one, if any: a repeated handoff is already done.
    pub(in crate::runtime) given_by: Option<Box<Principal>>,
}

impl JobSpec {
    /// The principal that submitted the job, whoever owns it after a handoff.
    pub(in crate::runtime) fn submitted_by(&self) -> &Principal {
        self.asked_by.as_deref().unwrap_or(&self.principal)
    }

    /// The job whose agent or client asked for this one as a child.
    pub(in crate::runtime) fn parent(&self) -> Option<JobId> {
        self.bounds.parent.as_ref().map(|parent| parent.job)
    }

    /// The job that clients are shown as the origin: the parent, or the job at whose checkpoint this one began.
    pub(in crate::runtime) fn origin(&self) -> Option<JobId> {
        self.parent().or_else(|| self.bounds.begun_at.as_ref().map(|begun| begun.job))
    }
}

/// The input of a job whose agent has not started.
#[derive(Debug)]
struct Input {
    input: Json,
    extensions: Option<Json>,
    charge: Charge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum JobState {
    /// Its acceptance is not durable yet.
    Accepting,
    /// The job waits for a slot.
    Queued,
    /// The agent runs, or is about to be started.
    Running,
    /// The agent has been told to stop, for the reason that the client gave.
    Cancelling(Option<String>),
    /// The job is over.
    Ended(End),
}

/// How and when a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct End {
    pub(in crate::runtime) status: FinalStatus,
    pub(in crate::runtime) at: UtcMs,
    /// Log position of the last event.
    pos: LogPos,
    /// Whether the result can be read only in pieces.
    in_pieces: bool,
}

impl JobState {
    fn is_cancelling(&self) -> bool {
        matches!(self, JobState::Cancelling(_))
    }
}

impl Held {
    fn new(account: &Balance, spec: &JobSpec) -> Held {
        let (job, events) = (account.charge(HeldFor::Jobs, 0), account.charge(HeldFor::Events, 0));
        Held { spec: spec.weight(), job, events }
    }
}

impl JobSpec {
    /// Approximate bytes that it holds.
    fn weight(&self) -> usize {
        /// A parsed lease takes about this many times the bytes of its text.
        const READ: usize = 4;
        let JobSpec { agent, lease, trace, invocation, .. } = self;
        let parent = self
            .bounds
            .parent
            .as_ref()
            .map_or(0, |parent| size_of::<ParentRecord>() + parent.delegate_id.as_str().len());
        let firing = self.bounds.firing.as_ref();
        let firing = firing.map_or(0, |firing| size_of::<Firing>() + firing.schedule.as_str().len());
        let span = invocation.span.as_ref().map_or(0, |span| span.len());
        let lease = READ * lease.as_str().len();
        let begun_at = self.bounds.begun_at.as_ref().map_or(0, |_| size_of::<BegunAt>());
        let key = self.key.as_ref().map_or(0, |_| size_of::<KeyRecord>());
        agent.name().len() + lease + trace.len() + span + parent + firing + begun_at + key
    }
}

impl Input {
    fn new(account: &Balance, input: Json, extensions: Option<Json>) -> Input {
        let bytes = waiting_bytes(input.as_str(), extensions.as_ref());
        Input { input, extensions, charge: account.charge(HeldFor::Inputs, bytes) }
    }
}

/// States, and the transitions between them.
impl Job {
    /// A job that was just accepted and whose acceptance is not durable yet.
    fn new(
        ctx: &mut Context,
        id: JobId,
        mut spec: JobSpec,
        input: Json,
        session: SessionId,
        accepted_at: LogPos,
    ) -> Box<Job> {
        let account = ctx.accounts.of(&spec.principal.account());
        let input_bytes = waiting_bytes(input.as_str(), spec.invocation.extensions.as_ref()) as u64;
        Box::new(Job {
            id,
            input_bytes,
            input: Some(Input::new(&account, input, spec.invocation.extensions.take())),
            held: Held::new(&account, &spec),
            spec,
            state: JobState::Accepting,
            accepted_at,
            sessions: JobSessions { submitter: session, holder: session },
            purse: None,
            children: BTreeSet::new(),
            prompts: None,
            run: AgentRun { waits: Few::of(Wait::Store), ..AgentRun::default() },
            events: Events::new(&ctx.config.limits),
            expired: false,
            released: false,
        })
    }

    pub(in crate::runtime) fn state(&self) -> &JobState {
        &self.state
    }

    /// The acceptance is durable, and no slot is free.
    fn mark_queued(&mut self) {
        debug_assert_eq!(self.state, JobState::Accepting);
        self.state = JobState::Queued;
    }

    /// The job has a slot, and its agent is to be started. Returns whether it was started before.
    fn mark_started(&mut self, at: UtcMs) -> bool {
        debug_assert!(matches!(self.state, JobState::Accepting | JobState::Queued));
        self.state = JobState::Running;
        let again = self.run.started_at.is_some();
        self.run.started_at.get_or_insert(at);
        again
    }

    /// The job goes on in this run of the runtime after a restart, once that is durable.
    fn mark_restarted(&mut self) {
        self.run.restarts += 1;
        self.state = JobState::Accepting;
    }

    fn mark_cancelling(&mut self, reason: Option<String>) {
        debug_assert!(!self.is_terminal(), "what is over stays so");
        self.state = JobState::Cancelling(reason);
    }

    fn mark_ended(&mut self, end: End) {
        debug_assert!(!self.is_terminal(), "it ends once");
        lease::close(self);
        self.state = JobState::Ended(end);
        self.run.waits = Few::default();
    }
}

/// What the job is, and its status.
impl Job {
    pub(in crate::runtime) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    pub(in crate::runtime) fn submitter(&self) -> SessionId {
        self.sessions.submitter
    }

    pub(in crate::runtime) fn accepted_at(&self) -> LogPos {
        self.accepted_at
    }

    /// When the agent was first started, and how often it was started again.
    pub(in crate::runtime) fn starts(&self) -> (Option<UtcMs>, u32) {
        (self.run.started_at, self.run.restarts)
    }

    pub(in crate::runtime) fn status(&self) -> JobStatus {
        match &self.state {
            JobState::Accepting | JobState::Queued => JobStatus::Pending,
            JobState::Running | JobState::Cancelling(_) if self.run.is_blocked() => JobStatus::Blocked,
            JobState::Running | JobState::Cancelling(_) => JobStatus::Running,
            JobState::Ended(end) => JobStatus::Ended(end.status),
        }
    }

    pub(in crate::runtime) fn is_terminal(&self) -> bool {
        self.end().is_some()
    }

    /// How the job ended, if it did.
    pub(in crate::runtime) fn end(&self) -> Option<&End> {
        if let JobState::Ended(end) = &self.state { Some(end) } else { None }
    }

    /// Whether the agent runs and its calls still count.
    fn is_heard(&self) -> bool {
        !is_over(self) && self.run.state == AgentState::Running
    }

    /// Whether the retention has passed, so that listings leave the job out.
    pub(in crate::runtime) fn is_expired(&self) -> bool {
        self.expired
    }

    /// Whether the job can be forgotten: its retention has passed, its agent is gone, and no child or credential of it
    /// is left.
    pub(in crate::runtime) fn is_done(&self) -> bool {
        let is_at_rest = self.children.is_empty() && !self.run.credentials;
        self.expired && self.run.state != AgentState::Running && is_at_rest
    }

    /// The acceptance of this job, as an answer to a request.
    pub(in crate::runtime) fn accepted(&self, request: Option<&WireId>) -> Reply {
        Reply::Command(CommandReply::Accepted(Accepted {
            request: request.cloned(),
            job: self.id.into(),
            agent: self.spec.agent.to_string(),
            lease: self.spec.lease.clone(),
            constraints: self.spec.bounds.constraints,
            // The whole budget, not what is left: a retry by the key gets the same answer.
            budget: lease::budget_granted(self),
            trace: Some(self.spec.trace.clone()),
            accepted_at: self.spec.created_at,
            parent: self.spec.origin().map(Into::into),
            delegate_id: self.spec.bounds.parent.as_ref().map(|parent| parent.delegate_id.clone()),
            credentials: Vec::new(),
        }))
    }

    /// The answer to a watch request: its events follow after sequence number `from`; `replayed` says whether
    /// earlier ones are among them.
    pub(in crate::runtime) fn watching(&self, request: &WireId, from: u64, replayed: bool) -> Watching {
        Watching {
            request: Some(request.clone()),
            job: self.id.into(),
            status: Some(self.status()),
            agent: self.spec.agent.to_string(),
            lease: self.spec.lease.clone(),
            constraints: self.spec.bounds.constraints,
            budget: lease::budget_left(self),
            parent: self.spec.origin().map(Into::into),
            trace: Some(self.spec.trace.clone()),
            from,
            replayed,
        }
    }
}

/// Events.
impl Job {
    /// Adds an event. If an agent's call made it (`of_call`), the agent gets the credit of that call back once
    /// the event is durable.
    fn append(&mut self, ctx: &mut Context, event: JobEvent, of_call: bool) -> LogPos {
        append_for(self, ctx, event, of_call, None)
    }

    pub(in crate::runtime) fn history(&self) -> &History {
        self.events.history()
    }

    /// How many events the job has had.
    pub(in crate::runtime) fn count(&self) -> u64 {
        self.events.count()
    }

    /// Event `n`, from 1, if it is held in memory.
    pub(in crate::runtime) fn event(&self, n: u64) -> Option<&Stored> {
        self.events.get(n)
    }

    /// The number of the first event that is held in memory.
    pub(in crate::runtime) fn first_held(&self) -> u64 {
        self.events.first_held()
    }

    /// Whether event `n` is still available, in memory or from the store. Event 0 is the acceptance.
    pub(in crate::runtime) fn keeps(&self, n: u64) -> bool {
        n == 0 || (self.history().first()..=self.count()).contains(&n)
    }

    /// Log position of event `n` (0: the acceptance), if it is held in memory.
    pub(in crate::runtime) fn position(&self, n: u64) -> Option<LogPos> {
        if n == 0 { Some(self.accepted_at) } else { self.event(n).map(|stored| stored.pos) }
    }
}

/// Adds an event to a job, as new to every session but `but`. If an agent's call made it (`of_call`), the
/// agent gets the credit of that call back once the event is durable.
fn append_for(job: &mut Job, ctx: &mut Context, event: JobEvent, of_call: bool, but: Option<SessionId>) -> LogPos {
    let (class, record) = (event.class(), job.events.next(ctx.now.utc, event));
    let n = record.n;
    let pos = ctx.append_event(job.id, record.clone(), of_call);
    let keep_until = ctx.now.mono + ctx.config.timing.resume_window;
    let grown = job.events.add(pos, record, keep_until);
    ctx.appended(job.id, n, class, grown, but);
    pos
}

/// Whether a job has ended, or ends once its credentials are revoked. Calls of its agent do not count then.
fn is_over(job: &Job) -> bool {
    job.is_terminal() || (job.run.credentials && job.run.waits.contains(&Wait::Revocation))
}

/// Everything but its agent that an unended job waits for.
pub(in crate::runtime) fn waits(job: &Job) -> impl Iterator<Item = Wait> {
    job.run.held_up_by().filter(|_| !job.is_terminal())
}

/// Whether a job is a workflow, which the runtime runs itself.
pub(in crate::runtime) fn is_workflow(job: &Job) -> bool {
    is_agent(&job.spec.agent)
}

/// The account of the principal that owns the job.
pub(in crate::runtime) fn account_of(job: &Job) -> &Balance {
    job.held.job.balance()
}

/// Whether a job may hold this many more bytes.
fn check_growth(job: &Job, ctx: &Context, bytes: usize) -> Result<(), Violation> {
    let limits = &ctx.config.limits;
    let held = ctx.accounts.held_by(account_of(job), HeldFor::Jobs, limits, limits.history.unfinished_bytes);
    let of = job.spec.principal.account().bound_of();
    held.admit(bytes, limits.job.principal_share, of, "unfinished_bytes", "the bytes of jobs that have not ended")
}

/// Brings the charges of a job that has changed up to its weight.
fn weigh(job: &mut Job) {
    job.held.job.set(weight(job, job.held.spec));
    job.held.events.set(job.events.sizes().0);
}

/// Approximate bytes that a job holds besides the bodies of its events. `spec`: the bytes of its spec.
fn weight(job: &Job, spec: usize) -> usize {
    NEW_JOB
        + spec
        + job.purse.as_ref().map_or(0, |purse| purse.weight())
        + job.prompts.as_ref().map_or(0, |prompts| prompts.weight())
        + job.children.len() * CHILD
        + job.run.weight()
        + job.history().weight()
}

/// Bytes of an input that waits for its job to start.
fn waiting_bytes(input: &str, extensions: Option<&Json>) -> usize {
    input.len() + extensions.map_or(0, |extensions| extensions.as_str().len())
}
