//! Artifacts that do not fit a frame: left in parts, fetched in ranges, and listed
//! (RFC §16, §21).

use arcp_host::client::{ClientError, Command};
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest};
use arcp_proto::model::reply::FetchedArtifact;
use arcp_proto::model::upload::{ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange};

use crate::client::Client;

/// Sends some of the bytes of an artifact that is to be; gives how many have come. None of
/// them at 0 ask for that.
///
/// # Errors
///
/// If the runtime refuses them, or the session is over.
pub async fn send_part(client: &Client, part: ArtifactPart) -> Result<u64, ClientError> {
    let offset = part.offset;
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::Part(part), answer)).await? {
        ArtifactAnswer::Received { received, .. } => Ok(received),
        ArtifactAnswer::Page(_) => Ok(offset),
    }
}

/// Has the runtime keep what has come in parts.
///
/// # Errors
///
/// If the runtime refuses it, or the session is over.
pub async fn keep_parts(client: &Client, terms: ArtifactTerms) -> Result<ArtifactRef, ClientError> {
    client.ask(|answer| Command::KeepParts(terms, answer)).await
}

/// Lets go of the parts that have come of these bytes.
///
/// # Errors
///
/// If the runtime refuses it, or the session is over.
pub async fn abandon(client: &Client, digest: BlobDigest) -> Result<(), ClientError> {
    client.ask(|answer| Command::AbandonParts(digest, answer)).await
}

/// Fetches some of the bytes of an artifact. A runtime that knows no ranges gives all.
///
/// # Errors
///
/// If the runtime refuses it, or the session is over.
pub async fn fetch_range(client: &Client, id: WireId, range: ByteRange) -> Result<FetchedArtifact, ClientError> {
    client.ask(|answer| Command::FetchArtifact(id, Some(range), answer)).await
}

/// Lists artifacts.
///
/// # Errors
///
/// If the runtime refuses it, or the session is over.
pub async fn list(client: &Client, query: ArtifactQuery) -> Result<ArtifactPage, ClientError> {
    match client.ask(|answer| Command::AboutArtifacts(ArtifactWish::List(query), answer)).await? {
        ArtifactAnswer::Page(page) => Ok(page),
        ArtifactAnswer::Received { .. } => Ok(ArtifactPage::default()),
    }
}
