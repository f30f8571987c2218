//! Artifacts that do not fit a frame: they come in parts, and are fetched range by range.

use alloc::vec::Vec;
use core::fmt;

use crate::id::{JobId, WireId};
use crate::model::artifact::{ArtifactRef, BlobDigest};

/// What a client wants of artifacts besides leaving and releasing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactWish {
    /// The bytes of an artifact.
    Fetch {
        /// The artifact.
        id: WireId,
        /// Which of them: an extension of ours (RFC §21), as is what follows. `None`: all.
        range: Option<ByteRange>,
    },
    /// Some of the bytes of an artifact that is to be.
    Part(ArtifactPart),
    /// The parts that have come of these bytes are not wanted any more.
    Abandon(BlobDigest),
    /// A listing of artifacts.
    List(ArtifactQuery),
}

/// Some bytes of an artifact that is to be. Whoever leaves one is known by what it is:
/// the parts of equal bytes are those of one.
#[derive(Clone, PartialEq, Eq)]
pub struct ArtifactPart {
    /// The SHA-256 of all bytes.
    pub digest: BlobDigest,
    /// How many there are in all.
    pub size: u64,
    /// How many come before these. The first part is at 0; parts come in order.
    pub offset: u64,
    /// Some of the bytes; none of them to ask how many have come.
    pub data: Vec<u8>,
}

/// Shows no bytes: they may be anything.
impl fmt::Debug for ArtifactPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArtifactPart { digest, size, offset, data } = self;
        let mut shown = f.debug_struct("ArtifactPart");
        shown.field("digest", digest).field("size", size).field("offset", offset).field("data", &data.len()).finish()
    }
}

/// Some bytes of what is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// How many come before them.
    pub offset: u64,
    /// How many there may be; fewer at the end, or where the runtime gives fewer at once.
    pub length: u64,
}

/// Which artifacts are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactQuery {
    /// Those after this one: what the page before ended with.
    pub after: Option<WireId>,
    /// Those that the agent of this job has left; `None`: those of the principal.
    pub job: Option<WireId>,
    /// How many at most, 1 to 1000; `None`: 100.
    pub limit: Option<u64>,
}

/// What is answered to an [`ArtifactWish`] that was not done already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactAnswer {
    /// So many of these bytes have come and are stored.
    Received {
        /// The SHA-256 of all.
        digest: BlobDigest,
        /// How many there are in all.
        size: u64,
        /// How many have come.
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

    /// Bytes that it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        match self {
            ArtifactAnswer::Received { .. } => 0,
            ArtifactAnswer::Page(page) => page.artifacts.iter().map(ListedArtifact::weight).sum(),
        }
    }
}

/// Artifacts, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// They.
    pub artifacts: Vec<ListedArtifact>,
    /// What the next page comes after; `None`: there is none.
    pub next: Option<WireId>,
}

/// An artifact in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedArtifact {
    /// What it is known by, and what it is.
    pub artifact: ArtifactRef,
    /// The job whose agent left it, if one has.
    pub job: Option<JobId>,
}

impl ListedArtifact {
    /// Bytes that it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.artifact.id.as_str().len() + self.artifact.media_type.as_str().len()
    }
}
