//! The ways in which a server can misbehave.

use std::io;

/// Why there is no figure.
#[derive(Debug)]
pub enum Fault {
    /// A socket failed.
    Io(io::Error),
    /// The server was silent for too long.
    Silent,
    /// The server closed a connection.
    Closed,
    /// The bytes are no WebSocket, or use parts of the protocol that text frames do not need.
    NoWebSocket(String),
    /// A frame that cannot be read.
    Unread(String),
    /// An event sequence other than the next.
    Gap {
        /// The expected number.
        expected: u64,
        /// The number that came.
        came: u64,
    },
    /// The server refused a request, or a job failed.
    Refused(String),
    /// A frame that was not requested, or has wrong contents.
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Io(error) => write!(f, "a socket failed: {error}"),
            Fault::Silent => write!(f, "the server said nothing any more"),
            Fault::Closed => write!(f, "the server closed a connection"),
            Fault::NoWebSocket(what) => write!(f, "no WebSocket as it should be: {what}"),
            Fault::Unread(what) => write!(f, "a frame cannot be read: {what}"),
            Fault::Gap { expected, came } => write!(f, "number {came} came where {expected} is next"),
            Fault::Refused(what) => write!(f, "refused: {what}"),
            Fault::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

impl std::error::Error for Fault {}
