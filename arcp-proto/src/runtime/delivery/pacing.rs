//! Pacing: agents wait for a session that submitted their job, gets its events and is far behind.

use alloc::collections::{BTreeMap, BTreeSet};

use super::audience::Audience;
use super::feed::Feed;
use super::feeds::Feeds;
use crate::id::{JobId, SessionId};
use crate::limits::Limits;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;

/// Jobs whose agents wait for a session, in both directions.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Pacing {
    by_job: BTreeMap<JobId, SessionId>,
    by_session: BTreeSet<(SessionId, JobId)>,
}

impl Feed {
    /// Whether agents have to wait for its session.
    fn is_far_behind(&self, limits: &Limits) -> bool {
        self.conn.is_some()
            && (self.lag() > limits.delivery.pace_events || self.unsent_bytes() > limits.delivery.pace_bytes)
    }

    /// Whether agents that wait for its session may go on.
    fn has_caught_up(&self, limits: &Limits) -> bool {
        let reads =
            || self.lag() <= limits.delivery.pace_events / 2 && self.unsent_bytes() <= limits.delivery.pace_bytes / 2;
        self.conn.is_none() || reads()
    }
}

impl Pacing {
    /// Finds the session that the agent of a job with this audience has to wait for, if any, and
    /// notes it.
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

    /// Notes that the agent of a job waits for no session.
    pub(in crate::runtime) fn release(&mut self, job: JobId) {
        if let Some(session) = self.by_job.remove(&job) {
            self.by_session.remove(&(session, job));
        }
    }

    /// A session gets no more of a job, so its agent need not wait for the session.
    pub(super) fn stop(&mut self, ctx: &mut Context, session: SessionId, job: JobId) {
        if self.by_job.get(&job) == Some(&session) {
            ctx.effect(Effect::CreditOwed(job));
        }
    }

    /// A session has read something, or is detached. If it has caught up, agents that waited for it
    /// go on.
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
    use alloc::vec::Vec;
    use alloc::{format, vec};

    use ulid::Ulid;

    use super::*;
    use crate::entropy::Seeds;
    use crate::id::{ConnId, LogId, Principal};
    use crate::json::Json;
    use crate::runtime::account::Accounts;
    use crate::runtime::io::{LocalFrame, LocalWord, NumberedRun};
    use crate::runtime::job::{Jobs, Stored};
    use crate::runtime::{AgentCall, Config, Input, Output, Runtime, Transport};
    use crate::time::{Now, Timestamp, UtcMs};
    use crate::wire::{FrameRole, View};

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

    /// Opens a session and submits the only job; returns its id.
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
            (audience.pacing_readers().count(), audience.watchers().len(), audience.owners().iter().count())
        };
        assert_eq!(looked_at(&runtime), (1, 1, 99));
        for n in 2..100 {
            put(&mut runtime, 2, Input::Closed { conn: ConnId(n) });
        }
        put(&mut runtime, 700_000_000, Input::Tick);
        assert_eq!(looked_at(&runtime).2, 1, "who is gone owns nothing");
    }

    const BOUNDARY: LocalFrame = LocalFrame { at: UtcMs(1), says: LocalWord::Boundary { subscription: 1 } };

    /// A feed with this many numbers, given to local frames.
    fn feed(numbers: u64) -> Feed {
        let mut feed =
            Feed::new(Principal::new("a").expect("a name"), View::before_handshake(false), Accounts::new().runtime());
        feed.conn = Some(ConnId(1));
        for _ in 0..numbers {
            feed.index.push_local(BOUNDARY);
        }
        feed
    }

    #[test]
    fn agents_wait_for_a_reader_beyond_a_bound_and_go_on_at_half_of_it() {
        let mut limits = Limits::default();
        (limits.delivery.pace_events, limits.delivery.pace_bytes) = (10, 100);
        for (frames, bytes, waits, goes_on) in [
            (10, 100, false, false),
            (11, 0, true, false),
            (0, 101, true, false),
            (5, 50, false, true),
            (6, 0, false, false),
            (0, 51, false, false),
        ] {
            let mut feed = feed(frames);
            feed.owe_bytes(bytes);
            let seen = (feed.is_far_behind(&limits), feed.has_caught_up(&limits));
            assert_eq!(seen, (waits, goes_on), "{frames} frames, {bytes} bytes");
            feed.conn = None;
            assert_eq!((feed.is_far_behind(&limits), feed.has_caught_up(&limits)), (false, true), "nobody reads");
        }
    }

    #[test]
    fn a_client_that_acknowledges_half_of_what_it_may_lag_can_be_warned_again() {
        let mut feed = feed(20);
        (feed.sent, feed.receipts.warned) = (20, true);
        feed.acknowledge(14, 10);
        assert!(feed.receipts.warned, "6 are still waiting");
        feed.acknowledge(15, 10);
        assert!(!feed.receipts.warned);
    }

    #[test]
    fn a_reader_is_behind_with_what_came_since_it_began_to_catch_up() {
        let mut feed = feed(10);
        feed.cursor = 4;
        let stands = |feed: &Feed| (feed.lag(), feed.behind(), feed.unacknowledged());
        assert_eq!(stands(&feed), (6, 6, 10));
        feed.begin_to_catch_up(7);
        (0..3).for_each(|_| feed.index.push_local(BOUNDARY));
        assert_eq!(stands(&feed), (9, 3, 3));
        (feed.cursor, feed.receipts.acked) = (12, 11);
        assert_eq!(stands(&feed), (1, 1, 2));
    }

    #[test]
    fn a_backlog_is_held_against_nobody_and_what_was_owed_before_it_is() {
        // Which of these numbers count when all are sent; each has one byte.
        let counted = |mut feed: Feed| {
            feed.owe_bytes(10);
            let sent = (feed.cursor + 1..feed.head()).map(|seq| {
                let before = feed.unsent_bytes();
                feed.pass(seq, 1);
                (seq, before - feed.unsent_bytes())
            });
            sent.filter(|(_, bytes)| *bytes > 0).map(|(seq, _)| seq).collect::<Vec<u64>>()
        };
        let mut once = feed(5);
        once.cursor = 2;
        once.begin_to_catch_up(4);
        let mut twice = feed(5);
        twice.cursor = 2;
        twice.begin_to_catch_up(4);
        for feed in [&mut once, &mut twice] {
            feed.index.push_local(BOUNDARY);
            feed.index.push_local(BOUNDARY);
        }
        twice.begin_to_catch_up(6);
        twice.index.push_local(BOUNDARY);
        twice.index.push_local(BOUNDARY);
        assert_eq!((counted(once), counted(twice)), (vec![3, 6], vec![3, 8]));
    }

    #[test]
    fn a_backlog_costs_nothing_when_numbers_are_taken_back_however_long_it_is() {
        let mut feed = feed(3);
        let (log, role) = (LogId::Job(JobId::from_ulid(Ulid::nil())), FrameRole::Whole);
        let (seq, shown) = (feed.head() + 1, None);
        feed.index.push(NumberedRun { seq, count: 1 << 40, log, event: 1, shown, role, request: 0, subscription: 0 });
        feed.begin_to_catch_up(seq);
        (0..3).for_each(|_| feed.index.push_local(BOUNDARY));
        feed.owe_bytes(7);
        feed.renumber(&Jobs::default(), |seq| seq);
        assert_eq!((feed.unsent_bytes(), feed.behind()), (0, 3));
    }

    #[test]
    fn what_is_owed_is_weighed_anew_when_numbers_are_taken_back() {
        let config = Config::new("t", "1").with_agent("it", &[]);
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut runtime = Runtime::new(config, seeds, Now::default()).expect("it works");
        let job = submit(&mut runtime, ConnId(1));
        for message in ["m", "mm", "mmm", "mmmm"] {
            let body = Json::parse(&format!(r#"{{"level":"info","message":"{message}"}}"#)).expect("JSON");
            put(&mut runtime, 1, Input::Agent { job, call: AgentCall::Emit { kind: "log".into(), body } });
        }
        let Runtime { jobs, delivery, .. } = &mut runtime;
        let feed = delivery.feeds.by_session.values_mut().next().expect("one session");
        let job = jobs.get(job).expect("it goes on");
        let weighed = |n| job.event(n).map_or(0, Stored::weight);
        let last_two = weighed(job.count() - 1) + weighed(job.count());
        feed.cursor = feed.head() - 2;
        feed.renumber(jobs, |seq| seq);
        assert_eq!(feed.unsent_bytes(), last_two);
    }
}
