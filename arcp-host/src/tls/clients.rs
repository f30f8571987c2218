//! Clients that are known by their certificates (`mtls`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arcp_proto::id::Principal;
use arcp_proto::policy::Roles;
use arcp_proto::runtime::Verdict;
use arcp_proto::time::UtcMs;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

use super::{TlsError, pem, provider};
use crate::auth::watched_file;

/// The prefix of a fingerprint in a file of names, as the core writes it.
const FINGERPRINT: &str = "sha256:";
/// The prefix of the roles in such a file.
const ROLES: &str = "roles=";
const NAMED: [&str; 3] = [FINGERPRINT, "uri:", "dns:"];

/// The files that say which clients are known by their certificates. They are PEM files, and are
/// read together with those of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that issue these certificates. No others are accepted.
    pub authorities: PathBuf,
    /// The revocation lists, one for every issuer in a chain. `None`: nothing is revoked.
    pub revoked: Option<PathBuf>,
    /// The principals of certificates, one per line: `sha256:HEX`, `uri:URI` or `dns:NAME`, a space
    /// and the principal, and optionally a space and `roles=ROLE,ROLE`. Other clients are then not
    /// known. `None`: the principal is the one URI of a certificate, or else its one DNS name.
    pub names: Option<PathBuf>,
}

/// The files, as they were last read.
pub(super) struct KnownClients {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Option<BTreeMap<String, Holder>>,
}

/// The principal of a certificate, and its roles.
type Holder = (Principal, Roles);

/// What a client's certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certified {
    /// The principal with its roles and its expiry, if it is known.
    pub(crate) holder: Option<Verdict>,
    /// Its fingerprint: `sha256:` and lower-case hexadecimal digits.
    pub(crate) fingerprint: String,
}

impl KnownClients {
    pub(super) fn read(files: &ClientCertificates) -> Result<KnownClients, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in pem::certificates(&files.authorities)? {
            let refused = |error| TlsError::unusable(&files.authorities, format!("it cannot be trusted: {error}"));
            roots.add(authority).map_err(refused)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        // A client without a certificate proves its principal in another way.
        let builder = builder.allow_unauthenticated();
        let lists = files.revoked.as_deref().map(pem::revoked).transpose()?.unwrap_or_default();
        let blamed = files.revoked.as_ref().unwrap_or(&files.authorities);
        let built = builder.with_crls(lists).build();
        let verifier = built.map_err(|error| TlsError::unusable(blamed, format!("it cannot be used: {error}")))?;
        let names = files.names.as_deref().map(names).transpose()?;
        Ok(KnownClients { verifier, names })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    /// What these certificates prove, if they are accepted at present: one may have expired, or
    /// been revoked, since the handshake.
    pub(super) fn certified(&self, shown: &[CertificateDer<'_>]) -> Option<Certified> {
        let (own, issuers) = shown.split_first()?;
        self.verifier.verify_client_cert(own, issuers, UnixTime::now()).ok()?;
        self.named(own)
    }

    /// What this certificate proves, whether it is accepted or not.
    pub(super) fn named(&self, own: &CertificateDer<'_>) -> Option<Certified> {
        let digits: String = Sha256::digest(own).iter().map(|byte| format!("{byte:02x}")).collect();
        let fingerprint = format!("{FINGERPRINT}{digits}");
        let parsed = EndEntityCert::try_from(own).ok()?;
        let uris: Vec<&str> = parsed.valid_uri_names().collect();
        let hosts: Vec<&str> = parsed.valid_dns_names().collect();
        let holder = match &self.names {
            Some(names) => {
                let uris = uris.iter().map(|uri| format!("uri:{uri}"));
                let hosts = hosts.iter().map(|host| format!("dns:{}", host.to_ascii_lowercase()));
                let mut all = [fingerprint.clone()].into_iter().chain(uris).chain(hosts);
                all.find_map(|name| names.get(&name).cloned())
            }
            // If there are several names, none of them is the principal.
            None => match (uris.as_slice(), hosts.as_slice()) {
                ([uri], _) => Principal::new(uri).map(|principal| (principal, Roles::default())),
                ([], [host]) if !host.starts_with('*') => {
                    Principal::new(host).map(|principal| (principal, Roles::default()))
                }
                ([], _) | ([_, _, ..], _) => None,
            },
        };
        let expires_at = Some(end_of(own)?);
        let holder = holder.map(|(principal, roles)| Verdict { roles, expires_at, ..Verdict::from(principal) });
        Some(Certified { holder, fingerprint })
    }
}

/// The end of a certificate's validity. It is still valid in the second that it names.
fn end_of(certificate: &CertificateDer<'_>) -> Option<UtcMs> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Some(UtcMs(seconds.saturating_add(1).saturating_mul(1000)).min(UtcMs::MAX))
}

/// Reads the principals of certificates.
fn names(file: &Path) -> Result<BTreeMap<String, Holder>, TlsError> {
    let text = watched_file::read(file).map_err(|error| TlsError::unusable(file, error.why))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let mut names = BTreeMap::new();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let wrong = |why: &str| TlsError::unusable(file, format!("line {at}: {why}"));
        let expected =
            "expected `sha256:HEX`, `uri:URI` or `dns:NAME`, a space, a principal, and perhaps roles=ROLE,ROLE";
        let (name, whose) = line.split_once(char::is_whitespace).ok_or_else(|| wrong(expected))?;
        let kind = NAMED.into_iter().find(|kind| name.starts_with(kind)).ok_or_else(|| wrong(expected))?;
        let name = match kind {
            FINGERPRINT => fingerprint(name).ok_or_else(|| wrong("the fingerprint has no 64 hexadecimal digits"))?,
            "dns:" => name.to_ascii_lowercase(),
            _ => name.to_string(),
        };
        let (whose, roles) = match whose.rsplit_once(char::is_whitespace) {
            Some((whose, last)) if last.starts_with(ROLES) => (whose, &last[ROLES.len()..]),
            Some(_) | None => (whose, ""),
        };
        let principal: Principal =
            whose.trim().parse().map_err(|_| wrong("what stands after the space is no principal"))?;
        let roles = roles.split(',').filter(|role| !role.is_empty()).map(str::parse);
        let roles = roles.collect::<Result<Roles, _>>().map_err(|error| wrong(&format!("{ROLES} {error}")))?;
        if names.insert(name, (principal, roles)).is_some() {
            return Err(wrong("this certificate is somebody's already"));
        }
    }
    Ok(names)
}

/// A fingerprint as the core writes it; `None` if the text is not one.
fn fingerprint(text: &str) -> Option<String> {
    let digits = text.strip_prefix(FINGERPRINT)?.replace(':', "").to_ascii_lowercase();
    let whole = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    whole.then(|| format!("{FINGERPRINT}{digits}"))
}
