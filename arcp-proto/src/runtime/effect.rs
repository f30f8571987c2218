//! What one part says to the others. [`Runtime::carry`](super::Runtime) takes
//! it to them, in order, before anything else is done.

use crate::id::JobId;
use crate::model::event::EventClass;

#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// A job has one more event.
    Appended {
        job: JobId,
        /// Its number in the job.
        n: u64,
        class: EventClass,
        /// Whether with it a good many events have come that may go together.
        grown: bool,
    },
}
