//! A frame whose bytes come beside it (RFC §11.3) waits for them here, and is heard once they
//! are there. Who sends another frame instead, or takes too long, is refused.

use core::time::Duration;

use super::check::Held;
use super::{Connections, Sessions};
use crate::error::Violation;
use crate::id::ConnId;
use crate::model::reply::Subject;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::context::Context;
use crate::runtime::io::CloseReason;
use crate::runtime::timers::Timer;
use crate::wire::sidecar::{self, Announcement, Came, Sidecars};

/// What a connection awaits.
#[derive(Debug)]
pub(super) struct Beside {
    /// Whether its frames are lines, which no binary messages can follow.
    lines: bool,
    sidecars: Sidecars,
    /// What of that is held.
    charge: Option<Charge>,
}

impl Beside {
    pub(super) fn new(lines: bool) -> Beside {
        Beside { lines, sidecars: Sidecars::default(), charge: None }
    }

    /// Whether binary messages can follow frames.
    pub(super) fn is_possible(&self) -> bool {
        !self.lines
    }

    /// Bytes that are held, counted once more.
    pub(super) fn recount(&self) -> usize {
        self.sidecars.held()
    }

    /// A frame of a connection is to be heard once its sidecar has come.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        (id, account, most): (ConnId, &Balance, usize),
        frame: &[u8],
        announced: Announcement,
    ) -> Result<(), Violation> {
        let limits = &ctx.config.limits.frame;
        self.sidecars.begin(frame, announced, limits.sidecar_bytes.min(most))?;
        self.weigh(account);
        ctx.timers.set(Timer::Sidecar(id), ctx.now.mono + Duration::from_secs(limits.sidecar_seconds));
        Ok(())
    }

    fn weigh(&mut self, account: &Balance) {
        let held = self.sidecars.held();
        self.charge = (held > 0).then(|| account.charge(HeldFor::Frames, held));
    }
}

/// Takes a binary message; `None`: it is a frame like any other.
pub(in crate::runtime) fn on_binary(
    connections: &mut Connections,
    ctx: &mut Context,
    sessions: &Sessions,
    id: ConnId,
    message: &[u8],
) -> Option<Came> {
    connections.get(id).filter(|conn| conn.view.takes_sidecars() && sidecar::is_part(message))?;
    let Some(conn) = connections.heard(ctx, sessions, id) else {
        return Some(Came::Nothing);
    };
    if conn.check.is_waiting() {
        connections.hold(ctx, id, Held::Binary(message.to_vec()));
        return Some(Came::Nothing);
    }
    if conn.is_flooding(ctx) {
        connections.leave(ctx, id, CloseReason::Flood);
        return Some(Came::Nothing);
    }
    let came = conn.beside.sidecars.take(message);
    conn.beside.weigh(conn.answers.account());
    if conn.beside.sidecars.held() == 0 {
        ctx.timers.clear(Timer::Sidecar(id));
    }
    Some(came)
}

/// Another frame came than what was awaited, or nothing did in time: gives what that was about.
pub(in crate::runtime) fn give_up_sidecar(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
) -> Option<Subject> {
    let conn = connections.get_mut(id)?;
    let frame = conn.beside.sidecars.give_up()?;
    conn.beside.weigh(conn.answers.account());
    ctx.timers.clear(Timer::Sidecar(id));
    Some(Subject::from_refused(&frame))
}
