//! `arcp stop`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use arcp_host::stderr::say;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::exit::{Exit, Failure};
use crate::runtimes::Runtime;
use crate::state::State;
use crate::values;

/// The time between two looks whether the runtime has exited.
const LOOK: Duration = Duration::from_millis(20);

/// Stop runtimes this user started here, and wait until they exit.
///
/// Running jobs have the runtime's --drain time to finish.
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// The address, port or process id of each [default: the only one that runs].
    #[arg(value_name = "RUNTIME", value_parser = values::thing)]
    pub runtimes: Vec<String>,
    /// Stop all of them.
    #[arg(long, conflicts_with = "runtimes")]
    pub all: bool,
    /// Stop at once, without waiting for jobs.
    #[arg(long)]
    pub now: bool,
}

/// Stops runtimes.
pub fn run(args: &Stop) -> Result<Exit, Failure> {
    let state = State::of_user();
    let there = state.as_ref().map(Runtime::all).unwrap_or_default();
    let chosen = chosen(args, there)?;
    let processes: Vec<Option<OwnedFd>> = chosen.iter().map(process).collect();
    for runtime in &chosen {
        signal(runtime, Signal::TERM)?;
        if args.now {
            signal(runtime, Signal::INT)?;
        }
        say(format_args!("arcp: {} is stopping", runtime.url));
    }
    for (runtime, process) in chosen.iter().zip(processes) {
        while state.as_ref().is_some_and(|state| Runtime::all(state).iter().any(|other| other.pid == runtime.pid)) {
            std::thread::sleep(LOOK);
        }
        // The store is free when the process is gone, not when the entry is removed.
        if let Some(process) = process {
            while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(Errno::INTR) {}
        }
        say(format_args!("arcp: {} has ended", runtime.url));
    }
    Ok(Exit::Success)
}

fn chosen(args: &Stop, mut there: Vec<Runtime>) -> Result<Vec<Runtime>, Failure> {
    if args.all {
        return Ok(there);
    }
    if !args.runtimes.is_empty() {
        let named = args.runtimes.iter().map(|named| {
            let mut called = there.iter().filter(|runtime| runtime.is_called(named));
            match (called.next(), called.next()) {
                (Some(runtime), None) => Ok(runtime.clone()),
                (Some(_), Some(_)) => {
                    Err(Failure::usage(format!("several runtimes are called `{named}`: give the address of one")))
                }
                (None, _) => {
                    let is_job = named.starts_with("job_");
                    let see = if is_job { "`arcp cancel` ends a job" } else { "see `arcp runtimes`" };
                    let message = format!("no runtime of yours is called `{named}`: {see}");
                    Err(Failure::new(Exit::Failed, message))
                }
            }
        });
        return named.collect();
    }
    match there.len() {
        0 => Err(Failure::new(Exit::Failed, "no runtime of yours is running here: there is nothing to stop")),
        1 => Ok(vec![there.remove(0)]),
        several => {
            let urls: Vec<&str> = there.iter().map(|runtime| runtime.url.as_str()).collect();
            let message = format!("{several} runtimes are running, {}: name one, or give --all", urls.join(", "));
            Err(Failure::usage(message))
        }
    }
}

/// A descriptor that becomes readable when the process exits, if the system has such descriptors.
fn process(runtime: &Runtime) -> Option<OwnedFd> {
    let pid = i32::try_from(runtime.pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn signal(runtime: &Runtime, signal: Signal) -> Result<(), Failure> {
    // The process holds the lock of its entry, so that the id was not given to another process.
    let pid = i32::try_from(runtime.pid).ok().and_then(Pid::from_raw);
    match pid.map_or(Err(Errno::SRCH), |pid| kill_process(pid, signal)) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("{} (process {}): {error}", runtime.url, runtime.pid))),
    }
}
