//! Frames and envelopes of both families, in both directions. A frame that can be read must have the same meaning
//! after it was written and read again.

use arcp_proto::id::{JobId, SessionId};
use arcp_proto::json::Json;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::feature::{Feature, Features};
use arcp_proto::time::UtcMs;
use arcp_proto::wire::raw::{
    self, EventFrame, EventSnapshot, Header, RequestToSend, RuntimeFrame, Stamp, read_request, read_runtime_frame,
};
use arcp_proto::wire::{Family, FrameRole, Profile, View};
use ulid::Ulid;

use super::bytes::Bytes;

const AT: UtcMs = UtcMs(1_767_225_600_000);

/// The first byte selects family and direction; the rest is a frame.
pub(super) fn frames(data: &[u8]) {
    let mut data = Bytes(data);
    let choice = data.byte();
    let family = if choice & 1 == 0 { Family::Hello } else { Family::Open };
    let Ok(text) = raw::ingest(data.0, 1 << 20, Json::MAX_DEPTH) else { return };
    let Ok(header) = Header::read(text) else { return };
    if choice & 2 == 0 {
        request(family, &header);
    } else {
        reply(family, &header);
    }
}

/// A frame of a client: read, written, read and written again.
fn request(family: Family, header: &Header<'_>) {
    let Some(once) = rewrite_request(family, header) else { return };
    let header = Header::read(&once).unwrap_or_else(|_| panic!("we cannot read our own {once}"));
    let twice = rewrite_request(family, &header).unwrap_or_else(|| panic!("we refuse our own {once}"));
    assert_eq!(once, twice);
}

fn rewrite_request(family: Family, header: &Header<'_>) -> Option<String> {
    let received = read_request(family, header).ok()?;
    let id = Ulid::from_parts(AT.0, 1);
    let text = raw::write_request(
        family,
        &RequestToSend { id, session: received.session.as_ref(), at: AT, request: &received.request, sidecars: false },
    )?;
    assert!(!text.contains(['\n', '\r']), "a line in a line: {text}");
    Some(text)
}

/// A frame of a runtime, in the same way.
fn reply(family: Family, header: &Header<'_>) {
    let view = View {
        family,
        // A frame is read back by itself, without the sidecar after it.
        features: Features::new(&Feature::ALL).without(Feature::Sidecars),
        profile: Profile::Plain,
        ..View::before_handshake(false)
    };
    let Some(once) = rewrite_reply(&view, header) else { return };
    let header = Header::read(&once).unwrap_or_else(|_| panic!("we cannot read our own {once}"));
    let twice = rewrite_reply(&view, &header).unwrap_or_else(|| panic!("we cannot read our own {once}"));
    assert_eq!(once, twice);
}

fn rewrite_reply(view: &View, header: &Header<'_>) -> Option<String> {
    let id = Ulid::from_parts(AT.0, 2);
    let session = SessionId::from_ulid(Ulid::from_parts(AT.0, 3));
    let text = match read_runtime_frame(view.family, header, AT).ok()? {
        RuntimeFrame::Reply { reply, .. } => {
            raw::write_reply(view, Stamp { id, session: Some(session), seq: header.seq }, &reply)?
        }
        RuntimeFrame::Event { event, at, .. } => event_frame(view, header, session, at.unwrap_or(AT), &event),
        RuntimeFrame::Echo { .. }
        | RuntimeFrame::Goodbye { .. }
        | RuntimeFrame::Counted
        | RuntimeFrame::Heartbeat { .. }
        | RuntimeFrame::Unknown => return None,
    };
    assert!(!text.contains(['\n', '\r']), "a line in a line: {text}");
    Some(text)
}

fn event_frame(view: &View, header: &Header<'_>, session: SessionId, at: UtcMs, event: &JobEvent) -> String {
    // The time of an open envelope is that in its id.
    let id = Ulid::from_parts(at.0, 2);
    let job = JobId::from_ulid(Ulid::from_parts(AT.0, 4));
    let payload = raw::render_event(view, &EventSnapshot { job, at, thoughts: 0, event }, FrameRole::Whole);
    let frame = EventFrame {
        id,
        session,
        seq: Some(header.seq.unwrap_or(1)),
        job,
        trace: header.trace.as_deref().unwrap_or_default(),
        span: None,
        request: header.correlation.as_ref(),
        own: false,
        event,
        role: FrameRole::Whole,
        payload: &payload,
    };
    raw::write_event(view, &frame)
}
