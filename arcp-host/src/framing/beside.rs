//! Binary messages beside lines: where the framing of a connection and its transport hand
//! them to each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stands at the start of a line in place of a binary message: no JSON begins with it. A
/// transport lets none of its peer's through before the message has come.
pub const PLACE: u8 = b'+';

/// The binary messages of one connection: those that were queued, and the one that comes.
/// Both sides have a clone.
#[derive(Clone, Debug, Default)]
pub struct Beside(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The one that comes, as far as it has.
    coming: Vec<u8>,
    /// Those that are whole, and whose place was not read yet.
    whole: VecDeque<Vec<u8>>,
    /// Those to write, in the order of their places.
    queued: VecDeque<Vec<u8>>,
    written: usize,
    open: bool,
}

impl Beside {
    /// More of the message that comes.
    pub fn push(&self, bytes: &[u8]) {
        self.state().coming.extend_from_slice(bytes);
    }

    /// Bytes that have come of it.
    pub fn came(&self) -> usize {
        self.state().coming.len()
    }

    /// It is whole: its place follows.
    pub fn is_whole(&self) {
        let mut state = self.state();
        let message = std::mem::take(&mut state.coming);
        state.whole.push_back(message);
    }

    /// It will not be whole.
    pub fn is_lost(&self) {
        self.state().coming = Vec::new();
    }

    /// The message whose place was read.
    pub(super) fn take(&self) -> Vec<u8> {
        self.state().whole.pop_front().unwrap_or_default()
    }

    /// The next message to write.
    pub fn next(&self) -> Option<Vec<u8>> {
        self.state().queued.pop_front()
    }

    /// So many bytes of it were written.
    pub fn wrote(&self, bytes: usize) {
        self.state().written += bytes;
    }

    /// Whether the peer is known, so that messages may come.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// The peer is known.
    pub fn open(&self) {
        self.state().open = true;
    }

    pub(super) fn queue(&self, message: Vec<u8>) {
        self.state().queued.push_back(message);
    }

    /// Bytes that were written since this was asked.
    pub fn written(&self) -> usize {
        std::mem::take(&mut self.state().written)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
