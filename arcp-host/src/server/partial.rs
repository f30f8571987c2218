//! A bound for the bytes of unfinished messages, and the choice of the connection to close when
//! there are too many.

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::ConnId;

use super::origin::Source;

/// The bytes of unfinished messages, by connection. When there are too many, the connection whose
/// message began first is closed, of the source that has most bytes: an honest peer finishes what
/// it begins.
#[derive(Debug)]
pub(super) struct Partial {
    most: usize,
    bytes: usize,
    by_source: BTreeMap<Source, Share>,
    by_conn: BTreeMap<ConnId, Message>,
    tick: u64,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    by_age: BTreeSet<(u64, ConnId)>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    source: Source,
    began_at: u64,
    bytes: usize,
}

impl Partial {
    pub(super) fn new(most: usize) -> Partial {
        Partial { most, bytes: 0, by_source: BTreeMap::new(), by_conn: BTreeMap::new(), tick: 0 }
    }

    /// Sets how many bytes of a connection belong to an unfinished message. If there are too many
    /// in all, returns the connection to close.
    pub(super) fn hold(&mut self, conn: ConnId, source: Source, bytes: usize) -> Option<ConnId> {
        self.tick += 1;
        let began_at = self.leave(conn).unwrap_or(self.tick);
        if bytes > 0 {
            self.by_conn.insert(conn, Message { source, began_at, bytes });
            let share = self.by_source.entry(source).or_default();
            share.bytes += bytes;
            share.by_age.insert((began_at, conn));
            self.bytes += bytes;
        }
        self.over()
    }

    /// Removes a message that is whole, or whose connection is gone.
    pub(super) fn leave(&mut self, conn: ConnId) -> Option<u64> {
        let Message { source, began_at, bytes } = self.by_conn.remove(&conn)?;
        self.bytes -= bytes;
        if let Some(share) = self.by_source.get_mut(&source) {
            share.bytes -= bytes;
            share.by_age.remove(&(began_at, conn));
            if share.by_age.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(began_at)
    }

    /// The connection to close if there are too many bytes.
    pub(super) fn over(&self) -> Option<ConnId> {
        if self.bytes <= self.most {
            return None;
        }
        let (_, share) = self.by_source.iter().max_by_key(|(_, share)| share.bytes)?;
        share.by_age.first().map(|(_, conn)| *conn)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use arcp_proto::id::Network;

    use super::*;

    fn network(n: u8) -> Source {
        Source::Network(Network::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))))
    }

    #[test]
    fn of_the_network_with_the_most_bytes_the_message_that_began_first_goes() {
        let mut partial = Partial::new(100);
        assert_eq!(partial.hold(ConnId(1), network(1), 20), None);
        assert_eq!(partial.hold(ConnId(2), network(2), 1), None);
        assert_eq!(partial.hold(ConnId(3), network(2), 40), None);
        assert_eq!(partial.hold(ConnId(2), network(2), 41), Some(ConnId(2)));
        partial.leave(ConnId(2));
        assert_eq!(partial.hold(ConnId(1), network(1), 61), Some(ConnId(1)));
    }

    #[test]
    fn a_whole_message_makes_room_and_the_next_one_is_younger() {
        let mut partial = Partial::new(100);
        assert_eq!(partial.hold(ConnId(1), network(1), 50), None);
        assert_eq!(partial.hold(ConnId(2), network(1), 50), None);
        partial.leave(ConnId(1));
        assert_eq!(partial.hold(ConnId(1), network(1), 50), None);
        assert_eq!(partial.hold(ConnId(1), network(1), 51), Some(ConnId(2)));
        assert_eq!(partial.hold(ConnId(2), network(1), 0), None);
        assert!(partial.by_conn.len() == 1 && partial.bytes == 51);
    }

    #[test]
    fn what_is_gone_of_a_network_counts_no_more_for_it() {
        let mut partial = Partial::new(100);
        partial.hold(ConnId(1), network(1), 60);
        partial.hold(ConnId(2), network(1), 10);
        assert_eq!(partial.leave(ConnId(1)), Some(1));
        assert_eq!((partial.bytes, partial.by_source[&network(1)].bytes), (10, 10));
        assert_eq!((partial.leave(ConnId(1)), partial.leave(ConnId(2))), (None, Some(2)));
        assert!(partial.by_source.is_empty() && partial.bytes == 0);
    }
}
