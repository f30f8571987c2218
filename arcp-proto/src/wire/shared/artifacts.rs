//! Artifacts, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.artifacts`.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::error::Violation;
use crate::id::{SessionId, WireId};
use crate::json::{Members, Object, Text};
use crate::model::artifact::{ArtifactRef, BlobDigest, PutArtifact};
use crate::model::feature::Feature;
use crate::model::reply::{ArtifactRetention, CommandReply, FetchedArtifact, Opened, Reply, SessionReply};
use crate::model::request::{Command, Request, SessionRequest};
use crate::model::upload::{ArtifactWish, ByteRange};
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};
use crate::wire::{Profile, View, sidecar};

const PUT: &str = "artifact.put";
const FETCH: &str = "artifact.fetch";
const RELEASE: &str = "artifact.release";
const REF: &str = "artifact.ref";

#[derive(Deserialize)]
struct Put<'a> {
    #[serde(borrow, default)]
    artifact_id: Option<Text<'a>>,
    #[serde(borrow)]
    media_type: Text<'a>,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(borrow, default)]
    sha256: Option<Text<'a>>,
    #[serde(default, alias = "ttl_seconds")]
    retain_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    artifact_id: Text<'a>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    length: Option<u64>,
}

/// Reads a request about artifacts; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    Ok(Some(match header.kind.as_ref() {
        PUT => Command::PutArtifact(read_put(header)?).into(),
        FETCH => {
            let named: Named<'_> = payload(FETCH, header.payload)?;
            let range = |offset, length: Option<u64>| ByteRange { offset, length: length.unwrap_or(u64::MAX) };
            let range = named.offset.or(named.length.map(|_| 0)).map(|offset| range(offset, named.length));
            let id = id(FETCH, &named.artifact_id)?;
            SessionRequest::AboutArtifacts(ArtifactWish::Fetch { id, range }).into()
        }
        RELEASE => {
            let named: Named<'_> = payload(RELEASE, header.payload)?;
            Command::ReleaseArtifact { id: id(RELEASE, &named.artifact_id)? }.into()
        }
        _ => return Ok(None),
    }))
}

pub(super) fn id(kind: &str, Text(id): &Text<'_>) -> Result<WireId, Violation> {
    let most = WireId::MAX;
    WireId::new(id).ok_or_else(|| Violation::invalid(alloc::format!("`{kind}`: `artifact_id` has 1 to {most} bytes")))
}

fn read_put(header: &Header<'_>) -> Result<PutArtifact, Violation> {
    let Put { artifact_id, media_type, data, size, sha256, retain_seconds } = payload(PUT, header.payload)?;
    let wrong =
        |name: &str, why: &dyn core::fmt::Display| Violation::invalid(alloc::format!("`{PUT}`: `{name}`: {why}"));
    Ok(PutArtifact {
        id: artifact_id.map(|named| id(PUT, &named)).transpose()?,
        media_type: media_type.0.parse().map_err(|why| wrong("media_type", &why))?,
        data: match (data, header.sidecar) {
            (Some(data), None) => decode(&data.0).map_err(|why| wrong("data", &why))?,
            (None, Some(bytes)) => bytes.to_vec(),
            (Some(_), Some(_)) => return Err(wrong("sidecar", &"there is `data` as well")),
            (None, None) => return Err(Violation::invalid(alloc::format!("`{PUT}`: missing field `data`"))),
        },
        size,
        digest: sha256.map(|Text(digest)| digest.parse().map_err(|why| wrong("sha256", &why))).transpose()?,
        retain: retain_seconds.map(Duration::from_secs),
    })
}

/// The type and payload of a request to keep bytes.
pub(in crate::wire) fn write_put(put: &PutArtifact, sidecars: bool) -> (&'static str, String) {
    let PutArtifact { id, media_type, data, size, digest, retain } = put;
    let mut payload = Object::new();
    payload.opt_str("artifact_id", id.as_ref().map(WireId::as_str)).str("media_type", media_type.as_str());
    if let Some(size) = size {
        payload.u64("size", *size);
    }
    if let Some(digest) = digest {
        payload.display("sha256", digest);
    }
    if let Some(retain) = retain {
        payload.u64("retain_seconds", retain.as_secs());
    }
    if sidecars {
        sidecar::announce(&mut payload, data, BlobDigest::of(data));
    } else {
        payload.str("data", &encode(data));
    }
    (PUT, payload.done())
}

/// The type and payload of a fetch.
pub(in crate::wire) fn write_fetch(id: &WireId, range: Option<ByteRange>) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("artifact_id", id.as_str());
    if let Some(ByteRange { offset, length }) = range {
        payload.u64("offset", offset).u64("length", length);
    }
    (FETCH, payload.done())
}

/// The type and payload of a release.
pub(in crate::wire) fn write_release(id: &WireId) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("artifact_id", id.as_str());
    (RELEASE, payload.done())
}

/// The type and payload of an artifact's reference. Published clients read it inside `artifact`, or
/// beside it.
pub(in crate::wire) fn write_ref(artifact: &ArtifactRef) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.object("artifact", |nested| artifact.write_members(nested));
    artifact.write_members(&mut payload);
    (REF, payload.done())
}

/// The type and payload of a fetched artifact.
pub(in crate::wire) fn write_fetched(view: &View, fetched: &FetchedArtifact) -> (&'static str, String) {
    let mut payload = Object::new();
    fetched.artifact.write_members(&mut payload);
    let is_part = (fetched.data.len() as u64) < fetched.artifact.size;
    if is_part {
        payload.u64("offset", fetched.offset);
    }
    if view.takes_sidecars() {
        let digest = if is_part { BlobDigest::of(&fetched.data) } else { fetched.artifact.digest };
        sidecar::announce(&mut payload, &fetched.data, digest);
    } else {
        payload.str("data", &encode(&fetched.data));
    }
    let kind = if view.profile == Profile::Swift1 { REF } else { PUT };
    (kind, payload.done())
}

/// Bytes as base64, for a frame.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The bytes of a base64 text.
///
/// # Errors
///
/// If the text is not base64.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64.decode(text.as_bytes())
}

/// Reads the answer to a request about artifacts; `None` for any other message. A numbered
/// reference is an event of a job, and no answer.
pub(in crate::wire) fn read_reply(
    header: &Header<'_>,
    members: &Members<'_>,
    request: Option<WireId>,
) -> Result<Option<Reply>, Violation> {
    if !matches!(header.kind.as_ref(), REF | PUT) || header.seq.is_some() {
        return Ok(None);
    }
    let wrong = || Violation::invalid(alloc::format!("`{}` does not say what the artifact is", header.kind));
    let nested = members.get("artifact").map(Members::parse).transpose().map_err(|_| wrong())?;
    let artifact = read_members(nested.as_ref().unwrap_or(members)).ok_or_else(wrong)?;
    let data = members.get_str("data").map(|data| decode(&data).map_err(|_| wrong())).transpose()?;
    Ok(Some(match data.or_else(|| header.sidecar.map(<[u8]>::to_vec)) {
        Some(data) => {
            let offset = members.get("offset").and_then(|raw| raw.parse().ok()).unwrap_or(0);
            Reply::Session(SessionReply::Artifact(FetchedArtifact { artifact, data, offset, request }))
        }
        None => Reply::Command(CommandReply::Artifact { artifact, request }),
    }))
}

/// Reads the reference of an artifact; `None` if a member is missing.
pub(in crate::wire) fn read_members(members: &Members<'_>) -> Option<ArtifactRef> {
    let text = |name: &str| members.get_str(name).map(|text| text.to_string());
    let session = |uri: String| SessionId::parse(uri.strip_prefix("arcp://session/")?.split('/').next()?);
    Some(ArtifactRef {
        id: WireId::new(&text("artifact_id")?)?,
        session: text("uri").and_then(session)?,
        media_type: text("media_type")?.parse().ok()?,
        size: members.get("size")?.parse().ok()?,
        digest: text("sha256")?.parse().ok()?,
        expires_at: UtcMs::parse(&text("expires_at")?)?,
    })
}

/// Writes how long artifacts are kept, for peers that negotiated artifacts.
pub(in crate::wire) fn write_retention(capabilities: &mut Object, name: &'static str, opened: &Opened) {
    let kept = opened.runtime.artifact_retention.filter(|_| opened.features.has(Feature::Artifacts));
    if let Some(ArtifactRetention { default_s, max_s }) = kept {
        capabilities.object(name, |retention| {
            retention.u64("default_seconds", default_s).u64("max_seconds", max_s);
        });
    }
}
