//! Carriers: connections of HTTP/2 and QUIC that carry others as streams, and that their adapters
//! read and write. This module decides who may have one, and for how long without a session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arcp_proto::id::ConnId;

use super::Socket;
use super::connections::{Connections, HEAD_TIMEOUT, LINGER};
use super::origin::Origin;
use crate::server_log::log;

/// How long a carrier that has had a stream may be without one.
const IDLE: Duration = Duration::from_secs(30);

/// The reason for which a carrier has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierEnd {
    /// The server ends: existing streams end by themselves, and no new stream may open.
    Stopping,
    /// End at once: there are too many connections without a session.
    TooMany,
    /// End at once: no handshake, request or session came in time.
    Late,
    /// End at once: too many of its streams or requests led to no session.
    Failed,
}

/// Tells an adapter that its carrier has to end.
pub(super) type TellEnd = Box<dyn Fn(CarrierEnd) + Send>;

/// All carriers.
pub(super) struct Carriers {
    by_conn: BTreeMap<ConnId, Carrier>,
    /// How long the peer has from its first stream to its first session.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "there are no streams"))]
    session_within: Duration,
}

struct Carrier {
    from: Origin,
    tell: TellEnd,
    streams: usize,
    /// The number of streams that led to no session.
    failed: u32,
    /// Whether the peer has had a session on this carrier.
    proved: bool,
    /// The deadline for the first session. It counts from the first stream, so that opening further
    /// streams gives a peer no more time.
    session_by: Option<Instant>,
    deadline: Option<Instant>,
}

impl Carriers {
    /// No carriers yet. The first session must be opened within `handshake_timeout` and [`LINGER`].
    pub(super) fn new(handshake_timeout: Duration) -> Carriers {
        Carriers { by_conn: BTreeMap::new(), session_within: handshake_timeout.saturating_add(LINGER) }
    }

    pub(super) fn len(&self) -> usize {
        self.by_conn.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_conn.is_empty()
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.by_conn.contains_key(&conn)
    }

    /// Tells all carriers that the server ends.
    pub(super) fn stop(&self) {
        self.by_conn.values().for_each(|carrier| (carrier.tell)(CarrierEnd::Stopping));
    }

    #[cfg(feature = "tls")]
    pub(super) fn origin(&self, conn: ConnId) -> Option<Origin> {
        self.by_conn.get(&conn).map(|carrier| carrier.from)
    }

    /// The deadline of a carrier, if `conn` is one.
    pub(super) fn deadline(&mut self, conn: ConnId) -> Option<&mut Option<Instant>> {
        self.by_conn.get_mut(&conn).map(|carrier| &mut carrier.deadline)
    }

    /// Removes a carrier and tells its adapter why.
    pub(super) fn remove(&mut self, conn: ConnId, why: CarrierEnd) {
        if let Some(carrier) = self.by_conn.remove(&conn) {
            (carrier.tell)(why);
        }
    }
}

impl<S: Socket> Connections<S> {
    /// Adds a carrier; `None` if there is no room.
    pub(super) fn carry(&mut self, from: Origin, has_tls: bool, tell: TellEnd) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let conn = self.next_conn();
        let carrier = Carrier { from, tell, streams: 0, failed: 0, proved: false, session_by: None, deadline: None };
        self.carriers.by_conn.insert(conn, carrier);
        self.enter(conn, from);
        let span = if has_tls { self.begin_handshake(conn, from) } else { HEAD_TIMEOUT };
        self.set_deadline(conn, Some(Instant::now() + span));
        self.carriers.has(conn).then_some(conn)
    }

    /// Notes that the TLS handshake of a carrier is done.
    pub(super) fn carrier_is_secure(&mut self, conn: ConnId) {
        if self.carriers.has(conn) && self.end_handshake(conn) {
            self.set_deadline(conn, Some(Instant::now() + HEAD_TIMEOUT));
        }
    }

    /// Counts a new stream. While it exists, the stream counts instead of its carrier.
    #[cfg(feature = "tls")]
    pub(super) fn stream_began(&mut self, conn: ConnId) {
        let within = self.carriers.session_within;
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.streams += 1;
            let session_by = (!carrier.proved).then(|| *carrier.session_by.get_or_insert(Instant::now() + within));
            self.admit(conn);
            self.set_deadline(conn, session_by);
        }
    }

    /// Notes that a stream has a session: its carrier has no deadline any more.
    pub(super) fn carrier_has_session(&mut self, conn: ConnId) {
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.proved = true;
            self.set_deadline(conn, None);
        }
    }

    /// Notes that a stream is gone.
    pub(super) fn stream_ended(&mut self, conn: ConnId, proved: bool) {
        let Some(carrier) = self.carriers.by_conn.get_mut(&conn) else {
            return;
        };
        carrier.streams -= 1;
        if carrier.streams == 0 {
            let from = carrier.from;
            let span = if proved { IDLE } else { HEAD_TIMEOUT };
            let session_by = carrier.session_by.filter(|_| !carrier.proved);
            self.set_deadline(conn, session_by.into_iter().chain([Instant::now() + span]).min());
            self.enter(conn, from);
        }
        if !proved {
            self.stream_failed(conn);
        }
    }

    /// Counts a request of a carrier's peer that led to no session.
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
