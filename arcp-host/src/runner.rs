//! Runs agents on threads of their own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AgentExit, AgentSpec, Input};

use crate::agent::{Context, Inbox, Link, exit_of};
use crate::registry::{Hosted, Registry};

/// The agents that run, and what they are told.
///
/// The driver hands it every `StartAgent`, `StopAgent` and `AgentCredit`, and
/// calls [`finished`](Self::finished) when the core has been given the
/// matching `AgentExited`.
pub struct Runner {
    registry: Registry,
    inbox: Arc<dyn Inbox>,
    running: BTreeMap<JobId, Arc<Link>>,
}

impl Runner {
    /// A runner for these agents; what they say goes into `inbox`.
    pub fn new(registry: Registry, inbox: Arc<dyn Inbox>) -> Runner {
        Runner { registry, inbox, running: BTreeMap::new() }
    }

    /// Starts an agent.
    pub fn start(&mut self, job: JobId, spec: AgentSpec) {
        let agent = match self.registry.get(&spec.agent) {
            Some(Hosted::Threaded(agent)) => agent,
            Some(Hosted::Inline(agent)) => {
                let result = catch_unwind(AssertUnwindSafe(|| agent.answer(&spec)));
                let exit = result.map_or(AgentExit::Lost, exit_of);
                return self.inbox.put(Input::AgentExited { job, exit });
            }
            // The core only asks for agents it was told of.
            None => return self.inbox.put(Input::AgentExited { job, exit: AgentExit::Lost }),
        };
        let link = Arc::new(Link::default());
        link.change(|state| state.credit = spec.credit);
        self.running.insert(job, link.clone());
        let inbox = self.inbox.clone();
        let work = move || {
            let context = Context::new(job, spec, link, inbox.clone());
            let result = catch_unwind(AssertUnwindSafe(|| agent.run(&context)));
            let exit = result.map_or(AgentExit::Lost, exit_of);
            inbox.put(Input::AgentExited { job, exit });
        };
        let thread = std::thread::Builder::new().name(format!("{job}")).spawn(work);
        if thread.is_err() {
            self.inbox.put(Input::AgentExited { job, exit: AgentExit::Lost });
        }
    }

    /// Tells an agent to stop; with `force`, that nothing it says counts.
    pub fn stop(&mut self, job: JobId, force: bool) {
        if let Some(link) = self.running.get(&job) {
            link.change(|state| {
                state.stopping = true;
                state.over |= force;
            });
        }
    }

    /// Gives an agent credit.
    pub fn credit(&mut self, job: JobId, calls: u32) {
        if let Some(link) = self.running.get(&job) {
            link.change(|state| state.credit = state.credit.saturating_add(calls));
        }
    }

    /// Forgets an agent that has exited.
    pub fn finished(&mut self, job: JobId) {
        self.running.remove(&job);
    }

    /// How many agents run.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("running", &self.running.keys()).finish_non_exhaustive()
    }
}
