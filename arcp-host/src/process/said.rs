//! What a program says, line by line, and what its job ends with.

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

/// How much of the text becomes the result; the rest is only in the events.
const TEXT_BYTES: usize = 1 << 20;
/// How much of a line on stderr is kept if it is too long.
const STDERR_BYTES: usize = 4 << 10;
/// For how long a program that has exited is heard of children.
const HEARD: Duration = Duration::from_secs(20);
/// How long it goes unseen that a program has exited which waits for one.
const LOOK: Duration = Duration::from_millis(200);

/// What the program has said so far.
#[derive(Default)]
pub(super) struct Said {
    /// Who knows lines that are not our own.
    reader: Option<Box<dyn Reader>>,
    /// What it has said last of how the job ends.
    end: Option<Result<Json, JobError>>,
    /// The result line, while nothing came after it.
    result: Option<String>,
    /// The file that it has left last as its result.
    stored: Option<WireId>,
    text: String,
    /// Whether a line had no room there.
    text_is_full: bool,
    streamed: bool,
    /// What it has open.
    streams: Streams,
    /// What it is answered, if it reads that.
    answers: Option<Answers>,
    /// Where it works.
    files: Option<Files>,
    /// Why the job fails, however the program ends.
    failure: Option<JobError>,
    program: Option<Pid>,
    /// When it was seen to have exited.
    gone: Option<Instant>,
}

impl Said {
    /// Nothing yet, of a program that prints this format, reads these answers and works
    /// there.
    pub(super) fn new(program: &Child, format: Format, answers: Option<Answers>, files: Files) -> Said {
        let program = Some(Pid::from_child(program));
        Said { program, reader: format.reader(), answers, files: Some(files), ..Said::default() }
    }

    /// Takes a line; breaks off when the job cannot succeed any more.
    pub(super) fn line(&mut self, job: &Context, source: Source, line: Line) -> ControlFlow<()> {
        let _ = self.go_on(job);
        // Of a job that is over nothing counts any more, but the program may
        // still have something to finish: what it prints is taken all the same.
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
            // It was not the last line after all.
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
                // An event is nested deeper than what it was made of.
                Heard::Event(_, body) if Json::parse(body.as_str()).is_err() => log(job, Source::Stdout, text)?,
                Heard::Event(kind, body) => job.emit(&kind, &body)?,
                Heard::Result(result) => self.end = Some(Ok(result)),
                Heard::Failed(error) => self.end = Some(Err(error)),
            }
        }
        Ok(())
    }

    fn plain(&mut self, job: &Context, text: &str) -> Result<(), Stopped> {
        // The first line that has no room is where the text is cut: what comes after a hole would read as if it followed.
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
                // Whoever is gone waits for no child, and asks for it all the same.
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

    /// Whether the program has exited, and so waits for no child. What it has asked for is
    /// heard for a while, and holds its slot.
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

    /// Something about a stream, which waits if that is held.
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

    /// Whether something waits for a stream that is held.
    pub(super) fn waits(&self) -> bool {
        self.streams.any_waits()
    }

    /// Says what has waited for its stream and need not any more.
    pub(super) fn go_on(&mut self, job: &Context) -> Result<(), Stopped> {
        while let Some(Waiting { call, asked, .. }) = self.streams.next_waiting(job) {
            match call {
                Some(call) => self.call(job, asked.as_deref(), call)?,
                None => self.answer(asked.as_deref(), Ok(AgentReply::Taken { event: None })),
            }
        }
        Ok(())
    }

    /// The program says nothing more: what waits is said as its streams go on.
    pub(super) fn finish(&mut self, job: &Context) {
        while self.waits() {
            self.streams.wait(job);
            // Of a job that is over what waits is dropped, a line at a time.
            let _ = self.go_on(job);
        }
    }

    /// An upstream did not do what the program wanted: that is the error of one call, if
    /// the line names one, and else why the job fails, unless a result follows.
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

    /// Asks people, and goes on: they are answered in their own time.
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

    /// Leaves a file with the runtime. Nobody waits for a line without an id: why not is
    /// in the log then.
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
                // There is no other result, whatever it prints.
                true => self.failure = Some(JobError { message, ..why.clone() }),
                false => job.log(Level::Warn, &message)?,
            }
        }
        let stopped = kept.is_err();
        self.answer(asked, kept);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    /// What has an id and is no call is answered all the same: somebody waits.
    fn refuse(&self, asked: Option<&str>, why: &str) {
        self.answer(asked, Ok(AgentReply::Refused(JobError::new(ErrorCode::InvalidRequest, why))));
    }

    /// Makes a call, and answers it if the program has given it an id.
    fn call(&self, job: &Context, asked: Option<&str>, call: AgentCall) -> Result<(), Stopped> {
        if asked.is_none() {
            return job.call(call);
        }
        let reply = job.ask(call);
        let stopped = reply.is_err();
        self.answer(asked, reply);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    /// Waits for a child, no longer than the program does.
    fn await_child(&mut self, job: &Context, asked: Option<&str>, child: JobId) -> Result<(), Stopped> {
        let call = people::ask_later(job, AgentCall::AwaitChild { job: child })?;
        let reply = loop {
            if let Some(reply) = people::reply_to(job, call) {
                break reply;
            }
            if self.program.is_some_and(super::has_exited) {
                return Ok(());
            }
            drop(job.link.wait(job.link.state(), Some(LOOK)));
        };
        let stopped = reply.is_err();
        self.answer(asked, reply);
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    fn answer(&self, asked: Option<&str>, reply: Result<AgentReply, Stopped>) {
        if let (Some(answers), Some(id)) = (&self.answers, asked) {
            answers.push(id, reply);
        }
    }

    /// What the job ends with, now that the program has.
    pub(super) fn outcome(self, job: &Context, status: ExitStatus) -> Result<Outcome, AgentError> {
        if let Some(failure) = self.failure {
            return Err(AgentError(failure));
        }
        // What it says itself of its failure is more than its exit code.
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

/// A line that is no event. What is on stderr is not always a warning.
fn log(job: &Context, source: Source, text: &str) -> Result<(), Stopped> {
    let attributes = match source {
        Source::Stdout => &OF_STDOUT,
        Source::Stderr => &OF_STDERR,
    };
    job.log_with(Level::Info, text, attributes)
}

/// The piece of a result in a line, or why there is none.
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

/// What is missing in it is refused by name.
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

/// Another value for a credential, this one if the program says so.
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
    // A line is what it is read back as.
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
