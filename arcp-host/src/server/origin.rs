//! Where a stream comes from, and what begins on it.

use std::net::IpAddr;
use std::os::fd::AsFd;

use arcp_proto::id::{Network, Principal};
use arcp_proto::runtime::{Transport, Verdict};
use rustix::process::geteuid;

use crate::unix;

/// Where a stream comes from, as far as its listener knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody says.
    Unknown,
    /// An address, perhaps of another machine.
    Address(IpAddr),
    /// A process of this user, by its number, on this machine.
    User(u32),
}

impl Origin {
    /// The user at the other end of a Unix socket.
    pub fn of_user(socket: &impl AsFd) -> Origin {
        unix::peer(socket).map_or(Origin::Unknown, Origin::User)
    }

    /// The user of this process: whoever started it has the other end of its stdin and
    /// stdout.
    pub fn own() -> Origin {
        Origin::User(geteuid().as_raw())
    }

    /// The address, if it is one.
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
    /// A TLS handshake, and an HTTP request in it.
    Handshake,
    /// An HTTP request. TLS, if there is any, is somebody else's.
    Request,
    /// Frames.
    Frames(Transport, Vouched),
}

/// Whom a transport vouches for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Who it is; `None`: it has to prove that.
    pub peer: Option<Verdict>,
    /// What the channel proves by itself: see
    /// [`Input::Opened`](arcp_proto::runtime::Input::Opened). With it a token goes before
    /// `peer`, without it none is asked for.
    pub binding: Option<String>,
}

impl Vouched {
    /// A user of this machine. Who brings a token is whom that vouches for.
    pub(super) fn user(user: u32, principal: Option<Principal>) -> Vouched {
        Vouched { peer: principal.map(Verdict::from), binding: Some(format!("uid:{user}")) }
    }
}

impl From<Option<Principal>> for Vouched {
    fn from(peer: Option<Principal>) -> Vouched {
        Vouched { peer: peer.map(Verdict::from), binding: None }
    }
}

/// Who shares bounds: those of one network, one user, or of nowhere.
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
        // The system's word counts for nothing where it is that of nobody.
        assert!([Origin::own(), Origin::Unknown].contains(&Origin::of_user(&one)));
        assert_eq!(Origin::own(), Origin::User(geteuid().as_raw()));
    }
}
