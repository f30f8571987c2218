//! Messages that have begun and not arrived whole: how many bytes of them there
//! may be, and which goes when there are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use arcp_proto::id::Network;
use mio::Token;

/// Bytes of such messages, by connection. Of the network that has most of them
/// the one that began first goes: an honest peer ends what it begins.
#[derive(Debug)]
pub(crate) struct Partial {
    most: usize,
    bytes: usize,
    by_network: BTreeMap<Network, Share>,
    by_token: BTreeMap<Token, Message>,
    tick: u64,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    by_age: BTreeSet<(u64, Token)>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    network: Network,
    began_at: u64,
    bytes: usize,
}

impl Partial {
    pub(crate) fn new(most: usize) -> Partial {
        Partial { most, bytes: 0, by_network: BTreeMap::new(), by_token: BTreeMap::new(), tick: 0 }
    }

    /// So many bytes of a connection are in no whole message; gives the
    /// connection that has to go, if there are too many of all.
    pub(crate) fn hold(&mut self, token: Token, address: IpAddr, bytes: usize) -> Option<Token> {
        self.tick += 1;
        let began_at = self.leave(token).unwrap_or(self.tick);
        if bytes > 0 {
            let network = Network::of(address);
            self.by_token.insert(token, Message { network, began_at, bytes });
            let share = self.by_network.entry(network).or_default();
            share.bytes += bytes;
            share.by_age.insert((began_at, token));
            self.bytes += bytes;
        }
        self.over()
    }

    /// The message is whole, or its connection is gone.
    pub(crate) fn leave(&mut self, token: Token) -> Option<u64> {
        let Message { network, began_at, bytes } = self.by_token.remove(&token)?;
        self.bytes -= bytes;
        if let Some(share) = self.by_network.get_mut(&network) {
            share.bytes -= bytes;
            share.by_age.remove(&(began_at, token));
            if share.by_age.is_empty() {
                self.by_network.remove(&network);
            }
        }
        Some(began_at)
    }

    /// The connection that has to go, if there are too many bytes.
    pub(crate) fn over(&self) -> Option<Token> {
        if self.bytes <= self.most {
            return None;
        }
        let (_, share) = self.by_network.iter().max_by_key(|(_, share)| share.bytes)?;
        share.by_age.first().map(|(_, token)| *token)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    #[test]
    fn of_the_network_with_the_most_bytes_the_message_that_began_first_goes() {
        let mut partial = Partial::new(100);
        assert_eq!(partial.hold(Token(1), address(1), 20), None);
        assert_eq!(partial.hold(Token(2), address(2), 1), None);
        assert_eq!(partial.hold(Token(3), address(2), 40), None);
        assert_eq!(partial.hold(Token(2), address(2), 41), Some(Token(2)));
        partial.leave(Token(2));
        assert_eq!(partial.hold(Token(1), address(1), 61), Some(Token(1)));
    }

    #[test]
    fn a_whole_message_makes_room_and_the_next_one_is_younger() {
        let mut partial = Partial::new(100);
        assert_eq!(partial.hold(Token(1), address(1), 50), None);
        assert_eq!(partial.hold(Token(2), address(1), 50), None);
        partial.leave(Token(1));
        assert_eq!(partial.hold(Token(1), address(1), 50), None);
        assert_eq!(partial.hold(Token(1), address(1), 51), Some(Token(2)));
        assert_eq!(partial.hold(Token(2), address(1), 0), None);
        assert!(partial.by_token.len() == 1 && partial.bytes == 51);
    }
}
