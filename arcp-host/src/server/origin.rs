//! The origin of a stream, and what it begins with.

use std::net::IpAddr;
use std::os::fd::AsFd;

use arcp_proto::id::{Network, Principal};
use arcp_proto::runtime::{Transport, Verdict};
use rustix::process::geteuid;

use crate::unix;

/// The origin of a stream, as far as its listener knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is not known.
    Unknown,
    /// An IP address, perhaps of another machine.
    Address(IpAddr),
    /// A process of the user with this number on this machine.
    User(u32),
}

impl Origin {
    /// The user at the other end of a Unix socket.
    pub fn of_user(socket: &impl AsFd) -> Origin {
        unix::peer(socket).map_or(Origin::Unknown, Origin::User)
    }

    /// The user of this process: the parent, which has the other end of stdin and stdout.
    pub fn own() -> Origin {
        Origin::User(geteuid().as_raw())
    }

    /// The IP address, if that is known.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Origin::Address(address) => Some(address),
            Origin::Unknown | Origin::User(_) => None,
        }
    }
}

impl From<Option<IpAddr>> for Origin {
    fn from(address: Option<IpAddr>) -> Origin {
        address.map_or(Origin::Unknown, Origin::Address)
    }
}

/// What comes first on a stream.
#[derive(Clone, Debug)]
pub enum Begins {
    /// A TLS handshake, followed by an HTTP request.
    Handshake,
    /// An HTTP request. If there is TLS, a proxy ends it.
    Request,
    /// Frames.
    Frames(Transport, Vouched),
}

/// What a transport proves about a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vouched {
    /// The principal; `None`: the peer must present a credential.
    pub peer: Option<Verdict>,
    /// What the channel itself proves: see [`Input::Opened`](arcp_proto::runtime::Input::Opened).
    /// With a binding, a token has precedence over `peer`; without one, no token is asked for.
    pub binding: Option<String>,
}

impl Vouched {
    /// A user of this machine. If the peer presents a token, its principal is that of the token.
    pub(super) fn user(user: u32, principal: Option<Principal>) -> Vouched {
        Vouched { peer: principal.map(Verdict::from), binding: Some(format!("uid:{user}")) }
    }
}

impl From<Option<Principal>> for Vouched {
    fn from(peer: Option<Principal>) -> Vouched {
        Vouched { peer: peer.map(Verdict::from), binding: None }
    }
}

/// The unit for which connections are bounded: a network, a user, or all of unknown origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Nowhere,
    Network(Network),
    User(u32),
}

impl From<Origin> for Source {
    fn from(origin: Origin) -> Source {
        match origin {
            Origin::Unknown => Source::Nowhere,
            Origin::Address(address) => Source::Network(Network::new(address)),
            Origin::User(user) => Source::User(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_parent_is_of_the_user_of_this_process_whatever_number_that_has() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        // The system's answer is not used if it cannot name the user.
        assert!([Origin::own(), Origin::Unknown].contains(&Origin::of_user(&one)));
        assert_eq!(Origin::own(), Origin::User(geteuid().as_raw()));
    }
}
