//! Frames that wait for their binary messages (RFC §11.3), and are handled once these have arrived.
//! If another frame comes instead, or nothing in time, the waiting frame is refused.

use alloc::boxed::Box;
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

/// The frame of a connection that waits, if any. Few connections ever have one.
#[derive(Debug, Default)]
pub(super) struct Beside(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    sidecars: Sidecars,
    /// The charge for it.
    charge: Option<Charge>,
}

impl Waiting {
    fn weigh(&mut self, account: &Balance) {
        let held = self.sidecars.held();
        self.charge = (held > 0).then(|| account.charge(HeldFor::Frames, held));
    }
}

impl Beside {
    /// Bytes that are held, counted again.
    pub(super) fn recount(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.sidecars.held())
    }

    /// Makes a frame wait for its sidecar.
    ///
    /// # Errors
    ///
    /// Why it cannot wait.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        (id, account, most): (ConnId, &Balance, usize),
        frame: &[u8],
        announced: Announcement,
    ) -> Result<(), Violation> {
        let limits = &ctx.config.limits.frame;
        let waiting = self.0.get_or_insert_default();
        waiting.sidecars.begin(frame, announced, limits.sidecar_bytes.min(most))?;
        waiting.weigh(account);
        ctx.timers.set(Timer::Sidecar(id), ctx.now.mono + Duration::from_secs(limits.sidecar_seconds));
        Ok(())
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
    let waiting = conn.beside.0.get_or_insert_default();
    let came = waiting.sidecars.take(message);
    waiting.weigh(conn.answers.account());
    if waiting.sidecars.held() == 0 {
        ctx.timers.clear(Timer::Sidecar(id));
    }
    Some(came)
}

/// Gives up a waiting frame, as another frame came or nothing in time. Returns its subject.
pub(in crate::runtime) fn give_up_sidecar(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
) -> Option<Subject> {
    let conn = connections.get_mut(id)?;
    let waiting = conn.beside.0.as_mut()?;
    let frame = waiting.sidecars.give_up()?;
    waiting.weigh(conn.answers.account());
    ctx.timers.clear(Timer::Sidecar(id));
    Some(Subject::from_refused(&frame))
}
