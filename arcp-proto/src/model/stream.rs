//! Streams of jobs: text, bytes, events, logs, metrics and thoughts in order, to the watchers of a
//! job, and from its clients to its agent (RFC §11).
//!
//! What happens in a stream is an event of its job: this module writes and reads such events.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::{Json, Members, Object};
use crate::model::artifact::BlobDigest;
use crate::model::event::{EventKind, JobEvent};

/// The kind of a stream's content (RFC §11.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamKind {
    /// Text.
    #[default]
    Text,
    /// Bytes.
    Binary,
    /// Events: each is a text or attributes.
    Event,
    /// Log lines.
    Log,
    /// Metrics, as attributes.
    Metric,
    /// Thoughts.
    Thought,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [StreamKind; 6] = [
        StreamKind::Text,
        StreamKind::Binary,
        StreamKind::Event,
        StreamKind::Log,
        StreamKind::Metric,
        StreamKind::Thought,
    ];

    /// Its name in both families.
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamKind::Text => "text",
            StreamKind::Binary => "binary",
            StreamKind::Event => "event",
            StreamKind::Log => "log",
            StreamKind::Metric => "metric",
            StreamKind::Thought => "thought",
        }
    }

    /// The kind of this name; an unknown name means events (RFC §11.1).
    ///
    /// ```
    /// use arcp_proto::model::stream::StreamKind;
    /// assert_eq!(StreamKind::named("binary"), StreamKind::Binary);
    /// assert_eq!(StreamKind::named("smell"), StreamKind::Event);
    /// ```
    pub fn named(name: &str) -> StreamKind {
        StreamKind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(StreamKind::Event)
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The terms with which a stream is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTerms {
    /// The kind of its content.
    pub kind: StreamKind,
    /// The media type of its content, at most 127 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The encoding of its content, at most 127 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl StreamTerms {
    /// Terms of this kind, without content type and encoding.
    pub fn new(kind: StreamKind) -> StreamTerms {
        StreamTerms { kind, content_type: None, encoding: None }
    }

    pub(crate) fn check(&self) -> Result<(), Violation> {
        let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 127);
        match is_long(&self.content_type) || is_long(&self.encoding) {
            true => Err(Violation::invalid("`content_type` and `encoding` of a stream have at most 127 bytes")),
            false => Ok(()),
        }
    }
}

impl From<StreamKind> for StreamTerms {
    fn from(kind: StreamKind) -> StreamTerms {
        StreamTerms::new(kind)
    }
}

/// The members of a chunk besides its data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkNotes {
    /// More for programs: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Json>,
    /// The media type of this chunk, if it differs from that of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The author, such as `assistant_thought`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether only the submitter of the job may see its content.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub redacted: bool,
    /// The SHA-256 of its data, which is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<BlobDigest>,
    /// Whether it is dropped, and not delayed, if the stream is too fast for its reader.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub low_priority: bool,
}

/// Part of a stream from a client to the agent of a job (RFC §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The job.
    pub job: WireId,
    /// The client's id of the stream, scoped to its session and the job.
    pub stream: WireId,
    /// The part.
    pub says: StreamSaid,
}

/// One part of a stream from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSaid {
    /// The stream is opened.
    Open(StreamTerms),
    /// The next chunk.
    Chunk {
        /// Its number, from 0.
        sequence: u64,
        /// The chunk as in its message: `data`, `sha256` and so on. See [`StreamSaid::chunk`].
        body: Json,
    },
    /// The stream is closed.
    Close {
        /// Why.
        reason: Option<String>,
    },
    /// The stream failed.
    Fail {
        /// The code.
        code: ErrorCode,
        /// What happened.
        message: String,
    },
}

impl StreamSaid {
    /// A chunk of bytes, or of text if there is a `text`, with its digest.
    pub fn chunk(sequence: u64, data: &[u8], text: Option<&str>) -> StreamSaid {
        let mut body = Object::new();
        match text {
            Some(text) => body.str("data", text),
            None => body.str("data", &BASE64.encode(data)).str("encoding", "base64"),
        };
        body.display("sha256", BlobDigest::of(text.map_or(data, str::as_bytes)));
        StreamSaid::Chunk { sequence, body: body.json() }
    }
}

/// An event of one stream, as watchers of its job read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The stream.
    pub stream: WireId,
    /// The event.
    pub says: StreamSays,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSays {
    /// The stream was opened.
    Opened {
        /// Its terms.
        terms: StreamTerms,
        /// Whether it goes from a client to the agent: watchers do not see its chunks.
        inbound: bool,
    },
    /// The next chunk.
    Chunk {
        /// Its number, from 0.
        sequence: u64,
        /// Its data; UTF-8 text unless the stream is [`StreamKind::Binary`].
        data: Vec<u8>,
        /// Its other members.
        notes: ChunkNotes,
    },
    /// The stream was closed.
    Closed {
        /// Why.
        reason: Option<String>,
        /// The number of its last chunk, if it had one.
        final_sequence: Option<u64>,
        /// The number of chunks that were dropped before they were numbered.
        shed: u64,
    },
    /// The stream failed.
    Failed {
        /// The code.
        code: ErrorCode,
        /// What happened.
        message: String,
        /// The number of its last chunk, if it had one.
        final_sequence: Option<u64>,
    },
}

impl StreamEvent {
    /// The stream event in an event of a job; `None` if it belongs to no stream.
    ///
    /// # Errors
    ///
    /// `DATA_LOSS` for data that does not match its `sha256` or encoding, `INVALID_REQUEST` for
    /// missing members.
    pub fn of(event: &JobEvent) -> Option<Result<StreamEvent, Violation>> {
        match event {
            JobEvent::Emitted { kind, body } if kind.is_of_streams() => Some(StreamEvent::read(kind, body)),
            JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
        }
    }

    fn read(kind: &EventKind, body: &Json) -> Result<StreamEvent, Violation> {
        let members = body.members().map_err(|why| Violation::invalid(why.to_string()))?;
        let stream = members.get_str("stream_id").and_then(|id| WireId::new(&id));
        let stream = stream.ok_or_else(|| Violation::invalid("a frame of a stream has no `stream_id`"))?;
        let says = if *kind == EventKind::StreamOpen {
            StreamSays::Opened { terms: read_terms(&members), inbound: members.get("inbound") == Some("true") }
        } else if *kind == EventKind::StreamClose {
            StreamSays::Closed {
                reason: members.get_str("reason"),
                final_sequence: number(&members, "final_sequence"),
                shed: number(&members, "shed").unwrap_or(0),
            }
        } else if *kind == EventKind::StreamError {
            StreamSays::Failed {
                code: ErrorCode::from(members.get_str("code").unwrap_or_default().as_str()),
                message: members.get_str("message").unwrap_or_default(),
                final_sequence: number(&members, "final_sequence"),
            }
        } else {
            let sequence = number(&members, "sequence")
                .ok_or_else(|| Violation::invalid("a chunk of a stream has no `sequence`"))?;
            let binary = members.get("encoding") == Some("\"base64\"");
            let (data, notes) = read_chunk(&members, binary)?;
            StreamSays::Chunk { sequence, data, notes }
        };
        Ok(StreamEvent { stream, says })
    }
}

/// Verifies the streams of one job: numbers without a gap, data that matches its `sha256`, and all
/// chunks by the end.
#[derive(Clone, Debug, Default)]
pub struct StreamReader {
    /// The number of the next chunk, for open streams.
    next: BTreeMap<WireId, u64>,
}

impl StreamReader {
    /// Reads the next event of the job; `None` if it belongs to no stream. A stream whose beginning
    /// was not read begins with the first chunk that is.
    ///
    /// ```
    /// use arcp_proto::json::Json;
    /// use arcp_proto::model::event::{EventKind, JobEvent};
    /// use arcp_proto::model::stream::StreamReader;
    /// let chunk = |n: u64| {
    ///     let body = format!(r#"{{"stream_id":"str_1","sequence":{n},"data":"hi"}}"#);
    ///     JobEvent::Emitted { kind: EventKind::StreamChunk, body: Json::parse(&body).unwrap() }
    /// };
    /// let mut reader = StreamReader::default();
    /// assert!(reader.read(&chunk(0)).unwrap().is_ok());
    /// assert!(reader.read(&chunk(2)).unwrap().is_err(), "1 is missing");
    /// ```
    ///
    /// # Errors
    ///
    /// As [`StreamEvent::of`], and `DATA_LOSS` for a gap.
    pub fn read(&mut self, event: &JobEvent) -> Option<Result<StreamEvent, Violation>> {
        Some(StreamEvent::of(event)?.and_then(|event| self.follow(&event).map(|()| event)))
    }

    fn follow(&mut self, event: &StreamEvent) -> Result<(), Violation> {
        let lost = |why: String| Violation::new(ErrorCode::DataLoss, why);
        let stream = &event.stream;
        match &event.says {
            StreamSays::Opened { inbound: false, .. } => drop(self.next.insert(stream.clone(), 0)),
            // Watchers do not see the chunks of clients.
            StreamSays::Opened { inbound: true, .. } => {}
            StreamSays::Chunk { sequence, .. } => {
                let next = self.next.entry(stream.clone()).or_insert(*sequence);
                if next != sequence {
                    return Err(lost(alloc::format!("{stream}: chunk {sequence} came where {next} was due")));
                }
                *next += 1;
            }
            StreamSays::Closed { final_sequence, .. } | StreamSays::Failed { final_sequence, .. } => {
                let next = self.next.remove(stream);
                let promised = final_sequence.map_or(0, |last| last + 1);
                if let Some(next) = next.filter(|next| *next != promised) {
                    return Err(lost(alloc::format!("{stream} ended with {promised} chunks, {next} came")));
                }
            }
        }
        Ok(())
    }
}

/// Reads the data and the other members of a chunk, and verifies the data.
///
/// # Errors
///
/// `DATA_LOSS` for data that does not match its `sha256` or encoding.
pub(crate) fn read_chunk(members: &Members<'_>, binary: bool) -> Result<(Vec<u8>, ChunkNotes), Violation> {
    let lost = |why: &str| Violation::new(ErrorCode::DataLoss, alloc::format!("a chunk of a stream: {why}"));
    let text = members.get_str("data").or_else(|| members.get_str("content")).unwrap_or_default();
    let data = match binary {
        true => crate::json::decode_base64(&text).ok_or_else(|| lost("`data` is not base64"))?,
        false => text.into_bytes(),
    };
    let attributes = members.get("attributes").and_then(|raw| Json::parse(raw).ok());
    let redacted = members.get("redacted") == Some("true");
    let sha256 = match members.get_str("sha256") {
        None => None,
        Some(said) => Some(said.parse().map_err(|_| lost("`sha256` is none"))?),
    };
    if sha256.is_some_and(|said| said != BlobDigest::of(&data)) {
        return Err(lost("its data does not have the `sha256` that it says"));
    }
    let (content_type, role) = (members.get_str("content_type"), members.get_str("role"));
    let attributes = attributes.filter(Json::is_object);
    Ok((data, ChunkNotes { attributes, content_type, role, redacted, sha256, low_priority: false }))
}

pub(crate) fn read_terms(members: &Members<'_>) -> StreamTerms {
    StreamTerms {
        kind: StreamKind::named(&members.get_str("kind").unwrap_or_default()),
        content_type: members.get_str("content_type"),
        encoding: members.get_str("encoding"),
    }
}

fn number(members: &Members<'_>, name: &str) -> Option<u64> {
    members.get(name)?.parse().ok()
}

/// The event of a stream that is opened.
pub(crate) fn opened(stream: &str, terms: &StreamTerms, inbound: bool) -> JobEvent {
    let mut body = Object::new();
    body.str("stream_id", stream).str("kind", terms.kind.as_str());
    body.opt_str("content_type", terms.content_type.as_deref()).opt_str("encoding", terms.encoding.as_deref());
    if inbound {
        body.bool("inbound", true);
    }
    JobEvent::Emitted { kind: EventKind::StreamOpen, body: body.json() }
}

/// The data of a chunk before it is encoded.
pub(crate) enum ChunkText<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// The event of a chunk; a chunk of bytes carries its digest.
pub(crate) fn chunk(stream: &str, sequence: u64, data: &ChunkText<'_>, notes: &ChunkNotes) -> JobEvent {
    let mut body = Object::new();
    body.str("stream_id", stream).u64("sequence", sequence);
    let digest = match data {
        ChunkText::Text(text) => {
            body.str("data", text);
            notes.sha256.map(|_| BlobDigest::of(text.as_bytes()))
        }
        ChunkText::Binary(bytes) => {
            body.str("data", &BASE64.encode(bytes)).str("encoding", "base64");
            Some(BlobDigest::of(bytes))
        }
    };
    body.opt_str("content_type", notes.content_type.as_deref());
    if let Some(digest) = digest {
        body.display("sha256", digest);
    }
    body.opt_str("role", notes.role.as_deref());
    if notes.redacted {
        body.bool("redacted", true);
    }
    body.opt_json("attributes", notes.attributes.as_ref());
    JobEvent::Emitted { kind: EventKind::StreamChunk, body: body.json() }
}

/// The event of a stream that is closed, with the numbers of its chunks and of its dropped chunks.
pub(crate) fn closed(stream: &str, reason: Option<&str>, (chunks, shed): (u64, u64)) -> JobEvent {
    let mut body = Object::new();
    body.str("stream_id", stream).opt_str("reason", reason);
    count(&mut body, (chunks, shed));
    JobEvent::Emitted { kind: EventKind::StreamClose, body: body.json() }
}

/// The event of a stream that failed, with the numbers of its chunks and of its dropped chunks.
pub(crate) fn failed(stream: &str, (code, message): (&ErrorCode, &str), counts: (u64, u64)) -> JobEvent {
    let mut body = Object::new();
    body.str("stream_id", stream).str("code", code.as_str()).str("message", message);
    count(&mut body, counts);
    JobEvent::Emitted { kind: EventKind::StreamError, body: body.json() }
}

fn count(body: &mut Object, (chunks, shed): (u64, u64)) {
    if let Some(last) = chunks.checked_sub(1) {
        body.u64("final_sequence", last);
    }
    if shed > 0 {
        body.u64("shed", shed);
    }
}

/// An event without the content that only the submitter of its job may see; `None` if there is no
/// such content. The digest is removed too, because it would reveal short texts.
pub(crate) fn redacted(event: &JobEvent) -> Option<JobEvent> {
    let JobEvent::Emitted { kind, body } = event else {
        return None;
    };
    matches!(kind, EventKind::Thought | EventKind::StreamChunk).then_some(())?;
    let members = body.members().ok().filter(|members| members.get("redacted") == Some("true"))?;
    let mut shown = Object::new();
    for (name, value) in &members.0 {
        match name.as_ref() {
            "stream_id" | "sequence" | "role" | "redacted" | "content_type" | "encoding" => shown.member(name, value),
            "text" => shown.str("text", ""),
            "data" => shown.str("data", ""),
            _ => continue,
        };
    }
    Some(JobEvent::Emitted { kind: kind.clone(), body: shown.json() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: &JobEvent) -> Result<StreamEvent, ErrorCode> {
        StreamEvent::of(event).expect("it is of a stream").map_err(|why| why.code)
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written_and_not_when_it_was_changed() {
        let notes = ChunkNotes { role: Some("r".into()), ..ChunkNotes::default() };
        let written = chunk("str_1", 3, &ChunkText::Binary(b"\x00\xff"), &notes);
        let read_back = read(&written).expect("it is whole");
        let StreamSays::Chunk { sequence, data, notes } = read_back.says else { panic!("a chunk") };
        assert_eq!((sequence, data, notes.role.as_deref()), (3, b"\x00\xff".to_vec(), Some("r")));
        let JobEvent::Emitted { kind, body } = written else { panic!("an event") };
        for wrong in [body.as_str().replace("AP8=", "AP4="), body.as_str().replace("AP8=", "AP8")] {
            let event = JobEvent::Emitted { kind: kind.clone(), body: Json::parse(&wrong).expect("JSON") };
            assert_eq!(read(&event), Err(ErrorCode::DataLoss), "{wrong}");
        }
    }

    #[test]
    fn what_is_redacted_keeps_nothing_of_its_text() {
        let notes = ChunkNotes {
            redacted: true,
            attributes: Some(Json::parse(r#"{"a":"secret"}"#).expect("JSON")),
            sha256: Some(BlobDigest::of(b"secret")),
            ..ChunkNotes::default()
        };
        for hidden in [
            chunk("str_1", 0, &ChunkText::Text("secret"), &notes),
            JobEvent::Emitted {
                kind: EventKind::Thought,
                body: Json::parse(r#"{"text":"secret","redacted":true,"x-a":"secret"}"#).expect("JSON"),
            },
        ] {
            let JobEvent::Emitted { body, .. } = redacted(&hidden).expect("it hides something") else {
                panic!("an event")
            };
            let shown = body.as_str();
            assert!(!shown.contains("secret") && !shown.contains("sha256") && shown.contains("redacted"), "{shown}");
        }
        let open = chunk("str_1", 0, &ChunkText::Text("t"), &ChunkNotes::default());
        assert_eq!(redacted(&open), None);
    }

    #[test]
    fn a_stream_that_ends_early_or_skips_a_number_is_not_whole() {
        let text = |n| chunk("str_1", n, &ChunkText::Text("t"), &ChunkNotes::default());
        let mut reader = StreamReader::default();
        let mut take = |event: &JobEvent| reader.read(event).expect("of a stream").is_ok();
        assert!(take(&opened("str_1", &StreamTerms::default(), false)) && take(&text(0)));
        assert!(!take(&text(0)), "it came before");
        assert!(!take(&closed("str_1", None, (2, 0))), "one is missing");
        assert!(take(&text(0)) && !take(&failed("str_1", (&ErrorCode::Aborted, "m"), (2, 0))), "one is missing");
        assert!(take(&text(0)) && !take(&closed("str_1", None, (0, 0))), "one is too many");
        assert!(take(&opened("str_2", &StreamTerms::default(), false)) && take(&closed("str_2", None, (0, 3))));
    }
}
