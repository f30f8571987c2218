//! The threads on which slow authenticators, such as identity providers, judge credentials. The
//! number of threads is bounded, however many connections come. Networks take turns: one that sends
//! many credentials delays only itself.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcp_proto::id::Network;
use arcp_proto::limits::ConnectionLimits;

/// Judges one credential and reports the verdict. If dropped, it reports that the credential was
/// not judged.
type Judge = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub(super) struct Judges {
    /// How many threads there are at most, and how many credentials may wait for them.
    most: (usize, usize),
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// Waiting credentials by network; `None` is a pipe or a Unix socket.
    waiting: BTreeMap<Option<Network>, VecDeque<Judge>>,
    /// The networks with waiting credentials, each once; and `count`, the number of waiting
    /// credentials.
    turns: VecDeque<Option<Network>>,
    count: usize,
}

impl State {
    fn put(&mut self, of: Option<Network>, judge: Judge) {
        let line = self.waiting.entry(of).or_default();
        if line.is_empty() {
            self.turns.push_back(of);
        }
        line.push_back(judge);
        self.count += 1;
    }

    /// The first credential of the network whose turn it is. That network goes to the end of the
    /// line.
    fn take(&mut self) -> Option<Judge> {
        let of = self.turns.pop_front()?;
        let line = self.waiting.get_mut(&of)?;
        let judge = line.pop_front()?;
        self.count -= 1;
        if line.is_empty() {
            self.waiting.remove(&of);
        } else {
            self.turns.push_back(of);
        }
        Some(judge)
    }
}

impl Judges {
    pub(super) fn new(limits: &ConnectionLimits) -> Judges {
        Judges { most: (limits.judgements, limits.waiting_judgements), state: Arc::default() }
    }

    /// Queues a credential of a network to be judged in turn.
    pub(super) fn begin(&self, of: Option<Network>, judge: impl FnOnce() + Send + 'static) {
        let (at_once, waiting) = self.most;
        let mut state = self.state();
        if state.count >= waiting {
            drop(state);
            return drop(judge);
        }
        state.put(of, Box::new(judge));
        if state.threads == at_once {
            return;
        }
        state.threads += 1;
        drop(state);
        let judges = self.clone();
        if std::thread::Builder::new().name("authenticate".to_string()).spawn(move || judges.work()).is_err() {
            let mut state = self.state();
            state.threads -= 1;
            // Running threads take the waiting credentials. Without any thread they are dropped,
            // and so reported as not judged.
            let threads = state.threads;
            let dropped = if threads == 0 { std::mem::take(&mut *state) } else { State::default() };
            drop(state);
            drop(dropped);
        }
    }

    fn work(&self) {
        while let Some(judge) = self.next() {
            // A judge that panics reports that it has not judged; the thread goes on with the
            // others.
            let _ = catch_unwind(AssertUnwindSafe(judge));
        }
    }

    /// The next credential; a thread that finds none ends.
    fn next(&self) -> Option<Judge> {
        let mut state = self.state();
        let next = state.take();
        if next.is_none() {
            state.threads -= 1;
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use arcp_proto::limits::Limits;

    use super::*;

    #[test]
    fn so_many_are_judged_at_once_all_are_in_the_end_and_what_is_beyond_is_dropped() {
        const AT_ONCE: usize = 5;
        const WAITING: usize = 40;
        const MANY: usize = AT_ONCE + WAITING + 10;
        let mut limits = Limits::default();
        (limits.connection.judgements, limits.connection.waiting_judgements) = (AT_ONCE, WAITING);
        let judges = Judges::new(&limits.connection);
        let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Mutex::new(()));
        let (told, ended) = channel();
        let held = gate.lock().expect("nobody panicked");
        for n in 0..MANY {
            let (most, at_it, gate, told) = (most.clone(), now.clone(), gate.clone(), told.clone());
            judges.begin(None, move || {
                most.fetch_max(at_it.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                drop(gate.lock());
                at_it.fetch_sub(1, Ordering::SeqCst);
                told.send(n).expect("awaited");
                assert!(n % 7 > 0, "one that is broken");
            });
            // All threads are busy before more credentials are queued.
            while n < AT_ONCE && now.load(Ordering::SeqCst) <= n {
                std::thread::yield_now();
            }
        }
        drop(told);
        drop(held);
        assert_eq!(ended.iter().count(), AT_ONCE + WAITING);
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
        while judges.state().threads > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_network_that_sends_many_waits_behind_others() {
        let (mut state, judged) = (State::default(), Arc::new(Mutex::new(Vec::new())));
        let network = |address: &str| Some(Network::new(address.parse().expect("an address")));
        let from = [("10.0.0.1", 3), ("10.0.0.2", 1), ("10.0.0.3", 2)];
        for (address, n) in from.into_iter().flat_map(|(address, many)| (1..=many).map(move |n| (address, n))) {
            let judged = judged.clone();
            state.put(network(address), Box::new(move || judged.lock().expect("alone").push((address, n))));
        }
        while let Some(judge) = state.take() {
            judge();
        }
        let turns =
            [("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1), ("10.0.0.1", 2), ("10.0.0.3", 2), ("10.0.0.1", 3)];
        assert_eq!(*judged.lock().expect("alone"), turns);
        assert!(state.waiting.is_empty() && state.count == 0, "nothing is left behind");
    }
}
