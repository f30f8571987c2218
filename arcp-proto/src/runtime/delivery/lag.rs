//! Sessions that fall behind and pace no agent. Each is told first, then detached with a reason, so
//! that it slows nobody.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{Delivery, Feed};
use crate::error::ErrorCode;
use crate::id::{JobId, SessionId};
use crate::model::reply::{CommandReply, Reply};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::LocalWord;
use crate::runtime::job::Jobs;

impl Delivery {
    /// An event of an unfinished job was numbered: checks whether one of its sessions is too far
    /// behind.
    pub(in crate::runtime) fn check_lag(&mut self, ctx: &mut Context, jobs: &Jobs, job: JobId) {
        // In reverse, because a session that is detached is removed from the list.
        for at in (0..self.audiences.get(job).map_or(0, |audience| audience.watchers.len())).rev() {
            let watcher = self.audiences.get(job).and_then(|audience| audience.watchers.get(at).copied());
            if let Some(watcher) = watcher {
                self.check_watcher(ctx, jobs, watcher, job);
            }
        }
        for at in (0..self.subscriptions.of_job(job).len()).rev() {
            if let Some((session, number)) = self.subscriptions.of_job(job).get(at).copied() {
                self.check_subscription(ctx, session, number);
            }
        }
    }

    fn check_watcher(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId) {
        let (most, unacked) = (ctx.config.limits.delivery.watch_lag, ctx.config.limits.delivery.ack_lag);
        let owns = self.audiences.owns(id, job);
        let Some(feed) = self.feeds.by_session.get_mut(&id).filter(|feed| feed.conn.is_some()) else {
            return; // The session has no connection.
        };
        let (lag, waits, acknowledges) = (feed.behind(), feed.unacknowledged(), feed.acknowledges());
        feed.catch_up.warned &= lag > most / 4;
        if lag >= most && !owns {
            self.detach_watcher(ctx, jobs, id, job);
        } else if lag >= most / 2 && !feed.catch_up.warned {
            feed.catch_up.warned = true;
            self.warn(ctx, jobs, id, job);
        } else if acknowledges && waits > unacked && !feed.receipts.warned {
            feed.receipts.warned = true;
            self.warn(ctx, jobs, id, job);
        }
    }

    /// Events of a job were deleted: there is no store for them, or it keeps no more. Watchers that
    /// were not sent them yet are detached before they reach the gap; owners are told when they
    /// reach it.
    pub(in crate::runtime) fn detach_overtaken(&mut self, ctx: &mut Context, jobs: &Jobs, id: JobId) {
        let first = jobs.get(id).map_or(1, |job| job.history().first());
        let Some(audience) = self.audiences.get(id).filter(|_| first > 1) else {
            return; // No event of the job is deleted.
        };
        let overtaken = |session: SessionId, number: u32| {
            let feed = self.feeds.attached(session);
            let next = feed.and_then(|feed| feed.index.first_event_after(id, number, feed.cursor, jobs));
            next.is_some_and(|next| next < first)
        };
        let watchers = audience.watchers.iter().copied().filter(|watcher| !audience.owners.contains(watcher));
        let watchers: Vec<SessionId> = watchers.filter(|watcher| overtaken(*watcher, 0)).collect();
        let shown =
            self.subscriptions.of_job(id).iter().copied().filter(|(session, number)| overtaken(*session, *number));
        let subscribers: Vec<(SessionId, u32)> = shown.collect();
        for watcher in watchers {
            self.withdraw(ctx, jobs, watcher, id, 0);
            self.detach_watcher(ctx, jobs, watcher, id);
        }
        for (session, number) in subscribers {
            self.withdraw(ctx, jobs, session, id, number);
            self.end_slow_subscription(ctx, session, number);
        }
    }

    /// Takes back the numbers of a job that were not sent, for a watch or one subscription.
    fn withdraw(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId, subscription: u32) {
        self.feeds.withdraw(ctx, jobs, id, job, subscription);
        self.history.stop_reading(ctx, id, job);
        self.pacing.wake(ctx, &self.feeds, id);
    }

    /// Tells a session that it is far behind on a job.
    fn warn(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId) {
        if let Some(about) = self.audiences.about(jobs, id, job) {
            self.feeds.number_local(ctx, id, LocalWord::LagWarning(about));
        }
    }

    fn detach_watcher(&mut self, ctx: &mut Context, jobs: &Jobs, id: SessionId, job: JobId) {
        if let Some(feed) = self.feeds.by_session.get_mut(&id) {
            feed.catch_up.warned = false;
        }
        if let Some(about) = self.audiences.about(jobs, id, job) {
            self.feeds.number_local(ctx, id, LocalWord::Detached(about));
        }
        self.leave(ctx, id, job);
        self.audiences.note_left(ctx, id, job);
    }

    fn check_subscription(&mut self, ctx: &mut Context, id: SessionId, number: u32) {
        let most = ctx.config.limits.delivery.watch_lag;
        if self.feeds.attached(id).is_some_and(|feed| feed.behind() >= most) {
            self.end_slow_subscription(ctx, id, number);
        }
    }

    fn end_slow_subscription(&mut self, ctx: &mut Context, id: SessionId, number: u32) {
        let Some(conn) = self.feeds.conn(id).expected("who is too slow is there") else {
            return;
        };
        let reply = Reply::Command(CommandReply::Unsubscribed {
            subscription: super::subscription_id(id, number).into(),
            code: ErrorCode::BackpressureOverflow,
            reason: "this was read too slowly: subscribe again after the last message".to_string(),
            request: None,
        });
        self.unsubscribe(ctx, id, number);
        let at = self.feeds.get(id).map(Feed::position).unwrap_or_default();
        ctx.effect(Effect::Answer { conn, reply, at });
    }
}
