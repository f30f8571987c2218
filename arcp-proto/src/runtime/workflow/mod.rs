//! Workflows: graphs of steps that are run as one job (RFC §6.2).
//!
//! ```text
//!                    durable             a step has failed, or all are over
//! its job accepted ──────────▶ running ─────────────────────────────────────▶ its job ends
//!                                │ ▲                                              ▲
//!                                │ ╰─ steps end, times come, checks are done      │
//!                                ╰── cancelled, and its steps have ended ─────────╯
//! ```
//!
//! Each step is a child of the job of its workflow: lease, budget, trace, cancel and expiry
//! are those of families. It is known there by its id and the number of the try, so that
//! none is begun twice. How it stands is a record in the batch of what became of it: after
//! a restart what is over stays so, and what ran is looked at anew. What steps may do next
//! is decided in `run`, which knows neither jobs nor a clock.

mod run;

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::account::{Balance, HeldFor, Holding, Recount};
use super::asker::{Asker, Preparing};
use super::context::Context;
use super::effect::Effect;
use super::io::{LONGEST_CHECK, Record};
use super::timers::Timer;
use super::workflow_records::{StepRecord, StepState};
use crate::error::{BoundOf, Violation};
use crate::id::{JobId, LogPos, OpId, Principal};
use crate::json::{Json, Object};
use crate::limits::WorkflowLimits;
use crate::model::agent::AgentRef;
use crate::model::event::JobError;
use crate::model::workflow::{Step, Workflow};
use crate::principal::Account;
use crate::time::UtcMs;
use run::{Next as NextOf, Run};

/// What holding one takes besides its texts, generously.
const ENTRY: usize = 2048;
/// What holding a step takes besides its texts, generously.
const STEP: usize = 512;

/// All workflows that go on, by their jobs.
#[derive(Debug, Default)]
pub(super) struct Workflows {
    runs: BTreeMap<JobId, Run>,
    /// The arguments that the host checks.
    checks: BTreeMap<OpId, Check>,
}

/// A check that the host has not answered: it goes on, whether or not its step still waits
/// for it.
#[derive(Debug)]
struct Check {
    step: Option<(JobId, usize)>,
    /// Whose it is.
    account: Account,
}

/// What is to be done next with a workflow.
#[derive(Debug)]
pub(super) enum Next {
    /// A step is not run.
    Skip(usize),
    /// A step is begun, or tried again, for that time.
    Begin(usize, u32),
    /// All steps are over: what they have come to.
    Complete(Json),
    /// This one has failed, and the workflow with it.
    Fail(usize, JobError),
    /// Nothing, before something else happens.
    Wait,
}

/// What a workflow waits for besides the jobs of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StepWaits {
    /// A step has failed and is tried again.
    pub(super) retry: bool,
    /// A step was refused for now.
    pub(super) room: bool,
    /// The host checks the arguments of a step, or issues its credentials.
    pub(super) check: bool,
}

impl Workflows {
    /// Whether there is room for one more.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(super) fn check_room(
        ctx: &Context,
        principal: &Principal,
        graph: &Workflow,
        input: &Json,
    ) -> Result<(), Violation> {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let (is, most) = (run::shown_bytes(graph) + ENTRY, limits.frame.event_body_bytes);
        if is > most {
            let why = "`workflow`: the ids and agents of its steps are too long for the event that shows it";
            return Err(Violation::exhausted("event_body_bytes", BoundOf::Request, most as u64, why));
        }
        let held = ctx.accounts.held(&account, HeldFor::Workflows, limits, limits.workflow.all_workflow_bytes);
        let (share, of) = (limits.job.principal_share, account.bound_of());
        held.admit(bytes_of(graph, input), share, of, "all_workflow_bytes", "the bytes of workflows")
    }

    /// A workflow is accepted: what it will hold counts from now on.
    pub(super) fn reserve(&mut self, account: &Balance, job: JobId, input: &Json) {
        let run = self.runs.entry(job).or_insert_with(|| Run::new(account));
        run.graph_bytes = ENTRY + 2 * input.as_str().len();
        run.weigh();
    }

    /// The job of a workflow runs from now on, or again.
    pub(super) fn begin(&mut self, account: &Balance, job: JobId, graph: Workflow, input: &Json) {
        let bytes = bytes_of(&graph, input);
        let run = self.runs.entry(job).or_insert_with(|| Run::new(account));
        (run.graph, run.graph_bytes) = (Some(graph), bytes);
        run.weigh();
    }

    /// Whether a workflow runs, in this run of the runtime.
    pub(super) fn runs(&self, job: JobId) -> bool {
        self.runs.get(&job).is_some_and(|run| run.graph.is_some())
    }

    /// What comes next.
    pub(super) fn next(&self, ctx: &Context, job: JobId) -> Next {
        let Some(run) = self.runs.get(&job) else {
            return Next::Wait;
        };
        match run.next(ctx.now.utc, ctx.config.limits.workflow.concurrent_steps) {
            NextOf::Skip(at) => Next::Skip(at),
            NextOf::Begin(at) => Next::Begin(at, run.state(at).map_or(0, StepState::attempt) + 1),
            NextOf::Complete => Next::Complete(run.results()),
            NextOf::Fail(at) => match run.state(at) {
                Some(StepState::Failed { error, .. }) => Next::Fail(at, error.clone()),
                Some(_) | None => Next::Wait,
            },
            NextOf::Wait => Next::Wait,
        }
    }

    pub(super) fn step(&self, job: JobId, at: usize) -> Option<&Step> {
        self.runs.get(&job)?.step(at)
    }

    pub(super) fn state(&self, job: JobId, at: usize) -> Option<&StepState> {
        self.runs.get(&job)?.state(at)
    }

    /// The input of a step, if its condition holds; `None`: it does not. `is_first`: that is
    /// asked.
    ///
    /// # Errors
    ///
    /// What is wrong with either.
    pub(super) fn input_of(
        &self,
        limits: &WorkflowLimits,
        (job, at): (JobId, usize),
        is_first: bool,
    ) -> Result<Option<Json>, String> {
        let Some(run) = self.runs.get(&job) else {
            return Ok(None);
        };
        let mut work = limits.pointer_work_bytes;
        if is_first && !run.holds(at, &mut work)? {
            return Ok(None);
        }
        let arguments = run.arguments(at, limits.step_argument_bytes, &mut work)?;
        Ok(Some(arguments.unwrap_or_else(Json::empty_object)))
    }

    /// The agents of its steps.
    pub(super) fn tools(&self, job: JobId) -> impl Iterator<Item = &AgentRef> {
        let graph = self.runs.get(&job).and_then(|run| run.graph.as_ref());
        graph.into_iter().flat_map(|graph| graph.steps.iter().map(|step| &step.tool))
    }

    /// It is somebody else's now.
    pub(super) fn give(&mut self, job: JobId, account: &Balance) {
        if let Some(run) = self.runs.get_mut(&job) {
            run.charge.move_to(account);
        }
    }

    /// The step whose job goes on that this is.
    pub(super) fn step_of(&self, job: JobId, child: JobId) -> Option<(usize, u32)> {
        let mut running = self.runs.get(&job)?.running();
        running.find(|(_, _, of)| *of == child).map(|(at, attempt, _)| (at, attempt))
    }

    /// The jobs of steps that go on.
    pub(super) fn children(&self, job: JobId) -> impl Iterator<Item = JobId> {
        self.runs.get(&job).into_iter().flat_map(|run| run.running().map(|(_, _, child)| child))
    }

    /// Whether the result of a step has room, and can stand in that of the whole.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(super) fn check_result(&self, ctx: &Context, job: JobId, result: Option<&Json>) -> Result<(), Violation> {
        let Some((run, result)) = self.runs.get(&job).zip(result) else {
            return Ok(());
        };
        // All that is kept can be read again: there it is one level deeper.
        crate::json::check(result.as_str(), Json::MAX_DEPTH - 1)
            .map_err(|why| Violation::invalid(alloc::format!("its result: {why}")))?;
        let bytes = result.as_str().len();
        let (limits, most) = (&ctx.config.limits, ctx.config.limits.workflow.step_result_bytes);
        if run.result_bytes() + bytes > most {
            let why = alloc::format!("the results of a workflow have at most {most} bytes");
            return Err(Violation::exhausted("step_result_bytes", BoundOf::Job, most as u64, why));
        }
        let total = limits.workflow.all_workflow_bytes;
        let held = ctx.accounts.held_by(run.charge.balance(), HeldFor::Workflows, limits, total);
        held.admit(
            bytes,
            limits.job.principal_share,
            BoundOf::Principal,
            "all_workflow_bytes",
            "the bytes of workflows",
        )
    }

    /// A step stands so from now on: in the batch of what led to it.
    pub(super) fn keep(&mut self, ctx: &mut Context, job: JobId, at: usize, state: StepState) {
        let Some(run) = self.runs.get_mut(&job) else {
            return; // It is over by now.
        };
        let undoes = run.steps.get(&at).map_or(LogPos(0), |(_, pos)| *pos);
        let step = u32::try_from(at).unwrap_or(u32::MAX);
        let record = StepRecord { job, step, state: state.clone(), undoes };
        let pos = ctx.append(Record::StepMoved(record.into()));
        run.steps.insert(at, (state, pos));
        (run.is_waiting, run.found_full) = (false, 0);
        run.weigh();
    }

    /// A step stood so.
    pub(super) fn restore(&mut self, account: &Balance, pos: LogPos, record: StepRecord) {
        let run = self.runs.entry(record.job).or_insert_with(|| Run::new(account));
        run.steps.insert(record.step as usize, (record.state, pos));
        run.weigh();
    }

    /// The host does something for a step of somebody's.
    pub(super) fn wait(
        &mut self,
        ctx: &Context,
        (job, at): (JobId, usize),
        principal: &Principal,
        preparing: Preparing,
    ) {
        let Some(run) = self.runs.get_mut(&job) else {
            return; // It is over by now.
        };
        let until = match &preparing {
            Preparing::Input(op, _) => {
                self.checks.insert(*op, Check { step: Some((job, at)), account: principal.account() });
                Some(ctx.now.utc.plus(LONGEST_CHECK))
            }
            // Who orders them says when that is too long.
            Preparing::Credentials(..) => None,
        };
        run.preparing.insert(at, (preparing, until));
    }

    /// Whether a step waits for its credentials.
    pub(super) fn awaits_credentials(&self, job: JobId, at: usize) -> bool {
        let preparing = self.runs.get(&job).and_then(|run| run.preparing.get(&at));
        preparing.is_some_and(|(preparing, _)| preparing.issues())
    }

    /// Whether the host may be asked to check one more for somebody.
    pub(super) fn may_check(&self, ctx: &Context, principal: &Principal) -> bool {
        let (limits, account) = (&ctx.config.limits, principal.account());
        let own = self.checks.values().filter(|check| check.account == account).count();
        let checks = Holding { own, all: self.checks.len(), total: limits.workflow.step_checks };
        checks.check(1, limits.job.principal_share).is_ok()
    }

    /// The host has checked an input: gives the step that waits for it.
    pub(super) fn on_input_checked(&mut self, op: OpId) -> Option<(JobId, usize)> {
        self.checks.remove(&op)?.step
    }

    /// The host has done what a step waits for: gives that, if it is this.
    pub(super) fn take_prepared(&mut self, (job, at): (JobId, usize), op: OpId) -> Option<Preparing> {
        let preparing = &mut self.runs.get_mut(&job)?.preparing;
        preparing.get(&at).filter(|(preparing, _)| preparing.op() == op)?;
        preparing.remove(&at).map(|(preparing, _)| preparing)
    }

    /// A step whose input the host takes too long to check: it waits for that no more.
    pub(super) fn take_overdue(&mut self, job: JobId, now: UtcMs) -> Option<usize> {
        let run = self.runs.get_mut(&job)?;
        let is_over = |until: &Option<UtcMs>| until.is_some_and(|until| until <= now);
        let at = run.preparing.iter().find(|(_, (_, until))| is_over(until)).map(|(at, _)| *at)?;
        let (preparing, _) = run.preparing.remove(&at)?;
        self.let_check(&preparing);
        Some(at)
    }

    /// No step of a workflow waits for the host any more.
    pub(super) fn give_up(&mut self, ctx: &mut Context, job: JobId) {
        let preparing = self.runs.get_mut(&job).map(|run| core::mem::take(&mut run.preparing)).unwrap_or_default();
        for (at, (preparing, _)) in preparing {
            self.let_check(&preparing);
            if preparing.issues() {
                ctx.effect(Effect::Unheard(Asker::Step(job, at)));
            }
        }
    }

    /// No step waits for a check that may go on.
    fn let_check(&mut self, preparing: &Preparing) {
        if let Some(check) = self.checks.get_mut(&preparing.op()) {
            check.step = None;
        }
    }

    /// A step found no room, though nothing of its principal goes on but workflows: gives
    /// how often.
    pub(super) fn note_full(&mut self, job: JobId) -> u32 {
        self.runs.get_mut(&job).map_or(0, |run| {
            run.found_full += 1;
            run.found_full
        })
    }

    /// Nothing of it is begun until then; gives whether that is new.
    pub(super) fn put_off(&mut self, job: JobId, until: UtcMs) -> bool {
        let Some(run) = self.runs.get_mut(&job) else {
            return false;
        };
        run.put_off = Some(until);
        !core::mem::replace(&mut run.is_waiting, true)
    }

    /// What was put off may be begun, if the time for it has come.
    pub(super) fn end_pause(&mut self, job: JobId, now: UtcMs) {
        if let Some(run) = self.runs.get_mut(&job) {
            run.put_off = run.put_off.filter(|until| *until > now);
        }
    }

    /// What it waits for besides the jobs of its steps.
    pub(super) fn waits(&self, ctx: &Context, job: JobId) -> StepWaits {
        self.runs.get(&job).map(|run| run.waits(ctx.now.utc)).unwrap_or_default()
    }

    /// Sees to it that it goes on when it is to.
    pub(super) fn plan(&self, ctx: &mut Context, job: JobId) {
        match self.runs.get(&job).and_then(|run| run.due(ctx.now.utc)) {
            Some(due) => {
                let longest = core::time::Duration::from_millis(due.0.saturating_sub(ctx.now.utc.0));
                let at = ctx.moment(due, longest);
                ctx.timers.set(Timer::Workflow(job), at);
            }
            None => ctx.timers.clear(Timer::Workflow(job)),
        }
    }

    /// The steps of a workflow, for whoever did not submit it.
    pub(super) fn shown(&self, job: JobId) -> Json {
        let mut body = Object::new();
        let steps = self.runs.get(&job).map(Run::shown).unwrap_or_default();
        let message = alloc::format!("a workflow of {} steps", steps.len());
        body.str("phase", "workflow").str("message", &message).array("steps", steps);
        body.json()
    }

    /// What its steps have come to; without what they said where that has more bytes than an
    /// event may.
    pub(super) fn outcomes(&self, job: JobId, status: &str, most: usize) -> Json {
        let of = |values: bool| {
            let mut body = Object::new();
            body.str("status", status);
            let steps = self.runs.get(&job).map_or_else(Object::new, |run| run.outcomes(values));
            body.raw("steps", &steps.done());
            if !values {
                body.bool("results_left_out", true);
            }
            body.json()
        };
        let whole = of(true);
        let fits = whole.as_str().len() <= most && crate::json::check(whole.as_str(), Json::MAX_DEPTH).is_ok();
        if fits { whole } else { of(false) }
    }

    /// How a step stands, as an event says it.
    pub(super) fn event_of(&self, job: JobId, at: usize, message: &str) -> Json {
        let mut body = Object::new();
        body.str("phase", "step").str("message", message);
        body.object("step", |said| {
            if let Some(step) = self.step(job, at) {
                said.str("id", &step.id).display("tool", &step.tool);
            }
            match self.state(job, at) {
                None => {
                    said.str("state", "waiting");
                }
                Some(state) => {
                    said.str("state", state.as_str()).u64("attempt", u64::from(state.attempt()));
                    run::say_child(said, state);
                    if let StepState::Backoff { until, .. } = state {
                        said.display("retry_at", until);
                    }
                }
            }
        });
        body.json()
    }

    /// Its job is over.
    pub(super) fn forget(&mut self, ctx: &mut Context, job: JobId) {
        self.give_up(ctx, job);
        if self.runs.remove(&job).is_some() {
            ctx.timers.clear(Timer::Workflow(job));
        }
    }

    /// How the steps of each stand, as it is promised to outlive the process.
    pub(super) fn all(&self) -> impl Iterator<Item = (JobId, String)> {
        let stand = |run: &Run| alloc::format!("{:?}", run.steps);
        self.runs.iter().filter(|(_, run)| !run.steps.is_empty()).map(move |(job, run)| (*job, stand(run)))
    }

    /// Counts once more what is held.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for run in self.runs.values() {
            recount.add(run.charge.balance(), HeldFor::Workflows, run.weight());
        }
    }
}

impl Run {
    fn new(account: &Balance) -> Run {
        Run {
            graph: None,
            steps: BTreeMap::new(),
            preparing: BTreeMap::new(),
            put_off: None,
            is_waiting: false,
            found_full: 0,
            graph_bytes: 0,
            charge: account.charge(HeldFor::Workflows, 0),
        }
    }

    fn weight(&self) -> usize {
        ENTRY + self.graph_bytes + STEP * self.steps.len() + self.result_bytes()
    }

    fn weigh(&mut self) {
        self.charge.set(self.weight());
    }
}

/// Bytes that a graph holds with its input.
fn bytes_of(graph: &Workflow, input: &Json) -> usize {
    ENTRY + STEP * graph.steps.len() + 2 * input.as_str().len()
}
