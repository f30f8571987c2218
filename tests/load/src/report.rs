//! The report, in Markdown.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::frames::Family;
use crate::rows::{Round, Row, Unit};
use crate::server::Store;

/// Less processor time than this is not reported: the kernel counts in steps of 10 ms.
const COUNTED: Duration = Duration::from_millis(100);

/// The outcome of one server in one family: its rounds, or why there are none.
pub type Figures = Result<Vec<Round>, String>;

/// One server in one row.
#[derive(Debug)]
pub struct Line {
    /// The name of the server.
    pub name: &'static str,
    /// The figures, in the order of [`Family::ALL`]; `None` where it was not measured.
    pub figures: [Option<Figures>; 2],
}

/// The lines of a row as a table; the first line is the ceiling.
pub fn table(row: &Row, lines: &[Line]) -> String {
    let store = match (row.unit, row.store) {
        (_, Store::Memory) => "store in memory",
        (_, Store::File) => "store in a file, every commit on the disk",
    };
    let (unit, compared) = match row.unit {
        Unit::PerSecond => ("per second", "of the ceiling"),
        Unit::Megabytes => ("MB/s", "of the ceiling"),
        Unit::Kibibytes => ("KiB", "times the least"),
    };
    let mut text = format!("### {}, {store}\n\n", capitalised(row.name));
    if !row.aim.is_empty() {
        let _ = writeln!(text, "Aim: {}.\n", row.aim);
    }
    text.push_str("| server |");
    for family in Family::ALL {
        let _ = write!(text, " {}: {unit} | {compared} | processor time each |", family.name());
    }
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    for line in lines {
        let _ = write!(text, "| {} |", line.name);
        for (at, figures) in line.figures.iter().enumerate() {
            let ceiling = lines.first().and_then(|first| first.figures[at].as_ref()?.as_ref().ok());
            text.push_str(&cells(figures.as_ref(), ceiling));
        }
        text.push('\n');
    }
    text
}

fn cells(figures: Option<&Figures>, ceiling: Option<&Vec<Round>>) -> String {
    let rounds = match figures {
        None => return " | | |".to_string(),
        Some(Err(fault)) => return format!(" {} | | |", fault.replace('|', "/").replace('\n', " ")),
        Some(Ok(rounds)) => rounds,
    };
    let ratio = match ceiling {
        Some(ceiling) if !std::ptr::eq(ceiling, rounds) => format!("{:.2}", median(rounds) / median(ceiling)),
        Some(_) | None => String::new(),
    };
    let spread = match rounds.as_slice() {
        [_] => String::new(),
        several => {
            let figures = || several.iter().map(|round| round.figure);
            format!(" ({} to {})", number(figures().fold(f64::MAX, f64::min)), number(figures().fold(0.0, f64::max)))
        }
    };
    format!(" {}{spread} | {ratio} | {} |", number(median(rounds)), processor_time(rounds))
}

/// The processor time for each, over all rounds.
fn processor_time(rounds: &[Round]) -> String {
    let spent: Vec<(u64, Duration)> = rounds.iter().filter_map(|round| round.spent).collect();
    let count: u64 = spent.iter().map(|(count, _)| count).sum();
    let time: Duration = spent.iter().map(|(_, time)| time).sum();
    if count == 0 || time < COUNTED {
        return String::new();
    }
    let each = time.as_secs_f64() * 1e6 / count as f64;
    if each < 10.0 { format!("{each:.2} µs") } else { format!("{each:.0} µs") }
}

fn median(rounds: &[Round]) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(|round| round.figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{:.2} M", figure / 1e6),
        figure if figure >= 1e5 => format!("{:.0} k", figure / 1e3),
        figure if figure >= 1e3 => format!("{:.1} k", figure / 1e3),
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure => format!("{figure:.1}"),
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The text before the tables.
pub fn head(rounds: usize, folder: &Path) -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = if said("git", &["status", "--porcelain"]).is_empty() { "" } else { ", with changes" };
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory: u64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let sync = sync_time(folder).map_or("unknown".to_string(), |time| format!("{} µs", time.as_micros()));
    format!(
        "# Benchmarks

Written by `cargo bench --bench load -- --write`, not by hand. `cargo bench --bench load -- --quick` is a trial of
a minute.

| | |
|---|---|
| date | {} |
| commit | `{commit}`{changed} |
| machine | {} cores of {}, {} GiB, Linux {} |
| one `fdatasync` of 4 KiB in the folder of the stores | {sync} (median of 50) |

One thread loads one server at a time over a loopback WebSocket and decodes every frame into types. It stops at the first
frame that is missing, duplicated or wrong. The generator ([`tests/load`](tests/load)) uses sockets and JSON, and no crate
of this workspace.

* **Servers** run as separate programs on the same machine. For each row and family, every server is started anew, and
  the servers take turns. After one round that is not counted, a figure is the median of {rounds} rounds, with the least
  and the greatest in parentheses.
* **The ceiling** is a server that answers with canned frames. Where the store is a file, it also writes its frames to a
  file, and syncs that once for all frames that it sends at a time.
* **Processor time** is that of the whole server, from `/proc/PID/stat`.
* **Published servers** get a tenth of the events and jobs. They run with TCP_NODELAY, which the crate as published does
  not set.

",
        said("date", &["-u", "+%F"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        field(&read("/proc/cpuinfo"), "model name"),
        memory.div_ceil(1 << 20),
        kernel.trim(),
    )
}

/// How long one small write takes to reach the disk in this folder.
fn sync_time(folder: &Path) -> Option<Duration> {
    let path = folder.join("sync");
    let mut file = File::create(&path).ok()?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).ok()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(&path).ok()?;
    times.sort();
    Some(times[times.len() / 2])
}
