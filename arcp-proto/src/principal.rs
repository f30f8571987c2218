//! Who acts, and with whom it shares its bounds.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::{BoundOf, ParseError};
use crate::id::SessionId;

/// How the names of principals begin that nobody vouches for.
const ANONYMOUS: &str = "anonymous-";

/// Who acts: whom an authenticator or a transport vouches for, or a session
/// that was opened without a credential.
///
/// A name is never empty and has at most 256 bytes. `anonymous-<ULID>` is the
/// name of a session without a credential, and no authenticator can give it.
///
/// ```
/// use arcp_proto::id::Principal;
/// assert_eq!(Principal::new("alice").unwrap().to_string(), "alice");
/// assert_eq!(Principal::new(""), None);
/// assert_eq!(Principal::new("anonymous-01ARZ3NDEKTSV4RRFFQ69G5FAV"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Principal(Who);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Known(Arc<str>),
    Anonymous { session: SessionId, from: Option<Network> },
}

impl Principal {
    /// Whom an authenticator names. `None` if the name is empty, longer than
    /// 256 bytes, or that of a session without a credential.
    pub fn new(name: &str) -> Option<Principal> {
        let fits = (1..=256).contains(&name.len());
        (fits && Principal::read_anonymous(name).is_none()).then(|| Principal(Who::Known(name.into())))
    }

    /// Whether nobody vouches for it.
    pub fn is_anonymous(&self) -> bool {
        match self.0 {
            Who::Known(_) => false,
            Who::Anonymous { .. } => true,
        }
    }

    /// Whoever opened this session without a credential.
    pub(crate) fn anonymous(session: SessionId, from: Option<Network>) -> Principal {
        Principal(Who::Anonymous { session, from })
    }

    /// Whose bounds it uses up.
    pub(crate) fn account(&self) -> Account {
        match &self.0 {
            Who::Known(name) => Account::Known(name.clone()),
            Who::Anonymous { from, .. } => Account::Anonymous(*from),
        }
    }

    /// Reads `anonymous-<ULID>`, with `@<address>` if it is known where from.
    fn read_anonymous(text: &str) -> Option<Principal> {
        let rest = text.strip_prefix(ANONYMOUS)?;
        let (ulid, from) = match rest.split_once('@') {
            Some((ulid, address)) => (ulid, Some(Network::new(address.parse().ok()?))),
            None => (rest, None),
        };
        Some(Principal::anonymous(SessionId::from_ulid(Ulid::from_string(ulid).ok()?), from))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Who::Known(name) => f.write_str(name),
            Who::Anonymous { session, .. } => write!(f, "{ANONYMOUS}{}", session.ulid()),
        }
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        match principal.0 {
            Who::Known(name) => name.to_string(),
            Who::Anonymous { session, from: Some(network) } => {
                alloc::format!("{ANONYMOUS}{}@{}", session.ulid(), network.0)
            }
            Who::Anonymous { from: None, .. } => principal.to_string(),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Principal, ParseError> {
        Principal::read_anonymous(&text).map_or_else(|| text.parse(), Ok)
    }
}

/// Reads the name of somebody known, as [`Principal::new`] does.
impl FromStr for Principal {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Principal, ParseError> {
        Principal::new(name).ok_or(ParseError::new("a name of 1 to 256 bytes, not that of an anonymous session"))
    }
}

/// Whose bounds are used up: a principal's own, or those that everybody shares
/// who comes without a credential from one network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Account {
    Known(Arc<str>),
    Anonymous(Option<Network>),
}

impl Account {
    /// Whose its bounds are, as a refusal says it.
    pub(crate) fn bound_of(&self) -> BoundOf {
        match self {
            Account::Known(_) => BoundOf::Principal,
            Account::Anonymous(_) => BoundOf::Network,
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        match self {
            Account::Known(_) => false,
            Account::Anonymous(_) => true,
        }
    }
}

/// Where a peer comes from, as far as it tells peers apart: one IPv4 address,
/// or the /64 of IPv6 that a subscriber line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
    pub fn new(address: IpAddr) -> Network {
        Network(match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::new(address.parse().expect("an address"))
    }

    #[test]
    fn what_is_stored_is_read_back_and_a_name_is_never_anonymous() {
        let session = SessionId::from_ulid(Ulid::from_parts(1, 2));
        let everybody = [None, Some(network("203.0.113.7")), Some(network("2001:db8::1"))]
            .map(|from| Principal::anonymous(session, from));
        for principal in everybody {
            let stored = String::from(principal.clone());
            assert_eq!(Principal::new(&stored), None, "{stored}");
            assert_eq!(Principal::new(&principal.to_string().to_lowercase()), None);
            assert_eq!(Principal::try_from(stored), Ok(principal));
        }
        let known = Principal::new("anonymous-coward").expect("a name");
        assert!(!known.is_anonymous());
        assert_eq!(Principal::try_from(String::from(known.clone())), Ok(known));
        assert!(Principal::try_from(String::new()).is_err());
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_half_of_an_ipv6_one() {
        assert_eq!(network("::ffff:203.0.113.7"), network("203.0.113.7"));
        assert_ne!(network("203.0.113.7"), network("203.0.113.8"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }
}
