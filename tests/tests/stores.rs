//! What every store must do, tested with each: one that keeps nothing, one in a file, one behind an unreliable
//! connection, and the virtual world's.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::collections::BTreeMap;

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{History, MemoryStore, Store};
use arcp_proto::id::{JobId, LogPos};
use arcp_proto::runtime::{Batch, Numbered, NumberedRun, Record};
use arcp_proto::time::UtcMs;
use arcp_proto::wire::FrameRole;
use arcp_tests::kept::{Folder, Restart, at, batch, batch_of, job, kept, left, lived, loaded, rotated, session};
use arcp_tests::store::{Flaky, Shared, VirtualStore};

/// A store that can be opened again and again.
struct Subject {
    kind: Kind,
    folder: Folder,
    shared: Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    Sqlite,
    Flaky,
    Virtual,
}

impl Subject {
    /// One of each kind, new.
    fn all(test: &str) -> impl Iterator<Item = Subject> {
        [Kind::Memory, Kind::Sqlite, Kind::Flaky, Kind::Virtual].into_iter().map(move |kind| Subject {
            kind,
            folder: Folder::new(&format!("{test}-{kind:?}")),
            shared: Shared::default(),
        })
    }

    /// Those of them that survive their process.
    fn lasting(test: &str) -> impl Iterator<Item = Subject> {
        Subject::all(test).filter(|subject| subject.kind != Kind::Memory)
    }

    fn open(&self) -> Box<dyn Store> {
        let file =
            || Box::new(SqliteStore::open(&self.folder.0.join("jobs.db"), Durability::Normal).expect("it opens"));
        match self.kind {
            Kind::Memory => Box::<MemoryStore>::default(),
            Kind::Sqlite => file(),
            Kind::Flaky => Box::new(Flaky::new(file())),
            Kind::Virtual => Box::new(self.shared.clone()),
        }
    }

    /// Opens it again: everything it gives back, and its last position.
    fn reopened(&self) -> (Vec<(LogPos, Record)>, LogPos) {
        loaded(&mut *self.open())
    }
}

/// Gives batches until they are taken, as the core does.
fn given(store: &mut dyn Store, batches: &[Batch]) {
    assert!((0..Flaky::TRIES).any(|_| store.commit(batches).is_ok()), "they are taken");
}

/// The same, of a batch of these.
fn given_to(store: &mut dyn Store, entries: &[(LogPos, Record)]) {
    given(store, &[batch_of(entries)]);
}

/// Batches that must not be taken, however often they are given.
fn refused(store: &mut dyn Store, batches: &[Batch]) {
    assert!((0..Flaky::TRIES).all(|_| store.commit(batches).is_err()), "they leave a gap");
}

#[test]
fn a_batch_that_is_given_again_is_committed_once() {
    for subject in Subject::all("again") {
        let mut store = subject.open();
        assert_eq!(loaded(&mut *store), (Vec::new(), LogPos(0)), "{:?}: it is new", subject.kind);
        let first = batch(1, &[rotated(1), rotated(2)]);
        given(&mut *store, std::slice::from_ref(&first));
        given(&mut *store, &[first.clone(), batch(3, &[rotated(3)])]);
        given(&mut *store, &[first]);
        given(&mut *store, &[]);
        given(&mut *store, &[batch(4, &[rotated(4)])]);
        drop(store);
        let all = at(1, &[rotated(1), rotated(2), rotated(3), rotated(4)]);
        let expected = if subject.kind == Kind::Memory { (Vec::new(), LogPos(0)) } else { (all, LogPos(4)) };
        assert_eq!(subject.reopened(), expected, "{:?}", subject.kind);
    }
}

#[test]
fn batches_that_do_not_follow_are_refused_whole() {
    for subject in Subject::all("gap") {
        let mut store = subject.open();
        loaded(&mut *store);
        given(&mut *store, &[batch(1, &[rotated(1)])]);
        // Positions 2 and 3 failed; what was queued behind them comes first.
        refused(&mut *store, &[batch(4, &[rotated(4)])]);
        refused(&mut *store, &[batch(2, &[rotated(2)]), batch(4, &[rotated(4)])]);
        // No batch ever grows.
        refused(&mut *store, &[batch(1, &[rotated(1), rotated(2)])]);
        // A retry may be queued behind what it repeats.
        let failed = batch(2, &[rotated(2), rotated(3)]);
        given(&mut *store, &[failed.clone(), failed, batch(4, &[rotated(4)])]);
        drop(store);
        if subject.kind != Kind::Memory {
            let expected = at(1, &[rotated(1), rotated(2), rotated(3), rotated(4)]);
            assert_eq!(subject.reopened(), (expected, LogPos(4)), "{:?}", subject.kind);
        }
    }
}

#[test]
fn numbers_that_were_taken_back_stay_so_whatever_a_store_has_let_go_of() {
    let run = |seq, count| {
        let (log, role, shown) = (job(1).into(), FrameRole::Whole, None);
        let run = NumberedRun { seq, count, log, event: seq, shown, role, request: 0, subscription: 0 };
        Record::Numbered { session: session(1), run: Numbered::Events(run) }
    };
    let taken_back = Record::Numbered { session: session(1), run: Numbered::TakenBack { seq: 8, upto: 100 } };
    let released = |upto| Record::Released { session: session(1), upto };
    let given: [&[Record]; 3] = [
        // None is given again.
        &[run(1, 50), run(51, 50), taken_back.clone(), released(7)],
        // Some are, and are released: what was given first is not behind those that follow.
        &[run(1, 50), run(51, 50), taken_back.clone(), run(8, 43), released(50)],
        &[run(1, 50), run(51, 50), taken_back, run(8, 100), released(60)],
    ];
    for (records, left) in given.into_iter().zip([vec![], vec![], (61..=107).collect::<Vec<u64>>()]) {
        // In commits of their own, and in one.
        for each in [1, records.len()] {
            for subject in Subject::lasting(&format!("taken-{}-{each}", left.len())) {
                let mut store = subject.open();
                loaded(&mut *store);
                let entries = at(1, records);
                entries.chunks(each).for_each(|entries| given_to(&mut *store, entries));
                while store.tidy().expect("tidied") {}
                drop(store);
                let restart = Restart::of(&subject.reopened().0);
                restart.must_be(&Restart::of(&entries));
                assert_eq!(restart.numbers_of(session(1)), left, "{:?}", subject.kind);
            }
        }
    }
}

#[test]
fn what_was_committed_is_there_in_order_and_goes_with_what_it_is_about() {
    let far = 4_000_000_000_000;
    for subject in Subject::lasting("order") {
        let mut store = subject.open();
        loaded(&mut *store);
        let first = [rotated(1), left(1, 1), left(2, 2), kept(3, far), kept(4, 1), left(1, 2)];
        given(&mut *store, &[batch(1, &first)]);
        given(&mut *store, &[batch(7, &[Record::JobForgotten { job: job(1) }])]);
        drop(store);
        let mut store = subject.open();
        let records = loaded(&mut *store);
        // No store has a clock: a key whose time is over stays until it is told.
        let expected = [(1, rotated(1)), (3, left(2, 2)), (4, kept(3, far)), (5, kept(4, 1))]
            .map(|(n, record)| (LogPos(n), record));
        assert_eq!(records, (expected.to_vec(), LogPos(7)), "{:?}", subject.kind);
        given(&mut *store, &[batch(8, &[Record::SessionEnded { session: session(2) }])]);
        drop(store);
        let expected = [(1, rotated(1)), (4, kept(3, far))].map(|(n, record)| (LogPos(n), record));
        let mut store = subject.open();
        loaded(&mut *store);
        given(&mut *store, &[batch(9, &[Record::KeysExpired { until: UtcMs(1) }])]);
        while store.tidy().expect("tidied") {}
        drop(store);
        assert_eq!(subject.reopened(), (expected.to_vec(), LogPos(9)), "{:?}", subject.kind);
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
    let expected = Restart::of(&lived.records(true));
    for (size, tidied) in [(1, true), (7, true), (64, false), (64, true), (100_000, false), (100_000, true)] {
        for subject in Subject::lasting(&format!("alike-{size}-{tidied}")) {
            let mut store = subject.open();
            loaded(&mut *store);
            for chunk in all.chunks(size) {
                given(&mut *store, &[batch_of(chunk)]);
            }
            while tidied && store.tidy().expect("tidied") {}
            drop(store);
            let mut store = subject.open();
            let (records, last) = loaded(&mut *store);
            assert_eq!(last, lived.last());
            Restart::of(&records).must_be(&expected);
            reads_alike(&mut *store.history().expect("it opens").expect("it has one"), &lived, &all);
        }
    }
}

/// Whatever is asked for, the same events come, in order, and none too many.
fn reads_alike(history: &mut dyn History, lived: &VirtualStore, all: &[(LogPos, Record)]) {
    let mut theirs = lived.clone();
    for job in accepted(all) {
        for (from, to, bytes) in
            [(1, 5, 1 << 20), (3, 300, 1 << 30), (4000, 4100, 1), (690, 1000, 1 << 20), (5002, 9000, 100)]
        {
            let expected = theirs.events(job, from, to, usize::MAX).expect("read");
            let events = history.events(job, from, to, bytes).expect("read");
            if expected.is_empty() {
                // What is no longer owed may be there until it is deleted.
                continue;
            }
            assert!(!events.is_empty() && events.len() <= expected.len(), "{job} {from} {to}");
            assert_eq!(events, expected[..events.len()]);
            assert!(bytes < 1 << 20 || events.len() == expected.len(), "{job} {from} {to}: {}", events.len());
        }
    }
}

fn accepted(all: &[(LogPos, Record)]) -> impl Iterator<Item = JobId> {
    all.iter().filter_map(|(_, record)| match record {
        Record::JobAccepted(job) => Some(job.job),
        _ => None,
    })
}

#[test]
fn what_is_committed_later_is_read_beside_the_commits() {
    let lived = lived();
    let all = lived.records(false);
    for subject in Subject::lasting("beside") {
        let mut store = subject.open();
        let mut history = store.history().expect("it opens").expect("it has one");
        loaded(&mut *store);
        let mut committed = 0;
        for (job, n, upto) in all.iter().enumerate().filter_map(|(upto, (_, record))| match record {
            Record::JobEvent { job, event } if event.n % 1000 == 1 => Some((*job, event.n, upto)),
            _ => None,
        }) {
            assert!(history.events(job, n, n, 1).expect("read").is_empty(), "{:?}: it is not there yet", subject.kind);
            given(&mut *store, &[batch_of(&all[committed..=upto])]);
            committed = upto + 1;
            let mut other = history.another().expect("it opens");
            for reader in [&mut history, &mut other] {
                let events = reader.events(job, n, n, 1).expect("read");
                assert_eq!(events.first().map(|event| event.n), Some(n), "{:?}", subject.kind);
            }
        }
    }
}

#[test]
fn as_many_events_are_read_at_once_as_fit() {
    let all = lived().records(false);
    let events = |of: JobId| all.iter().filter(move |(_, r)| matches!(r, Record::JobEvent { job, .. } if *job == of));
    let job = accepted(&all).filter(|job| events(*job).count() < 1000).max_by_key(|job| events(*job).count());
    let job = job.expect("a job of which nothing was trimmed");
    for subject in Subject::lasting("fits") {
        let mut store = subject.open();
        loaded(&mut *store);
        for some in all.chunks(400) {
            given(&mut *store, &[batch_of(some)]);
        }
        let mut history = store.history().expect("it opens").expect("it has one");
        let read = |history: &mut dyn History, bytes| history.events(job, 1, u64::MAX, bytes).expect("read").len();
        assert_eq!(read(&mut *history, 1 << 20), events(job).count(), "{:?}", subject.kind);
        assert!((1..events(job).count()).contains(&read(&mut *history, 1)), "{:?}", subject.kind);
    }
}

#[test]
fn what_is_forgotten_is_neither_given_back_nor_read_and_deleting_it_comes_to_an_end() {
    let lived = lived();
    let all = lived.records(false);
    let forgotten: Vec<Record> = accepted(&all).map(|job| Record::JobForgotten { job }).collect();
    for subject in Subject::lasting("forgotten") {
        let mut store = subject.open();
        loaded(&mut *store);
        given(&mut *store, &[batch_of(&all)]);
        given(&mut *store, &[batch(lived.last().0 + 1, &forgotten)]);
        while store.tidy().expect("tidied") {}
        let mut history = store.history().expect("it opens").expect("it has one");
        for job in accepted(&all) {
            assert!(history.events(job, 1, u64::MAX, 1 << 20).expect("read").is_empty(), "{:?}", subject.kind);
        }
        drop((store, history));
        let (records, _) = subject.reopened();
        assert!(records.iter().all(|(_, record)| record.job().is_none()), "{:?}", subject.kind);
        assert!(records.iter().any(|(_, record)| record.session().is_some()), "sessions stay");
    }
}

#[test]
fn what_was_trimmed_is_not_given_back_even_before_it_is_deleted() {
    let lived = lived();
    let mut all = lived.records(false);
    // What follows stands elsewhere then, and nothing may name it by its place.
    all.retain(|(_, record)| {
        use Record::{CheckpointsForgotten, HistoryTrimmed, Unsubscribed};
        !matches!(record, HistoryTrimmed { .. } | Unsubscribed { .. } | CheckpointsForgotten { .. })
    });
    let all: Vec<(LogPos, Record)> = (1..).map(LogPos).zip(all.into_iter().map(|(_, record)| record)).collect();
    for subject in Subject::lasting("trimmed") {
        let mut store = subject.open();
        loaded(&mut *store);
        given(&mut *store, &[batch_of(&all)]);
        while store.tidy().expect("tidied") {}
        drop(store);
        let mut store = subject.open();
        let running: BTreeMap<JobId, Vec<u64>> = Restart::of(&loaded(&mut *store).0).events;
        let halves: Vec<Record> = running
            .iter()
            .filter(|(_, events)| events.len() > 20)
            .map(|(job, events)| {
                let upto = events.len() as u64 / 2;
                Record::HistoryTrimmed { job: *job, upto, started: None, streams: Vec::new() }
            })
            .collect();
        assert!(halves.len() >= 3, "{halves:?}");
        given(&mut *store, &[batch(all.len() as u64 + 1, &halves)]);
        drop(store);
        let after = Restart::of(&subject.reopened().0).events;
        for half in &halves {
            let Record::HistoryTrimmed { job, upto, .. } = half else { continue };
            let expected: Vec<u64> = (upto + 1..=running[job].len() as u64).collect();
            assert_eq!(after[job], expected, "{:?} {job}", subject.kind);
        }
    }
}
