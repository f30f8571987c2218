//! Frames of streams, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.open_surfaces`.

use alloc::string::{String, ToString as _};

use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Members, Object};
use crate::model::event::JobEvent;
use crate::model::request::Command;
use crate::model::stream::{StreamRequest, StreamSaid, read_terms};
use crate::wire::envelope::Header;
use crate::wire::sidecar;

const OPEN: &str = "stream.open";
const CHUNK: &str = "stream.chunk";
const CLOSE: &str = "stream.close";
const ERROR: &str = "stream.error";

/// Reads part of a stream from a client to an agent; `None` for any other message. Job and stream
/// are in the envelope or in the payload.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Command>, Violation> {
    let kind = header.kind.as_ref();
    if !matches!(kind, OPEN | CHUNK | CLOSE | ERROR) {
        return Ok(None);
    }
    let members = Members::parse(header.payload).map_err(|why| Violation::invalid(why.to_string()))?;
    let named = |name: &str| members.get_str(name).and_then(|id| WireId::new(&id));
    let missing = |name: &str| Violation::invalid(alloc::format!("`{kind}`: `{name}` is missing"));
    let job = header.job.clone().or_else(|| named("job_id")).ok_or_else(|| missing("job_id"))?;
    let stream = header.stream.as_deref().and_then(WireId::new).or_else(|| named("stream_id"));
    let stream = stream.ok_or_else(|| missing("stream_id"))?;
    let says = match kind {
        OPEN => StreamSaid::Open(read_terms(&members)),
        CHUNK => {
            let sequence = members.get("sequence").and_then(|raw| raw.parse().ok());
            let mut body = members;
            body.0.retain(|(name, _)| !matches!(name.as_ref(), "job_id" | "stream_id" | "sequence"));
            let body = header.sidecar.map_or_else(|| body.to_json(), |bytes| sidecar::whole(&body, bytes));
            StreamSaid::Chunk { sequence: sequence.ok_or_else(|| missing("sequence"))?, body }
        }
        CLOSE => StreamSaid::Close { reason: members.get_str("reason") },
        _ => StreamSaid::Fail {
            code: members.get_str("code").map_or(ErrorCode::Unknown, |code| ErrorCode::from(code.as_str())),
            message: members.get_str("message").unwrap_or_default(),
        },
    };
    Ok(Some(Command::Stream(StreamRequest { job, stream, says }.into())))
}

/// The type and payload of part of a stream from a client; with `sidecars` its bytes go into a
/// sidecar.
pub(in crate::wire) fn write_stream(request: &StreamRequest, sidecars: bool) -> (&'static str, String) {
    let StreamRequest { job, stream, says } = request;
    let mut payload = Object::new();
    payload.str("job_id", job.as_str()).str("stream_id", stream.as_str());
    let kind = match says {
        StreamSaid::Open(terms) => {
            payload.str("kind", terms.kind.as_str());
            payload.opt_str("content_type", terms.content_type.as_deref());
            payload.opt_str("encoding", terms.encoding.as_deref());
            OPEN
        }
        StreamSaid::Chunk { sequence, body } => {
            payload.u64("sequence", *sequence);
            let members = body.members().unwrap_or_default();
            match sidecar::bytes_of_chunk(&members).filter(|_| sidecars) {
                Some(bytes) => sidecar::announce_chunk(&mut payload, &members, &bytes),
                None => {
                    for (name, value) in &members.0 {
                        payload.member(name, value);
                    }
                }
            }
            CHUNK
        }
        StreamSaid::Close { reason } => {
            payload.opt_str("reason", reason.as_deref());
            CLOSE
        }
        StreamSaid::Fail { code, message } => {
            payload.str("code", code.as_str()).str("message", message);
            ERROR
        }
    };
    (kind, payload.done())
}

/// The stream of an event, if it belongs to one.
pub(in crate::wire) fn stream_of(event: &JobEvent) -> Option<String> {
    match event {
        JobEvent::Emitted { kind, body } if kind.is_of_streams() => body.members().ok()?.get_str("stream_id"),
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    }
}

/// Writes the bytes of a chunk of a binary stream, which are kept as base64. No other code does, so
/// that they can go into a sidecar.
pub(in crate::wire) fn stream_data(payload: &mut Object, base64: &str) {
    payload.raw("data", base64);
}
