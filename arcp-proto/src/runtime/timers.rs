//! Timers: set replaces, and a timer that fires is gone before it acts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem::{Discriminant, discriminant};

use serde::{Deserialize, Serialize};

use crate::id::{ConnId, JobId, SessionId};
use crate::time::Timestamp;

/// When the core wants to be called again, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Not earlier than this.
    pub at: Timestamp,
    /// What for.
    pub reason: Timer,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// The peer has not opened a session yet.
    Handshake(ConnId),
    /// A ping is due, or the peer is lost.
    Heartbeat(ConnId),
    /// The peer has read nothing while something waits for it.
    Stalled(ConnId),
    /// The host has taken long enough to check an input.
    InputCheck(ConnId),
    /// A frame has waited long enough for its sidecar.
    Sidecar(ConnId),
    /// The numbered stream is held for a moment.
    Hold(ConnId),
    /// A detached session can no longer be resumed.
    ResumeWindow(SessionId),
    /// A session must be refreshed, or is over.
    SessionLease(SessionId),
    /// A paced agent gets its next calls.
    Pace(JobId),
    /// A stream of a job may go on.
    StreamPace(JobId),
    /// A sign of life of a job is due.
    JobHeartbeat(JobId),
    /// An agent has been silent for long.
    AgentSilence(JobId),
    /// The job's time limit.
    MaxRuntime(JobId),
    /// The agent has been told to stop long enough ago.
    CancelGrace(JobId),
    /// An ended job is forgotten.
    Retention(JobId),
    /// Events of a job that everybody has are let go.
    Purge(JobId),
    /// What was sent of expired jobs has arrived by now.
    Arrived(SessionId),
    /// The oldest idempotency key is forgotten.
    KeyExpiry,
    /// What was refused again and again is written down.
    Audit,
    /// The time of the first artifact is over.
    Artifacts,
    /// The next time of a schedule has come, or is looked for by a clock that steps.
    Schedules,
    /// The store has taken long enough to read something back.
    Read(SessionId),
    /// The store is asked again.
    StoreRetry,
    /// Nobody resumes to what it missed of an ended job any more.
    EndMissed(JobId),
    /// The lease of a job ends.
    LeaseExpiry(JobId),
    /// The first question of a job that nobody has answered in time, or whose schema
    /// nobody has checked.
    Prompt(JobId),
    /// The end of a job has waited long enough for its credentials to be revoked.
    RevocationGrace(JobId),
    /// Credentials that could not be revoked are tried again.
    RevokeAgain(JobId),
    /// The agent of a job has waited long enough for a credential's other value.
    Renewal(JobId),
    /// The host has had long enough for a child that the agent of a job asks for.
    Delegation(JobId),
    /// The host has had long enough to issue the credentials of a job that is a step, or of a
    /// schedule.
    Provision(JobId),
    /// The runtime that is to have a job has had long enough to answer, or is asked
    /// again.
    Departure(JobId),
    /// A step of a workflow is tried again, or may be begun that was put off.
    Workflow(JobId),
    /// The agent of a job has had long enough to make a checkpoint.
    Checkpoint(JobId),
    /// Somebody is heard who had too much before the store.
    Backlog,
}

impl Timer {
    /// What tells it from others of its kind.
    fn number(self) -> u128 {
        match self {
            Timer::Handshake(conn)
            | Timer::Heartbeat(conn)
            | Timer::Stalled(conn)
            | Timer::InputCheck(conn)
            | Timer::Sidecar(conn)
            | Timer::Hold(conn) => conn.0.into(),
            Timer::ResumeWindow(session)
            | Timer::SessionLease(session)
            | Timer::Arrived(session)
            | Timer::Read(session) => session.ulid().0,
            Timer::Pace(job)
            | Timer::StreamPace(job)
            | Timer::JobHeartbeat(job)
            | Timer::AgentSilence(job)
            | Timer::MaxRuntime(job)
            | Timer::CancelGrace(job)
            | Timer::Retention(job)
            | Timer::Purge(job)
            | Timer::EndMissed(job)
            | Timer::LeaseExpiry(job)
            | Timer::Prompt(job)
            | Timer::RevocationGrace(job)
            | Timer::RevokeAgain(job)
            | Timer::Renewal(job)
            | Timer::Delegation(job)
            | Timer::Provision(job)
            | Timer::Departure(job)
            | Timer::Workflow(job)
            | Timer::Checkpoint(job) => job.ulid().0,
            Timer::KeyExpiry
            | Timer::Audit
            | Timer::Artifacts
            | Timer::Schedules
            | Timer::StoreRetry
            | Timer::Backlog => 0,
        }
    }

    /// Whether it says that somebody outside has said nothing for too long:
    /// what the driver still holds may prove the contrary.
    fn judges_silence(self) -> bool {
        match self {
            Timer::Handshake(_)
            | Timer::Heartbeat(_)
            | Timer::Stalled(_)
            | Timer::InputCheck(_)
            | Timer::Sidecar(_)
            | Timer::ResumeWindow(_)
            | Timer::Arrived(_)
            | Timer::SessionLease(_)
            | Timer::AgentSilence(_)
            | Timer::MaxRuntime(_)
            | Timer::CancelGrace(_)
            | Timer::LeaseExpiry(_)
            | Timer::Prompt(_)
            | Timer::RevocationGrace(_)
            | Timer::Renewal(_)
            | Timer::Delegation(_)
            | Timer::Provision(_)
            | Timer::Departure(_)
            | Timer::Checkpoint(_)
            | Timer::Read(_) => true,
            Timer::Hold(_)
            | Timer::Pace(_)
            | Timer::StreamPace(_)
            | Timer::JobHeartbeat(_)
            | Timer::Retention(_)
            | Timer::Purge(_)
            | Timer::KeyExpiry
            | Timer::Audit
            | Timer::StoreRetry
            | Timer::RevokeAgain(_)
            | Timer::Artifacts
            | Timer::Schedules
            | Timer::Workflow(_)
            | Timer::Backlog
            | Timer::EndMissed(_) => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Timestamp, Timer)>,
    /// Those that judge silence.
    silences: BTreeSet<(Timestamp, Timer)>,
    /// Those that are set, kind by kind: of most kinds none is, and whoever ends clears all.
    kinds: Vec<Kind>,
}

/// All timers of a kind, by the number of whom each is for.
#[derive(Debug)]
struct Kind {
    kind: Discriminant<Timer>,
    set: BTreeMap<u128, Timestamp>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        if let Some(before) = self.kind(timer).set.insert(timer.number(), at) {
            self.ordered(timer).remove(&(before, timer));
        }
        self.ordered(timer).insert((at, timer));
    }

    /// The timers of this one's kind.
    fn kind(&mut self, timer: Timer) -> &mut Kind {
        let kind = discriminant(&timer);
        let at = self.kinds.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
            self.kinds.push(Kind { kind, set: BTreeMap::new() });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }

    fn ordered(&mut self, timer: Timer) -> &mut BTreeSet<(Timestamp, Timer)> {
        if timer.judges_silence() { &mut self.silences } else { &mut self.by_time }
    }

    /// Brings a timer that is set forward, never back.
    pub(super) fn hasten(&mut self, timer: Timer, at: Timestamp) {
        if self.at(timer).is_some_and(|set| at < set) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        let kind = discriminant(&timer);
        let set = self.kinds.iter_mut().find(|known| known.kind == kind).map(|known| &mut known.set);
        if let Some(at) = set.and_then(|set| set.remove(&timer.number())) {
            self.ordered(timer).remove(&(at, timer));
        }
    }

    /// When a timer that is set is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Timestamp> {
        let kind = discriminant(&timer);
        self.kinds.iter().find(|known| known.kind == kind)?.set.get(&timer.number()).copied()
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at(timer).is_some()
    }

    pub(super) fn next(&self) -> Option<(Timestamp, Timer)> {
        self.by_time.first().into_iter().chain(self.silences.first()).min().copied()
    }

    /// Takes the earliest timer that is due; one that judges silence only once
    /// everything was heard that had arrived by its time.
    pub(super) fn pop_due(&mut self, now: Timestamp, heard: Timestamp) -> Option<Timer> {
        let timed = self.by_time.first().filter(|(at, _)| *at <= now);
        let judged = self.silences.first().filter(|(at, _)| *at <= heard);
        let (_, timer) = timed.into_iter().chain(judged).min().copied()?;
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_at_its_time_and_silence_is_judged_once_all_was_heard() {
        let (silence, work) = (Timer::Heartbeat(ConnId(1)), Timer::StoreRetry);
        let mut timers = Timers::default();
        timers.set(silence, Timestamp(10));
        timers.set(work, Timestamp(20));
        assert_eq!(timers.next(), Some((Timestamp(10), silence)));
        assert_eq!([9, 10].map(|now| timers.pop_due(Timestamp(now), Timestamp(0))), [None, None]);
        let heard = |timers: &mut Timers, heard| timers.pop_due(Timestamp(19), Timestamp(heard));
        assert_eq!([9, 10, 10].map(|at| heard(&mut timers, at)), [None, Some(silence), None], "however late it is");
        timers.hasten(work, Timestamp(21));
        timers.hasten(silence, Timestamp(1));
        assert_eq!(timers.next(), Some((Timestamp(20), work)), "later, and one that is not set");
        timers.hasten(work, Timestamp(15));
        assert_eq!([14, 15].map(|now| timers.pop_due(Timestamp(now), Timestamp(0))), [None, Some(work)]);
        assert!(!timers.is_set(work));
    }
}
