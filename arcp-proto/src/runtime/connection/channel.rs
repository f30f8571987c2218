//! The transport under a connection: what may be written to it, whether it is
//! read, and why it ends.

use crate::runtime::io::CloseReason;

#[derive(Debug, Default)]
pub(super) struct Channel {
    credit_bytes: i64,
    credit_frames: u32,
    paused: bool,
    /// Why it ends once everything it is owed was said.
    leaving: Option<CloseReason>,
}

impl Channel {
    pub(super) fn grant(&mut self, bytes: u32, frames: u32) {
        self.credit_bytes = self.credit_bytes.saturating_add(i64::from(bytes));
        self.credit_frames = self.credit_frames.saturating_add(frames);
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.credit_bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit_frames = self.credit_frames.saturating_sub(1);
    }

    pub(super) fn has_credit(&self) -> bool {
        self.credit_bytes > 0 && self.credit_frames > 0
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Says whether it is read from now on; gives whether it was paused.
    pub(super) fn pause(&mut self, paused: bool) -> bool {
        core::mem::replace(&mut self.paused, paused)
    }

    pub(super) fn leave(&mut self, reason: CloseReason) {
        self.leaving = Some(reason);
    }

    pub(super) fn leaving(&self) -> Option<CloseReason> {
        self.leaving
    }
}
