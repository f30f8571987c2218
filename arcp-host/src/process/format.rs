//! Formats of a program's output. Besides our own lines a program may print the stream of a coding
//! agent, of which each line becomes the matching events.

mod claude;
mod codex;
mod json_lines;

use std::fmt;
use std::str::FromStr;

use arcp_proto::json::{Json, Object};
use arcp_proto::model::event::{EventKind, JobError};
use serde_json::value::RawValue;

/// The format of a program's stdout. Our own lines (see [`process`](super)) are understood in every
/// format. A line that the format does not know is a log event, never a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Our own lines, and text.
    #[default]
    Text,
    /// One JSON value per line: each is shown, and the last is the result.
    JsonLines,
    /// `claude -p --output-format stream-json --verbose`, as the reference of the
    /// Claude Agent SDK describes its messages (version 2 of Claude Code).
    ClaudeJson,
    /// `codex exec --json`, as `exec_events.rs` of the Codex CLI declares its
    /// events (version 0.40 and later).
    CodexJson,
}

impl Format {
    /// Every format with its name.
    pub const NAMED: [(&'static str, Format); 4] = [
        ("text", Format::Text),
        ("jsonl", Format::JsonLines),
        ("claude-json", Format::ClaudeJson),
        ("codex-json", Format::CodexJson),
    ];

    /// The reader of this format; `None`: only our own lines are understood.
    pub(super) fn reader(self) -> Option<Box<dyn Reader>> {
        match self {
            Format::Text => None,
            Format::JsonLines => Some(Box::new(json_lines::JsonLines)),
            Format::ClaudeJson => Some(Box::new(claude::Claude)),
            Format::CodexJson => Some(Box::<codex::Codex>::default()),
        }
    }
}

/// The first `most` bytes of a text at most, cut before a word: a secret is masked only if it is
/// whole.
pub(super) fn cut_before_word(text: &str, most: usize) -> &str {
    let is_border = |c: char| c.is_whitespace() || "\"'`,;()[]{}<>".contains(c);
    let end = text.floor_char_boundary(most);
    if end == text.len() {
        return text;
    }
    let begun = text[..end].trim_end_matches(|c| !is_border(c)).len();
    &text[..if text[end..].starts_with(is_border) { end } else { begun }]
}

/// The name of an unknown format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no format is called `{0}`: there are text, jsonl, claude-json and codex-json")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        let known = Format::NAMED.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, format)| format).ok_or_else(|| UnknownFormat(name.to_string()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Format::NAMED.into_iter().find(|(_, format)| format == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// Reads the lines of a format.
pub(super) trait Reader {
    /// What a line of JSON says, in order; `None` if the line is not of this format.
    fn read(&mut self, line: &Json) -> Option<Vec<Heard>>;
}

/// One thing that a line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// An event.
    Event(EventKind, Json),
    /// The result, unless a later one follows.
    Result(Json),
    /// Why the job fails, unless a result follows: a program may recover from an error.
    Failed(JobError),
}

impl Heard {
    fn event(kind: EventKind, fill: impl FnOnce(&mut Object)) -> Heard {
        let mut body = Object::new();
        fill(&mut body);
        Heard::Event(kind, body.json())
    }

    fn thought(text: &str) -> Heard {
        Heard::event(EventKind::Thought, |body| {
            body.str("text", text);
        })
    }

    fn status(phase: &str, message: Option<&str>) -> Heard {
        Heard::event(EventKind::Status, |body| {
            body.str("phase", phase).opt_str("message", message);
        })
    }

    fn log(level: &str, message: &str) -> Heard {
        Heard::event(EventKind::Log, |body| {
            body.str("level", level).str("message", message);
        })
    }

    /// A metric with the number as it was written; `None` if it is not a number.
    fn metric(name: &str, number: &str, unit: &str) -> Option<Heard> {
        number.parse::<f64>().ok()?;
        Some(Heard::event(EventKind::Metric, |body| {
            body.str("name", name).raw("value", number).str("unit", unit);
        }))
    }

    /// A tool call. `args` is kept if it is an object.
    fn tool_call(tool: &str, call_id: &str, args: Option<&str>) -> Heard {
        let args = args.filter(|args| args.trim_start().starts_with('{')).unwrap_or("{}");
        Heard::event(EventKind::ToolCall, |body| {
            body.str("tool", tool).str("call_id", call_id).raw("args", args);
        })
    }

    fn tool_result(call_id: &str, result: Result<&str, &str>) -> Heard {
        Heard::event(EventKind::ToolResult, |body| {
            body.str("call_id", call_id);
            match result {
                Ok(json) => body.raw("result", json),
                Err(message) => body.object("error", |error| {
                    error.str("code", "INTERNAL_ERROR").str("message", message).bool("retryable", false);
                }),
            };
        })
    }

    /// How many entries of a to-do list are done.
    fn to_do(done: usize, total: usize) -> Heard {
        Heard::event(EventKind::Progress, |body| {
            body.u64("current", done as u64).u64("total", total as u64).str("units", "todos");
        })
    }
}

/// The elements of an array; empty for any other value.
fn elements(array: &str) -> Vec<&str> {
    let elements: Vec<&RawValue> = serde_json::from_str(array).unwrap_or_default();
    elements.into_iter().map(RawValue::get).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_word_is_left_where_a_text_is_cut() {
        for (text, most, cut) in [
            ("key=sk-1234 and", 20, "key=sk-1234 and"),
            ("key=sk-1234 and", 11, "key=sk-1234"),
            ("key=sk-1234 and", 10, ""),
            (r#"{"a":"sk-1234"}"#, 9, r#"{"a":""#),
            ("a \u{e9}\u{e9}", 3, "a "),
        ] {
            assert_eq!(cut_before_word(text, most), cut, "{text}");
        }
    }

    #[test]
    fn formats_have_one_name_each() {
        for (name, format) in Format::NAMED {
            assert_eq!((name.parse(), format.to_string().as_str()), (Ok(format), name));
        }
        let unknown = "json".parse::<Format>().expect_err("it is unknown");
        assert!(unknown.to_string().contains("`json`") && unknown.to_string().contains("claude-json"), "{unknown}");
    }
}
