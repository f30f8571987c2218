//! Watching jobs (1.1 §7.6): by sessions that may see them, and by those that have a token.

use super::requests::RequestHandler;
use crate::error::{ErrorCode, Violation};
use crate::id::JobId;
use crate::model::feature::Feature;
use crate::model::reply::{CommandReply, Reply};
use crate::model::request::Watch;
use crate::runtime::Runtime;
use crate::runtime::authority::Act;
use crate::runtime::delivery::WatchPlan;
use crate::runtime::io::Notice;
use crate::runtime::session::Outcome;

/// How a job is watched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    /// Whether its events are counted as the job counts them, whatever the client's profile.
    pub(super) counts_in_job: bool,
    /// Whether the session becomes an owner of the job.
    pub(super) owns: bool,
}

/// Begins a watch of a job.
///
/// # Errors
///
/// If the session may not see the job, watches too many, or requests deleted history.
pub(super) fn on_watch(asked: &mut RequestHandler<'_>, watch: &Watch) -> Result<Outcome, Violation> {
    let session = asked.runtime.sessions.get(asked.session);
    if !session.is_some_and(|session| session.view().features.has(Feature::WatchJobs)) {
        return Err(Violation::invalid("watching jobs needs the feature `subscribe`, which was not negotiated"));
    }
    let id = asked.permitted(Act::See, &watch.job)?;
    show(asked, id, watch, Watched::default())
}

/// Begins a watch of a job that the session may see.
///
/// # Errors
///
/// If the session watches too many jobs, or requests deleted history.
pub(super) fn show(
    asked: &mut RequestHandler<'_>,
    id: JobId,
    watch: &Watch,
    how: Watched,
) -> Result<Outcome, Violation> {
    let gone = || Violation::new(ErrorCode::JobNotFound, "no such job");
    let features = asked.runtime.sessions.get(asked.session).ok_or_else(gone)?.view().features;
    let Runtime { ctx, jobs, delivery, .. } = &mut *asked.runtime;
    let plan = WatchPlan::new(ctx, jobs, delivery, (asked.session, id), watch, how.counts_in_job)?;
    let owns = how.owns && delivery.audiences.own(asked.session, id);
    let job = jobs.get(id).ok_or_else(gone)?;
    let reply = Reply::Command(CommandReply::Watching(job.watching(&asked.id, plan.from, plan.replayed)));
    let outcome = Outcome::Watching { job: id, from: plan.from, replayed: plan.replayed };
    if plan.already {
        if owns {
            delivery.audiences.note_owner(ctx, asked.session, id);
        }
        asked.answer(reply);
        return Ok(outcome);
    }
    if !features.has(Feature::ResultChunk) {
        // If this fails the watch is not refused.
        let _ = asked.put_result_together(id);
    }
    let Runtime { ctx, delivery, .. } = &mut *asked.runtime;
    delivery.audiences.note_watch(ctx, asked.session, id, &asked.id, owns);
    asked.answer(reply);
    let Runtime { ctx, jobs, delivery, connections, .. } = &mut *asked.runtime;
    let shown = delivery.begin_watch(ctx, jobs, asked.session, id, plan.from);
    if let Some((conn, seq)) = connections.get_mut(asked.conn).zip(shown) {
        // Later answers follow the open questions.
        conn.follow(seq);
    }
    ctx.observe(Notice::JobWatched { job: id, session: asked.session });
    asked.runtime.carry();
    Ok(outcome)
}
