//! Asks the user on the terminal the questions of a job that is being followed.
//!
//! ```text
//!   heard ──▶ queued ──nothing else comes──▶ asked ──a line──▶ sent ──taken──▶ done
//!               │                             │ ▲               │
//!               │                             │ └─does not fit──┘
//!               └──answered elsewhere, over───┴────Ctrl-D, late──────▶ done
//! ```
//!
//! The terminal stays in line mode. What was typed before a question was shown is not taken as its answer.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::request::Answering;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};

use crate::question::{Choice, Closed, Kind, Question};

/// How long a question waits for a moment in which nothing else is shown.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Asks one question after the other.
pub struct Asker<'a> {
    client: &'a Client,
    queue: VecDeque<Question>,
    /// The ids of questions that were queued before: a new session is sent the open questions again.
    heard: Vec<String>,
    state: State,
    /// When the oldest queued question began to wait.
    since: Instant,
    /// The beginning of a line whose end was not typed yet.
    typed: Vec<u8>,
}

enum State {
    /// No question is shown.
    Idle,
    /// A question was shown. `shown`: its prompt is the last thing on the terminal.
    Asked { question: Question, shown: bool },
    /// The answer was sent.
    Sent { question: Question, taken: Receiver<Result<(), ClientError>> },
    /// Questions cannot be answered in this session.
    Off,
}

/// What a person typed.
enum Typed {
    Line(String),
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
}

impl<'a> Asker<'a> {
    /// An asker for the terminal of this program. `None` unless both stdin and stderr are a terminal.
    pub fn on_terminal(client: &'a Client) -> Option<Asker<'a>> {
        let both = io::stdin().is_terminal() && io::stderr().is_terminal();
        let (queue, heard, typed) = Default::default();
        both.then(|| Asker { client, queue, heard, state: State::Idle, since: Instant::now(), typed })
    }

    /// Takes in an event of the job.
    pub fn hear(&mut self, event: &JobEvent) {
        let JobEvent::Emitted { kind, body } = event else {
            return;
        };
        if let Some(question) = Question::of(kind, body) {
            if !self.heard.contains(&question.id) {
                if self.queue.is_empty() {
                    self.since = Instant::now();
                }
                self.heard.push(question.id.clone());
                self.queue.push_back(question);
            }
        } else if let Some(closed) = Closed::of(kind, body) {
            self.queue.retain(|question| question.id != closed.id);
            if matches!(&self.state, State::Asked { question, .. } if question.id == closed.id) {
                self.state = State::Idle;
                self.forget_typed();
            }
        }
    }

    /// Leaves the line of an open prompt, because something else is about to be shown.
    pub fn pause(&mut self) {
        if let State::Asked { shown, .. } = &mut self.state
            && std::mem::take(shown)
        {
            self.since = Instant::now();
            // The other output begins on a line of its own.
            say(format_args!(""));
        }
    }

    /// Shows a question or reads its answer. `idle`: nothing else is to be shown at the moment.
    pub fn turn(&mut self, idle: bool) {
        let may_show = idle || self.since.elapsed() >= LONGEST_WAIT;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Off => self.state = State::Off,
            // In the background of its terminal, the program neither asks nor reads.
            state if !is_in_front() => self.state = state,
            State::Idle => {
                if may_show && let Some(question) = self.queue.pop_front() {
                    self.forget_typed();
                    header(&question).iter().for_each(|line| say(format_args!("{line}")));
                    self.show(question);
                }
            }
            State::Asked { question, shown: false } if may_show => {
                // A permission must be granted by a person who has read the question: earlier input does not count.
                if question.kind == Kind::Permission {
                    self.forget_typed();
                }
                self.show(question);
            }
            State::Asked { question, shown: false } => self.state = State::Asked { question, shown: false },
            State::Asked { question, shown: true } => match self.typed() {
                Some(Typed::Line(line)) => self.give(question, &line),
                Some(Typed::End) => {
                    say(format_args!("\narcp: {} stays open: `arcp inbox` shows it", question.id));
                }
                None => self.state = State::Asked { question, shown: true },
            },
            State::Sent { question, taken } => match taken.try_recv() {
                Ok(Ok(())) | Err(TryRecvError::Disconnected) => {}
                Ok(Err(error)) => self.refused(question, &error),
                Err(TryRecvError::Empty) => self.state = State::Sent { question, taken },
            },
        }
    }

    fn show(&mut self, question: Question) {
        let mut terminal = io::stderr().lock();
        let _ = write!(terminal, "{}", prompt(&question)).and_then(|()| terminal.flush());
        self.state = State::Asked { question, shown: true };
    }

    /// Sends the line that was typed if it can be an answer, otherwise asks again.
    fn give(&mut self, question: Question, line: &str) {
        let sent = answer(&question, line).and_then(|answer| {
            let prompt = question.prompt().ok_or("its id cannot be answered")?;
            self.client.answer_later(Answering { prompt, answer }).map_err(|error| error.to_string())
        });
        match sent {
            Ok(taken) => self.state = State::Sent { question, taken },
            Err(why) => {
                say(format_args!("arcp: {}", visible(&why)));
                self.show(question);
            }
        }
    }

    fn refused(&mut self, question: Question, error: &ClientError) {
        let code = match error {
            ClientError::Refused(refusal) => &refusal.code,
            ClientError::Misuse(_) => &ErrorCode::PermissionDenied,
            // These end the session: the follower of the job reports them.
            ClientError::Ended(_)
            | ClientError::Config(_)
            | ClientError::Io(_)
            | ClientError::Cleartext(_)
            | ClientError::Untrusted(_)
            | ClientError::NotTaken(_)
            | ClientError::NotServed(_) => return,
        };
        let why = visible(&error.to_string());
        if *code == ErrorCode::InvalidRequest {
            say(format_args!("arcp: {why}"));
            self.show(question);
        } else if *code == ErrorCode::PermissionDenied {
            say(format_args!("arcp: nothing is asked here any more: {why}"));
            self.state = State::Off;
        } else {
            say(format_args!("arcp: {} was not answered here: {why}", question.id));
        }
    }

    /// The next whole line that was typed, if there is one. Does not block.
    fn typed(&mut self) -> Option<Typed> {
        let stdin = io::stdin();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut readable = [PollFd::new(&stdin, PollFlags::IN)];
        if !matches!(poll(&mut readable, Some(&now)), Ok(1..)) {
            return None;
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(&stdin, &mut buffer) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return None,
            Err(_) | Ok(0) => return Some(Typed::End),
            Ok(read) => self.typed.extend_from_slice(&buffer[..read]),
        }
        let end = self.typed.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.typed.drain(..=end).collect();
        Some(Typed::Line(String::from_utf8_lossy(&line).trim().to_string()))
    }

    /// Discards what was typed until this moment.
    fn forget_typed(&mut self) {
        self.typed.clear();
        if is_in_front() {
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        }
    }
}

/// Whether this program may read from its terminal without being stopped: it is in the foreground, or stdin is not its
/// controlling terminal.
fn is_in_front() -> bool {
    !tcgetpgrp(io::stdin()).is_ok_and(|front| front != getpgrp())
}

/// The lines above the prompt.
fn header(question: &Question) -> Vec<String> {
    let text = |name: &str| question.members().get_str(name);
    match question.kind {
        Kind::Input => {
            question.schema().map(|schema| format!("an answer fits {}", visible(schema.as_str()))).into_iter().collect()
        }
        Kind::Choice => {
            let options = question.options();
            let numbered = options.iter().zip(1..).map(|(option, n)| format!("  {n} {}", visible(&option.shown())));
            numbered.collect()
        }
        Kind::Permission => {
            let named = text("permission").filter(|name| Some(name) != text("operation").as_ref());
            let named = named.map(|name| format!("permission: {}", visible(&name)));
            named.into_iter().chain(question.reason().map(|why| format!("reason: {why}"))).collect()
        }
    }
}

/// The prompt. For a permission it says exactly what is granted.
fn prompt(question: &Question) -> String {
    let asks = question.asks();
    let default = question.default_answer().map(|default| visible(default.as_str()));
    match (question.kind, default) {
        (Kind::Input, None) => format!("{asks}: "),
        (Kind::Input, Some(default)) => format!("{asks} [{default}]: "),
        (Kind::Choice, None) => format!("{asks} (a number): "),
        (Kind::Choice, Some(default)) => format!("{asks} (a number) [{default}]: "),
        (Kind::Permission, _) => format!("grant {asks} {}? [y/N] ", question.granted_for()),
    }
}

/// The answer that a line gives.
///
/// # Errors
///
/// What the user can type instead.
fn answer(question: &Question, line: &str) -> Result<PromptAnswer, String> {
    let default = question.default_answer();
    match question.kind {
        Kind::Input => match (line, default) {
            ("", Some(default)) => Ok(PromptAnswer::Value(default)),
            ("", None) => Err("there is no default: type an answer, or Ctrl-D to leave the question open".to_string()),
            (line, _) => Ok(PromptAnswer::Value(value(question, line))),
        },
        Kind::Choice => {
            let options = question.options();
            if let Some(default) = default.filter(|_| line.is_empty()) {
                return default.decode().map(PromptAnswer::Choice).map_err(|error| error.to_string());
            }
            let numbered = line.parse::<usize>().ok().and_then(|n| options.get(n.checked_sub(1)?));
            let named = || options.iter().find(|option| option.id == line);
            let chosen = numbered.or_else(named).map(|Choice { id, .. }| PromptAnswer::Choice(id.clone()));
            chosen.ok_or_else(|| {
                format!("type a number from 1 to {}, or Ctrl-D to leave the question open", options.len())
            })
        }
        Kind::Permission => match line.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(PromptAnswer::Grant { lease_seconds: None, resource: None, once: false }),
            "" | "n" | "no" => Ok(PromptAnswer::Deny { reason: None }),
            _ => Err("type y or n".to_string()),
        },
    }
}

/// The line as JSON if it is valid JSON, otherwise as a string. If a string is wanted, only a string in quotes is read
/// as JSON.
fn value(question: &Question, line: &str) -> Json {
    let schema = question.schema().and_then(|schema| schema.decode::<serde_json::Value>().ok());
    let wants_text = schema.is_some_and(|schema| schema["type"] == "string");
    let read = Json::parse(line).ok().filter(|json| !wants_text || json.decode::<String>().is_ok());
    read.unwrap_or_else(|| Json::string(line))
}

#[cfg(test)]
mod tests {
    use arcp_proto::model::event::EventKind;

    use super::*;

    fn question(kind: &EventKind, body: &str) -> Question {
        Question::of(kind, &Json::parse(body).expect("JSON")).expect("a question")
    }

    #[test]
    fn a_line_is_json_where_it_can_be_and_a_text_where_one_is_asked_for() {
        let asks = |schema: &str| {
            question(
                &EventKind::InputRequest,
                &format!(r#"{{"prompt_id":"p","prompt":"?","response_schema":{schema}}}"#),
            )
        };
        let read = |schema: &str, line: &str| match answer(&asks(schema), line) {
            Ok(PromptAnswer::Value(value)) => value.as_str().to_string(),
            other => panic!("{other:?}"),
        };
        for (schema, line, value) in [
            ("{}", "5", "5"),
            ("{}", "five", r#""five""#),
            ("{}", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"type":"string"}"#, "5", r#""5""#),
            (r#"{"type":"string"}"#, r#""5""#, r#""5""#),
            (r#"{"type":"string"}"#, r#"{"a":1}"#, r#""{\"a\":1}""#),
        ] {
            assert_eq!(read(schema, line), value, "{schema} {line}");
        }
        assert!(answer(&asks("{}"), "").is_err_and(|why| why.contains("no default")));
    }

    #[test]
    fn a_permission_is_granted_by_a_yes_alone_and_its_prompt_says_what_to_the_letter() {
        let body = r#"{"prompt_id":"p","permission":"x","operation":"fs.write","resource":"/etc/*\u001b[2K",
            "reason":"a\nb","requested_lease_seconds":60}"#;
        let asks = question(&EventKind::PermissionRequest, body);
        assert_eq!(prompt(&asks), "grant fs.write on /etc/*\\u{1b}[2K for 60 s? [y/N] ");
        assert_eq!(header(&asks), ["permission: x", "reason: a\\nb"]);
        let more = r#"{"prompt_id":"p","permission":"cost.budget","operation":"cost.budget","resource":"USD:5"}"#;
        let more = question(&EventKind::PermissionRequest, more);
        assert_eq!(prompt(&more), "grant USD:5 more to spend until the job ends? [y/N] ");
        for (line, granted) in
            [("y", Some(true)), ("Yes", Some(true)), ("", Some(false)), ("n", Some(false)), ("yy", None)]
        {
            let given = match answer(&asks, line) {
                Ok(PromptAnswer::Grant { lease_seconds: None, resource: None, once: false }) => Some(true),
                Ok(PromptAnswer::Deny { reason: None }) => Some(false),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            };
            assert_eq!(given, granted, "{line}");
        }
    }

    #[test]
    fn an_option_is_chosen_by_its_number_before_its_id() {
        let body = r#"{"prompt_id":"p","prompt":"?","options":[{"id":"2","label":"two"},{"id":"b","label":"b"}],"default":"b"}"#;
        let asks = question(&EventKind::ChoiceRequest, body);
        for (line, chosen) in
            [("1", Some("2")), ("2", Some("b")), ("b", Some("b")), ("", Some("b")), ("0", None), ("3", None)]
        {
            let given = answer(&asks, line).ok();
            assert_eq!(given, chosen.map(|id| PromptAnswer::Choice(id.to_string())), "{line}");
        }
        assert_eq!(header(&asks), ["  1 2 (two)", "  2 b"]);
    }
}
