//! Checks whether a server is the one to which a client wants to connect.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::known_runtimes::Pin;
use super::{known_runtimes, provider};

/// Accepts certificates that are known themselves, and those of known issuers.
#[derive(Debug)]
pub(super) struct Verifier {
    known: Vec<CertificateDer<'static>>,
    issuers: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    /// The fingerprint of the required key, if the key alone decides.
    key: Option<String>,
    /// The known key of the runtime, if one is kept.
    pin: Option<Pin>,
    /// Why a server was last refused.
    refusals: Refusals,
}

/// The reason of a client's last refusal, for transports that pass errors on as text only.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<Error>>>);

impl Refusals {
    /// Takes the reason of the last refusal.
    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, judged: Result<T, Error>) -> Result<T, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = judged.as_ref().err().cloned();
        judged
    }
}

impl Verifier {
    /// Accepts certificates of these issuers, and these certificates for the names that they
    /// contain. A self-signed one may declare itself an authority, which is otherwise not allowed
    /// for a server.
    pub(super) fn issued_by(issuers: Arc<WebPkiServerVerifier>, known: Vec<CertificateDer<'static>>) -> Verifier {
        Verifier { issuers: Some(issuers), ..Verifier::of(known) }
    }

    /// Accepts only this certificate, whatever the server's name: it is a file on this machine.
    pub(super) fn of_this_machine(known: CertificateDer<'static>) -> Verifier {
        Verifier::of(vec![known])
    }

    /// Accepts only a server that proves that it has the key with this fingerprint.
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

    /// Also requires the key that the server had when it was seen first.
    pub(super) fn pinned(self, pin: Option<Pin>) -> Verifier {
        Verifier { pin, ..self }
    }

    /// Remembers the key, which the server has proved to have.
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
