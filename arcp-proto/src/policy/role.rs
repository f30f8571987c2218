//! Roles: what a credential says about its principal besides the name.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;

/// A role by its name: 1 to 64 letters, digits, `.`, `_`, `-`, `:` and `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(Arc<str>);

impl Role {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Role {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Role, ParseError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
        if (1..=64).contains(&text.len()) && text.chars().all(fits) {
            return Ok(Role(text.into()));
        }
        Err(ParseError::new("a role of 1 to 64 letters, digits, `.`, `_`, `-`, `:` and `/`"))
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.to_string()
    }
}

impl TryFrom<String> for Role {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Role, ParseError> {
        text.parse()
    }
}

/// The roles of a principal. An empty set needs no allocation.
///
/// ```
/// use arcp_proto::policy::{Role, Roles};
/// let dev: Role = "dev".parse().unwrap();
/// let roles: Roles = [dev.clone()].into_iter().collect();
/// assert!(roles.has(&dev) && !Roles::default().has(&dev));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<Role>", into = "BTreeSet<Role>")]
pub struct Roles(Option<Arc<BTreeSet<Role>>>);

impl Roles {
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this role is in the set.
    pub fn has(&self, role: &Role) -> bool {
        self.0.as_ref().is_some_and(|roles| roles.contains(role))
    }

    /// All roles, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.iter().flat_map(|roles| roles.iter())
    }

    /// The roles that are also in `others`.
    #[must_use]
    pub fn within(&self, others: &Roles) -> Roles {
        self.iter().filter(|role| others.has(role)).cloned().collect()
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Role::as_str)).finish()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        BTreeSet::from_iter(roles).into()
    }
}

impl From<BTreeSet<Role>> for Roles {
    fn from(roles: BTreeSet<Role>) -> Roles {
        Roles((!roles.is_empty()).then(|| Arc::new(roles)))
    }
}

impl From<Roles> for BTreeSet<Role> {
    fn from(roles: Roles) -> BTreeSet<Role> {
        roles.iter().cloned().collect()
    }
}
