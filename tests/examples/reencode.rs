//! Reads the recorded frames of a published runtime, and writes each as this implementation would. The runtime's own
//! reader must accept what it accepted before. Some frames were wrong on purpose, and stay wrong.
//!
//! ```text
//! reencode rust-2.0.0 | their-rust decode
//! reencode python-1.1.3 | python tests/peers/python/decode.py
//! ```

#![allow(clippy::print_stdout, reason = "the frames are what it is for")]

use std::path::PathBuf;

use arcp_proto::id::{JobId, SessionId};
use arcp_proto::json::Members;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::feature::{Feature, Features};
use arcp_proto::time::UtcMs;
use arcp_proto::wire::raw::{
    self, EventFrame, EventSnapshot, Header, RequestToSend, RuntimeFrame, Stamp, read_request, read_runtime_frame,
};
use arcp_proto::wire::{Family, FrameRole, Profile, View};
use ulid::Ulid;

const AT: UtcMs = UtcMs(1_767_225_600_000);

fn main() {
    let (folder, family, profile) = match std::env::args().nth(1).as_deref() {
        Some(name @ "rust-2.0.0") => (name.to_string(), Family::Open, Profile::Rust200),
        Some(name @ "python-1.1.3") => (name.to_string(), Family::Hello, Profile::Python113),
        _ => panic!("reencode rust-2.0.0 | python-1.1.3"),
    };
    // No published peer accepts sidecars.
    let offered = Features::new(&Feature::ALL).without(Feature::Sidecars);
    let view = View { family, features: offered, profile, ..View::before_handshake(false) };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("recorded").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        for line in std::fs::read_to_string(&file).expect("text").lines() {
            // As text: some frames contain values that no tree of values can hold.
            let entry = Members::parse(line).expect("JSON lines");
            let text = entry.get("msg").and_then(|raw| raw::ingest(raw.as_bytes(), 16 << 20, 240).ok());
            let Some(Ok(header)) = text.map(Header::read) else { continue };
            let frame = match entry.get_str("dir").as_deref() {
                Some("c2r") => request(&view, &header),
                Some("r2c") => said(&view, &header),
                _ => None,
            };
            if let (Some(text), Some(frame)) = (text, frame) {
                println!("{{\"was\":{text},\"now\":{frame}}}");
            }
        }
    }
}

/// A request as our client would write it.
fn request(view: &View, header: &Header<'_>) -> Option<String> {
    let inbound = read_request(view.family, header).ok()?;
    let id = Ulid::from_parts(AT.0, 1);
    let session = inbound.session.filter(|session| session.as_str().starts_with("sess_"));
    raw::write_request(
        view.family,
        &RequestToSend { id, session: session.as_ref(), at: AT, request: &inbound.request, sidecars: false },
    )
}

/// A frame of a runtime as ours would write it.
fn said(view: &View, header: &Header<'_>) -> Option<String> {
    let id = Ulid::from_parts(AT.0, 2);
    let session = SessionId::from_ulid(Ulid::from_parts(AT.0, 3));
    match read_runtime_frame(view.family, header, AT).ok()? {
        RuntimeFrame::Reply { reply, .. } => {
            let stamp = Stamp { id, session: Some(session), seq: header.seq };
            raw::write_reply(view, stamp, &reply)
        }
        RuntimeFrame::Event { event, .. } => Some(event_frame(view, header, id, session, &event)),
        RuntimeFrame::Echo { .. }
        | RuntimeFrame::Goodbye { .. }
        | RuntimeFrame::Counted
        | RuntimeFrame::Heartbeat { .. }
        | RuntimeFrame::Unknown => None,
    }
}

fn event_frame(view: &View, header: &Header<'_>, id: Ulid, session: SessionId, event: &JobEvent) -> String {
    let job = JobId::from_ulid(Ulid::from_parts(AT.0, 4));
    let payload = raw::render_event(view, &EventSnapshot { job, at: AT, thoughts: 0, event }, FrameRole::Whole);
    let frame = EventFrame {
        id,
        session,
        seq: Some(header.seq.unwrap_or(1)),
        job,
        trace: header.trace.as_deref().unwrap_or_default(),
        span: None,
        request: header.correlation.as_ref(),
        own: true,
        event,
        role: FrameRole::Whole,
        payload: &payload,
    };
    raw::write_event(view, &frame)
}
