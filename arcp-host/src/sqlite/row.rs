//! Rows that were read: no content is used before the checksum was compared.

use arcp_proto::id::{JobId, LogPos, SessionId};
use rusqlite::Row;
use ulid::Ulid;

use super::rows::{failed, position};
use super::sums::{Table, beyond, sum_beyond};
use crate::store::StoreError;

/// A row of one of [`Table::OWNED`], as it is in the file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) table: Table,
    pub(super) pos: i64,
    pub(super) job: Option<Vec<u8>>,
    pub(super) session: Option<Vec<u8>>,
    /// `until` and `latest`, or `first` and `last`.
    pub(super) numbers: [Option<i64>; 2],
    pub(super) body: Vec<u8>,
    sum: i64,
}

impl Stored {
    /// The columns for [`read`](Self::read), under the same names for all tables.
    pub(super) fn columns(table: Table) -> &'static str {
        match table {
            Table::Records => "pos, job, session, until, latest, body, sum",
            Table::Events => "pos, job, NULL, first, last, body, sum",
            Table::Numbers => "pos, NULL, session, NULL, last, body, sum",
            Table::Garbage | Table::Log => "",
        }
    }

    /// Reads a row of these columns.
    pub(super) fn read(table: Table, row: &Row<'_>) -> rusqlite::Result<Stored> {
        Ok(Stored {
            table,
            pos: row.get(0)?,
            job: row.get(1)?,
            session: row.get(2)?,
            numbers: [row.get(3)?, row.get(4)?],
            body: row.get(5)?,
            sum: row.get(6)?,
        })
    }

    /// The checksum that the row should have.
    pub(super) fn expected(&self) -> i64 {
        let [first, second] = self.numbers;
        let bytes = [self.job.as_deref(), self.session.as_deref(), Some(self.body.as_slice())];
        sum_beyond(self.table, &[Some(self.pos), first, second], &bytes, beyond(self.sum))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.sum == self.expected()
    }

    /// Reads a row of these columns and compares its checksum.
    pub(super) fn whole(table: Table, row: &Row<'_>) -> Result<Stored, StoreError> {
        let stored = Stored::read(table, row).map_err(failed)?;
        if stored.is_whole() { Ok(stored) } else { Err(stored.damaged("its checksum does not match")) }
    }

    pub(super) fn at(&self) -> LogPos {
        position(self.pos)
    }

    /// The last position of the commit that wrote the row, if the row records it; otherwise the
    /// row's own.
    pub(super) fn reaches(&self) -> i64 {
        self.pos.saturating_add(i64::from(beyond(self.sum)))
    }

    pub(super) fn job(&self) -> Option<JobId> {
        ulid_of(self.job.as_deref()).map(JobId::from_ulid)
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        ulid_of(self.session.as_deref()).map(SessionId::from_ulid)
    }

    /// The place of the row, for messages.
    pub(super) fn place(&self) -> String {
        let mut place = format!("{} at position {}", self.table.name(), self.pos);
        if let Some(job) = self.job() {
            place.push_str(&format!(", {job}"));
        }
        if let Some(session) = self.session() {
            place.push_str(&format!(", {session}"));
        }
        if let (Table::Events, [Some(first), Some(last)]) = (self.table, self.numbers) {
            place.push_str(&format!(", events {first} to {last}"));
        }
        place
    }

    pub(super) fn damaged(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt(format!("{}: {why}", self.place()))
    }
}

fn ulid_of(key: Option<&[u8]>) -> Option<Ulid> {
    key?.try_into().ok().map(Ulid::from_bytes)
}
