//! How far a reader may fall behind: agents wait for those that submitted their
//! job; others are told first, then detached with a reason, and slow nobody.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{Delivery, Feed};
use crate::error::ErrorCode;
use crate::id::{JobId, SessionId};
use crate::limits::Limits;
use crate::model::reply::Reply;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::job::Jobs;
use crate::wire::FrameRole;

/// Jobs whose agents wait for a reader, both ways.
#[derive(Debug, Default)]
pub(super) struct PacedJobs {
    by_job: BTreeMap<JobId, SessionId>,
    by_session: BTreeSet<(SessionId, JobId)>,
}

impl PacedJobs {
    /// Whom the agent of a job waits for.
    pub(super) fn by(&self, job: JobId) -> Option<SessionId> {
        self.by_job.get(&job).copied()
    }

    fn hold(&mut self, job: JobId, session: SessionId) {
        self.release(job);
        self.by_job.insert(job, session);
        self.by_session.insert((session, job));
    }

    /// Nobody is waited for, or the job is over.
    pub(super) fn release(&mut self, job: JobId) {
        if let Some(session) = self.by_job.remove(&job) {
            self.by_session.remove(&(session, job));
        }
    }

    fn first_of(&self, session: SessionId) -> Option<JobId> {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let (found, job) = self.by_session.range((session, least)..).next()?;
        (*found == session).then_some(*job)
    }
}

impl Feed {
    /// Whether agents wait for its reader from now on.
    fn is_far_behind(&self, limits: &Limits) -> bool {
        self.conn.is_some() && (self.lag() > limits.pace_events || self.unsent_bytes() > limits.pace_bytes)
    }

    /// Whether agents that waited for its reader go on.
    fn has_caught_up(&self, limits: &Limits) -> bool {
        let reads = || self.lag() <= limits.pace_events / 2 && self.unsent_bytes() <= limits.pace_bytes / 2;
        self.conn.is_none() || reads()
    }
}

impl Delivery {
    /// The reader that the agent of a job waits for from now on.
    pub(in crate::runtime) fn paces(&mut self, limits: &Limits, job: JobId) -> Option<SessionId> {
        let far_behind = |reader: &SessionId| self.feeds.get(reader).is_some_and(|feed| feed.is_far_behind(limits));
        let mut readers = self.audiences.get(&job).into_iter().flat_map(|audience| audience.pacing_readers());
        match readers.find(far_behind) {
            Some(reader) => self.paced.hold(job, reader),
            None => self.paced.release(job),
        }
        self.paced.by(job)
    }

    /// The agent of a job waits for nobody, or needs nothing.
    pub(in crate::runtime) fn release_paced(&mut self, job: JobId) {
        self.paced.release(job);
    }

    /// A session has read something, or is no longer there to wait for: if it
    /// is not behind any more, agents that waited for it go on.
    pub(super) fn wake_paced_by(&mut self, ctx: &mut Context, id: SessionId) {
        if self.paced.by_session.is_empty()
            || self.feeds.get(&id).is_some_and(|feed| !feed.has_caught_up(&ctx.config.limits))
        {
            return;
        }
        while let Some(job) = self.paced.first_of(id) {
            self.paced.release(job);
            ctx.effect(Effect::CreditOwed(job));
        }
    }

    /// An event of a job that goes on was numbered for whoever is shown it:
    /// perhaps somebody is too far behind.
    pub(in crate::runtime) fn check_lag(&mut self, ctx: &mut Context, job: JobId) {
        let Some(audience) = self.audiences.get(&job) else {
            return;
        };
        for at in (0..audience.watchers.len()).rev() {
            let watcher = self.audiences.get(&job).and_then(|audience| audience.watchers.get(at).copied());
            if let Some(watcher) = watcher {
                self.check_watcher(ctx, watcher, job);
            }
        }
        for at in (0..self.audiences.get(&job).map_or(0, |audience| audience.subscribers.len())).rev() {
            let shown = self.audiences.get(&job).and_then(|audience| audience.subscribers.get(at).copied());
            if let Some((session, number)) = shown {
                self.check_subscription(ctx, session, number);
            }
        }
    }

    fn check_watcher(&mut self, ctx: &mut Context, id: SessionId, job: JobId) {
        let (most, unacked) = (ctx.config.limits.watch_lag, ctx.config.limits.ack_lag);
        let owns = self.audiences.get(&job).is_some_and(|audience| audience.owners.contains(&id));
        let Some(feed) = self.feeds.get_mut(&id).filter(|feed| feed.conn.is_some()) else {
            return;
        };
        let (lag, waits, acknowledges) = (feed.behind(), feed.unacknowledged(), feed.acknowledges());
        feed.catch_up.warned &= lag > most / 4;
        if lag >= most && !owns {
            self.detach_watcher(ctx, id, job);
        } else if lag >= most / 2 && !feed.catch_up.warned {
            feed.catch_up.warned = true;
            self.number_local(ctx, id, job, FrameRole::LagWarning, 0);
        } else if acknowledges && waits > unacked && !feed.receipts.warned {
            feed.receipts.warned = true;
            self.number_local(ctx, id, job, FrameRole::LagWarning, 0);
        }
    }

    /// Events of a job are gone that there is no store for. Who watches it and
    /// was not sent them yet is detached before it comes to the gap; who owns it
    /// is told there.
    pub(in crate::runtime) fn detach_overtaken(&mut self, ctx: &mut Context, jobs: &Jobs, id: JobId) {
        let first = jobs.get(id).map_or(1, |job| job.history().first());
        let Some(audience) = self.audiences.get(&id).filter(|_| first > 1) else {
            return;
        };
        let overtaken = |session: SessionId, number: u32| {
            let feed = self.feeds.get(&session).filter(|feed| feed.conn.is_some());
            let next = feed.and_then(|feed| feed.index.first_event_after(id, number, feed.cursor, jobs));
            next.is_some_and(|next| next < first)
        };
        let watchers = audience.watchers.iter().copied().filter(|watcher| !audience.owners.contains(watcher));
        let watchers: Vec<SessionId> = watchers.filter(|watcher| overtaken(*watcher, 0)).collect();
        let shown = audience.subscribers.iter().copied().filter(|(session, number)| overtaken(*session, *number));
        let subscribers: Vec<(SessionId, u32)> = shown.collect();
        for watcher in watchers {
            self.withdraw(ctx, jobs, watcher, id, 0);
            self.detach_watcher(ctx, watcher, id);
        }
        for (session, number) in subscribers {
            self.withdraw(ctx, jobs, session, id, number);
            self.end_slow_subscription(ctx, session, number);
        }
    }

    fn detach_watcher(&mut self, ctx: &mut Context, id: SessionId, job: JobId) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.catch_up.warned = false;
        }
        self.number_local(ctx, id, job, FrameRole::Detached, 0);
        self.leave(ctx, job, id);
        self.note_left(ctx, job, id);
    }

    fn check_subscription(&mut self, ctx: &mut Context, id: SessionId, number: u32) {
        let most = ctx.config.limits.watch_lag;
        if self.feeds.get(&id).is_some_and(|feed| feed.conn.is_some() && feed.behind() >= most) {
            self.end_slow_subscription(ctx, id, number);
        }
    }

    fn end_slow_subscription(&mut self, ctx: &mut Context, id: SessionId, number: u32) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let reply = Reply::Unsubscribed {
            subscription: super::subscription_id(id, number).into(),
            code: ErrorCode::BackpressureOverflow,
            reason: "this was read too slowly: subscribe again after the last message".to_string(),
            request: None,
        };
        self.unsubscribe(ctx, id, number);
        let at = self.feeds.get(&id).map(Feed::position).unwrap_or_default();
        ctx.effect(Effect::Answer { conn, reply, at });
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::entropy::Seeds;
    use crate::id::{ConnId, Principal};
    use crate::runtime::{Config, Input, Output, Runtime, Transport};
    use crate::time::{Now, Timestamp, UtcMs};

    fn put(runtime: &mut Runtime, at: u64, input: Input) {
        let now = Now { mono: Timestamp(at), utc: UtcMs(1_767_225_600_000 + at / 1000) };
        runtime.handle(now, input);
        while let Some(output) = runtime.poll_output() {
            if let Output::Persist(batch) = output {
                runtime.handle(now, Input::Persisted { up_to: batch.last() });
            } else if let Output::Authenticate { op, .. } = output {
                runtime.handle(now, Input::Authenticated { op, verdict: Principal::new("a").map(Into::into) });
            }
        }
    }

    /// Opens a session and submits the one job there is; gives its id.
    fn submit(runtime: &mut Runtime, conn: ConnId) -> JobId {
        put(runtime, 1, Input::Opened { conn, transport: Transport::WebSocket, peer: None, address: None });
        put(runtime, 1, Input::Credit { conn, bytes: 1 << 20, frames: 1000 });
        let hello = r#"{"auth":{"scheme":"bearer","token":"t"},"capabilities":{"features":["subscribe"]}}"#;
        say(runtime, conn, "session.hello", hello);
        say(runtime, conn, "job.submit", r#"{"agent":"it","idempotency_key":"k"}"#);
        runtime.jobs.table().ids().next().expect("one job")
    }

    fn say(runtime: &mut Runtime, conn: ConnId, kind: &str, payload: &str) {
        let frame = format!(r#"{{"id":"{kind}","type":"{kind}","payload":{payload}}}"#);
        put(runtime, 1, Input::Received { conn, frame: frame.into_bytes() });
    }

    #[test]
    fn sessions_that_came_by_a_key_and_left_cost_an_event_nothing() {
        let config = Config::new("t", "1").with_agent("it", &[]);
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut runtime = Runtime::new(config, seeds, Now::default()).expect("it works");
        let job = submit(&mut runtime, ConnId(1));
        for n in 2..100 {
            assert_eq!(submit(&mut runtime, ConnId(n)), job);
            let leave = format!(r#"{{"job_id":"{}"}}"#, job);
            say(&mut runtime, ConnId(n), "job.unsubscribe", &leave);
        }
        let looked_at = |runtime: &Runtime| {
            let audience = runtime.delivery.audience(job).expect("it goes on");
            (audience.pacing_readers().count(), audience.watchers().len(), audience.owners().len())
        };
        assert_eq!(looked_at(&runtime), (1, 1, 99));
        for n in 2..100 {
            put(&mut runtime, 2, Input::Closed { conn: ConnId(n) });
        }
        put(&mut runtime, 700_000_000, Input::Tick);
        assert_eq!(looked_at(&runtime).2, 1, "who is gone owns nothing");
    }
}
