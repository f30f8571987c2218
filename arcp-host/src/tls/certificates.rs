//! What a server shows, and its key.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::ServerConfig;
use rustls::{Error, InconsistentKeys};

use super::{TlsError, pem, provider};

/// A certificate with those of its issuers, and its key: PEM files that are
/// read when asked for.
///
/// `Debug` shows the names of the files only.
pub struct Certificates {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not hold what it should, or the key is not
    /// that of the first certificate.
    pub fn read(certificates: &Path, key: &Path) -> Result<Certificates, TlsError> {
        let current = RwLock::new(load(certificates, key)?);
        Ok(Certificates { certificates: certificates.to_path_buf(), key: key.to_path_buf(), current })
    }

    /// Reads them again: connections from now on are shown the new ones. Those
    /// there are go on.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read): then everything stays as it is.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let fresh = load(&self.certificates, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What the next connection is shown.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        // Whoever panicked had replaced it, or had not.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("certificates", &self.certificates)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which one has words of its own")]
fn load(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, secret) = (pem::certificates(certificates)?, pem::key(key)?);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    config.map(Arc::new).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::OtherKey { certificates: certificates.to_path_buf(), key: key.to_path_buf() }
        }
        Error::InvalidCertificate(why) => TlsError::unusable(certificates, format!("its certificate is none: {why}")),
        other => TlsError::unusable(key, format!("its key cannot be used: {other}")),
    })
}
