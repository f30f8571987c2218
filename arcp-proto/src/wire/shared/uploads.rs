//! Artifacts in parts, and listings of artifacts, with the same messages in both families:
//! extensions of ours.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::artifacts::{decode, encode, id, read_members, write_fetch};
use crate::error::Violation;
use crate::id::{JobId, WireId};
use crate::json::{Members, Object, Text};
use crate::model::artifact::{ArtifactTerms, BlobDigest};
use crate::model::reply::{Reply, SessionReply};
use crate::model::request::{Command, Request, SessionRequest};
use crate::model::upload::{ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ListedArtifact};
use crate::wire::envelope::{Header, payload};
use crate::wire::sidecar;

pub(in crate::wire) const PART: &str = "x-vendor.arcp.artifact.part";
const KEEP: &str = "x-vendor.arcp.artifact.keep";
const ABANDON: &str = "x-vendor.arcp.artifact.abandon";
const LIST: &str = "x-vendor.arcp.artifacts.list";
const RECEIVED: &str = "x-vendor.arcp.artifact.received";
const PAGE: &str = "x-vendor.arcp.artifacts";

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    sha256: Text<'a>,
    size: u64,
    #[serde(default)]
    offset: u64,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Keep<'a> {
    #[serde(borrow)]
    sha256: Text<'a>,
    size: u64,
    #[serde(borrow)]
    media_type: Text<'a>,
    #[serde(borrow, default)]
    artifact_id: Option<Text<'a>>,
    #[serde(default, alias = "ttl_seconds")]
    retain_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Abandon<'a> {
    #[serde(borrow)]
    sha256: Text<'a>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow, default)]
    after: Option<Text<'a>>,
    #[serde(borrow, default)]
    job_id: Option<Text<'a>>,
    #[serde(default)]
    limit: Option<u64>,
}

fn wrong(kind: &str, name: &str, why: &dyn core::fmt::Display) -> Violation {
    Violation::invalid(alloc::format!("`{kind}`: `{name}`: {why}"))
}

/// Reads a request about parts or listings; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    let kind = header.kind.as_ref();
    let digest = |text: &Text<'_>| text.0.parse::<BlobDigest>().map_err(|why| wrong(kind, "sha256", &why));
    Ok(Some(match kind {
        PART => {
            let Part { sha256, size, offset, data } = payload(kind, header.payload)?;
            let data = match (data, header.sidecar) {
                (Some(data), None) => decode(&data.0).map_err(|why| wrong(kind, "data", &why))?,
                (None, Some(bytes)) => bytes.to_vec(),
                (Some(_), Some(_)) => return Err(wrong(kind, "sidecar", &"there is `data` as well")),
                (None, None) => return Err(Violation::invalid(alloc::format!("`{kind}`: missing field `data`"))),
            };
            let part = ArtifactPart { digest: digest(&sha256)?, size, offset, data };
            SessionRequest::AboutArtifacts(ArtifactWish::Part(part)).into()
        }
        KEEP => {
            let Keep { sha256, size, media_type, artifact_id, retain_seconds } = payload(kind, header.payload)?;
            let terms = ArtifactTerms {
                id: artifact_id.map(|named| id(kind, &named)).transpose()?,
                media_type: media_type.0.parse().map_err(|why| wrong(kind, "media_type", &why))?,
                size,
                digest: digest(&sha256)?,
                retain: retain_seconds.map(Duration::from_secs),
            };
            Command::KeepParts(terms).into()
        }
        ABANDON => {
            let Abandon { sha256 } = payload(kind, header.payload)?;
            SessionRequest::AboutArtifacts(ArtifactWish::Abandon(digest(&sha256)?)).into()
        }
        LIST => {
            let List { after, job_id, limit } = payload(kind, header.payload)?;
            let named = |name: &str, text: Option<Text<'_>>| {
                let bad = || wrong(kind, name, &"it has 1 to 256 bytes");
                text.map(|Text(text)| WireId::new(&text).ok_or_else(bad)).transpose()
            };
            let query = ArtifactQuery { after: named("after", after)?, job: named("job_id", job_id)?, limit };
            SessionRequest::AboutArtifacts(ArtifactWish::List(query)).into()
        }
        _ => return Ok(None),
    }))
}

/// The type and payload of a request; with `sidecars` its bytes go into a sidecar.
pub(in crate::wire) fn write_wish(wish: &ArtifactWish, sidecars: bool) -> (&'static str, String) {
    let mut payload = Object::new();
    let kind = match wish {
        ArtifactWish::Fetch { id, range } => return write_fetch(id, *range),
        ArtifactWish::Part(ArtifactPart { digest, size, offset, data }) => {
            payload.display("sha256", digest).u64("size", *size).u64("offset", *offset);
            // A part without bytes asks how many were received.
            if sidecars && !data.is_empty() {
                sidecar::announce(&mut payload, data, BlobDigest::of(data));
            } else {
                payload.str("data", &encode(data));
            }
            PART
        }
        ArtifactWish::Abandon(digest) => {
            payload.display("sha256", digest);
            ABANDON
        }
        ArtifactWish::List(ArtifactQuery { after, job, limit }) => {
            payload.opt_str("after", after.as_ref().map(WireId::as_str));
            payload.opt_str("job_id", job.as_ref().map(WireId::as_str));
            if let Some(limit) = limit {
                payload.u64("limit", *limit);
            }
            LIST
        }
    };
    (kind, payload.done())
}

/// The type and payload of a request to keep bytes that arrived in parts.
pub(in crate::wire) fn write_keep(terms: &ArtifactTerms) -> (&'static str, String) {
    let ArtifactTerms { id, media_type, size, digest, retain } = terms;
    let mut payload = Object::new();
    payload.opt_str("artifact_id", id.as_ref().map(WireId::as_str)).str("media_type", media_type.as_str());
    payload.u64("size", *size).display("sha256", digest);
    if let Some(retain) = retain {
        payload.u64("retain_seconds", retain.as_secs());
    }
    (KEEP, payload.done())
}

/// The type and payload of an answer.
pub(in crate::wire) fn write_answer(answer: &ArtifactAnswer) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("request_id", answer.request().map(WireId::as_str));
    let kind = match answer {
        ArtifactAnswer::Received { digest, size, received, request: _ } => {
            payload.display("sha256", digest).u64("size", *size).u64("received", *received);
            RECEIVED
        }
        ArtifactAnswer::Page(page) => {
            let entries: Vec<String> = page.artifacts.iter().map(write_listed).collect();
            payload.array("artifacts", entries).opt_str("next_after", page.next.as_ref().map(WireId::as_str));
            PAGE
        }
    };
    (kind, payload.done())
}

fn write_listed(listed: &ListedArtifact) -> String {
    let mut entry = Object::new();
    listed.artifact.write_members(&mut entry);
    if let Some(job) = listed.job {
        entry.display("job_id", job);
    }
    entry.done()
}

/// Reads the answer of a runtime; `None` for any other message.
pub(in crate::wire) fn read_reply(
    header: &Header<'_>,
    members: &Members<'_>,
    request: Option<WireId>,
) -> Result<Option<Reply>, Violation> {
    let answer = match header.kind.as_ref() {
        RECEIVED => {
            let number = |name: &str| members.get(name).and_then(|raw| raw.parse().ok());
            let digest = members.get_str("sha256").and_then(|text| text.parse().ok());
            let missing = || Violation::invalid(alloc::format!("`{RECEIVED}` does not say what has come"));
            let said = digest.zip(number("size")).zip(number("received"));
            let ((digest, size), received) = said.ok_or_else(missing)?;
            ArtifactAnswer::Received { digest, size, received, request }
        }
        PAGE => {
            let rows: Vec<&RawValue> = match members.get("artifacts") {
                Some(raw) => payload(PAGE, raw)?,
                None => Vec::new(),
            };
            let artifacts = rows.into_iter().filter_map(|row| read_listed(&Members::parse(row.get()).ok()?)).collect();
            let next = members.get_str("next_after").and_then(|id| WireId::new(&id.to_string()));
            ArtifactAnswer::Page(ArtifactPage { request, artifacts, next })
        }
        _ => return Ok(None),
    };
    Ok(Some(Reply::Session(SessionReply::OfArtifacts(answer))))
}

fn read_listed(row: &Members<'_>) -> Option<ListedArtifact> {
    let job = row.get_str("job_id").and_then(|id| JobId::parse(&id));
    Some(ListedArtifact { artifact: read_members(row)?, job })
}
