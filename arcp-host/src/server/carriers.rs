//! Connections that carry others: those of HTTP/2 and QUIC, which their adapters
//! read and write. Who may have one, and for how long without a session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arcp_proto::id::ConnId;

use super::Socket;
use super::connections::{Connections, HEAD_TIMEOUT, LINGER};
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
pub(super) struct Carriers {
    by_conn: BTreeMap<ConnId, Carrier>,
    /// How long one has from its first stream to its first session.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "there are no streams"))]
    session_within: Duration,
}

struct Carrier {
    from: Origin,
    tell: TellEnd,
    streams: usize,
    /// Streams that came to no session.
    failed: u32,
    /// Its peer has had a session on it.
    proved: bool,
    /// By when it has to have had one, from its first stream on: whoever opens one after the
    /// other has no more time than whoever opens one.
    session_by: Option<Instant>,
    deadline: Option<Instant>,
}

impl Carriers {
    /// None, on which a stream has so long for its session.
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
        let carrier = Carrier { from, tell, streams: 0, failed: 0, proved: false, session_by: None, deadline: None };
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
        let within = self.carriers.session_within;
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.streams += 1;
            let session_by = (!carrier.proved).then(|| *carrier.session_by.get_or_insert(Instant::now() + within));
            self.admit(conn);
            self.set_deadline(conn, session_by);
        }
    }

    /// A stream of a carrier has a session: its connection has the time that it wants.
    pub(super) fn carrier_has_session(&mut self, conn: ConnId) {
        if let Some(carrier) = self.carriers.by_conn.get_mut(&conn) {
            carrier.proved = true;
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
            let session_by = carrier.session_by.filter(|_| !carrier.proved);
            self.set_deadline(conn, session_by.into_iter().chain([Instant::now() + span]).min());
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
