//! Delivery: which events each session is shown, under which numbers, and who
//! each job is for. It keeps both sides of that: a [`Feed`] for each session
//! and an [`Audience`] for each job.
//!
//! ```text
//! an event ──▶ numbering ──▶ index of each feed ──▶ next / replay ──▶ frame
//!                │                │    ▲                  │
//!              gates           release └──── read_back ◀──┘ (what is in the store only)
//! ```

mod audience;
mod feed;
mod frame;
mod index;
mod next;
mod numbering;
mod pacing;
mod read_back;
mod release;
mod rendered;
mod replay;
mod requests;
mod subscription;
mod watch;

use alloc::collections::{BTreeMap, BTreeSet};

pub(super) use audience::Audience;
pub(super) use feed::Feed;
pub(super) use index::IndexEntry;
pub(super) use next::Next;
pub(super) use replay::{Replay, ReplayStep};
pub(super) use requests::Requests;
pub(super) use subscription::id_of as subscription_id;

use super::context::Context;
use super::job::{ChunkTerms, Jobs};
use super::timers::Timer;
use crate::id::{ConnId, JobId, OpId, Principal, SessionId};
use crate::limits::Limits;
use crate::model::feature::Feature;
use crate::principal::Account;
use crate::wire::View;
use index::tag;
use pacing::PacedJobs;
use rendered::Rendered;

#[derive(Debug, Default)]
pub(super) struct Delivery {
    feeds: BTreeMap<SessionId, Feed>,
    /// By what the message ids of a session have in common.
    by_tag: BTreeSet<(u64, SessionId)>,
    audiences: BTreeMap<JobId, Audience>,
    /// Sessions with subscriptions.
    subscribed: BTreeMap<Account, BTreeSet<SessionId>>,
    paced: PacedJobs,
    /// Who waits for events from the store.
    loads: BTreeMap<OpId, SessionId>,
    /// Bytes of events read back and not sent yet.
    ahead_bytes: usize,
    rendered: Rendered,
    /// Runs of all indexes.
    runs: usize,
}

impl Delivery {
    /// A session begins, or is restored, without numbers.
    pub(super) fn open(&mut self, id: SessionId, principal: Principal, view: View) {
        self.by_tag.insert((tag(id.ulid()), id));
        self.feeds.insert(id, Feed::new(principal, view));
    }

    pub(super) fn feed(&self, id: SessionId) -> Option<&Feed> {
        self.feeds.get(&id)
    }

    pub(super) fn audience(&self, job: JobId) -> Option<&Audience> {
        self.audiences.get(&job)
    }

    /// The connection that a session is attached to.
    pub(super) fn conn(&self, id: SessionId) -> Option<ConnId> {
        self.feeds.get(&id)?.conn
    }

    /// Runs of all indexes.
    pub(super) fn runs(&self) -> usize {
        self.runs
    }

    /// Bytes of events that attached sessions are behind.
    pub(super) fn unsent_bytes(&self) -> usize {
        let attached = self.feeds.values().filter(|feed| feed.conn.is_some());
        attached.map(Feed::unsent_bytes).sum()
    }

    /// Bytes of events read back and not sent yet.
    pub(super) fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// Bytes of payloads kept because several sessions get them.
    pub(super) fn rendered_bytes(&self) -> usize {
        self.rendered.bytes()
    }

    /// Attaches a session to a connection; frames after `last_seq` are owed.
    pub(super) fn attach(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, conn: ConnId, last_seq: u64) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.attach(conn, last_seq);
            self.release_expired(ctx, jobs, id);
        }
    }

    /// The connection of a session is gone: nobody waits for its reader.
    pub(super) fn detach(&mut self, ctx: &mut Context, id: SessionId) {
        self.stop_reading(ctx, id);
        ctx.timers.clear(Timer::Arrived(id));
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.conn = None;
            self.wake_paced_by(ctx, id);
        }
    }

    /// A session is over: takes it from whatever it watched and owned.
    pub(super) fn close(&mut self, ctx: &mut Context, id: SessionId) {
        self.stop_reading(ctx, id);
        ctx.timers.clear(Timer::Arrived(id));
        let Some(mut feed) = self.feeds.remove(&id) else {
            return;
        };
        self.by_tag.remove(&(tag(id.ulid()), id));
        self.forget_subscriptions(id, &feed);
        for job in &feed.jobs.requested {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.requests.forget(id);
                audience.joins.remove(&id);
            }
        }
        for job in &feed.jobs.watched {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.watchers.retain(|watcher| *watcher != id);
            }
        }
        for job in &feed.jobs.owned {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.owners.remove(&id);
            }
        }
        self.wake_paced_by(ctx, id);
        let released = feed.index.release(u64::MAX);
        self.unreference(ctx, id, &released);
    }

    /// A job is accepted, or restored, without events: it is for nobody yet.
    pub(super) fn add_job(&mut self, job: JobId) {
        self.audiences.insert(job, Audience::default());
    }

    /// A job is over, and its end numbered: nobody is shown more of it.
    pub(super) fn end_job(&mut self, job: JobId) {
        self.paced.release(job);
        let Some(audience) = self.audiences.get_mut(&job) else {
            return;
        };
        for watcher in core::mem::take(&mut audience.watchers) {
            if let Some(feed) = self.feeds.get_mut(&watcher) {
                feed.jobs.watched.remove(&job);
            }
        }
        for (session, number) in core::mem::take(&mut audience.subscribers) {
            let subscription = self.feeds.get_mut(&session).and_then(|feed| feed.subscriptions.get_mut(number));
            if let Some(subscription) = subscription {
                subscription.shown.remove(&job);
            }
        }
    }

    /// A job is forgotten: takes it from the sessions that own it or whose
    /// requests it knows.
    pub(super) fn remove_job(&mut self, job: JobId) {
        self.end_job(job);
        self.rendered.forget(job);
        let Some(audience) = self.audiences.remove(&job) else {
            return;
        };
        for session in audience.requests.sessions().chain(audience.joins.keys().copied()) {
            if let Some(feed) = self.feeds.get_mut(&session) {
                feed.jobs.requested.remove(&job);
            }
        }
        for owner in &audience.owners {
            if let Some(feed) = self.feeds.get_mut(owner) {
                feed.jobs.owned.remove(&job);
            }
        }
    }

    /// What those can read who get the result of a job.
    pub(super) fn chunk_terms(&self, limits: &Limits, job: JobId) -> ChunkTerms {
        let audience = self.audiences.get(&job);
        let feed = |id: &SessionId| self.feeds.get(id);
        let mut owners = audience.into_iter().flat_map(|audience| &audience.owners).filter_map(feed);
        let mut watchers = audience.into_iter().flat_map(|audience| &audience.watchers).filter_map(feed);
        let reads_pieces = |feed: &Feed| feed.view.features.has(Feature::ResultChunk);
        let frames = watchers.clone().map(|feed| feed.view.result_frame_bytes(limits));
        ChunkTerms {
            frame_bytes: frames.min().unwrap_or(limits.result_frame_bytes),
            owners_read_pieces: owners.all(reads_pieces),
            watchers_read_pieces: watchers.all(reads_pieces),
        }
    }

    /// Sessions whose messages bear this tag: mostly one.
    fn tagged(&self, tag: u64) -> impl Iterator<Item = SessionId> {
        let least = SessionId::from_ulid(ulid::Ulid::nil());
        self.by_tag.range((tag, least)..).take_while(move |(found, _)| *found == tag).map(|(_, id)| *id)
    }
}
