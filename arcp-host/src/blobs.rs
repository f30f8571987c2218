//! Where the bytes of artifacts are kept: in memory, or in files beside the store.

mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use arcp_proto::id::OpId;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::Input;

pub use self::folder::FolderBlobs;

use crate::agent::{Inbox, Offer};
use crate::log_line::{Level, Line};
use crate::server_log;

/// Keeps bytes by their digest. It is called on a thread of its own, one call at a
/// time, and may wait.
pub trait Blobs: Send {
    /// Stores bytes, so that no crash takes them back; those that are there stay.
    ///
    /// # Errors
    ///
    /// If they could not be stored.
    fn store(&mut self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()>;

    /// The same with bytes that are read from somewhere: so many, with this SHA-256.
    ///
    /// # Errors
    ///
    /// If they could not be read or stored, or are others.
    fn store_from(&mut self, digest: BlobDigest, size: u64, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
        match BlobDigest::of(&bytes) == digest {
            true => self.store(digest, &bytes),
            false => Err(others()),
        }
    }

    /// Reads bytes; `None`: they are not there.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&mut self, digest: BlobDigest) -> io::Result<Option<Vec<u8>>>;

    /// Lets go of bytes, and of those that are not there.
    ///
    /// # Errors
    ///
    /// If they stay.
    fn let_go(&mut self, digest: BlobDigest) -> io::Result<()>;

    /// Lets go of all but these.
    ///
    /// # Errors
    ///
    /// If some of the others stay.
    fn keep_only(&mut self, digests: &BTreeSet<BlobDigest>) -> io::Result<()>;
}

/// That bytes are not those that were named: a file was changed while it was read.
fn others() -> io::Error {
    io::Error::other("its bytes are not those that were offered: were they changed meanwhile?")
}

/// Bytes in memory: gone with the process, as jobs in a store in memory are.
#[derive(Debug, Default)]
pub struct MemoryBlobs(BTreeMap<BlobDigest, Arc<[u8]>>);

impl Blobs for MemoryBlobs {
    fn store(&mut self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()> {
        self.0.entry(digest).or_insert_with(|| bytes.into());
        Ok(())
    }

    fn read(&mut self, digest: BlobDigest) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(&digest).map(|bytes| bytes.to_vec()))
    }

    fn let_go(&mut self, digest: BlobDigest) -> io::Result<()> {
        self.0.remove(&digest);
        Ok(())
    }

    fn keep_only(&mut self, digests: &BTreeSet<BlobDigest>) -> io::Result<()> {
        self.0.retain(|digest, _| digests.contains(digest));
        Ok(())
    }
}

/// Does what the core asks for, in the order in which it does.
pub(crate) struct BlobThread {
    jobs: Sender<Wanted>,
    inbox: Arc<dyn Inbox>,
}

/// What the core asks for. The core bounds how much of it there is at once.
#[derive(Debug)]
pub(crate) enum Wanted {
    Store(OpId, BlobDigest, Vec<u8>),
    /// What an agent has offered, and how many bytes; `None`: it has taken it back.
    Take(OpId, BlobDigest, u64, Option<Offer>),
    Read(OpId, BlobDigest),
    LetGo(BlobDigest),
    KeepOnly(BTreeSet<BlobDigest>),
}

impl BlobThread {
    /// # Errors
    ///
    /// If there is no thread.
    pub(crate) fn new(mut blobs: Box<dyn Blobs>, inbox: Arc<dyn Inbox>) -> io::Result<BlobThread> {
        let (jobs, wanted) = channel::<Wanted>();
        let told = inbox.clone();
        let work = move || {
            for wanted in wanted {
                if let Some(input) = wanted.done(blobs.as_mut()) {
                    told.put(input);
                }
            }
        };
        std::thread::Builder::new().name("artifacts".to_string()).spawn(work)?;
        Ok(BlobThread { jobs, inbox })
    }

    pub(crate) fn want(&self, wanted: Wanted) {
        if let Err(gone) = self.jobs.send(wanted)
            && let Some(input) = gone.0.undone()
        {
            self.inbox.put(input);
        }
    }
}

impl Wanted {
    /// Does it; gives what the core is told.
    fn done(self, blobs: &mut dyn Blobs) -> Option<Input> {
        match self {
            Wanted::Store(op, digest, bytes) => {
                let stored = blobs.store(digest, &bytes);
                Some(Input::BlobStored { op, stored: said(stored, "stored", digest).is_some() })
            }
            Wanted::Take(op, digest, size, offer) => {
                let taken = offer.is_some_and(|offer| {
                    let stored = offer.reader().and_then(|mut from| blobs.store_from(digest, size, from.as_mut()));
                    said(stored, "stored", digest).is_some()
                });
                Some(Input::BlobStored { op, stored: taken })
            }
            Wanted::Read(op, digest) => {
                let bytes = said(blobs.read(digest), "read", digest).flatten();
                Some(Input::BlobRead { op, bytes })
            }
            Wanted::LetGo(digest) => {
                said(blobs.let_go(digest), "deleted", digest);
                None
            }
            Wanted::KeepOnly(digests) => {
                if let Err(error) = blobs.keep_only(&digests) {
                    server_log::log(format_args!(
                        "arcp: bytes of artifacts that nobody has any more could not be deleted: {error}"
                    ));
                }
                None
            }
        }
    }

    /// What the core is told where nobody does it.
    fn undone(self) -> Option<Input> {
        match self {
            Wanted::Store(op, ..) | Wanted::Take(op, ..) => Some(Input::BlobStored { op, stored: false }),
            Wanted::Read(op, _) => Some(Input::BlobRead { op, bytes: None }),
            Wanted::LetGo(_) | Wanted::KeepOnly(_) => None,
        }
    }
}

/// What came of it; an operator is told why nothing did.
fn said<T>(came: io::Result<T>, what: &str, digest: BlobDigest) -> Option<T> {
    came.inspect_err(|error| server_log::add(&failed(what, digest, error))).ok()
}

/// Peers say how often that is and of which bytes.
fn failed(what: &str, digest: BlobDigest, error: &io::Error) -> Line {
    Line::new(Level::Error, "artifact", format_args!("the artifact {digest} could not be {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_that_a_full_disk_does_not_take_leave_room_in_the_log() {
        assert!(failed("stored", BlobDigest::of(b""), &io::Error::other("no space left")).is_of_peers());
    }
}
