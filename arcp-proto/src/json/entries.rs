//! The members of an object one after the other, without building a list: for texts that were
//! checked before, such as every event.

use super::pass::after_plain;

/// Iterates over the members of an object: each name as it is written, and each value as text.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    text: &'a str,
    at: usize,
    /// Whether names have had no escapes, and tokens nothing between them, as in objects that this
    /// crate writes.
    is_plain: bool,
    /// Whether the end of the object was reached.
    is_whole: bool,
}

impl<'a> Entries<'a> {
    /// The members of a JSON text. A text that is no object has none.
    pub(super) fn new(text: &'a str) -> Entries<'a> {
        let mut entries = Entries { text, at: 0, is_plain: true, is_whole: false };
        if entries.token() == Some(b'{') {
            entries.at += 1;
        } else {
            entries.at = text.len();
        }
        entries
    }

    /// At the end: whether this crate would write the object in the same way.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain && self.is_whole && self.at == self.text.len()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The first byte of the next token.
    fn token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
            self.is_plain = false;
        }
        self.peek()
    }

    /// Reads a name; returns the text between its quotes.
    fn name(&mut self) -> Option<&'a str> {
        let from = self.at + 1;
        let bytes = self.text.as_bytes();
        let plain = after_plain(bytes, from);
        self.at = plain + 1;
        if *bytes.get(plain)? != b'"' {
            self.is_plain = false;
            self.at = string_end(bytes, from - 1)?;
        }
        self.text.get(from..self.at - 1)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        match self.token()? {
            b'"' => {}
            b'}' => {
                self.at += 1;
                self.is_whole = true;
                return None;
            }
            _ => return None,
        }
        let name = self.name()?;
        (self.token()? == b':').then(|| self.at += 1)?;
        self.token()?;
        let from = self.at;
        self.at = value_end(self.text.as_bytes(), from)?;
        let value = self.text.get(from..self.at)?;
        if self.token()? == b',' {
            self.at += 1;
        }
        Some((name, value))
    }
}

/// The end of the value that begins at `at`.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => nested_end(bytes, at),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let length = bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            (length > 0).then_some(at + length)
        }
    }
}

/// The end of the object or array that begins at `at`.
fn nested_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The end of the string whose first quote is at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        end = after_plain(bytes, end);
        match bytes.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => end += 2,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use crate::json::Json;

    fn walked(text: &str) -> (Vec<(&str, &str)>, bool) {
        let mut entries = super::Entries::new(text);
        let all = entries.by_ref().collect();
        (all, entries.is_plain())
    }

    #[test]
    fn members_are_those_that_a_parser_finds() {
        for text in [
            r#"{}"#,
            r#"{"a":1}"#,
            r#"{"a":"q\"}{","b":[1,{"c":"]"},[]],"d":{"e":{}},"f":-1.5e3,"g":null,"h":true}"#,
            r#"{"":"","\u0061":"\\"}"#,
            "{ \"a\" : 1 ,\t\"b\":[ ] }",
            "  { }  ",
            r#"{"a" :1}"#,
            r#"{"a":1 }"#,
            r#"{"a":1} "#,
        ] {
            let json = Json::parse(text).expect("JSON");
            let members = json.members().expect("an object");
            let (found, plain) = walked(text);
            let values: Vec<&str> = members.0.iter().map(|(_, value)| *value).collect();
            assert_eq!(found.iter().map(|(_, value)| *value).collect::<Vec<_>>(), values, "{text}");
            assert_eq!(plain, members.to_json().as_str() == text, "{text}");
            if plain {
                assert!(members.0.iter().zip(&found).all(|((name, _), (raw, _))| name == raw), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_object_or_no_json_has_no_members_and_is_not_plain() {
        for text in
            ["", "1", "[1]", "\"{\"", "{", "{\"a", "{\"a\":", "{\"a\":1", "{\"a\":}", "{a:1}", "{\"a\"1}", "{\"a\":[1}"]
        {
            assert!(!walked(text).1, "{text}");
        }
    }
}
