//! Passes calls and exits of agents to their jobs, with what delivery knows of the sessions that
//! read them: how they read pieces of a result, and whether they keep up.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{CallId, JobId};
use crate::model::agent::AgentEntry;
use crate::model::artifact::ArtifactRef;
use crate::runtime::Runtime;
use crate::runtime::config::validate_agents;
use crate::runtime::context::Context;
use crate::runtime::delivery::Delivery;
use crate::runtime::io::{AgentCall, AgentExit};
use crate::runtime::job::delegation::WiderCall;
use crate::runtime::job::{ChunkTerms, Jobs};

/// Handles inputs about agents.
pub(in crate::runtime) struct AgentHandler<'r> {
    ctx: &'r mut Context,
    jobs: &'r mut Jobs,
    delivery: &'r mut Delivery,
}

impl Runtime {
    pub(in crate::runtime) fn agents(&mut self) -> AgentHandler<'_> {
        AgentHandler { ctx: &mut self.ctx, jobs: &mut self.jobs, delivery: &mut self.delivery }
    }
}

impl AgentHandler<'_> {
    /// Handles calls of an agent. With `asked` there is one call, whose reply has that id. Returns
    /// the first call that concerns more than its job, with its bytes.
    pub(in crate::runtime) fn on_calls(
        self,
        id: JobId,
        asked: Option<CallId>,
        calls: &mut impl ExactSizeIterator<Item = AgentCall>,
    ) -> Option<(WiderCall, u64)> {
        let AgentHandler { ctx, jobs, delivery } = self;
        let is_child = jobs.get(id).and_then(|job| job.spec().parent()).is_some();
        jobs.on_agent_calls(ctx, (id, asked), calls, |ctx| terms(delivery, ctx, id, is_child))
    }

    /// Handles the exit of an agent. `stored`: the artifact that is its result, if the agent put
    /// it.
    pub(super) fn on_exited(self, id: JobId, exit: AgentExit, stored: Option<ArtifactRef>) {
        let AgentHandler { ctx, jobs, delivery } = self;
        let is_child = jobs.get(id).and_then(|job| job.spec().parent()).is_some();
        jobs.on_agent_exited(ctx, id, (exit, stored), |ctx| terms(delivery, ctx, id, is_child));
    }

    /// Replaces the list of agents. Jobs that wait for a slot may get one under the new bounds.
    pub(in crate::runtime) fn on_hosted(self, agents: Vec<AgentEntry>, restartable: BTreeSet<String>) {
        if validate_agents(&agents).is_ok() {
            (self.ctx.config.agents, self.ctx.config.restartable_agents) = (agents, restartable);
            self.jobs.arrange_lines(self.ctx);
            self.jobs.fill_slots(self.ctx);
        }
    }

    /// Starts an agent whose start is durable.
    pub(super) fn start_agent(self, id: JobId) {
        let reader = self.delivery.pace(&self.ctx.config.limits, id);
        self.jobs.start_agent(self.ctx, id, reader);
    }

    /// Returns credit for calls of agents that are durable; there is one entry for each.
    pub(in crate::runtime) fn on_calls_durable(mut self, calls: Vec<JobId>) {
        for job in self.jobs.table_mut().on_calls_durable(calls) {
            self.return_credit(job);
        }
    }

    /// Returns credit to an agent, unless a session that paces it is far behind.
    pub(in crate::runtime) fn return_credit(&mut self, id: JobId) {
        let reader = match self.jobs.table().is_owed_credit(id) {
            true => self.delivery.pace(&self.ctx.config.limits, id),
            false => {
                self.delivery.pacing.release(id);
                None
            }
        };
        self.jobs.return_credit(self.ctx, id, reader);
    }
}

/// How the result of a job may be sent. A child's result is given to its parent as a whole.
fn terms(delivery: &Delivery, ctx: &Context, id: JobId, is_child: bool) -> ChunkTerms {
    let terms = delivery.chunk_terms(&ctx.config.limits, id);
    ChunkTerms { watchers_read_pieces: terms.watchers_read_pieces && !is_child, ..terms }
}
