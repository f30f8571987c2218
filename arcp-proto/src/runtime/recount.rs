//! Counts about a runtime for its operator: what it holds in bytes, as counted in accounts and as
//! counted again.

use alloc::vec::Vec;

use super::Runtime;
use super::account::{HeldFor, Miscount, Recount};
use super::{connection, delivery, job};
use crate::id::{ConnId, Principal};
use crate::time::Timestamp;

/// Bytes that a runtime holds for a purpose, approximately.
pub fn held_bytes(runtime: &Runtime, held_for: HeldFor) -> usize {
    runtime.ctx.accounts.runtime().bytes(held_for)
}

/// Bytes that a runtime holds for a purpose of one principal; for an anonymous one, of all
/// anonymous principals of its network.
pub fn held_bytes_of(runtime: &Runtime, principal: &Principal, held_for: HeldFor) -> usize {
    runtime.ctx.accounts.bytes(&principal.account(), held_for)
}

/// How many artifacts a runtime keeps, and their bytes: all of them, or those of a principal; for
/// an anonymous one, of all anonymous principals of its network.
pub fn kept_artifacts(runtime: &Runtime, principal: Option<&Principal>) -> (usize, u64) {
    runtime.artifacts.kept_of(principal.map(Principal::account).as_ref())
}

/// Jobs that have credentials which should be revoked and may still be valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrevoked {
    /// The number of such jobs.
    pub jobs: usize,
    /// Since when the first of them is such a job, in this run of the runtime.
    pub since: Option<Timestamp>,
}

/// Jobs whose credentials could not be revoked, or not before the job's end was due, and those
/// whose credentials were issued too late, or may have been.
pub fn unrevoked_credentials(runtime: &Runtime) -> Unrevoked {
    let mut all = Unrevoked::default();
    for since in runtime.jobs.credentials.unrevoked() {
        all.jobs += 1;
        all.since = Some(all.since.map_or(since, |first| first.min(since)));
    }
    all
}

/// Whether new jobs are refused because the runtime is to end.
pub fn is_draining(runtime: &Runtime) -> bool {
    runtime.ctx.draining
}

/// For each connected session whose client agreed to acknowledge: how many numbered frames it has
/// not acknowledged. Costs time in proportion to the sessions.
pub fn unacknowledged(runtime: &Runtime) -> Vec<u64> {
    delivery::unacknowledged(&runtime.delivery.feeds).collect()
}

/// The accounts whose counts differ from what they hold; there should be none. Costs time in
/// proportion to what the runtime holds.
pub fn miscounts(runtime: &Runtime) -> Vec<Miscount> {
    let Runtime { ctx, connections, sessions, jobs, delivery, artifacts, schedules, workflows, fingerprint: _ } =
        runtime;
    let mut recount = Recount::new(&ctx.accounts);
    ctx.log.recount(&mut recount);
    ctx.trail.recount(&mut recount);
    connections.recount(&mut recount);
    sessions.recount(&mut recount);
    job::recount(jobs, &mut recount);
    delivery.recount(ctx, &mut recount);
    artifacts.recount(&mut recount);
    schedules.recount(&mut recount);
    workflows.recount(&mut recount);
    recount.miscounts()
}

/// Whether the peer of a connection is still to get answers to what it has sent. An answer may wait
/// for a verdict, a check, its turn, the store or credit. When a peer has closed its side, the
/// transport closes the connection once this is false.
pub fn owes(runtime: &Runtime, conn: ConnId) -> bool {
    let session = runtime.connections.session(conn).and_then(|session| runtime.delivery.feeds.get(session));
    connection::owes(&runtime.connections, conn, session.map_or(0, |feed| feed.position().cursor))
}
