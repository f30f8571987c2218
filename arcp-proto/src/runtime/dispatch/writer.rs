//! Sends a connection its answers, replays and numbered frames, in order, as far as its credit
//! allows.

use crate::id::ConnId;
use crate::model::reply::Reply;
use crate::runtime::Runtime;
use crate::runtime::account::HeldFor;
use crate::runtime::connection::{self, Conn};
use crate::runtime::delivery::{self, Feed, ReplayStep};
use crate::runtime::io::CloseReason;

/// Sends what may be sent on one connection.
pub(super) struct Writer<'r> {
    runtime: &'r mut Runtime,
    conn: ConnId,
}

impl Writer<'_> {
    /// Sends everything that may be sent now.
    pub(super) fn pump(runtime: &mut Runtime, conn: ConnId) {
        let mut writer = Writer { runtime, conn };
        while writer.send_next() {}
        writer.settle();
    }

    /// Sends the next frame; false if nothing can be sent.
    fn send_next(&mut self) -> bool {
        let Runtime { ctx, connections, sessions, jobs, delivery, schedules, .. } = &mut *self.runtime;
        let Some(attached) = connections.get_mut(self.conn) else {
            return false;
        };
        let feed = attached.session().and_then(|session| delivery.feeds.get(session));
        let at = feed.map(Feed::position).unwrap_or_default();
        match attached.next(ctx, at.cursor) {
            connection::Next::Sent => true,
            connection::Next::Page(turn, listing) => {
                let page = Reply::Session(listing.page(ctx, sessions, (jobs, schedules)));
                attached.put_page(ctx, turn, page);
                true
            }
            // While the replay has to wait, numbered frames are sent one at a time.
            connection::Next::Replay(upto) => self.send_replayed() || self.send_numbered(upto.min(at.cursor + 1)),
            connection::Next::Numbered(upto) => at.cursor < at.head.min(upto) && self.send_numbered(upto),
            connection::Next::Nothing => false,
        }
    }

    /// Sends the numbered frames up to `up_to`; false if none may be sent.
    fn send_numbered(&mut self, up_to: u64) -> bool {
        let Runtime { ctx, connections, jobs, delivery, .. } = &mut *self.runtime;
        let attached = connections.get_mut(self.conn);
        let Some((session, attached)) = attached.and_then(|conn| Some((conn.session()?, conn))) else {
            return false;
        };
        let mut sent = false;
        while attached.takes_numbered() {
            match delivery.next(ctx, jobs, session, self.conn, up_to) {
                delivery::Next::Frame(frame) => {
                    sent = true;
                    frame.into_iter().for_each(|frame| attached.send_frame(ctx, frame));
                }
                delivery::Next::Nothing => break,
                delivery::Next::Lost => {
                    self.runtime.leave(self.conn, CloseReason::HistoryLost);
                    return false;
                }
            }
        }
        sent
    }

    /// Sends the next frame of a replay; false if none can be sent now.
    fn send_replayed(&mut self) -> bool {
        let Runtime { ctx, connections, jobs, delivery, .. } = &mut *self.runtime;
        let attached = connections.get_mut(self.conn);
        let replaying = attached.and_then(|conn| Some((conn.session()?, conn.take_replay()?, conn)));
        let Some((reader, mut replay, attached)) = replaying else {
            return false;
        };
        let step = delivery.next_replayed(ctx, jobs, self.conn, reader, &mut replay);
        if let ReplayStep::Done(reply) = step {
            attached.send_reply(ctx, &reply);
            return true;
        }
        attached.go_on_replaying(replay);
        match step {
            ReplayStep::Frame(Some(frame)) => attached.send_frame(ctx, frame),
            ReplayStep::Frame(None) => {}
            ReplayStep::Nothing | ReplayStep::Done(_) => return false,
        }
        true
    }

    /// After sending: sets whether the connection is read, or closes it.
    fn settle(&mut self) {
        let Runtime { ctx, connections, sessions, delivery, .. } = &mut *self.runtime;
        let attached = connections.get(self.conn);
        let has_credit = attached.is_some_and(Conn::has_credit);
        let session = attached.and_then(Conn::session);
        let at = session.and_then(|session| delivery.feeds.get(session)).map(Feed::position).unwrap_or_default();
        let most = ctx.config.limits.session.extension_bytes;
        let held = session.and_then(|session| sessions.get(session));
        let host_is_full = held.is_some_and(|session| session.account().bytes(HeldFor::Extensions) >= most);
        connections.settle(ctx, self.conn, at, host_is_full);
        if let Some(session) = session.filter(|_| !has_credit) {
            delivery.history.bound(ctx, session);
        }
        self.runtime.carry();
    }
}
