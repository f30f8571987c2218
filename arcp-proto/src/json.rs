//! JSON as text. JSON of clients is kept byte for byte; that of this crate is written in a fixed
//! order. No value tree is built, so features that other crates enable in `serde_json` cannot
//! change what is written.

mod canonical;
mod check;
mod entries;
mod members;
mod object;
mod pass;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::de::value::{BorrowedStrDeserializer, Error as ValueError, MapDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

pub(crate) use check::check;
pub(crate) use entries::Entries;
pub use members::Members;
pub(crate) use members::{Raw, Text};
pub use object::Object;
pub(crate) use object::push_string;
pub(crate) use pass::{Member, Once, members};

/// A JSON value, as the text in which it came. Cloning is cheap.
///
/// Every `Json` can be sent to any peer at any time: it is nested at most [`Json::MAX_DEPTH`] deep,
/// has paired surrogates and numbers that a double can hold, and is on one line. Line ends between
/// tokens become blanks, so that no value is split into two frames on a transport of lines.
///
/// ```
/// use arcp_proto::json::Json;
/// let json = Json::parse(r#"{"b": 1.50, "a": null}"#).unwrap();
/// assert_eq!(json.as_str(), r#"{"b": 1.50, "a": null}"#);
/// assert_eq!(json.canonical(), r#"{"a":null,"b":1.50}"#);
/// assert!(Json::parse("1e999").is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// Why a text was refused as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON.
    #[error("not valid JSON near byte {at}")]
    Syntax {
        /// The approximate position, in bytes.
        at: usize,
    },
    /// Nested too deep.
    #[error("JSON is nested deeper than {limit} levels")]
    Depth {
        /// The bound.
        limit: usize,
    },
    /// An escape of a surrogate without its other half.
    #[error("unpaired surrogate escape at byte {at}")]
    Surrogate {
        /// The position of the escape, in bytes.
        at: usize,
    },
    /// A number that no double can hold.
    #[error("number out of range at byte {at}")]
    Number {
        /// The position of the number, in bytes.
        at: usize,
    },
    /// The same member twice in an object that this crate reads.
    #[error("duplicate member in a JSON object")]
    Duplicate,
    /// A value that is no object where one is needed.
    #[error("expected a JSON object")]
    NotAnObject,
}

impl Json {
    /// The deepest nesting a `Json` can have.
    pub const MAX_DEPTH: usize = 120;

    /// Checks a text and keeps it.
    ///
    /// # Errors
    ///
    /// Why the text is refused; see [`JsonError`].
    pub fn parse(text: &str) -> Result<Json, JsonError> {
        if let Some(raw) = pass::value(text, Self::MAX_DEPTH) {
            return Ok(Json::from_checked(raw));
        }
        check(text, Self::MAX_DEPTH)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| JsonError::Syntax { at: e.column() })?;
        Ok(Json::from_checked(raw))
    }

    /// Serialises a value of the caller.
    ///
    /// # Errors
    ///
    /// Like those of [`Json::parse`]; also if the value has no JSON form.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Json, JsonError> {
        let text = serde_json::to_string(value).map_err(|_| JsonError::Syntax { at: 0 })?;
        Json::parse(&text)
    }

    /// A JSON string with this content.
    pub fn string(content: &str) -> Json {
        let mut out = String::with_capacity(content.len() + 2);
        push_string(&mut out, content);
        Json(out.into())
    }

    /// The empty object.
    pub fn empty_object() -> Json {
        Json("{}".into())
    }

    /// Whether the text is that of [`empty_object`](Self::empty_object). Every event asks this
    /// about a lease, so it does not allocate.
    pub(crate) fn is_empty_object(&self) -> bool {
        &*self.0 == "{}"
    }

    /// `null`.
    pub fn null() -> Json {
        Json("null".into())
    }

    /// Keeps text that passed `check` and the parser as part of its frame.
    pub(crate) fn from_checked<'a>(raw: impl Into<Raw<'a>>) -> Json {
        let Raw(text) = raw.into();
        // A loop without an early exit is vectorised.
        if !text.bytes().fold(false, |found, byte| found | (byte == b'\n') | (byte == b'\r')) {
            return Json(Arc::from(text));
        }
        // Strings have them escaped, so these are between tokens.
        Json(text.replace(['\n', '\r'], " ").into())
    }

    /// Keeps text that this crate wrote.
    pub(crate) fn from_written(text: String) -> Json {
        Json(text.into())
    }

    /// Keeps a copy of text that this crate wrote.
    pub(crate) fn copied(text: &str) -> Json {
        Json(text.into())
    }

    /// The text, exactly as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes the value into a type of the caller.
    ///
    /// # Errors
    ///
    /// Those of the decoder, if the value does not fit the type.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The members of an object, in order, as raw text.
    ///
    /// # Errors
    ///
    /// `NotAnObject`; `Duplicate` if a member comes twice.
    pub fn members(&self) -> Result<Members<'_>, JsonError> {
        Members::parse(&self.0)
    }

    /// The members one after the other, with their names as they are written: for texts in which
    /// the names that this crate knows have no escapes.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries::new(&self.0)
    }

    /// The raw text of a member of an object in which the names that this crate knows have no
    /// escapes, such as the body of a stored event.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        // Usually the member is absent, which a search of the bytes shows.
        let has_name = self.0.contains(name);
        has_name.then(|| self.entries().find(|(member, _)| *member == name)).flatten().map(|(_, value)| value)
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The same value with sorted members and without white space. Texts that differ only in these
    /// have the same canonical form. Numbers keep their spelling.
    pub fn canonical(&self) -> String {
        canonical::canonical(&self.0)
    }

    /// SHA-256 of the canonical form.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.canonical().as_bytes()).into()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Json, JsonError> {
        Json::parse(text)
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_it_stands(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// A JSON text, to be written unchanged. It is not parsed again, unless `serde_json` gives the
/// private type another name.
fn as_it_stands(text: &str) -> serde_json::Result<&RawValue> {
    let named = ("$serde_json::private::RawValue", BorrowedStrDeserializer::new(text));
    let value: Result<&RawValue, ValueError> = Deserialize::deserialize(MapDeserializer::new([named].into_iter()));
    value.or_else(|_| serde_json::from_str(text))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let raw: alloc::boxed::Box<RawValue> = Deserialize::deserialize(deserializer)?;
        Json::parse(raw.get()).map_err(serde::de::Error::custom)
    }
}

/// Base64 with padding.
///
/// ```
/// assert_eq!(arcp_proto::json::encode_base64(b"hi"), "aGk=");
/// ```
pub fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Decodes base64 with padding; `None` if it is not that.
///
/// ```
/// assert_eq!(arcp_proto::json::decode_base64("aGk="), Some(b"hi".to_vec()));
/// assert_eq!(arcp_proto::json::decode_base64("aGk"), None);
/// ```
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// Reads an optional value for which `null` is not the same as absence.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_ignores_order_and_white_space() {
        let a = Json::parse("{ \"b\" : [1, 2.0 ,{\"y\":1,\"x\":\"\\u0041\"}], \"a\": \"q\\n\" }").expect("valid");
        let b = Json::parse(r#"{"a":"q\n","b":[1,2.0,{"x":"A","y":1}]}"#).expect("valid");
        assert_eq!(a.canonical(), b.as_str());
        assert_eq!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn what_is_json_is_written_as_it_stands_and_not_read_again() {
        let json = Json::parse(r#"{"a" : [1, "b\u0041"]}"#).expect("valid");
        assert_eq!(serde_json::to_string(&[&json]).expect("JSON"), alloc::format!("[{json}]"));
        // If it were parsed again, this would fail.
        assert_eq!(as_it_stands("no JSON").expect("as it stands").get(), "no JSON");
    }

    #[test]
    fn no_value_holds_a_line_end() {
        let json = Json::parse("{\"a\":\n[1,\r\n2]}").expect("valid");
        assert_eq!(json.as_str(), "{\"a\": [1,  2]}");
        assert!(Json::parse("\"a\nb\"").is_err());
    }
}
