//! `arcp handoff`.

use arcp_blocking::ClientError;
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::HandOver;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::list::{find, unknown};
use crate::values;

/// What our runtime says when nobody takes the job.
const NOBODY: &str = "takes jobs";

/// Make a job somebody else's while it goes on, with the right to cancel it.
///
/// Whoever is to have it waits for it in `arcp take`, or in another client that takes
/// jobs. It keeps its lease, its budget and its agent; nothing more of it is shown to
/// you.
#[derive(Debug, clap::Args)]
pub struct Handoff {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// Whose it is to be.
    #[arg(long, value_name = "PRINCIPAL")]
    pub to: Principal,
    /// The session that is to take it, as its `arcp take` names it [default: the
    /// latest of that principal that takes jobs].
    #[arg(long, value_name = "SESSION", value_parser = values::id)]
    pub session: Option<String>,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Hands a job over.
pub fn run(args: Handoff) -> Result<Exit, Failure> {
    let Handoff { job, to, session, reason, place } = args;
    let client = Chosen::of(&place)?.connect_for_handoff()?;
    let id = find(&client, &job)?;
    let no_session = |named: &String| Failure::usage(format!("`{}` is not the id of a session", visible(named)));
    let session = session.map(|named| WireId::new(&named).ok_or_else(|| no_session(&named))).transpose()?;
    let wish = HandOver { job: id.clone(), to: to.clone(), session, runtime: None, reason };
    client.hand_over(wish).map_err(|error| match &error {
        ClientError::Refused(refusal) if refusal.code != ErrorCode::JobNotFound => {
            let nobody = refusal.message.contains(NOBODY);
            let advice = if nobody { ": `arcp take` there, with a token of theirs, is one" } else { "" };
            Failure::new(of_refusal(refusal), format!("{id}: {}{advice}", visible(&refusal.message)))
        }
        ClientError::Refused(_)
        | ClientError::Config(_)
        | ClientError::Io(_)
        | ClientError::Ended(_)
        | ClientError::Misuse(_)
        | ClientError::Cleartext(_)
        | ClientError::Untrusted(_)
        | ClientError::NotTaken(_) => unknown(error, &job),
    })?;
    say(format_args!("arcp: {id} is handed over to {to}"));
    Ok(Exit::Success)
}

/// Whose a job has become, in words, if an event says so.
pub fn handed(event: &JobEvent) -> Option<String> {
    let JobEvent::Emitted { kind: EventKind::Status, body } = event else {
        return None;
    };
    let members = body.members().ok()?;
    let to = members.get_str("principal")?;
    (members.get_str("phase")? == "handed_over").then(|| format!("handed over to {}", visible(&to)))
}
