//! `arcp list`, and finding a job by how its id begins.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::{say, visible};
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::ListQuery;
use arcp_proto::time::UtcMs;

use crate::args::{self, Output};
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};

/// Entries of a page.
const PAGE: u64 = 1000;
/// Jobs named where an id could be several.
const NAMED: usize = 5;
/// An id as this program makes it.
const ID_BYTES: usize = "job_".len() + 26;

/// Lists jobs, the newest first.
pub fn run(args: args::List) -> Result<Exit, Failure> {
    let query = ListQuery { status: args.status, agent: args.agent.clone(), ..ListQuery::default() };
    let client = Chosen::of(&args.place)?.connect()?;
    let jobs = all(&client, query)?;
    if let Some(agent) = args.agent.filter(|agent| jobs.is_empty() && !is_hosted(&client, agent)) {
        return Err(Failure::usage(format!("--agent {agent}: {}", there_is_none(&client, &agent))));
    }
    let shown = if args.limit == 0 { jobs.len() } else { args.limit.min(jobs.len()) };
    let mut out = std::io::stdout().lock();
    if args.output == Output::Text {
        say(format_args!("{:<30} {:<10} {:<20} AGE", "JOB", "STATUS", "AGENT"));
    }
    for job in jobs.iter().rev().take(shown) {
        writeln!(out, "{}", row(job, args.output))?;
    }
    if shown < jobs.len() {
        say(format_args!("arcp: {shown} of {} jobs: --limit 0 for all", jobs.len()));
    }
    Ok(Exit::Success)
}

/// All that match, the oldest first.
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

/// The job that has this id, or whose id alone begins like this. What is not
/// listed is perhaps there all the same: the runtime will say.
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

/// Whether nothing is missing from this id.
pub fn is_whole(id: &str) -> bool {
    id.starts_with("job_") && id.len() >= ID_BYTES
}

/// Whether a runtime that says what it hosts hosts this.
fn is_hosted(client: &Client, agent: &AgentRef) -> bool {
    let agents = &client.welcome().agents;
    agents.is_empty() || agents.iter().any(|hosted| hosted.name == agent.name())
}

/// That there is no such agent, and which there are.
pub fn there_is_none(client: &Client, agent: &AgentRef) -> String {
    let hosted: Vec<&str> = client.welcome().agents.iter().map(|hosted| hosted.name.as_str()).collect();
    format!("no agent is called `{}` there: it has {}", agent.name(), visible(&hosted.join(", ")))
}

fn row(job: &JobSummary, output: Output) -> String {
    let status = job.status.map_or("unknown", JobStatus::as_str);
    match output {
        Output::Text => {
            let (id, agent) = (visible(job.job.as_str()), visible(&job.agent));
            format!("{id:<30} {status:<10} {agent:<20} {}", age(job.created_at))
        }
        Output::Json => {
            let created = job.created_at.map(|at| at.to_string()).unwrap_or_default();
            let mut line = Object::new();
            line.str("job_id", job.job.as_str())
                .str("status", status)
                .str("agent", &job.agent)
                .str("created_at", &created)
                .u64("last_event_seq", job.last_event)
                .opt_str("trace_id", job.trace.as_deref());
            line.done()
        }
    }
}

/// The time of this machine.
pub fn now() -> UtcMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long ago it was, in its largest unit.
pub fn age(since: Option<UtcMs>) -> String {
    let Some(since) = since else {
        return "-".to_string();
    };
    let seconds = Duration::from_millis(now().0.saturating_sub(since.0)).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
