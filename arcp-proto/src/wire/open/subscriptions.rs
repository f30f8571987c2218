//! Subscriptions by filter (RFC §13).

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;
use ulid::Ulid;

use super::events::{kind_of, priority_of};
use super::{Envelope, shown};
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Object, Text};
use crate::model::event::EventClass;
use crate::model::request::{Command, Filter, Priority, Request, Since, Subscribe};
use crate::wire::envelope::{Header, payload};
use crate::wire::shared::quoted;
use crate::wire::{FrameRole, Stamp, View};

/// The most entries of one list of a filter.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    filter: Option<FilterFields<'a>>,
    #[serde(borrow, default)]
    since: Option<SinceFields<'a>>,
}

#[derive(Default, Deserialize)]
struct FilterFields<'a> {
    #[serde(default)]
    session_id: Option<Vec<String>>,
    #[serde(default)]
    trace_id: Option<Vec<String>>,
    #[serde(default)]
    job_id: Option<Vec<String>>,
    #[serde(default)]
    stream_id: Option<Vec<String>>,
    #[serde(default)]
    types: Option<Vec<String>>,
    #[serde(borrow, default)]
    min_priority: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct SinceFields<'a> {
    #[serde(borrow, default)]
    after_message_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    subscription_id: Text<'a>,
}

/// Reads a request about subscriptions; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    Ok(Some(match header.kind.as_ref() {
        "subscribe" => Command::Subscribe(read_subscribe(header)?).into(),
        "unsubscribe" => {
            let named: Named<'_> = payload("unsubscribe", header.payload)?;
            Command::Unsubscribe { subscription: id("subscription_id", &named.subscription_id)? }.into()
        }
        _ => return Ok(None),
    }))
}

pub(super) fn write_subscribe(subscribe: &Subscribe) -> String {
    let mut payload = Object::new();
    payload.object("filter", |out| write_filter(out, &subscribe.filter));
    match &subscribe.since {
        Some(Since::Message(message)) => {
            payload.object("since", |since| {
                since.str("after_message_id", message.as_str());
            });
        }
        Some(Since::Beginning) => {
            payload.raw("since", "{}");
        }
        None => {}
    }
    payload.done()
}

pub(super) fn write_unsubscribe(subscription: &WireId) -> String {
    let mut payload = Object::new();
    payload.str("subscription_id", subscription.as_str());
    payload.done()
}

fn write_filter(out: &mut Object, filter: &Filter) {
    let lists = [
        ("session_id", &filter.sessions),
        ("trace_id", &filter.traces),
        ("job_id", &filter.jobs),
        ("stream_id", &filter.streams),
        ("types", &filter.types),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        out.array(name, list.iter().map(|entry| quoted(entry)));
    }
    out.opt_str("min_priority", filter.min_priority.map(super::priority_name));
}

fn read_subscribe(header: &Header<'_>) -> Result<Subscribe, Violation> {
    let fields: Fields<'_> = payload("subscribe", header.payload)?;
    let filter = fields.filter.unwrap_or_default();
    let min_priority = filter.min_priority.map(|Text(name)| super::requests::priority_named(&name)).transpose()?;
    let since = fields.since.map(|since| match since.after_message_id {
        Some(message) => id("after_message_id", &message).map(Since::Message),
        None => Ok(Since::Beginning),
    });
    let filter = Filter {
        sessions: list("session_id", filter.session_id)?,
        traces: list("trace_id", filter.trace_id)?,
        jobs: list("job_id", filter.job_id)?,
        streams: list("stream_id", filter.stream_id)?,
        types: list("types", filter.types)?,
        min_priority,
    };
    Ok(Subscribe { filter, since: since.transpose()? })
}

fn list(name: &str, entries: Option<Vec<String>>) -> Result<Vec<String>, Violation> {
    let entries = entries.unwrap_or_default();
    if entries.len() > MOST || entries.iter().any(|entry| entry.len() > WireId::MAX) {
        let most = alloc::format!("`filter`: `{name}` has at most {MOST} entries of {} bytes", WireId::MAX);
        return Err(Violation::invalid(most));
    }
    Ok(entries)
}

fn id(name: &str, Text(text): &Text<'_>) -> Result<WireId, Violation> {
    WireId::new(text).ok_or_else(|| Violation::invalid(alloc::format!("`{name}` is not an id")))
}

/// The message types about jobs. The index of each is its bit in filters.
const TYPES: [&str; 26] = [
    "job.accepted",
    "job.started",
    "job.progress",
    "job.status",
    "job.checkpoint",
    "job.result_chunk",
    "job.completed",
    "job.failed",
    "job.cancelled",
    "log",
    "metric",
    "event.emit",
    "agent.delegate",
    "stream.open",
    "stream.chunk",
    "stream.close",
    "human.input.request",
    "human.choice.request",
    "permission.request",
    "human.input.cancelled",
    "lease.granted",
    "lease.extended",
    "lease.revoked",
    "stream.error",
    "artifact.ref",
    "workflow.complete",
];

/// The bits of these types.
pub(crate) fn observed_types(names: &[String]) -> u32 {
    let known = TYPES.iter().enumerate().filter(|(_, kind)| names.iter().any(|name| name == *kind));
    known.fold(0, |bits, (at, _)| bits | 1 << at)
}

/// The bit of the message type of an event's frame, or of the acceptance, and its priority.
pub(crate) fn observed_type(class: Option<EventClass>, role: FrameRole) -> (u32, Priority) {
    let kind = class.map_or("job.accepted", |class| kind_of(class, role));
    let at = TYPES.iter().position(|known| *known == kind).unwrap_or(TYPES.len());
    (1 << at, class.map_or(Priority::Normal, |class| priority_of(class, role)))
}

/// Writes an envelope for a subscription, inside a frame of the subscriber's session.
pub(crate) fn write_observed(view: &View, stamp: Stamp, subscription: &str, envelope: &str) -> String {
    let mut payload = Object::with_capacity(envelope.len() + 64);
    payload.raw("event", envelope);
    let frame = Envelope {
        id: stamp.id,
        kind: "subscribe.event",
        session: stamp.session.map(|session| Cow::Owned(session.to_string())),
        subscription: Some(subscription),
        priority: shown(view, Priority::Normal),
        seq: stamp.seq,
        ..Envelope::default()
    };
    frame.around(&payload.done())
}

pub(crate) fn write_boundary(view: &View, id: Ulid) -> String {
    let mut payload = Object::new();
    payload.str("name", "subscription.backfill_complete");
    let priority = shown(view, Priority::Normal);
    Envelope { id, kind: "event.emit", priority, ..Envelope::default() }.around(&payload.done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_of_an_event_can_be_asked_for_by_its_type() {
        let roles = [FrameRole::Whole, FrameRole::StreamOpen, FrameRole::StreamClose];
        for (class, role) in EventClass::ALL.into_iter().flat_map(|class| roles.map(|role| (class, role))) {
            let kind = kind_of(class, role);
            let asked = observed_types(&[kind.to_string()]);
            assert_eq!(asked, observed_type(Some(class), role).0, "no filter can name `{kind}`: TYPES lacks it");
        }
    }
}
