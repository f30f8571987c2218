//! Checkpoints: states that agents kept, from which jobs can begin (RFC §19).

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{IdempotencyKey, WireId};
use crate::time::UtcMs;

/// The longest label that a client may give a checkpoint, in bytes.
pub const LONGEST_LABEL: usize = 256;

/// A wish for a checkpoint of a job that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCheckpoint {
    /// The job.
    pub job: WireId,
    /// What to call it: at most [`LONGEST_LABEL`] bytes. `None`: whatever its agent does.
    pub label: Option<String>,
}

/// A wish for a new job that begins at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreCheckpoint {
    /// The checkpoint.
    pub checkpoint: WireId,
    /// Same key, same principal, same job.
    pub key: Option<IdempotencyKey>,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRef {
    /// What it is known by.
    pub id: WireId,
    /// Whose state it is.
    pub job: WireId,
    /// What it is called.
    pub label: Option<String>,
    /// When it was made.
    pub created_at: Option<UtcMs>,
    /// Bytes of the state.
    pub size: u64,
    /// Whether a client asked for it; otherwise its agent made it by itself.
    pub asked_for: bool,
}

/// The checkpoints of a job from which others can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointList {
    /// The request it answers.
    pub request: Option<WireId>,
    /// Their job.
    pub job: WireId,
    /// Them, oldest first.
    pub checkpoints: Vec<CheckpointRef>,
}

impl CheckpointRef {
    /// Bytes it holds besides its ids, roughly.
    pub(crate) fn weight(&self) -> usize {
        size_of::<CheckpointRef>() + self.label.as_ref().map_or(0, String::len)
    }
}
