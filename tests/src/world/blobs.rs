//! The bytes of artifacts, as a host keeps them: on a disk that outlives a crash.

use std::collections::BTreeMap;

use arcp_proto::id::OpId;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::Input;

use super::{Event, World};

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

    fn say_of_blobs(&mut self, said: Input) {
        if !self.blobs.silent {
            self.later(Event::ToRuntime(said));
        }
    }
}
