//! The bytes of artifacts as a host keeps them: on a disk that survives a crash.

use std::collections::BTreeMap;

use arcp_proto::id::{CallId, JobId, OpId};
use arcp_proto::model::artifact::{ArtifactTerms, BlobDigest};
use arcp_proto::runtime::{AgentCall, BlobRange, Input, PartsStep};

use super::{Event, World};
use crate::agents::MEDIA_TYPE;

/// The stored bytes, and how the host behaves.
#[derive(Debug, Default)]
pub struct Blobs {
    /// The stored bytes, by digest.
    pub stored: BTreeMap<BlobDigest, Vec<u8>>,
    /// Whether the host reports that it cannot store.
    pub full: bool,
    /// Whether the host does not answer. It does what it is asked all the same.
    pub silent: bool,
    /// The answers that it has withheld.
    pub unsaid: Vec<Input>,
    /// How often it was asked to store bytes.
    pub stores: usize,
    /// The parts that have come, by number.
    pub parts: BTreeMap<u64, Vec<u8>>,
    /// The bytes that agents offer with their calls.
    pub offers: BTreeMap<(JobId, CallId), Vec<u8>>,
}

impl World {
    pub(super) fn read_blob(&mut self, op: OpId, digest: BlobDigest, range: Option<BlobRange>) {
        let within = |bytes: &Vec<u8>| match range {
            Some(BlobRange { offset, length }) => {
                bytes.iter().copied().skip(offset as usize).take(length as usize).collect()
            }
            None => bytes.clone(),
        };
        let bytes = self.blobs.stored.get(&digest).map(within);
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

    pub(super) fn do_parts(&mut self, step: PartsStep) {
        let parts = &mut self.blobs.parts;
        match step {
            PartsStep::Append { op, upload, offset, bytes } => {
                let stored = !self.blobs.full;
                if stored {
                    let come = parts.entry(upload).or_default();
                    assert_eq!(come.len() as u64, offset, "parts come in order");
                    come.extend_from_slice(&bytes);
                }
                self.say_of_blobs(Input::BlobStored { op, stored });
            }
            PartsStep::Finish { op, upload, digest } => {
                let bytes = parts.remove(&upload).unwrap_or_default();
                self.store_blob(op, digest, bytes);
            }
            PartsStep::Abandon { upload } => drop(parts.remove(&upload)),
        }
    }

    pub(super) fn keep_blobs(&mut self, digests: &[BlobDigest]) {
        self.blobs.stored.retain(|digest, _| digests.contains(digest));
        self.blobs.parts.clear();
    }

    /// Stores the bytes that an agent offers, unless their digest is another.
    pub(super) fn take_blob(&mut self, op: OpId, whose: (JobId, CallId), digest: BlobDigest) {
        match self.blobs.offers.remove(&whose).filter(|bytes| BlobDigest::of(bytes) == digest) {
            Some(bytes) => self.store_blob(op, digest, bytes),
            None => self.say_of_blobs(Input::BlobStored { op, stored: false }),
        }
    }

    /// The agent of a job leaves bytes, and asks for the outcome.
    pub fn offer(&mut self, job: JobId, id: CallId, bytes: &[u8]) {
        let media_type = MEDIA_TYPE.parse().expect("a media type");
        let terms = ArtifactTerms::new(media_type, bytes.len() as u64, BlobDigest::of(bytes));
        self.blobs.offers.insert((job, id), bytes.to_vec());
        self.input(Input::AgentAsked { job, id, call: AgentCall::PutArtifact(Box::new(terms)) });
    }

    /// The host answers again, and sends the withheld answers.
    pub fn speak_of_blobs(&mut self) {
        self.blobs.silent = false;
        for said in std::mem::take(&mut self.blobs.unsaid) {
            self.later(Event::ToRuntime(said));
        }
    }

    fn say_of_blobs(&mut self, said: Input) {
        if self.blobs.silent {
            self.blobs.unsaid.push(said);
        } else {
            self.later(Event::ToRuntime(said));
        }
    }
}
