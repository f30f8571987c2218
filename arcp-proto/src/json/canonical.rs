//! The canonical form of a JSON text: members sorted, no white space.
//!
//! Each byte is read a bounded number of times, however deeply nested it is: a first walk notes
//! where each object and array ends, so that the second one skips a member's value in one step and
//! writes it once.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Text, push_string};

/// Writes the canonical form of `source`, which is valid JSON.
pub(super) fn canonical(source: &str) -> String {
    let walk = Walk { source, text: source.as_bytes(), ends: ends(source.as_bytes()) };
    let mut out = String::with_capacity(source.len());
    walk.write(0, &mut out);
    out
}

/// The beginning of each object and array, and the byte after its end, in the order of the
/// beginnings.
fn ends(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut ends, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = after_string(text, at);
                continue;
            }
            b'{' | b'[' => {
                open.push(ends.len());
                ends.push((at, text.len()));
            }
            b'}' | b']' => {
                if let Some(entry) = open.pop().and_then(|which: usize| ends.get_mut(which)) {
                    entry.1 = at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    ends
}

/// The byte after the string that begins at `at`.
fn after_string(text: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

struct Walk<'a> {
    source: &'a str,
    text: &'a [u8],
    ends: Vec<(usize, usize)>,
}

impl<'a> Walk<'a> {
    /// Writes the value that begins at `at`, or after the blanks there.
    fn write(&self, at: usize, out: &mut String) {
        let at = self.after_blanks(at);
        match self.byte(at) {
            b'{' => self.write_object(at, out),
            b'[' => self.write_array(at, out),
            b'"' => push_string(out, &self.string(at)),
            _ => out.push_str(&self.source[at..self.after_value(at)]),
        }
    }

    fn write_object(&self, at: usize, out: &mut String) {
        let mut members: Vec<(Cow<'a, str>, usize)> = Vec::new();
        let mut at = self.after_blanks(at + 1);
        while self.byte(at) == b'"' {
            let name = self.string(at);
            let colon = self.after_blanks(after_string(self.text, at));
            let value = self.after_blanks(colon + 1);
            members.push((name, value));
            at = self.after_separator(self.after_value(value));
        }
        // Of a name that occurs twice the last value counts.
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let last =
            |(n, (name, _)): &(usize, &(Cow<'a, str>, usize))| members.get(n + 1).is_none_or(|(next, _)| next != name);
        out.push('{');
        for (n, (_, (name, value))) in members.iter().enumerate().filter(last).enumerate() {
            if n > 0 {
                out.push(',');
            }
            push_string(out, name);
            out.push(':');
            self.write(*value, out);
        }
        out.push('}');
    }

    fn write_array(&self, at: usize, out: &mut String) {
        out.push('[');
        let mut at = self.after_blanks(at + 1);
        let mut first = true;
        while !matches!(self.byte(at), b']' | 0) {
            if !core::mem::take(&mut first) {
                out.push(',');
            }
            self.write(at, out);
            at = self.after_separator(self.after_value(at));
        }
        out.push(']');
    }

    fn string(&self, at: usize) -> Cow<'a, str> {
        let literal = &self.source[at..after_string(self.text, at)];
        serde_json::from_str(literal).map_or(Cow::Borrowed(literal), |Text(text)| text)
    }

    /// The byte after the value that begins at `at`.
    fn after_value(&self, at: usize) -> usize {
        match self.byte(at) {
            b'{' | b'[' => {
                let which = self.ends.binary_search_by_key(&at, |(begin, _)| *begin);
                which.ok().and_then(|which| self.ends.get(which)).map_or(self.text.len(), |(_, end)| *end)
            }
            b'"' => after_string(self.text, at),
            _ => {
                let rest = self.text.get(at..).unwrap_or_default();
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                at + rest.iter().position(ends).unwrap_or(rest.len())
            }
        }
    }

    /// The next member or element, or the end of the object or array.
    fn after_separator(&self, at: usize) -> usize {
        let at = self.after_blanks(at);
        if self.byte(at) == b',' { self.after_blanks(at + 1) } else { at }
    }

    fn after_blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// The byte at `at`; 0 after the end.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_at_every_depth_and_blanks_go() {
        let cases = [
            (" {\n} ", "{}"),
            ("[ ]", "[]"),
            (" 1.50 ", "1.50"),
            (r#" "\u0041\n" "#, r#""A\n""#),
            (
                r#"{"b":{"d":[1 , {"z":2,"y":[]}],"c":null},"a":"x"}"#,
                r#"{"a":"x","b":{"c":null,"d":[1,{"y":[],"z":2}]}}"#,
            ),
            (r#"{"a":1,"a":{"c":2},"A":3}"#, r#"{"A":3,"a":{"c":2}}"#),
            (r#"{"a\"}":"]","b":[["\\"],true]}"#, r#"{"a\"}":"]","b":[["\\"],true]}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }
}
