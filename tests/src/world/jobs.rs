//! The agents of a world, and what their jobs wait for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::limits::Limits;
use arcp_proto::model::event::JobEvent;
use arcp_proto::runtime::{AgentExit, Input, Record, Wait, waits_of};
use serde_json::Value;

use super::{Event, World};
use crate::agents::{Act, Running};

impl World {
    /// The host takes the messages of extensions that wait, if it takes any.
    pub fn take_extensions(&mut self) {
        let sessions = if self.takes_no_extensions { VecDeque::new() } else { std::mem::take(&mut self.untaken) };
        for session in sessions {
            self.later(Event::ToRuntime(Input::ExtensionTaken { session }));
        }
    }

    pub(super) fn wake(&mut self, job: JobId) {
        if let Some(running) = self.running.get_mut(&job).filter(|running| !running.awake) {
            running.awake = true;
            self.later(Event::Agent(job));
        }
    }

    /// Tells the agent of a job something, if the agent runs.
    pub(super) fn tell(&mut self, job: JobId, tell: impl FnOnce(&mut Running)) {
        if let Some(running) = self.running.get_mut(&job) {
            tell(running);
            self.wake(job);
        }
    }

    pub(super) fn on_agent(&mut self, job: JobId) {
        let Some(running) = self.running.get_mut(&job) else {
            return;
        };
        running.awake = false;
        match running.act() {
            Act::Nothing => {}
            Act::Call(call) => {
                let said = match <[_; 1]>::try_from(running.calls_together(call, self.options.together)) {
                    Ok([call]) => Input::Agent { job, call },
                    Err(calls) => Input::AgentSays { job, calls },
                };
                self.input(said);
                self.wake(job);
            }
            Act::Ask(id, call) => {
                self.input(Input::AgentAsked { job, id, call });
                self.wake(job);
            }
            Act::Leave(id, bytes) => {
                self.offer(job, id, &bytes);
                self.wake(job);
            }
            Act::Sleep(span) => {
                running.awake = true;
                let at = self.now.mono + span;
                self.schedule(at, Event::Agent(job));
            }
            Act::Exit(exit) => {
                self.running.remove(&job);
                self.input(Input::AgentExited { job, exit });
            }
        }
    }

    /// Hands an input over after a time that nobody was told had passed.
    pub fn input_late(&mut self, span: Duration, input: Input) {
        self.advance(self.now.mono + span);
        self.input(input);
    }

    /// The children of a job in the store, by the ids by which the job refers to them. Checks that none was accepted
    /// twice.
    pub fn children_of(&self, parent: JobId) -> BTreeMap<String, JobId> {
        let mut children = BTreeMap::new();
        for (_, record) in self.store.records(false) {
            let Record::JobAccepted(job) = record else { continue };
            if let Some(below) = job.bounds.parent.as_ref().filter(|below| below.job == parent) {
                let twice = children.insert(below.delegate_id.to_string(), job.job);
                assert_eq!(twice, None, "{} is begun twice", below.delegate_id);
            }
        }
        children
    }

    /// How a job has ended, from the store.
    pub fn end_of(&self, ended: JobId) -> Option<Value> {
        self.store.records(false).into_iter().rev().find_map(|(_, record)| {
            let Record::JobEvent { job, event } = record else { return None };
            match &*event.event {
                JobEvent::Ended(terminal) if job == ended => Some(serde_json::to_value(terminal).expect("JSON")),
                JobEvent::Ended(_) | JobEvent::Started | JobEvent::Emitted { .. } | JobEvent::Chunk(_) => None,
            }
        })
    }

    /// What is held at most.
    pub fn limits(&self) -> &Limits {
        &self.options.config.limits
    }

    /// Jobs whose agents run, the oldest first.
    pub fn live(&self) -> Vec<JobId> {
        self.running.keys().copied().collect()
    }

    /// Ends the script of a job's agent: the test decides how it ends.
    pub fn stop_script(&mut self, job: JobId) {
        self.running.remove(&job);
    }

    /// Removes agents that were forced to stop and do not exit.
    pub fn reap(&mut self) {
        let undead = self.running.iter().filter(|(_, running)| running.is_undead());
        let jobs: Vec<JobId> = undead.map(|(job, _)| *job).collect();
        for job in jobs {
            self.running.remove(&job);
            self.input(Input::AgentExited { job, exit: AgentExit::Lost });
        }
    }

    /// Agents that want to call and may not, each with the number of steps left.
    pub fn held_back(&self) -> BTreeMap<JobId, usize> {
        self.running.iter().filter_map(|(job, running)| Some((*job, running.held_back()?))).collect()
    }

    /// All jobs that wait, with the reason. Checks that an agent that may not call, or is not answered, is among them,
    /// and that the oracle can see each reason.
    pub fn waits(&self) -> BTreeMap<JobId, Wait> {
        let waits: BTreeMap<JobId, Wait> = self.runtime.waits().into_iter().collect();
        for job in self.held_back().keys() {
            assert!(waits.contains_key(job), "the agent of {job} may not call, and waits for nothing");
        }
        for (job, _) in self.running.iter().filter(|(_, running)| running.has_open_call()) {
            assert!(waits.contains_key(job), "the agent of {job} is not answered, and waits for nothing");
        }
        for job in waits.keys() {
            for wait in waits_of(&self.runtime, *job) {
                self.oracle.reasons.check(*job, wait, self.runtime.stats().running_agents);
            }
        }
        for job in self.oracle.reasons.workflows_that_go_on() {
            let runs = self.runtime.waits().iter().any(|(waits, _)| *waits == job);
            assert!(runs || self.oracle.reasons.is_failing(), "the workflow {job} goes on, and waits for nothing");
        }
        waits
    }
}
