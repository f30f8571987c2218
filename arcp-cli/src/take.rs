//! `arcp take`.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arcp_blocking::{Client, Job};
use arcp_host::stderr::say;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::follow::{Following, follow, interrupted};
use crate::submit::detached;
use crate::values;

/// The time between two looks for an interrupt.
const LOOK: Duration = Duration::from_millis(100);

/// Wait for a job that is handed over to you, and follow it.
///
/// The job is yours from then on: `arcp ls` lists it, and you can cancel it. `arcp
/// handoff` hands a job over, only to a principal that is waiting for one.
#[derive(Debug, clap::Args)]
pub struct Take {
    /// Print the job's id and exit.
    #[arg(long)]
    pub detach: bool,
    /// The longest time to wait; then it exits with 4.
    #[arg(long, value_name = "SPAN", value_parser = values::some_span)]
    pub timeout: Option<Duration>,
    /// How to follow the job.
    #[command(flatten)]
    pub following: Following,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Takes a job.
pub fn run(args: &Take) -> Result<Exit, Failure> {
    args.following.check(args.detach)?;
    let client = Chosen::of(&args.place)?.connect_for_handoff()?;
    let session = &client.welcome().session;
    say(format_args!("arcp: waiting for a job that is handed over to session {session}"));
    let Some(job) = handed(&client, args.timeout)? else {
        return Ok(Exit::Interrupted);
    };
    if args.detach {
        writeln!(std::io::stdout(), "{}", detached(&job.id, args.following.output))?;
        return Ok(Exit::Success);
    }
    say(format_args!("arcp: {} of {} is yours", job.id, job.agent));
    follow(&client, &job, args.following.clone())
}

/// The next job that is handed over; `None` after the timeout or an interrupt.
fn handed(client: &Client, timeout: Option<Duration>) -> Result<Option<Job>, Failure> {
    let interrupted = interrupted()?;
    let asked = Instant::now();
    while !interrupted.load(Ordering::SeqCst) {
        if let Some(job) = client.next_handed_job(LOOK)? {
            return Ok(Some(job));
        }
        if timeout.is_some_and(|most| asked.elapsed() >= most) {
            return Err(Failure::new(Exit::TimedOut, "nobody handed a job over: give more than this --timeout"));
        }
    }
    Ok(None)
}
