//! `arcp result`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use arcp_blocking::JobUpdate;
use arcp_host::stderr::{say, visible};
use arcp_proto::client::{ResultData, SessionEnd};
use arcp_proto::json::Object;
use arcp_proto::model::job::JobStatus;

use crate::args::Where;
use crate::connect::Chosen;
use crate::deliver::deliver;
use crate::exit::{Exit, Failure, of_end, of_refusal, of_terminal};
use crate::follow::{why_ended, write_end};
use crate::list::summary;
use crate::output::{Format, Printing};
use crate::values;
use crate::watch::watched;

/// Print the result of a finished job.
#[derive(Debug, clap::Args)]
pub struct ResultOf {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// Write the result, or the artifact it refers to, to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Prints the result of a job. The exit code is that of the job.
pub fn run(args: &ResultOf) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let job = summary(&client, &args.job)?;
    if !matches!(job.status, Some(JobStatus::Ended(_))) {
        let (id, status) = (&job.job, job.status.map_or("not over", JobStatus::as_str));
        let message = format!("{id} has no result yet, it is {status}: wait for it with `arcp wait {id}`");
        return Err(Failure::new(Exit::Failed, message));
    }
    let (watched, _) = watched(&client, &job.job, &args.job)?;
    for update in watched.updates() {
        match update {
            JobUpdate::Ended { terminal, result, .. } => {
                if let ResultData::Broken { why } = &result {
                    return Err(Failure::new(Exit::Lost, format!("the result is not whole: {why}")));
                }
                let mut out = io::stdout();
                if args.printing.output == Format::Table || args.save.is_some() {
                    deliver(&client, &result, args.save.as_deref())?;
                }
                match args.printing.output {
                    Format::Table => {}
                    Format::Id => writeln!(out, "{}", job.job)?,
                    Format::Json | Format::Jsonl => {
                        let mut line = Object::new();
                        line.str("job_id", job.job.as_str());
                        write_end(&mut line, &terminal, &result);
                        writeln!(out, "{}", line.done())?;
                    }
                }
                if let Some(error) = &terminal.error {
                    say(format_args!("arcp: {}", visible(&why_ended(&terminal, error))));
                }
                return Ok(of_terminal(&terminal));
            }
            JobUpdate::Gone(refusal) => {
                return Err(Failure::new(of_refusal(&refusal), format!("{}: {}", job.job, refusal.message)));
            }
            JobUpdate::Lost(end) => return Err(Failure::new(of_end(&end), end.to_string())),
            JobUpdate::Event { .. }
            | JobUpdate::Reconnecting { .. }
            | JobUpdate::Reconnected { .. }
            | JobUpdate::Missed { .. } => {}
        }
    }
    Err(Failure::new(Exit::Lost, SessionEnd::Closed.to_string()))
}
