//! Connections that wait to be told that jobs ask people something.
//!
//! They are told that there is a question, and not which one: one answer to one request, so that
//! nothing accumulates for a client that does not read.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{ConnId, WireId};

/// The standing of each connection that asked for it.
#[derive(Debug, Default)]
pub(in crate::runtime) struct PromptWaiters(BTreeMap<ConnId, Standing>);

#[derive(Debug)]
enum Standing {
    /// No question was asked since it was told.
    Told,
    /// A question was asked since it was told.
    Behind,
    /// It is told by the answer to this request.
    Waits(WireId),
}

impl PromptWaiters {
    /// Makes a connection wait for the next question. Returns the request to answer now: this one,
    /// if the connection was never told, or a question was asked since; otherwise the one that
    /// waited before, which this one replaces.
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

    /// Notes a question that the peer of a connection may see. Returns the request that waits for
    /// it.
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

    /// The connections that asked for it.
    pub(in crate::runtime) fn conns(&self) -> Vec<ConnId> {
        self.0.keys().copied().collect()
    }

    /// Removes a connection.
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
