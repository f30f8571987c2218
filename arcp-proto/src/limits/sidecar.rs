//! Bounds of bytes beside frames.

use serde::{Deserialize, Serialize};

/// What peers send as binary messages after a frame (RFC §11.3). What has come of a
/// sidecar counts with its frame for `ConnectionLimits::waiting_bytes` until all of it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SidecarLimits {
    /// Bytes of one sidecar (4 MiB). More: its frame is refused, and what comes of it
    /// is passed over.
    pub sidecar_bytes: usize,
    /// Seconds for which a frame waits for its sidecar (10). Longer: it is refused, and
    /// what still comes of it is passed over.
    pub sidecar_seconds: u64,
}

impl Default for SidecarLimits {
    fn default() -> SidecarLimits {
        SidecarLimits { sidecar_bytes: 4 << 20, sidecar_seconds: 10 }
    }
}
