//! The tables, and how older ones become these.

use arcp_proto::id::LogPos;
use arcp_proto::runtime::Record;
use rusqlite::{Connection, Transaction};
use serde_json::{Value, json};

use super::rows::{Rows, failed, position};
use crate::store::StoreError;

/// The layout written by this version.
pub(super) const VERSION: i64 = 2;
/// "ARCP": a file of somebody else is not taken for ours.
pub(super) const APPLICATION: i64 = 0x4152_4350;

/// `records` has a row for each record but for two kinds, of which there are
/// many: events of a job have one row per job and commit, numbers of a session
/// one per session and commit. `latest` is set where a record replaces the one
/// before it. `garbage` says what may be deleted of the other tables, up to
/// which event or number; with an owner of zeros, records with an `until` up to
/// which moment.
const TABLES: &str = "
    CREATE TABLE records (
        pos INTEGER PRIMARY KEY, job BLOB, session BLOB, until INTEGER, latest INTEGER, body BLOB NOT NULL) STRICT;
    CREATE INDEX records_job ON records (job) WHERE job IS NOT NULL;
    CREATE INDEX records_session ON records (session) WHERE session IS NOT NULL;
    CREATE INDEX records_until ON records (until) WHERE until IS NOT NULL;
    CREATE UNIQUE INDEX records_latest_of_session ON records (session, latest) WHERE latest IS NOT NULL AND session IS NOT NULL;
    CREATE UNIQUE INDEX records_latest_of_job ON records (job, latest) WHERE latest IS NOT NULL AND job IS NOT NULL;
    CREATE TABLE events (
        pos INTEGER PRIMARY KEY, job BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX events_job ON events (job, first);
    CREATE TABLE numbers (
        pos INTEGER PRIMARY KEY, session BLOB NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX numbers_session ON numbers (session, last);
    CREATE TABLE garbage (owner BLOB PRIMARY KEY, upto INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";
const LOG: &str = "
    CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL) STRICT;
    INSERT INTO log VALUES (1, 0);
";

/// Makes the tables in an empty file.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {TABLES} {LOG} PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION}; COMMIT"
    ))
}

/// Brings a file of an older layout to this one, all of it or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(failed)?;
    transaction
        .execute_batch(&format!(
            "DROP INDEX of_job; DROP INDEX of_session; DROP INDEX by_time; ALTER TABLE records RENAME TO older; {TABLES}"
        ))
        .map_err(failed)?;
    copy(&transaction)?;
    transaction.execute_batch(&format!("DROP TABLE older; PRAGMA user_version = {VERSION}")).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn copy(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut older = transaction.prepare("SELECT pos, body FROM older ORDER BY pos").map_err(failed)?;
    let mut older = older.query([]).map_err(failed)?;
    let mut rows = Rows::default();
    while let Some(row) = older.next().map_err(failed)? {
        let at = position(row.get(0).map_err(failed)?);
        let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
        rows.put(transaction, at, &from_layout_1(at, body)?)?;
    }
    rows.finish(transaction)
}

/// The first layout had events and numbers spread out in their records.
fn from_layout_1(at: LogPos, body: &[u8]) -> Result<Record, StoreError> {
    let unreadable = |error: serde_json::Error| StoreError(format!("record {} cannot be read: {error}", at.0));
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
