//! The servers that a client trusts, and the client's own certificate.

use std::fmt::Display;
use std::sync::Arc;

use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};

use super::known_runtimes::{KnownRuntimes, Pin};
use super::verifier::{Refusals, Verifier};
use super::{TlsError, pem, provider};
use crate::client::{Identity, Security, Target, Trust};

/// The configuration of a client with this trust and identity. It reads files, so do not call it
/// where waiting is not allowed.
///
/// # Errors
///
/// If a file cannot be read or used, or this machine has no list of authorities.
pub fn client_config(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    config_with(verifier(trust)?, identity)
}

/// As [`client_config`], for the runtime at one address. If a file of known keys is given, the
/// runtime is also checked by its key, unless its certificate is a file on this machine.
///
/// # Errors
///
/// As [`client_config`].
pub fn config_for(target: &Target, security: &Security) -> Result<Arc<ClientConfig>, TlsError> {
    config_and_refusals_for(target, security).map(|(config, _)| config)
}

/// As [`config_for`], with the place where the reason of a refusal is noted.
///
/// # Errors
///
/// As [`client_config`].
pub fn config_and_refusals_for(
    target: &Target,
    security: &Security,
) -> Result<(Arc<ClientConfig>, Refusals), TlsError> {
    let kept = match security.trust {
        Trust::System | Trust::Authorities(_) => security.known_runtimes.as_ref(),
        Trust::Certificate(_) | Trust::Key(_) => None,
    };
    let pin = kept.and_then(|kept| Pin::of(&KnownRuntimes::at(kept), target));
    let verifier = verifier(&security.trust)?.pinned(pin);
    let refusals = verifier.refusals();
    let config = config_with(verifier, security.identity.as_ref())?;
    let Some(protocol) = target.protocol() else {
        return Ok((config, refusals));
    };
    let mut config = config.as_ref().clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok((Arc::new(config), refusals))
}

fn verifier(trust: &Trust) -> Result<Verifier, TlsError> {
    Ok(match trust {
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
        Trust::Key(fingerprint) => Verifier::of_key(fingerprint.clone()),
        Trust::Certificate(file) => Verifier::of_this_machine(pem::certificates(file)?.swap_remove(0)),
    })
}

fn config_with(verifier: Verifier, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
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

/// The authorities of this machine, as far as they can be read.
fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err(TlsError::NoAuthorities(found.errors.first().map_or(String::new(), |error| format!(": {error}"))));
    }
    Ok(roots)
}
