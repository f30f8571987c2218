//! Patterns of agents and principals: those of leases, held against names.

use alloc::string::{String, ToString as _};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Issuer, Principal};
use crate::lease::{Namespace, Pattern, Refused, Target};

/// Where names are compared: agents, and what is left of principals.
const NAMES: Namespace = Namespace::AgentDelegate;
/// What means every principal that somebody vouches for, or every one behind a prefix.
const ALL: &str = "**";

/// Agents by their names, without a version: `build`, `test-*`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentPattern(Pattern);

impl AgentPattern {
    /// Whether it means this agent.
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

/// Principals by their names: `ci-*`, `spiffe://example/ns/*`,
/// `https://login.example#ops-*`, or `**` for everybody with a credential.
///
/// An issuer and what stands before `://` are compared as they are; what follows is a
/// pattern of names. It means nobody that nobody vouches for. A principal whose name
/// has no single meaning, such as `a/../b`, is meant by its own text and by `**` alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalPattern {
    text: String,
    /// Where what is a pattern begins.
    behind: usize,
    /// `None`: everything there is meant, or the text alone.
    pattern: Option<Pattern>,
}

impl PrincipalPattern {
    /// Whether it means somebody.
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

/// Where the part of a name begins that patterns are held against.
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
        // A pattern of an issuer's subjects reads as such a principal.
        let principal: Option<Principal> = text.parse().ok();
        let behind = behind_prefix(text, principal.as_ref().and_then(Principal::issuer));
        let rest = &text[behind..];
        let pattern = match Pattern::new(&NAMES, rest) {
            _ if rest == ALL => None,
            Ok(pattern) => Some(pattern),
            // Whoever is called so is meant alone.
            Err(_) if principal.is_some() && behind > 0 && !rest.contains(['*', '?']) => None,
            Err(refused) => return Err(refused),
        };
        Ok(PrincipalPattern { text: text.into(), behind, pattern })
    }
}

/// What both kinds are besides: the text that they were written as.
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
