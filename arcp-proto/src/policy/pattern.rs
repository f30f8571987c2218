//! Patterns of agents and principals: those of leases, applied to names.

use alloc::string::{String, ToString as _};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Issuer, Principal};
use crate::lease::{Namespace, Pattern, Refused, Target};

/// The namespace whose rules names are compared by.
const NAMES: Namespace = Namespace::AgentDelegate;
/// Matches every principal with a credential, or every one with a prefix.
const ALL: &str = "**";

/// Agents by name, without a version: `build`, `test-*`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentPattern(Pattern);

impl AgentPattern {
    /// Whether it matches this agent.
    pub fn matches(&self, agent: &str) -> bool {
        Target::new(&NAMES, agent).is_ok_and(|target| self.0.matches(&target))
    }
}

impl FromStr for AgentPattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<AgentPattern, Refused> {
        Pattern::new(&NAMES, text).map(AgentPattern)
    }
}

/// Principals by name: `ci-*`, `spiffe://example/ns/*`, `https://login.example#ops-*`, or `**` for
/// all with a credential.
///
/// An issuer, and the text before `://`, are compared literally; the rest is a pattern of names. No
/// pattern matches an anonymous principal. A principal whose name is ambiguous, such as `a/../b`,
/// matches only its own text and `**`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalPattern {
    text: String,
    /// Where the pattern begins in the text.
    behind: usize,
    /// `None`: all principals with the prefix match, or only the text itself.
    pattern: Option<Pattern>,
}

impl PrincipalPattern {
    /// Whether it matches this principal.
    pub fn matches(&self, principal: &Principal) -> bool {
        if principal.is_anonymous() {
            return false;
        }
        let name = principal.to_string();
        if name == self.text || self.text == ALL {
            return true;
        }
        let behind = behind_prefix(&name, principal.issuer());
        if name[..behind] != self.text[..self.behind] {
            return false;
        }
        match &self.pattern {
            Some(pattern) => Target::new(&NAMES, &name[behind..]).is_ok_and(|target| pattern.matches(&target)),
            None => self.text[self.behind..] == *ALL,
        }
    }
}

/// Where the part of a name begins that patterns are applied to.
fn behind_prefix(name: &str, issuer: Option<&Issuer>) -> usize {
    const OF_SCHEME: &str = "://";
    match issuer {
        Some(issuer) => issuer.as_str().len() + 1,
        None => name.find(OF_SCHEME).map_or(0, |at| at + OF_SCHEME.len()),
    }
}

impl FromStr for PrincipalPattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<PrincipalPattern, Refused> {
        // A pattern of an issuer's subjects parses as such a principal.
        let principal: Option<Principal> = text.parse().ok();
        let behind = behind_prefix(text, principal.as_ref().and_then(Principal::issuer));
        let rest = &text[behind..];
        let pattern = match Pattern::new(&NAMES, rest) {
            _ if rest == ALL => None,
            Ok(pattern) => Some(pattern),
            // The text matches only itself.
            Err(_) if principal.is_some() && behind > 0 && !rest.contains(['*', '?']) => None,
            Err(refused) => return Err(refused),
        };
        Ok(PrincipalPattern { text: text.into(), behind, pattern })
    }
}

/// What both kinds share: the text that they were written as.
macro_rules! text {
    ($kind:ty, $text:expr) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text: fn(&$kind) -> &str = $text;
                f.write_str(text(self))
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$kind> for String {
            fn from(pattern: $kind) -> String {
                pattern.to_string()
            }
        }

        impl TryFrom<String> for $kind {
            type Error = Refused;

            fn try_from(text: String) -> Result<$kind, Refused> {
                text.parse()
            }
        }
    };
}

text!(AgentPattern, |pattern| pattern.0.as_str());
text!(PrincipalPattern, |pattern| &pattern.text);
