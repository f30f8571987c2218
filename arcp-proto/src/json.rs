//! JSON as text. Client JSON is kept byte for byte; our own is written in a
//! fixed order. No value tree is ever built, so no other crate's features
//! can change what we write.

mod canonical;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// One JSON value, as the text it came in. Cloning is cheap.
///
/// Every `Json` is safe to hand to any peer at any replay: nested at most
/// [`Json::MAX_DEPTH`] deep, with paired surrogates and numbers that a
/// double can hold, and on one line: line ends between tokens became blanks,
/// so that no value is two frames on a transport of lines.
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
pub enum JsonError {
    /// Not JSON.
    #[error("not valid JSON near byte {at}")]
    Syntax {
        /// Roughly where.
        at: usize,
    },
    /// Nested too deep.
    #[error("JSON is nested deeper than {limit} levels")]
    Depth {
        /// The bound.
        limit: usize,
    },
    /// An escape that names half a character.
    #[error("unpaired surrogate escape at byte {at}")]
    Surrogate {
        /// Where.
        at: usize,
    },
    /// A number no double can hold.
    #[error("number out of range at byte {at}")]
    Number {
        /// Where.
        at: usize,
    },
    /// The same member twice in an object we read.
    #[error("duplicate member in a JSON object")]
    Duplicate,
    /// Not an object where one is needed.
    #[error("expected a JSON object")]
    NotAnObject,
}

impl Json {
    /// The deepest nesting a `Json` can have.
    pub const MAX_DEPTH: usize = 120;

    /// Checks and keeps a text.
    ///
    /// # Errors
    ///
    /// What makes the text unfit; see [`JsonError`].
    pub fn parse(text: &str) -> Result<Json, JsonError> {
        check(text, Self::MAX_DEPTH)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| JsonError::Syntax { at: e.column() })?;
        Ok(Json::of_checked(raw))
    }

    /// Serialises a value of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Json::parse`], also when the value has no JSON form.
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

    /// `null`.
    pub fn null() -> Json {
        Json("null".into())
    }

    /// Keeps text that passed [`check`] and the parser as part of its frame.
    pub(crate) fn of_checked(raw: &RawValue) -> Json {
        let text = raw.get();
        if !text.contains(['\n', '\r']) {
            return Json(Arc::from(text));
        }
        // No string holds one unescaped: these stand between tokens.
        Json(text.replace(['\n', '\r'], " ").into())
    }

    /// Keeps text this crate wrote itself.
    pub(crate) fn of_written(text: String) -> Json {
        Json(text.into())
    }

    /// The text, exactly as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes into a type of the caller's.
    ///
    /// # Errors
    ///
    /// The decoder's, when the shape does not fit.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The members of an object, in order, as raw text.
    ///
    /// # Errors
    ///
    /// `NotAnObject`, or `Duplicate` if a member comes twice.
    pub fn members(&self) -> Result<Members<'_>, JsonError> {
        Members::of(&self.0)
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The same value with sorted members and no white space: two texts that
    /// differ only in those have the same canonical form. Numbers keep their
    /// spelling.
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

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let raw: alloc::boxed::Box<RawValue> = Deserialize::deserialize(deserializer)?;
        Json::parse(raw.get()).map_err(serde::de::Error::custom)
    }
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

/// Scans a text once for what the JSON parser lets through and a peer would
/// choke on. Syntax is left to the parser.
pub(crate) fn check(text: &str, limit: usize) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = check_string(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return Err(JsonError::Depth { limit });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'0'..=b'9' => {
                let len = bytes[at..].iter().take_while(|b| is_number_byte(**b)).count();
                let token = &text[at..at + len];
                if may_overflow(token) && !token.parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(JsonError::Number { at });
                }
                at += len - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}

fn may_overflow(token: &str) -> bool {
    token.len() > 300 || token.bytes().any(|b| matches!(b, b'e' | b'E'))
}

/// Returns the position of the closing quote (or the end of the text).
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, JsonError> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => match unit(bytes, at) {
                Some(0xD800..=0xDBFF) => match unit(bytes, at + 6) {
                    Some(0xDC00..=0xDFFF) => at += 12,
                    _ => return Err(JsonError::Surrogate { at }),
                },
                Some(0xDC00..=0xDFFF) => return Err(JsonError::Surrogate { at }),
                _ => at += 2,
            },
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The UTF-16 unit of a `\u` escape at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let hex = core::str::from_utf8(&escape[2..]).ok()?;
    (escape.starts_with(b"\\u")).then(|| u16::from_str_radix(hex, 16).ok()).flatten()
}

/// The members of one object, in order, values as raw text.
#[derive(Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// Splits an object.
    ///
    /// # Errors
    ///
    /// `NotAnObject`, `Syntax`, or `Duplicate`.
    pub fn of(text: &'a str) -> Result<Members<'a>, JsonError> {
        if !text.trim_start().starts_with('{') {
            return Err(JsonError::NotAnObject);
        }
        let members: Members<'a> = serde_json::from_str(text).map_err(|e| JsonError::Syntax { at: e.column() })?;
        let mut names: Vec<&str> = members.0.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(JsonError::Duplicate);
        }
        Ok(members)
    }

    /// The raw text of a member.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// A member that must be a string, decoded.
    pub fn get_str(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// Renames the first of `aliases` that is there, unless `name` is.
    pub fn rename(&mut self, aliases: &[&'static str], name: &'static str) {
        if self.get(name).is_some() {
            return;
        }
        if let Some(member) = self.0.iter_mut().find(|(member, _)| aliases.contains(&member.as_ref())) {
            member.0 = Cow::Borrowed(name);
        }
    }

    /// Writes the members as an object again.
    pub fn to_json(&self) -> Json {
        let mut object = Object::new();
        for (name, value) in &self.0 {
            object.raw(name, value);
        }
        Json::of_written(object.done())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Walk<'a>(core::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Walk<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk(core::marker::PhantomData))
    }
}

/// A string that borrows where it has no escapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Writes one JSON object, members in the order of the calls.
#[derive(Debug)]
pub struct Object {
    out: String,
}

impl Default for Object {
    fn default() -> Object {
        Object::new()
    }
}

impl Object {
    /// An empty object.
    pub fn new() -> Object {
        Object { out: String::from("{") }
    }

    /// An empty object with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Object {
        let mut out = String::with_capacity(bytes + 2);
        out.push('{');
        Object { out }
    }

    /// A string member.
    pub fn str(&mut self, name: &str, value: &str) -> &mut Object {
        self.name(name);
        push_string(&mut self.out, value);
        self
    }

    /// A string member, if there is a value.
    pub fn opt_str(&mut self, name: &str, value: Option<&str>) -> &mut Object {
        if let Some(value) = value {
            self.str(name, value);
        }
        self
    }

    /// A member that prints as a string without escapes.
    pub fn display(&mut self, name: &str, value: impl fmt::Display) -> &mut Object {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.out, "\"{value}\"");
        self
    }

    /// An unsigned number.
    pub fn u64(&mut self, name: &str, value: u64) -> &mut Object {
        self.name(name);
        let _ = write!(self.out, "{value}");
        self
    }

    /// A boolean.
    pub fn bool(&mut self, name: &str, value: bool) -> &mut Object {
        self.raw(name, if value { "true" } else { "false" })
    }

    /// A member whose value is JSON text already.
    pub fn raw(&mut self, name: &str, json: &str) -> &mut Object {
        self.name(name);
        self.out.push_str(json);
        self
    }

    /// A JSON member, if there is a value.
    pub fn opt_json(&mut self, name: &str, value: Option<&Json>) -> &mut Object {
        if let Some(json) = value {
            self.raw(name, json.as_str());
        }
        self
    }

    /// An object member, written by `fill`.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object)) -> &mut Object {
        let mut inner = Object::new();
        fill(&mut inner);
        let text = inner.done();
        self.raw(name, &text)
    }

    /// An array member of texts already in JSON.
    pub fn array<T: AsRef<str>>(&mut self, name: &str, items: impl IntoIterator<Item = T>) -> &mut Object {
        self.name(name);
        self.out.push('[');
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.out.push(',');
            }
            self.out.push_str(item.as_ref());
        }
        self.out.push(']');
        self
    }

    /// The finished object.
    pub fn done(mut self) -> String {
        self.out.push('}');
        self.out
    }

    /// The finished object, as [`Json`].
    pub fn json(self) -> Json {
        Json::of_written(self.done())
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        push_string(&mut self.out, name);
        self.out.push(':');
    }
}

/// Appends a JSON string literal.
pub(crate) fn push_string(out: &mut String, content: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    out.reserve(content.len() + 2);
    out.push('"');
    // Without a way out of the loop it is done many bytes at once.
    if content.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.push_str(content);
        return out.push('"');
    }
    let mut clean = 0;
    for (at, byte) in content.bytes().enumerate() {
        if is_plain(byte) {
            continue;
        }
        out.push_str(&content[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&content[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn canonical_form_ignores_order_and_white_space() {
        let a = Json::parse("{ \"b\" : [1, 2.0 ,{\"y\":1,\"x\":\"\\u0041\"}], \"a\": \"q\\n\" }").expect("valid");
        let b = Json::parse(r#"{"a":"q\n","b":[1,2.0,{"x":"A","y":1}]}"#).expect("valid");
        assert_eq!(a.canonical(), b.as_str());
        assert_eq!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn no_value_holds_a_line_end() {
        let json = Json::parse("{\"a\":\n[1,\r\n2]}").expect("valid");
        assert_eq!(json.as_str(), "{\"a\": [1,  2]}");
        assert!(Json::parse("\"a\nb\"").is_err());
    }

    #[test]
    fn poison_is_refused() {
        let deep = "[".repeat(121) + &"]".repeat(121);
        assert_eq!(Json::parse(&deep), Err(JsonError::Depth { limit: 120 }));
        assert!(Json::parse(&("[".repeat(120) + &"]".repeat(120))).is_ok());
        assert_eq!(Json::parse(r#""\ud800""#), Err(JsonError::Surrogate { at: 1 }));
        assert_eq!(Json::parse(r#""\udc00 x""#), Err(JsonError::Surrogate { at: 1 }));
        assert!(Json::parse(r#""\ud83d\ude00 \\ud800""#).is_ok());
        assert_eq!(Json::parse("[1e999]"), Err(JsonError::Number { at: 1 }));
        assert!(Json::parse("1e308").is_ok());
        assert!(Json::parse("{\"a\":1").is_err());
        assert!(Json::parse("NaN").is_err());
        assert!(Json::parse("\"a\u{1}b\"").is_err());
    }

    #[test]
    fn strings_round_trip() {
        let text = "plain \" \\ \n\r\t \u{1} \u{1F600}";
        let json = Json::string(text);
        assert_eq!(json.decode::<String>().ok(), Some(text.to_string()));
        assert_eq!(Json::parse(json.as_str()), Ok(json));
    }

    #[test]
    fn members_refuse_duplicates() {
        assert!(matches!(Members::of(r#"{"a":1,"\u0061":2}"#), Err(JsonError::Duplicate)));
        assert!(matches!(Members::of("[]"), Err(JsonError::NotAnObject)));
    }
}
