//! `arcp logs`.

use std::io::{self, Write as _};

use arcp_blocking::JobUpdate;
use arcp_host::stderr::visible;
use arcp_proto::json::Object;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::stream::StreamReader;
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_end, of_refusal};
use crate::follow::{check_stream, event_line, spoken, why_ended, write_end};
use crate::list::summary;
use crate::output::{Format, Printing};
use crate::times::local;
use crate::values;
use crate::watch::watched;

/// Print the events of a job.
#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// Keep printing until the job finishes.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events of this kind, such as log, progress or tool_call; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = values::kind)]
    pub kind: Vec<EventKind>,
    /// Only the last N events.
    #[arg(long, value_name = "N", conflicts_with = "follow", value_parser = values::count)]
    pub tail: Option<usize>,
    /// The output format. An event's id is its number.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Prints events.
pub fn run(args: &Logs) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let job = summary(&client, &args.job)?;
    let (watched, gone) = watched(&client, &job.job, &args.job)?;
    let mut shown = Shown { args, held: Vec::new(), first: true };
    let mut streams = StreamReader::default();
    let mut last = gone;
    while args.follow || last < job.last_event {
        match watched.next_update() {
            Some(JobUpdate::Event { at, event, .. }) => {
                last += 1;
                check_stream(&mut streams, &event)?;
                shown.event(last, at, &event)?;
            }
            Some(JobUpdate::Ended { terminal, result, .. }) => {
                let text = terminal.error.as_ref().map_or_else(
                    || terminal.status.as_str().to_string(),
                    |error| visible(&why_ended(&terminal, error)),
                );
                let mut line = Object::new();
                line.str("type", "ended").u64("event_seq", last + 1);
                write_end(&mut line, &terminal, &result);
                shown.line(last + 1, None, &text, line.done())?;
                break;
            }
            Some(JobUpdate::Gone(refusal)) => {
                return Err(Failure::new(of_refusal(&refusal), format!("{}: {}", job.job, refusal.message)));
            }
            Some(JobUpdate::Lost(end)) => return Err(Failure::new(of_end(&end), end.to_string())),
            Some(JobUpdate::Missed { events }) => {
                streams = StreamReader::default();
                last += events;
            }
            Some(JobUpdate::Reconnecting { .. } | JobUpdate::Reconnected { .. }) => {}
            None => break,
        }
    }
    shown.finish()?;
    Ok(Exit::Success)
}

/// Prints events as they come, or holds the last ones until the end if only these are wanted.
struct Shown<'a> {
    args: &'a Logs,
    held: Vec<String>,
    first: bool,
}

impl Shown<'_> {
    fn event(&mut self, n: u64, at: Option<UtcMs>, event: &JobEvent) -> io::Result<()> {
        let (kind, text) = match event {
            JobEvent::Emitted { kind, body } => (Some(kind), spoken(kind, body)),
            JobEvent::Started => (None, "status running".to_string()),
            JobEvent::Chunk(chunk) => (None, format!("result piece {}", chunk.chunk_seq)),
            JobEvent::Ended(_) => return Ok(()),
        };
        if !self.args.kind.is_empty() && !kind.is_some_and(|kind| self.args.kind.contains(kind)) {
            return Ok(());
        }
        self.line(n, at, &text, event_line(n, at, event).unwrap_or_default())
    }

    fn line(&mut self, n: u64, at: Option<UtcMs>, text: &str, json: String) -> io::Result<()> {
        let line = match self.args.printing.output {
            Format::Table => format!("{}  {text}", at.map_or("-".repeat(19), local)),
            Format::Id => n.to_string(),
            Format::Json | Format::Jsonl => json,
        };
        match self.args.tail {
            Some(most) => {
                self.held.push(line);
                if self.held.len() > most {
                    self.held.remove(0);
                }
                Ok(())
            }
            None => self.print(&line),
        }
    }

    fn print(&mut self, line: &str) -> io::Result<()> {
        let before = match (self.args.printing.output, std::mem::take(&mut self.first)) {
            (Format::Json, true) => "[",
            (Format::Json, false) => ",",
            (Format::Table | Format::Jsonl | Format::Id, _) => "",
        };
        writeln!(io::stdout(), "{before}{line}")
    }

    fn finish(&mut self) -> io::Result<()> {
        for line in std::mem::take(&mut self.held) {
            self.print(&line)?;
        }
        match (self.args.printing.output, self.first) {
            (Format::Json, true) => writeln!(io::stdout(), "[]"),
            (Format::Json, false) => writeln!(io::stdout(), "]"),
            (Format::Table | Format::Jsonl | Format::Id, _) => Ok(()),
        }
    }
}
