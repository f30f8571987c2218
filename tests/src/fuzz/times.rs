//! RFC 3339: a time that can be read is the same time when it is written again.

use arcp_proto::time::UtcMs;

/// The bytes may be a time.
pub(super) fn times(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(at) = UtcMs::parse(text) else { return };
    let written = at.to_string();
    assert_eq!(UtcMs::parse(&written), Some(at), "{text} was written as {written}");
    assert_eq!(written.len(), "2026-01-01T00:00:00.000Z".len(), "{text}");
    let lower = text.to_lowercase();
    assert_eq!(UtcMs::parse(&lower).unwrap_or(at), at, "{text} and {lower}");
}
