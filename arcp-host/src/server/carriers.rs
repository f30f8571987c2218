//! Connections that carry others: those of HTTP/2 and QUIC, which their adapters
//! read and write. Who may have one, and for how long without a session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arcp_proto::id::ConnId;

use super::Socket;
use super::connections::{Connections, HEAD_TIMEOUT};
use super::origin::Origin;
use crate::server_log::log;

/// How long a connection may be without a stream that has had one.
const IDLE: Duration = Duration::from_secs(30);

/// Why a connection that carries others is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierEnd {
    /// The server ends: the streams that there are end by themselves, and no other
    /// is to come.
    Stopping,
    /// At once: there are too many connections without a session.
    TooMany,
    /// At once: no handshake, request or session came in time.
    Late,
    /// At once: too much of it came to no session.
    Failed,
}

/// Tells an adapter that it is to end.
pub(super) type TellEnd = Box<dyn Fn(CarrierEnd) + Send>;

/// All of them.
#[derive(Default)]
pub(super) struct Carriers {
    by_conn: BTreeMap<ConnId, Carrier>,
}

struct Carrier {
    from: Origin,
    tell: TellEnd,
    streams: usize,
    /// Streams that came to no session.
    failed: u32,
    deadline: Option<Instant>,
}

impl Carriers {
    pub(super) fn len(&self) -> usize {
        self.by_conn.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_conn.is_empty()
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.by_conn.contains_key(&conn)
    }

    /// The server ends.
    pub(super) fn stop(&self) {
        self.by_conn.values().for_each(|carrier| (carrier.tell)(CarrierEnd::Stopping));
    }

    #[cfg(feature = "tls")]
    pub(super) fn origin(&self, conn: ConnId) -> Option<Origin> {
        self.by_conn.get(&conn).map(|carrier| carrier.from)
    }

    /// When it has to have gone on.
    pub(super) fn deadline(&mut self, conn: ConnId) -> Option<&mut Option<Instant>> {
        self.by_conn.get_mut(&conn).map(|carrier| &mut carrier.deadline)
    }

    /// It is over; it is told why.
    pub(super) fn remove(&mut self, conn: ConnId, why: CarrierEnd) {
        if let Some(carrier) = self.by_conn.remove(&conn) {
            (carrier.tell)(why);
        }
    }
}

impl<S: Socket> Connections<S> {
    /// Adds a connection that carries others; `None` where there is no room.
    pub(super) fn carry(&mut self, from: Origin, has_tls: bool, tell: TellEnd) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let conn = self.next_conn();
        let carrier = Carrier { from, tell, streams: 0, failed: 0, deadline: None };
        self.carriers.by_conn.insert(conn, carrier);
        self.enter(conn, from);
        let span = if has_tls { self.begin_handshake(conn, from) } else { HEAD_TIMEOUT };
        self.set_deadline(conn, Some(Instant::now() + span));
        self.carriers.has(conn).then_some(conn)
    }

    /// The TLS handshake of a carrier is done.
    pub(super) fn carrier_is_secure(&mut self, conn: ConnId) {
        if self.carriers.has(conn) && self.end_handshake(conn) {
            self.set_deadline(conn, Some(Instant::now() + HEAD_TIMEOUT));
        }
    }

    /// A stream of a carrier was added: its own place counts while it is there.
    #[cfg(feature = "tls")]
    pub(super) fn stream_began(&mut self, conn: ConnId) {
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.streams += 1;
            self.admit(conn);
            self.set_deadline(conn, None);
        }
    }

    /// A stream of a carrier is gone.
    pub(super) fn stream_ended(&mut self, conn: ConnId, proved: bool) {
        let Some(carrier) = self.carriers.by_conn.get_mut(&conn) else {
            return;
        };
        carrier.streams -= 1;
        if carrier.streams == 0 {
            let from = carrier.from;
            let span = if proved { IDLE } else { HEAD_TIMEOUT };
            self.set_deadline(conn, Some(Instant::now() + span));
            self.enter(conn, from);
        }
        if !proved {
            self.stream_failed(conn);
        }
    }

    /// Something that a carrier's peer asked for came to no session.
    pub(super) fn stream_failed(&mut self, conn: ConnId) {
        let most = self.failed_streams();
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.failed += 1;
            if carrier.failed > most {
                log(format_args!("arcp: a connection was closed: too many of its requests came to no session"));
                self.drop_for(conn, CarrierEnd::Failed);
            }
        }
    }
}
