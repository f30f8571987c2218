//! Programs that outlived the runtime that started them.
//!
//! A runtime that is killed cannot end what it started. Whoever takes its
//! place finds those programs by a mark in their environment, which they hand
//! on to whatever they start.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The variable that holds the mark.
pub(crate) const MARK: &str = "ARCP_STORE";

/// Ends every program with this mark, and gives their number. Nobody may run
/// agents with it meanwhile: hold the store that it names.
///
/// Only where `/proc` tells of environments; elsewhere none is found.
///
/// ```
/// assert_eq!(arcp_host::orphans::end("/a/store/that/nobody/has.db")?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If `/proc` is there and cannot be listed.
pub fn end(mark: &str) -> io::Result<usize> {
    let wanted = format!("{MARK}={mark}");
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
        // Others' programs, and those that have just gone, cannot be read.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        if marked && kill_process(pid, Signal::KILL).is_ok() {
            ended += 1;
        }
    }
    Ok(ended)
}

fn own_pid() -> i32 {
    // A runtime may itself have been started by an agent.
    i32::try_from(std::process::id()).unwrap_or(0)
}
