//! Masking: calls of an agent, without the values of its job's credentials (1.1 §14). Each byte of a value is replaced
//! by an asterisk, so that credit stays the same.
//!
//! In JSON, values are searched within strings only, also in escaped form: elsewhere there are only numbers, and an
//! asterisk would break the JSON. In texts and bytes, they are searched verbatim.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Jobs;
use super::backlog::Backlog;
use super::credentials::Stage;
use crate::error::ErrorCode;
use crate::id::{JobId, WireId};
use crate::json::Json;
use crate::model::artifact::BlobDigest;
use crate::model::credential::check_value;
use crate::model::event::{EventKind, JobError};
use crate::model::prompt::{Choice, PermissionRequest, Question};
use crate::model::stream::{ChunkNotes, StreamTerms};
use crate::runtime::delegation::Delegation;
use crate::runtime::io::{AgentCall, AgentExit, ChunkData, Input, StreamCall};
use crate::secret::Secret;

/// The values that readers of the agent's events may not see.
#[derive(Debug)]
struct Mask<'a>(Vec<&'a Secret>);

/// Masks a call or an exit of an agent, if its job has credentials.
pub(in crate::runtime) fn mask(jobs: &Jobs, input: &mut Input) {
    match input {
        Input::Agent { job, call } | Input::AgentAsked { job, call, .. } => {
            of_job(jobs, *job).into_iter().for_each(|mask| mask.call(call));
        }
        Input::AgentSays { job, calls } => {
            of_job(jobs, *job).into_iter().for_each(|mask| calls.iter_mut().for_each(|call| mask.call(call)));
        }
        Input::AgentExited { job, exit } => of_job(jobs, *job).into_iter().for_each(|mask| mask.exit(exit)),
        Input::Opened { .. }
        | Input::HandedOver(_)
        | Input::Received { .. }
        | Input::ReceivedBinary { .. }
        | Input::TooLong { .. }
        | Input::Credit { .. }
        | Input::Closed { .. }
        | Input::Authenticated { .. }
        | Input::NotJudged { .. }
        | Input::JudgedElsewhere { .. }
        | Input::Persisted { .. }
        | Input::PersistFailed { .. }
        | Input::Loaded { .. }
        | Input::ExtensionTaken { .. }
        | Input::InputChecked { .. }
        | Input::CredentialsIssued { .. }
        | Input::CredentialsRevoked { .. }
        | Input::HandedOff { .. }
        | Input::BlobStored { .. }
        | Input::BlobRead { .. }
        | Input::SchedulePlanned { .. }
        | Input::Agents { .. }
        | Input::SendExtension { .. }
        | Input::Operator(_)
        | Input::Reseed(_)
        | Input::Restore { .. }
        | Input::Restored { .. }
        | Input::Tick => {}
    }
}

/// All values of a job: the live ones, those being revoked, and those that its agent asks for or has asked for in vain.
/// `None` if there are none.
fn of_job(jobs: &Jobs, job: JobId) -> Option<Mask<'_>> {
    let entry = jobs.credentials.by_job.get(&job)?;
    let Stage::Live(live) = &entry.stage else {
        return None; // Calls of this agent do not count.
    };
    let own = live.credentials.iter().map(|credential| &credential.value);
    let before = entry.superseded.iter().map(|old| &old.value);
    let wanted = entry.renewing.as_ref().and_then(|renewing| renewing.wanted.as_ref());
    let run = jobs.table.get(job).map(|job| &job.run);
    let deferred = run.and_then(|run| run.questions.deferred.as_deref());
    let deferred = deferred.into_iter().flat_map(|deferred| deferred.held.iter().map(|(_, call)| call));
    let backlog = run.and_then(|run| run.allowance.backlog.as_deref()).into_iter().flat_map(Backlog::calls);
    let unheard = deferred.chain(backlog).filter_map(wanted_by);
    Some(Mask::of(own.chain(&live.doubtful).chain(before).chain(wanted).chain(unheard)))
}

/// The value that a call asks for.
fn wanted_by(call: &AgentCall) -> Option<&Secret> {
    if let AgentCall::RenewCredential { value, .. } = call { value.as_ref() } else { None }
}

impl<'a> Mask<'a> {
    /// Leaves out invalid values of a provisioner: they are revoked as well, and no agent got them.
    fn of(values: impl Iterator<Item = &'a Secret>) -> Mask<'a> {
        Mask(values.filter(|value| check_value(value).is_ok()).collect())
    }
}

impl Mask<'_> {
    fn call(&self, call: &mut AgentCall) {
        match call {
            AgentCall::Emit { kind, body } => {
                if let Some(name) = self.masked(kind.as_str()) {
                    *kind = EventKind::from(name.as_str());
                }
                self.json(body);
            }
            AgentCall::Chunk { data, more: _ } => _ = self.data(data),
            AgentCall::Checkpoint { state, label } => {
                self.bytes(state);
                self.texts(label);
            }
            AgentCall::Authorize { operation, target, price } => {
                self.texts([operation, target].into_iter().chain(price))
            }
            AgentCall::Delegate(Delegation { agent, input, lease_request, lease_constraints, delegate_id }) => {
                self.texts([agent].into_iter().chain(delegate_id));
                [input, lease_request, lease_constraints].into_iter().flatten().for_each(|json| self.json(json));
            }
            AgentCall::Ask { question, timeout_ms: _ } => self.question(question),
            AgentCall::RenewCredential { id, value: _ } => self.text(id),
            AgentCall::PutArtifact(terms) => {
                if let Some(masked) = self.masked(terms.media_type.as_str()).and_then(|name| name.parse().ok()) {
                    terms.media_type = masked;
                }
            }
            AgentCall::Stream { stream: _, says } => self.stream(says),
            AgentCall::Remaining | AgentCall::Heartbeat | AgentCall::AwaitChild { .. } | AgentCall::GoOn { .. } => {}
        }
    }

    fn exit(&self, exit: &mut AgentExit) {
        match exit {
            AgentExit::Success { result, summary } => {
                result.iter_mut().for_each(|result| self.json(result));
                self.texts(summary);
            }
            AgentExit::Stored { artifact, summary } => {
                if let Some(masked) = self.masked(artifact.as_str()).and_then(|id| WireId::new(&id)) {
                    *artifact = masked;
                }
                self.texts(summary);
            }
            AgentExit::Failure(error) => self.error(error),
            AgentExit::Lost => {}
        }
    }

    fn question(&self, question: &mut Question) {
        match question {
            Question::Input { prompt, schema, default } => {
                self.text(prompt);
                [schema].into_iter().chain(default).for_each(|json| self.json(json));
            }
            Question::Choice { prompt, options, default } => {
                let shown = options.iter_mut().flat_map(|Choice { id, label }| [id, label]);
                self.texts([prompt].into_iter().chain(shown).chain(default));
            }
            Question::Permission(PermissionRequest { permission, resource, operation, reason, lease_seconds: _ }) => {
                self.texts([permission, resource, operation].into_iter().chain(reason));
            }
        }
    }

    fn stream(&self, says: &mut StreamCall) {
        match says {
            StreamCall::Open(StreamTerms { kind: _, content_type, encoding }) => {
                self.texts(content_type.iter_mut().chain(encoding));
            }
            StreamCall::Chunk { data, notes, shed: _ } => {
                let ChunkNotes { attributes, content_type, role, redacted: _, sha256, low_priority: _ } = &mut **notes;
                if let Some(digest) = self.data(data).filter(|_| sha256.is_some()) {
                    *sha256 = Some(digest);
                }
                attributes.iter_mut().for_each(|attributes| self.json(attributes));
                self.texts(content_type.iter_mut().chain(role));
            }
            StreamCall::Close { reason, shed: _ } => self.texts(reason),
            StreamCall::Fail { error, shed: _ } => self.error(error),
            StreamCall::Took | StreamCall::Leave => {}
        }
    }

    fn error(&self, error: &mut JobError) {
        let JobError { code, message, retryable: _, details } = error;
        if let Some(masked) = self.masked(code.as_str()) {
            *code = ErrorCode::from(masked.as_str());
        }
        self.text(message);
        details.iter_mut().for_each(|details| self.json(details));
    }

    /// The new digest, if the data held a value.
    fn data(&self, data: &mut ChunkData) -> Option<BlobDigest> {
        match data {
            ChunkData::Text(text) => {
                *text = self.masked(text)?;
                Some(BlobDigest::of(text.as_bytes()))
            }
            ChunkData::Binary(bytes) => self.bytes(bytes).then(|| BlobDigest::of(bytes)),
        }
    }

    fn texts<'t>(&self, texts: impl IntoIterator<Item = &'t mut String>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn text(&self, text: &mut String) {
        if let Some(masked) = self.masked(text) {
            *text = masked;
        }
    }

    fn masked(&self, text: &str) -> Option<String> {
        let found = self.0.iter().flat_map(|value| places(text, value.expose()));
        overwritten(text.as_bytes(), found).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// Returns whether the bytes held a value. Values are ASCII, so other bytes than UTF-8 hold none.
    fn bytes(&self, bytes: &mut Vec<u8>) -> bool {
        let mut before = 0;
        let mut found = Vec::new();
        for chunk in bytes.utf8_chunks() {
            let places = self.0.iter().flat_map(|value| places(chunk.valid(), value.expose()));
            found.extend(places.map(|place| place.start + before..place.end + before));
            before += chunk.valid().len() + chunk.invalid().len();
        }
        let masked = overwritten(bytes, found.into_iter());
        masked.map(|masked| *bytes = masked).is_some()
    }

    fn json(&self, json: &mut Json) {
        let plain = Plain::of(json.as_str());
        let found = self.0.iter().flat_map(|value| plain.places_in_strings(value.expose()));
        let masked = overwritten(json.as_str().as_bytes(), found.map(|place| plain.as_written(place)));
        if let Some(masked) = masked.and_then(|bytes| String::from_utf8(bytes).ok()) {
            *json = Json::from_written(masked);
        }
    }
}

/// The places of a value in a text.
fn places(text: &str, value: &str) -> impl Iterator<Item = Range<usize>> {
    // The search looks at the whole value first, which is too much for many texts that are shorter.
    let may_have = text.len() >= value.len();
    may_have.then(|| text.match_indices(value)).into_iter().flatten().map(|(at, found)| at..at + found.len())
}

/// The text with asterisks at these places; `None` if there are no places.
fn overwritten(text: &[u8], places: impl Iterator<Item = Range<usize>>) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    for place in places {
        out.get_or_insert_with(|| text.to_vec())[place].fill(b'*');
    }
    out
}

/// JSON in which no character that a value may contain is escaped.
#[derive(Debug)]
struct Plain<'a> {
    text: Cow<'a, str>,
    /// After each unescaped character: its position here, and in the original.
    escaped: Vec<(usize, usize)>,
}

impl<'a> Plain<'a> {
    fn of(json: &'a str) -> Plain<'a> {
        let mut plain = Plain { text: Cow::Borrowed(json), escaped: Vec::new() };
        let (mut text, mut copied, mut read) = (String::new(), 0, 0);
        while let Some(at) = json.get(read..).and_then(|rest| rest.find('\\')).map(|at| read + at) {
            let (stands_for, length) = escape(&json.as_bytes()[at..]);
            read = at + length;
            if let Some(c) = stands_for {
                text.push_str(&json[copied..at]);
                text.push(c);
                copied = read;
                plain.escaped.push((text.len(), copied));
            }
        }
        if copied > 0 {
            text.push_str(&json[copied..]);
            plain.text = Cow::Owned(text);
        }
        plain
    }

    /// The places of a value, wholly within a string.
    fn places_in_strings(&self, value: &str) -> Vec<Range<usize>> {
        let (bytes, mut found) = (self.text.as_bytes(), Vec::new());
        let (mut is_inside, mut read, mut from) = (false, 0, 0);
        while let Some(at) = self.text.get(from..).and_then(|rest| rest.find(value)).map(|at| from + at) {
            while read < at {
                is_inside ^= bytes[read] == b'"';
                read += if bytes[read] == b'\\' { escape(&bytes[read..]).1 } else { 1 };
            }
            // Otherwise the match begins within an escape.
            if read == at {
                found.extend(is_inside.then(|| at..at + value.len()));
                read = at + value.len();
            }
            from = read;
        }
        found
    }

    fn as_written(&self, place: Range<usize>) -> Range<usize> {
        let before = |at: usize| {
            let known = self.escaped.partition_point(|(is, _)| *is <= at);
            let (is, was) = known.checked_sub(1).and_then(|last| self.escaped.get(last)).copied().unwrap_or((0, 0));
            was + (at - is)
        };
        before(place.start)..before(place.end)
    }
}

/// The character of a JSON escape, if a value may contain it, and the bytes of the escape.
fn escape(text: &[u8]) -> (Option<char>, usize) {
    match text {
        [_, b'/', ..] => (Some('/'), 2),
        [_, b'u', digits @ ..] => {
            let digits = digits.get(..4).and_then(|digits| core::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let may_stand = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\';
            (byte.filter(may_stand).map(char::from), 6)
        }
        _ => (None, 2),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn masked(values: &[&str], json: &str) -> String {
        let values: Vec<Secret> = values.iter().map(|value| Secret::new((*value).into())).collect();
        let mut json = Json::parse(json).expect("JSON");
        Mask::of(values.iter()).json(&mut json);
        assert_eq!(Json::parse(json.as_str()).as_ref(), Ok(&json), "it is JSON still");
        json.to_string()
    }

    #[test]
    fn what_is_no_value_is_not_looked_for() {
        let said = r#"{"m":"abcdefg\\","n":"\",\""}"#;
        assert_eq!(masked(&["", "\",\"", "abcdefg\\", "\\\"\",\"n\""], said), said);
    }

    #[test]
    fn a_value_is_found_in_strings_of_json_however_it_is_escaped() {
        for (said, shown) in [
            (r#"{"m":"the key sk/a+b=c. is"}"#, r#"{"m":"the key ********. is"}"#),
            (r#"{"m":"sk\/a+b=csk/a+b=c"}"#, r#"{"m":"*****************"}"#),
            (r#"["\u0073\u006B\u002fa\u002bb=c","\u00e4"]"#, r#"["****************************","\u00e4"]"#),
            (r#"{"sk/a+b=c":{"a":["\"sk/a+b=c\\"]}}"#, r#"{"********":{"a":["\"********\\"]}}"#),
            (r#""{\"value\":\"sk/a+b=c\"}""#, r#""{\"value\":\"********\"}""#),
            (r#""sk/a+b=""#, r#""sk/a+b=""#),
            (r#""\\/\\u002fä sk\u005c/a+b=c""#, r#""\\/\\u002fä sk\u005c/a+b=c""#),
        ] {
            assert_eq!(masked(&["sk/a+b=c"], said), shown);
            assert_eq!(said.len(), shown.len(), "what is counted in bytes stays the same");
        }
    }

    #[test]
    fn what_is_masked_is_json_whatever_the_value_is() {
        assert_eq!(masked(&["12345678"], r#"{"n":112345678.5,"t":"12345678"}"#), r#"{"n":112345678.5,"t":"********"}"#);
        assert_eq!(masked(&["null,null"], r#"[null,null,"null,null"]"#), r#"[null,null,"*********"]"#);
        assert_eq!(masked(&["nnnnnnnn"], r#"["\nnnnnnnnnn"]"#), r#"["\n********n"]"#);
        assert_eq!(masked(&["00e4abcd"], r#"["\u00e4abcd00e4abcd"]"#), r#"["\u00e4abcd********"]"#);
        assert_eq!(
            masked(&["sk-longer", "sk-longer-2"], r#"["sk-longer-2 sk-longer"]"#),
            r#"["*********** *********"]"#
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_masked_as_well() {
        let value = Secret::new("sk-value".into());
        let mut bytes = b"\xff\xfesk-value\xc3(sk-value sk-valu\xe2\x82".to_vec();
        assert!(Mask(alloc::vec![&value]).bytes(&mut bytes));
        assert_eq!(bytes, b"\xff\xfe********\xc3(******** sk-valu\xe2\x82");
        assert!(!Mask(alloc::vec![&value]).bytes(&mut bytes), "nothing is left of it");
    }
}
