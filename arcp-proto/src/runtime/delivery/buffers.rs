//! Buffers for frames, which are reused: every event is a frame, and its buffer is free once the
//! frame was written out.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{JobId, SessionId};
use crate::wire::{Beginning, Prepared, View};

/// Buffers with more capacity are freed: few frames are this long.
const MOST_BYTES: usize = 1 << 10;

/// The buffers of a runtime.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Buffers {
    frames: Vec<String>,
    /// The buffer for payloads, which are written before their frames.
    pub(super) payload: String,
    /// The beginning of the payload that was written last.
    pub(super) beginning: Beginning,
    /// The common part of the envelopes that were written last.
    about: Option<(About, Prepared)>,
}

/// What envelopes with a common part share: the session that gets them, the job, the request that
/// they answer, and the session's view.
type About = (SessionId, JobId, u32, View);

impl Buffers {
    /// An empty buffer, which may have capacity.
    pub(super) fn take_frame(&mut self) -> String {
        self.frames.pop().unwrap_or_default()
    }

    /// Clears the buffer of a frame that was written out, which may hold a secret, and keeps it,
    /// unless `most` are kept.
    pub(in crate::runtime) fn keep_frame(&mut self, mut frame: String, most: usize) {
        if self.frames.len() < most && frame.capacity() <= MOST_BYTES {
            frame.clear();
            self.frames.push(frame);
        }
    }

    /// The common part of the envelopes of a job for a session. Connections are written one after
    /// the other, so the part used last is usually the next one wanted.
    pub(super) fn about(&mut self, wanted: About, prepare: impl FnOnce() -> Prepared) -> &mut Prepared {
        let other = self.about.take_if(|(known, _)| *known != wanted).map(|(_, other)| other);
        let prepared = || match other {
            Some(other) => prepare().after(other),
            None => prepare(),
        };
        &mut self.about.get_or_insert_with(|| (wanted, prepared())).1
    }

    /// Takes back the buffer of a payload that was copied into its frame.
    pub(super) fn keep_payload(&mut self, mut payload: String) {
        if payload.capacity() <= MOST_BYTES {
            payload.clear();
            self.payload = payload;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_shows_nothing_of_what_was_written_in_it() {
        let mut buffers = Buffers::default();
        buffers.keep_frame(String::from("a resume token"), 1);
        buffers.keep_payload(String::from("a credential"));
        let shown = alloc::format!("{buffers:?}");
        assert!(!shown.contains("token") && !shown.contains("credential"), "{shown}");
        assert!(buffers.take_frame().capacity() >= 14 && buffers.payload.capacity() >= 12);
    }
}
