//! The next numbered frame of a session, in live delivery and resume alike.

use super::Delivery;
use super::history_pool::Found;
use crate::id::{ConnId, SessionId};
use crate::runtime::context::Context;
use crate::runtime::job::Jobs;
use crate::runtime::log::Waiter;
use crate::wire::sidecar::Written;

/// The next of a session's numbered frames.
#[derive(Debug)]
pub(in crate::runtime) enum Next {
    /// A frame; `None` stands for one that the session cannot be shown.
    Frame(Option<Written>),
    /// None at present; the connection is woken once there is one.
    Nothing,
    /// A deleted one. A gap is never skipped silently.
    Lost,
}

impl Delivery {
    /// Takes the next frame, if there is one up to `up_to` that may be seen.
    pub(in crate::runtime) fn next(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        id: SessionId,
        conn: ConnId,
        up_to: u64,
    ) -> Next {
        let Some(feed) = self.feeds.get(id) else {
            return Next::Nothing;
        };
        let seq = feed.cursor + 1;
        if seq > feed.index.head() || seq > up_to {
            return Next::Nothing;
        }
        let Some(entry) = feed.entry(seq, jobs) else {
            return Next::Lost;
        };
        let pos = match self.history.find(ctx, jobs, id, entry) {
            Found::Held(pos) => pos,
            Found::InStore(job, n) => {
                self.history.ask(ctx, jobs, (id, feed.account()), job, n);
                return Next::Nothing;
            }
            Found::Gone => return Next::Lost,
        };
        let Some(feed) = self.feeds.by_session.get_mut(&id) else {
            return Next::Nothing;
        };
        // It has the same bytes as when it was numbered, in memory or read back.
        let bytes = entry.weight(jobs).max(self.history.weight(id, entry).unwrap_or(0));
        let gate = feed.gate(seq, &ctx.log).unwrap_or(pos);
        if !ctx.log.is_durable(gate) {
            ctx.log.wait(gate, Waiter::Conn(conn));
            return Next::Nothing;
        }
        feed.pass(seq, bytes);
        let frame = self.frames(ctx, jobs).frame_of(id, id, seq, entry);
        self.pacing.wake(ctx, &self.feeds, id);
        Next::Frame(frame)
    }
}
