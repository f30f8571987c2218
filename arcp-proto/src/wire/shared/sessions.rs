//! Listing and evicting sessions, with the same messages in both families: an extension of ours.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Object, Text};
use crate::model::request::{Command, Request, SessionRequest};
use crate::model::session::{Eviction, SessionPage, SessionQuery, SessionSummary};
use crate::wire::envelope::{Header, payload};

const LIST: &str = "x-vendor.arcp.sessions.list";
const EVICT: &str = "x-vendor.arcp.sessions.evict";
/// The answer to a listing.
pub(in crate::wire) const PAGE: &str = "x-vendor.arcp.sessions";

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    after: Option<Text<'a>>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(borrow, default)]
    session_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
}

/// Reads a request about sessions; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    let kind = header.kind.as_ref();
    if !matches!(kind, LIST | EVICT) {
        return Ok(None);
    }
    let asked: Asked<'_> = payload(kind, header.payload)?;
    let id = |name: &str, Text(id): Text<'_>| {
        WireId::new(&id).ok_or_else(|| Violation::invalid(alloc::format!("`{kind}`: `{name}` is not an id")))
    };
    if kind == LIST {
        let after = asked.after.map(|after| id("after", after)).transpose()?;
        return Ok(Some(SessionRequest::ListSessions(SessionQuery { after, limit: asked.limit }).into()));
    }
    let missing = || Violation::invalid(alloc::format!("`{kind}`: `session_id` is missing"));
    let session = id("session_id", asked.session_id.ok_or_else(missing)?)?;
    let reason = asked.reason.map(|Text(reason)| reason.chars().take(1024).collect());
    Ok(Some(Command::Evict(Eviction { session, reason }).into()))
}

/// The type and payload of a query.
pub(in crate::wire) fn write_query(query: &SessionQuery) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("after", query.after.as_ref().map(WireId::as_str));
    if let Some(limit) = query.limit {
        payload.u64("limit", limit);
    }
    (LIST, payload.done())
}

/// The type and payload of an eviction.
pub(in crate::wire) fn write_eviction(eviction: &Eviction) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("session_id", eviction.session.as_str()).opt_str("reason", eviction.reason.as_deref());
    (EVICT, payload.done())
}

/// The type and payload of a page.
pub(in crate::wire) fn write_page(page: &SessionPage) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("request_id", page.request.as_ref().map(WireId::as_str));
    let entries: Vec<String> = page.sessions.iter().map(write_summary).collect();
    payload.array("sessions", entries).opt_str("next_after", page.next.as_ref().map(WireId::as_str));
    (PAGE, payload.done())
}

fn write_summary(session: &SessionSummary) -> String {
    let mut entry = Object::new();
    entry.str("session_id", session.session.as_str()).str("principal", &session.principal);
    if let Some(at) = session.opened_at {
        entry.display("opened_at", at);
    }
    entry.bool("connected", session.connected);
    if let Some(at) = session.expires_at {
        entry.display("expires_at", at);
    }
    entry.done()
}
