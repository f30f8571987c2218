//! JSON values, one per line.

use arcp_proto::json::{Json, Object};
use arcp_proto::model::event::EventKind;

use super::{Heard, Reader, cut_before_word};

/// The longest text of a value that is shown, in bytes.
const SHOWN_BYTES: usize = 200;

/// Each value is a log event with the whole value in `attributes`. The last value is the result.
pub(super) struct JsonLines;

impl Reader for JsonLines {
    fn read(&mut self, line: &Json) -> Option<Vec<Heard>> {
        let members = line.members().ok();
        let said = members.and_then(|members| members.get_str("message").or_else(|| members.get_str("msg")));
        let text = said.unwrap_or_else(|| shown(line.as_str()));
        let mut attributes = Object::new();
        attributes.str("stream", "stdout").opt_json("data", Some(line));
        let log = Heard::event(EventKind::Log, |body| {
            body.str("level", "info").str("message", &text).opt_json("attributes", Some(&attributes.json()));
        });
        Some(vec![log, Heard::Result(line.clone())])
    }
}

fn shown(text: &str) -> String {
    let start = cut_before_word(text, SHOWN_BYTES);
    if start.len() == text.len() { text.to_string() } else { format!("{start} ...") }
}
