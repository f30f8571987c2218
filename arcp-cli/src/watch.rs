//! `arcp watch`.

use arcp_blocking::{Client, ClientError, Job};
use arcp_host::stderr::say;
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::model::request::Watch;

use crate::args;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::follow::follow_to_end;
use crate::job_token::redeem;
use crate::list::{find, unknown};
use crate::notify::Program;

/// Follows a job from its first event that is kept. By a job token, from when the token was made.
pub fn run(args: args::Watch) -> Result<Exit, Failure> {
    args.following.check(false)?;
    let client = Chosen::of(&args.place)?.connect()?;
    let job = match (&args.job_token, &args.job) {
        (Some(token), _) => redeem(&client, token)?,
        (None, named) => {
            let named = named.as_deref().unwrap_or_default();
            watched(&client, &find(&client, named)?, named)?.0
        }
    };
    let (exit, terminal) = follow_to_end(&client, &job, args.following)?;
    if let (Some(command), Some(terminal)) = (&args.notify, &terminal) {
        let mut json = Object::new();
        json.str("type", "job.ended").str("job_id", job.id.as_str()).str("agent", &job.agent);
        json.str("status", terminal.status.as_str());
        let (id, status) = (job.id.to_string(), terminal.status.as_str().to_string());
        let variables = [("ARCP_JOB_ID", id), ("ARCP_STATUS", status), ("ARCP_AGENT", job.agent.clone())];
        match Program::on_end(command).run(&variables, &json.done()) {
            Ok(None) => {}
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => say(format_args!("arcp: --notify {command}: {status}")),
            Err(error) => say(format_args!("arcp: --notify {command}: {error}")),
        }
    }
    Ok(exit)
}

/// Watches a job from its present end on. Its open questions are sent once more.
pub fn from_now(job: WireId) -> Watch {
    Watch { job, after: None, history: Some(false) }
}

/// Watches a job with all that is kept of its history. Also returns how many of its events are gone.
pub fn watched(client: &Client, id: &WireId, named: &str) -> Result<(Job, u64), Failure> {
    let from = |n| client.watch(Watch { job: id.clone(), after: Some(n), history: Some(true) });
    let (mut watched, mut gone) = (from(0), 0);
    // More events may be deleted between two requests.
    for _ in 0..3 {
        let Err(ClientError::Refused(refusal)) = &watched else { break };
        let Some(kept) = refusal.history_after() else { break };
        say(format_args!("arcp: the first {kept} events of this job are no longer kept"));
        (watched, gone) = (from(kept), kept);
    }
    Ok((watched.map_err(|error| unknown(error, named))?, gone))
}
