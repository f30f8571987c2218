//! Why connections are closed.

use serde::{Deserialize, Serialize};

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// The peer asked for it.
    Goodbye,
    /// The handshake was refused.
    Refused,
    /// The peer opened no session in time.
    HandshakeTimeout,
    /// The peer sent nothing for too long.
    HeartbeatLost,
    /// Its session was taken from its client.
    Evicted,
    /// Another connection resumed its session.
    TakenOver,
    /// The peer read nothing for too long.
    SlowReader,
    /// The peer sent requests faster than it read the answers.
    Flood,
    /// The runtime has too many connections.
    TooMany,
    /// Events that the session still needs were deleted.
    HistoryLost,
    /// Events that the session needs could not be read from the store.
    StoreFailed,
    /// The operator shut the runtime down.
    Shutdown,
    /// The peer sent a frame that is too long.
    TooLong,
}
