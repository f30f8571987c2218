//! Schedules: jobs that are submitted at given times (RFC §10.6).

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::id::{IdempotencyKey, WireId};
use crate::json::{Json, Object};
use crate::model::agent::AgentRef;
use crate::model::request::{Invocation, Submit};
use crate::time::UtcMs;

/// A recurrence rule of RFC 5545, `DTSTART` and `RRULE`, each on its own line: 1 to 1,024 bytes.
/// Only the host interprets it.
///
/// ```
/// use arcp_proto::model::schedule::Rule;
/// let rule: Rule = "DTSTART;TZID=Europe/Berlin:20260101T083000\nRRULE:FREQ=DAILY".parse()?;
/// assert!(rule.as_str().ends_with("FREQ=DAILY"));
/// # Ok::<(), arcp_proto::error::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule(String);

impl Rule {
    /// The longest rule, in bytes.
    pub const MAX: usize = 1024;

    /// The rule as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Rule, ParseError> {
        let fits = (1..=Rule::MAX).contains(&text.len());
        fits.then(|| Rule(text.to_owned())).ok_or(ParseError::new("a recurrence rule of 1 to 1,024 bytes"))
    }
}

impl TryFrom<String> for Rule {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Rule, ParseError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.0
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The times of a schedule, as a client requests them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Once, at this time.
    At(UtcMs),
    /// Once, this long after the schedule was kept.
    After(Duration),
    /// At the times of a rule.
    Every(Rule),
}

/// The times of a schedule, as they are kept: a delay has become a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Once, at this time.
    At(UtcMs),
    /// At the times of a rule.
    Every(Rule),
}

/// What happens with missed times, which passed while the runtime was down or because its clock
/// stepped forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One job, for the latest.
    #[default]
    Last,
    /// A job for each, up to a bound of the runtime: the latest ones.
    All,
    /// No job.
    None,
}

impl Missed {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Last => "last",
            Missed::All => "all",
            Missed::None => "none",
        }
    }
}

impl FromStr for Missed {
    type Err = ParseError;

    fn from_str(word: &str) -> Result<Missed, ParseError> {
        let known = [Missed::Last, Missed::All, Missed::None].into_iter().find(|missed| missed.as_str() == word);
        known.ok_or(ParseError::new("`last`, `all` or `none`"))
    }
}

/// What happens with a time that comes while the job of an earlier one runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// No job.
    #[default]
    Skip,
    /// The job is submitted once the earlier one has ended, up to a bound of the runtime.
    Queue,
    /// The job is submitted at once.
    Allow,
}

impl Overlap {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Allow => "allow",
        }
    }
}

impl FromStr for Overlap {
    type Err = ParseError;

    fn from_str(word: &str) -> Result<Overlap, ParseError> {
        let known = [Overlap::Skip, Overlap::Queue, Overlap::Allow].into_iter().find(|known| known.as_str() == word);
        known.ok_or(ParseError::new("`skip`, `queue` or `allow`"))
    }
}

/// The job that is submitted at each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledJob {
    /// The agent.
    pub agent: AgentRef,
    /// Its input, as sent; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
    pub input: Option<Json>,
    /// The requested lease, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_request: Option<Json>,
    /// Bounds of the lease, as sent; durations count from each submit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_constraints: Option<Json>,
    /// Time limit in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<NonZeroU32>,
    /// Its trace, if the client has one; otherwise each job gets its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The members that only the open family has.
    #[serde(default)]
    pub invocation: Invocation,
}

impl ScheduledJob {
    /// A job without input, time limit or lease.
    pub fn new(agent: AgentRef) -> ScheduledJob {
        let invocation = Invocation::default();
        let (input, lease_request, lease_constraints, max_runtime, trace) = Default::default();
        ScheduledJob { agent, input, lease_request, lease_constraints, max_runtime, trace, invocation }
    }

    /// The submit of one job, with a key.
    pub(crate) fn submit(&self, key: Option<IdempotencyKey>) -> Submit {
        Submit {
            input: self.input.clone(),
            lease_request: self.lease_request.clone(),
            lease_constraints: self.lease_constraints.clone(),
            max_runtime: self.max_runtime,
            trace: self.trace.clone(),
            key,
            ..Submit::new(self.agent.clone())
        }
    }

    /// Bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.input, &self.lease_request, &self.lease_constraints, &self.invocation.extensions];
        let texts: usize = texts.into_iter().flatten().map(|json| json.as_str().len()).sum();
        let spans = [&self.trace, &self.invocation.span].into_iter().flatten().map(String::len).sum::<usize>();
        texts + spans + self.agent.name().len()
    }
}

/// A request for a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    /// The requested id: a retry with the same id means the same schedule. `None`: the runtime
    /// chooses one.
    pub id: Option<WireId>,
    /// The job.
    pub job: ScheduledJob,
    /// Its times.
    pub when: When,
    /// What happens with missed times.
    pub missed: Missed,
    /// What happens with times while an earlier job runs.
    pub overlap: Overlap,
}

impl NewSchedule {
    /// A schedule with the defaults for missed and overlapping times.
    pub fn new(job: ScheduledJob, when: When) -> NewSchedule {
        NewSchedule { id: None, job, when, missed: Missed::default(), overlap: Overlap::default() }
    }

    /// A digest that is equal for equal requests, without the id.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let NewSchedule { id: _, job, when, missed, overlap } = self;
        let ScheduledJob { agent, input, lease_request, lease_constraints, max_runtime, trace, invocation } = job;
        let mut asked = Object::new();
        asked
            .display("agent", agent)
            .opt_json("input", input.as_ref())
            .opt_json("lease_request", lease_request.as_ref())
            .opt_json("lease_constraints", lease_constraints.as_ref())
            .opt_json("extensions", invocation.extensions.as_ref())
            .opt_str("span", invocation.span.as_deref())
            .opt_str("trace", trace.as_deref())
            .u64("priority", invocation.priority as u64)
            .u64("max_runtime", max_runtime.map_or(0, |most| u64::from(most.get())))
            .str("missed", missed.as_str())
            .str("overlap", overlap.as_str());
        match when {
            When::At(at) => asked.display("at", at),
            When::After(span) => asked.u64("after", span.as_secs()),
            When::Every(rule) => asked.str("every", rule.as_str()),
        };
        asked.json().fingerprint()
    }
}

/// A request to pause or resume a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleChange {
    /// The schedule.
    pub id: WireId,
    /// Whether it is to be paused: times that come meanwhile pass without a job.
    pub paused: bool,
}

/// The acceptance of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub id: WireId,
    /// Its next time; `None`: there is none, or the host is still computing it.
    pub next: Option<UtcMs>,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A query for schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleQuery {
    /// Only those after this one, the `next` of the page before.
    pub after: Option<WireId>,
    /// Whether to list those of all principals, which operators and auditors may see.
    pub everybody: bool,
    /// Entries per page, 1 to 1,000; `None`: 100.
    pub limit: Option<u64>,
}

/// A page of schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulePage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries: the principal's own by id, those of all principals oldest first.
    pub schedules: Vec<ScheduleSummary>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<WireId>,
}

/// A schedule in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSummary {
    /// Its id.
    pub id: WireId,
    /// The principal that owns it.
    pub principal: String,
    /// The agent of its jobs.
    pub agent: String,
    /// Its times.
    pub times: Option<Times>,
    /// What happens with missed times.
    pub missed: Missed,
    /// What happens with times while an earlier job runs.
    pub overlap: Overlap,
    /// When it was accepted.
    pub created_at: Option<UtcMs>,
    /// Why it is paused; `None` if it is not.
    pub paused: Option<String>,
    /// Its next times, as far as the host has computed them.
    pub next: Vec<UtcMs>,
    /// The number of times that wait for an earlier job to end.
    pub queued: u64,
    /// The number of jobs submitted for it.
    pub fired: u64,
    /// The number of times that passed without a job.
    pub skipped: u64,
    /// The latest time for which a job was submitted.
    pub last_at: Option<UtcMs>,
    /// The job of that time.
    pub last_job: Option<WireId>,
    /// Why the latest refused submit of it was refused.
    pub last_refused: Option<String>,
}

impl ScheduleSummary {
    /// Bytes that it holds; an upper estimate.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 768;
        let rule = if let Some(Times::Every(rule)) = &self.times { rule.as_str().len() } else { 0 };
        let said = [&self.paused, &self.last_refused].into_iter().flatten().map(String::len).sum::<usize>();
        FIXED + self.id.as_str().len() + self.principal.len() + self.agent.len() + rule + said
    }
}

/// The times of a rule, as the host computed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The rule to keep: with its beginning added if it had none.
    pub rule: Rule,
    /// The latest past times, in order: at most as many as were requested.
    pub missed: Vec<UtcMs>,
    /// The next times, in order: at most as many as were requested.
    pub coming: Vec<UtcMs>,
    /// Whether no times follow these.
    pub is_all: bool,
    /// The last time of a rule with a count, so that the count is not computed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<UtcMs>,
}

/// Why the host did not compute the times of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFault {
    /// What is wrong, for the author of the rule.
    pub reason: String,
    /// Whether the host may succeed when it is asked again.
    pub again: bool,
}
