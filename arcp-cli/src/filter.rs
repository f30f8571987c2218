//! The `--filter` of commands that concern several jobs.

use std::time::Duration;

use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::JobStatus;
use arcp_proto::model::request::ListQuery;
use arcp_proto::time::UtcMs;

use crate::times::now;
use crate::values;

/// A condition that a job meets or does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The job has this status.
    Status(JobStatus),
    /// The job runs this agent.
    Agent(AgentRef),
    /// The job was submitted longer ago than this.
    Older(Duration),
    /// The job was submitted within this time.
    Newer(Duration),
}

/// Parses a condition.
pub fn condition(text: &str) -> Result<Condition, String> {
    let expected = "expected status=STATUS, agent=NAME, older=SPAN or newer=SPAN, such as older=2h";
    let (name, value) = text.split_once('=').ok_or(expected)?;
    match name {
        "status" => value.parse().map(Condition::Status).map_err(|_| {
            format!("expected one of these statuses: {}", JobStatus::ALL.map(JobStatus::as_str).join(", "))
        }),
        "agent" => values::agent(value).map(Condition::Agent),
        "older" => values::span(value).map(Condition::Older),
        "newer" => values::span(value).map(Condition::Newer),
        _ => Err(expected.to_string()),
    }
}

/// The listing of jobs that meet all conditions. Several statuses mean any of them.
///
/// # Errors
///
/// If a condition is given twice that can be given only once.
pub fn query(conditions: &[Condition]) -> Result<ListQuery, String> {
    let mut query = ListQuery::default();
    for condition in conditions {
        let twice = match condition {
            Condition::Status(status) => {
                query.status.push(*status);
                false
            }
            Condition::Agent(agent) => query.agent.replace(agent.clone()).is_some(),
            Condition::Older(span) => query.created_before.replace(ago(*span)).is_some(),
            Condition::Newer(span) => query.created_after.replace(ago(*span)).is_some(),
        };
        if twice {
            return Err("agent, older and newer can each be given once".to_string());
        }
    }
    Ok(query)
}

fn ago(span: Duration) -> UtcMs {
    UtcMs(now().0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}
