//! Reads events back from the store, with one thread for each concurrent read, so that a slow read
//! delays no other.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use arcp_proto::id::{JobId, OpId};
use arcp_proto::runtime::Input;

use super::inbox::{Mailbox, Message};
use crate::store::History;

/// The maximum number of threads. A further read waits for one of them.
const MOST: usize = 64;

/// Events that the core wants back.
pub(super) struct Wanted {
    pub(super) op: OpId,
    pub(super) job: JobId,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) bytes: usize,
}

pub(super) struct ReadBack {
    queue: Sender<Wanted>,
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    queue: Mutex<Receiver<Wanted>>,
    /// Each thread gets its own reader from this.
    history: Mutex<Box<dyn History>>,
    /// The number of unanswered reads.
    unanswered: AtomicUsize,
    mailbox: Arc<Mailbox>,
}

impl ReadBack {
    pub(super) fn new(history: Box<dyn History>, mailbox: Arc<Mailbox>) -> ReadBack {
        let (queue, receiver) = channel();
        let (queue_end, history) = (Mutex::new(receiver), Mutex::new(history));
        let shared = Shared { queue: queue_end, history, unanswered: AtomicUsize::new(0), mailbox };
        ReadBack { queue, shared: Arc::new(shared), threads: 0 }
    }

    /// Asks for events. The answer arrives as an input.
    ///
    /// # Errors
    ///
    /// If there is no thread, and none can be started.
    pub(super) fn read(&mut self, wanted: Wanted) -> io::Result<()> {
        let unanswered = self.shared.unanswered.fetch_add(1, Ordering::SeqCst) + 1;
        if unanswered > self.threads && self.threads < MOST {
            let shared = self.shared.clone();
            let spawned = std::thread::Builder::new().name("history".to_string()).spawn(move || shared.work());
            match spawned {
                Ok(_) => self.threads += 1,
                // The read waits for one of the existing threads.
                Err(_) if self.threads > 0 => {}
                Err(error) => {
                    self.shared.unanswered.fetch_sub(1, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
        // `shared` holds the receiver, so that sending succeeds.
        self.queue.send(wanted).map_err(io::Error::other)
    }
}

impl Shared {
    fn work(&self) {
        // Nothing panics while holding these locks, and a panic would leave no broken state.
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner).another();
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Wanted { op, job, from, to, bytes }) = next else {
                return;
            };
            if history.is_err() {
                history = self.history.lock().unwrap_or_else(PoisonError::into_inner).another();
            }
            let events = match &mut history {
                Ok(history) => history.events(job, from, to, bytes),
                Err(error) => Err(error.clone()),
            };
            self.unanswered.fetch_sub(1, Ordering::SeqCst);
            let (events, error) = match events {
                Ok(events) => (Some(events), None),
                Err(error) => (None, Some(error)),
            };
            self.mailbox.post(Message::new(Input::Loaded { op, events }, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc;

    use arcp_proto::runtime::EventRecord;

    use super::*;
    use crate::store::StoreError;

    /// Returns nothing, and only once the lock is free.
    struct Gated(Arc<Mutex<()>>);

    impl History for Gated {
        fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
            Ok(Box::new(Gated(self.0.clone())))
        }

        fn events(&mut self, _: JobId, _: u64, _: u64, _: usize) -> Result<Vec<EventRecord>, StoreError> {
            drop(self.0.lock());
            Ok(Vec::new())
        }
    }

    #[test]
    fn there_are_as_many_threads_as_reads_at_once_up_to_a_bound() {
        let (sender, answers) = mpsc::channel();
        let gate = Arc::new(Mutex::new(()));
        let mailbox = Arc::new(Mailbox::new(move || _ = sender.send(())));
        let mut history = ReadBack::new(Box::new(Gated(gate.clone())), mailbox.clone());
        let mut read = || {
            let wanted = Wanted { op: OpId(1), job: JobId::from_ulid(ulid::Ulid::nil()), from: 1, to: 1, bytes: 1 };
            history.read(wanted).expect("it waits for a thread");
            history.threads
        };
        let answered = |count: usize| {
            let mut taken = VecDeque::new();
            let mut found = 0;
            while found < count {
                if mailbox.may_sleep() {
                    answers.recv().expect("it is woken");
                }
                mailbox.take(&mut taken);
                found += taken.drain(..).count();
            }
            assert_eq!(found, count);
        };
        for _ in 0..3 {
            assert_eq!(read(), 1, "one after another");
            answered(1);
        }
        let closed = gate.lock().expect("nobody panicked");
        let threads: Vec<usize> = (0..MOST + 2).map(|_| read()).collect();
        let expected: Vec<usize> = (1..=MOST + 2).map(|reads| reads.min(MOST)).collect();
        assert_eq!(threads, expected);
        drop(closed);
        answered(MOST + 2);
        assert_eq!(read(), MOST);
        answered(1);
    }
}
