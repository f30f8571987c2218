//! Interrupts: messages of people to agents while they run (RFC §10.5).

use alloc::string::ToString as _;

use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::model::request::{Interrupt, Target};
use crate::runtime::Runtime;
use crate::runtime::authority::{Act, Reason};
use crate::runtime::job::interrupt;
use crate::runtime::session::Outcome;

/// The reply to an interrupt that was accepted.
pub(super) const DONE: &str = "interrupted";

/// Records an interrupt for the agent of a job.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn on_interrupt(asked: &mut RequestHandler<'_>, said: &Interrupt) -> Result<Outcome, Violation> {
    let Target::Job(named) = &said.target else {
        return Err(Violation::new(ErrorCode::Unimplemented, "only jobs can be interrupted"));
    };
    let Runtime { ctx, sessions, jobs, .. } = &*asked.runtime;
    let session = sessions.get(asked.session).ok_or_else(|| Reason::unknown(&ctx.config))?;
    let (by, view) = (session.principal().to_string(), session.view());
    if !view.features.has(view.family.interrupts_with()) {
        let why = "interrupts were not negotiated: offer the capability, which a runtime has whose agents observe them";
        return Err(Violation::new(ErrorCode::Unimplemented, why));
    }
    let id = asked.permitted(Act::Interrupt, named)?;
    let job = jobs.get(id).ok_or_else(|| Reason::unknown(&ctx.config))?;
    interrupt::check(job, ctx, &said.prompt)?;
    let Runtime { ctx, jobs, .. } = &mut *asked.runtime;
    interrupt::interrupt(jobs, ctx, id, &said.prompt, &by);
    asked.runtime.carry();
    asked.answer(asked.done(DONE));
    Ok(Outcome::Done)
}
