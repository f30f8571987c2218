//! Checksums of rows: over every column, so that a flipped bit is found
//! whatever it hit.

use crc32fast::Hasher;

/// The table of a row; none is taken for a row of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Records,
    Events,
    Numbers,
    Garbage,
    Log,
}

impl Table {
    /// Those whose rows are of one job or session.
    pub(super) const OWNED: [Table; 3] = [Table::Records, Table::Events, Table::Numbers];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Records => "records",
            Table::Events => "events",
            Table::Numbers => "numbers",
            Table::Garbage => "garbage",
            Table::Log => "log",
        }
    }
}

/// What a row is expected to have as its `sum`: of its numbers and its bytes,
/// each in the order of the columns.
pub(super) fn sum(table: Table, numbers: &[Option<i64>], bytes: &[Option<&[u8]>]) -> i64 {
    sum_beyond(table, numbers, bytes, 0)
}

/// The same of a row that says how many positions its commit goes on behind it:
/// above the 32 bits of the checksum, which is of that too.
pub(super) fn sum_beyond(table: Table, numbers: &[Option<i64>], bytes: &[Option<&[u8]>], beyond: u32) -> i64 {
    let mut hasher = Hasher::new();
    hasher.update(table.name().as_bytes());
    for number in numbers {
        hasher.update(&[u8::from(number.is_some())]);
        hasher.update(&number.unwrap_or(0).to_le_bytes());
    }
    for bytes in bytes {
        // With its length, so that nothing moves from one column to the next.
        hasher.update(&[u8::from(bytes.is_some())]);
        let bytes = bytes.unwrap_or_default();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    if beyond > 0 {
        hasher.update(&beyond.to_le_bytes());
    }
    (i64::from(beyond) << 32) | i64::from(hasher.finalize())
}

/// What a `sum` says of the commit of its row.
pub(super) fn beyond(sum: i64) -> u32 {
    u32::try_from(sum >> 32).unwrap_or(0)
}
