//! Whom a client trusts, and what it shows.

use std::fmt::Display;
use std::sync::Arc;

use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};

use super::verifier::Verifier;
use super::{TlsError, pem, provider};
use crate::client::{Identity, Trust};

/// What a client connects with that trusts these, and shows this. It reads files: not
/// to be called where nothing may wait.
///
/// # Errors
///
/// If a file cannot be read or used, or this machine has no list of
/// authorities.
pub fn client_config(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = match trust {
        Trust::System => {
            let issuers = issuers(system()?).map_err(|error| TlsError::NoAuthorities(format!(": {error}")))?;
            Verifier::issued_by(issuers, Vec::new())
        }
        Trust::Authorities(file) => {
            let given = pem::certificates(file)?;
            let bad = |error: &dyn Display| TlsError::unusable(file, format!("it cannot be trusted: {error}"));
            let mut roots = RootCertStore::empty();
            given.iter().try_for_each(|given| roots.add(given.clone())).map_err(|error| bad(&error))?;
            Verifier::issued_by(issuers(roots).map_err(|error| bad(&error))?, given)
        }
        Trust::Certificate(file) => Verifier::of_this_machine(pem::certificates(file)?.swap_remove(0)),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::NoAuthorities(format!(": {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificates, key }) => {
            let (chain, secret) = (pem::certificates(certificates)?, pem::key(key)?);
            let unusable = |error| TlsError::unusable(certificates, format!("it cannot be shown: {error}"));
            config.with_client_auth_cert(chain, secret).map_err(unusable)?
        }
    };
    Ok(Arc::new(config))
}

fn issuers(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
}

/// Those of this machine that can be read.
fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err(TlsError::NoAuthorities(found.errors.first().map_or(String::new(), |error| format!(": {error}"))));
    }
    Ok(roots)
}
