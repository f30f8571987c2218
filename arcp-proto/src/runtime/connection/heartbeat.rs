//! Heartbeats of a connection, both ways: if one direction is silent the peer is pinged, and a peer
//! that stays silent is lost.

use core::time::Duration;

use super::Connections;
use crate::error::{ErrorCode, Violation};
use crate::id::ConnId;
use crate::model::reply::{Refusal, RefusedKind};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::CloseReason;
use crate::runtime::timers::Timer;
use crate::time::Timestamp;
use crate::wire::View;

#[derive(Debug)]
pub(super) struct Heartbeat {
    last_received: Timestamp,
    pub(super) last_sent: Timestamp,
    last_ping: Timestamp,
    /// The first ping since its peer was heard.
    unanswered: Option<Timestamp>,
    ping_due: bool,
    /// Whether its peer pings by itself, so that its silence means something.
    pings: bool,
}

impl Heartbeat {
    pub(super) fn new(now: Timestamp) -> Heartbeat {
        Heartbeat {
            last_received: now,
            last_sent: now,
            last_ping: now,
            unanswered: None,
            ping_due: false,
            pings: false,
        }
    }

    /// Its peer was heard, or could not have been.
    pub(super) fn heard(&mut self, now: Timestamp) {
        (self.last_received, self.unanswered) = (now, None);
    }

    /// When its peer was last heard.
    pub(super) fn last_received(&self) -> Timestamp {
        self.last_received
    }

    pub(super) fn ping_is_due(&self) -> bool {
        self.ping_due
    }

    /// Takes a ping that is due; false if none is.
    pub(super) fn take_ping(&mut self) -> bool {
        core::mem::take(&mut self.ping_due)
    }

    /// Notes that its peer pings by itself; returns whether that is new.
    pub(super) fn expect_pings(&mut self) -> bool {
        !core::mem::replace(&mut self.pings, true)
    }

    /// Since when one direction was silent without a ping.
    fn quiet_since(&self) -> Timestamp {
        self.last_received.min(self.last_sent).max(self.last_ping)
    }

    /// When its peer counts as lost. `pinged`: the runtime pings it. Then it is lost only an
    /// interval after the first ping, even if that ping could not be sent in time.
    fn lost_at(&self, interval: Duration, pinged: bool) -> Option<Timestamp> {
        let silent = self.last_received + interval * 2;
        if pinged { self.unanswered.map(|asked| silent.max(asked + interval)) } else { Some(silent) }
    }

    /// When the next ping or the loss is due.
    fn next_at(&self, interval: Duration, pinged: bool) -> Timestamp {
        let ping = pinged.then(|| self.quiet_since() + interval);
        let next = self.lost_at(interval, pinged).into_iter().chain(ping).min();
        next.unwrap_or(self.last_received + interval * 2)
    }
}

/// How often a peer is expected to be heard, if it agreed to heartbeats.
pub(in crate::runtime) fn heartbeat_interval(ctx: &Context, view: View) -> Option<Duration> {
    ctx.config.timing.heartbeat.filter(|_| view.is_expected_to_be_heard())
}

impl Connections {
    /// Pings a peer that is silent, or closes it as lost.
    pub(in crate::runtime) fn on_heartbeat(&mut self, ctx: &mut Context, id: ConnId) {
        let now = ctx.now.mono;
        let (Some(conn), Some(interval)) = (
            self.by_id.get_mut(&id).expected("its timers go with a connection"),
            ctx.config.timing.heartbeat.expected("its timers go with a connection"),
        ) else {
            return;
        };
        let heartbeat = &mut conn.heartbeat;
        // A peer that is not read, or was not admitted yet, cannot be heard.
        if conn.channel.is_paused() || !conn.welcomed {
            heartbeat.heard(now);
        }
        let pinged = conn.view.is_expected_to_be_heard();
        if heartbeat.lost_at(interval, pinged).is_some_and(|lost| lost <= ctx.heard) {
            let silence = ctx.heard.since(heartbeat.last_received).as_secs();
            let message = alloc::format!("nothing was received for {silence} s");
            let lost = Refusal::new(RefusedKind::Session, Violation::new(ErrorCode::HeartbeatLost, message), None);
            return self.dismiss(ctx, id, lost, CloseReason::HeartbeatLost);
        }
        if pinged && now >= heartbeat.quiet_since() + interval {
            heartbeat.ping_due = true;
            heartbeat.last_ping = now;
            heartbeat.unanswered.get_or_insert(now);
        }
        ctx.timers.set(Timer::Heartbeat(id), heartbeat.next_at(interval, pinged));
        ctx.ready(id);
    }
}
