//! Signs of life of a connection, both ways: a direction that is silent is
//! pinged, and a peer that stays silent is lost.

use core::time::Duration;

use super::Connections;
use super::conn::Conn;
use crate::error::{ErrorCode, Violation};
use crate::id::ConnId;
use crate::model::reply::{Refusal, RefusedKind};
use crate::runtime::context::Context;
use crate::runtime::io::CloseReason;
use crate::runtime::timers::Timer;
use crate::time::Timestamp;
use crate::wire::View;

#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) last_received: Timestamp,
    pub(super) last_sent: Timestamp,
    last_ping: Timestamp,
    ping_due: bool,
    /// Whether its peer pings by itself, and silence will mean something.
    pings: bool,
}

impl Heartbeat {
    pub(super) fn new(now: Timestamp) -> Heartbeat {
        Heartbeat { last_received: now, last_sent: now, last_ping: now, ping_due: false, pings: false }
    }

    pub(super) fn ping_is_due(&self) -> bool {
        self.ping_due
    }

    /// Takes a ping that is due; false if none is.
    pub(super) fn take_ping(&mut self) -> bool {
        core::mem::take(&mut self.ping_due)
    }

    /// Since when one direction has been silent and no ping was made of it.
    fn quiet_since(&self) -> Timestamp {
        self.last_received.min(self.last_sent).max(self.last_ping)
    }

    /// When the next work is due; `pinged`: whether pings are sent to its peer,
    /// not only expected of it.
    fn next_at(&self, interval: Duration, pinged: bool) -> Timestamp {
        let lost = self.last_received + interval * 2;
        if pinged { lost.min(self.quiet_since() + interval) } else { lost }
    }
}

/// How often a peer is expected to be heard, if it agreed to that.
pub(in crate::runtime) fn heartbeat_interval(ctx: &Context, view: View) -> Option<Duration> {
    ctx.config.timing.heartbeat.filter(|_| view.is_expected_to_be_heard())
}

impl Connections {
    /// Pings a peer that is silent, or gives it up.
    pub(in crate::runtime) fn on_heartbeat(&mut self, ctx: &mut Context, id: ConnId) {
        let now = ctx.now.mono;
        let (Some(conn), Some(interval)) = (self.by_id.get_mut(&id), ctx.config.timing.heartbeat) else {
            return;
        };
        let beat = &mut conn.heartbeat;
        // Who is not read, or waits to be let in, need not be heard.
        if conn.channel.is_paused() || !conn.welcomed {
            beat.last_received = now;
        }
        if now >= beat.last_received + interval * 2 {
            let silence = now.since(beat.last_received).as_secs();
            let message = alloc::format!("nothing was received for {silence} s");
            let lost = Refusal::of(RefusedKind::Session, Violation::new(ErrorCode::HeartbeatLost, message), None);
            return self.dismiss(ctx, id, lost, CloseReason::HeartbeatLost);
        }
        let pinged = conn.view.is_expected_to_be_heard();
        if pinged && now >= beat.quiet_since() + interval {
            beat.ping_due = true;
            beat.last_ping = now;
        }
        ctx.timers.set(Timer::Heartbeat(id), beat.next_at(interval, pinged));
        ctx.ready(id);
    }
}

impl Conn {
    /// A peer that pings by itself will be missed when it stops.
    pub(in crate::runtime) fn expect_pings(&mut self, ctx: &mut Context) {
        if !self.view.is_alive_by_pings() || core::mem::replace(&mut self.heartbeat.pings, true) {
            return;
        }
        let timer = Timer::Heartbeat(self.id());
        if let Some(interval) = ctx.config.timing.heartbeat.filter(|_| !ctx.timers.is_set(timer)) {
            ctx.timers.set(timer, ctx.now.mono + interval);
        }
    }
}
