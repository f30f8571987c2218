//! The connections of a server: which are admitted, when each is read and written, and which are
//! closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcp_proto::id::ConnId;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{CloseReason, Config, Input, Transport};
use arcp_proto::secret::SecretDigest;

use super::admission::Admission;
use super::carriers::{CarrierEnd, Carriers};
use super::channel::Channel;
use super::connection::{Connection, Phase, Stage};
use super::origin::{Origin, Source, Vouched};
use super::partial::Partial;
use super::{FIRST_CONN, Socket, pages};
use crate::driver::{Driver, Sockets, WriteWindow};
#[cfg(feature = "tls")]
use crate::framing::Beside;
use crate::framing::{Framed, Framing};
use crate::http::{Answer, UpgradePolicy};
use crate::metrics::Traffic;
use crate::server_log::log;
#[cfg(feature = "tls")]
use crate::tls::{Certified, Shown};

/// The time for the whole request head, counted from the accept or from the end of the TLS
/// handshake. After it the connection is closed.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to read the goodbye and to close. After it the connection is dropped.
pub const LINGER: Duration = Duration::from_secs(5);

pub(super) struct Connections<S> {
    // Boxed, because a B-tree node has room for several values.
    pub(super) by_conn: BTreeMap<ConnId, Box<Connection<S>>>,
    pub(super) carriers: Carriers,
    next: u64,
    limits: Limits,
    slow_reader_grace: Duration,
    admission: Admission,
    handshakes: Handshakes,
    /// The maximum number of connections.
    most: usize,
    /// Bytes of unwritten pongs of all connections.
    pong_bytes: usize,
    partial: Partial,
    /// The counters of all connections.
    pub(super) traffic: Traffic,
    /// The digest of the token for `/metrics`.
    metrics_token: Option<SecretDigest>,
    /// The present certificate, and the clients that are known by certificates.
    #[cfg(feature = "tls")]
    pub(super) shown: Option<Arc<Shown>>,
    pub(super) due: Due,
    /// The time at which bytes were last written or a connection ended.
    pub(super) progress_at: Instant,
}

/// Connections whose TLS handshake is not yet done.
struct Handshakes {
    begun: Admission,
    timeout: Duration,
}

/// The connections that the next turn has to handle, by reason.
#[derive(Default)]
pub(super) struct Due {
    /// Something may be read.
    pub(super) readable: BTreeSet<ConnId>,
    /// Something may be written.
    pub(super) dirty: BTreeSet<ConnId>,
    /// Pauses that have ended: frames may already be there.
    pub(super) resumed: BTreeSet<ConnId>,
    /// When connections are closed: for slow heads, slow goodbyes and unread pongs.
    deadlines: BTreeSet<(Instant, ConnId)>,
    /// Connections whose peers send nothing more but are owed an answer.
    pub(super) ended: BTreeSet<ConnId>,
    /// Inputs about new connections, for the core.
    pub(super) opened: Vec<Input>,
    /// Lost connections of which the core has to be told.
    pub(super) gone: Vec<ConnId>,
}

impl Due {
    /// Whether something can be done without waiting.
    fn has_work(&self) -> bool {
        let idle = self.dirty.is_empty() && self.readable.is_empty() && self.resumed.is_empty();
        !(idle && self.opened.is_empty() && self.gone.is_empty())
    }

    /// The time at which the next connection is closed.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes the next connection whose deadline has passed.
    pub(super) fn pop_late(&mut self, now: Instant) -> Option<ConnId> {
        let (at, conn) = self.deadlines.first().copied()?;
        (at <= now).then(|| self.deadlines.pop_first())?;
        Some(conn)
    }

    /// Removes a connection that is gone.
    fn forget(&mut self, conn: ConnId) {
        self.readable.remove(&conn);
        self.dirty.remove(&conn);
        self.resumed.remove(&conn);
        self.ended.remove(&conn);
    }
}

impl<S: Socket> Connections<S> {
    /// No connections; there may be at most `most`.
    pub(super) fn new(
        config: &Config,
        most: usize,
        traffic: Traffic,
        metrics_token: Option<SecretDigest>,
    ) -> Connections<S> {
        let limits = config.limits.clone();
        let connection = &limits.connection;
        Connections {
            slow_reader_grace: config.timing.slow_reader_grace,
            admission: Admission::new(
                connection.handshaking_connections,
                connection.handshaking_connections_per_network,
            ),
            handshakes: Handshakes {
                begun: Admission::new(connection.tls_handshakes, connection.tls_handshakes_per_network),
                timeout: config.timing.tls_handshake_timeout,
            },
            most,
            pong_bytes: 0,
            partial: Partial::new(connection.partial_bytes),
            traffic,
            metrics_token,
            progress_at: Instant::now(),
            by_conn: BTreeMap::new(),
            carriers: Carriers::new(config.timing.handshake_timeout),
            next: FIRST_CONN,
            limits,
            #[cfg(feature = "tls")]
            shown: None,
            due: Due::default(),
        }
    }

    /// Whether there are too many connections and none can be closed for a new one.
    pub(super) fn is_full(&self) -> bool {
        self.is_at_most() && self.admission.first().is_none()
    }

    fn is_at_most(&self) -> bool {
        self.by_conn.len() + self.carriers.len() >= self.most
    }

    /// Adds a connection that begins with a request head, or with a TLS handshake before it.
    pub(super) fn accept(&mut self, from: Origin, socket: impl FnOnce(ConnId) -> io::Result<Channel<S>>) {
        let Some(conn) = self.add(from, Stage::Http { head: Vec::new(), out: Vec::new() }, socket) else {
            return;
        };
        let span = if self.is_handshaking(conn) { self.begin_handshake(conn, from) } else { HEAD_TIMEOUT };
        self.set_deadline(conn, Some(Instant::now() + span));
    }

    /// Notes that a TLS handshake has begun; returns how long it may take.
    pub(super) fn begin_handshake(&mut self, conn: ConnId, from: Origin) -> Duration {
        if let Some(other) = self.handshakes.begun.enter(conn, from.into()) {
            log(format_args!("arcp: too many TLS handshakes at once: the one that began first was closed"));
            self.drop_now(other);
        }
        self.handshakes.timeout
    }

    /// Notes that a TLS handshake is done; returns false if none had begun.
    pub(super) fn end_handshake(&mut self, conn: ConnId) -> bool {
        self.admission.heard(conn);
        self.handshakes.begun.leave(conn).is_some()
    }

    pub(super) fn is_handshaking(&self, conn: ConnId) -> bool {
        self.by_conn.get(&conn).is_some_and(|connection| connection.handshaking)
    }

    /// Called after a read: if the handshake is done, the request comes next.
    pub(super) fn note_handshake(&mut self, conn: ConnId) {
        if let Some(connection) = self.by_conn.get_mut(&conn)
            && connection.handshaking
            && !connection.socket.is_handshaking()
        {
            connection.handshaking = false;
            self.end_handshake(conn);
            self.set_deadline(conn, Some(Instant::now() + HEAD_TIMEOUT));
        }
    }

    /// Adds a connection that begins with frames.
    pub(super) fn open(
        &mut self,
        from: Origin,
        transport: Transport,
        vouched: Vouched,
        socket: impl FnOnce(ConnId) -> io::Result<S>,
    ) {
        let frame = &self.limits.frame;
        let framing = match transport {
            Transport::WebSocket => Framing::websocket_server(frame.handshake_frame_bytes),
            // A peer that the application hands over with a name needs no proof.
            Transport::Lines if from == Origin::Unknown && vouched.peer.is_some() => Framing::lines(frame.frame_bytes),
            Transport::Lines | Transport::LinesBeside => Framing::lines(frame.handshake_frame_bytes),
        };
        // Binary messages beside lines need a `Beside`, which only streams have.
        let transport = if framing.is_lines() { Transport::Lines } else { transport };
        let socket = |conn| socket(conn).map(Channel::Clear);
        if let Some(conn) = self.add(from, Stage::Open(framing), socket) {
            self.due.opened.extend(opened(conn, transport, from, vouched));
        }
    }

    /// Adds a stream of a carrier. `certificates` are those of its client. With `beside`, binary
    /// messages travel beside the lines.
    #[cfg(feature = "tls")]
    pub(super) fn open_on(
        &mut self,
        carrier: ConnId,
        certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
        beside: Option<Beside>,
        socket: impl FnOnce(ConnId) -> io::Result<S>,
    ) {
        let Some(from) = self.carriers.origin(carrier) else {
            return;
        };
        let bytes = self.limits.frame.handshake_frame_bytes;
        let (transport, framing) = match beside {
            Some(beside) => (Transport::LinesBeside, Framing::lines_beside(bytes, beside)),
            None => (Transport::Lines, Framing::lines(bytes)),
        };
        let socket = |conn| socket(conn).map(|socket| Channel::Carried(socket, certificates));
        // Before the stream is added, so that the carrier and its stream are not both counted.
        self.stream_began(carrier);
        let Some(conn) = self.add(from, Stage::Open(framing), socket) else {
            self.stream_ended(carrier, false);
            return;
        };
        if let Some(connection) = self.by_conn.get_mut(&conn) {
            connection.carrier = Some(carrier);
        }
        let certified = self.certified(conn);
        self.due.opened.extend(opened(conn, transport, from, certified));
    }

    /// Adds a connection. If there are too many, another one is closed.
    fn add(
        &mut self,
        from: Origin,
        stage: Stage,
        socket: impl FnOnce(ConnId) -> io::Result<Channel<S>>,
    ) -> Option<ConnId> {
        let conn = self.next_conn();
        let socket = socket(conn).ok()?;
        self.by_conn.insert(conn, Box::new(Connection::new(socket, from, stage)));
        self.due.readable.insert(conn);
        self.enter(conn, from);
        self.by_conn.contains_key(&conn).then_some(conn)
    }

    /// Makes room for a connection, and returns its number.
    pub(super) fn next_conn(&mut self) -> ConnId {
        while self.is_at_most()
            && let Some(other) = self.admission.first()
        {
            self.drop_now(other);
        }
        self.next += 1;
        ConnId(self.next - 1)
    }

    /// Notes that a connection has no session.
    pub(super) fn enter(&mut self, conn: ConnId, from: Origin) {
        if let Some(other) = self.admission.enter(conn, from.into()) {
            log(format_args!("arcp: too many connections without a session: the one silent for longest was closed"));
            self.drop_now(other);
        }
    }

    /// Notes that a connection has a session, or a stream that counts instead of it.
    pub(super) fn admit(&mut self, conn: ConnId) {
        self.admission.leave(conn);
        self.handshakes.begun.leave(conn);
    }

    pub(super) fn failed_streams(&self) -> u32 {
        self.limits.stream.failed_streams
    }

    pub(super) fn note(&mut self, conn: ConnId, readable: bool, writable: bool) {
        if let Some(connection) = self.by_conn.get_mut(&conn) {
            if readable {
                self.due.readable.insert(conn);
            }
            if writable && connection.phase != Phase::Shut {
                connection.writable = true;
                self.due.dirty.insert(conn);
            }
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.due.has_work()
    }

    /// Takes bytes from a socket. Returns the inputs for the core that come before any frame.
    pub(super) fn take(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        upgrades: &UpgradePolicy,
        driver: &mut Driver,
    ) -> Vec<Input> {
        let Some(connection) = self.by_conn.get_mut(&conn) else {
            return Vec::new();
        };
        let head = match &mut connection.stage {
            Stage::Open(framing) => {
                framing.feed(bytes);
                return Vec::new();
            }
            Stage::Http { head, .. } => head,
        };
        let from = connection.from;
        head.extend_from_slice(bytes);
        let answer = match upgrades.answer(head) {
            Answer::More => return Vec::new(),
            Answer::Upgrade { response, head: length } => {
                let rest = head.split_off(length);
                return self.upgrade(conn, &response, &rest);
            }
            Answer::Page(page) => pages::answer(page, driver, self.metrics_token.as_ref(), from.address()),
            Answer::Refuse(text) => text,
        };
        connection.output().extend_from_slice(answer.as_bytes());
        self.finish(conn);
        Vec::new()
    }

    fn upgrade(&mut self, conn: ConnId, response: &str, rest: &[u8]) -> Vec<Input> {
        let mut framing = Framing::websocket_server(self.limits.frame.handshake_frame_bytes);
        framing.output().extend_from_slice(response.as_bytes());
        framing.feed(rest);
        self.set_deadline(conn, None);
        self.admission.heard(conn);
        let mut from = Origin::Unknown;
        if let Some(connection) = self.by_conn.get_mut(&conn) {
            connection.stage = Stage::Open(framing);
            from = connection.from;
        }
        self.due.dirty.insert(conn);
        opened(conn, Transport::WebSocket, from, self.certified(conn))
    }

    /// The principal that the client's certificate proves, if it is known, and the certificate's
    /// fingerprint.
    #[cfg(feature = "tls")]
    fn certified(&self, conn: ConnId) -> Vouched {
        let connection = self.shown.as_ref().zip(self.by_conn.get(&conn));
        let certified = connection.and_then(|(shown, connection)| connection.socket.certified(shown));
        let vouched = |certified: Certified| Vouched { peer: certified.holder, binding: Some(certified.fingerprint) };
        certified.map(vouched).unwrap_or_default()
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "as where TLS is built in")]
    fn certified(&self, _: ConnId) -> Vouched {
        Vouched::default()
    }

    /// Takes over certificates that were read again, and closes connections whose certificate
    /// proves another principal or none. Returns those of which the core has to tell the client;
    /// the others are gone.
    #[cfg(feature = "tls")]
    pub(super) fn show(&mut self, now: Arc<Shown>) -> Vec<ConnId> {
        let Some(before) = self.shown.replace(now.clone()).filter(|before| !Arc::ptr_eq(before, &now)) else {
            return Vec::new();
        };
        let changed = |connection: &Connection<S>| connection.socket.has_changed(&before, &now);
        let gone = self.by_conn.iter().filter(|(_, connection)| changed(connection)).map(|(conn, _)| *conn);
        let (told, gone): (Vec<_>, Vec<_>) = gone.partition(|conn| self.by_conn[conn].is_known());
        for _ in told.iter().chain(&gone) {
            log(format_args!("arcp: a connection was closed: the certificate of its client does not count any more"));
        }
        gone.into_iter().for_each(|conn| self.drop_now(conn));
        told
    }

    pub(super) fn next_frame(&mut self, conn: ConnId) -> Option<Framed> {
        let connection = self.by_conn.get_mut(&conn)?;
        if connection.paused || connection.phase != Phase::Open {
            return None;
        }
        let source = connection.from.into();
        let framing = connection.framing()?;
        let (own, _) = framing.pongs();
        let others = self.pong_bytes - own;
        let bounds = &self.limits.connection;
        framing.hold_pongs_up_to(bounds.pong_bytes_per_connection.min(bounds.pong_bytes.saturating_sub(others)));
        let framed = framing.next_frame();
        self.pong_bytes = others + framing.pongs().0;
        // Reading may have produced output, such as a pong.
        if !framing.output().is_empty() {
            self.due.dirty.insert(conn);
        }
        let partial = framing.partial();
        if framed.is_some() {
            self.partial.leave(conn);
            self.admission.heard(conn);
        } else {
            self.hold_partial(conn, source, partial);
        }
        framed
    }

    /// Counts bytes of an unfinished message. If there are too many, closes connections.
    fn hold_partial(&mut self, conn: ConnId, source: Source, bytes: usize) {
        let mut over = self.partial.hold(conn, source, bytes);
        while let Some(other) = over {
            log(format_args!(
                "arcp: too many bytes of unfinished messages: the connection that began first was closed"
            ));
            self.drop_now(other);
            over = self.partial.over();
        }
    }

    /// Writes the queued output; returns the credit for it.
    pub(super) fn flush(&mut self, conn: ConnId) -> Option<Input> {
        let connection = self.by_conn.get_mut(&conn)?;
        if connection.phase == Phase::Shut {
            return None;
        }
        let (own, _) = connection.pongs();
        let Ok(written) = connection.write() else {
            self.drop_now(conn);
            return None;
        };
        let (pongs, held) = connection.pongs();
        self.pong_bytes = self.pong_bytes - own + pongs;
        if written > 0 {
            self.traffic.sent(written);
            self.progress_at = Instant::now();
        }
        let all = connection.is_written();
        let credit = match connection.stage {
            Stage::Http { .. } => None,
            Stage::Open(_) if all => connection.window.all_written(conn),
            Stage::Open(_) => connection.window.written(conn, written),
        };
        match (connection.phase, &connection.stage) {
            (Phase::Open, Stage::Open(_)) => {
                // A peer that takes no pong reads too slowly.
                let since = connection.deadline.filter(|_| written == 0);
                let until = held.then(|| since.unwrap_or_else(|| Instant::now() + self.slow_reader_grace));
                self.set_deadline(conn, until);
            }
            (Phase::Goodbye, _) if all => {
                // Shut down once: each call makes the system report the socket as writable again.
                match connection.socket.shut_down() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.writable = false,
                    Ok(()) | Err(_) => {
                        connection.phase = Phase::Shut;
                        self.due.readable.insert(conn);
                    }
                }
            }
            (Phase::Open | Phase::Ended | Phase::Goodbye | Phase::Shut, _) => {}
        }
        credit
    }

    /// Notes that the peer sends nothing more. It has as long as a slow reader to be answered and
    /// to read the answers.
    pub(super) fn end(&mut self, conn: ConnId) {
        let Some(connection) = self.by_conn.get_mut(&conn).filter(|connection| connection.phase == Phase::Open) else {
            return; // The peer has already ended, or the goodbye was sent.
        };
        connection.phase = Phase::Ended;
        self.due.ended.insert(conn);
        self.set_deadline(conn, Some(Instant::now() + self.slow_reader_grace));
    }

    /// Stops reading, writes the remaining output, then ends.
    pub(super) fn finish(&mut self, conn: ConnId) {
        let is_open = |connection: &&mut Box<Connection<S>>| matches!(connection.phase, Phase::Open | Phase::Ended);
        let Some(connection) = self.by_conn.get_mut(&conn).filter(is_open) else {
            return;
        };
        self.due.ended.remove(&conn);
        connection.phase = Phase::Goodbye;
        self.admission.goodbye(conn, connection.from.into());
        self.due.dirty.insert(conn);
        self.set_deadline(conn, Some(Instant::now() + LINGER));
    }

    /// Closes a connection whose deadline has passed.
    pub(super) fn expire(&mut self, conn: ConnId) {
        self.drop_for(conn, CarrierEnd::Late);
    }

    /// Drops a connection for which there is no room; the core is told.
    pub(super) fn drop_now(&mut self, conn: ConnId) {
        self.drop_for(conn, CarrierEnd::TooMany);
    }

    /// Drops a connection; the adapter of a carrier is told why.
    pub(super) fn drop_for(&mut self, conn: ConnId, why: CarrierEnd) {
        self.set_deadline(conn, None);
        self.admit(conn);
        self.carriers.remove(conn, why);
        self.partial.leave(conn);
        self.due.forget(conn);
        if let Some(connection) = self.by_conn.remove(&conn) {
            self.progress_at = Instant::now();
            self.pong_bytes -= connection.pongs().0;
            self.due.gone.extend(connection.is_known().then_some(conn));
            if let Some(carrier) = connection.carrier {
                self.stream_ended(carrier, connection.proved);
            }
        }
    }

    pub(super) fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        let of_carrier = self.carriers.deadline(conn);
        let of_connection = self.by_conn.get_mut(&conn).map(|connection| &mut connection.deadline);
        if let Some(deadline) = of_connection.or(of_carrier) {
            if let Some(old) = std::mem::replace(deadline, at) {
                self.due.deadlines.remove(&(old, conn));
            }
            self.due.deadlines.extend(at.map(|at| (at, conn)));
        }
    }

    /// A connection that the core knows and to which no goodbye was sent.
    fn known(&mut self, conn: ConnId) -> Option<&mut Connection<S>> {
        let is_told = |connection: &Connection<S>| matches!(connection.phase, Phase::Open | Phase::Ended);
        self.by_conn.get_mut(&conn).map(Box::as_mut).filter(|connection| connection.is_known() && is_told(connection))
    }

    fn framing(&mut self, conn: ConnId) -> Option<&mut Framing> {
        self.known(conn)?.framing()
    }
}

impl<S: Socket> Sockets for Connections<S> {
    fn send(&mut self, conn: ConnId, frame: &str) {
        let Some(connection) = self.known(conn) else {
            return;
        };
        connection.window.queued(frame);
        if let Some(framing) = connection.framing() {
            framing.write(frame);
            self.due.dirty.insert(conn);
        }
    }

    fn send_sidecar(&mut self, conn: ConnId, message: Vec<u8>) {
        let Some(connection) = self.known(conn) else {
            return;
        };
        connection.window.queued_message(&message);
        if let Some(framing) = connection.framing() {
            framing.write_binary(message);
            self.due.dirty.insert(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(framing) = self.framing(conn) {
            framing.close(reason);
            self.finish(conn);
        }
    }

    fn fragment(&mut self, conn: ConnId, bytes: usize) {
        if let Some(framing) = self.framing(conn) {
            framing.fragment(bytes);
        }
    }

    fn raise_frame_limit(&mut self, conn: ConnId) {
        let frame_bytes = self.limits.frame.frame_bytes;
        if let Some(framing) = self.framing(conn) {
            framing.take_up_to(frame_bytes);
            self.admission.leave(conn);
        }
        if let Some(connection) = self.by_conn.get_mut(&conn) {
            connection.proved = true;
            let carrier = connection.carrier;
            carrier.into_iter().for_each(|carrier| self.carrier_has_session(carrier));
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.known(conn) {
            connection.paused = true;
            connection.paused_at = Some(Instant::now());
        }
    }

    fn resume_reading(&mut self, conn: ConnId) {
        let Some(connection) = self.known(conn) else {
            return;
        };
        connection.paused = false;
        let paused = connection.paused_at.take();
        let unread = std::mem::take(&mut connection.unread);
        self.traffic.paused(paused.map_or(Duration::ZERO, |since| since.elapsed()));
        self.due.resumed.insert(conn);
        if unread {
            self.due.readable.insert(conn);
        }
    }
}

/// The inputs that tell the core about a new peer.
fn opened(conn: ConnId, transport: Transport, from: Origin, Vouched { peer, binding }: Vouched) -> Vec<Input> {
    let opened = Input::Opened { conn, transport, address: from.address(), binding, peer };
    vec![opened, WriteWindow::opening_credit(conn)]
}
