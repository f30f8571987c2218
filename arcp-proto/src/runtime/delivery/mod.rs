//! Delivery: which events each session is sent, under which numbers, and which sessions each job
//! has. Six parts own this; [`Delivery`] does what concerns several of them.
//!
//! ```text
//! an event ──▶ Audiences, Subscriptions   its sessions
//!                  │
//!                  ▼
//!                Feeds ── Feed ── Index    its numbers, and how far each session
//!                  │                       was sent and has received them
//!                  ▼
//!              next, replay ◀── HistoryPool   events that are only in the store
//!                  │
//!                  ▼
//!               FrameWriter ◀── Rendered      payloads that several sessions share
//!                  │
//!                  ▼
//!               Pacing, lag                sessions that agents wait for, or that are detached
//! ```

mod audience;
mod audiences;
mod backfill;
mod buffers;
mod feed;
mod feeds;
mod filter;
mod frame;
mod history_pool;
mod index;
mod index_refs;
mod lag;
mod locals;
mod message_id;
mod next;
mod numbering;
mod pacing;
mod read_back;
mod release;
mod rendered;
mod replay;
mod requests;
mod subscription;
mod subscriptions;
mod watch;

use alloc::vec::Vec;
use core::ops::RangeInclusive;

pub(super) use audience::Audience;
pub(super) use audiences::Joining;
pub(super) use feed::Feed;
pub(super) use feeds::{be_viewed_by, go_beside};
pub(super) use index::{EventEntry, IndexEntry};
pub(super) use next::Next;
pub(super) use replay::{Replay, ReplayStep};
pub(super) use requests::Requests;
pub use subscription::id_of as subscription_id;
pub(super) use watch::{WatchPlan, asked_after, dismiss, hand_over, is_shown_too_much};

use super::account::{Balance, HeldFor, Recount};
use super::context::Context;
use super::io::{EventRecord, LocalWord, Numbered};
use super::job::{ChunkTerms, Jobs};
use crate::id::{JobId, LogPos, OpId, Principal, SessionId};
use crate::limits::Limits;
use crate::model::feature::Feature;
use crate::model::request::Filter;
use crate::runtime::expected::Expected as _;
use crate::wire::View;
use audiences::Audiences;
use buffers::Buffers;
use feeds::Feeds;
pub(super) use feeds::unacknowledged;
use frame::FrameWriter;
use history_pool::HistoryPool;
use numbering::Reader;
use pacing::Pacing;
use rendered::Rendered;
use subscription::NewSubscription;
use subscriptions::Subscriptions;

/// Callers ask a part directly if only that part is concerned.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) feeds: Feeds,
    pub(super) audiences: Audiences,
    pub(super) subscriptions: Subscriptions,
    pub(super) history: HistoryPool,
    pub(super) pacing: Pacing,
    pub(super) rendered: Rendered,
    pub(super) buffers: Buffers,
}

impl Delivery {
    /// Adds a session, opened or restored, without numbers.
    pub(super) fn open(&mut self, id: SessionId, principal: Principal, view: View, account: &Balance) {
        self.audiences.open_session(id, view.correlates(), account);
        self.feeds.open(id, principal, view, account);
    }

    /// A session lost its connection: no agent waits for it.
    pub(super) fn detach(&mut self, ctx: &mut Context, id: SessionId) {
        self.history.stop(ctx, id);
        self.feeds.detach(ctx, id);
        self.pacing.wake(ctx, &self.feeds, id);
    }

    /// Removes a session that has ended, with its watches and owned jobs.
    pub(super) fn close(&mut self, ctx: &mut Context, id: SessionId) {
        self.history.stop(ctx, id);
        self.subscriptions.close_session(id);
        self.audiences.close_session(id);
        self.feeds.close(ctx, id);
        self.pacing.wake(ctx, &self.feeds, id);
    }

    /// Whether nothing was ever numbered in a session, and nothing is to be.
    pub(super) fn is_unused(&self, id: SessionId) -> bool {
        self.feeds.get(id).is_some_and(|feed| feed.head() == 0) && self.audiences.watches(id) == 0
    }

    /// Whether a client that resumed the session would get nothing, and no more is to come.
    pub(super) fn has_nothing_left(&self, id: SessionId) -> bool {
        self.feeds.get(id).is_some_and(|feed| feed.has_nothing_left())
            && self.audiences.watches(id) == 0
            && self.subscriptions.numbers(id).next().is_none()
    }

    /// Adds a job, accepted or restored, without events or sessions.
    pub(super) fn add_job(&mut self, job: JobId) {
        self.audiences.add_job(job);
        self.feeds.add_job(job);
    }

    /// A job has ended, and its terminal is numbered: its watches and subscriptions end.
    pub(super) fn end_job(&mut self, job: JobId) {
        self.pacing.release(job);
        self.audiences.end_job(job);
        self.subscriptions.end_job(job);
    }

    /// Removes a job that is forgotten from its sessions.
    pub(super) fn remove_job(&mut self, job: JobId) {
        self.end_job(job);
        self.rendered.forget(job.into());
        self.audiences.remove_job(job);
        self.feeds.remove_job(job);
    }

    /// What the sessions that get the result of a job can read.
    pub(super) fn chunk_terms(&self, limits: &Limits, job: JobId) -> ChunkTerms {
        let audience = self.audiences.get(job);
        let feed = |id: &SessionId| self.feeds.get(*id);
        let mut owners = audience.into_iter().flat_map(Audience::owners).filter_map(feed);
        let mut watchers = audience.into_iter().flat_map(Audience::watchers).filter_map(feed);
        let reads_pieces = |feed: &Feed| feed.view.features.has(Feature::ResultChunk);
        let frames = watchers.clone().map(|feed| feed.view.result_frame_bytes(limits));
        ChunkTerms {
            frame_bytes: frames.min().unwrap_or(limits.frame.result_frame_bytes),
            owners_read_pieces: owners.all(reads_pieces),
            watchers_read_pieces: watchers.all(reads_pieces),
        }
    }

    /// Numbers new events (0: the job's acceptance) for all sessions that are shown the job.
    pub(super) fn number_for_all(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        job: JobId,
        events: RangeInclusive<u64>,
        but: Option<SessionId>,
    ) {
        let is_acceptance = *events.start() == 0;
        if let Some(audience) = self.audiences.get(job).filter(|_| !is_acceptance) {
            for watcher in audience.watchers().iter().filter(|watcher| Some(**watcher) != but) {
                let request = audience.requests().latest(*watcher);
                self.feeds.number(ctx, jobs, Reader::watcher(*watcher, request).live(), job, events.clone());
            }
        }
        for (session, number) in self.subscriptions.of_job(job).iter().filter(|(session, _)| Some(*session) != but) {
            let Some(filter) = self.subscriptions.filter(*session, *number) else {
                debug_assert!(false, "subscription {number} of {session} is shown {job}");
                continue;
            };
            let first = self.feeds.head(*session) + 1;
            self.feeds.number(ctx, jobs, Reader::subscription(*session, *number, filter).live(), job, events.clone());
            if is_acceptance {
                self.feeds.gate(ctx, *session, first);
            }
        }
    }

    /// Numbers an earlier event (0: the job's acceptance) for one session; returns its number.
    pub(super) fn number_again(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId, n: u64) -> u64 {
        let first = self.feeds.head(id) + 1;
        self.number_for(ctx, jobs, id, job, n..=n);
        self.feeds.gate(ctx, id, first);
        first
    }

    /// Numbers events for one session as a watcher of the job.
    fn number_for(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId, events: RangeInclusive<u64>) {
        let request = self.audiences.get(job).map_or(0, |audience| audience.requests().latest(id));
        self.feeds.number(ctx, jobs, Reader::watcher(id, request), job, events);
    }

    /// Restores numbers of an earlier run. Older versions did not record the trace of a local
    /// frame.
    pub(super) fn restore_numbers(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, mut numbered: Numbered) {
        if let Numbered::Local { frame, .. } = &mut numbered
            && let Some(about) = frame.about_mut().filter(|about| about.trace.is_empty())
            && let Some(known) = self.audiences.about(jobs, id, about.job)
        {
            *about = known;
        }
        self.feeds.restore_numbers(ctx, jobs, id, numbered);
    }

    /// All records of a session are restored.
    pub(super) fn restored(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId) {
        let (audiences, subscriptions) = (&self.audiences, &self.subscriptions);
        self.feeds.restored(ctx, jobs, id, |number, log| match number {
            0 => log.job().is_some_and(|job| audiences.is_watched_by(id, job)),
            number => subscriptions.filter(id, number).is_some(),
        });
    }

    /// Numbers the history of a new subscription, and the events from then on.
    pub(super) fn begin_subscription(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        session: SessionId,
        new: NewSubscription,
    ) {
        let NewSubscription { number, filter, at, backfill } = new;
        let first = self.feeds.head(session) + 1;
        for (job, from) in backfill.jobs {
            let last = jobs.get(job).map_or(0, super::job::Job::count);
            self.feeds.number(ctx, jobs, Reader::subscription(session, number, &filter), job, from..=last);
        }
        let Some(feed) = self.feeds.get(session).expected("who subscribes has a feed") else {
            return;
        };
        self.subscriptions.begin(ctx, jobs, (session, feed), number, (filter, at));
        self.feeds.begin_to_catch_up(session, first);
        self.feeds.gate(ctx, session, first);
        if backfill.bounded {
            self.feeds.number_local(ctx, session, LocalWord::Boundary { subscription: number });
        }
    }

    /// Ends a subscription. Its client is told once everything that was numbered for it is sent.
    pub(super) fn unsubscribe(&mut self, ctx: &mut Context, session: SessionId, number: u32) {
        self.subscriptions.unsubscribe(ctx, session, number);
        self.feeds.close_streams_of(session, number);
    }

    /// Restores a subscription of an earlier run.
    pub(super) fn restore_subscription(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        number: u32,
        filter: &Filter,
        at: LogPos,
    ) {
        if let Some(feed) = self.feeds.get(id) {
            self.subscriptions.restore(ctx, (id, &feed.principal), number, filter, at);
        }
    }

    /// Restores that an earlier run ended a subscription.
    pub(super) fn restore_unsubscribed(&mut self, id: SessionId, number: u32, last: u32) {
        if let Some(feed) = self.feeds.get(id) {
            self.subscriptions.restore_unsubscribed((id, &feed.principal), number, last);
        }
    }

    /// Takes events that the store gave back, or its failure.
    pub(super) fn on_loaded(&mut self, ctx: &mut Context, op: OpId, events: Option<Vec<EventRecord>>) {
        let conn = self.history.reader_of(op).and_then(|reader| self.feeds.conn(reader));
        self.history.on_loaded(ctx, conn, op, events);
    }

    /// The store takes too long to give events back to a session.
    pub(super) fn on_read_failed(&mut self, ctx: &mut Context, id: SessionId) {
        self.history.on_failed(ctx, id, self.feeds.conn(id));
    }

    /// Finds the session that the agent of a job has to wait for, if any.
    pub(super) fn pace(&mut self, limits: &Limits, job: JobId) -> Option<SessionId> {
        self.pacing.pace(limits, &self.feeds, job, self.audiences.get(job))
    }

    /// The first event of a job that must stay in memory because an attached session, which paces
    /// the agent, was not sent it.
    pub(super) fn first_unsent(&self, jobs: &Jobs, job: JobId) -> u64 {
        self.audiences.get(job).map_or(u64::MAX, |audience| self.feeds.first_unsent(jobs, job, audience))
    }

    /// Whether a session that owns an ended job is attached and was not sent all events that came
    /// while it was attached.
    pub(super) fn is_owed(&self, job: JobId) -> bool {
        self.audiences.get(job).is_some_and(|audience| self.feeds.is_owed(job, audience))
    }

    /// Counts again what is held for sessions.
    pub(super) fn recount(&self, ctx: &Context, recount: &mut Recount<'_>) {
        feeds::recount(&self.feeds, recount);
        self.audiences.recount(recount);
        self.subscriptions.recount(recount);
        self.history.recount(&self.feeds, recount);
        recount.add(ctx.accounts.runtime(), HeldFor::Payloads, self.rendered.recount());
    }

    fn frames<'a>(&'a mut self, ctx: &'a Context, jobs: &'a Jobs) -> FrameWriter<'a> {
        let Delivery { feeds, audiences, history, rendered, buffers, .. } = self;
        FrameWriter {
            jobs,
            feeds,
            audiences,
            history,
            rendered,
            buffers,
            keeps: (ctx.accounts.runtime(), ctx.config.limits.delivery.rendered_bytes),
        }
    }
}
