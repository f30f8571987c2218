//! `arcp wait`.

use std::time::{Duration, Instant};

use arcp_blocking::{Job, JobUpdate};
use arcp_proto::json::Object;
use arcp_proto::model::event::Terminal;
use arcp_proto::model::job::JobStatus;
use arcp_proto::model::request::Watch;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_end, of_refusal, of_terminal};
use crate::list::{summary, unknown};
use crate::output::{self, Cell, Printing, Row};
use crate::values;

const HEADER: [&str; 3] = ["JOB", "STATUS", "AGENT"];
/// Long enough to stand for no timeout.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Wait until jobs finish.
///
/// Exits with 0 if all succeeded, else with the code of the first, in the given order,
/// that did not.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// The jobs.
    #[arg(value_parser = values::id, required = true, value_name = "JOB")]
    pub jobs: Vec<String>,
    /// The longest time to wait; then it exits with 4.
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    pub timeout: Option<Duration>,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Waits for jobs.
pub fn run(args: &Wait) -> Result<Exit, Failure> {
    let deadline = Instant::now() + args.timeout.unwrap_or(YEAR);
    let client = Chosen::of(&args.place)?.connect()?;
    let mut waited_for: Vec<Job> = Vec::new();
    for named in &args.jobs {
        let job = summary(&client, named)?;
        // The last event is the end, if the job has ended.
        let after = Some(job.last_event.saturating_sub(1));
        if waited_for.iter().all(|other| other.id != job.job) {
            let watch = Watch { job: job.job, after, history: Some(true) };
            waited_for.push(client.watch(watch).map_err(|error| unknown(error, named))?);
        }
    }
    let mut exit = Exit::Success;
    let mut ended = Vec::new();
    for job in &waited_for {
        let terminal = end_of(job, deadline)?;
        if exit == Exit::Success {
            exit = of_terminal(&terminal);
        }
        ended.push(row(job, &terminal));
    }
    output::rows(args.printing, &HEADER, &ended)?;
    Ok(exit)
}

fn end_of(job: &Job, deadline: Instant) -> Result<Terminal, Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match job.next_update_in(left) {
            Some(JobUpdate::Ended { terminal, .. }) => return Ok(terminal),
            Some(JobUpdate::Gone(refusal)) => {
                return Err(Failure::new(of_refusal(&refusal), format!("{}: {}", job.id, refusal.message)));
            }
            Some(JobUpdate::Lost(end)) => {
                return Err(Failure::new(of_end(&end), format!("{end}; {} may go on", job.id)));
            }
            Some(
                JobUpdate::Event { .. }
                | JobUpdate::Reconnecting { .. }
                | JobUpdate::Reconnected { .. }
                | JobUpdate::Missed { .. },
            ) => {}
            None if left.is_zero() => {
                let message = format!("{} goes on: wait longer with --timeout", job.id);
                return Err(Failure::new(Exit::TimedOut, message));
            }
            None => {}
        }
    }
}

fn row(job: &Job, terminal: &Terminal) -> Row {
    let status = JobStatus::Ended(terminal.status);
    let mut line = Object::new();
    line.str("job_id", job.id.as_str()).str("status", status.as_str()).str("agent", &job.agent);
    if let Some(error) = &terminal.error {
        line.str("error_code", error.code.as_str()).str("error", &error.message);
    }
    let cells = vec![Cell::from(job.id.as_str()), Cell::status(Some(status)), Cell::from(&job.agent)];
    Row { id: job.id.to_string(), cells, json: line.done() }
}
