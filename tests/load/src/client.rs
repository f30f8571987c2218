//! The load: any number of sessions on one thread.

use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::fault::Fault;
use crate::link::{Link, Scratch};
use crate::session::{Manner, Session, Task};

/// How long a server may be silent while it owes something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection and its session.
#[derive(Debug)]
struct Lane {
    link: Link,
    session: Session,
}

/// The sessions with one server.
#[derive(Debug)]
pub struct Clients {
    address: SocketAddr,
    manner: Manner,
    poll: Poll,
    ready: Events,
    scratch: Scratch,
    lanes: Vec<Lane>,
}

impl Clients {
    /// Opens `count` sessions, 64 at a time.
    ///
    /// # Errors The server misbehaves.
    pub fn open(address: SocketAddr, manner: Manner, count: usize) -> Result<Clients, Fault> {
        let (poll, ready) = (Poll::new()?, Events::with_capacity(1024));
        let mut clients = Clients { address, manner, poll, ready, scratch: Scratch::default(), lanes: Vec::new() };
        clients.open_to(count)?;
        Ok(clients)
    }

    /// Opens more sessions, until there are `count`.
    ///
    /// # Errors The server misbehaves.
    pub fn open_to(&mut self, count: usize) -> Result<(), Fault> {
        let mut open = self.lanes.len();
        while open < count {
            while self.lanes.len() < count.min(open + 64) {
                self.connect(self.lanes.len())?;
            }
            self.turn(|_, lane| {
                open += usize::from(lane.session.open);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Opens `count` sessions and leaves each, `at_once` at a time.
    ///
    /// # Errors The server misbehaves.
    pub fn handshakes(address: SocketAddr, manner: Manner, count: usize, at_once: usize) -> Result<(), Fault> {
        let mut clients = Clients::open(address, manner, 0)?;
        for lane in 0..at_once.min(count) {
            clients.connect(lane)?;
        }
        let (mut begun, mut done) = (clients.lanes.len(), 0);
        while done < count {
            let mut open = Vec::new();
            clients.turn(|at, lane| {
                if lane.session.open {
                    open.push(at);
                }
                Ok(())
            })?;
            done += open.len();
            for at in open {
                clients.poll.registry().deregister(&mut clients.lanes[at].link.stream)?;
                if begun < count {
                    clients.connect(at)?;
                    begun += 1;
                }
            }
        }
        Ok(())
    }

    /// Runs one job in the first session, to its end.
    ///
    /// # Errors The server misbehaves.
    pub fn job(&mut self, task: Task) -> Result<(), Fault> {
        self.jobs(task, 1, 1)
    }

    /// Runs `count` jobs, `in_flight` at a time in each session.
    ///
    /// # Errors The server misbehaves.
    pub fn jobs(&mut self, task: Task, count: u64, in_flight: usize) -> Result<(), Fault> {
        let ended = |lanes: &[Lane]| lanes.iter().map(|lane| lane.session.ended).sum::<u64>();
        let mut left = count;
        let mut submit = |lane: &mut Lane| {
            while left > 0 && lane.session.running() < in_flight {
                lane.session.submit(task, &mut lane.link.outbox);
                left -= 1;
            }
            lane.link.flush()
        };
        let wanted = ended(&self.lanes) + count;
        self.lanes.iter_mut().try_for_each(&mut submit)?;
        let mut seen = wanted - count;
        while seen < wanted {
            self.turn(|_, lane| submit(lane))?;
            seen = ended(&self.lanes);
        }
        Ok(())
    }

    fn connect(&mut self, at: usize) -> Result<(), Fault> {
        let mut link = Link::connect(self.address)?;
        let session = Session::new(self.manner, &mut link.outbox);
        self.poll.registry().register(&mut link.stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        link.flush()?;
        let lane = Lane { link, session };
        match self.lanes.get_mut(at) {
            Some(gone) => *gone = lane,
            None => self.lanes.push(lane),
        }
        Ok(())
    }

    /// Waits, and handles what has come; then calls `each` for the sessions that got something.
    fn turn(&mut self, mut each: impl FnMut(usize, &mut Lane) -> Result<(), Fault>) -> Result<(), Fault> {
        match self.poll.poll(&mut self.ready, Some(PATIENCE)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.ready.is_empty() {
            return Err(Fault::Silent);
        }
        for event in &self.ready {
            let Some(lane) = self.lanes.get_mut(event.token().0) else { continue };
            let mut heard = false;
            if event.is_readable() {
                let Lane { link, session } = lane;
                link.receive(&mut self.scratch, |_, text| {
                    heard = true;
                    session.hear(text)
                })?;
            }
            lane.link.flush()?;
            if heard {
                each(event.token().0, lane)?;
            }
        }
        Ok(())
    }
}
