//! What other threads have for the runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use arcp_proto::runtime::Input;
use arcp_proto::time::Timestamp;

use crate::agent::Inbox;
use crate::clock;
use crate::store::StoreError;

/// An input, and the error of the store that it comes from, if it does.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) input: Input,
    pub(super) error: Option<StoreError>,
    /// When it was put into the inbox.
    pub(super) arrived: Timestamp,
}

impl Message {
    /// One that arrives now.
    pub(super) fn new(input: Input, error: Option<StoreError>) -> Message {
        Message { input, error, arrived: clock::monotonic() }
    }
}

/// Agents, the store, authenticators and operators put inputs in here. What
/// agents put is bounded by their credit, and the rest by what the core has
/// asked for.
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: Box<dyn Fn() + Send + Sync>,
    /// The loop was woken and has not listened since.
    woken: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(sender: Sender<Message>, wake: impl Fn() + Send + Sync + 'static) -> Mailbox {
        Mailbox { sender, wake: Box::new(wake), woken: AtomicBool::new(false) }
    }

    pub(super) fn post(&self, message: Message) {
        // The loop is gone only when everything ends. It is woken once for all
        // that is put in until it looks.
        if self.sender.send(message).is_ok() && !self.woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    /// The loop is about to look into the inbox.
    pub(super) fn listen(&self) {
        self.woken.store(false, Ordering::SeqCst);
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
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_loop_is_woken_once_for_all_that_is_put_in_until_it_looks() {
        let (sender, messages) = channel();
        let wakes = Arc::new(AtomicU32::new(0));
        let counted = wakes.clone();
        let mailbox = Mailbox::new(sender, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        for turn in 1..=3 {
            for _ in 0..5 {
                mailbox.put(Input::Tick);
            }
            assert_eq!(wakes.load(Ordering::SeqCst), turn);
            mailbox.listen();
            assert_eq!(messages.try_iter().count(), 5);
        }
    }
}
