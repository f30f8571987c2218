//! The end of `arcp serve`: signals, the time that jobs get, and the report of jobs that were cut off.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arcp_blocking::{ServerHandle, Stopped};
use arcp_host::server_log::log;
use arcp_host::tls::Certificates;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure};
use crate::policy;
use crate::service;
use crate::tls;

/// How long jobs may continue after the program was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain(
    /// `None`: until they have ended.
    pub Option<Duration>,
);

/// Whether the program was started on a terminal.
struct Terminal(bool);

impl Terminal {
    fn now() -> Terminal {
        Terminal(Terminal::is_there())
    }

    /// Whether that terminal is gone. This tells a SIGHUP of the terminal from one that an operator sent.
    fn is_gone(&self) -> bool {
        self.0 && !Terminal::is_there()
    }

    fn is_there() -> bool {
        File::open("/dev/tty").is_ok()
    }
}

/// Files that are read again on SIGHUP.
#[derive(Debug)]
pub struct Files {
    pub certificates: Option<Arc<Certificates>>,
    /// The file of the policy.
    pub policy: Option<PathBuf>,
}

impl Files {
    fn is_empty(&self) -> bool {
        self.certificates.is_none() && self.policy.is_none()
    }

    fn read_again(&self, server: &ServerHandle) {
        if let Some(certificates) = &self.certificates {
            tls::read_again(certificates);
            server.check_clients();
        }
        if let Some(file) = &self.policy {
            policy::read_again(file, server);
        }
    }
}

/// The first signal drains; a second SIGTERM or SIGINT stops at once.
///
/// SIGHUP drains too if it comes from the end of the terminal. If there are certificates or a policy, SIGHUP has them
/// read again, as long as the terminal exists, there never was one, or the program was started by `nohup`.
pub fn on_signals(server: ServerHandle, Drain(time): Drain, files: Files) -> Result<(), Failure> {
    let mut heard = signals();
    let outlives_terminal = !heard.contains(&SIGHUP);
    // With files to read again, a SIGHUP is sent on purpose.
    if !files.is_empty() && outlives_terminal {
        heard.push(SIGHUP);
    }
    let mut signals = Signals::new(heard)?;
    let have = match time {
        Some(Duration::ZERO) => "no time to end".to_string(),
        Some(time) => format!("{} to end", humantime::format_duration(time)),
        None => "as long as they take".to_string(),
    };
    let terminal = Terminal::now();
    let listen = move || {
        let mut draining = false;
        for signal in signals.forever() {
            if signal == SIGHUP && !files.is_empty() && (outlives_terminal || !terminal.is_gone()) {
                files.read_again(&server);
                continue;
            }
            let name = match signal {
                SIGHUP => "SIGHUP, the terminal is gone",
                SIGINT => "SIGINT",
                _ => "SIGTERM",
            };
            if !draining {
                draining = true;
                log(format_args!(
                    "arcp: {name}: no new jobs are accepted, and those there are have {have}; \
                     once more to stop at once"
                ));
                service::stopping();
                server.drain();
            } else if signal != SIGHUP {
                log(format_args!("arcp: {name}: stopping at once"));
                server.shutdown();
            }
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen)?;
    Ok(())
}

/// Reports the jobs that were cut off, if there are any.
pub fn ended(stopped: &Stopped) -> Exit {
    let cut = stopped.cut.len();
    match cut {
        0 => Exit::Success,
        _ => {
            let jobs = if cut == 1 { "1 job had".to_string() } else { format!("{cut} jobs had") };
            log(format_args!("arcp: stopped while {jobs} not ended; --drain gives them more time"));
            Exit::Cut
        }
    }
}

/// The signals that end this program. SIGHUP, the end of the terminal, is one of them unless the program was started with
/// SIGHUP ignored, as by `nohup`.
pub fn signals() -> Vec<i32> {
    let heard = [SIGINT, SIGTERM, SIGHUP];
    heard.into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)).collect()
}

/// Whether a signal was ignored when this program was started.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}
