//! Artifacts that do not fit a frame, and listings, in a [`Session`].

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::artifact::ArtifactTerms;
use crate::model::feature::Feature;
use crate::model::request::{Command, SessionRequest};
use crate::model::upload::{ArtifactWish, ByteRange};

/// Sends a part, drops the parts of an upload, or lists artifacts (RFC §16, §21):
/// `ClientEvent::OfArtifacts` follows, for dropped parts `ClientEvent::AnswerTaken`, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn ask(session: &mut Session<'_>, wish: ArtifactWish) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Artifacts)?;
    session.client.give(SessionRequest::AboutArtifacts(wish), Origin::Application)
}

/// Keeps the bytes that arrived in parts: `ClientEvent::ArtifactKept` follows, or a refusal.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn keep(session: &mut Session<'_>, terms: ArtifactTerms) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Artifacts)?;
    session.client.give(Command::KeepParts(terms), Origin::Application)
}

/// Fetches a range of an artifact: `ClientEvent::ArtifactFetched` follows, or a refusal. A runtime
/// that does not support ranges sends all bytes.
///
/// # Errors
///
/// `TooManyPending`, or `NotNegotiated`.
pub fn fetch_range(session: &mut Session<'_>, id: WireId, range: ByteRange) -> Result<Handle, ApiMisuse> {
    session.needs(Feature::Artifacts)?;
    session
        .client
        .give(SessionRequest::AboutArtifacts(ArtifactWish::Fetch { id, range: Some(range) }), Origin::Application)
}
