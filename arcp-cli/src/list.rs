//! `arcp ls`, and finding a job by the beginning of its id.

use std::io;
use std::time::Duration;

use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, WireId};
use arcp_proto::json::{Json, Object};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::{ListQuery, Watch};
use arcp_proto::time::UtcMs;
use arcp_proto::trust::TrustLevel;

use crate::args;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::filter;
use crate::output::{self, Cell, Row};
use crate::times::{age, span};

const HEADER: [&str; 6] = ["JOB", "STATUS", "AGENT", "AGE", "TOOK", "OWNER"];
/// Jobs in one page of a listing.
const PAGE: u64 = 1000;
/// How many jobs are named if an id is ambiguous.
const NAMED: usize = 5;
/// How far the time in an id may be from the creation time in the listing, in milliseconds.
pub const AROUND_MS: u64 = 1000;
/// How a runtime begins the words that say for how long ended jobs are kept.
const KEPT: &str = "ended jobs are kept for ";
/// The length of an id as our runtime makes it.
const ID_BYTES: usize = "job_".len() + 26;

/// Lists jobs, the newest first.
pub fn run(args: args::List) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let mut query = filter::query(&args.filter).map_err(|why| Failure::usage(format!("--filter: {why}")))?;
    query.status.extend(args.status);
    query.agent = args.agent.or(query.agent);
    let asked = query.agent.clone();
    let jobs = all(&client, query)?;
    if let Some(agent) = asked.filter(|agent| jobs.is_empty() && !is_hosted(&client, agent)) {
        return Err(Failure::usage(format!("--agent {agent}: {}", there_is_none(&client, &agent))));
    }
    let shown = if args.limit == 0 { jobs.len() } else { args.limit.min(jobs.len()) };
    print(args.printing, jobs.iter().rev().take(shown))?;
    if shown < jobs.len() {
        say(format_args!("arcp: {shown} of {} jobs: --limit 0 for all", jobs.len()));
    }
    Ok(Exit::Success)
}

/// Prints jobs.
pub fn print<'a>(printing: output::Printing, jobs: impl Iterator<Item = &'a JobSummary>) -> io::Result<()> {
    output::rows(printing, &HEADER, &jobs.map(row).collect::<Vec<Row>>())
}

/// All jobs that match, the oldest first.
pub fn all(client: &Client, mut query: ListQuery) -> Result<Vec<JobSummary>, ClientError> {
    query.limit = Some(PAGE);
    let mut jobs = Vec::new();
    loop {
        let page = client.list(query.clone())?;
        jobs.extend(page.jobs);
        match page.next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(jobs),
        }
    }
}

/// The id of the job with this id, or of the only one whose id begins so. A whole id that is not listed is returned as
/// well: the runtime will say whether it exists.
pub fn find(client: &Client, named: &str) -> Result<WireId, Failure> {
    let as_named = || WireId::new(named).ok_or_else(|| Failure::usage(format!("`{named}` is not the id of a job")));
    if is_whole(named) {
        return as_named();
    }
    let Ok(jobs) = all(client, ListQuery::default()) else {
        return as_named();
    };
    let begins = |job: &&JobSummary| {
        let id = job.job.as_str();
        let begin = |text: &str| text.get(..named.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(named));
        begin(id) || id.strip_prefix("job_").is_some_and(begin)
    };
    let mut found: Vec<WireId> = jobs.iter().filter(begins).map(|job| job.job.clone()).collect();
    match found.as_slice() {
        [] => as_named(),
        [_] => Ok(found.remove(0)),
        several if several.iter().any(|job| job.as_str() == named) => as_named(),
        several => {
            let begun: Vec<&str> = several.iter().rev().take(NAMED).map(WireId::as_str).collect();
            let more = if several.len() > NAMED { ", ..." } else { "" };
            let message = format!(
                "`{named}` begins the ids of {} jobs: give more of one, such as {}{more}",
                several.len(),
                visible(&begun.join(", "))
            );
            Err(Failure::usage(message))
        }
    }
}

/// The listing's entry of a job, found by its id or the beginning of it.
pub fn summary(client: &Client, named: &str) -> Result<JobSummary, Failure> {
    let id = find(client, named)?;
    // An id contains the time at which it was made, so that not all jobs have to be listed.
    let made = JobId::parse(id.as_str()).map(|job| job.ulid().timestamp_ms());
    let around = made.map(|at| ListQuery {
        created_after: Some(UtcMs(at.saturating_sub(AROUND_MS))),
        created_before: Some(UtcMs(at.saturating_add(AROUND_MS))),
        ..ListQuery::default()
    });
    for query in around.into_iter().chain([ListQuery::default()]) {
        if let Some(job) = all(client, query)?.into_iter().find(|job| job.job == id) {
            return Ok(job);
        }
    }
    // The refusal of a watch says for how long ended jobs are kept.
    let asked = client.watch(Watch { job: id, after: None, history: None });
    Err(asked.err().map_or_else(|| not_there(named, None), |error| unknown(error, named)))
}

/// The failure for a refusal; one for an unknown job names the job.
pub fn unknown(error: ClientError, named: &str) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return error.into();
    };
    if refusal.code != ErrorCode::JobNotFound {
        return error.into();
    }
    // These are the words of our runtime; others leave them out.
    not_there(named, refusal.message.find(KEPT).map(|at| &refusal.message[at..]))
}

/// The failure that no job has this id; says for how long ended jobs are kept, if that is known.
fn not_there(named: &str, kept: Option<&str>) -> Failure {
    let (named, kept) = (visible(named), kept.map(visible));
    let message = match kept {
        Some(kept) if is_whole(&named) => format!("{named} is not here: {kept}"),
        kept => {
            let kept = kept.map(|kept| format!("; {kept}")).unwrap_or_default();
            format!("no job is called `{named}` there, or begins like it: see `arcp ls`{kept}")
        }
    };
    Failure::new(Exit::Failed, message)
}

/// Whether this is a whole id.
pub fn is_whole(id: &str) -> bool {
    id.starts_with("job_") && id.len() >= ID_BYTES
}

/// Whether the runtime hosts the agent, or does not list its agents.
fn is_hosted(client: &Client, agent: &AgentRef) -> bool {
    let agents = &client.welcome().agents;
    agents.is_empty() || agents.iter().any(|hosted| hosted.name == agent.name())
}

/// The message that there is no such agent, with those that there are.
pub fn there_is_none(client: &Client, agent: &AgentRef) -> String {
    let hosted: Vec<&str> = client.welcome().agents.iter().map(|hosted| hosted.name.as_str()).collect();
    match hosted.as_slice() {
        [] => format!("no agent is called `{}` there, and none that you may submit", agent.name()),
        hosted => {
            format!("no agent is called `{}` there: those there are {}", agent.name(), visible(&hosted.join(", ")))
        }
    }
}

fn row(job: &JobSummary) -> Row {
    Row {
        id: job.job.to_string(),
        cells: vec![
            Cell::from(job.job.as_str()),
            status(job),
            Cell::from(&job.agent),
            Cell::from(age(job.created_at)),
            Cell::from(took(job)),
            Cell::from(job.owner.as_deref().unwrap_or("-")),
        ],
        json: json(job).done(),
    }
}

/// The status of a job, or its place in the queue.
pub fn status(job: &JobSummary) -> Cell {
    place(job).map_or_else(|| Cell::status(job.status), Cell::from)
}

/// The place of a job in the queue, in words.
fn place(job: &JobSummary) -> Option<String> {
    let place = job.waits.place?;
    let ending = match (place % 10, place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        (_, _) => "th",
    };
    Some(format!("queued, {place}{ending}"))
}

/// The time from the acceptance of a job to its end.
pub fn took(job: &JobSummary) -> String {
    let Some((created, ended)) = job.created_at.zip(job.ended_at) else {
        return "-".to_string();
    };
    match ended.0.saturating_sub(created.0) {
        ms @ 0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        ms => span(Duration::from_millis(ms)),
    }
}

/// The entry of a job as JSON.
pub fn json(job: &JobSummary) -> Object {
    let created = job.created_at.map(|at| at.to_string()).unwrap_or_default();
    let mut line = Object::new();
    line.str("job_id", job.job.as_str())
        .str("status", job.status.map_or("unknown", JobStatus::as_str))
        .str("agent", &job.agent)
        .str("created_at", &created)
        .opt_str("ended_at", job.ended_at.map(|at| at.to_string()).as_deref())
        .opt_str("owner", job.owner.as_deref())
        .opt_str("trust_level", job.trust.map(TrustLevel::as_str))
        .opt_json("place", job.waits.place.and_then(|place| Json::from_value(&place).ok()).as_ref())
        .u64("last_event_seq", job.last_event)
        .opt_json("waits_for", Json::from_value(&job.waits.what).ok().as_ref().filter(|_| !job.waits.what.is_empty()))
        .opt_json("lease", Some(&job.lease).filter(|lease| **lease != Json::empty_object()))
        .opt_str("trace_id", job.trace.as_deref())
        .opt_str("parent_job_id", job.parent.as_ref().map(WireId::as_str));
    if !job.constraints.is_none() {
        line.raw("lease_constraints", job.constraints.to_json().as_str());
    }
    if !job.budget.is_empty() {
        line.raw("budget", job.budget.to_json().as_str());
    }
    if !job.raised.is_empty() {
        line.raw("budget_raised", job.raised.to_json().as_str());
    }
    line
}
