//! Tokens of jobs, as they are recorded.

use serde::{Deserialize, Serialize};

use crate::secret::SecretDigest;

/// A job token, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its digest; the token itself is not recorded.
    pub digest: SecretDigest,
    /// The number of the job's last event when the token was issued.
    pub after: u64,
}
