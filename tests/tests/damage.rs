//! A store in a file that is damaged, moved, replaced, or opened twice.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_host::sqlite::{Durability, OpenError, SqliteStore, backup, check, repair};
use arcp_host::store::{Store, StoreError};
use arcp_proto::id::{JobId, LogPos};
use arcp_proto::runtime::Record;
use arcp_tests::kept::{Folder, Restart, batch, batch_of, loaded, rotated};
use arcp_tests::raw::Raw;
use arcp_tests::store::VirtualStore;
use arcp_tests::world::World;
use rusqlite::Connection;
use serde_json::json;

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Durability::Normal)
}

/// Jobs that are over, one with a history of several rows and one in pieces,
/// jobs that run, two sessions.
fn small() -> VirtualStore {
    let mut world = World::configured(1, |_| {});
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    for (agent, count) in [("chatty", 700), ("echo", 0), ("chunker", 0)] {
        let submit = json!({"agent": agent, "input": {"count": count}, "idempotency_key": agent});
        let job = hello.submit(&mut world, submit)["job_id"].clone();
        open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        hello.until_end(&mut world);
    }
    hello.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 1000}}));
    hello.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 200}}));
    world.run_for(Duration::from_secs(1));
    world.store.clone()
}

/// A store with everything that a small world gave it, closed.
fn filled(folder: &Folder) -> (PathBuf, Vec<(LogPos, Record)>) {
    let path = folder.0.join("jobs.db");
    let all = small().records(false);
    let mut store = open(&path).expect("it opens");
    // Several rows for each job and session.
    for some in all.chunks(400) {
        store.commit(&[batch_of(some)]).expect("committed");
    }
    while store.tidy().expect("tidied") {}
    drop(store);
    // No page that nobody uses.
    Connection::open(&path).and_then(|file| file.execute_batch("VACUUM")).expect("packed");
    let (records, _) = loaded(&mut open(&path).expect("it opens"));
    (path, records)
}

/// Loads it, and every event of every job; `None` if anything is found wrong.
fn whole(path: &Path) -> Option<(Restart, usize)> {
    let mut store = open(path).ok()?;
    let mut records = Vec::new();
    store.load(&mut |at, record| records.push((at, record))).ok()?;
    let mut history = store.history().ok()?.expect("it has one");
    let jobs: BTreeSet<JobId> = records.iter().filter_map(|(_, record)| record.job()).collect();
    let mut events = 0;
    for job in jobs {
        let mut from = 1;
        loop {
            let some = history.events(job, from, u64::MAX, 1 << 20).ok()?;
            let Some(last) = some.last() else { break };
            (from, events) = (last.n + 1, events + some.len());
        }
    }
    Some((Restart::of(&records), events))
}

fn sql(path: &Path, statement: &str) {
    let other = Connection::open(path).expect("it opens");
    assert!(other.execute(statement, []).expect("done") > 0, "{statement}");
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let folder = Folder::new("flips");
    let (path, _) = filled(&folder);
    let (sound, events) = whole(&path).expect("it is sound");
    let bytes = std::fs::read(&path).expect("read");
    let (flips, mut found) = (120, 0);
    for flip in 0..flips {
        let mut damaged = bytes.clone();
        // Over the whole file, and every bit of a byte.
        damaged[flip * (bytes.len() / flips) + flip * 7 % 64] ^= 1 << (flip % 8);
        std::fs::write(&path, &damaged).expect("written");
        match whole(&path) {
            None => found += 1,
            Some((restart, read)) => {
                restart.must_be(&sound);
                assert_eq!(read, events, "flip {flip}");
            }
        }
    }
    assert!(found * 2 > flips, "most of the file is used: {found} of {flips}");
}

#[test]
fn an_index_that_leads_elsewhere_is_found() {
    const PAGE: usize = 4096;
    const LEAF_OF_INDEX: u8 = 0x0a;
    let folder = Folder::new("indexes");
    let (path, records) = filled(&folder);
    let (sound, events) = whole(&path).expect("it is sound");
    let bytes = std::fs::read(&path).expect("read");
    let jobs: BTreeSet<[u8; 16]> =
        records.iter().filter_map(|(_, record)| Some(record.job()?.ulid().to_bytes())).collect();
    let in_index = |at: &usize| bytes[at / PAGE * PAGE] == LEAF_OF_INDEX && *at >= PAGE;
    let keys = (0..bytes.len() - 16).filter(in_index);
    let keys: Vec<usize> = keys.filter(|at| jobs.iter().any(|key| bytes[*at..].starts_with(key))).collect();
    assert!(keys.len() > 20, "{} keys", keys.len());
    for at in keys.iter().step_by(keys.len().div_ceil(60)) {
        let mut damaged = bytes.clone();
        damaged[at + 15] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        if let Some((restart, read)) = whole(&path) {
            restart.must_be(&sound);
            assert_eq!(read, events, "the key at {at}");
        }
    }
}

#[test]
fn damage_is_told_with_its_job_and_position_when_it_is_checked_loaded_and_read_back() {
    let folder = Folder::new("places");
    let (path, records) = filled(&folder);
    assert_eq!(check(&path).expect("checked"), []);
    let over = records.iter().find_map(|(_, record)| match record {
        Record::JobHistory { job, classes, .. } => {
            (classes.iter().map(|(_, count)| u64::from(*count)).sum::<u64>() > 600).then_some(*job)
        }
        _ => None,
    });
    let job = over.expect("a job with several rows");
    let key = job.ulid().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = "CAST(replace(CAST(body AS TEXT), 'tick', 'tock') AS BLOB)";
    sql(&path, &format!("UPDATE events SET body = {body} WHERE job = x'{key}' AND first <= 300 AND last >= 300"));
    let damage = check(&path).expect("checked");
    assert!(damage.len() == 1 && damage[0].why.contains("checksum"), "{damage:?}");
    let place = &damage[0].place;
    assert!(place.contains("events at position ") && place.contains(&job.to_string()), "{place}");
    let mut store = open(&path).expect("its structure is sound");
    let mut history = store.history().expect("read").expect("there");
    let failed = history.events(job, 290, 310, 1 << 20).expect_err("it is found when it is read back");
    assert!(matches!(&failed, StoreError::Corrupt(why) if why.contains(place)), "{failed}");
    drop((store, history));
    sql(&path, "UPDATE records SET until = 1 WHERE pos = (SELECT min(pos) FROM records)");
    assert_eq!(check(&path).expect("checked").len(), 2);
    let failed = open(&path).expect("it opens").load(&mut |_, _| {}).expect_err("it is found at the start");
    assert!(matches!(&failed, StoreError::Corrupt(why) if why.contains("records at position 1")), "{failed}");
    sql(&path, "UPDATE log SET last = last + 1");
    assert!(matches!(open(&path), Err(OpenError::Damaged { why, .. }) if why.contains("last position")));
}

#[test]
fn a_row_that_is_missing_is_found() {
    let folder = Folder::new("missing-row");
    let (path, _) = filled(&folder);
    sql(&path, "DELETE FROM events WHERE pos = (SELECT pos FROM events WHERE first > 1 AND last < 700 LIMIT 1)");
    let damage = check(&path).expect("checked");
    assert!(damage.len() == 1 && damage[0].why.contains("are missing"), "{damage:?}");
}

#[test]
fn a_repaired_store_starts_without_what_was_damaged_and_keeps_the_whole_beside_it() {
    let folder = Folder::new("repaired");
    let (path, records) = filled(&folder);
    assert_eq!(repair(&path).expect("looked at"), None, "there is nothing to do");
    let accepted: Vec<JobId> = records
        .iter()
        .filter_map(|(_, record)| if let Record::JobAccepted(job) = record { Some(job.job) } else { None })
        .collect();
    let lost = accepted[1];
    let key = lost.ulid().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    sql(&path, &format!("UPDATE records SET body = x'7b' WHERE job = x'{key}' AND session IS NULL"));
    sql(&path, "UPDATE numbers SET last = last + 1 WHERE pos = (SELECT max(pos) FROM numbers)");
    let before = std::fs::read(&path).expect("read");
    let done = repair(&path).expect("repaired").expect("there was something to do");
    assert_eq!(std::fs::read(&done.kept).expect("kept"), before, "as it was");
    assert_eq!((done.jobs.as_slice(), done.sessions.len()), ([lost.ulid().to_string()].as_slice(), 1), "{done:?}");
    assert_eq!(check(&path).expect("checked"), []);
    let (left, _) = loaded(&mut open(&path).expect("it starts"));
    let of_lost = |record: &Record| record.job() == Some(lost);
    assert!(!left.iter().any(|(_, record)| of_lost(record)));
    let others = accepted.iter().filter(|job| **job != lost).count();
    let jobs = left.iter().filter(|(_, record)| matches!(record, Record::JobAccepted(_))).count();
    assert_eq!(jobs, others, "everybody else's are there");
    let second = folder.0.join("copy.db");
    std::fs::copy(&done.kept, &second).expect("copied");
    assert!(
        open(&second)
            .and_then(|mut store| store
                .load(&mut |_, _| {})
                .map_err(|error| { OpenError::Damaged { path: second.clone(), why: error.to_string() } }))
            .is_err(),
        "and the kept one is as damaged as before"
    );
}

#[test]
fn a_store_of_which_no_table_is_found_is_kept_and_starts_empty() {
    let folder = Folder::new("hopeless");
    let (path, _) = filled(&folder);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[100..4096].fill(0xa5);
    std::fs::write(&path, &bytes).expect("written");
    assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
    let done = repair(&path).expect("repaired").expect("there was something to do");
    assert_eq!(std::fs::read(&done.kept).expect("kept"), bytes);
    assert_eq!(loaded(&mut open(&path).expect("it starts")), (Vec::new(), LogPos(0)));
}

#[test]
fn every_repair_keeps_what_was_there_before_it() {
    let folder = Folder::new("again");
    let path = folder.0.join("jobs.db");
    open(&path).expect("it opens").commit(&[batch(1, &[rotated(1)])]).expect("committed");
    let mut kept = BTreeMap::new();
    for n in 1..=3 {
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[100..4096].fill(n);
        std::fs::write(&path, &bytes).expect("written");
        let done = repair(&path).expect("repaired").expect("there was something to do");
        kept.insert(done.kept, bytes);
    }
    assert_eq!(kept.len(), 3);
    for (path, bytes) in kept {
        assert_eq!(std::fs::read(&path).expect("kept"), bytes);
    }
}

#[test]
fn a_store_in_use_is_checked_and_backed_up_but_not_repaired() {
    let folder = Folder::new("in-use");
    let path = folder.0.join("jobs.db");
    let copy = folder.0.join("copy.db");
    let mut store = open(&path).expect("it opens");
    store.commit(&[batch(1, &[rotated(1), rotated(2)])]).expect("committed");
    assert_eq!(check(&path).expect("checked"), []);
    assert!(matches!(repair(&path), Err(OpenError::InUse(_))));
    assert_eq!(backup(&path, &copy).expect("copied"), []);
    assert!(backup(&path, &copy).is_err(), "nothing is overwritten");
    store.commit(&[batch(3, &[rotated(3)])]).expect("and on it goes");
    drop(store);
    assert_eq!(loaded(&mut open(&copy).expect("it opens")).1, LogPos(2), "as it was then");
    assert_eq!(loaded(&mut open(&path).expect("it opens")).1, LogPos(3));
    assert!(check(&folder.0.join("nowhere.db")).is_err() && !folder.0.join("nowhere.db").exists());
}

#[test]
fn a_missing_log_is_not_taken_for_an_empty_store() {
    let folder = Folder::new("no-log");
    let path = folder.0.join("jobs.db");
    let mut store = open(&path).expect("it opens");
    store.commit(&[batch(1, &[rotated(1), rotated(2)])]).expect("committed");
    // What a killed runtime leaves, without its log.
    let left = folder.0.join("left.db");
    std::fs::copy(&path, &left).expect("copied");
    drop(store);
    let refused = open(&left).expect_err("what was committed is not there");
    assert!(matches!(&refused, OpenError::LogMissing { log, .. } if log.ends_with("left.db-wal")), "{refused}");
    assert!(open(&left).is_err(), "and it stays so");
    assert!(check(&left).expect("checked")[0].why.contains("missing"));
    repair(&left).expect("repaired").expect("it goes on without");
    assert_eq!(loaded(&mut open(&left).expect("it starts")).1, LogPos(0));
    assert_eq!(loaded(&mut open(&path).expect("a closed one needs no log")).1, LogPos(2));
    // Files of older versions were made in the log alone.
    let old = folder.0.join("old.db");
    let older = Connection::open(&old).expect("it opens");
    older.pragma_update(None, "journal_mode", "WAL").expect("set");
    older.execute_batch("CREATE TABLE t (x)").expect("made");
    let bare = folder.0.join("bare.db");
    std::fs::copy(&old, &bare).expect("copied");
    drop(older);
    assert!(matches!(open(&bare), Err(OpenError::LogMissing { .. })));
}

#[test]
fn a_store_is_one_however_it_is_called() {
    let folder = Folder::new("called");
    let path = folder.0.join("jobs.db");
    let mut store = open(&path).expect("it opens");
    let (symbolic, hard) = (folder.0.join("symbolic.db"), folder.0.join("hard.db"));
    std::os::unix::fs::symlink(&path, &symbolic).expect("linked");
    std::fs::hard_link(&path, &hard).expect("linked");
    for other in [&symbolic, &hard] {
        let refused = open(other).expect_err("somebody has it");
        assert!(matches!(&refused, OpenError::InUse(_)), "{refused}");
    }
    store.commit(&[batch(1, &[rotated(1)])]).expect("committed");
    drop(store);
    assert_eq!(loaded(&mut open(&symbolic).expect("it opens")).1, LogPos(1));
}

#[test]
fn a_file_that_goes_or_is_replaced_under_its_store_is_noticed() {
    let folder = Folder::new("moved");
    let (path, away) = (folder.0.join("jobs.db"), folder.0.join("away.db"));
    let log = folder.0.join("jobs.db-wal");
    let mut store = open(&path).expect("it opens");
    store.commit(&[batch(1, &[rotated(1)])]).expect("committed");
    for file in [&path, &log] {
        std::fs::rename(file, &away).expect("moved");
        let refused = store.commit(&[batch(2, &[rotated(2)])]).expect_err("it is gone");
        assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("gone")), "{refused}");
        std::fs::write(file, "another").expect("written");
        let refused = store.commit(&[batch(2, &[rotated(2)])]).expect_err("it is another");
        assert!(matches!(&refused, StoreError::Fenced(why) if why.contains("replaced")), "{refused}");
        std::fs::rename(&away, file).expect("moved back");
    }
    store.commit(&[batch(2, &[rotated(2)])]).expect("and on it goes");
}

#[test]
fn a_file_without_checksums_gets_them() {
    let folder = Folder::new("layout-2");
    let (path, records) = filled(&folder);
    let older = Connection::open(&path).expect("it opens");
    for table in ["records", "events", "numbers", "garbage", "log"] {
        older.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN sum")).expect("dropped");
    }
    older.execute_batch("ALTER TABLE log DROP COLUMN whole; PRAGMA user_version = 2").expect("done");
    drop(older);
    assert!(check(&path).is_err(), "there is nothing to compare yet");
    let (migrated, _) = loaded(&mut open(&path).expect("it is migrated"));
    Restart::of(&migrated).must_be(&Restart::of(&records));
    assert_eq!(check(&path).expect("checked"), []);
    let copy = path.with_added_extension("layout-2");
    let kept = Connection::open(&copy).expect("it opens");
    let layout: i64 = kept.pragma_query_value(None, "user_version", |row| row.get(0)).expect("read");
    assert_eq!(layout, 2, "a copy is kept as it was");
    drop(kept);
    std::fs::remove_file(&copy).expect("removed");
    drop(open(&path).expect("it opens again"));
    assert!(!copy.exists(), "and none of a file of this layout");
}
