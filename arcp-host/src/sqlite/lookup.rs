//! Lookups of single jobs and sessions in a store, also while a runtime has it open.

use std::path::Path;
use std::sync::Arc;

use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{AuditEntry, EventRecord, JobRecord, OpenPrompt, Record};
use arcp_proto::time::UtcMs;
use rusqlite::{Connection, ToSql, params};
use ulid::Ulid;

use super::inspect::read_only;
use super::load::record_of;
use super::read::{events_of, last_of};
use super::row::Stored;
use super::rows::{PROMPTED, failed, key, number};
use super::sums::Table;
use super::{OpenError, layout_of};
use crate::store::StoreError;

/// A job as it was accepted, with its input; `None` if the store has no such job. A runtime may
/// have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn job(path: &Path, id: JobId) -> Result<Option<JobRecord>, OpenError> {
    let records = records(path, "job = ?1", &[&key(id.ulid())])?;
    Ok(records
        .into_iter()
        .find_map(|record| if let Record::JobAccepted(job) = record { Some(Arc::unwrap_or_clone(job)) } else { None }))
}

/// Whether credentials were, or may have been, issued for a job and are not revoked. A runtime may
/// have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn has_credentials(path: &Path, id: JobId) -> Result<bool, OpenError> {
    let records = records(path, "job = ?1", &[&key(id.ulid())])?;
    let is_wanted = |record: &Record| matches!(record, Record::CredentialsWanted { .. });
    let is_revoked = |record: &Record| matches!(record, Record::CredentialsRevoked { .. });
    Ok(records.iter().any(is_wanted) && !records.iter().any(is_revoked))
}

/// The records of a session, in the order of the log; none if the store has no such session. A
/// runtime may have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn session(path: &Path, id: SessionId) -> Result<Vec<Record>, OpenError> {
    records(path, "session = ?1", &[&key(id.ulid())])
}

/// The records of all sessions, in the order of the log. A runtime may have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn sessions(path: &Path) -> Result<Vec<Record>, OpenError> {
    records(path, "session IS NOT NULL AND job IS NULL", &[])
}

/// The audit trail, oldest first. A runtime may have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn audit(path: &Path) -> Result<Vec<AuditEntry>, OpenError> {
    // Entries belong neither to a job nor to a session.
    let entries = "job IS NULL AND session IS NULL AND until IS NULL";
    let entry = |record| if let Record::Audited(entry) = record { Some(*entry) } else { None };
    Ok(records(path, entries, &[])?.into_iter().filter_map(entry).collect())
}

/// The time at which the newest job or session of a store was made, from its id; `None` if there is
/// none. A runtime may have the store open.
///
/// # Errors
///
/// If it is not a store.
pub fn latest(path: &Path) -> Result<Option<UtcMs>, OpenError> {
    let connection = read_only(path)?;
    if layout_of(&connection, path)?.is_none() {
        return Ok(None);
    }
    let newest = |owner: &str| {
        let newest = format!("SELECT max({owner}) FROM records WHERE {owner} IS NOT NULL");
        connection.query_row(&newest, [], |row| row.get::<_, Option<Vec<u8>>>(0))
    };
    let refused = |error| OpenError::of(path, error);
    // Ids begin with their time.
    let newest = newest("job").map_err(refused)?.max(newest("session").map_err(refused)?);
    let newest = newest.and_then(|key| <[u8; 16]>::try_from(key).ok());
    Ok(newest.map(|key| UtcMs(Ulid::from_bytes(key).timestamp_ms())))
}

/// The end of a job.
#[derive(Clone, Debug)]
pub struct End {
    /// The position of its record.
    pub at: LogPos,
    /// The job as it was accepted.
    pub job: JobRecord,
    /// Its last event.
    pub event: EventRecord,
}

/// At most `most` ends of jobs after a position in the log, in order; and the position up to which
/// these are all. A runtime may have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn ends(path: &Path, after: LogPos, most: usize) -> Result<(Vec<End>, LogPos), OpenError> {
    let connection = read_only(path)?;
    if layout_of(&connection, path)?.is_none() {
        return Ok((Vec::new(), after));
    }
    ends_of(&connection, after, most).map_err(|error| OpenError::of_store(path, error))
}

/// The open questions of a job to people.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The position of their record.
    pub at: LogPos,
    /// The job as it was accepted.
    pub job: JobRecord,
    /// How many questions the job has asked so far.
    pub last: u32,
    /// The questions that are still open, and were asked after the given position.
    pub questions: Vec<(OpenPrompt, EventRecord)>,
}

/// The open questions that jobs have asked after a position in the log, in order, of at most `most`
/// jobs; and the position up to which these are all. A runtime may have the store open.
///
/// # Errors
///
/// If it is not a store, or the rows are damaged.
pub fn asked(path: &Path, after: LogPos, most: usize) -> Result<(Vec<Asked>, LogPos), OpenError> {
    let connection = read_only(path)?;
    if layout_of(&connection, path)?.is_none() {
        return Ok((Vec::new(), after));
    }
    asked_of(&connection, after, most).map_err(|error| OpenError::of_store(path, error))
}

fn records(path: &Path, of: &str, owner: &[&dyn ToSql]) -> Result<Vec<Record>, OpenError> {
    let connection = read_only(path)?;
    if layout_of(&connection, path)?.is_none() {
        return Ok(Vec::new());
    }
    selected(&connection, of, owner).map_err(|error| OpenError::of_store(path, error))
}

fn selected(connection: &Connection, of: &str, owner: &[&dyn ToSql]) -> Result<Vec<Record>, StoreError> {
    let select = format!("SELECT {} FROM records WHERE {of} ORDER BY pos", Stored::columns(Table::Records));
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query(owner).map_err(failed)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        records.push(record_of(&Stored::whole(Table::Records, row)?)?);
    }
    Ok(records)
}

fn ends_of(connection: &Connection, after: LogPos, most: usize) -> Result<(Vec<End>, LogPos), StoreError> {
    let columns = Stored::columns(Table::Records);
    let select = format!("SELECT {columns} FROM records WHERE pos > ?1 AND job IS NOT NULL ORDER BY pos");
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query([number(after.0)]).map_err(failed)?;
    let (mut ends, mut upto) = (Vec::new(), after);
    while let Some(row) = rows.next().map_err(failed)? {
        let stored = Stored::whole(Table::Records, row)?;
        upto = stored.at();
        let Record::JobHistory { job, .. } = record_of(&stored)? else {
            continue;
        };
        // Otherwise the job is being deleted.
        if let (Some(job), Some(event)) = (accepted(connection, job)?, last_event_of(connection, job)?) {
            ends.push(End { at: upto, job, event });
        }
        if ends.len() == most {
            break;
        }
    }
    Ok((ends, upto))
}

fn asked_of(connection: &Connection, after: LogPos, most: usize) -> Result<(Vec<Asked>, LogPos), StoreError> {
    let columns = Stored::columns(Table::Records);
    let select = format!("SELECT {columns} FROM records WHERE pos > ?1 AND latest = ?2 ORDER BY pos");
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query([number(after.0), PROMPTED]).map_err(failed)?;
    let (mut asked, mut upto) = (Vec::new(), after);
    while let Some(row) = rows.next().map_err(failed)? {
        let stored = Stored::whole(Table::Records, row)?;
        let Record::Prompted { job, prompts } = record_of(&stored)? else {
            continue;
        };
        upto = stored.at();
        // Without its acceptance, the job is being deleted.
        let Some(accepted) = accepted(connection, job)? else {
            continue;
        };
        let mut questions = Vec::new();
        for open in prompts.open {
            if let Some(event) = event_after(connection, after, job, open.event)? {
                questions.push((open, event));
            }
        }
        asked.push(Asked { at: upto, job: accepted, last: prompts.last, questions });
        if asked.len() == most {
            break;
        }
    }
    Ok((asked, upto))
}

/// An event of a job, if it was committed after a position in the log.
fn event_after(connection: &Connection, after: LogPos, job: JobId, n: u64) -> Result<Option<EventRecord>, StoreError> {
    let columns = Stored::columns(Table::Events);
    let select = format!("SELECT {columns} FROM events WHERE job = ?1 AND first <= ?2 AND last >= ?2 AND pos > ?3");
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query(params![key(job.ulid()), number(n), number(after.0)]).map_err(failed)?;
    let Some(row) = rows.next().map_err(failed)? else {
        return Ok(None);
    };
    Ok(events_of(&Stored::whole(Table::Events, row)?)?.into_iter().find(|event| event.n == n))
}

fn accepted(connection: &Connection, job: JobId) -> Result<Option<JobRecord>, StoreError> {
    let records = selected(connection, "job = ?1", &[&key(job.ulid())])?;
    Ok(records
        .into_iter()
        .find_map(|record| if let Record::JobAccepted(job) = record { Some(Arc::unwrap_or_clone(job)) } else { None }))
}

fn last_event_of(connection: &Connection, job: JobId) -> Result<Option<EventRecord>, StoreError> {
    let columns = Stored::columns(Table::Events);
    let select = format!("SELECT {columns} FROM events WHERE job = ?1 ORDER BY first DESC LIMIT 1");
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query([key(job.ulid())]).map_err(failed)?;
    let Some(row) = rows.next().map_err(failed)? else {
        return Ok(None);
    };
    last_of(&Stored::whole(Table::Events, row)?)
}
