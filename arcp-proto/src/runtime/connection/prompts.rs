//! Who waits to be told that people are asked something.
//!
//! Told is that there is something to look for, and not what: one answer to one request, so
//! that nothing piles up for whoever does not read.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{ConnId, WireId};

/// The connections on which that was asked for.
#[derive(Debug, Default)]
pub(in crate::runtime) struct PromptWaiters(BTreeMap<ConnId, Standing>);

#[derive(Debug)]
enum Standing {
    /// Nothing was asked since it was told.
    Told,
    /// Something was.
    Behind,
    /// It is told by the answer to this request.
    Waits(WireId),
}

impl PromptWaiters {
    /// A connection waits for the next one. Gives the request to be answered now: itself,
    /// where it was not told before or something was asked since; else the one before,
    /// which this takes the place of.
    pub(in crate::runtime) fn await_next(&mut self, conn: ConnId, request: &WireId) -> Option<WireId> {
        match self.0.insert(conn, Standing::Waits(request.clone())) {
            Some(Standing::Told) => None,
            Some(Standing::Waits(before)) => (before != *request).then_some(before),
            None | Some(Standing::Behind) => {
                self.0.insert(conn, Standing::Told);
                Some(request.clone())
            }
        }
    }

    /// People are asked something that the peer of a connection may see: gives the request
    /// that it waits by.
    pub(in crate::runtime) fn on_asked(&mut self, conn: ConnId) -> Option<WireId> {
        let standing = self.0.get_mut(&conn)?;
        match core::mem::replace(standing, Standing::Behind) {
            Standing::Told | Standing::Behind => None,
            Standing::Waits(request) => {
                *standing = Standing::Told;
                Some(request)
            }
        }
    }

    /// The connections of which anybody has asked.
    pub(in crate::runtime) fn conns(&self) -> Vec<ConnId> {
        self.0.keys().copied().collect()
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_once_and_misses_nothing_between_two_requests() {
        let (mut waiters, conn) = (PromptWaiters::default(), ConnId(1));
        let id = |text: &str| WireId::new(text).expect("an id");
        assert_eq!(waiters.on_asked(conn), None, "nobody has asked");
        assert_eq!(waiters.await_next(conn, &id("a")), Some(id("a")), "what is there it was not told of");
        assert_eq!(waiters.await_next(conn, &id("b")), None);
        assert_eq!(waiters.await_next(conn, &id("b")), None, "the same message once more");
        assert_eq!(waiters.await_next(conn, &id("c")), Some(id("b")), "nobody waits for ever");
        assert_eq!(waiters.on_asked(conn), Some(id("c")));
        assert_eq!([waiters.on_asked(conn), waiters.on_asked(conn)], [None, None]);
        assert_eq!(waiters.await_next(conn, &id("d")), Some(id("d")), "asked meanwhile");
        assert_eq!(waiters.await_next(conn, &id("e")), None);
        waiters.forget(conn);
        assert!(waiters.conns().is_empty());
    }
}
