//! The tables, and the migration of older layouts.

use arcp_proto::id::LogPos;
use arcp_proto::runtime::Record;
use rusqlite::{Connection, Transaction, params};
use serde_json::{Value, json};

use super::row::Stored;
use super::rows::{Rows, failed, position};
use super::sums::{Table, sum};
use crate::store::StoreError;

/// The layout written by this version.
pub(super) const VERSION: i64 = 5;
/// The first layout with checksums. Layouts 4 and 5 have the same tables: 4 has newer names in its
/// records, and rows of 5 say how far their commits reach.
pub(super) const WITH_SUMS: i64 = 3;
/// "ARCP". It distinguishes our files from other SQLite files.
pub(super) const APPLICATION: i64 = 0x4152_4350;

/// `records` has a row for each record, except for two frequent kinds: the events of a job have one
/// row per job and commit, and the numbers of a session have one per session and commit. `latest`
/// is set if a record replaces an earlier one. `garbage` says up to which event or number the rows
/// of the other tables may be deleted; with an owner of zeros, up to which moment records with an
/// `until` may be. `sum` is the checksum of the other columns. Above its 32 bits a row says how
/// many positions its commit extends beyond it.
const TABLES: &str = "
    CREATE TABLE records (
        pos INTEGER PRIMARY KEY, job BLOB, session BLOB, until INTEGER, latest INTEGER, body BLOB NOT NULL,
        sum INTEGER NOT NULL) STRICT;
    CREATE INDEX records_job ON records (job) WHERE job IS NOT NULL;
    CREATE INDEX records_session ON records (session) WHERE session IS NOT NULL;
    CREATE INDEX records_until ON records (until) WHERE until IS NOT NULL;
    CREATE UNIQUE INDEX records_latest_of_session ON records (session, latest) WHERE latest IS NOT NULL AND session IS NOT NULL;
    CREATE UNIQUE INDEX records_latest_of_job ON records (job, latest) WHERE latest IS NOT NULL AND job IS NOT NULL;
    CREATE TABLE events (
        pos INTEGER PRIMARY KEY, job BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL,
        sum INTEGER NOT NULL) STRICT;
    CREATE INDEX events_job ON events (job, first);
    CREATE TABLE numbers (
        pos INTEGER PRIMARY KEY, session BLOB NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL,
        sum INTEGER NOT NULL) STRICT;
    CREATE INDEX numbers_session ON numbers (session, last);
    CREATE TABLE garbage (owner BLOB PRIMARY KEY, upto INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";
/// `last` is the last committed position, unless a row says that its commit reached further. A
/// commit that leaves no row, or deletes rows, writes it here. `whole` says whether the file alone
/// holds everything. It is false in the file while the log is copied into it: so the file itself
/// says that it needs its log, until all of the log is copied, by any process.
const LOG: &str = "
    CREATE TABLE log (
        one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL, whole INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
";

/// Creates the tables in an empty file.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {TABLES} {LOG} PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION};"
    ))?;
    put_end(connection, End { last: LogPos(0), whole: true })?;
    connection.execute_batch("COMMIT")
}

/// The end of a store, and whether the file alone holds everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) last: LogPos,
    pub(super) whole: bool,
}

/// Reads the end of a store.
///
/// # Errors
///
/// If a row that records it cannot be read, or its checksum does not match.
pub(super) fn end(connection: &Connection) -> Result<End, StoreError> {
    let mut end = written_end(connection)?;
    for table in Table::OWNED {
        let (columns, name) = (Stored::columns(table), table.name());
        let newest = format!("SELECT {columns} FROM {name} ORDER BY pos DESC LIMIT 1");
        let mut rows = connection.prepare(&newest).map_err(failed)?;
        let mut rows = rows.query([]).map_err(failed)?;
        if let Some(row) = rows.next().map_err(failed)? {
            end.last = end.last.max(position(Stored::whole(table, row)?.reaches()));
        }
    }
    Ok(end)
}

/// Reads the recorded end, without the rows.
///
/// # Errors
///
/// If it cannot be read, or its checksum does not match.
pub(super) fn written_end(connection: &Connection) -> Result<End, StoreError> {
    let row = connection.query_row("SELECT last, whole, sum FROM log", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    let (last, whole, found) = row.map_err(failed)?;
    if found != sum(Table::Log, &[Some(last), Some(whole)], &[]) {
        return Err(StoreError::Corrupt("log: the checksum of the last position does not match".to_string()));
    }
    Ok(End { last: position(last), whole: whole != 0 })
}

/// Records the end of a store.
pub(super) fn put_end(connection: &Connection, end: End) -> rusqlite::Result<()> {
    let (last, whole) = (super::rows::number(end.last.0), i64::from(end.whole));
    let sum = sum(Table::Log, &[Some(last), Some(whole)], &[]);
    let put = "INSERT OR REPLACE INTO log (one, last, whole, sum) VALUES (1, ?1, ?2, ?3)";
    connection.prepare_cached(put)?.execute([last, whole, sum]).map(drop)
}

/// Migrates a file of an older layout to this one, in one transaction.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(failed)?;
    if from >= WITH_SUMS {
        transaction.execute_batch(&format!("PRAGMA user_version = {VERSION}")).map_err(failed)?;
        return transaction.commit().map_err(failed);
    }
    let last = transaction.query_row("SELECT last FROM log", [], |row| row.get::<_, i64>(0)).map_err(failed)?;
    if from == 1 {
        transaction
            .execute_batch(&format!(
                "DROP INDEX of_job; DROP INDEX of_session; DROP INDEX by_time; \
                 ALTER TABLE records RENAME TO older; {TABLES}"
            ))
            .map_err(failed)?;
        copy(&transaction, position(last))?;
        transaction.execute_batch("DROP TABLE older").map_err(failed)?;
    } else {
        add_sums(&transaction)?;
    }
    transaction.execute_batch(&format!("DROP TABLE log; {LOG}")).map_err(failed)?;
    put_end(&transaction, End { last: position(last), whole: true }).map_err(failed)?;
    transaction.execute_batch(&format!("PRAGMA user_version = {VERSION}")).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Adds checksums of the present contents.
fn add_sums(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    for table in Table::OWNED {
        let name = table.name();
        let add = format!("ALTER TABLE {name} ADD COLUMN sum INTEGER NOT NULL DEFAULT 0");
        transaction.execute_batch(&add).map_err(failed)?;
        let mut after = i64::MIN;
        // In steps, so that no row is read while it is written.
        loop {
            let select = format!("SELECT {} FROM {name} WHERE pos > ?1 ORDER BY pos LIMIT 256", Stored::columns(table));
            let mut rows = transaction.prepare_cached(&select).map_err(failed)?;
            let rows: Vec<(i64, i64)> = rows
                .query_map([after], |row| Stored::read(table, row).map(|row| (row.pos, row.expected())))
                .and_then(Iterator::collect)
                .map_err(failed)?;
            let Some((last, _)) = rows.last() else {
                break;
            };
            after = *last;
            let update = format!("UPDATE {name} SET sum = ?2 WHERE pos = ?1");
            let mut update = transaction.prepare_cached(&update).map_err(failed)?;
            for (pos, sum) in rows {
                update.execute([pos, sum]).map_err(failed)?;
            }
        }
    }
    let garbage = "SELECT owner, upto FROM garbage";
    let mut rows = transaction.prepare(garbage).map_err(failed)?;
    let garbage: Vec<([u8; 16], i64)> =
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).map_err(failed)?;
    transaction.execute_batch("ALTER TABLE garbage ADD COLUMN sum INTEGER NOT NULL DEFAULT 0").map_err(failed)?;
    for (owner, upto) in garbage {
        let sum = sum(Table::Garbage, &[Some(upto)], &[Some(&owner)]);
        let update = "UPDATE garbage SET sum = ?2 WHERE owner = ?1";
        transaction.execute(update, params![owner, sum]).map_err(failed)?;
    }
    Ok(())
}

fn copy(transaction: &Transaction<'_>, last: LogPos) -> Result<(), StoreError> {
    let mut older = transaction.prepare("SELECT pos, body FROM older ORDER BY pos").map_err(failed)?;
    let mut older = older.query([]).map_err(failed)?;
    let mut rows = Rows::up_to(last);
    while let Some(row) = older.next().map_err(failed)? {
        let at = position(row.get(0).map_err(failed)?);
        let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
        rows.put(transaction, at, &from_layout_1(at, body)?)?;
    }
    rows.finish(transaction).map(drop)
}

/// In layout 1, the fields of events and numbers were members of their records.
fn from_layout_1(at: LogPos, body: &[u8]) -> Result<Record, StoreError> {
    let unreadable = |error: serde_json::Error| StoreError::Corrupt(format!("record {} cannot be read: {error}", at.0));
    let mut record: Value = serde_json::from_slice(body).map_err(unreadable)?;
    for (kind, owner, inner) in [("JobEvent", "job", "event"), ("Numbered", "session", "run")] {
        if let Some(fields) = record.get_mut(kind).and_then(Value::as_object_mut) {
            let id = fields.get(owner).cloned();
            if inner == "run" {
                fields.remove(owner);
            }
            let fields = std::mem::take(fields);
            record[kind] = json!({ owner: id, inner: fields });
        }
    }
    serde_json::from_value(record).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arcp_proto::id::{JobId, SessionId};
    use arcp_proto::model::event::JobEvent;
    use arcp_proto::runtime::{EventRecord, Numbered, NumberedRun};
    use arcp_proto::time::UtcMs;
    use arcp_proto::wire::FrameRole;
    use ulid::Ulid;

    use super::*;

    #[test]
    fn records_of_the_first_layout_are_what_they_were() {
        let (job, session) = (JobId::from_ulid(Ulid(1)), SessionId::from_ulid(Ulid(2)));
        let event = EventRecord { n: 1, at: UtcMs(5), thoughts: 2, event: Arc::new(JobEvent::Started) };
        let run = NumberedRun {
            seq: 3,
            count: 1,
            log: job.into(),
            event: 1,
            shown: None,
            role: FrameRole::Whole,
            request: 0,
            subscription: 4,
        };
        for record in [
            Record::JobEvent { job, event },
            Record::Numbered { session, run: Numbered::Events(run) },
            Record::Numbered { session, run: Numbered::TakenBack { seq: 6, upto: 7 } },
            Record::JobRestarted { job },
        ] {
            let mut older = serde_json::to_value(&record).expect("JSON");
            for (kind, inner) in [("JobEvent", "event"), ("Numbered", "run")] {
                let owned = older.get_mut(kind).and_then(Value::as_object_mut);
                if let Some(Value::Object(mut spread)) = owned.and_then(|of| of.remove(inner)) {
                    spread.extend(older[kind].as_object().expect("its owner").clone());
                    older[kind] = Value::Object(spread);
                }
            }
            let read = from_layout_1(LogPos(9), older.to_string().as_bytes());
            assert_eq!(read.expect("it is read"), record, "{older}");
        }
        let unreadable = from_layout_1(LogPos(9), b"{}").expect_err("it is none").to_string();
        assert!(unreadable.contains("record 9 cannot be read"), "{unreadable}");
    }
}
