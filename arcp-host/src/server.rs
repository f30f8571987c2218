//! The server that an adapter runs, without its sockets and its waiting.
//!
//! A [`ServerLoop`] owns the [driver](crate::driver) and every connection: request heads, WebSocket
//! messages, admission and eviction, write credit, pauses, slow readers, the drain. An adapter
//! provides non-blocking [`Socket`]s, says which of them are ready, and waits for the next turn: on
//! a readiness queue (`arcp-blocking`), or in a task (`arcp-tokio-adapter`). Everything that a peer
//! can see is decided here, so it is the same over each adapter.

mod admission;
mod carriers;
mod channel;
mod connection;
mod connections;
mod listen;
mod listener;
mod origin;
mod pages;
mod partial;
mod socket_file;
mod stats;
mod system;

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcp_proto::id::{ConnId, Issuer, JobId, Principal, SessionId};
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::Extension;
use arcp_proto::policy::Policy;
use arcp_proto::runtime::{Input, Operator};
use arcp_proto::secret::Secret;
use rustix::process::geteuid;

pub use self::carriers::CarrierEnd;
pub use self::connections::{HEAD_TIMEOUT, LINGER};
pub use self::listen::{Listen, ListenError};
pub use self::listener::{Bound, Kept, Listener};
pub use self::origin::{Begins, Origin, Vouched};
pub use self::system::{descriptors_for_connections, keep_alive};

use self::channel::Channel;
use self::connection::Phase;
use self::connections::Connections;
use crate::agent::Inbox;
use crate::driver::{Driver, Fenced, Host, HostError};
#[cfg(feature = "tls")]
use crate::framing::Beside;
use crate::framing::Framed;
use crate::http::UpgradePolicy;
use crate::server_log::log;
#[cfg(feature = "tls")]
use crate::tls::{Certificates, TlsChannel};

/// The issuer that vouches for the users of this machine, as in `unix#1000`.
pub const UNIX: &str = "unix";

/// The number of the first connection. Adapters may use smaller numbers for other things that they
/// wait for.
pub const FIRST_CONN: u64 = 2;

/// The most bytes read from one connection in one turn.
const READ_TURN: usize = 256 << 10;
/// The most bytes read from a socket in one call.
const READ_BYTES: usize = 64 << 10;
/// The most connections whose handshake goes on in one turn: each costs a signature.
const HANDSHAKES_TURN: usize = 16;
/// How long the server stops accepting after it ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most jobs that the log names when a drain begins.
const TOLD_JOBS: usize = 20;
/// The interval between two looks at the number of turns in [`ServerHandle::turns_within`].
const TURN_LOOK: Duration = Duration::from_millis(5);
/// How long a server that ends waits without progress for clients that neither read nor close.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// The source and the destination of a connection's bytes. No function waits: it returns
/// [`WouldBlock`](io::ErrorKind::WouldBlock) instead, and its adapter [notes](ServerLoop::note) the
/// connection once it is ready.
///
/// The socket is dropped when the connection ends.
pub trait Socket: Read + Write {
    /// Shuts down the writing side once everything is written; the peer may still be read.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, to be called again once the connection is noted as writable.
    fn shut_down(&mut self) -> io::Result<()>;

    /// Whether the connection is noted again when bytes arrive after a read that returned less than
    /// the buffer has room for. If so, such a read shows that nothing is left, and no further read
    /// is tried.
    fn notes_what_follows(&self) -> bool {
        false
    }
}

/// Where a server listens, and for whom.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The places to listen at.
    pub listen: Vec<Listen>,
    /// The path of the WebSocket, such as `/arcp`.
    pub path: String,
    /// Host names served in addition to those of the loopback.
    pub allow_hosts: Vec<String>,
    /// Web origins that may connect; none by default.
    pub allow_origins: Vec<String>,
    /// How long jobs may go on after a drain was requested; `None`: until they end.
    pub drain_grace: Option<Duration>,
    /// The principal of a peer on a Unix socket, or on stdin and stdout, that runs as the user of
    /// this process and presents no other credential. `None`: `unix#` and the number of the user,
    /// as for every other user.
    pub owner: Option<Principal>,
    /// The certificates of TLS ports. `None`: there are no such ports.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Certificates>>,
    /// Whether the server may listen for other machines without TLS, although tokens could then be
    /// read on the network.
    pub insecure: bool,
    /// The token for `/metrics`, besides the tokens of operators and auditors. `None`: on this
    /// machine no token is needed.
    pub metrics_token: Option<Secret>,
}

impl ServerConfig {
    /// Path `/arcp`, loopback names only, ten seconds to drain, no TLS, and therefore this machine
    /// only.
    pub fn new(listen: SocketAddr) -> ServerConfig {
        ServerConfig {
            listen: vec![Listen::WebSocket { address: listen, tls: None }],
            path: "/arcp".to_string(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            drain_grace: Some(Duration::from_secs(10)),
            owner: None,
            #[cfg(feature = "tls")]
            tls: None,
            insecure: false,
            metrics_token: None,
        }
    }

    /// Checks whether the server may listen at a place.
    ///
    /// # Errors
    ///
    /// [`HostError::Cleartext`] if others could read what is sent to it;
    /// [`HostError::NoCertificate`] if it needs TLS and there is no certificate.
    pub fn allows(&self, listen: &Listen) -> Result<(), HostError> {
        let (address, tls) = match self.settled(listen.clone()) {
            Listen::WebSocket { address, tls } => (address, tls.unwrap_or(false)),
            Listen::Http2 { address, tls } => (address, tls),
            Listen::Quic { address } => (address, true),
            Listen::Unix { .. } | Listen::Stdio => return Ok(()),
        };
        if tls && !self.has_tls() {
            return Err(HostError::NoCertificate(listen.to_string()));
        }
        let is_safe = self.insecure || tls || address.ip().to_canonical().is_loopback();
        if is_safe { Ok(()) } else { Err(HostError::Cleartext(address)) }
    }

    /// The same place, with the decision whether it uses TLS.
    pub fn settled(&self, listen: Listen) -> Listen {
        match listen {
            Listen::WebSocket { address, tls: None } => Listen::WebSocket { address, tls: Some(self.has_tls()) },
            Listen::WebSocket { .. }
            | Listen::Http2 { .. }
            | Listen::Quic { .. }
            | Listen::Unix { .. }
            | Listen::Stdio => listen,
        }
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

/// The loop of a server, without the waiting.
///
/// One turn: wait as [`next_wait`](Self::next_wait) says, or until a socket is ready or the `wake`
/// callback was called; then [`accept`](Self::accept), [`note`](Self::note) and
/// [`turn`](Self::turn). The loop ends when [`stopped`](Self::stopped) returns a value.
pub struct ServerLoop<S> {
    driver: Driver,
    connections: Connections<S>,
    upgrades: UpgradePolicy,
    users: Users,
    #[cfg(feature = "tls")]
    tls: Option<Arc<Certificates>>,
    /// The fingerprint of the certificate that clients were told last.
    #[cfg(feature = "tls")]
    fingerprint: Option<String>,
    control: Arc<Control>,
    drain: Drain,
    /// The time of the goodbye to all connections.
    ending_since: Option<Instant>,
    accept_at: Option<Instant>,
    /// Whether the log has said that no connections are accepted.
    told_full: bool,
    buffer: Vec<u8>,
}

/// The progress of a server towards its end.
struct Drain {
    /// How long jobs may go on.
    grace: Option<Duration>,
    /// Whether new jobs are refused.
    begun: bool,
    until: Option<Instant>,
    /// Unfinished jobs at the time of the goodbye.
    cut: Vec<JobSummary>,
}

/// Which principals the users of this machine are.
struct Users {
    /// The user of this process, and its principal.
    own: u32,
    owner: Option<Principal>,
    issuer: Option<Issuer>,
}

impl Users {
    fn new(owner: Option<Principal>) -> Users {
        Users { own: geteuid().as_raw(), owner, issuer: Issuer::new(UNIX) }
    }

    fn vouch(&self, user: u32) -> Vouched {
        let numbered = || Principal::issued(self.issuer.as_ref()?, &user.to_string());
        let owner = self.owner.clone().filter(|_| user == self.own);
        Vouched::user(user, owner.or_else(numbered))
    }
}

/// The outcome of a server that has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The jobs that had not ended.
    pub cut: Vec<JobSummary>,
}

/// Gives instructions to a running server, from any thread.
#[derive(Clone)]
pub struct ServerHandle(Arc<Control>);

struct Control {
    asked: AtomicU8,
    /// Whether the certificates of clients are to be checked again.
    #[cfg(feature = "tls")]
    check_clients: AtomicBool,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// The number of turns that the loop has done.
    turns: AtomicU64,
    inbox: Arc<dyn Inbox>,
}

impl ServerHandle {
    /// Refuses new jobs, waits for the unfinished ones within the grace, then closes every
    /// connection in order. Until then jobs can be listed, watched and cancelled.
    pub fn drain(&self) {
        self.ask(1);
    }

    /// Closes every connection in order, without waiting for jobs.
    pub fn shutdown(&self) {
        self.ask(2);
    }

    /// Ends a job of any principal as a cancel does, with [`Timing::cancel_grace`]. An ended job
    /// stays as it is.
    ///
    /// [`Timing::cancel_grace`]: arcp_proto::runtime::Timing::cancel_grace
    pub fn cancel_job(&self, job: JobId, reason: Option<String>) {
        self.0.inbox.put(Input::Operator(Operator::CancelJob { job, reason }));
    }

    /// Takes a session from its client. The jobs of the session go on.
    pub fn end_session(&self, session: SessionId, reason: Option<String>) {
        self.0.inbox.put(Input::Operator(Operator::EndSession { session, reason }));
    }

    /// Replaces the [policy](arcp_proto::runtime::Authority::policy): see [`Operator::Policy`].
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.0.inbox.put(Input::Operator(Operator::Policy(policy.map(Box::new))));
    }

    /// Sends a message of an extension to the client of a session, if it can be sent at once: see
    /// [`Input::SendExtension`].
    pub fn send_extension(&self, session: SessionId, message: Extension) {
        self.0.inbox.put(Input::SendExtension { session, message });
    }

    /// Ends the sessions that were opened with certificates that are not accepted any more or
    /// belong to another principal, and closes other connections with such certificates. Call it
    /// after [`Certificates`] were read again.
    #[cfg(feature = "tls")]
    pub fn check_clients(&self) {
        self.0.check_clients.store(true, Ordering::SeqCst);
        (self.0.wake)();
    }

    /// Wakes the loop and waits until it has done a turn; returns false if it has done none within
    /// `span`, and so is stuck.
    pub fn turns_within(&self, span: Duration) -> bool {
        let (before, begun) = (self.0.turns.load(Ordering::SeqCst), Instant::now());
        (self.0.wake)();
        while self.0.turns.load(Ordering::SeqCst) == before {
            if begun.elapsed() >= span {
                return false;
            }
            std::thread::sleep(TURN_LOOK.min(span));
        }
        true
    }

    fn ask(&self, what: u8) {
        self.0.asked.fetch_max(what, Ordering::SeqCst);
        (self.0.wake)();
    }
}

impl<S: Socket> ServerLoop<S> {
    /// Starts the runtime; reads the whole store before it returns. There are at most `most`
    /// connections. `wake` is that of [`Driver::new`]; a [`ServerHandle`] calls it too.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, or the store cannot be read.
    pub fn new(
        config: &ServerConfig,
        most: usize,
        host: Host,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<ServerLoop<S>, HostError> {
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let (own, core) = (wake.clone(), host.config.clone());
        let driver = Driver::new(host, move || own())?;
        let metrics_token = config.metrics_token.as_ref().map(Secret::digest);
        let connections = Connections::new(&core, most, driver.traffic().clone(), metrics_token);
        Ok(ServerLoop {
            control: Arc::new(Control {
                asked: AtomicU8::new(0),
                #[cfg(feature = "tls")]
                check_clients: AtomicBool::new(false),
                wake,
                turns: AtomicU64::new(0),
                inbox: driver.inbox(),
            }),
            connections,
            driver,
            upgrades: UpgradePolicy {
                path: config.path.clone(),
                hosts: config.allow_hosts.clone(),
                origins: config.allow_origins.clone(),
            },
            users: Users::new(config.owner.clone()),
            #[cfg(feature = "tls")]
            tls: config.tls.clone(),
            #[cfg(feature = "tls")]
            fingerprint: None,
            drain: Drain { grace: config.drain_grace, begun: false, until: None, cut: Vec::new() },
            ending_since: None,
            accept_at: None,
            told_full: false,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// A handle that instructs this server from other threads.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.control.clone())
    }

    /// The path of the WebSocket.
    pub fn path(&self) -> &str {
        &self.upgrades.path
    }

    /// Which requests become WebSockets.
    pub fn upgrades(&self) -> &UpgradePolicy {
        &self.upgrades
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.by_conn.len()
    }

    /// Whether an adapter should accept connections. After the goodbye it should stop listening:
    /// see [`is_ending`](Self::is_ending).
    pub fn may_accept(&mut self) -> bool {
        if self.accept_at.is_none() && self.connections.is_full() {
            self.accept_later(&"as many connections are open as the limit of open files allows");
        }
        self.accept_at.is_none() && !self.is_ending()
    }

    /// Stops accepting for a while: [`accept_is_due`](Self::accept_is_due) says when to try again.
    /// Clients wait in the backlog.
    pub fn accept_later(&mut self, why: &dyn Display) {
        if !std::mem::replace(&mut self.told_full, true) {
            log(format_args!("arcp: no new connections for now: {why}; more of them need a higher `ulimit -n`"));
        }
        self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
    }

    /// Whether it is time to accept again; true once after each pause.
    pub fn accept_is_due(&mut self) -> bool {
        self.accept_at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Notes that the backlog is empty.
    pub fn accepted_all(&mut self) {
        self.told_full = false;
    }

    /// Adds a connection. `socket` makes the socket for the connection's number; if it fails, there
    /// is no connection. A user of this machine without another credential is the principal of that
    /// user.
    pub fn accept(&mut self, from: Origin, begins: Begins, socket: impl FnOnce(ConnId) -> io::Result<S>) {
        match (begins, from) {
            (Begins::Handshake, _) => self.accept_handshake(from, socket),
            (Begins::Request, _) => self.connections.accept(from, |conn| socket(conn).map(Channel::Clear)),
            (Begins::Frames(transport, _), Origin::User(user)) => {
                self.connections.open(from, transport, self.users.vouch(user), socket);
            }
            (Begins::Frames(transport, vouched), Origin::Unknown | Origin::Address(_)) => {
                self.connections.open(from, transport, vouched, socket);
            }
        }
    }

    #[cfg(feature = "tls")]
    fn accept_handshake(&mut self, from: Origin, socket: impl FnOnce(ConnId) -> io::Result<S>) {
        // A TLS place is not served without certificates.
        if let Some(certificates) = &self.tls {
            let shown = certificates.current();
            self.connections.shown.get_or_insert_with(|| shown.clone());
            let channel = |conn| TlsChannel::new(&shown, socket(conn)?).map(|tls| Channel::Tls(Box::new(tls)));
            self.connections.accept(from, channel);
        }
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "as where TLS is built in")]
    fn accept_handshake(&mut self, _: Origin, _: impl FnOnce(ConnId) -> io::Result<S>) {}

    /// Adds a connection that carries others, such as one of HTTP/2. Its adapter reads and writes
    /// it, and [opens](Self::open_on) its streams. While it has no stream it counts as a connection
    /// without a session, and it is closed if no stream comes in time. `tell` is called when it has
    /// to end. Returns its number; `None` if there is no room.
    pub fn carry(&mut self, from: Origin, has_tls: bool, tell: impl Fn(CarrierEnd) + Send + 'static) -> Option<ConnId> {
        if self.is_ending() {
            return None;
        }
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.tls {
            self.connections.shown.get_or_insert_with(|| certificates.current());
        }
        self.connections.carry(from, has_tls, Box::new(tell))
    }

    /// Notes that the TLS handshake of a carrier is done.
    pub fn carrier_is_secure(&mut self, carrier: ConnId) {
        self.connections.carrier_is_secure(carrier);
    }

    /// Counts a request of a carrier's peer that the adapter refused.
    pub fn stream_failed(&mut self, carrier: ConnId) {
        self.connections.stream_failed(carrier);
    }

    /// Notes that a carrier is gone; its streams end by themselves.
    pub fn carrier_is_gone(&mut self, carrier: ConnId) {
        self.connections.drop_now(carrier);
    }

    /// Adds a stream of a carrier, with one frame per line. `certificates` are those of its client.
    /// With `beside`, binary messages travel beside the lines.
    #[cfg(feature = "tls")]
    pub fn open_on(
        &mut self,
        carrier: ConnId,
        certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
        beside: Option<Beside>,
        socket: impl FnOnce(ConnId) -> io::Result<S>,
    ) {
        self.connections.open_on(carrier, certificates, beside, socket);
    }

    /// Notes that a connection is ready.
    pub fn note(&mut self, conn: ConnId, readable: bool, writable: bool) {
        self.connections.note(conn, readable, writable);
    }

    /// Whether the goodbye was sent to all connections.
    pub fn is_ending(&self) -> bool {
        self.ending_since.is_some()
    }

    /// Whether there is something to do without waiting.
    pub fn has_work(&self) -> bool {
        self.connections.has_work()
    }

    /// How long to wait at most before the next turn; `None`: until a socket is ready. Call it
    /// directly before each wait, like that of the [`Driver`].
    pub fn next_wait(&mut self) -> Option<Duration> {
        let driver = self.driver.next_wait();
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let ours = self.connections.due.next_deadline();
        let others = [ours, self.drain.until, self.accept_at];
        let local =
            others.into_iter().flatten().min().map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        driver.into_iter().chain(local).min()
    }

    /// Does everything that can be done without waiting. `all_heard` says whether every ready
    /// connection was noted.
    ///
    /// # Errors
    ///
    /// As [`Driver::handle`]; the adapter then drops every connection without a goodbye.
    pub fn turn(&mut self, all_heard: bool) -> Result<(), Fenced> {
        self.show_certificates()?;
        for input in std::mem::take(&mut self.connections.due.opened) {
            self.hand_over(input)?;
        }
        self.tell_gone()?;
        self.driver.take_inbox(&mut self.connections)?;
        let mut handshakes = 0;
        for conn in std::mem::take(&mut self.connections.due.readable) {
            handshakes += usize::from(self.connections.is_handshaking(conn));
            if handshakes > HANDSHAKES_TURN && self.connections.is_handshaking(conn) {
                // Other connections go first; this handshake continues in the next turn.
                self.connections.due.readable.insert(conn);
            } else {
                self.read(conn)?;
            }
        }
        // A peer that seems silent may have sent bytes that are not read yet.
        self.driver.tick(all_heard, &mut self.connections)?;
        // Written bytes give credit, and with credit the core sends more: in the next turn, so that
        // every connection gets its turn.
        for conn in std::mem::take(&mut self.connections.due.dirty) {
            if let Some(credit) = self.connections.flush(conn) {
                self.hand_over(credit)?;
            }
        }
        self.driver.note_fan_out();
        self.control.turns.fetch_add(1, Ordering::SeqCst);
        self.expire();
        std::mem::take(&mut self.connections.due.resumed).into_iter().try_for_each(|conn| self.frames(conn))?;
        self.let_ended_go()?;
        self.tell_gone()
    }

    /// Closes connections whose peer has ended its side, once the core owes them nothing.
    fn let_ended_go(&mut self) -> Result<(), Fenced> {
        let ended = self.connections.due.ended.iter().copied();
        let gone: Vec<ConnId> = ended.filter(|conn| !self.driver.owes(*conn)).collect();
        for conn in gone {
            self.hand_over(Input::Closed { conn })?;
            self.connections.finish(conn);
        }
        Ok(())
    }

    /// Tells the core the fingerprint of the present certificate. If that was requested, closes
    /// connections whose certificates are not accepted any more.
    fn show_certificates(&mut self) -> Result<(), Fenced> {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.tls {
            let shown = certificates.current();
            let is_other = self.fingerprint.as_deref() != Some(shown.fingerprint());
            let fingerprint = is_other.then(|| shown.fingerprint().to_string());
            if self.control.check_clients.swap(false, Ordering::SeqCst) {
                for conn in self.connections.show(shown) {
                    self.hand_over(Input::Operator(Operator::Distrust { conn }))?;
                }
            }
            if fingerprint.is_some() {
                self.fingerprint.clone_from(&fingerprint);
                self.hand_over(Input::Operator(Operator::Fingerprint { fingerprint }))?;
            }
        }
        Ok(())
    }

    /// How the server stopped; `None` until it was told to stop and everything is closed.
    ///
    /// # Errors
    ///
    /// As [`turn`](Self::turn).
    pub fn stopped(&mut self) -> Result<Option<Stopped>, Fenced> {
        let asked = self.control.asked.load(Ordering::SeqCst);
        if asked == 0 {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.drain.begun, true) {
            self.hand_over(Input::Operator(Operator::Drain))?;
            self.drain.until = self.drain.grace.and_then(|grace| Instant::now().checked_add(grace));
            tell_unfinished(&self.driver.unfinished());
        }
        let now = Instant::now();
        let over = if let Some(since) = self.ending_since {
            let until = (self.connections.progress_at.max(since) + LAST_WAIT).min(since + LINGER);
            self.drain.until = Some(until);
            until <= now
        } else {
            let late = self.drain.until.is_some_and(|until| until <= now);
            if self.driver.is_idle() || late || asked > 1 {
                self.ending_since = Some(now);
                self.connections.carriers.stop();
                self.drain.cut = self.driver.unfinished();
                self.hand_over(Input::Operator(Operator::Shutdown))?;
                self.turn(true)?;
            }
            false
        };
        let over = over || self.is_ending() && self.connections() == 0 && self.connections.carriers.is_empty();
        Ok(over.then(|| Stopped { cut: std::mem::take(&mut self.drain.cut) }))
    }

    fn hand_over(&mut self, input: Input) -> Result<(), Fenced> {
        self.driver.handle(input, &mut self.connections)
    }

    fn tell_gone(&mut self) -> Result<(), Fenced> {
        std::mem::take(&mut self.connections.due.gone)
            .into_iter()
            .try_for_each(|conn| self.hand_over(Input::Closed { conn }))
    }

    fn read(&mut self, conn: ConnId) -> Result<(), Fenced> {
        let mut taken = 0;
        while let Some(connection) = self.connections.by_conn.get_mut(&conn) {
            if connection.paused && connection.phase == Phase::Open {
                connection.unread = true;
                break;
            }
            if taken >= READ_TURN {
                // Other connections go first; the rest is read in the next turn.
                self.connections.due.readable.insert(conn);
                break;
            }
            let read = connection.socket.read(&mut self.buffer);
            self.connections.note_handshake(conn);
            let Some(connection) = self.connections.by_conn.get_mut(&conn) else {
                break;
            };
            match read {
                Ok(0) if connection.may_write_on() => {
                    self.connections.end(conn);
                    break;
                }
                Ok(0) => self.connections.drop_now(conn),
                // Bytes after the goodbye are discarded, but they are read: closing a socket with
                // unread bytes resets the connection, and the goodbye would be lost.
                Ok(n) if connection.phase != Phase::Open => taken += n,
                Ok(n) => {
                    taken += n;
                    let is_all = n < self.buffer.len() && connection.socket.notes_what_follows();
                    self.connections.traffic.received(n);
                    let (connections, buffer) = (&mut self.connections, &self.buffer[..n]);
                    for input in connections.take(conn, buffer, &self.upgrades, &mut self.driver) {
                        self.hand_over(input)?;
                    }
                    self.frames(conn)?;
                    if is_all {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.connections.drop_now(conn),
            }
        }
        Ok(())
    }

    /// Hands whole frames to the core, one at a time: it may pause reading after each.
    fn frames(&mut self, conn: ConnId) -> Result<(), Fenced> {
        while let Some(framed) = self.connections.next_frame(conn) {
            match framed {
                Framed::Frame(frame) => self.hand_over(Input::Received { conn, frame })?,
                Framed::Binary(message) => self.hand_over(Input::ReceivedBinary { conn, message })?,
                Framed::TooLong => self.hand_over(Input::TooLong { conn })?,
                Framed::End(_) | Framed::TooLarge(_) => {
                    self.hand_over(Input::Closed { conn })?;
                    self.connections.finish(conn);
                    break;
                }
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(conn) = self.connections.due.pop_late(now) {
            self.connections.expire(conn);
        }
    }
}

impl<S> std::fmt::Debug for ServerLoop<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerLoop").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// Logs the jobs for which a drain waits.
fn tell_unfinished(jobs: &[JobSummary]) {
    for job in jobs.iter().take(TOLD_JOBS) {
        let status = job.status.map_or("unknown", JobStatus::as_str);
        log(format_args!("arcp: waiting for {} {status} {}", job.job, job.agent));
    }
    if let Some(more) = jobs.len().checked_sub(TOLD_JOBS).filter(|more| *more > 0) {
        log(format_args!("arcp: and for {more} more: `arcp list` shows them"));
    }
}
