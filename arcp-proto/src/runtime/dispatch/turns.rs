//! When calls of agents are handled: at once, after a child that waits for the host (see
//! [`deferral`]), or in turn with other agents if their principal has too much that is not durable
//! (see [`turns`]).

use alloc::vec::Vec;

use super::delegation::CallHandler;
use super::{for_job, note_cause};
use crate::id::{CallId, JobId};
use crate::runtime::Runtime;
use crate::runtime::asker::Asker;
use crate::runtime::io::{AgentCall, AgentExit};
use crate::runtime::job::deferred::Deferred;
use crate::runtime::job::{Said, deferral, provisioning, turns};

/// Handles calls of an agent. With `asked` there is one call, whose reply has that id.
pub(in crate::runtime) fn on_calls(
    runtime: &mut Runtime,
    id: JobId,
    asked: Option<CallId>,
    calls: impl ExactSizeIterator<Item = AgentCall>,
) {
    note_cause(runtime, id);
    if !turns::waits(&runtime.jobs, &runtime.ctx, id) {
        return CallHandler::on_calls(runtime, id, asked, calls);
    }
    let (free, held): (Vec<AgentCall>, Vec<AgentCall>) = calls.partition(AgentCall::is_free);
    runtime.agents().on_calls(id, asked, &mut free.into_iter());
    if !held.is_empty() {
        turns::hold(&mut runtime.jobs, &mut runtime.ctx, (id, asked), held);
    }
}

/// Handles the exit of an agent.
pub(in crate::runtime) fn on_exited(runtime: &mut Runtime, id: JobId, exit: AgentExit) {
    note_cause(runtime, id);
    if let Some(exit) = turns::hold_exit(&mut runtime.jobs, &runtime.ctx, id, exit) {
        runtime.on_agent_exited(id, exit);
    }
}

/// Handles delegations again that waited for the host, with the later calls of their agents; and
/// the exits of agents whose jobs have ended.
pub(in crate::runtime) fn hear_agents(runtime: &mut Runtime) {
    while let Some(id) = runtime.jobs.unheard.pop_front() {
        // The present input may be somebody else's.
        for_job(runtime, id, |runtime| hear_agent(runtime, id));
    }
}

fn hear_agent(runtime: &mut Runtime, id: JobId) {
    let Some(deferred) = deferral::take(&mut runtime.jobs, &mut runtime.ctx, id) else {
        // It was heard, or is over.
        return turns::take_of_over(&mut runtime.jobs, id).into_iter().for_each(|said| hear(runtime, id, said));
    };
    let Deferred { child, asked, bytes, preparing, verdict, held, exit, .. } = deferred;
    let prepared = verdict.map(|verdict| (preparing, verdict));
    CallHandler::on_child(runtime, (id, asked, bytes), child, prepared);
    if !deferral::awaits_credentials(&runtime.jobs, id) {
        provisioning::abandon(&mut runtime.jobs, &mut runtime.ctx, Asker::Agent(id));
    }
    for (asked, call) in held {
        on_calls(runtime, id, asked, [call].into_iter());
    }
    if let Some(exit) = exit {
        on_exited(runtime, id, exit);
    }
    runtime.carry();
}

/// Something that an agent has said before is heard.
pub(in crate::runtime) fn on_due(runtime: &mut Runtime) {
    let Some((id, said)) = turns::take(&mut runtime.jobs, &runtime.ctx) else {
        return; // The job has ended, or all waiting accounts are over their bounds.
    };
    for_job(runtime, id, |runtime| {
        hear(runtime, id, said);
        runtime.carry();
        if deferral::is_deferring(&runtime.jobs, id) {
            // What comes after a child that waits for the host waits for that, not in two places.
            for said in turns::take_all(&mut runtime.jobs, id) {
                hear(runtime, id, said);
            }
        }
    });
}

fn hear(runtime: &mut Runtime, id: JobId, said: Said) {
    match said {
        Said::Calls(asked, calls) => CallHandler::on_calls(runtime, id, asked, calls.into_iter()),
        Said::Exit(exit) => runtime.on_agent_exited(id, exit),
    }
}
