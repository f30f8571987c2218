//! What agents offer, on its way to where bytes are kept.
//!
//! Each offer is read on a thread of its own, a piece at a time: the file of a program may be
//! large or slow, and a file system of its own may never give it. The thread that keeps bytes
//! only writes pieces, between whatever else is wanted of it.

use std::io::{self, Read};
use std::sync::mpsc::{Sender, sync_channel};

use arcp_proto::id::OpId;
use arcp_proto::model::artifact::{BlobDigest, BlobHasher};
use arcp_proto::runtime::{Input, PartsStep};

use super::{Wanted, said};
use crate::agent::Inbox;

/// Bytes of an offer that are held at once.
pub(super) const PIECE: usize = 256 << 10;

/// Numbers from here on are of offers: those of clients are counted from 1.
const OFFERS: u64 = 1 << 63;

/// Stores so many bytes with this SHA-256 from somewhere, or none of them.
pub(super) fn take(
    jobs: &Sender<Wanted>,
    inbox: &dyn Inbox,
    (op, digest, size): (OpId, BlobDigest, u64),
    from: impl FnOnce() -> io::Result<Box<dyn Read>>,
) {
    let upload = OFFERS | op.0;
    let step = match said(from().and_then(|mut from| copy(jobs, upload, (digest, size), &mut from)), "stored", digest) {
        Some(()) => PartsStep::Finish { op, upload, digest },
        None => PartsStep::Abandon { upload },
    };
    let is_whole = matches!(step, PartsStep::Finish { .. });
    let is_told = jobs.send(Wanted::Parts(step)).is_ok() && is_whole;
    if !is_told {
        inbox.put(Input::BlobStored { op, stored: false });
    }
}

fn copy(jobs: &Sender<Wanted>, upload: u64, (digest, size): (BlobDigest, u64), from: &mut dyn Read) -> io::Result<()> {
    let (mut hasher, mut offset) = (BlobHasher::default(), 0);
    // One more shows that there are more.
    let mut from = from.take(size.saturating_add(1));
    loop {
        let mut bytes = Vec::new();
        from.by_ref().take(PIECE as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        let (begin, length) = (offset, bytes.len() as u64);
        let (kept, is_kept) = sync_channel(1);
        let gone = |_| io::Error::other("nobody keeps bytes any more");
        jobs.send(Wanted::Piece { upload, offset: begin, bytes, kept }).map_err(|_| gone(()))?;
        is_kept.recv().map_err(|_| gone(()))??;
        offset += length;
    }
    match offset == size && hasher.digest() == digest {
        true => Ok(()),
        false => Err(io::Error::other("its bytes are not those that were offered: were they changed meanwhile?")),
    }
}
