//! Trust levels (RFC §15.3), and their temporary elevation (RFC §15.6).

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ParseError, Violation};

/// How far a job or a session is trusted. Each level may do what the lower ones may.
///
/// ```
/// use arcp_proto::trust::TrustLevel;
/// assert!(TrustLevel::Untrusted < TrustLevel::Privileged);
/// assert_eq!("constrained".parse(), Ok(TrustLevel::Constrained));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustLevel {
    /// The session is anonymous.
    Untrusted,
    /// The credential bounds what may be granted.
    Constrained,
    /// The principal is known, and its credential has no bounds.
    #[default]
    Trusted,
    /// An operator; a job has this level only for a time, granted by an operator.
    Privileged,
}

/// The prefix of a permission that elevates, before the level.
const ELEVATE: &str = "trust.elevate.";

impl TrustLevel {
    /// Every level, from the lowest.
    pub const ALL: [TrustLevel; 4] =
        [TrustLevel::Untrusted, TrustLevel::Constrained, TrustLevel::Trusted, TrustLevel::Privileged];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            TrustLevel::Untrusted => "untrusted",
            TrustLevel::Constrained => "constrained",
            TrustLevel::Trusted => "trusted",
            TrustLevel::Privileged => "privileged",
        }
    }

    /// The name of the permission that elevates to this level, such as `trust.elevate.privileged`.
    pub fn permission(self) -> String {
        alloc::format!("{ELEVATE}{self}")
    }

    /// The level that a permission of this name elevates to; `None`: it does not elevate.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if there is no such level.
    pub fn of_permission(name: &str) -> Result<Option<TrustLevel>, Violation> {
        let Some(level) = name.strip_prefix(ELEVATE) else {
            return Ok(None);
        };
        let unknown = |ParseError { expected }| {
            Violation::invalid(alloc::format!("`permission`: `{ELEVATE}` is followed by {expected}"))
        };
        level.parse().map(Some).map_err(unknown)
    }

    /// Whether it is the default, which is not written.
    pub(crate) fn is_usual(&self) -> bool {
        *self == TrustLevel::default()
    }
}

impl fmt::Display for TrustLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrustLevel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<TrustLevel, ParseError> {
        const EXPECTED: ParseError = ParseError::new("untrusted, constrained, trusted or privileged");
        TrustLevel::ALL.into_iter().find(|level| level.as_str() == text).ok_or(EXPECTED)
    }
}
