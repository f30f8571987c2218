//! What a server shows, and its key; and which clients it knows by theirs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use arcp_proto::runtime::Verdict;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConfig;
use rustls::{Error, InconsistentKeys};

use super::clients::{Certified, ClientCertificates, KnownClients};
use super::{TlsError, known_runtimes, pem, provider};

/// A certificate with those of its issuers, and its key: PEM files that are
/// read when asked for.
///
/// `Debug` shows the names of the files only.
pub struct Certificates {
    certificates: PathBuf,
    key: PathBuf,
    clients: Option<ClientCertificates>,
    current: RwLock<Arc<Shown>>,
}

/// What connections are shown, and who is known on them.
pub(crate) struct Shown {
    pub(super) config: Arc<ServerConfig>,
    clients: Option<KnownClients>,
    /// By which clients know this server again.
    fingerprint: String,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not hold what it should, or the key is not
    /// that of the first certificate.
    pub fn read(certificates: &Path, key: &Path) -> Result<Certificates, TlsError> {
        Certificates::of(certificates, key, None)
    }

    /// The same; clients that show a certificate are known by it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with_clients(
        certificates: &Path,
        key: &Path,
        clients: ClientCertificates,
    ) -> Result<Certificates, TlsError> {
        Certificates::of(certificates, key, Some(clients))
    }

    fn of(certificates: &Path, key: &Path, clients: Option<ClientCertificates>) -> Result<Certificates, TlsError> {
        let current = RwLock::new(load(certificates, key, clients.as_ref())?);
        Ok(Certificates { certificates: certificates.to_path_buf(), key: key.to_path_buf(), clients, current })
    }

    /// Reads them again: connections from now on are shown the new ones. Those
    /// there are go on, if their clients' certificates still count: see
    /// [`ServerHandle::check_clients`](crate::server::ServerHandle::check_clients).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read): then everything stays as it is.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let fresh = load(&self.certificates, &self.key, self.clients.as_ref())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// With what the next connection of a protocol is taken, which is named by ALPN
    /// and by nothing else.
    pub fn config_for(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = self.current().config.as_ref().clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    /// What the next connection is shown.
    pub(crate) fn current(&self) -> Arc<Shown> {
        // Whoever panicked had replaced it, or had not.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    /// The fingerprint of its key.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What is known of who has shown these, if they count now.
    pub(crate) fn certified(&self, shown: &[CertificateDer<'_>]) -> Option<Certified> {
        self.clients.as_ref()?.certified(shown)
    }

    /// Whether who has shown these is somebody else by now than before, or nobody.
    pub(crate) fn has_changed(&self, before: &Shown, shown: &[CertificateDer<'_>]) -> bool {
        let holder = before.holder(shown);
        holder.is_some() && holder != self.certified(shown).and_then(|certified| certified.holder)
    }

    /// Whose certificate the first of these is, whether it counts or not.
    fn holder(&self, shown: &[CertificateDer<'_>]) -> Option<Verdict> {
        self.clients.as_ref()?.named(shown.first()?)?.holder
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("certificates", &self.certificates)
            .field("key", &self.key)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which one has words of its own")]
fn load(certificates: &Path, key: &Path, clients: Option<&ClientCertificates>) -> Result<Arc<Shown>, TlsError> {
    let clients = clients.map(KnownClients::read).transpose()?;
    let (chain, secret) = (pem::certificates(certificates)?, pem::key(key)?);
    let unusable = |error| TlsError::unusable(certificates, format!("its certificate is none: {error}"));
    let fingerprint = known_runtimes::fingerprint(&chain[0]).map_err(unusable)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map(|builder| match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        })
        .and_then(|builder| builder.with_single_cert(chain, secret));
    let shown = config.map(|config| Arc::new(Shown { config: Arc::new(config), clients, fingerprint }));
    shown.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::OtherKey { certificates: certificates.to_path_buf(), key: key.to_path_buf() }
        }
        Error::InvalidCertificate(why) => TlsError::unusable(certificates, format!("its certificate is none: {why}")),
        other => TlsError::unusable(key, format!("its key cannot be used: {other}")),
    })
}
