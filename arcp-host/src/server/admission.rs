//! Bounds for connections without a session, in all and for each peer, and the choice of the one to
//! close when there are too many.

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::ConnId;

use super::origin::Source;

/// Connections whose session is not open yet, and those to which the goodbye was sent. Connections
/// without a known source share one source. Of one source, the connection with the oldest goodbye
/// is closed first, and then the one that was silent for longest.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    most_of_source: usize,
    by_source: BTreeMap<Source, BTreeSet<Standing>>,
    by_conn: BTreeMap<ConnId, (Source, Standing)>,
    tick: u64,
}

/// The order in which connections are closed: the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    may_stay: bool,
    heard_at: u64,
    conn: ConnId,
}

impl Admission {
    pub(super) fn new(most: usize, most_of_source: usize) -> Admission {
        Admission { most, most_of_source, by_source: BTreeMap::new(), by_conn: BTreeMap::new(), tick: 0 }
    }

    /// Adds a connection that was just accepted. If there are too many, returns the one to close.
    pub(super) fn enter(&mut self, conn: ConnId, source: Source) -> Option<ConnId> {
        self.put(conn, source, true);
        let of_source = self.by_source.get(&source).map_or(0, BTreeSet::len);
        if of_source > self.most_of_source {
            return self.first_of(source);
        }
        if self.by_conn.len() > self.most { self.first() } else { None }
    }

    /// Notes a request or a frame from a connection without a session.
    pub(super) fn heard(&mut self, conn: ConnId) {
        if let Some(source) = self.leave(conn) {
            self.put(conn, source, true);
        }
    }

    /// Notes that the goodbye was sent to the connection.
    pub(super) fn goodbye(&mut self, conn: ConnId, source: Source) {
        self.leave(conn);
        self.put(conn, source, false);
    }

    /// Removes a connection that has a session or is gone.
    pub(super) fn leave(&mut self, conn: ConnId) -> Option<Source> {
        let (source, standing) = self.by_conn.remove(&conn)?;
        if let Some(held) = self.by_source.get_mut(&source) {
            held.remove(&standing);
            if held.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(source)
    }

    /// The first connection to close among all: one of the source with the most connections.
    pub(super) fn first(&self) -> Option<ConnId> {
        let (source, _) = self.by_source.iter().max_by_key(|(_, held)| held.len())?;
        self.first_of(*source)
    }

    fn first_of(&self, source: Source) -> Option<ConnId> {
        self.by_source.get(&source)?.first().map(|standing| standing.conn)
    }

    fn put(&mut self, conn: ConnId, source: Source, may_stay: bool) {
        self.tick += 1;
        let standing = Standing { may_stay, heard_at: self.tick, conn };
        self.by_conn.insert(conn, (source, standing));
        self.by_source.entry(source).or_default().insert(standing);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use arcp_proto::id::Network;

    use super::*;

    fn near() -> Source {
        Source::Network(Network::new(IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }

    fn far(n: u16) -> Source {
        Source::Network(Network::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, n))))
    }

    #[test]
    fn a_peer_over_its_share_loses_its_own_connection_that_was_silent_for_longest() {
        let mut admission = Admission::new(100, 3);
        assert_eq!(admission.enter(ConnId(1), far(1)), None);
        (2..5).for_each(|n| assert_eq!(admission.enter(ConnId(n), near()), None));
        admission.heard(ConnId(2));
        assert_eq!(admission.enter(ConnId(5), near()), Some(ConnId(3)));
    }

    #[test]
    fn with_too_many_in_all_the_peer_with_the_most_gives_one_up() {
        let mut admission = Admission::new(3, 3);
        assert_eq!(admission.enter(ConnId(1), far(1)), None);
        assert_eq!(admission.enter(ConnId(2), near()), None);
        assert_eq!(admission.enter(ConnId(3), near()), None);
        assert_eq!(admission.enter(ConnId(4), far(2)), Some(ConnId(2)));
    }

    #[test]
    fn who_was_told_goodbye_goes_before_who_waits() {
        let mut admission = Admission::new(2, 2);
        assert_eq!(admission.enter(ConnId(1), near()), None);
        assert_eq!(admission.enter(ConnId(2), near()), None);
        admission.goodbye(ConnId(2), near());
        assert_eq!(admission.first(), Some(ConnId(2)));
        assert_eq!(admission.enter(ConnId(3), near()), Some(ConnId(2)));
    }

    #[test]
    fn who_has_a_session_or_is_gone_counts_no_more() {
        let mut admission = Admission::new(1, 1);
        assert_eq!(admission.enter(ConnId(1), near()), None);
        admission.leave(ConnId(1));
        assert_eq!(admission.first(), None);
        assert_eq!(admission.enter(ConnId(2), near()), None);
    }

    #[test]
    fn the_addresses_of_a_network_share() {
        let mut admission = Admission::new(100, 1);
        assert_eq!(admission.enter(ConnId(1), far(1)), None);
        let address: IpAddr = "2001:db8:0:1::9".parse().expect("an address");
        assert_eq!(admission.enter(ConnId(2), Source::Network(Network::new(address))), Some(ConnId(1)));
    }
}
