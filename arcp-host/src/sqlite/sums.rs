//! Checksums of rows. They cover every column, so that any flipped bit is found.

use crc32fast::Hasher;

/// The table of a row. It is part of the checksum, so that no row is taken for one of another
/// table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Records,
    Events,
    Numbers,
    Garbage,
    Log,
}

impl Table {
    /// The tables whose rows belong to a job or a session.
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

/// The `sum` that a row should have, from its numbers and its bytes, each in the order of the
/// columns.
pub(super) fn sum(table: Table, numbers: &[Option<i64>], bytes: &[Option<&[u8]>]) -> i64 {
    sum_beyond(table, numbers, bytes, 0)
}

/// The `sum` of a row whose commit extends so many positions beyond it. That number is stored above
/// the 32 bits of the checksum, which covers it.
pub(super) fn sum_beyond(table: Table, numbers: &[Option<i64>], bytes: &[Option<&[u8]>], beyond: u32) -> i64 {
    let mut hasher = Hasher::new();
    hasher.update(table.name().as_bytes());
    for number in numbers {
        hasher.update(&[u8::from(number.is_some())]);
        hasher.update(&number.unwrap_or(0).to_le_bytes());
    }
    for bytes in bytes {
        // With its length, so that no byte can move to the next column unnoticed.
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

/// The number of positions that the commit of a row extends beyond it.
pub(super) fn beyond(sum: i64) -> u32 {
    u32::try_from(sum >> 32).unwrap_or(0)
}
