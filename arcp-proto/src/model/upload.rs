//! Artifacts that do not fit a frame: they arrive in parts, and are fetched in ranges.

use alloc::vec::Vec;
use core::fmt;

use crate::id::{JobId, WireId};
use crate::model::artifact::{ArtifactRef, BlobDigest};

/// Requests about artifacts other than keeping and releasing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactWish {
    /// The bytes of an artifact.
    Fetch {
        /// The artifact.
        id: WireId,
        /// The range; an extension of ours (RFC §21), as are the other requests. `None`: all bytes.
        range: Option<ByteRange>,
    },
    /// A part of an artifact that is to be kept.
    Part(ArtifactPart),
    /// Drop the parts of these bytes.
    Abandon(BlobDigest),
    /// A listing of artifacts.
    List(ArtifactQuery),
}

/// A part of an artifact that is to be kept. An upload is identified by its principal and digest:
/// parts of equal bytes belong to the same upload.
#[derive(Clone, PartialEq, Eq)]
pub struct ArtifactPart {
    /// The SHA-256 of all bytes.
    pub digest: BlobDigest,
    /// The number of all bytes.
    pub size: u64,
    /// The number of bytes before this part. The first part is at 0; parts arrive in order.
    pub offset: u64,
    /// The bytes of this part; empty to ask how many were received.
    pub data: Vec<u8>,
}

/// Shows no bytes: they may have any value.
impl fmt::Debug for ArtifactPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArtifactPart { digest, size, offset, data } = self;
        let mut shown = f.debug_struct("ArtifactPart");
        shown.field("digest", digest).field("size", size).field("offset", offset).field("data", &data.len()).finish()
    }
}

/// A range of the bytes of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The number of bytes before it.
    pub offset: u64,
    /// Its longest length; it is shorter at the end, or if the runtime sends less at once.
    pub length: u64,
}

/// A query for artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactQuery {
    /// Only those after this one, the `next` of the page before.
    pub after: Option<WireId>,
    /// Only those that the agent of this job stored; `None`: those of the principal.
    pub job: Option<WireId>,
    /// Entries per page, 1 to 1000; `None`: 100.
    pub limit: Option<u64>,
}

/// Answers to an [`ArtifactWish`] other than [`FetchedArtifact`](super::reply::FetchedArtifact).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactAnswer {
    /// The number of bytes that were received and are stored.
    Received {
        /// The SHA-256 of all bytes.
        digest: BlobDigest,
        /// The number of all bytes.
        size: u64,
        /// The number of bytes received.
        received: u64,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A page of artifacts.
    Page(ArtifactPage),
}

impl ArtifactAnswer {
    /// The request it answers.
    pub fn request(&self) -> Option<&WireId> {
        match self {
            ArtifactAnswer::Received { request, .. } => request.as_ref(),
            ArtifactAnswer::Page(page) => page.request.as_ref(),
        }
    }

    /// Bytes that it holds, approximately.
    pub(crate) fn weight(&self) -> usize {
        match self {
            ArtifactAnswer::Received { .. } => 0,
            ArtifactAnswer::Page(page) => page.artifacts.iter().map(ListedArtifact::weight).sum(),
        }
    }
}

/// A page of artifacts, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries.
    pub artifacts: Vec<ListedArtifact>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<WireId>,
}

/// An artifact in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedArtifact {
    /// Its id and description.
    pub artifact: ArtifactRef,
    /// The job whose agent stored it, if one did.
    pub job: Option<JobId>,
}

impl ListedArtifact {
    /// Bytes that it holds, approximately.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.artifact.id.as_str().len() + self.artifact.media_type.as_str().len()
    }
}
