//! Schedules: jobs that are submitted at times (RFC §10.6).

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

/// A recurrence rule of RFC 5545, `DTSTART` and `RRULE`, each on a line of its own: 1 to
/// 1,024 bytes. The host reads it, nobody here does.
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
    /// The longest one, in bytes.
    pub const MAX: usize = 1024;

    /// Its text.
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

/// When the jobs of a schedule are to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Once, then.
    At(UtcMs),
    /// Once, so long after the schedule is kept.
    After(Duration),
    /// Whenever the rule says.
    Every(Rule),
}

/// The same as it is kept: the times themselves, whenever that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Once, then.
    At(UtcMs),
    /// Whenever the rule says.
    Every(Rule),
}

/// What becomes of times that have passed without a job: the runtime was down, or its
/// clock stepped forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One job, for the last of them.
    #[default]
    Last,
    /// A job for each, up to a bound of the runtime: those of the latest.
    All,
    /// No job.
    None,
}

impl Missed {
    /// The word for it.
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

/// What becomes of a time while the job of an earlier one goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// No job.
    #[default]
    Skip,
    /// Its job is submitted once that one has ended, up to a bound of the runtime.
    Queue,
    /// Its job is submitted all the same.
    Allow,
}

impl Overlap {
    /// The word for it.
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

/// What is submitted at each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledJob {
    /// The agent.
    pub agent: AgentRef,
    /// Its input, as sent; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
    pub input: Option<Json>,
    /// The lease asked for, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_request: Option<Json>,
    /// Bounds of the lease, as sent: what they say of spans is from each submit on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_constraints: Option<Json>,
    /// Time limit in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<NonZeroU32>,
    /// Its trace, if the client has one; else each job has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What only the open family says of it.
    #[serde(default)]
    pub invocation: Invocation,
}

impl ScheduledJob {
    /// A job for an agent, without input, limit or lease.
    pub fn new(agent: AgentRef) -> ScheduledJob {
        let invocation = Invocation::default();
        let (input, lease_request, lease_constraints, max_runtime, trace) = Default::default();
        ScheduledJob { agent, input, lease_request, lease_constraints, max_runtime, trace, invocation }
    }

    /// The submit that it stands for, with a key.
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

/// A wish for jobs at times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    /// What it is to be known by: the same once more is the same schedule. `None`: the
    /// runtime says.
    pub id: Option<WireId>,
    /// What is submitted.
    pub job: ScheduledJob,
    /// When.
    pub when: When,
    /// What becomes of times that were missed.
    pub missed: Missed,
    /// What becomes of times while an earlier job goes on.
    pub overlap: Overlap,
}

impl NewSchedule {
    /// Jobs at times, with the usual answers to what may go wrong.
    pub fn new(job: ScheduledJob, when: When) -> NewSchedule {
        NewSchedule { id: None, job, when, missed: Missed::default(), overlap: Overlap::default() }
    }

    /// What makes two wishes the same, but for the id.
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

/// A wish to have a schedule paused, or resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleChange {
    /// The schedule.
    pub id: WireId,
    /// Whether it is to be paused: what its times are meanwhile passes without a job.
    pub paused: bool,
}

/// That a schedule is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// What it is known by.
    pub id: WireId,
    /// Its next time; `None`: it has none any more, or it is found out just now.
    pub next: Option<UtcMs>,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// Which schedules to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleQuery {
    /// Those after this one, as the page before says.
    pub after: Option<WireId>,
    /// Whether those of everybody are wanted, which operators and auditors may see.
    pub everybody: bool,
    /// Entries of a page, 1 to 1,000; `None`: 100.
    pub limit: Option<u64>,
}

/// A page of schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulePage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries: one's own by their ids, those of everybody oldest first.
    pub schedules: Vec<ScheduleSummary>,
    /// After which the next page begins; `None` at the end.
    pub next: Option<WireId>,
}

/// What a listing says of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSummary {
    /// What it is known by.
    pub id: WireId,
    /// Whose it is.
    pub principal: String,
    /// The agent of its jobs.
    pub agent: String,
    /// When they are submitted.
    pub times: Option<Times>,
    /// What becomes of times that were missed.
    pub missed: Missed,
    /// What becomes of times while an earlier job goes on.
    pub overlap: Overlap,
    /// When it was kept.
    pub created_at: Option<UtcMs>,
    /// Why it is paused; `None`: it is not.
    pub paused: Option<String>,
    /// Its next times, as far as they are known.
    pub next: Vec<UtcMs>,
    /// How many wait for an earlier job to end.
    pub queued: u64,
    /// How many jobs it has had.
    pub fired: u64,
    /// How many times have passed without one.
    pub skipped: u64,
    /// The latest time that had one.
    pub last_at: Option<UtcMs>,
    /// Its job.
    pub last_job: Option<WireId>,
    /// Why the latest time that was to have one and was refused was that.
    pub last_refused: Option<String>,
}

impl ScheduleSummary {
    /// Bytes that it holds, generously.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 768;
        let rule = if let Some(Times::Every(rule)) = &self.times { rule.as_str().len() } else { 0 };
        let said = [&self.paused, &self.last_refused].into_iter().flatten().map(String::len).sum::<usize>();
        FIXED + self.id.as_str().len() + self.principal.len() + self.agent.len() + rule + said
    }
}

/// The times of a schedule, as a host has found them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The rule as it is to be kept: with when it begins, if it did not say so.
    pub rule: Rule,
    /// The latest of those that have been, in order: no more than were asked for.
    pub missed: Vec<UtcMs>,
    /// Those to come, in order: no more than were asked for.
    pub coming: Vec<UtcMs>,
    /// Whether there are no more.
    pub is_all: bool,
    /// The last of all, of a rule that counts them: so that nobody counts them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<UtcMs>,
}

/// Why the times of a rule are not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFault {
    /// What is wrong, for whoever wrote the rule.
    pub reason: String,
    /// Whether they may be found when the host is asked again.
    pub again: bool,
}
