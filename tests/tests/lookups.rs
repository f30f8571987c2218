//! Look-ups in a store's file, beside its runtime, give what loading the file gives. Damage is reported with its
//! position and what it belongs to.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_host::sqlite::{Damage, Durability, OpenError, SqliteStore, check, lookup, repair};
use arcp_host::store::Store as _;
use arcp_proto::id::{JobId, LogPos, SessionId};
use arcp_proto::runtime::{EventRecord, Record};
use arcp_tests::kept::{Folder, batch, batch_of, job, kept, loaded, session};
use arcp_tests::raw::Raw;
use arcp_tests::store::VirtualStore;
use arcp_tests::world::World;
use rusqlite::{Connection, params};
use serde_json::json;
use ulid::Ulid;

/// An end: where it stands, whose it is, the last event.
type Shown = (LogPos, JobId, String);
/// A row: where it stands, the job and the session that it is of.
type Found = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

const TABLES: [&str; 3] = ["records", "events", "numbers"];

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Durability::Normal)
}

/// Jobs that are over, one with a history that is trimmed and one in pieces, jobs that run, two
/// sessions.
fn small() -> VirtualStore {
    let mut world = World::configured(1, |config| {
        config.limits.history.job_events = 16;
        config.limits.history.kept_job_events = 300;
    });
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    for (agent, count) in [("chatty", 500), ("echo", 0), ("failer", 0), ("chunker", 0), ("kinds", 0), ("chatty", 9)] {
        let submit = json!({"agent": agent, "input": {"count": count}, "idempotency_key": format!("{agent} {count}")});
        let job = hello.submit(&mut world, submit)["job_id"].clone();
        open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        hello.until_end(&mut world);
    }
    hello.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 1000}}));
    hello.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 40}}));
    world.run_for(Duration::from_secs(1));
    world.store.clone()
}

/// What a small world gave its store, in a file that is closed, with several rows for each
/// job and session; and what loading it gives.
fn filled(folder: &Folder) -> (PathBuf, Vec<(LogPos, Record)>) {
    let path = folder.0.join("jobs.db");
    let mut store = open(&path).expect("it opens");
    let world = small();
    for some in world.records(false).chunks(100) {
        store.commit(&[batch_of(some)]).expect("committed");
    }
    store.commit(&[batch(world.last().0 + 1, &[kept(1, u64::MAX >> 1)])]).expect("committed");
    while store.tidy().expect("tidied") {}
    drop(store);
    // No page that nobody uses.
    Connection::open(&path).and_then(|file| file.execute_batch("VACUUM")).expect("packed");
    let (records, _) = loaded(&mut open(&path).expect("it opens"));
    (path, records)
}

/// Whether a record is a row of its own.
fn is_row(record: &Record) -> bool {
    !matches!(record, Record::JobEvent { .. } | Record::Numbered { .. })
}

fn own_rows(records: &[(LogPos, Record)]) -> Vec<&(LogPos, Record)> {
    records.iter().filter(|(_, record)| is_row(record)).collect()
}

fn text<T: std::fmt::Debug>(value: T) -> String {
    format!("{value:?}")
}

#[test]
fn a_job_or_session_is_looked_up_as_it_is_loaded() {
    let folder = Folder::new("looked-up");
    let (path, records) = filled(&folder);
    let rows = own_rows(&records);
    let of_job = |id: JobId| rows.iter().filter(move |(_, record)| record.job() == Some(id));
    let jobs: BTreeSet<JobId> = rows.iter().filter_map(|(_, record)| record.job()).collect();
    assert!(jobs.len() > 5, "{} jobs", jobs.len());
    for id in jobs.iter().copied().chain([job(1)]) {
        let accepted = of_job(id).find_map(|(_, record)| match record {
            Record::JobAccepted(accepted) => Some((**accepted).clone()),
            _ => None,
        });
        assert_eq!(text(lookup::job(&path, id).expect("looked up")), text(accepted), "{id}");
        let wanted = of_job(id).any(|(_, record)| matches!(record, Record::CredentialsWanted { .. }));
        assert_eq!(lookup::has_credentials(&path, id).expect("looked up"), wanted, "{id}");
    }
    let sessions: BTreeSet<SessionId> = rows.iter().filter_map(|(_, record)| record.session()).collect();
    assert!(sessions.len() > 1, "{} sessions", sessions.len());
    for id in sessions.iter().copied().chain([session(1)]) {
        let own: Vec<&Record> = rows.iter().map(|(_, r)| r).filter(|record| record.session() == Some(id)).collect();
        assert_eq!(text(lookup::session(&path, id).expect("looked up")), text(own), "{id}");
    }
    let of_sessions = rows.iter().map(|(_, record)| record);
    let of_sessions = of_sessions.filter(|record| record.session().is_some() && record.job().is_none());
    let all = lookup::sessions(&path).expect("looked up");
    assert_eq!(text(all), text(of_sessions.collect::<Vec<&Record>>()));
    let made = jobs.iter().map(|id| id.ulid()).chain(sessions.iter().map(|id| id.ulid()));
    let newest = made.map(|id| id.timestamp_ms()).max();
    assert_eq!(lookup::latest(&path).expect("looked up").map(|at| at.0), newest);
}

#[test]
fn ends_are_given_page_by_page_from_any_place_on_as_they_stand_in_the_log() {
    let folder = Folder::new("pages-of-ends");
    let (path, records) = filled(&folder);
    let rows = own_rows(&records);
    let last_event = |id: JobId| {
        let mut of_job = records.iter().filter_map(|(_, record)| match record {
            Record::JobEvent { job, event } if *job == id => Some(event),
            _ => None,
        });
        of_job.next_back()
    };
    let ends: Vec<Shown> = rows
        .iter()
        .filter_map(|(at, record)| match record {
            Record::JobHistory { job, .. } => Some((*at, *job, text(last_event(*job)?))),
            _ => None,
        })
        .collect();
    assert!(ends.len() > 3, "{} ends", ends.len());
    let of_jobs: Vec<LogPos> = rows.iter().filter(|(_, record)| record.job().is_some()).map(|(at, _)| *at).collect();
    let around = ends.iter().flat_map(|(at, ..)| [at.0 - 1, at.0, at.0 + 1]);
    let after: BTreeSet<u64> = around.chain([0, u64::MAX >> 1]).collect();
    for after in after.into_iter().map(LogPos) {
        let left: Vec<&Shown> = ends.iter().filter(|(at, ..)| *at > after).collect();
        for most in BTreeSet::from([1, 2, left.len().max(1), left.len() + 1]) {
            let (page, upto) = lookup::ends(&path, after, most).expect("looked up");
            let shown: Vec<Shown> = page.iter().map(|end| (end.at, end.job.job, text(&end.event))).collect();
            let expected: Vec<Shown> = left.iter().take(most).map(|end| (*end).clone()).collect();
            assert_eq!(shown, expected, "{most} after {after:?}");
            let all = of_jobs.iter().copied().filter(|at| *at > after).max().unwrap_or(after);
            let reached = if left.len() >= most { expected.last().map_or(after, |(at, ..)| *at) } else { all };
            assert_eq!(upto, reached, "{most} after {after:?}");
        }
    }
}

/// Changes a copy of a file, which is closed.
fn changed(path: &Path, statement: &str, of: impl rusqlite::Params) -> PathBuf {
    let copy = path.with_added_extension("changed");
    std::fs::copy(path, &copy).expect("copied");
    let file = Connection::open(&copy).expect("it opens");
    assert!(file.execute(statement, of).expect("done") > 0, "{statement}");
    copy
}

fn key_text(key: &Option<Vec<u8>>) -> Vec<String> {
    let key = key.as_ref().map(|key| <[u8; 16]>::try_from(key.as_slice()).expect("an id"));
    key.map(|key| Ulid::from_bytes(key).to_string()).into_iter().collect()
}

#[test]
fn a_row_that_is_damaged_is_told_alone_and_a_repair_takes_whose_it_is() {
    let folder = Folder::new("damaged-rows");
    let (path, records) = filled(&folder);
    assert_eq!(check(&path).expect("checked"), []);
    let mut owners = BTreeSet::new();
    for table in TABLES {
        let file = Connection::open(&path).expect("it opens");
        let owner = match table {
            "records" => "job, session",
            "events" => "job, NULL",
            _ => "NULL, session",
        };
        let rows: Vec<Found> = file
            .prepare(&format!("SELECT pos, {owner} FROM {table} ORDER BY pos"))
            .and_then(|mut rows| rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect())
            .expect("read");
        drop(file);
        // The last one of the records is nobody's.
        for (pos, job, session) in rows.iter().step_by(rows.len().div_ceil(5)).chain(rows.last()) {
            let damaged = changed(&path, &format!("UPDATE {table} SET body = x'7b' WHERE pos = ?1"), params![pos]);
            let damage = check(&damaged).expect("checked");
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert!(damage[0].place.starts_with(&format!("{table} at position {pos}")), "{damage:?}");
            assert!(damage[0].to_string().ends_with(": its checksum does not match"), "{damage:?}");
            let done = repair(&damaged).expect("repaired").expect("there was something to do");
            let (sessions, jobs) = (key_text(session), if session.is_some() { Vec::new() } else { key_text(job) });
            assert_eq!((&done.sessions, &done.jobs, &done.damage), (&sessions, &jobs, &damage), "{table} {pos}");
            let (left, last) = loaded(&mut open(&damaged).expect("it starts"));
            let gone = |record: &Record| {
                let own = |keys: &[String], id: Option<Ulid>| id.is_some_and(|id| keys.contains(&id.to_string()));
                own(&jobs, record.job().map(|job| job.ulid())) || own(&sessions, record.session().map(|id| id.ulid()))
            };
            let stays = |(at, record): &&(LogPos, Record)| {
                let is_damaged = table == "records" && i64::try_from(at.0).is_ok_and(|at| at == *pos);
                !(gone(record) || is_damaged && is_row(record))
            };
            let expected: Vec<&(LogPos, Record)> = records.iter().filter(stays).collect();
            assert_eq!(left.len(), expected.len(), "{table} {pos}");
            assert!(left.iter().zip(expected).all(|(mine, theirs)| text(mine) == text(theirs)), "{table} {pos}");
            assert_eq!(last, loaded(&mut open(&path).expect("it opens")).1, "no position is given twice");
            owners.insert((table, !jobs.is_empty(), !sessions.is_empty()));
            std::fs::remove_file(&done.kept).expect("removed");
        }
    }
    assert!(owners.contains(&("records", false, false)) && owners.len() > 3, "all kinds of rows: {owners:?}");
}

/// The rows of the events of the job that has most of them: the first and the last event of each.
fn rows_of_events(path: &Path) -> (Vec<u8>, Vec<(i64, i64)>) {
    let file = Connection::open(path).expect("it opens");
    let longest = "SELECT job FROM events GROUP BY job ORDER BY count(*) DESC LIMIT 1";
    let job: Vec<u8> = file.query_row(longest, [], |row| row.get(0)).expect("a job");
    let rows = file
        .prepare("SELECT first, last FROM events WHERE job = ?1 ORDER BY first")
        .and_then(|mut rows| rows.query_map([&job], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("read");
    (job, rows)
}

#[test]
fn rows_that_are_missing_are_told_by_their_first_and_last_event_unless_they_may_be() {
    let folder = Folder::new("gaps");
    let (path, records) = filled(&folder);
    let (job, rows) = rows_of_events(&path);
    assert!(rows.len() > 3, "{rows:?}");
    let own =
        records.iter().filter(|(_, record)| record.job().is_some_and(|id| id.ulid().to_bytes() == job.as_slice()));
    let trimmed = own.filter_map(|(_, record)| match record {
        Record::HistoryTrimmed { upto: gone, .. } | Record::JobHistory { gone, .. } => i64::try_from(*gone).ok(),
        _ => None,
    });
    let trimmed = trimmed.max().unwrap_or(0);
    let owner = Ulid::from_bytes(job.as_slice().try_into().expect("an id"));
    let gap = |first: i64, last: i64| {
        [Damage { place: format!("events of {owner}"), why: format!("{first} to {last} are missing") }]
    };
    let without = |path: &Path, from: usize, upto: usize| {
        let delete = "DELETE FROM events WHERE job = ?1 AND first >= ?2 AND last <= ?3";
        check(&changed(path, delete, params![job, rows[from].0, rows[upto].1])).expect("checked")
    };
    let end = rows.len() - 1;
    let several = |from: usize| (from..end.min(from + 2)).map(move |upto| (from, upto));
    for (from, upto) in (0..end).step_by(end.div_ceil(5)).flat_map(several) {
        // The first row perhaps begins with events that nobody has to keep.
        let first = if from == 0 { trimmed + 1 } else { rows[from - 1].1 + 1 };
        assert_eq!(without(&path, from, upto), gap(first, rows[upto].1), "{from} to {upto} of {rows:?}");
    }
    assert_eq!(without(&path, end, end), [], "nothing says that there were more");
}

#[test]
fn a_history_may_begin_where_it_was_trimmed_and_not_one_event_later() {
    let folder = Folder::new("trimmed");
    let path = folder.0.join("jobs.db");
    let said = small().records(false).into_iter().find_map(|(_, record)| match record {
        Record::JobEvent { event, .. } => Some(event),
        _ => None,
    });
    let said = said.expect("an event");
    let events = (1..=600).map(|n| Record::JobEvent { job: job(1), event: EventRecord { n, ..said.clone() } });
    let events: Vec<Record> = events.collect();
    for (upto, missing) in [(256, None), (255, Some("256 to 256 are missing")), (257, None)] {
        let _ = std::fs::remove_file(&path);
        let mut store = open(&path).expect("it opens");
        store.commit(&[batch(1, &events)]).expect("committed");
        let trimmed = Record::HistoryTrimmed { job: job(1), upto, started: None, streams: Vec::new() };
        store.commit(&[batch(601, &[trimmed])]).expect("committed");
        drop(store);
        assert_eq!(check(&path).expect("checked"), [], "all of it is there, and may be");
        let without = changed(&path, "DELETE FROM events WHERE first = 1", []);
        let damage: Vec<String> = check(&without).expect("checked").into_iter().map(|damage| damage.why).collect();
        assert_eq!(damage, missing.into_iter().collect::<Vec<&str>>(), "trimmed up to {upto}");
    }
}

#[test]
fn what_may_be_deleted_has_a_checksum_too() {
    let folder = Folder::new("garbage-rows");
    let path = folder.0.join("jobs.db");
    let mut store = open(&path).expect("it opens");
    store.commit(&[batch(1, &[Record::JobForgotten { job: job(1) }])]).expect("committed");
    drop(store);
    assert_eq!(check(&path).expect("checked"), []);
    let damage = check(&changed(&path, "UPDATE garbage SET upto = upto - 1", [])).expect("checked");
    assert!(damage.len() == 1 && damage[0].place == "garbage", "{damage:?}");
    assert!(damage[0].why.contains(&job(1).ulid().to_string()), "{damage:?}");
}

#[test]
fn a_page_that_cannot_be_read_hides_nothing_behind_it() {
    const PAGE: usize = 4096;
    const LEAF_OF_TABLE: u8 = 0x0d;
    let folder = Folder::new("pages");
    let (path, records) = filled(&folder);
    let whole: BTreeSet<String> = records.iter().map(text).collect();
    let bytes = std::fs::read(&path).expect("read");
    let leaves: Vec<usize> = (PAGE..bytes.len()).step_by(PAGE).filter(|page| bytes[*page] == LEAF_OF_TABLE).collect();
    assert!(leaves.len() > 4, "{} pages", leaves.len());
    let broken = path.with_added_extension("changed");
    let mut behind = 0;
    for page in leaves.iter().step_by(leaves.len().div_ceil(16)) {
        let mut damaged = bytes.clone();
        damaged[*page..page + PAGE].fill(0xa5);
        std::fs::write(&broken, &damaged).expect("written");
        let damage = check(&broken).expect("checked");
        assert!(damage.iter().any(|damage| damage.place == "structure"), "{damage:?}");
        let Some((table, reached)) = damage.iter().find_map(|damage| {
            let rest = damage.why.strip_prefix("what comes after position ")?;
            Some((damage.place.clone(), rest.split_once(" cannot be read: ")?.0.parse::<i64>().ok()?))
        }) else {
            continue; // a page of nothing but bytes, or of the last rows
        };
        let unread = damage.iter().filter(|damage| damage.why.starts_with("what comes after position "));
        assert_eq!(unread.count(), 1, "it is told once: {damage:?}");
        let done = repair(&broken).expect("repaired").expect("there was something to do");
        let (left, _) = loaded(&mut open(&broken).expect("it starts"));
        let rows = own_rows(&left);
        assert!(rows.iter().all(|row| whole.contains(&text(row))), "nothing is made up");
        let last = Connection::open(&broken).and_then(|file| {
            file.query_row(&format!("SELECT max(pos) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
        });
        behind += usize::from(reached > 0 && last.expect("read").is_some_and(|last| last > reached));
        std::fs::remove_file(&done.kept).expect("removed");
    }
    assert!(behind > 0, "rows on both sides of a page are kept");
}
