//! Why jobs wait. Whatever one waits for is a [`Wait`], and each has one waker:
//! a job that waits for what nobody says any more would wait for ever.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::{AgentState, Job, JobState};
use crate::id::{JobId, SessionId};
use crate::runtime::Runtime;
use crate::runtime::io::Output;
use crate::runtime::timers::Timer;

/// Paced agents get their calls in portions of about this span.
const PORTION: Duration = Duration::from_millis(100);

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The store: its acceptance, its start or what its agent said last is not
    /// durable yet. It goes on with [`Input::Persisted`](crate::runtime::Input::Persisted).
    Store,
    /// A slot. It goes on when one is free that its principal may have.
    Slot,
    /// A session that submitted it, gets its events and reads too slowly. It
    /// goes on when that has caught up, is detached or over, or leaves the job.
    Reader(SessionId),
    /// The pace that its submitter asked for. It goes on with time.
    Pace,
    /// Its agent, which fell silent. It goes on when that is heard.
    Silence,
}

/// How much an agent may call: as long as there is any of both, one call more,
/// whatever its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) calls: u32,
    /// Below zero after a call larger than what was left.
    pub(crate) bytes: i64,
}

impl Credit {
    pub(crate) fn is_spent(self) -> bool {
        self.calls == 0 || self.bytes <= 0
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn add(&mut self, more: Credit) {
        self.calls = self.calls.saturating_add(more.calls);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl Runtime {
    /// What every job that is not over waits for, if it waits for anything but
    /// its agent: for an operator who asks why nothing happens.
    pub fn waits(&self) -> Vec<(JobId, Wait)> {
        self.jobs.ids().filter_map(|id| Some((id, self.wait_of(id, self.jobs.get(id)?)?))).collect()
    }

    fn wait_of(&self, id: JobId, job: &Job) -> Option<Wait> {
        match (&job.state, job.agent_state) {
            (JobState::Accepting, _) => Some(Wait::Store),
            (JobState::Queued, _) => Some(Wait::Slot),
            (JobState::Running | JobState::Cancelling, AgentState::Idle) => Some(Wait::Store),
            (JobState::Running | JobState::Cancelling, AgentState::Running) => match self.delivery.paced_by(id) {
                Some(session) => Some(Wait::Reader(session)),
                None if job.silent => Some(Wait::Silence),
                None if !job.credit.is_spent() => None,
                None if self.ctx.timers.is_set(Timer::Pace(id)) => Some(Wait::Pace),
                None => {
                    debug_assert_eq!(job.owed.calls, 0, "what an agent is owed has a waker");
                    Some(Wait::Store)
                }
            },
            (JobState::Running | JobState::Cancelling, AgentState::Gone) | (JobState::Ended(_), _) => None,
        }
    }

    /// Durable calls give credit back.
    pub(crate) fn on_credits(&mut self, credits: &[JobId]) {
        for id in credits {
            if let Some(job) = self.jobs.get_mut(*id)
                && let Some(bytes) = job.undurable.pop_front()
            {
                job.owed.add(Credit { calls: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) });
            }
        }
        let jobs: BTreeSet<JobId> = credits.iter().copied().collect();
        for job in jobs {
            self.return_credit(job);
        }
    }

    /// What an agent that is started may call: nothing yet, if a reader that
    /// paces it is far behind.
    pub(crate) fn first_credit(&mut self, id: JobId) -> Credit {
        let limits = &self.ctx.config.limits;
        let bytes = i64::try_from(limits.agent_credit_bytes).unwrap_or(i64::MAX);
        let all = Credit { calls: limits.agent_credit, bytes };
        if let Some(job) = self.jobs.get_mut(id) {
            (job.owed, job.credit) = (all, Credit::default());
        }
        if self.delivery.paces(&self.ctx.config.limits, id) {
            return Credit::default();
        }
        if let Some(job) = self.jobs.get_mut(id) {
            (job.owed, job.credit) = (Credit::default(), all);
        }
        all
    }

    /// Gives an agent its credit back, unless a reader that paces it is far
    /// behind.
    pub(crate) fn return_credit(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id).filter(|job| job.owed.calls > 0 && !job.is_over()) else {
            return self.delivery.release_paced(id);
        };
        let pace = job.pace;
        if self.delivery.paces(&self.ctx.config.limits, id) {
            return;
        }
        if let Some(every) = pace {
            return self.return_portion(id, every);
        }
        if let Some(job) = self.jobs.get_mut(id) {
            let owed = core::mem::take(&mut job.owed);
            self.grant(id, owed);
        }
    }

    /// Gives an agent credit.
    fn grant(&mut self, id: JobId, credit: Credit) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.credit.add(credit);
            let bytes = u64::try_from(credit.bytes).unwrap_or(0);
            self.ctx.output(Output::AgentCredit { job: id, calls: credit.calls, bytes });
        }
    }

    /// Gives a paced agent its next few calls.
    fn return_portion(&mut self, id: JobId, every: Duration) {
        let Some(job) = self.jobs.get_mut(id).filter(|_| !self.ctx.timers.is_set(Timer::Pace(id))) else {
            return;
        };
        let every = every.max(Duration::from_micros(1));
        let portion = u32::try_from(PORTION.as_micros() / every.as_micros()).unwrap_or(u32::MAX).max(1);
        let calls = job.owed.calls.min(portion);
        let granted = Credit { calls, bytes: core::mem::take(&mut job.owed.bytes) };
        job.owed.calls -= calls;
        self.grant(id, granted);
        self.ctx.timers.set(Timer::Pace(id), self.ctx.now.mono + every * calls);
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::entropy::Seeds;
    use crate::id::{ConnId, Principal};
    use crate::runtime::{Config, Input, Transport};
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
        runtime.jobs.ids().next().expect("one job")
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
