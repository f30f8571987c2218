//! Sidecars (RFC §11.3): a frame announces its bytes by `sidecar` instead of containing them in
//! base64. The bytes follow it as binary messages, each with a header:
//!
//! ```text
//! ┌───────────────────┬────┬──────────────┬─────── ─ ─
//! │ length of the id  │ id │ sequence     │ bytes
//! │ 2 bytes           │    │ 8 bytes      │
//! └───────────────────┴────┴──────────────┴─────── ─ ─
//! ```
//!
//! Numbers are big-endian. The id is the `stream_id` of the frame, or its `id` if it belongs to no
//! stream. The sequence is that of its payload, or 0 if that has none.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::envelope::{Header, payload};
use super::payload::RuntimeFrame;
use super::shared::{PART, stream_of};
use super::{EventFrame, Family, Stamp, View};
use crate::error::Violation;
use crate::id::{WireId, prefixed};
use crate::json::{Json, Members, Object, Text, decode_base64};
use crate::model::artifact::BlobDigest;
use crate::model::event::{ChunkEncoding, EventKind, JobEvent, ResultChunk};
use crate::model::feature::Feature;
use crate::model::reply::{Reply, SessionReply};
use crate::model::request::{Command, Request, SessionRequest};
use crate::model::stream::StreamSaid;
use crate::model::upload::ArtifactWish;
use crate::wire::RequestToSend;

/// The member of a payload that announces a sidecar, and the value of `encoding` for its bytes.
pub(super) const SIDECAR: &str = "sidecar";

/// A written frame, and the binary message that follows it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) frame: String,
    pub(crate) sidecar: Option<Vec<u8>>,
}

impl From<String> for Written {
    fn from(frame: String) -> Written {
        Written { frame, sidecar: None }
    }
}

impl View {
    /// Whether this peer gets bytes in sidecars.
    pub(crate) fn takes_sidecars(&self) -> bool {
        self.features.has(Feature::Sidecars)
    }

    /// This view for frames that cannot have sidecars.
    #[must_use]
    pub(crate) fn without_sidecars(self) -> View {
        View { features: self.features.without(Feature::Sidecars), ..self }
    }
}

/// Announces the sidecar of a frame in its payload.
pub(super) fn announce(out: &mut Object, bytes: &[u8], digest: BlobDigest) {
    out.object(SIDECAR, |sidecar| {
        sidecar.u64("bytes", bytes.len() as u64).u64("frames", 1).display("sha256", digest);
    });
}

/// The bytes of a result chunk, if they go into a sidecar.
pub(super) fn beside(view: &View, chunk: &ResultChunk) -> Option<Vec<u8>> {
    let goes = view.takes_sidecars() && chunk.encoding == ChunkEncoding::Base64;
    goes.then(|| decode_base64(&chunk.data)).flatten()
}

/// The sequence and bytes of a chunk of a binary stream, if they go into a sidecar.
fn beside_stream(view: &View, event: &JobEvent) -> Option<(u64, Vec<u8>)> {
    let JobEvent::Emitted { kind: EventKind::StreamChunk, body } = event else { return None };
    let members = body.members().ok().filter(|_| view.takes_sidecars())?;
    Some((members.get("sequence")?.parse().ok()?, bytes_of_chunk(&members)?))
}

/// The bytes of a chunk in base64; `None` if there are none.
pub(super) fn bytes_of_chunk(said: &Members<'_>) -> Option<Vec<u8>> {
    let data = said.get_str("data").filter(|_| said.get("encoding") == Some("\"base64\""))?;
    decode_base64(&data).filter(|bytes| !bytes.is_empty())
}

/// Writes the members of a chunk, with its bytes announced instead of encoded.
pub(super) fn announce_chunk(out: &mut Object, said: &Members<'_>, bytes: &[u8]) {
    for (name, value) in &said.0 {
        match name.as_ref() {
            "data" => announce(out, bytes, BlobDigest::of(bytes)),
            "encoding" => drop(out.str("encoding", SIDECAR)),
            _ => drop(out.member(name, value)),
        }
    }
}

/// A chunk of a binary stream as its frame shows it, if its bytes go into a sidecar.
pub(super) fn announcing(view: &View, event: &JobEvent) -> Option<JobEvent> {
    let (_, bytes) = beside_stream(view, event)?;
    let JobEvent::Emitted { kind, body } = event else { return None };
    let mut said = Object::new();
    announce_chunk(&mut said, &body.members().ok()?, &bytes);
    Some(JobEvent::Emitted { kind: kind.clone(), body: said.json() })
}

/// A frame of a runtime with the bytes of its sidecar in the place where other frames have them.
pub(super) fn inside(mut frame: RuntimeFrame, bytes: &[u8]) -> RuntimeFrame {
    let RuntimeFrame::Event { event: JobEvent::Emitted { kind: EventKind::StreamChunk, body }, .. } = &mut frame else {
        return frame;
    };
    *body = whole(&body.members().unwrap_or_default(), bytes);
    frame
}

/// The members of a chunk, with the bytes of its sidecar in base64.
pub(super) fn whole(said: &Members<'_>, bytes: &[u8]) -> Json {
    let mut whole = Object::with_capacity(bytes.len() / 3 * 4 + 256);
    for (name, value) in &said.0 {
        match name.as_ref() {
            SIDECAR => drop(whole.str("data", &BASE64.encode(bytes)).str("encoding", "base64")),
            "encoding" => {}
            _ => drop(whole.member(name, value)),
        }
    }
    whole.json()
}

/// The sidecar of an event's frame.
pub(crate) fn of_event(view: &View, frame: &EventFrame<'_>) -> Option<Vec<u8>> {
    match frame.event {
        JobEvent::Chunk(chunk) => Some(message(&id(frame.id), chunk.chunk_seq, &beside(view, chunk)?)),
        JobEvent::Emitted { .. } => {
            let (sequence, bytes) = beside_stream(view, frame.event)?;
            // The name that the envelope of the family has.
            let stream = if view.family == Family::Open { stream_of(frame.event) } else { None };
            Some(message(&stream.unwrap_or_else(|| id(frame.id)), sequence, &bytes))
        }
        JobEvent::Started | JobEvent::Ended(_) => None,
    }
}

/// The sidecar of a reply's frame.
pub(crate) fn of_reply(view: &View, stamp: Stamp, reply: &Reply) -> Option<Vec<u8>> {
    match reply {
        Reply::Session(SessionReply::Artifact(fetched)) if view.takes_sidecars() => {
            Some(message(&id(stamp.id), 0, &fetched.data))
        }
        Reply::Session(_) | Reply::Command(_) | Reply::Handshake(_) | Reply::Refused(_) => None,
    }
}

/// The sidecar of a request's frame.
pub(crate) fn of_request(family: Family, out: &RequestToSend<'_>) -> Option<Vec<u8>> {
    match out.request {
        Request::Command(Command::PutArtifact(put)) if out.sidecars => Some(message(&id(out.id), 0, &put.data)),
        Request::Session(SessionRequest::AboutArtifacts(ArtifactWish::Part(part)))
            if out.sidecars && !part.data.is_empty() =>
        {
            Some(message(&id(out.id), 0, &part.data))
        }
        Request::Command(Command::Stream(request)) if out.sidecars => {
            let StreamSaid::Chunk { sequence, body } = &request.says else { return None };
            let bytes = bytes_of_chunk(&body.members().ok()?)?;
            // The name that the envelope of the family has.
            let named = match family {
                Family::Open => String::from(request.stream.as_str()),
                Family::Hello => id(out.id),
            };
            Some(message(&named, *sequence, &bytes))
        }
        Request::Command(_) | Request::Session(_) | Request::Handshake(_) => None,
    }
}

fn id(of: ulid::Ulid) -> String {
    prefixed("msg_", of)
}

fn message(id: &str, sequence: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + id.len() + bytes.len());
    // Our ids are short enough.
    out.extend_from_slice(&u16::try_from(id.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Whether a binary message can be part of a sidecar: no JSON text begins with such a byte.
pub(crate) fn is_part(message: &[u8]) -> bool {
    message.first().is_some_and(|first| *first < 2)
}

/// A parsed binary message.
struct Part<'a> {
    id: &'a str,
    sequence: u64,
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    fn read(message: &'a [u8]) -> Option<Part<'a>> {
        let (length, rest) = message.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (sequence, bytes) = rest.split_first_chunk()?;
        let id = core::str::from_utf8(id).ok().filter(|id| (1..=WireId::MAX).contains(&id.len()))?;
        Some(Part { id, sequence: u64::from_be_bytes(*sequence), bytes })
    }
}

/// The announcement of a sidecar in its frame.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// The id in the messages of the sidecar.
    id: String,
    sequence: u64,
    said: Result<Said, Violation>,
}

#[derive(Debug)]
struct Said {
    bytes: u64,
    messages: u64,
    digest: Option<BlobDigest>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    bytes: u64,
    frames: u64,
    #[serde(borrow, default)]
    sha256: Option<Text<'a>>,
}

/// The announcement in a frame, if its type can have a sidecar and it has one.
pub(crate) fn announced(header: &Header<'_>) -> Option<Announcement> {
    if !header.payload.contains("\"sidecar\"") {
        return None;
    }
    let whole = Members::parse(header.payload).ok()?;
    let body = match header.kind.as_ref() {
        "artifact.put" | "artifact.ref" | "job.result_chunk" | "stream.chunk" | PART => None,
        "job.event" if matches!(whole.get_str("kind").as_deref(), Some("result_chunk" | "x-vendor.arcp.stream")) => {
            Some(Members::parse(whole.get("body")?).ok()?)
        }
        _ => return None,
    };
    let members = body.as_ref().unwrap_or(&whole);
    let raw = members.get(SIDECAR).filter(|raw| *raw != "null")?;
    let number = |name| members.get(name).and_then(|raw| raw.parse().ok());
    Some(Announcement {
        id: String::from(header.stream.as_deref().unwrap_or(header.id.as_str())),
        sequence: number("sequence").or_else(|| number("chunk_seq")).unwrap_or(0),
        said: said(&header.kind, raw),
    })
}

fn said(kind: &str, raw: &str) -> Result<Said, Violation> {
    let Fields { bytes, frames, sha256 } = payload(&alloc::format!("{kind}`, `{SIDECAR}"), raw)?;
    let digest = sha256.map(|Text(digest)| digest.parse()).transpose();
    let digest = digest.map_err(|why| Violation::invalid(alloc::format!("`{kind}`: `sha256`: {why}")))?;
    if frames == 0 {
        return Err(Violation::invalid(alloc::format!("`{kind}`: a sidecar has one frame or more")));
    }
    Ok(Said { bytes, messages: frames, digest })
}

/// The sidecar that a connection waits for. There is at most one: its messages must follow its
/// frame directly.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    awaited: Option<Box<Awaited>>,
    /// The outstanding messages of a refused sidecar, which are ignored: the refusal was answered.
    refused: Option<Box<Rest>>,
}

#[derive(Debug)]
struct Awaited {
    frame: Vec<u8>,
    rest: Rest,
    bytes: u64,
    digest: Option<BlobDigest>,
    came: Vec<u8>,
}

/// The outstanding messages of a sidecar.
#[derive(Debug)]
struct Rest {
    id: String,
    sequence: u64,
    messages: u64,
}

impl Rest {
    fn has(&self, part: &Part<'_>) -> bool {
        self.messages > 0 && self.id == part.id && self.sequence == part.sequence
    }
}

/// What a binary message was.
#[derive(Debug)]
pub(crate) enum Came {
    /// A part of an incomplete or refused sidecar: nothing is to be done.
    Nothing,
    /// The last part of a sidecar: its frame, and all its bytes.
    Whole(Vec<u8>, Vec<u8>),
    /// A part of a sidecar that differs from its announcement: its frame, which must not be
    /// handled.
    Wrong(Vec<u8>, Violation),
    /// A part of no awaited sidecar.
    Stray(Violation),
}

impl Sidecars {
    /// Bytes that are held until a sidecar is complete.
    pub(crate) fn held(&self) -> usize {
        self.awaited.as_ref().map_or(0, |awaited| awaited.frame.len() + awaited.came.len())
    }

    /// Waits for the sidecar of a frame, of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// If the announcement is larger, or invalid.
    pub(crate) fn begin(&mut self, frame: &[u8], announced: Announcement, most: usize) -> Result<(), Violation> {
        let Announcement { id, sequence, said } = announced;
        let refused = |messages| Some(Box::new(Rest { id: id.clone(), sequence, messages }));
        let Said { bytes, messages, digest } = said.inspect_err(|_| self.refused = refused(u64::MAX))?;
        if bytes > most as u64 {
            self.refused = refused(messages);
            let message = alloc::format!("a sidecar of {bytes} bytes: at most {most} are accepted");
            return Err(Violation::invalid(message));
        }
        let rest = Rest { id, sequence, messages };
        self.awaited = Some(Box::new(Awaited { frame: frame.to_vec(), rest, bytes, digest, came: Vec::new() }));
        Ok(())
    }

    /// Stops waiting for a sidecar, and returns its frame.
    pub(crate) fn give_up(&mut self) -> Option<Vec<u8>> {
        let Awaited { frame, rest, .. } = *self.awaited.take()?;
        self.refused = Some(Box::new(rest));
        Some(frame)
    }

    /// Handles a binary message.
    pub(crate) fn take(&mut self, message: &[u8]) -> Came {
        let Some(part) = Part::read(message) else {
            let how = "the length of an id in 2 bytes, the id, its sequence in 8 bytes";
            return Came::Stray(Violation::invalid(alloc::format!("a binary frame begins with {how}")));
        };
        if let Some(rest) = self.refused.as_mut().filter(|rest| rest.has(&part)) {
            rest.messages -= 1;
            return Came::Nothing;
        }
        let Some(mut awaited) = self.awaited.take_if(|awaited| awaited.rest.has(&part)) else {
            return Came::Stray(stray(&part));
        };
        awaited.rest.messages -= 1;
        let bytes = awaited.came.len() as u64 + part.bytes.len() as u64;
        let is_last = awaited.rest.messages == 0;
        if bytes > awaited.bytes || is_last && bytes < awaited.bytes {
            let is = if is_last { "" } else { " or more" };
            let message = alloc::format!("a sidecar of {bytes} bytes{is}: {} were announced", awaited.bytes);
            self.refused = Some(Box::new(awaited.rest));
            return Came::Wrong(awaited.frame, Violation::invalid(message));
        }
        awaited.came.extend_from_slice(part.bytes);
        if !is_last {
            self.awaited = Some(awaited);
            return Came::Nothing;
        }
        let Awaited { frame, digest, came, .. } = *awaited;
        match digest.filter(|said| *said != BlobDigest::of(&came)) {
            None => Came::Whole(frame, came),
            Some(said) => {
                let is = BlobDigest::of(&came);
                Came::Wrong(frame, Violation::invalid(alloc::format!("the sidecar has the sha256 {is}, not {said}")))
            }
        }
    }
}

fn stray(part: &Part<'_>) -> Violation {
    let Part { id, sequence, .. } = part;
    let why = "it came twice, or not right after its frame";
    Violation::invalid(alloc::format!("no frame waits for a sidecar of `{id}`, sequence {sequence}: {why}"))
}

/// The violation for a frame whose sidecar did not follow.
pub(crate) fn missing() -> Violation {
    Violation::invalid("the sidecar did not come right after its frame")
}

/// The violation for a sidecar that was too slow.
pub(crate) fn overdue() -> Violation {
    Violation::invalid("the sidecar did not come in time: send it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(bytes: u64, messages: u64, of: Option<&[u8]>) -> Announcement {
        let said = Said { bytes, messages, digest: of.map(BlobDigest::of) };
        Announcement { id: String::from("m"), sequence: 7, said: Ok(said) }
    }

    fn part(bytes: &[u8]) -> Vec<u8> {
        message("m", 7, bytes)
    }

    /// The outcome without the messages for people.
    fn shown(came: Came) -> (&'static str, Vec<u8>) {
        match came {
            Came::Nothing => ("nothing", Vec::new()),
            Came::Whole(frame, came) => ("whole", [frame, came].concat()),
            Came::Wrong(frame, _) => ("wrong", frame),
            Came::Stray(_) => ("stray", Vec::new()),
        }
    }

    #[test]
    fn a_sidecar_is_whole_once_all_of_it_has_come_and_wrong_as_soon_as_it_cannot_be() {
        for (announced, messages) in (0..=4).flat_map(|bytes| (1..=3).map(move |messages| (bytes, messages))) {
            for sizes in (0..27).map(|n: usize| [n % 3, n / 3 % 3, n / 9]) {
                let mut sidecars = Sidecars::default();
                sidecars.begin(b"frame", announcement(announced, messages, None), 4).expect("it is not too long");
                let (mut came, mut rest, mut is_over) = (Vec::new(), messages, false);
                for (n, size) in sizes.into_iter().enumerate() {
                    let bytes = alloc::vec![n as u8; size];
                    let case = alloc::format!("{announced} bytes in {messages}: {n} of {sizes:?}");
                    let was = shown(sidecars.take(&part(&bytes)));
                    let is_awaited = rest > 0;
                    rest -= u64::from(is_awaited);
                    if is_over {
                        assert_eq!(was.0, if is_awaited { "nothing" } else { "stray" }, "{case}");
                        continue;
                    }
                    came.extend_from_slice(&bytes);
                    let total = came.len() as u64;
                    let expected = match (total > announced || rest == 0 && total < announced, rest) {
                        (true, _) => ("wrong", b"frame".to_vec()),
                        (false, 0) => ("whole", [b"frame".as_slice(), &came].concat()),
                        (false, _) => ("nothing", Vec::new()),
                    };
                    is_over = expected.0 != "nothing";
                    assert_eq!(was, expected, "{case}");
                    assert_eq!(sidecars.held(), if is_over { 0 } else { 5 + came.len() }, "{case}");
                }
            }
        }
    }

    #[test]
    fn what_was_refused_is_passed_over_until_all_of_its_messages_have_come() {
        let after = |sidecars: &mut Sidecars| [(); 4].map(|()| shown(sidecars.take(&part(b"abc"))).0);
        let mut sidecars = Sidecars::default();
        assert!(sidecars.begin(b"frame", announcement(4, 3, None), 4).is_ok(), "just as much as there may be");
        assert_eq!(sidecars.give_up().as_deref(), Some(b"frame".as_slice()));
        assert_eq!((sidecars.held(), sidecars.give_up()), (0, None));
        assert_eq!(after(&mut sidecars), ["nothing", "nothing", "nothing", "stray"]);
        assert!(sidecars.begin(b"frame", announcement(5, 2, None), 4).is_err());
        assert_eq!((sidecars.held(), after(&mut sidecars)), (0, ["nothing", "nothing", "stray", "stray"]));
        let unreadable = Announcement { said: Err(missing()), ..announcement(0, 0, None) };
        assert!(sidecars.begin(b"frame", unreadable, 4).is_err());
        assert_eq!(after(&mut sidecars), ["nothing"; 4], "nobody knows how many there are");
    }

    #[test]
    fn a_message_of_another_frame_takes_nothing_from_the_one_that_is_awaited() {
        for of in [b"abc".as_slice(), b"abd"] {
            let mut sidecars = Sidecars::default();
            sidecars.begin(b"frame", announcement(3, 1, Some(of)), 4).expect("it may be awaited");
            for other in [message("n", 7, b"abc"), message("m", 8, b"abc"), message("", 7, b"abc")] {
                assert_eq!(shown(sidecars.take(&other)).0, "stray");
            }
            for cut in 0..part(b"").len() {
                assert_eq!(shown(sidecars.take(&part(b"")[..cut])).0, "stray", "its first {cut} bytes");
            }
            let expected = if of == b"abc" { ("whole", b"frameabc".to_vec()) } else { ("wrong", b"frame".to_vec()) };
            assert_eq!(shown(sidecars.take(&part(b"abc"))), expected, "it is of what its digest says");
        }
    }

    #[test]
    fn a_message_begins_with_an_id_and_a_number_and_no_json_does() {
        let longest = "i".repeat(WireId::MAX);
        for (id, bytes) in [("m", b"abc".to_vec()), ("m", Vec::new()), (longest.as_str(), alloc::vec![b'{'])] {
            let written = message(id, u64::MAX - 1, &bytes);
            let read = Part::read(&written).expect("it is one");
            assert_eq!((read.id, read.sequence, read.bytes), (id, u64::MAX - 1, bytes.as_slice()));
            assert!(is_part(&written));
        }
        for id in [String::new(), longest + "i"] {
            assert!(Part::read(&message(&id, 0, b"")).is_none(), "{} bytes", id.len());
        }
        assert!(Part::read(&[0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]).is_none(), "no text");
        assert_eq!([&b""[..], &[0], &[1], &[2], b"{", b" "].map(is_part), [false, true, true, false, false, false]);
    }

    #[test]
    fn frames_of_some_types_announce_bytes_and_name_their_messages() {
        let of = |kind: &str, payload: &str| {
            let text = alloc::format!(r#"{{"id":"m","type":"{kind}","stream_id":"s","payload":{payload}}}"#);
            let plain = alloc::format!(r#"{{"id":"m","type":"{kind}","payload":{payload}}}"#);
            [&text, &plain].map(|text| {
                let header = Header::read(text).expect("a frame");
                let announced = announced(&header)?;
                let said = announced.said.map(|said| (said.bytes, said.messages, said.digest.is_some()));
                Some((announced.id, announced.sequence, said.map_err(|violation| String::from(violation.message))))
            })
        };
        let said = r#""sidecar":{"bytes":3,"frames":2}"#;
        let both = |sequence: u64| {
            ["s", "m"].map(|id| Some((String::from(id), sequence, Ok::<_, String>((3_u64, 2_u64, false)))))
        };
        for kind in ["artifact.put", "artifact.ref", "job.result_chunk", "stream.chunk", PART] {
            assert_eq!(of(kind, &alloc::format!("{{{said}}}")), both(0), "{kind}");
            assert_eq!(of(kind, &alloc::format!(r#"{{{said},"sequence":4,"chunk_seq":5}}"#)), both(4), "{kind}");
            assert_eq!(of(kind, &alloc::format!(r#"{{{said},"chunk_seq":5}}"#)), both(5), "{kind}");
            assert_eq!(of(kind, r#"{"sidecar":null}"#), [None, None], "{kind}");
            assert_eq!(of(kind, r#"{"other":"sidecar"}"#), [None, None], "{kind}");
        }
        for (kind, announces) in [("result_chunk", true), ("x-vendor.arcp.stream", true), ("log", false)] {
            let event = of("job.event", &alloc::format!(r#"{{"kind":"{kind}","body":{{{said}}}}}"#));
            assert_eq!(event, if announces { both(0) } else { [None, None] }, "{kind}");
            let outside = alloc::format!(r#"{{"kind":"{kind}","body":{{}},{said}}}"#);
            assert_eq!(of("job.event", &outside), [None, None], "{kind}");
        }
        assert_eq!(of("ping", &alloc::format!("{{{said}}}")), [None, None]);
        let why = |sidecar: &str| of("artifact.put", &alloc::format!(r#"{{"sidecar":{sidecar}}}"#))[1].clone();
        for (sidecar, expected) in [
            (r#"{"bytes":3,"frames":0}"#, "a sidecar has one frame or more"),
            (r#"{"bytes":3,"frames":1,"sha256":"x"}"#, "`artifact.put`: `sha256`: "),
            (r#"{"bytes":"3","frames":1}"#, "`sidecar`: `bytes` has the wrong type"),
            ("7", "`sidecar`: the payload must be an object"),
        ] {
            let (_, _, said) = why(sidecar).expect("it announces something");
            assert!(said.as_ref().is_err_and(|why| why.contains(expected)), "{sidecar}: {said:?}");
        }
        let digest = alloc::format!(r#"{{"bytes":3,"frames":1,"sha256":"{}"}}"#, BlobDigest::of(b"abc"));
        assert_eq!(why(&digest), Some((String::from("m"), 0, Ok((3, 1, true)))));
    }
}
