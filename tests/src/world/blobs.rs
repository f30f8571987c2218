//! The bytes of artifacts, as a host keeps them: on a disk that outlives a crash.

use std::collections::BTreeMap;

use arcp_proto::id::{CallId, JobId, OpId};
use arcp_proto::model::artifact::{ArtifactTerms, BlobDigest};
use arcp_proto::runtime::{AgentCall, Input};

use super::{Event, World};
use crate::agents::MEDIA_TYPE;

/// What was stored, and how the host behaves.
#[derive(Debug, Default)]
pub struct Blobs {
    /// What is there.
    pub stored: BTreeMap<BlobDigest, Vec<u8>>,
    /// Says that nothing can be stored.
    pub full: bool,
    /// Says nothing; what it was asked for is done all the same.
    pub silent: bool,
    /// How often it was asked to store something.
    pub stores: usize,
    /// What agents offer with their calls.
    pub offers: BTreeMap<(JobId, CallId), Vec<u8>>,
}

impl World {
    pub(super) fn read_blob(&mut self, op: OpId, digest: BlobDigest) {
        let bytes = self.blobs.stored.get(&digest).cloned();
        self.say_of_blobs(Input::BlobRead { op, bytes });
    }

    pub(super) fn store_blob(&mut self, op: OpId, digest: BlobDigest, bytes: Vec<u8>) {
        assert_eq!(BlobDigest::of(&bytes), digest, "they are what they are known by");
        let stored = !self.blobs.full;
        self.blobs.stores += 1;
        if stored {
            self.blobs.stored.insert(digest, bytes);
        }
        self.say_of_blobs(Input::BlobStored { op, stored });
    }

    /// Stores what an agent offers, unless it is something else by now.
    pub(super) fn take_blob(&mut self, op: OpId, whose: (JobId, CallId), digest: BlobDigest) {
        match self.blobs.offers.remove(&whose).filter(|bytes| BlobDigest::of(bytes) == digest) {
            Some(bytes) => self.store_blob(op, digest, bytes),
            None => self.say_of_blobs(Input::BlobStored { op, stored: false }),
        }
    }

    /// The agent of a job leaves bytes, and wants to know what becomes of that.
    pub fn offer(&mut self, job: JobId, id: CallId, bytes: &[u8]) {
        let media_type = MEDIA_TYPE.parse().expect("a media type");
        let terms = ArtifactTerms::new(media_type, bytes.len() as u64, BlobDigest::of(bytes));
        self.blobs.offers.insert((job, id), bytes.to_vec());
        self.input(Input::AgentAsked { job, id, call: AgentCall::PutArtifact(Box::new(terms)) });
    }

    fn say_of_blobs(&mut self, said: Input) {
        if !self.blobs.silent {
            self.later(Event::ToRuntime(said));
        }
    }
}
