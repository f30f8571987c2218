//! The connections of a world: how they are opened, written and broken.

use std::net::IpAddr;

use arcp_proto::client::ClientInput;
use arcp_proto::id::{ConnId, OpId, Principal};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{CloseReason, Input, Transport, Verdict};

use super::{Event, World};

impl World {
    /// Opens a connection for [`crate::raw::Raw`].
    pub fn open_raw(&mut self) -> ConnId {
        self.open(None, Transport::WebSocket, None)
    }

    /// Opens a connection for [`crate::raw::Raw`] from an address.
    pub fn open_raw_from(&mut self, address: IpAddr) -> ConnId {
        self.open_at(Some(address), None, Transport::WebSocket, None)
    }

    /// Opens a connection whose transport names its principal.
    pub fn open_vouched(&mut self, peer: &str) -> ConnId {
        self.open(None, Transport::Lines, Principal::new(peer))
    }

    /// Sends bytes on a raw connection.
    pub fn send_raw(&mut self, conn: ConnId, frame: Vec<u8>) {
        let at = self.arrival(conn, true);
        self.schedule(at, Event::ToRuntime(Input::Received { conn, frame }));
    }

    /// Sends a binary message on a raw connection.
    pub fn send_binary(&mut self, conn: ConnId, message: Vec<u8>) {
        let at = self.arrival(conn, true);
        self.schedule(at, Event::ToRuntime(Input::ReceivedBinary { conn, message }));
    }

    /// Delivers a binary message to the reader of a connection.
    pub(super) fn deliver_sidecar(&mut self, conn: ConnId, message: Vec<u8>) {
        let size = u32::try_from(message.len()).expect("it is small");
        self.wire(conn).sidecars.push(message.clone());
        self.pass_on(conn, (size, 0), ClientInput::ReceivedBinary { message });
    }

    /// All binary messages that were sent on a connection so far.
    pub fn sidecars_of(&self, conn: ConnId) -> &[Vec<u8>] {
        self.wires.get(&conn).map(|wire| wire.sidecars.as_slice()).unwrap_or_default()
    }

    /// All frames that were sent on a connection so far.
    pub fn frames_of(&self, conn: ConnId) -> &[String] {
        self.wires.get(&conn).map(|wire| wire.frames.as_slice()).unwrap_or_default()
    }

    /// Whether the runtime closed the connection.
    pub fn is_closed(&self, conn: ConnId) -> bool {
        self.close_reason(conn).is_some()
    }

    /// Why the runtime closed the connection.
    pub fn close_reason(&self, conn: ConnId) -> Option<CloseReason> {
        self.wires.get(&conn).and_then(|wire| wire.closed)
    }

    /// Breaks the transport of a connection; both sides notice.
    pub fn cut(&mut self, conn: ConnId) {
        if let Some(client) = self.wire(conn).client {
            let why = "cut".to_string();
            let at = self.arrival(conn, false);
            self.schedule(at, Event::ToClient(client, conn, ClientInput::Disconnected { why }));
        }
        self.input(Input::Closed { conn });
    }

    /// The reader of a connection stops reading, or continues.
    pub fn stall(&mut self, conn: ConnId, stalled: bool) {
        let wire = self.wire(conn);
        wire.stalled = stalled;
        if stalled {
            return;
        }
        let (bytes, frames) = std::mem::take(&mut wire.owed);
        if frames > 0 {
            self.later(Event::ToRuntime(Input::Credit { conn, bytes, frames }));
        }
    }

    pub(super) fn authenticate(&mut self, op: OpId, credential: &Credential) {
        // In this world, a token is the text of its principal after `tok-`.
        let verdict = match credential {
            Credential::Bearer(token) => {
                let principal = token.expose().strip_prefix("tok-").and_then(|text| text.parse().ok());
                let expires_at = self.credentials_until.get(token.expose()).copied();
                let (scopes, binding) = self.credentials.get(token.expose()).cloned().unwrap_or_default();
                let ceiling = self.ceilings.get(token.expose()).cloned();
                let roles = self.roles.get(token.expose()).cloned().unwrap_or_default();
                let features = self.features.get(token.expose()).copied();
                principal.map(|principal: Principal| Verdict {
                    principal,
                    scopes,
                    roles,
                    expires_at,
                    binding,
                    ceiling,
                    features,
                })
            }
            Credential::Anonymous | Credential::Other { .. } => None,
        };
        self.later(Event::ToRuntime(Input::Authenticated { op, verdict }));
    }
}
