//! Why jobs wait. Whatever one waits for is a [`Wait`], and each has one waker:
//! a job that waits for what nobody says any more would wait for ever.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Runtime;
use super::io::Output;
use super::job::{AgentState, Job, JobState};
use super::timers::Timer;
use crate::id::{JobId, SessionId};
use crate::limits::Limits;

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The store: its acceptance, its start or what its agent said last is not
    /// durable yet. It goes on with [`Input::Persisted`](super::Input::Persisted).
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

/// Jobs whose agents wait for a reader, both ways.
#[derive(Debug, Default)]
pub(super) struct Readers {
    by_job: BTreeMap<JobId, SessionId>,
    by_session: BTreeSet<(SessionId, JobId)>,
}

impl Readers {
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
            (JobState::Running | JobState::Cancelling, AgentState::Running) => match self.readers.by_job.get(&id) {
                Some(session) => Some(Wait::Reader(*session)),
                None if job.silent => Some(Wait::Silence),
                None if job.credit > 0 => None,
                None if self.timers.is_set(Timer::Pace(id)) => Some(Wait::Pace),
                None => {
                    debug_assert_eq!(job.owed, 0, "what an agent is owed has a waker");
                    Some(Wait::Store)
                }
            },
            (JobState::Running | JobState::Cancelling, AgentState::Gone) | (JobState::Ended(_), _) => None,
        }
    }

    /// Durable calls give credit back.
    pub(super) fn on_credits(&mut self, credits: &[JobId]) {
        for id in credits {
            if let Some(job) = self.jobs.get_mut(*id) {
                job.owed += 1;
            }
        }
        let jobs: BTreeSet<JobId> = credits.iter().copied().collect();
        for job in jobs {
            self.return_credit(job);
        }
    }

    /// Gives an agent its credit back, unless a reader that paces it is far
    /// behind.
    pub(super) fn return_credit(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id).filter(|job| job.owed > 0 && !job.is_over()) else {
            return self.readers.release(id);
        };
        let limits = &self.config.limits;
        let far_behind = |reader: &SessionId| self.sessions.get(*reader).is_some_and(|s| s.is_far_behind(limits));
        if let Some(reader) = job.pacing_readers().find(far_behind) {
            return self.readers.hold(id, reader);
        }
        self.readers.release(id);
        if let Some(every) = job.pace {
            return self.return_portion(id, every);
        }
        if let Some(job) = self.jobs.get_mut(id) {
            let calls = core::mem::take(&mut job.owed);
            job.credit += calls;
            self.outputs.push_back(Output::AgentCredit { job: id, calls });
        }
    }

    /// A session has read something, or is no longer there to wait for: if it
    /// is not behind any more, agents that waited for it go on.
    pub(super) fn wake_paced_by(&mut self, id: SessionId) {
        if self.readers.by_session.is_empty()
            || self.sessions.get(id).is_some_and(|session| !session.has_caught_up(&self.config.limits))
        {
            return;
        }
        while let Some(job) = self.readers.first_of(id) {
            self.readers.release(job);
            self.return_credit(job);
        }
    }

    /// A session gets no more events of a job: its agent does not wait for it.
    pub(super) fn wake_if_paced_by(&mut self, job: JobId, id: SessionId) {
        if self.readers.by_job.get(&job) == Some(&id) {
            self.return_credit(job);
        }
    }
}

impl super::session::Session {
    /// Whether agents wait for it from now on.
    fn is_far_behind(&self, limits: &Limits) -> bool {
        self.conn.is_some() && self.lag() > limits.pace_events
    }

    /// Whether agents that waited for it go on.
    fn has_caught_up(&self, limits: &Limits) -> bool {
        self.conn.is_none() || self.lag() <= limits.pace_events / 2
    }
}
