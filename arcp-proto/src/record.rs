//! Recording a runtime and replaying it, byte for byte.
//!
//! A recording is text, one JSON object per line: a header with
//! configuration and seeds, then every input as it came in (before it was
//! decoded) and every output as it was taken.
//!
//! **A recording is a secret**: it holds tokens, seeds and everything that clients
//! sent. It is off by default. Values of credentials that were issued for jobs are replaced by
//! others of the same length, so that the recording still replays. The replacements are made from
//! the seeds, so a client that does not know the seeds cannot send one on purpose.

mod redaction;

use alloc::string::{String, ToString as _};

use serde::{Deserialize, Serialize};

use self::redaction::Redaction;
use crate::entropy::Seeds;
use crate::error::ConfigError;
use crate::runtime::{Config, Input, Output, Runtime};
use crate::time::Now;

/// The version of the format.
pub const FORMAT: u32 = 3;
/// The oldest version that was released, and can still be read.
const OLDEST: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Head {
    arcp_record: u32,
    version: String,
    config: Config,
    seeds: Seeds,
    now: Now,
}

#[derive(Serialize)]
struct InputLine<'a> {
    at: Now,
    #[serde(rename = "in")]
    input: &'a Input,
}

#[derive(Serialize)]
struct OutputLine<'a> {
    out: &'a Output,
}

#[derive(Deserialize)]
struct Line {
    at: Option<Now>,
    #[serde(rename = "in")]
    input: Option<Input>,
    out: Option<Output>,
}

/// Writes a recording beside a running [`Runtime`].
///
/// ```
/// use arcp_proto::{entropy::Seeds, record, runtime::{Config, Input, Runtime}, time::Now};
/// let (config, now) = (Config::new("doc", "1"), Now::default());
/// let seeds = Seeds { public: [1; 32], secret: [2; 32] };
/// let mut recorder = record::Recorder::new(&config, &seeds, now);
/// let mut runtime = Runtime::new(config, seeds, now)?;
///
/// recorder.input(now, &Input::Tick);
/// runtime.handle(now, Input::Tick);
/// while let Some(output) = runtime.poll_output() {
///     recorder.output(&output);
/// }
/// assert_eq!(record::replay(&recorder.take()).map(|r| r.inputs), Ok(1));
/// # Ok::<(), arcp_proto::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    text: String,
    redaction: Redaction,
}

impl Recorder {
    /// A recorder for a runtime made with these.
    pub fn new(config: &Config, seeds: &Seeds, now: Now) -> Recorder {
        let head = Head {
            arcp_record: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            config: config.clone(),
            seeds: seeds.clone(),
            now,
        };
        let mut recorder = Recorder { text: String::new(), redaction: Redaction::new(seeds) };
        recorder.line(&head);
        recorder
    }

    /// Records an input that is about to be handled, after [`mask`](crate::runtime::mask).
    pub fn input(&mut self, at: Now, input: &Input) {
        let redacted = self.redaction.learn(input);
        self.line(&InputLine { at, input: redacted.as_ref().unwrap_or(input) });
    }

    /// Records an output that was taken.
    pub fn output(&mut self, out: &Output) {
        self.redaction.note(out);
        self.line(&OutputLine { out });
    }

    /// The text written since the last call.
    pub fn take(&mut self) -> String {
        core::mem::take(&mut self.text)
    }

    fn line<T: Serialize>(&mut self, value: &T) {
        // Every recorded type has a JSON form, so this cannot fail.
        if let Ok(line) = serde_json::to_string(value) {
            self.text.push_str(&self.redaction.redacted(line));
            self.text.push('\n');
        }
    }
}

/// A replay whose outputs were all as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// The number of inputs.
    pub inputs: usize,
    /// The number of outputs compared, all equal.
    pub outputs: usize,
}

/// Why a replay failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The text is no recording of a known format.
    #[error("line {line}: {why}")]
    Unreadable {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The last line has no end. The outputs before it were as recorded.
    #[error(
        "line {line} is cut short, as if its writer was ended; the {inputs} inputs before it gave the same {outputs} outputs"
    )]
    CutShort {
        /// The line, from 1.
        line: usize,
        /// The number of inputs.
        inputs: usize,
        /// The number of outputs compared, all equal.
        outputs: usize,
    },
    /// The recorded configuration cannot work.
    #[error("the recorded configuration: {0}")]
    Config(#[from] ConfigError),
    /// An output differs; the first that does.
    #[error("line {line}: the output differs\n  recorded: {recorded}\n  replayed: {replayed}")]
    Different {
        /// The line, from 1.
        line: usize,
        /// The recorded output.
        recorded: String,
        /// The output of the replay; empty if there was none.
        replayed: String,
    },
}

/// Feeds a recording to a fresh runtime and compares every output.
///
/// # Errors
///
/// [`ReplayError`], with the first line that differs.
pub fn replay(text: &str) -> Result<Replayed, ReplayError> {
    let unreadable = |line: usize, error: &serde_json::Error| ReplayError::Unreadable { line, why: error.to_string() };
    let (last, is_cut) = (text.lines().count().saturating_sub(1), !text.ends_with('\n'));
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().unwrap_or((0, ""));
    let head: Head = serde_json::from_str(first).map_err(|e| unreadable(1, &e))?;
    if !(OLDEST..=FORMAT).contains(&head.arcp_record) {
        let why = alloc::format!("format {} is not known, only {OLDEST} to {FORMAT}", head.arcp_record);
        return Err(ReplayError::Unreadable { line: 1, why });
    }
    let mut runtime = Runtime::new(head.config, head.seeds, head.now)?;
    let mut done = Replayed { inputs: 0, outputs: 0 };
    for (at, text) in lines.filter(|(_, text)| !text.is_empty()) {
        let line: Line = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(_) if at == last && is_cut => {
                return Err(ReplayError::CutShort { line: at + 1, inputs: done.inputs, outputs: done.outputs });
            }
            Err(error) => return Err(unreadable(at + 1, &error)),
        };
        if let (Some(now), Some(input)) = (line.at, line.input) {
            runtime.handle(now, input);
            done.inputs += 1;
        }
        if let Some(recorded) = line.out {
            let replayed = runtime.poll_output();
            if replayed.as_ref() != Some(&recorded) {
                let replayed = replayed.map(|output| printed(&output)).unwrap_or_default();
                return Err(ReplayError::Different { line: at + 1, recorded: printed(&recorded), replayed });
            }
            done.outputs += 1;
        }
    }
    Ok(done)
}

fn printed(output: &Output) -> String {
    serde_json::to_string(output).unwrap_or_default()
}

/// Like [`frame_text`], for an optional value.
pub(crate) mod maybe_text {
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct There(#[serde(with = "super::frame_text")] Vec<u8>);

    #[allow(clippy::ref_option, reason = "serde gives it so")]
    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(There).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<There>::deserialize(deserializer)?.map(|There(bytes)| bytes))
    }
}

/// Bytes as text if they are UTF-8, so that people can read a recording.
pub(crate) mod frame_text {
    use alloc::string::String;
    use alloc::vec::Vec;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Frame {
        #[serde(rename = "text")]
        Text(String),
        #[serde(rename = "base64")]
        Base64(String),
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match core::str::from_utf8(bytes) {
            Ok(text) => Frame::Text(text.into()),
            Err(_) => Frame::Base64(STANDARD.encode(bytes)),
        }
        .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        match Frame::deserialize(deserializer)? {
            Frame::Text(text) => Ok(text.into_bytes()),
            Frame::Base64(text) => STANDARD.decode(text).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Principal;
    use crate::runtime::Verdict;
    use crate::time::UtcMs;

    #[test]
    fn a_recording_from_before_credentials_expired_is_read() {
        let read = |verdict: &str| {
            let input = alloc::format!(r#"{{"Authenticated":{{"op":1,{verdict}}}}}"#);
            let input = serde_json::from_str(&input).expect("an input");
            let Input::Authenticated { verdict, .. } = &input else { panic!("{input:?}") };
            let again = serde_json::to_string(&input).expect("JSON");
            assert_eq!(serde_json::from_str::<Input>(&again).expect("an input"), input);
            verdict.clone()
        };
        let alice = Verdict::from(Principal::new("alice").expect("a name"));
        assert_eq!(read(r#""principal":"alice""#), Some(alice.clone()));
        assert_eq!(read(r#""principal":null"#), None);
        let until = Some(UtcMs(1_800_000_000_000));
        let prolonged = Verdict { expires_at: until, ..alice };
        assert_eq!(read(r#""verdict":{"principal":"alice","expires_at":1800000000000}"#), Some(prolonged));
    }

    #[test]
    fn a_recording_whose_last_line_is_cut_short_says_so_and_what_came_out_before() {
        let (config, now) = (Config::new("r", "1"), Now::default());
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut recorder = Recorder::new(&config, &seeds, now);
        recorder.input(now, &Input::Tick);
        recorder.input(now, &Input::Tick);
        let whole = recorder.take();
        assert_eq!(replay(whole.trim_end()).map(|replayed| replayed.inputs), Ok(2), "a line that only lacks its end");
        let cut = &whole[..whole.len() - 4];
        assert_eq!(replay(cut), Err(ReplayError::CutShort { line: 3, inputs: 1, outputs: 0 }));
        let damaged = whole.replacen("\"in\"", "in", 1);
        assert!(matches!(replay(&damaged), Err(ReplayError::Unreadable { line: 2, .. })));
    }

    #[test]
    fn a_recording_from_before_a_bound_was_added_is_read() {
        let (config, now) = (Config::new("r", "1"), Now::default());
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut recorder = Recorder::new(&config, &seeds, now);
        let mut runtime = Runtime::new(config.clone(), seeds, now).expect("valid");
        recorder.input(now, &Input::Tick);
        runtime.handle(now, Input::Tick);
        let recorded = recorder.take();
        let limits = serde_json::to_string(&config.limits).expect("JSON");
        assert!(recorded.contains(&limits));
        for older in ["{}", r#"{"frame_bytes":4194304}"#] {
            let older = recorded.replacen(&limits, older, 1).replacen(r#""operators":[],"#, "", 1);
            assert_eq!(replay(&older).map(|replayed| replayed.inputs), Ok(1));
        }
    }
}
