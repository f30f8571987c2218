//! The local frames of a session: frames without an event.

use alloc::collections::VecDeque;

use crate::runtime::io::LocalFrame;

/// Local frames in the order of their numbers in the session, with a count of their own.
#[derive(Debug, Default)]
pub(super) struct Locals {
    frames: VecDeque<LocalFrame>,
    /// How many were released.
    gone: u64,
    /// Bytes of the frames.
    bytes: usize,
}

impl Locals {
    pub(super) fn get(&self, n: u64) -> Option<&LocalFrame> {
        self.frames.get(usize::try_from(n.checked_sub(self.gone)?).ok()?)
    }

    /// Adds a frame; returns its count.
    pub(super) fn push(&mut self, frame: LocalFrame) -> u64 {
        self.bytes += frame.weight();
        self.frames.push_back(frame);
        self.gone + self.frames.len() as u64 - 1
    }

    pub(super) fn pop_front(&mut self) {
        if let Some(gone) = self.frames.pop_front() {
            self.gone += 1;
            self.bytes -= gone.weight();
        }
    }

    pub(super) fn pop_back(&mut self) {
        self.bytes -= self.frames.pop_back().map_or(0, |gone| gone.weight());
    }

    /// Bytes they hold, approximately.
    pub(super) fn weight(&self) -> usize {
        self.bytes
    }

    /// The same, counted again.
    pub(super) fn recount(&self) -> usize {
        self.frames.iter().map(LocalFrame::weight).sum()
    }
}
