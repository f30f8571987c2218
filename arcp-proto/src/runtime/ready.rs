//! The connections that may have something to send, in the order in which they were marked.

use alloc::collections::{BTreeSet, VecDeque};

use crate::id::ConnId;

/// Up to this length a queue is searched, which costs less than a look-up. After most inputs it has
/// one connection.
const FEW: usize = 16;

/// A queue with each connection at most once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: VecDeque<ConnId>,
    /// The connections of the queue, if it became longer than `FEW` since it was last empty.
    known: BTreeSet<ConnId>,
}

impl Ready {
    /// Adds a connection at the end, unless it is in the queue.
    pub(super) fn put(&mut self, conn: ConnId) {
        if self.known.is_empty() && self.queue.len() == FEW {
            self.known.extend(&self.queue);
        }
        let is_new = if self.known.is_empty() { !self.queue.contains(&conn) } else { self.known.insert(conn) };
        if is_new {
            self.queue.push_back(conn);
        }
    }

    /// Takes the first connection.
    pub(super) fn take(&mut self) -> Option<ConnId> {
        let conn = self.queue.pop_front()?;
        if !self.known.is_empty() {
            self.known.remove(&conn);
        }
        Some(conn)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_is_taken_once_in_the_order_in_which_it_came_however_many_there_are() {
        for many in [1, FEW as u64, FEW as u64 + 1, 100] {
            let mut ready = Ready::default();
            for round in 0..3 {
                let mut put = |conns: &mut dyn Iterator<Item = u64>| conns.for_each(|n| ready.put(ConnId(n)));
                put(&mut (0..many).rev());
                put(&mut (0..many));
                let first = ready.take();
                assert_eq!(first, Some(ConnId(many - 1)), "{many}, round {round}");
                ready.put(ConnId(many - 1));
                let rest: Vec<u64> = core::iter::from_fn(|| ready.take()).map(|conn| conn.0).collect();
                assert_eq!(rest, (0..many - 1).rev().chain([many - 1]).collect::<Vec<u64>>(), "{many}, round {round}");
            }
        }
    }
}
