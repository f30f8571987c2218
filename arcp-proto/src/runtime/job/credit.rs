//! The credit of agents: what they may call, and when credit comes back.

use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Fault;
use super::run::{AgentRun, Credit};
use super::table::Table;
use super::{Job, Jobs, Wait};
use crate::id::{JobId, SessionId};
use crate::limits::Limits;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::Output;
use crate::runtime::timers::Timer;

/// Whether the agent of a job has credit for a call.
pub(super) fn check_credit(job: &Job) -> Result<(), Fault> {
    match job.run.allowance.credit.is_spent() {
        true => Err(Fault("the agent emitted more than it had credit for")),
        false => Ok(()),
    }
}

impl AgentRun {
    /// The credit with which an agent starts: none yet, if `reader`, the session that paces it, is far behind.
    pub(super) fn first_credit(&mut self, limits: &Limits, reader: Option<SessionId>) -> Credit {
        let bytes = i64::try_from(limits.delivery.agent_credit_bytes).unwrap_or(i64::MAX);
        let all = Credit { calls: limits.delivery.agent_credit, bytes };
        if let Some(reader) = reader {
            self.waits.insert(Wait::Reader(reader));
        }
        let (owed, credit) = if reader.is_some() { (all, Credit::default()) } else { (Credit::default(), all) };
        (self.allowance.owed, self.allowance.credit) = (owed, credit);
        credit
    }

    /// Spends the credit of a call. It comes back once the call is durable; if nothing of the call is recorded, as soon
    /// as the agent may have it.
    pub(super) fn spend_credit(&mut self, ctx: &mut Context, id: JobId, bytes: u64, recorded: bool) {
        self.allowance.spend(bytes);
        if !recorded {
            self.allowance.return_last_call();
            ctx.effect(Effect::CreditOwed(id));
        }
        self.note_undurable();
    }

    /// Returns the credit of calls that waited for the host and left no record.
    pub(super) fn return_unrecorded(&mut self, ctx: &mut Context, id: JobId, calls: usize) {
        for _ in 0..calls {
            self.allowance.return_last_call();
        }
        if calls > 0 {
            ctx.effect(Effect::CreditOwed(id));
        }
        self.note_undurable();
    }

    /// Grants the agent the credit that it is owed, unless `reader`, the session that paces it, is far behind, or the
    /// submitter asked for a slower pace.
    fn return_credit(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        self.waits.retain(|wait| !matches!(wait, Wait::Reader(_) | Wait::Pace));
        if self.allowance.owed.calls > 0 {
            match reader {
                Some(reader) => drop(self.waits.insert(Wait::Reader(reader))),
                None => self.grant(ctx, id),
            }
        }
        self.note_undurable();
    }

    fn grant(&mut self, ctx: &mut Context, id: JobId) {
        let granted = match self.allowance.pace {
            None => core::mem::take(&mut self.allowance.owed),
            Some(_) if ctx.timers.is_set(Timer::Pace(id)) => Credit::default(),
            Some(every) => {
                let every = every.max(Duration::from_micros(1));
                let portion = self.allowance.take_portion(every);
                ctx.timers.set(Timer::Pace(id), ctx.now.mono + every * portion.calls);
                portion
            }
        };
        if self.allowance.owed.calls > 0 {
            self.waits.insert(Wait::Pace);
        }
        if granted.calls > 0 {
            self.allowance.credit.add(granted);
            let bytes = u64::try_from(granted.bytes).unwrap_or(0);
            ctx.output(Output::AgentCredit { job: id, calls: granted.calls, bytes });
        }
    }

    /// Updates whether the job waits for the store: it does while the agent has no credit and one of its calls is not
    /// durable.
    fn note_undurable(&mut self) {
        if self.allowance.credit.is_spent() && !self.allowance.undurable.is_empty() {
            self.waits.insert(Wait::Store);
        } else {
            self.waits.remove(&Wait::Store);
        }
    }
}

impl Jobs {
    /// Grants an agent the credit that it is owed, unless `reader`, the session that paces it, is far behind.
    pub(in crate::runtime) fn return_credit(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        self.table.change(id, |job| {
            if job.is_heard() {
                job.run.return_credit(ctx, id, reader);
            }
        });
    }
}

impl Table {
    /// Whether the agent of a job is owed credit.
    pub(in crate::runtime) fn is_owed_credit(&self, id: JobId) -> bool {
        self.get(id).is_some_and(|job| job.run.allowance.owed.calls > 0 && job.is_heard())
    }

    /// Calls of agents are durable, one entry for each. Returns the jobs that are owed credit for them, in order.
    pub(in crate::runtime) fn on_calls_durable(&mut self, mut calls: Vec<JobId>) -> Vec<JobId> {
        for of_job in calls.chunk_by(|one, next| one == next) {
            let return_all = |job: &mut Job| of_job.iter().for_each(|_| job.run.allowance.return_call());
            self.change(of_job[0], return_all);
        }
        // Usually all of them are of one job.
        calls.dedup();
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    /// Sets the pace that the submitter wants: the minimum time between two calls of the agent.
    pub(in crate::runtime) fn set_pace(&mut self, ctx: &mut Context, id: JobId, every: Option<Duration>) {
        ctx.timers.clear(Timer::Pace(id));
        self.change(id, |job| job.run.allowance.pace = every);
    }
}
