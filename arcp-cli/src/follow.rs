//! Following a job on a terminal, in a pipe, or as JSON lines.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arcp_blocking::{Client, Job, JobUpdate};
use arcp_host::stderr::{say, visible};
use arcp_proto::client::ResultData;
use arcp_proto::error::Violation;
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::{EventKind, JobError, JobEvent, Terminal};
use arcp_proto::model::stream::StreamReader;
use arcp_proto::time::UtcMs;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::args::Output;
use crate::asking::Asker;
use crate::deliver::deliver;
use crate::exit::{Exit, Failure, of_end, of_refusal, of_terminal};
use crate::graph::Graph;
use crate::handoff::handed;
use crate::tls;

/// How a job is followed.
#[derive(Clone, Debug, clap::Args)]
pub struct Following {
    /// The output format.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Do not ask the job's questions here; leave them to `arcp inbox` [default: ask if
    /// stdin and stderr are a terminal].
    #[arg(long)]
    pub no_ask: bool,
    /// Write the result, or the artifact it refers to, to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

impl Following {
    /// Checks that the result will be waited for if it is to be saved.
    ///
    /// # Errors
    ///
    /// If a result is to be saved, and the command does not wait for it.
    pub fn check(&self, detach: bool) -> Result<(), Failure> {
        match (&self.save, detach) {
            (Some(_), true) => Err(Failure::usage(
                "--save: nobody waits for the result with --detach: `arcp result` has it in the end",
            )),
            (Some(file), false) => tls::can_write(file),
            (None, _) => Ok(()),
        }
    }
}

/// Shows a job until it ends. On a terminal, asks the user the job's questions.
pub fn follow(client: &Client, job: &Job, how: Following) -> Result<Exit, Failure> {
    follow_to_end(client, job, how).map(|(exit, _)| exit)
}

/// As [`follow`]; also returns how the job ended, if it did.
pub fn follow_to_end(client: &Client, job: &Job, how: Following) -> Result<(Exit, Option<Terminal>), Failure> {
    let Following { output, no_ask, save } = how;
    let interrupted = interrupted()?;
    let mut view: Box<dyn View> = match output {
        Output::Text => Box::new(Text::new()),
        Output::Jsonl => Box::new(Lines { out: io::stdout() }),
    };
    let asks = !no_ask && output == Output::Text;
    let mut asker = asks.then(|| Asker::on_terminal(client)).flatten();
    let mut whose = None;
    let mut streams = StreamReader::default();
    view.accepted(job)?;
    loop {
        if interrupted.load(Ordering::SeqCst) {
            view.clear();
            asker.iter_mut().for_each(Asker::pause);
            say(format_args!("arcp: detached, the job goes on; come back with: arcp watch {}", job.id));
            return Ok((Exit::Interrupted, None));
        }
        // Waits are short, so that an interrupt is noticed.
        let update = job.next_update_in(Duration::from_millis(100));
        asker.iter_mut().for_each(|asker| asker.turn(update.is_none()));
        let Some(update) = update else {
            continue;
        };
        asker.iter_mut().for_each(Asker::pause);
        match update {
            JobUpdate::Event { seq, at, event } => {
                check_stream(&mut streams, &event).inspect_err(|_| view.clear())?;
                view.event(seq, at, &event)?;
                whose = handed(&event).or(whose);
                asker.iter_mut().for_each(|asker| asker.hear(&event));
            }
            JobUpdate::Ended { seq, terminal, result } => {
                let goes_out = output == Output::Text && !view.has_shown(&result);
                if goes_out || save.is_some() {
                    view.clear();
                    deliver(client, &result, save.as_deref())?;
                }
                view.ended(seq, &terminal, &result)?;
                if let ResultData::Broken { why } = &result {
                    return Err(Failure::new(Exit::Lost, format!("the result is not whole: {why}")));
                }
                return Ok((of_terminal(&terminal), Some(terminal)));
            }
            JobUpdate::Reconnecting { attempt, why, .. } => {
                view.note(&format!("reconnecting (attempt {attempt}): {why}"))
            }
            JobUpdate::Reconnected { resumed: true } => view.note("reconnected, no events lost"),
            JobUpdate::Reconnected { resumed: false } => view.note("reconnected in a new session"),
            JobUpdate::Missed { events } => {
                streams = StreamReader::default();
                view.note(&format!("{events} events are no longer kept and were missed"));
            }
            JobUpdate::Gone(refusal) => {
                view.clear();
                let message = match whose {
                    Some(whose) => format!("{} was {whose}: nothing more of it is shown to you", job.id),
                    None => format!("the runtime does not know {} any more: {}", job.id, refusal.message),
                };
                return Err(Failure::new(of_refusal(&refusal), message));
            }
            JobUpdate::Lost(end) => {
                view.clear();
                return Err(Failure::new(of_end(&end), format!("{end}; the job may go on: arcp watch {}", job.id)));
            }
        }
    }
}

/// Checks a stream event of a job before it is shown.
///
/// # Errors
///
/// If a chunk is missing, or its data does not match its `sha256`.
pub fn check_stream(streams: &mut StreamReader, event: &JobEvent) -> Result<(), Failure> {
    match streams.read(event) {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(not_whole(&why)),
    }
}

/// The failure for a stream that does not match its frames.
pub fn not_whole(why: &Violation) -> Failure {
    Failure::new(Exit::Lost, format!("a stream is not whole: {}", visible(&why.to_string())))
}

/// A flag that a signal sets. The command that sees it closes its session before it exits, so that the session does
/// not stay resumable and take up room.
pub fn interrupted() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

trait View {
    fn accepted(&mut self, job: &Job) -> io::Result<()>;
    fn event(&mut self, seq: u64, at: Option<UtcMs>, event: &JobEvent) -> io::Result<()>;
    /// The job has ended. The result was delivered already, unless this implementation shows it itself.
    fn ended(&mut self, seq: u64, terminal: &Terminal, result: &ResultData) -> io::Result<()>;
    /// Whether all of a result was shown to the user before.
    fn has_shown(&self, result: &ResultData) -> bool;
    fn note(&mut self, text: &str);
    fn clear(&mut self);
}

/// One JSON object per line.
struct Lines {
    out: io::Stdout,
}

impl View for Lines {
    fn accepted(&mut self, job: &Job) -> io::Result<()> {
        let mut line = Object::new();
        line.str("type", "accepted").str("job_id", job.id.as_str()).str("agent", &job.agent);
        line.opt_str("trace_id", job.trace.as_deref());
        writeln!(self.out, "{}", line.done())
    }

    fn event(&mut self, seq: u64, at: Option<UtcMs>, event: &JobEvent) -> io::Result<()> {
        match event_line(seq, at, event) {
            Some(line) => writeln!(self.out, "{line}"),
            None => Ok(()),
        }
    }

    fn ended(&mut self, seq: u64, terminal: &Terminal, result: &ResultData) -> io::Result<()> {
        let mut line = Object::new();
        line.str("type", "ended").u64("event_seq", seq);
        write_end(&mut line, terminal, result);
        writeln!(self.out, "{}", line.done())
    }

    fn has_shown(&self, _: &ResultData) -> bool {
        false
    }

    fn note(&mut self, text: &str) {
        say(format_args!("arcp: {text}"));
    }

    fn clear(&mut self) {}
}

/// An event as a JSON object; `None` for the terminal event.
pub fn event_line(seq: u64, at: Option<UtcMs>, event: &JobEvent) -> Option<String> {
    let mut line = Object::new();
    line.str("type", "event").u64("event_seq", seq);
    if let Some(at) = at {
        line.display("ts", at);
    }
    match event {
        JobEvent::Emitted { kind, body } => line.str("kind", kind.as_str()).raw("body", body.as_str()),
        JobEvent::Chunk(chunk) => line.str("kind", "result_chunk").object("body", |body| {
            body.u64("chunk_seq", chunk.chunk_seq).str("data", &chunk.data).bool("more", chunk.more);
        }),
        JobEvent::Started => line.str("kind", "status").raw("body", r#"{"phase":"running"}"#),
        JobEvent::Ended(_) => return None,
    };
    Some(line.done())
}

/// Writes how a job ended, and its result.
pub fn write_end(line: &mut Object, terminal: &Terminal, result: &ResultData) {
    line.str("status", terminal.status.as_str());
    match result {
        ResultData::None => {}
        ResultData::Inline(json) => {
            line.raw("result", json.as_str());
        }
        ResultData::Streamed { bytes, text } => {
            line.u64("result_size", bytes.len() as u64);
            if *text {
                line.str("result", &String::from_utf8_lossy(bytes));
            }
        }
        ResultData::Stored(stored) => drop(line.raw("result_ref", stored.to_json().as_str())),
        ResultData::Broken { why } => {
            line.str("broken", why);
        }
    }
    if let Some(error) = &terminal.error {
        line.object("error", |out| {
            out.str("code", error.code.as_str()).str("message", &error.message).bool("retryable", error.retryable);
            out.opt_json("details", error.details.as_ref());
        });
    }
    line.opt_str("summary", terminal.summary.as_deref());
}

/// A text of several lines whose control characters, except for newlines and tabs, are made visible.
pub fn visible_lines(text: &str) -> String {
    let parts = text.split_inclusive(['\n', '\t']).map(|part| match part.strip_suffix(['\n', '\t']) {
        Some(text) => visible(text) + &part[text.len()..],
        None => visible(part),
    });
    parts.collect()
}

/// The result on stdout, everything else on stderr; a progress bar on a terminal.
struct Text {
    bar: Option<ProgressBar>,
    fancy: bool,
    /// The plain lines of the program, if stdout and stderr are the same terminal: a result that consists of these
    /// lines is not shown again.
    shown: Option<String>,
    /// The steps of the job, if it is a workflow.
    graph: Option<Graph>,
}

/// The longest text that is remembered as shown, which is also the most that a program's plain lines can give as a
/// result.
const SHOWN_BYTES: usize = 1 << 20;

impl Text {
    fn new() -> Text {
        let fancy = io::stderr().is_terminal();
        let shown = (fancy && io::stdout().is_terminal()).then(String::new);
        Text { bar: None, fancy, shown, graph: None }
    }

    fn remember(&mut self, line: &str) {
        self.shown = self.shown.take().filter(|shown| shown.len() + line.len() < SHOWN_BYTES).map(|mut shown| {
            shown.push_str(line);
            shown.push('\n');
            shown
        });
    }

    fn was_shown(&self, text: &str) -> bool {
        self.shown.as_ref().is_some_and(|shown| shown.strip_suffix('\n') == Some(text))
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(format_args!("{text}"))),
            None => say(format_args!("{text}")),
        }
    }

    /// Shows the steps of a workflow, or the new state of one. Returns false if the event is about neither.
    fn show_steps(&mut self, body: &Json) -> bool {
        if let Some(graph) = Graph::of_event(body) {
            // After a restart of the runtime, the event is sent once more.
            if self.graph.is_none() {
                self.graph = Some(graph);
                self.say(&spoken(&EventKind::Status, body));
                self.say_graph();
            }
            return true;
        }
        let line = self.graph.as_mut().and_then(|graph| graph.take(body));
        line.iter().for_each(|line| self.say(line));
        line.is_some()
    }

    fn say_graph(&self) {
        let lines = self.graph.as_ref().map(Graph::lines).unwrap_or_default();
        lines.iter().for_each(|line| self.say(line));
    }

    fn progress(&mut self, body: &Json) {
        let members = body.members().unwrap_or_default();
        let number = |name| members.get(name).and_then(|raw| raw.parse::<f64>().ok());
        let (current, total) = (number("current").unwrap_or(0.0), number("total"));
        let units = members.get_str("units").unwrap_or_default();
        if !self.fancy {
            let of = total.map(|total| format!("/{total}")).unwrap_or_default();
            return say(format_args!("{}", format!("progress {current}{of} {units}").trim_end()));
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::no_length();
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        // `as` saturates, and progress is never negative.
        bar.update(|state| state.set_pos(current as u64));
        if let Some(total) = total {
            bar.set_length(total as u64);
        }
        bar.set_message(units);
    }
}

impl View for Text {
    fn accepted(&mut self, job: &Job) -> io::Result<()> {
        self.say(&format!("{} {}", job.id, job.agent));
        Ok(())
    }

    fn event(&mut self, _: u64, _: Option<UtcMs>, event: &JobEvent) -> io::Result<()> {
        match event {
            JobEvent::Emitted { kind: EventKind::Progress, body } => self.progress(body),
            JobEvent::Emitted { kind: EventKind::Status, body } if self.show_steps(body) => {}
            // The line about the state of a step names its child as well.
            JobEvent::Emitted { kind: EventKind::Delegate, .. } if self.graph.is_some() => {}
            JobEvent::Emitted { kind: EventKind::WorkflowComplete, body } if self.graph.is_some() => {
                self.say(&spoken(&EventKind::WorkflowComplete, body));
                self.say_graph();
            }
            JobEvent::Emitted { kind, body } => {
                self.say(&spoken(kind, body));
                if let (EventKind::Log, Some(Stream::Stdout)) = (kind, Stream::of(body)) {
                    self.remember(&body.members().unwrap_or_default().get_str("message").unwrap_or_default());
                }
            }
            JobEvent::Started => self.say("status running"),
            JobEvent::Chunk(_) | JobEvent::Ended(_) => {}
        }
        Ok(())
    }

    fn has_shown(&self, result: &ResultData) -> bool {
        matches!(result, ResultData::Inline(json) if json.decode::<String>().is_ok_and(|text| self.was_shown(&text)))
    }

    fn ended(&mut self, _: u64, terminal: &Terminal, _: &ResultData) -> io::Result<()> {
        self.clear();
        if let Some(error) = &terminal.error {
            say(format_args!("arcp: {}", visible(&why_ended(terminal, error))));
        }
        if let Some(summary) = &terminal.summary {
            say(format_args!("arcp: {}", visible(summary)));
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.say(&format!("arcp: {text}"));
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// How and why a job failed. A code or a message that repeats the status is left out.
pub fn why_ended(terminal: &Terminal, error: &JobError) -> String {
    let (status, code) = (terminal.status.as_str(), code_beside(terminal, error));
    let message = message_beside(terminal, error);
    if message.is_empty() { format!("{status}{code}") } else { format!("{status}: {message}{code}") }
}

/// Why a job failed, for a place where its status is shown as well.
pub fn error_beside(terminal: &Terminal, error: &JobError) -> String {
    format!("{}{}", message_beside(terminal, error), code_beside(terminal, error)).trim_start().to_string()
}

fn message_beside<'a>(terminal: &Terminal, error: &'a JobError) -> &'a str {
    let rest = error.message.strip_prefix(terminal.status.as_str());
    rest.map_or(error.message.as_str(), |rest| rest.trim_start_matches([':', ' ']))
}

fn code_beside(terminal: &Terminal, error: &JobError) -> String {
    let code = error.code.as_str();
    if code.eq_ignore_ascii_case(terminal.status.as_str()) { String::new() } else { format!(" ({code})") }
}

/// The stream on which a program printed a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The stream of a log event that is a line of a program.
    fn of(body: &Json) -> Option<Stream> {
        let attributes = Json::parse(body.members().ok()?.get("attributes")?).ok()?;
        match attributes.members().ok()?.get_str("stream")?.as_str() {
            "stdout" => Some(Stream::Stdout),
            "stderr" => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// One line about an event. Text of agents is not trusted: control characters are made visible.
pub fn spoken(kind: &EventKind, body: &Json) -> String {
    let members: Members<'_> = body.members().unwrap_or_default();
    let text = |name: &str| members.get_str(name).unwrap_or_default();
    let line = match kind {
        EventKind::Log => match Stream::of(body) {
            Some(Stream::Stdout) => text("message"),
            Some(Stream::Stderr) => format!("stderr {}", text("message")),
            None => format!("{} {}", text("level"), text("message")),
        },
        EventKind::Thought => format!("thought {}", text("text")),
        EventKind::Status => format!("status {} {}", text("phase"), text("message")),
        EventKind::Metric => format!("metric {} {} {}", text("name"), members.get("value").unwrap_or(""), text("unit")),
        EventKind::Checkpoint => format!("checkpoint {}", text("label")),
        EventKind::InputRequest | EventKind::ChoiceRequest => {
            format!("asks {:?} ({})", text("prompt"), text("prompt_id"))
        }
        EventKind::PermissionRequest => {
            let (operation, resource, id) = (text("operation"), text("resource"), text("prompt_id"));
            format!("asks for {operation} on {resource} ({id})")
        }
        EventKind::PromptClosed => format!("{}: {}", text("prompt_id"), text("message")),
        EventKind::LeaseGranted => format!("granted {} on {}", text("operation"), text("resource")),
        EventKind::LeaseExtended => format!("{} lasts until {}", text("lease_id"), text("expires_at")),
        EventKind::LeaseRevoked => format!("{} is over: {}", text("lease_id"), text("reason")),
        EventKind::StreamOpen => format!("{} opens ({})", text("stream_id"), text("kind")),
        EventKind::StreamChunk if members.get("encoding").is_some() => {
            let bytes = arcp_proto::json::decode_base64(&text("data")).map_or(0, |data| data.len());
            format!("{} {bytes} bytes", text("stream_id"))
        }
        EventKind::StreamChunk if members.get("redacted") == Some("true") && text("data").is_empty() => {
            format!("{} (redacted)", text("stream_id"))
        }
        EventKind::StreamChunk => {
            format!("{} {} {}", text("stream_id"), text("data"), members.get("attributes").unwrap_or(""))
        }
        EventKind::StreamClose => format!("{} is over {}", text("stream_id"), text("reason")),
        EventKind::StreamError => format!("{} breaks off: {}", text("stream_id"), text("message")),
        EventKind::StoredArtifact => {
            let (id, size) = (text("artifact_id"), members.get("byte_size").unwrap_or("?"));
            format!("artifact {id}: {size} bytes of {}; `arcp artifact get {id}` fetches it", text("content_type"))
        }
        EventKind::WorkflowComplete => format!("workflow complete: {}", text("status")),
        EventKind::ToolCall
        | EventKind::ToolResult
        | EventKind::Artifact
        | EventKind::Delegate
        | EventKind::Progress
        | EventKind::Vendor(_) => format!("{} {body}", kind.as_str()),
    };
    visible(line.trim_end())
}
