//! One pass over a JSON text that is valid, as most are: syntax, depth, strings and numbers are
//! checked together. A text that it does not accept is left to [`check`](mod@super::check) and the
//! parser, which find the fault, if there is one.

use alloc::borrow::Cow;

use super::{Raw, Text};

/// The number of levels that fit into one word.
const DEEPEST: usize = u128::BITS as usize - 1;
const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// One member of an object, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Without its quotes; it has no escapes.
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    /// Whether the value is a string without escapes.
    plain: bool,
}

impl<'a> Member<'a> {
    /// The content of a string without escapes.
    fn plain(&self) -> Option<&'a str> {
        self.plain.then(|| &self.value[1..self.value.len() - 1])
    }

    /// Its string, or `Some(None)` for null; `None` if it is neither.
    pub(crate) fn text(&self) -> Option<Option<Text<'a>>> {
        match self.plain() {
            Some(text) => Some(Some(Text(Cow::Borrowed(text)))),
            None if self.value == "null" => Some(None),
            None => serde_json::from_str(self.value).ok().map(Some),
        }
    }

    /// Its whole number, or `Some(None)` for null; `None` if it is neither.
    pub(crate) fn u64(&self) -> Option<Option<u64>> {
        if self.value == "null" { Some(None) } else { self.value.parse().ok().map(Some) }
    }

    /// Its value, unless that is null.
    pub(crate) fn raw(&self) -> Option<Raw<'a>> {
        (self.value != "null").then_some(Raw(self.value))
    }
}

/// The members of an object seen so far, each with a number below 32.
#[derive(Default)]
pub(crate) struct Once(u32);

impl Once {
    /// Notes a member; `None` if it was noted before.
    pub(crate) fn note(&mut self, member: u32) -> Option<()> {
        let known = self.0;
        self.0 |= 1 << member;
        (self.0 != known).then_some(())
    }
}

/// Gives `each` the members of the text's object, nested at most `depth` deep, in order. `None` if
/// the text is no such object, if this pass cannot tell, or if `each` stops it.
pub(crate) fn members<'a>(text: &'a str, depth: usize, mut each: impl FnMut(Member<'a>) -> Option<()>) -> Option<()> {
    let mut pass = Pass { text, at: 0, depth: depth.min(DEEPEST) };
    pass.blanks();
    pass.take(b'{').filter(|()| depth > 0)?;
    pass.blanks();
    if pass.byte() == b'}' {
        pass.at += 1;
        return pass.end();
    }
    loop {
        let name = pass.at;
        let name = pass.string()?.then(|| &text[name + 1..pass.at - 1])?;
        pass.blanks();
        pass.take(b':')?;
        pass.blanks();
        let begin = pass.at;
        let plain = pass.value()?;
        each(Member { name, value: &text[begin..pass.at], plain })?;
        pass.blanks();
        match pass.byte() {
            b',' => pass.at += 1,
            b'}' => {
                pass.at += 1;
                return pass.end();
            }
            _ => return None,
        }
        pass.blanks();
    }
}

/// The value of a text, without blanks around it; `None` as in [`members`].
pub(super) fn value(text: &str, depth: usize) -> Option<&str> {
    let mut pass = Pass { text, at: 0, depth: (depth + 1).min(DEEPEST) };
    pass.blanks();
    let begin = pass.at;
    pass.value()?;
    let end = pass.at;
    pass.end()?;
    Some(&text[begin..end])
}

struct Pass<'a> {
    text: &'a str,
    at: usize,
    /// How deep objects and arrays may be nested; the outermost has depth 1.
    depth: usize,
}

impl Pass<'_> {
    /// The next byte; 0 at the end.
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        let found = self.byte() == expected;
        self.at += usize::from(found);
        found.then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Succeeds if only blanks are left.
    fn end(mut self) -> Option<()> {
        self.blanks();
        (self.at == self.text.len()).then_some(())
    }

    /// Passes a value one level down; returns whether it is a string without escapes.
    fn value(&mut self) -> Option<bool> {
        // The open objects and arrays, the innermost in the lowest bit; 1 for an object.
        let (mut open, mut level) = (0_u128, 0);
        let mut plain = false;
        loop {
            match self.byte() {
                b'"' => plain = self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                bracket @ (b'{' | b'[') => {
                    if level + 2 > self.depth {
                        return None;
                    }
                    self.at += 1;
                    self.blanks();
                    let is_object = bracket == b'{';
                    if self.byte() == if is_object { b'}' } else { b']' } {
                        self.at += 1;
                    } else {
                        level += 1;
                        open = open << 1 | u128::from(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => return None,
            }
            // A value has ended; objects and arrays around it may end too.
            loop {
                if level == 0 {
                    return Some(plain);
                }
                plain = false;
                self.blanks();
                let in_object = open & 1 == 1;
                let byte = self.byte();
                self.at += 1;
                match byte {
                    b',' => {
                        self.blanks();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                open >>= 1;
                level -= 1;
            }
        }
    }

    /// Passes the name of a member, up to its value.
    fn name(&mut self) -> Option<()> {
        if self.byte() != b'"' {
            return None;
        }
        self.string()?;
        self.blanks();
        self.take(b':')?;
        self.blanks();
        Some(())
    }

    /// Passes a string; returns whether it has no escapes.
    fn string(&mut self) -> Option<bool> {
        self.take(b'"')?;
        let mut plain = true;
        loop {
            self.at = after_plain(self.text.as_bytes(), self.at);
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return Some(plain);
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
            plain = false;
        }
    }

    fn escape(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        self.at += match bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => {
                let unit = bytes.get(self.at + 2..self.at + 6)?;
                // Surrogates are left to `check`.
                let half = matches!(unit, [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
                (!half && unit.iter().all(u8::is_ascii_hexdigit)).then_some(6)?
            }
            _ => return None,
        };
        Some(())
    }

    /// Passes a number that a double can hold.
    fn number(&mut self) -> Option<()> {
        /// The length in bytes up to which a number without an exponent always fits.
        const SHORT: usize = 300;
        let begin = self.at;
        self.at += usize::from(self.byte() == b'-');
        match self.byte() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.byte() == b'.' {
            self.at += 1;
            let fraction = self.at;
            self.digits();
            if self.at == fraction {
                return None;
            }
        }
        (!matches!(self.byte(), b'e' | b'E') && self.at - begin <= SHORT).then_some(())
    }

    fn digits(&mut self) {
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(())
    }
}

/// The position of the first byte from `at` on that is special in a string: a quote, a backslash,
/// or a control character; otherwise the end.
pub(super) fn after_plain(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let plain = plain_of(u64::from_le_bytes(*eight));
        at += plain;
        if plain < 8 {
            return at;
        }
    }
    after_plain_rest(text, at)
}

/// The same, for fewer than eight bytes.
fn after_plain_rest(text: &[u8], at: usize) -> usize {
    match (text.len().saturating_sub(at), text.last_chunk()) {
        (0, _) => at,
        // The remaining bytes, followed by zeros, which are special.
        (rest, Some(eight)) => at + plain_of(u64::from_le_bytes(*eight) >> (64 - 8 * rest)),
        (_, None) => at + text[at..].iter().take_while(|byte| plain_of(u64::from(**byte)) > 0).count(),
    }
}

/// How many of eight bytes precede the first special one. The first byte is the lowest.
fn plain_of(eight: u64) -> usize {
    // Only the lowest bit that is set is reliable.
    let is = |byte: u8| {
        let differs = eight ^ (ONES * u64::from(byte));
        differs.wrapping_sub(ONES) & !differs
    };
    let found = (is(b'"') | is(b'\\') | (eight.wrapping_sub(ONES * 0x20) & !eight)) & TOPS;
    found.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString as _};
    use alloc::vec::Vec;

    use serde_json::value::RawValue;

    use super::*;
    use crate::json::check;

    /// The same in several passes: the check, and the parser.
    fn slowly(text: &str, depth: usize) -> Option<&str> {
        check(text, depth).ok()?;
        serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
    }

    fn agree(text: &str) {
        for depth in [3, 120] {
            let slow = slowly(text, depth);
            if let Some(fast) = value(text, depth) {
                assert_eq!(Some(fast), slow, "{text:?} within {depth}");
            }
            let mut all = Vec::new();
            let whole = members(text, depth, |member| {
                all.push(member);
                Some(())
            });
            if whole.is_some() {
                let slow = slow.unwrap_or_else(|| panic!("{text:?} within {depth}"));
                let parsed: crate::json::Members<'_> = serde_json::from_str(slow).expect("an object");
                let fast: Vec<_> = all.iter().map(|member| (member.name.into(), member.value)).collect();
                assert_eq!(fast, parsed.0, "{text:?}");
                for member in all {
                    let text = member.plain().map(String::from);
                    let escaped = member.value.contains('\\');
                    assert_eq!(text, serde_json::from_str::<String>(member.value).ok().filter(|_| !escaped));
                }
            }
        }
    }

    const TEXTS: [&str; 8] = [
        r#"{"id":"msg_1","type":"job.submit","payload":{"agent":"echo","input":[1,-2.50,{"a":null}]},"seq":17}"#,
        "{ \"a\" : \"x\\n\\u00e4\\\"y\" ,\r\n\t\"b\": [ ] , \"c\":{ } , \"d\":[ {\"e\":[true,false,null]} ] } ",
        "[0, -0, 10.01, [[\"\u{1F600} longer than eight bytes \\\\ \\/\"]]]",
        r#"{"":"","a":"1234567","b":"12345678","c":"123456789"}"#,
        r#""just a string""#,
        "{}",
        " [1] ",
        "-12.75",
    ];

    #[test]
    fn what_is_as_it_has_to_be_is_passed_once_and_read_as_the_parser_reads_it() {
        for text in TEXTS {
            assert_eq!(value(text, 120), slowly(text, 120), "{text}");
            assert!(value(text, 120).is_some(), "{text}");
            agree(text);
        }
        let mut names = Vec::new();
        members(TEXTS[0], 120, |member| {
            names.push((member.name, member.plain()));
            Some(())
        })
        .expect("an object");
        assert_eq!(names[..2], [("id", Some("msg_1")), ("type", Some("job.submit"))]);
        assert_eq!((names.len(), names[3]), (4, ("seq", None)));
    }

    #[test]
    fn what_is_let_through_is_let_through_by_the_check_and_the_parser_too() {
        let strange = [
            b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b' ', b'0', b'9', b'-', b'.', b'e', b'+', b'u', b'd',
            b'8', b'\n', 0x01, 0x7f, b't', b'a',
        ];
        for text in TEXTS {
            for at in 0..text.len() {
                if let (Some(before), Some(after)) = (text.get(..at), text.get(at + 1..)) {
                    agree(before);
                    agree(&alloc::format!("{before}{after}"));
                    for byte in strange {
                        agree(&alloc::format!("{before}{}{after}", byte as char));
                        agree(&alloc::format!("{before}{}{}", byte as char, &text[at..]));
                    }
                }
            }
        }
        for text in ["01", "1.", ".5", "1e5", "tru", "nul", "\"\\ud800\"", "\"\\uD83d\\ude00\"", "\"\\u12\"", "", "{,}"]
        {
            agree(text);
        }
        for text in ["01", "1.", ".5", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "\"a", "\"a\nb\"", "[}", "1 2", "{\"a\":}"] {
            assert_eq!(value(text, 120), None, "{text}");
        }
    }

    #[test]
    fn what_does_not_stand_for_itself_is_found_wherever_it_is() {
        let plain = "\u{7f}ab\u{e4}c \u{1F600}/defghijklmnop";
        for text in (0..=plain.len()).filter_map(|end| plain.get(..end)) {
            for at in 0..=text.len() + 1 {
                assert_eq!(after_plain(text.as_bytes(), at), at.max(text.len()), "{text:?} from {at}");
            }
            for (place, found) in (0..text.len()).flat_map(|at| ["\"", "\\", "\n", "\0", "\x1f"].map(|one| (at, one))) {
                let mut bytes = text.as_bytes().to_vec();
                bytes[place] = found.as_bytes()[0];
                for from in 0..=place {
                    assert_eq!(after_plain(&bytes, from), place, "{bytes:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn it_goes_no_deeper_than_the_check() {
        for depth in [0, 1, 2, 119, 120, 121, 200] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            let text = if depth == 0 { "1".to_string() } else { text };
            assert_eq!(value(&text, 120).is_some(), depth <= 120, "{depth}");
            let text = alloc::format!("{{\"a\":{text}}}");
            assert_eq!(members(&text, 120, |_| Some(())).is_some(), depth < 120, "{depth}");
        }
        assert_eq!(members("{\"a\":{}}", 1, |_| Some(())), None);
        assert!(members("{\"a\":1}", 1, |_| Some(())).is_some());
        assert_eq!(members("{}", 0, |_| Some(())), None);
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(value(&deep, 1000), None, "that is left to the parser");
    }
}
