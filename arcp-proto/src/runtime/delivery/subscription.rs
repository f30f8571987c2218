//! One subscription: the events that its session is sent of the jobs that its principal may see
//! (RFC §13).

use alloc::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use super::backfill::Backfill;
use super::filter::EventFilter;
use super::message_id::tag;
use crate::id::{JobId, LogPos, Principal, SessionId, SubscriptionId};
use crate::runtime::account::Charge;

/// The subscriptions of one session, by number. Numbers are not reused.
#[derive(Debug)]
pub(super) struct SessionSubscriptions {
    pub(super) principal: Principal,
    pub(super) open: BTreeMap<u32, Subscription>,
    /// The last number given.
    pub(super) last: u32,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: EventFilter,
    /// The position of its record.
    pub(super) at: LogPos,
    /// Unfinished jobs that it is shown.
    pub(super) shown: BTreeSet<JobId>,
    /// The charge for its filter.
    pub(super) _charge: Charge,
}

/// A new subscription that was recorded, and its history.
#[derive(Debug)]
pub(in crate::runtime) struct NewSubscription {
    pub(super) number: u32,
    pub(super) filter: EventFilter,
    pub(super) at: LogPos,
    pub(super) backfill: Backfill,
}

impl SessionSubscriptions {
    pub(super) fn new(principal: Principal) -> SessionSubscriptions {
        SessionSubscriptions { principal, open: BTreeMap::new(), last: 0 }
    }

    pub(super) fn put(&mut self, number: u32, subscription: Subscription) {
        self.last = self.last.max(number);
        self.open.insert(number, subscription);
    }
}

/// The id of a subscription. It is made of session and number, so that frames of one that has ended
/// still have it.
pub fn id_of(session: SessionId, number: u32) -> SubscriptionId {
    let session = session.ulid();
    let random = u128::from(tag(session)) << 40 | u128::from(number);
    SubscriptionId::from_ulid(Ulid::from_parts(session.timestamp_ms(), random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_two_sessions_never_have_one_name() {
        let ids = [(1, 1), (1, 2), (2, 1), (2, 2)]
            .map(|(random, number)| id_of(SessionId::from_ulid(Ulid::from_parts(7, random)), number));
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{ids:?}");
        }
    }
}
