//! Buffers that frames are written in, again and again: every event is a frame, and one
//! that was written out is needed no more.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{JobId, SessionId};
use crate::wire::{Beginning, Prepared, View};

/// A buffer with room for more is let go: few frames are so long.
const MOST_BYTES: usize = 1 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Buffers {
    frames: Vec<String>,
    /// What the payload of a frame is written in before that is.
    pub(super) payload: String,
    /// How the payload that was written last begins.
    pub(super) beginning: Beginning,
    /// What the envelopes have in common that were written last.
    about: Option<(About, Prepared)>,
}

/// The session that gets an event, the job that it is of, the request that it follows from,
/// and how its reader sees things.
type About = (SessionId, JobId, u32, View);

impl Buffers {
    /// An empty one, perhaps with room.
    pub(super) fn take_frame(&mut self) -> String {
        self.frames.pop().unwrap_or_default()
    }

    /// A frame was written out. It may have said a secret. So many are kept.
    pub(in crate::runtime) fn keep_frame(&mut self, mut frame: String, most: usize) {
        if self.frames.len() < most && frame.capacity() <= MOST_BYTES {
            frame.clear();
            self.frames.push(frame);
        }
    }

    /// What the envelopes of a job for a session have in common. A turn writes one
    /// connection after the other, so what was written last is mostly wanted next.
    pub(super) fn about(&mut self, wanted: About, prepare: impl FnOnce() -> Prepared) -> &mut Prepared {
        let other = self.about.take_if(|(known, _)| *known != wanted).map(|(_, other)| other);
        let prepared = || match other {
            Some(other) => prepare().after(other),
            None => prepare(),
        };
        &mut self.about.get_or_insert_with(|| (wanted, prepared())).1
    }

    /// A payload stands in its frame.
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
