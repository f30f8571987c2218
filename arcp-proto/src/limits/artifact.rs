//! Bounds of artifacts, and of checkpoints.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// What clients leave here for a while, and states of jobs at which others can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactLimits {
    /// Bytes of one artifact that is put at once (1 MiB). Larger: it is refused.
    pub artifact_bytes: usize,
    /// Bytes of one artifact that an agent leaves, or a client in parts (64 MiB). Larger:
    /// it is refused.
    pub whole_artifact_bytes: usize,
    /// Artifacts of everybody (65,536); of what the others leave an account may have
    /// its `principal_share`. More: one that is put is refused.
    pub artifacts: usize,
    /// Bytes of all artifacts, equal ones once for each (4 GiB); of what the others
    /// leave an account may have its `principal_share`. As above.
    pub all_artifact_bytes: usize,
    /// Artifacts of everybody that come in parts at once (256); of what the others leave
    /// an account may have its `principal_share`. More: another one is refused. All bytes
    /// of one count for `all_artifact_bytes` from its first part on.
    pub artifact_uploads: usize,
    /// Artifacts that the host is storing and reading at once (64); of what the others
    /// leave an account may have its `principal_share`. More: it is refused.
    pub artifact_operations: usize,
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

impl ArtifactLimits {
    /// Those of a device.
    pub(super) fn small() -> ArtifactLimits {
        ArtifactLimits {
            artifact_bytes: 16 << 10,
            whole_artifact_bytes: 64 << 10,
            artifacts: 64,
            all_artifact_bytes: 1 << 20,
            artifact_uploads: 2,
            artifact_operations: 2,
            checkpoints_per_job: 4,
            checkpoint_bytes_per_job: 64 << 10,
            all_checkpoint_bytes: 256 << 10,
            ..ArtifactLimits::default()
        }
    }
}

impl Default for ArtifactLimits {
    fn default() -> ArtifactLimits {
        ArtifactLimits {
            artifact_bytes: 1 << 20,
            whole_artifact_bytes: 64 << 20,
            artifacts: 65_536,
            all_artifact_bytes: 4 << 30,
            artifact_uploads: 256,
            artifact_operations: 64,
            checkpoints_per_job: 16,
            checkpoint_bytes_per_job: 4 << 20,
            all_checkpoint_bytes: 128 << 20,
            checkpoint_wait: Duration::from_secs(30),
        }
    }
}
