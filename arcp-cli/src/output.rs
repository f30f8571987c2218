//! Output of commands that read. Rows are data and go to stdout; the header of a table goes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use arcp_host::stderr::{say, visible};
use arcp_proto::model::job::{FinalStatus, JobStatus};
use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};

/// How to print what was read.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Printing {
    /// The output format.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Leave out the header of the table.
    #[arg(long)]
    pub no_header: bool,
}

impl Printing {
    /// A table for people.
    pub const TABLE: Printing = Printing { output: Format::Table, no_header: false };
}

/// A form of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, with local times.
    #[value(alias = "text")]
    Table,
    /// One JSON document, with times in UTC.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// The id alone, one per line.
    Id,
}

/// The contents of one column in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// The status of a job, in its colour.
    pub fn status(status: Option<JobStatus>) -> Cell {
        let colour = match status {
            Some(JobStatus::Running) => Some(AnsiColor::Cyan),
            Some(JobStatus::Ended(FinalStatus::Success)) => Some(AnsiColor::Green),
            Some(JobStatus::Ended(FinalStatus::Error)) => Some(AnsiColor::Red),
            Some(JobStatus::Ended(FinalStatus::Cancelled | FinalStatus::TimedOut)) => Some(AnsiColor::Yellow),
            Some(JobStatus::Pending | JobStatus::Blocked | JobStatus::Paused) | None => None,
        };
        let style = colour.map_or_else(Style::new, AnsiColor::on_default);
        Cell { style, ..Cell::from(status.map_or("unknown", JobStatus::as_str)) }
    }

    /// The same cell with more text at its end.
    pub fn followed_by(self, more: &str) -> Cell {
        Cell { text: self.text + more, ..self }
    }

    /// A word in a colour.
    pub fn coloured(text: &str, colour: AnsiColor) -> Cell {
        Cell { style: colour.on_default(), ..Cell::from(text) }
    }

    /// The cell as it is printed, padded to this width. Colours do not count.
    fn shown(&self, width: usize, coloured: bool) -> String {
        let fill = " ".repeat(width.saturating_sub(self.text.chars().count()));
        let style = if coloured { self.style } else { Style::new() };
        format!("{style}{}{style:#}{fill}", self.text)
    }
}

/// Text may come from other people: control characters are made visible.
impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: visible(text.as_ref()), style: Style::new() }
    }
}

/// One of several things that are listed.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The cells of its columns.
    pub cells: Vec<Cell>,
    /// Everything about it, as a JSON object.
    pub json: String,
}

/// Prints a list.
pub fn rows(printing: Printing, header: &[&str], rows: &[Row]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match printing.output {
        Format::Table => return table(printing, header, rows),
        Format::Json => {
            let all: Vec<&str> = rows.iter().map(|row| row.json.as_str()).collect();
            writeln!(out, "[{}]", all.join(",\n "))?;
        }
        Format::Jsonl => rows.iter().try_for_each(|row| writeln!(out, "{}", row.json))?,
        Format::Id => rows.iter().try_for_each(|row| writeln!(out, "{}", row.id))?,
    }
    out.flush()
}

fn table(printing: Printing, header: &[&str], rows: &[Row]) -> io::Result<()> {
    let width = |at: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.cells.get(at)).map(|cell| cell.text.chars().count());
        cells.chain([title.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = header.iter().enumerate().map(|(at, title)| width(at, title)).collect();
    if !printing.no_header {
        let titles: Vec<String> =
            header.iter().zip(&widths).map(|(title, width)| format!("{title:<0$}", *width)).collect();
        say(format_args!("{}", titles.join("  ").trim_end()));
    }
    let (mut out, coloured) = (io::stdout().lock(), is_coloured());
    for row in rows {
        let cells: Vec<String> =
            row.cells.iter().zip(&widths).map(|(cell, width)| cell.shown(*width, coloured)).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    out.flush()
}

/// Everything about one thing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its id.
    pub id: String,
    /// Its facts, by name.
    pub facts: Vec<(&'static str, Cell)>,
    /// Everything about it, as a JSON object.
    pub json: String,
}

/// Prints one thing.
pub fn facts(printing: Printing, thing: &Facts) -> io::Result<()> {
    let (mut out, coloured) = (io::stdout().lock(), is_coloured());
    match printing.output {
        Format::Table => {
            let width = thing.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, cell) in &thing.facts {
                let name = if printing.no_header { String::new() } else { format!("{name:<width$}  ") };
                writeln!(out, "{name}{}", cell.shown(0, coloured))?;
            }
        }
        Format::Json | Format::Jsonl => writeln!(out, "{}", thing.json)?,
        Format::Id => writeln!(out, "{}", thing.id)?,
    }
    out.flush()
}

/// Whether output is coloured: on a terminal, unless `NO_COLOR` is set.
pub fn is_coloured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb
}
