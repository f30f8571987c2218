//! Binary messages beside lines: the framing of a connection and its transport exchange them here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A line that begins with this byte stands for a binary message: no JSON begins with it. A
/// transport passes on such a line of its peer only after the whole message has come.
pub const PLACE: u8 = b'+';

/// The binary messages of one connection: the queued ones, and the one that is arriving. The
/// framing and the transport each have a clone.
#[derive(Clone, Debug, Default)]
pub struct Beside(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The part of the arriving message that has come.
    coming: Vec<u8>,
    /// Complete messages whose place was not read yet.
    whole: VecDeque<Vec<u8>>,
    /// Messages to write, in the order of their places.
    queued: VecDeque<Vec<u8>>,
    written: usize,
    open: bool,
}

impl Beside {
    /// Adds bytes of the arriving message.
    pub fn push(&self, bytes: &[u8]) {
        self.state().coming.extend_from_slice(bytes);
    }

    /// The number of bytes of the arriving message.
    pub fn came(&self) -> usize {
        self.state().coming.len()
    }

    /// Notes that the arriving message is complete. Its place follows.
    pub fn is_whole(&self) {
        let mut state = self.state();
        let message = std::mem::take(&mut state.coming);
        state.whole.push_back(message);
    }

    /// Discards the arriving message, which will not be completed.
    pub fn is_lost(&self) {
        self.state().coming = Vec::new();
    }

    /// Takes the message whose place was read.
    pub(super) fn take(&self) -> Vec<u8> {
        self.state().whole.pop_front().unwrap_or_default()
    }

    /// Takes the next message to write.
    pub fn next(&self) -> Option<Vec<u8>> {
        self.state().queued.pop_front()
    }

    /// Counts written bytes.
    pub fn wrote(&self, bytes: usize) {
        self.state().written += bytes;
    }

    /// Whether the peer is authenticated, so that it may send messages.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Notes that the peer is authenticated.
    pub fn open(&self) {
        self.state().open = true;
    }

    pub(super) fn queue(&self, message: Vec<u8>) {
        self.state().queued.push_back(message);
    }

    /// The number of bytes written since the last call.
    pub fn written(&self) -> usize {
        std::mem::take(&mut self.state().written)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
