//! Why connections are closed.

use serde::{Deserialize, Serialize};

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// The peer asked.
    Goodbye,
    /// The handshake was refused.
    Refused,
    /// No handshake came in time.
    HandshakeTimeout,
    /// Silence.
    HeartbeatLost,
    /// The session was taken from its client.
    Evicted,
    /// Another connection has the session now.
    TakenOver,
    /// It read nothing for too long.
    SlowReader,
    /// It asked faster than it read.
    Flood,
    /// A bound of this runtime.
    TooMany,
    /// What the session still needed is no longer kept.
    HistoryLost,
    /// What the session needed could not be read just now.
    StoreFailed,
    /// The operator.
    Shutdown,
    /// It sent a frame that is longer than what is taken.
    TooLong,
}
