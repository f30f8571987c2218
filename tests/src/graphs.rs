//! What must hold for workflows in every run: each try of a step begins once, no step begins before those that it
//! needs have ended, and an ended step stays ended.

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{JobId, LogPos};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::workflow::AGENT;
use arcp_proto::runtime::{JobRecord, Record, StepRecord, StepState};
use serde_json::Value;

/// The workflows of a run, as their records describe them.
#[derive(Debug, Default)]
pub struct Graphs {
    /// The steps that each step needs.
    needs: BTreeMap<JobId, Vec<Vec<usize>>>,
    /// The states of steps, in order, and when they began.
    moves: Vec<(LogPos, StepRecord)>,
    /// Where the outcome of the steps was recorded.
    said: BTreeMap<JobId, LogPos>,
    /// The ids by which parents refer to their children, and where these were accepted.
    names: BTreeMap<(JobId, String), LogPos>,
}

impl Graphs {
    /// Watches a record.
    pub fn record(&mut self, at: LogPos, record: &Record) {
        if let Record::JobAccepted(job) = record {
            self.accepted(at, job);
        } else if let Record::StepMoved(step) = record {
            self.moved(at, step);
        } else if let Record::JobEvent { job, event } = record {
            self.event(at, *job, &event.event);
        }
    }

    /// However a workflow ends, the outcome of its steps was recorded before.
    fn event(&mut self, at: LogPos, job: JobId, event: &JobEvent) {
        match event {
            JobEvent::Emitted { kind: EventKind::WorkflowComplete, .. } => {
                assert!(self.said.insert(job, at).is_none(), "{job} says twice what its steps have come to");
            }
            JobEvent::Ended(_) if self.needs.contains_key(&job) => {
                assert!(self.said.contains_key(&job), "{job} ends and has not said what its steps have come to");
            }
            JobEvent::Ended(_) | JobEvent::Started | JobEvent::Emitted { .. } | JobEvent::Chunk(_) => {}
        }
    }

    fn accepted(&mut self, at: LogPos, job: &JobRecord) {
        if let Some(parent) = &job.bounds.parent {
            let name = (parent.job, parent.delegate_id.to_string());
            assert!(self.names.insert(name.clone(), at).is_none(), "{name:?} is begun twice");
        }
        if job.agent.name() == AGENT {
            let input: Value = serde_json::from_str(job.input.as_str()).expect("JSON");
            let graph = &input["workflow"];
            let steps = graph.as_array().or(graph["steps"].as_array()).expect("steps");
            let at_of = |need: &Value| steps.iter().position(|step| step["id"] == *need).expect("it was checked");
            let needs = |step: &Value| step["needs"].as_array().into_iter().flatten().map(at_of).collect();
            self.needs.insert(job.job, steps.iter().map(needs).collect());
        }
    }

    fn moved(&mut self, at: LogPos, step: &StepRecord) {
        let over: BTreeSet<u32> = self.moves_of(step.job).filter(|step| is_over(&step.state)).map(|s| s.step).collect();
        assert!(!over.contains(&step.step), "{step:?} was over");
        if let StepState::Running { child, attempt } = &step.state {
            let needs = &self.needs[&step.job][step.step as usize];
            assert!(needs.iter().all(|need| over.contains(&(*need as u32))), "{step:?} is begun before what it needs");
            let ends = format!("/{attempt}");
            let known = self.names.keys().any(|(parent, name)| *parent == step.job && name.ends_with(&ends));
            assert!(known, "{child} is no child of {}", step.job);
        }
        self.moves.push((at, step.clone()));
    }

    fn moves_of(&self, job: JobId) -> impl Iterator<Item = &StepRecord> {
        self.moves.iter().map(|(_, step)| step).filter(move |step| step.job == job)
    }

    /// The runtime crashed; the store has the log up to `durable`.
    pub fn crash(&mut self, durable: LogPos) {
        self.moves.retain(|(at, _)| *at <= durable);
        self.names.retain(|_, at| *at <= durable);
        self.said.retain(|_, at| *at <= durable);
    }

    /// How many steps have succeeded.
    pub fn succeeded(&self) -> usize {
        self.moves.iter().filter(|(_, step)| matches!(step.state, StepState::Succeeded { .. })).count()
    }
}

fn is_over(state: &StepState) -> bool {
    match state {
        StepState::Succeeded { .. } | StepState::Failed { .. } | StepState::Skipped => true,
        StepState::Running { .. } | StepState::Backoff { .. } => false,
    }
}
