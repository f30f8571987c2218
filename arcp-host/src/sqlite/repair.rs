//! Repair of a damaged store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arcp_proto::id::LogPos;
use rusqlite::{Connection, params};

use super::file::{Held, log_of};
use super::inspect::{Damage, Survey, scan, shown};
use super::layout::{self, End};
use super::row::Stored;
use super::rows::{Garbage, failed, position};
use super::sums::Table;
use super::{OpenError, load};
use crate::store::StoreError;

/// The outcome of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The damage that was found.
    pub damage: Vec<Damage>,
    /// The jobs that were removed.
    pub jobs: Vec<String>,
    /// The sessions that were removed.
    pub sessions: Vec<String>,
    /// The path of a copy of the damaged store, with its log if there was one.
    pub kept: PathBuf,
}

/// Rebuilds a store from its readable parts, so that it can be opened, and keeps a copy of the
/// damaged one beside it. A damaged job or session is removed entirely: a part of it could run
/// twice, or be shown with a gap. `None` if nothing is damaged.
///
/// # Errors
///
/// If it is in use, not a store, or there is no room; it is then unchanged.
pub fn repair(path: &Path) -> Result<Option<Repaired>, OpenError> {
    let unusable = |error: io::Error| OpenError::unusable(path, error);
    // `Held::take` would create a missing file.
    path.metadata().map_err(unusable)?;
    let held = Held::take(path)?;
    let log_missing = !held.has_log();
    let damage = super::check(held.path())?;
    if damage.is_empty() {
        return Ok(None);
    }
    let kept = keep_copy(held.path(), !log_missing).map_err(unusable)?;
    let made = held.path().with_added_extension("repaired");
    let survey = rebuild(held.path(), &made).map_err(|error| OpenError::of_store(path, error));
    let survey = survey.and_then(|survey| put_in_place(&made, held.path()).map_err(unusable).map(|()| survey));
    if survey.is_err() {
        let _ = fs::remove_file(&made);
    }
    let survey = survey?;
    let [jobs, sessions] = [&survey.jobs, &survey.sessions].map(|keys| keys.iter().map(|key| shown(key)).collect());
    Ok(Some(Repaired { damage, jobs, sessions, kept }))
}

/// Copies the file and its log to an unused name.
fn keep_copy(path: &Path, with_log: bool) -> io::Result<PathBuf> {
    let mut n = 1;
    let mut kept = path.with_added_extension("damaged-1");
    while kept.try_exists()? {
        n += 1;
        kept = path.with_added_extension(format!("damaged-{n}"));
    }
    fs::copy(path, &kept)?;
    File::open(&kept)?.sync_all()?;
    if with_log {
        fs::copy(log_of(path), log_of(&kept))?;
        File::open(log_of(&kept))?.sync_all()?;
    }
    Ok(kept)
}

/// Writes the undamaged rows into a new file.
fn rebuild(from: &Path, to: &Path) -> Result<Survey, StoreError> {
    let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(error)),
        Ok(()) | Err(_) => {}
    }
    let source = Connection::open(from).map_err(failed)?;
    let survey = Survey::of(&source, from).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let mut target = Connection::open(to).map_err(failed)?;
    layout::create(&target).map_err(failed)?;
    let transaction = target.transaction().map_err(failed)?;
    for table in Table::OWNED {
        let mut result = Ok(());
        scan(&source, table, &mut |row| {
            if let Ok(stored) = row
                && survey.keeps(&stored)
                && result.is_ok()
            {
                result = insert(&transaction, &stored);
            }
        });
        result.map_err(failed)?;
    }
    for garbage in Garbage::all(&source).into_iter().flatten().flatten() {
        garbage.put(&transaction)?;
    }
    let end = End { last: survey.last_position(), whole: true };
    layout::put_end(&transaction, end).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    load::everything(&target, &mut |_, _| {})?;
    drop(target);
    let permissions = fs::metadata(from).map_err(unavailable)?.permissions();
    fs::set_permissions(to, permissions).map_err(unavailable)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(unavailable)?;
    Ok(survey)
}

impl Survey {
    fn keeps(&self, row: &Stored) -> bool {
        let of = |key: &Option<Vec<u8>>, bad: &std::collections::BTreeSet<Vec<u8>>| {
            key.as_ref().is_some_and(|key| bad.contains(key))
        };
        !self.rows.contains(&(row.table, row.pos)) && !of(&row.job, &self.jobs) && !of(&row.session, &self.sessions)
    }

    fn last_position(&self) -> LogPos {
        position(self.last)
    }
}

fn insert(connection: &Connection, row: &Stored) -> rusqlite::Result<()> {
    let Stored { table, pos, job, session, numbers: [first, second], body, .. } = row;
    let sum = row.expected();
    match table {
        Table::Records => connection
            .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![pos, job, session, first, second, body, sum]),
        Table::Events => connection
            .prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![pos, job, first, second, body, sum]),
        Table::Numbers => connection
            .prepare_cached("INSERT OR REPLACE INTO numbers VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![pos, session, second, body, sum]),
        Table::Garbage | Table::Log => Ok(0),
    }
    .map(drop)
}

/// Removes the log of the old file, because SQLite would apply it to the new one.
fn put_in_place(made: &Path, path: &Path) -> io::Result<()> {
    for beside in [log_of(path), PathBuf::from(format!("{}-shm", path.display()))] {
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(made, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
