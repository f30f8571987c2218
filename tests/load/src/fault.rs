//! What a server did that it must not.

use std::io;

/// Why there is no figure.
#[derive(Debug)]
pub enum Fault {
    /// A socket failed.
    Io(io::Error),
    /// The server said nothing for as long as anybody waits.
    Silent,
    /// The server closed a connection.
    Closed,
    /// Bytes that are no WebSocket, or more of it than a server of frames of text needs.
    NoWebSocket(String),
    /// A frame that cannot be read as what it must be.
    Unread(String),
    /// A sequence number other than the next.
    Gap {
        /// The number that comes next.
        expected: u64,
        /// The one that came.
        came: u64,
    },
    /// The server refused a request, or a job failed.
    Refused(String),
    /// A frame that was not asked for, or that says something else than it must.
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
