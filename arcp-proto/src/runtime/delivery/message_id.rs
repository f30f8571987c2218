//! Message ids. Those of numbered frames are made of session and number, those of copies for
//! subscriptions of log and event; both can be read back.

use ulid::Ulid;

use crate::id::{LogId, SessionId};
use crate::time::UtcMs;
use crate::wire::FrameRole;

/// The bits of an id that identify a session or a job.
pub(super) fn tag(ulid: Ulid) -> u64 {
    const MASK: u128 = (1 << 40) - 1;
    (ulid.random() & MASK) as u64
}

/// The message id of a numbered frame. Its time is the event's, the rest is made of session and
/// number. So a replayed frame has its old id, and the number can be read back from it.
pub(super) fn message_id(session: SessionId, seq: u64, at: UtcMs) -> Ulid {
    const MASK: u128 = (1 << 40) - 1;
    Ulid::from_parts(at.0, u128::from(tag(session.ulid())) << 40 | (u128::from(seq) & MASK))
}

/// The tag and the number in a message id that this runtime made.
pub(super) fn tag_and_number(id: Ulid) -> (u64, u64) {
    const MASK: u128 = (1 << 40) - 1;
    ((id.random() >> 40 & MASK) as u64, (id.random() & MASK) as u64)
}

/// The id of an event's copy for subscriptions. It is the same for all, and a client can ask for
/// what came after it.
pub(super) fn copy_id(log: LogId, n: u64, role: FrameRole, at: UtcMs) -> Ulid {
    let tag = match log {
        LogId::Job(job) => tag(job.ulid()),
    };
    let low = n << 2 | role_number(role);
    Ulid::from_parts(at.0, u128::from(tag) << 40 | u128::from(low & ((1 << 40) - 1)))
}

/// The last event that was shown whole once a frame with such an id was sent.
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
