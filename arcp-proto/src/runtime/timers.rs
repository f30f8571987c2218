//! Timers. Setting one replaces it; one that fires is removed before its action.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem::{Discriminant, discriminant};

use serde::{Deserialize, Serialize};

use crate::id::{ConnId, JobId, SessionId};
use crate::time::Timestamp;

/// When the core is to be called next, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The earliest time for the call.
    pub at: Timestamp,
    /// The reason.
    pub reason: Timer,
}

/// The reason for a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// The peer has not opened a session in time.
    Handshake(ConnId),
    /// A ping is due, or the peer is lost.
    Heartbeat(ConnId),
    /// The peer has read nothing for too long while frames wait for it.
    Stalled(ConnId),
    /// The host has not checked an input in time.
    InputCheck(ConnId),
    /// The bytes of a frame have not arrived in time.
    Sidecar(ConnId),
    /// Numbered frames, held back for a moment, may be sent.
    Hold(ConnId),
    /// A detached session can be resumed until then.
    ResumeWindow(SessionId),
    /// The lease of a session ends, unless it is renewed.
    SessionLease(SessionId),
    /// A paced agent gets more credit.
    Pace(JobId),
    /// A stream of a job may go on.
    StreamPace(JobId),
    /// A job's heartbeat is due.
    JobHeartbeat(JobId),
    /// An agent has been silent for too long.
    AgentSilence(JobId),
    /// The job has reached its time limit.
    MaxRuntime(JobId),
    /// The agent has not stopped in time after a cancel.
    CancelGrace(JobId),
    /// An ended job is to be forgotten.
    Retention(JobId),
    /// Events that every session has acknowledged are to be deleted.
    Purge(JobId),
    /// The frames of ended jobs that a session was sent count as received.
    Arrived(SessionId),
    /// The oldest idempotency key expires.
    KeyExpiry,
    /// Repeated refusals are to be written to the audit trail, or its entries have expired.
    Audit,
    /// The first artifact expires.
    Artifacts,
    /// A schedule is due, or the times of one are to be found.
    Schedules,
    /// The store has not read events back in time.
    Read(SessionId),
    /// The store is to be retried.
    StoreRetry,
    /// The resume window after the end of a job is over.
    EndMissed(JobId),
    /// The lease of a job expires.
    LeaseExpiry(JobId),
    /// The first question of a job expires, or its schema was not checked in time.
    Prompt(JobId),
    /// The credentials of an ending job were not revoked in time.
    RevocationGrace(JobId),
    /// Credentials that could not be revoked are to be revoked again.
    RevokeAgain(JobId),
    /// The new value of a job's credential has not come in time.
    Renewal(JobId),
    /// The host has not checked or provided for a child in time.
    Delegation(JobId),
    /// The host has not issued the credentials of a step's or a schedule's job in time.
    Provision(JobId),
    /// A receiver has not answered in time, or is to be asked again.
    Departure(JobId),
    /// A step of a workflow is to be retried, or may begin after it was put off.
    Workflow(JobId),
    /// The agent of a job has not made a requested checkpoint in time.
    Checkpoint(JobId),
    /// Calls of agents that were put off for the store are handled.
    Backlog,
}

impl Timer {
    /// The number of the connection, session or job that it is for.
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

    /// Whether it judges that a peer, agent or store was silent for too long. Inputs that the
    /// driver still holds may prove otherwise.
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
    /// Timers that judge silence.
    silences: BTreeSet<(Timestamp, Timer)>,
    /// All timers by kind. Most kinds have none set; the end of a job or connection clears all
    /// kinds.
    kinds: Vec<Kind>,
}

/// The timers of a kind that are set, by number.
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

    /// The timers of the same kind.
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

    /// Moves a timer that is set to an earlier time, never to a later one.
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

    /// When a timer is due, if it is set.
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

    /// Takes the earliest timer that is due. A timer that judges silence is due only once
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
