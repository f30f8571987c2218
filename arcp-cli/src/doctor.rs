//! `arcp doctor`: whether this machine can serve, and what will fail next.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arcp_host::sandbox::Kernel;
use arcp_host::sqlite::{check, lookup};
use arcp_host::stderr::say;
use arcp_proto::json::Object;
use arcp_proto::time::UtcMs;
use clap::builder::styling::AnsiColor;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Printing, Row};
use crate::runtimes::{Runtime, Seen};
use crate::state::State;
use crate::times::{local, now};

const HEADER: [&str; 3] = ["CHECK", "STATE", "FOUND"];
/// 2025-01-01: a clock that shows an earlier time was never set.
const SET_SINCE: UtcMs = UtcMs(1_735_689_600_000);
/// How far the time of a new file may be from the clock.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// Below this limit of open files, few sessions can be served.
const FEW_FILES: u64 = 4096;
/// Free bytes: below the first, a store will fail soon; below the second, it fails.
const LITTLE_SPACE: u64 = 1 << 30;
const NO_SPACE: u64 = 64 << 20;
/// Percent of a resource: with less left than this, a warning is given.
const LITTLE_LEFT: u64 = 10;
/// A sync of the disk that takes longer makes each commit slow.
const SLOW_SYNC: Duration = Duration::from_millis(50);
const SYNCS: usize = 5;
/// Larger stores are not checked, because reading them takes long.
const CHECKED_BYTES: u64 = 1 << 30;

/// Check the clock, disk, file limits, stores and runtimes for present and coming
/// problems.
///
/// Exits with 1 if something fails already.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
}

/// The state of what was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Ok,
    Warning,
    Failing,
}

/// The outcome of one check.
#[derive(Debug)]
struct Finding {
    check: String,
    health: Health,
    found: String,
    /// How much of the resource is left, in percent; `None` if the check is not about a resource that runs out.
    left: Option<u64>,
}

impl Finding {
    fn new(check: impl Into<String>, health: Health, found: impl Into<String>) -> Finding {
        Finding { check: check.into(), health, found: found.into(), left: None }
    }

    /// The outcome of a check of a resource that runs out.
    fn of_rest(check: impl Into<String>, health: Health, found: impl Into<String>, left: u64) -> Finding {
        let health = health.max(if left < LITTLE_LEFT { Health::Warning } else { Health::Ok });
        Finding { left: Some(left), ..Finding::new(check, health, found) }
    }
}

/// Runs all checks.
pub fn run(args: &Doctor) -> Result<Exit, Failure> {
    let state = State::of_user();
    let runtimes = state.as_ref().map(Runtime::all).unwrap_or_default();
    let mut findings = vec![versions(&runtimes)];
    match &state {
        Some(state) => {
            findings.push(state_directory(state));
            findings.extend(disk(state.folder()));
        }
        None => findings.push(Finding::new(
            "state directory",
            Health::Failing,
            "neither HOME nor ARCP_STATE_DIR is set: set one, so that tokens and stores can be kept",
        )),
    }
    findings.push(clock(state.as_ref()));
    findings.push(files());
    findings.push(sandbox());
    for store in stores(state.as_ref(), &runtimes) {
        findings.push(of_store(&store));
        let folder = store.parent().unwrap_or(Path::new("."));
        if state.as_ref().is_none_or(|state| state.folder() != folder) {
            findings.extend(disk(folder));
        }
    }
    findings.extend(runtimes.iter().flat_map(of_runtime));
    output::rows(args.printing, &HEADER, &findings.iter().map(row).collect::<Vec<Row>>())?;
    say(format_args!("arcp: {}", next_to_fail(&findings)));
    let fails = findings.iter().any(|finding| finding.health == Health::Failing);
    Ok(if fails { Exit::Failed } else { Exit::Success })
}

fn row(finding: &Finding) -> Row {
    let (word, colour) = match finding.health {
        Health::Ok => ("ok", AnsiColor::Green),
        Health::Warning => ("warning", AnsiColor::Yellow),
        Health::Failing => ("failing", AnsiColor::Red),
    };
    let mut line = Object::new();
    line.str("check", &finding.check).str("state", word).str("found", &finding.found);
    if let Some(left) = finding.left {
        line.u64("left_percent", left);
    }
    let cells = vec![Cell::from(&finding.check), Cell::coloured(word, colour), Cell::from(&finding.found)];
    Row { id: finding.check.clone(), cells, json: line.done() }
}

/// The most severe problem, or else the resource of which least is left.
fn next_to_fail(findings: &[Finding]) -> String {
    let worst = findings.iter().filter(|finding| finding.health > Health::Ok).max_by_key(|finding| finding.health);
    if let Some(worst) = worst {
        let what = if worst.health == Health::Failing { "failing now" } else { "would fail next" };
        return format!("{what}: {}: {}", worst.check, worst.found);
    }
    let scarcest = findings.iter().filter_map(|finding| Some((finding.left?, &finding.check))).min();
    match scarcest {
        Some((left, check)) => format!("all is well; what would run out first is {check}, {left} % are left"),
        None => "all is well".to_string(),
    }
}

fn versions(runtimes: &[Runtime]) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let others: Vec<String> = runtimes
        .iter()
        .filter_map(|runtime| Some((runtime, Seen::of(runtime)?)))
        .filter(|(_, seen)| !seen.version.ends_with(own))
        .map(|(runtime, seen)| format!("{} is {}", runtime.url, seen.version))
        .collect();
    if others.is_empty() {
        return Finding::new("versions", Health::Ok, format!("arcp {own}, protocol 1.1"));
    }
    let found = format!("this is arcp {own}, but {}: restart it to have one version", others.join(", "));
    Finding::new("versions", Health::Warning, found)
}

fn state_directory(state: &State) -> Finding {
    let (check, shown) = ("state directory", state.folder().display().to_string());
    match fs::metadata(state.folder()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::new(check, Health::Ok, format!("{shown} is made when something is kept"))
        }
        Err(error) => Finding::new(check, Health::Failing, format!("{shown}: {error}")),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let found = format!("{shown} can be read by others: chmod 700 {shown}");
            Finding::new(check, Health::Warning, found)
        }
        Ok(_) => Finding::new(check, Health::Ok, shown),
    }
}

/// Checks the free space, and how long a commit waits for the disk.
fn disk(folder: &Path) -> Vec<Finding> {
    let shown = folder.display();
    // A folder that does not exist yet will be on the disk of its nearest existing parent.
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let mut findings = Vec::new();
    match statvfs(there) {
        Ok(disk) => {
            let (free, all) = (disk.f_bavail * disk.f_frsize, (disk.f_blocks * disk.f_frsize).max(1));
            let health = match free {
                0..NO_SPACE => Health::Failing,
                NO_SPACE..LITTLE_SPACE => Health::Warning,
                _ => Health::Ok,
            };
            let found = format!("{} of {} are free for {shown}", bytes(free), bytes(all));
            findings.push(Finding::of_rest("free space", health, found, free * 100 / all));
            // Some file systems do not count inodes.
            if let Some(left) = (disk.f_favail * 100).checked_div(disk.f_files) {
                let found = format!("{} more files can be made in {shown}", disk.f_favail);
                findings.push(Finding::of_rest("free inodes", Health::Ok, found, left));
            }
        }
        Err(error) => findings.push(Finding::new("free space", Health::Warning, format!("{shown}: {error}"))),
    }
    match sync_time(there) {
        Ok(time) => {
            let slow = time > SLOW_SYNC;
            let advice = if slow { ": every commit waits that long; use a faster disk" } else { "" };
            let found = format!("{:.1} ms to write 4 KiB in {shown}{advice}", time.as_secs_f64() * 1000.0);
            findings.push(Finding::new("disk sync", if slow { Health::Warning } else { Health::Ok }, found));
        }
        Err(error) => {
            let found = format!("nothing can be written in {}: {error}", there.display());
            findings.push(Finding::new("disk sync", Health::Failing, found));
        }
    }
    findings
}

/// The median time of several syncs.
fn sync_time(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".arcp-doctor-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let mut measure = || {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    };
    let measured: io::Result<Vec<Duration>> = (0..SYNCS).map(|_| measure()).collect();
    fs::remove_file(&path)?;
    let mut measured = measured?;
    measured.sort_unstable();
    Ok(measured[SYNCS / 2])
}

/// Checks the clock, on which ids, deadlines and listings depend.
fn clock(state: Option<&State>) -> Finding {
    let (check, time) = ("clock", now());
    let shown = local(time);
    if time < SET_SINCE {
        return Finding::new(check, Health::Failing, format!("it says {shown}: set it"));
    }
    let latest = stores(state, &[]).iter().filter_map(|store| lookup::latest(store).ok().flatten()).max();
    if let Some(latest) = latest.filter(|latest| latest.0 > time.0 + 1000) {
        let found = format!("it says {shown}, but a job was accepted at {}: was it set back?", local(latest));
        return Finding::new(check, Health::Warning, found);
    }
    let written = state.and_then(|state| time_of_a_file(state.folder()).ok());
    if let Some(written) = written.filter(|written| written.0.abs_diff(time.0) > CLOCKS_APART.as_millis() as u64) {
        let found = format!("it says {shown}, the disk says {}: the disk's machine has another clock", local(written));
        return Finding::new(check, Health::Warning, found);
    }
    Finding::new(check, Health::Ok, shown)
}

/// The time that the file system gives a new file: on a network disk, that of another machine.
fn time_of_a_file(folder: &Path) -> io::Result<UtcMs> {
    let path = folder.join(format!(".arcp-clock-{}", std::process::id()));
    File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = fs::metadata(&path).and_then(|file| file.modified());
    fs::remove_file(&path)?;
    let since = written?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

fn files() -> Finding {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let check = "open files";
    if most >= FEW_FILES {
        return Finding::new(check, Health::Ok, format!("a runtime may open {most}"));
    }
    let found = format!("a runtime may open {most}, each session needs one: raise the limit (ulimit -Hn)");
    Finding::new(check, Health::Warning, found)
}

/// The sandbox is optional, so a kernel without it is no failure.
fn sandbox() -> Finding {
    let kernel = Kernel::of_this_machine();
    let what_for = "for arcp serve --sandbox";
    Finding::new("sandbox", Health::Ok, format!("{what_for}, {kernel}"))
}

/// The stores of runtimes, and stores in the state folder that no runtime has open.
fn stores(state: Option<&State>, runtimes: &[Runtime]) -> Vec<PathBuf> {
    let files = state.and_then(|state| fs::read_dir(state.folder()).ok()).into_iter().flatten().flatten();
    let left = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "db"));
    let mut all: Vec<PathBuf> = left.chain(runtimes.iter().filter_map(|runtime| runtime.store.clone())).collect();
    all.sort();
    all.dedup();
    all
}

fn of_store(path: &Path) -> Finding {
    let (check_name, shown) = ("store", path.display());
    let size = fs::metadata(path).map_or(0, |file| file.len());
    if size > CHECKED_BYTES {
        let found = format!("{shown}, {}: not read, which takes long: `arcp store check {shown}`", bytes(size));
        return Finding::new(check_name, Health::Ok, found);
    }
    match check(path) {
        Ok(damage) if damage.is_empty() => Finding::new(check_name, Health::Ok, format!("{shown}, {}", bytes(size))),
        Ok(damage) => {
            let found = format!("{shown}: {} places are damaged: `arcp store repair {shown}`", damage.len());
            Finding::new(check_name, Health::Failing, found)
        }
        Err(error) => Finding::new(check_name, Health::Failing, error.to_string()),
    }
}

fn of_runtime(runtime: &Runtime) -> Vec<Finding> {
    let url = &runtime.url;
    let mut findings = Vec::new();
    match Seen::of(runtime) {
        Some(seen) => {
            let found = format!("{url} answers, {} unfinished jobs", seen.unfinished);
            findings.push(Finding::new("runtime", Health::Ok, found));
        }
        None if runtime.token.is_none() => {
            findings.push(Finding::new("runtime", Health::Ok, format!("{url} is there, and wants a token")));
        }
        None => findings.push(Finding::new(
            "runtime",
            Health::Failing,
            format!("{url} does not answer: look at its log, or `arcp stop {}`", runtime.pid),
        )),
    }
    let open = fs::read_dir(format!("/proc/{}/fd", runtime.pid)).map(|open| open.count() as u64);
    let most = fs::read_to_string(format!("/proc/{}/limits", runtime.pid)).ok().and_then(|limits| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    if let (Ok(open), Some(most)) = (open, most) {
        let left = most.saturating_sub(open) * 100 / most.max(1);
        findings.push(Finding::of_rest("open files", Health::Ok, format!("{url} has {open} of {most} open"), left));
    }
    findings
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let steps = (0..UNITS.len() - 1).take_while(|step| n >> (10 * (step + 1)) > 0).count();
    format!("{} {}", n >> (10 * steps), UNITS[steps])
}
