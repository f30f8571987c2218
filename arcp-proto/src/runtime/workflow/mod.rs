//! Workflows: graphs of steps that run as one job (RFC §6.2).
//!
//! ```text
//!                    durable             a step has failed, or all are over
//! its job accepted ──────────▶ running ─────────────────────────────────────▶ its job ends
//!                                │ ▲                                              ▲
//!                                │ ╰─ steps end, times come, checks are done      │
//!                                ╰── cancelled, and its steps have ended ─────────╯
//! ```
//!
//! Each step is a child of the workflow's job: lease, budget, trace, cancel and expiry are those of families.
//! The child is named by the step's id and the number of the try, so that no try is begun twice.
//!
//! The state of a step is a record, in the batch of what changed it: after a restart, finished steps stay
//! finished, and running ones are looked at anew. `run` decides what steps may do next; it knows neither jobs
//! nor a clock.

mod run;

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::account::{Balance, HeldFor, Holding, Recount};
use super::asker::{Asker, Preparing};
use super::context::Context;
use super::effect::Effect;
use super::io::{LONGEST_CHECK, Record};
use super::line::Line;
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

/// Bytes of a workflow besides its texts, rounded up.
const ENTRY: usize = 2048;
/// Bytes of a step besides its texts, rounded up.
const STEP: usize = 512;

/// All unended workflows, by their jobs.
#[derive(Debug, Default)]
pub(super) struct Workflows {
    runs: BTreeMap<JobId, Run>,
    /// Arguments that the host is checking.
    checks: BTreeMap<OpId, Check>,
    /// Those that have arguments to be checked, once the host has checked others.
    unchecked: Line<JobId>,
}

/// A check that the host has not answered. It stays here even if its step has stopped waiting for it.
#[derive(Debug)]
struct Check {
    step: Option<(JobId, usize)>,
    /// The account that it counts against.
    account: Account,
}

/// The next action of a workflow.
#[derive(Debug)]
pub(super) enum Next {
    /// Skip a step.
    Skip(usize),
    /// Begin this try of a step.
    Begin(usize, u32),
    /// Complete the workflow with this result: all steps are over.
    Complete(Json),
    /// Fail the workflow, because this step has failed.
    Fail(usize, JobError),
    /// Do nothing until something else happens.
    Wait,
}

/// What a workflow waits for besides the jobs of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StepWaits {
    /// A failed step is to be tried again.
    pub(super) retry: bool,
    /// A step was refused for now.
    pub(super) room: bool,
    /// The host is checking the arguments of a step, or issuing its credentials.
    pub(super) check: bool,
}

impl Workflows {
    /// Whether there is room for one more workflow.
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

    /// A workflow is accepted: reserves what it will hold.
    pub(super) fn reserve(&mut self, account: &Balance, job: JobId, input: &Json) {
        let run = self.runs.entry(job).or_insert_with(|| Run::new(account));
        run.graph_bytes = ENTRY + 2 * input.as_str().len();
        run.weigh();
    }

    /// The job of a workflow runs, for the first time or after a restart.
    pub(super) fn begin(&mut self, account: &Balance, job: JobId, graph: Workflow, input: &Json) {
        let bytes = bytes_of(&graph, input);
        let run = self.runs.entry(job).or_insert_with(|| Run::new(account));
        (run.graph, run.graph_bytes) = (Some(graph), bytes);
        run.weigh();
    }

    /// Whether a workflow runs in this run of the runtime.
    pub(super) fn runs(&self, job: JobId) -> bool {
        self.runs.get(&job).is_some_and(|run| run.graph.is_some())
    }

    /// The next action of a workflow.
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

    /// The input of a step, or `None` if its condition does not hold. The condition is judged only with `is_first`.
    ///
    /// # Errors
    ///
    /// Why the condition or the arguments cannot be evaluated.
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

    /// The agents of the steps.
    pub(super) fn tools(&self, job: JobId) -> impl Iterator<Item = &AgentRef> {
        let graph = self.runs.get(&job).and_then(|run| run.graph.as_ref());
        graph.into_iter().flat_map(|graph| graph.steps.iter().map(|step| &step.tool))
    }

    /// The job was handed over to another principal.
    pub(super) fn give(&mut self, job: JobId, account: &Balance) {
        if let Some(run) = self.runs.get_mut(&job) {
            run.charge.move_to(account);
        }
    }

    /// The running step whose job is `child`, with the number of the try.
    pub(super) fn step_of(&self, job: JobId, child: JobId) -> Option<(usize, u32)> {
        let mut running = self.runs.get(&job)?.running();
        running.find(|(_, _, of)| *of == child).map(|(at, attempt, _)| (at, attempt))
    }

    /// The jobs of running steps.
    pub(super) fn children(&self, job: JobId) -> impl Iterator<Item = JobId> {
        self.runs.get(&job).into_iter().flat_map(|run| run.running().map(|(_, _, child)| child))
    }

    /// Whether the result of a step has room, and can be nested in the result of the workflow.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(super) fn check_result(&self, ctx: &Context, job: JobId, result: Option<&Json>) -> Result<(), Violation> {
        let Some((run, result)) = self.runs.get(&job).zip(result) else {
            return Ok(());
        };
        // Inside the workflow's result it is nested one level deeper.
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

    /// Sets the state of a step, with a record in the batch of what changed it.
    pub(super) fn keep(&mut self, ctx: &mut Context, job: JobId, at: usize, state: StepState) {
        let Some(run) = self.runs.get_mut(&job) else {
            return; // The workflow is over.
        };
        let undoes = run.steps.get(&at).map_or(LogPos(0), |(_, pos)| *pos);
        let step = u32::try_from(at).unwrap_or(u32::MAX);
        let record = StepRecord { job, step, state: state.clone(), undoes };
        let pos = ctx.append(Record::StepMoved(record.into()));
        run.steps.insert(at, (state, pos));
        (run.is_waiting, run.found_full) = (false, 0);
        run.weigh();
    }

    /// Restores the state of a step.
    pub(super) fn restore(&mut self, account: &Balance, pos: LogPos, record: StepRecord) {
        let run = self.runs.entry(record.job).or_insert_with(|| Run::new(account));
        run.steps.insert(record.step as usize, (record.state, pos));
        run.weigh();
    }

    /// The host prepares the job of a step: the step waits for that.
    pub(super) fn wait(
        &mut self,
        ctx: &Context,
        (job, at): (JobId, usize),
        principal: &Principal,
        preparing: Preparing,
    ) {
        let Some(run) = self.runs.get_mut(&job) else {
            return; // The workflow is over.
        };
        let until = match &preparing {
            Preparing::Input(op, _) => {
                self.checks.insert(*op, Check { step: Some((job, at)), account: principal.account() });
                Some(ctx.now.utc.plus(LONGEST_CHECK))
            }
            // The order of the credentials has its own deadline.
            Preparing::Credentials(..) => None,
        };
        run.preparing.insert(at, (preparing, until));
    }

    /// Whether a step waits for its credentials.
    pub(super) fn awaits_credentials(&self, job: JobId, at: usize) -> bool {
        let preparing = self.runs.get(&job).and_then(|run| run.preparing.get(&at));
        preparing.is_some_and(|(preparing, _)| preparing.issues())
    }

    /// Whether the host may be asked to check one more for somebody's workflow. If not, that goes on once it may.
    pub(super) fn may_check(&mut self, ctx: &Context, job: JobId, principal: &Principal) -> bool {
        let account = principal.account();
        let may = may_check(&self.checks, ctx, &account);
        if let Some(run) = self.runs.get_mut(&job).filter(|run| !may && run.awaits_check.is_none()) {
            let number = self.unchecked.enter(&account, job);
            run.awaits_check = Some((account, number));
        }
        may
    }

    /// The next one for which the host may be asked to check something: it is put off no longer.
    pub(super) fn next_unchecked(&mut self, ctx: &Context) -> Option<JobId> {
        let job = self.unchecked.next(|account| may_check(&self.checks, ctx, account))?;
        let run = self.runs.get_mut(&job)?;
        (run.awaits_check, run.put_off) = (None, None);
        Some(job)
    }

    /// The host has checked an input. Returns the step that waits for it.
    pub(super) fn on_input_checked(&mut self, op: OpId) -> Option<(JobId, usize)> {
        self.checks.remove(&op)?.step
    }

    /// The host has prepared the job of a step. Returns the preparation, if the step waits for this operation.
    pub(super) fn take_prepared(&mut self, (job, at): (JobId, usize), op: OpId) -> Option<Preparing> {
        let preparing = &mut self.runs.get_mut(&job)?.preparing;
        preparing.get(&at).filter(|(preparing, _)| preparing.op() == op)?;
        preparing.remove(&at).map(|(preparing, _)| preparing)
    }

    /// The next step whose input the host has not checked in time. It stops waiting for that.
    pub(super) fn take_overdue(&mut self, job: JobId, now: UtcMs) -> Option<usize> {
        let run = self.runs.get_mut(&job)?;
        let is_over = |until: &Option<UtcMs>| until.is_some_and(|until| until <= now);
        let at = run.preparing.iter().find(|(_, (_, until))| is_over(until)).map(|(at, _)| *at)?;
        let (preparing, _) = run.preparing.remove(&at)?;
        self.let_check(&preparing);
        Some(at)
    }

    /// All steps of a workflow stop waiting for the host.
    pub(super) fn give_up(&mut self, ctx: &mut Context, job: JobId) {
        let preparing = self.runs.get_mut(&job).map(|run| core::mem::take(&mut run.preparing)).unwrap_or_default();
        for (at, (preparing, _)) in preparing {
            self.let_check(&preparing);
            if preparing.issues() {
                ctx.effect(Effect::Unheard(Asker::Step(job, at)));
            }
        }
    }

    /// The step of a check stops waiting. The host may still be at it.
    fn let_check(&mut self, preparing: &Preparing) {
        if let Some(check) = self.checks.get_mut(&preparing.op()) {
            check.step = None;
        }
    }

    /// A step found no room, although all unended jobs of its principal are workflows. Returns how often that
    /// happened.
    pub(super) fn note_full(&mut self, job: JobId) -> u32 {
        self.runs.get_mut(&job).map_or(0, |run| {
            run.found_full += 1;
            run.found_full
        })
    }

    /// Begins nothing of a workflow until `until`. Returns whether it was not waiting before.
    pub(super) fn put_off(&mut self, job: JobId, until: UtcMs) -> bool {
        let Some(run) = self.runs.get_mut(&job) else {
            return false;
        };
        run.put_off = Some(until);
        !core::mem::replace(&mut run.is_waiting, true)
    }

    /// Ends the pause of a workflow, if its time is over.
    pub(super) fn end_pause(&mut self, job: JobId, now: UtcMs) {
        if let Some(run) = self.runs.get_mut(&job) {
            run.put_off = run.put_off.filter(|until| *until > now);
        }
    }

    /// What a workflow waits for besides the jobs of its steps.
    pub(super) fn waits(&self, ctx: &Context, job: JobId) -> StepWaits {
        self.runs.get(&job).map(|run| run.waits(ctx.now.utc)).unwrap_or_default()
    }

    /// Sets the timer at which a workflow goes on.
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

    /// The steps of a workflow, as watchers are shown them.
    pub(super) fn shown(&self, job: JobId) -> Json {
        let mut body = Object::new();
        let steps = self.runs.get(&job).map(Run::shown).unwrap_or_default();
        let message = alloc::format!("a workflow of {} steps", steps.len());
        body.str("phase", "workflow").str("message", &message).array("steps", steps);
        body.json()
    }

    /// The outcomes of the steps. Results and errors are left out if they would not fit an event of `most` bytes.
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

    /// The body of an event that says how a step stands.
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

    /// The job of the workflow is over.
    pub(super) fn forget(&mut self, ctx: &mut Context, job: JobId) {
        self.give_up(ctx, job);
        if let Some(run) = self.runs.remove(&job) {
            run.awaits_check.into_iter().for_each(|(account, number)| self.unchecked.leave(&account, number));
            ctx.timers.clear(Timer::Workflow(job));
        }
    }

    /// The states of the steps of each workflow, for the digest of the runtime.
    pub(super) fn all(&self) -> impl Iterator<Item = (JobId, String)> {
        let stand = |run: &Run| alloc::format!("{:?}", run.steps);
        self.runs.iter().filter(|(_, run)| !run.steps.is_empty()).map(move |(job, run)| (*job, stand(run)))
    }

    /// Counts anew what workflows hold.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for run in self.runs.values() {
            recount.add(run.charge.balance(), HeldFor::Workflows, run.weight());
        }
    }
}

/// Whether the host may be asked to check one more for an account.
fn may_check(checks: &BTreeMap<OpId, Check>, ctx: &Context, account: &Account) -> bool {
    let own = checks.values().filter(|check| check.account == *account).count();
    let checks = Holding { own, all: checks.len(), total: ctx.config.limits.workflow.step_checks };
    checks.check(1, ctx.config.limits.job.principal_share).is_ok()
}

impl Run {
    fn new(account: &Balance) -> Run {
        Run {
            graph: None,
            steps: BTreeMap::new(),
            preparing: BTreeMap::new(),
            put_off: None,
            awaits_check: None,
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
