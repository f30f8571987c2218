//! Spans that have ended and are not sent yet.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcp_host::spans::SpanCounts;
use prost::Message as _;

use super::frames::Span;

/// Spans that wait at most; more are dropped, and counted.
pub const SPANS: usize = 2048;
/// Bytes of them.
const BYTES: usize = 4 << 20;
/// How many of them may be of peers of whom nobody knows who they are.
const SPANS_OF_STRANGERS: usize = 512;
/// Spans that are sent together at most.
pub const BATCH: usize = 512;
/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// A queue that whoever puts something in never waits for.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    counts: SpanCounts,
}

#[derive(Default)]
struct State {
    spans: VecDeque<(Span, usize)>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// How many were taken out and are being sent.
    taken: usize,
    closing: bool,
    /// Nobody takes anything out any more.
    ended: bool,
}

impl Queue {
    /// An empty one; what finds no room is counted there.
    pub fn new(counts: SpanCounts) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), counts }
    }

    /// A span has ended; `of_stranger`: it is about somebody of whom nobody knows who it
    /// is. Never waits.
    pub fn add(&self, span: Span, of_stranger: bool) {
        let bytes = span.encoded_len();
        let mut state = self.state();
        let most = if of_stranger { SPANS_OF_STRANGERS } else { SPANS };
        if state.ended || state.spans.len() >= most || state.bytes + bytes > BYTES {
            return self.counts.dropped(1);
        }
        state.bytes += bytes;
        state.since.get_or_insert_with(Instant::now);
        state.spans.push_back((span, bytes));
        if state.spans.len() == 1 || state.spans.len() == BATCH {
            self.changed.notify_all();
        }
    }

    /// What is sent next; waits for it. `None`: it is closed, and nothing is left.
    pub fn take(&self) -> Option<Vec<Span>> {
        let mut state = self.state();
        loop {
            let due = state.since.map(|since| GATHER.saturating_sub(since.elapsed()));
            let is_due = due == Some(Duration::ZERO) || state.closing || state.spans.len() >= BATCH;
            if is_due && !state.spans.is_empty() {
                let several = state.spans.len().min(BATCH);
                let (spans, bytes): (Vec<Span>, Vec<usize>) = state.spans.drain(..several).unzip();
                state.bytes -= bytes.iter().sum::<usize>();
                state.since = (!state.spans.is_empty()).then(Instant::now);
                state.taken = spans.len();
                return Some(spans);
            }
            if state.closing {
                state.ended = true;
                self.changed.notify_all();
                return None;
            }
            let wait = due.unwrap_or(Duration::MAX);
            (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was taken out is sent, or dropped; whether anybody still counts on it.
    pub fn done(&self) -> bool {
        let mut state = self.state();
        state.taken = 0;
        !state.ended
    }

    /// Waits, but no longer than until it is closed; whether it is.
    pub fn wait_for_close(&self, span: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, span, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Nothing more comes: waits until everything was taken, but no longer than this.
    /// How many were not, which are dropped.
    pub fn close(&self, patience: Duration) -> usize {
        let mut state = self.state();
        state.closing = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, patience, |state| !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let left = if state.ended { 0 } else { state.spans.len() + state.taken };
        state.ended = true;
        self.counts.dropped(left as u64);
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str) -> Span {
        Span { name: name.to_string(), ..Span::default() }
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_strangers_fill_a_part_only() {
        let queue = Queue::new(SpanCounts::default());
        (0..SPANS).for_each(|_| queue.add(span("stranger"), true));
        assert_eq!(queue.state().spans.len(), SPANS_OF_STRANGERS);
        (0..2 * SPANS).for_each(|_| queue.add(span("job"), false));
        assert_eq!(queue.state().spans.len(), SPANS);
        let first = queue.take().expect("spans");
        assert_eq!((first.len(), first[0].name.as_str()), (BATCH, "stranger"), "the first ones stay");
    }

    #[test]
    fn long_spans_fill_it_too() {
        let queue = Queue::new(SpanCounts::default());
        (0..8).for_each(|_| queue.add(span(&"x".repeat(1 << 20)), false));
        assert_eq!(queue.state().spans.len(), 3);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = Queue::new(SpanCounts::default());
        queue.add(span("last"), false);
        assert_eq!(queue.close(Duration::ZERO), 1, "nobody has taken it");
        let queue = Queue::new(SpanCounts::default());
        queue.add(span("last"), false);
        let left = std::thread::scope(|scope| {
            let closing = scope.spawn(|| queue.close(Duration::from_secs(30)));
            assert_eq!(queue.take().map(|spans| spans.len()), Some(1));
            assert!(queue.done());
            assert_eq!(queue.take(), None);
            closing.join().expect("it ends")
        });
        assert_eq!(left, 0);
    }
}
