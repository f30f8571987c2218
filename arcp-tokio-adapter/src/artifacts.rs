//! Artifacts that do not fit into a frame: sent in parts, fetched in ranges, and listed (RFC §16,
//! §21).

use arcp_host::client::{ClientError, Command};
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest};
use arcp_proto::model::reply::FetchedArtifact;
use arcp_proto::model::upload::{ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange};

use crate::client::Client;

/// Sends a part of an artifact; returns how many bytes the runtime has received. An empty part at 0
/// only asks for that number.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn send_part(client: &Client, part: ArtifactPart) -> Result<u64, ClientError> {
    let offset = part.offset;
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::Part(part), answer)).await? {
        ArtifactAnswer::Received { received, .. } => Ok(received),
        ArtifactAnswer::Page(_) => Ok(offset),
    }
}

/// Has the runtime keep the artifact whose parts were sent.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn keep_parts(client: &Client, terms: ArtifactTerms) -> Result<ArtifactRef, ClientError> {
    client.ask(|answer| Command::KeepParts(terms, answer)).await
}

/// Discards the parts of these bytes that the runtime has received.
///
/// # Errors
///
/// If the runtime refuses it, or the session has ended.
pub async fn abandon(client: &Client, digest: BlobDigest) -> Result<(), ClientError> {
    client.ask(|answer| Command::AbandonParts(digest, answer)).await
}

/// Fetches a range of an artifact. A runtime without support for ranges returns all bytes.
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
