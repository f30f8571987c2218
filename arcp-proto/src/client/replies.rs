//! How a client handles the frames of a runtime.

use alloc::string::{String, ToString as _};
use core::time::Duration;

use super::commands::{Origin, Pending};
use super::follow::Early;
use super::io::{ClientEvent, ClientOutput, SessionEnd};
use super::reconnector::{ClientTimer, ReconnectState};
use super::{Client, Identity, handoff, sidecars};
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::model::event::JobEvent;
use crate::model::feature::Feature;
use crate::model::reply::{
    Accepted, Challenge, CommandReply, HandshakeReply, Opened, Refusal, RefusedKind, Reply, SessionReply, Watching,
};
use crate::model::request::{Command, HandshakeRequest, Invocation, Request, SessionRequest, Watch};
use crate::model::upload::ArtifactWish;
use crate::time::UtcMs;
use crate::wire::ServerProfile;
use crate::wire::envelope::{Header, Unreadable};
use crate::wire::sidecar::announced;
use crate::wire::{RuntimeFrame, read_runtime_frame};

/// Handles a frame, with its sidecar if it has one.
pub(super) fn hear(client: &mut Client, bytes: &[u8], sidecar: Option<&[u8]>) {
    // A runtime may nest deeper than this crate does; its frames are accepted.
    let json_depth = 2 * crate::json::Json::MAX_DEPTH;
    let header = match Header::receive(bytes, client.config.limits.frame_bytes, json_depth) {
        Ok(header) => Header { sidecar, ..header },
        Err(Unreadable { violation: why, .. }) => {
            return client.drop_transport(&alloc::format!("the runtime sent what cannot be read: {why}"));
        }
    };
    let announced = if sidecar.is_none() && sidecars::are_agreed(client) { announced(&header) } else { None };
    if let Some(announced) = announced {
        return sidecars::await_sidecar(client, bytes, announced);
    }
    match read_runtime_frame(client.config.family, &header, client.now.utc) {
        Ok(frame) => client.on_runtime_frame(frame, &header.id, header.seq),
        Err(violation) => pass_over(client, header.seq, &violation),
    }
}

/// Ignores an unreadable message, and counts its number.
pub(super) fn pass_over(client: &mut Client, seq: Option<u64>, why: &Violation) {
    if client.reconnector.state == ReconnectState::Open && client.in_order(seq) {
        client.tell(ClientEvent::Unreadable { why: why.to_string() });
    }
}

impl Client {
    pub(super) fn on_received(&mut self, bytes: &[u8]) {
        if !matches!(self.reconnector.state, ReconnectState::Opening | ReconnectState::Open) {
            return;
        }
        self.reconnector.last_received = self.now.mono;
        self.reconnector.answered = true;
        sidecars::on_missing(self);
        hear(self, bytes, None);
    }

    fn on_runtime_frame(&mut self, frame: RuntimeFrame, id: &WireId, seq: Option<u64>) {
        // Numbered frames belong to an open session, and each counts once.
        if seq.is_some() && (self.reconnector.state != ReconnectState::Open || !self.in_order(seq)) {
            return;
        }
        match frame {
            RuntimeFrame::Reply { reply, job, trace } => self.on_reply(reply, job, trace, id),
            RuntimeFrame::Event { job, seq, at, event } => return self.on_event(job, seq, at, event, id),
            RuntimeFrame::Echo { nonce } => self.send(&Request::Session(SessionRequest::Echoed { nonce })),
            RuntimeFrame::Goodbye { reason } => self.on_goodbye(reason),
            RuntimeFrame::Counted | RuntimeFrame::Heartbeat { .. } | RuntimeFrame::Unknown => {}
        }
        if seq.is_some() {
            self.processed();
        }
    }

    fn on_reply(&mut self, reply: Reply, job: Option<WireId>, trace: Option<String>, id: &WireId) {
        match reply {
            Reply::Refused(refusal) => self.on_refused(refusal, trace.as_deref(), id),
            Reply::Handshake(HandshakeReply::Opened(opened)) => self.on_accepted_session(*opened, id),
            Reply::Handshake(HandshakeReply::Challenge(challenge)) => self.on_challenge(challenge),
            Reply::Session(reply) => self.on_session_reply(reply, id),
            Reply::Command(CommandReply::Accepted(accepted)) => self.on_accepted(accepted, trace.as_deref(), id),
            Reply::Command(CommandReply::CancelTaken { target, request, .. }) => {
                let job = job.unwrap_or_else(|| target.id().clone());
                let of_job =
                    |r: &Request| matches!(r, Request::Command(Command::Cancel(cancel)) if *cancel.target.id() == job);
                let handle = self
                    .commands
                    .answered(self.commands.request_of(request.as_ref(), id), of_job)
                    .map(|(handle, _)| handle);
                self.tell(ClientEvent::CancelTaken { handle, job });
            }
            Reply::Command(CommandReply::Watching(watching)) => self.on_watching(watching, id),
            Reply::Command(CommandReply::Artifact { artifact, request }) => {
                let asked =
                    |r: &Request| matches!(r, Request::Command(Command::PutArtifact(_) | Command::KeepParts(_)));
                if let Some((handle, _)) = self.commands.answered(self.commands.request_of(request.as_ref(), id), asked)
                {
                    self.tell(ClientEvent::ArtifactKept { handle, artifact });
                }
            }
            Reply::Command(CommandReply::Scheduled(scheduled)) => {
                let asked = |r: &Request| matches!(r, Request::Command(Command::Schedule(_)));
                let named = self.commands.request_of(scheduled.request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::Scheduled { handle, scheduled });
                }
            }
            Reply::Command(CommandReply::Checkpoint { checkpoint, request }) => {
                let asked = |r: &Request| matches!(r, Request::Command(Command::CreateCheckpoint(_)));
                let named = self.commands.request_of(request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::Checkpoint { handle, checkpoint });
                }
            }
            Reply::Command(CommandReply::Token(issued)) => {
                let asked = |r: &Request| matches!(r, Request::Command(Command::IssueToken { .. }));
                let named = self.commands.request_of(issued.request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::Token { handle, issued });
                }
            }
            // This client has no subscriptions.
            Reply::Command(CommandReply::Subscribed { .. } | CommandReply::Unsubscribed { .. }) => {}
        }
    }

    fn on_session_reply(&mut self, reply: SessionReply, id: &WireId) {
        match reply {
            SessionReply::Refresh { .. } => {
                if let Some(proof) = self.config.proof(None) {
                    self.send(&Request::Handshake(HandshakeRequest::Authenticate(proof)));
                }
            }
            SessionReply::Evicted { code, reason } => self.on_evicted(&code, reason),
            SessionReply::Echo { nonce, request } => {
                if let Some((handle, _)) = self.commands.answered(self.commands.named(request.as_ref()), |r| {
                    matches!(r, Request::Session(SessionRequest::Echo { .. }))
                }) {
                    self.tell(ClientEvent::Echoed { handle, nonce });
                }
            }
            SessionReply::Done { request, .. } => {
                if let Some((handle, done)) = self.commands.take_done(request.as_ref()) {
                    let told = match done.request {
                        Request::Command(Command::Evict(_)) => ClientEvent::Evicted { handle },
                        Request::Command(Command::HandOver(_)) => ClientEvent::HandedOver { handle },
                        Request::Handshake(_) | Request::Session(_) | Request::Command(_) => {
                            ClientEvent::AnswerTaken { handle }
                        }
                    };
                    self.tell(told);
                }
            }
            SessionReply::Closed { reason, .. } => self.on_goodbye(reason),
            SessionReply::Ping { nonce, .. } => self.send(&Request::Session(SessionRequest::Pong { nonce })),
            SessionReply::Jobs(page) => {
                let asked = |r: &Request| matches!(r, Request::Session(SessionRequest::List(_)));
                if let Some((handle, _)) =
                    self.commands.answered(self.commands.request_of(page.request.as_ref(), id), asked)
                {
                    self.tell(ClientEvent::Jobs { handle, page });
                }
            }
            SessionReply::Sessions(page) => {
                let asked = |r: &Request| matches!(r, Request::Session(SessionRequest::ListSessions(_)));
                if let Some((handle, _)) =
                    self.commands.answered(self.commands.request_of(page.request.as_ref(), id), asked)
                {
                    self.tell(ClientEvent::Sessions { handle, page });
                }
            }
            SessionReply::Checkpoints(list) => {
                let asked = |r: &Request| matches!(r, Request::Session(SessionRequest::ListCheckpoints { .. }));
                let named = self.commands.request_of(list.request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::Checkpoints { handle, list });
                }
            }
            SessionReply::Schedules(page) => {
                let asked = |r: &Request| matches!(r, Request::Session(SessionRequest::ListSchedules(_)));
                let named = self.commands.request_of(page.request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::Schedules { handle, page });
                }
            }
            SessionReply::Artifact(fetched) => {
                let asked = |r: &Request| {
                    matches!(r, Request::Session(SessionRequest::AboutArtifacts(ArtifactWish::Fetch { .. })))
                };
                let named = self.commands.request_of(fetched.request.as_ref(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::ArtifactFetched { handle, fetched });
                }
            }
            SessionReply::OfArtifacts(answer) => {
                let asked = |r: &Request| matches!(r, Request::Session(SessionRequest::AboutArtifacts(_)));
                let named = self.commands.request_of(answer.request(), id);
                if let Some((handle, _)) = self.commands.answered(named, asked) {
                    self.tell(ClientEvent::OfArtifacts { handle, answer });
                }
            }
            SessionReply::Extension(message) if message.is_of(&self.config.extensions) => {
                self.tell(ClientEvent::Extension(message));
            }
            SessionReply::Extension(_) | SessionReply::Pong { .. } | SessionReply::JobHeartbeat(_) => {}
        }
    }

    fn on_watching(&mut self, watching: Watching, id: &WireId) {
        let of_job = |r: &Request| {
            let watches = matches!(r, Request::Command(Command::Watch(_) | Command::ExchangeToken(_)));
            watches && r.job() == Some(&watching.job)
        };
        let Some((handle, pending)) =
            self.commands.answered(self.commands.request_of(watching.request.as_ref(), id), of_job)
        else {
            return;
        };
        if pending.origin == Origin::Handoff {
            return handoff::on_shown(self, watching);
        }
        if let Some(submit) = self.followed.confirm(&watching.job, watching.from) {
            // If there is no room for it, the job is still watched, but cannot be cancelled.
            let _ = self.give(Command::Submit(submit, Invocation::default()), Origin::Client);
        }
        if pending.is_asked() {
            self.tell(ClientEvent::Watching { handle, watching });
        }
    }

    /// Handles the opening of a session. In the open family, an earlier session is resumed on the
    /// new one.
    fn on_accepted_session(&mut self, opened: Opened, id: &WireId) {
        if self.reconnector.state != ReconnectState::Opening {
            return;
        }
        let server = ServerProfile::new(self.config.family, id.as_str(), &opened.runtime.program);
        match (self.claim(), self.fresh.take()) {
            (Some(claim), None) if self.config.family.resumes_after_opening() => {
                let session = opened.session.clone();
                self.fresh = Some(opened);
                let id = self.entropy.ulid(self.now.utc);
                self.write(id, Some(&session), &Request::Handshake(HandshakeRequest::Resume(claim)));
            }
            (_, Some(fresh)) => {
                let features = self.identity.as_ref().map_or(fresh.features, |me| me.features);
                let server = ServerProfile::new(self.config.family, id.as_str(), &fresh.runtime.program);
                let session = opened.session;
                self.on_opened(Opened { session, resume_token: opened.resume_token, features, ..fresh }, server);
            }
            (_, None) => self.on_opened(opened, server),
        }
    }

    /// Answers a challenge, if the credential allows it.
    fn on_challenge(&mut self, challenge: Challenge) {
        let proof = self.config.proof(Some(challenge.nonce));
        match proof.filter(|_| self.reconnector.state == ReconnectState::Opening) {
            Some(proof) => self.send(&Request::Handshake(HandshakeRequest::Authenticate(proof))),
            None => {
                let none =
                    Violation::new(ErrorCode::Unauthenticated, "the runtime asks for a proof, and there is none");
                self.on_denied(Refusal::new(RefusedKind::Session, none, None));
            }
        }
    }

    /// Handles an eviction. After a loss of heartbeats the session can be resumed.
    fn on_evicted(&mut self, code: &ErrorCode, reason: String) {
        if *code == ErrorCode::HeartbeatLost {
            return self.drop_transport("the runtime heard nothing from us for two heartbeats");
        }
        self.outputs.push_back(ClientOutput::Disconnect);
        if self.commands.is_closing() {
            return self.end(SessionEnd::Closed);
        }
        if *code == ErrorCode::Unauthenticated {
            // The credential is not valid any more.
            let why = Violation::new(ErrorCode::Unauthenticated, reason);
            return self.end(SessionEnd::Denied(Refusal::new(RefusedKind::Session, why, None)));
        }
        self.end(SessionEnd::Goodbye(reason));
    }

    fn on_opened(&mut self, opened: Opened, server: ServerProfile) {
        let left = self.left.take().filter(|left| left.session.as_ref() == Some(&opened.session));
        let resumed = left.is_some() || self.identity.as_ref().is_some_and(|me| me.session == opened.session);
        let reopened = self.identity.is_some() && !resumed;
        let features = opened.features.and(self.config.features);
        let own_seq = self.identity.as_ref().filter(|_| resumed).map(|me| me.last_seq);
        let last_seq = own_seq.or(left.map(|left| left.last_seq)).unwrap_or(0);
        self.identity = Some(Identity {
            session: opened.session.clone(),
            token: opened.resume_token,
            features,
            last_seq,
            acked: last_seq,
            server,
            names_refused: false,
        });
        self.reconnector.unanswered = 0;
        self.reconnector.state = ReconnectState::Open;
        self.reconnector.opened_at = self.now.mono;
        self.reconnector.set(ClientTimer::OpenTimeout, None);
        self.reconnector.heartbeat =
            opened.heartbeat_s.filter(|_| features.has(Feature::Heartbeat)).map(Duration::from_secs);
        // The welcome may have waited for the store for longer than the interval. No pings were due
        // in that time.
        let soonest = self.now.mono + Duration::from_micros(1);
        let heartbeat = self.reconnector.heartbeat.map(|interval| self.reconnector.heartbeat_at(interval).max(soonest));
        self.reconnector.set(ClientTimer::Heartbeat, heartbeat);
        self.tell(ClientEvent::Accepted {
            session: opened.session,
            features,
            agents: opened.agents,
            runtime: opened.runtime.program,
            fingerprint: opened.runtime.fingerprint,
            capabilities: opened.capabilities,
            resumed,
        });
        self.commands.send_again();
        if reopened {
            // The earlier session has ended.
            for watch in self.followed.bring_over() {
                let job = watch.job.clone();
                if self.give(Command::Watch(watch), Origin::Client).is_err() {
                    self.followed.remove(&job);
                }
            }
        }
        self.send_pending();
    }

    /// After a refused watch, watches the events that the runtime still has.
    fn watch_the_rest(&mut self, job: &WireId, refusal: &Refusal) -> bool {
        let kept = refusal.history_after();
        let Some((watch, events)) = kept.and_then(|kept| self.followed.skip_to(job, kept)) else {
            return false;
        };
        let given = self.give(Command::Watch(watch), Origin::Client).is_ok();
        if given {
            self.tell(ClientEvent::Missed { job: job.clone(), events });
        }
        given
    }

    fn on_accepted(&mut self, accepted: Accepted, trace: Option<&str>, id: &WireId) {
        let by_trace = |r: &Request| matches!(r, Request::Command(Command::Submit(s, _)) if s.trace.as_deref() == trace && trace.is_some());
        let taken = match self.commands.request_of(accepted.request.as_ref(), id) {
            Some(named) => self.commands.answered(Some(named), |_| false),
            // The acceptance is repeated: the submit was accepted before a connection was lost, and
            // sent again after that.
            None if accepted.request.is_some() => None,
            None => self
                .commands
                .answered(None, by_trace)
                .or_else(|| self.commands.answered(None, |r| matches!(r, Request::Command(Command::Submit(..))))),
        };
        let Some((handle, pending)) = taken else {
            return;
        };
        let submit = match pending.request {
            Request::Command(Command::Submit(submit, _)) => Some(submit),
            // Without a submit there is no key to claim the job by: a new session only watches it.
            Request::Command(Command::RestoreCheckpoint(_)) => None,
            Request::Handshake(_) | Request::Session(_) | Request::Command(_) => return,
        };
        let job = accepted.job.clone();
        let followed = self.followed.follow(job.clone());
        followed.submit = submit;
        followed.confirmed = true;
        if pending.origin != Origin::Client {
            self.tell(ClientEvent::Submitted { handle, accepted });
            self.deliver_early(&job);
        }
        let used = pending.origin == Origin::ApplicationWithKey
            && self.identity.as_ref().is_some_and(|me| !me.server.replays_used_keys());
        if used && self.followed.has(&job) {
            let watch = Watch { job: job.clone(), after: Some(0), history: Some(true) };
            // If there is no room for it, the job's end is still delivered, if it arrives.
            let _ = self.give(Command::Watch(watch), Origin::Client);
        }
    }

    pub(super) fn on_refused(&mut self, mut refusal: Refusal, trace: Option<&str>, id: &WireId) {
        if self.reconnector.state == ReconnectState::Opening {
            return self.on_denied(refusal);
        }
        if refusal.code == ErrorCode::HeartbeatLost {
            return self.drop_transport("the runtime heard nothing from us for two heartbeats");
        }
        let job = refusal.job.clone();
        let about = |r: &Request| {
            if let Request::Command(Command::Submit(submit, _)) = r {
                submit.trace.is_some() && submit.trace.as_deref() == trace
            } else {
                r.job().is_some() && r.job() == job.as_ref()
            }
        };
        if let Some(me) = self.identity.as_mut().filter(|_| refusal.request.is_some()) {
            me.names_refused = true;
        }
        let answers = self.identity.as_ref().is_none_or(|me| !me.names_refused) && !refusal.is_of_this_project();
        let taken = match self.commands.request_of(refusal.request.as_ref(), id) {
            Some(named) => self.commands.answered(Some(named), |_| false),
            None if refusal.request.is_some() => None,
            None => self.commands.answered(None, about).or_else(|| {
                // A runtime that never names requests answers them in order; a runtime that does
                // sent this unasked.
                if answers { self.commands.answered(None, |_| true) } else { None }
            }),
        };
        match taken {
            // A runtime that does not know `close` may know `bye`.
            Some((_, Pending { request: Request::Session(SessionRequest::Close { reason, answered: true }), .. })) => {
                self.send(&Request::Session(SessionRequest::Close { reason, answered: false }));
                self.outputs.push_back(ClientOutput::Disconnect);
                self.end(SessionEnd::Closed);
            }
            Some((handle, pending)) => {
                if let Request::Command(Command::Watch(watch)) = &pending.request {
                    if pending.origin == Origin::Handoff && handoff::is_passed_over(self, &watch.job, &refusal) {
                        return drop(self.followed.take_early(&watch.job));
                    }
                    if !pending.is_asked() && self.watch_the_rest(&watch.job, &refusal) {
                        return;
                    }
                    refusal.job.get_or_insert_with(|| watch.job.clone());
                    // A job that is already shown to this session stays followed.
                    if pending.is_asked() {
                        self.followed.remove_unconfirmed(&watch.job);
                    } else {
                        self.followed.remove(&watch.job);
                    }
                }
                if let Request::Command(Command::ExchangeToken(wish)) = &pending.request {
                    refusal.job.get_or_insert_with(|| wish.token.job().clone());
                    self.followed.remove_unconfirmed(wish.token.job());
                }
                let handle = pending.is_asked().then_some(handle);
                self.tell(ClientEvent::Refused { handle, refusal });
            }
            None => self.tell(ClientEvent::Refused { handle: None, refusal }),
        }
    }

    /// Handles the refusal of a session. A claim to an earlier session is dropped; a refused
    /// credential ends the client.
    fn on_denied(&mut self, refusal: Refusal) {
        // If the runtime admits no sessions at present, the earlier session may still exist.
        let comes_later = refusal.retryable && refusal.code == ErrorCode::Unavailable;
        if self.claim().is_some() && !comes_later {
            self.left = None;
            if let Some(me) = &mut self.identity {
                me.token = crate::secret::Secret::new(String::new());
            }
            return self.drop_transport(&alloc::format!("the session could not be resumed: {}", refusal.message));
        }
        if refusal.retryable && refusal.code != ErrorCode::Unauthenticated {
            return self.drop_transport(&alloc::format!("the session was refused for now: {}", refusal.message));
        }
        self.outputs.push_back(ClientOutput::Disconnect);
        self.end(SessionEnd::Denied(refusal));
    }

    fn on_goodbye(&mut self, reason: Option<String>) {
        self.outputs.push_back(ClientOutput::Disconnect);
        if self.commands.is_closing() {
            return self.end(SessionEnd::Closed);
        }
        let reason = reason.unwrap_or_else(|| "no reason was given".to_string());
        if self.reconnector.state == ReconnectState::Open && !self.followed.is_empty() {
            // A runtime that restarts says goodbye too, and may keep the jobs.
            return self.lose(&alloc::format!("the runtime said goodbye: {reason}"));
        }
        self.end(SessionEnd::Goodbye(reason));
    }

    fn on_event(&mut self, job: WireId, seq: Option<u64>, at: Option<UtcMs>, event: JobEvent, id: &WireId) {
        if self.reconnector.state != ReconnectState::Open {
            return;
        }
        if let (JobEvent::Ended(terminal), None, true) = (&event, seq, self.config.family.numbers_every_end())
            && let Some(error) = &terminal.error
        {
            // Some runtimes refuse a request in the form of an end. A real end has a number.
            let about = Violation::new(error.code.clone(), error.message.clone());
            let refusal = Refusal { job: Some(job), ..Refusal::new(RefusedKind::Job, about, None) };
            return self.on_refused(refusal, None, id);
        }
        if handoff::is_of(&event) {
            handoff::ask(self, &job);
        }
        // After a resume, events of a job may come before its acceptance, if that was lost with the old
        // connection. They are kept until it comes.
        let awaited = self.commands.awaits_acceptance() || self.commands.is_taking(&job);
        if !self.followed.has(&job) && awaited {
            let Err(first) = self.followed.keep_early(Early { job, seq, at, event }, self.config.limits.early) else {
                return;
            };
            // The events are requested again, so that none is lost.
            if let (Some(me), Some(first)) = (&mut self.identity, first) {
                me.last_seq = me.last_seq.min(first.saturating_sub(1));
            }
            return self.drop_transport("too much came before the acceptance of a job");
        }
        self.deliver(job, seq, at, event);
        self.processed();
    }

    fn deliver(&mut self, job: WireId, seq: Option<u64>, at: Option<UtcMs>, event: JobEvent) {
        let limit = self.config.limits.result_bytes;
        match event {
            JobEvent::Ended(terminal) => {
                if let Some(followed) = self.followed.remove(&job) {
                    self.commands.drop_cancels_of(&job);
                    let result = followed.assembly.finish(terminal.result.as_ref());
                    self.tell(ClientEvent::JobEnded { job, seq: seq.unwrap_or(0), terminal: *terminal, result });
                }
            }
            event @ (JobEvent::Started | JobEvent::Emitted { .. } | JobEvent::Chunk(_)) => {
                // Events after the end, or of jobs that are not followed, are ignored.
                if let Some(followed) = self.followed.get_mut(&job) {
                    followed.events += 1;
                    if let JobEvent::Chunk(chunk) = &event {
                        followed.assembly.take(chunk, limit);
                    }
                    self.tell(ClientEvent::Job { job, seq: seq.unwrap_or(0), at, event });
                }
            }
        }
    }

    /// Delivers the events that came before the acceptance of a job.
    pub(super) fn deliver_early(&mut self, job: &WireId) {
        for early in self.followed.take_early(job) {
            self.deliver(early.job, early.seq, early.at, early.event);
        }
        if !self.commands.awaits_acceptance() && !self.commands.is_taking_any() {
            self.followed.drop_early();
        }
    }

    /// Whether a numbered frame is the next one. After a gap the connection is closed, and a resume
    /// brings the missing frames.
    fn in_order(&mut self, seq: Option<u64>) -> bool {
        let (Some(me), Some(seq)) = (&mut self.identity, seq) else {
            return true;
        };
        if !me.server.numbers_on() {
            me.last_seq = me.last_seq.max(seq);
            return true;
        }
        if seq <= me.last_seq {
            return false;
        }
        if seq > me.last_seq + 1 {
            let why = alloc::format!("event {} is missing: {seq} came", me.last_seq + 1);
            self.drop_transport(&why);
            return false;
        }
        me.last_seq = seq;
        true
    }
}
