//! What agents may say: credit, and who gives it back.

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

/// Whether the agent of a job may call.
pub(super) fn check_credit(job: &Job) -> Result<(), Fault> {
    match job.run.allowance.credit.is_spent() {
        true => Err(Fault("the agent emitted more than it had credit for")),
        false => Ok(()),
    }
}

impl AgentRun {
    /// What its agent may call to begin with: nothing yet, if a reader that paces
    /// it is far behind.
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

    /// A call costs credit: until it is durable, or, if nothing of it is
    /// recorded, until its agent may have it back.
    pub(super) fn spend_credit(&mut self, ctx: &mut Context, id: JobId, bytes: u64, recorded: bool) {
        self.allowance.spend(bytes);
        if !recorded {
            self.allowance.return_last_call();
            ctx.effect(Effect::CreditOwed(id));
        }
        self.note_undurable();
    }

    /// Nothing is recorded of so many of its calls that the host was at.
    pub(super) fn return_unrecorded(&mut self, ctx: &mut Context, id: JobId, calls: usize) {
        for _ in 0..calls {
            self.allowance.return_last_call();
        }
        if calls > 0 {
            ctx.effect(Effect::CreditOwed(id));
        }
        self.note_undurable();
    }

    /// Gives its agent what it is owed, unless `reader`, who paces it, is far
    /// behind, or its submitter wants it to go slowly.
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

    /// Its agent waits for the store as long as it may not call, and something
    /// that it said is not durable.
    fn note_undurable(&mut self) {
        if self.allowance.credit.is_spent() && !self.allowance.undurable.is_empty() {
            self.waits.insert(Wait::Store);
        } else {
            self.waits.remove(&Wait::Store);
        }
    }
}

impl Jobs {
    /// Gives an agent its credit back, unless `reader`, who paces it, is far
    /// behind.
    pub(in crate::runtime) fn return_credit(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        self.table.change(id, |job| {
            if job.is_heard() {
                job.run.return_credit(ctx, id, reader);
            }
        });
    }
}

impl Table {
    /// Whether something is owed to the agent of a job, which it gets unless a
    /// reader is far behind.
    pub(in crate::runtime) fn is_owed_credit(&self, id: JobId) -> bool {
        self.get(id).is_some_and(|job| job.run.allowance.owed.calls > 0 && job.is_heard())
    }

    /// Calls of agents are durable, one entry for each: gives the jobs to which
    /// something is owed for that, in order.
    pub(in crate::runtime) fn on_calls_durable(&mut self, mut calls: Vec<JobId>) -> Vec<JobId> {
        for of_job in calls.chunk_by(|one, next| one == next) {
            let return_all = |job: &mut Job| of_job.iter().for_each(|_| job.run.allowance.return_call());
            self.change(of_job[0], return_all);
        }
        // Mostly all of them are of one job.
        calls.dedup();
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    /// Its submitter wants so much time between two calls of a job's agent.
    pub(in crate::runtime) fn set_pace(&mut self, ctx: &mut Context, id: JobId, every: Option<Duration>) {
        ctx.timers.clear(Timer::Pace(id));
        self.change(id, |job| job.run.allowance.pace = every);
    }
}
