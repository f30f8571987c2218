//! Any executable as an agent.
//!
//! | the program | becomes |
//! |---|---|
//! | reads its stdin | the input, one line of JSON, then the end |
//! | prints `{"kind": ..., "body": {...}}` | that event; `result_chunk` a piece of the result |
//! | prints `{"kind": "heartbeat"}` | a sign of life, and nothing else |
//! | prints `{"kind": "checkpoint", "body": {"state": ...}}` | what it can go on from; `label` may be there too |
//! | prints `{"result": ...}` last | the result |
//! | prints any other line | a `log` event, and part of the result if no other is given |
//! | prints on stderr | a `log` event of level `warn` |
//! | exits with 0 | success |
//! | exits otherwise | a failure that carries the code |
//!
//! One that [can go on](ProcessAgent::restartable) reads a second line: the
//! state of its last checkpoint, or `null`.
//!
//! A cancel is SIGTERM to its process group, then SIGKILL after the grace.

use std::io::{self, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::runtime::ChunkData;
use arcp_proto::wire::frame::{Line, Lines};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::agent::{Agent, AgentError, Context, Level, Outcome, Stopped};

/// The longest line taken as one; longer ones are dropped with a warning.
const LINE_BYTES: usize = 900 << 10;
/// How much of the text becomes the result; the rest is only in the events.
const TEXT_BYTES: usize = 1 << 20;
/// How long output is waited for after the program has exited.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A command run by the shell for each job.
///
/// ```
/// use arcp_host::{process::ProcessAgent, registry::Registry};
/// let mut registry = Registry::default();
/// registry.add("upper", None, ProcessAgent::shell("tr a-z A-Z"));
/// ```
#[derive(Clone, Debug)]
pub struct ProcessAgent {
    command: String,
    restartable: bool,
    mark: Option<String>,
}

impl ProcessAgent {
    /// An agent that runs `sh -c command`.
    pub fn shell(command: &str) -> ProcessAgent {
        ProcessAgent { command: command.to_string(), restartable: false, mark: None }
    }

    /// One that reads where it was: see
    /// [`Registry::add_restartable`](crate::registry::Registry::add_restartable).
    #[must_use]
    pub fn restartable(self) -> ProcessAgent {
        ProcessAgent { restartable: true, ..self }
    }

    /// One that can be found and ended by [`orphans::end`](crate::orphans::end)
    /// if it outlives its runtime.
    #[must_use]
    pub fn marked(self, mark: &str) -> ProcessAgent {
        ProcessAgent { mark: Some(mark.to_string()), ..self }
    }

    fn spawn(&self, job: &Context) -> io::Result<Child> {
        let mut command = Command::new("sh");
        if let Some(mark) = &self.mark {
            command.env(crate::orphans::MARK, mark);
        }
        command
            .arg("-c")
            .arg(&self.command)
            .env("ARCP_JOB_ID", job.job().to_string())
            .env("ARCP_TRACE_ID", job.trace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a cancel reaches what it starts.
            .process_group(0)
            .spawn()
    }
}

impl Agent for ProcessAgent {
    fn run(&self, job: &Context) -> Result<Outcome, AgentError> {
        let mut child =
            self.spawn(job).map_err(|e| AgentError::failed(format!("`{}` could not be started: {e}", self.command)))?;
        let group = Pid::from_child(&child);
        let input = child.stdin.take();
        let mut said = Said::default();
        let status = std::thread::scope(|scope| {
            scope.spawn(|| stop_when_told(job, group));
            scope.spawn(move || {
                // A program that does not read its input closes the pipe.
                if let Some(mut pipe) = input {
                    let _ = writeln!(pipe, "{}", job.input());
                    if self.restartable {
                        let state = job.restored().unwrap_or(b"null");
                        let _ = pipe.write_all(state).and_then(|()| pipe.write_all(b"\n"));
                    }
                }
            });
            let status = listen(job, &mut child, group, &mut said);
            job.link().change(|state| state.done = true);
            status
        });
        let status = status.map_err(|e| AgentError::failed(format!("the program was lost: {e}")))?;
        said.outcome(job, status)
    }
}

/// Passes a cancel on to the program, until it has exited.
fn stop_when_told(job: &Context, group: Pid) {
    let link = job.link();
    let mut state = link.state();
    let mut told = false;
    while !state.done {
        // The state is locked and not done: the program is not reaped, its
        // number is still its own.
        if state.over {
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        if state.stopping && !told {
            told = true;
            let _ = kill_process_group(group, Signal::TERM);
        }
        state = link.wait(state, None);
    }
}

/// Takes everything the program says, until it has exited.
fn listen(job: &Context, child: &mut Child, group: Pid, said: &mut Said) -> io::Result<ExitStatus> {
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let (mut out_lines, mut err_lines) = (Lines::new(LINE_BYTES), Lines::new(LINE_BYTES));
    let mut exited = false;
    while out.is_some() || err.is_some() {
        let (out_ready, err_ready) = wait_readable(out.as_ref(), err.as_ref())?;
        if out_ready && !read_some(&mut out, &mut out_lines) {
            out = None;
        }
        if err_ready && !read_some(&mut err, &mut err_lines) {
            err = None;
        }
        // A stopped job still drains the pipes, so that the program can end.
        while let Some(line) = out_lines.next_line() {
            let _ = said.line(job, line);
        }
        while let Some(line) = err_lines.next_line() {
            let _ = job.log(Level::Warn, &text_of(line));
        }
        if exited && !out_ready && !err_ready {
            break; // something it started holds the pipes
        }
        exited |= has_exited(group);
    }
    finish_line(&mut out_lines, |line| {
        let _ = said.line(job, line);
    });
    finish_line(&mut err_lines, |line| {
        let _ = job.log(Level::Warn, &text_of(line));
    });
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
    }
    job.link().change(|state| state.done = true);
    // What it left behind ends with it.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

fn has_exited(group: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(group), options), Ok(Some(_)))
}

fn wait_readable(
    out: Option<&std::process::ChildStdout>,
    err: Option<&std::process::ChildStderr>,
) -> io::Result<(bool, bool)> {
    let interest = PollFlags::IN | PollFlags::HUP;
    let mut fds = Vec::with_capacity(2);
    fds.extend(out.map(|pipe| PollFd::new(pipe, interest)));
    fds.extend(err.map(|pipe| PollFd::new(pipe, interest)));
    let span = Timespec { tv_sec: 0, tv_nsec: i64::from(LAST_WORDS.subsec_nanos()) };
    match poll(&mut fds, Some(&span)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let out_ready = out.is_some() && ready.next().unwrap_or(false);
    let err_ready = err.is_some() && ready.next().unwrap_or(false);
    Ok((out_ready, err_ready))
}

/// False at the end of the pipe.
fn read_some<R: Read>(pipe: &mut Option<R>, lines: &mut Lines) -> bool {
    let mut buffer = [0; 16 << 10];
    match pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
        Some(Ok(n)) if n > 0 => {
            lines.push(&buffer[..n]);
            true
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => true,
        Some(Ok(_) | Err(_)) | None => false,
    }
}

/// The last line may have no end.
fn finish_line(lines: &mut Lines, mut take: impl FnMut(Line)) {
    lines.push(b"\n");
    while let Some(line) = lines.next_line() {
        take(line);
    }
}

fn text_of(line: Line) -> String {
    match line {
        Line::Frame(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Line::TooLong => format!("a line of more than {LINE_BYTES} bytes was dropped"),
    }
}

/// What the program has said so far.
#[derive(Debug, Default)]
struct Said {
    /// The result line, while nothing came after it.
    result: Option<String>,
    text: String,
    streamed: bool,
}

impl Said {
    fn line(&mut self, job: &Context, line: Line) -> Result<(), Stopped> {
        if let Some(earlier) = self.result.take() {
            // It was not the last line after all.
            self.plain(job, &earlier)?;
        }
        if let Line::TooLong = line {
            return job.log(Level::Warn, &text_of(line));
        }
        let text = text_of(line);
        let json = Json::parse(&text).ok().filter(Json::is_object);
        match json.as_ref().and_then(|json| json.members().ok()) {
            Some(members) if members.get("kind").is_some() => self.event(job, &members, &text),
            Some(members) if members.get("result").is_some() && members.0.len() == 1 => {
                self.result = Some(text);
                Ok(())
            }
            Some(_) | None => self.plain(job, &text),
        }
    }

    fn plain(&mut self, job: &Context, text: &str) -> Result<(), Stopped> {
        if self.text.len() + text.len() < TEXT_BYTES {
            self.text.push_str(text);
            self.text.push('\n');
        }
        job.log(Level::Info, text)
    }

    fn event(&mut self, job: &Context, members: &Members<'_>, text: &str) -> Result<(), Stopped> {
        let body = members.get("body").and_then(|body| Json::parse(body).ok());
        match (members.get_str("kind"), body) {
            (Some(kind), _) if kind == "heartbeat" => job.beat(),
            (Some(kind), Some(body)) if kind == "result_chunk" => {
                self.streamed = true;
                chunk(job, &body)
            }
            (Some(kind), Some(body)) if kind == "checkpoint" => checkpoint(job, &body),
            (Some(kind), Some(body)) => job.emit(&EventKind::of(&kind), &body),
            _ => self.plain(job, text),
        }
    }

    fn outcome(self, job: &Context, status: ExitStatus) -> Result<Outcome, AgentError> {
        if !status.success() {
            return Err(if job.cancelled() { Stopped.into() } else { failure(status) });
        }
        if let Some(line) = &self.result {
            let members = Members::of(line)?;
            return Ok(Outcome::Json(Json::parse(members.get("result").unwrap_or("null"))?));
        }
        if self.streamed {
            return Ok(Outcome::Streamed { summary: None });
        }
        Ok(Outcome::Json(Json::string(self.text.strip_suffix('\n').unwrap_or(&self.text))))
    }
}

fn chunk(job: &Context, body: &Json) -> Result<(), Stopped> {
    let members = body.members().unwrap_or_default();
    let data = members.get_str("data").unwrap_or_default();
    let data = match members.get_str("encoding").as_deref() {
        Some("base64") => match arcp_proto::json::decode_base64(&data) {
            Some(bytes) => ChunkData::Binary(bytes),
            None => return job.log(Level::Warn, "a result chunk was not valid base64 and was dropped"),
        },
        Some(_) | None => ChunkData::Text(data),
    };
    match (members.get("more"), data) {
        (Some("false"), data) => job.last_chunk(data),
        (_, ChunkData::Text(text)) => job.chunk(text),
        (_, ChunkData::Binary(bytes)) => job.chunk_bytes(bytes),
    }
}

fn checkpoint(job: &Context, body: &Json) -> Result<(), Stopped> {
    let members = body.members().unwrap_or_default();
    // A line is what it is read back as.
    match members.get("state").map(Json::parse) {
        Some(Ok(state)) if !state.as_str().contains('\n') => {
            job.checkpoint(state.as_str(), members.get_str("label").as_deref())
        }
        Some(_) | None => job.log(Level::Warn, "a checkpoint without a `state` was dropped"),
    }
}

fn failure(status: ExitStatus) -> AgentError {
    let mut details = Object::new();
    let message = match (status.code(), status.signal()) {
        (Some(code), _) => {
            details.u64("exit_code", u64::from(code.unsigned_abs()));
            format!("the program exited with code {code}")
        }
        (None, Some(signal)) => {
            details.u64("signal", u64::from(signal.unsigned_abs()));
            format!("the program was ended by signal {signal}")
        }
        (None, None) => "the program ended in an unknown way".to_string(),
    };
    AgentError(JobError { details: Some(details.json()), ..JobError::new(ErrorCode::Internal, message) })
}
