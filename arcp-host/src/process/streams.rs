//! Lines by which a program opens streams of its job and says something in them.

use std::collections::BTreeMap;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, ChunkData, StreamCall};

use crate::agent::{Context, streams};

/// The kinds of these lines.
pub(super) const KINDS: [&str; 4] = ["stream.open", "stream.chunk", "stream.close", "stream.error"];

/// Bytes of the name of a stream.
const NAME_BYTES: usize = 127;
/// Names that are known at once, of streams that may all be refused: far more than a job
/// may have open.
const NAMES: usize = 1024;

/// The streams that a program has open, by the names that it gave them.
#[derive(Default)]
pub(super) struct Streams {
    by_name: BTreeMap<String, Open>,
}

/// One of them.
struct Open {
    number: u32,
    /// Chunks left out since the last one.
    shed: u32,
}

impl Streams {
    /// The call that a line makes; `None` if it is left out.
    ///
    /// # Errors
    ///
    /// What is wrong with the line.
    pub(super) fn call(&mut self, job: &Context, kind: &str, body: &Json) -> Result<Option<AgentCall>, String> {
        let members = body.members().unwrap_or_default();
        let text = |name: &str| members.get_str(name);
        let name = text("stream").unwrap_or_default();
        if name.len() > NAME_BYTES {
            return Err(format!("the name of a stream has at most {NAME_BYTES} bytes, not {}", name.len()));
        }
        if kind == "stream.open" {
            self.make_room(job, &name)?;
            let terms = StreamTerms {
                kind: StreamKind::named(text("kind").as_deref().unwrap_or("text")),
                content_type: text("content_type"),
                encoding: text("encoding"),
            };
            let number = streams::begin(job);
            self.by_name.insert(name, Open { number, shed: 0 });
            return Ok(Some(AgentCall::Stream { stream: number, says: StreamCall::Open(terms) }));
        }
        let Some(open) = self.by_name.get_mut(&name) else {
            return Err(format!("the stream {name:?} is not open: print a `stream.open` first"));
        };
        let (stream, shed) = (open.number, open.shed);
        let says = match kind {
            "stream.chunk" => {
                let (data, notes) = chunk(body)?;
                if !streams::wait_to_say(job, stream, notes.low_priority) {
                    open.shed += 1;
                    return Ok(None);
                }
                open.shed = 0;
                StreamCall::Chunk { data, notes, shed }
            }
            "stream.error" => {
                let code = text("code").map_or(ErrorCode::Internal, |code| ErrorCode::from(code.as_str()));
                let error = JobError::new(code, text("message").unwrap_or_default());
                StreamCall::Fail { error, shed }
            }
            _ => StreamCall::Close { reason: text("reason"), shed },
        };
        if kind != "stream.chunk" {
            self.by_name.remove(&name);
            if !streams::finish(job, stream) {
                return Ok(None);
            }
        }
        Ok(Some(AgentCall::Stream { stream, says }))
    }

    /// Forgets names of streams that are over where another one needs the room.
    fn make_room(&mut self, job: &Context, name: &str) -> Result<(), String> {
        let forgets = |open: &Open| streams::is_over(job, open.number) && !streams::finish(job, open.number);
        if self.by_name.get(name).is_some_and(forgets) {
            self.by_name.remove(name);
        }
        if self.by_name.contains_key(name) {
            return Err(format!("the stream {name:?} is open already"));
        }
        if self.by_name.len() >= NAMES {
            self.by_name.retain(|_, open| !forgets(open));
        }
        match self.by_name.len() >= NAMES {
            true => Err(format!("{NAMES} streams are open: close one first")),
            false => Ok(()),
        }
    }
}

/// The chunk in a line.
fn chunk(body: &Json) -> Result<(ChunkData, ChunkNotes), String> {
    let members = body.members().unwrap_or_default();
    let text = members.get_str("data").or_else(|| members.get_str("content")).unwrap_or_default();
    let data = match members.get_str("encoding").as_deref() {
        Some("base64") => {
            ChunkData::Binary(arcp_proto::json::decode_base64(&text).ok_or("`data` is not valid base64")?)
        }
        Some("utf8") | None => ChunkData::Text(text),
        Some(_) => return Err("`encoding` must be `utf8` or `base64`".to_string()),
    };
    let sha256 = match members.get_str("sha256") {
        Some(said) => Some(said.parse().map_err(|_| "`sha256` must be 64 hex digits")?),
        None => None,
    };
    let notes = ChunkNotes {
        attributes: members.get("attributes").and_then(|raw| Json::parse(raw).ok()),
        content_type: members.get_str("content_type"),
        role: members.get_str("role"),
        redacted: members.get("redacted") == Some("true"),
        sha256,
        low_priority: members.get_str("priority").as_deref() == Some("low"),
    };
    Ok((data, notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::streams::tests::{job, refused};

    fn say(streams: &mut Streams, job: &Context, kind: &str, body: &str) -> Result<Option<AgentCall>, String> {
        streams.call(job, kind, &Json::parse(body).expect("JSON"))
    }

    #[test]
    fn names_of_streams_have_a_bound_and_those_that_are_refused_are_forgotten() {
        let (job, _) = job();
        let mut streams = Streams::default();
        let open = |name: &str| format!(r#"{{"stream":"{name}"}}"#);
        assert!(say(&mut streams, &job, "stream.open", &open(&"n".repeat(NAME_BYTES + 1))).is_err());
        for n in 0..NAMES {
            assert!(say(&mut streams, &job, "stream.open", &open(&n.to_string())).is_ok());
        }
        assert!(say(&mut streams, &job, "stream.open", &open("one more")).is_err());
        // The runtime has refused all but the first one.
        (1..NAMES as u32).for_each(|number| refused(&job, number));
        assert!(say(&mut streams, &job, "stream.open", &open("one more")).is_ok());
        assert_eq!(streams.by_name.keys().collect::<Vec<_>>(), ["0", "one more"]);
        assert!(say(&mut streams, &job, "stream.open", &open("0")).is_err(), "it is open");
        refused(&job, 0);
        assert!(say(&mut streams, &job, "stream.open", &open("0")).is_ok(), "it was refused, and is tried again");
    }
}
