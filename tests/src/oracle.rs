//! The invariants that hold in every run. Each check watches inputs and outputs from outside.

#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{ConnId, JobId, LogPos, Principal};
use arcp_proto::model::event::{EventClass, JobEvent};
use arcp_proto::runtime::{Batch, Config, Firing, Input, Numbered, NumberedRun, Output, Record};
use serde_json::Value;

use crate::artifact_log::ArtifactLog;
use crate::canaries::Canaries;
use crate::graphs::Graphs;
use crate::ledger::Ledger;
use crate::reasons::Reasons;
use crate::schedule_log::ScheduleLog;
use crate::sidecars::{Announced, as_announced, read};
use crate::stream_log::StreamLog;

/// Watches one run.
#[derive(Debug, Default)]
pub struct Oracle {
    durable: LogPos,
    credit: BTreeMap<ConnId, (i64, i64)>,
    last_pos: u64,
    /// The position at which each job was accepted.
    accepted: BTreeMap<String, LogPos>,
    /// The positions of each job's events.
    events: BTreeMap<String, Vec<LogPos>>,
    /// The classes of each job's events.
    classes: BTreeMap<JobId, Vec<EventClass>>,
    /// For each frame with a number: the position of the number's record, and its job and event.
    numbers: BTreeMap<(String, u64), (LogPos, String, u64)>,
    /// Agents that were started, with how often they had been started before.
    started: BTreeSet<(JobId, u32)>,
    /// Agents that may be started before that is durable, and jobs whose agent was.
    pure: (BTreeSet<String>, BTreeSet<JobId>),
    /// The position at which the job of each firing was accepted.
    fired: BTreeMap<Box<(Principal, Firing)>, LogPos>,
    /// The position at which each job ended.
    ended: BTreeMap<JobId, LogPos>,
    /// The payload of each (session, number), and the highest number of each session.
    sent: BTreeMap<(String, u64), String>,
    head: BTreeMap<String, u64>,
    last_on_conn: BTreeMap<(ConnId, String), u64>,
    /// Connections on which a replay was requested.
    replayed: BTreeSet<ConnId>,
    seen_per_job: BTreeMap<(String, String), BTreeSet<String>>,
    /// The ids of the requests on each connection, in order, and how many are answered.
    asked: BTreeMap<ConnId, (Vec<String>, usize)>,
    secrets: Vec<(ConnId, String)>,
    /// Checks where values of credentials are shown.
    canaries: Canaries,
    /// The token of each connection.
    principals: BTreeMap<ConnId, String>,
    /// The tokens that have used each message id.
    whose: BTreeMap<String, BTreeSet<String>>,
    closed: BTreeSet<ConnId>,
    /// Connections that neither side has closed.
    open: BTreeSet<ConnId>,
    /// Checks the reasons for which jobs wait.
    pub reasons: Reasons,
    /// Checks leases and budgets.
    pub ledger: Ledger,
    /// Checks the steps of workflows.
    pub graphs: Graphs,
    /// Sidecars that were announced.
    announced: Announced,
    /// Checks streams.
    pub streams: StreamLog,
    /// Checks schedules.
    pub schedules: ScheduleLog,
    /// Checks artifacts.
    pub artifacts: ArtifactLog,
    /// How many frames were checked.
    pub frames: usize,
}

impl Oracle {
    /// An oracle for a runtime with this configuration.
    pub fn of(config: &Config) -> Oracle {
        let pure = config.agents.iter().filter(|entry| entry.pure).map(|entry| entry.name.clone());
        Oracle { pure: (pure.collect(), BTreeSet::new()), ..Oracle::default() }
    }

    /// Watches an input.
    pub fn input(&mut self, input: &Input) {
        self.reasons.input(input);
        self.schedules.input(input);
        if let Input::Received { conn, frame } | Input::ReceivedBinary { conn, message: frame } = input {
            self.received(*conn, frame);
        }
        match input {
            Input::Credit { conn, bytes, frames } => {
                let credit = self.credit.entry(*conn).or_default();
                credit.0 += i64::from(*bytes);
                credit.1 += i64::from(*frames);
            }
            Input::Received { conn, frame } | Input::ReceivedBinary { conn, message: frame } => {
                self.request(*conn, frame);
            }
            Input::Opened { conn, .. } => {
                self.open.insert(*conn);
            }
            Input::Closed { conn } => {
                self.open.remove(conn);
            }
            Input::Persisted { up_to } => self.durable = self.durable.max(*up_to),
            _ => {}
        }
    }

    fn request(&mut self, conn: ConnId, frame: &[u8]) {
        let Ok(frame) = serde_json::from_slice::<Value>(frame) else {
            return;
        };
        if frame["type"] == "resume" {
            self.replayed.insert(conn);
        }
        // The answers to these may take long: an authenticator judges a proof, and an agent makes a checkpoint.
        let takes_long = matches!(frame["type"].as_str(), Some("session.authenticate" | "checkpoint.create"));
        if let Some(id) = frame["id"].as_str().filter(|_| !takes_long) {
            self.asked.entry(conn).or_default().0.push(id.to_string());
        }
    }

    /// Checks that answers leave in the order of their requests; pongs and heartbeats may overtake.
    fn answered(&mut self, conn: ConnId, frame: &Value) {
        let kind = frame["type"].as_str().unwrap_or_default();
        let aside = matches!(kind, "pong" | "session.pong" | "job.heartbeat");
        if aside || !frame["event_seq"].is_null() && kind != "job.accepted" || self.replayed.contains(&conn) {
            return;
        }
        let named = frame["payload"]["request_id"].as_str().or(frame["correlation_id"].as_str());
        let (Some(request), Some((asked, next))) = (named, self.asked.get_mut(&conn)) else {
            return;
        };
        match asked[*next..].iter().position(|id| id == request) {
            Some(further) => *next += further,
            None => assert!(!asked.iter().any(|id| id == request), "{kind} answers {request} after a later request"),
        }
    }

    /// Notes whose message id this is.
    fn received(&mut self, conn: ConnId, frame: &[u8]) {
        let Ok(frame) = serde_json::from_slice::<Value>(frame) else { return };
        if let Some(token) = frame["payload"]["auth"]["token"].as_str() {
            self.principals.entry(conn).or_insert_with(|| token.to_string());
        }
        if let (Some(id), Some(principal)) = (frame["id"].as_str(), self.principals.get(&conn)) {
            self.whose.entry(id.to_string()).or_default().insert(principal.clone());
        }
    }

    /// Checks that a principal is shown only its own message ids.
    fn message_ids(&self, conn: ConnId, frame: &Value) {
        let copy = &frame["payload"]["event"];
        for id in [&frame["correlation_id"], &frame["payload"]["request_id"], &copy["correlation_id"]] {
            let (Some(id), Some(principal)) = (id.as_str(), self.principals.get(&conn)) else { continue };
            let own = self.whose.get(id).is_none_or(|whose| whose.contains(principal));
            assert!(own, "{principal} is shown the message id {id} of somebody else: {frame}");
        }
    }

    /// Watches an output.
    pub fn output(&mut self, output: &Output) {
        self.reasons.output(output);
        self.canaries.output(output, &self.principals);
        match output {
            Output::Send { conn, frame } => self.frame(*conn, frame),
            Output::SendSidecar { conn, message } => self.sidecar(*conn, message),
            Output::Persist(batch) => self.batch(batch),
            Output::AgentReply { job, id, reply } => self.ledger.reply(*job, *id, reply),
            Output::IssueCredentials { order, .. } => self.ledger.ordered(order),
            Output::StartAgent { job, spec } => {
                if self.pure.0.contains(spec.agent.name()) {
                    self.pure.1.insert(*job);
                } else {
                    assert!(
                        self.accepted[&job.to_string()] <= self.durable,
                        "b14_persist_before_send: {job} is started"
                    );
                }
                assert!(self.started.insert((*job, spec.restarts)), "the agent of {job} is started twice");
            }
            Output::Close { conn, .. } => {
                assert!(self.open.remove(conn), "b65_close_is_idempotent: {conn:?} is closed once more");
                self.closed.insert(*conn);
                self.announced.gone(*conn);
            }
            Output::Observe(notice) => {
                let shown = format!("{notice:?}");
                for (_, secret) in &self.secrets {
                    assert!(!shown.contains(secret), "a notice shows a secret");
                }
            }
            _ => {}
        }
    }

    /// The runtime was shut down: checks that all connections were closed.
    pub fn shut_down(&self) {
        assert!(self.open.is_empty(), "b53_shutdown_ends: {:?} stay open", self.open);
    }

    /// The runtime crashed; the store has the log up to `durable`. Checks that everything that was shown is in it.
    pub fn crash(&mut self, durable: LogPos) {
        assert!(self.durable <= durable, "what is durable survives");
        self.durable = durable;
        self.reasons.crash(durable);
        self.ledger.crash(durable);
        self.graphs.crash(durable);
        self.streams.crash(durable);
        self.schedules.crash(durable);
        self.artifacts.crash(durable);
        self.open.clear();
        self.last_pos = durable.0;
        self.accepted.retain(|_, at| *at <= durable);
        // The start of a pure agent may be lost, so that it is started again.
        self.started.retain(|(job, _)| !self.pure.1.contains(job));
        self.fired.retain(|_, at| *at <= durable);
        for events in self.events.values_mut() {
            events.retain(|at| *at <= durable);
        }
        for (job, classes) in &mut self.classes {
            classes.truncate(self.events.get(&job.to_string()).map_or(0, Vec::len));
        }
        // A number whose event is lost is assigned again.
        let came = |job: &String, n: u64| n == 0 || self.events.get(job).is_some_and(|events| events.len() as u64 >= n);
        self.numbers.retain(|_, (at, job, n)| *at <= durable && came(job, *n));
        let events = &self.events;
        self.ended.retain(|job, at| *at <= durable && events.contains_key(&job.to_string()));
    }

    fn batch(&mut self, batch: &Batch) {
        if batch.last().0 <= self.last_pos {
            return; // given again after a failure
        }
        assert_eq!(batch.first.0, self.last_pos + 1, "log positions have no gaps");
        self.last_pos = batch.last().0;
        for (at, record) in batch.entries() {
            self.record(at, record);
        }
        self.ledger.batch(batch);
        self.streams.batch(batch);
        self.schedules.batch(batch);
        self.artifacts.batch(batch);
    }

    fn record(&mut self, at: LogPos, record: &Record) {
        self.graphs.record(at, record);
        match record {
            Record::JobAccepted(job) => {
                if let Some(firing) = &job.bounds.firing {
                    let fired = Box::new((job.principal.clone(), (**firing).clone()));
                    assert!(self.fired.insert(fired, at).is_none(), "{firing:?} of {} has two jobs", job.principal);
                }
                self.accepted.insert(job.job.to_string(), at);
            }
            Record::Numbered { session, run } => {
                let whose = session.to_string();
                // A frame without an event belongs to no log: it is durable with its number.
                let (log, events) = match run {
                    Numbered::Events(run) => (run.log.to_string(), self.events_of(run)),
                    Numbered::Local { .. } => (String::new(), vec![0]),
                    Numbered::TakenBack { seq, upto } => {
                        let sent = self.head.get(&whose).copied().unwrap_or(0);
                        assert!(*seq > sent, "b16_contiguous: {session} takes {seq} back, which was sent");
                        (*seq..=*upto).for_each(|seq| drop(self.numbers.remove(&(whose.clone(), seq))));
                        return;
                    }
                };
                for (seq, event) in (run.seq()..).zip(events) {
                    let place = (at, log.clone(), event);
                    let before = self.numbers.insert((whose.clone(), seq), place);
                    assert!(before.is_none(), "b16_contiguous: {session} numbers {seq} twice");
                }
            }
            Record::JobEvent { job, event } => {
                let events = self.events.entry(job.to_string()).or_default();
                events.push(at);
                self.classes.entry(*job).or_default().push(event.event.class());
                assert_eq!(events.len() as u64, event.n, "events of a job are numbered without gaps");
                assert!(!self.ended.contains_key(job), "b40_one_terminal: {job} had ended");
                if let JobEvent::Ended(_) = *event.event {
                    self.ended.insert(*job, at);
                }
            }
            _ => {}
        }
    }

    /// The events behind the numbers of a run.
    fn events_of(&self, run: &NumberedRun) -> Vec<u64> {
        let dense = run.event..run.event + run.count;
        match run.shown {
            None => dense.collect(),
            // The last event of the run is in this batch, or came before.
            Some(shown) => {
                let classes =
                    run.log.job().and_then(|job| self.classes.get(&job)).map(Vec::as_slice).unwrap_or_default();
                let came = |n: &u64| classes.get(*n as usize - 1).is_some_and(|class| shown.classes.has(*class));
                let mut events: Vec<u64> = (run.event..shown.last).filter(came).chain([shown.last]).collect();
                events.split_off(events.len() - run.count as usize)
            }
        }
    }

    fn sidecar(&mut self, conn: ConnId, message: &[u8]) {
        assert!(!self.closed.contains(&conn), "a message after the close of {conn:?}");
        self.credit.entry(conn).or_default().0 -= message.len() as i64;
        self.announced.message(conn, message);
        self.artifacts.sidecar(conn, self.principals.get(&conn).map(String::as_str), read(message).2);
    }

    fn frame(&mut self, conn: ConnId, text: &str) {
        self.frames += 1;
        assert!(!self.closed.contains(&conn), "a frame after the close of {conn:?}");
        let credit = self.credit.entry(conn).or_default();
        credit.0 -= text.len() as i64;
        credit.1 -= 1;
        let frame: Value = serde_json::from_str(text).expect("every frame is JSON");
        self.announced.frame(conn, &frame);
        let kind = frame["type"].as_str().expect("every frame has a type");
        if !matches!(
            kind,
            "session.error"
                | "session.closed"
                | "session.rejected"
                | "session.evicted"
                | "session.unauthenticated"
                | "nack"
        ) {
            assert!(credit.1 >= 0, "frames beyond the credit: {kind}");
        }
        let foreign = self.secrets.iter().any(|(owner, secret)| *owner != conn && text.contains(secret.as_str()));
        assert!(!foreign, "a secret on another connection");
        if let Some(token) = frame["payload"]["resume_token"].as_str() {
            self.secrets.push((conn, token.into()));
        }
        if let Some(token) = frame["payload"]["token"].as_str().filter(|token| token.starts_with("jtk_")) {
            self.secrets.push((conn, token.into()));
        }
        self.message_ids(conn, &frame);
        self.ledger.frame(&frame);
        let principal = self.principals.get(&conn).map(String::as_str);
        self.streams.frame(principal, &frame);
        self.artifacts.frame(conn, principal, &frame);
        if kind == "job.accepted" {
            let job = frame["payload"]["job_id"].as_str().expect("accepted names its job");
            assert!(self.accepted[job] <= self.durable, "b14_persist_before_send: acceptance of {job}");
        }
        self.answered(conn, &frame);
        match frame["event_seq"].as_u64() {
            Some(seq) => self.counted(conn, &frame, seq),
            None => {
                let event = matches!(kind, "job.event" | "job.result" | "job.started" | "job.completed" | "job.failed");
                assert!(!event, "{kind} without a number");
            }
        }
    }

    fn counted(&mut self, conn: ConnId, frame: &Value, seq: u64) {
        let session = frame["session_id"].as_str().expect("counted frames name their session").to_string();
        // A client that requested a replay gets earlier frames again.
        let again = self.replayed.contains(&conn) && self.sent.contains_key(&(session.clone(), seq));
        if !again && let Some(last) = self.last_on_conn.insert((conn, session.clone()), seq) {
            assert_eq!(seq, last + 1, "gl1: the order on the wire is the order of numbers");
        }
        let number = self.numbers.get(&(session.clone(), seq));
        assert!(
            number.is_some_and(|(at, ..)| *at <= self.durable),
            "b14_persist_before_send: number {seq} of {session}"
        );
        let head = self.head.entry(session.clone()).or_default();
        assert!(seq <= *head + 1, "b16_contiguous: {session} jumped from {head} to {seq}");
        *head = (*head).max(seq);
        let shown = format!("{} {}", frame["id"], without_values(&as_announced(&frame["payload"])));
        if let Some(before) = self.sent.insert((session.clone(), seq), shown.clone()) {
            assert_eq!(before, shown, "a replayed frame differs");
        }
        self.told(&session, frame);
    }

    /// Checks that a frame about a job, or a copy of one, shows only what is durable.
    fn told(&mut self, session: &str, frame: &Value) {
        if frame["type"] == "subscribe.event" {
            let copy = &frame["payload"]["event"];
            if frame["subscription_id"].is_null() {
                // A published client is shown the jobs that it watches in such frames.
                return self.told(session, copy);
            }
            let subscription = frame["subscription_id"].as_str().expect("it names its subscription");
            assert!(copy["event_seq"].is_null() && copy["resume_token"].is_null(), "{copy}");
            if copy["payload"]["name"] != "subscription.backfill_complete" {
                self.told(&format!("{session} {subscription}"), copy);
            }
            return;
        }
        let job = frame["job_id"].as_str().expect("counted frames name their job").to_string();
        let phase = frame["payload"]["body"]["phase"].as_str().or(frame["payload"]["phase"].as_str());
        let local = matches!(phase, Some("back_pressure" | "detached"));
        if local || matches!(frame["type"].as_str(), Some("job.accepted" | "stream.open" | "stream.close")) {
            return;
        }
        let session = session.to_string();
        let seen = self.seen_per_job.entry((session, job.clone())).or_default();
        // Frames are compared by content: a retry with a key shows the terminal again.
        seen.insert(without_values(&as_announced(&frame["payload"])).to_string());
        let durable = self.events[&job].partition_point(|pos| *pos <= self.durable);
        assert!(seen.len() <= durable, "b14_persist_before_send: {job} showed {} of {durable}", seen.len());
    }
}

/// A payload without values of credentials: a revoked value is not shown again. [`Canaries`] checks which values may
/// be shown.
fn without_values(payload: &Value) -> Value {
    let mut payload = payload.clone();
    if let Some(members) = payload.as_object_mut() {
        members.retain(|name, _| name != "credentials");
    }
    let is_open = payload["phase"] == "credential_rotated";
    let body = if is_open { &mut payload } else { &mut payload["body"] };
    if body["phase"] == "credential_rotated" {
        let is_value = |name: &str| matches!(name, "value" | "credential_value");
        body.as_object_mut().expect("an object").retain(|name, _| !is_value(name));
        body["details"].as_object_mut().expect("an object").retain(|name, _| !is_value(name));
    }
    payload
}
