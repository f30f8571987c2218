//! Reading of PEM files.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::TlsError;

/// The certificates in a file, at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::unusable(file, format!("its PEM cannot be read: {}", said(&error))))?;
    if all.is_empty() {
        let why = "it holds no certificate: a section that begins with -----BEGIN CERTIFICATE----- was expected";
        return Err(TlsError::unusable(file, why));
    }
    Ok(all)
}

/// The revocation lists in a file, at least one.
pub(super) fn revoked(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::unusable(file, format!("its PEM cannot be read: {}", said(&error))))?;
    if all.is_empty() {
        let why = "it holds no revocation list: a section that begins with -----BEGIN X509 CRL----- was expected";
        return Err(TlsError::unusable(file, why));
    }
    Ok(all)
}

/// The first private key in a file.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::unusable(
            file,
            "it holds no private key: a section that begins with -----BEGIN PRIVATE KEY----- was expected; \
             one with a passphrase has to be decrypted first",
        ),
        other => TlsError::unusable(file, format!("its PEM cannot be read: {}", said(&other))),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::Unreadable { file: file.to_path_buf(), error })
}

/// A description of the error. The library's message may quote a line of a key.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
fn said(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins with a line that is no such",
        pem::Error::Base64Decode(_) => "a section is no base64",
        _ => "it is no PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_section_is_told_without_its_lines() {
        for (text, told) in [
            ("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n", "a section has no end"),
            ("-----BEGIN secret\n", "a section begins with a line that is no such"),
            ("-----BEGIN CERTIFICATE-----\nsecret !\n-----END CERTIFICATE-----\n", "a section is no base64"),
        ] {
            let error = CertificateDer::from_pem_slice(text.as_bytes()).expect_err(text);
            assert_eq!(said(&error), told, "{error:?}");
        }
    }
}
