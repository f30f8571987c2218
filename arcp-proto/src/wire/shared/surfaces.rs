//! Requests of the open family that hello peers send with `x-vendor.arcp.open_surfaces`.

use alloc::string::String;
use core::time::Duration;

use serde::Deserialize;

use super::{delegates, workflows};
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Object, Text};
use crate::model::request::{Cancel, Command, Invocation, Replay, Request, SessionRequest, Submit, Target};
use crate::wire::envelope::{Header, payload};

const CANCEL: &str = "cancel";
const PACE: &str = "backpressure";
const RESUME: &str = "resume";
/// The cancel grace if a cancel gives none.
const CANCEL_DEADLINE_MS: u64 = 5000;
const LONGEST_CANCEL_DEADLINE_MS: u64 = 600_000;

/// Reads such a request; `None` for any other message. `invoked` adds to a submit what its family
/// has in the envelope.
pub(in crate::wire) fn read_surface(
    header: &Header<'_>,
    invoked: impl FnOnce(Submit) -> Result<(Submit, Invocation), Violation>,
) -> Result<Option<Request>, Violation> {
    let submit = |(submit, invocation)| Command::Submit(submit, invocation).into();
    Ok(Some(match header.kind.as_ref() {
        CANCEL => Command::Cancel(read_cancel(header)?).into(),
        PACE => read_pace(header)?,
        RESUME => SessionRequest::Replay(read_replay(header)?).into(),
        workflows::KIND => submit(invoked(workflows::read(header)?)?),
        delegates::KIND => submit(invoked(delegates::read(header)?)?),
        _ => return Ok(None),
    }))
}

#[derive(Deserialize)]
struct CancelFields<'a> {
    #[serde(borrow, default)]
    target: Option<Text<'a>>,
    #[serde(borrow, default)]
    target_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(default)]
    deadline_ms: Option<u64>,
}

fn read_cancel(header: &Header<'_>) -> Result<Cancel, Violation> {
    let said: CancelFields<'_> = payload("cancel", header.payload)?;
    let id = said.target_id.and_then(|Text(id)| WireId::new(&id)).or_else(|| header.job.clone());
    let id = id.ok_or_else(|| Violation::invalid("`cancel`: `target_id` is missing"))?;
    let target = match said.target.as_ref().map_or("job", |Text(target)| target.as_ref()) {
        "job" => Target::Job(id),
        "stream" => Target::Stream(id),
        "session" => Target::Session(id),
        _ => return Err(Violation::invalid("`cancel`: `target` must be job, stream or session")),
    };
    let deadline = said.deadline_ms.unwrap_or(CANCEL_DEADLINE_MS);
    if deadline > LONGEST_CANCEL_DEADLINE_MS {
        return Err(Violation::invalid("`cancel`: `deadline_ms` must be 0 to 600000"));
    }
    let reason = said.reason.map(|Text(reason)| reason.chars().take(1024).collect());
    Ok(Cancel { target, reason, deadline: Some(Duration::from_millis(deadline)) })
}

/// The type and payload of a cancel.
pub(in crate::wire) fn write_cancel(cancel: &Cancel) -> (&'static str, String) {
    let target = match &cancel.target {
        Target::Job(_) => "job",
        Target::Stream(_) => "stream",
        Target::Session(_) => "session",
    };
    let mut payload = Object::new();
    payload
        .str("target", target)
        .str("target_id", cancel.target.id().as_str())
        .opt_str("reason", cancel.reason.as_deref());
    if let Some(deadline) = cancel.deadline {
        payload.u64("deadline_ms", u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    }
    (CANCEL, payload.done())
}

/// The type and payload of the answer that a cancel was accepted.
pub(in crate::wire) fn write_cancel_taken(target: &Target, deadline_ms: u64) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("target_id", target.id().as_str()).u64("deadline_ms", deadline_ms);
    ("cancel.accepted", payload.done())
}

#[derive(Deserialize)]
struct Pressure<'a> {
    #[serde(borrow, default)]
    stream_id: Option<Text<'a>>,
    #[serde(default)]
    desired_rate_per_second: Option<f64>,
}

/// Reads the pace of a stream (RFC §11.2).
fn read_pace(header: &Header<'_>) -> Result<Request, Violation> {
    const SLOWEST: f64 = 0.001;
    const FASTEST: f64 = 1_000_000.0;
    let said: Pressure<'_> = payload(PACE, header.payload)?;
    let stream = header.stream.as_deref().and_then(WireId::new);
    let stream = stream.or_else(|| WireId::new(&said.stream_id.as_ref()?.0));
    let stream = stream.ok_or_else(|| Violation::invalid("`backpressure`: `stream_id` is missing"))?;
    let every = match said.desired_rate_per_second {
        None => None,
        Some(rate) if (SLOWEST..=FASTEST).contains(&rate) => Some(Duration::from_secs_f64(1.0 / rate)),
        Some(_) => {
            let range = alloc::format!("`desired_rate_per_second` is {SLOWEST} to {FASTEST}");
            return Err(Violation::invalid(range));
        }
    };
    Ok(SessionRequest::Pace { stream, every }.into())
}

/// The type and payload of a pace.
pub(in crate::wire) fn write_pace(stream: &WireId, every: Option<Duration>) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("stream_id", stream.as_str());
    if let Some(every) = every.filter(|every| !every.is_zero()) {
        payload.raw("desired_rate_per_second", &alloc::format!("{}", 1.0 / every.as_secs_f64()));
    }
    (PACE, payload.done())
}

#[derive(Deserialize)]
struct ResumeFields<'a> {
    #[serde(borrow, default)]
    after_message_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    checkpoint_id: Option<Text<'a>>,
    #[serde(default)]
    include_open_streams: Option<bool>,
}

fn read_replay(header: &Header<'_>) -> Result<Replay, Violation> {
    let fields: ResumeFields<'_> = payload(RESUME, header.payload)?;
    let after = fields.after_message_id.map(|after| id("after_message_id", &after)).transpose()?;
    let checkpoint = fields.checkpoint_id.map(|named| id("checkpoint_id", &named)).transpose()?;
    Ok(Replay { after, checkpoint, open_streams: fields.include_open_streams.unwrap_or(false) })
}

/// The type and payload of a request for earlier frames.
pub(in crate::wire) fn write_replay(replay: &Replay) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("after_message_id", replay.after.as_ref().map(WireId::as_str));
    payload.opt_str("checkpoint_id", replay.checkpoint.as_ref().map(WireId::as_str));
    if replay.open_streams {
        payload.bool("include_open_streams", true);
    }
    (RESUME, payload.done())
}

fn id(name: &str, Text(text): &Text<'_>) -> Result<WireId, Violation> {
    WireId::new(text).ok_or_else(|| Violation::invalid(alloc::format!("`{name}` is not an id")))
}
