//! One unended workflow: the states of its steps, and which of them comes next. It knows neither jobs nor a clock.
//!
//! ```text
//!            what it needs is over
//! waiting ───────────────────────────▶ ready ──its job is accepted──▶ running ──▶ succeeded
//!    │                                  │ ▲                            │
//!    ╰──▶ skipped ◀── `when` is false ──╯ ╰──── later ──── retrying ◀──┤ it failed, and may again
//!                                       │                              │
//!                                       ╰── refused ──▶ failed ◀───────╯
//! ```

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::StepWaits;
use crate::id::{JobId, LogPos};
use crate::json::{Json, Object};
use crate::model::event::JobError;
use crate::model::workflow::{OnFailure, OnSkipped, Part, Reference, Source, Step, Workflow, fill, holds};
use crate::principal::Account;
use crate::runtime::account::Charge;
use crate::runtime::asker::Preparing;
use crate::runtime::workflow_records::StepState;
use crate::time::UtcMs;

/// An unended workflow.
#[derive(Debug)]
pub(super) struct Run {
    /// The graph; `None` while the workflow has not begun in this run of the runtime.
    pub(super) graph: Option<Workflow>,
    /// States of the steps that are beyond waiting, with the log position of each record.
    pub(super) steps: BTreeMap<usize, (StepState, LogPos)>,
    /// Steps whose jobs the host is preparing, with the deadline of a check.
    pub(super) preparing: BTreeMap<usize, (Preparing, Option<UtcMs>)>,
    /// Nothing is begun before this time, because a step was refused for now.
    pub(super) put_off: Option<UtcMs>,
    /// Its number in the line of those that have something to be checked, and the account under which it is there.
    pub(super) awaits_check: Option<(Account, u64)>,
    /// Whether whoever watches was told so.
    pub(super) is_waiting: bool,
    /// How often steps found no room since then while only workflows could have made some.
    pub(super) found_full: u32,
    /// Bytes of the graph and its input.
    pub(super) graph_bytes: usize,
    pub(super) charge: Charge,
}

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Skip a step.
    Skip(usize),
    /// Begin a step, or try it again.
    Begin(usize),
    /// All steps are over.
    Complete,
    /// This step has failed, and the workflow fails with it.
    Fail(usize),
    /// Do nothing until something else happens.
    Wait,
}

impl Run {
    /// The next action, while at most `most` steps may run at once.
    pub(super) fn next(&self, now: UtcMs, most: usize) -> Next {
        let Some(graph) = &self.graph else {
            return Next::Wait;
        };
        let fails = |at: &usize| graph.steps[*at].on_failure == OnFailure::Fail;
        let failed = self.steps.iter().find(|(at, (state, _))| matches!(state, StepState::Failed { .. }) && fails(at));
        if let Some((at, _)) = failed {
            return Next::Fail(*at);
        }
        if (0..graph.steps.len()).all(|at| self.state(at).is_some_and(StepState::is_over)) {
            return Next::Complete;
        }
        let is_off = self.put_off.is_some_and(|until| until > now);
        let has_room = !is_off && self.running().count() + self.preparing.len() < most;
        for (at, step) in graph.steps.iter().enumerate().filter(|(at, _)| !self.preparing.contains_key(at)) {
            match self.state(at) {
                Some(StepState::Backoff { until, .. }) if *until <= now && has_room => return Next::Begin(at),
                Some(_) => {}
                None => match self.needed(step) {
                    Needed::Skipped => return Next::Skip(at),
                    Needed::Over if has_room => return Next::Begin(at),
                    Needed::Over | Needed::GoesOn => {}
                },
            }
        }
        Next::Wait
    }

    /// How the steps stand that a step needs.
    fn needed(&self, step: &Step) -> Needed {
        let mut needed = Needed::Over;
        for need in &step.needs {
            match self.state(*need) {
                Some(StepState::Skipped) if step.on_skipped == OnSkipped::Skip => return Needed::Skipped,
                Some(state) if state.is_over() => {}
                Some(_) | None => needed = Needed::GoesOn,
            }
        }
        needed
    }

    pub(super) fn state(&self, at: usize) -> Option<&StepState> {
        self.steps.get(&at).map(|(state, _)| state)
    }

    /// The running steps: index, try and job.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, u32, JobId)> {
        self.steps.iter().filter_map(|(at, (state, _))| match state {
            StepState::Running { attempt, child } => Some((*at, *attempt, *child)),
            StepState::Backoff { .. } | StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => {
                None
            }
        })
    }

    /// What the workflow waits for besides the jobs of its steps.
    pub(super) fn waits(&self, now: UtcMs) -> StepWaits {
        StepWaits {
            retry: self.steps.values().any(|(state, _)| matches!(state, StepState::Backoff { .. })),
            room: self.put_off.is_some_and(|until| until > now),
            check: !self.preparing.is_empty(),
        }
    }

    /// The next time after `now` at which the workflow goes on by itself.
    pub(super) fn due(&self, now: UtcMs) -> Option<UtcMs> {
        let retried = self.steps.values().filter_map(|(state, _)| match state {
            StepState::Backoff { until, .. } => Some(*until),
            StepState::Running { .. } | StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => {
                None
            }
        });
        let prepared = self.preparing.values().filter_map(|(_, until)| *until);
        retried.chain(prepared).chain(self.put_off).filter(|due| *due > now).min()
    }

    /// Bytes of the results and errors of the steps.
    pub(super) fn result_bytes(&self) -> usize {
        self.steps.values().map(|(state, _)| state.bytes()).sum()
    }

    /// Whether the condition of a step holds.
    ///
    /// # Errors
    ///
    /// Why the condition cannot be evaluated.
    pub(super) fn holds(&self, at: usize, work: &mut usize) -> Result<bool, String> {
        let Some(when) = self.step(at).and_then(|step| step.when.as_ref()) else {
            return Ok(true);
        };
        holds(when, &mut |reference| self.value(reference, work)).map_err(|why| alloc::format!("`when`: {why}"))
    }

    /// The arguments of a step.
    ///
    /// # Errors
    ///
    /// If a value that they refer to does not exist, or they have more than `most` bytes.
    pub(super) fn arguments(&self, at: usize, most: usize, work: &mut usize) -> Result<Option<Json>, String> {
        let Some(arguments) = self.step(at).and_then(|step| step.arguments.as_ref()) else {
            return Ok(None);
        };
        let mut left = most;
        let too_long = || alloc::format!("`arguments`: they have more than {most} bytes");
        let filled = fill(arguments.as_str(), &mut |reference| {
            let value = self.value(reference, work)?.or_else(|| reference.default.map(ToString::to_string));
            let value = value.ok_or_else(|| alloc::format!("`{}` is not there", reference.pointer))?;
            left = left.checked_sub(value.len()).ok_or_else(too_long)?;
            Ok(value)
        })
        .map_err(|why| alloc::format!("`arguments`: {why}"))?;
        if filled.len() > most {
            return Err(too_long());
        }
        // Arguments composed of texts that fit may be nested too deeply to be read again.
        Json::parse(&filled).map(Some).map_err(|why| alloc::format!("`arguments`: {why}"))
    }

    pub(super) fn step(&self, at: usize) -> Option<&Step> {
        self.graph.as_ref()?.steps.get(at)
    }

    /// The value of a reference, if it exists.
    fn value(&self, reference: &Reference<'_>, work: &mut usize) -> Result<Option<String>, String> {
        let Some(graph) = &self.graph else {
            return Ok(None);
        };
        let place = &reference.place;
        let Source::Step(id, part) = &place.source else {
            return Ok(place.within(graph.input.as_str(), work)?.map(ToString::to_string));
        };
        let at = graph.steps.iter().position(|step| step.id == *id);
        let Some(state) = at.and_then(|at| self.state(at)) else {
            return Ok(None);
        };
        let made;
        let value = match (part, state) {
            (Part::State, state) => {
                made = alloc::format!("\"{}\"", state.as_str());
                made.as_str()
            }
            (Part::Result, StepState::Succeeded { result, .. }) => result.as_ref().map_or("null", Json::as_str),
            (Part::Error, StepState::Failed { error, .. }) => {
                made = error_of(error);
                made.as_str()
            }
            (Part::Result | Part::Error, _) => return Ok(None),
        };
        Ok(place.within(value, work)?.map(ToString::to_string))
    }

    /// The results of the steps that succeeded, by step id.
    pub(super) fn results(&self) -> Json {
        let mut results = Object::new();
        for (at, step) in self.graph.iter().flat_map(|graph| &graph.steps).enumerate() {
            if let Some(StepState::Succeeded { result, .. }) = self.state(at) {
                results.member(&step.id, result.as_ref().map_or("null", Json::as_str));
            }
        }
        results.json()
    }

    /// The outcome of each step, by step id; with `values`, its result or error too.
    pub(super) fn outcomes(&self, values: bool) -> Object {
        let mut steps = Object::new();
        for (at, step) in self.graph.iter().flat_map(|graph| &graph.steps).enumerate() {
            let mut said = Object::new();
            match self.state(at) {
                None => {
                    said.str("state", "waiting");
                }
                Some(state) => {
                    said.str("state", state.as_str()).u64("attempts", u64::from(state.attempt()));
                    say_child(&mut said, state);
                    match state {
                        StepState::Succeeded { result, .. } if values => {
                            said.opt_json("result", result.as_ref());
                        }
                        StepState::Failed { error, .. } if values => {
                            said.raw("error", &error_of(error));
                        }
                        StepState::Running { .. }
                        | StepState::Backoff { .. }
                        | StepState::Succeeded { .. }
                        | StepState::Failed { .. }
                        | StepState::Skipped => {}
                    }
                }
            }
            steps.member(&step.id, &said.done());
        }
        steps
    }

    /// The steps, as watchers are shown them.
    pub(super) fn shown(&self) -> Vec<String> {
        let Some(graph) = &self.graph else {
            return Vec::new();
        };
        graph.steps.iter().map(|step| shown_step(graph, step)).collect()
    }
}

/// A step as it is shown before it begins.
fn shown_step(graph: &Workflow, step: &Step) -> String {
    let mut said = Object::new();
    said.str("id", &step.id).display("tool", &step.tool);
    if !step.needs.is_empty() {
        said.array("needs", step.needs.iter().map(|need| alloc::format!("\"{}\"", graph.steps[*need].id)));
    }
    said.done()
}

/// The bytes of a graph as it is shown.
pub(super) fn shown_bytes(graph: &Workflow) -> usize {
    graph.steps.iter().map(|step| shown_step(graph, step).len() + 1).sum()
}

/// Adds the job of a step, if it has one.
pub(super) fn say_child(said: &mut Object, state: &StepState) {
    let child = match state {
        StepState::Running { child, .. } | StepState::Succeeded { child, .. } => Some(*child),
        StepState::Failed { child, .. } => *child,
        StepState::Backoff { .. } | StepState::Skipped => None,
    };
    if let Some(child) = child {
        said.display("job_id", child);
    }
}

fn error_of(error: &JobError) -> String {
    let mut said = Object::new();
    said.display("code", &error.code).str("message", &error.message).bool("retryable", error.retryable);
    said.done()
}

/// How the steps stand that a step needs.
enum Needed {
    /// All are over.
    Over,
    /// Some are not over.
    GoesOn,
    /// Some were skipped, which skips the step.
    Skipped,
}
