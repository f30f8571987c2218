//! Message ids of numbered frames: they follow from session and number, and
//! lead back to them.

use ulid::Ulid;

use crate::id::SessionId;
use crate::time::UtcMs;

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
