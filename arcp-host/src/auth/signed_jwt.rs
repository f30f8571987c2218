//! JWTs of an issuer that an operator trusts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::slice;
#[cfg(feature = "oauth")]
use std::sync::Arc;
use std::time::Duration;

use arcp_proto::id::{Issuer, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::feature::Features;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::scope::Scopes;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use arcp_proto::wire::feature_named;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::jwt::{self, Keys, Terms, Untrusted};
#[cfg(feature = "oauth")]
use super::key_url::{KeyTimes, KeyUrl};
#[cfg(feature = "oauth")]
use super::provider::Endpoint;
use super::watched_file::{CredentialFileError, WatchedFile};
use super::{Authenticator, CredentialSource, NotJudged, Roles, delegation};
use crate::server_log::log;

/// The most roles of one token that are considered.
const ROLES: usize = 64;
/// How far the clocks of issuer and runtime may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// JWTs that one issuer issues for this runtime. The issuer's keys are in a file, which is read
/// again when it changes, or at an address.
///
/// `iss`, `aud`, `sub` and `exp` are required; `exp` and `nbf` may be off by 30 s. Claims and their
/// effect:
///
/// * `sub` names the principal, of that issuer.
/// * `scope` becomes [`Verdict::scopes`].
/// * `roles` (a list, or one name) becomes [`Verdict::roles`].
/// * `arcp_lease` bounds the leases of jobs ([`Verdict::ceiling`]).
/// * `arcp_capabilities` (a list of names) bounds the features of sessions ([`Verdict::features`]).
/// * A certificate in `cnf` binds the token to it ([`Verdict::binding`], RFC 8705).
#[derive(Clone, Debug)]
pub struct SignedJwt {
    issuer: Issuer,
    audience: String,
    keys: KeysOf,
}

#[derive(Clone, Debug)]
enum KeysOf {
    File(WatchedFile<Keys>),
    #[cfg(feature = "oauth")]
    Url(Arc<KeyUrl>),
}

/// The claims of a token.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: Option<f64>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    roles: Names,
    #[serde(default, deserialize_with = "present")]
    arcp_lease: Option<Json>,
    #[serde(default, deserialize_with = "listed")]
    arcp_capabilities: Option<Features>,
    cnf: Option<BTreeMap<String, String>>,
}

/// One name, or a list of names.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
    /// A value that is meant for other programs.
    Other(IgnoredAny),
}

impl Names {
    /// The names that are valid roles.
    fn roles(&self) -> arcp_proto::policy::Roles {
        let names = match self {
            Names::None | Names::Other(_) => &[][..],
            Names::One(name) => slice::from_ref(name),
            Names::Several(names) => names,
        };
        names.iter().take(ROLES).filter_map(|name| name.parse().ok()).collect()
    }
}

impl SignedJwt {
    /// The JWTs of this issuer for `audience`, the name of this runtime there. The keys are in a
    /// file (PEM or a JSON Web Key Set).
    ///
    /// # Errors
    ///
    /// If the file has no keys, or others may write to it.
    pub fn new(issuer: Issuer, audience: &str, keys: &Path) -> Result<SignedJwt, CredentialFileError> {
        let keys = KeysOf::File(WatchedFile::open(keys, Keys::parse)?);
        Ok(SignedJwt { issuer, audience: audience.to_string(), keys })
    }

    /// As [`new`](Self::new), with the JSON Web Key Set at an address. It is read when the first
    /// token is judged.
    #[cfg(feature = "oauth")]
    pub fn with_keys_at(issuer: Issuer, audience: &str, keys: Endpoint, times: KeyTimes) -> SignedJwt {
        let keys = KeysOf::Url(Arc::new(KeyUrl::new(keys, times)));
        SignedJwt { issuer, audience: audience.to_string(), keys }
    }

    /// The verdict on a token.
    fn judged(&self, token: &Secret) -> Result<Verdict, Untrusted> {
        let claims = self.claims(token)?;
        let expires_at = claims.exp.map(|exp| end_of(exp).plus(LEEWAY).min(UtcMs::MAX)).ok_or(Untrusted::Claims)?;
        claims.verdict(&self.issuer, expires_at)
    }

    fn claims(&self, token: &Secret) -> Result<Claims, Untrusted> {
        let terms = Terms { issuer: self.issuer.as_str(), audience: &self.audience, kind: None, leeway: LEEWAY };
        match &self.keys {
            KeysOf::File(file) => file.said().claims(token, &terms),
            #[cfg(feature = "oauth")]
            KeysOf::Url(url) => {
                let keys = url.current().ok_or(Untrusted::NoKeys)?;
                match keys.claims(token, &terms) {
                    Err(Untrusted::UnknownKey) => url.after(&keys).ok_or(Untrusted::UnknownKey)?.claims(token, &terms),
                    judged => judged,
                }
            }
        }
    }

    /// As [`Authenticator::verify`], for a token that is known to be such a JWT.
    ///
    /// # Errors
    ///
    /// If the keys of the issuer cannot be read.
    pub(super) fn verify_token(&self, token: &Secret) -> Result<Option<Verdict>, NotJudged> {
        let judged = self.judged(token);
        if let Err(why) = &judged {
            log(format_args!("arcp: a JWT was not accepted as one of {}: {why}", self.issuer));
        }
        if judged == Err(Untrusted::NoKeys) { Err(NotJudged) } else { Ok(judged.ok()) }
    }
}

impl Claims {
    /// The verdict for these claims, valid until `expires_at`.
    pub(super) fn verdict(self, issuer: &Issuer, expires_at: UtcMs) -> Result<Verdict, Untrusted> {
        let principal = Principal::issued(issuer, &self.sub).ok_or(Untrusted::Claims)?;
        let scopes: Scopes = self.scope.split_whitespace().collect();
        let expires_at = Some(expires_at);
        let lease = self.arcp_lease.as_ref().map(Lease::parse).transpose().map_err(|_| Untrusted::Claims)?;
        let ceiling = lease.map(|lease| Box::new(Ceiling { expires_at, ..Ceiling::new(lease) }));
        let binding = self.cnf.as_ref().map(certificate_of).transpose()?;
        let roles = self.roles.roles();
        let features = self.arcp_capabilities;
        Ok(Verdict { scopes, roles, expires_at, ceiling, binding, features, ..Verdict::from(principal) })
    }

    /// The expiry, if there is one.
    pub(super) fn end(&self) -> Option<UtcMs> {
        self.exp.map(end_of)
    }
}

/// The fingerprint of the certificate to which a token is bound (RFC 8705 §3.1). Other kinds of
/// confirmation are not supported.
fn certificate_of(confirmation: &BTreeMap<String, String>) -> Result<String, Untrusted> {
    let digest = confirmation.get("x5t#S256").filter(|_| confirmation.len() == 1).ok_or(Untrusted::Bound)?;
    let digest = BASE64_URL.decode(digest).ok().filter(|digest| digest.len() == 32).ok_or(Untrusted::Bound)?;
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

/// Distinguishes a claim of `null`, which is invalid, from a missing one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Features by the names that either family has for them. An unknown name has no effect, because no
/// session can use it; `null` is not a list.
fn listed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Features>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let known = names.iter().filter_map(|name| feature_named(name));
    Ok(Some(known.fold(Features::default(), Features::with)))
}

/// The expiry in a claim.
fn end_of(exp: f64) -> UtcMs {
    // A time beyond every date becomes the last date.
    let exp = Duration::try_from_secs_f64(exp.max(0.0)).unwrap_or(Duration::MAX);
    UtcMs(0).plus(exp).min(UtcMs::MAX)
}

impl Authenticator for SignedJwt {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        Authenticator::judge(self, credential).unwrap_or_default()
    }

    fn judge(&self, credential: &Credential) -> Result<Option<Verdict>, NotJudged> {
        match jwt::token_of(credential).filter(|token| !delegation::is_one(token)) {
            Some(token) => self.verify_token(token),
            None => Ok(None),
        }
    }

    fn is_instant(&self) -> bool {
        match self.keys {
            KeysOf::File(_) => true,
            #[cfg(feature = "oauth")]
            KeysOf::Url(_) => false,
        }
    }
}

impl CredentialSource for SignedJwt {
    fn roles(&self) -> Roles {
        Roles::default()
    }

    /// Sessions that were opened with a removed key stay until their token expires.
    fn changed(&mut self) -> Option<BTreeSet<Principal>> {
        let keys = match &self.keys {
            KeysOf::File(keys) => keys,
            #[cfg(feature = "oauth")]
            KeysOf::Url(_) => return None,
        };
        let (path, issuer) = (keys.path().display(), &self.issuer);
        match keys.read_again() {
            Ok(before) => {
                before?;
                log(format_args!("arcp: {path} was read again: {} keys of {issuer}", keys.said().len()));
                Some(BTreeSet::new())
            }
            Err(error) => {
                log(format_args!("arcp: the keys of {issuer} stay as they were: {error}"));
                None
            }
        }
    }
}
