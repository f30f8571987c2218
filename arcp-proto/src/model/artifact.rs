//! Artifacts: bytes that the runtime keeps for a limited time (RFC §16).

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{ParseError, Violation};
use crate::id::{SessionId, WireId};
use crate::json::{Json, Object};
use crate::time::UtcMs;

/// The SHA-256 of some bytes: 64 lower-case hex digits.
///
/// ```
/// use arcp_proto::model::artifact::BlobDigest;
/// let digest = BlobDigest::of(b"abc");
/// assert!(digest.to_string().starts_with("ba7816bf8f01cfea"));
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest([u8; 32]);

impl BlobDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> BlobDigest {
        BlobDigest(Sha256::digest(bytes).into())
    }
}

/// The SHA-256 of bytes that arrive in pieces.
///
/// ```
/// use arcp_proto::model::artifact::{BlobDigest, BlobHasher};
/// let mut hasher = BlobHasher::default();
/// hasher.update(b"a");
/// hasher.update(b"bc");
/// assert_eq!(hasher.digest(), BlobDigest::of(b"abc"));
/// ```
#[derive(Clone, Default)]
pub struct BlobHasher(Sha256);

impl BlobHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The SHA-256 of all bytes added so far.
    pub fn digest(&self) -> BlobDigest {
        BlobDigest(self.0.clone().finalize().into())
    }
}

/// Shows the digest of the bytes added so far: they may have any value.
impl fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlobHasher").field(&self.digest()).finish()
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads hex digits of either case.
impl FromStr for BlobDigest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<BlobDigest, ParseError> {
        let wrong = ParseError::new("a SHA-256: 64 hex digits");
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong)?;
        }
        Ok(BlobDigest(bytes))
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = ParseError;

    fn try_from(text: String) -> Result<BlobDigest, ParseError> {
        text.parse()
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> String {
        alloc::format!("{digest}")
    }
}

/// The media type of an artifact, such as `text/plain`: 1 to 127 visible ASCII
/// characters and spaces, one of them a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(String);

impl MediaType {
    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<MediaType, ParseError> {
        let shown = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        match shown && text.len() <= 127 && text.contains('/') {
            true => Ok(MediaType(text.to_owned())),
            false => Err(ParseError::new("a media type, such as `text/plain`, of at most 127 characters")),
        }
    }
}

impl TryFrom<String> for MediaType {
    type Error = ParseError;

    fn try_from(text: String) -> Result<MediaType, ParseError> {
        text.parse()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> String {
        media_type.0
    }
}

/// A request to keep bytes as an artifact.
#[derive(Clone, PartialEq, Eq)]
pub struct PutArtifact {
    /// The requested id; `None`: the runtime chooses one.
    pub id: Option<WireId>,
    /// The media type of the bytes.
    pub media_type: MediaType,
    /// The bytes.
    pub data: Vec<u8>,
    /// The number of bytes that the client declares.
    pub size: Option<u64>,
    /// The SHA-256 that the client declares.
    pub digest: Option<BlobDigest>,
    /// How long to keep it; `None`: the runtime's default. The runtime's maximum applies.
    pub retain: Option<Duration>,
}

impl PutArtifact {
    /// Bytes of this type, kept for the runtime's default time.
    pub fn new(media_type: MediaType, data: Vec<u8>) -> PutArtifact {
        PutArtifact { id: None, media_type, data, size: None, digest: None, retain: None }
    }

    /// The terms of these bytes, which have this SHA-256.
    pub(crate) fn terms(&self, digest: BlobDigest) -> ArtifactTerms {
        let PutArtifact { id, media_type, data, retain, .. } = self;
        let (id, media_type) = (id.clone(), media_type.clone());
        ArtifactTerms { id, media_type, size: data.len() as u64, digest, retain: *retain }
    }

    /// Checks size and digest against what the client declares, and returns the SHA-256.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if the declared size or digest differs.
    pub fn verify(&self) -> Result<BlobDigest, Violation> {
        let there = self.data.len() as u64;
        if let Some(said) = self.size.filter(|said| *said != there) {
            return Err(Violation::invalid(alloc::format!("`size` says {said} bytes, and {there} came")));
        }
        let digest = BlobDigest::of(&self.data);
        if let Some(said) = self.digest.filter(|said| *said != digest) {
            return Err(Violation::invalid(alloc::format!("`sha256` says {said}, and what came has {digest}")));
        }
        Ok(digest)
    }
}

/// Shows no bytes: they may have any value.
impl fmt::Debug for PutArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PutArtifact { id, media_type, data, size, digest, retain } = self;
        let mut shown = f.debug_struct("PutArtifact");
        shown.field("id", id).field("media_type", media_type).field("data", &data.len());
        shown.field("size", size).field("digest", digest).field("retain", retain).finish()
    }
}

/// The description of an artifact to be kept; its bytes arrive separately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactTerms {
    /// The requested id; `None`: the runtime chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<WireId>,
    /// The media type of the bytes.
    pub media_type: MediaType,
    /// The number of bytes.
    pub size: u64,
    /// Their SHA-256.
    pub digest: BlobDigest,
    /// How long to keep it; `None`: the runtime's default. The runtime's maximum applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Duration>,
}

impl ArtifactTerms {
    /// Terms for bytes of this type, with an id that the runtime chooses, kept for its default
    /// time.
    ///
    /// ```
    /// use arcp_proto::model::artifact::{ArtifactTerms, BlobDigest};
    /// let terms = ArtifactTerms::new("text/plain".parse()?, 3, BlobDigest::of(b"abc"));
    /// assert_eq!((terms.size, terms.id, terms.retain), (3, None, None));
    /// # Ok::<(), arcp_proto::error::ParseError>(())
    /// ```
    pub fn new(media_type: MediaType, size: u64, digest: BlobDigest) -> ArtifactTerms {
        ArtifactTerms { id: None, media_type, size, digest, retain: None }
    }
}

/// The id and description of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// Its id, unique for its principal.
    pub id: WireId,
    /// The session that put it there.
    pub session: SessionId,
    /// The media type of its bytes.
    pub media_type: MediaType,
    /// The number of bytes.
    pub size: u64,
    /// Their SHA-256.
    pub digest: BlobDigest,
    /// The time until which it is kept.
    pub expires_at: UtcMs,
}

impl ArtifactRef {
    /// Its address: `arcp://session/SESSION/artifact/ID`.
    pub fn uri(&self) -> String {
        alloc::format!("arcp://session/{}/artifact/{}", self.session, self.id)
    }

    /// The object that both families show: `artifact_id`, `uri`, `media_type`, `size`, `sha256` and
    /// `expires_at` (RFC §16).
    pub fn to_json(&self) -> Json {
        let mut object = Object::new();
        self.write_members(&mut object);
        object.json()
    }

    /// Writes the members of [`to_json`](Self::to_json) into an object.
    pub(crate) fn write_members(&self, out: &mut Object) {
        out.str("artifact_id", self.id.as_str())
            .str("uri", &self.uri())
            .str("media_type", self.media_type.as_str())
            .u64("size", self.size)
            .display("sha256", self.digest)
            .display("expires_at", self.expires_at);
    }

    /// A result that is this artifact, for peers that know no such results: an object with
    /// `result_ref`.
    pub fn as_result(&self) -> Json {
        let mut object = Object::new();
        object.object("result_ref", |reference| self.write_members(reference));
        object.json()
    }

    /// Bytes of its texts.
    pub(crate) fn weight(&self) -> usize {
        self.id.as_str().len() + self.media_type.as_str().len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn bytes_are_what_is_said_of_them() {
        let put = PutArtifact::new("text/plain".parse().expect("a type"), b"abc".to_vec());
        let digest = put.verify().expect("nothing is said");
        let said = |size, digest| PutArtifact { size, digest, ..put.clone() }.verify().map_err(|why| why.message);
        assert_eq!(said(Some(3), Some(digest)), Ok(digest));
        assert!(said(Some(4), None).is_err_and(|why| why.contains("4 bytes") && why.contains("3 came")));
        assert!(said(None, Some(BlobDigest::of(b"abd"))).is_err_and(|why| why.contains("sha256")));
        assert!(!alloc::format!("{put:?}").contains("97"), "{put:?}");
    }

    #[test]
    fn digests_and_media_types_are_read_strictly() {
        let hex = BlobDigest::of(b"").to_string();
        assert_eq!(hex.to_uppercase().parse(), Ok(BlobDigest::of(b"")));
        for wrong in ["", &hex[1..], &alloc::format!("+{}", &hex[1..]), &alloc::format!("{hex}0"), "é"] {
            assert!(wrong.parse::<BlobDigest>().is_err(), "{wrong}");
        }
        assert!("a/b; charset=\"x y\"".parse::<MediaType>().is_ok());
        for wrong in ["", "text", "a/\n", "é/b", &"a/".repeat(64)] {
            assert!(wrong.parse::<MediaType>().is_err(), "{wrong}");
        }
    }
}
