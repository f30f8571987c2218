//! Storage for the bytes of artifacts: in memory, or in files beside the store.

mod folder;
mod taken;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel};

use arcp_proto::id::OpId;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::runtime::{BlobRange, Input, PartsStep};

pub use self::folder::FolderBlobs;

use crate::agent::{Inbox, Offer};
use crate::log_line::{Level, Line};
use crate::server_log;

/// Keeps bytes by their digest. It is called on a thread of its own, one call at a time, and may
/// wait.
pub trait Blobs: Send {
    /// Stores bytes durably. Bytes that are already stored stay.
    ///
    /// # Errors
    ///
    /// If they could not be stored.
    fn store(&mut self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()>;

    /// Reads bytes; `None` if they are not stored.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&mut self, digest: BlobDigest) -> io::Result<Option<Vec<u8>>>;

    /// Reads a range of bytes; fewer if the bytes end before. `None` if they are not stored.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read_range(&mut self, digest: BlobDigest, range: BlobRange) -> io::Result<Option<Vec<u8>>> {
        let BlobRange { offset, length } = range;
        let bounds = |bytes: &[u8]| {
            let most = bytes.len() as u64;
            let bound = |at: u64| usize::try_from(at.min(most)).unwrap_or(bytes.len());
            bound(offset)..bound(offset.saturating_add(length))
        };
        Ok(self.read(digest)?.map(|bytes| bytes[bounds(&bytes)].to_vec()))
    }

    /// Appends a part to the upload with this number. `offset` is the size of the parts before; a
    /// part at offset 0 begins the upload anew.
    ///
    /// # Errors
    ///
    /// If the part could not be kept.
    fn append(&mut self, upload: u64, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Stores a complete upload durably, as the bytes with this SHA-256.
    ///
    /// # Errors
    ///
    /// If they could not be stored.
    fn finish(&mut self, upload: u64, digest: BlobDigest) -> io::Result<()>;

    /// Discards an upload, if it exists.
    ///
    /// # Errors
    ///
    /// If the parts could not be discarded.
    fn abandon(&mut self, upload: u64) -> io::Result<()>;

    /// Deletes bytes, if they are stored.
    ///
    /// # Errors
    ///
    /// If they could not be deleted.
    fn let_go(&mut self, digest: BlobDigest) -> io::Result<()>;

    /// Deletes all bytes but these, and all uploads.
    ///
    /// # Errors
    ///
    /// If some could not be deleted.
    fn keep_only(&mut self, digests: &BTreeSet<BlobDigest>) -> io::Result<()>;
}

/// Bytes in memory, which are gone with the process, like jobs in a memory store.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    whole: BTreeMap<BlobDigest, Arc<[u8]>>,
    parts: BTreeMap<u64, Vec<u8>>,
}

impl Blobs for MemoryBlobs {
    fn store(&mut self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()> {
        self.whole.entry(digest).or_insert_with(|| bytes.into());
        Ok(())
    }

    fn read(&mut self, digest: BlobDigest) -> io::Result<Option<Vec<u8>>> {
        Ok(self.whole.get(&digest).map(|bytes| bytes.to_vec()))
    }

    fn append(&mut self, upload: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let parts = self.parts.entry(upload).or_default();
        parts.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        parts.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, upload: u64, digest: BlobDigest) -> io::Result<()> {
        let parts = self.parts.remove(&upload).unwrap_or_default();
        self.store(digest, &parts)
    }

    fn abandon(&mut self, upload: u64) -> io::Result<()> {
        self.parts.remove(&upload);
        Ok(())
    }

    fn let_go(&mut self, digest: BlobDigest) -> io::Result<()> {
        self.whole.remove(&digest);
        Ok(())
    }

    fn keep_only(&mut self, digests: &BTreeSet<BlobDigest>) -> io::Result<()> {
        self.whole.retain(|digest, _| digests.contains(digest));
        self.parts.clear();
        Ok(())
    }
}

/// Performs the requests of the core in order.
pub(crate) struct BlobThread {
    jobs: Sender<Wanted>,
    inbox: Arc<dyn Inbox>,
}

/// A request of the core. The core bounds how many there are at once.
#[derive(Debug)]
pub(crate) enum Wanted {
    Store(OpId, BlobDigest, Vec<u8>),
    /// Stores so many bytes that an agent offers; `None`: the agent has withdrawn the offer. A
    /// thread of its own reads them.
    Take(OpId, BlobDigest, u64, Option<Offer>),
    /// A piece that such a thread has read, for an upload. The thread continues when it gets the
    /// answer.
    Piece {
        upload: u64,
        offset: u64,
        bytes: Vec<u8>,
        kept: SyncSender<io::Result<()>>,
    },
    Read(OpId, BlobDigest, Option<BlobRange>),
    Parts(PartsStep),
    LetGo(BlobDigest),
    KeepOnly(BTreeSet<BlobDigest>),
}

impl BlobThread {
    /// # Errors
    ///
    /// If no thread can be started.
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
        match wanted {
            Wanted::Take(op, digest, size, Some(offer)) => self.take((op, digest, size), move || offer.reader()),
            Wanted::Take(..)
            | Wanted::Piece { .. }
            | Wanted::Store(..)
            | Wanted::Read(..)
            | Wanted::Parts(_)
            | Wanted::LetGo(_)
            | Wanted::KeepOnly(_) => self.queue(wanted),
        }
    }

    /// Stores bytes that a reader gives. It may take any time: only the principal of the artifact
    /// waits, because it is one of its `artifact_operations`.
    fn take(&self, what: (OpId, BlobDigest, u64), from: impl FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static) {
        let (jobs, inbox) = (self.jobs.clone(), self.inbox.clone());
        let work = move || taken::take(&jobs, inbox.as_ref(), what, from);
        let begun = std::thread::Builder::new().name("artifact".to_string()).spawn(work);
        if said(begun, "read", what.1).is_none() {
            self.inbox.put(Input::BlobStored { op: what.0, stored: false });
        }
    }

    fn queue(&self, wanted: Wanted) {
        if let Err(gone) = self.jobs.send(wanted)
            && let Some(input) = gone.0.undone()
        {
            self.inbox.put(input);
        }
    }
}

impl Wanted {
    /// Performs the request; returns the input for the core.
    fn done(self, blobs: &mut dyn Blobs) -> Option<Input> {
        match self {
            Wanted::Store(op, digest, bytes) => {
                let stored = blobs.store(digest, &bytes);
                Some(Input::BlobStored { op, stored: said(stored, "stored", digest).is_some() })
            }
            Wanted::Take(op, ..) => Some(Input::BlobStored { op, stored: false }),
            Wanted::Piece { upload, offset, bytes, kept } => {
                // The reading thread may have given up.
                let _ = kept.send(blobs.append(upload, offset, &bytes));
                None
            }
            Wanted::Read(op, digest, range) => {
                let read = match range {
                    Some(range) => blobs.read_range(digest, range),
                    None => blobs.read(digest),
                };
                let bytes = said(read, "read", digest).flatten();
                Some(Input::BlobRead { op, bytes })
            }
            Wanted::Parts(PartsStep::Append { op, upload, offset, bytes }) => {
                let kept = blobs.append(upload, offset, &bytes);
                let kept = kept.inspect_err(|error| server_log::add(&failed("stored", &"in parts", error)));
                Some(Input::BlobStored { op, stored: kept.is_ok() })
            }
            Wanted::Parts(PartsStep::Finish { op, upload, digest }) => {
                let stored = blobs.finish(upload, digest);
                Some(Input::BlobStored { op, stored: said(stored, "stored", digest).is_some() })
            }
            Wanted::Parts(PartsStep::Abandon { upload }) => {
                if let Err(error) = blobs.abandon(upload) {
                    server_log::add(&failed("deleted", &"in parts", &error));
                }
                None
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

    /// The input for the core if the request cannot be performed.
    fn undone(self) -> Option<Input> {
        match self {
            Wanted::Store(op, ..)
            | Wanted::Take(op, ..)
            | Wanted::Parts(PartsStep::Append { op, .. } | PartsStep::Finish { op, .. }) => {
                Some(Input::BlobStored { op, stored: false })
            }
            Wanted::Read(op, ..) => Some(Input::BlobRead { op, bytes: None }),
            Wanted::Piece { .. } | Wanted::Parts(PartsStep::Abandon { .. }) => None,
            Wanted::LetGo(_) | Wanted::KeepOnly(_) => None,
        }
    }
}

/// The value of a result; an error is logged for the operator.
fn said<T>(came: io::Result<T>, what: &str, digest: BlobDigest) -> Option<T> {
    came.inspect_err(|error| server_log::add(&failed(what, &digest, error))).ok()
}

/// Peers decide how often this happens, and for which bytes.
fn failed(what: &str, which: &dyn Display, error: &io::Error) -> Line {
    Line::new(Level::Error, "artifact", format_args!("the artifact {which} could not be {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;
    use std::time::Duration;

    use super::*;

    struct Told(Sender<Input>);

    impl Inbox for Told {
        fn put(&self, input: Input) {
            drop(self.0.send(input));
        }
    }

    /// Returns what comes from a channel, whenever it comes.
    struct Slow(Receiver<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.recv().unwrap_or_default();
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    fn thread() -> (BlobThread, Receiver<Input>) {
        let (tell, told) = channel();
        let thread = BlobThread::new(Box::<MemoryBlobs>::default(), Arc::new(Told(tell))).expect("a thread");
        (thread, told)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]
    fn next(told: &Receiver<Input>) -> (u64, Option<Vec<u8>>) {
        let input = told.recv_timeout(Duration::from_secs(60)).expect("it is told");
        if let Input::BlobStored { op, stored } = input {
            return (op.0, stored.then(Vec::new));
        }
        let Input::BlobRead { op, bytes } = input else { panic!("{input:?}") };
        (op.0, bytes)
    }

    #[test]
    fn what_an_agent_offers_and_nobody_can_read_holds_nobody_else_up() {
        let (thread, told) = thread();
        let digest = BlobDigest::of(b"abcdef");
        let (give, slow) = channel();
        thread.take((OpId(1), digest, 6), move || Ok(Box::new(Slow(slow))));
        give.send(b"abc".to_vec()).expect("it reads");
        let other = BlobDigest::of(b"xyz");
        thread.want(Wanted::Store(OpId(2), other, b"xyz".to_vec()));
        assert_eq!(next(&told), (2, Some(Vec::new())));
        thread.want(Wanted::Read(OpId(3), other, None));
        assert_eq!(next(&told), (3, Some(b"xyz".to_vec())));
        give.send(b"def".to_vec()).expect("it reads");
        drop(give);
        assert_eq!(next(&told), (1, Some(Vec::new())));
        thread.want(Wanted::Read(OpId(4), digest, None));
        assert_eq!(next(&told), (4, Some(b"abcdef".to_vec())));
    }

    #[test]
    fn what_an_agent_offers_is_stored_whole_or_not_at_all() {
        let (thread, told) = thread();
        let long = vec![7; 3 * taken::PIECE + 1];
        for (op, bytes, is_it) in [(1, long.clone(), true), (2, b"abd".to_vec(), false), (3, b"abcd".to_vec(), false)] {
            let digest = BlobDigest::of(if is_it { &long } else { b"abc" });
            let size = if is_it { long.len() as u64 } else { 3 };
            thread.take((OpId(op), digest, size), move || Ok(Box::new(io::Cursor::new(bytes))));
            assert_eq!(next(&told), (op, is_it.then(Vec::new)));
        }
        thread.take((OpId(4), BlobDigest::of(b""), 0), || Ok(Box::new(io::empty())));
        assert_eq!(next(&told), (4, Some(Vec::new())));
        thread.want(Wanted::Read(OpId(5), BlobDigest::of(&long), None));
        assert_eq!(next(&told), (5, Some(long)));
        thread.want(Wanted::Take(OpId(6), BlobDigest::of(b"abc"), 3, None));
        assert_eq!(next(&told), (6, None), "it was taken back");
    }

    #[test]
    fn artifacts_that_a_full_disk_does_not_take_leave_room_in_the_log() {
        assert!(failed("stored", &BlobDigest::of(b""), &io::Error::other("no space left")).is_of_peers());
    }
}
