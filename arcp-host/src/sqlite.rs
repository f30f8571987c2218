//! Records in one SQLite file: what a runtime needs to take up where it
//! ended, and the events that it no longer holds in memory.
//!
//! What is about a forgotten job or an ended session goes with it, and a kept
//! key when the runtime says that its time is over: in small steps, between
//! commits.
//!
//! Every row has a checksum, compared whenever it is read. What a file says
//! besides is [checked](check), [repaired](repair()) and [backed up](backup) here.

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

/// Up to which size of its file the structure of a store is looked at when it
/// is opened: pages that point elsewhere, indexes that lack a row. Checksums of
/// rows are compared in any case, whenever one is read.
const CHECKED_BYTES: u64 = 64 << 20;
/// After how many pages the log is copied into the file.
const LOG_PAGES: usize = 1000;
/// Statements that stay prepared: all that commits and tidying up take, and some.
const STATEMENTS: usize = 32;
/// Pages that a small commit writes, and their size, roughly.
const COMMIT_PAGES: usize = 4;
const PAGE_BYTES: usize = 4096;

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
    /// Whether there is more to delete.
    untidy: bool,
    /// Pages that were written to the log since it was copied, roughly.
    log_pages: usize,
    /// Let go last: nobody else writes to the file before.
    held: Held,
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
    /// Its log is missing, and with it what was committed last.
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
        /// What is, and where.
        why: String,
    },
    /// There is no room on its disk for what it takes to open it.
    #[error("{0} cannot be opened, its disk is full: make room there and start again; nothing in it is lost")]
    DiskFull(PathBuf),
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
        let held = Held::take(path)?;
        let has_log = held.has_log();
        let wants_log = held.wants_log().map_err(|error| OpenError::unusable(path, error))?;
        let refused = |error| OpenError::of(path, error);
        let mut connection = connect(held.path()).map_err(refused)?;
        let log_missing = || OpenError::LogMissing { path: path.to_path_buf(), log: file::log_of(held.path()) };
        let layout = layout_of(&connection, path)?;
        match layout {
            // Tables come before the log does.
            None if wants_log && !has_log => return Err(log_missing()),
            None => layout::create(&connection).map_err(refused)?,
            Some(WITH_SUMS..=VERSION) if !has_log && !is_whole(&connection, path)? => return Err(log_missing()),
            Some(_) => {}
        }
        // Only now: a file that is refused is not written to.
        log_ahead(&connection, durability).map_err(refused)?;
        check_structure(&connection, path)?;
        let unusable = |error: StoreError| OpenError::of_store(path, error);
        if let Some(older) = layout.filter(|layout| *layout < VERSION) {
            // For the program that wrote it, which does not read what becomes of it.
            inspect::keep_copy(&connection, held.path(), older)?;
            layout::migrate(&mut connection, older).map_err(unusable)?;
        }
        let end = layout::end(&connection).map_err(unusable)?;
        let mut store = SqliteStore { connection, last: end.last, untidy: true, log_pages: 0, held };
        store.copy_log().map_err(refused)?;
        store.held.watch_log();
        Ok(store)
    }

    /// Copies the log into the file, and has the file say that it needs its log
    /// from now on.
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

    /// What SQLite says of a file that is being opened.
    fn of(path: &Path, error: rusqlite::Error) -> OpenError {
        let path = path.to_path_buf();
        let at_length = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
            Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, why: error.to_string() },
            Some(ErrorCode::DiskFull) => OpenError::DiskFull(path),
            // What the processes that read it share cannot grow.
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

/// The layout of a store; `None` of a file without anything in it.
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

/// What SQLite finds wrong, unless the file is so large that it takes long.
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
    // Refused at once where another program writes to it.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    Ok(connection)
}

/// A statement has one plan, whatever is bound to it: SQLite would otherwise prepare those
/// with a range or a limit again at each of their runs.
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
    // What the file says of itself while its log is copied is said here.
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
            // Nobody tidies up. If it cannot be done now, the next commit does it.
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
            let more = rows::tidy(&transaction)?;
            if more {
                // What is gone may have said it.
                layout::put_end(&transaction, End { last: self.last, whole: true }).map_err(failed)?;
            }
            transaction.commit().map_err(failed)?;
            self.untidy = more;
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
