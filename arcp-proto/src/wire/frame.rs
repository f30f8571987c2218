//! Checks of frames as they arrive from a transport, before they are parsed.

use alloc::vec::Vec;

use crate::error::{ErrorCode, Violation};
use crate::json;

/// Checks the size, encoding and JSON shape of a frame, and returns its text.
///
/// # Errors
///
/// `INVALID_REQUEST` that says what is wrong and which bound applies.
pub fn ingest(bytes: &[u8], frame_bytes: usize, json_depth: usize) -> Result<&str, Violation> {
    if bytes.len() > frame_bytes {
        let message = alloc::format!("frame of {} bytes: at most {frame_bytes} are accepted", bytes.len());
        return Err(Violation::new(ErrorCode::InvalidRequest, message));
    }
    let text = core::str::from_utf8(bytes)
        .map_err(|e| Violation::invalid(alloc::format!("frame is not UTF-8 at byte {}", e.valid_up_to())))?;
    json::check(text, json_depth).map_err(|e| Violation::invalid(alloc::format!("frame: {e}")))?;
    Ok(text)
}

/// The capacity that an empty buffer may keep, in bytes.
const KEPT: usize = 4 << 10;

/// Splits a byte stream into lines: one JSON object per line, ended by `
/// ` or `\r
/// `. Empty lines are skipped. A line over the bound is dropped whole and reported once.
///
/// ```
/// use arcp_proto::wire::{Line, Lines};
/// let mut lines = Lines::new(8);
/// lines.push(b"{\"a\":1}\r\n\n{\"b\"");
/// assert_eq!(lines.next_line(), Some(Line::Frame(b"{\"a\":1}".to_vec())));
/// assert_eq!(lines.next_line(), None);
/// lines.push(b":12345678}\n{}\n");
/// assert_eq!(lines.next_line(), Some(Line::TooLong));
/// assert_eq!(lines.next_line(), Some(Line::Frame(b"{}".to_vec())));
/// ```
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// The start of the next line.
    start: usize,
    /// The buffer has no line end before this offset.
    scanned: usize,
    limit: usize,
    skipping: bool,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its content without the line end.
    Frame(Vec<u8>),
    /// The line was longer than the bound.
    TooLong,
}

impl Lines {
    /// A splitter for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, scanned: 0, limit, skipping: false }
    }

    /// Sets the bound for further lines.
    pub fn take_up_to(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes of an incomplete line.
    pub fn partial(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
                self.scanned = self.buffer.len();
                if self.buffer.len() - self.start <= self.limit + 1 {
                    self.release();
                    return None;
                }
                self.start = self.buffer.len();
                self.release();
                let reported = core::mem::replace(&mut self.skipping, true);
                if reported {
                    return None;
                }
                return Some(Line::TooLong);
            };
            let end = self.scanned + end;
            let line = &self.buffer[self.start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let found = if core::mem::take(&mut self.skipping) || line.is_empty() {
                None
            } else if line.len() > self.limit {
                Some(Line::TooLong)
            } else {
                Some(Line::Frame(line.to_vec()))
            };
            self.start = end + 1;
            self.scanned = self.start;
            if found.is_some() {
                return found;
            }
        }
    }

    /// Frees capacity after a long line, so that no peer holds it for the lifetime of its
    /// connection.
    fn release(&mut self) {
        let rest = &self.buffer[self.start..];
        if self.buffer.capacity() > KEPT.max(4 * rest.len()) {
            self.scanned -= self.start;
            (self.buffer, self.start) = (rest.to_vec(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_leaves_no_room_behind_whether_it_was_taken_or_passed_over() {
        for limit in [100_000, 10_000] {
            let mut lines = Lines::new(limit);
            for _ in 0..20 {
                lines.push(&[b'x'; 1000]);
                while lines.next_line().is_some() {}
            }
            lines.push(b"\n{}\n");
            while lines.next_line().is_some() {}
            assert!(lines.buffer.capacity() <= KEPT, "{limit}: {}", lines.buffer.capacity());
            lines.push(b"[]\n");
            assert_eq!(lines.next_line(), Some(Line::Frame(b"[]".to_vec())), "{limit}");
        }
        let mut lines = Lines::new(10_000);
        lines.push(&[b'x'; 20_000]);
        assert_eq!((lines.next_line(), lines.buffer.capacity()), (Some(Line::TooLong), 0));
    }

    #[test]
    fn a_long_line_leaves_no_room_behind_though_the_next_one_has_begun() {
        let mut lines = Lines::new(1 << 20);
        lines.push(&[&[b'x'; 500_000][..], b"\n{"].concat());
        assert!(matches!(lines.next_line(), Some(Line::Frame(line)) if line.len() == 500_000));
        assert_eq!((lines.next_line(), lines.partial()), (None, 1));
        assert!(lines.buffer.capacity() <= KEPT, "{}", lines.buffer.capacity());
        lines.push(b"}\n");
        assert_eq!(lines.next_line(), Some(Line::Frame(b"{}".to_vec())));
    }
}
