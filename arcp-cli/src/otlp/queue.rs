//! The queue of ended spans that are not sent yet.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcp_host::spans::SpanCounts;
use prost::Message as _;

use super::frames::Span;

/// The most spans that wait; further ones are dropped and counted.
pub const SPANS: usize = 2048;
/// The most bytes that these spans take.
const BYTES: usize = 4 << 20;
/// The most spans about peers that are not authenticated.
const SPANS_OF_STRANGERS: usize = 512;
/// The most spans in one request.
pub const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// A queue to which a span can be added without waiting.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    counts: SpanCounts,
}

#[derive(Default)]
struct State {
    spans: VecDeque<(Span, usize)>,
    bytes: usize,
    /// When the first span in the queue was added.
    since: Option<Instant>,
    /// How many spans were taken out and are being sent.
    taken: usize,
    closing: bool,
    /// The sending thread has ended.
    ended: bool,
}

impl Queue {
    /// An empty queue. Dropped spans are counted in `counts`.
    pub fn new(counts: SpanCounts) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), counts }
    }

    /// Adds an ended span. `of_stranger`: it is about a peer that is not authenticated. Never waits.
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

    /// Takes the next batch; waits for it. `None` if the queue is closed and empty.
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

    /// The batch that was taken out was sent or dropped. Returns false if [`Queue::close`] has already counted it as
    /// dropped.
    pub fn done(&self) -> bool {
        let mut state = self.state();
        state.taken = 0;
        !state.ended
    }

    /// Waits until the queue is closed, at most for `span`. Returns whether it is closed.
    pub fn wait_for_close(&self, span: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, span, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Closes the queue, and waits for at most `patience` until all spans are sent. Returns how many were not; these
    /// are dropped.
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
        // No code that holds the lock panics.
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
