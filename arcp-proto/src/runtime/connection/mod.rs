//! Connections: each has credit, a heartbeat and answers. Peers whose principal is unknown are
//! arrivals; sessions attach to the others. Numbered frames never wait here.

mod answers;
mod authentication;
mod check;
mod conn;
mod heartbeat;
mod prompts;
mod sidecars;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString as _;
use alloc::vec::Vec;

pub(super) use answers::{Answer, Content, Next};
pub(super) use authentication::{Judged, judged_for, may_judge, on_judged_elsewhere, on_not_judged};
pub(super) use check::{
    Blob, Checked, Held, await_blob, await_credentials, await_plan, await_room, on_blob, on_credentials, on_plan,
    on_room,
};
pub(super) use conn::{Conn, untold_claim};
pub(super) use heartbeat::heartbeat_interval;
pub(super) use sidecars::{give_up_sidecar, on_binary};

use super::account::{Balance, HeldFor, Recount};
use super::asker::Asker;
use super::context::Context;
use super::edge::{Arrivals, Arrived, NewConnection, Opening, late, too_long};
use super::effect::{Effect, Position};
use super::io::{CloseReason, HandOver, Notice, Output};
use super::recent::Recent;
use super::session::Sessions;
use super::timers::Timer;
use crate::error::Violation;
use crate::id::{ConnId, OpId, Principal, SessionId};
use crate::model::reply::{Refusal, RefusedKind, Reply, SessionReply, Subject};
use crate::model::request::{HandshakeRequest, Request, SessionRequest};
use crate::runtime::expected::Expected as _;
use crate::time::Timestamp;
use crate::wire::envelope::Header;
use crate::wire::sidecar::announced;
use crate::wire::{self, ReceivedRequest, View};
use prompts::PromptWaiters;

/// Records that are not durable may grow to this many times their bound while drivers still hand
/// over frames that they had read before they were told to pause.
const LOG_FLOOD_FACTOR: usize = 4;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Those whose peer is unknown.
    arrivals: Arrivals,
    /// Those whose peer is known.
    by_id: Recent<ConnId, Conn>,
    /// How many of `by_id` cannot use a session yet.
    opening: usize,
    /// The connections that wait to be told of questions to people.
    pub(super) prompts: PromptWaiters,
    /// Checks that the host has not answered.
    checking: BTreeMap<OpId, check::Running>,
}

/// What a frame turned out to be.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is given")]
pub(super) enum Heard<'a> {
    /// Handled here.
    Nothing,
    /// Not understood, or not permitted.
    Refused(Subject, Violation),
    /// A peer whose principal is known asks for a session.
    Opening(Opening),
    /// A request in a session.
    Request(SessionId, ReceivedRequest, Header<'a>),
}

/// Whether a peer is still to get an answer to what it has sent; `cursor` is the last number that
/// it was sent.
pub(super) fn owes(connections: &Connections, id: ConnId, cursor: u64) -> bool {
    connections.arrivals.owes(id) || connections.by_id.get(&id).is_some_and(|conn| conn.owes(cursor))
}

/// Connections whose peers wait to be told of new sessions.
pub(super) fn untold(connections: &Connections) -> Vec<(ConnId, SessionId)> {
    // A new session that was resumed since is not new.
    let is_new =
        |conn: &Conn, session: SessionId| conn.answers.opened().is_some_and(|opened| opened.session == session.into());
    let untold = connections
        .by_id
        .iter()
        .filter_map(|(id, conn)| Some((*id, conn.session.filter(|session| is_new(conn, *session))?)));
    untold.collect()
}

/// Refuses a peer its new session instead of telling it, and closes its connection.
pub(super) fn refuse_untold(connections: &mut Connections, ctx: &mut Context, id: ConnId, why: Violation) {
    let Some(conn) = connections.by_id.get_mut(&id) else {
        return; // The connection is closed.
    };
    let request = conn.answers.opened().and_then(|opened| opened.request.clone());
    conn.session = None;
    connections.dismiss(ctx, id, Refusal::new(RefusedKind::Session, why, request), CloseReason::StoreFailed);
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.arrivals.len() + self.by_id.len()
    }

    /// All ids, in ascending order.
    fn ids(&self) -> BTreeSet<ConnId> {
        self.arrivals.ids().chain(self.by_id.keys().copied()).collect()
    }

    /// The session that is attached to a connection.
    pub(super) fn session(&self, id: ConnId) -> Option<SessionId> {
        self.by_id.get(&id)?.session()
    }

    /// The session of a connection whose transport vouches for its peer.
    pub(super) fn opened_by_transport(&self, id: ConnId) -> Option<SessionId> {
        self.by_id.get(&id).filter(|conn| conn.evidence.peer().is_some())?.session()
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.by_id.get_mut(&id)
    }

    /// Opens a connection.
    pub(super) fn on_opened(&mut self, ctx: &mut Context, opened: NewConnection) {
        if self.by_id.contains_key(&opened.conn) {
            return ctx.observe(Notice::ConnIdInUse { conn: opened.conn });
        }
        self.arrivals.on_opened(ctx, opened, self.opening);
    }

    /// Takes a connection from an edge. Returns the request of its peer, if the peer is admitted at
    /// once.
    pub(super) fn on_handed_over(&mut self, ctx: &mut Context, handed: HandOver) -> Option<(ConnId, Judged)> {
        let id = handed.conn;
        if self.by_id.contains_key(&id) {
            ctx.observe(Notice::ConnIdInUse { conn: id });
            return None;
        }
        let arrived = self.arrivals.on_handed_over(ctx, handed, self.opening);
        Some((id, Judged::Opening(self.let_in(ctx, arrived)?)))
    }

    /// Admits a peer that is known; returns its request.
    fn let_in(&mut self, ctx: &Context, arrived: Option<Arrived>) -> Option<Opening> {
        let Arrived { opening, view, channel, evidence } = arrived?;
        self.opening += 1;
        let account = ctx.accounts.runtime().below();
        self.by_id.insert(channel.id(), Conn::new(view, channel, evidence, (ctx.now.mono, account)));
        Some(opening)
    }

    /// Adds write credit to a connection.
    pub(super) fn on_credit(&mut self, ctx: &mut Context, id: ConnId, bytes: u32, frames: u32) {
        match self.by_id.get_mut(&id) {
            Some(conn) => conn.channel.on_credit(ctx, bytes, frames),
            None => self.arrivals.on_credit(ctx, id, bytes, frames),
        }
    }

    /// Handles a frame, with its binary message if that has come.
    pub(super) fn on_received<'a>(
        &mut self,
        ctx: &mut Context,
        sessions: &Sessions,
        id: ConnId,
        bytes: &'a [u8],
        sidecar: Option<&'a [u8]>,
    ) -> Heard<'a> {
        if self.arrivals.has(id) {
            if is_log_flooded(ctx) {
                self.leave(ctx, id, CloseReason::Flood);
                return Heard::Nothing;
            }
            let arrived = self.arrivals.on_received(ctx, id, bytes);
            return self.let_in(ctx, arrived).map_or(Heard::Nothing, Heard::Opening);
        }
        let Some(conn) = self.heard(ctx, sessions, id) else {
            return Heard::Nothing;
        };
        if conn.check.is_waiting() {
            self.hold(ctx, id, Held::Frame(bytes.to_vec(), sidecar.map(<[u8]>::to_vec)));
            return Heard::Nothing;
        }
        if conn.is_flooding(ctx) {
            self.leave(ctx, id, CloseReason::Flood);
            return Heard::Nothing;
        }
        let Some(session) = conn.session() else {
            return Heard::Nothing;
        };
        let header = match Header::receive(bytes, conn.most_bytes(ctx), ctx.config.limits.frame.json_depth) {
            Ok(header) => Header { sidecar, ..header },
            Err(unreadable) => return Heard::Refused(unreadable.subject, unreadable.violation),
        };
        let announced = if sidecar.is_none() && conn.view.takes_sidecars() { announced(&header) } else { None };
        if let Some(announced) = announced {
            // Before its session is open a peer may announce only a little.
            let most = if conn.opening { conn.most_bytes(ctx) } else { usize::MAX };
            return match conn.beside.begin(ctx, (id, conn.answers.account(), most), bytes, announced) {
                Ok(()) => Heard::Nothing,
                Err(why) => Heard::Refused(Subject::from_header(&header), why),
            };
        }
        hear_in_session(conn.view, session, header)
    }

    /// A connection that has sent something, unless nothing is taken from it: because it is to
    /// close, or its session is being taken from its client.
    fn heard(&mut self, ctx: &Context, sessions: &Sessions, id: ConnId) -> Option<&mut Conn> {
        let conn = self.by_id.get_mut(&id).filter(|conn| conn.channel.leaving().is_none())?;
        conn.heartbeat.heard(ctx.now.mono);
        let session = conn.session.and_then(|session| sessions.get(session));
        session.is_none_or(|session| !session.is_evicted()).then_some(conn)
    }

    /// Refuses a frame that is too long. After a line the session goes on; the end of a long
    /// WebSocket message is not searched for.
    pub(super) fn on_too_long(&mut self, ctx: &mut Context, sessions: &Sessions, id: ConnId, at: Position) {
        self.arrivals.on_too_long(ctx, id);
        let Some(conn) = self.heard(ctx, sessions, id) else {
            return; // No frames of this connection are handled any more.
        };
        if conn.check.is_waiting() {
            return self.hold(ctx, id, Held::TooLong);
        }
        let goes_on = conn.session.is_some() && conn.view.lines;
        let kind = if goes_on { RefusedKind::Frame } else { RefusedKind::Session };
        let most = conn.most_bytes(ctx);
        self.refuse_freely(ctx, id, Refusal::new(kind, too_long(most), None), at);
        if !goes_on {
            self.leave_after(ctx, id, CloseReason::TooLong);
        }
    }

    /// Removes a connection that was closed or lost.
    pub(super) fn on_closed(&mut self, ctx: &mut Context, id: ConnId) {
        self.forget(ctx, id, ctx.now.mono);
    }

    pub(super) fn on_handshake_timeout(&mut self, ctx: &mut Context, id: ConnId) {
        self.arrivals.on_handshake_timeout(ctx, id);
        if self.by_id.contains_key(&id) {
            self.dismiss(ctx, id, late(), CloseReason::HandshakeTimeout);
        }
    }

    /// Rechecks whether the connections of an account may be read.
    pub(super) fn on_account_bounded(&self, ctx: &mut Context, account: &Balance) {
        for (id, _) in self.by_id.iter().filter(|(_, conn)| conn.account().principal().is(account)) {
            ctx.ready(*id);
        }
    }

    /// Counts again the answers, and the frames that wait until an input is checked.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for (id, conn) in self.by_id.iter() {
            recount.know(&alloc::format!("connection {}", id.0), conn.account());
            recount.add(conn.account(), HeldFor::Answers, conn.answers.recount());
            recount.add(conn.account(), HeldFor::Frames, conn.check.recount() + conn.beside.recount());
        }
    }

    /// Rechecks whether any connection may be read.
    pub(super) fn on_log_bounded(&self, ctx: &mut Context) {
        for id in self.ids() {
            ctx.ready(id);
        }
    }

    /// Attaches a session with this account, and starts its heartbeat. `admits`: whether its peer
    /// can use the session at once.
    pub(super) fn attach(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        (session, principal, account): (SessionId, &Principal, &Balance),
        view: View,
        admits: bool,
    ) {
        let Some(conn) = self.by_id.get_mut(&id).expected("who attaches is there") else {
            return;
        };
        if conn.opening && admits {
            conn.opening = false;
            self.opening -= 1;
            ctx.output(Output::RaiseFrameLimit { conn: id });
            ctx.timers.clear(Timer::Handshake(id));
        }
        if let Some(bytes) = view.profile.fragment_bytes().filter(|_| !view.lines) {
            ctx.output(Output::Fragment { conn: id, bytes });
        }
        conn.session = Some(session);
        conn.principal = Some(principal.clone());
        // Whether binary messages can follow frames depends on the connection, not on the session.
        let own = View { beside: conn.view.beside, ..view };
        conn.view = if own.beside { own } else { own.without_sidecars() };
        conn.answers.belong_to(account.principal().below());
        conn.answers.follow(0);
        (conn.welcomed, conn.held) = (false, false);
        // Any agreement of an earlier session on this connection has ended.
        match heartbeat_interval(ctx, view) {
            Some(interval) => ctx.timers.set(Timer::Heartbeat(id), ctx.now.mono + interval),
            None => ctx.timers.clear(Timer::Heartbeat(id)),
        }
        ctx.ready(id);
    }

    /// After sending: closes a connection that is done, and sets whether it is stalled and may be
    /// read. `at` is the position of its session.
    pub(super) fn settle(&mut self, ctx: &mut Context, id: ConnId, at: Position, host_is_full: bool) {
        let Some(conn) = self.by_id.get_mut(&id) else {
            return self.arrivals.pump(ctx, id);
        };
        let leaving = conn.channel.leaving();
        if let Some(reason) = leaving.filter(|_| conn.is_done()) {
            return self.leave(ctx, id, reason);
        }
        let may_be_read = conn.may_be_read(ctx, host_is_full);
        if conn.channel.read(ctx, may_be_read) {
            // The silence of a peer that was not read proves nothing.
            conn.heartbeat.heard(ctx.now.mono);
        }
        let waits = !conn.is_done() || conn.heartbeat.ping_is_due() || at.cursor < at.head;
        conn.channel.bound_stall(ctx, waits);
    }

    /// Closes a connection once its requests so far are answered. Nothing more is taken from it.
    pub(super) fn leave_after(&mut self, ctx: &mut Context, id: ConnId, reason: CloseReason) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.channel.leave(ctx, reason);
        }
    }

    /// Closes a connection.
    pub(super) fn leave(&mut self, ctx: &mut Context, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.by_id.get(&id) else {
            return self.arrivals.leave(ctx, id, reason);
        };
        let alive = match reason {
            // A lost peer was alive when it was last heard.
            CloseReason::HeartbeatLost => conn.heartbeat.last_received(),
            CloseReason::Goodbye
            | CloseReason::Refused
            | CloseReason::HandshakeTimeout
            | CloseReason::Evicted
            | CloseReason::TakenOver
            | CloseReason::SlowReader
            | CloseReason::Flood
            | CloseReason::TooMany
            | CloseReason::HistoryLost
            | CloseReason::StoreFailed
            | CloseReason::TooLong
            | CloseReason::Shutdown => ctx.now.mono,
        };
        self.forget(ctx, id, alive);
        ctx.output(Output::Close { conn: id, reason });
    }

    /// Removes a connection; its session becomes resumable.
    fn forget(&mut self, ctx: &mut Context, id: ConnId, alive: Timestamp) {
        self.arrivals.forget(ctx, id);
        self.prompts.forget(id);
        let Some(conn) = self.by_id.remove(&id) else {
            return; // The connection is an arrival, or closed.
        };
        let of_conn =
            [Timer::Handshake, Timer::Heartbeat, Timer::Stalled, Timer::Hold, Timer::InputCheck, Timer::Sidecar];
        for timer in of_conn {
            ctx.timers.clear(timer(id));
        }
        self.opening -= usize::from(conn.opening);
        ctx.effect(Effect::Unheard(Asker::Conn(id)));
        if let Some(session) = conn.session {
            let claimed = untold_claim(&conn).map(Box::new);
            ctx.effect(Effect::Detached { session, alive, claimed });
        }
    }

    /// Closes every connection in order.
    pub(super) fn close_all(&mut self, ctx: &mut Context, why: &'static str) {
        for id in self.ids() {
            if let Some(conn) = self.get_mut(id).filter(|conn| conn.session().is_some()) {
                let closed = SessionReply::Closed { reason: Some(why.to_string()), request: None };
                conn.send_reply(ctx, &Reply::Session(closed));
            }
            self.leave(ctx, id, CloseReason::Shutdown);
        }
    }
}

/// Whether too much is not durable for any peer to send more.
fn is_log_flooded(ctx: &Context) -> bool {
    ctx.log.bytes() > ctx.config.limits.history.undurable_bytes.saturating_mul(LOG_FLOOD_FACTOR)
}

/// Reads a frame of a peer that has a session.
fn hear_in_session(view: View, session: SessionId, header: Header<'_>) -> Heard<'_> {
    let received = match wire::read_request(view.family, &header) {
        Ok(received) => received,
        Err(violation) => return Heard::Refused(Subject::from_header(&header), violation),
    };
    if let Some(feature) = received.needs.filter(|feature| !view.features.has(*feature)) {
        let kind = header.kind.as_ref();
        let why = alloc::format!("`{kind}` needs the feature `{feature}`, which was not negotiated");
        return Heard::Refused(Subject::from_header(&header), Violation::invalid(why));
    }
    let foreign = received.session.as_ref().is_some_and(|named| named.as_str() != session.text().as_str());
    let of_another = matches!(
        received.request,
        Request::Handshake(HandshakeRequest::Resume(_)) | Request::Session(SessionRequest::Replay(_))
    );
    if foreign && !of_another {
        let violation = Violation::invalid("`session_id` names another session than this connection's");
        return Heard::Refused(Subject::from_header(&header), violation);
    }
    Heard::Request(session, received, header)
}
