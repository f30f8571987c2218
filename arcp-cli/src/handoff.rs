//! `arcp handoff`.

use std::io::Write as _;

use arcp_blocking::{ClientError, Job};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::handoff::Destination;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::{HandOver, Watch};
use clap::ArgGroup;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_code, of_refusal, of_terminal};
use crate::list::{find, summary, unknown};
use crate::values;

/// The detail of a refusal with which our runtime says that no session takes the job.
const NO_TAKER: &str = "no_taker";

/// Hand a job over, including the right to cancel it.
///
/// The receiver waits for it with `arcp take` or another client that takes jobs. The job
/// keeps running with its lease, budget and agent. You are shown no more of it.
///
/// Another runtime takes only queued jobs. The job starts there with what is left of its
/// lease, budget and time, and ends here; its id there is printed.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("receiver").required(true).args(["to", "to_runtime"])))]
pub struct Handoff {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// The principal that receives it.
    #[arg(long, value_name = "PRINCIPAL")]
    pub to: Option<Principal>,
    /// The runtime that receives it, as named by `arcp serve --handoff-to`. The principal
    /// of this runtime's token owns it there.
    #[arg(long, value_name = "NAME")]
    pub to_runtime: Option<String>,
    /// The key fingerprint that the other runtime must show.
    #[arg(long, value_name = "sha256:HEX", requires = "to_runtime")]
    pub fingerprint: Option<String>,
    /// Exit once the handoff has begun, without waiting for its outcome.
    #[arg(long, requires = "to_runtime")]
    pub detach: bool,
    /// The session that receives it, as its `arcp take` prints it [default: the
    /// principal's latest session that takes jobs].
    #[arg(long, value_name = "SESSION", value_parser = values::id, conflicts_with = "to_runtime")]
    pub session: Option<String>,
    /// The reason.
    #[arg(long)]
    pub reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Hands a job over.
pub fn run(args: Handoff) -> Result<Exit, Failure> {
    let Handoff { job, to, to_runtime, fingerprint, detach, session, reason, place } = args;
    let client = Chosen::of(&place)?.connect_for_handoff()?;
    let id = find(&client, &job)?;
    let no_session = |named: &String| Failure::usage(format!("`{}` is not the id of a session", visible(named)));
    let session = session.map(|named| WireId::new(&named).ok_or_else(|| no_session(&named))).transpose()?;
    let wish = HandOver { job: id.clone(), to: to.clone(), session, runtime: to_runtime.clone(), fingerprint, reason };
    let Some(runtime) = to_runtime else {
        client.hand_over(wish).map_err(|error| refused(error, &id, &job))?;
        let to = to.as_ref().map(ToString::to_string).unwrap_or_default();
        say(format_args!("arcp: {id} is handed over to {to}"));
        return Ok(Exit::Success);
    };
    // Only events after the present last one tell how this handoff ends; earlier ones are about earlier handoffs.
    let JobSummary { last_event, status, .. } = summary(&client, &job)?;
    let has_ended = matches!(status, Some(JobStatus::Ended(_)));
    let after = Some(if has_ended { last_event.saturating_sub(1) } else { last_event });
    let watched = client.watch(Watch { job: id.clone(), after, history: Some(true) });
    let watched = watched.map_err(|error| unknown(error, &job))?;
    client.hand_over(wish).map_err(|error| refused(error, &id, &job))?;
    say(format_args!("arcp: {id} is being handed over to the runtime {}", visible(&runtime)));
    if detach {
        return Ok(Exit::Success);
    }
    outcome(&watched, &runtime)
}

/// The failure for a handoff that was refused.
fn refused(error: ClientError, id: &WireId, job: &str) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return unknown(error, job);
    };
    if refusal.code == ErrorCode::JobNotFound {
        return unknown(error, job);
    }
    let details = refusal.details.as_ref().and_then(|details| details.members().ok());
    let nobody = details.is_some_and(|details| details.get_str("why").as_deref() == Some(NO_TAKER));
    let advice = if nobody { ": `arcp take` there, with a token of theirs, is one" } else { "" };
    Failure::new(of_refusal(refusal), format!("{id}: {}{advice}", visible(&refusal.message)))
}

/// Waits for the outcome of a handoff to another runtime.
fn outcome(job: &Job, runtime: &str) -> Result<Exit, Failure> {
    for event in job.events() {
        let JobEvent::Emitted { kind: EventKind::Status, body } = event else {
            continue; // Another runtime has it, or the job ended.
        };
        let members = body.members().unwrap_or_default();
        let said = visible(&members.get_str("message").unwrap_or_default());
        match members.get_str("phase").as_deref() {
            Some("handoff_failed") => {
                let code = members.get_str("code").map_or(ErrorCode::Unknown, |code| ErrorCode::from(code.as_str()));
                return Err(Failure::new(of_code(&code), format!("{}: {said} ({})", job.id, code.as_str())));
            }
            Some("handoff_in_doubt") => say(format_args!("arcp: {said}")),
            Some(_) | None => {}
        }
    }
    let terminal = &job.wait()?.terminal;
    let details = terminal.error.as_ref().and_then(|error| error.details.as_ref());
    if let Some(to) = details.and_then(Destination::of_details) {
        let (name, url) = (visible(&to.runtime), visible(&to.url));
        say(format_args!("arcp: {} is handed over to the runtime {name}: follow it there with --url {url}", job.id));
        writeln!(std::io::stdout(), "{}", visible(&to.job))?;
        return Ok(Exit::Success);
    }
    let is_in_doubt = details.is_some_and(|details| details.members().is_ok_and(|all| all.get("in_doubt").is_some()));
    let why = terminal.error.as_ref().map_or_else(|| "it has ended here".to_string(), |error| visible(&error.message));
    let exit = if is_in_doubt { Exit::Lost } else { of_terminal(terminal) };
    let exit = if exit == Exit::Success { Exit::Failed } else { exit };
    Err(Failure::new(exit, format!("{} did not go to {}: {why}", job.id, visible(runtime))))
}

/// The new owner of a job in words, if the event is a handoff.
pub fn handed(event: &JobEvent) -> Option<String> {
    let JobEvent::Emitted { kind: EventKind::Status, body } = event else {
        return None;
    };
    let members = body.members().ok()?;
    let to = members.get_str("principal")?;
    (members.get_str("phase")? == "handed_over").then(|| format!("handed over to {}", visible(&to)))
}
