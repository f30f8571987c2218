//! Ranges of stored bytes, and uploads in parts, as the host is asked for them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::OpId;
use crate::model::artifact::BlobDigest;

/// A range of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRange {
    /// How many bytes precede it.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// A step of an upload in parts. The bytes need not survive a crash until they are
/// [finished](Self::Finish); [`Output::KeepBlobs`](super::Output::KeepBlobs) deletes
/// what an earlier run left unfinished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartsStep {
    /// Keep a part; answer with [`Input::BlobStored`](super::Input::BlobStored).
    Append {
        /// The operation.
        op: OpId,
        /// The number of the upload, unique within a run of the runtime.
        upload: u64,
        /// How many bytes of it came before.
        offset: u64,
        /// The part.
        #[serde(with = "crate::record::frame_text")]
        bytes: Vec<u8>,
    },
    /// The upload is complete: store it, so that no crash takes it back; answer with
    /// [`Input::BlobStored`](super::Input::BlobStored).
    Finish {
        /// The operation.
        op: OpId,
        /// The number of the upload.
        upload: u64,
        /// The SHA-256 of the whole, which identifies it from then on.
        digest: BlobDigest,
    },
    /// Drop the upload.
    Abandon {
        /// The number of the upload.
        upload: u64,
    },
}
