//! Principals, their issuers, and the accounts that they share.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::{BoundOf, ParseError};
use crate::id::SessionId;

/// The prefix of anonymous principals.
const ANONYMOUS: &str = "anonymous-";
/// The character between an issuer and its subject.
const OF_ISSUER: char = '#';
const NAME_BYTES: core::ops::RangeInclusive<usize> = 1..=256;

/// A principal: named by a credential or by a transport, or an anonymous session, which was opened
/// without a credential.
///
/// Subjects of different issuers are different principals, and no authentication scheme can name
/// the subject of another issuer. Each text stands for one principal only:
///
/// | text | principal | made by |
/// |---|---|---|
/// | `alice` | one that the runtime's own configuration names | [`new`](Principal::new) |
/// | `https://login.example#alice` | a subject of an [`Issuer`] | [`issued`](Principal::issued) |
/// | `anonymous-<ULID>` | a session without a credential | the runtime only |
///
/// ```
/// use arcp_proto::id::{Issuer, Principal};
/// let alice = Principal::new("alice").unwrap();
/// assert_eq!(alice.to_string(), "alice");
/// let login = Issuer::new("https://login.example").unwrap();
/// let other = Principal::issued(&login, "alice").unwrap();
/// assert_eq!(other.to_string(), "https://login.example#alice");
/// assert_ne!(other, alice);
/// // Configuration may mean either; code that has a name from elsewhere cannot.
/// assert_eq!("https://login.example#alice".parse(), Ok(other));
/// assert_eq!(Principal::new("https://login.example#alice"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Principal(Who);

impl Ord for Principal {
    #[inline]
    fn cmp(&self, other: &Principal) -> Ordering {
        match (&self.0, &other.0) {
            (Who::Known(one), Who::Known(other)) => one.cmp(other),
            (one, other) => one.cmp(other),
        }
    }
}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Principal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Known(Known),
    Anonymous { session: SessionId, from: Option<Network> },
}

/// A subject of an issuer or, without an issuer, a name of the runtime's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    issuer: Option<Issuer>,
    subject: Arc<str>,
}

impl Ord for Known {
    #[inline]
    fn cmp(&self, other: &Known) -> Ordering {
        // Usually both are clones of one principal; every table of jobs compares them.
        if Arc::ptr_eq(&self.subject, &other.subject) && self.issuer == other.issuer {
            return Ordering::Equal;
        }
        (&self.issuer, &self.subject).cmp(&(&other.issuer, &other.subject))
    }
}

impl PartialOrd for Known {
    fn partial_cmp(&self, other: &Known) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Principal {
    /// A principal that the runtime's own configuration names. `None` if the name is empty, longer
    /// than 256 bytes, or the text of another kind of principal.
    ///
    /// An authenticator that trusts an issuer uses [`issued`](Principal::issued).
    pub fn new(name: &str) -> Option<Principal> {
        let is_own = NAME_BYTES.contains(&name.len()) && Principal::read_anonymous(name).is_none();
        (is_own && Principal::read_issued(name).is_none()).then(|| Principal::known(None, name))
    }

    /// A subject of an issuer. `None` if the subject is empty, longer than 256 bytes, or has
    /// control characters.
    pub fn issued(issuer: &Issuer, subject: &str) -> Option<Principal> {
        is_name(subject).then(|| Principal::known(Some(issuer.clone()), subject))
    }

    /// The issuer; `None` for the runtime's own principals, and for anonymous sessions.
    pub fn issuer(&self) -> Option<&Issuer> {
        match &self.0 {
            Who::Known(known) => known.issuer.as_ref(),
            Who::Anonymous { .. } => None,
        }
    }

    /// Whether it is an anonymous session.
    pub fn is_anonymous(&self) -> bool {
        match self.0 {
            Who::Known(_) => false,
            Who::Anonymous { .. } => true,
        }
    }

    /// The principal of an anonymous session.
    pub(crate) fn anonymous(session: SessionId, from: Option<Network>) -> Principal {
        Principal(Who::Anonymous { session, from })
    }

    /// The account that its bounds are counted on.
    pub(crate) fn account(&self) -> Account {
        match &self.0 {
            Who::Known(known) => Account::Known(known.clone()),
            Who::Anonymous { from, .. } => Account::Anonymous(*from),
        }
    }

    fn known(issuer: Option<Issuer>, subject: &str) -> Principal {
        Principal(Who::Known(Known { issuer, subject: subject.into() }))
    }

    /// Reads `<issuer>#<subject>`.
    fn read_issued(text: &str) -> Option<Principal> {
        let (issuer, subject) = text.split_once(OF_ISSUER)?;
        Principal::issued(&Issuer::new(issuer)?, subject)
    }

    /// Reads `anonymous-<ULID>`, with `@<address>` if the address is known.
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
            Who::Known(Known { issuer: None, subject }) => f.write_str(subject),
            Who::Known(Known { issuer: Some(issuer), subject }) => write!(f, "{issuer}{OF_ISSUER}{subject}"),
            Who::Anonymous { session, .. } => write!(f, "{ANONYMOUS}{}", session.ulid()),
        }
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        match &principal.0 {
            Who::Anonymous { session, from: Some(network) } => {
                alloc::format!("{ANONYMOUS}{}@{}", session.ulid(), network.0)
            }
            Who::Known(_) | Who::Anonymous { from: None, .. } => principal.to_string(),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Principal, ParseError> {
        Principal::read_anonymous(&text).map_or_else(|| text.parse(), Ok)
    }
}

/// Reads a principal from a configuration: one of the runtime's own, or `<issuer>#<subject>`.
impl FromStr for Principal {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Principal, ParseError> {
        let known = Principal::read_issued(text).or_else(|| Principal::new(text));
        known.ok_or(ParseError::new(
            "a name of 1 to 256 bytes, or an issuer, `#` and its subject; not that of an anonymous session",
        ))
    }
}

/// An authority that vouches for principals, besides the runtime's own configuration. Its name is,
/// for example, the `iss` of a token: 1 to 256 bytes without `#` and control characters.
///
/// ```
/// use arcp_proto::id::Issuer;
/// assert_eq!(Issuer::new("https://login.example").unwrap().to_string(), "https://login.example");
/// assert_eq!(Issuer::new("https://login.example#people"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// The issuer of this name; `None` if the name is not valid.
    pub fn new(name: &str) -> Option<Issuer> {
        (is_name(name) && !name.contains(OF_ISSUER)).then(|| Issuer(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Issuer {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Issuer, ParseError> {
        Issuer::new(name).ok_or(ParseError::new("an issuer of 1 to 256 bytes, without `#` and control characters"))
    }
}

/// Whether an issuer may give this name. Without control characters it cannot forge a line of a
/// log.
fn is_name(text: &str) -> bool {
    NAME_BYTES.contains(&text.len()) && !text.contains(char::is_control)
}

/// What bounds are counted on: a principal, or all anonymous principals of one network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Account {
    Known(Known),
    Anonymous(Option<Network>),
}

impl Account {
    /// What its bounds are counted on, for a refusal.
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

/// The network of a peer: one IPv4 address, or a /64 of IPv6, which is what a subscriber line has.
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
    fn every_text_is_one_principal_s_alone() {
        let login = Issuer::new("https://login.example").expect("an issuer");
        let alice = Principal::new("alice").expect("a name");
        let issued = Principal::issued(&login, "alice").expect("a subject");
        assert_ne!(issued, alice);
        assert_ne!(issued.account(), alice.account());
        assert_eq!((issued.issuer(), alice.issuer()), (Some(&login), None));
        for principal in [issued, Principal::issued(&login, "a#b").expect("a subject"), alice] {
            let stored = String::from(principal.clone());
            assert_eq!(stored.parse(), Ok(principal.clone()), "a configuration names it");
            assert_eq!(Principal::new(&stored).is_some(), principal.issuer().is_none(), "{stored}");
            assert_eq!(Principal::try_from(stored), Ok(principal));
        }
        for subject in ["", "two\nlines", &"x".repeat(257)] {
            assert_eq!(Principal::issued(&login, subject), None, "{subject:?}");
        }
        for issuer in ["", "a#b", "two\nlines", &"x".repeat(257)] {
            assert_eq!(Issuer::new(issuer), None, "{issuer:?}");
        }
    }

    #[test]
    fn every_name_that_was_ever_stored_is_read() {
        for name in
            ["alice", "#", "#alice", "alice#", "two\nlines#alice", "alice@login.example", "https://login.example"]
        {
            assert_eq!(Principal::try_from(name.to_string()).map(String::from), Ok(name.to_string()));
            assert_eq!(Principal::new(name).map(String::from), Some(name.to_string()));
        }
        let with_issuer = Principal::try_from("team#1".to_string()).expect("it is read");
        assert_eq!(with_issuer.issuer(), Issuer::new("team").as_ref());
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_half_of_an_ipv6_one() {
        assert_eq!(network("::ffff:203.0.113.7"), network("203.0.113.7"));
        assert_ne!(network("203.0.113.7"), network("203.0.113.8"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }
}
