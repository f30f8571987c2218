//! Artifacts that do not fit a frame: stored in parts, fetched in ranges, and listed (RFC §16, §21).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};

use arcp_host::client::Command;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, BlobHasher, MediaType};
use arcp_proto::model::reply::FetchedArtifact;
use arcp_proto::model::upload::{ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange};

use crate::{Client, ClientError};

/// Bytes of a part, and of a range. It is half of what a frame to our runtime may hold, unless that is configured
/// otherwise.
pub const PART_BYTES: usize = 512 << 10;

/// Why an artifact could not be transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The runtime refused it, or the session has ended.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The bytes that came have another SHA-256 than the artifact.
    #[error("what came is not what was left: its SHA-256 is {0}")]
    Damaged(BlobDigest),
}

/// The terms under which the bytes of a file are to be stored. Reads all of them, from the beginning.
///
/// # Errors
///
/// If they cannot be read.
pub fn terms_of(media_type: MediaType, from: &mut (impl Read + Seek)) -> io::Result<ArtifactTerms> {
    from.rewind()?;
    let (hasher, size) = hash(from)?;
    Ok(ArtifactTerms::new(media_type, size, hasher.digest()))
}

/// Stores bytes with the runtime, in parts. Continues where an earlier attempt of the last minutes stopped. If the
/// runtime restarts meanwhile and has lost the parts, the upload begins again, once.
///
/// # Errors
///
/// If the runtime refuses the bytes, they cannot be read, or the session has ended.
pub fn upload(
    client: &Client,
    terms: ArtifactTerms,
    from: &mut (impl Read + Seek),
) -> Result<ArtifactRef, TransferError> {
    match upload_rest(client, terms.clone(), from) {
        Err(TransferError::Client(ClientError::Refused(refusal))) if refusal.code == ErrorCode::FailedPrecondition => {
            upload_rest(client, terms, from)
        }
        left => left,
    }
}

/// Sends the parts that the runtime does not have yet.
fn upload_rest(
    client: &Client,
    terms: ArtifactTerms,
    from: &mut (impl Read + Seek),
) -> Result<ArtifactRef, TransferError> {
    let ArtifactTerms { digest, size, .. } = terms;
    let send = |offset: u64, data: Vec<u8>| send_part(client, ArtifactPart { digest, size, offset, data });
    let mut received = send(0, Vec::new())?;
    let mut part_bytes = PART_BYTES;
    while received < size {
        from.seek(SeekFrom::Start(received))?;
        let mut data = Vec::new();
        from.take(part_bytes as u64).read_to_end(&mut data)?;
        if data.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was").into());
        }
        match send(received, data) {
            Ok(now) => received = now,
            Err(error) => match smaller(&error).filter(|bound| *bound < part_bytes) {
                Some(bound) => part_bytes = bound,
                None => return Err(error.into()),
            },
        }
    }
    Ok(keep_parts(client, terms)?)
}

/// Sends a part of an artifact. Returns how many bytes the runtime has. An empty part at 0 only asks for that.
///
/// # Errors
///
/// If the runtime refuses them, or the session has ended.
pub fn send_part(client: &Client, part: ArtifactPart) -> Result<u64, ClientError> {
    let offset = part.offset;
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::Part(part), answer))? {
        ArtifactAnswer::Received { received, .. } => Ok(received),
        ArtifactAnswer::Page(_) => Ok(offset),
    }
}

/// Has the runtime make an artifact of the parts that it has.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub fn keep_parts(client: &Client, terms: ArtifactTerms) -> Result<ArtifactRef, ClientError> {
    client.ask(|answer| Command::KeepParts(terms, answer))
}

/// The size of a part that the runtime accepts, if it refused a part as too large.
fn smaller(error: &ClientError) -> Option<usize> {
    let ClientError::Refused(refusal) = error else { return None };
    let details = refusal.details.as_ref()?.members().ok()?;
    let bound = details.get_str("bound").filter(|bound| bound == "artifact_bytes");
    bound.and_then(|_| details.get("limit")?.parse().ok()).filter(|bound| *bound > 0)
}

/// Drops the parts that the runtime has of these bytes.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub fn abandon(client: &Client, digest: BlobDigest) -> Result<(), ClientError> {
    client.ask(|answer| Command::AbandonParts(digest, answer))
}

/// Fetches a range of an artifact. A runtime that does not support ranges returns all of it.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub fn fetch_range(client: &Client, id: WireId, range: ByteRange) -> Result<FetchedArtifact, ClientError> {
    client.ask(|answer| Command::FetchArtifact(id, Some(range), answer))
}

/// Fetches an artifact into a file that can be read and written. Continues after the bytes that the file has already.
/// In the end the file holds the whole artifact, with the right SHA-256; if its earlier bytes were of something else,
/// they are overwritten.
///
/// # Errors
///
/// If the runtime refuses it, the file cannot be used, the bytes that came are damaged, or the session has ended; the
/// file keeps what has come.
pub fn download(client: &Client, id: &WireId, into: &mut File) -> Result<ArtifactRef, TransferError> {
    into.rewind()?;
    let (hasher, there) = hash(into)?;
    match fetch_behind(client, id, into, (hasher, there)) {
        // The file held the beginning of something else.
        Err(TransferError::Damaged(_)) if there > 0 => {
            into.set_len(0)?;
            fetch_behind(client, id, into, (BlobHasher::default(), 0))
        }
        fetched => fetched,
    }
}

fn fetch_behind(
    client: &Client,
    id: &WireId,
    into: &mut File,
    (mut hasher, mut offset): (BlobHasher, u64),
) -> Result<ArtifactRef, TransferError> {
    loop {
        let range = ByteRange { offset, length: PART_BYTES as u64 };
        let fetched = match fetch_range(client, id.clone(), range) {
            // The file is longer than the artifact.
            Err(ClientError::Refused(refusal)) if offset > 0 && refusal.code == ErrorCode::InvalidRequest => {
                return Err(TransferError::Damaged(hasher.digest()));
            }
            fetched => fetched?,
        };
        if fetched.offset != offset {
            // The runtime has sent the whole artifact.
            into.set_len(0)?;
            (hasher, offset) = (BlobHasher::default(), 0);
        }
        into.seek(SeekFrom::Start(offset))?;
        into.write_all(&fetched.data)?;
        hasher.update(&fetched.data);
        offset += fetched.data.len() as u64;
        if offset >= fetched.artifact.size || fetched.data.is_empty() {
            let came = hasher.digest();
            return if came == fetched.artifact.digest {
                Ok(fetched.artifact)
            } else {
                Err(TransferError::Damaged(came))
            };
        }
    }
}

/// Fetches an artifact and writes it as it comes. In the end the SHA-256 is compared.
///
/// # Errors
///
/// If the runtime refuses it, `to` cannot be written, the bytes that came are damaged, or the session has ended.
pub fn stream(client: &Client, id: &WireId, to: &mut impl io::Write) -> Result<ArtifactRef, TransferError> {
    let (mut hasher, mut offset) = (BlobHasher::default(), 0);
    loop {
        let fetched = fetch_range(client, id.clone(), ByteRange { offset, length: PART_BYTES as u64 })?;
        if fetched.offset == offset {
            to.write_all(&fetched.data)?;
            hasher.update(&fetched.data);
            offset += fetched.data.len() as u64;
        }
        if offset >= fetched.artifact.size || fetched.data.is_empty() || fetched.offset > offset {
            let came = hasher.digest();
            return if came == fetched.artifact.digest {
                Ok(fetched.artifact)
            } else {
                Err(TransferError::Damaged(came))
            };
        }
    }
}

/// Lists artifacts.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub fn list(client: &Client, query: ArtifactQuery) -> Result<ArtifactPage, ClientError> {
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::List(query), answer))? {
        ArtifactAnswer::Page(page) => Ok(page),
        ArtifactAnswer::Received { .. } => Ok(ArtifactPage::default()),
    }
}

/// The SHA-256 of the remaining bytes, and how many there are.
fn hash(from: &mut impl Read) -> io::Result<(BlobHasher, u64)> {
    let (mut hasher, mut size, mut buffer) = (BlobHasher::default(), 0, vec![0; 64 << 10]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher, size)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
