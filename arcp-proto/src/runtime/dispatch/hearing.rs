//! What peers send: frames, and binary messages, which follow their frames (RFC §11.3).

use super::opening::OpeningHandler;
use super::requests::RequestHandler;
use crate::error::Violation;
use crate::id::{ConnId, WireId};
use crate::model::reply::Subject;
use crate::runtime::Runtime;
use crate::runtime::connection::{Heard, give_up_sidecar, on_binary as on_message};
use crate::wire::sidecar::{Came, missing, overdue};

/// Handles a frame, with its binary message if it has one.
pub(super) fn hear(runtime: &mut Runtime, conn: ConnId, frame: &[u8], sidecar: Option<&[u8]>) {
    note_speaker(runtime, conn);
    let Runtime { ctx, connections, sessions, .. } = &mut *runtime;
    let heard = connections.on_received(ctx, sessions, conn, frame, sidecar);
    runtime.carry();
    match heard {
        Heard::Nothing => {}
        Heard::Refused(subject, violation) => runtime.refuse_message(conn, subject, violation),
        Heard::Opening(opening) => OpeningHandler::on_opening(runtime, conn, opening),
        Heard::Request(session, received, header) => {
            RequestHandler::on_request(runtime, conn, session, received, &header);
            if let Some(conn) = runtime.connections.get_mut(conn) {
                conn.keep_checked(frame, sidecar);
            }
        }
    }
}

/// Handles a binary message: bytes that a frame waits for, or a frame.
pub(in crate::runtime) fn on_binary(runtime: &mut Runtime, conn: ConnId, message: &[u8]) {
    note_speaker(runtime, conn);
    let Runtime { ctx, connections, sessions, .. } = &mut *runtime;
    let came = on_message(connections, ctx, sessions, conn, message);
    runtime.carry();
    match came {
        None => runtime.on_received(conn, message),
        Some(Came::Nothing) => {}
        Some(Came::Whole(frame, bytes)) => hear(runtime, conn, &frame, Some(&bytes)),
        Some(Came::Wrong(frame, why)) => runtime.refuse_message(conn, Subject::from_refused(&frame), why),
        Some(Came::Stray(why)) => runtime.refuse_frame(conn, why, None::<WireId>),
    }
}

/// A frame came while another one waits for its bytes.
pub(super) fn on_missing(runtime: &mut Runtime, conn: ConnId) {
    give_up(runtime, conn, missing());
}

/// The bytes of a frame have not come in time.
pub(in crate::runtime) fn on_overdue(runtime: &mut Runtime, conn: ConnId) {
    give_up(runtime, conn, overdue());
}

fn give_up(runtime: &mut Runtime, conn: ConnId, why: Violation) {
    if let Some(about) = give_up_sidecar(&mut runtime.connections, &mut runtime.ctx, conn) {
        runtime.refuse_message(conn, about, why);
    }
}

/// Charges what is appended from here on to the peer of a connection.
fn note_speaker(runtime: &mut Runtime, conn: ConnId) {
    if let Some(conn) = runtime.connections.get(conn) {
        runtime.ctx.log.caused_by(conn.account().principal());
    }
}
