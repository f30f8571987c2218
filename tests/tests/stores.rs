//! What every store owes, and what the one in a file owes besides.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use arcp_host::sqlite::{Durability, OpenError, SqliteStore};
use arcp_host::store::{History, MemoryStore, Store};
use arcp_proto::id::{JobId, LogPos, Principal, SessionId};
use arcp_proto::runtime::{KeyRecord, NumberedRun, Record};
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use arcp_tests::raw::Raw;
use arcp_tests::store::{Faulty, VirtualStore};
use arcp_tests::world::World;
use serde_json::{Value, json};
use ulid::Ulid;

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("arcp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }

    fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.0.join("jobs.db"), Durability::Full)
    }

    /// One of each kind, new.
    fn every_store(&self) -> [Box<dyn Store>; 4] {
        let file = |name: &str| SqliteStore::open(&self.0.join(name), Durability::Full).expect("it opens");
        [
            Box::<MemoryStore>::default(),
            Box::<VirtualStore>::default(),
            Box::new(file("jobs.db")),
            Box::new(Faulty::new(Box::new(file("faulty.db"))).0),
        ]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn job(n: u64) -> JobId {
    JobId::from_ulid(Ulid::from_parts(n, 1))
}

fn session(n: u64) -> SessionId {
    SessionId::from_ulid(Ulid::from_parts(n, 2))
}

fn rotated(n: u64) -> Record {
    Record::TokenRotated { session: session(n), token: Secret::new(format!("token {n}")).digest() }
}

fn left(job_n: u64, session_n: u64) -> Record {
    Record::Left { job: job(job_n), session: session(session_n) }
}

fn kept(n: u64, until: u64) -> Record {
    let key = KeyRecord { digest: [1; 32], fingerprint: [2; 32] };
    let principal = Principal::new("p").expect("a name");
    Record::KeyKept { job: job(n), principal, key, until: UtcMs(until) }
}

fn at(first: u64, records: &[Record]) -> Vec<(LogPos, Record)> {
    (first..).map(LogPos).zip(records.iter().cloned()).collect()
}

fn loaded(store: &mut dyn Store) -> (Vec<(LogPos, Record)>, LogPos) {
    let mut records = Vec::new();
    let last = store.load(&mut |at, record| records.push((at, record))).expect("it is read");
    (records, last)
}

#[test]
fn a_batch_that_is_given_again_is_committed_once() {
    let folder = Folder::new("again");
    for mut store in folder.every_store() {
        assert_eq!(loaded(&mut *store).1, LogPos(0));
        store.commit(&at(1, &[rotated(1), rotated(2)])).expect("committed");
        store.commit(&at(1, &[rotated(1), rotated(2), rotated(3)])).expect("the rest is committed");
        store.commit(&at(2, &[rotated(2)])).expect("nothing is left to do");
        store.commit(&[]).expect("nor here");
        store.commit(&at(4, &[rotated(4)])).expect("and on it goes");
    }
    let (records, last) = loaded(&mut folder.open().expect("it opens again"));
    assert_eq!((records, last), (at(1, &[rotated(1), rotated(2), rotated(3), rotated(4)]), LogPos(4)));
}

#[test]
fn a_batch_that_does_not_follow_is_refused_whole() {
    let folder = Folder::new("gap");
    for mut store in folder.every_store() {
        loaded(&mut *store);
        store.commit(&at(1, &[rotated(1)])).expect("committed");
        // Positions 2 and 3 failed; what was queued behind them comes first.
        store.commit(&at(4, &[rotated(4)])).expect_err("it would be taken for all up to 4");
        let mut torn = at(2, &[rotated(2)]);
        torn.extend(at(4, &[rotated(4)]));
        store.commit(&torn).expect_err("and so would this");
        // A retry may be queued behind what it repeats.
        let mut twice = at(2, &[rotated(2), rotated(3)]);
        twice.extend(at(2, &[rotated(2), rotated(3), rotated(4)]));
        store.commit(&twice).expect("all are there, each is kept once");
    }
    let (records, last) = loaded(&mut folder.open().expect("it opens again"));
    assert_eq!((records, last), (at(1, &[rotated(1), rotated(2), rotated(3), rotated(4)]), LogPos(4)));
}

#[test]
fn rr30_sw74_what_was_committed_is_there_in_order_and_goes_with_what_it_is_about() {
    let folder = Folder::new("order");
    let mut store = folder.open().expect("it opens");
    let far = 4_000_000_000_000;
    let first = [rotated(1), left(1, 1), left(2, 2), kept(3, far), kept(4, 1), left(1, 2)];
    store.commit(&at(1, &first)).expect("committed");
    // A key whose time is over goes at the next commit, or the same.
    store.commit(&at(7, &[Record::JobForgotten { job: job(1) }])).expect("committed");
    drop(store);
    let mut store = folder.open().expect("it opens");
    let (records, last) = loaded(&mut store);
    let expected = [(1, rotated(1)), (3, left(2, 2)), (4, kept(3, far))].map(|(n, record)| (LogPos(n), record));
    assert_eq!((records, last), (expected.to_vec(), LogPos(7)));
    store.commit(&at(8, &[Record::SessionEnded { session: session(2) }])).expect("committed");
    drop(store);
    let (records, last) = loaded(&mut folder.open().expect("it opens"));
    let expected = [(1, rotated(1)), (4, kept(3, far))].map(|(n, record)| (LogPos(n), record));
    assert_eq!((records, last), (expected.to_vec(), LogPos(8)));
}

#[test]
fn a_file_of_a_newer_version_or_of_somebody_else_is_refused() {
    let folder = Folder::new("foreign");
    drop(folder.open().expect("it opens"));
    let path = folder.0.join("jobs.db");
    let other = rusqlite::Connection::open(&path).expect("it opens");
    other.pragma_update(None, "user_version", 99).expect("set");
    drop(other);
    let refused = folder.open().expect_err("newer");
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
    let mut store = folder.open().expect("it opens");
    store.commit(&at(1, &[rotated(1), rotated(2)])).expect("committed");
    drop(store);
    let other = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    other.execute("UPDATE records SET body = x'7b' WHERE pos = 2", []).expect("broken");
    drop(other);
    let mut store = folder.open().expect("it opens");
    let failed = store.load(&mut |_, _| {}).expect_err("it cannot be read");
    assert!(failed.0.contains("record 2"), "{failed}");
}

/// Everything a small world gives its store: jobs of several kinds that ran,
/// one that runs, one that was forgotten, sessions that acknowledged.
fn lived() -> VirtualStore {
    let mut world = World::configured(1, |config| {
        config.limits.job_events = 16;
        config.limits.kept_job_events = 3000;
        config.limits.ended_jobs_per_principal = 10;
    });
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    for (agent, count) in
        [("failer", 0), ("chatty", 5000), ("kinds", 0), ("thinker", 40), ("chunker", 0), ("chatty", 700)]
    {
        let submit = json!({"agent": agent, "input": {"count": count}, "idempotency_key": format!("{agent} {count}")});
        let job = hello.submit(&mut world, submit)["job_id"].clone();
        open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        hello.until_end(&mut world);
    }
    hello.send(&mut world, "session.ack", json!({"last_processed_seq": 5300}));
    for _ in 0..4 {
        hello.submit(&mut world, json!({"agent": "echo", "idempotency_key": "again"}));
        hello.submit(&mut world, json!({"agent": "echo"}));
    }
    hello.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 1000}}));
    hello.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 200}}));
    world.run_for(std::time::Duration::from_secs(5));
    world.store.clone()
}

/// What a restart makes of records, whatever rows they were kept in.
#[derive(Debug, Default, PartialEq)]
struct Restart {
    records: Vec<(LogPos, String)>,
    checkpoints: BTreeMap<JobId, Vec<u8>>,
    events: BTreeMap<JobId, Vec<u64>>,
    numbers: BTreeMap<SessionId, Vec<Value>>,
}

impl Restart {
    fn of(records: &[(LogPos, Record)]) -> Restart {
        let mut restart = Restart::default();
        let mut released = BTreeMap::new();
        for (at, record) in records {
            match record {
                Record::JobEvent { job, event } => restart.events.entry(*job).or_default().push(event.n),
                Record::Numbered { session, run } => {
                    let single =
                        |k| json!([run.seq + k, run.job, run.event + k, run.part, run.request, run.subscription]);
                    restart.numbers.entry(*session).or_default().extend((0..run.count).map(single));
                }
                Record::Checkpointed { job, state } => drop(restart.checkpoints.insert(*job, state.clone())),
                Record::Released { session, upto } => drop(released.insert(*session, *upto)),
                Record::SessionOpened { .. }
                | Record::TokenRotated { .. }
                | Record::SessionEnded { .. }
                | Record::JobAccepted(_)
                | Record::JobHistory { .. }
                | Record::HistoryTrimmed { .. }
                | Record::JobRestarted { .. }
                | Record::Subscribed { .. }
                | Record::Unsubscribed { .. }
                | Record::CancelAsked { .. }
                | Record::Joined { .. }
                | Record::Left { .. }
                | Record::KeyKept { .. }
                | Record::JobForgotten { .. } => {
                    let shown = serde_json::to_string(record).expect("JSON");
                    restart.records.push((*at, shown));
                }
            }
        }
        for (session, upto) in released {
            let numbers = restart.numbers.entry(session).or_default();
            numbers.retain(|number| number[0].as_u64().is_some_and(|seq| seq > upto));
        }
        restart
    }

    fn must_be(&self, other: &Restart) {
        for (mine, theirs) in self.records.iter().zip(&other.records) {
            assert_eq!(mine, theirs);
        }
        assert_eq!(self.records.len(), other.records.len());
        assert_eq!((&self.events, &self.checkpoints), (&other.events, &other.checkpoints));
        assert!(self.numbers.keys().eq(other.numbers.keys()));
        for (session, numbers) in &self.numbers {
            let differs = numbers.iter().zip(&other.numbers[session]).find(|(mine, theirs)| mine != theirs);
            assert_eq!((differs, numbers.len()), (None, other.numbers[session].len()), "{session}");
        }
    }
}

#[test]
fn every_store_restarts_a_runtime_alike_whatever_the_batches() {
    let lived = lived();
    let all = lived.records(false);
    assert!(all.iter().any(|(_, record)| matches!(record, Record::HistoryTrimmed { .. })));
    assert!(all.iter().any(|(_, record)| matches!(record, Record::Released { .. })));
    assert!(all.iter().any(|(_, record)| matches!(record, Record::Checkpointed { .. })));
    assert!(all.iter().any(|(_, record)| record.forgets_job().is_some()));
    // These are no longer needed once they were done, and the world's keys are
    // over: its year is past.
    let lasting = |(_, record): &(LogPos, Record)| {
        !matches!(record, Record::HistoryTrimmed { .. } | Record::KeyKept { .. } | Record::JobForgotten { .. })
    };
    let expected: Vec<(LogPos, Record)> = lived.records(true).into_iter().filter(lasting).collect();
    for size in [1, 7, 64, 100_000] {
        let folder = Folder::new(&format!("alike-{size}"));
        let path = folder.0.join("jobs.db");
        let mut store = SqliteStore::open(&path, Durability::Normal).expect("it opens");
        for batch in all.chunks(size) {
            store.commit(batch).expect("committed");
        }
        while store.tidy().expect("tidied") {}
        drop(store);
        let mut store = SqliteStore::open(&path, Durability::Normal).expect("it opens");
        let (records, last) = loaded(&mut store);
        assert_eq!(last, lived.last());
        Restart::of(&records).must_be(&Restart::of(&expected));
        reads_alike(&mut *store.history().expect("it opens").expect("it has one"), &lived, &all);
    }
}

/// Whatever is asked for, the same events come, in order, and none too many.
fn reads_alike(history: &mut dyn History, lived: &VirtualStore, all: &[(LogPos, Record)]) {
    let mut theirs = lived.clone();
    let jobs = all.iter().filter_map(|(_, record)| match record {
        Record::JobAccepted(job) => Some(job.job),
        _ => None,
    });
    for job in jobs {
        for (from, to, bytes) in
            [(1, 5, 1 << 20), (3, 300, 1 << 30), (4000, 4100, 1), (690, 1000, 1 << 20), (5002, 9000, 100)]
        {
            let expected = theirs.events(job, from, to, usize::MAX).expect("read");
            let events = history.events(job, from, to, bytes).expect("read");
            if expected.is_empty() {
                // Rows go as a whole: one that is trimmed in part may be read.
                continue;
            }
            assert!(!events.is_empty() && events.len() <= expected.len(), "{job} {from} {to}");
            assert_eq!(events, expected[..events.len()]);
            assert!(bytes < 1 << 20 || events.len() == expected.len(), "{job} {from} {to}: {}", events.len());
        }
    }
}

#[test]
fn what_nobody_needs_is_deleted_in_small_steps() {
    let folder = Folder::new("garbage");
    let mut store = folder.open().expect("it opens");
    let lived = lived();
    // A row for each record.
    for record in &lived.records(false) {
        store.commit(std::slice::from_ref(record)).expect("committed");
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
    store.commit(&at(lived.last().0 + 1, &forgotten)).expect("committed");
    let after = events(&folder);
    assert!(before - after <= 64 && before > 3000, "{before} {after}");
    let mut steps = 0;
    while store.tidy().expect("tidied") {
        steps += 1;
    }
    assert!(events(&folder) == 0 && steps >= before / 64, "{steps}");
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
        Record::Numbered { session, run } => json!({"Numbered": {"session": session, "seq": run.seq, "job": run.job,
            "event": run.event, "part": run.part, "request": run.request}}),
        _ => serde_json::to_value(record).expect("JSON"),
    }
}

#[test]
fn a_file_of_the_first_layout_is_brought_to_this_one() {
    // A number each, and no records that it did not know.
    let singles = lived().records(true).into_iter().flat_map(|(_, record)| match record {
        Record::Numbered { session, run } => {
            let single = |k| NumberedRun { seq: run.seq + k, count: 1, event: run.event + k, ..run };
            (0..run.count).map(|k| Record::Numbered { session, run: single(k) }).collect()
        }
        Record::JobHistory { .. } | Record::Released { .. } | Record::HistoryTrimmed { .. } => Vec::new(),
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
    let (records, last) = loaded(&mut folder.open().expect("it is migrated"));
    Restart::of(&records).must_be(&Restart::of(&old));
    assert_eq!(last, LogPos(old.len() as u64));
    drop(folder.open().expect("and opens again"));
}

#[test]
fn another_programs_write_lock_fails_a_commit_and_loses_nothing() {
    let folder = Folder::new("locked");
    let mut store = folder.open().expect("it opens");
    store.commit(&at(1, &[rotated(1)])).expect("committed");
    let other = rusqlite::Connection::open(folder.0.join("jobs.db")).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it writes");
    let refused = store.commit(&at(2, &[rotated(2)])).expect_err("locked");
    assert!(refused.0.contains("locked"), "{refused}");
    // What comes later is not taken for it.
    store.commit(&at(3, &[rotated(3)])).expect_err("the one before is missing");
    other.execute_batch("ROLLBACK").expect("done");
    store.commit(&at(2, &[rotated(2), rotated(3)])).expect("and on it goes");
    other.execute_batch("BEGIN IMMEDIATE").expect("it writes");
    drop(store);
    let refused = folder.open().expect_err("somebody writes to it");
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(other);
    assert_eq!(loaded(&mut folder.open().expect("it opens")).1, LogPos(3));
}

#[test]
fn a_faulty_store_keeps_nothing_of_what_failed() {
    let folder = Folder::new("faulty");
    let (mut store, failing) = Faulty::new(Box::new(folder.open().expect("it opens")));
    store.commit(&at(1, &[rotated(1)])).expect("committed");
    failing.store(true, Ordering::SeqCst);
    store.commit(&at(2, &[rotated(2)])).expect_err("full");
    failing.store(false, Ordering::SeqCst);
    store.commit(&at(3, &[rotated(3)])).expect_err("it was not kept for later");
    store.commit(&at(2, &[rotated(2)])).expect("committed");
    assert_eq!(loaded(&mut store).1, LogPos(2));
}

#[test]
fn b15_a_torn_last_batch_is_as_if_it_had_never_been() {
    let folder = Folder::new("torn");
    let mut store = folder.open().expect("it opens");
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
    store.commit(&first[..100]).expect("committed");
    let before = length();
    store.commit(&first[100..200]).expect("committed");
    let after = length();
    assert!(second.len() > 100 && after > before);
    // As much of the batch as the disk had written when the power went.
    for cut in 0..=20 {
        let name = format!("torn-{cut}.db");
        copy(&name, before + (after - before) * cut / 20);
        let mut torn = SqliteStore::open(&file(&name), Durability::Full).expect("it opens");
        let (_, last) = loaded(&mut torn);
        assert_eq!(last, if cut == 20 { LogPos(200) } else { LogPos(100) }, "cut {cut}");
        torn.commit(&all[last.0 as usize..300]).expect("and on it goes");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_half_a_start() {
    let folder = Folder::new("damaged");
    let path = folder.0.join("jobs.db");
    let mut store = folder.open().expect("it opens");
    store.commit(&lived().records(false)).expect("committed");
    drop(store);
    let whole = std::fs::read(&path).expect("read");
    let mut refused = 0;
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..page * 4096 + 64].fill(0xa5);
        std::fs::write(&path, &damaged).expect("written");
        let failed = match folder.open() {
            Ok(mut store) => store.load(&mut |_, _| {}).is_err(),
            Err(OpenError::Unusable { .. }) => true,
            Err(other) => panic!("{other}"),
        };
        refused += usize::from(failed);
    }
    // Pages of indexes and of history are read when they are needed.
    assert!(refused > 3, "{refused}");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let failed = folder.open().map_or_else(
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
