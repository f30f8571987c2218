//! A store in one SQLite file. It keeps the records that a restart needs, and the events that the
//! runtime has dropped from memory.
//!
//! The records of a forgotten job or an ended session are deleted with it, and an idempotency key
//! when its time has passed: in small steps, between commits.
//!
//! Every row has a checksum, which is compared whenever the row is read. This module also
//! [checks](check), [repairs](repair()) and [backs up](backup) files.

mod atom;
mod file;
mod inspect;
mod layout;
mod load;
pub mod lookup;
mod read;
mod repair;
mod row;
mod rows;
mod sums;

use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_proto::id::LogPos;
use arcp_proto::runtime::{Batch, Record};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, ffi};

pub use self::inspect::{Damage, backup, check};
pub use self::repair::{Repaired, repair};

use self::atom::Atom;
use self::file::Held;
use self::layout::{APPLICATION, End, VERSION, WITH_SUMS};
use self::read::Reader;
use self::rows::{Rows, failed};
use crate::store::{History, Store, StoreError, following};

/// The largest file of which the structure is checked when it is opened: misdirected pages, and
/// indexes that lack a row. Checksums of rows are compared in any case, whenever one is read.
const CHECKED_BYTES: u64 = 64 << 20;
/// The number of pages after which the log is copied into the file.
const LOG_PAGES: usize = 1000;
/// How many statements stay prepared: enough for all that commits and tidying use.
const STATEMENTS: usize = 32;
/// The rough number of pages that a small commit writes, and the size of a page.
const COMMIT_PAGES: usize = 4;
const PAGE_BYTES: usize = 4096;

/// How durable a commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power failure.
    #[default]
    Full,
    /// It survives the end of the process, however it ends. After a power failure the last commits
    /// may be missing, although clients have seen their records.
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
    /// Whether there may be more to delete.
    untidy: bool,
    /// The rough number of pages written to the log since it was last copied.
    log_pages: usize,
    /// The lock, dropped last: until then no other process writes to the file.
    held: Held,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{0} is in use by another process: stop that, or name another file")]
    InUse(PathBuf),
    /// A newer version has written it.
    #[error("{path} was written by a newer version (layout {found}, this one reads up to {VERSION}): use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout version.
        found: i64,
    },
    /// It is not a store.
    #[error("{0} is not a store of this program: name another file")]
    Foreign(PathBuf),
    /// Its log is missing, and with it the last commits.
    #[error(
        "{log} is missing, and it held what was committed last: put it back, or go on without that after \
         `arcp store repair {path}`"
    )]
    LogMissing {
        /// The file.
        path: PathBuf,
        /// The log beside it.
        log: PathBuf,
    },
    /// It is damaged.
    #[error("{path} is damaged: {why}; see `arcp store check {path}`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged, and where.
        why: String,
    },
    /// Its disk has no room for opening it.
    #[error("{0} cannot be opened, its disk is full: make room there and start again; nothing in it is lost")]
    DiskFull(PathBuf),
    /// It cannot be read or written.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The message of the system or of SQLite.
        why: String,
    },
}

impl SqliteStore {
    /// Opens a file, or creates it with read permission for its owner only.
    ///
    /// # Errors
    ///
    /// If the file cannot be used; it is then unchanged.
    pub fn open(path: &Path, durability: Durability) -> Result<SqliteStore, OpenError> {
        let held = Held::take(path)?;
        let has_log = held.has_log();
        let wants_log = held.wants_log().map_err(|error| OpenError::unusable(path, error))?;
        let refused = |error| OpenError::of(path, error);
        let mut connection = connect(held.path()).map_err(refused)?;
        let log_missing = || OpenError::LogMissing { path: path.to_path_buf(), log: file::log_of(held.path()) };
        let layout = layout_of(&connection, path)?;
        match layout {
            // Tables are created before the file gets a log: without tables, the log is lost.
            None if wants_log && !has_log => return Err(log_missing()),
            None => layout::create(&connection).map_err(refused)?,
            Some(WITH_SUMS..=VERSION) if !has_log && !is_whole(&connection, path)? => return Err(log_missing()),
            Some(_) => {}
        }
        // Only here, because a file that is refused is not written to.
        log_ahead(&connection, durability).map_err(refused)?;
        check_structure(&connection, path)?;
        let unusable = |error: StoreError| OpenError::of_store(path, error);
        if let Some(older) = layout.filter(|layout| *layout < VERSION) {
            // A copy for the older program, which cannot read the new layout.
            inspect::keep_copy(&connection, held.path(), older)?;
            layout::migrate(&mut connection, older).map_err(unusable)?;
        }
        let end = layout::end(&connection).map_err(unusable)?;
        let mut store = SqliteStore { connection, last: end.last, untidy: true, log_pages: 0, held };
        store.copy_log().map_err(refused)?;
        store.held.watch_log();
        Ok(store)
    }

    /// Copies the log into the file. Meanwhile the file itself says that it needs its log.
    fn copy_log(&mut self) -> rusqlite::Result<()> {
        let last = self.last;
        layout::put_end(&self.connection, End { last, whole: false })?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        layout::put_end(&self.connection, End { last, whole: true })?;
        self.log_pages = 0;
        Ok(())
    }
}

impl OpenError {
    fn unusable(path: &Path, why: impl ToString) -> OpenError {
        OpenError::Unusable { path: path.to_path_buf(), why: why.to_string() }
    }

    /// The reason for an error of SQLite while a file is being opened.
    fn of(path: &Path, error: rusqlite::Error) -> OpenError {
        let path = path.to_path_buf();
        let at_length = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
            Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, why: error.to_string() },
            Some(ErrorCode::DiskFull) => OpenError::DiskFull(path),
            // The shared memory of the processes that read the file cannot grow.
            Some(_) if at_length == Some(ffi::SQLITE_IOERR_SHMSIZE) => OpenError::DiskFull(path),
            _ => OpenError::Unusable { path, why: error.to_string() },
        }
    }

    fn of_store(path: &Path, error: StoreError) -> OpenError {
        let path = path.to_path_buf();
        match error {
            StoreError::Corrupt(why) => OpenError::Damaged { path, why },
            StoreError::Unavailable(why) | StoreError::Fenced(why) => OpenError::Unusable { path, why },
        }
    }
}

/// The layout of a store; `None` for an empty file.
fn layout_of(connection: &Connection, path: &Path) -> Result<Option<i64>, OpenError> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let refused = |error| OpenError::of(path, error);
    match (read("application_id").map_err(refused)?, read("user_version").map_err(refused)?) {
        (APPLICATION, layout @ 1..=VERSION) => Ok(Some(layout)),
        (APPLICATION, found) => Err(OpenError::Newer { path: path.to_path_buf(), found }),
        (0, 0) if is_empty(connection) => Ok(None),
        _ => Err(OpenError::Foreign(path.to_path_buf())),
    }
}

fn is_whole(connection: &Connection, path: &Path) -> Result<bool, OpenError> {
    layout::written_end(connection).map(|end| end.whole).map_err(|error| OpenError::of_store(path, error))
}

/// Has SQLite check the structure, unless the file is so large that this takes long.
fn check_structure(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let refused = |error| OpenError::of(path, error);
    let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let size: i64 = connection.query_row(size, [], |row| row.get(0)).map_err(refused)?;
    if u64::try_from(size).is_ok_and(|size| size > CHECKED_BYTES) {
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.to_path_buf(), why: found }) }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    keep_prepared(&connection)?;
    // Fails at once if another program is writing to it.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    Ok(connection)
}

/// Makes the plan of a statement independent of bound values. Otherwise SQLite would prepare
/// statements with a range or a limit again at each run.
fn keep_prepared(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn log_ahead(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Checkpoints are done by `copy_log`, which also marks the file.
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

fn is_empty(connection: &Connection) -> bool {
    let first = connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0));
    matches!(first.optional(), Ok(None))
}

impl Store for SqliteStore {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        load::everything(&self.connection, each)?;
        self.last = layout::end(&self.connection)?.last;
        Ok(self.last)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let new = following(self.last, batches)?;
        let Some(up_to) = new.last().map(|batch| batch.last()) else {
            return Ok(());
        };
        self.held.is_in_place()?;
        let transaction = Atom::begin(&self.connection).map_err(failed)?;
        let mut rows = Rows::up_to(up_to);
        for (at, record) in new.into_iter().flat_map(Batch::entries) {
            rows.put(&transaction, at, record)?;
        }
        let written = rows.finish(&transaction)?;
        if written.deleted || !written.says_end {
            layout::put_end(&transaction, End { last: up_to, whole: true }).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.last = up_to;
        self.untidy |= written.garbage;
        self.log_pages += COMMIT_PAGES + written.bytes / PAGE_BYTES;
        if self.log_pages >= 4 * LOG_PAGES {
            // The store had no time to tidy up. If copying fails, the next commit tries again.
            let _ = self.copy_log();
        }
        Ok(())
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(Some(Box::new(Reader::open(self.held.path())?)))
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        if self.log_pages >= LOG_PAGES {
            self.copy_log().map_err(failed)?;
        }
        if self.untidy {
            let transaction = Atom::begin(&self.connection).map_err(failed)?;
            let deleted = rows::tidy(&transaction)?;
            if deleted > 0 {
                // A deleted row may have recorded the end.
                layout::put_end(&transaction, End { last: self.last, whole: true }).map_err(failed)?;
            }
            transaction.commit().map_err(failed)?;
            self.untidy = deleted == rows::STEP;
        }
        Ok(self.untidy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_of_a_file_is_said_with_what_to_do() {
        let path = Path::new("/a/jobs.db");
        let said = |code| OpenError::of(path, rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED] {
            assert!(matches!(said(code), OpenError::InUse(of) if of == path));
        }
        assert!(matches!(said(ffi::SQLITE_NOTADB), OpenError::Foreign(of) if of == path));
        assert!(matches!(said(ffi::SQLITE_CORRUPT), OpenError::Damaged { path: of, .. } if of == path));
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(matches!(said(code), OpenError::DiskFull(of) if of == path));
        }
        for code in [ffi::SQLITE_CANTOPEN, ffi::SQLITE_IOERR] {
            assert!(matches!(said(code), OpenError::Unusable { path: of, .. } if of == path));
        }
    }
}
