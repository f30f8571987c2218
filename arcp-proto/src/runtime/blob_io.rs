//! What a host is asked to do with bytes that come in parts, and are read in ranges.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::OpId;
use crate::model::artifact::BlobDigest;

/// Some of the bytes that were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRange {
    /// How many come before them.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What is done with bytes that come in parts. They need not outlive the runtime before
/// they are [finished](Self::Finish); what an earlier run has left of them goes with
/// [`Output::KeepBlobs`](super::Output::KeepBlobs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartsStep {
    /// Keep a part; answer with [`Input::BlobStored`](super::Input::BlobStored).
    Append {
        /// The operation.
        op: OpId,
        /// Which bytes: never the same number for others in one run of the runtime.
        upload: u64,
        /// How many have come before.
        offset: u64,
        /// The part.
        #[serde(with = "crate::record::frame_text")]
        bytes: Vec<u8>,
    },
    /// All have come: store them, so that no crash takes them back; answer with
    /// [`Input::BlobStored`](super::Input::BlobStored).
    Finish {
        /// The operation.
        op: OpId,
        /// Which bytes.
        upload: u64,
        /// What they are known by from now on: their SHA-256.
        digest: BlobDigest,
    },
    /// Nobody wants what has come.
    Abandon {
        /// Which bytes.
        upload: u64,
    },
}
