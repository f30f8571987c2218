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
    by_timer: BTreeMap<Timer, Timestamp>,
    /// How many of each kind are set: of most kinds none is, and whoever ends clears all.
    kinds: Vec<(Discriminant<Timer>, usize)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        match self.by_timer.insert(timer, at) {
            Some(before) => drop(self.ordered(timer).remove(&(before, timer))),
            None => *self.kind(timer) += 1,
        }
        self.ordered(timer).insert((at, timer));
    }

    /// How many timers of this one's kind are set.
    fn kind(&mut self, timer: Timer) -> &mut usize {
        let kind = discriminant(&timer);
        let at = self.kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.kinds.push((kind, 0));
            self.kinds.len() - 1
        });
        &mut self.kinds[at].1
    }

    fn ordered(&mut self, timer: Timer) -> &mut BTreeSet<(Timestamp, Timer)> {
        if timer.judges_silence() { &mut self.silences } else { &mut self.by_time }
    }

    /// Brings a timer that is set forward, never back.
    pub(super) fn hasten(&mut self, timer: Timer, at: Timestamp) {
        if self.by_timer.get(&timer).is_some_and(|set| at < *set) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        let kind = self.kind(timer);
        if *kind == 0 {
            return;
        }
        if let Some(at) = self.by_timer.remove(&timer) {
            *self.kind(timer) -= 1;
            self.ordered(timer).remove(&(at, timer));
        }
    }

    /// When a timer that is set is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.by_timer.get(&timer).copied()
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
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
