//! Which agents wait for a reader: those whose job was submitted by a session
//! that gets its events and is far behind.

use alloc::collections::{BTreeMap, BTreeSet};

use super::audience::Audience;
use super::feed::Feed;
use super::feeds::Feeds;
use crate::id::{JobId, SessionId};
use crate::limits::Limits;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;

/// Jobs whose agents wait for a reader, both ways.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Pacing {
    by_job: BTreeMap<JobId, SessionId>,
    by_session: BTreeSet<(SessionId, JobId)>,
}

impl Feed {
    /// Whether agents wait for its reader from now on.
    fn is_far_behind(&self, limits: &Limits) -> bool {
        self.conn.is_some()
            && (self.lag() > limits.delivery.pace_events || self.unsent_bytes() > limits.delivery.pace_bytes)
    }

    /// Whether agents that waited for its reader go on.
    fn has_caught_up(&self, limits: &Limits) -> bool {
        let reads =
            || self.lag() <= limits.delivery.pace_events / 2 && self.unsent_bytes() <= limits.delivery.pace_bytes / 2;
        self.conn.is_none() || reads()
    }
}

impl Pacing {
    /// The reader that the agent of a job with this audience waits for from now
    /// on.
    pub(super) fn pace(
        &mut self,
        limits: &Limits,
        feeds: &Feeds,
        job: JobId,
        audience: Option<&Audience>,
    ) -> Option<SessionId> {
        let far_behind = |reader: &SessionId| feeds.get(*reader).is_some_and(|feed| feed.is_far_behind(limits));
        let reader = audience.and_then(|audience| audience.pacing_readers().find(far_behind));
        self.release(job);
        if let Some(reader) = reader {
            self.by_job.insert(job, reader);
            self.by_session.insert((reader, job));
        }
        reader
    }

    /// The agent of a job waits for nobody, or needs nothing.
    pub(in crate::runtime) fn release(&mut self, job: JobId) {
        if let Some(session) = self.by_job.remove(&job) {
            self.by_session.remove(&(session, job));
        }
    }

    /// A session gets no more of a job: its agent does not wait for it.
    pub(super) fn stop(&mut self, ctx: &mut Context, session: SessionId, job: JobId) {
        if self.by_job.get(&job) == Some(&session) {
            ctx.effect(Effect::CreditOwed(job));
        }
    }

    /// A session has read something, or is no longer there to wait for: if it
    /// is not behind any more, agents that waited for it go on.
    pub(super) fn wake(&mut self, ctx: &mut Context, feeds: &Feeds, id: SessionId) {
        if self.by_session.is_empty() || feeds.get(id).is_some_and(|feed| !feed.has_caught_up(&ctx.config.limits)) {
            return;
        }
        while let Some(job) = self.first_of(id) {
            self.release(job);
            ctx.effect(Effect::CreditOwed(job));
        }
    }

    fn first_of(&self, session: SessionId) -> Option<JobId> {
        let least = JobId::from_ulid(ulid::Ulid::nil());
        let (found, job) = self.by_session.range((session, least)..).next()?;
        (*found == session).then_some(*job)
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
        put(
            runtime,
            1,
            Input::Opened { conn, transport: Transport::WebSocket, peer: None, binding: None, address: None },
        );
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
            let audience = runtime.delivery.audiences.get(job).expect("it goes on");
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
