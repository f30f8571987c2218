//! Interrupts: messages of people to a running agent. The job is blocked until the agent goes on (RFC §10.5).
//!
//! ```text
//! interrupt ──▶ Open ──durable, and the agent runs──▶ Told ──the agent goes on──▶ over
//!                └────────cancel, or end of the job────┴──▶ withdrawn
//! ```
//!
//! Open interrupts stand in the record of the job's prompts, and outlive the runtime: an agent that is started again is
//! told once more.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::heartbeat::phase;
use super::prompts::{Prompts, keep, kept_mut, unblock};
use super::result::beginning;
use super::{AgentState, Job, JobState, Jobs, Wait, check_growth, is_over};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::JobId;
use crate::json::Object;
use crate::runtime::OpenInterrupt;
use crate::runtime::context::Context;
use crate::runtime::io::Output;
use crate::runtime::log::Waiter;

/// Bytes of an interrupt that watchers of the job are shown.
const SHOWN_BYTES: usize = 512;

/// Whether a job can be interrupted with this text.
///
/// # Errors
///
/// `UNIMPLEMENTED` if its agent observes no interrupts, `FAILED_PRECONDITION` if it does not run, `RESOURCE_EXHAUSTED`
/// at a bound.
pub(in crate::runtime) fn check(job: &Job, ctx: &Context, prompt: &str) -> Result<(), Violation> {
    let name = job.spec.agent.name();
    if !ctx.config.observes_interrupts(name) {
        let why = alloc::format!("`{name}` observes no interrupts: its jobs can be cancelled only");
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let not_now = |why: &'static str| Err(Violation::new(ErrorCode::FailedPrecondition, why));
    match job.state {
        JobState::Running if is_over(job) => return not_now("the job is about to end: nobody heeds it any more"),
        JobState::Running => {}
        JobState::Accepting | JobState::Queued => {
            return not_now("the job does not run yet: interrupt it once it does");
        }
        JobState::Cancelling(_) => return not_now("the job was told to stop"),
        JobState::Ended(_) => {
            let mut details = Object::new();
            details.str("final_status", job.status().as_str());
            let ended = Violation::new(ErrorCode::FailedPrecondition, "the job has ended already");
            return Err(ended.with_details(details.json()));
        }
    }
    let limits = &ctx.config.limits.prompt;
    let (bytes, most) = (prompt.len(), limits.interrupt_bytes);
    if bytes > most {
        let why = alloc::format!("the interrupt has {bytes} bytes: at most {most}");
        return Err(Violation::exhausted("interrupt_bytes", BoundOf::Request, most as u64, why));
    }
    let most = limits.open_interrupts_per_job;
    if job.prompts.as_deref().map_or(0, |prompts| prompts.kept.interrupts.len()) >= most {
        let why = alloc::format!("{most} interrupts of this job are open: its agent has not gone on from any of them");
        return Err(Violation::exhausted("open_interrupts_per_job", BoundOf::Job, most as u64, why));
    }
    check_growth(job, ctx, bytes)
}

/// Interrupts a job. The caller has [checked](check) that it can be. The agent is told once that is durable.
pub(in crate::runtime) fn interrupt(jobs: &mut Jobs, ctx: &mut Context, id: JobId, prompt: &str, by: &str) {
    jobs.table.change(id, |job| {
        let kept = kept_mut(job);
        kept.interrupted += 1;
        let number = kept.interrupted;
        kept.interrupts.push(OpenInterrupt { number, prompt: prompt.to_string(), by: by.to_string() });
        keep(job, ctx);
        block(job, ctx);
        let pos = ctx.log.last();
        job.prompts.get_or_insert_default().untold.push((number, pos));
        ctx.log.wait(pos, Waiter::Agent(id));
    });
}

/// The job waits for its agent to go on, and shows why.
fn block(job: &mut Job, ctx: &mut Context) {
    let latest = job.prompts.as_deref().and_then(|prompts| prompts.kept.interrupts.last());
    let Some(OpenInterrupt { prompt, by, .. }) = latest else {
        return; // No interrupt is open.
    };
    let colon = if prompt.is_empty() { "" } else { ": " };
    let why = beginning(&alloc::format!("interrupted by {by}{colon}{prompt}"), SHOWN_BYTES);
    job.run.waits.insert(Wait::Interrupt);
    job.run.silence_at = job.append(ctx, phase("blocked", Some(&why)), false);
}

/// The agent is started: tells it the open interrupts.
pub(super) fn begin(job: &mut Job, ctx: &mut Context) {
    if !job.run.waits.contains(&Wait::Interrupt) {
        block(job, ctx);
    }
    tell(job, ctx);
}

/// Tells a running agent the interrupts that are durable and that it was not told yet.
pub(super) fn tell(job: &mut Job, ctx: &mut Context) {
    let Some(prompts) = job.prompts.as_deref_mut().filter(|_| job.run.state == AgentState::Running) else {
        return; // No interrupts, or no agent to tell.
    };
    let due: Vec<(u32, _)> = prompts.untold.extract_if(.., |(_, pos)| ctx.log.is_durable(*pos)).collect();
    for (number, _) in due {
        let said = prompts.kept.interrupts.iter().find(|open| open.number == number).cloned();
        if let Some(interrupt) = said {
            ctx.output(Output::InterruptAgent { job: job.id, interrupt });
        }
    }
}

/// The agent goes on from an interrupt; `None`: from the first one that it was told.
///
/// # Errors
///
/// If no such interrupt is open.
pub(super) fn go_on(job: &mut Job, ctx: &mut Context, number: Option<u32>) -> Result<(), Violation> {
    let is_told = |prompts: &Prompts, number| prompts.untold.iter().all(|(untold, _)| *untold != number);
    let found = job.prompts.as_deref_mut().and_then(|prompts| {
        let is_meant = |open: &OpenInterrupt| is_told(prompts, open.number) && number.is_none_or(|n| n == open.number);
        let at = prompts.kept.interrupts.iter().position(is_meant)?;
        Some(prompts.kept.interrupts.remove(at))
    });
    if found.is_none() {
        return Err(Violation::invalid("no such interrupt is open"));
    }
    keep(job, ctx);
    unblock(job, ctx);
    Ok(())
}
