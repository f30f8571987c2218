//! The envelope that both families share. Its header is read without copying; the payload is kept
//! as text (1.1 §5, RFC §6.1).

use alloc::borrow::Cow;
use alloc::string::String;

use serde::Deserialize;

use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Member, Members, Once, Raw, Text, members};
use crate::model::reply::{RefusedKind, Subject};
use crate::wire::codec::bounded_trace;
use crate::wire::frame::ingest;
use crate::wire::shared::refused_kind;

/// The header of one frame.
#[derive(Debug)]
pub struct Header<'a> {
    /// The message id.
    pub id: WireId,
    /// The message type.
    pub kind: Cow<'a, str>,
    /// The session that it names.
    pub session: Option<WireId>,
    /// The job that it names.
    pub job: Option<WireId>,
    /// The trace, as sent.
    pub trace: Option<Cow<'a, str>>,
    /// The span, as sent.
    pub span: Option<Cow<'a, str>>,
    /// The stream that it names.
    pub stream: Option<Cow<'a, str>>,
    /// The priority, as sent.
    pub priority: Option<Cow<'a, str>>,
    /// The idempotency key, as sent.
    pub key: Option<Cow<'a, str>>,
    /// The request that it answers.
    pub correlation: Option<WireId>,
    /// The sequence number of a numbered frame.
    pub seq: Option<u64>,
    /// The time of sending, as JSON, if the sender gives it.
    pub timestamp: Option<&'a str>,
    /// The payload as text; `{}` when absent or null.
    pub payload: &'a str,
    /// Members of extensions, as sent.
    pub extensions: Option<&'a str>,
    /// The sidecar that arrived with it.
    pub sidecar: Option<&'a [u8]>,
}

/// A frame whose header could not be read, with the subject of the message as far as it could be
/// read.
#[derive(Debug)]
pub struct Unreadable {
    /// The subject of the message.
    pub subject: Subject,
    /// What is wrong.
    pub violation: Violation,
}

const NO_OBJECT: &str = "a frame must be one JSON object";

#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    arcp: Option<Text<'a>>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    session_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    job_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    trace_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    span_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    stream_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    priority: Option<Text<'a>>,
    #[serde(borrow, default)]
    idempotency_key: Option<Text<'a>>,
    #[serde(borrow, default)]
    correlation_id: Option<Text<'a>>,
    #[serde(default)]
    event_seq: Option<u64>,
    #[serde(borrow, default)]
    timestamp: Option<Raw<'a>>,
    #[serde(borrow, default)]
    payload: Option<Raw<'a>>,
    #[serde(borrow, default)]
    extensions: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
struct Extensions {
    #[serde(default)]
    optional: bool,
}

impl<'a> Header<'a> {
    /// Checks a frame as [`ingest`] does, and reads its header: in one pass if the frame is valid.
    ///
    /// # Errors
    ///
    /// `Unreadable` with the id of the message, if that could be read.
    pub fn receive(bytes: &'a [u8], frame_bytes: usize, json_depth: usize) -> Result<Header<'a>, Unreadable> {
        let text = core::str::from_utf8(bytes).ok().filter(|text| text.len() <= frame_bytes);
        match text.and_then(|text| Fields::passed(text, json_depth)) {
            Some(fields) => Header::of(&fields),
            None => match ingest(bytes, frame_bytes, json_depth) {
                Ok(text) => Header::read(text),
                Err(violation) => Err(Unreadable { subject: Subject::from_refused(bytes), violation }),
            },
        }
    }

    /// Reads the header of a frame that [`ingest`] accepted.
    ///
    /// # Errors
    ///
    /// `Unreadable` with the id of the message, if that could be read.
    pub fn read(text: &'a str) -> Result<Header<'a>, Unreadable> {
        if let Some(fields) = Fields::passed(text, usize::MAX) {
            return Header::of(&fields);
        }
        let fields: Fields<'a> = match serde_json::from_str(text) {
            Ok(fields) if text.trim_start().starts_with('{') => fields,
            // The decoder would also accept a list of the members in order.
            Ok(_) => {
                return Err(Unreadable { subject: Subject::unknown(), violation: Violation::invalid(NO_OBJECT) });
            }
            Err(error) => return Err(unreadable(text, &error)),
        };
        Header::of(&fields)
    }

    /// Whether the sender accepts that the receiver does not know the type.
    pub fn is_optional(&self) -> bool {
        let said = self.extensions.and_then(|raw| serde_json::from_str::<Extensions>(raw).ok());
        said.unwrap_or_default().optional
    }

    fn of(fields: &Fields<'a>) -> Result<Header<'a>, Unreadable> {
        let known = |id: &Option<Text<'_>>| id.as_ref().and_then(|Text(text)| WireId::new(text));
        Header::new(fields).map_err(|violation| Unreadable {
            subject: Subject {
                kind: fields.kind.as_ref().map_or(RefusedKind::Frame, |Text(kind)| refused_kind(kind)),
                id: known(&fields.id),
                job: known(&fields.job_id),
                trace: fields.trace_id.as_ref().and_then(|Text(trace)| bounded_trace(trace)),
            },
            violation,
        })
    }

    fn new(fields: &Fields<'a>) -> Result<Header<'a>, Violation> {
        let text = |field: &Option<Text<'a>>| field.as_ref().map(|Text(text)| text.clone());
        let id = wire_id(&fields.id, "id")?.ok_or_else(|| Violation::invalid("the envelope has no `id`"))?;
        let Some(kind) = text(&fields.kind) else {
            return Err(Violation::invalid("the envelope has no `type`"));
        };
        // These versions do not differ.
        if !matches!(fields.arcp.as_ref().map(|Text(arcp)| arcp.as_ref()), None | Some("1.1" | "1.0" | "1")) {
            return Err(Violation::invalid("`arcp` must be \"1.1\", \"1.0\" or \"1\""));
        }
        let payload = match fields.payload.map(Raw::get) {
            None => "{}",
            Some(payload) if payload.starts_with('{') => payload,
            Some(_) => return Err(Violation::invalid("`payload` must be an object")),
        };
        let extensions = fields.extensions.map(Raw::get);
        if extensions.is_some_and(|extensions| !extensions.starts_with('{')) {
            return Err(Violation::invalid("`extensions` must be an object"));
        }
        Ok(Header {
            id,
            kind,
            session: wire_id(&fields.session_id, "session_id")?,
            job: wire_id(&fields.job_id, "job_id")?,
            trace: text(&fields.trace_id),
            span: text(&fields.span_id),
            stream: text(&fields.stream_id),
            priority: text(&fields.priority),
            key: text(&fields.idempotency_key),
            correlation: wire_id(&fields.correlation_id, "correlation_id")?,
            seq: fields.event_seq,
            timestamp: fields.timestamp.map(Raw::get),
            payload,
            extensions,
            sidecar: None,
        })
    }
}

impl<'a> Fields<'a> {
    /// Reads the fields of a valid text; `None` if the text is invalid, or validity cannot be
    /// decided in one pass.
    fn passed(text: &'a str, depth: usize) -> Option<Fields<'a>> {
        let (mut fields, mut once) = (Fields::default(), Once::default());
        members(text, depth, |member| fields.take(&mut once, member))?;
        Some(fields)
    }

    fn take(&mut self, once: &mut Once, member: Member<'a>) -> Option<()> {
        let (number, field) = match member.name {
            "arcp" => (0, &mut self.arcp),
            "id" => (1, &mut self.id),
            "type" => (2, &mut self.kind),
            "session_id" => (3, &mut self.session_id),
            "job_id" => (4, &mut self.job_id),
            "trace_id" => (5, &mut self.trace_id),
            "span_id" => (6, &mut self.span_id),
            "stream_id" => (7, &mut self.stream_id),
            "priority" => (8, &mut self.priority),
            "idempotency_key" => (9, &mut self.idempotency_key),
            "correlation_id" => (10, &mut self.correlation_id),
            "event_seq" => {
                self.event_seq = member.u64()?;
                return once.note(11);
            }
            "timestamp" => {
                self.timestamp = member.raw();
                return once.note(12);
            }
            "payload" => {
                self.payload = member.raw();
                return once.note(13);
            }
            "extensions" => {
                self.extensions = member.raw();
                return once.note(14);
            }
            _ => return Some(()),
        };
        *field = member.text()?;
        once.note(number)
    }
}

fn wire_id(text: &Option<Text<'_>>, name: &str) -> Result<Option<WireId>, Violation> {
    match text {
        None => Ok(None),
        Some(Text(text)) => WireId::new(text)
            .map(Some)
            .ok_or_else(|| Violation::invalid(alloc::format!("`{name}` must have 1 to {} bytes", WireId::MAX))),
    }
}

fn unreadable(text: &str, error: &serde_json::Error) -> Unreadable {
    let members = Members::parse(text);
    let said = |name| members.as_ref().ok().and_then(|m: &Members<'_>| m.get_str(name));
    let subject = Subject {
        kind: said("type").map_or(RefusedKind::Frame, |kind| refused_kind(&kind)),
        id: said("id").and_then(|id| WireId::new(&id)),
        job: said("job_id").and_then(|id| WireId::new(&id)),
        trace: said("trace_id").and_then(|trace| bounded_trace(&trace)),
    };
    let violation = match &members {
        // The decoder names the member, but does not repeat its value.
        Ok(members) => Violation::invalid(alloc::format!("envelope: {}", wrong_member(members))),
        Err(crate::json::JsonError::Duplicate) => Violation::invalid("envelope: duplicate member"),
        Err(_) if error.is_data() => Violation::invalid(NO_OBJECT),
        Err(_) => Violation::invalid(alloc::format!(
            "frame is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
    };
    Unreadable { subject, violation }
}

fn wrong_member(members: &Members<'_>) -> String {
    const STRINGS: [&str; 11] = [
        "arcp",
        "id",
        "type",
        "session_id",
        "job_id",
        "trace_id",
        "correlation_id",
        "span_id",
        "stream_id",
        "priority",
        "idempotency_key",
    ];
    let wrong =
        STRINGS.into_iter().find(|name| members.get(name).is_some_and(|raw| !raw.starts_with('"') && raw != "null"));
    match wrong {
        Some(name) => alloc::format!("`{name}` must be a string"),
        None => String::from("`event_seq` must be a whole number"),
    }
}

/// The member of a payload that contains an error.
fn member_at<'a>(text: &'a str, error: &serde_json::Error) -> Option<Cow<'a, str>> {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let at = lines.map(str::len).sum::<usize>() + error.column();
    let members = Members::parse(text).ok()?;
    // Each value is a slice of the text.
    let begins = |value: &str| value.as_ptr() as usize - text.as_ptr() as usize;
    members.0.into_iter().take_while(|(_, value)| begins(value) <= at).last().map(|(name, _)| name)
}

/// Decodes a payload. An error names the message type, but never repeats values: they may be
/// secrets.
pub(crate) fn payload<'a, T: Deserialize<'a>>(kind: &str, text: &'a str) -> Result<T, Violation> {
    serde_json::from_str(text).map_err(|error| {
        let full = alloc::format!("{error}");
        let what = ["missing field", "duplicate field"]
            .into_iter()
            .find_map(|phrase| full.strip_prefix(phrase).map(|rest| (phrase, rest)));
        let message = match what {
            Some((phrase, rest)) => {
                let field = rest.split(" at line").next().unwrap_or_default().trim();
                alloc::format!("`{kind}`: {phrase} {field}")
            }
            None => match member_at(text, &error) {
                Some(member) => alloc::format!("`{kind}`: `{member}` has the wrong type"),
                None => alloc::format!("`{kind}`: the payload must be an object"),
            },
        };
        Violation::invalid(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_of_an_envelope_is_named() {
        let refused = |members: &str| {
            let text = alloc::format!(r#"{{"type":"job.submit",{members},"payload":{{}}}}"#);
            Header::read(&text).map_or_else(|unreadable| String::from(unreadable.violation.message), |_| String::new())
        };
        for name in
            ["arcp", "id", "session_id", "job_id", "trace_id", "correlation_id", "span_id", "stream_id", "priority"]
        {
            let said = refused(&alloc::format!(r#""timestamp":null,"{name}":5"#));
            assert_eq!(said, alloc::format!("envelope: `{name}` must be a string"));
        }
        let said = refused(r#""id":"m","session_id":null,"event_seq":"x""#);
        assert_eq!(said, "envelope: `event_seq` must be a whole number", "nothing else is wrong");
    }
}
