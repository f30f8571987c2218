//! Counters and gauges of a runtime: the page of `GET /metrics`, as OpenMetrics or Prometheus text.
//!
//! Labels are the names of agents that the operator hosts, and words of this program. They are
//! never a principal, a session, a job or anything else that a peer chooses. Gauges are read when
//! the page is requested. Events are counted where they are rare, or once for a whole group, read
//! or write.

#[cfg(feature = "websocket")]
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::runtime::{
    AuditEntry, Notice, Runtime, Stats, agent_of, is_draining, unacknowledged, unfinished_by_agent,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::spans::SpanCounts;

#[cfg(feature = "websocket")]
pub(crate) use text::prometheus_text;

/// The label for anything that has no name which may be shown.
const OTHER: &str = "other";

/// A counter of seconds.
pub(crate) type Seconds = Counter<f64, AtomicU64>;

/// The metrics of one runtime.
pub(crate) struct Metrics {
    registry: Registry,
    jobs: Jobs,
    sessions: Sessions,
    refusals: Family<Refused, Counter>,
    decisions: Family<Decided, Counter>,
    now: Gauges,
    /// The metrics of the commit thread.
    pub(crate) store: StoreMetrics,
    /// The metrics of sockets.
    pub(crate) traffic: Traffic,
    /// How long agents have waited for credit.
    pub(crate) agents_waited: Seconds,
    fan_out: Histogram,
}

#[derive(Default)]
struct Jobs {
    accepted: Family<OfAgent, Counter>,
    ended: Family<Ended, Counter>,
    events: Counter,
}

#[derive(Default)]
struct Sessions {
    opened: Counter,
    ended: Counter,
    resumes: Family<Resumed, Counter>,
}

/// The metrics of a store: its groups, and how long they take.
#[derive(Clone)]
pub(crate) struct StoreMetrics {
    batches: Histogram,
    records: Histogram,
    sync: Histogram,
    append: Histogram,
    failures: Counter,
}

/// The metrics of sockets.
#[derive(Clone, Default)]
pub(crate) struct Traffic {
    received: Counter,
    sent: Counter,
    paused: Seconds,
}

/// Gauges, which are set while the page is written.
#[derive(Default)]
struct Gauges {
    connections: Gauge,
    sessions: Gauge,
    jobs: Family<Standing, Gauge>,
    waiting: Gauge,
    agents: Family<AgentState, Gauge>,
    behind: Gauge,
    most_behind: Gauge,
    held: Family<Held, Gauge>,
    store_failed: Gauge,
    draining: Gauge,
    unrevoked: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standing {
    agent: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    agent: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resumed {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    act: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Held {
    what: &'static str,
}

/// Counts that the core does not know.
pub(crate) struct Around {
    /// Running agents that were not told to stop.
    pub(crate) running_agents: usize,
    /// Running agents that were told to stop.
    pub(crate) stopping_agents: usize,
    /// Jobs whose credentials are not revoked yet.
    pub(crate) unrevoked: usize,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    pub(crate) fn new(spans: &SpanCounts) -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("arcp"),
            jobs: Jobs::default(),
            sessions: Sessions::default(),
            refusals: Family::default(),
            decisions: Family::default(),
            now: Gauges::default(),
            store: StoreMetrics::new(),
            traffic: Traffic::default(),
            agents_waited: Seconds::default(),
            fan_out: seconds(),
        };
        // Counters of events that have not happened yet exist and are zero.
        for outcome in ["resumed", "refused"] {
            let _ = metrics.sessions.resumes.get_or_create(&Resumed { outcome });
        }
        metrics.registered(spans)
    }

    fn registered(mut self, spans: &SpanCounts) -> Metrics {
        let to = &mut self.registry;
        to.register("sessions_opened", "Sessions opened", self.sessions.opened.clone());
        to.register("sessions_ended", "Sessions that cannot be resumed any more", self.sessions.ended.clone());
        to.register("resumes", "Attempts to resume a session, by outcome", self.sessions.resumes.clone());
        to.register("jobs_accepted", "Jobs accepted, by agent", self.jobs.accepted.clone());
        to.register("jobs_ended", "Jobs ended, by agent and status", self.jobs.ended.clone());
        to.register("events", "Events of jobs", self.jobs.events.clone());
        to.register("refusals", "Requests refused, by code", self.refusals.clone());
        to.register("decisions", "Decisions about authority, by act and outcome", self.decisions.clone());
        let s = Unit::Seconds;
        let waited = self.agents_waited.clone();
        to.register_with_unit("agents_waited", "Time for which agents waited for credit to say more", s, waited);
        let fan_out = self.fan_out.clone();
        let help = "From when a group was durable until its frames were given to their sockets";
        to.register_with_unit("fan_out", help, Unit::Seconds, fan_out);
        to.register("spans_exported", "Spans that their collector has taken", spans.exported.clone());
        to.register("spans_dropped", "Spans that nobody has taken, and that are gone", spans.dropped.clone());
        self.store.register(to);
        self.traffic.register(to);
        self.now.register(to);
        self
    }

    /// Counts a notice.
    pub(crate) fn observe(&self, notice: &Notice, runtime: &Runtime) {
        match notice {
            Notice::SessionOpened { .. } => drop(self.sessions.opened.inc()),
            Notice::SessionEnded { .. } => drop(self.sessions.ended.inc()),
            Notice::SessionResumed { .. } => self.count_resume("resumed"),
            Notice::ResumeRefused { .. } => self.count_resume("refused"),
            Notice::JobAccepted { agent, .. } => {
                self.jobs.accepted.get_or_create(&OfAgent { agent: agent.name().to_string() }).inc();
            }
            Notice::JobEnded { job, status } => {
                let agent = agent_of(runtime, *job).map_or(OTHER, |agent| agent.name()).to_string();
                self.jobs.ended.get_or_create(&Ended { agent, status: status.as_str() }).inc();
            }
            Notice::Refused { code, .. } => {
                let code = known(code).to_string();
                self.refusals.get_or_create(&Refused { code }).inc();
            }
            Notice::Audited(entry) => self.count_decision(entry),
            Notice::SessionDetached { .. }
            | Notice::PolicyRefused { .. }
            | Notice::FiringRefused { .. }
            | Notice::JobWatched { .. }
            | Notice::PeopleAsked { .. }
            | Notice::CredentialsNotRevoked { .. }
            | Notice::CredentialsRevoked { .. }
            | Notice::ExtensionDropped { .. }
            | Notice::ConnIdInUse { .. }
            | Notice::StoreFailed
            | Notice::StoreRecovered => {}
        }
    }

    /// Observes how long after its commit a group was given to the sockets.
    #[cfg(feature = "websocket")]
    pub(crate) fn fanned_out(&self, after: Duration) {
        self.fan_out.observe(after.as_secs_f64());
    }

    /// The page. The cost grows with the number of sessions and unfinished jobs.
    pub(crate) fn page(&self, runtime: &Runtime, around: &Around) -> String {
        let stats = runtime.stats();
        self.jobs.events.inner().store(stats.events, Ordering::Relaxed);
        self.now.set(runtime, &stats, around);
        let mut page = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    fn count_resume(&self, outcome: &'static str) {
        self.sessions.resumes.get_or_create(&Resumed { outcome }).inc();
    }

    fn count_decision(&self, entry: &AuditEntry) {
        let outcome = if entry.refused.is_some() { "refused" } else { "done" };
        self.decisions.get_or_create(&Decided { act: entry.act.as_str(), outcome }).inc_by(u64::from(entry.count));
    }
}

impl StoreMetrics {
    fn new() -> StoreMetrics {
        let many = || Histogram::new(exponential_buckets(1.0, 4.0, 8));
        StoreMetrics {
            batches: many(),
            records: many(),
            sync: seconds(),
            append: seconds(),
            failures: Counter::default(),
        }
    }

    fn register(&self, to: &mut Registry) {
        to.register("store_group_batches", "Batches committed as one group", self.batches.clone());
        to.register("store_group_records", "Records committed as one group", self.records.clone());
        let help = "How long one commit took, the wait for the disk included";
        to.register_with_unit("store_sync", help, Unit::Seconds, self.sync.clone());
        let help = "From when a batch was given to the store until it was durable";
        to.register_with_unit("append", help, Unit::Seconds, self.append.clone());
        to.register("store_failures", "Commits that failed", self.failures.clone());
    }

    /// Counts an attempt to commit a group.
    pub(crate) fn tried(&self, took: Duration, worked: bool) {
        self.sync.observe(took.as_secs_f64());
        if !worked {
            self.failures.inc();
        }
    }

    /// Counts a group that became durable.
    #[allow(clippy::cast_precision_loss, reason = "sizes of groups are far below 2^52")]
    pub(crate) fn committed(&self, batches: usize, records: usize, waited: impl Iterator<Item = Duration>) {
        self.batches.observe(batches as f64);
        self.records.observe(records as f64);
        waited.for_each(|waited| self.append.observe(waited.as_secs_f64()));
    }
}

impl Traffic {
    fn register(&self, to: &mut Registry) {
        to.register_with_unit("received", "Read from sockets", Unit::Bytes, self.received.clone());
        to.register_with_unit("sent", "Written to sockets", Unit::Bytes, self.sent.clone());
        let help = "Time for which connections were not read, because their answers, the store or others waited";
        to.register_with_unit("reading_paused", help, Unit::Seconds, self.paused.clone());
    }

    /// Counts received bytes.
    #[cfg(feature = "websocket")]
    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Counts sent bytes.
    #[cfg(feature = "websocket")]
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// Counts the length of a pause.
    #[cfg(feature = "websocket")]
    pub(crate) fn paused(&self, span: Duration) {
        self.paused.inc_by(span.as_secs_f64());
    }
}

impl Gauges {
    fn register(&self, to: &mut Registry) {
        to.register("connections", "Connections, with or without a session", self.connections.clone());
        to.register("sessions", "Sessions, attached or resumable", self.sessions.clone());
        to.register("jobs", "Jobs that have not ended, by agent and status", self.jobs.clone());
        to.register("jobs_waiting", "Jobs in line for a slot", self.waiting.clone());
        to.register("agents", "Agents of jobs, by state", self.agents.clone());
        let help = "Numbered frames that clients which acknowledge have not, of all sessions";
        to.register("unacknowledged_frames", help, self.behind.clone());
        let help = "The same of the session that has most";
        to.register("unacknowledged_frames_max", help, self.most_behind.clone());
        to.register_with_unit("held", "Held, by what for", Unit::Bytes, self.held.clone());
        to.register("store_failed", "1 while the store cannot be written", self.store_failed.clone());
        to.register("draining", "1 once no new jobs are accepted", self.draining.clone());
        let help = "Jobs whose credentials could not be revoked yet";
        to.register("unrevoked_credentials", help, self.unrevoked.clone());
    }

    fn set(&self, runtime: &Runtime, stats: &Stats, around: &Around) {
        set(&self.connections, stats.connections);
        set(&self.sessions, stats.sessions);
        self.jobs.clear();
        for ((agent, status), count) in unfinished_by_agent(runtime) {
            let standing = Standing { agent: agent.to_string(), status: status.as_str() };
            set(&self.jobs.get_or_create(&standing), count);
        }
        set(&self.waiting, stats.waiting_jobs);
        for (state, count) in [("running", around.running_agents), ("stopping", around.stopping_agents)] {
            set(&self.agents.get_or_create(&AgentState { state }), count);
        }
        let behind = unacknowledged(runtime);
        self.behind.set(signed(behind.iter().sum()));
        self.most_behind.set(signed(behind.into_iter().max().unwrap_or(0)));
        for (what, bytes) in [
            ("events", stats.event_bytes),
            ("read_ahead", stats.read_ahead_bytes),
            ("rendered", stats.rendered_bytes),
            ("unsent", stats.unsent_bytes),
            ("undurable", stats.undurable_bytes),
        ] {
            set(&self.held.get_or_create(&Held { what }), bytes);
        }
        self.store_failed.set(i64::from(stats.store_failed));
        self.draining.set(i64::from(is_draining(runtime)));
        set(&self.unrevoked, around.unrevoked);
    }
}

/// Buckets from a tenth of a millisecond to 26 seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 10))
}

/// The code, if the protocol defines it.
fn known(code: &str) -> &str {
    if matches!(code.parse(), Ok(ErrorCode::Other(_))) { OTHER } else { code }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(signed(count as u64));
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
