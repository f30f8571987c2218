//! A job: an agent's run on behalf of a principal. It outlives sessions.
//!
//! ```text
//!     ┌──────durable, with a slot────────┐
//! Accepting ──durable──▶ Queued ──slot──▶ Running ──exit──▶ Ended
//!     └────────cancel───────┘  │             ├─cancel─▶ Cancelling ──exit or grace──▶ Ended
//!              └──▶ Ended ◀────┘             └─time limit──▶ Ended
//! ```
//!
//! One that is being cancelled ends as cancelled, also by its time limit.
//!
//! Its agent is started once it runs and that is durable: see `slots`.
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

/// What the tables that know a job hold of it, generously.
const TABLES: usize = 512;
/// Bytes of a job of which nothing was said.
const NEW_JOB: usize = TABLES + size_of::<Job>();
/// What a job holds of a child that has not ended, roughly.
const CHILD: usize = 64;

#[derive(Debug)]
pub(in crate::runtime) struct Job {
    id: JobId,
    spec: JobSpec,
    /// What its agent is started with, until it is, or never will be.
    input: Option<Input>,
    /// Bytes of that, which a store keeps.
    input_bytes: u64,
    state: JobState,
    /// Where its acceptance stands in the log.
    accepted_at: LogPos,
    pub(in crate::runtime) sessions: JobSessions,
    run: AgentRun,
    /// What it may still spend, if that is bounded.
    purse: Option<Box<Purse>>,
    /// Jobs that it had done and that are not over, or have such themselves.
    children: BTreeSet<JobId>,
    /// What it asked people, if it did.
    prompts: Option<Box<Prompts>>,
    events: Events,
    held: Held,
    /// Whether its retention is over and only references keep it.
    expired: bool,
    /// Whether what clients were sent of it is no longer kept for them: a resume
    /// window has passed since it ended, or it is expired.
    pub(in crate::runtime) released: bool,
}

/// The sessions that it belongs to, whether they are over or not.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct JobSessions {
    /// The one that it was submitted in.
    pub(in crate::runtime) submitter: SessionId,
    /// The one in which its children are: that, or to which it was handed over.
    pub(in crate::runtime) holder: SessionId,
}

/// What its principal holds by it, besides what waits for its agent.
#[derive(Debug)]
struct Held {
    /// Bytes of what was asked for.
    spec: usize,
    /// Itself, without its events.
    job: Charge,
    events: Charge,
}

/// What was asked for.
#[derive(Debug)]
pub(in crate::runtime) struct JobSpec {
    pub(in crate::runtime) principal: Principal,
    pub(in crate::runtime) agent: AgentRef,
    /// What it may do, as it is shown: fixed.
    pub(in crate::runtime) lease: Json,
    pub(in crate::runtime) trace: String,
    /// What the open family said besides; its extensions go with the input.
    pub(in crate::runtime) invocation: Invocation,
    pub(in crate::runtime) created_at: UtcMs,
    pub(in crate::runtime) bounds: JobBounds,
    /// The key it claimed.
    pub(in crate::runtime) key: Option<Box<KeyRecord>>,
    /// Who asked for it, if it has become somebody else's since: a message of that one
    /// that comes again asks for nothing new.
    pub(in crate::runtime) asked_by: Option<Box<Principal>>,
    /// Who made it its principal's, if somebody did: asked again, that is done.
    pub(in crate::runtime) given_by: Option<Box<Principal>>,
}

impl JobSpec {
    /// Who has asked for it, whosever it is now.
    pub(in crate::runtime) fn submitted_by(&self) -> &Principal {
        self.asked_by.as_deref().unwrap_or(&self.principal)
    }

    /// The job that had it done.
    pub(in crate::runtime) fn parent(&self) -> Option<JobId> {
        self.bounds.parent.as_ref().map(|parent| parent.job)
    }

    /// The job that it is from, as it is shown: its parent, or the one at whose checkpoint
    /// it began.
    pub(in crate::runtime) fn origin(&self) -> Option<JobId> {
        self.parent().or_else(|| self.bounds.begun_at.as_ref().map(|begun| begun.job))
    }
}

/// What waits for an agent to start.
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
    /// It waits for a slot.
    Queued,
    /// Its agent runs, or is about to be started.
    Running,
    /// Its agent has been told to stop, for a reason in the words of who said
    /// so.
    Cancelling(Option<String>),
    /// It is over.
    Ended(End),
}

/// How and when a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct End {
    pub(in crate::runtime) status: FinalStatus,
    pub(in crate::runtime) at: UtcMs,
    /// Where its last event stands in the log.
    pos: LogPos,
    /// Whether its result can be had in pieces only.
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
    /// Bytes it holds, roughly.
    fn weight(&self) -> usize {
        /// A lease that is read holds so many times its text.
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

/// Its states, and what leads from one to the next.
impl Job {
    /// A job that was just accepted: that is not durable yet.
    fn new(
        ctx: &mut Context,
        id: JobId,
        mut spec: JobSpec,
        input: Json,
        session: SessionId,
        accepted_at: LogPos,
    ) -> Job {
        let account = ctx.accounts.of(&spec.principal.account());
        let input_bytes = waiting_bytes(input.as_str(), spec.invocation.extensions.as_ref()) as u64;
        let mut job = Job {
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
        };
        weigh(&mut job);
        job
    }

    pub(in crate::runtime) fn state(&self) -> &JobState {
        &self.state
    }

    /// Its acceptance is durable, and it has no slot.
    fn mark_queued(&mut self) {
        debug_assert_eq!(self.state, JobState::Accepting);
        self.state = JobState::Queued;
    }

    /// It is to be started, in its slot; true if that was so before.
    fn mark_started(&mut self, at: UtcMs) -> bool {
        debug_assert!(matches!(self.state, JobState::Accepting | JobState::Queued));
        self.state = JobState::Running;
        let again = self.run.started_at.is_some();
        self.run.started_at.get_or_insert(at);
        again
    }

    /// It goes on in another run of the runtime, once that is durable.
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

/// What it is, and how it stands.
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

    /// When its agent was first started, and how often again.
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

    /// How it ended, if it did.
    pub(in crate::runtime) fn end(&self) -> Option<&End> {
        if let JobState::Ended(end) = &self.state { Some(end) } else { None }
    }

    /// Whether its agent runs, and what that says counts.
    fn is_heard(&self) -> bool {
        !is_over(self) && self.run.state == AgentState::Running
    }

    /// Whether listings no longer show it.
    pub(in crate::runtime) fn is_expired(&self) -> bool {
        self.expired
    }

    /// Whether its retention is over, its agent gone and nothing of it left to do.
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
            // What was granted: who comes by the key is told the same.
            budget: lease::budget_granted(self),
            trace: Some(self.spec.trace.clone()),
            accepted_at: self.spec.created_at,
            parent: self.spec.origin().map(Into::into),
            delegate_id: self.spec.bounds.parent.as_ref().map(|parent| parent.delegate_id.clone()),
            credentials: Vec::new(),
        }))
    }

    /// That it is watched, as the answer to a request: its events come after that
    /// number, and whether earlier ones are among them.
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

/// Its events.
impl Job {
    /// Adds one; where an agent's call made it, its durability gives the call's
    /// credit back.
    fn append(&mut self, ctx: &mut Context, event: JobEvent, of_call: bool) -> LogPos {
        append_for(self, ctx, event, of_call, None)
    }

    pub(in crate::runtime) fn history(&self) -> &History {
        self.events.history()
    }

    /// How many events it has had.
    pub(in crate::runtime) fn count(&self) -> u64 {
        self.events.count()
    }

    /// Event `n`, from 1, if it is held in memory.
    pub(in crate::runtime) fn event(&self, n: u64) -> Option<&Stored> {
        self.events.get(n)
    }

    /// The first event that is held in memory.
    pub(in crate::runtime) fn first_held(&self) -> u64 {
        self.events.first_held()
    }

    /// Whether event `n` can be had, here or from the store; with 0, the
    /// acceptance.
    pub(in crate::runtime) fn keeps(&self, n: u64) -> bool {
        n == 0 || (self.history().first()..=self.count()).contains(&n)
    }

    /// Where event `n`, or with 0 the acceptance, stands in the log, if it is
    /// held in memory.
    pub(in crate::runtime) fn position(&self, n: u64) -> Option<LogPos> {
        if n == 0 { Some(self.accepted_at) } else { self.event(n).map(|stored| stored.pos) }
    }
}

/// Adds an event to a job, as news for everybody but one session; where an agent's
/// call made it, its durability gives the call's credit back.
fn append_for(job: &mut Job, ctx: &mut Context, event: JobEvent, of_call: bool, but: Option<SessionId>) -> LogPos {
    let (class, record) = (event.class(), job.events.next(ctx.now.utc, event));
    let n = record.n;
    let pos = ctx.append_event(job.id, record.clone(), of_call);
    let keep_until = ctx.now.mono + ctx.config.timing.resume_window;
    let grown = job.events.add(pos, record, keep_until);
    ctx.appended(job.id, n, class, grown, but);
    pos
}

/// Whether a job has ended, or ends once its credentials are revoked: what its agent
/// says does not count any more.
fn is_over(job: &Job) -> bool {
    job.is_terminal() || (job.run.credentials && job.run.waits.contains(&Wait::Revocation))
}

/// All that a job waits for but its agent, while it goes on.
pub(in crate::runtime) fn waits(job: &Job) -> impl Iterator<Item = Wait> {
    job.run.held_up_by().filter(|_| !job.is_terminal())
}

/// Whether a job is a workflow, which the runtime runs itself.
pub(in crate::runtime) fn is_workflow(job: &Job) -> bool {
    is_agent(&job.spec.agent)
}

/// What is held for whoever submitted a job.
pub(in crate::runtime) fn account_of(job: &Job) -> &Balance {
    job.held.job.balance()
}

/// Whether a job may hold so many bytes more.
fn check_growth(job: &Job, ctx: &Context, bytes: usize) -> Result<(), Violation> {
    let limits = &ctx.config.limits;
    let held = ctx.accounts.held_by(account_of(job), HeldFor::Jobs, limits, limits.history.unfinished_bytes);
    let of = job.spec.principal.account().bound_of();
    held.admit(bytes, limits.job.principal_share, of, "unfinished_bytes", "the bytes of jobs that have not ended")
}

/// A job has changed: it holds as much as it weighs.
fn weigh(job: &mut Job) {
    job.held.job.set(weight(job, job.held.spec));
    job.held.events.set(job.events.sizes().0);
}

/// Bytes a job holds besides the bodies of its events, roughly; `spec`: those of
/// what was asked for.
fn weight(job: &Job, spec: usize) -> usize {
    NEW_JOB
        + spec
        + job.purse.as_ref().map_or(0, |purse| purse.weight())
        + job.prompts.as_ref().map_or(0, |prompts| prompts.weight())
        + job.children.len() * CHILD
        + job.run.weight()
        + job.history().weight()
}

/// Bytes that wait for a job to start.
fn waiting_bytes(input: &str, extensions: Option<&Json>) -> usize {
    input.len() + extensions.map_or(0, |extensions| extensions.as_str().len())
}
