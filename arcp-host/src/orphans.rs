//! Programs that outlived the runtime, or the program, that started them.
//!
//! A runtime that is killed cannot end its programs. The next runtime of the store finds them by a mark in their
//! environment, which they pass on to the processes that they start. The processes of a cancelled job that have left the
//! process group of its program are found in the same way.

use std::fs;
use std::io;
use std::path::Path;

use arcp_proto::id::JobId;
use rustix::process::{Pid, Signal, kill_process};

/// The variable that holds the mark.
pub(crate) const MARK: &str = "ARCP_STORE";
/// The variable that holds the id of a program's job.
pub(crate) const JOB: &str = "ARCP_JOB_ID";

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
    end_with(&format!("{MARK}={mark}"))
}

/// Kills every program of a job. The caller starts none of them any more.
///
/// # Errors
///
/// As for [`end`].
pub(crate) fn end_of(job: JobId) -> io::Result<usize> {
    end_with(&format!("{JOB}={job}"))
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
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        if marked && kill_process(pid, Signal::KILL).is_ok() {
            ended += 1;
        }
    }
    Ok(ended)
}

fn own_pid() -> i32 {
    // Skipped, because an agent may have started this runtime.
    i32::try_from(std::process::id()).unwrap_or(0)
}
