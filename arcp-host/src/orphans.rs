//! Programs that outlived the runtime, or the program, that started them.
//!
//! A runtime that is killed cannot end its programs. The next runtime of the store finds them by a mark in their
//! environment, which they pass on to the processes that they start. The processes of a cancelled job that have left the
//! process group of its program are found by another mark in the same way.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The variable that names the store of the runtime.
pub(crate) const STORE: &str = "ARCP_STORE";
/// The variable whose value each start of a program has for itself. Commands that the operator has run for a job, such as
/// `--on-end`, do not have it.
pub(crate) const PROGRAM: &str = "ARCP_PROGRAM";
/// How often processes are searched for that others start while they are killed. One that starts them faster is left.
const SEARCHES: usize = 4;

/// Kills every program with this mark, and returns their number. The caller must hold the lock of
/// the store that the mark names, so that no other runtime starts such programs meanwhile.
///
/// This needs `/proc`; on systems without it, no programs are found.
///
/// ```
/// assert_eq!(arcp_host::orphans::end("/a/store/that/nobody/has.db")?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If `/proc` exists and cannot be listed.
pub fn end(mark: &str) -> io::Result<usize> {
    end_with(&format!("{STORE}={mark}"))
}

/// Kills the processes that this start of a program has left, also those that they start meanwhile.
///
/// # Errors
///
/// As for [`end`].
pub(crate) fn end_of(program: &str) -> io::Result<()> {
    let wanted = format!("{PROGRAM}={program}");
    for _ in 0..SEARCHES {
        if end_with(&wanted)? == 0 {
            break;
        }
    }
    Ok(())
}

fn end_with(wanted: &str) -> io::Result<usize> {
    let mut ended = 0;
    if !Path::new("/proc/self/environ").exists() {
        return Ok(0);
    }
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| pid.as_raw_pid() != own_pid()) else {
            continue;
        };
        // The environments of other users' programs, and of those that have just ended, cannot be
        // read.
        let marked = || {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        if kill_if(pid, marked) {
            ended += 1;
        }
    }
    Ok(ended)
}

/// Kills this process if the condition holds; returns whether it did.
#[cfg(target_os = "linux")]
fn kill_if(pid: Pid, condition: impl FnOnce() -> bool) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

    // The process is opened before anybody looks at it: its id may have another process by the time of the kill.
    let opened = pidfd_open(pid, PidfdFlags::empty());
    condition()
        && match opened {
            Ok(process) => pidfd_send_signal(process, Signal::KILL).is_ok(),
            Err(_) => kill_process(pid, Signal::KILL).is_ok(),
        }
}

#[cfg(not(target_os = "linux"))]
fn kill_if(pid: Pid, condition: impl FnOnce() -> bool) -> bool {
    condition() && kill_process(pid, Signal::KILL).is_ok()
}

fn own_pid() -> i32 {
    // Skipped, because an agent may have started this runtime.
    i32::try_from(std::process::id()).unwrap_or(0)
}
