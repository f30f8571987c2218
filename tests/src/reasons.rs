//! Checks the reasons for which jobs are said to wait: an observer of inputs and outputs must be able to see each.

#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{CallId, ConnId, JobId, LogPos, SessionId};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::workflow::AGENT;
use arcp_proto::runtime::{
    AgentCall, AgentReply, DepartureRecord, Input, Numbered, Output, Record, StepState, StreamWord, Wait,
};
use serde_json::Value;

/// Everything for which a job can wait.
#[derive(Debug, Default)]
pub struct Reasons {
    durable: LogPos,
    /// Whether the store failed, and was given nothing since.
    failing: bool,
    /// The position of the latest record of each job.
    latest: BTreeMap<JobId, LogPos>,
    /// The position of the latest record.
    last: LogPos,
    /// Sessions that are sent new events of a job.
    gets: BTreeSet<(JobId, SessionId)>,
    /// The last number assigned in each session.
    given: BTreeMap<SessionId, u64>,
    /// The connection of each attached session, and the last number that was sent there.
    attached: BTreeMap<SessionId, (ConnId, u64)>,
    /// Connections on which a session was requested and is not open yet, with the last number that the client has.
    opening: BTreeMap<ConnId, u64>,
    /// Unanswered calls of each agent.
    asked: BTreeMap<JobId, Vec<CallId>>,
    /// Jobs whose agents have requested children.
    delegates: BTreeSet<JobId>,
    /// The position of each event.
    events: BTreeMap<(JobId, u64), LogPos>,
    /// The parent of each child, and the position of its acceptance.
    children: BTreeMap<JobId, (JobId, LogPos)>,
    /// Ended jobs, with the position of their end.
    over: BTreeMap<JobId, LogPos>,
    /// Jobs whose client has requested a pace.
    paced: BTreeSet<JobId>,
    /// Streams whose agent was told to wait.
    held: BTreeSet<(JobId, u32)>,
    /// Jobs with open questions, and jobs whose agents have not continued after an interrupt.
    prompts: BTreeSet<JobId>,
    interrupted: BTreeSet<JobId>,
    /// Jobs whose credentials may be valid.
    provisioned: BTreeSet<JobId>,
    /// Workflows.
    workflows: BTreeSet<JobId>,
    /// Workflows whose watchers were told that a step waits.
    put_off: BTreeSet<JobId>,
    /// Steps of workflows that have failed and are tried again.
    retried: BTreeSet<(JobId, u32)>,
    /// Jobs that are to go to another runtime, with the position of the record of that.
    departing: BTreeMap<JobId, LogPos>,
}

impl Reasons {
    /// Watches an input.
    pub fn input(&mut self, input: &Input) {
        match input {
            Input::Received { conn, frame } => self.request(*conn, frame),
            Input::Closed { conn } => self.gone(*conn),
            Input::Persisted { up_to } => (self.durable, self.failing) = (self.durable.max(*up_to), false),
            Input::PersistFailed { .. } => self.failing = true,
            Input::Restore { at, record } => self.record(*at, record),
            Input::AgentAsked { job, id, call } => {
                self.asked.entry(*job).or_default().push(*id);
                self.delegates.extend(delegates(call).then_some(*job));
            }
            Input::Agent { job, call } if delegates(call) => drop(self.delegates.insert(*job)),
            Input::AgentSays { job, calls } if calls.iter().any(delegates) => drop(self.delegates.insert(*job)),
            Input::AgentExited { job, .. } => drop(self.asked.remove(job)),
            _ => {}
        }
    }

    /// Watches an output.
    pub fn output(&mut self, output: &Output) {
        match output {
            Output::Send { conn, frame } => self.frame(*conn, frame),
            Output::Close { conn, .. } => self.gone(*conn),
            Output::HandOff { order, .. } => {
                let at = self.departing.get(&order.job);
                assert!(at.is_some_and(|at| *at <= self.durable), "another runtime is asked before that is durable");
            }
            Output::AgentReply { job, id, reply } => self.reply(*job, *id, reply),
            Output::AgentStream { job, stream, says: StreamWord::Hold } => drop(self.held.insert((*job, *stream))),
            Output::AgentStream { job, stream, says: StreamWord::GoOn } => drop(self.held.remove(&(*job, *stream))),
            Output::Persist(batch) => batch.entries().for_each(|(at, record)| self.record(at, record)),
            _ => {}
        }
    }

    /// The runtime crashed; the store has the log up to `durable`. What is known is restored from it.
    pub fn crash(&mut self, durable: LogPos) {
        *self = Reasons { durable, ..Reasons::default() };
    }

    /// Checks that each call is answered once, and that success is reported only when it is durable.
    fn reply(&mut self, job: JobId, id: CallId, reply: &AgentReply) {
        let open = self.asked.entry(job).or_default();
        let at = open.iter().position(|open| *open == id);
        open.remove(at.unwrap_or_else(|| panic!("{job} is answered {reply:?} to what it did not ask, or twice")));
        if open.is_empty() {
            self.asked.remove(&job);
        }
        let tells_of = match reply {
            AgentReply::Taken { event: Some(n) } => self.events.get(&(job, *n)),
            AgentReply::Delegated { job: child } => self.children.get(child).map(|(_, at)| at),
            AgentReply::ChildEnded(end) => self.over.get(&end.job),
            _ => return,
        };
        let at = tells_of.unwrap_or_else(|| panic!("{job} is told of what never was: {reply:?}"));
        assert!(*at <= self.durable, "{job} is told before it is durable: {reply:?}");
    }

    fn gone(&mut self, conn: ConnId) {
        self.opening.remove(&conn);
        self.attached.retain(|_, (at, _)| *at != conn);
    }

    fn request(&mut self, conn: ConnId, frame: &[u8]) {
        let Ok(frame) = serde_json::from_slice::<Value>(frame) else { return };
        let payload = &frame["payload"];
        match frame["type"].as_str() {
            Some("session.hello" | "session.open" | "session.resume") => {
                let last = payload["last_event_seq"].as_u64().or(payload["resume"]["last_event_seq"].as_u64());
                self.opening.insert(conn, last.unwrap_or(0));
            }
            Some("backpressure") => {
                let stream = frame["stream_id"].as_str().and_then(|stream| stream.strip_prefix("str_"));
                self.paced.extend(stream.and_then(|rest| JobId::parse(&format!("job_{rest}"))));
            }
            _ => {}
        }
    }

    fn frame(&mut self, conn: ConnId, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("every frame is JSON");
        let named = frame["session_id"].as_str().or(frame["payload"]["session_id"].as_str());
        let session = named.and_then(SessionId::parse);
        match frame["type"].as_str() {
            Some("session.welcome" | "session.accepted" | "session.resumed") => {
                let last = self.opening.remove(&conn).unwrap_or(0);
                self.attached.extend(session.map(|session| (session, (conn, last))));
            }
            Some("session.error" | "nack") => {
                self.opening.remove(&conn);
            }
            _ => {
                if let (Some(session), Some(seq)) = (session, frame["event_seq"].as_u64()) {
                    self.attached.insert(session, (conn, seq));
                }
            }
        }
    }

    fn record(&mut self, at: LogPos, record: &Record) {
        self.latest.extend(record.job().map(|job| (job, at)));
        self.last = self.last.max(at);
        match record {
            Record::JobEvent { job, event } => {
                self.events.insert((*job, event.n), at);
                match &*event.event {
                    JobEvent::Ended(_) => drop(self.over.insert(*job, at)),
                    JobEvent::Emitted { body, .. } if self.workflows.contains(job) => {
                        self.put_off.extend(body.as_str().contains(" waits: ").then_some(*job));
                    }
                    _ => {}
                }
            }
            Record::StepMoved(step) => {
                let is_tried_again = matches!(step.state, StepState::Backoff { .. });
                match is_tried_again {
                    true => self.retried.insert((step.job, step.step)),
                    false => self.retried.remove(&(step.job, step.step)),
                };
            }
            Record::Prompted { job, prompts } => {
                note(&mut self.prompts, *job, !prompts.open.is_empty());
                note(&mut self.interrupted, *job, !prompts.interrupts.is_empty());
            }
            Record::Departing { job, departure } => {
                self.departing.remove(job);
                let is_to_go = matches!(**departure, DepartureRecord::Asked(_));
                self.departing.extend(is_to_go.then_some((*job, at)));
            }
            Record::CredentialsWanted { job, .. } => {
                self.provisioned.insert(*job);
            }
            Record::CredentialsRevoked { job } | Record::JobForgotten { job } => {
                self.provisioned.remove(job);
            }
            Record::JobAccepted(job) => {
                if job.agent.name() == AGENT {
                    self.workflows.insert(job.job);
                }
                self.children.extend(job.bounds.parent.as_ref().map(|parent| (job.job, (parent.job, at))));
                // A job that no message of a client requested has no session to which its events are sent.
                if job.bounds.parent.is_none() || job.command.is_some() {
                    self.gets.insert((job.job, job.session));
                }
            }
            Record::Joined { job, session, .. } => {
                self.gets.insert((*job, *session));
            }
            Record::Left { job, session, .. } => {
                self.gets.remove(&(*job, *session));
            }
            Record::SessionEnded { session } => {
                self.gets.retain(|(_, who)| who != session);
                self.given.remove(session);
                self.attached.remove(session);
            }
            Record::Numbered { session, run } => {
                let upto = match run {
                    Numbered::Events(_) | Numbered::Local { .. } => run.last_seq(),
                    Numbered::TakenBack { seq, .. } => seq - 1,
                };
                self.given.insert(*session, upto);
            }
            _ => {}
        }
    }

    /// The workflows that have not ended.
    pub fn workflows_that_go_on(&self) -> impl Iterator<Item = JobId> {
        self.workflows.iter().copied().filter(|job| !self.over.contains_key(job))
    }

    /// Whether the store fails.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// Checks that a job may wait for this while `running` agents hold slots.
    ///
    /// # Panics
    ///
    /// If nothing that was observed is such a reason.
    pub fn check(&self, job: JobId, wait: Wait, running: usize) {
        let latest = self.latest.get(&job).copied().unwrap_or_default();
        match wait {
            Wait::Store => {
                let waits = self.failing || latest > self.durable;
                assert!(waits, "{job} waits for the store, which has all of it up to {latest:?}");
            }
            Wait::Slot => assert!(running > 0, "{job} waits for a slot, and nobody has one"),
            Wait::Reader(session) => {
                assert!(self.gets.contains(&(job, session)), "{job} waits for {session}, which gets nothing of it");
                // Numbers that the store was not given are not visible here.
                let is_behind = self.failing || self.is_behind(session);
                assert!(is_behind, "{job} waits for {session}, which was sent everything");
            }
            Wait::Pace => assert!(self.paced.contains(&job), "{job} keeps a pace that nobody asked for"),
            Wait::Answer => {
                let asked = self.asked.contains_key(&job);
                assert!(asked, "{job} waits for the answer to a call, and its agent has asked for nothing");
                let waits = self.failing || self.last > self.durable;
                assert!(waits, "{job} waits for an answer, and everything is durable up to {:?}", self.last);
            }
            Wait::Child(child) => {
                // A workflow has no agent.
                let asked = self.asked.contains_key(&job) || self.workflows.contains(&job);
                assert!(asked, "{job} waits for a child, and its agent has asked for nothing");
                assert!(
                    self.children.get(&child).is_some_and(|(parent, _)| *parent == job),
                    "{job} waits for {child}, which it did not make"
                );
                assert!(!self.over.contains_key(&child), "{job} waits for {child}, which is over");
            }
            Wait::Renewal => {
                assert!(self.asked.contains_key(&job), "{job} waits for a credential, and its agent wants none");
                assert!(self.provisioned.contains(&job), "{job} waits for another value of what it has not");
            }
            Wait::Delegation => {
                assert!(self.delegates.contains(&job), "{job} waits for a child, and its agent asks for none")
            }
            Wait::Artifact => {
                assert!(self.asked.contains_key(&job), "{job} waits for an artifact, and its agent leaves none")
            }
            Wait::Backlog => assert!(!self.over.contains_key(&job), "{job} waits to be heard, and is over"),
            Wait::StreamPace => {
                let is_held = self.held.range((job, 0)..=(job, u32::MAX)).next().is_some();
                assert!(is_held && !self.over.contains_key(&job), "{job} waits for the pace of a stream that has none");
            }
            Wait::Check => {
                let asks = self.asked.contains_key(&job) || self.workflows.contains(&job);
                assert!(asks, "{job} waits for a check, and its agent asks nothing")
            }
            Wait::Retry => {
                let is_tried_again = self.retried.range((job, 0)..=(job, u32::MAX)).next().is_some();
                assert!(self.failing || is_tried_again, "{job} waits to try a step again, and none has failed");
            }
            Wait::Room => {
                assert!(self.workflows.contains(&job), "{job} waits for room for a step, and is no workflow");
                assert!(self.failing || self.put_off.contains(&job), "{job} waits for room, and has not said so");
            }
            Wait::Prompt => {
                assert!(self.failing || self.prompts.contains(&job), "{job} is blocked, and has no open question");
                assert!(self.asked.contains_key(&job), "{job} is blocked, and its agent waits for nothing");
            }
            Wait::Interrupt => {
                let is_interrupted = self.failing || self.interrupted.contains(&job);
                assert!(is_interrupted, "{job} is blocked, and nobody has interrupted it");
            }
            Wait::Revocation => {
                assert!(!self.over.contains_key(&job), "{job} waits until its credentials are revoked, and is over");
                assert!(self.provisioned.contains(&job), "{job} waits until credentials are revoked that it has not");
            }
            Wait::Departure => {
                assert!(self.failing || self.departing.contains_key(&job), "{job} waits to go, and is to go nowhere");
            }
            Wait::Silence => panic!("{job} waits for its agent, which need not say that it is alive"),
        }
    }

    /// Whether an attached session was not sent everything.
    fn is_behind(&self, session: SessionId) -> bool {
        let given = self.given.get(&session).copied().unwrap_or(0);
        match self.attached.get(&session) {
            Some((_, sent)) => *sent < given,
            // The session may resume on one of these connections.
            None => !self.opening.is_empty(),
        }
    }
}

/// Whether a call requests a child.
fn delegates(call: &AgentCall) -> bool {
    matches!(call, AgentCall::Delegate(_) | AgentCall::Emit { kind: EventKind::Delegate, .. })
}

fn note(jobs: &mut BTreeSet<JobId>, job: JobId, is_one: bool) {
    if is_one {
        jobs.insert(job);
    } else {
        jobs.remove(&job);
    }
}
