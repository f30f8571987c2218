//! Whether a server is whom a client connects to.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::known_runtimes::Pin;
use super::{known_runtimes, provider};

/// Takes certificates that are known themselves, and those of known issuers.
#[derive(Debug)]
pub(super) struct Verifier {
    known: Vec<CertificateDer<'static>>,
    issuers: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    /// The fingerprint of the key that alone vouches for it, if one does.
    key: Option<String>,
    /// What is known of its key.
    pin: Option<Pin>,
}

impl Verifier {
    /// Takes what these issuers vouch for, and these certificates for the names
    /// that they have: one that is signed by itself may say that it is an
    /// authority, which is no server's otherwise.
    pub(super) fn issued_by(issuers: Arc<WebPkiServerVerifier>, known: Vec<CertificateDer<'static>>) -> Verifier {
        let algorithms = provider().signature_verification_algorithms;
        Verifier { known, issuers: Some(issuers), algorithms, key: None, pin: None }
    }

    /// Takes this certificate and no other, by whatever name its server is
    /// called: this machine knows it.
    pub(super) fn of_this_machine(known: CertificateDer<'static>) -> Verifier {
        let algorithms = provider().signature_verification_algorithms;
        Verifier { known: vec![known], issuers: None, algorithms, key: None, pin: None }
    }

    /// Takes whoever has the key of this fingerprint and proves it, and nobody else.
    pub(super) fn of_key(fingerprint: String) -> Verifier {
        let algorithms = provider().signature_verification_algorithms;
        Verifier { known: Vec::new(), issuers: None, algorithms, key: Some(fingerprint), pin: None }
    }

    /// The same, if its server also shows the key that it showed first.
    pub(super) fn pinned(self, pin: Option<Pin>) -> Verifier {
        Verifier { pin, ..self }
    }

    /// Remembers a key that its server has proved to have.
    fn keep(
        &self,
        certificate: &CertificateDer<'_>,
        proved: HandshakeSignatureValid,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.pin.as_ref().map_or(Ok(()), |pin| pin.keep(certificate))?;
        Ok(proved)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(key) = &self.key {
            known_runtimes::must_have(certificate, key)?;
            return Ok(ServerCertVerified::assertion());
        }
        let is_known = self.known.iter().any(|known| known == certificate);
        match &self.issuers {
            Some(_) if is_known => verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?,
            Some(issuers) => {
                issuers.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
            }
            None if is_known => {}
            None => return Err(CertificateError::UnknownIssuer.into()),
        }
        self.pin.as_ref().map_or(Ok(()), |pin| pin.check(certificate))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(certificate, verify_tls12_signature(message, certificate, signed, &self.algorithms)?)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(certificate, verify_tls13_signature(message, certificate, signed, &self.algorithms)?)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
