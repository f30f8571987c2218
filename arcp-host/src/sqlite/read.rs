//! Reads events back, beside the writer.

use std::path::{Path, PathBuf};

use arcp_proto::id::JobId;
use arcp_proto::runtime::EventRecord;
use rusqlite::{Connection, OpenFlags, params};
use serde_json::value::RawValue;

use super::row::Stored;
use super::rows::{failed, key, number};
use super::sums::Table;
use crate::store::{History, StoreError};

/// A read-only connection beside that of the writer.
pub(super) struct Reader {
    path: PathBuf,
    connection: Connection,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        super::keep_prepared(&connection).map_err(failed)?;
        Ok(Reader { path: path.to_path_buf(), connection })
    }
}

impl History for Reader {
    fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
        Ok(Box::new(Reader::open(&self.path)?))
    }

    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError> {
        let select = format!(
            "SELECT {} FROM events WHERE job = ?1 AND first <= ?3 AND first >= \
             (SELECT max(first) FROM events WHERE job = ?1 AND first <= ?2) ORDER BY first",
            Stored::columns(Table::Events)
        );
        let mut rows = self.connection.prepare_cached(&select).map_err(failed)?;
        let mut rows = rows.query(params![key(job.ulid()), number(from), number(to)]).map_err(failed)?;
        let (mut events, mut size) = (Vec::<EventRecord>::new(), 0);
        while let Some(row) = rows.next().map_err(failed)? {
            let stored = Stored::whole(Table::Events, row)?;
            if !events.is_empty() && size + stored.body.len() > bytes {
                break;
            }
            size += stored.body.len();
            events.extend(events_of(&stored)?.into_iter().filter(|event| (from..=to).contains(&event.n)));
        }
        // Events that were deleted meanwhile leave a gap.
        let whole = (from..).zip(&events).take_while(|(n, event)| *n == event.n).count();
        events.truncate(whole);
        Ok(events)
    }
}

/// The last event of a row; the others are not decoded.
pub(super) fn last_of(stored: &Stored) -> Result<Option<EventRecord>, StoreError> {
    let events: Vec<&RawValue> = serde_json::from_slice(&stored.body).map_err(|error| stored.damaged(error))?;
    let last = events.last().map(|event| serde_json::from_str(event.get()));
    last.transpose().map_err(|error| stored.damaged(error))
}

pub(super) fn events_of(stored: &Stored) -> Result<Vec<EventRecord>, StoreError> {
    serde_json::from_slice(&stored.body).map_err(|error| stored.damaged(error))
}
