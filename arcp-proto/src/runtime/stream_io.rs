//! What agents say in streams of their jobs, and what they are told of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::event::JobError;
use crate::model::stream::{ChunkNotes, StreamTerms};

/// What an agent says in a stream of its job that it knows by a number of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamCall {
    /// It begins.
    Open(StreamTerms),
    /// Its next chunk; text and bytes may be cut further.
    Chunk {
        /// Its data.
        data: ChunkData,
        /// What it says of it: elsewhere, as events pass through the same type.
        notes: Box<ChunkNotes>,
        /// Chunks that it has left out since the one before.
        #[serde(default)]
        shed: u32,
    },
    /// It ends.
    Close {
        /// Why.
        reason: Option<String>,
        /// Chunks that it has left out since the one before.
        #[serde(default)]
        shed: u32,
    },
    /// It breaks off.
    Fail {
        /// Why: its code, and the beginning of its message, are shown.
        error: JobError,
        /// Chunks that it has left out since the one before.
        #[serde(default)]
        shed: u32,
    },
    /// It has taken the next chunk of a stream that goes to it, or its end. Costs no
    /// credit.
    Took,
    /// It takes no more of a stream that goes to it, or says nothing in its own, of which
    /// it was not told that it is open. Costs no credit.
    Leave,
}

impl StreamCall {
    /// Bytes of credit it costs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            StreamCall::Open(terms) => {
                let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                text(&terms.content_type) + text(&terms.encoding)
            }
            StreamCall::Chunk { data, notes, .. } => {
                let data = match data {
                    ChunkData::Text(text) => text.len(),
                    ChunkData::Binary(bytes) => bytes.len(),
                };
                data + notes.attributes.as_ref().map_or(0, |attributes| attributes.as_str().len())
            }
            StreamCall::Close { reason, .. } => reason.as_ref().map_or(0, String::len),
            StreamCall::Fail { error, .. } => {
                let details = error.details.as_ref().map_or(0, |details| details.as_str().len());
                error.code.as_str().len() + error.message.len() + details
            }
            StreamCall::Took | StreamCall::Leave => 0,
        }
    }
}

/// A piece of a result, or of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkData {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// What an agent is told of a stream of its job. It knows its own by the numbers that
/// it gave them; those that clients open have numbers from [`INBOUND`] on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamWord {
    /// Whoever reads it wants nothing more for now: what it says all the same counts,
    /// and prolongs that.
    Hold,
    /// It may go on.
    GoOn,
    /// Its own stream is over: what it says in it counts no more.
    Ended(JobError),
    /// A client has opened a stream to it.
    Opened(StreamTerms),
    /// The next chunk from there; answer with [`StreamCall::Took`] once it is taken.
    Chunk {
        /// Its data.
        #[serde(with = "crate::record::frame_text")]
        data: Vec<u8>,
        /// What the client says of it.
        notes: ChunkNotes,
    },
    /// The client has said all, or breaks off with an error; answer with
    /// [`StreamCall::Took`] once it is taken.
    Closed(Option<JobError>),
}

/// A stream that is open, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedStream {
    /// Its id.
    pub id: String,
    /// Chunks that it has had.
    pub chunks: u64,
    /// Chunks that were left out.
    #[serde(default)]
    pub shed: u64,
}

/// The first number of streams that clients open.
pub const INBOUND: u32 = 1 << 31;
