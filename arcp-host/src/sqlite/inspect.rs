//! Inspection of a file without changing it, also while a runtime has it open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use arcp_proto::runtime::Record;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::layout::{self, End, VERSION, WITH_SUMS};
use super::load::{numbers_of, record_of};
use super::read::events_of;
use super::row::Stored;
use super::rows::Garbage;
use super::sums::Table;
use super::{OpenError, file, layout_of};
use crate::store::StoreError;

/// A part of a store that cannot be read, or is inconsistent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The table, and the position, job or session if they are known.
    pub place: String,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Checks every row and the structure of a store, without changing it. A runtime may have it open.
///
/// # Errors
///
/// If it is not a store, or its layout has no checksums.
pub fn check(path: &Path) -> Result<Vec<Damage>, OpenError> {
    let connection = read_only(path)?;
    Survey::of(&connection, path).map(|survey| survey.damage)
}

/// Copies a store to a new file, with its state at one moment, and checks the copy. A runtime may
/// have it open and continue to write.
///
/// # Errors
///
/// If it is not a store, or the copy cannot be written; there is then no copy.
pub fn backup(path: &Path, to: &Path) -> Result<Vec<Damage>, OpenError> {
    let source = read_only(path)?;
    layout_of(&source, path)?;
    copy_to(&source, to)?;
    let checked = check(to);
    if checked.is_err() {
        let _ = std::fs::remove_file(to);
    }
    checked
}

/// Copies a store of an older layout to a name beside it, and replaces an earlier copy.
///
/// # Errors
///
/// If the copy cannot be written; an earlier copy then stays.
pub(super) fn keep_copy(source: &Connection, path: &Path, layout: i64) -> Result<(), OpenError> {
    let kept = path.with_added_extension(format!("layout-{layout}"));
    let part = kept.with_added_extension("part");
    // The remains of an unfinished copy.
    let _ = std::fs::remove_file(&part);
    copy_to(source, &part)?;
    std::fs::rename(&part, &kept).map_err(|error| OpenError::unusable(&kept, error))
}

/// Copies a store to a new file; if that fails, there is no file.
fn copy_to(source: &Connection, to: &Path) -> Result<(), OpenError> {
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    drop(target.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return OpenError::unusable(to, "it exists: name another file for the copy, or remove it");
        }
        OpenError::unusable(to, error)
    })?);
    let copied = copy(source, to).map_err(|error| OpenError::of_store(to, error));
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied
}

fn copy(source: &Connection, to: &Path) -> Result<(), StoreError> {
    let failed = super::rows::failed;
    let mut target = Connection::open(to).map_err(failed)?;
    let all = Backup::new(source, &mut target).map_err(failed)?;
    // In one step, so that the copy has the state of one moment.
    while all.step(-1).map_err(failed)? != StepResult::Done {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(all);
    // The copy is one file, without a log beside it.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(failed)?;
    if let Ok(End { last, .. }) = layout::written_end(&target) {
        layout::put_end(&target, End { last, whole: true }).map_err(failed)?;
    }
    drop(target);
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::Unavailable(error.to_string()))
}

pub(super) fn read_only(path: &Path) -> Result<Connection, OpenError> {
    // SQLite's own error would not say why.
    path.metadata().map_err(|error| OpenError::unusable(path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let refused = |error| OpenError::of(path, error);
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    // A read transaction, so that all reads see the same state.
    connection.execute_batch("BEGIN").map_err(refused)?;
    Ok(connection)
}

/// The damage of a store, and the jobs and sessions that it affects.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) damage: Vec<Damage>,
    /// Damaged rows.
    pub(super) rows: BTreeSet<(Table, i64)>,
    /// Damaged jobs and sessions, by their keys.
    pub(super) jobs: BTreeSet<Vec<u8>>,
    pub(super) sessions: BTreeSet<Vec<u8>>,
    /// The last position of any row.
    pub(super) last: i64,
    /// The first kept event of each job.
    trimmed: BTreeMap<Vec<u8>, i64>,
    /// The ranges of events in each job's rows.
    spans: BTreeMap<Vec<u8>, Vec<(i64, i64)>>,
}

impl Survey {
    /// Surveys a store; `path` is that of the file whose log is checked.
    ///
    /// # Errors
    ///
    /// If it is not a store, or its layout has no checksums.
    pub(super) fn of(connection: &Connection, path: &Path) -> Result<Survey, OpenError> {
        let why = match layout_of(connection, path)? {
            Some(WITH_SUMS..=VERSION) => None,
            Some(older) => Some(format!("layout {older} has no checksums: start a runtime with it once")),
            None => Some("nothing is in it".to_string()),
        };
        if let Some(why) = why {
            return Err(OpenError::unusable(path, why));
        }
        let mut survey = Survey::default();
        survey.structure(connection);
        survey.end(connection, path);
        for table in Table::OWNED {
            scan(connection, table, &mut |row| survey.row(table, row));
        }
        survey.garbage(connection);
        survey.gaps();
        Ok(survey)
    }

    fn found(&mut self, place: impl ToString, why: impl ToString) {
        self.damage.push(Damage { place: place.to_string(), why: why.to_string() });
    }

    fn structure(&mut self, connection: &Connection) {
        let found = connection.prepare("PRAGMA integrity_check").and_then(|mut check| {
            let lines = check.query_map([], |row| row.get::<_, String>(0))?;
            lines.collect::<rusqlite::Result<Vec<String>>>()
        });
        match found {
            Ok(lines) => lines.iter().filter(|line| *line != "ok").for_each(|line| self.found("structure", line)),
            Err(error) => self.found("structure", error),
        }
    }

    fn end(&mut self, connection: &Connection, path: &Path) {
        match layout::written_end(connection) {
            Ok(End { whole: false, .. }) if file::log_is_missing(path) => {
                let log = file::log_of(path);
                self.found(log.display(), "it is missing, and it held what was committed last");
            }
            Ok(End { last, .. }) => self.last = self.last.max(super::rows::number(last.0)),
            Err(error) => self.found("log", error),
        }
    }

    fn garbage(&mut self, connection: &Connection) {
        match Garbage::all(connection) {
            Ok(rows) => rows.into_iter().filter_map(Result::err).for_each(|error| self.found("garbage", error)),
            Err(error) => self.found("garbage", error),
        }
    }

    fn row(&mut self, table: Table, row: Result<Stored, Unread>) {
        let stored = match row {
            Ok(stored) => stored,
            Err(Unread { pos, why }) => {
                let place = match pos {
                    Some(pos) => format!("{} at position {pos}", table.name()),
                    None => table.name().to_string(),
                };
                self.rows.extend(pos.map(|pos| (table, pos)));
                return self.found(place, why);
            }
        };
        self.last = self.last.max(if stored.is_whole() { stored.reaches() } else { stored.pos });
        if let Err(why) = self.look_at(&stored) {
            self.found(stored.place(), why);
            self.rows.insert((table, stored.pos));
            // A record with both says that the session watches the job, so it belongs to the
            // session.
            match (stored.session, stored.job) {
                (Some(session), _) => drop(self.sessions.insert(session)),
                (None, Some(job)) => drop(self.jobs.insert(job)),
                (None, None) => {}
            }
        }
    }

    /// Compares the checksum of a row, and parses its contents.
    fn look_at(&mut self, stored: &Stored) -> Result<(), String> {
        if !stored.is_whole() {
            return Err("its checksum does not match".to_string());
        }
        let words = |error: StoreError| error.to_string();
        match (stored.table, &stored.job) {
            (Table::Records, job) => {
                let record = record_of(stored).map_err(words)?;
                if let (Record::HistoryTrimmed { upto: gone, .. } | Record::JobHistory { gone, .. }, Some(job)) =
                    (record, job)
                {
                    let trimmed = self.trimmed.entry(job.clone()).or_default();
                    *trimmed = super::rows::number(gone).max(*trimmed);
                }
            }
            (Table::Events, Some(job)) => {
                events_of(stored).map_err(words)?;
                let span = (stored.numbers[0].unwrap_or(0), stored.numbers[1].unwrap_or(0));
                self.spans.entry(job.clone()).or_default().push(span);
            }
            (Table::Events, None) => return Err("it is of no job".to_string()),
            (Table::Numbers, _) => drop(numbers_of(stored).map_err(words)?),
            (Table::Garbage | Table::Log, _) => {}
        }
        Ok(())
    }

    /// Finds missing rows between undamaged ones.
    fn gaps(&mut self) {
        for (job, mut spans) in std::mem::take(&mut self.spans) {
            if self.jobs.contains(&job) {
                continue; // those rows are there, but not whole
            }
            spans.sort_unstable();
            let mut next = self.trimmed.get(&job).map_or(1, |upto| upto + 1);
            for (first, last) in spans {
                if first > next {
                    self.found(format!("events of {}", shown(&job)), format!("{next} to {} are missing", first - 1));
                    self.jobs.insert(job.clone());
                }
                next = next.max(last + 1);
            }
        }
    }
}

/// A row, or several, that SQLite cannot read.
pub(super) struct Unread {
    pos: Option<i64>,
    why: String,
}

/// Reads every readable row: from both ends, if a page in between is unreadable.
pub(super) fn scan(connection: &Connection, table: Table, each: &mut dyn FnMut(Result<Stored, Unread>)) {
    let (columns, name) = (Stored::columns(table), table.name());
    let mut reached = i64::MIN;
    for order in ["ASC", "DESC"] {
        let select = format!("SELECT {columns} FROM {name} WHERE pos > ?1 ORDER BY pos {order}");
        let result = connection.prepare(&select).and_then(|mut rows| {
            let from = reached;
            let mut rows = rows.query([from])?;
            while let Some(row) = rows.next()? {
                let pos = row.get(0)?;
                if order == "ASC" {
                    reached = pos;
                }
                let stored = Stored::read(table, row);
                each(stored.map_err(|error| Unread { pos: Some(pos), why: error.to_string() }));
            }
            Ok(())
        });
        match result {
            Ok(()) => return,
            Err(error) if order == "ASC" => {
                let why = format!("what comes after position {reached} cannot be read: {error}");
                each(Err(Unread { pos: None, why }));
            }
            Err(_) => {}
        }
    }
}

/// The key of a job or session, for messages.
pub(super) fn shown(key: &[u8]) -> String {
    match <[u8; 16]>::try_from(key) {
        Ok(key) => ulid::Ulid::from_bytes(key).to_string(),
        Err(_) => "nobody known".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Durability, SqliteStore};
    use super::*;
    use arcp_proto::id::LogPos;

    #[test]
    fn a_file_that_says_that_it_is_not_whole_has_its_log_or_is_damaged() {
        let folder = std::env::temp_dir().join(format!("arcp-inspect-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (path, copied) = (folder.join("jobs.db"), folder.join("copy.db"));
        drop(SqliteStore::open(&path, Durability::Normal).expect("it is new"));
        assert_eq!(check(&path).expect("a store"), []);
        assert_eq!(backup(&path, &copied).expect("a store"), []);
        assert!(backup(&path, &copied).expect_err("it is there").to_string().contains("name another file"));
        // The copy needs no log, so the test can make one up.
        let connection = Connection::open(&copied).expect("a store");
        let survey = |log: &[u8]| {
            std::fs::write(file::log_of(&path), log).expect("written");
            let mut survey = Survey::default();
            survey.end(&connection, &path);
            (survey.last, survey.damage.len())
        };
        for (whole, log, found) in [(false, "", (0, 1)), (false, "x", (7, 0)), (true, "", (7, 0)), (true, "x", (7, 0))]
        {
            layout::put_end(&connection, End { last: LogPos(7), whole }).expect("written");
            assert_eq!(survey(log.as_bytes()), found, "{whole} {log}");
        }
        drop(connection);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
