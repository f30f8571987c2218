//! TLS 1.2 and 1.3, by [rustls] with aws-lc-rs: the certificates of a server ([`Certificates`]),
//! the clients that it knows by their certificates ([`ClientCertificates`]), the servers that a
//! client trusts ([`Trust`]), and the client's own certificate ([`Identity`]).

mod authorities;
mod certificates;
mod channel;
mod clients;
mod known_runtimes;
mod pem;
mod verifier;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{AlertDescription, CertificateError, InvalidMessage};

pub use self::authorities::{client_config, config_and_refusals_for, config_for};
pub use self::certificates::Certificates;
pub(crate) use self::certificates::Shown;
pub(crate) use self::channel::TlsChannel;
pub(crate) use self::clients::Certified;
pub use self::clients::ClientCertificates;
pub use self::known_runtimes::KnownRuntimes;
pub use self::verifier::Refusals;

#[cfg(doc)]
use crate::client::{Identity, Trust};

/// Why a certificate, its key, or a list of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file does not exist, or cannot be read.
    #[error("{}: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// A file is not PEM, or does not hold what was expected.
    #[error("{}: {why}", .file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "{} is not the key of the first certificate in {}: give the key that the certificate was made for, \
         and put that certificate before those of its issuers", .key.display(), .certificates.display()
    )]
    OtherKey {
        /// The file of the certificates.
        certificates: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// This machine has no list of authorities.
    #[error("no certificates of authorities were found on this machine{}: install its package ca-certificates", .0)]
    NoAuthorities(String),
}

impl TlsError {
    fn unusable(file: &Path, why: impl Into<String>) -> TlsError {
        TlsError::Unusable { file: file.to_path_buf(), why: why.into() }
    }
}

/// Why no TLS connection to a server could be opened, if retrying cannot help.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
pub fn refusal(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::InvalidCertificate(why) => Some(distrust(why)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the server does not speak TLS there: ws:// is without".to_string())
        }
        other => matches!(other, rustls::Error::PeerIncompatible(_)).then(|| other.to_string()),
    }
}

/// Why a server does not accept the client's certificate. With TLS 1.3 the server says so after the
/// handshake.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
pub fn not_taken(error: &io::Error) -> Option<String> {
    let rustls::Error::AlertReceived(alert) = error.get_ref()?.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    let why = match alert {
        // Two authorities with the same name differ in their signatures.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => "it knows no authority that issued it",
        AlertDescription::CertificateExpired => "it is not valid now",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::AccessDenied => "it does not count there for clients",
        _ => return None,
    };
    Some(format!("the runtime does not take the certificate that was shown to it: {why} ({alert:?})"))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
fn distrust(why: &CertificateError) -> String {
    match why {
        // Two issuers with the same name differ in their signatures.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was issued by nobody who is trusted here".to_string()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name: {why}")
        }
        CertificateError::Other(why) => why.to_string(),
        other => format!("its certificate cannot be trusted: {other}"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
