//! Bounds of the streams of jobs.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Streams that agents open, and clients to agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStreamLimits {
    /// Streams of one job that are open at once, those of clients with them (16).
    /// More: one that is opened is refused, or dropped with a warning.
    pub open_streams_per_job: usize,
    /// Bytes of chunks of one stream to an agent that it has not taken (64 KiB). More:
    /// a chunk is refused.
    pub stream_input_bytes: usize,
}

impl Default for JobStreamLimits {
    fn default() -> JobStreamLimits {
        JobStreamLimits { open_streams_per_job: 16, stream_input_bytes: 64 << 10 }
    }
}

impl JobStreamLimits {
    /// For a device.
    pub(super) fn small() -> JobStreamLimits {
        JobStreamLimits { open_streams_per_job: 4, stream_input_bytes: 4 << 10 }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match self.stream_input_bytes {
            0 => Err(ConfigError::Limit { name: "stream_input_bytes", value: 0, expected: "1 or more" }),
            _ => Ok(()),
        }
    }
}
