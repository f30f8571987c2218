//! Lines: how a stream of bytes is split does not depend on how it arrives.

use arcp_proto::wire::{Line, Lines};

use super::bytes::Bytes;

/// The first byte is the length bound, the second says how the rest arrives.
pub(super) fn lines(data: &[u8]) {
    let mut data = Bytes(data);
    let limit = usize::from(data.byte());
    let step = usize::from(data.byte()).max(1);
    let whole = read(limit, [data.0]);
    assert_eq!(read(limit, data.0.chunks(step)), whole, "by {step}");
    assert_eq!(read(limit, data.0.chunks(1)), whole, "by one");
    for line in &whole {
        match line {
            Line::Frame(line) => {
                assert!(!line.is_empty() && line.len() <= limit && !line.contains(&b'\n'), "{line:?}");
            }
            Line::TooLong => {}
        }
    }
}

fn read<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut lines = Lines::new(limit);
    let mut read = Vec::new();
    for piece in pieces {
        lines.push(piece);
        read.extend(std::iter::from_fn(|| lines.next_line()));
    }
    read
}
