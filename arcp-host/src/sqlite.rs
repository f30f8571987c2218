//! Records in one SQLite file: what a runtime needs to take up where it
//! ended, and the events that it no longer holds in memory.
//!
//! What is about a forgotten job or an ended session goes with it, and a kept
//! key when the runtime says that its time is over: in small steps, with the
//! commits that follow.

mod layout;
mod read;
mod rows;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{Batch, NumberedRun, Record};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use ulid::Ulid;

use self::layout::{APPLICATION, VERSION};
use self::read::{Reader, events_of, last_of};
use self::rows::{Rows, failed, key, number, position};
use crate::store::{History, Store, StoreError, following};

/// How long a lock is waited for: an agent that was just being started holds
/// what its parent held, killed or not, until its own program runs.
const PATIENCE: Duration = Duration::from_secs(1);

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
    path: PathBuf,
    connection: Connection,
    last: LogPos,
    /// Whether there is more to delete.
    untidy: bool,
    /// Held as long as the store is: nobody else writes to the file.
    _lock: File,
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
        let lock = lock(path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        drop(file.map_err(|error| unusable(error.to_string()))?);
        let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path.to_path_buf()),
            Some(ErrorCode::NotADatabase) => OpenError::Foreign(path.to_path_buf()),
            _ => unusable(error.to_string()),
        };
        let mut connection = connect(path).map_err(refused)?;
        let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let layout = (read("application_id").map_err(refused)?, read("user_version").map_err(refused)?);
        let new = layout == (0, 0) && is_empty(&connection);
        match layout {
            (APPLICATION, 1..=VERSION) => {}
            (APPLICATION, found) => return Err(OpenError::Newer { path: path.to_path_buf(), found }),
            _ if new => {}
            _ => return Err(OpenError::Foreign(path.to_path_buf())),
        }
        // Only now: a file that is refused is not written to.
        log_ahead(&connection, durability).map_err(refused)?;
        if new {
            layout::create(&connection).map_err(refused)?;
        } else if layout.1 < VERSION {
            layout::migrate(&mut connection).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(SqliteStore { path: path.to_path_buf(), connection, last: LogPos(0), untidy: true, _lock: lock })
    }
}

/// A lock beside the file: SQLite's own would keep our reader out as well.
fn lock(path: &Path) -> Result<File, OpenError> {
    let unusable = |why: String| OpenError::Unusable { path: path.to_path_buf(), why };
    let mut beside = path.as_os_str().to_os_string();
    beside.push("-lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside);
    let lock = lock.map_err(|error| unusable(error.to_string()))?;
    let asked = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if asked.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 50),
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_path_buf())),
            Err(TryLockError::Error(error)) => return Err(unusable(error.to_string())),
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    // Refused at once where another program writes to it.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
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

impl Store for SqliteStore {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        let running = self.load_records(each)?;
        for (job, trimmed) in running {
            self.load_events(job, trimmed, each)?;
        }
        self.load_numbers(each)?;
        let last = self.connection.query_row("SELECT last FROM log", [], |row| row.get::<_, i64>(0));
        self.last = position(last.map_err(failed)?);
        Ok(self.last)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let new = following(self.last, batches)?;
        let Some(up_to) = new.last().map(|batch| batch.last()) else {
            return Ok(());
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        let mut rows = Rows::default();
        for (at, record) in new.into_iter().flat_map(Batch::entries) {
            rows.put(&transaction, at, record)?;
        }
        rows.finish(&transaction)?;
        let untidy = rows::tidy(&transaction)?;
        let mut note = transaction.prepare_cached("UPDATE log SET last = ?1").map_err(failed)?;
        note.execute([number(up_to.0)]).map_err(failed)?;
        drop(note);
        transaction.commit().map_err(failed)?;
        (self.last, self.untidy) = (up_to, untidy);
        Ok(())
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(Some(Box::new(Reader::open(&self.path)?)))
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        if self.untidy {
            let transaction = self.connection.transaction().map_err(failed)?;
            let more = rows::tidy(&transaction)?;
            transaction.commit().map_err(failed)?;
            self.untidy = more;
        }
        Ok(self.untidy)
    }
}

impl SqliteStore {
    /// Gives everything that is a record of its own, and of jobs that are over
    /// the last event. Returns the others, each with the last event that is
    /// no longer kept.
    fn load_records(&self, each: &mut dyn FnMut(LogPos, Record)) -> Result<BTreeMap<JobId, u64>, StoreError> {
        let mut running = BTreeMap::new();
        let mut rows = self.connection.prepare("SELECT pos, body FROM records ORDER BY pos").map_err(failed)?;
        let mut rows = rows.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = position(row.get(0).map_err(failed)?);
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
            let record: Record = serde_json::from_slice(body)
                .map_err(|error| StoreError(format!("record {} cannot be read: {error}", at.0)))?;
            if let Record::HistoryTrimmed { job, upto, .. } = &record {
                running.entry(*job).and_modify(|trimmed| *trimmed = *upto);
            }
            let over = if let Record::JobHistory { job, .. } = &record { Some(*job) } else { None };
            if let Record::JobAccepted(accepted) = &record {
                running.insert(accepted.job, 0);
            }
            each(at, record);
            if let Some(job) = over {
                running.remove(&job);
                self.load_last_event(at, job, each)?;
            }
        }
        Ok(running)
    }

    fn load_last_event(&self, at: LogPos, job: JobId, each: &mut dyn FnMut(LogPos, Record)) -> Result<(), StoreError> {
        let select = "SELECT body FROM events WHERE job = ?1 ORDER BY first DESC LIMIT 1";
        let mut rows = self.connection.prepare_cached(select).map_err(failed)?;
        let mut rows = rows.query([key(job.ulid())]).map_err(failed)?;
        if let Some(row) = rows.next().map_err(failed)? {
            let body = row.get_ref(0).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
            if let Some(event) = last_of(body)? {
                each(at, Record::JobEvent { job, event });
            }
        }
        Ok(())
    }

    fn load_events(&self, job: JobId, trimmed: u64, each: &mut dyn FnMut(LogPos, Record)) -> Result<(), StoreError> {
        let select = "SELECT pos, body FROM events WHERE job = ?1 AND last > ?2 ORDER BY first";
        let mut rows = self.connection.prepare_cached(select).map_err(failed)?;
        let mut rows = rows.query(params![key(job.ulid()), number(trimmed)]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = position(row.get(0).map_err(failed)?);
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
            for event in events_of(body)?.into_iter().filter(|event| event.n > trimmed) {
                each(at, Record::JobEvent { job, event });
            }
        }
        Ok(())
    }

    fn load_numbers(&self, each: &mut dyn FnMut(LogPos, Record)) -> Result<(), StoreError> {
        let select = "SELECT pos, session, body FROM numbers ORDER BY pos";
        let mut rows = self.connection.prepare(select).map_err(failed)?;
        let mut rows = rows.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = position(row.get(0).map_err(failed)?);
            let session = SessionId::from_ulid(Ulid::from_bytes(row.get(1).map_err(failed)?));
            let body = row.get_ref(2).and_then(|body| Ok(body.as_blob()?)).map_err(failed)?;
            let runs: Vec<NumberedRun> = serde_json::from_slice(body)
                .map_err(|error| StoreError(format!("numbers at {} cannot be read: {error}", at.0)))?;
            for run in runs {
                each(at, Record::Numbered { session, run });
            }
        }
        Ok(())
    }
}
