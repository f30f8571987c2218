//! Effects: what one part tells the others. [`Runtime::carry`](super::Runtime) takes them to the
//! other parts, in order, before anything else is done.

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
        /// Their numbers in the job: several only if one input made them.
        events: RangeInclusive<u64>,
        /// The class of the last of them.
        class: EventClass,
        /// Whether so many events have come that old ones may be dropped together.
        grown: bool,
        /// The session that has no use for them.
        but: Option<SessionId>,
    },
    /// A question of a job is checked by the host.
    Checking { op: OpId, job: JobId },
    /// A request stopped waiting for what the host does for its job.
    Unheard(Asker),
    /// A job has ended, and its terminal was appended.
    JobEnded(JobId),
    /// A job has ended with an artifact of its agent as its result, which is kept at least until
    /// this time.
    ResultStored { job: JobId, artifact: WireId, until: UtcMs },
    /// The job of a workflow's step has ended.
    StepEnded { workflow: JobId, job: JobId },
    /// A workflow ends, once the outcomes of its steps are recorded.
    WorkflowEnds(JobId),
    /// A workflow is told to stop, or has ended.
    StopWorkflow(JobId),
    /// The record of an agent's start is durable: start it.
    StartAgent(JobId),
    /// No reader holds back the agent of a job: it gets the credit it is owed.
    CreditOwed(JobId),
    /// No index refers to a job.
    Unreferenced(JobId),
    /// A connection gets a reply. `at` is the position of its session when the reply was made;
    /// numbers that are taken back later move it too.
    Answer { conn: ConnId, reply: Reply, at: Position },
    /// Something that a session waits for exists, or was refused: the session is told if it is
    /// connected.
    Tell { session: SessionId, reply: Reply },
    /// Numbers of a session were taken back before they were sent on a connection.
    Renumbered { conn: ConnId, withdrawn: Withdrawn },
    /// A connection is to close.
    Leave { conn: ConnId, reason: CloseReason },
    /// A connection is to close, and its peer is told why.
    Dismiss { conn: ConnId, refusal: Refusal, reason: CloseReason },
    /// A session is taken from its client.
    Evicted {
        session: SessionId,
        /// Whether its client is told at once, as no record has to be durable first.
        at_once: bool,
    },
    /// A session has ended.
    SessionOver(SessionId),
    /// The session of an anonymous principal has ended, and the principal with it.
    NobodyIs(Principal),
    /// A session has lost its connection.
    Detached {
        session: SessionId,
        /// When the last heartbeat or other frame of its client came.
        alive: Timestamp,
        /// The token that its client resumed it with, if the client was told of no other since.
        claimed: Option<Box<SecretDigest>>,
    },
}

/// Classes for which somebody waits: such an event has an effect of its own.
const ALONE: EventClasses = EventClasses::new(&[
    EventClass::InputRequest,
    EventClass::ChoiceRequest,
    EventClass::PermissionRequest,
    EventClass::Succeeded,
    EventClass::Failed,
    EventClass::Cancelled,
]);

/// The effects that were not carried yet.
#[derive(Debug, Default)]
pub(super) struct Effects {
    queue: VecDeque<Effect>,
    /// Whether consecutive events of a job share one effect.
    pub(super) joins: bool,
}

impl Effects {
    pub(super) fn put(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// A job has another event. It joins the last effect, if that is about the events before it.
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

/// The position of a session that is attached to a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// The last number sent on the connection.
    pub(super) cursor: u64,
    /// The last number given.
    pub(super) head: u64,
}

/// Numbers that were taken back, while those before and after them stay.
#[derive(Debug)]
pub(super) struct Withdrawn {
    /// The first and the last number of each range of them.
    pub(super) numbers: Vec<(u64, u64)>,
}

impl Withdrawn {
    /// The new number of the frame that had this number, or of the last one left before it.
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
