//! Who gets the events of a job: its submitter, whoever came by its key, and
//! who watches it (1.1 §7.6).

use alloc::vec::Vec;

use super::Delivery;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, LogPos, SessionId, WireId};
use crate::json::Object;
use crate::model::request::Watch;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::Record;
use crate::runtime::job::{Job, Jobs};

/// What a watch comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct WatchPlan {
    /// Whether its session gets the events, or the end, in any case.
    pub(in crate::runtime) already: bool,
    /// The job's own event number after which events are sent.
    pub(in crate::runtime) from: u64,
    /// Whether there is history among them.
    pub(in crate::runtime) replayed: bool,
}

impl Delivery {
    /// What a watch of a job would come to.
    ///
    /// # Errors
    ///
    /// If the session watches too much, or what it asks for is gone.
    pub(in crate::runtime) fn plan_watch(
        &self,
        ctx: &Context,
        jobs: &Jobs,
        session: SessionId,
        job_id: JobId,
        watch: &Watch,
    ) -> Result<WatchPlan, Violation> {
        let gone = || Violation::new(ErrorCode::JobNotFound, "no such job");
        let feed = self.feeds.get(&session).ok_or_else(gone)?;
        let job = jobs.get(job_id).ok_or_else(gone)?;
        let watches = self.audiences.get(&job_id).is_some_and(|audience| audience.watchers.contains(&session));
        let already = watches || feed.is_owed_the_end(job_id, job);
        let replayed = watch.history.unwrap_or(watch.after.is_some()) && !already;
        let most = ctx.config.limits.watches_per_session;
        if !already && feed.jobs.watched.len() >= most {
            let full = "this session watches too many jobs: unsubscribe from one first";
            return Err(Violation::exhausted("watches_per_session", BoundOf::Session, most as u64, full));
        }
        let from = if replayed { self.replay_start(jobs, session, job_id, watch) } else { job.count() };
        let gone_events = job.history().first() - 1;
        if replayed && from < gone_events {
            return Err(self.history_lost(session, gone_events));
        }
        Ok(WatchPlan { already, from, replayed })
    }

    fn replay_start(&self, jobs: &Jobs, session: SessionId, job_id: JobId, watch: &Watch) -> u64 {
        let (after, job) = (watch.after.unwrap_or(0), jobs.get(job_id));
        let submitter = job.and_then(|job| self.feeds.get(&job.submitter()));
        match submitter {
            Some(submitter) if self.counts_in_submitter(session) => {
                submitter.index.event_at_or_before(job_id, after, jobs)
            }
            Some(_) | None => after.min(job.map_or(0, Job::count)),
        }
    }

    fn counts_in_submitter(&self, session: SessionId) -> bool {
        self.feeds.get(&session).is_some_and(|feed| feed.view.profile.counts_in_submitter())
    }

    /// The refusal of a history that is no longer kept. It says from where on it
    /// can be had, to a client that counts events as the job does.
    fn history_lost(&self, session: SessionId, gone: u64) -> Violation {
        if self.counts_in_submitter(session) {
            let lost = "the beginning of this job's history is no longer kept: ask from a later event";
            return Violation::new(ErrorCode::ResumeWindowExpired, lost);
        }
        let lost = alloc::format!("the first {gone} events of this job are no longer kept: ask for those after them");
        let mut details = Object::new();
        details.u64("from_event_seq", gone);
        Violation::new(ErrorCode::ResumeWindowExpired, lost).with_details(details.json())
    }

    /// Notes that a session watches a job from here on, and by which request; the
    /// history is [numbered](Self::begin_watch) after it was told.
    pub(in crate::runtime) fn note_watch(
        &mut self,
        ctx: &mut Context,
        session: SessionId,
        job: JobId,
        request: &WireId,
    ) {
        let most = ctx.config.limits.requests_per_job;
        let requests = self.audiences.get(&job).map(|audience| &audience.requests);
        let is_new = requests.is_some_and(|requests| requests.number_of(session, request).is_none());
        // Where there are too many, frames follow from the one before.
        if is_new && requests.is_some_and(|requests| requests.count() < most) {
            let number = self.note_request(session, job, request);
            let request = (number > 0).then(|| request.clone());
            return self.note_joined(ctx, job, session, false, request, number);
        }
        let number = requests.map_or(0, |requests| requests.latest(session));
        self.note_joined(ctx, job, session, false, None, number);
    }

    /// Records that a session gets the events of a job from now on, whether it
    /// owns the job by that, and from which of its requests they follow; the
    /// request itself, if it is new. However often it comes and leaves, of the
    /// records that say nothing else the store keeps the last.
    pub(in crate::runtime) fn note_joined(
        &mut self,
        ctx: &mut Context,
        job: JobId,
        session: SessionId,
        owner: bool,
        request: Option<WireId>,
        number: u32,
    ) {
        let undoes = self.take_join(job, session);
        let says_more = owner || request.is_some();
        let at = ctx.append(Record::Joined { job, session, owner, request, number, undoes });
        if !says_more {
            self.replace_join(job, session, at);
        }
    }

    /// Records that a session gets no more events of a job.
    pub(in crate::runtime) fn note_left(&mut self, ctx: &mut Context, job: JobId, session: SessionId) {
        let undoes = self.take_join(job, session);
        let at = ctx.append(Record::Left { job, session, undoes });
        self.replace_join(job, session, at);
    }

    /// The next record of a session's joining or leaving replaces the one at `at`.
    pub(in crate::runtime) fn replace_join(&mut self, job: JobId, session: SessionId, at: LogPos) {
        if let (Some(audience), Some(feed)) = (self.audiences.get_mut(&job), self.feeds.get_mut(&session)) {
            audience.joins.insert(session, at);
            feed.jobs.requested.insert(job);
        }
    }

    /// Where the record stands that the next one replaces; 0 if there is none.
    fn take_join(&mut self, job: JobId, session: SessionId) -> LogPos {
        self.audiences.get_mut(&job).and_then(|audience| audience.joins.remove(&session)).unwrap_or_default()
    }

    /// Numbers the history of a job after `from` for a session, and what comes.
    pub(in crate::runtime) fn begin_watch(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        session: SessionId,
        job_id: JobId,
        from: u64,
    ) {
        let Some(job) = jobs.get(job_id) else {
            return;
        };
        let (last, first) = (job.count(), self.feeds.get(&session).map_or(0, |feed| feed.head()) + 1);
        self.number(ctx, jobs, session, job_id, from + 1..=last, 0);
        if let Some(feed) = self.feeds.get_mut(&session).filter(|_| from < last) {
            feed.begin_to_catch_up(first);
        }
        self.gate(ctx, session, first);
        if !job.is_terminal() {
            self.join(session, job_id);
        }
    }

    /// A session gets new events of a job; true if it did not.
    pub(in crate::runtime) fn join(&mut self, session: SessionId, job: JobId) -> bool {
        let (Some(feed), Some(audience)) = (self.feeds.get_mut(&session), self.audiences.get_mut(&job)) else {
            return false;
        };
        let joins = !audience.watchers.contains(&session);
        if joins {
            audience.watchers.push(session);
        }
        feed.jobs.watched.insert(job);
        joins
    }

    /// Numbers the end of a job that is over for a session that came back to it,
    /// unless that is still owed.
    pub(in crate::runtime) fn number_end(&mut self, ctx: &mut Context, jobs: &Jobs, session: SessionId, id: JobId) {
        let Some(job) = jobs.get(id).filter(|job| job.is_terminal()) else {
            return;
        };
        if self.feeds.get(&session).is_some_and(|feed| !feed.is_owed_the_end(id, job)) {
            self.number_past(ctx, jobs, session, id, job.count());
        }
    }

    /// A session may cancel a job; true if it could not.
    pub(in crate::runtime) fn own(&mut self, session: SessionId, job: JobId) -> bool {
        let (Some(feed), Some(audience)) = (self.feeds.get_mut(&session), self.audiences.get_mut(&job)) else {
            return false;
        };
        feed.jobs.owned.insert(job);
        audience.owners.insert(session)
    }

    /// Notes the request by which a session came to know a job, if its frames
    /// say so; gives its number, or 0.
    pub(in crate::runtime) fn note_request(&mut self, session: SessionId, job: JobId, request: &WireId) -> u32 {
        let feed = self.feeds.get_mut(&session).filter(|feed| feed.view.correlates());
        let (Some(feed), Some(audience)) = (feed, self.audiences.get_mut(&job)) else {
            return 0;
        };
        feed.jobs.requested.insert(job);
        audience.requests.add(session, request)
    }

    /// Takes over the request from which frames of a job follow since an earlier
    /// run: a new one, or one that is known.
    pub(in crate::runtime) fn restore_request(
        &mut self,
        session: SessionId,
        job: JobId,
        number: u32,
        request: Option<WireId>,
    ) {
        let (Some(feed), Some(audience)) = (self.feeds.get_mut(&session), self.audiences.get_mut(&job)) else {
            return;
        };
        match request {
            Some(request) => {
                feed.jobs.requested.insert(job);
                audience.requests.restore(session, number, request);
            }
            None => audience.requests.follow(session, number),
        }
    }

    /// What happens from now on is not numbered for a session that is over.
    pub(in crate::runtime) fn show_nothing_more(&mut self, ctx: &mut Context, session: SessionId) {
        let Some(feed) = self.feeds.get(&session) else {
            return;
        };
        let (watched, subscriptions) = (feed.jobs.watched.clone(), feed.subscriptions.numbers().collect::<Vec<u32>>());
        for job in watched {
            self.leave(ctx, job, session);
        }
        for number in subscriptions {
            self.forget_subscription(session, number);
        }
    }

    /// A session gets no more events of a job.
    pub(in crate::runtime) fn leave(&mut self, ctx: &mut Context, job: JobId, session: SessionId) {
        if let Some(audience) = self.audiences.get_mut(&job) {
            audience.watchers.retain(|watcher| *watcher != session);
        }
        if let Some(feed) = self.feeds.get_mut(&session) {
            feed.jobs.watched.remove(&job);
            feed.jobs.streams.remove(&job);
        }
        if self.paced.by(job) == Some(session) {
            ctx.effect(Effect::CreditOwed(job));
        }
    }
}
