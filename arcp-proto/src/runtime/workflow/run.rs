//! One workflow that goes on: which of its steps come next, and how each stands. It knows
//! no job and no clock.
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
use crate::runtime::account::Charge;
use crate::runtime::asker::Preparing;
use crate::runtime::workflow_records::StepState;
use crate::time::UtcMs;

/// A workflow that is not over.
#[derive(Debug)]
pub(super) struct Run {
    /// What is run; `None`: nothing runs yet in this run of the runtime.
    pub(super) graph: Option<Workflow>,
    /// Its steps that do not just wait, and where the record of each stands.
    pub(super) steps: BTreeMap<usize, (StepState, LogPos)>,
    /// Steps for whose jobs the host does something first, and until when a check is waited for.
    pub(super) preparing: BTreeMap<usize, (Preparing, Option<UtcMs>)>,
    /// Until when nothing is begun, because something was refused for now.
    pub(super) put_off: Option<UtcMs>,
    /// Whether whoever watches was told so.
    pub(super) is_waiting: bool,
    /// How often it found no room since then, while nothing but workflows might make some.
    pub(super) found_full: u32,
    /// Bytes of its graph and its input.
    pub(super) graph_bytes: usize,
    pub(super) charge: Charge,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A step is not run.
    Skip(usize),
    /// A step is begun, or tried again.
    Begin(usize),
    /// All steps are over.
    Complete,
    /// This one has failed, and the workflow with it.
    Fail(usize),
    /// Nothing, before something else happens.
    Wait,
}

impl Run {
    /// What comes next, while so many steps may run at once.
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

    /// How it stands with what a step needs.
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

    /// The steps whose jobs go on, and those.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, u32, JobId)> {
        self.steps.iter().filter_map(|(at, (state, _))| match state {
            StepState::Running { attempt, child } => Some((*at, *attempt, *child)),
            StepState::Backoff { .. } | StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => {
                None
            }
        })
    }

    /// What it waits for besides the jobs of its steps.
    pub(super) fn waits(&self, now: UtcMs) -> StepWaits {
        StepWaits {
            retry: self.steps.values().any(|(state, _)| matches!(state, StepState::Backoff { .. })),
            room: self.put_off.is_some_and(|until| until > now),
            check: !self.preparing.is_empty(),
        }
    }

    /// When it goes on by itself, if it is to later than now.
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

    /// Bytes of what its steps have come to.
    pub(super) fn result_bytes(&self) -> usize {
        self.steps.values().map(|(state, _)| state.bytes()).sum()
    }

    /// Whether the condition of a step holds.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
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
    /// Which of them there is not, or that they have more than so many bytes.
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
        // What is put together of texts that fit may be nested deeper than can be read again.
        Json::parse(&filled).map(Some).map_err(|why| alloc::format!("`arguments`: {why}"))
    }

    pub(super) fn step(&self, at: usize) -> Option<&Step> {
        self.graph.as_ref()?.steps.get(at)
    }

    /// What a reference stands for, if there is such a value.
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

    /// The results of the steps that have one, by their ids.
    pub(super) fn results(&self) -> Json {
        let mut results = Object::new();
        for (at, step) in self.graph.iter().flat_map(|graph| &graph.steps).enumerate() {
            if let Some(StepState::Succeeded { result, .. }) = self.state(at) {
                results.member(&step.id, result.as_ref().map_or("null", Json::as_str));
            }
        }
        results.json()
    }

    /// What each step has come to, by their ids; with `values`, what it said too.
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

    /// The graph, for whoever did not submit it.
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

/// Says which job a step has, if it has one.
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

/// How it stands with what a step needs.
enum Needed {
    /// All of it is over.
    Over,
    /// Some of it goes on.
    GoesOn,
    /// Some of it was skipped, and the step with it.
    Skipped,
}
