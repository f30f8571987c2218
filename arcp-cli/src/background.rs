//! `arcp serve --background`: a runtime that keeps running without its terminal.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arcp_host::stderr::say;

use crate::args::Serve;
use crate::exit::{Exit, Failure};
use crate::places;
use crate::runtimes::Runtime;
use crate::state::State;

/// The internal option that tells the started runtime to leave the terminal.
const DETACHED: &str = "--detached";
/// A log of at least this many bytes is renamed at the next start; it replaces the one renamed before.
const LOG_BYTES: u64 = 10 << 20;
/// The time between two looks whether the runtime serves.
const LOOK: Duration = Duration::from_millis(20);

/// Starts this program again without a terminal, and waits until it serves or has exited.
pub fn start(args: &Serve) -> Result<Exit, Failure> {
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("no place for a log: {why}; serve without --background"))
    };
    let state = State::of_user().ok_or_else(|| unusable(&"neither HOME nor ARCP_STATE_DIR is set"))?;
    let (mut log, path) = open_log(&state, places::name(&places::of(args)?)).map_err(|error| unusable(&error))?;
    let begin = log.seek(SeekFrom::End(0))?;
    let given = std::env::args_os().skip(1).map(|arg| if arg == "--background" { DETACHED.into() } else { arg });
    let mut command = Command::new(std::env::current_exe()?);
    command.args(given).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn()?;
    match wait_until_it_serves(&state, &mut child)? {
        Some(runtime) => {
            writeln!(io::stdout(), "{}", runtime.places().join("\n"))?;
            say(format_args!(
                "arcp: serving in the background as process {}; its log is {}",
                runtime.pid,
                path.display()
            ));
            say(format_args!("arcp: stop it with: arcp stop {}", runtime.pid));
            Ok(Exit::Success)
        }
        None => {
            let code = child.wait()?.code();
            let exit = if code == Some(Exit::Usage as i32) { Exit::Usage } else { Exit::Failed };
            Err(Failure::new(exit, why(&path, begin)))
        }
    }
}

/// Leaves the terminal, so that the runtime survives its end.
pub fn leave_terminal() -> Result<(), Failure> {
    rustix::process::setsid().map(drop).map_err(|error| Failure::from(io::Error::from(error)))
}

/// Opens the log: one file for each place. Runtimes whose port is picked by the system share one.
fn open_log(state: &State, place: Option<String>) -> io::Result<(File, PathBuf)> {
    let folder = state.folder().join("logs");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(place.map_or("serve.log".to_string(), |place| format!("serve-{place}.log")));
    // A program that still writes to this file continues in the renamed one.
    if fs::metadata(&path).is_ok_and(|about| about.len() >= LOG_BYTES) {
        fs::rename(&path, path.with_extension("old.log"))?;
    }
    let log = File::options().read(true).append(true).create(true).mode(0o600).open(&path)?;
    Ok((log, path))
}

/// Waits until the child serves. `None` if it has exited.
fn wait_until_it_serves(state: &State, child: &mut Child) -> io::Result<Option<Runtime>> {
    loop {
        if let Some(runtime) = Runtime::all(state).into_iter().find(|runtime| runtime.pid == child.id()) {
            return Ok(Some(runtime));
        }
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What the child wrote to the log since its start.
fn why(log: &Path, begin: u64) -> String {
    let mut said = String::new();
    let read = File::open(log).and_then(|mut log| {
        log.seek(SeekFrom::Start(begin))?;
        log.read_to_string(&mut said)
    });
    let said = said.trim_end().trim_start_matches("arcp: ");
    if read.is_err() || said.is_empty() {
        return format!("the runtime ended without a word: see {}", log.display());
    }
    said.to_string()
}

/// The log file of a runtime, if it runs in the background.
pub fn log_of(runtime: &Runtime) -> Option<PathBuf> {
    let log = fs::read_link(format!("/proc/{}/fd/2", runtime.pid)).ok()?;
    log.extension().is_some_and(|extension| extension == "log").then_some(log)
}
