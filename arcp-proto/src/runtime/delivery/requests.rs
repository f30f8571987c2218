//! The requests by which sessions got access to a job. In a family that names requests, every frame
//! names the one that it answers.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{SessionId, WireId};

/// The requests of each session, counted from 1. A number is recorded with its request and removed
/// with its session, so it identifies only one request, whatever else was removed.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Requests {
    by_number: BTreeMap<(SessionId, u32), WireId>,
    /// The number of the latest request of each session.
    latest: BTreeMap<SessionId, u32>,
}

/// Bytes that a request holds, approximately.
pub(super) fn weight(request: &WireId) -> usize {
    const ENTRY: usize = 96;
    ENTRY + request.as_str().len()
}

impl Requests {
    /// Notes the latest request of a session; returns its number. A repeated request keeps its
    /// number.
    pub(super) fn add(&mut self, session: SessionId, request: &WireId) -> u32 {
        let number = self.number_of(session, request).unwrap_or_else(|| {
            let next = self.of(session).next_back().map_or(0, |(last, _)| last) + 1;
            self.by_number.insert((session, next), request.clone());
            next
        });
        self.latest.insert(session, number);
        number
    }

    /// Restores a request of an earlier run. Older records have no number: then requests were
    /// counted over all sessions. Returns the request that it replaces.
    pub(super) fn restore(&mut self, session: SessionId, number: u32, request: WireId) -> Option<WireId> {
        let number = if number > 0 { number } else { u32::try_from(self.count() + 1).unwrap_or(u32::MAX) };
        self.latest.insert(session, number);
        self.by_number.insert((session, number), request)
    }

    /// New frames for a session answer this request from now on.
    pub(super) fn follow(&mut self, session: SessionId, number: u32) {
        if self.get(session, number).is_some() {
            self.latest.insert(session, number);
        }
    }

    /// The request that new frames for a session answer; 0 for none.
    pub(in crate::runtime) fn latest(&self, session: SessionId) -> u32 {
        self.latest.get(&session).copied().unwrap_or(0)
    }

    /// The number of a session's request, if it is known.
    pub(in crate::runtime) fn number_of(&self, session: SessionId, request: &WireId) -> Option<u32> {
        self.of(session).find(|(_, known)| *known == request).map(|(number, _)| number)
    }

    /// The request of a session that has this number.
    pub(in crate::runtime) fn get(&self, session: SessionId, number: u32) -> Option<&WireId> {
        self.by_number.get(&(session, number))
    }

    /// The requests of one session, in order.
    fn of(&self, session: SessionId) -> impl DoubleEndedIterator<Item = (u32, &WireId)> {
        self.by_number.range((session, 0)..=(session, u32::MAX)).map(|((_, number), request)| (*number, request))
    }

    /// The number of all requests.
    pub(in crate::runtime) fn count(&self) -> usize {
        self.by_number.len()
    }

    /// Bytes that the requests of a session hold, approximately.
    pub(super) fn weight(&self, session: SessionId) -> usize {
        self.of(session).map(|(_, request)| weight(request)).sum()
    }

    /// The session of each request.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.by_number.keys().map(|(session, _)| *session)
    }

    /// Removes the requests of a session that has ended.
    pub(super) fn forget(&mut self, session: SessionId) {
        let gone: Vec<u32> = self.of(session).map(|(number, _)| number).collect();
        for number in gone {
            self.by_number.remove(&(session, number));
        }
        self.latest.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u64) -> SessionId {
        SessionId::from_ulid(ulid::Ulid::from_parts(n, 0))
    }

    #[test]
    fn new_frames_follow_from_the_request_that_came_last_or_again() {
        let id = |text| WireId::new(text).expect("an id");
        let mut requests = Requests::default();
        assert_eq!(
            [("a", 1), ("b", 2), ("a", 1)].map(|(text, n)| (requests.add(session(1), &id(text)), n)),
            [(1, 1), (2, 2), (1, 1)]
        );
        assert_eq!((requests.latest(session(1)), requests.latest(session(2))), (1, 0));
        requests.follow(session(1), 2);
        assert_eq!(requests.latest(session(1)), 2);
        requests.follow(session(1), 3);
        assert_eq!(requests.latest(session(1)), 2, "there is none of this number");
        requests.restore(session(2), 0, id("c"));
        assert_eq!(requests.number_of(session(2), &id("c")), Some(3), "counted over all sessions");
        requests.forget(session(1));
        assert_eq!((requests.count(), requests.latest(session(1)), requests.get(session(1), 1)), (1, 0, None));
        assert_eq!(requests.add(session(1), &id("d")), 1);
    }
}
