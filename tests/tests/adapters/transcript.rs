//! What was seen, without what differs from run to run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::site::{Adapter, Way};

/// What the connections of a scenario saw.
pub type Transcript = Vec<Vec<Value>>;

/// Takes out what differs from run to run. The same id becomes the same word.
#[derive(Default)]
pub struct Normal(BTreeMap<String, String>);

impl Normal {
    pub fn of(transcript: Transcript) -> Transcript {
        let mut normal = Normal::default();
        let mut all = transcript;
        all.iter_mut().flatten().for_each(|value| normal.value(value));
        all
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => {
                // Only a server with TLS has one.
                members.remove("fingerprint");
                for (name, member) in members.iter_mut() {
                    if name.ends_with("_at") || name.ends_with("_ms") || name == "ts" {
                        *member = json!("a time");
                    } else {
                        self.value(member);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Ids and tokens are words of sixteen characters and more with a digit in them.
    fn text(&mut self, text: &str) -> String {
        // Not an id, which may have those letters there too.
        let bytes = text.as_bytes();
        let is_time = bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && text.ends_with('Z');
        if is_time {
            return "a time".to_string();
        }
        let has_digit = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
        let minted = |word: &&str| word.starts_with("rtk_") || word.len() >= 16 && has_digit(word);
        let mut normal = text.to_string();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').filter(minted) {
            let next = format!("id {}", self.0.len() + 1);
            let named = self.0.entry(word.to_string()).or_insert(next);
            normal = normal.replace(word, named);
        }
        normal
    }
}

/// Plays a scenario against each and compares. How a connection was closed is told by
/// a WebSocket alone, and not by a loop of one's own.
pub fn same_over(ways: &[Way], mut play: impl FnMut(Way) -> Transcript) {
    let mut first: Option<(Way, Transcript)> = None;
    for way in ways {
        let transcript = Normal::of(play(*way));
        assert!(transcript.iter().all(|seen| !seen.is_empty()), "{way:?}: nothing was seen");
        let Some((other, expected)) = &first else {
            first = Some((*way, transcript));
            continue;
        };
        let alike = way.1 == other.1 && ![way.0, other.0].contains(&Adapter::EventLoop);
        let shown = |transcript: &Transcript| if alike { transcript.clone() } else { untold(transcript) };
        let (expected, transcript) = (shown(expected), shown(&transcript));
        for (connection, (expected, seen)) in expected.iter().zip(&transcript).enumerate() {
            for (at, (expected, seen)) in expected.iter().zip(seen).enumerate() {
                assert_eq!(seen, expected, "frame {at} of connection {connection}, {way:?} and {other:?}");
            }
        }
        assert_eq!(transcript, expected, "{way:?} and {other:?}");
    }
}

/// The same, without how connections were closed.
fn untold(transcript: &Transcript) -> Transcript {
    let untold = |value: &Value| if value.get("closed with").is_some() { json!("closed") } else { value.clone() };
    transcript.iter().map(|seen| seen.iter().map(untold).collect()).collect()
}
