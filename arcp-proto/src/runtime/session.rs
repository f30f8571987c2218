//! A session: a principal's place in the runtime. It outlives connections.
//!
//! ```text
//! attached ──connection lost or closed──▶ detached ──resume──▶ attached
//!                                            └──window over──▶ ended
//! ```
//!
//! What a session is owed stands in its index: one entry per numbered frame,
//! pointing into a job's events. Sending moves the cursor.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::Runtime;
use super::admission::Admission;
use super::index::{Index, tag};
use super::io::{CloseReason, Notice, NumberedRun, Record};
use super::job::Jobs;
use super::log::Waiter;
use super::read::{Found, Reading};
use super::seen::{Seen, SeenOfPrincipals};
use super::subscribe::Subscriptions;
use super::timers::Timer;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, LogPos, Principal, SessionId, WireId};
use crate::principal::Account;
use crate::secret::SecretDigest;
use crate::time::{Timestamp, UtcMs};
use crate::wire::View;

/// The store is told of so many released numbers at once.
const RELEASE_STEP: u64 = 256;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) principal: Principal,
    pub(super) view: View,
    pub(super) token: SecretDigest,
    pub(super) conn: Option<ConnId>,
    /// Since when nobody would miss it.
    pub(super) idle_since: Option<Timestamp>,
    /// Whether its client has left it in order.
    pub(super) closed: bool,
    /// Why its client can do no more in it than resume another one.
    pub(super) only_resumes: Option<Violation>,
    pub(super) index: Index,
    /// Numbers given to what was there before, and where they stand in the
    /// log: from each on, frames wait for it.
    gates: VecDeque<(u64, LogPos)>,
    /// The last number sent on the present connection.
    pub(super) cursor: u64,
    /// The last number ever sent.
    pub(super) sent: u64,
    /// Jobs whose new events it gets.
    pub(super) watched: BTreeSet<JobId>,
    /// Jobs it may cancel, over or not.
    pub(super) owned: BTreeSet<JobId>,
    /// Jobs of which a stream was opened to it and not closed.
    pub(super) streams: BTreeSet<JobId>,
    /// Jobs that know requests of it, or where it came and left.
    pub(super) asked: BTreeSet<JobId>,
    /// Namespaces of extensions negotiated with its client.
    pub(super) extensions: Vec<String>,
    /// Bytes of each message of an extension that its host has not taken.
    untaken: VecDeque<usize>,
    /// All of those.
    untaken_bytes: usize,
    /// When its lease ends.
    pub(super) expires_at: Option<UtcMs>,
    /// Why it is being taken from its client.
    pub(super) evicted: Option<(ErrorCode, String)>,
    /// Whether its client was asked to refresh it.
    pub(super) refreshing: bool,
    /// Its commands, where message ids are its own.
    pub(super) seen: Seen<WireId>,
    /// Whether a command was given in it.
    pub(super) commanded: bool,
    held: bool,
    /// Events read back from the store for it.
    pub(super) reading: Reading,
    /// What it is shown of its principal's sessions.
    pub(super) subscriptions: Subscriptions,
    /// The last number its client has acknowledged.
    pub(super) acked: u64,
    /// The last number that its client has for sure: it said so, or the
    /// connection on which it was sent long ago is still there.
    pub(super) received: u64,
    /// The last number sent when the wait for that began.
    pub(super) in_flight: u64,
    /// Up to here it has to catch up, which is nobody's fault.
    past: u64,
    /// Up to here it had numbers of its own time before that began.
    past_from: u64,
    /// Bytes of events numbered since then and not sent, roughly.
    unsent_bytes: usize,
    /// Whether its client was told that it acknowledges too little.
    pub(super) told_unacked: bool,
    /// Whether its client was told that it reads too slowly.
    pub(super) told_behind: bool,
    /// Numbers up to here are released in the log.
    released: u64,
}

impl Session {
    pub(super) fn new(principal: Principal, view: View, token: SecretDigest) -> Session {
        Session {
            principal,
            view,
            token,
            conn: None,
            idle_since: None,
            closed: false,
            only_resumes: None,
            index: Index::default(),
            gates: VecDeque::new(),
            cursor: 0,
            sent: 0,
            watched: BTreeSet::new(),
            owned: BTreeSet::new(),
            streams: BTreeSet::new(),
            asked: BTreeSet::new(),
            extensions: Vec::new(),
            untaken: VecDeque::new(),
            untaken_bytes: 0,
            expires_at: None,
            evicted: None,
            refreshing: false,
            seen: Seen::default(),
            commanded: false,
            held: false,
            reading: Reading::default(),
            subscriptions: Subscriptions::default(),
            acked: 0,
            received: 0,
            in_flight: 0,
            past: 0,
            past_from: 0,
            unsent_bytes: 0,
            told_unacked: false,
            told_behind: false,
            released: 0,
        }
    }

    /// The host is given a message of an extension of so many bytes.
    pub(super) fn give_extension(&mut self, bytes: usize) {
        self.untaken.push_back(bytes);
        self.untaken_bytes += bytes;
    }

    /// The host has taken the oldest of them.
    pub(super) fn take_extension(&mut self) {
        self.untaken_bytes -= self.untaken.pop_front().unwrap_or(0);
    }

    /// Bytes of those that it has not taken.
    pub(super) fn untaken_bytes(&self) -> usize {
        self.untaken_bytes
    }

    /// Whether it survives the process: it is neither being taken from its client
    /// nor there to resume another one only.
    pub(super) fn is_recorded(&self) -> bool {
        self.evicted.is_none() && self.only_resumes.is_none()
    }

    /// Whether nothing has happened in it yet.
    pub(super) fn is_unused(&self) -> bool {
        self.index.head() == 0 && self.watched.is_empty() && !self.commanded
    }

    /// Whether a client that resumed it would get nothing: everything it was
    /// sent is acknowledged, or its client left after it, and no more comes.
    pub(super) fn has_nothing_left(&self) -> bool {
        let has_all = self.index.floor() == self.index.head() || self.closed && self.sent == self.index.head();
        has_all && self.watched.is_empty() && self.subscriptions.numbers().next().is_none()
    }

    /// Takes over that its first numbers were released in an earlier run.
    pub(super) fn restore_released(&mut self, upto: u64) -> Vec<JobId> {
        self.released = upto;
        self.index.restore_floor(upto)
    }

    /// Lets go of streams of jobs that it left before an earlier run ended.
    pub(super) fn forget_streams(&mut self) {
        self.streams.retain(|job| self.watched.contains(job));
    }

    /// Numbered frames its reader is behind.
    pub(super) fn lag(&self) -> u64 {
        self.index.head() - self.cursor
    }

    /// Those of them that came since it began to catch up.
    pub(super) fn behind(&self) -> u64 {
        self.index.head() - self.cursor.max(self.past)
    }

    /// Such frames that its client has not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.index.head() - self.acked.max(self.past)
    }

    /// Bytes of events numbered since it began to catch up and not sent.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// An event of so many bytes was numbered.
    pub(super) fn owe_bytes(&mut self, bytes: usize) {
        self.unsent_bytes += bytes;
    }

    /// The last number that is sent, or was given before it began to catch up.
    pub(super) fn sent_or_past(&self) -> u64 {
        self.cursor.max(self.past)
    }

    /// Whatever is owed now is of the past.
    fn begin_anew(&mut self) {
        (self.past_from, self.past) = (self.cursor, self.index.head());
        self.unsent_bytes = 0;
    }

    /// What was numbered from `first` on is of the past, and what was before it
    /// is still owed.
    pub(super) fn begin_to_catch_up(&mut self, first: u64) {
        if self.cursor >= self.past {
            self.past_from = first.saturating_sub(1);
        }
        self.past = self.index.head();
    }

    /// The bytes of what was numbered since it began to catch up and is not sent,
    /// as far as it is held.
    fn weigh_unsent(&self, jobs: &Jobs) -> usize {
        let counted = (self.cursor + 1..=self.index.head()).filter(|seq| self.is_counted(*seq));
        let places = counted.filter_map(|seq| self.index.at(seq, jobs));
        places.map(|place| jobs.get(place.job).map_or(0, |job| job.bytes_behind(place))).sum()
    }

    /// Whether a number is not of the past.
    fn is_counted(&self, seq: u64) -> bool {
        seq > self.past || seq <= self.past_from
    }

    /// The next number is sent; what stands behind it has so many bytes.
    fn pass(&mut self, seq: u64, bytes: usize) {
        self.cursor = seq;
        self.sent = self.sent.max(seq);
        let counted = if self.is_counted(seq) { bytes } else { 0 };
        // Nothing is left of what could not be weighed exactly.
        self.unsent_bytes = if self.lag() == 0 { 0 } else { self.unsent_bytes.saturating_sub(counted) };
    }
}

/// All sessions, and the traces of those that ended.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_token: BTreeMap<SecretDigest, SessionId>,
    /// By what their message ids have in common.
    by_tag: BTreeSet<(u64, SessionId)>,
    pub(super) per_principal: BTreeMap<Principal, usize>,
    pub(super) seen: SeenOfPrincipals,
    pub(super) admission: Admission,
    /// Runs of all indexes.
    pub(super) runs: usize,
    /// Sessions with subscriptions.
    subscribers: BTreeMap<Account, BTreeSet<SessionId>>,
    ended: BTreeMap<SecretDigest, Principal>,
    ended_order: VecDeque<SecretDigest>,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    /// All of them, by id.
    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    /// Bytes of events that those which are attached are behind.
    pub(super) fn unsent_bytes(&self) -> usize {
        let attached = self.by_id.values().filter(|session| session.conn.is_some());
        attached.map(Session::unsent_bytes).sum()
    }

    /// Sessions whose messages bear this tag: mostly one.
    pub(super) fn tagged(&self, tag: u64) -> impl Iterator<Item = SessionId> {
        let least = SessionId::from_ulid(ulid::Ulid::nil());
        self.by_tag.range((tag, least)..).take_while(move |(found, _)| *found == tag).map(|(_, id)| *id)
    }

    pub(super) fn add_subscriber(&mut self, principal: &Principal, id: SessionId) {
        self.subscribers.entry(principal.account()).or_default().insert(id);
    }

    pub(super) fn remove_subscriber(&mut self, principal: &Principal, id: SessionId) {
        let account = principal.account();
        if let Some(sessions) = self.subscribers.get_mut(&account) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.subscribers.remove(&account);
            }
        }
    }

    /// Sessions of a principal that have subscriptions.
    pub(super) fn subscribers(&self, principal: &Principal) -> impl Iterator<Item = SessionId> {
        self.subscribers_of(principal).filter(move |(_, session)| session.principal == *principal).map(|(id, _)| id)
    }

    /// How many subscriptions there are of a principal and of whoever shares
    /// its bounds.
    pub(super) fn subscriptions_of(&self, principal: &Principal) -> usize {
        self.subscribers_of(principal).map(|(_, session)| session.subscriptions.count()).sum()
    }

    fn subscribers_of(&self, principal: &Principal) -> impl Iterator<Item = (SessionId, &Session)> {
        let sessions = self.subscribers.get(&principal.account()).into_iter().flatten();
        sessions.filter_map(|id| Some((*id, self.by_id.get(id)?)))
    }

    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.admission.enter(&session.principal);
        *self.per_principal.entry(session.principal.clone()).or_default() += 1;
        self.by_token.insert(session.token, id);
        self.by_tag.insert((tag(id.ulid()), id));
        self.by_id.insert(id, session);
    }

    pub(super) fn find(&self, token: &SecretDigest) -> Option<SessionId> {
        self.by_token.get(token).copied()
    }

    /// Whose session this token belonged to, if it ended not long ago.
    pub(super) fn ended(&self, token: &SecretDigest) -> Option<&Principal> {
        self.ended.get(token)
    }

    pub(super) fn rotate(&mut self, id: SessionId, token: SecretDigest) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.by_token.remove(&session.token);
            session.token = token;
            self.by_token.insert(token, id);
        }
    }

    /// Gives a session its connection, or takes it; gives the one before.
    pub(super) fn connect(&mut self, id: SessionId, conn: Option<ConnId>) -> Option<ConnId> {
        let session = self.by_id.get_mut(&id)?;
        let before = core::mem::replace(&mut session.conn, conn);
        if before.is_some() != conn.is_some() {
            self.admission.attached(&session.principal, conn.is_some());
        }
        if let Some(since) = session.idle_since.take() {
            self.admission.not_idle(&session.principal, (since, id));
        }
        before
    }

    fn remove(&mut self, id: SessionId, remember: usize) -> Option<Session> {
        self.connect(id, None);
        let session = self.by_id.remove(&id)?;
        self.by_token.remove(&session.token);
        self.by_tag.remove(&(tag(id.ulid()), id));
        self.admission.leave(&session.principal);
        if let Some(count) = self.per_principal.get_mut(&session.principal) {
            *count -= 1;
            if *count == 0 {
                self.per_principal.remove(&session.principal);
            }
        }
        self.ended.insert(session.token, session.principal.clone());
        self.ended_order.push_back(session.token);
        while self.ended_order.len() > remember {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
        Some(session)
    }
}

impl Runtime {
    /// Frames were numbered for a session: they stand in the log, and are sent.
    pub(super) fn numbered(&mut self, id: SessionId, runs_before: usize, runs: Vec<NumberedRun>) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (own, conn) = (session.index.runs(), session.conn);
        self.sessions.runs += own - runs_before;
        self.bound_index(id, own);
        for run in runs {
            self.ctx.append(Record::Numbered { session: id, run });
        }
        if let Some(conn) = conn {
            self.ctx.ready(conn);
        }
    }

    /// Holds the frames of a session from `first` on until their numbers are
    /// durable: what they show is already.
    pub(super) fn gate_numbers(&mut self, id: SessionId, first: u64) {
        let pos = self.ctx.log.last();
        if let Some(session) = self.sessions.get_mut(id).filter(|session| session.index.head() >= first) {
            debug_assert!(session.gates.back().is_none_or(|(before, _)| *before < first), "gates are in order");
            session.gates.push_back((first, pos));
        }
    }

    /// Takes back the numbers that were not sent yet of a job's events, for
    /// whoever watches it or for one subscription.
    pub(super) fn withdraw_numbers(&mut self, id: SessionId, job: JobId, subscription: u32) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (sent, conn) = (session.sent, session.conn);
        let of = |run: &NumberedRun| (run.job, run.subscription) == (job, subscription) && !run.part.is_local();
        let withdrawn = session.index.withdraw(sent, of);
        (session.past, session.past_from) = (withdrawn.moved(session.past), withdrawn.moved(session.past_from));
        session.unsent_bytes = session.weigh_unsent(&self.jobs);
        // Those after them have other numbers now. A number that is recorded again
        // stands for what it was given to last.
        for run in session.index.from(sent + 1) {
            self.ctx.append(Record::Numbered { session: id, run });
        }
        session.gates.retain(|(first, _)| *first <= sent);
        if session.index.head() > sent {
            session.gates.push_back((sent + 1, self.ctx.log.last()));
        }
        if let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
            conn.answers.renumber(&withdrawn);
        }
        self.unreference(id, &withdrawn.gone);
        self.wake_paced_by(id);
    }

    /// Where the number of a frame stands in the log, if that is not durable.
    pub(super) fn number_gate(&mut self, id: SessionId, seq: u64) -> Option<LogPos> {
        let session = self.sessions.get_mut(id)?;
        while let Some((first, pos)) = session.gates.front().copied().filter(|(first, _)| *first <= seq) {
            if !self.ctx.log.is_durable(pos) {
                return Some(pos);
            }
            debug_assert!(first <= seq);
            session.gates.pop_front();
        }
        None
    }

    /// Who reads too late to fit in is told so when it reads on or resumes.
    fn bound_index(&mut self, id: SessionId, mut own: usize) {
        let limits = &self.ctx.config.limits;
        let (most_own, most) = (limits.index_runs_per_session, limits.index_runs);
        while own > 1 && (own > most_own || self.sessions.runs > most) {
            let oldest = self.sessions.get_mut(id).and_then(|session| session.index.release_oldest());
            self.unreference(id, oldest.as_slice());
            own -= 1;
        }
        self.note_released(id);
    }

    /// Tells the store now and then which numbers a session needs no more.
    pub(super) fn note_released(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let upto = session.index.floor();
        if upto >= session.released + RELEASE_STEP {
            session.released = upto;
            self.ctx.append(Record::Released { session: id, upto });
        }
    }

    /// Sends the next numbered frame, if there is one up to `up_to` that may
    /// be seen.
    pub(super) fn send_next_event(&mut self, conn: ConnId, up_to: u64) -> bool {
        let Some(id) = self.conns.get(&conn).and_then(super::conn::Conn::session) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(id).filter(|session| !session.held) else {
            return false;
        };
        let seq = session.cursor + 1;
        if seq > session.index.head() || seq > up_to {
            return false;
        }
        let place = session.index.at(seq, &self.jobs);
        let found = place.map(|place| (place, self.find_event(id, place)));
        let (place, pos) = match found {
            Some((place, Found::Held(pos))) => (place, pos),
            Some((place, Found::InStore)) => {
                self.read_back(id, place);
                return false;
            }
            // A gap is never skipped in silence.
            Some((_, Found::Gone)) | None => {
                self.leave(conn, CloseReason::HistoryLost);
                return false;
            }
        };
        let gate = self.number_gate(id, seq).unwrap_or(pos);
        if !self.ctx.log.is_durable(gate) {
            self.ctx.log.wait(gate, Waiter::Conn(conn));
            return false;
        }
        let bytes = self.jobs.get(place.job).map_or(0, |job| job.bytes_behind(place));
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        session.pass(seq, bytes);
        if let Some(frame) = self.frame_of(id, id, seq, place) {
            self.send_frame(conn, frame);
        }
        self.wake_paced_by(id);
        true
    }

    /// Some readers drop what arrives in the instant after a watch began.
    pub(super) fn hold_after_watching(&mut self, conn: ConnId) {
        let Some(id) = self.conns.get(&conn).and_then(super::conn::Conn::session) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let hold = session.view.profile.hold_after_watching_ms();
        if hold > 0 {
            session.held = true;
            let at = self.ctx.now.mono + core::time::Duration::from_millis(hold);
            self.ctx.timers.set(Timer::Hold(conn), at);
        }
    }

    pub(super) fn on_hold_over(&mut self, conn: ConnId) {
        let id = self.conns.get(&conn).and_then(super::conn::Conn::session);
        if let Some(session) = id.and_then(|id| self.sessions.get_mut(id)) {
            session.held = false;
            self.ctx.ready(conn);
        }
    }

    pub(super) fn on_ack(&mut self, id: SessionId, seq: u64) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.view.features.has(crate::model::feature::Feature::Ack) {
            let upto = seq.min(session.sent);
            session.acked = session.acked.max(upto);
            session.received = session.received.max(upto);
            session.told_unacked &= session.unacknowledged() > self.ctx.config.limits.ack_lag / 2;
            let released = session.index.release(upto);
            self.unreference(id, &released);
            self.note_released(id);
        }
    }

    /// The connection is gone: from its last sign of life on, the session
    /// waits to be resumed.
    pub(super) fn detach(&mut self, id: SessionId, alive: Timestamp) {
        self.stop_reading(id);
        self.ctx.timers.clear(Timer::Arrived(id));
        self.sessions.connect(id, None);
        if self.sessions.get(id).is_some_and(|session| session.only_resumes.is_some()) {
            return self.end_session(id);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.held = false;
            let soonest = self.ctx.soonest();
            let at = (alive + self.ctx.config.resume_window).max(soonest);
            self.ctx.timers.set(Timer::ResumeWindow(id), at);
            self.ctx.observe(Notice::SessionDetached { session: id });
            self.wake_paced_by(id);
            self.note_idle(id);
        }
    }

    /// Attaches a session to a connection; frames after `last_seq` are owed.
    pub(super) fn attach(&mut self, id: SessionId, conn: ConnId, last_seq: u64) {
        self.sessions.connect(id, Some(conn));
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.closed = false;
        session.cursor = last_seq;
        session.received = last_seq;
        session.begin_anew();
        session.held = false;
        let view = session.view;
        self.ctx.timers.clear(Timer::ResumeWindow(id));
        self.release_expired(id);
        self.attached(conn, id, view);
    }

    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.is_recorded() {
            self.ctx.append(Record::SessionEnded { session: id });
        }
        self.forget_session(id);
    }

    /// A session is over, and the store knows.
    pub(super) fn forget_session(&mut self, id: SessionId) {
        if self.remove_session(id) {
            self.ctx.observe(Notice::SessionEnded { session: id });
        }
    }

    /// Takes a session away, and itself from whatever it watched and owned;
    /// false if there is none.
    pub(super) fn remove_session(&mut self, id: SessionId) -> bool {
        self.ctx.timers.clear(Timer::ResumeWindow(id));
        self.ctx.timers.clear(Timer::SessionLease(id));
        self.ctx.timers.clear(Timer::Arrived(id));
        self.stop_reading(id);
        let Some(mut session) = self.sessions.remove(id, self.ctx.config.limits.ended_sessions) else {
            return false;
        };
        if session.subscriptions.numbers().next().is_some() {
            self.sessions.remove_subscriber(&session.principal, id);
            self.forget_observer(&session.principal, |(observer, _)| observer == id);
        }
        for job in &session.asked {
            if let Some(job) = self.jobs.get_mut(*job) {
                job.requests.forget(id);
                job.joins.remove(&id);
            }
        }
        for job in &session.watched {
            if let Some(job) = self.jobs.get_mut(*job) {
                job.watchers.retain(|watcher| *watcher != id);
            }
        }
        for job in &session.owned {
            if let Some(job) = self.jobs.get_mut(*job) {
                job.owners.remove(&id);
            }
        }
        self.wake_paced_by(id);
        let released = session.index.release(u64::MAX);
        self.unreference(id, &released);
        self.sessions.forget_seen_of(&session.principal, self.jobs.has_any(&session.principal));
        true
    }
}
