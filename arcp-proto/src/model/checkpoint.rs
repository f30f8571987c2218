//! Checkpoints: states that agents kept, from which jobs can begin (RFC §19).

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{IdempotencyKey, WireId};
use crate::time::UtcMs;

/// The longest label that a client may give a checkpoint, in bytes.
pub const LONGEST_LABEL: usize = 256;

/// A request for a checkpoint of a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCheckpoint {
    /// The job.
    pub job: WireId,
    /// Its label, at most [`LONGEST_LABEL`] bytes. `None`: the agent chooses.
    pub label: Option<String>,
}

/// A request for a new job that begins at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreCheckpoint {
    /// The checkpoint.
    pub checkpoint: WireId,
    /// The idempotency key: the same key of the same principal means the same job.
    pub key: Option<IdempotencyKey>,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRef {
    /// Its id.
    pub id: WireId,
    /// The job whose state it is.
    pub job: WireId,
    /// Its label.
    pub label: Option<String>,
    /// The time at which it was made.
    pub created_at: Option<UtcMs>,
    /// Bytes of the state.
    pub size: u64,
    /// Whether a client requested it; otherwise its agent made it unasked.
    pub asked_for: bool,
}

/// The checkpoints of a job from which others can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointList {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job.
    pub job: WireId,
    /// The checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointRef>,
}

impl CheckpointRef {
    /// Its size and its label's, in bytes, without its ids.
    pub(crate) fn weight(&self) -> usize {
        size_of::<CheckpointRef>() + self.label.as_ref().map_or(0, String::len)
    }
}
