//! The time up to which everything that had arrived was handed over. Silence is judged as of this
//! time.

use arcp_proto::time::Now;

/// How many ticks in a row are put off because more has arrived than one turn takes.
const PATIENCE: u32 = 64;

#[derive(Debug)]
pub(super) struct Heard {
    /// The time at which the loop began to wait. What had arrived by then is handed over in the
    /// turn that follows.
    waited_from: Now,
    /// The arrival time of the last message taken, if the inbox held more than one turn takes.
    taken_up_to: Option<Now>,
    /// The number of ticks in a row that were put off.
    put_off: u32,
}

impl Heard {
    /// The outputs that follow from the restored records are still to be performed, so the first
    /// turn does not wait.
    pub(super) fn new(now: Now) -> Heard {
        Heard { waited_from: now, taken_up_to: Some(now), put_off: 0 }
    }

    /// The loop is about to look for input and to wait.
    pub(super) fn wait_from(&mut self, now: Now) {
        self.waited_from = now;
    }

    /// A message with this arrival time was taken out of the inbox.
    pub(super) fn take_up_to(&mut self, arrived: Now) {
        self.taken_up_to = Some(arrived);
    }

    /// The inbox is empty.
    pub(super) fn take_all(&mut self) {
        self.taken_up_to = None;
    }

    /// Whether the inbox held more than a turn takes.
    pub(super) fn has_more(&self) -> bool {
        self.taken_up_to.is_some()
    }

    /// The time as of which silence may be judged in this turn. `None`: not all sockets were read,
    /// and the tick is put off; this happens at most [`PATIENCE`] times in a row.
    pub(super) fn judge(&mut self, all_heard: bool) -> Option<Now> {
        self.put_off = if all_heard { 0 } else { self.put_off + 1 };
        if self.put_off > PATIENCE {
            self.put_off = 0;
        }
        let heard = self.taken_up_to.filter(|taken| taken.mono < self.waited_from.mono).unwrap_or(self.waited_from);
        (self.put_off == 0).then_some(heard)
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::time::{Timestamp, UtcMs};

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Timestamp(seconds * 1_000_000), utc: UtcMs(seconds * 1000) }
    }

    #[test]
    fn silence_is_judged_as_of_the_wait_and_of_what_was_taken_out_of_a_full_inbox() {
        let mut heard = Heard::new(at(1));
        assert!(heard.has_more(), "the first turn is due at once");
        heard.wait_from(at(5));
        heard.take_up_to(at(2));
        assert_eq!((heard.judge(true), heard.has_more()), (Some(at(2)), true));
        // Other threads put more in during the turn.
        heard.take_up_to(at(7));
        assert_eq!(heard.judge(true), Some(at(5)));
        heard.take_all();
        assert_eq!((heard.judge(true), heard.has_more()), (Some(at(5)), false));
    }
}
