//! The output of a program, line by line, and the outcome of its job.

use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, WireId};
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::runtime::{AgentCall, AgentReply, ChunkData};
use arcp_proto::secret::Secret;
use rustix::process::Pid;

use super::answers::Answers;
use super::asks;
use super::files::{self, Files};
use super::format::{Format, Heard, Reader, cut_before_word};
use super::pipes::{LINE_BYTES, Line, Source};
use super::streams::{self, Streams, Taken, Waiting};
use crate::agent::{AgentError, Context, Level, Outcome, Stopped, heartbeat_in_turn, people, upstream};

/// How many bytes of text become the result; the rest is only in the events.
const TEXT_BYTES: usize = 1 << 20;
/// How many bytes of an overlong line on stderr are kept.
const STDERR_BYTES: usize = 4 << 10;
/// How long an exited program's requests for children are still answered.
const HEARD: Duration = Duration::from_secs(20);
/// The interval between two looks whether a program that waits for a child has exited.
const LOOK: Duration = Duration::from_millis(200);

/// What the program has printed so far.
#[derive(Default)]
pub(super) struct Said {
    /// Reads lines that are not our own.
    reader: Option<Box<dyn Reader>>,
    /// The outcome of the job according to the last line that said one.
    end: Option<Result<Json, JobError>>,
    /// The result line, as long as no line followed it.
    result: Option<String>,
    /// The artifact that it has left last as its result.
    stored: Option<WireId>,
    text: String,
    /// Whether a line did not fit into `text`.
    text_is_full: bool,
    streamed: bool,
    /// The program's open streams.
    streams: Streams,
    /// Answers to the program, if it reads them.
    answers: Option<Answers>,
    /// The folders whose files it may leave.
    files: Option<Files>,
    /// Why the job fails, whatever the exit status.
    failure: Option<JobError>,
    program: Option<Pid>,
    /// The time at which its exit was noticed.
    gone: Option<Instant>,
}

impl Said {
    /// Nothing yet, of a program with this format, these answers and these folders.
    pub(super) fn new(program: &Child, format: Format, answers: Option<Answers>, files: Files) -> Said {
        let program = Some(Pid::from_child(program));
        Said { program, reader: format.reader(), answers, files: Some(files), ..Said::default() }
    }

    /// Takes a line; breaks off when the job can only fail.
    pub(super) fn line(&mut self, job: &Context, source: Source, line: Line) -> ControlFlow<()> {
        let _ = self.go_on(job);
        // When the job is over, further lines have no effect. But they are read, so that the
        // program can finish its work.
        let _ = match (source, line) {
            (Source::Stdout, Line::Whole(line)) => self.stdout(job, &line),
            (Source::Stdout, Line::TooLong { bytes, .. }) => {
                self.failure = Some(too_long(bytes));
                Ok(())
            }
            (Source::Stderr, Line::Whole(line)) => log(job, source, &String::from_utf8_lossy(&line)),
            (Source::Stderr, Line::TooLong { start, bytes }) => {
                let start = String::from_utf8_lossy(&start[..start.len().min(2 * STDERR_BYTES)]);
                let start = cut_before_word(&start, STDERR_BYTES);
                log(job, source, &format!("{start} [cut: a line of {bytes} bytes, at most {LINE_BYTES} are taken]"))
            }
        };
        if self.failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn stdout(&mut self, job: &Context, line: &[u8]) -> Result<(), Stopped> {
        if let Some(earlier) = self.result.take() {
            // The earlier line was not the last one, and so not the result.
            self.plain(job, &earlier)?;
        }
        let text = String::from_utf8_lossy(line).into_owned();
        let json = Json::parse(&text).ok().filter(Json::is_object);
        match json.as_ref().and_then(|json| json.members().ok()) {
            Some(members) if members.get("kind").is_some() => self.event(job, &members, &text),
            Some(members) if members.0.len() == 1 && members.get("result").or(members.get("result_ref")).is_some() => {
                self.result = Some(text);
                self.end = None;
                Ok(())
            }
            Some(_) | None => self.foreign(job, &text),
        }
    }

    /// A line that is not our own: of the program's format, or text.
    fn foreign(&mut self, job: &Context, text: &str) -> Result<(), Stopped> {
        let Some((reader, json)) = self.reader.as_mut().zip(Json::parse(text).ok()) else {
            return self.plain(job, text);
        };
        let Some(heard) = reader.read(&json) else {
            return log(job, Source::Stdout, text);
        };
        for heard in heard {
            match heard {
                // An event is nested deeper than the line that it was made of.
                Heard::Event(_, body) if Json::parse(body.as_str()).is_err() => log(job, Source::Stdout, text)?,
                Heard::Event(kind, body) => job.emit(&kind, &body)?,
                Heard::Result(result) => self.end = Some(Ok(result)),
                Heard::Failed(error) => self.end = Some(Err(error)),
            }
        }
        Ok(())
    }

    fn plain(&mut self, job: &Context, text: &str) -> Result<(), Stopped> {
        // The text is cut at the first line that does not fit: later lines would seem to follow
        // directly.
        self.text_is_full |= self.text.len() + text.len() >= TEXT_BYTES;
        if !self.text_is_full {
            self.text.push_str(text);
            self.text.push('\n');
        }
        log(job, Source::Stdout, text)
    }

    fn event(&mut self, job: &Context, members: &Members<'_>, text: &str) -> Result<(), Stopped> {
        let body = members.get("body").and_then(|body| Json::parse(body).ok());
        let asked = members.get("id").filter(|_| self.answers.is_some());
        match (members.get_str("kind"), body) {
            (Some(kind), _) if kind == "heartbeat" => {
                heartbeat_in_turn(job)?;
                self.answer(asked, Ok(AgentReply::Taken { event: None }));
                Ok(())
            }
            (Some(kind), _) if kind == "remaining" && asked.is_some() => self.call(job, asked, AgentCall::Remaining),
            (Some(kind), body) if kind == "authorize" && asked.is_some() => {
                self.call(job, asked, authorize(&body.unwrap_or_else(Json::empty_object)))
            }
            (Some(kind), body) if kind == "renew_credential" && asked.is_some() => {
                match body.as_ref().and_then(renewal) {
                    Some(renewal) => self.call(job, asked, renewal),
                    None => {
                        self.refuse(asked, "`id` must be the id of a credential, and `value` a text if it is there");
                        Ok(())
                    }
                }
            }
            (Some(kind), _) if kind == "artifact" => self.leave(job, asked, members),
            (Some(kind), body) if kind == "go_on" => {
                let number = body.and_then(|body| body.members().ok()?.get("interrupt")?.parse().ok());
                self.call(job, asked, AgentCall::GoOn { interrupt: number })
            }
            (Some(kind), body) if kind == "upstream_error" => self.upstream_error(job, asked, body.as_ref()),
            (Some(kind), body) if kind == "await" && asked.is_some() => {
                let child = body.and_then(|body| JobId::parse(&body.members().ok()?.get_str("job_id")?));
                match child {
                    Some(child) => self.await_child(job, asked, child),
                    None => {
                        self.refuse(asked, "`job_id` must be the id of a child");
                        Ok(())
                    }
                }
            }
            (Some(kind), body) if streams::KINDS.contains(&kind.as_str()) => {
                self.in_stream(job, (&kind, asked), &body.unwrap_or_else(Json::empty_object))
            }
            (Some(kind), body) if asks::KINDS.contains(&kind.as_str()) => {
                self.ask(job, asked, asks::call(&kind, body.as_ref()))
            }
            (Some(kind), body) if kind == "result_chunk" => {
                match body.as_ref().ok_or("`body` is missing").and_then(piece) {
                    Ok(piece) => {
                        self.streamed = true;
                        self.call(job, asked, piece)
                    }
                    Err(why) => {
                        let message = format!("the program printed a `result_chunk` that cannot be read: {why}");
                        self.failure = Some(JobError::new(ErrorCode::Internal, message));
                        Ok(())
                    }
                }
            }
            (Some(kind), Some(body)) if kind == "checkpoint" => match checkpoint(&body) {
                Some(checkpoint) => self.call(job, asked, checkpoint),
                None => {
                    self.refuse(asked, "a checkpoint needs a `state`, on one line");
                    job.log(Level::Warn, "a checkpoint without a `state` was dropped")
                }
            },
            (Some(kind), Some(body)) => {
                let kind = EventKind::from(kind.as_str());
                // A program that has exited waits for no child, but its requests for children still
                // count.
                let waits = asked.is_none() || kind != EventKind::Delegate || !self.is_gone();
                let call = AgentCall::Emit { kind, body };
                if waits { self.call(job, asked, call) } else { people::ask_later(job, call).map(drop) }
            }
            _ => {
                self.refuse(asked, "`kind` must be a text, and `body` be there");
                self.foreign(job, text)
            }
        }
    }

    /// Whether the program has exited, and so waits for no child. Its requests are answered for a
    /// while, during which it holds its slot.
    fn is_gone(&mut self) -> bool {
        if !self.program.is_some_and(super::has_exited) {
            return false;
        }
        if self.gone.get_or_insert_with(Instant::now).elapsed() > HEARD {
            let why = "the program has ended, and the runtime is too late for the children that it has asked for";
            self.failure = Some(JobError::new(ErrorCode::Unavailable, why));
        }
        true
    }

    /// Handles a line about a stream. It waits if the stream is held.
    fn in_stream(&mut self, job: &Context, (kind, asked): (&str, Option<&str>), body: &Json) -> Result<(), Stopped> {
        loop {
            match self.streams.take(job, (kind, asked), body) {
                Ok(Taken::Call(call)) => return self.call(job, asked, call),
                Ok(Taken::LeftOut) => {
                    self.answer(asked, Ok(AgentReply::Taken { event: None }));
                    return Ok(());
                }
                Ok(Taken::Waits) => return Ok(()),
                Ok(Taken::NoRoom) => {
                    self.streams.wait(job);
                    self.go_on(job)?;
                }
                Err(why) => {
                    self.refuse(asked, &why);
                    return job.log(Level::Warn, &format!("a `{kind}` was dropped: {why}"));
                }
            }
        }
    }

    /// Whether a line waits for a held stream.
    pub(super) fn waits(&self) -> bool {
        self.streams.any_waits()
    }

    /// Handles the lines whose streams are not held any more.
    pub(super) fn go_on(&mut self, job: &Context) -> Result<(), Stopped> {
        while let Some(Waiting { call, asked, .. }) = self.streams.next_waiting(job) {
            match call {
                Some(call) => self.call(job, asked.as_deref(), call)?,
                None => self.answer(asked.as_deref(), Ok(AgentReply::Taken { event: None })),
            }
        }
        Ok(())
    }

    /// Handles the lines that wait, once the program prints nothing more.
    pub(super) fn finish(&mut self, job: &Context) {
        while self.waits() {
            self.streams.wait(job);
            // When the job is over, the waiting lines are dropped one by one.
            let _ = self.go_on(job);
        }
    }

    /// Handles an error of an upstream. It is the error of one call if the line names one.
    /// Otherwise the job fails with it, unless a result follows.
    fn upstream_error(&mut self, job: &Context, asked: Option<&str>, body: Option<&Json>) -> Result<(), Stopped> {
        let empty = Json::empty_object();
        let members = body.unwrap_or(&empty).members().unwrap_or_default();
        let status = members.get("status").and_then(|status| status.parse().ok());
        let answer = members.get("answer").and_then(|answer| {
            let quoted = serde_json::from_str::<String>(answer).ok();
            Json::parse(quoted.as_deref().unwrap_or(answer)).ok()
        });
        let error = upstream::of_answer(status, answer.as_ref());
        let Some(call_id) = members.get_str("call_id") else {
            self.end = Some(Err(error));
            self.answer(asked, Ok(AgentReply::Taken { event: None }));
            return Ok(());
        };
        let mut result = Object::new();
        result.str("call_id", &call_id).object("error", |out| {
            out.str("code", error.code.as_str()).str("message", &error.message).bool("retryable", error.retryable);
            out.opt_json("details", error.details.as_ref());
        });
        self.call(job, asked, AgentCall::Emit { kind: EventKind::ToolResult, body: result.json() })
    }

    /// Asks people and goes on: the answer may take long.
    fn ask(&self, job: &Context, id: Option<&str>, call: Result<AgentCall, String>) -> Result<(), Stopped> {
        match (call, id, &self.answers) {
            (Ok(call), Some(id), Some(answers)) => answers.await_people(id, people::ask_later(job, call)?),
            (Err(why), Some(_), _) => self.refuse(id, &why),
            (_, None, _) | (Ok(_), _, None) => {
                job.log(Level::Warn, "a question to people was dropped: nobody waits for the answer")?;
            }
        }
        Ok(())
    }

    /// Leaves a file as an artifact. If the line has no id, a failure is logged instead of
    /// answered.
    fn leave(&mut self, job: &Context, asked: Option<&str>, line: &Members<'_>) -> Result<(), Stopped> {
        let Some(files) = &self.files else { return Ok(()) };
        let is_result = line.get("result") == Some("true");
        let kept = files.leave(job, line);
        if let (Ok(kept), true) = (&kept, is_result) {
            self.stored = Some(kept.id.clone());
        }
        let kept = kept.map(|kept| AgentReply::Kept(Box::new(kept))).or_else(files::told);
        if let (None, Ok(AgentReply::Refused(why))) = (asked, &kept) {
            let message = format!("a file was not kept as an artifact: {}", why.message);
            match is_result {
                // This file was to be the result, so the job fails whatever else the program
                // prints.
                true => self.failure = Some(JobError { message, ..why.clone() }),
                false => job.log(Level::Warn, &message)?,
            }
        }
        let stopped = kept.is_err();
        self.answer(asked, kept);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    /// Answers a line that has an id but is not a valid call, because the program waits for an
    /// answer.
    fn refuse(&self, asked: Option<&str>, why: &str) {
        self.answer(asked, Ok(AgentReply::Refused(JobError::new(ErrorCode::InvalidRequest, why))));
    }

    /// Makes a call, and answers it if the program gave it an id.
    fn call(&self, job: &Context, asked: Option<&str>, call: AgentCall) -> Result<(), Stopped> {
        if asked.is_none() {
            return job.call(call);
        }
        let reply = job.ask(call);
        let stopped = reply.is_err();
        self.answer(asked, reply);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    /// Waits for a child, but not after the program has exited.
    fn await_child(&mut self, job: &Context, asked: Option<&str>, child: JobId) -> Result<(), Stopped> {
        let call = people::ask_later(job, AgentCall::AwaitChild { job: child })?;
        let mut state = job.link.state();
        let reply = loop {
            if let Some(reply) = state.reply(call) {
                break reply;
            }
            if self.program.is_some_and(super::has_exited) {
                return Ok(());
            }
            state = job.link.wait(state, Some(LOOK));
        };
        drop(state);
        let stopped = reply.is_err();
        self.answer(asked, reply);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    fn answer(&self, asked: Option<&str>, reply: Result<AgentReply, Stopped>) {
        if let (Some(answers), Some(id)) = (&self.answers, asked) {
            answers.push(id, reply);
        }
    }

    /// The outcome of the job once the program has ended.
    pub(super) fn outcome(self, job: &Context, status: ExitStatus) -> Result<Outcome, AgentError> {
        if let Some(failure) = self.failure {
            return Err(AgentError(failure));
        }
        // The program's own error says more than its exit code.
        if let Some(Err(error)) = self.end {
            return Err(if job.cancelled() { Stopped.into() } else { AgentError(error) });
        }
        if !status.success() {
            return Err(if job.cancelled() { Stopped.into() } else { failure(status) });
        }
        if let Some(line) = &self.result {
            let members = Members::parse(line)?;
            if members.get("result_ref").is_some() {
                let named = members.get_str("result_ref").and_then(|id| WireId::new(&id));
                let artifact = named.ok_or_else(|| AgentError::failed("`result_ref` must be the id of an artifact"))?;
                return Ok(Outcome::Stored { artifact, summary: None });
            }
            return Ok(Outcome::Json(Json::parse(members.get("result").unwrap_or("null"))?));
        }
        if let Some(artifact) = self.stored {
            return Ok(Outcome::Stored { artifact, summary: None });
        }
        if self.streamed {
            return Ok(Outcome::Streamed { summary: None });
        }
        if let Some(Ok(result)) = self.end {
            return Ok(Outcome::Json(result));
        }
        Ok(Outcome::Json(Json::string(self.text.strip_suffix('\n').unwrap_or(&self.text))))
    }
}

static OF_STDOUT: LazyLock<Json> = LazyLock::new(|| of_stream("stdout"));
static OF_STDERR: LazyLock<Json> = LazyLock::new(|| of_stream("stderr"));

fn of_stream(name: &str) -> Json {
    let mut attributes = Object::new();
    attributes.str("stream", name);
    attributes.json()
}

/// Emits a line as a log event. Not every line on stderr is a warning, so all have the same level.
fn log(job: &Context, source: Source, text: &str) -> Result<(), Stopped> {
    let attributes = match source {
        Source::Stdout => &OF_STDOUT,
        Source::Stderr => &OF_STDERR,
    };
    job.log_with(Level::Info, text, attributes)
}

/// The piece of the result in a line, or why there is none.
fn piece(body: &Json) -> Result<AgentCall, &'static str> {
    let members = body.members().unwrap_or_default();
    let text = members.get_str("data").ok_or("`data` must be a text")?;
    let data = match members.get_str("encoding").as_deref() {
        Some("base64") => {
            ChunkData::Binary(arcp_proto::json::decode_base64(&text).ok_or("`data` is not valid base64")?)
        }
        Some("utf8") | None => ChunkData::Text(text),
        Some(_) => return Err("`encoding` must be `utf8` or `base64`"),
    };
    Ok(AgentCall::Chunk { data, more: members.get("more") != Some("false") })
}

/// Missing members become empty texts; the runtime refuses these by name.
fn authorize(body: &Json) -> AgentCall {
    let members = body.members().unwrap_or_default();
    let text = |name: &str| members.get_str(name).unwrap_or_default();
    let price = members.get("price").map_or_else(Vec::new, |price| {
        serde_json::from_str(price)
            .or_else(|_| serde_json::from_str(price).map(|one| vec![one]))
            .unwrap_or_else(|_| vec![price.to_string()])
    });
    AgentCall::Authorize { operation: text("operation"), target: text("target"), price }
}

/// The call that renews a credential, with the value that the program gives, if any.
fn renewal(body: &Json) -> Option<AgentCall> {
    let members = body.members().ok()?;
    let value = match members.get("value") {
        None | Some("null") => None,
        Some(_) => Some(Secret::new(members.get_str("value")?)),
    };
    Some(AgentCall::RenewCredential { id: members.get_str("id")?, value })
}

fn checkpoint(body: &Json) -> Option<AgentCall> {
    let members = body.members().unwrap_or_default();
    // The state must be one line, because it is read back as a line.
    let state = members.get("state").and_then(|state| Json::parse(state).ok());
    let state = state.filter(|state| !state.as_str().contains('\n'))?;
    Some(AgentCall::Checkpoint { state: state.as_str().into(), label: members.get_str("label") })
}

fn too_long(bytes: u64) -> JobError {
    let message = format!(
        "the program printed a line of {bytes} bytes: at most {LINE_BYTES} are taken as one; print a large result in \
         pieces, as `result_chunk` events"
    );
    let mut details = Object::new();
    details.u64("line_bytes", bytes).u64("at_most", LINE_BYTES as u64);
    JobError { details: Some(details.json()), ..JobError::new(ErrorCode::Internal, message) }
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
