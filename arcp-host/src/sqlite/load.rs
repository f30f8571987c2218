//! Reading of everything that a restart needs.

use std::collections::BTreeMap;

use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{Numbered, Record};
use rusqlite::{Connection, params};

use super::read::{events_of, last_of};
use super::row::Stored;
use super::rows::{failed, key, number};
use super::sums::Table;
use crate::store::StoreError;

/// Gives every record, in the order that
/// [`Store::load`](crate::store::Store::load) promises.
pub(super) fn everything(connection: &Connection, each: &mut dyn FnMut(LogPos, Record)) -> Result<(), StoreError> {
    let running = records(connection, each)?;
    for (job, trimmed) in running {
        events(connection, job, trimmed, each)?;
    }
    numbers(connection, each)
}

/// Gives every record with a row of its own, and the last event of each ended job. Returns the
/// other jobs, each with the last event that is not kept any more.
fn records(connection: &Connection, each: &mut dyn FnMut(LogPos, Record)) -> Result<BTreeMap<JobId, u64>, StoreError> {
    let mut running = BTreeMap::new();
    let select = format!("SELECT {} FROM records ORDER BY pos", Stored::columns(Table::Records));
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let stored = Stored::whole(Table::Records, row)?;
        let record = record_of(&stored)?;
        if let Record::HistoryTrimmed { job, upto, .. } = &record {
            running.entry(*job).and_modify(|trimmed| *trimmed = *upto);
        }
        let over = if let Record::JobHistory { job, .. } = &record { Some(*job) } else { None };
        if let Record::JobAccepted(accepted) = &record {
            running.insert(accepted.job, 0);
        }
        each(stored.at(), record);
        if let Some(job) = over {
            running.remove(&job);
            last_event(connection, stored.at(), job, each)?;
        }
    }
    Ok(running)
}

fn last_event(
    connection: &Connection,
    at: LogPos,
    job: JobId,
    each: &mut dyn FnMut(LogPos, Record),
) -> Result<(), StoreError> {
    let select =
        format!("SELECT {} FROM events WHERE job = ?1 ORDER BY first DESC LIMIT 1", Stored::columns(Table::Events));
    let mut rows = connection.prepare_cached(&select).map_err(failed)?;
    let mut rows = rows.query([key(job.ulid())]).map_err(failed)?;
    if let Some(row) = rows.next().map_err(failed)?
        && let Some(event) = last_of(&Stored::whole(Table::Events, row)?)?
    {
        each(at, Record::JobEvent { job, event });
    }
    Ok(())
}

fn events(
    connection: &Connection,
    job: JobId,
    trimmed: u64,
    each: &mut dyn FnMut(LogPos, Record),
) -> Result<(), StoreError> {
    let columns = Stored::columns(Table::Events);
    let select = format!("SELECT {columns} FROM events WHERE job = ?1 AND last > ?2 ORDER BY first");
    let mut rows = connection.prepare_cached(&select).map_err(failed)?;
    let mut rows = rows.query(params![key(job.ulid()), number(trimmed)]).map_err(failed)?;
    let mut next = None;
    while let Some(row) = rows.next().map_err(failed)? {
        let stored = Stored::whole(Table::Events, row)?;
        for event in events_of(&stored)?.into_iter().filter(|event| event.n > trimmed) {
            if let Some(next) = next.filter(|next| *next != event.n) {
                return Err(stored.damaged(format!("event {next} is missing")));
            }
            next = Some(event.n + 1);
            each(stored.at(), Record::JobEvent { job, event });
        }
    }
    Ok(())
}

fn numbers(connection: &Connection, each: &mut dyn FnMut(LogPos, Record)) -> Result<(), StoreError> {
    let select = format!("SELECT {} FROM numbers ORDER BY pos", Stored::columns(Table::Numbers));
    let mut rows = connection.prepare(&select).map_err(failed)?;
    let mut rows = rows.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let stored = Stored::whole(Table::Numbers, row)?;
        let (session, runs) = numbers_of(&stored)?;
        for run in runs {
            each(stored.at(), Record::Numbered { session, run });
        }
    }
    Ok(())
}

pub(super) fn record_of(stored: &Stored) -> Result<Record, StoreError> {
    serde_json::from_slice(&stored.body).map_err(|error| stored.damaged(error))
}

pub(super) fn numbers_of(stored: &Stored) -> Result<(SessionId, Vec<Numbered>), StoreError> {
    let session = stored.session().ok_or_else(|| stored.damaged("it is of no session"))?;
    let runs = serde_json::from_slice(&stored.body).map_err(|error| stored.damaged(error))?;
    Ok((session, runs))
}
