//! Connections without a session: how many there may be, how many of one
//! peer, and which goes when there are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use arcp_proto::id::Network;
use mio::Token;

/// Connections whose session is not open yet, and those that were told
/// goodbye. Of those that were told goodbye the oldest goes first, then the
/// one that was silent for longest.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    most_per_network: usize,
    by_network: BTreeMap<Network, BTreeSet<Standing>>,
    by_token: BTreeMap<Token, (Network, Standing)>,
    tick: u64,
}

/// The smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    may_stay: bool,
    heard_at: u64,
    token: Token,
}

impl Admission {
    pub(crate) fn new(most: usize, most_per_network: usize) -> Admission {
        Admission { most, most_per_network, by_network: BTreeMap::new(), by_token: BTreeMap::new(), tick: 0 }
    }

    /// Adds a connection that was just accepted; gives the one that has to go
    /// for it, if there are too many.
    pub(crate) fn enter(&mut self, token: Token, address: IpAddr) -> Option<Token> {
        let network = Network::of(address);
        self.put(token, network, true);
        let of_network = self.by_network.get(&network).map_or(0, BTreeSet::len);
        if of_network > self.most_per_network {
            return self.first_of(network);
        }
        if self.by_token.len() > self.most { self.first() } else { None }
    }

    /// A request or a frame came from a connection without a session.
    pub(crate) fn heard(&mut self, token: Token) {
        if let Some(network) = self.leave(token) {
            self.put(token, network, true);
        }
    }

    /// The connection was told goodbye.
    pub(crate) fn goodbye(&mut self, token: Token, address: IpAddr) {
        self.leave(token);
        self.put(token, Network::of(address), false);
    }

    /// The connection has a session now, or is gone.
    pub(crate) fn leave(&mut self, token: Token) -> Option<Network> {
        let (network, standing) = self.by_token.remove(&token)?;
        if let Some(held) = self.by_network.get_mut(&network) {
            held.remove(&standing);
            if held.is_empty() {
                self.by_network.remove(&network);
            }
        }
        Some(network)
    }

    /// The one that goes first of all: of the network that has the most.
    pub(crate) fn first(&self) -> Option<Token> {
        let (network, _) = self.by_network.iter().max_by_key(|(_, held)| held.len())?;
        self.first_of(*network)
    }

    fn first_of(&self, network: Network) -> Option<Token> {
        self.by_network.get(&network)?.first().map(|standing| standing.token)
    }

    fn put(&mut self, token: Token, network: Network, may_stay: bool) {
        self.tick += 1;
        let standing = Standing { may_stay, heard_at: self.tick, token };
        self.by_token.insert(token, (network, standing));
        self.by_network.entry(network).or_default().insert(standing);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn far(n: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, n))
    }

    #[test]
    fn a_peer_over_its_share_loses_its_own_connection_that_was_silent_for_longest() {
        let mut admission = Admission::new(100, 3);
        assert_eq!(admission.enter(Token(1), far(1)), None);
        (2..5).for_each(|n| assert_eq!(admission.enter(Token(n), NEAR), None));
        admission.heard(Token(2));
        assert_eq!(admission.enter(Token(5), NEAR), Some(Token(3)));
    }

    #[test]
    fn with_too_many_in_all_the_peer_with_the_most_gives_one_up() {
        let mut admission = Admission::new(3, 3);
        assert_eq!(admission.enter(Token(1), far(1)), None);
        assert_eq!(admission.enter(Token(2), NEAR), None);
        assert_eq!(admission.enter(Token(3), NEAR), None);
        assert_eq!(admission.enter(Token(4), far(2)), Some(Token(2)));
    }

    #[test]
    fn who_was_told_goodbye_goes_before_who_waits() {
        let mut admission = Admission::new(2, 2);
        assert_eq!(admission.enter(Token(1), NEAR), None);
        assert_eq!(admission.enter(Token(2), NEAR), None);
        admission.goodbye(Token(2), NEAR);
        assert_eq!(admission.first(), Some(Token(2)));
        assert_eq!(admission.enter(Token(3), NEAR), Some(Token(2)));
    }

    #[test]
    fn who_has_a_session_or_is_gone_counts_no_more() {
        let mut admission = Admission::new(1, 1);
        assert_eq!(admission.enter(Token(1), NEAR), None);
        admission.leave(Token(1));
        assert_eq!(admission.first(), None);
        assert_eq!(admission.enter(Token(2), NEAR), None);
    }

    #[test]
    fn the_addresses_of_a_network_share() {
        let mut admission = Admission::new(100, 1);
        assert_eq!(admission.enter(Token(1), far(1)), None);
        let of_network = "2001:db8:0:1::9".parse().expect("an address");
        assert_eq!(admission.enter(Token(2), of_network), Some(Token(1)));
    }
}
