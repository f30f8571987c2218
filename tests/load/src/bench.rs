//! The command: measures every row for every server, in turn.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is what it is for")]

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::canned::Canned;
use crate::fault::Fault;
use crate::frames::Family;
use crate::report::{self, Figures, Line};
use crate::rows::{ROWS, Round, Row};
use crate::server::Program;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Ten thousand connections, and the other files that a process opens.
const FILES: u64 = 10_240;

const USAGE: &str = "\
cargo bench --bench load -- [--quick] [--write] [WORD ...]

  --quick   one round of a twentieth of the work: whether it runs, no figures
  --write   write BENCHMARKS.md
  WORD      only rows whose names have this word, such as events";

struct Asked {
    quick: bool,
    write: bool,
    words: Vec<String>,
}

/// Runs the command that `cargo bench` started, with this program `arcp`, and with its files in this folder.
pub fn main(arcp: &str, folder: &str) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // The test runner asks every target for its list of tests.
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let done = match args.as_slice() {
        [canned, kept] if canned == "--canned" => serve_canned(kept),
        _ => parse(&args).and_then(|asked| run(&asked, Path::new(arcp), Path::new(folder))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("load: {what}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Asked, String> {
    let (flags, words): (Vec<String>, Vec<String>) = args.iter().cloned().partition(|arg| arg.starts_with('-'));
    if let Some(other) = flags.iter().find(|flag| !["--quick", "--write"].contains(&flag.as_str())) {
        return Err(format!("{other} is not known\n{USAGE}"));
    }
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let asked = Asked { quick: has("--quick"), write: has("--write"), words };
    if asked.write && (asked.quick || !asked.words.is_empty()) {
        return Err(format!("--write writes every row, and not of a quick try\n{USAGE}"));
    }
    if asked.write && cfg!(debug_assertions) {
        return Err("--write is for `cargo bench`: this build is not optimised".to_string());
    }
    if let Some(word) = asked.words.iter().find(|word| !ROWS.iter().any(|row| row.name.contains(word.as_str()))) {
        return Err(format!("no row is called {word}\n{USAGE}"));
    }
    Ok(asked)
}

fn serve_canned(kept: &str) -> Result<(), String> {
    let serve = || {
        let mut server = Canned::bind()?;
        if kept != "memory" {
            server = server.synced(File::create(kept)?);
        }
        println!("READY ws://{}/arcp", server.address());
        server.run()
    };
    serve().map_err(|error| format!("canned answers: {error}"))
}

fn run(asked: &Asked, arcp: &Path, folder: &Path) -> Result<(), String> {
    let folder = folder.join(format!("load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let done = allow_files().and_then(|()| measure(asked, arcp, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    let text = done?;
    if asked.write {
        let path = Path::new(ROOT).join("BENCHMARKS.md");
        let text = with_other_parts(text, &std::fs::read_to_string(&path).unwrap_or_default());
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// Keeps the parts that other benches have written: they follow the rows.
fn with_other_parts(rows: String, page: &str) -> String {
    let others = page.find("\n## ").map_or("", |at| &page[at..]);
    rows + others
}

/// Raises the limit of open files for this process and the servers that it starts.
fn allow_files() -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let wanted = Rlimit { current: Some(FILES), maximum };
    setrlimit(Resource::Nofile, wanted).map_err(|error| format!("{FILES} open files are needed (`ulimit -n`): {error}"))
}

fn measure(asked: &Asked, arcp: &Path, folder: &Path) -> Result<String, String> {
    let (rounds, part) = if asked.quick { (1, 0.05) } else { (5, 1.0) };
    let mut text = report::head(rounds, folder);
    if cfg!(debug_assertions) || asked.quick {
        text.push_str("**These figures mean nothing**: a quick try, or a build that is not optimised.\n\n");
    }
    let mut programs = vec![
        Program::Canned,
        Program::Arcp { path: arcp.to_path_buf(), tokio: false },
        Program::Arcp { path: arcp.to_path_buf(), tokio: true },
    ];
    for (program, how) in peers() {
        match program {
            Ok(program) => programs.push(program),
            Err(name) => text.push_str(&format!("Not measured: {name}. {how}\n\n")),
        }
    }
    print!("{text}");
    let named = |row: &&Row| asked.words.is_empty() || asked.words.iter().any(|word| row.name.contains(word.as_str()));
    for row in ROWS.iter().filter(named) {
        let table = report::table(row, &lines(row, &programs, rounds, part, folder)?);
        println!("{table}");
        text.push_str(&table);
        text.push('\n');
    }
    Ok(format!("{}\n", text.trim_end()))
}

/// The published servers; for one that is missing, its name and how to get it.
fn peers() -> [(Result<Program, &'static str>, &'static str); 2] {
    let found = |variable: &str, usual: &str| {
        let named: Option<OsString> = std::env::var_os(variable);
        let path = named.map_or_else(|| Path::new(ROOT).join(usual), PathBuf::from);
        path.exists().then_some(path)
    };
    let python = found("ARCP_PYTHON", "target/interop-venv/bin/python").map(Program::Python);
    let rust = found("ARCP_RUST", "target/peers/release/their-rust").map(Program::Rust);
    [
        (
            python.ok_or("the Python SDK"),
            "Name an interpreter with `tests/peers/python/requirements.txt` in `ARCP_PYTHON`; `.ci/run` makes \
             `target/interop-venv`.",
        ),
        (
            rust.ok_or("the crate `arcp`"),
            "`cargo build --release --manifest-path tests/peers/rust/Cargo.toml --target-dir target/peers` builds it.",
        ),
    ]
}

/// One row: the figures of every server.
fn lines(row: &Row, programs: &[Program], rounds: usize, part: f64, folder: &Path) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> =
        programs.iter().map(|program| Line { name: program.name(), figures: [None, None] }).collect();
    for (at, family) in Family::ALL.into_iter().enumerate() {
        let asked: Vec<bool> =
            programs.iter().map(|program| program.can(family, row.store) && row.suits(program)).collect();
        let fleet = programs.iter().zip(&asked).map(|(program, asked)| asked.then_some(program));
        for (line, figures) in lines.iter_mut().zip(compare(row, fleet, family, rounds, part, folder)) {
            line.figures[at] = figures;
        }
        for (program, line) in programs.iter().zip(&lines) {
            // A fault of our server ends the command; one of a published server is reported.
            if let Some(Err(fault)) = &line.figures[at]
                && !program.is_peer()
            {
                return Err(format!("{}, {}, {} family: {fault}", row.name, line.name, family.name()));
            }
        }
    }
    lines.retain(|line| line.figures.iter().any(Option::is_some));
    Ok(lines)
}

/// Starts the servers, and measures them in turn.
fn compare<'a>(
    row: &Row,
    programs: impl Iterator<Item = Option<&'a Program>>,
    family: Family,
    rounds: usize,
    part: f64,
    folder: &Path,
) -> Vec<Option<Figures>> {
    let mut servers: Vec<_> = programs
        .enumerate()
        .map(|(at, program)| {
            let program = program?;
            let own = folder.join(at.to_string());
            let server = std::fs::create_dir_all(&own).map_err(Fault::Io).and_then(|()| program.start(row.store, &own));
            Some((program, server.map_err(|fault| fault.to_string()).map(|server| (server, Vec::new()))))
        })
        .collect();
    let counted = row.rounds(rounds);
    // A row with a single round is measured without a warm-up.
    let warm = usize::from(counted > 1);
    for round in 0..counted + warm {
        for (program, state) in servers.iter_mut().flatten() {
            let Ok((server, figures)) = state else { continue };
            let part = if program.is_peer() { part / 10.0 } else { part };
            match row.round(program, server, family, part) {
                Ok(figure) if round >= warm => figures.push(figure),
                Ok(Round { .. }) => {}
                Err(fault) => *state = Err(fault.to_string()),
            }
        }
    }
    servers.into_iter().map(|server| Some(server?.1.map(|(_, figures)| figures))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_bench_has_written_stays_behind_the_rows() {
        let page = "# Benchmarks\n\n### Old\n\n| 1 |\n\n## Bytes\n\n| 2 |\n";
        let rows = || "# Benchmarks\n\n### New\n\n| 3 |\n".to_string();
        assert_eq!(with_other_parts(rows(), page), format!("{}\n## Bytes\n\n| 2 |\n", rows()));
        assert_eq!(with_other_parts(rows(), ""), rows());
    }
}
