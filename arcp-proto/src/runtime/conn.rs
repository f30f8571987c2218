//! A connection: a transport's end, with its credit and its heartbeat. Sessions attach to it; numbered frames never wait here.
//!
//! ```text
//! Fresh ──handshake──▶ Authenticating ──verdict──▶ Attached
//!   │ │                    ▲      │ not yet
//!   │ └──no proof──▶ Challenged ◀─┘
//!   └──────────── anything refused ────────────▶ (closed)
//! ```

use alloc::string::{String, ToString as _};
use core::net::IpAddr;
use core::time::Duration;

use super::Runtime;
use super::answers::Answers;
use super::delivery::Replay;
use super::io::{CloseReason, Notice, Output, Transport};
use super::session::Session;
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, OpId, Principal, SessionId, WireId};
use crate::model::reply::{Concern, Refusal, Reply, Subject};
use crate::model::request::{Extension, Open, Request};
use crate::principal::Network;
use crate::time::Timestamp;
use crate::wire::envelope::Header;
use crate::wire::{self, Family, Inbound, View, frame};

/// What is not durable may grow to this many times its bound while drivers
/// still hand over what they had read before they were told to pause.
const LOG_FLOOD_FACTOR: usize = 4;

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: Option<Principal>,
    /// Where its peer comes from.
    pub(super) network: Option<Network>,
    pub(super) phase: Phase,
    /// Whether it has no session yet that it can do anything in.
    opening: bool,
    pub(super) view: View,
    credit_bytes: i64,
    credit_frames: u32,
    pub(super) answers: Answers,
    /// Whether its peer has been told of the session.
    pub(super) welcomed: bool,
    /// Why it ends once everything it is owed was said.
    leaving: Option<CloseReason>,
    pub(super) last_received: Timestamp,
    last_sent: Timestamp,
    last_ping: Timestamp,
    ping_due: bool,
    /// Whether its peer pings by itself, and silence will mean something.
    pings: bool,
    /// A proof that is being judged for the session that is attached.
    pub(super) proving: Option<(OpId, WireId)>,
    /// The scheme of the credential it opened with, if that is not a bearer
    /// token.
    pub(super) scheme: Option<String>,
    /// The nonce it was challenged with.
    pub(super) nonce: Option<String>,
    /// Proofs that were not accepted.
    pub(super) failures: u8,
    /// Frames it is sent once more.
    pub(super) replay: Option<Replay>,
    /// Whether it was said that frames before the session are passed over.
    passed_over: bool,
    paused: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing was understood yet.
    Fresh,
    /// A proof was asked for.
    Challenged { open: Open, nonce: String },
    /// A credential is being judged, or the answer to a challenge.
    Authenticating { op: OpId, id: WireId, open: Open, nonce: Option<String> },
    /// A session is attached.
    Attached(SessionId),
}

impl Conn {
    fn new(transport: Transport, network: Option<Network>, peer: Option<Principal>, now: Timestamp) -> Conn {
        Conn {
            peer,
            network,
            phase: Phase::Fresh,
            opening: true,
            view: View::before_handshake(transport == Transport::Lines),
            credit_bytes: 0,
            credit_frames: 0,
            answers: Answers::default(),
            welcomed: false,
            leaving: None,
            last_received: now,
            last_sent: now,
            last_ping: now,
            ping_due: false,
            pings: false,
            proving: None,
            scheme: None,
            nonce: None,
            failures: 0,
            replay: None,
            passed_over: false,
            paused: false,
        }
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Attached(session) => Some(session),
            Phase::Fresh | Phase::Challenged { .. } | Phase::Authenticating { .. } => None,
        }
    }

    pub(super) fn has_credit(&self) -> bool {
        self.credit_bytes > 0 && self.credit_frames > 0
    }

    /// Whether something may be written to it. Its last word is, credit or
    /// not.
    fn may_write(&self) -> bool {
        self.has_credit() || self.leaving.is_some() && self.replay.is_none() && self.answers.is_last_word()
    }

    /// Since when one direction has been silent and no ping was made of it.
    fn quiet_since(&self) -> Timestamp {
        self.last_received.min(self.last_sent).max(self.last_ping)
    }

    /// Whether pings are sent to its peer, not only expected of it.
    fn is_pinged(&self) -> bool {
        self.view.is_expected_to_be_heard()
    }

    /// When the next heartbeat work is due.
    fn heartbeat_at(&self, interval: Duration) -> Timestamp {
        let lost = self.last_received + interval * 2;
        if self.is_pinged() { lost.min(self.quiet_since() + interval) } else { lost }
    }
}

/// What a client may ask in a session that is there to resume another one.
fn may_come_before_resuming(request: &Request) -> bool {
    match request {
        Request::Resume(_)
        | Request::Close { .. }
        | Request::Ping { .. }
        | Request::Pong { .. }
        | Request::Echo { .. }
        | Request::Authenticate(_)
        | Request::Ack { .. }
        | Request::Ignored => true,
        Request::Open(_)
        | Request::List(_)
        | Request::Submit(..)
        | Request::Cancel(_)
        | Request::Watch(_)
        | Request::Unwatch { .. }
        | Request::Subscribe(_)
        | Request::Unsubscribe { .. }
        | Request::Replay(_)
        | Request::Pace { .. }
        | Request::Extension(_) => false,
    }
}

impl Runtime {
    pub(super) fn on_opened(
        &mut self,
        conn: ConnId,
        transport: Transport,
        address: Option<IpAddr>,
        peer: Option<Principal>,
    ) {
        if self.conns.contains_key(&conn) {
            return;
        }
        if self.handshaking >= self.ctx.config.limits.handshaking_connections {
            self.ctx.output(Output::Close { conn, reason: CloseReason::TooMany });
            return;
        }
        self.handshaking += 1;
        self.conns.insert(conn, Conn::new(transport, address.map(Network::of), peer, self.ctx.now.mono));
        self.ctx.timers.set(Timer::Handshake(conn), self.ctx.now.mono + self.ctx.config.handshake_timeout);
        self.ctx.ready(conn);
    }

    pub(super) fn on_received(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.heard(id) else {
            return;
        };
        let opening = conn.opening;
        if self.ctx.log.bytes() > self.ctx.config.limits.undurable_bytes.saturating_mul(LOG_FLOOD_FACTOR) {
            return self.leave(id, CloseReason::Flood);
        }
        let limits = &self.ctx.config.limits;
        let frame_bytes = if opening { limits.handshake_frame_bytes } else { limits.frame_bytes };
        let text = match frame::ingest(bytes, frame_bytes, limits.json_depth) {
            Ok(text) => text,
            Err(violation) => return self.refuse_message(id, Subject::of_refused(bytes), violation),
        };
        match Header::read(text) {
            Ok(header) => self.on_header(id, &header),
            Err(unreadable) => self.refuse_message(id, unreadable.subject, unreadable.violation),
        }
    }

    /// A connection that has said something, if anything is taken from it: it does
    /// not leave, and its session is not being taken from it.
    fn heard(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(&id).filter(|conn| conn.leaving.is_none())?;
        conn.last_received = self.ctx.now.mono;
        let session = conn.session().and_then(|session| self.sessions.get(session));
        session.is_none_or(|session| session.evicted.is_none()).then_some(conn)
    }

    /// A line ends, and the session goes on; where a WebSocket message ends
    /// is not looked for.
    pub(super) fn on_too_long(&mut self, id: ConnId) {
        let Some(conn) = self.heard(id) else {
            return;
        };
        let (goes_on, opening) = (conn.session().is_some() && conn.view.lines, conn.opening);
        let limits = &self.ctx.config.limits;
        let most = if opening { limits.handshake_frame_bytes } else { limits.frame_bytes };
        let concern = if goes_on { Concern::Frame } else { Concern::Session };
        let too_long = Violation::invalid(alloc::format!("a frame was too long: at most {most} bytes are accepted"));
        self.refuse_freely(id, Refusal::of(concern, too_long, None));
        if !goes_on {
            self.leave_after(id, CloseReason::TooLong);
        }
    }

    fn on_header(&mut self, id: ConnId, header: &Header<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match conn.phase {
            Phase::Fresh => {}
            Phase::Challenged { .. } | Phase::Authenticating { .. } => return self.on_early(id, header),
            Phase::Attached(session) => return self.on_attached(id, session, header),
        }
        let Some(family) = Family::of_first(header) else {
            conn.view.family = Family::of_stray(header);
            let kind: String = header.kind.chars().take(64).collect();
            let early = Violation::invalid(alloc::format!("`{kind}` before a session: open one first"));
            return self.refuse_frame(id, early, Some(header.id.clone()));
        };
        conn.view.family = family;
        match wire::read_request(family, header) {
            Ok(inbound) => self.on_handshake(id, inbound),
            Err(violation) => self.refuse_frame(id, violation, Some(header.id.clone())),
        }
    }

    /// A frame while a credential is awaited or judged.
    fn on_early(&mut self, id: ConnId, header: &Header<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if !conn.view.passes_early_frames() {
            let early = Violation::invalid("wait for the session to be accepted before sending more");
            return self.refuse_frame(id, early, Some(header.id.clone()));
        }
        if let Phase::Challenged { .. } = conn.phase {
            match wire::read_request(conn.view.family, header) {
                Ok(Inbound { id: request, request: Request::Authenticate(proof), .. }) => {
                    return self.on_proof(id, request, proof);
                }
                Err(violation) if Subject::of(header).concern == Concern::Proof => {
                    return self.not_proven(id, header.id.clone(), violation);
                }
                Ok(_) | Err(_) => {}
            }
        }
        // Nothing of it is kept, and it is said once.
        if !core::mem::replace(&mut conn.passed_over, true) {
            let code = wire::error_name(&ErrorCode::FailedPrecondition).to_string();
            self.ctx.observe(Notice::Refused { conn: id, code, told: false });
        }
    }

    fn on_attached(&mut self, id: ConnId, session: SessionId, header: &Header<'_>) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let inbound = match wire::read_request(conn.view.family, header) {
            Ok(inbound) => inbound,
            Err(violation) => return self.refuse_message(id, Subject::of(header), violation),
        };
        let foreign = inbound.session.as_ref().is_some_and(|named| named.as_str() != session.to_string());
        if foreign && !matches!(inbound.request, Request::Resume(_) | Request::Replay(_)) {
            let violation = Violation::invalid("`session_id` names another session than this connection's");
            return self.refuse_message(id, Subject::of(header), violation);
        }
        self.on_request(id, session, inbound, header);
    }

    fn on_request(&mut self, conn: ConnId, session: SessionId, inbound: Inbound, header: &Header<'_>) {
        let Inbound { id, request, session: named, .. } = inbound;
        let only_resumes = self.sessions.get(session).and_then(|session| session.only_resumes.clone());
        if let Some(why) = only_resumes.filter(|_| !may_come_before_resuming(&request)) {
            self.refuse(conn, Refusal::of(Concern::Session, why, Some(id)));
            return self.leave_after(conn, CloseReason::Refused);
        }
        match request {
            Request::Open(_) => {
                let violation = Violation::invalid("the session is open already: a connection opens one");
                self.refuse_frame(conn, violation, Some(id));
            }
            Request::Resume(claim) => self.on_resume_here(conn, session, id, &claim),
            Request::Close { reason, answered } => {
                if answered {
                    self.answer_freely(conn, Reply::Closed { reason, request: Some(id) });
                }
                if let Some(session) = self.sessions.get_mut(session) {
                    session.closed = true;
                }
                self.leave_after(conn, CloseReason::Goodbye);
            }
            Request::Ping { nonce } => {
                let at = self.ctx.now.utc;
                self.say_aside(conn, Reply::Pong { nonce, at, request: Some(id) });
                self.expect_pings(conn);
            }
            Request::Echo { nonce } => self.say_aside(conn, Reply::Echo { nonce, request: Some(id) }),
            Request::Authenticate(proof) => self.on_proof_again(conn, session, id, proof),
            Request::Extension(message) => self.on_extension(conn, session, id, message),
            Request::Pong { .. } | Request::Ignored => {}
            Request::Ack { seq } => self.delivery.acknowledge(&mut self.ctx, session, seq),
            Request::List(query) => self.on_list(conn, session, id, &query),
            Request::Replay(asked) => self.on_replay(conn, session, named.as_ref(), id, &asked),
            Request::Pace { stream, every } => self.on_pace(conn, session, id, &stream, every),
            Request::Submit(..)
            | Request::Cancel(_)
            | Request::Watch(_)
            | Request::Unwatch { .. }
            | Request::Subscribe(_)
            | Request::Unsubscribe { .. } => self.on_command(conn, session, id, request, header),
        }
    }

    /// A message of an extension goes to the host, if both sides speak it.
    fn on_extension(&mut self, conn: ConnId, session: SessionId, id: WireId, message: Extension) {
        let speaks = |session: &&mut Session| message.is_of(&session.extensions);
        if let Some(spoken) = self.sessions.get_mut(session).filter(speaks) {
            // Names cost something too, and no message is for nothing.
            spoken.give_extension(message.payload.as_str().len() + message.kind.len() + 1);
            self.ctx.output(Output::Extension { session, message });
            self.ctx.ready(conn);
        } else if !message.optional {
            let kind: String = message.kind.chars().take(64).collect();
            let why = alloc::format!("`{kind}` belongs to an extension that was not negotiated");
            self.refuse_frame(conn, Violation::new(ErrorCode::Unimplemented, why), Some(id));
        }
    }

    /// Whether a connection's session has said more than its host takes.
    pub(super) fn awaits_host(&self, conn: &Conn) -> bool {
        let session = conn.session().and_then(|session| self.sessions.get(session));
        session.is_some_and(|session| session.untaken_bytes() >= self.ctx.config.limits.extension_bytes)
    }

    /// The host has taken a message: perhaps its sender is read again.
    pub(super) fn on_extension_taken(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.take_extension();
        if let Some(conn) = self.delivery.conn(id) {
            self.ctx.ready(conn);
        }
    }

    pub(super) fn on_credit(&mut self, id: ConnId, bytes: u32, frames: u32) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.credit_bytes = conn.credit_bytes.saturating_add(i64::from(bytes));
        conn.credit_frames = conn.credit_frames.saturating_add(frames);
        // However little it was: the peer reads.
        self.ctx.timers.clear(Timer::Stalled(id));
        self.ctx.ready(id);
    }

    pub(super) fn on_closed(&mut self, id: ConnId) {
        self.forget_conn(id, self.ctx.now.mono);
    }

    /// Sends everything that may be sent now.
    pub(super) fn pump(&mut self, id: ConnId) {
        while let Some(conn) = self.conns.get(&id).filter(|conn| conn.may_write()) {
            // Nobody is asked for signs of life before it was let in.
            if conn.welcomed && conn.has_credit() && self.pump_aside(id) {
                continue;
            }
            if !self.pump_replay(id) && !self.pump_ordered(id) {
                break;
            }
        }
        self.carry();
        self.settle_conn(id);
    }

    /// Sends what passes the answers by; false if there is nothing.
    fn pump_aside(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else {
            return false;
        };
        if let Some(reply) = conn.answers.pop_aside() {
            self.send_reply(id, &reply);
            return true;
        }
        let due = core::mem::take(&mut conn.ping_due);
        if due {
            let nonce = alloc::format!("{:016x}", self.ctx.entropy.public_u64());
            let at = self.ctx.now.utc;
            self.send_reply(id, &Reply::Ping { nonce, at });
        }
        due
    }

    /// After sending: is all said, is it stalled, may it be read?
    fn settle_conn(&mut self, id: ConnId) {
        let stalled = self.has_pending(id);
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        if let Some(reason) = conn.leaving.filter(|_| conn.answers.len() == 0 && conn.replay.is_none()) {
            return self.leave(id, reason);
        }
        let (was_paused, may_read) = (conn.paused, self.may_read(conn, conn.paused));
        if was_paused && may_read {
            self.ctx.output(Output::ResumeRead { conn: id });
        } else if !was_paused && !may_read {
            self.ctx.output(Output::PauseRead { conn: id });
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.paused = !may_read;
        if was_paused {
            // The silence of a peer that was not read proves nothing.
            conn.last_received = self.ctx.now.mono;
        }
        let (can_write, session, leaving) = (conn.has_credit(), conn.session(), conn.leaving.is_some());
        if let Some(session) = session.filter(|_| !can_write) {
            self.delivery.bound_reading(&mut self.ctx, session);
        }
        if (leaving || !can_write && stalled) && !self.ctx.timers.is_set(Timer::Stalled(id)) {
            self.ctx.timers.set(Timer::Stalled(id), self.ctx.now.mono + self.ctx.config.slow_reader_grace);
        }
    }

    fn has_pending(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else {
            return false;
        };
        let feed = conn.session().and_then(|session| self.delivery.feed(session));
        conn.answers.len() > 0
            || conn.ping_due
            || conn.replay.is_some()
            || feed.is_some_and(|feed| feed.cursor() < feed.head())
    }

    pub(super) fn send_frame(&mut self, id: ConnId, frame: String) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.credit_bytes -= i64::try_from(frame.len()).unwrap_or(i64::MAX);
            conn.credit_frames = conn.credit_frames.saturating_sub(1);
            conn.last_sent = self.ctx.now.mono;
            self.ctx.output(Output::Send { conn: id, frame });
        }
    }

    /// Starts the heartbeat of a connection whose session has just attached.
    pub(super) fn attached(&mut self, id: ConnId, session: SessionId, view: View) {
        let only_resumes = self.sessions.get(session).is_some_and(|session| session.only_resumes.is_some());
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.opening && !only_resumes {
            conn.opening = false;
            self.handshaking = self.handshaking.saturating_sub(1);
            self.ctx.output(Output::Admit { conn: id });
            self.ctx.timers.clear(Timer::Handshake(id));
        }
        if let Some(bytes) = view.profile.fragment_bytes().filter(|_| !view.lines) {
            self.ctx.output(Output::Fragment { conn: id, bytes });
        }
        conn.phase = Phase::Attached(session);
        conn.welcomed = false;
        conn.answers.follow(0);
        conn.view = view;
        // What a session opened before on this connection agreed to is over.
        match self.heartbeat_of(view) {
            Some(interval) => self.ctx.timers.set(Timer::Heartbeat(id), self.ctx.now.mono + interval),
            None => self.ctx.timers.clear(Timer::Heartbeat(id)),
        }
        self.ctx.ready(id);
    }

    /// A peer that pings by itself will be missed when it stops.
    fn expect_pings(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.view.is_alive_by_pings() && !conn.pings) else {
            return;
        };
        conn.pings = true;
        let now = self.ctx.now.mono;
        if let Some(interval) = self.ctx.config.heartbeat.filter(|_| !self.ctx.timers.is_set(Timer::Heartbeat(id))) {
            self.ctx.timers.set(Timer::Heartbeat(id), now + interval);
        }
    }

    /// Whether a connection can be written to at once.
    pub(super) fn can_write(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.welcomed && conn.has_credit() && conn.answers.len() == 0)
    }

    pub(super) fn heartbeat_of(&self, view: View) -> Option<Duration> {
        self.ctx.config.heartbeat.filter(|_| view.is_expected_to_be_heard())
    }

    pub(super) fn on_heartbeat(&mut self, id: ConnId) {
        let now = self.ctx.now.mono;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Some(interval) = self.ctx.config.heartbeat else {
            return;
        };
        // Who is not read, or waits to be let in, need not be heard.
        if conn.paused || !conn.welcomed {
            conn.last_received = now;
        }
        if now >= conn.last_received + interval * 2 {
            let silence = now.since(conn.last_received).as_secs();
            let message = alloc::format!("nothing was received for {silence} s");
            let lost = Violation::new(ErrorCode::HeartbeatLost, message);
            let lost = Refusal::of(Concern::Session, lost, None);
            return self.dismiss(id, lost, CloseReason::HeartbeatLost);
        }
        if conn.is_pinged() && now >= conn.quiet_since() + interval {
            conn.ping_due = true;
            conn.last_ping = now;
        }
        let at = conn.heartbeat_at(interval);
        self.ctx.timers.set(Timer::Heartbeat(id), at);
        self.ctx.ready(id);
    }

    /// Ends a connection once its requests so far are answered. Nothing more
    /// is taken from it.
    pub(super) fn leave_after(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.leaving = Some(reason);
            self.ctx.ready(id);
        }
    }

    /// Ends a connection.
    pub(super) fn leave(&mut self, id: ConnId, reason: CloseReason) {
        // Who was lost was last alive when it was last heard.
        let alive = match reason {
            CloseReason::HeartbeatLost => self.conns.get(&id).map(|conn| conn.last_received),
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
            | CloseReason::Shutdown => None,
        };
        if self.forget_conn(id, alive.unwrap_or(self.ctx.now.mono)) {
            self.ctx.output(Output::Close { conn: id, reason });
        }
    }

    /// Drops the connection; its session becomes resumable.
    fn forget_conn(&mut self, id: ConnId, alive: Timestamp) -> bool {
        let Some(conn) = self.conns.remove(&id) else {
            return false;
        };
        for timer in [Timer::Handshake(id), Timer::Heartbeat(id), Timer::Stalled(id), Timer::Hold(id)] {
            self.ctx.timers.clear(timer);
        }
        self.handshaking = self.handshaking.saturating_sub(usize::from(conn.opening));
        if let Some(session) = conn.session() {
            self.detach(session, alive);
        }
        true
    }

    pub(super) fn close_all(&mut self, why: &'static str) {
        let conns: alloc::vec::Vec<ConnId> = self.conns.keys().copied().collect();
        for id in conns {
            if self.conns.get(&id).is_some_and(|conn| conn.session().is_some()) {
                self.send_reply(id, &Reply::Closed { reason: Some(why.to_string()), request: None });
            }
            self.leave(id, CloseReason::Shutdown);
        }
    }
}
