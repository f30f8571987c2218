//! Records in one SQLite file: what a runtime needs to take up where it
//! ended.
//!
//! One row per record, in the order of the log. What is about a forgotten job
//! or an ended session goes with it, and a kept key when its time is over.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcp_proto::id::LogPos;
use arcp_proto::runtime::Record;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};

use crate::store::{Store, StoreError, following};

/// The layout written by this version.
const VERSION: i64 = 1;
/// "ARCP": a file of somebody else is not taken for ours.
const APPLICATION: i64 = 0x4152_4350;
const LAYOUT: &str = "
    CREATE TABLE records (pos INTEGER PRIMARY KEY, job TEXT, session TEXT, until INTEGER, body BLOB NOT NULL) STRICT;
    CREATE INDEX of_job ON records (job) WHERE job IS NOT NULL;
    CREATE INDEX of_session ON records (session) WHERE session IS NOT NULL;
    CREATE INDEX by_time ON records (until) WHERE until IS NOT NULL;
    CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL) STRICT;
    INSERT INTO log VALUES (1, 0);
";

/// How sure a commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power cut.
    #[default]
    Full,
    /// It survives the end of the process, however it ends; a power cut may
    /// take the last moments with it, and with them what clients have seen.
    Normal,
}

/// A store in a file, for one process at a time.
///
/// ```
/// use arcp_host::sqlite::{Durability, SqliteStore};
/// use arcp_host::store::Store;
/// let dir = std::env::temp_dir().join(format!("arcp-doc-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let mut store = SqliteStore::open(&dir.join("jobs.db"), Durability::Full)?;
/// let last = store.load(&mut |_, _| unreachable!("it is new"))?;
/// assert_eq!(last.0, 0);
/// // Nobody else opens it while it is open here.
/// assert!(SqliteStore::open(&dir.join("jobs.db"), Durability::Full).is_err());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    last: LogPos,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process: stop that, or name another file")]
    InUse(PathBuf),
    /// It was written by a newer version.
    #[error("{path} was written by a newer version (layout {found}, this one reads up to {VERSION}): use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// It is something else.
    #[error("{0} is not a store of this program: name another file")]
    Foreign(PathBuf),
    /// It cannot be read or written.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite says.
        why: String,
    },
}

impl SqliteStore {
    /// Opens a file, or makes it, readable by its owner only.
    ///
    /// # Errors
    ///
    /// If it cannot be used; it is left as it was.
    pub fn open(path: &Path, durability: Durability) -> Result<SqliteStore, OpenError> {
        let unusable = |why: String| OpenError::Unusable { path: path.to_path_buf(), why };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        drop(file.map_err(|error| unusable(error.to_string()))?);
        let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path.to_path_buf()),
            Some(ErrorCode::NotADatabase) => OpenError::Foreign(path.to_path_buf()),
            _ => unusable(error.to_string()),
        };
        let connection = hold(path).map_err(refused)?;
        let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let layout = (read("application_id").map_err(refused)?, read("user_version").map_err(refused)?);
        let new = layout == (0, 0) && is_empty(&connection);
        match layout {
            (APPLICATION, VERSION) => {}
            (APPLICATION, found) => return Err(OpenError::Newer { path: path.to_path_buf(), found }),
            _ if new => {}
            _ => return Err(OpenError::Foreign(path.to_path_buf())),
        }
        // Only now: a file that is refused is not written to.
        log_ahead(&connection, durability).map_err(refused)?;
        if new {
            lay_out(&connection).map_err(refused)?;
        }
        Ok(SqliteStore { connection, last: LogPos(0) })
    }
}

/// Held from the first access to the end: nobody else reads a log that is
/// being written.
fn hold(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    Ok(connection)
}

fn log_ahead(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

fn is_empty(connection: &Connection) -> bool {
    let first = connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0));
    matches!(first.optional(), Ok(None))
}

fn lay_out(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {LAYOUT} PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION}; COMMIT"
    ))
}

impl Store for SqliteStore {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        let mut rows = self.connection.prepare("SELECT pos, body FROM records ORDER BY pos").map_err(failed)?;
        let mut rows = rows.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = row.get::<_, i64>(0).map_err(failed)?;
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
            let record = serde_json::from_slice(body)
                .map_err(|error| StoreError(format!("record {at} cannot be read: {error}")))?;
            each(position(at), record);
        }
        let last = self.connection.query_row("SELECT last FROM log", [], |row| row.get::<_, i64>(0));
        self.last = position(last.map_err(failed)?);
        Ok(self.last)
    }

    fn commit(&mut self, batch: &[(LogPos, Record)]) -> Result<(), StoreError> {
        let new = following(self.last, batch)?;
        let Some(up_to) = new.last().map(|(at, _)| *at) else {
            return Ok(());
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        for (at, record) in new {
            keep(&transaction, *at, record)?;
        }
        let mut forget = transaction
            .prepare_cached("DELETE FROM records WHERE until IS NOT NULL AND until <= ?1")
            .map_err(failed)?;
        forget.execute([now_ms()]).map_err(failed)?;
        drop(forget);
        let mut note = transaction.prepare_cached("UPDATE log SET last = ?1").map_err(failed)?;
        note.execute([number(up_to)]).map_err(failed)?;
        drop(note);
        transaction.commit().map_err(failed)?;
        self.last = up_to;
        Ok(())
    }
}

fn keep(transaction: &Transaction<'_>, at: LogPos, record: &Record) -> Result<(), StoreError> {
    if let Some(job) = record.forgets_job() {
        let mut forget = transaction.prepare_cached("DELETE FROM records WHERE job = ?1").map_err(failed)?;
        forget.execute([job.to_string()]).map_err(failed)?;
        return Ok(());
    }
    if let Some(session) = record.ends_session() {
        let mut forget = transaction.prepare_cached("DELETE FROM records WHERE session = ?1").map_err(failed)?;
        forget.execute([session.to_string()]).map_err(failed)?;
        return Ok(());
    }
    let body = serde_json::to_vec(record).map_err(|error| StoreError(error.to_string()))?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO records (pos, job, session, until, body) VALUES (?1, ?2, ?3, ?4, ?5)")
        .map_err(failed)?;
    let job = record.job().map(|job| job.to_string());
    let session = record.session().map(|session| session.to_string());
    let until = record.until().map(|until| i64::try_from(until.0).unwrap_or(i64::MAX));
    insert.execute(params![number(at), job, session, until, body]).map_err(failed)?;
    Ok(())
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}

/// SQLite counts with a sign; a log never gets that far.
fn number(at: LogPos) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn position(at: i64) -> LogPos {
    LogPos(u64::try_from(at).unwrap_or(0))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
