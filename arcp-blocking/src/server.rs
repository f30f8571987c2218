//! The server: one port, one loop, any number of sessions.

use std::fmt::Display;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arcp_host::agent::Inbox;
use arcp_host::driver::{Driver, Fenced, Host, HostError};
use arcp_host::server_log::log;
use arcp_proto::id::{JobId, SessionId};
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::Extension;
use arcp_proto::runtime::{Input, Operator};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connections::{Connections, LINGER, Phase, descriptors_for_connections};
use crate::framing::Framed;
use crate::http::UpgradePolicy;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// Bytes read from one connection before others get their turn.
const READ_TURN: usize = 256 << 10;
/// What is taken from the system at once.
const EVENTS: usize = 1024;
/// How long not to accept when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Jobs named when a drain begins.
const TOLD_JOBS: usize = 20;
/// How long a server that ends waits for clients that take nothing and close
/// nothing.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Where and for whom to listen.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address; port 0 picks one.
    pub listen: SocketAddr,
    /// The path of the WebSocket, such as `/arcp`.
    pub path: String,
    /// Host names served besides those of the loopback.
    pub allow_hosts: Vec<String>,
    /// Web origins that may connect; by default none.
    pub allow_origins: Vec<String>,
    /// How long jobs may go on after a drain was asked for; `None`: until they
    /// end.
    pub drain_grace: Option<Duration>,
}

impl ServerConfig {
    /// Path `/arcp`, loopback names only, ten seconds to drain.
    pub fn new(listen: SocketAddr) -> ServerConfig {
        ServerConfig {
            listen,
            path: "/arcp".to_string(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            drain_grace: Some(Duration::from_secs(10)),
        }
    }
}

/// A port that is bound. Who connects waits until it is [served](Server::on).
#[derive(Debug)]
pub struct Port(TcpListener);

impl Port {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub fn bind(listen: SocketAddr) -> io::Result<Port> {
        TcpListener::bind(listen).map(Port)
    }
}

/// A WebSocket server.
///
/// A quarter of the files that the process may open, but no more than 1,024,
/// is kept for the store and for agents; connections beyond the rest wait to be
/// accepted.
pub struct Server {
    poll: Poll,
    listener: Option<TcpListener>,
    address: SocketAddr,
    driver: Driver,
    connections: Connections,
    upgrades: UpgradePolicy,
    control: Arc<Control>,
    drain: Drain,
    /// When everybody was told goodbye.
    ending_since: Option<Instant>,
    accept_at: Option<Instant>,
    /// The operator knows that no connections are accepted.
    told_full: bool,
    /// Whether this turn takes everything that had arrived.
    all_heard: bool,
    buffer: Vec<u8>,
}

/// How far a server is on its way to its end.
struct Drain {
    /// How long jobs may go on.
    grace: Option<Duration>,
    /// No new jobs are accepted.
    begun: bool,
    until: Option<Instant>,
    /// Jobs that had not ended when everybody was told goodbye.
    cut: Vec<JobSummary>,
}

/// How a server stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The jobs that had not ended.
    pub cut: Vec<JobSummary>,
}

/// Tells a running server what to do, from any thread.
#[derive(Clone)]
pub struct ServerHandle(Arc<Control>);

struct Control {
    asked: AtomicU8,
    waker: Arc<Waker>,
    inbox: Arc<dyn Inbox>,
}

impl ServerHandle {
    /// Takes no new jobs, waits for those there are within the grace, then closes
    /// every connection in order. Until then jobs can be listed, watched and
    /// cancelled.
    pub fn drain(&self) {
        self.ask(1);
    }

    /// Closes every connection in order now.
    pub fn shutdown(&self) {
        self.ask(2);
    }

    /// Ends a job, whoever submitted it: as by a cancel, with
    /// [`Timing::cancel_grace`]. One that is over stays as it is.
    ///
    /// [`Timing::cancel_grace`]: arcp_proto::runtime::Timing::cancel_grace
    pub fn cancel_job(&self, job: JobId, reason: Option<String>) {
        self.0.inbox.put(Input::Operator(Operator::CancelJob { job, reason }));
    }

    /// Takes a session from its client, whose jobs go on.
    pub fn end_session(&self, session: SessionId, reason: Option<String>) {
        self.0.inbox.put(Input::Operator(Operator::EndSession { session, reason }));
    }

    /// Sends a message of an extension to the client of a session, if it can
    /// have it now: see [`Input::SendExtension`].
    pub fn send_extension(&self, session: SessionId, message: Extension) {
        self.0.inbox.put(Input::SendExtension { session, message });
    }

    fn ask(&self, what: u8) {
        self.0.asked.fetch_max(what, Ordering::SeqCst);
        let _ = self.0.waker.wake();
    }
}

impl Server {
    /// Binds the port. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If the port cannot be had, or the configuration cannot work.
    pub fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        Server::on(Port::bind(config.listen)?, config, host)
    }

    /// Takes a port that is bound, whatever the configuration says of it.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, or the store cannot be read.
    pub fn on(Port(mut listener): Port, config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let most = descriptors_for_connections();
        let own = waker.clone();
        // It fails only when the poll is gone, and with it the server.
        let wake = move || drop(own.wake());
        let connections = Connections::new(poll.registry().try_clone()?, &host.config, most);
        let driver = Driver::new(host, wake)?;
        Ok(Server {
            address: listener.local_addr()?,
            listener: Some(listener),
            control: Arc::new(Control { asked: AtomicU8::new(0), waker, inbox: driver.inbox() }),
            connections,
            driver,
            upgrades: UpgradePolicy {
                path: config.path.clone(),
                hosts: config.allow_hosts.clone(),
                origins: config.allow_origins.clone(),
            },
            drain: Drain { grace: config.drain_grace, begun: false, until: None, cut: Vec::new() },
            ending_since: None,
            accept_at: None,
            told_full: false,
            all_heard: true,
            buffer: vec![0; 64 << 10],
            poll,
        })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its clients connect to.
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address, self.upgrades.path)
    }

    /// What tells it what to do, from another thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.control.clone())
    }

    /// Serves until it is told to stop and everything is closed.
    ///
    /// # Errors
    ///
    /// If the system's readiness queue fails, or the store is somebody else's:
    /// then every connection is dropped as it is.
    pub fn run(mut self) -> Result<Stopped, HostError> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopped()? {
            self.step(&mut events, None)?;
        }
        Ok(Stopped { cut: self.drain.cut })
    }

    /// Waits until there is something to do, at most this long, and does it.
    fn step(&mut self, events: &mut Events, most: Option<Duration>) -> Result<(), HostError> {
        let wait = self.next_wait().into_iter().chain(most).min();
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(),
                WAKER => {}
                token => {
                    self.connections.note(token, event.is_readable() || event.is_read_closed(), event.is_writable())
                }
            }
        }
        self.all_heard = events.iter().count() < events.capacity();
        Ok(self.turn()?)
    }

    /// Everything there is to do without waiting.
    fn turn(&mut self) -> Result<(), Fenced> {
        self.tell_gone()?;
        self.driver.take_inbox(&mut self.connections)?;
        for token in std::mem::take(&mut self.connections.due.readable) {
            self.read(token)?;
        }
        // Whoever was silent may have spoken in what is not read yet.
        self.driver.tick(self.all_heard, &mut self.connections)?;
        // What is written gives credit, and credit lets the core send more: in
        // the next turn, so that everybody gets theirs.
        for token in std::mem::take(&mut self.connections.due.dirty) {
            if let Some(credit) = self.connections.flush(token) {
                self.hand_over(credit)?;
            }
        }
        self.expire()?;
        self.tell_gone()
    }

    fn hand_over(&mut self, input: Input) -> Result<(), Fenced> {
        self.driver.handle(input, &mut self.connections)
    }

    fn tell_gone(&mut self) -> Result<(), Fenced> {
        std::mem::take(&mut self.connections.due.gone)
            .into_iter()
            .try_for_each(|conn| self.hand_over(Input::Closed { conn }))
    }

    fn next_wait(&self) -> Option<Duration> {
        if self.connections.has_work() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let ours = self.connections.due.next_deadline();
        let others = [ours, self.drain.until, self.accept_at];
        let local =
            others.into_iter().flatten().min().map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        self.driver.next_wait().into_iter().chain(local).min()
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            if self.connections.is_full() {
                return self.accept_later(&"as many connections are open as the limit of open files allows");
            }
            match listener.accept() {
                Ok((socket, peer)) => self.connections.add(socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.told_full = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.accept_later(&error),
            }
        }
    }

    /// Those who wait to be accepted stay in the backlog.
    fn accept_later(&mut self, why: &dyn Display) {
        if !std::mem::replace(&mut self.told_full, true) {
            log(format_args!("arcp: no new connections for now: {why}; more of them need a higher `ulimit -n`"));
        }
        self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
    }

    fn read(&mut self, token: Token) -> Result<(), Fenced> {
        let mut taken = 0;
        while let Some(connection) = self.connections.by_token.get_mut(&token) {
            if connection.paused && connection.phase == Phase::Open {
                connection.unread = true;
                break;
            }
            if taken >= READ_TURN {
                // Others first; the rest comes in the next turn.
                self.connections.due.readable.insert(token);
                break;
            }
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => self.connections.drop_now(token),
                // What comes after the goodbye is thrown away, but it is read: a
                // socket closed over unread bytes would take the goodbye back.
                Ok(n) if connection.phase != Phase::Open => taken += n,
                Ok(n) => {
                    taken += n;
                    let (connections, buffer) = (&mut self.connections, &self.buffer[..n]);
                    for input in connections.take(token, buffer, &self.upgrades, &self.driver) {
                        self.hand_over(input)?;
                    }
                    self.frames(token)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.connections.drop_now(token),
            }
        }
        Ok(())
    }

    /// Hands whole frames to the core, one at a time: it may ask for a pause
    /// after any of them.
    fn frames(&mut self, token: Token) -> Result<(), Fenced> {
        while let Some((conn, framed)) = self.connections.next_frame(token) {
            match framed {
                Framed::Frame(frame) => self.hand_over(Input::Received { conn, frame })?,
                Framed::TooLong => self.hand_over(Input::TooLong { conn })?,
                Framed::End(_) | Framed::TooLarge(_) => {
                    self.hand_over(Input::Closed { conn })?;
                    self.connections.finish(token);
                    break;
                }
            }
        }
        Ok(())
    }

    fn expire(&mut self) -> Result<(), Fenced> {
        let now = Instant::now();
        while let Some(token) = self.connections.due.pop_late(now) {
            self.connections.drop_now(token);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.accept();
        }
        std::mem::take(&mut self.connections.due.resumed).into_iter().try_for_each(|token| self.frames(token))
    }

    fn stopped(&mut self) -> Result<bool, Fenced> {
        let asked = self.control.asked.load(Ordering::SeqCst);
        if asked == 0 {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.drain.begun, true) {
            self.hand_over(Input::Operator(Operator::Drain))?;
            self.drain.until = self.drain.grace.and_then(|grace| Instant::now().checked_add(grace));
            tell_unfinished(&self.driver.unfinished());
        }
        let now = Instant::now();
        if let Some(since) = self.ending_since {
            let until = (self.connections.progress_at.max(since) + LAST_WAIT).min(since + LINGER);
            self.drain.until = Some(until);
            return Ok(self.connections.by_token.is_empty() || until <= now);
        }
        let late = self.drain.until.is_some_and(|until| until <= now);
        if self.driver.is_idle() || late || asked > 1 {
            self.ending_since = Some(now);
            if let Some(mut listener) = self.listener.take() {
                let _ = self.poll.registry().deregister(&mut listener);
            }
            self.drain.cut = self.driver.unfinished();
            self.hand_over(Input::Operator(Operator::Shutdown))?;
            self.turn()?;
        }
        Ok(self.ending_since.is_some() && self.connections.by_token.is_empty())
    }
}

/// Tells the operator which jobs are waited for.
fn tell_unfinished(jobs: &[JobSummary]) {
    for job in jobs.iter().take(TOLD_JOBS) {
        let status = job.status.map_or("unknown", JobStatus::as_str);
        log(format_args!("arcp: waiting for {} {status} {}", job.job, job.agent));
    }
    if let Some(more) = jobs.len().checked_sub(TOLD_JOBS).filter(|more| *more > 0) {
        log(format_args!("arcp: and for {more} more: `arcp list` shows them"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use arcp_host::registry::Registry;
    use arcp_proto::runtime::Config;

    use super::*;

    fn server() -> Server {
        let host = Host::new(Config::new("test", "1"), Registry::default());
        Server::bind(&ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))), host).expect("a port")
    }

    #[test]
    fn an_answered_request_that_the_peer_leaves_open_gives_nothing_to_do() {
        let mut server = server();
        let mut client = std::net::TcpStream::connect(server.address()).expect("a connection");
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        let mut events = Events::with_capacity(16);
        let mut steps = 0;
        loop {
            server.step(&mut events, Some(Duration::from_millis(300))).expect("readiness");
            steps += 1;
            assert!(steps < 50, "the loop is kept busy");
            if events.is_empty() && !server.connections.has_work() {
                break;
            }
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer and an end");
        assert!(answer.ends_with("ok\n"), "{answer}");
        assert_eq!(server.connections.by_token.len(), 1, "it may still say something");
    }
}
