//! Questions that jobs ask people, read from the store for notifications.

use std::path::Path;

use arcp_host::sqlite::OpenError;
use arcp_host::sqlite::lookup::{self, Asked};
use arcp_proto::id::{LogPos, PromptId};
use arcp_proto::json::Object;
use arcp_proto::model::event::JobEvent;
use arcp_proto::runtime::{EventRecord, OpenPrompt};

use crate::question::Kind;
use crate::telling::{Found, News, READ};

/// The questions that jobs asked after a position in the log, and the position up to which the log was read. Questions
/// that are not open any more are left out.
pub fn read(store: &Path, after: LogPos) -> Result<(Vec<Found>, LogPos), OpenError> {
    let (asked, upto) = lookup::asked(store, after, READ)?;
    let found = asked.iter().map(|asked| {
        let questions = asked.questions.iter();
        let news = questions.filter_map(|(open, event)| news(asked, open, event)).collect();
        Found { at: asked.at, job: asked.job.job, upto: asked.last, news }
    });
    Ok((found.collect(), upto))
}

fn news(asked: &Asked, open: &OpenPrompt, event: &EventRecord) -> Option<News> {
    let JobEvent::Emitted { kind, body } = &*event.event else {
        return None;
    };
    let (job, kind) = (&asked.job, Kind::of(kind)?.as_str());
    let id = PromptId { job: job.job, number: open.number }.to_string();
    let (job_id, agent) = (job.job.to_string(), job.agent.to_string());
    let mut json = Object::new();
    json.str("type", "job.asked").str("kind", kind).str("job_id", &job_id).str("agent", &agent);
    json.display("principal", &job.principal).display("asked_at", event.at).str("trace_id", &job.trace);
    for (name, value) in &body.members().ok()?.0 {
        json.member(name, value);
    }
    let what = format!("{job_id} asks {id}");
    let variables = vec![
        ("ARCP_PROMPT_ID", id.clone()),
        ("ARCP_PROMPT_KIND", kind.to_string()),
        ("ARCP_JOB_ID", job_id),
        ("ARCP_AGENT", agent),
    ];
    Some(News { id, what, variables, json: json.done(), at: event.at, until: Some(open.expires_at) })
}
