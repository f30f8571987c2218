//! Bounds of the streams of jobs.

use serde::{Deserialize, Serialize};

/// Streams that agents open, and clients to agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStreamLimits {
    /// Streams of one job that are open at once, those of clients with them (16).
    /// More: one that is opened is refused, or dropped with a warning.
    pub open_streams_per_job: usize,
}

impl Default for JobStreamLimits {
    fn default() -> JobStreamLimits {
        JobStreamLimits { open_streams_per_job: 16 }
    }
}

impl JobStreamLimits {
    /// For a device.
    pub(super) fn small() -> JobStreamLimits {
        JobStreamLimits { open_streams_per_job: 4 }
    }
}
