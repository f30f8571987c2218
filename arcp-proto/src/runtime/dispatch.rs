//! Routes inputs, requests and effects to the parts that they concern. What takes several parts is
//! done by a handler, each named after what it handles, which borrows the parts that it needs.

mod agents;
mod answers;
mod artifacts;
mod audit;
mod checkpoints;
mod commands;
mod connections;
mod delegation;
mod handoff;
mod hearing;
mod interrupts;
mod job_tokens;
mod opening;
mod policy;
mod prompts;
mod requests;
mod restore;
mod retention;
mod schedules;
mod streams;
mod submit;
mod turns;
mod watches;
mod workflows;
mod writer;

use core::ops::RangeInclusive;
use core::time::Duration;

use super::Runtime;
use super::account::Balance;
use super::connection;
use super::effect::Effect;
use super::io::AgentExit;
use super::job::{account_of, deferral, inbound, is_workflow, prompt, provisioning};
use super::session::give_back;
use crate::id::{JobId, SessionId};
use crate::model::event::EventClass;
use crate::model::reply::Reply;
pub(super) use artifacts::{on_read as on_blob_read, on_stored as on_blob_stored};
pub(super) use commands::TAKEN;
pub(super) use connections::on_not_judged;
pub(super) use hearing::{on_binary, on_overdue as on_sidecar_overdue};
pub(super) use opening::on_persist_failed;
pub(super) use policy::on_policy;
pub(super) use schedules::{
    on_due as on_schedules_due, on_input_checked as on_schedule_checked, on_planned, on_revoked,
};
pub(super) use submit::{on_issued as on_credentials_issued, on_overdue as on_credentials_overdue};
pub(super) use turns::{hear_agents, on_calls, on_due as on_turn_due, on_exited};
pub(super) use workflows::{on_due as on_workflow_due, on_input_checked as on_step_checked};
use writer::Writer;

impl Runtime {
    /// Carries effects to the other parts until there are none left.
    pub(super) fn carry(&mut self) {
        while let Some(effect) = self.ctx.next_effect() {
            match effect {
                Effect::Appended { job, events, class, grown, but } => {
                    self.on_appended(job, (events, class), grown, but);
                }
                Effect::Checking { op, job } => prompt::begin_check(&mut self.jobs, &mut self.ctx, op, job),
                Effect::Unheard(asker) => provisioning::abandon(&mut self.jobs, &mut self.ctx, asker),
                Effect::JobEnded(job) => self.on_job_ended(job),
                Effect::ResultStored { job, artifact, until } => {
                    self.artifacts.prolong(&mut self.ctx, (job, artifact), until);
                }
                Effect::StartAgent(job) if self.jobs.get(job).is_some_and(is_workflow) => {
                    workflows::begin(self, job);
                }
                Effect::StartAgent(job) => self.agents().start_agent(job),
                Effect::StepEnded { workflow, job } => workflows::on_child_ended(self, workflow, job),
                Effect::WorkflowEnds(job) => workflows::on_ending(self, job),
                Effect::StopWorkflow(job) => workflows::on_stop(self, job),
                Effect::CreditOwed(job) => self.agents().return_credit(job),
                Effect::Unreferenced(job) => self.retention().forget_if_done(job),
                Effect::Answer { conn, reply, at } => self.connections.answer(&mut self.ctx, conn, reply.into(), at),
                Effect::Tell { session, reply } => tell(self, session, reply),
                Effect::Renumbered { conn, withdrawn } => {
                    if let Some(conn) = self.connections.get_mut(conn) {
                        conn.renumber(&withdrawn);
                    }
                }
                Effect::Leave { conn, reason } => self.connections.leave(&mut self.ctx, conn, reason),
                Effect::Dismiss { conn, refusal, reason } => {
                    self.connections.dismiss(&mut self.ctx, conn, refusal, reason);
                }
                Effect::Evicted { session, at_once } => {
                    self.delivery.show_nothing_more(&mut self.ctx, session);
                    if at_once {
                        self.on_evicted(session);
                    }
                }
                Effect::SessionOver(session) => {
                    inbound::on_session_over(&mut self.jobs, &mut self.ctx, session);
                    self.delivery.close(&mut self.ctx, session);
                }
                Effect::NobodyIs(principal) => self.artifacts.release_all(&mut self.ctx, &principal),
                Effect::Detached { session, alive, claimed } => {
                    if let Some(token) = claimed {
                        give_back(&mut self.sessions, &mut self.ctx, session, *token);
                    }
                    self.detach(session, alive);
                }
            }
        }
    }

    /// Numbers events for all sessions that are shown their job, and may drop old events to make
    /// room.
    fn on_appended(
        &mut self,
        id: JobId,
        (events, class): (RangeInclusive<u64>, EventClass),
        grown: bool,
        but: Option<SessionId>,
    ) {
        let last = *events.end();
        self.delivery.number_for_all(&mut self.ctx, &self.jobs, id, events, but);
        self.retention().on_appended(id, last, grown);
        prompts::on_appended(self, id, class);
        if !class.is_end() {
            self.delivery.check_lag(&mut self.ctx, &self.jobs, id);
        }
    }

    /// A job has ended, and its terminal is numbered.
    fn on_job_ended(&mut self, id: JobId) {
        self.retention().on_ended(id);
        self.jobs.fill_slots(&mut self.ctx);
        self.schedules.on_job_ended(&mut self.ctx, id);
        self.workflows.forget(&mut self.ctx, id);
    }

    pub(super) fn on_agent_exited(&mut self, id: JobId, exit: AgentExit) {
        let Some(exit) = deferral::hold_exit(&mut self.jobs, &self.ctx, id, exit) else {
            return; // The exit is handled after the held calls.
        };
        let ended_before = self.jobs.get(id).is_some_and(|job| job.is_terminal());
        let stored = artifacts::ended_with(self, id, &exit);
        self.agents().on_exited(id, exit, stored);
        self.carry();
        self.retention().on_agent_gone(id, ended_before);
        self.jobs.fill_slots(&mut self.ctx);
    }

    pub(super) fn cancel_job(&mut self, id: JobId, reason: Option<&str>, grace: Duration) {
        self.jobs.cancel(&mut self.ctx, id, reason, grace);
        self.carry();
    }

    /// Lets connections send what they can before this input ends.
    pub(super) fn pump_ready(&mut self) {
        while let Some(conn) = self.ctx.next_ready() {
            Writer::pump(self, conn);
            if let Some(judged) = connection::on_room(&mut self.connections, &mut self.ctx, conn) {
                let account = self.connections.get(conn).map(|conn| conn.account().principal().clone());
                on_behalf(self, account, |runtime| {
                    runtime.hear_again(Some(judged));
                    runtime.carry();
                });
            }
            self.carry();
            hear_agents(self);
        }
    }
}

/// The present input is of a job's agent: charges its records to the job's principal.
fn note_cause(runtime: &mut Runtime, id: JobId) {
    if let Some(job) = runtime.jobs.get(id) {
        runtime.ctx.log.caused_by(account_of(job));
    }
}

/// Does something of a job, as [`on_behalf`].
fn for_job(runtime: &mut Runtime, id: JobId, act: impl FnOnce(&mut Runtime)) {
    let account = runtime.jobs.get(id).map(|job| account_of(job).clone());
    on_behalf(runtime, account, act);
}

/// Does something that is somebody's, whose input or whichever clock has led to it: what that appends its account has
/// caused, and what the present input appends besides stays caused by whom it is.
fn on_behalf(runtime: &mut Runtime, account: Option<Balance>, act: impl FnOnce(&mut Runtime)) {
    let before = runtime.ctx.log.cause().clone();
    let Some(account) = account.filter(|account| !account.is(&before)) else {
        return act(runtime);
    };
    runtime.ctx.log.set_apart();
    runtime.ctx.log.caused_by(&account);
    act(runtime);
    runtime.ctx.log.set_apart();
    runtime.ctx.log.caused_by(&before);
}

/// Tells a session something in its turn, if it is connected.
fn tell(runtime: &mut Runtime, session: SessionId, reply: Reply) {
    let Some(conn) = runtime.delivery.feeds.conn(session) else {
        return; // The client asks again once it is back.
    };
    let at = runtime.position(conn);
    match reply {
        Reply::Refused(refusal) => runtime.connections.refuse(&mut runtime.ctx, conn, refusal, at),
        Reply::Handshake(_) | Reply::Session(_) | Reply::Command(_) => {
            runtime.connections.answer(&mut runtime.ctx, conn, reply.into(), at);
        }
    }
}
