//! The client's connection: opened, kept alive, lost, opened again.
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
    /// Nothing was tried yet.
    Down,
    /// A transport is being opened.
    Connecting,
    /// The session is being opened on it.
    Opening,
    /// The session is open.
    Open,
    /// Another attempt comes when the pause is over.
    Pausing,
    /// There will be no other attempt.
    Over,
}

/// What a client's deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientTimer {
    /// The next attempt to connect.
    Reconnect,
    /// Connecting and opening take too long.
    OpenTimeout,
    /// A ping is due, or the runtime is lost.
    Heartbeat,
    /// An acknowledgement is due.
    Ack,
}

impl ClientTimer {
    const ALL: [ClientTimer; 4] =
        [ClientTimer::Reconnect, ClientTimer::OpenTimeout, ClientTimer::Heartbeat, ClientTimer::Ack];

    /// Whether it says that the runtime has said nothing for too long: what the
    /// driver still holds may prove the contrary.
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
    /// Attempts since the last session that stayed open for a while.
    pub(super) attempt: u32,
    /// When the session was last open, or the client made.
    pub(super) lost_at: Timestamp,
    /// When the session was opened last.
    pub(super) opened_at: Timestamp,
    pub(super) heartbeat: Option<Duration>,
    pub(super) last_received: Timestamp,
    pub(super) last_sent: Timestamp,
    /// Whether anything came on the present connection.
    pub(super) answered: bool,
    /// Connections that the runtime closed before anything came.
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

    /// Takes a timer that is due; one that judges silence only once everything
    /// was heard that had arrived by its time.
    pub(super) fn pop_due(&mut self, now: Timestamp, heard: Timestamp) -> Option<ClientTimer> {
        let is_due = |timer: &ClientTimer| {
            let until = if timer.judges_silence() { heard } else { now };
            self.deadlines[*timer as usize].is_some_and(|at| at <= until)
        };
        let timer = ClientTimer::ALL.into_iter().filter(is_due).min_by_key(|timer| self.deadlines[*timer as usize])?;
        self.set(timer, None);
        Some(timer)
    }

    /// A pause that doubles with each attempt, with up to half of it taken
    /// off at random so that many clients do not come back at once.
    pub(super) fn pause(&self, longest: Duration, random: u64) -> Duration {
        const FIRST: Duration = Duration::from_millis(100);
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = doubled.min(longest);
        let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX);
        pause - Duration::from_micros(random % (half + 1))
    }

    /// When heartbeat work is due next.
    pub(super) fn heartbeat_at(&self, interval: Duration) -> Timestamp {
        (self.last_sent + interval).min(self.last_received + interval * 2)
    }
}
