//! The frames of both families, as far as jobs and sessions need them: requests are written as text, frames of servers
//! are read into types.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fault::Fault;

/// A family of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The family of draft 1.1.
    Hello,
    /// The family of RFC-0001-v2.
    Open,
}

impl Family {
    /// Both families.
    pub const ALL: [Family; 2] = [Family::Hello, Family::Open];

    /// The name of the family.
    pub fn name(self) -> &'static str {
        match self {
            Family::Hello => "hello",
            Family::Open => "open",
        }
    }
}

const PREFIX: &str = r#"{"arcp":"1.1","id":"msg_01J"#;
const TIME: &str = r#"","timestamp":"2026-11-20T03:41:22.687964781Z","type":""#;

/// The id of a request, in the form that published servers accept: a ULID.
fn begin(number: u64) -> String {
    format!("{PREFIX}{number:023}{TIME}")
}

/// The number of the request with this id.
pub fn request_number(id: &str) -> Option<u64> {
    id.strip_prefix("msg_01J")?.parse().ok()
}

/// The text of the request that opens a session.
pub fn open_session(family: Family, token: &str) -> String {
    let mut text = begin(0);
    let rest = match family {
        Family::Hello => format!(
            r#"session.hello","payload":{{"client":{{"name":"load","version":"1"}},"auth":{{"scheme":"bearer","token":"{token}"}},"capabilities":{{"encodings":["json"],"features":["progress","result_chunk"]}}}}}}"#
        ),
        Family::Open => format!(
            r#"session.open","payload":{{"auth":{{"scheme":"bearer","token":"{token}"}},"client":{{"kind":"load","version":"1"}},"capabilities":{{"streaming":true,"result_chunk":true}}}}}}"#
        ),
    };
    text.push_str(&rest);
    text
}

/// The text of the request that submits a job.
pub fn submit(family: Family, number: u64, agent: &str, input: &str) -> String {
    let mut text = begin(number);
    let rest = match family {
        Family::Hello => {
            write!(text, r#"job.submit","payload":{{"agent":"{agent}","input":{input}}}}}"#)
        }
        Family::Open => {
            write!(text, r#"tool.invoke","payload":{{"tool":"{agent}","arguments":{input}}}}}"#)
        }
    };
    rest.map(|()| text).unwrap_or_default()
}

/// A frame of a server. Members that are not used here are decoded as well, because a client needs them.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[expect(dead_code, reason = "decoded, as by any client")]
    id: &'a str,
    /// The event sequence, if the frame has one.
    pub event_seq: Option<u64>,
    #[expect(dead_code, reason = "decoded, as by any client")]
    session_id: Option<&'a str>,
    job_id: Option<&'a str>,
    correlation_id: Option<&'a str>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Debug, Deserialize)]
struct Payload<'a> {
    // Members of answers and of terminals.
    request_id: Option<&'a str>,
    final_status: Option<&'a str>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    result_size: Option<u64>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    // Members of an event in the hello family, whose body is a member of its own.
    kind: Option<&'a str>,
    #[expect(dead_code, reason = "decoded, as by any client")]
    ts: Option<&'a str>,
    #[serde(borrow)]
    body: Option<Body<'a>>,
    // Members of an event in the open family. A result may also be called `value`.
    name: Option<&'a str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    chunk_seq: Option<u64>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    more: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Body<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    chunk_seq: Option<u64>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    more: Option<bool>,
}

/// The meaning of a frame.
#[derive(Debug)]
pub enum Said<'a> {
    /// The session is open.
    Welcome,
    /// A request became a job.
    Accepted {
        /// The id of the request.
        request: &'a str,
        /// The id of the job.
        job: &'a str,
    },
    /// An event that is not counted.
    Note {
        /// The job's id.
        job: &'a str,
    },
    /// A metric of a job.
    Metric {
        /// The job's id.
        job: &'a str,
        /// Its value.
        value: f64,
    },
    /// A piece of a job's result.
    Piece {
        /// The job's id.
        job: &'a str,
        /// The number of the piece in the result.
        number: u64,
        /// The piece.
        text: &'a str,
        /// Whether another one follows.
        more: bool,
    },
    /// A job has succeeded.
    Ended {
        /// The job's id.
        job: &'a str,
        /// The result, unless it came in pieces.
        result: Option<&'a str>,
        /// The length of a result that came in pieces.
        size: Option<u64>,
    },
}

impl<'a> Envelope<'a> {
    /// Reads a frame.
    ///
    /// # Errors The text is no envelope.
    pub fn read(text: &'a [u8]) -> Result<Envelope<'a>, Fault> {
        serde_json::from_slice(text).map_err(|error| Fault::Unread(format!("{error}: {}", shown(text))))
    }

    /// The meaning of the frame in a family.
    ///
    /// # Errors It is a refusal, the failure of a job, or a frame that a client which only submits should not get in
    /// this family.
    pub fn said(&'a self, family: Family) -> Result<Said<'a>, Fault> {
        let payload = &self.payload;
        let said = match (family, self.kind) {
            (Family::Hello, "session.welcome") | (Family::Open, "session.accepted") => Some(Said::Welcome),
            (Family::Hello, "job.accepted") => self.accepted(payload.request_id),
            (Family::Open, "job.accepted") => self.accepted(self.correlation_id),
            (Family::Hello, "job.event") => self.event(),
            (Family::Open, "job.started" | "job.status") => self.job_id.map(|job| Said::Note { job }),
            (Family::Open, "metric") => self.metric(payload.name, payload.value),
            (Family::Open, "job.result_chunk") => self.piece(payload.chunk_seq, &payload.data, payload.more),
            (Family::Hello, "job.result") if payload.final_status == Some("success") => self.ended(payload.result),
            (Family::Open, "job.completed") => self.ended(payload.value.or(payload.result)),
            (_, "job.error" | "session.error" | "job.failed" | "nack" | "session.rejected") => {
                let said = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("nothing").to_string();
                return Err(Fault::Refused(format!("{}: {}", said(&payload.code), said(&payload.message))));
            }
            _ => None,
        };
        said.ok_or_else(|| Fault::Wrong(format!("nobody asked for {self:?}")))
    }

    fn accepted(&self, request: Option<&'a str>) -> Option<Said<'a>> {
        Some(Said::Accepted { request: request?, job: self.job_id? })
    }

    fn event(&'a self) -> Option<Said<'a>> {
        let body = self.payload.body.as_ref()?;
        match self.payload.kind? {
            "metric" => self.metric(body.name, body.value),
            "result_chunk" => self.piece(body.chunk_seq, &body.data, body.more),
            "status" | "log" => Some(Said::Note { job: self.job_id? }),
            _ => None,
        }
    }

    fn metric(&self, name: Option<&str>, value: Option<&RawValue>) -> Option<Said<'a>> {
        let value = value?.get().parse().ok()?;
        (name? == "tick").then_some(Said::Metric { job: self.job_id?, value })
    }

    fn piece(&self, number: Option<u64>, text: &'a Option<Cow<'a, str>>, more: Option<bool>) -> Option<Said<'a>> {
        Some(Said::Piece { job: self.job_id?, number: number?, text: text.as_deref()?, more: more? })
    }

    fn ended(&self, result: Option<&'a RawValue>) -> Option<Said<'a>> {
        let result = result.map(RawValue::get);
        Some(Said::Ended { job: self.job_id?, result, size: self.payload.result_size })
    }
}

/// The beginning of a frame, for the message of a fault.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned()
}
