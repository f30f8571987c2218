//! Bounds of checkpoints.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// States of jobs from which others can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointLimits {
    /// Checkpoints of one job that are kept (16). More: the oldest that its agent made by
    /// itself goes; where clients asked for all of them, one more that is asked for is
    /// refused.
    pub checkpoints_per_job: usize,
    /// Bytes of the checkpoints of one job that are kept (4 MiB). As above.
    pub checkpoint_bytes_per_job: usize,
    /// Bytes of the checkpoints of all jobs, with what jobs that begin at them are started
    /// with (128 MiB); of what the others leave a principal may have its
    /// `principal_share`. More: as above, and no job begins at another one's checkpoint.
    pub all_checkpoint_bytes: usize,
    /// How long an agent may take for a checkpoint that is asked for (30 s). Longer: whoever
    /// asks is refused.
    pub checkpoint_wait: Duration,
}

impl CheckpointLimits {
    /// Those of a device.
    pub(super) const fn small() -> CheckpointLimits {
        CheckpointLimits {
            checkpoints_per_job: 4,
            checkpoint_bytes_per_job: 64 << 10,
            all_checkpoint_bytes: 256 << 10,
            checkpoint_wait: Duration::from_secs(30),
        }
    }
}

impl Default for CheckpointLimits {
    fn default() -> CheckpointLimits {
        CheckpointLimits {
            checkpoints_per_job: 16,
            checkpoint_bytes_per_job: 4 << 20,
            all_checkpoint_bytes: 128 << 20,
            checkpoint_wait: Duration::from_secs(30),
        }
    }
}
