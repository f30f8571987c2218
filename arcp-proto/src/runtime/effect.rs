//! What one part says to the others. [`Runtime::carry`](super::Runtime) takes
//! it to them, in order, before anything else is done.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::asker::Asker;
use super::io::CloseReason;
use crate::id::{ConnId, JobId, OpId, Principal, SessionId, WireId};
use crate::model::event::{EventClass, EventClasses};
use crate::model::reply::{Refusal, Reply};
use crate::secret::SecretDigest;
use crate::time::{Timestamp, UtcMs};

#[derive(Debug)]
pub(super) enum Effect {
    /// A job has more events.
    Appended {
        job: JobId,
        /// Their numbers in the job: several only where they were said together.
        events: RangeInclusive<u64>,
        /// What the last of them is.
        class: EventClass,
        /// Whether with it a good many events have come that may go together.
        grown: bool,
        /// The session that it is not news to.
        but: Option<SessionId>,
    },
    /// A question of a job is being checked.
    Checking { op: OpId, job: JobId },
    /// Somebody does not wait any longer for what the host does for a job.
    Unheard(Asker),
    /// A job is over: its end comes before.
    JobEnded(JobId),
    /// A job has ended with an artifact of its agent as its result, which is kept until
    /// then at least.
    ResultStored { job: JobId, artifact: WireId, until: UtcMs },
    /// The job of a step of a workflow has ended.
    StepEnded { workflow: JobId, job: JobId },
    /// A workflow ends once it was said what its steps have come to.
    WorkflowEnds(JobId),
    /// A workflow is told to stop, or has ended.
    StopWorkflow(JobId),
    /// That an agent is started is durable: it is.
    StartAgent(JobId),
    /// Nobody holds up the agent of a job any more: it gets what it is owed.
    CreditOwed(JobId),
    /// No index points to a job any more.
    Unreferenced(JobId),
    /// A connection is answered; its session was so far when that was said, and
    /// numbers that are taken back meanwhile move that too.
    Answer { conn: ConnId, reply: Reply, at: Position },
    /// Something that a session asked for is there, or is not to be: it is told so if it
    /// is connected.
    Tell { session: SessionId, reply: Reply },
    /// Numbers were taken back that had not been sent on a connection.
    Renumbered { conn: ConnId, withdrawn: Withdrawn },
    /// A connection ends.
    Leave { conn: ConnId, reason: CloseReason },
    /// A connection ends, and is told why.
    Dismiss { conn: ConnId, refusal: Refusal, reason: CloseReason },
    /// A session is being taken from its client.
    Evicted {
        session: SessionId,
        /// Whether its client is told at once: no record has to be durable.
        at_once: bool,
    },
    /// A session is over.
    SessionOver(SessionId),
    /// The session is over that this principal was, whom nobody vouched for.
    NobodyIs(Principal),
    /// A session has lost its connection.
    Detached {
        session: SessionId,
        /// When its client gave its last sign of life.
        alive: Timestamp,
        /// The token by which that had claimed it, if it was told of no other since.
        claimed: Option<Box<SecretDigest>>,
    },
}

/// What somebody waits for: an event of these is told of by itself.
const ALONE: EventClasses = EventClasses::new(&[
    EventClass::InputRequest,
    EventClass::ChoiceRequest,
    EventClass::PermissionRequest,
    EventClass::Succeeded,
    EventClass::Failed,
    EventClass::Cancelled,
]);

/// What was said and not taken to the others yet.
#[derive(Debug, Default)]
pub(super) struct Effects {
    queue: VecDeque<Effect>,
    /// Whether events of a job that follow each other are one thing to say.
    pub(super) joins: bool,
}

impl Effects {
    pub(super) fn put(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// A job has one more event: that is said with what was said last, where both are the
    /// same news.
    pub(super) fn appended(&mut self, job: JobId, n: u64, class: EventClass, (grown, but): (bool, Option<SessionId>)) {
        if let Some(Effect::Appended { job: of, events, class: last, grown: grows, but: none }) = self.queue.back_mut()
            && self.joins
            && (*of, *events.end() + 1, *none) == (job, n, but)
            && !ALONE.has(*last)
            && !ALONE.has(class)
        {
            (*events, *last, *grows) = (*events.start()..=n, class, *grows || grown);
        } else {
            self.put(Effect::Appended { job, events: n..=n, class, grown, but });
        }
    }

    pub(super) fn take(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }
}

/// How far a session is that is attached to a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// The last number that was sent on the connection.
    pub(super) cursor: u64,
    /// The last number that was given.
    pub(super) head: u64,
}

/// Numbers that were taken back: what comes before and after each is the same.
#[derive(Debug)]
pub(super) struct Withdrawn {
    /// The first and the last number of each row of them.
    pub(super) numbers: Vec<(u64, u64)>,
}

impl Withdrawn {
    /// What stood at this number, or the last before it that is left, stands
    /// at now.
    pub(super) fn moved(&self, seq: u64) -> u64 {
        let before = self.numbers.iter().take_while(|(first, _)| *first <= seq);
        seq - before.map(|(first, last)| seq.min(*last) + 1 - first).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn events_are_told_of_together_but_for_those_whose_class_somebody_waits_for() {
        use EventClass::{ChoiceRequest, InputRequest, Log, Metric, PermissionRequest, Succeeded};
        let job = JobId::from_ulid(Ulid(1));
        let told = |classes: &[EventClass]| {
            let mut effects = Effects { joins: true, ..Effects::default() };
            for (n, class) in (1..).zip(classes) {
                effects.appended(job, n, *class, (false, None));
            }
            let mut told = Vec::new();
            while let Some(Effect::Appended { events, class, .. }) = effects.take() {
                told.push((events, class));
            }
            told
        };
        assert_eq!(told(&[Log, Metric, Log]), [(1..=3, Log)]);
        for class in [InputRequest, ChoiceRequest, PermissionRequest, Succeeded] {
            assert_eq!(told(&[Log, Metric, class, Log]), [(1..=2, Metric), (3..=3, class), (4..=4, Log)]);
        }
    }

    #[test]
    fn a_number_moves_to_the_last_one_before_it_that_was_not_taken_back() {
        let withdrawn = Withdrawn { numbers: alloc::vec![(3, 4), (7, 7)] };
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8, 9].map(|seq| withdrawn.moved(seq)), [1, 2, 2, 2, 3, 4, 4, 5, 6]);
    }
}
