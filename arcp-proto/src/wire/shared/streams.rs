//! Frames of streams, which both families spell the same: hello peers use them with
//! `x-vendor.arcp.open_surfaces`.

use alloc::string::String;

use crate::json::Object;
use crate::model::event::JobEvent;

/// The stream that an event is of, if it is of one.
pub(in crate::wire) fn stream_of(event: &JobEvent) -> Option<String> {
    match event {
        JobEvent::Emitted { kind, body } if kind.is_of_streams() => body.members().ok()?.get_str("stream_id"),
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    }
}

/// Writes the bytes of a chunk of a binary stream, which are kept as base64: nothing
/// else does, so that they can go another way.
pub(in crate::wire) fn stream_data(payload: &mut Object, base64: &str) {
    payload.raw("data", base64);
}
