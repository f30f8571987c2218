//! The check of a JSON text that comes before its parser.

use super::JsonError;

/// Scans a text for what the JSON parser accepts and a peer might not. Syntax is left to the
/// parser.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

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
}
