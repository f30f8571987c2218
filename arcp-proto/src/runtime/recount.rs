//! What is held, in bytes: as it is counted in accounts, and counted once more.

use super::Runtime;
use super::account::HeldFor;
use super::job::recount_inputs;

/// Bytes that a runtime holds for something, roughly.
pub fn held_bytes(runtime: &Runtime, held_for: HeldFor) -> usize {
    runtime.ctx.accounts.runtime().bytes(held_for)
}

/// The same, counted once more over all that is there: costs as much as it holds.
pub fn recount(runtime: &Runtime, held_for: HeldFor) -> usize {
    let Runtime { ctx, connections, sessions, jobs, delivery } = runtime;
    match held_for {
        HeldFor::Records => ctx.log.recount(),
        HeldFor::Answers => connections.recount().0,
        HeldFor::Frames => connections.recount().1,
        HeldFor::Commands | HeldFor::Extensions => sessions.recount(held_for),
        HeldFor::Filters | HeldFor::Payloads | HeldFor::ReadBack => delivery.recount(held_for),
        HeldFor::Inputs => recount_inputs(jobs.table()),
    }
}
