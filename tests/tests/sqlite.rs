//! What the store in a file must do in addition to what `stores` tests for every store.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::path::Path;

use arcp_host::sqlite::{Durability, OpenError, SqliteStore};
use arcp_host::store::Store;
use arcp_proto::id::LogPos;
use arcp_proto::runtime::{Numbered, NumberedRun, Record};
use arcp_proto::time::UtcMs;
use arcp_tests::kept::{Folder, Restart, batch, batch_of, job, kept, left, lived, loaded, rotated, session};
use arcp_tests::until::until;
use serde_json::{Value, json};

fn open(folder: &Folder) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full)
}

#[test]
fn a_file_of_a_newer_version_or_of_somebody_else_is_refused() {
    let folder = Folder::new("foreign");
    drop(open(&folder).expect("it opens"));
    let path = folder.0.join("jobs.db");
    let other = rusqlite::Connection::open(&path).expect("it opens");
    other.pragma_update(None, "user_version", 99).expect("set");
    drop(other);
    let refused = open(&folder).expect_err("newer");
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    let path = folder.0.join("theirs.db");
    let other = rusqlite::Connection::open(&path).expect("it opens");
    other.execute_batch("CREATE TABLE theirs (x)").expect("made");
    drop(other);
    let before = std::fs::read(&path).expect("read");
    let refused = SqliteStore::open(&path, Durability::Full).expect_err("foreign");
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
    assert_eq!(std::fs::read(&path).expect("read"), before, "a refused file is left as it was");
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_not_skipped() {
    let folder = Folder::new("broken");
    let mut store = open(&folder).expect("it opens");
    store.commit(&[batch(1, &[rotated(1), rotated(2), rotated(3)])]).expect("committed");
    drop(store);
    let other = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    other.execute("UPDATE records SET body = x'7b' WHERE pos = 2", []).expect("broken");
    drop(other);
    let mut store = open(&folder).expect("it opens");
    let failed = store.load(&mut |_, _| {}).expect_err("it cannot be read");
    assert!(failed.to_string().contains("records at position 2"), "{failed}");
}

#[test]
fn what_nobody_needs_is_deleted_in_small_steps() {
    let folder = Folder::new("garbage");
    let mut store = open(&folder).expect("it opens");
    let lived = lived();
    // A row for each record.
    for record in &lived.records(false) {
        store.commit(&[batch_of(std::slice::from_ref(record))]).expect("committed");
    }
    let events = |folder: &Folder| -> i64 {
        let reader = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
        reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).expect("counted")
    };
    while store.tidy().expect("tidied") {}
    let before = events(&folder);
    let forgotten: Vec<Record> = lived
        .records(false)
        .iter()
        .filter_map(|(_, record)| match record {
            Record::JobAccepted(job) => Some(Record::JobForgotten { job: job.job }),
            _ => None,
        })
        .collect();
    let mut next = lived.last().0 + 1;
    store.commit(&[batch(next, &forgotten)]).expect("committed");
    next += forgotten.len() as u64;
    for n in 0..10 {
        store.commit(&[batch(next + n, &[rotated(n)])]).expect("committed");
    }
    let after = events(&folder);
    assert!(before == after && before > 3000, "a commit deletes none: {before} {after}");
    let mut steps = 0;
    while store.tidy().expect("tidied") {
        steps += 1;
    }
    assert!(events(&folder) == 0 && steps >= before / 64, "{steps}");
}

#[test]
fn events_are_read_back_up_to_so_many_bytes_and_at_least_a_row() {
    let folder = Folder::new("read-back");
    let mut store = open(&folder).expect("it opens");
    let lived = lived().records(false);
    let of_job = |of| -> Vec<Record> {
        let is_its = |record: &&Record| matches!(record, Record::JobEvent { job, .. } if *job == of);
        lived.iter().map(|(_, record)| record).filter(is_its).cloned().collect()
    };
    let jobs = lived.iter().filter_map(|(_, r)| if let Record::JobAccepted(job) = r { Some(job.job) } else { None });
    let untrimmed = jobs.filter(|job| (30..1000).contains(&of_job(*job).len()));
    let job = untrimmed.max_by_key(|job| of_job(*job).len()).expect("a job of some events");
    for (n, events) in of_job(job).chunks(10).enumerate() {
        store.commit(&[batch(1 + 10 * n as u64, events)]).expect("committed");
    }
    let reader = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    let mut rows = reader.prepare("SELECT first, length(body) FROM events ORDER BY first").expect("it can be asked");
    let rows = rows.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))).expect("rows");
    let rows: Vec<(u64, usize)> =
        rows.map(|row| row.expect("a row")).map(|(n, bytes)| (n.into(), bytes as usize)).collect();
    assert!(rows.len() > 2, "{rows:?}");
    let mut history = store.history().expect("it opens").expect("it has one");
    let mut read = |bytes| history.events(job, 1, u64::MAX, bytes).expect("read").len() as u64;
    let upto = |row: usize| rows.get(row).map_or(of_job(job).len() as u64, |(first, _)| first - 1);
    let mut bytes = 0;
    for row in 0..rows.len() {
        bytes += rows[row].1;
        assert_eq!((read(bytes - 1), read(bytes)), (upto(row.max(1)), upto(row + 1)), "row {row} of {rows:?}");
    }
    assert_eq!((read(0), read(usize::MAX)), (upto(1), upto(rows.len())));
}

#[test]
fn where_a_commit_ended_is_known_whatever_of_it_was_deleted() {
    let folder = Folder::new("ends");
    let forgotten = Record::JobForgotten { job: job(1) };
    let expired = Record::KeysExpired { until: UtcMs(9) };
    let ended = Record::SessionEnded { session: session(1) };
    let unread = Record::AuditForgotten { entries: vec![LogPos(15)] };
    let restarted = Record::JobRestarted { job: job(1) };
    // What is deleted at once, and what is deleted later, in a commit before, in the same one and in one after it.
    let commits: [&[Record]; 8] = [
        &[restarted.clone(), left(1, 1), rotated(1)],
        std::slice::from_ref(&forgotten),
        &[restarted.clone(), restarted, forgotten.clone()],
        &[kept(1, 5), kept(2, 6), expired],
        // It was over already when it was kept.
        &[kept(3, 7)],
        &[rotated(1), left(2, 1), rotated(1), ended],
        &[left(3, 3)],
        &[unread],
    ];
    for tidied in [false, true] {
        let path = folder.0.join(format!("tidied-{tidied}.db"));
        let mut last = 0;
        for records in commits {
            let mut store = SqliteStore::open(&path, Durability::Normal).expect("it opens");
            store.commit(&[batch(last + 1, records)]).expect("committed");
            while tidied && store.tidy().expect("tidied") {}
            last += records.len() as u64;
            drop(store);
            let mut again = SqliteStore::open(&path, Durability::Normal).expect("it opens");
            assert_eq!(loaded(&mut again).1, LogPos(last), "after {records:?}, tidied: {tidied}");
            drop(again);
            assert_eq!(arcp_host::sqlite::check(&path).expect("checked"), []);
        }
    }
}

#[test]
fn a_commit_says_in_its_rows_where_it_ended_and_writes_nothing_else_for_it() {
    let folder = Folder::new("rows-say");
    let mut store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let all = lived().records(false);
    for some in all.chunks(7) {
        store.commit(&[batch_of(some)]).expect("committed");
    }
    let reader = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    let written: i64 = reader.query_row("SELECT last FROM log", [], |row| row.get(0)).expect("read");
    assert!(written < all.len() as i64 - 7, "{written} of {}", all.len());
    drop((store, reader));
    assert_eq!(loaded(&mut open(&folder).expect("it opens")).1, LogPos(all.len() as u64));
    // A row that says it and is damaged is an error, and no earlier end.
    let other = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    other
        .execute("UPDATE records SET sum = sum - (1 << 32) WHERE pos = (SELECT max(pos) FROM records)", [])
        .expect("broken");
    drop(other);
    assert!(matches!(open(&folder), Err(OpenError::Damaged { why, .. }) if why.contains("checksum")));
}

/// The tables of the first version.
const LAYOUT_1: &str = "
    CREATE TABLE records (pos INTEGER PRIMARY KEY, job TEXT, session TEXT, until INTEGER, body BLOB NOT NULL) STRICT;
    CREATE INDEX of_job ON records (job) WHERE job IS NOT NULL;
    CREATE INDEX of_session ON records (session) WHERE session IS NOT NULL;
    CREATE INDEX by_time ON records (until) WHERE until IS NOT NULL;
    CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL) STRICT;
    INSERT INTO log VALUES (1, 0);
    PRAGMA user_version = 1;
    PRAGMA application_id = 0x41524350;
";

/// A record as the first version wrote it, and what it is of.
fn as_version_1(record: &Record) -> Value {
    match record {
        Record::JobEvent { job, event } => {
            json!({"JobEvent": {"job": job, "n": event.n, "at": event.at, "event": event.event}})
        }
        Record::Numbered { session, run: Numbered::Events(run) } => {
            json!({"Numbered": {"session": session, "seq": run.seq, "job": run.log, "event": run.event,
                "part": run.role, "request": run.request, "subscription": run.subscription}})
        }
        _ => serde_json::to_value(record).expect("JSON"),
    }
}

#[test]
fn a_file_of_the_first_layout_is_brought_to_this_one() {
    // A number each, and no records that it did not know.
    let singles = lived().records(true).into_iter().flat_map(|(_, record)| match record {
        Record::Numbered { session, run: Numbered::Events(run) } => {
            assert!(run.shown.is_none(), "the first version had none that left events out");
            // It had no subscriptions either.
            let single = |k| NumberedRun { seq: run.seq + k, count: 1, event: run.event + k, subscription: 0, ..run };
            (0..run.count).map(|k| Record::Numbered { session, run: Numbered::Events(single(k)) }).collect()
        }
        Record::JobHistory { .. }
        | Record::Numbered { run: Numbered::TakenBack { .. }, .. }
        | Record::Released { .. }
        | Record::HistoryTrimmed { .. }
        | Record::BudgetLeft { .. }
        | Record::Prompted { .. }
        | Record::Unsubscribed { .. } => Vec::new(),
        record => vec![record],
    });
    let old: Vec<(LogPos, Record)> = (1..).map(LogPos).zip(singles).collect();
    let folder = Folder::new("layout-1");
    let file = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    file.execute_batch(LAYOUT_1).expect("made");
    file.execute_batch("BEGIN").expect("begun");
    for (at, record) in &old {
        let body = serde_json::to_vec(&as_version_1(record)).expect("JSON");
        let (job, session) = (record.job().map(|id| id.to_string()), record.session().map(|id| id.to_string()));
        let row = rusqlite::params![at.0 as i64, job, session, record.until().map(|at| at.0 as i64), body];
        file.execute("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5)", row).expect("put");
    }
    file.execute("UPDATE log SET last = ?1", [old.len() as i64]).expect("put");
    file.execute_batch("COMMIT").expect("done");
    drop(file);
    let (records, last) = loaded(&mut open(&folder).expect("it is migrated"));
    Restart::of(&records).must_be(&Restart::of(&old));
    assert_eq!(last, LogPos(old.len() as u64));
    drop(open(&folder).expect("and opens again"));
}

#[test]
fn a_lock_that_is_about_to_go_is_waited_for() {
    let folder = Folder::new("lingering");
    drop(open(&folder).expect("it opens"));
    // What a program that its killed parent was just starting still holds.
    let lock = std::fs::File::open(folder.0.join("jobs.db")).expect("it opens");
    lock.try_lock().expect("nobody has it");
    let path = folder.0.join("jobs.db");
    let lets_go = std::thread::spawn(move || {
        until("somebody else opens the file", || (opened(&path) > 1).then_some(()));
        drop(lock);
    });
    open(&folder).expect("it opens in the end");
    lets_go.join().expect("it let go");
    let mine = open(&folder).expect("it opens");
    assert!(matches!(open(&folder), Err(OpenError::InUse(_))), "but nobody waits for ever");
    drop(mine);
}

/// How often this process has a file open.
fn opened(path: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("a list").flatten();
    descriptors.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|open| open == path)).count()
}

#[test]
fn another_programs_write_lock_fails_a_commit_and_loses_nothing() {
    let folder = Folder::new("locked");
    let mut store = open(&folder).expect("it opens");
    store.commit(&[batch(1, &[rotated(1)])]).expect("committed");
    let other = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it writes");
    let refused = store.commit(&[batch(2, &[rotated(2)])]).expect_err("locked");
    assert!(refused.to_string().contains("locked"), "{refused}");
    // What comes later is not taken for it.
    store.commit(&[batch(3, &[rotated(3)])]).expect_err("the one before is missing");
    other.execute_batch("ROLLBACK").expect("done");
    store.commit(&[batch(2, &[rotated(2), rotated(3)])]).expect("and on it goes");
    other.execute_batch("BEGIN IMMEDIATE").expect("it writes");
    drop(store);
    let refused = open(&folder).expect_err("somebody writes to it");
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(other);
    assert_eq!(loaded(&mut open(&folder).expect("it opens")).1, LogPos(3));
}

#[test]
fn a_torn_last_batch_is_as_if_it_had_never_been() {
    let folder = Folder::new("torn");
    let mut store = open(&folder).expect("it opens");
    let all = lived().records(false);
    let (first, second) = all.split_at(all.len() / 2);
    let file = |name: &str| folder.0.join(name);
    let copy = |name: &str, bytes: u64| {
        for part in ["", "-wal"] {
            std::fs::copy(file(&format!("jobs.db{part}")), file(&format!("{name}{part}"))).expect("copied");
        }
        let log = std::fs::OpenOptions::new().write(true).open(file(&format!("{name}-wal"))).expect("it opens");
        log.set_len(bytes).expect("cut");
    };
    let length = || std::fs::metadata(file("jobs.db-wal")).expect("there").len();
    store.commit(&[batch_of(&first[..100])]).expect("committed");
    let before = length();
    store.commit(&[batch_of(&first[100..200])]).expect("committed");
    let after = length();
    assert!(second.len() > 100 && after > before);
    // As much of the batch as the disk had written when the power went.
    for cut in 0..=20 {
        let name = format!("torn-{cut}.db");
        copy(&name, before + (after - before) * cut / 20);
        let mut torn = SqliteStore::open(&file(&name), Durability::Full).expect("it opens");
        let (_, last) = loaded(&mut torn);
        assert_eq!(last, if cut == 20 { LogPos(200) } else { LogPos(100) }, "cut {cut}");
        torn.commit(&[batch_of(&all[last.0 as usize..300])]).expect("and on it goes");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_half_a_start() {
    let folder = Folder::new("damaged");
    let path = folder.0.join("jobs.db");
    let mut store = open(&folder).expect("it opens");
    store.commit(&[batch_of(&lived().records(false))]).expect("committed");
    drop(store);
    let whole = std::fs::read(&path).expect("read");
    let mut refused = 0;
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..page * 4096 + 64].fill(0xa5);
        std::fs::write(&path, &damaged).expect("written");
        let failed = match open(&folder) {
            Ok(mut store) => store.load(&mut |_, _| {}).is_err(),
            Err(OpenError::Damaged { .. } | OpenError::Unusable { .. }) => true,
            Err(other) => panic!("{other}"),
        };
        refused += usize::from(failed);
    }
    // Pages of indexes and of history are read when they are needed.
    assert!(refused > 3, "{refused}");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let failed = open(&folder).map_or_else(
        |error| error.to_string(),
        |mut store| store.load(&mut |_, _| {}).map_or_else(|error| error.to_string(), |_| String::new()),
    );
    assert!(failed.contains("malformed"), "{failed}");
}

#[test]
fn where_nothing_can_be_written_nothing_is_opened() {
    let folder = Folder::new("nowhere");
    std::fs::write(folder.0.join("file"), "").expect("written");
    for path in [folder.0.join("file/jobs.db"), folder.0.clone(), Path::new("/proc/jobs.db").to_path_buf()] {
        let refused = SqliteStore::open(&path, Durability::Full).expect_err("it cannot be made");
        let shown = path.display().to_string();
        assert!(matches!(&refused, OpenError::Unusable { .. }) && refused.to_string().contains(&shown), "{refused}");
    }
}
