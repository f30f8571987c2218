//! One session: its requests, and the check that all expected frames come, once and in order.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::fault::Fault;
use crate::frames::{Envelope, Family, Said, open_session, request_number, submit};
use crate::link::Outbox;

/// In the open family, a message id is scoped to the principal and not to the session: a repeated id would be answered
/// from memory, without a job.
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

/// The work of a job.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Return the input.
    Echo,
    /// Emit so many metrics, which count from zero.
    Events(u64),
    /// Return a result in so many pieces of so many bytes.
    Pieces(u64, u64),
}

/// How a client talks to a server.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The family.
    pub family: Family,
    /// A token that the server accepts.
    pub token: &'static str,
    /// The name of the agent that emits metrics.
    pub ticker: &'static str,
}

#[derive(Debug)]
struct Job {
    request: u64,
    /// Empty until the job is accepted.
    id: String,
    task: Task,
    seen: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Echoed {
    n: u64,
}

#[derive(Deserialize)]
struct Emitted {
    emitted: u64,
}

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    manner: Manner,
    /// Whether the server has opened the session.
    pub open: bool,
    /// How many of its jobs have ended correctly.
    pub ended: u64,
    last_number: u64,
    jobs: Vec<Job>,
}

impl Session {
    /// A session whose opening request is queued.
    pub fn new(manner: Manner, outbox: &mut Outbox) -> Session {
        outbox.push(open_session(manner.family, manner.token).as_bytes());
        Session { manner, open: false, ended: 0, last_number: 0, jobs: Vec::new() }
    }

    /// How many of its jobs have not ended.
    pub fn running(&self) -> usize {
        self.jobs.len()
    }

    /// Submits a job.
    pub fn submit(&mut self, task: Task, outbox: &mut Outbox) {
        let request = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
        let (agent, input) = match task {
            Task::Echo => ("echo", format!(r#"{{"n":{request}}}"#)),
            Task::Events(count) => (self.manner.ticker, format!(r#"{{"count":{count}}}"#)),
            Task::Pieces(chunks, bytes) => ("chunker", format!(r#"{{"chunks":{chunks},"bytes":{bytes}}}"#)),
        };
        outbox.push(submit(self.manner.family, request, agent, &input).as_bytes());
        self.jobs.push(Job { request, id: String::new(), task, seen: 0, bytes: 0 });
    }

    /// Handles one frame.
    ///
    /// # Errors The frame is not one that has to come.
    pub fn hear(&mut self, text: &[u8]) -> Result<(), Fault> {
        let envelope = Envelope::read(text)?;
        if let Some(came) = envelope.event_seq {
            let expected = self.last_number + 1;
            if came != expected {
                return Err(Fault::Gap { expected, came });
            }
            self.last_number = came;
        }
        match envelope.said(self.manner.family)? {
            Said::Welcome if self.open => return Err(wrong("a second welcome")),
            Said::Welcome => self.open = true,
            Said::Accepted { request, job } => self.accepted(request, job)?,
            Said::Note { job } => {
                self.job(job)?;
            }
            Said::Metric { job, value } => self.job(job)?.1.metric(value)?,
            Said::Piece { job, number, text, more } => self.job(job)?.1.piece(number, text, more)?,
            Said::Ended { job, result, size } => {
                let (at, job) = self.job(job)?;
                job.end(result, size)?;
                self.jobs.swap_remove(at);
                self.ended += 1;
            }
        }
        Ok(())
    }

    fn accepted(&mut self, request: &str, id: &str) -> Result<(), Fault> {
        let number = request_number(request);
        let job = self.jobs.iter_mut().find(|job| Some(job.request) == number && job.id.is_empty());
        let job = job.ok_or_else(|| wrong(&format!("an acceptance of {request}, which waits for none")))?;
        job.id.push_str(id);
        Ok(())
    }

    fn job(&mut self, id: &str) -> Result<(usize, &mut Job), Fault> {
        let found = self.jobs.iter_mut().enumerate().find(|(_, job)| job.id == id);
        found.ok_or_else(|| wrong(&format!("word of {id}, which does not run here")))
    }
}

impl Job {
    #[expect(clippy::float_cmp, reason = "small whole numbers")]
    fn metric(&mut self, value: f64) -> Result<(), Fault> {
        let expected = self.seen;
        self.seen += 1;
        match self.task {
            Task::Events(count) if expected < count && value == expected as f64 => Ok(()),
            Task::Echo | Task::Events(_) | Task::Pieces(..) => {
                Err(wrong(&format!("{:?} says {value} where {expected} is next", self.task)))
            }
        }
    }

    fn piece(&mut self, number: u64, text: &str, more: bool) -> Result<(), Fault> {
        let expected = self.seen;
        self.seen += 1;
        self.bytes += text.len() as u64;
        match self.task {
            Task::Pieces(count, bytes)
                if number == expected && text.len() as u64 == bytes && more == (self.seen < count) =>
            {
                Ok(())
            }
            Task::Echo | Task::Events(_) | Task::Pieces(..) => {
                let length = text.len();
                Err(wrong(&format!("piece {number} of {length} bytes where {expected} of {:?} is next", self.task)))
            }
        }
    }

    fn end(&self, result: Option<&str>, size: Option<u64>) -> Result<(), Fault> {
        let result = result.unwrap_or("null");
        let right = match self.task {
            Task::Echo => serde_json::from_str::<Echoed>(result).is_ok_and(|echoed| echoed.n == self.request),
            Task::Events(count) => {
                let said = serde_json::from_str::<Emitted>(result).is_ok_and(|said| said.emitted == count);
                said && self.seen == count
            }
            Task::Pieces(count, _) => self.seen == count && size == Some(self.bytes),
        };
        if right {
            return Ok(());
        }
        let mut what = format!("{:?} ended after {} with {result}", self.task, self.seen);
        if let Some(size) = size {
            let _ = write!(what, " and a size of {size}, {} came", self.bytes);
        }
        Err(Fault::Wrong(what))
    }
}

fn wrong(what: &str) -> Fault {
    Fault::Wrong(what.to_string())
}
