//! Sidecars: binary messages beside the frames of a runtime (RFC §11.3).

use super::Client;
use super::io::ClientEvent;
use super::reconnector::ReconnectState;
use super::replies::{hear, pass_over as pass_over_number};
use crate::error::{ErrorCode, Violation};
use crate::model::feature::Feature;
use crate::model::reply::{Refusal, RefusedKind};
use crate::model::request::{Request, SessionRequest};
use crate::wire::envelope::Header;
use crate::wire::sidecar::{Announcement, Came, is_part, missing};

/// Whether both sides offer sidecars.
pub(super) fn are_agreed(client: &Client) -> bool {
    let agreed = client.identity.as_ref().is_some_and(|me| me.features.has(Feature::Sidecars));
    agreed && client.config.features.has(Feature::Sidecars)
}

/// Withdraws the offer of sidecars, for a transport without binary messages.
pub fn speak_in_lines(client: &mut Client) {
    client.config.features = client.config.features.without(Feature::Sidecars);
}

/// Handles a binary message: a sidecar, or a frame.
pub(super) fn on_binary(client: &mut Client, message: &[u8]) {
    if !are_agreed(client) || !is_part(message) {
        return client.on_received(message);
    }
    if client.reconnector.state != ReconnectState::Open {
        return;
    }
    client.reconnector.last_received = client.now.mono;
    match client.sidecars.take(message) {
        Came::Nothing => {}
        Came::Whole(frame, bytes) => hear(client, &frame, Some(&bytes)),
        Came::Wrong(frame, why) => pass_over(client, &frame, &why),
        Came::Stray(why) => client.tell(ClientEvent::Unreadable { why: why.message.into() }),
    }
}

/// Keeps a frame until its sidecar arrives.
pub(super) fn await_sidecar(client: &mut Client, frame: &[u8], announced: Announcement) {
    let most = client.config.limits.frame_bytes;
    if let Err(why) = client.sidecars.begin(frame, announced, most) {
        pass_over(client, frame, &why);
    }
}

/// Handles a frame that arrived in place of a sidecar.
pub(super) fn on_missing(client: &mut Client) {
    if let Some(frame) = client.sidecars.give_up() {
        pass_over(client, &frame, &missing());
    }
}

/// Handles a frame without its sidecar: its number is counted, and the request that it answers is
/// refused.
fn pass_over(client: &mut Client, frame: &[u8], why: &Violation) {
    let Some(header) = core::str::from_utf8(frame).ok().and_then(|text| Header::read(text).ok()) else {
        return; // The frame was read when it arrived.
    };
    let asked = |request: &Request| matches!(request, Request::Session(SessionRequest::AboutArtifacts(_)));
    let named = client.commands.request_of(header.correlation.as_ref(), &header.id);
    let fetch = if header.seq.is_none() { client.commands.answered(named, asked) } else { None };
    match fetch {
        Some((handle, _)) => {
            let why = Violation::new(ErrorCode::DataLoss, why.message.clone());
            let refusal = Refusal::new(RefusedKind::Frame, why, None);
            client.tell(ClientEvent::Refused { handle: Some(handle), refusal });
        }
        None => pass_over_number(client, header.seq, why),
    }
}
