//! Bytes that agents offer, on the way to the blob store.
//!
//! Each offer is read in pieces on a thread of its own, because the file of a program may be large
//! or slow, or its file system may never answer. The blob thread only writes the pieces, between
//! its other requests.

use std::io::{self, Read};
use std::sync::mpsc::{Sender, sync_channel};

use arcp_proto::id::OpId;
use arcp_proto::model::artifact::{BlobDigest, BlobHasher};
use arcp_proto::runtime::{Input, PartsStep};

use super::{Wanted, said};
use crate::agent::Inbox;

/// The bytes of an offer that are held in memory at once.
pub(super) const PIECE: usize = 256 << 10;

/// Upload numbers from here on are for offers; those of clients count from 1.
const OFFERS: u64 = 1 << 63;

/// Stores exactly `size` bytes with this SHA-256 from a reader, or nothing.
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
    // Reading one byte more shows whether the source is longer.
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
