//! Whether a server is whom a client connects to.

use std::sync::{Arc, Mutex, PoisonError};

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
    /// Why a server was refused last.
    refusals: Refusals,
}

/// Why a client with this refused a server: for transports that tell it in text only.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<Error>>>);

impl Refusals {
    /// Why the last one was, told once.
    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, judged: Result<T, Error>) -> Result<T, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = judged.as_ref().err().cloned();
        judged
    }
}

impl Verifier {
    /// Takes what these issuers vouch for, and these certificates for the names
    /// that they have: one that is signed by itself may say that it is an
    /// authority, which is no server's otherwise.
    pub(super) fn issued_by(issuers: Arc<WebPkiServerVerifier>, known: Vec<CertificateDer<'static>>) -> Verifier {
        Verifier { issuers: Some(issuers), ..Verifier::of(known) }
    }

    /// Takes this certificate and no other, by whatever name its server is
    /// called: this machine knows it.
    pub(super) fn of_this_machine(known: CertificateDer<'static>) -> Verifier {
        Verifier::of(vec![known])
    }

    /// Takes whoever has the key of this fingerprint and proves it, and nobody else.
    pub(super) fn of_key(fingerprint: String) -> Verifier {
        Verifier { key: Some(fingerprint), ..Verifier::of(Vec::new()) }
    }

    fn of(known: Vec<CertificateDer<'static>>) -> Verifier {
        let algorithms = provider().signature_verification_algorithms;
        Verifier { known, issuers: None, algorithms, key: None, pin: None, refusals: Refusals::default() }
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.refusals.clone()
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
        self.refusals.note(self.pin.as_ref().map_or(Ok(()), |pin| pin.keep(certificate)))?;
        Ok(proved)
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(key) = &self.key {
            return known_runtimes::must_have(certificate, key);
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
        self.pin.as_ref().map_or(Ok(()), |pin| pin.check(certificate))
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
        self.refusals.note(self.judge(certificate, intermediates, name, ocsp, now))?;
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
