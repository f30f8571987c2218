//! Writes JSON objects, and escapes their strings.

use alloc::string::String;
use core::fmt::{self, Write as _};

use ulid::Ulid;

use super::Json;
use super::pass::after_plain;
use crate::id::IdText;
use crate::time::UtcMs;

/// The initial capacity, which most objects do not exceed.
const ROOM: usize = 126;

/// Writes one JSON object, with the members in the order of the calls.
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
        Object::with_capacity(ROOM)
    }

    /// An empty object with capacity for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Object {
        let mut out = String::with_capacity(bytes + 2);
        out.push('{');
        Object { out }
    }

    /// An empty object in a reused buffer, with capacity for `bytes`.
    pub(crate) fn reusing(mut buffer: String, bytes: usize) -> Object {
        buffer.clear();
        buffer.reserve(bytes + 2);
        buffer.push('{');
        Object { out: buffer }
    }

    /// A string member.
    pub fn str(&mut self, name: &'static str, value: &str) -> &mut Object {
        self.name(name);
        push_string(&mut self.out, value);
        self
    }

    /// A string member, if there is a value.
    pub fn opt_str(&mut self, name: &'static str, value: Option<&str>) -> &mut Object {
        if let Some(value) = value {
            self.str(name, value);
        }
        self
    }

    /// A string member whose text has nothing to escape.
    pub fn display(&mut self, name: &'static str, value: impl fmt::Display) -> &mut Object {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.out, "\"{value}\"");
        self
    }

    /// An id, as text.
    pub(crate) fn id(&mut self, name: &'static str, prefix: &str, ulid: Ulid) -> &mut Object {
        self.name(name);
        self.out.push('"');
        self.out.push_str(IdText::new(prefix, ulid).as_str());
        self.out.push('"');
        self
    }

    /// Continues in a reused buffer after the beginning of another object, with capacity for
    /// `bytes` more.
    pub(crate) fn begun(mut buffer: String, beginning: &str, bytes: usize) -> Object {
        buffer.clear();
        buffer.reserve(beginning.len() + bytes + 1);
        buffer.push_str(beginning);
        Object { out: buffer }
    }

    /// The text so far.
    pub(crate) fn unfinished(self) -> String {
        self.out
    }

    /// The last digits of an id whose other digits were written before.
    pub(crate) fn last_digits(&mut self, ulid: Ulid) -> &mut Object {
        self.out.push_str(IdText::last(ulid).as_str());
        self.out.push('"');
        self
    }

    /// Members that were written before, separated by commas; may be empty.
    pub(crate) fn members(&mut self, written: &str) -> &mut Object {
        if !written.is_empty() {
            self.next();
            self.out.push_str(written);
        }
        self
    }

    /// A time, as text.
    pub(crate) fn time(&mut self, name: &'static str, at: UtcMs) -> &mut Object {
        self.name(name);
        self.out.push('"');
        self.out.push_str(at.text().as_str());
        self.out.push('"');
        self
    }

    /// An unsigned number.
    pub fn u64(&mut self, name: &'static str, value: u64) -> &mut Object {
        self.name(name);
        push_number(&mut self.out, value);
        self
    }

    /// A boolean.
    pub fn bool(&mut self, name: &'static str, value: bool) -> &mut Object {
        self.raw(name, if value { "true" } else { "false" })
    }

    /// A member whose value is JSON text.
    pub fn raw(&mut self, name: &'static str, json: &str) -> &mut Object {
        self.name(name);
        self.out.push_str(json);
        self
    }

    /// A member with any name, whose value is JSON text.
    pub fn member(&mut self, name: &str, json: &str) -> &mut Object {
        self.any_name(name);
        self.out.push_str(json);
        self
    }

    /// A member of another object, whose name has its escapes already.
    pub(crate) fn written(&mut self, name: &str, json: &str) -> &mut Object {
        self.next();
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out.push_str(json);
        self
    }

    /// A JSON member, if there is a value.
    pub fn opt_json(&mut self, name: &'static str, value: Option<&Json>) -> &mut Object {
        if let Some(json) = value {
            self.raw(name, json.as_str());
        }
        self
    }

    /// An object member, written by `fill`.
    pub fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Object)) -> &mut Object {
        self.name(name);
        self.out.push('{');
        fill(self);
        self.out.push('}');
        self
    }

    /// An array member with any name, whose items are JSON texts.
    pub fn array<T: AsRef<str>>(&mut self, name: &str, items: impl IntoIterator<Item = T>) -> &mut Object {
        self.any_name(name);
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

    /// Its members, to be written into other objects.
    pub(crate) fn into_members(mut self) -> String {
        self.out.remove(0);
        self.out
    }

    /// An empty object in a reused buffer: see [`json_and_buffer`](Self::json_and_buffer).
    pub fn in_buffer(buffer: String) -> Object {
        Object::reusing(buffer, 0)
    }

    /// The finished object as [`Json`], and its buffer, to be reused for the next object. Each
    /// object then takes one allocation, of its size.
    ///
    /// ```
    /// use arcp_proto::json::Object;
    /// let mut object = Object::in_buffer(String::with_capacity(64));
    /// object.u64("a", 1);
    /// let (json, buffer) = object.json_and_buffer();
    /// assert_eq!((json.as_str(), buffer.capacity()), (r#"{"a":1}"#, 64));
    /// ```
    pub fn json_and_buffer(mut self) -> (Json, String) {
        self.out.push('}');
        (Json::copied(&self.out), self.out)
    }

    /// The finished object, as [`Json`].
    pub fn json(self) -> Json {
        Json::from_written(self.done())
    }

    /// Begins a member whose name is known here and has nothing to escape.
    fn name(&mut self, name: &'static str) {
        debug_assert!(name.bytes().all(is_plain), "{name} needs escapes");
        self.next();
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    fn any_name(&mut self, name: &str) {
        self.next();
        push_string(&mut self.out, name);
        self.out.push(':');
    }

    fn next(&mut self) {
        if self.out.as_bytes().last() != Some(&b'{') {
            self.out.push(',');
        }
    }
}

/// Appends a number in decimal digits.
fn push_number(out: &mut String, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    // ASCII digits are valid UTF-8.
    out.push_str(core::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Whether a byte needs no escape in a string.
fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Whether a text needs no escape in a string.
fn is_plain_text(text: &[u8]) -> bool {
    /// The length in bytes from which a vectorised loop is faster.
    const MANY: usize = 64;
    if text.len() < MANY {
        return after_plain(text, 0) == text.len();
    }
    // A loop without an early exit is vectorised.
    text.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// Appends a JSON string literal.
pub(crate) fn push_string(out: &mut String, content: &str) {
    out.reserve(content.len() + 2);
    out.push('"');
    if is_plain_text(content.as_bytes()) {
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
    fn numbers_are_written_in_decimal_digits() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::MAX / 10, u64::MAX] {
            let mut object = Object::new();
            object.u64("n", number);
            assert_eq!(object.done(), alloc::format!("{{\"n\":{number}}}"));
        }
    }

    #[test]
    fn strings_round_trip() {
        let text = "plain \" \\ \n\r\t \u{1} \u{1F600}";
        let json = Json::string(text);
        assert_eq!(json.decode::<String>().ok(), Some(text.to_string()));
        assert_eq!(Json::parse(json.as_str()), Ok(json));
    }
}
