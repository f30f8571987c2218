//! Watching a job: its events from now on, or from the event that a client names (1.1 §7.6).

use alloc::vec::Vec;

use super::Delivery;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, SessionId};
use crate::json::Object;
use crate::model::request::Watch;
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::job::{Job, Jobs, prompts};

/// What a watch would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct WatchPlan {
    /// Whether its session gets the events, or the terminal, anyway.
    pub(in crate::runtime) already: bool,
    /// The job's own event number after which events are sent.
    pub(in crate::runtime) from: u64,
    /// Whether they include history.
    pub(in crate::runtime) replayed: bool,
}

impl WatchPlan {
    /// What a watch of a job would do. `counts_in_job`: events are counted as the job counts them,
    /// whatever the client's profile says.
    ///
    /// # Errors
    ///
    /// If the session watches too many jobs, or the history that it requests is deleted.
    pub(in crate::runtime) fn new(
        ctx: &Context,
        jobs: &Jobs,
        delivery: &Delivery,
        (session, job_id): (SessionId, JobId),
        watch: &Watch,
        counts_in_job: bool,
    ) -> Result<WatchPlan, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "no such job");
        let feed = delivery.feeds.get(session).ok_or_else(gone)?;
        let job = jobs.get(job_id).ok_or_else(gone)?;
        let already = delivery.audiences.is_watched_by(session, job_id) || feed.is_owed_the_end(job_id, job);
        let replayed = watch.history.unwrap_or(watch.after.is_some()) && !already;
        let most = ctx.config.limits.session.watches_per_session;
        if !already && delivery.audiences.watches(session) >= most {
            let full = "this session watches too many jobs: unsubscribe from one first";
            return Err(Violation::exhausted("watches_per_session", BoundOf::Session, most as u64, full));
        }
        // Some published clients count events as the submitter's session does.
        let counts_in_submitter = !counts_in_job && feed.view.profile.counts_in_submitter();
        let from = match delivery.feeds.get(job.submitter()).filter(|_| counts_in_submitter) {
            _ if !replayed => job.count(),
            Some(submitter) => submitter.index().event_at_or_before(job_id, watch.after.unwrap_or(0), jobs),
            None => watch.after.unwrap_or(0).min(job.count()),
        };
        let gone_events = job.history().first() - 1;
        if replayed && from < gone_events {
            return Err(history_lost(counts_in_submitter, gone_events));
        }
        Ok(WatchPlan { already, from, replayed })
    }
}

/// The refusal of a deleted history. A client that counts events as the job does is told from where
/// on it can ask.
fn history_lost(counts_in_submitter: bool, gone: u64) -> Violation {
    if counts_in_submitter {
        let lost = "the beginning of this job's history is no longer kept: ask from a later event";
        return Violation::new(ErrorCode::ResumeWindowExpired, lost);
    }
    let lost = alloc::format!("the first {gone} events of this job are no longer kept: ask for those after them");
    let mut details = Object::new();
    details.u64("from_event_seq", gone);
    Violation::new(ErrorCode::ResumeWindowExpired, lost).with_details(details.json())
}

/// The last number after `seq` of an open question in the jobs that a session watches; 0 if there
/// is none.
pub(in crate::runtime) fn asked_after(delivery: &Delivery, jobs: &Jobs, session: SessionId, seq: u64) -> u64 {
    let Some(feed) = delivery.feeds.get(session) else {
        return 0;
    };
    let watched = delivery.audiences.watched(session).filter_map(|id| Some((id, jobs.get(id)?)));
    let asked = watched.flat_map(|(id, job)| prompts::open_events(job).map(move |event| (id, event)));
    asked.filter_map(|(id, event)| feed.index.number_after(seq, id, event, jobs)).max().unwrap_or(0)
}

impl Delivery {
    /// Numbers the open questions of a job, its history after `from`, and later events, for a
    /// session. Returns the number of the last open question from before the history, if there is
    /// one.
    pub(in crate::runtime) fn begin_watch(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        session: SessionId,
        job_id: JobId,
        from: u64,
    ) -> Option<u64> {
        let job = jobs.get(job_id)?;
        let first = self.feeds.head(session) + 1;
        // An open question is no history: a session that comes later may answer it.
        let shown = self.feeds.get(session).map_or(0, |feed| feed.index.event_at_or_before(job_id, feed.head(), jobs));
        for asked in
            prompts::open_events(job).filter(|n| *n > shown && *n <= from && job.keeps(*n)).collect::<Vec<u64>>()
        {
            self.number_for(ctx, jobs, session, job_id, asked..=asked);
        }
        let asked = Some(self.feeds.head(session)).filter(|head| *head >= first);
        self.number_for(ctx, jobs, session, job_id, from + 1..=job.count());
        self.feeds.begin_to_catch_up(session, first);
        self.feeds.gate(ctx, session, first);
        if !job.is_terminal() {
            self.audiences.join(session, job_id);
        }
        asked
    }

    /// Numbers the terminal of an ended job for a session that returned to it, unless the session
    /// will be sent it anyway.
    pub(in crate::runtime) fn number_end(&mut self, ctx: &mut Context, jobs: &Jobs, session: SessionId, id: JobId) {
        let Some(job) = jobs.get(id).filter(|job| job.is_terminal()) else {
            return; // The job still runs; its end will be numbered when it comes.
        };
        if self.feeds.get(session).is_some_and(|feed| !feed.is_owed_the_end(id, job)) {
            self.number_again(ctx, jobs, session, id, job.count());
        }
    }

    /// Makes a session get no more events of a job.
    pub(in crate::runtime) fn leave(&mut self, ctx: &mut Context, session: SessionId, job: JobId) {
        self.audiences.leave(session, job);
        self.feeds.close_stream(session, 0, job);
        self.pacing.stop(ctx, session, job);
    }

    /// Stops numbering for a session that has ended.
    pub(in crate::runtime) fn show_nothing_more(&mut self, ctx: &mut Context, session: SessionId) {
        for job in self.audiences.watched(session).collect::<Vec<JobId>>() {
            self.leave(ctx, session, job);
        }
        for number in self.subscriptions.numbers(session).collect::<Vec<u32>>() {
            self.subscriptions.forget(session, number);
            self.feeds.close_streams_of(session, number);
        }
    }
}

/// A job was handed over to another principal, in this session: no other session may cancel it, and
/// sessions that may not see it are shown no more of it. Returns the sessions that watched it and
/// may not see it.
pub(in crate::runtime) fn hand_over(
    delivery: &mut Delivery,
    ctx: &mut Context,
    jobs: &Jobs,
    id: JobId,
    session: SessionId,
) -> Vec<SessionId> {
    delivery.audiences.own_alone(session, id);
    let Some(job) = jobs.get(id) else {
        return Vec::new(); // The job was forgotten.
    };
    let subscribed = delivery.subscriptions.of_job(id).iter().copied();
    let unsubscribed: Vec<(SessionId, u32)> =
        subscribed.filter(|(session, _)| !may_see(delivery, ctx, *session, job)).collect();
    let losing = dismiss(delivery, ctx, jobs, id);
    unsubscribed.into_iter().for_each(|(session, number)| delivery.feeds.close_stream(session, number, id));
    // Subscriptions whose principal may see it are shown it again.
    delivery.subscriptions.end_job(id);
    losing
}

/// Sessions that watch a job and may not see it are shown no more of it; returns them.
pub(in crate::runtime) fn dismiss(
    delivery: &mut Delivery,
    ctx: &mut Context,
    jobs: &Jobs,
    id: JobId,
) -> Vec<SessionId> {
    let (Some(job), Some(audience)) = (jobs.get(id), delivery.audiences.get(id)) else {
        return Vec::new(); // The job was forgotten.
    };
    let watchers = audience.watchers().iter().copied();
    let losing: Vec<SessionId> = watchers.filter(|watcher| !may_see(delivery, ctx, *watcher, job)).collect();
    losing.iter().for_each(|watcher| delivery.leave(ctx, *watcher, id));
    losing
}

fn may_see(delivery: &Delivery, ctx: &Context, session: SessionId, job: &Job) -> bool {
    delivery.feeds.get(session).is_some_and(|feed| authority::sees(&ctx.config, feed.viewer(), job))
}

/// Whether a session is shown a job that it may not see.
pub(in crate::runtime) fn is_shown_too_much(
    delivery: &Delivery,
    ctx: &Context,
    jobs: &Jobs,
    session: SessionId,
) -> bool {
    let mut shown = delivery.audiences.watched(session).chain(delivery.subscriptions.shown_to(session));
    shown.any(|id| jobs.get(id).is_some_and(|job| !may_see(delivery, ctx, session, job)))
}
