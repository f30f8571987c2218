//! The certificate of a server with its key, and the clients that it knows by their certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use arcp_proto::runtime::Verdict;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConfig;
use rustls::{Error, InconsistentKeys};

use super::clients::{Certified, ClientCertificates, KnownClients};
use super::{TlsError, known_runtimes, pem, provider};

/// A certificate with those of its issuers, and its key: PEM files that are read on request.
///
/// `Debug` shows only the names of the files.
pub struct Certificates {
    certificates: PathBuf,
    key: PathBuf,
    clients: Option<ClientCertificates>,
    current: RwLock<Arc<Shown>>,
}

/// The certificate for new connections, and the clients that are known.
pub(crate) struct Shown {
    pub(super) config: Arc<ServerConfig>,
    clients: Option<KnownClients>,
    /// The fingerprint by which clients recognise this server.
    fingerprint: String,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not hold what it should, or the key is not that of the first
    /// certificate.
    pub fn read(certificates: &Path, key: &Path) -> Result<Certificates, TlsError> {
        Certificates::of(certificates, key, None)
    }

    /// As [`read`](Self::read), with clients that are known by their certificates.
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

    /// Reads the files again. New connections get the new certificate. Existing connections go on,
    /// if their clients' certificates are still accepted: see
    /// [`ServerHandle::check_clients`](crate::server::ServerHandle::check_clients).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); nothing changes then.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let fresh = load(&self.certificates, &self.key, self.clients.as_ref())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The configuration for the next connection of a protocol, with its ALPN name as the only one.
    pub fn config_for(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = self.current().config.as_ref().clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    /// The certificate for the next connection.
    pub(crate) fn current(&self) -> Arc<Shown> {
        // The lock may be poisoned by a panic elsewhere, but the value is whole.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    /// The fingerprint of the server's key.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What these certificates of a client prove, if they are accepted at present.
    pub(crate) fn certified(&self, shown: &[CertificateDer<'_>]) -> Option<Certified> {
        self.clients.as_ref()?.certified(shown)
    }

    /// Whether these certificates of a client proved a principal before, and prove another one or
    /// none at present.
    pub(crate) fn has_changed(&self, before: &Shown, shown: &[CertificateDer<'_>]) -> bool {
        let holder = before.holder(shown);
        holder.is_some() && holder != self.certified(shown).and_then(|certified| certified.holder)
    }

    /// The principal of the first certificate, whether it is accepted or not.
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
