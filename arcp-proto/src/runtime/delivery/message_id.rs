//! Message ids: those of numbered frames follow from session and number, those of what
//! subscriptions are shown from log and event, and lead back to them.

use ulid::Ulid;

use crate::id::{LogId, SessionId};
use crate::time::UtcMs;
use crate::wire::FrameRole;

/// The bits of an id that stand for a session, or a job.
pub(super) fn tag(ulid: Ulid) -> u64 {
    const MASK: u128 = (1 << 40) - 1;
    (ulid.random() & MASK) as u64
}

/// The message id of a numbered frame: its time is the event's, the rest
/// comes from session and number, so that a replayed frame has its old id
/// and the number can be read back from it.
pub(super) fn message_id(session: SessionId, seq: u64, at: UtcMs) -> Ulid {
    const MASK: u128 = (1 << 40) - 1;
    Ulid::from_parts(at.0, u128::from(tag(session.ulid())) << 40 | (u128::from(seq) & MASK))
}

/// The tag and the number in a message id that we made.
pub(super) fn tag_and_number(id: Ulid) -> (u64, u64) {
    const MASK: u128 = (1 << 40) - 1;
    ((id.random() >> 40 & MASK) as u64, (id.random() & MASK) as u64)
}

/// The id of what subscriptions are shown of an event: the same for all, and
/// what came after it can be found by it.
pub(super) fn copy_id(log: LogId, n: u64, role: FrameRole, at: UtcMs) -> Ulid {
    let tag = match log {
        LogId::Job(job) => tag(job.ulid()),
    };
    let low = n << 2 | role_number(role);
    Ulid::from_parts(at.0, u128::from(tag) << 40 | u128::from(low & ((1 << 40) - 1)))
}

/// The last event that has been shown whole with the frame of such an id.
pub(super) fn event_of_copy(number: u64) -> u64 {
    let opens_or_closes = number & 0b11 == role_number(FrameRole::StreamOpen);
    (number >> 2).saturating_sub(u64::from(opens_or_closes))
}

fn role_number(role: FrameRole) -> u64 {
    match role {
        FrameRole::StreamOpen | FrameRole::StreamClose => 0,
        FrameRole::Whole => 1,
    }
}
