//! Bounds of connections that carry several sessions as streams.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Connections of HTTP/2 and QUIC, and their streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLimits {
    /// Streams that one HTTP/2 connection carries at once (16). More: refused, to
    /// be opened on another connection.
    pub streams_per_connection: u32,
    /// Bytes of one stream that have arrived and are not read (64 KiB), and as many (over QUIC four
    /// times as many) that are written and not sent. More: the peer waits;
    /// the writer waits.
    pub stream_bytes: u32,
    /// Requests of one HTTP/2 connection that led to no session (64). More: it is
    /// closed.
    pub failed_streams: u32,
    /// Frames of one HTTP/2 connection that carry no data of a session, such as
    /// `PING` and `SETTINGS` (1,024). The allowance is restored within ten seconds, and a little by
    /// each frame of data. More: it is closed.
    pub empty_frames: u32,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits { streams_per_connection: 16, stream_bytes: 64 << 10, failed_streams: 64, empty_frames: 1024 }
    }
}

impl StreamLimits {
    /// Bounds for a device.
    pub(super) fn small() -> StreamLimits {
        StreamLimits { streams_per_connection: 4, stream_bytes: 4 << 10, failed_streams: 8, empty_frames: 64 }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let limit = |name, value: u32, expected| ConfigError::Limit { name, value: u64::from(value), expected };
        if self.streams_per_connection == 0 {
            return Err(limit("streams_per_connection", 0, "1 or more"));
        }
        if self.empty_frames < 16 {
            return Err(limit("empty_frames", self.empty_frames, "16 or more"));
        }
        if (1 << 10..=16 << 20).contains(&self.stream_bytes) {
            return Ok(());
        }
        Err(limit("stream_bytes", self.stream_bytes, "1024 to 16 MiB"))
    }
}
