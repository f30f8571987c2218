//! Scopes: what a credential may be used for.

use alloc::collections::BTreeSet;
use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Scopes of a credential, in the words of its issuer.
///
/// ```
/// use arcp_proto::scope::Scopes;
/// let scopes: Scopes = ["job.submit", "job.cancel"].into_iter().collect();
/// assert!(scopes.contains("job.submit") && !scopes.contains("admin"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this scope is in the set.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// All scopes, in the order of their texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The scopes that are also in `others`.
    #[must_use]
    pub fn within(&self, others: &Scopes) -> Scopes {
        Scopes(self.0.intersection(&others.0).cloned().collect())
    }
}

impl<T: Into<String>> FromIterator<T> for Scopes {
    fn from_iter<I: IntoIterator<Item = T>>(scopes: I) -> Scopes {
        Scopes(scopes.into_iter().map(Into::into).collect())
    }
}
