//! Ended jobs, read from the store for notifications.

use std::path::Path;

use arcp_host::sqlite::OpenError;
use arcp_host::sqlite::lookup::{self, End};
use arcp_proto::id::LogPos;
use arcp_proto::json::Object;
use arcp_proto::model::event::{JobEvent, JobResult, Terminal};

use crate::telling::{Found, News, READ};

/// The jobs that ended after a position in the log, and the position up to which the log was read.
pub fn read(store: &Path, after: LogPos) -> Result<(Vec<Found>, LogPos), OpenError> {
    let (ends, upto) = lookup::ends(store, after, READ)?;
    let found =
        ends.iter().map(|end| Found { at: end.at, job: end.job.job, upto: 1, news: news(end).into_iter().collect() });
    Ok((found.collect(), upto))
}

fn news(end: &End) -> Option<News> {
    let JobEvent::Ended(terminal) = &*end.event.event else {
        return None;
    };
    let job = &end.job;
    let (id, agent, status) = (job.job.to_string(), job.agent.to_string(), terminal.status.as_str());
    let mut json = Object::new();
    json.str("type", "job.ended").str("job_id", &id).str("agent", &agent).str("status", status);
    json.display("principal", &job.principal).display("created_at", job.created_at).display("ended_at", end.event.at);
    json.str("trace_id", &job.trace);
    write_terminal(&mut json, terminal);
    let what = format!("{id} ended");
    let variables = vec![("ARCP_JOB_ID", id.clone()), ("ARCP_STATUS", status.to_string()), ("ARCP_AGENT", agent)];
    Some(News { id, what, variables, json: json.done(), at: end.event.at, until: None })
}

/// Of an artifact, the reference is written. A result in pieces is left out: `arcp result` fetches it.
fn write_terminal(json: &mut Object, terminal: &Terminal) {
    match &terminal.result {
        Some(JobResult::Inline(result) | JobResult::Streamed { inline: Some(result), .. }) => {
            json.raw("result", result.as_str());
        }
        Some(JobResult::Stored(stored)) => drop(json.raw("result_ref", stored.to_json().as_str())),
        Some(JobResult::Streamed { inline: None, .. }) | None => {}
    }
    if let Some(error) = &terminal.error {
        json.object("error", |out| {
            out.str("code", error.code.as_str()).str("message", &error.message);
        });
    }
    json.opt_str("summary", terminal.summary.as_deref());
}
