//! Inputs that other threads have for the runtime.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AgentCall, Input};
use arcp_proto::time::{Timestamp, UtcMs};

use crate::agent::Inbox;
use crate::clock;
use crate::store::StoreError;

/// An input, with the error of the store that caused it, if there was one.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) input: Input,
    pub(super) error: Option<StoreError>,
    /// The time at which it was put into the inbox.
    pub(super) arrived: Timestamp,
}

impl Message {
    /// A message that arrives at this moment.
    pub(super) fn new(input: Input, error: Option<StoreError>) -> Message {
        Message { input, error, arrived: clock::monotonic() }
    }
}

/// Takes the next message. Consecutive events of one agent within one millisecond, by `when`,
/// become one input, because they have the same time.
pub(super) fn next(messages: &mut VecDeque<Message>, when: impl Fn(Timestamp) -> UtcMs) -> Option<Message> {
    let mut first = messages.pop_front()?;
    let Some(job) = says(&first) else {
        return Some(first);
    };
    let at = when(first.arrived);
    let is_next = |next: &&Message| says(next) == Some(job) && when(next.arrived) == at;
    let more = messages.iter().take_while(is_next).count();
    if more > 0 {
        let mut calls = Vec::with_capacity(more + 1);
        let arrived = messages[more - 1].arrived;
        calls.extend(call_of(first.input));
        messages.drain(..more).for_each(|message| calls.extend(call_of(message.input)));
        first = Message { input: Input::AgentSays { job, calls }, error: None, arrived };
    }
    Some(first)
}

/// The job whose agent emits an event in this message.
fn says(message: &Message) -> Option<JobId> {
    if let Input::Agent { job, call: AgentCall::Emit { .. } } = &message.input { Some(*job) } else { None }
}

fn call_of(input: Input) -> Option<AgentCall> {
    if let Input::Agent { call, .. } = input { Some(call) } else { None }
}

/// Messages that wait for the loop.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// The loop waits or is about to wait: the next `post` must wake it.
    asleep: bool,
}

/// The inbox of the loop, for agents, the store, authenticators and operators. Their inputs are
/// bounded: those of agents by credit, the others by what the core has asked for.
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// The capacity that an empty queue keeps, in messages.
const KEPT: usize = 2048;

impl Mailbox {
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Mailbox {
        // The loop may wait before it first calls `may_sleep`.
        let waiting = Waiting { asleep: true, ..Waiting::default() };
        Mailbox { waiting: Mutex::new(waiting), wake: Box::new(wake) }
    }

    /// Wakes the loop once if it waits, and never while it runs: it checks the inbox before it
    /// waits.
    pub(super) fn post(&self, message: Message) {
        let mut waiting = self.waiting();
        waiting.messages.push_back(message);
        let wakes = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if wakes {
            (self.wake)();
        }
    }

    /// Moves all messages into an empty queue.
    pub(super) fn take(&self, into: &mut VecDeque<Message>) {
        if into.capacity() > KEPT {
            *into = VecDeque::new();
        }
        let mut waiting = self.waiting();
        waiting.asleep = false;
        std::mem::swap(&mut waiting.messages, into);
    }

    /// Whether the inbox is empty, so that the loop may wait until it is woken.
    pub(super) fn may_sleep(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.asleep = waiting.messages.is_empty();
        waiting.asleep
    }

    /// The lock may be poisoned by a panic elsewhere, but the messages are whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Mailbox {
    fn put(&self, input: Input) {
        self.post(Message::new(input, None));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_loop_that_waits_is_woken_once_and_one_that_runs_never() {
        let wakes = Arc::new(AtomicU32::new(0));
        let counted = wakes.clone();
        let mailbox = Mailbox::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let put_five = || (0..5).for_each(|_| mailbox.put(Input::Tick));
        let mut taken = VecDeque::new();
        for turn in 1..=3 {
            put_five();
            assert_eq!(wakes.load(Ordering::SeqCst), turn, "it waits");
            mailbox.take(&mut taken);
            assert_eq!(taken.drain(..).count(), 5);
            put_five();
            assert_eq!(wakes.load(Ordering::SeqCst), turn, "it runs");
            assert!(!mailbox.may_sleep(), "and sees them before it waits");
            mailbox.take(&mut taken);
            assert_eq!(taken.drain(..).count(), 5);
            assert!(mailbox.may_sleep());
        }
    }
}
