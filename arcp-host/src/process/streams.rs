//! Lines with which a program opens streams of its job and writes to them.

use std::collections::{BTreeMap, VecDeque};

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::model::stream::{ChunkNotes, StreamKind, StreamTerms};
use arcp_proto::runtime::{AgentCall, ChunkData, StreamCall};

use crate::agent::{Context, streams};

/// The kinds of these lines.
pub(super) const KINDS: [&str; 4] = ["stream.open", "stream.chunk", "stream.close", "stream.error"];

/// The longest name of a stream, in bytes.
const NAME_BYTES: usize = 127;
/// How many names are known at once: far more than a job may have open streams, because streams may
/// have been refused.
const NAMES: usize = 1024;

/// Lines of held streams wait, so that the program's other lines do not: at most so many bytes, and
/// so many lines, of all streams together. Beyond that, nothing is read from the program until a
/// stream goes on.
const WAITING: (u64, u64) = (1 << 20, 256);

/// The open streams of a program, by the names that it gave them.
#[derive(Default)]
pub(super) struct Streams {
    by_name: BTreeMap<String, Open>,
    /// Streams that the program has ended while some of their lines wait.
    ending: Vec<Open>,
    /// The waiting bytes and lines.
    waiting: (u64, u64),
}

#[derive(Default)]
struct Open {
    number: u32,
    /// The number of chunks left out since the last one.
    shed: u32,
    /// The waiting lines, in order.
    waiting: VecDeque<Waiting>,
}

/// A waiting line.
pub(super) struct Waiting {
    /// `None`: the stream is over, and its end was already reported.
    pub(super) call: Option<AgentCall>,
    /// The id of the line, for its answer.
    pub(super) asked: Option<String>,
    bytes: u64,
    is_end: bool,
}

/// The effect of a line.
pub(super) enum Taken {
    /// It makes this call.
    Call(AgentCall),
    /// It is left out.
    LeftOut,
    /// It waits for its stream, after earlier lines of that stream.
    Waits,
    /// It cannot wait: there is no more room.
    NoRoom,
}

impl Streams {
    /// Decides about a line, which has an id if it is to be answered.
    ///
    /// # Errors
    ///
    /// The reason why the line is invalid.
    pub(super) fn take(
        &mut self,
        job: &Context,
        (kind, asked): (&str, Option<&str>),
        body: &Json,
    ) -> Result<Taken, String> {
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
            self.by_name.insert(name, Open { number, ..Open::default() });
            return Ok(Taken::Call(AgentCall::Stream { stream: number, says: StreamCall::Open(terms) }));
        }
        let Some(open) = self.by_name.get_mut(&name) else {
            return Err(format!("the stream {name:?} is not open: print a `stream.open` first"));
        };
        let (stream, shed) = (open.number, open.shed);
        let says = match kind {
            "stream.chunk" => {
                let (data, notes) = chunk(body)?;
                if notes.low_priority && !(open.waiting.is_empty() && streams::may_say_at_once(job, stream)) {
                    open.shed += 1;
                    return Ok(Taken::LeftOut);
                }
                StreamCall::Chunk { data, notes: Box::new(notes), shed }
            }
            "stream.error" => {
                let code = text("code").map_or(ErrorCode::Internal, |code| ErrorCode::from(code.as_str()));
                let error = JobError::new(code, text("message").unwrap_or_default());
                StreamCall::Fail { error, shed }
            }
            _ => StreamCall::Close { reason: text("reason"), shed },
        };
        let (call, is_end) = (AgentCall::Stream { stream, says }, kind != "stream.chunk");
        if open.waiting.is_empty() && (is_end || streams::may_say(job, stream)) {
            open.shed = 0;
            if is_end {
                self.by_name.remove(&name);
                return Ok(if streams::finish(job, stream) { Taken::Call(call) } else { Taken::LeftOut });
            }
            return Ok(Taken::Call(call));
        }
        let bytes = call.bytes();
        let after = (self.waiting.0 + bytes, self.waiting.1 + 1);
        if self.waiting.1 > 0 && (after.0 > WAITING.0 || after.1 > WAITING.1) {
            return Ok(Taken::NoRoom);
        }
        (self.waiting, open.shed) = (after, 0);
        open.waiting.push_back(Waiting { call: Some(call), asked: asked.map(String::from), bytes, is_end });
        if is_end {
            self.ending.extend(self.by_name.remove(&name));
        }
        Ok(Taken::Waits)
    }

    /// Whether any line waits.
    pub(super) fn any_waits(&self) -> bool {
        self.waiting.1 > 0
    }

    /// Waits until one of the waiting lines can be handled.
    pub(super) fn wait(&self, job: &Context) {
        let waiting = self.by_name.values().chain(&self.ending).filter(|open| !open.waiting.is_empty());
        let numbers: Vec<u32> = waiting.map(|open| open.number).collect();
        if !numbers.is_empty() {
            streams::wait_to_say(job, &numbers);
        }
    }

    /// The next waiting line that can be handled.
    pub(super) fn next_waiting(&mut self, job: &Context) -> Option<Waiting> {
        if !self.any_waits() {
            return None;
        }
        let mut all = self.by_name.values_mut().chain(&mut self.ending);
        let open = all.find(|open| !open.waiting.is_empty() && streams::may_say(job, open.number))?;
        let (number, mut next) = (open.number, open.waiting.pop_front()?);
        self.waiting = (self.waiting.0.saturating_sub(next.bytes), self.waiting.1.saturating_sub(1));
        if next.is_end {
            self.ending.retain(|open| open.number != number);
            next.call = next.call.filter(|_| streams::finish(job, number));
        }
        Some(next)
    }

    /// Makes room for a name by removing names of streams that are over.
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

    fn say(streams: &mut Streams, job: &Context, kind: &str, body: &str) -> Result<Taken, String> {
        streams.take(job, (kind, None), &Json::parse(body).expect("JSON"))
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
