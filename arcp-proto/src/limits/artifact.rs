//! Bounds of artifacts, and of checkpoints.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Artifacts of clients and agents, and checkpoints at which jobs can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactLimits {
    /// Bytes of one artifact that is put in one request (1 MiB). Larger: refused.
    pub artifact_bytes: usize,
    /// Bytes of one artifact that an agent puts, or a client in parts (64 MiB). Larger:
    /// refused.
    pub whole_artifact_bytes: usize,
    /// All artifacts (65,536); each account may have
    /// its `principal_share`. More: a new one is refused.
    pub artifacts: usize,
    /// Bytes of all artifacts, with equal ones counted each time (4 GiB); each account may
    /// have its `principal_share`. As above.
    pub all_artifact_bytes: usize,
    /// Uploads in parts at once (256); each account may have
    /// its `principal_share`. More: another one is refused. All bytes
    /// of an upload count towards `all_artifact_bytes` from its first part on.
    pub artifact_uploads: usize,
    /// Artifacts that the host stores or reads at once (64); each
    /// account may have its `principal_share`. More: refused.
    pub artifact_operations: usize,
    /// Checkpoints of one job that are kept (16). More: the oldest that its agent made unasked
    /// goes; if clients asked for all of them, a request for another one is
    /// refused.
    pub checkpoints_per_job: usize,
    /// Bytes of the kept checkpoints of one job (4 MiB). As above.
    pub checkpoint_bytes_per_job: usize,
    /// Bytes of the checkpoints of all jobs, with the inputs that jobs which begin at them
    /// need (128 MiB); each principal may have its
    /// `principal_share`. More: as above, and no job begins at a checkpoint of another job.
    pub all_checkpoint_bytes: usize,
    /// How long an agent may take for a requested checkpoint (30 s). Longer: the
    /// request is refused.
    pub checkpoint_wait: Duration,
}

impl ArtifactLimits {
    /// Bounds for a device.
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
