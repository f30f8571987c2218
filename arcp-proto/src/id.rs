//! Identifiers. Each kind has a type of its own, so that they cannot be confused.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::ParseError;
pub use crate::principal::{Issuer, Network, Principal};

/// A connection, numbered by the driver, which never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// An operation that the core asked for; the answer has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// A call of an agent that wants a reply; the reply has the same number. Unique among the
/// unanswered calls of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// A position in the log of records; positions start at 1 and have no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPos(pub u64);

/// An id as the peer wrote it: any non-empty text of at most 256 bytes.
///
/// ```
/// use arcp_proto::id::WireId;
/// assert!(WireId::new("msg_1").is_some());
/// assert!(WireId::new("").is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WireId(Arc<str>);

impl WireId {
    /// The longest id accepted, in bytes.
    pub const MAX: usize = 256;

    /// `None` if the text is empty or too long.
    pub fn new(text: &str) -> Option<WireId> {
        (1..=Self::MAX).contains(&text.len()).then(|| WireId(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ULID of a message id, if the text has the form that this runtime gives to them.
    pub(crate) fn message_ulid(&self) -> Option<Ulid> {
        Ulid::from_string(self.0.strip_prefix("msg_")?).ok()
    }
}

impl FromStr for WireId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<WireId, ParseError> {
        WireId::new(text).ok_or(ParseError::new("an id of 1 to 256 bytes"))
    }
}

impl fmt::Display for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An idempotency key, which the client chooses. The same key of the same principal gives the same
/// job for as long as [`Timing::key_window`](crate::runtime::Timing::key_window) (1.1 §7.2). Any
/// text of 1 to 256 bytes.
///
/// ```
/// use arcp_proto::id::IdempotencyKey;
/// let key: IdempotencyKey = "order-17".parse()?;
/// assert_eq!(key.as_str(), "order-17");
/// assert_eq!(IdempotencyKey::new(""), None);
/// # Ok::<(), arcp_proto::error::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const MAX: usize = 256;

    /// `None` if the text is empty or too long.
    pub fn new(text: &str) -> Option<IdempotencyKey> {
        (1..=Self::MAX).contains(&text.len()).then(|| IdempotencyKey(text.to_string()))
    }

    /// A unique key: `key_<ULID>`.
    pub fn from_ulid(ulid: Ulid) -> IdempotencyKey {
        IdempotencyKey(prefixed("key_", ulid))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<IdempotencyKey, ParseError> {
        IdempotencyKey::new(text).ok_or(ParseError::new("a key of 1 to 256 bytes"))
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = ParseError;

    fn try_from(text: String) -> Result<IdempotencyKey, ParseError> {
        text.parse()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> String {
        key.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! runtime_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(u128);

        impl $name {
            /// Makes the id from its ULID.
            pub fn from_ulid(ulid: Ulid) -> $name {
                $name(u128::from_be_bytes(ulid.to_bytes()))
            }

            /// The ULID: the time of creation, and 80 more bits.
            pub fn ulid(self) -> Ulid {
                Ulid::from_bytes(self.0.to_be_bytes())
            }

            /// The wire form.
            pub(crate) fn text(self) -> IdText {
                IdText::new($prefix, self.ulid())
            }

            /// Reads the wire form; `None` if this runtime cannot have made it.
            pub fn parse(text: &str) -> Option<$name> {
                let id = $name::from_ulid(Ulid::from_string(text.strip_prefix($prefix)?).ok()?);
                // The parser of ULIDs also accepts other spellings of the same number.
                (id.text().as_str() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$name> for WireId {
            fn from(id: $name) -> WireId {
                WireId(id.text().as_str().into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                prefixed($prefix, id.ulid())
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<$name, ParseError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<$name, ParseError> {
                $name::parse(text).ok_or(ParseError::new(concat!("an id of the form ", $prefix, "<ULID>")))
            }
        }
    };
}

/// A question of a job to people: `prm_<ULID of the job>_<number>` on the wire.
///
/// ```
/// use arcp_proto::id::PromptId;
/// let id: PromptId = "prm_01ARZ3NDEKTSV4RRFFQ69G5FAV_2".parse()?;
/// assert_eq!((id.to_string().as_str(), id.number), ("prm_01ARZ3NDEKTSV4RRFFQ69G5FAV_2", 2));
/// # Ok::<(), arcp_proto::error::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptId {
    /// The job.
    pub job: JobId,
    /// The number of the question in the job, from 1.
    pub number: u32,
}

impl fmt::Display for PromptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prm_{}_{}", self.job.ulid(), self.number)
    }
}

impl PromptId {
    /// The name of the lease that a permission granted for this question has:
    /// `lease_<ULID>_<number>`.
    pub fn lease(self) -> String {
        alloc::format!("lease_{}_{}", self.job.ulid(), self.number)
    }

    /// The question for which a lease of this name was granted.
    pub fn of_lease(text: &str) -> Option<PromptId> {
        alloc::format!("prm_{}", text.strip_prefix("lease_")?).parse().ok()
    }
}

impl FromStr for PromptId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<PromptId, ParseError> {
        let read = || {
            let (job, number) = text.strip_prefix("prm_")?.rsplit_once('_')?;
            let id = PromptId { job: JobId::from_ulid(Ulid::from_string(job).ok()?), number: number.parse().ok()? };
            // Both parsers accept other spellings of the same number.
            (alloc::format!("{id}") == text).then_some(id)
        };
        read().ok_or(ParseError::new("an id of the form prm_<ULID>_<number>"))
    }
}

runtime_id!(
    /// A session of this runtime: `sess_<ULID>` on the wire.
    SessionId,
    "sess_"
);
runtime_id!(
    /// A job of this runtime: `job_<ULID>` on the wire. Ids order by creation.
    JobId,
    "job_"
);

runtime_id!(
    /// A subscription of a session of this runtime: `sub_<ULID>` on the wire.
    SubscriptionId,
    "sub_"
);

/// A log of events, such as those of a job. In text and in a store it has the id of its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum LogId {
    /// The events of a job.
    Job(JobId),
}

impl LogId {
    /// The job whose events are in it.
    pub fn job(self) -> Option<JobId> {
        match self {
            LogId::Job(job) => Some(job),
        }
    }
}

impl From<JobId> for LogId {
    fn from(job: JobId) -> LogId {
        LogId::Job(job)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogId::Job(job) => fmt::Display::fmt(job, f),
        }
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LogId> for String {
    fn from(log: LogId) -> String {
        log.to_string()
    }
}

impl TryFrom<String> for LogId {
    type Error = ParseError;

    fn try_from(text: String) -> Result<LogId, ParseError> {
        JobId::try_from(text).map(LogId::Job)
    }
}

pub(crate) fn prefixed(prefix: &str, ulid: Ulid) -> String {
    IdText::new(prefix, ulid).as_str().to_string()
}

/// The text of an id, without an allocation: every frame has three.
pub(crate) struct IdText {
    text: [u8; IdText::MOST],
    length: usize,
}

impl IdText {
    /// The digits of a ULID.
    const DIGITS: usize = 26;
    /// The number of its last digits that are written from one word. They differ between messages
    /// of a session in one millisecond.
    pub(crate) const LAST: usize = 8;
    /// The longest prefix, and the digits.
    const MOST: usize = 6 + IdText::DIGITS;

    /// A prefix of at most six letters, and a ULID.
    pub(crate) fn new(prefix: &str, ulid: Ulid) -> IdText {
        let (mut text, before) = ([0; IdText::MOST], prefix.len());
        text[..before].copy_from_slice(prefix.as_bytes());
        // Twelve digits are sixty bits, so each part can be shifted as a word, which is faster.
        let whole = u128::from_be_bytes(ulid.to_bytes());
        let words = [(whole >> 120) as u64, (whole >> 60) as u64, whole as u64];
        let digits = &mut text[before..before + IdText::DIGITS];
        let (first, rest) = digits.split_at_mut(2);
        let (middle, last) = rest.split_at_mut(12);
        for (digits, word) in [first, middle, last].into_iter().zip(words) {
            write_digits(digits, word);
        }
        IdText { text, length: before + IdText::DIGITS }
    }

    /// The last digits of a ULID.
    pub(crate) fn last(ulid: Ulid) -> IdText {
        let mut text = [0; IdText::MOST];
        write_digits(&mut text[..IdText::LAST], ulid.0 as u64);
        IdText { text, length: IdText::LAST }
    }

    /// The bits before the last digits.
    pub(crate) fn before_last(ulid: Ulid) -> u128 {
        ulid.0 >> (5 * IdText::LAST)
    }

    pub(crate) fn as_str(&self) -> &str {
        // ASCII letters, digits and the zeros after them are valid UTF-8; checking the whole array
        // takes two steps.
        core::str::from_utf8(&self.text).map_or("", |text| &text[..self.length])
    }
}

/// Writes the lowest bits of a word, five for each digit.
fn write_digits(digits: &mut [u8], mut word: u64) {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(word & 0x1f) as usize];
        word >>= 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_one_thing_is_none_of_another() {
        let ulid = Ulid::from_bytes([7; 16]);
        let (job, session) = (JobId::from_ulid(ulid), SessionId::from_ulid(ulid));
        assert_eq!(JobId::parse(&job.to_string()), Some(job));
        assert_eq!(SessionId::parse(&session.to_string()), Some(session));
        for id in [WireId::from(session).as_str(), &ulid.to_string(), "job_", &job.to_string().to_lowercase()] {
            assert_eq!(JobId::parse(id), None, "{id}");
        }
        assert_eq!(SessionId::parse(&job.to_string()), None);
    }

    #[test]
    fn an_id_is_written_as_its_ulid_is() {
        for n in (0..128).map(|bit| 1_u128 << bit).chain([0, u128::MAX, 0x0123_4567_89AB_CDEF_1122_3344_5566_7788]) {
            let ulid = Ulid(n);
            assert_eq!(IdText::new("lease_", ulid).as_str(), alloc::format!("lease_{ulid}"));
            assert!(alloc::format!("{ulid}").ends_with(IdText::last(ulid).as_str()));
            assert_eq!(JobId::from_ulid(ulid).to_string(), alloc::format!("job_{ulid}"));
        }
    }

    #[test]
    fn one_id_has_one_spelling() {
        let id = SessionId::from_ulid(Ulid::from_parts(1_800_000_000_000, 0xABCD_EF01));
        let text = id.to_string();
        assert_eq!(SessionId::parse(&text), Some(id));
        let lower = alloc::format!("sess_{}", text["sess_".len()..].to_lowercase());
        assert_eq!(SessionId::parse(&lower), None);
        // 130 bits, of which the first two would be lost.
        let long = text.replacen("sess_0", "sess_8", 1);
        assert_eq!(SessionId::parse(&long), None);
    }
}
