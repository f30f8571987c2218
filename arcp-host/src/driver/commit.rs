//! The way of records to the store: all waiting batches are committed as one group, on a thread of
//! its own if a commit may take time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use arcp_proto::id::LogPos;
use arcp_proto::runtime::{Batch, Input};

use super::inbox::{Mailbox, Message};
use super::restoring::Restoring;
use crate::metrics::StoreMetrics;
use crate::server_log::log;
use crate::store::{Store, StoreError};

/// The pauses before an unavailable store is asked again. After the last one the core is told; it
/// asks again by itself.
const RETRIES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40)];
/// After so many commits in a row the store tidies up even if a group waits.
const TIDY_AFTER: u32 = 32;

/// Hands every record of a store to `give`, and returns the last position. If that takes long, the
/// progress is logged.
///
/// # Errors
///
/// If a record cannot be read.
pub(super) fn restore(store: &mut dyn Store, mut give: impl FnMut(Input)) -> Result<LogPos, StoreError> {
    let mut restoring = Restoring::begin(Instant::now());
    let last = store.load(&mut |at, record| {
        give(Input::Restore { at, record });
        if let Some(records) = restoring.read_one(Instant::now) {
            log(format_args!("arcp: reading the store: {records} records so far"));
        }
    })?;
    if last > LogPos(0) {
        give(Input::Restored { last });
    }
    Ok(last)
}

/// Collects batches into a group and has the group committed.
pub(super) struct Committer {
    group: Vec<Batch>,
    by: By,
    metrics: StoreMetrics,
}

enum By {
    /// The loop itself: the store commits without waiting.
    Loop(Box<dyn Store>),
    /// The commit thread.
    Thread(Sender<Group>),
}

/// Batches that are committed together.
struct Group {
    batches: Vec<Batch>,
    /// The time at which the batches were given to the store.
    since: Instant,
}

impl Committer {
    /// A committer for a store whose last position is `last`.
    ///
    /// # Errors
    ///
    /// If the store needs a thread and none can be started.
    pub(super) fn new(
        store: Box<dyn Store>,
        last: LogPos,
        mailbox: &Arc<Mailbox>,
        metrics: StoreMetrics,
    ) -> io::Result<Committer> {
        if store.is_instant() {
            return Ok(Committer { group: Vec::new(), by: By::Loop(store), metrics });
        }
        let (sender, groups) = channel();
        let mailbox = mailbox.clone();
        let counted = metrics.clone();
        let thread = CommitThread { store, last, groups, tell: move |message| mailbox.post(message), metrics: counted };
        std::thread::Builder::new().name("store".to_string()).spawn(move || thread.run())?;
        Ok(Committer { group: Vec::new(), by: By::Thread(sender), metrics })
    }

    /// Adds a batch to the group.
    pub(super) fn add(&mut self, batch: Batch) {
        self.group.push(batch);
    }

    /// Commits the group if the store needs no thread. Returns the message for the core.
    pub(super) fn commit_at_once(&mut self) -> Option<Message> {
        match &mut self.by {
            By::Loop(store) if !self.group.is_empty() => {
                let (group, since) = (std::mem::take(&mut self.group), Instant::now());
                let result = attempt(store.as_mut(), &group, &self.metrics);
                if result.is_ok() {
                    count(&self.metrics, &group, &[since]);
                }
                let outcome = outcome(result, &group);
                self.group = group;
                self.group.clear();
                Some(outcome)
            }
            By::Loop(_) | By::Thread(_) => None,
        }
    }

    /// Sends the group to the commit thread. Returns a message for the core only if that thread is
    /// gone.
    pub(super) fn hand_over(&mut self) -> Option<Message> {
        match &mut self.by {
            By::Loop(_) => None,
            // If the thread is gone, the store counts as failing.
            By::Thread(thread) => {
                let from = self.group.first()?.first;
                let (group, since) = (std::mem::take(&mut self.group), Instant::now());
                let gone = thread.send(Group { batches: group, since }).is_err();
                gone.then(|| Message::new(Input::PersistFailed { from }, None))
            }
        }
    }
}

impl Drop for Committer {
    /// Commits also what was not yet handed over.
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Asks the store once to commit a group.
fn attempt(store: &mut dyn Store, group: &[Batch], metrics: &StoreMetrics) -> Result<(), StoreError> {
    let begun = Instant::now();
    let result = store.commit(group);
    metrics.tried(begun.elapsed(), result.is_ok());
    result
}

/// Counts a group that became durable. `since` are the times at which its parts were given to the
/// store.
fn count(metrics: &StoreMetrics, group: &[Batch], since: &[Instant]) {
    let records = group.iter().map(|batch| batch.records.len()).sum();
    metrics.committed(group.len(), records, since.iter().map(Instant::elapsed));
}

/// The message for the core about a commit.
fn outcome(result: Result<(), StoreError>, group: &[Batch]) -> Message {
    let input = match &result {
        Ok(()) => Input::Persisted { up_to: group.last().map_or(LogPos(0), Batch::last) },
        Err(_) => Input::PersistFailed { from: group.first().map_or(LogPos(0), |batch| batch.first) },
    };
    Message::new(input, result.err())
}

/// Commits all that is queued as one group. Obsolete records are deleted when nothing is queued,
/// and at the latest after [`TIDY_AFTER`] commits, but never while an answer waits.
struct CommitThread<T> {
    store: Box<dyn Store>,
    /// The last position that is durable.
    last: LogPos,
    groups: Receiver<Group>,
    tell: T,
    metrics: StoreMetrics,
}

impl<T: Fn(Message)> CommitThread<T> {
    fn run(mut self) {
        let (mut untidy, mut commits) = (true, 0);
        loop {
            let next = if untidy {
                self.groups.try_recv()
            } else {
                self.groups.recv().map_err(|_| TryRecvError::Disconnected)
            };
            match next {
                Ok(Group { mut batches, since }) => {
                    let mut given = vec![since];
                    for more in self.groups.try_iter() {
                        batches.extend(more.batches);
                        given.push(more.since);
                    }
                    if !self.commit(&batches, &given) {
                        return;
                    }
                    (untidy, commits) = (true, commits + 1);
                    if commits < TIDY_AFTER {
                        continue;
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            // If deleting fails, it is tried again after a later commit.
            (untidy, commits) = (self.store.tidy().unwrap_or(false), 0);
        }
    }

    /// Commits a group and reports the outcome; returns false if the store is fenced and nothing
    /// more can be committed.
    fn commit(&mut self, group: &[Batch], since: &[Instant]) -> bool {
        if let Some(batch) = group.first().filter(|batch| batch.first.0 > self.last.0 + 1) {
            // It was queued behind a batch that failed: the core gives both again. That says nothing about the store.
            (self.tell)(Message::new(Input::PersistFailed { from: batch.first }, None));
            return true;
        }
        let mut result = attempt(self.store.as_mut(), group, &self.metrics);
        for pause in RETRIES {
            if !matches!(result, Err(StoreError::Unavailable(_))) {
                break;
            }
            std::thread::sleep(pause);
            result = attempt(self.store.as_mut(), group, &self.metrics);
        }
        if let (Ok(()), Some(batch)) = (&result, group.last()) {
            self.last = self.last.max(batch.last());
            count(&self.metrics, group, since);
        }
        let goes_on = !matches!(result, Err(StoreError::Fenced(_)));
        (self.tell)(outcome(result, group));
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Mutex;

    use arcp_proto::id::SessionId;
    use arcp_proto::runtime::Record;

    use super::*;
    use crate::metrics::Metrics;

    /// The steps of a run, in order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        Commit { batches: usize },
        Answer,
        Tidy,
    }
    use Step::{Answer, Commit, Tidy};

    type Steps = Arc<Mutex<Vec<Step>>>;

    /// A store that holds these records.
    struct Kept(Vec<Record>);

    impl Store for Kept {
        fn commit(&mut self, _: &[Batch]) -> Result<(), StoreError> {
            Ok(())
        }

        fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
            (1..).zip(&self.0).for_each(|(at, record)| each(LogPos(at), record.clone()));
            Ok(LogPos(self.0.len() as u64))
        }
    }

    #[test]
    fn what_a_store_has_kept_is_given_back_with_its_end_and_of_an_empty_one_nothing_is() {
        let record = Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid(1)) };
        for kept in 0..3 {
            let mut given = Vec::new();
            let records = vec![record.clone(); usize::try_from(kept).expect("few")];
            let last = restore(&mut Kept(records), |input| given.push(input)).expect("it can be read");
            assert_eq!(last, LogPos(kept));
            let records = (1..=kept).map(|at| Input::Restore { at: LogPos(at), record: record.clone() });
            let end = (kept > 0).then_some(Input::Restored { last });
            assert_eq!(given, Vec::from_iter(records.chain(end)));
        }
    }

    /// A store that counts commits, and that queues the next group while one is committed.
    struct Counting {
        steps: Steps,
        /// Sends the groups to come.
        queue: Option<Sender<Group>>,
        /// How many batches to queue during each commit.
        to_queue: std::vec::IntoIter<usize>,
        /// The errors that the first commits return.
        failures: std::vec::IntoIter<StoreError>,
        /// How many times there is more to tidy up.
        untidy: u32,
        queued: u64,
        committed: u64,
    }

    impl Counting {
        fn queue_next(&mut self) {
            match self.to_queue.next() {
                Some(batches) => {
                    for _ in 0..batches {
                        let record = Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid(1)) };
                        self.queued += 1;
                        let batch = Batch { first: LogPos(self.queued), records: vec![record].into() };
                        let queue = self.queue.as_ref().expect("it is gone after the last group");
                        queue.send(Group { batches: vec![batch], since: Instant::now() }).expect("the thread lives");
                    }
                }
                None => self.queue = None,
            }
        }
    }

    impl Store for Counting {
        fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
            self.steps.lock().expect("no panic").push(Commit { batches: batches.len() });
            if let Some(failure) = self.failures.next() {
                return Err(failure);
            }
            self.committed += batches.len() as u64;
            self.queue_next();
            Ok(())
        }

        fn tidy(&mut self) -> Result<bool, StoreError> {
            self.steps.lock().expect("no panic").push(Tidy);
            self.untidy = self.untidy.saturating_sub(1);
            if self.untidy == 0 && self.committed == self.queued {
                self.queue_next();
            }
            Ok(self.untidy > 0)
        }
    }

    /// Runs a commit thread until nothing is queued; returns the steps and the messages to the
    /// core.
    fn run(to_queue: Vec<usize>, failures: Vec<StoreError>, untidy: u32) -> (Vec<Step>, Vec<Message>) {
        let (queue, groups) = channel();
        let steps = Steps::default();
        let (to_queue, failures) = (to_queue.into_iter(), failures.into_iter());
        let store =
            Counting { steps: steps.clone(), queue: Some(queue), to_queue, failures, untidy, queued: 0, committed: 0 };
        let (told, order) = (Rc::new(RefCell::new(Vec::new())), steps.clone());
        let tell = |message| {
            order.lock().expect("no panic").push(Answer);
            told.borrow_mut().push(message);
        };
        let metrics = Metrics::new(&crate::spans::SpanCounts::default()).store;
        CommitThread { store: Box::new(store), last: LogPos(0), groups, tell, metrics }.run();
        let steps = steps.lock().expect("no panic").clone();
        (steps, told.take())
    }

    #[test]
    fn a_store_is_tidied_when_nothing_is_queued_and_a_commit_goes_first() {
        // Two batches are queued during the third tidying, one during the next commit, and none
        // during the last.
        let (steps, told) = run(vec![2, 1, 0], Vec::new(), 3);
        let expected = [
            Tidy,
            Tidy,
            Tidy,
            Commit { batches: 2 },
            Answer,
            Commit { batches: 1 },
            Answer,
            // Nothing is queued, so the store tidies up.
            Tidy,
        ];
        assert_eq!(steps, expected);
        let inputs: Vec<Input> = told.into_iter().map(|message| message.input).collect();
        assert_eq!(inputs, [2, 3].map(|up_to| Input::Persisted { up_to: LogPos(up_to) }));
    }

    #[test]
    fn a_store_that_is_never_idle_is_tidied_after_thirty_two_commits_and_after_their_answers() {
        let (steps, told) = run(vec![1; 100], Vec::new(), 0);
        let mut commits_between = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Tidy => commits_between.push(0),
                Commit { batches } => {
                    assert_eq!((*batches, steps.get(at + 1)), (1, Some(&Answer)), "nothing is before the answer");
                    *commits_between.last_mut().expect("it is tidied first") += 1;
                }
                Answer => {}
            }
        }
        assert_eq!(commits_between, [32, 32, 32, 4], "{steps:?}");
        assert_eq!(told.len(), 100);
    }

    #[test]
    fn a_store_that_is_unavailable_for_a_moment_is_asked_again_before_anybody_is_told() {
        let failures = vec![StoreError::Unavailable("locked".into()); RETRIES.len()];
        let (steps, told) = run(vec![2], failures, 0);
        assert_eq!(steps, [vec![Tidy], vec![Commit { batches: 2 }; RETRIES.len() + 1], vec![Answer]].concat());
        assert_eq!(told[0].input, Input::Persisted { up_to: LogPos(2) });
        assert_eq!(told[0].error, None);
    }

    #[test]
    fn what_was_queued_behind_a_group_that_failed_is_not_asked_for_and_says_nothing_of_the_store() {
        let record = Record::SessionEnded { session: SessionId::from_ulid(ulid::Ulid(1)) };
        let (queue, groups) = channel();
        let batch = Batch { first: LogPos(3), records: vec![record].into() };
        queue.send(Group { batches: vec![batch], since: Instant::now() }).expect("it is received below");
        drop(queue);
        let told = RefCell::new(Vec::new());
        let tell = |message| told.borrow_mut().push(message);
        let metrics = Metrics::new(&crate::spans::SpanCounts::default()).store;
        // The store has position 1; the batch with position 2 failed.
        CommitThread { store: Box::new(Kept(Vec::new())), last: LogPos(1), groups, tell, metrics }.run();
        let told = told.take();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].input, Input::PersistFailed { from: LogPos(3) });
        assert_eq!(told[0].error, None);
    }
}
