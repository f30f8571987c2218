//! Trust levels (RFC §15.3), and their elevation for a time (RFC §15.6).

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ParseError, Violation};

/// How far a job is trusted, or whoever asks for one. Each level may do what those
/// below it may.
///
/// ```
/// use arcp_proto::trust::TrustLevel;
/// assert!(TrustLevel::Untrusted < TrustLevel::Privileged);
/// assert_eq!("constrained".parse(), Ok(TrustLevel::Constrained));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustLevel {
    /// Nobody vouches for who asks.
    Untrusted,
    /// A credential bounds what may be granted.
    Constrained,
    /// Known, and bounded by nothing.
    #[default]
    Trusted,
    /// For a time only, and by who runs the runtime.
    Privileged,
}

/// Before the level, in the name of a permission that elevates.
const ELEVATE: &str = "trust.elevate.";

impl TrustLevel {
    /// Every level, the lowest first.
    pub const ALL: [TrustLevel; 4] =
        [TrustLevel::Untrusted, TrustLevel::Constrained, TrustLevel::Trusted, TrustLevel::Privileged];

    /// The name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            TrustLevel::Untrusted => "untrusted",
            TrustLevel::Constrained => "constrained",
            TrustLevel::Trusted => "trusted",
            TrustLevel::Privileged => "privileged",
        }
    }

    /// The name of the permission that elevates to it, such as
    /// `trust.elevate.privileged`.
    pub fn permission(self) -> String {
        alloc::format!("{ELEVATE}{self}")
    }

    /// The level that a permission of this name elevates to; `None`: to none.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` for a level that there is not.
    pub fn of_permission(name: &str) -> Result<Option<TrustLevel>, Violation> {
        let Some(level) = name.strip_prefix(ELEVATE) else {
            return Ok(None);
        };
        let unknown = |ParseError { expected }| {
            Violation::invalid(alloc::format!("`permission`: `{ELEVATE}` is followed by {expected}"))
        };
        level.parse().map(Some).map_err(unknown)
    }

    /// Whether it is what is not said.
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
