//! The open family (RFC-0001-v2). Its handshake is recognised and refused in
//! its own words; the rest comes with its own work.

use alloc::string::String;

use crate::error::{ErrorCode, Violation};
use crate::id::prefixed;
use crate::json::Object;
use crate::model::reply::Reply;
use crate::wire::envelope::Header;
use crate::wire::{Inbound, Stamp};

pub(crate) fn opens(kind: &str) -> bool {
    kind == "session.open"
}

pub(crate) fn read_request(_header: &Header<'_>) -> Result<Inbound, Violation> {
    Err(Violation::new(
        ErrorCode::Unimplemented,
        "this runtime does not speak the `session.open` family yet: open with `session.hello`",
    ))
}

pub(crate) fn write_reply(stamp: Stamp, reply: &Reply) -> String {
    let (code, message, request) = match reply {
        Reply::Refused(refusal) => (spelled(&refusal.code), refusal.message.as_ref(), refusal.request.as_ref()),
        Reply::Opened(_)
        | Reply::Closed { .. }
        | Reply::Ping { .. }
        | Reply::Pong { .. }
        | Reply::Jobs(_)
        | Reply::Accepted(_)
        | Reply::CancelTaken { .. }
        | Reply::Watching(_) => ("UNIMPLEMENTED", "not served in this family", None),
    };
    let mut payload = Object::new();
    payload.str("code", code).str("message", message).object("error", |error| {
        error.str("code", code).str("message", message).bool("retryable", false);
    });
    let mut frame = Object::new();
    frame.str("arcp", "1.1").str("id", &prefixed("msg_", stamp.id));
    frame.display("timestamp", crate::time::UtcMs(stamp.id.timestamp_ms()));
    // The published Rust reader refuses ids without this prefix.
    frame.opt_str("correlation_id", request.map(crate::id::WireId::as_str).filter(|id| id.starts_with("msg_")));
    frame.str("type", "session.rejected").raw("payload", &payload.done());
    frame.done()
}

fn spelled(code: &ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unimplemented => "UNIMPLEMENTED",
        ErrorCode::Unauthenticated => "UNAUTHENTICATED",
        ErrorCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorCode::Unavailable => "UNAVAILABLE",
        ErrorCode::Internal => "INTERNAL",
        ErrorCode::Timeout => "DEADLINE_EXCEEDED",
        ErrorCode::InvalidRequest
        | ErrorCode::PermissionDenied
        | ErrorCode::JobNotFound
        | ErrorCode::DuplicateKey
        | ErrorCode::AgentNotAvailable
        | ErrorCode::AgentVersionNotAvailable
        | ErrorCode::Cancelled
        | ErrorCode::ResumeWindowExpired
        | ErrorCode::HeartbeatLost
        | ErrorCode::LeaseExpired
        | ErrorCode::LeaseRevoked
        | ErrorCode::LeaseSubsetViolation
        | ErrorCode::BudgetExhausted
        | ErrorCode::BackpressureOverflow
        | ErrorCode::Aborted
        | ErrorCode::FailedPrecondition
        | ErrorCode::OutOfRange
        | ErrorCode::Other(_) => "INVALID_ARGUMENT",
    }
}
