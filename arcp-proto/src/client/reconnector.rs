//! The state of a client's connection: opened, kept alive, lost, opened again.
//!
//! ```text
//! Down ──Connect──▶ Connecting ──Connected──▶ Opening ──welcome──▶ Open
//!  ▲                    └──failed──┐               └──refused──┐     │ lost
//!  └──────── pause over ── Pausing ◀───────────────────────────┴─────┘
//!                             └── for too long, denied, closed ──▶ Over
//! ```

use core::time::Duration;

use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReconnectState {
    /// No attempt was made yet.
    Down,
    /// A transport is being opened.
    Connecting,
    /// The transport is open, the session is not yet.
    Opening,
    /// The session is open.
    Open,
    /// The next attempt follows after a pause.
    Pausing,
    /// There are no further attempts.
    Over,
}

/// The purpose of a client's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientTimer {
    /// The next attempt to connect.
    Reconnect,
    /// Connecting and opening took too long.
    OpenTimeout,
    /// A ping is due, or the runtime has been silent for too long.
    Heartbeat,
    /// An acknowledgement is due.
    Ack,
}

impl ClientTimer {
    const ALL: [ClientTimer; 4] =
        [ClientTimer::Reconnect, ClientTimer::OpenTimeout, ClientTimer::Heartbeat, ClientTimer::Ack];

    /// Whether it may find that the runtime was silent for too long: frames that the driver has not
    /// handed over yet may disprove that.
    fn judges_silence(self) -> bool {
        match self {
            ClientTimer::OpenTimeout | ClientTimer::Heartbeat => true,
            ClientTimer::Reconnect | ClientTimer::Ack => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Reconnector {
    pub(super) state: ReconnectState,
    /// Attempts since the last session that stayed open long enough.
    pub(super) attempt: u32,
    /// When the session was last open, or the client was made.
    pub(super) lost_at: Timestamp,
    /// When the session was last opened.
    pub(super) opened_at: Timestamp,
    pub(super) heartbeat: Option<Duration>,
    pub(super) last_received: Timestamp,
    pub(super) last_sent: Timestamp,
    /// Whether any frame arrived on the present connection.
    pub(super) answered: bool,
    /// Connections in a row that the runtime closed before any frame arrived.
    pub(super) unanswered: u32,
    deadlines: [Option<Timestamp>; 4],
}

impl Reconnector {
    pub(super) fn new(now: Timestamp) -> Reconnector {
        Reconnector {
            state: ReconnectState::Down,
            attempt: 0,
            lost_at: now,
            opened_at: now,
            heartbeat: None,
            last_received: now,
            last_sent: now,
            answered: false,
            unanswered: 0,
            deadlines: [None; 4],
        }
    }

    pub(super) fn set(&mut self, timer: ClientTimer, at: Option<Timestamp>) {
        self.deadlines[timer as usize] = at;
    }

    pub(super) fn is_set(&self, timer: ClientTimer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    pub(super) fn next(&self) -> Option<(Timestamp, ClientTimer)> {
        ClientTimer::ALL.into_iter().filter_map(|timer| Some((self.deadlines[timer as usize]?, timer))).min()
    }

    /// Takes a timer that is due. One that judges silence is taken only once everything that had
    /// arrived by its time was handed over.
    pub(super) fn pop_due(&mut self, now: Timestamp, heard: Timestamp) -> Option<ClientTimer> {
        let is_due = |timer: &ClientTimer| {
            let until = if timer.judges_silence() { heard } else { now };
            self.deadlines[*timer as usize].is_some_and(|at| at <= until)
        };
        let timer = ClientTimer::ALL.into_iter().filter(is_due).min_by_key(|timer| self.deadlines[*timer as usize])?;
        self.set(timer, None);
        Some(timer)
    }

    /// The pause before the next attempt. It doubles with each attempt; up to half of it is taken
    /// off at random, so that many clients do not reconnect at once.
    pub(super) fn pause(&self, longest: Duration, random: u64) -> Duration {
        const FIRST: Duration = Duration::from_millis(100);
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = doubled.min(longest);
        let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX);
        pause - Duration::from_micros(random % (half + 1))
    }

    /// When a ping is due, or the silence of the runtime is judged.
    pub(super) fn heartbeat_at(&self, interval: Duration) -> Timestamp {
        (self.last_sent + interval).min(self.last_received + interval * 2)
    }
}
