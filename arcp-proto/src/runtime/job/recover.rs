//! What becomes of jobs after a restart of the runtime: each goes on, or ends because it cannot.

use super::cause::Cause;
use super::departure;
use super::end::plan_retention;
use super::lease;
use super::prompt;
use super::provisioning;
use super::slots;
use super::{Job, JobState, Jobs, Wait, is_workflow};
use crate::id::JobId;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Record;
use crate::runtime::log::Waiter;

impl Jobs {
    /// All records are restored: a job goes on, or ends because it cannot.
    pub(in crate::runtime) fn on_restored(&mut self, ctx: &mut Context, id: JobId) {
        self.table.plan_purge(ctx, id);
        self.table.change(id, |job| {
            if !job.is_terminal() {
                lease::plan_expiry(job, ctx);
                prompt::resume(job, ctx);
            }
        });
        let Some(job) = self.table.get(id).expected("it was just restored") else {
            return;
        };
        if !job.is_terminal() && departure::resume(self, ctx, id) {
            return;
        }
        let Some(job) = self.table.get(id).expected("it was just restored") else {
            return;
        };
        match &job.state {
            JobState::Accepting if job.run.perhaps_started => self.recover_running_job(ctx, id),
            JobState::Accepting | JobState::Queued if job.run.credentials => self.end(ctx, id, provisioning::lost()),
            JobState::Accepting | JobState::Queued => {
                if slots::is_pure(job, ctx) {
                    self.table.change(id, |job| job.run.perhaps_started = true);
                }
                self.on_durable(ctx, id);
            }
            JobState::Running | JobState::Cancelling(_) => self.recover_running_job(ctx, id),
            JobState::Ended(end) => {
                plan_retention(ctx, id, end.at);
                if !job.children.is_empty() {
                    slots::plan_time_limit(job, ctx);
                }
            }
        }
    }

    /// Recovers a job whose agent ran when the earlier run ended.
    fn recover_running_job(&mut self, ctx: &mut Context, id: JobId) {
        if let Some(cause) = self.table.get(id).and_then(|job| obstacle(job, ctx)) {
            return self.end(ctx, id, cause);
        }
        let pos = ctx.append(Record::JobRestarted { job: id });
        ctx.log.wait(pos, Waiter::Job(id));
        self.table.change(id, |job| {
            job.mark_restarted();
            job.run.waits.insert(Wait::Store);
        });
    }
}

/// Why a job whose agent ran when the earlier run ended cannot go on.
fn obstacle(job: &Job, ctx: &Context) -> Option<Cause> {
    let most = ctx.config.limits.job.restarts;
    if job.state.is_cancelling() {
        return Some(Cause::Cancelled);
    }
    if job.run.credentials {
        return Some(provisioning::lost());
    }
    if is_workflow(job) {
        return None; // Its finished steps stay finished.
    }
    if !ctx.config.restarts(&job.spec.agent) && !slots::is_pure(job, ctx) {
        return Some(Cause::failed(
            "the runtime was restarted while the job ran: submit it again, if it had a key with a new one",
        ));
    }
    (job.run.restarts >= most).then(|| {
        let times = most + 1;
        Cause::failed(&alloc::format!("the runtime ended {times} times while the job ran: it is not started again"))
    })
}
