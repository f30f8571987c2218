//! The rows: what is measured.

use std::time::{Duration, Instant};

use crate::client::Clients;
use crate::fault::Fault;
use crate::frames::Family;
use crate::server::{Program, Server, Store};
use crate::session::Task;

/// One measure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is counted.
    pub name: &'static str,
    /// The unit of the figures.
    pub unit: Unit,
    /// Where the servers keep their jobs.
    pub store: Store,
    /// The aim.
    pub aim: &'static str,
    work: Work,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// How many in a second.
    PerSecond,
    /// Megabytes (10^6 bytes) in a second.
    Megabytes,
    /// KiB of the server's memory for each: less is better.
    Kibibytes,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Events { count: u64 },
    Pieces { count: u64, bytes: u64 },
    RoundTrips { sessions: usize, in_flight: usize, count: u64 },
    Handshakes { at_once: usize, count: usize },
    Idle { sessions: usize },
}

/// Every row, in the order of a report.
pub const ROWS: [Row; 11] = {
    use Store::{File, Memory};
    use Unit::{Kibibytes, Megabytes, PerSecond};
    use Work::{Events, Handshakes, Idle, Pieces, RoundTrips};
    const fn row(name: &'static str, unit: Unit, store: Store, aim: &'static str, work: Work) -> Row {
        Row { name, unit, store, aim, work }
    }
    let one = RoundTrips { sessions: 1, in_flight: 1, count: 3000 };
    let many = RoundTrips { sessions: 1, in_flight: 64, count: 10_000 };
    let everybody = RoundTrips { sessions: 64, in_flight: 1, count: 8000 };
    let opened = Handshakes { at_once: 16, count: 1500 };
    let pieces = Pieces { count: 600, bytes: 256 << 10 };
    [
        row(
            "events of one job to its submitter",
            PerSecond,
            Memory,
            "1 M, at most 1 µs each",
            Events { count: 100_000 },
        ),
        row("events of one job to its submitter", PerSecond, File, "400 k", Events { count: 50_000 }),
        row("submit to result, one at a time", PerSecond, Memory, "0.85 of the ceiling", one),
        row("submit to result, 64 in flight", PerSecond, Memory, "90 k", many),
        row("submit to result, 64 sessions one at a time each", PerSecond, Memory, "50 k", everybody),
        row(
            "submit to result, one at a time",
            PerSecond,
            File,
            "3 k",
            RoundTrips { sessions: 1, in_flight: 1, count: 600 },
        ),
        row(
            "submit to result, 64 in flight",
            PerSecond,
            File,
            "45 k",
            RoundTrips { sessions: 1, in_flight: 64, count: 6000 },
        ),
        row("handshakes, 16 at a time", PerSecond, Memory, "", opened),
        row("handshakes, 16 at a time", PerSecond, File, "8 k", opened),
        row("result in pieces of 256 KiB of text", Megabytes, Memory, "750", pieces),
        row("memory per idle session, at 10,000", Kibibytes, Memory, "8", Idle { sessions: 10_000 }),
    ]
};

/// The outcome of one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The figure, in the row's unit.
    pub figure: f64,
    /// How many were counted, and the processor time of the server for all of them.
    pub spent: Option<(u64, Duration)>,
}

impl Row {
    /// Whether the agents of a server can do this work.
    pub fn suits(&self, program: &Program) -> bool {
        match self.work {
            // The published servers' agents in `tests/peers` return only short results.
            Work::Pieces { .. } => !program.is_peer(),
            Work::Events { .. } | Work::RoundTrips { .. } | Work::Handshakes { .. } | Work::Idle { .. } => true,
        }
    }

    /// How many rounds are measured: memory is measured once.
    pub fn rounds(&self, asked: usize) -> usize {
        match self.work {
            Work::Idle { .. } => 1,
            Work::Events { .. } | Work::Pieces { .. } | Work::RoundTrips { .. } | Work::Handshakes { .. } => asked,
        }
    }

    /// Does the work once, scaled by `part`.
    ///
    /// # Errors The server misbehaves.
    pub fn round(&self, program: &Program, server: &Server, family: Family, part: f64) -> Result<Round, Fault> {
        let scaled = |count: u64| ((count as f64 * part) as u64).max(20);
        let (address, manner) = (server.address, program.manner(family));
        let open = |sessions| Clients::open(address, manner, sessions);
        match self.work {
            Work::Events { count } => {
                let (mut clients, count) = (open(1)?, scaled(count));
                timed(server, count, 1.0, || clients.job(Task::Events(count)))
            }
            Work::Pieces { count, bytes } => {
                let (mut clients, count) = (open(1)?, scaled(count));
                timed(server, count, bytes as f64 / 1e6, || clients.job(Task::Pieces(count, bytes)))
            }
            Work::RoundTrips { sessions, in_flight, count } => {
                let (mut clients, count) = (open(sessions)?, scaled(count));
                timed(server, count, 1.0, || clients.jobs(Task::Echo, count, in_flight))
            }
            Work::Handshakes { at_once, count } => {
                let count = scaled(count as u64);
                timed(server, count, 1.0, || Clients::handshakes(address, manner, count as usize, at_once))
            }
            Work::Idle { sessions } => {
                // The first sessions fill memory that all sessions share.
                let few = 100.min(sessions / 10);
                let mut clients = open(few)?;
                let before = server.resident()?;
                let many = (scaled(sessions as u64) as usize).max(2 * few);
                clients.open_to(many)?;
                let grown = server.resident()?.saturating_sub(before);
                Ok(Round { figure: grown as f64 / 1024.0 / (many - few) as f64, spent: None })
            }
        }
    }
}

/// The figures of `work`, which does `count` things that are `each` units large.
fn timed(server: &Server, count: u64, each: f64, work: impl FnOnce() -> Result<(), Fault>) -> Result<Round, Fault> {
    let (before, begun) = (server.processor_time()?, Instant::now());
    work()?;
    let span = begun.elapsed();
    let spent = server.processor_time()?.saturating_sub(before);
    Ok(Round { figure: count as f64 * each / span.as_secs_f64(), spent: Some((count, spent)) })
}
