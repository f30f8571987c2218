//! Answers to a program: a line on its stdin for each of its lines that has an `id`.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::process::ChildStdin;
use std::rc::Rc;
use std::time::Duration;

use arcp_proto::id::CallId;
use arcp_proto::json::{Json, Object, encode_base64};
use arcp_proto::model::event::JobError;
use arcp_proto::model::job::JobStatus;
use arcp_proto::runtime::AgentReply;

use crate::agent::{Context, Stopped, checkpoint_wanted_within, people, streams};

/// While a program has so many bytes to read, nothing is read from it.
const UNREAD_BYTES: usize = 64 << 10;

/// The lines that a program has yet to read, shared by the parts that answer and that write.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    lines: Rc<RefCell<Vec<u8>>>,
    /// Calls that people answer, each with the id that the program gave it.
    asked: Rc<RefCell<Vec<(String, CallId)>>>,
}

impl Answers {
    /// Notes a call that people will answer.
    pub(super) fn await_people(&self, id: &str, call: CallId) {
        self.asked.borrow_mut().push((id.to_string(), call));
    }

    /// Passes on answers of people, interrupts, and requests for checkpoints.
    pub(super) fn look(&self, job: &Context) {
        while let Ok(Some(interrupt)) = job.interrupt_within(Duration::ZERO) {
            let mut line = Object::new();
            line.str("kind", "interrupt").u64("interrupt", u64::from(interrupt.number()));
            line.str("prompt", interrupt.prompt()).str("by", interrupt.by());
            self.put(line);
        }
        while !self.are_unread()
            && let Some(word) = streams::next_input(job)
        {
            self.put(input_line(word));
        }
        if let Ok(Some(wanted)) = checkpoint_wanted_within(job, Duration::ZERO) {
            let mut line = Object::new();
            line.str("kind", "checkpoint").opt_str("label", wanted.label());
            self.put(line);
        }
        self.asked.borrow_mut().retain(|(id, call)| match people::reply_to(job, *call) {
            Some(reply) => {
                self.push(id, reply);
                false
            }
            None => true,
        });
    }

    /// Answers the call with this id, which is JSON as the program wrote it.
    pub(super) fn push(&self, id: &str, reply: Result<AgentReply, Stopped>) {
        let mut line = Object::new();
        line.raw("id", id);
        match reply {
            Ok(AgentReply::Taken { event }) => {
                line.bool("ok", true);
                if let Some(event) = event {
                    line.u64("event", event);
                }
            }
            Ok(AgentReply::Remaining(left)) => {
                line.bool("ok", true).object("remaining", |out| {
                    if let Some(time_ms) = left.time_ms {
                        out.u64("time_ms", time_ms);
                    }
                    out.u64("calls", u64::from(left.calls)).u64("bytes", left.bytes);
                    if !left.budget.is_empty() {
                        out.raw("budget", left.budget.to_json().as_str());
                    }
                });
            }
            Ok(AgentReply::Allowed { pattern, reservation }) => {
                line.bool("ok", true).str("pattern", &pattern);
                if let Some(number) = reservation {
                    line.u64("reservation", number);
                }
            }
            Ok(AgentReply::Delegated { job }) => drop(line.bool("ok", true).display("job_id", job)),
            Ok(AgentReply::ChildEnded(end)) => {
                line.bool("ok", true).display("job_id", end.job).str("status", JobStatus::Ended(end.status).as_str());
                line.opt_json("result", end.result.as_ref());
                if let Some(error) = &end.error {
                    line.object("error", |out| write_members(out, error));
                }
            }
            Ok(AgentReply::Answered { value, by, at }) => {
                line.bool("ok", true).raw("value", value.as_str()).str("responded_by", &by).display("responded_at", at);
            }
            Ok(AgentReply::Renewed(credential)) => {
                let shown = Json::from_value(&*credential).ok();
                line.bool("ok", true).opt_json("credential", shown.as_ref());
            }
            Ok(AgentReply::Kept(kept)) => {
                line.bool("ok", true).raw("artifact", kept.to_json().as_str());
            }
            Ok(AgentReply::Refused(error)) => write_error(&mut line, &error),
            Ok(AgentReply::Stopped) | Err(Stopped) => {
                write_error(&mut line, &crate::agent::AgentError::from(Stopped).0);
            }
        }
        self.put(line);
    }

    fn put(&self, line: Object) {
        let mut lines = self.lines.borrow_mut();
        lines.extend_from_slice(line.done().as_bytes());
        lines.push(b'\n');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.borrow().is_empty()
    }

    /// Whether the program has to read before more is read from it.
    pub(super) fn are_unread(&self) -> bool {
        self.lines.borrow().len() >= UNREAD_BYTES
    }

    /// Writes as much as the pipe takes.
    ///
    /// # Errors
    ///
    /// If the program has closed its stdin.
    pub(super) fn write(&self, pipe: &mut ChildStdin) -> io::Result<()> {
        let mut lines = self.lines.borrow_mut();
        match pipe.write(&lines) {
            Ok(n) => drop(lines.drain(..n)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The line for something that a client sent in a stream.
fn input_line(word: streams::InputWord) -> Object {
    let mut line = Object::new();
    match word {
        streams::InputWord::Opened(number, terms) => {
            line.str("kind", "stream.open").u64("stream", u64::from(number)).str("of", terms.kind.as_str());
            line.opt_str("content_type", terms.content_type.as_deref());
        }
        streams::InputWord::Chunk(number, data) => {
            line.str("kind", "stream.chunk").u64("stream", u64::from(number));
            match std::str::from_utf8(&data) {
                Ok(text) => line.str("data", text),
                Err(_) => line.str("data", &encode_base64(&data)).str("encoding", "base64"),
            };
        }
        streams::InputWord::End(number, error) => {
            line.str("kind", "stream.close").u64("stream", u64::from(number));
            if let Some(error) = error {
                line.object("error", |out| write_members(out, &error));
            }
        }
    }
    line
}

fn write_error(line: &mut Object, error: &JobError) {
    line.bool("ok", false).object("error", |out| write_members(out, error));
}

fn write_members(out: &mut Object, error: &JobError) {
    out.display("code", &error.code).str("message", &error.message).opt_json("details", error.details.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_some_of_many_answers_before_it_is_heard_again() {
        let answers = Answers::default();
        assert!(answers.is_empty() && !answers.are_unread());
        answers.push("1", Ok(AgentReply::Taken { event: Some(7) }));
        assert_eq!(*answers.lines.borrow(), b"{\"id\":1,\"ok\":true,\"event\":7}\n");
        assert!(!answers.is_empty() && !answers.are_unread());
        answers.push(&format!("\"{}\"", "x".repeat(UNREAD_BYTES)), Err(Stopped));
        assert!(answers.are_unread());
    }
}
