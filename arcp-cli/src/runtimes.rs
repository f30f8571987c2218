//! The runtimes that this user has started on this machine, and `arcp runtimes`. Each runtime has an entry: a file.
//!
//! A runtime holds a lock on its entry as long as it lives. An entry without a lock is of a runtime that was killed,
//! and is ignored.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_blocking::Target;
use arcp_host::stderr::say;
use arcp_host::tls::KnownRuntimes;
use arcp_proto::json::Object;
use arcp_proto::model::job::JobStatus;
use arcp_proto::model::request::ListQuery;
use arcp_proto::time::UtcMs;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::args::{self, RuntimesAction};
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Format, Row};
use crate::places;
use crate::state::State;
use crate::times::{age, now};
use crate::values;

const FOLDER: &str = "runtimes";
const HEADER: [&str; 5] = ["ADDRESS", "PID", "AGE", "JOBS", "AGENTS"];
/// The lock for changes of the folder.
const LOCK: &str = "lock";
/// How long a runtime may take to report its jobs and agents.
const ANSWER: Duration = Duration::from_secs(2);

/// A runtime that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// The URL that commands connect to.
    pub url: String,
    /// The other URLs at which it listens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// When it was started.
    pub since: UtcMs,
    /// The id of its process.
    pub pid: u32,
    /// The token that it generated, unless its operator gave it others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The file of its store; `None` if its store is in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// The file of its certificate, if it has TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
}

/// The entry of a runtime of this process.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    /// The locked file.
    file: File,
}

impl Runtime {
    /// The entry of a runtime that starts now.
    pub fn new(url: &str, token: Option<String>, store: Option<PathBuf>) -> Runtime {
        let (url, others) = (url.to_string(), Vec::new());
        Runtime { url, others, since: now(), pid: std::process::id(), token, store, certificate: None }
    }

    /// All running ones, the newest first.
    pub fn all(state: &State) -> Vec<Runtime> {
        Runtime::of(state, geteuid().as_raw())
    }

    /// Those whose entry belongs to this user: an entry that another user wrote could name any process.
    fn of(state: &State, user: u32) -> Vec<Runtime> {
        let files = fs::read_dir(state.folder().join(FOLDER)).into_iter().flatten().flatten();
        let mut all: Vec<Runtime> = files.filter_map(|file| Runtime::read(&file.path(), user)).collect();
        all.sort_by_key(|runtime| std::cmp::Reverse(runtime.since));
        all
    }

    /// The one at this target.
    pub fn at(state: &State, target: &Target) -> Option<Runtime> {
        Runtime::all(state).into_iter().find(|runtime| runtime.is_at(target))
    }

    /// The runtime of this user with this name.
    pub fn named(named: &str) -> Option<Runtime> {
        Runtime::all(&State::of_user()?).into_iter().find(|runtime| runtime.is_called(named))
    }

    /// Whether `named` is its URL, its port, with or without a colon, or the id of its process.
    pub fn is_called(&self, named: &str) -> bool {
        let port = named.strip_prefix(':').unwrap_or(named).parse().ok();
        named == self.pid.to_string()
            || port.is_some_and(|port: u16| self.ports().any(|own| own == port))
            || values::runtime(named).is_ok_and(|target| self.is_at(&target))
    }

    /// The URLs at which it listens, first the one for commands.
    pub fn places(&self) -> Vec<&str> {
        [&self.url].into_iter().chain(&self.others).map(String::as_str).collect()
    }

    /// The targets at which it listens.
    fn targets(&self) -> impl Iterator<Item = Target> {
        self.places().into_iter().filter_map(|url| url.parse().ok())
    }

    fn is_at(&self, target: &Target) -> bool {
        self.targets().any(|own| is_same(&own, target))
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        self.targets().filter_map(|target| target.address().map(|(_, port)| port))
    }

    /// Writes its entry, readable by the user alone.
    pub fn announce(&self, state: &State) -> io::Result<Entry> {
        let folder = state.folder().join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let _changing = changing(&folder)?;
        forget_killed(&folder)?;
        let path = folder.join(self.file_name());
        let fresh = path.with_extension("new");
        // A file that is already there may belong to another user, or be a link.
        let _ = fs::remove_file(&fresh);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.lock()?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        fs::rename(&fresh, &path)?;
        Ok(Entry { path, file })
    }

    fn file_name(&self) -> String {
        let (scheme, place) = self.url.split_once("://").unwrap_or_default();
        if scheme == "unix" {
            return format!("unix{}.json", places::tame(place));
        }
        let tame = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}.json", place.split('/').next().unwrap_or_default().chars().map(tame).collect::<String>())
    }

    /// The runtime of an entry, if the entry belongs to this user and is locked.
    fn read(path: &Path, user: u32) -> Option<Runtime> {
        path.extension().filter(|extension| *extension == "json")?;
        let is_of_user = |file: &File| file.metadata().is_ok_and(|about| about.uid() == user);
        let file = File::open(path).ok().filter(|file| is_of_user(file) && is_held(file))?;
        serde_json::from_reader(file).ok()
    }
}

impl Entry {
    /// Removes the entry, unless another runtime has replaced it.
    pub fn take_back(self) {
        let Some(Ok(_changing)) = self.path.parent().map(changing) else {
            return;
        };
        let same = |there: fs::Metadata| self.file.metadata().is_ok_and(|own| own.ino() == there.ino());
        if fs::metadata(&self.path).is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn changing(folder: &Path) -> io::Result<File> {
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

/// Whether a process holds the lock. On a file system without locks, every entry counts as locked.
fn is_held(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
}

fn forget_killed(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.file_name() != LOCK) {
        if File::open(entry.path()).is_ok_and(|file| !is_held(&file)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether both targets are the same runtime: this machine has several names.
pub fn is_same(one: &Target, other: &Target) -> bool {
    match (one.address(), other.address()) {
        (Some((host, _)), Some((other_host, _))) if is_local(host) && is_local(other_host) => {
            one.clone().with_host(other_host) == *other
        }
        _ => match (one, other) {
            (Target::Unix(path), Target::Unix(other)) => {
                path == other
                    || matches!((std::path::absolute(path), std::path::absolute(other)), (Ok(a), Ok(b)) if a == b)
            }
            _ => one == other,
        },
    }
}

/// Whether this is an address of this machine. A runtime that listens on all addresses is reached there as well.
fn is_local(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// Lists the runtimes, or forgets the key of one.
pub fn run(args: &args::Runtimes) -> Result<Exit, Failure> {
    match &args.action {
        Some(RuntimesAction::Forget { runtime }) => forget(runtime),
        None => list(args),
    }
}

fn forget(named: &str) -> Result<Exit, Failure> {
    let state = State::of_user().ok_or_else(|| Failure::new(Exit::Failed, "neither HOME nor ARCP_STATE_DIR is set"))?;
    let named = if named.contains("://") { named.to_string() } else { format!("wss://{named}") };
    let target = values::runtime(&named).map_err(Failure::usage)?;
    let name = KnownRuntimes::name_of(&target)
        .ok_or_else(|| Failure::usage(format!("{named} has no key: it is without TLS")))?;
    let file = state.known_runtimes();
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("{}: {error}", file.display()));
    if !KnownRuntimes::at(&file).forget(&name).map_err(failed)? {
        return Err(Failure::new(Exit::Failed, format!("{} has no {name}", file.display())));
    }
    say(format_args!("arcp: {name} is forgotten"));
    Ok(Exit::Success)
}

/// Lists the runtimes of this user.
fn list(args: &args::Runtimes) -> Result<Exit, Failure> {
    let all = State::of_user().map(|state| Runtime::all(&state)).unwrap_or_default();
    if all.is_empty() {
        say(format_args!("arcp: none is running: start one with `arcp serve`"));
    }
    let rows: Vec<Row> = all.iter().map(|runtime| row(runtime, Seen::of(runtime).as_ref())).collect();
    if !(rows.is_empty() && args.printing.output == Format::Table) {
        output::rows(args.printing, &HEADER, &rows)?;
    }
    Ok(Exit::Success)
}

/// What a runtime reports to its user.
pub struct Seen {
    /// How many jobs have not ended.
    pub unfinished: usize,
    /// The hosted agents.
    pub agents: Vec<String>,
    /// Its program and version.
    pub version: String,
}

impl Seen {
    /// Asks the runtime. `None` if it needs a token that is not kept here.
    pub fn of(runtime: &Runtime) -> Option<Seen> {
        let client = Chosen::of_runtime(runtime)?.connect_within(ANSWER).ok()?;
        let welcome = client.welcome();
        let agents = welcome.agents.iter().map(|agent| agent.name.clone()).collect();
        let version = format!("{} {}", welcome.runtime.name, welcome.runtime.version);
        let unfinished = [JobStatus::Pending, JobStatus::Running, JobStatus::Blocked, JobStatus::Paused];
        let query = ListQuery { status: unfinished.to_vec(), ..ListQuery::default() };
        let unfinished = crate::list::all(&client, query).ok()?.len();
        Some(Seen { unfinished, agents, version })
    }
}

fn row(runtime: &Runtime, seen: Option<&Seen>) -> Row {
    Row {
        id: runtime.url.clone(),
        cells: vec![
            Cell::from(runtime.places().join(" ")),
            Cell::from(runtime.pid.to_string()),
            Cell::from(age(Some(runtime.since))),
            Cell::from(seen.map_or("-".to_string(), |seen| seen.unfinished.to_string())),
            Cell::from(seen.map_or("needs --token".to_string(), |seen| seen.agents.join(" "))),
        ],
        json: json(runtime, seen),
    }
}

/// The entry of a runtime as JSON.
pub fn json(runtime: &Runtime, seen: Option<&Seen>) -> String {
    let mut line = Object::new();
    line.str("url", &runtime.url);
    if !runtime.others.is_empty() {
        line.raw("other_urls", &serde_json::to_string(&runtime.others).unwrap_or_default());
    }
    line.u64("pid", u64::from(runtime.pid)).display("since", runtime.since);
    line.opt_str("store", runtime.store.as_ref().and_then(|store| store.to_str()));
    if let Some(seen) = seen {
        let agents = serde_json::to_string(&seen.agents).unwrap_or_default();
        line.u64("unfinished_jobs", seen.unfinished as u64).raw("agents", &agents).str("version", &seen.version);
    }
    line.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_somebody_else_wrote_names_no_runtime() {
        let folder = std::env::temp_dir().join(format!("arcp-entries-{}", std::process::id()));
        let state = State::at(folder.clone());
        let entry = Runtime::new("ws://127.0.0.1:1/arcp", None, None).announce(&state).expect("a folder");
        let own = geteuid().as_raw();
        assert_eq!((Runtime::all(&state).len(), Runtime::of(&state, own + 1).len()), (1, 0));
        entry.take_back();
        fs::remove_dir_all(folder).expect("it is there");
    }
}
