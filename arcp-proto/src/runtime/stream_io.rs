//! What agents do with streams of their jobs, and what they are told of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::event::JobError;
use crate::model::stream::{ChunkNotes, StreamTerms};

/// What an agent does with a stream of its job. The agent numbers its own streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamCall {
    /// Opens a stream.
    Open(StreamTerms),
    /// Sends a chunk; the runtime may split text and bytes further.
    Chunk {
        /// Its data.
        data: ChunkData,
        /// Its annotations. Boxed, because events pass through the same type.
        notes: Box<ChunkNotes>,
        /// Number of chunks dropped since the chunk before.
        #[serde(default)]
        shed: u32,
    },
    /// Closes a stream.
    Close {
        /// The reason.
        reason: Option<String>,
        /// Number of chunks dropped since the chunk before.
        #[serde(default)]
        shed: u32,
    },
    /// Closes a stream with an error.
    Fail {
        /// The error; readers are shown its code and the beginning of its message.
        error: JobError,
        /// Number of chunks dropped since the chunk before.
        #[serde(default)]
        shed: u32,
    },
    /// The agent has taken the next chunk of a stream to it, or the end of that stream. Costs no
    /// credit.
    Took,
    /// The agent takes no more of a stream to it, or gives up a stream of its own that it was
    /// not told is open. Costs no credit.
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

/// A piece of a result or of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkData {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// What an agent is told of a stream of its job. The agent numbers its own streams;
/// those that clients open have numbers from [`INBOUND`] on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamWord {
    /// The reader wants no more chunks at present. Chunks that the agent sends all the same
    /// count, and make the hold longer.
    Hold,
    /// The reader wants chunks again.
    GoOn,
    /// The agent's stream has ended: what it sends there has no effect.
    Ended(JobError),
    /// A client has opened a stream to the agent.
    Opened(StreamTerms),
    /// The next chunk of a client; answer with [`StreamCall::Took`] once it is taken.
    Chunk {
        /// Its data.
        #[serde(with = "crate::record::frame_text")]
        data: Vec<u8>,
        /// The client's annotations.
        notes: ChunkNotes,
    },
    /// The client has closed its stream, if with an error, this one; answer with
    /// [`StreamCall::Took`] once it is taken.
    Closed(Option<JobError>),
}

/// An open stream, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedStream {
    /// Its id.
    pub id: String,
    /// Chunks sent in it so far.
    pub chunks: u64,
    /// Chunks dropped from it so far.
    #[serde(default)]
    pub shed: u64,
}

/// The first number of the streams that clients open.
pub const INBOUND: u32 = 1 << 31;
