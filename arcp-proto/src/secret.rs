//! Values that must not reach a log, a `Debug` or another principal.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Text that is never printed: `Debug` shows `[secret]`.
///
/// Only [`crate::record`] serialises secrets; a recording is therefore a secret itself.
///
/// ```
/// use arcp_proto::secret::Secret;
/// let token = Secret::new("hunter2".into());
/// assert_eq!(format!("{token:?}"), "[secret]");
/// assert_eq!(token.expose(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The value. The caller decides who may see it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The SHA-256 of the value, which is stored and compared in its place.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The digest of a 256-bit secret. Equality takes the same time for every
/// pair of values.
#[derive(Clone, Copy, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretDigest(pub [u8; 32]);

impl PartialEq for SecretDigest {
    fn eq(&self, other: &SecretDigest) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0, |acc, (a, b)| acc | (a ^ b));
        core::hint::black_box(difference) == 0
    }
}

impl Eq for SecretDigest {}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[digest]")
    }
}
