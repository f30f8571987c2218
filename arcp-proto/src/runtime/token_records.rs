//! What is kept of tokens of jobs.

use serde::{Deserialize, Serialize};

use crate::secret::SecretDigest;

/// A token of a job, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What it is known by: not itself.
    pub digest: SecretDigest,
    /// The last event of the job when it was issued.
    pub after: u64,
}
