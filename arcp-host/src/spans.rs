//! The work of a runtime as spans of [`tracing`], for programs that install a subscriber.
//!
//! | span | from | to | below |
//! |---|---|---|---|
//! | `arcp.session` | a session is opened | it cannot be resumed any more | nothing: a trace of its own |
//! | `arcp.job` | a job is accepted | it has ended | the span that its caller named, or its delegation |
//! | `arcp.delegate` | a child is accepted | it has ended | the job that delegated it |
//! | `arcp.operation` | see `otel.name` | it is answered | its job, if it has one |
//!
//! `otel.name` of operations is `arcp.agent` (a run of one), `arcp.tool`, `arcp.authorize`,
//! `arcp.ask`, `arcp.await_child`, `arcp.renew_credential`, `arcp.issue_credentials`,
//! `arcp.revoke_credentials`, `arcp.hand_off`, `arcp.check_input`, `arcp.authenticate`,
//! `arcp.store_artifact` or `arcp.read_artifact`.
//!
//! Sessions, jobs and delegations have their place in W3C traces in `trace_id`, `span_id` and
//! `parent_span_id`, in hex. The trace of a job is that of its caller. Span ids are derived from
//! the ids of sessions and jobs, so that a restarted runtime continues the same spans.
//!
//! Further fields with a special meaning:
//!
//! * `started_at_ms` is the time of the beginning.
//! * `link_trace_id` and `link_span_id` name the session of a job.
//! * `sampled` is false if the caller does not record its trace.
//! * `unfinished` is true if a span is closed only because the process ends: another process
//!   continues it.
//! * `otel.kind` and `otel.status_code` are as
//!   [OpenTelemetry](https://opentelemetry.io/docs/specs/otel/trace/api/) defines them.
//!
//! All other fields are attributes. None of them is a secret, an input or a result.
//!
//! The number of open spans is bounded by what the core holds: sessions, jobs, operations for which
//! it waits, and for each job [`TOOLS_PER_JOB`] tools. Without a subscriber no spans are made.

mod begin;
mod job;

use std::collections::BTreeMap;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, LogPos, OpId, SessionId};
use arcp_proto::model::credential::Issuance;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::handoff::HandoffAnswer;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{Batch, Input, JobRecord, Notice, Output, PartsStep, Record};
use prometheus_client::metrics::counter::Counter;
use tracing::field::display;
use tracing::{Level, Span};

use self::job::JobSpans;
pub use self::job::TOOLS_PER_JOB;

/// The target of every span here.
pub const TARGET: &str = "arcp";

/// Counts of exported and lost spans. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    pub(crate) exported: Counter,
    pub(crate) dropped: Counter,
}

impl SpanCounts {
    /// Counts spans that the collector has taken.
    pub fn exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// Counts spans that were lost.
    pub fn dropped(&self, spans: u64) {
        self.dropped.inc_by(spans);
    }
}

/// The open spans.
pub(crate) struct Spans {
    /// Whether the store keeps records beyond the process.
    outlives: bool,
    /// The position of the last record that was examined: after a failure of the store, records
    /// come again.
    seen: LogPos,
    sessions: BTreeMap<SessionId, Span>,
    jobs: BTreeMap<JobId, JobSpans>,
    operations: BTreeMap<OpId, Span>,
}

impl Spans {
    /// No spans yet.
    pub(crate) fn new(outlives: bool) -> Spans {
        let (sessions, jobs, operations) = Default::default();
        Spans { outlives, seen: LogPos(0), sessions, jobs, operations }
    }

    /// Notes an output of the core that is about to be performed.
    pub(crate) fn performs(&mut self, output: &Output) {
        if self.has_nothing_to_do() {
            return;
        }
        match output {
            Output::Authenticate { op, credential, .. } => {
                let span = begin::operation(&Span::none(), "arcp.authenticate");
                span.record("arcp.scheme", scheme(credential));
                self.operations.insert(*op, span);
            }
            Output::CheckInput { op, agent, .. } => {
                let span = begin::operation(&Span::none(), "arcp.check_input");
                span.record("arcp.agent", agent.name());
                self.operations.insert(*op, span);
            }
            Output::CheckValue { op, .. } => self.begin(*op, "arcp.check_input", None),
            Output::IssueCredentials { op, order } => self.begin(*op, "arcp.issue_credentials", Some(order.job)),
            Output::RevokeCredentials { op, job, .. } => self.begin(*op, "arcp.revoke_credentials", Some(*job)),
            Output::HandOff { op, order } => self.begin(*op, "arcp.hand_off", Some(order.job)),
            Output::StoreBlob { op, .. }
            | Output::TakeBlob { op, .. }
            | Output::Parts(PartsStep::Append { op, .. } | PartsStep::Finish { op, .. }) => {
                self.begin(*op, "arcp.store_artifact", None)
            }
            Output::ReadBlob { op, .. } => self.begin(*op, "arcp.read_artifact", None),
            Output::PlanSchedule { op, .. } => self.begin(*op, "arcp.plan_schedule", None),
            Output::Persist(batch) => self.appended(batch),
            Output::StartAgent { job, spec } => self.with_job(*job, |spans| spans.start(spec)),
            Output::AgentReply { job, id, reply } => self.with_job(*job, |spans| spans.answer(*id, reply)),
            Output::InterruptAgent { job, .. } => self.with_job(*job, |spans| spans.note("interrupted")),
            Output::AskCheckpoint { job, .. } => self.with_job(*job, |spans| spans.note("checkpoint_wanted")),
            Output::Observe(notice) => self.observe(notice),
            Output::AgentStream { .. }
            | Output::Send { .. }
            | Output::SendSidecar { .. }
            | Output::Close { .. }
            | Output::RaiseFrameLimit { .. }
            | Output::Fragment { .. }
            | Output::PauseRead { .. }
            | Output::ResumeRead { .. }
            | Output::Parts(PartsStep::Abandon { .. })
            | Output::DropBlob { .. }
            | Output::KeepBlobs { .. }
            | Output::Load { .. }
            | Output::StopAgent { .. }
            | Output::AgentCredit { .. }
            | Output::Extension { .. } => {}
        }
    }

    /// Notes an input that the core is about to get.
    pub(crate) fn takes(&mut self, input: &Input) {
        if self.has_nothing_to_do() {
            return;
        }
        match input {
            Input::Authenticated { op, verdict } => self.end(*op, verdict.is_some(), |span| {
                span.record("arcp.principal", verdict.as_ref().map(|verdict| display(&verdict.principal)));
            }),
            Input::NotJudged { op } => self.end(*op, false, |_| {}),
            Input::InputChecked { op, fault } => self.end(*op, fault.is_none(), |_| {}),
            Input::CredentialsIssued { op, issuance } => {
                self.end_by_us(*op, matches!(issuance, Issuance::Issued(_)));
            }
            Input::CredentialsRevoked { op, done } => self.end_by_us(*op, *done),
            Input::SchedulePlanned { op, plan } => self.end(*op, plan.is_ok(), |_| {}),
            Input::HandedOff { op, answer } => self.end(*op, matches!(answer, HandoffAnswer::Taken { .. }), |_| {}),
            Input::BlobStored { op, stored } => self.end_by_us(*op, *stored),
            Input::BlobRead { op, bytes } => self.end_by_us(*op, bytes.is_some()),
            Input::AgentAsked { job, id, call } => self.with_job(*job, |spans| spans.ask(*id, call)),
            Input::AgentExited { job, exit } => self.with_job(*job, |spans| spans.exit(exit)),
            Input::Restore { at, record } => {
                self.seen = *at;
                self.restore(record);
            }
            Input::Restored { last } => self.seen = *last,
            Input::Opened { .. }
            | Input::HandedOver(_)
            | Input::Received { .. }
            | Input::ReceivedBinary { .. }
            | Input::TooLong { .. }
            | Input::Credit { .. }
            | Input::Closed { .. }
            | Input::JudgedElsewhere { .. }
            | Input::Persisted { .. }
            | Input::PersistFailed { .. }
            | Input::Agent { .. }
            | Input::AgentSays { .. }
            | Input::Loaded { .. }
            | Input::ExtensionTaken { .. }
            | Input::SendExtension { .. }
            | Input::Operator(_)
            | Input::Agents { .. }
            | Input::Reseed(_)
            | Input::Tick => {}
        }
    }

    /// Whether no subscriber wants spans, and none is open.
    fn has_nothing_to_do(&self) -> bool {
        !tracing::enabled!(target: TARGET, Level::INFO)
            && self.sessions.is_empty()
            && self.jobs.is_empty()
            && self.operations.is_empty()
    }

    fn begin(&mut self, op: OpId, name: &'static str, job: Option<JobId>) {
        let parent = job.and_then(|job| self.jobs.get(&job)).map_or(Span::none(), |spans| spans.job.clone());
        let span = begin::operation(&parent, name);
        span.record("arcp.job_id", job.map(display));
        self.operations.insert(op, span);
    }

    fn end(&mut self, op: OpId, done: bool, tell: impl FnOnce(&Span)) {
        if let Some(span) = self.operations.remove(&op) {
            span.record("arcp.outcome", if done { "done" } else { "refused" });
            tell(&span);
        }
    }

    /// As [`end`](Self::end), for operations in which a failure is not caused by a peer.
    fn end_by_us(&mut self, op: OpId, done: bool) {
        self.end(op, done, |span| begin::fail(span, !done));
    }

    fn with_job(&mut self, job: JobId, change: impl FnOnce(&mut JobSpans)) {
        if let Some(spans) = self.jobs.get_mut(&job) {
            change(spans);
        }
    }

    fn observe(&mut self, notice: &Notice) {
        if let Notice::SessionOpened { session, principal, client } = notice {
            let span = begin::session(*session);
            span.record("arcp.principal", display(principal)).record("arcp.client", client.as_str());
            self.sessions.insert(*session, span);
        } else if let Notice::SessionResumed { session } = notice {
            self.note(*session, "resumed");
        } else if let Notice::SessionDetached { session } = notice {
            self.note(*session, "detached");
        } else if let Notice::SessionEnded { session } = notice {
            self.sessions.remove(session);
        }
    }

    fn note(&self, session: SessionId, what: &'static str) {
        if let Some(span) = self.sessions.get(&session) {
            begin::note(span, what);
        }
    }

    /// Examines records that go to the store.
    fn appended(&mut self, batch: &Batch) {
        let seen = self.seen;
        batch.entries().filter(|(at, _)| *at > seen).for_each(|(_, record)| self.append(record));
        self.seen = self.seen.max(batch.last());
    }

    fn append(&mut self, record: &Record) {
        if let Record::JobAccepted(record) = record {
            self.accept(record);
        } else if let Record::JobEvent { job, event } = record {
            match &*event.event {
                JobEvent::Started => self.with_job(*job, |spans| spans.note("started")),
                JobEvent::Emitted { kind, body } => self.with_job(*job, |spans| spans.hear(kind, body)),
                JobEvent::Chunk(_) => {}
                JobEvent::Ended(terminal) => {
                    if let Some(spans) = self.jobs.remove(job) {
                        let code = terminal.error.as_ref().map(|error| &error.code);
                        spans.end(terminal.status, code.map(ErrorCode::as_str));
                    }
                }
            }
        } else if let Record::BudgetLeft { job, left, .. } = record {
            self.with_job(*job, |spans| spans.left = left.clone());
        } else if let Record::HandedOver { job, principal, .. } = record {
            self.with_job(*job, |spans| {
                spans.job.record("arcp.principal", display(principal));
            });
        } else if let Record::CancelAsked { job, .. } = record {
            self.with_job(*job, |spans| spans.note("cancel_asked"));
        } else if let Record::JobRestarted { job } = record {
            self.with_job(*job, |spans| spans.note("restarted"));
        }
    }

    /// Examines a record of an earlier run. Unfinished sessions and jobs continue their spans;
    /// finished ones were reported by that run.
    fn restore(&mut self, record: &Record) {
        if let Record::SessionOpened { session, principal, .. } = record {
            let span = begin::session(*session);
            span.record("arcp.principal", display(principal));
            self.sessions.insert(*session, span);
        } else if let Record::SessionEnded { session } = record {
            if let Some(span) = self.sessions.remove(session) {
                begin::leave(&span);
            }
        } else if let Record::JobForgotten { job } = record {
            self.leave(*job);
        } else if let Record::JobEvent { job, event } = record {
            if matches!(*event.event, JobEvent::Ended(_)) {
                self.leave(*job);
            }
        } else {
            self.append(record);
        }
    }

    fn accept(&mut self, record: &JobRecord) {
        let parent = record.bounds.parent.as_ref().and_then(|parent| self.jobs.get(&parent.job));
        let spans = JobSpans::begin(record, parent);
        self.jobs.insert(record.job, spans);
    }

    /// Closes the spans of a job whose end another process reports.
    fn leave(&mut self, job: JobId) {
        if let Some(spans) = self.jobs.remove(&job) {
            spans.leave();
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if self.outlives {
            std::mem::take(&mut self.jobs).into_values().for_each(JobSpans::leave);
            self.sessions.values().for_each(begin::leave);
        }
    }
}

fn scheme(credential: &Credential) -> &str {
    match credential {
        Credential::Bearer(_) => "bearer",
        Credential::Anonymous => "none",
        Credential::Other { scheme, .. } => scheme,
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::id::{ConnId, Principal};
    use arcp_proto::secret::Secret;

    use super::*;

    #[test]
    fn without_a_subscriber_nothing_is_made_or_allocated() {
        let session = SessionId::from_ulid(ulid::Ulid(7));
        let principal = Principal::new("alice").expect("a name");
        let credential = Credential::Bearer(Secret::new("t".to_string()));
        let records = vec![Record::SessionEnded { session }; 3];
        let outputs = [
            Output::Authenticate { op: OpId(1), conn: ConnId(1), credential, challenge: None },
            Output::Observe(Notice::SessionOpened { session, principal, client: "c".to_string() }),
            Output::Persist(Batch { first: LogPos(1), records: records.into() }),
        ];
        let inputs = [Input::Authenticated { op: OpId(1), verdict: None }, Input::Tick];
        let mut spans = Spans::new(true);
        let counted = allocation_counter::measure(|| {
            outputs.iter().for_each(|output| spans.performs(output));
            inputs.iter().for_each(|input| spans.takes(input));
        });
        assert_eq!(counted.count_total, 0);
        assert!(spans.has_nothing_to_do());
    }
}
