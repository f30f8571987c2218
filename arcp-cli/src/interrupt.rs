//! `arcp interrupt`.

use arcp_blocking::ClientError;
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::list::find;

/// Send a message to the agent of a running job, if the agent accepts interrupts.
///
/// The job is blocked until its agent resumes. Questions of the agent are in `arcp
/// inbox`.
#[derive(Debug, clap::Args)]
pub struct Interrupt {
    /// The job.
    pub job: String,
    /// The message.
    pub prompt: String,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Interrupts a job.
pub fn run(args: Interrupt) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let job = find(&client, &args.job)?;
    client.interrupt(job.clone(), args.prompt).map_err(|error| {
        let ClientError::Refused(refusal) = &error else {
            return error.into();
        };
        let advice = if refusal.code == ErrorCode::Unimplemented { ": `arcp cancel` stops it" } else { "" };
        Failure::new(of_refusal(refusal), format!("{job}: {}{advice}", visible(&refusal.message)))
    })?;
    say(format_args!("arcp: {job} is interrupted: it is blocked until its agent goes on"));
    Ok(Exit::Success)
}
