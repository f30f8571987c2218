//! Bounds of artifacts.

use serde::{Deserialize, Serialize};

/// What clients leave here for a while.
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
        }
    }
}
