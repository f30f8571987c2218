//! JWTs of an issuer that an operator trusts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use arcp_proto::id::{Issuer, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::scope::Scopes;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use serde::{Deserialize, Deserializer};

use super::jwt::{self, Keys, Terms, Untrusted};
use super::watched_file::{CredentialFileError, WatchedFile};
use super::{Authenticator, CredentialSource, Roles, delegation};
use crate::server_log::log;

/// How far the clocks of issuer and runtime may be apart.
const LEEWAY: Duration = Duration::from_secs(30);

/// JWTs that one issuer makes out to this runtime; its keys are in a file, which is
/// read again when it has changed.
///
/// `iss`, `aud`, `sub` and `exp` must be there; `exp` and `nbf` may be off by 30 s.
/// `sub` names the principal, of that issuer; `scope` goes into
/// [`Verdict::scopes`], and `arcp_lease` bounds what jobs are granted
/// ([`Verdict::ceiling`]).
#[derive(Clone, Debug)]
pub struct SignedJwt {
    issuer: Issuer,
    audience: String,
    keys: WatchedFile<Keys>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    scope: String,
    #[serde(default, deserialize_with = "present")]
    arcp_lease: Option<Json>,
}

impl SignedJwt {
    /// Those of this issuer, with the keys of a file (PEM or a JSON Web Key Set),
    /// made out to `audience`: what this runtime is called there.
    ///
    /// # Errors
    ///
    /// If the file has no keys, or others may write to it.
    pub fn new(issuer: Issuer, audience: &str, keys: &Path) -> Result<SignedJwt, CredentialFileError> {
        Ok(SignedJwt { issuer, audience: audience.to_string(), keys: WatchedFile::open(keys, Keys::parse)? })
    }

    fn judge(&self, token: &Secret) -> Result<Verdict, Untrusted> {
        let terms = Terms { issuer: self.issuer.as_str(), audience: &self.audience, kind: None, leeway: LEEWAY };
        let claims: Claims = self.keys.said().claims(token, &terms)?;
        let principal = Principal::issued(&self.issuer, &claims.sub).ok_or(Untrusted::Claims)?;
        let scopes: Scopes = claims.scope.split_whitespace().collect();
        let expires_at = Some(end_of(claims.exp));
        let lease = claims.arcp_lease.as_ref().map(Lease::parse).transpose().map_err(|_| Untrusted::Claims)?;
        let ceiling = lease.map(|lease| Box::new(Ceiling { expires_at, ..Ceiling::new(lease) }));
        Ok(Verdict { scopes, expires_at, ceiling, ..Verdict::from(principal) })
    }
}

/// A claim of `null` bounds nothing, and is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Until when a token counts, by its claim.
fn end_of(exp: f64) -> UtcMs {
    // What is beyond any date is the last one.
    let exp = Duration::try_from_secs_f64(exp.max(0.0)).unwrap_or(Duration::MAX);
    UtcMs(0).plus(exp).plus(LEEWAY).min(UtcMs::MAX)
}

impl Authenticator for SignedJwt {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let token = jwt::token_of(credential).filter(|token| !delegation::is_one(token))?;
        let judged = self.judge(token);
        if let Err(why) = &judged {
            log(format_args!("arcp: a JWT was not accepted as one of {}: {why}", self.issuer));
        }
        judged.ok()
    }

    fn is_instant(&self) -> bool {
        true
    }
}

impl CredentialSource for SignedJwt {
    fn roles(&self) -> Roles {
        Roles::default()
    }

    /// Whoever came in by a key that is gone stays until the token expires.
    fn changed(&mut self) -> Option<BTreeSet<Principal>> {
        let (path, issuer) = (self.keys.path().display(), &self.issuer);
        match self.keys.read_again() {
            Ok(before) => {
                before?;
                log(format_args!("arcp: {path} was read again: {} keys of {issuer}", self.keys.said().len()));
                Some(BTreeSet::new())
            }
            Err(error) => {
                log(format_args!("arcp: the keys of {issuer} stay as they were: {error}"));
                None
            }
        }
    }
}
