//! Writing of batches: one row per job and commit for events, one per session and commit for
//! numbers, and one for each other record.

use std::collections::BTreeMap;

use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{EventRecord, Numbered, Record};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, ToSql, params};
use ulid::Ulid;

use super::sums::{Table, sum, sum_beyond};
use crate::store::StoreError;

/// The most events of one row.
const ROW_EVENTS: u64 = 256;
/// The size in bytes after which a row is full.
const ROW_BYTES: usize = 256 << 10;
/// The most rows that are deleted at once, rows of `garbage` included.
pub(super) const STEP: i64 = 64;
/// The owner, in `garbage`, of records that are kept until a moment.
const KEPT: [u8; 16] = [0; 16];

/// The value of `latest` for the questions of a job.
pub(super) const PROMPTED: i64 = 7;

/// The rows of a commit, some of which are not complete yet.
pub(super) struct Rows {
    events: BTreeMap<JobId, EventRow>,
    numbers: BTreeMap<SessionId, (LogPos, Vec<Numbered>)>,
    /// The last position of the commit.
    up_to: LogPos,
    written: Written,
}

/// A summary of what a commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The rough number of bytes.
    pub(super) bytes: usize,
    /// Whether a row records how far the commit reaches.
    pub(super) says_end: bool,
    /// Whether rows were deleted, one of which may have recorded the end.
    pub(super) deleted: bool,
    /// Whether there is something to delete later.
    pub(super) garbage: bool,
}

/// Events of one job: a JSON list, without its closing bracket.
struct EventRow {
    at: LogPos,
    first: u64,
    last: u64,
    body: Vec<u8>,
}

impl EventRow {
    fn new(at: LogPos, first: u64) -> EventRow {
        EventRow { at, first, last: first, body: Vec::new() }
    }

    fn push(&mut self, event: &EventRecord) -> Result<(), StoreError> {
        self.body.push(if self.body.is_empty() { b'[' } else { b',' });
        self.last = event.n;
        serde_json::to_writer(&mut self.body, event).map_err(unwritable)
    }

    fn is_full(&self) -> bool {
        self.last - self.first + 1 >= ROW_EVENTS || self.body.len() >= ROW_BYTES
    }

    fn write(mut self, tx: &Connection, job: JobId, written: &mut Written, up_to: LogPos) -> Result<(), StoreError> {
        self.body.push(b']');
        let beyond = written.row(self.body.len(), self.at, up_to);
        let (pos, job, first, last) = (number(self.at.0), key(job.ulid()), number(self.first), number(self.last));
        let bytes = [Some(job.as_slice()), None, Some(&self.body)];
        let sum = sum_beyond(Table::Events, &[Some(pos), Some(first), Some(last)], &bytes, beyond);
        let row = params![pos, job, first, last, self.body, sum];
        execute(tx, "INSERT INTO events (pos, job, first, last, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)
            .map(drop)
    }
}

impl Written {
    /// Counts a row at position `at` of a commit up to `up_to`. Returns how far the commit extends
    /// beyond the row; 0 if the row cannot record that.
    fn row(&mut self, bytes: usize, at: LogPos, up_to: LogPos) -> u32 {
        self.bytes += bytes;
        let beyond = i32::try_from(up_to.0.saturating_sub(at.0)).ok();
        self.says_end |= beyond.is_some();
        beyond.map_or(0, i32::unsigned_abs)
    }
}

impl Rows {
    /// The rows of a commit up to this position.
    pub(super) fn up_to(up_to: LogPos) -> Rows {
        Rows { events: BTreeMap::new(), numbers: BTreeMap::new(), up_to, written: Written::default() }
    }

    /// Writes a record, or adds it to a row that is written at the end of the commit.
    pub(super) fn put(&mut self, tx: &Connection, at: LogPos, record: &Record) -> Result<(), StoreError> {
        if let Some(undone) = record.undoes() {
            execute(tx, "DELETE FROM records WHERE pos = ?1", [number(undone.0)])?;
        }
        match record {
            Record::JobEvent { job, event } => {
                let row = self.events.entry(*job).or_insert_with(|| EventRow::new(at, event.n));
                row.push(event)?;
                if row.is_full()
                    && let Some(row) = self.events.remove(job)
                {
                    row.write(tx, *job, &mut self.written, self.up_to)?;
                }
                return Ok(());
            }
            Record::Numbered { session, run } => {
                let row = &mut self.numbers.entry(*session).or_insert_with(|| (at, Vec::new())).1;
                let apart = match row.last_mut() {
                    Some(last) => last.join(run.clone()),
                    None => Some(run.clone()),
                };
                row.extend(apart);
                return Ok(());
            }
            Record::JobForgotten { job } => {
                self.written.deleted = true;
                execute(tx, "DELETE FROM records WHERE job = ?1", [key(job.ulid())])?;
                return self.discard(tx, key(job.ulid()), i64::MAX);
            }
            Record::HistoryTrimmed { job, upto, .. } => self.discard(tx, key(job.ulid()), number(*upto))?,
            Record::SessionEnded { session } => {
                self.written.deleted = true;
                execute(tx, "DELETE FROM records WHERE session = ?1", [key(session.ulid())])?;
                return self.discard(tx, key(session.ulid()), i64::MAX);
            }
            Record::Released { session, upto } => self.discard(tx, key(session.ulid()), number(*upto))?,
            Record::KeysExpired { until } => return self.discard(tx, KEPT, number(until.0)),
            Record::AuditForgotten { entries }
            | Record::ArtifactsForgotten { entries }
            | Record::CheckpointsForgotten { entries, .. }
            | Record::SchedulesForgotten { entries } => {
                self.written.deleted = true;
                for entry in entries {
                    execute(tx, "DELETE FROM records WHERE pos = ?1", [number(entry.0)])?;
                }
                return Ok(());
            }
            Record::ArtifactKept(_)
            | Record::ScheduleKept(_)
            | Record::ScheduleMoved(_)
            | Record::StepMoved(_)
            | Record::SessionOpened { .. }
            | Record::TokenRotated { .. }
            | Record::SessionClosed { .. }
            | Record::JobAccepted(_)
            | Record::JobHistory { .. }
            | Record::Checkpointed { .. }
            | Record::JobRestarted { .. }
            | Record::CancelAsked { .. }
            | Record::BudgetLeft { .. }
            | Record::Prompted { .. }
            | Record::GrantsProlonged { .. }
            | Record::Joined { .. }
            | Record::Left { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::Audited(_)
            | Record::HandedOver { .. }
            | Record::Departing { .. }
            | Record::TokensIssued { .. }
            | Record::CredentialsWanted { .. }
            | Record::CredentialsRevoked { .. }
            | Record::KeyKept { .. } => {}
        }
        self.write_record(tx, at, record)
    }

    /// Records that everything up to `upto` may be deleted.
    fn discard(&mut self, tx: &Connection, owner: [u8; 16], upto: i64) -> Result<(), StoreError> {
        self.written.garbage = true;
        Garbage { owner, upto }.put(tx)
    }

    /// Writes a record with a row of its own.
    fn write_record(&mut self, tx: &Connection, at: LogPos, record: &Record) -> Result<(), StoreError> {
        let job = record.job().map(|job| key(job.ulid()));
        let session = record.session().map(|session| key(session.ulid()));
        let (until, latest) = (record.until().map(|until| number(until.0)), latest(record));
        let (pos, body) = (number(at.0), json(record)?);
        let beyond = self.written.row(body.len(), at, self.up_to);
        let bytes = [job.as_ref().map(|key| key.as_slice()), session.as_ref().map(|key| key.as_slice()), Some(&body)];
        let sum = sum_beyond(Table::Records, &[Some(pos), until, latest], &bytes, beyond);
        let row = params![pos, job, session, until, latest, body, sum];
        // A plain insert replaces nothing, so SQLite needs no statement journal.
        let insert = if latest.is_some() { REPLACE_RECORD } else { INSERT_RECORD };
        execute(tx, insert, row).map(drop)
    }

    /// Writes the rows that were collected.
    pub(super) fn finish(self, tx: &Connection) -> Result<Written, StoreError> {
        let (mut written, up_to) = (self.written, self.up_to);
        for (job, row) in self.events {
            row.write(tx, job, &mut written, up_to)?;
        }
        for (session, (at, runs)) in self.numbers {
            // Runs that take numbers back are kept as long as those that gave them.
            let last = runs.iter().map(Numbered::last_seq).max().unwrap_or(0);
            let (pos, session, last, body) = (number(at.0), key(session.ulid()), number(last), json(&runs)?);
            let beyond = written.row(body.len(), at, up_to);
            let bytes = [None, Some(session.as_slice()), Some(&body)];
            let sum = sum_beyond(Table::Numbers, &[Some(pos), None, Some(last)], &bytes, beyond);
            let row = params![pos, session, last, body, sum];
            execute(tx, "INSERT INTO numbers (pos, session, last, body, sum) VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
        }
        Ok(written)
    }
}

const INSERT_RECORD: &str = "INSERT INTO records (pos, job, session, until, latest, body, sum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const REPLACE_RECORD: &str = "INSERT OR REPLACE INTO records (pos, job, session, until, latest, body, sum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE_EXPIRED: &str = "DELETE FROM records WHERE pos IN (SELECT pos FROM records WHERE until <= ?1 LIMIT ?2)";
const DELETE_EVENTS: &str = "DELETE FROM events WHERE pos IN \
     (SELECT pos FROM events WHERE job = ?1 AND last <= ?2 ORDER BY first LIMIT ?3)";
const DELETE_NUMBERS: &str = "DELETE FROM numbers WHERE pos IN \
     (SELECT pos FROM numbers WHERE session = ?1 AND last <= ?2 ORDER BY last LIMIT ?3)";

/// Deletes some garbage, of any number of owners, because each step waits for the disk. Returns the number of deleted
/// rows: [`STEP`] if there may be more.
pub(super) fn tidy(tx: &Connection) -> Result<i64, StoreError> {
    let mut left = STEP;
    let delete = |sql, row: &[&dyn ToSql]| execute(tx, sql, row).map(|rows| i64::try_from(rows).unwrap_or(STEP));
    while left > 0 {
        let first = "SELECT owner, upto, sum FROM garbage LIMIT 1";
        let first = tx.prepare_cached(first).and_then(|mut first| first.query_row([], Garbage::read).optional());
        let first = first.map_err(failed)?.transpose();
        // What was deleted before a damaged row stays deleted.
        if first.is_err() && left < STEP {
            break;
        }
        let Some(Garbage { owner, upto }) = first? else {
            break;
        };
        if owner == KEPT {
            left -= delete(DELETE_EXPIRED, params![upto, left])?;
        }
        for step in [DELETE_EVENTS, DELETE_NUMBERS] {
            left -= delete(step, params![owner, upto, left])?;
        }
        if left > 0 {
            execute(tx, "DELETE FROM garbage WHERE owner = ?1", [owner])?;
            left -= 1;
        }
    }
    Ok(STEP - left)
}

/// What may be deleted: the events of a job, or the numbers of a session, up to one.
pub(super) struct Garbage {
    owner: [u8; 16],
    upto: i64,
}

impl Garbage {
    /// All rows, each of which may be unreadable.
    pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Result<Garbage, StoreError>>> {
        let mut rows = connection.prepare("SELECT owner, upto, sum FROM garbage")?;
        rows.query_map([], Garbage::read)?.collect()
    }

    /// Writes this, unless a later limit is already recorded.
    pub(super) fn put(&self, tx: &Connection) -> Result<(), StoreError> {
        let sum = sum(Table::Garbage, &[Some(self.upto)], &[Some(&self.owner)]);
        let note = "INSERT INTO garbage (owner, upto, sum) VALUES (?1, ?2, ?3) ON CONFLICT (owner) \
                    DO UPDATE SET upto = excluded.upto, sum = excluded.sum WHERE excluded.upto > upto";
        execute(tx, note, params![self.owner, self.upto, sum]).map(drop)
    }

    /// Reads a row of `owner, upto, sum`.
    fn read(row: &Row<'_>) -> rusqlite::Result<Result<Garbage, StoreError>> {
        let (owner, upto, found) = (row.get::<_, [u8; 16]>(0)?, row.get(1)?, row.get::<_, i64>(2)?);
        if found == sum(Table::Garbage, &[Some(upto)], &[Some(&owner)]) {
            return Ok(Ok(Garbage { owner, upto }));
        }
        let whose = Ulid::from_bytes(owner);
        Ok(Err(StoreError::Corrupt(format!("garbage of {whose}: its checksum does not match"))))
    }
}

/// The kind by which a record replaces the previous one of its owner, if it does.
fn latest(record: &Record) -> Option<i64> {
    match record {
        Record::TokenRotated { .. } => Some(1),
        Record::Released { .. } => Some(2),
        // Checkpoints that are kept are deleted one by one.
        Record::Checkpointed { kept: None, .. } => Some(3),
        Record::HistoryTrimmed { .. } => Some(4),
        Record::BudgetLeft { .. } => Some(6),
        Record::Prompted { .. } => Some(PROMPTED),
        Record::HandedOver { .. } => Some(8),
        Record::Departing { .. } => Some(9),
        Record::SessionClosed { .. } => Some(10),
        Record::GrantsProlonged { .. } => Some(11),
        Record::TokensIssued { .. } => Some(12),
        Record::Unsubscribed { .. } if record.undoes().is_some() => Some(5),
        Record::SessionOpened { .. }
        | Record::SessionEnded { .. }
        | Record::JobAccepted(_)
        | Record::JobEvent { .. }
        | Record::JobHistory { .. }
        | Record::Checkpointed { kept: Some(_), .. }
        | Record::CheckpointsForgotten { .. }
        | Record::JobRestarted { .. }
        | Record::CancelAsked { .. }
        | Record::Joined { .. }
        | Record::Left { .. }
        | Record::Subscribed { .. }
        | Record::Unsubscribed { .. }
        | Record::Numbered { .. }
        | Record::KeyKept { .. }
        | Record::Audited(_)
        | Record::AuditForgotten { .. }
        | Record::ArtifactKept(_)
        | Record::ArtifactsForgotten { .. }
        | Record::ScheduleKept(_)
        | Record::ScheduleMoved(_)
        | Record::StepMoved(_)
        | Record::SchedulesForgotten { .. }
        | Record::KeysExpired { .. }
        | Record::CredentialsWanted { .. }
        | Record::CredentialsRevoked { .. }
        | Record::JobForgotten { .. } => None,
    }
}

fn execute(tx: &Connection, sql: &str, row: impl rusqlite::Params) -> Result<usize, StoreError> {
    tx.prepare_cached(sql).and_then(|mut statement| statement.execute(row)).map_err(failed)
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Unavailable(format!("a record cannot be written as JSON: {error}"))
}

/// Classifies an error of SQLite by whether a later attempt may succeed.
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    let of_file = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    // This program has written other types.
    let of_value = matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows
    );
    if of_file || of_value {
        StoreError::Corrupt(error.to_string())
    } else {
        StoreError::Unavailable(error.to_string())
    }
}

pub(super) fn key(id: ulid::Ulid) -> [u8; 16] {
    id.to_bytes()
}

/// SQLite's integers are signed; no value here is so large.
pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn position(at: i64) -> LogPos {
    LogPos(u64::try_from(at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arcp_proto::runtime::Batch;
    use rusqlite::StatementStatus;

    use super::*;
    use crate::sqlite::atom::Atom;
    use crate::sqlite::{Durability, SqliteStore};
    use crate::store::Store as _;

    #[test]
    fn a_commit_that_leaves_nothing_to_delete_asks_for_no_tidying() {
        let folder = std::env::temp_dir().join(format!("arcp-tidy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut store = SqliteStore::open(&folder.join("store"), Durability::Normal).expect("it opens");
        assert!(store.untidy, "what an earlier process left is looked for");
        assert!(!store.tidy().expect("tidied"));
        let mut commit = |first, record| {
            store.commit(&[Batch { first: LogPos(first), records: vec![record].into() }]).expect("committed");
            (store.untidy, store.tidy().expect("tidied"), store.tidy().expect("tidied"), store.tidy().expect("tidied"))
        };
        let job = JobId::from_ulid(Ulid::from_parts(1, 1));
        assert_eq!(commit(1, Record::JobRestarted { job }), (false, false, false, false));
        assert_eq!(commit(2, Record::JobForgotten { job }), (true, false, false, false), "one step does it");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn many_jobs_that_are_forgotten_are_tidied_up_together_a_bounded_part_at_a_time() {
        let connection = super::super::connect(Path::new(":memory:")).expect("it opens");
        super::super::layout::create(&connection).expect("tables");
        let count = |table: &str| {
            let rows = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
            rows.expect("counted")
        };
        let tx = Atom::begin(&connection).expect("it begins");
        let mut rows = Rows::up_to(LogPos(0));
        for n in 1..=100 {
            let job = JobId::from_ulid(Ulid::from_parts(1, n));
            let event = EventRow { at: LogPos(n as u64), first: 1, last: 1, body: b"[".to_vec() };
            event.write(&tx, job, &mut rows.written, LogPos(0)).expect("written");
            rows.discard(&tx, key(job.ulid()), i64::MAX).expect("noted");
        }
        tx.commit().expect("committed");
        let step = || (tidy(&connection).expect("tidied"), count("events"), count("garbage"));
        let steps: Vec<_> = (0..5).map(|_| step()).collect();
        assert_eq!(
            steps,
            [(64, 68, 68), (64, 36, 36), (64, 4, 4), (8, 0, 0), (0, 0, 0)],
            "an event and its note of each"
        );
    }

    #[test]
    fn what_is_forgotten_before_a_damaged_row_is_deleted() {
        let connection = super::super::connect(Path::new(":memory:")).expect("it opens");
        super::super::layout::create(&connection).expect("tables");
        let mut rows = Rows::up_to(LogPos(0));
        let tx = Atom::begin(&connection).expect("it begins");
        for n in 1..=2 {
            rows.discard(&tx, key(Ulid::from_parts(1, n)), i64::MAX).expect("noted");
        }
        tx.commit().expect("committed");
        let damaged = "UPDATE garbage SET sum = sum + 1 WHERE owner = (SELECT max(owner) FROM garbage)";
        assert_eq!(connection.execute(damaged, []), Ok(1));
        assert_eq!(tidy(&connection), Ok(1));
        assert!(matches!(tidy(&connection), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn what_is_deleted_at_every_commit_stays_prepared() {
        let connection = super::super::connect(Path::new(":memory:")).expect("it opens");
        super::super::layout::create(&connection).expect("tables");
        for round in 1..=10 {
            let tx = Atom::begin(&connection).expect("it begins");
            let mut rows = Rows::up_to(LogPos(0));
            rows.discard(&tx, KEPT, i64::from(round)).expect("noted");
            rows.discard(&tx, [round; 16], i64::from(round)).expect("noted");
            while tidy(&tx).expect("tidied") == STEP {}
            tx.commit().expect("committed");
        }
        for step in [DELETE_EXPIRED, DELETE_EVENTS, DELETE_NUMBERS] {
            let statement = connection.prepare_cached(step).expect("it is one");
            assert!(statement.get_status(StatementStatus::Run) >= 10, "{step}: it is the one that ran");
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{step}");
        }
    }
}
