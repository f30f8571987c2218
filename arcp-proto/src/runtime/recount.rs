//! How it stands with a runtime, for who operates it; what is held, in bytes, as it is counted in
//! accounts, and counted once more.

use alloc::vec::Vec;

use super::Runtime;
use super::account::{HeldFor, Miscount, Recount};
use super::{connection, delivery, job};
use crate::id::{ConnId, Principal};
use crate::time::Timestamp;

/// Bytes that a runtime holds for something, roughly.
pub fn held_bytes(runtime: &Runtime, held_for: HeldFor) -> usize {
    runtime.ctx.accounts.runtime().bytes(held_for)
}

/// Bytes that it holds for something of one principal, or of all that share their
/// network if nobody vouches for that one.
pub fn held_bytes_of(runtime: &Runtime, principal: &Principal, held_for: HeldFor) -> usize {
    runtime.ctx.accounts.bytes(&principal.account(), held_for)
}

/// How many artifacts a runtime keeps, and how many bytes they have: all of them, or those of
/// a principal, with those that share their network with it if nobody vouches for that one.
pub fn kept_artifacts(runtime: &Runtime, principal: Option<&Principal>) -> (usize, u64) {
    runtime.artifacts.kept_of(principal.map(Principal::account).as_ref())
}

/// Jobs whose credentials, or some of them, ought to be revoked and may count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrevoked {
    /// How many there are.
    pub jobs: usize,
    /// Since when that is so of the first of them, in this run of the runtime.
    pub since: Option<Timestamp>,
}

/// Jobs whose credentials could not be revoked when that was asked for, or not before
/// their end was due, and those that were issued too late, or perhaps.
pub fn unrevoked_credentials(runtime: &Runtime) -> Unrevoked {
    let mut all = Unrevoked::default();
    for since in runtime.jobs.credentials.unrevoked() {
        all.jobs += 1;
        all.since = Some(all.since.map_or(since, |first| first.min(since)));
    }
    all
}

/// Whether no new jobs are accepted because it is to end.
pub fn is_draining(runtime: &Runtime) -> bool {
    runtime.ctx.draining
}

/// How many numbered frames each session has not acknowledged that has a connection
/// and whose client agreed to acknowledge. Costs as much as there are sessions.
pub fn unacknowledged(runtime: &Runtime) -> Vec<u64> {
    delivery::unacknowledged(&runtime.delivery.feeds).collect()
}

/// The accounts of which something else is counted than is there: none. Costs as
/// much as the runtime holds.
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

/// Whether a peer that says nothing more is still to be told something in answer to what
/// it has said: it is being judged or checked, or waits for its turn, for the store or for
/// credit. A transport whose peer has ended its side closes it after that.
pub fn owes(runtime: &Runtime, conn: ConnId) -> bool {
    let session = runtime.connections.session(conn).and_then(|session| runtime.delivery.feeds.get(session));
    connection::owes(&runtime.connections, conn, session.map_or(0, |feed| feed.position().cursor))
}
