//! Artifacts that do not fit a frame: stored in parts, fetched in ranges, and listed (RFC §16, §21).

use arcp_host::client::{ClientError, Command};
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest};
use arcp_proto::model::reply::FetchedArtifact;
use arcp_proto::model::upload::{ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange};

use crate::client::Client;

/// Sends a part of an artifact. Returns how many bytes the runtime has. An empty part at 0 only asks for that.
///
/// # Errors
///
/// If the runtime refuses them, or the session has ended.
pub async fn send_part(client: &Client, part: ArtifactPart) -> Result<u64, ClientError> {
    let offset = part.offset;
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::Part(part), answer)).await? {
        ArtifactAnswer::Received { received, .. } => Ok(received),
        ArtifactAnswer::Page(_) => Ok(offset),
    }
}

/// Has the runtime make an artifact of the parts that it has.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn keep_parts(client: &Client, terms: ArtifactTerms) -> Result<ArtifactRef, ClientError> {
    client.ask(|answer| Command::KeepParts(terms, answer)).await
}

/// Drops the parts that the runtime has of these bytes.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn abandon(client: &Client, digest: BlobDigest) -> Result<(), ClientError> {
    client.ask(|answer| Command::AbandonParts(digest, answer)).await
}

/// Fetches a range of an artifact. A runtime that does not support ranges returns all of it.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn fetch_range(client: &Client, id: WireId, range: ByteRange) -> Result<FetchedArtifact, ClientError> {
    client.ask(|answer| Command::FetchArtifact(id, Some(range), answer)).await
}

/// Lists artifacts.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn list(client: &Client, query: ArtifactQuery) -> Result<ArtifactPage, ClientError> {
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::List(query), answer)).await? {
        ArtifactAnswer::Page(page) => Ok(page),
        ArtifactAnswer::Received { .. } => Ok(ArtifactPage::default()),
    }
}
