//! Checkpoints, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.checkpoints`.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::requests::key;
use crate::error::Violation;
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Members, Object, Text};
use crate::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, LONGEST_LABEL, RestoreCheckpoint};
use crate::model::reply::{CommandReply, Reply, SessionReply};
use crate::model::request::{Command, Request, SessionRequest};
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};

const CREATE: &str = "checkpoint.create";
const RESTORE: &str = "checkpoint.restore";
const LIST: &str = "x-vendor.arcp.checkpoints.list";
/// A requested checkpoint was made. With a number, a message of this type is an event of a job.
const MADE: &str = "job.checkpoint";
/// The answer to a listing.
const PAGE: &str = "x-vendor.arcp.checkpoints";
/// Members that the RFC does not have.
const SIZE: &str = "x-vendor.arcp.size";
const ASKED_FOR: &str = "x-vendor.arcp.asked_for";

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    job_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    label: Option<Text<'a>>,
    #[serde(borrow, default)]
    checkpoint_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
}

/// Reads a request about checkpoints; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    let kind = header.kind.as_ref();
    if !matches!(kind, CREATE | RESTORE | LIST) {
        return Ok(None);
    }
    let asked: Asked<'_> = payload(kind, header.payload)?;
    if kind == RESTORE {
        let key = key(asked.idempotency_key.or_else(|| header.key.as_ref().map(|key| Text(key.clone()))))?;
        let checkpoint = named(kind, "checkpoint_id", asked.checkpoint_id, None)?;
        return Ok(Some(Command::RestoreCheckpoint(RestoreCheckpoint { checkpoint, key }).into()));
    }
    let job = named(kind, "job_id", asked.job_id, header.job.as_ref())?;
    if kind == LIST {
        return Ok(Some(SessionRequest::ListCheckpoints { job }.into()));
    }
    let label = asked.label.map(|Text(label)| label.to_string()).filter(|label| !label.is_empty());
    if label.as_ref().is_some_and(|label| label.len() > LONGEST_LABEL) {
        return Err(Violation::invalid(alloc::format!("`{kind}`: `label` has at most {LONGEST_LABEL} bytes")));
    }
    Ok(Some(Command::CreateCheckpoint(CreateCheckpoint { job, label }).into()))
}

fn named(kind: &str, name: &str, id: Option<Text<'_>>, beside: Option<&WireId>) -> Result<WireId, Violation> {
    let found = id.map_or_else(|| beside.cloned(), |Text(id)| WireId::new(&id));
    found.ok_or_else(|| Violation::invalid(alloc::format!("`{kind}`: `{name}` is missing, or no id")))
}

/// The type and payload of a request for a checkpoint.
pub(in crate::wire) fn write_create(wish: &CreateCheckpoint) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("job_id", wish.job.as_str()).opt_str("label", wish.label.as_deref());
    (CREATE, payload.done())
}

/// The type and payload of a request for a job that begins at a checkpoint.
pub(in crate::wire) fn write_restore(wish: &RestoreCheckpoint) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("checkpoint_id", wish.checkpoint.as_str());
    payload.opt_str("idempotency_key", wish.key.as_ref().map(IdempotencyKey::as_str));
    (RESTORE, payload.done())
}

/// The type and payload of a query.
pub(in crate::wire) fn write_query(job: &WireId) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("job_id", job.as_str());
    (LIST, payload.done())
}

/// The type and payload of the answer that a checkpoint was made.
pub(in crate::wire) fn write_made(checkpoint: &CheckpointRef, request: Option<&WireId>) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("request_id", request.map(WireId::as_str));
    write_ref(&mut payload, checkpoint);
    (MADE, payload.done())
}

/// The type and payload of a listing.
pub(in crate::wire) fn write_list(list: &CheckpointList) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("request_id", list.request.as_ref().map(WireId::as_str)).str("job_id", list.job.as_str());
    let entries = list.checkpoints.iter().map(|checkpoint| {
        let mut entry = Object::new();
        write_ref(&mut entry, checkpoint);
        entry.done()
    });
    payload.array("checkpoints", entries.collect::<Vec<String>>());
    (PAGE, payload.done())
}

fn write_ref(out: &mut Object, checkpoint: &CheckpointRef) {
    let CheckpointRef { id, job, label, created_at, size, asked_for } = checkpoint;
    out.str("checkpoint_id", id.as_str()).str("job_id", job.as_str()).opt_str("label", label.as_deref());
    if let Some(at) = created_at {
        out.display("created_at", at);
    }
    out.u64(SIZE, *size).bool(ASKED_FOR, *asked_for);
}

/// Reads the answer to a request about checkpoints; `None` for any other message.
pub(in crate::wire) fn read_reply(
    header: &Header<'_>,
    members: &Members<'_>,
    request: Option<WireId>,
) -> Result<Option<Reply>, Violation> {
    let wrong = || Violation::invalid(alloc::format!("`{}` does not say what the checkpoint is", header.kind));
    match header.kind.as_ref() {
        MADE if header.seq.is_none() => {
            let checkpoint = read_ref(members).ok_or_else(wrong)?;
            Ok(Some(Reply::Command(CommandReply::Checkpoint { checkpoint, request })))
        }
        PAGE => {
            let rows: Vec<&RawValue> = match members.get("checkpoints") {
                Some(raw) => payload(PAGE, raw)?,
                None => Vec::new(),
            };
            let rows = rows.into_iter().filter_map(|row| read_ref(&Members::parse(row.get()).ok()?));
            let job = members.get_str("job_id").and_then(|job| WireId::new(&job)).ok_or_else(wrong)?;
            let list = CheckpointList { request, job, checkpoints: rows.collect() };
            Ok(Some(Reply::Session(SessionReply::Checkpoints(list))))
        }
        _ => Ok(None),
    }
}

fn read_ref(members: &Members<'_>) -> Option<CheckpointRef> {
    let id = |name: &str| members.get_str(name).and_then(|id| WireId::new(&id));
    Some(CheckpointRef {
        id: id("checkpoint_id")?,
        job: id("job_id")?,
        label: members.get_str("label").map(|label| label.to_string()),
        created_at: members.get_str("created_at").and_then(|at| UtcMs::parse(&at)),
        size: members.get(SIZE).and_then(|raw| raw.parse().ok()).unwrap_or_default(),
        asked_for: members.get(ASKED_FOR) == Some("true"),
    })
}
