//! What every store owes, and what the one in a file owes besides.

use std::path::PathBuf;

use arcp_host::sqlite::{Durability, OpenError, SqliteStore};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::{JobId, LogPos, Principal, SessionId};
use arcp_proto::runtime::{KeyRecord, Record};
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
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
    let stores: [Box<dyn Store>; 2] = [Box::<MemoryStore>::default(), Box::new(folder.open().expect("it opens"))];
    for mut store in stores {
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
    let stores: [Box<dyn Store>; 2] = [Box::<MemoryStore>::default(), Box::new(folder.open().expect("it opens"))];
    for mut store in stores {
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
