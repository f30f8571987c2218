//! Delegation tokens: JWTs that a runtime issues for itself. The holder of a token acts as its
//! principal, within its lease, until it expires.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::Authenticator;
use super::jwt::{self, Keys, Terms, Untrusted};
use super::watched_file::{self, CredentialFileError};
use crate::entropy;
use crate::server_log::log;

/// The `typ` in the header, which other JWTs of the same key do not have.
const KIND: &str = "arcp-delegation+jwt";
/// NIST P-256, which all common tools can generate.
const ALGORITHM: Algorithm = Algorithm::ES256;

/// The key with which a runtime signs delegation tokens. `Debug` shows nothing of it.
pub struct DelegationKey {
    signing: EncodingKey,
    keys: Keys,
}

/// The contents of a delegation token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The principal as which its holder acts.
    pub principal: Principal,
    /// The one runtime for which it is valid.
    pub audience: String,
    /// The bound on the leases of its holder's jobs. Amounts bound each job.
    pub lease: Lease,
    /// The expiry of the token, in whole seconds. Sessions and the leases of jobs end then.
    pub expires_at: UtcMs,
}

/// The authenticator for delegation tokens.
#[derive(Debug)]
pub struct DelegationTokens {
    key: DelegationKey,
    audience: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
    lease: Json,
}

impl DelegationKey {
    /// Reads a private key of P-256 in PKCS#8 PEM.
    ///
    /// # Errors
    ///
    /// If the file holds no such key, or others may read it.
    pub fn read(path: &Path) -> Result<DelegationKey, CredentialFileError> {
        let refused = |why: &str| CredentialFileError::whole(path, why);
        let text = watched_file::read_private(path)?;
        let expected = "it has no private key of P-256 in PKCS#8 PEM: `arcp token key` makes one";
        let signing = EncodingKey::from_ec_pem(text.as_bytes()).map_err(|_| refused(expected))?;
        let keys = Keys::of_signing(&signing, ALGORITHM).map_err(|_| refused(expected))?;
        Ok(DelegationKey { signing, keys })
    }

    /// Issues a token.
    ///
    /// # Errors
    ///
    /// Why the token cannot be made or signed.
    pub fn mint(&self, delegation: &Delegation, now: UtcMs) -> Result<Secret, String> {
        let Delegation { principal, audience, lease, expires_at } = delegation;
        if audience.is_empty() {
            return Err("the audience is empty: name the runtime that it is for".to_string());
        }
        let exp = expires_at.0 / 1000;
        if exp <= now.0 / 1000 {
            return Err(format!("it would expire at {expires_at}, which has passed"));
        }
        let mut id = entropy::token().map_err(|error| error.to_string())?;
        id.truncate(32);
        let claims = Claims {
            iss: audience.clone(),
            aud: audience.clone(),
            sub: principal.to_string(),
            iat: now.0 / 1000,
            exp,
            jti: id,
            lease: lease.to_json(),
        };
        let header = Header { typ: Some(KIND.to_string()), ..Header::new(ALGORITHM) };
        jsonwebtoken::encode(&header, &claims, &self.signing).map(Secret::new).map_err(|error| error.to_string())
    }

    /// The contents of a token, if it was signed with this key for this runtime and is valid at
    /// present.
    ///
    /// # Errors
    ///
    /// Why the token is not valid.
    pub fn check(&self, token: &Secret, audience: &str) -> Result<Delegation, Untrusted> {
        let terms = Terms { issuer: audience, audience, kind: Some(KIND), leeway: Duration::ZERO };
        let claims: Claims = self.keys.claims(token, &terms)?;
        Ok(Delegation {
            principal: claims.sub.parse().map_err(|_| Untrusted::Claims)?,
            audience: claims.aud,
            lease: Lease::parse(&claims.lease).map_err(|_| Untrusted::Claims)?,
            expires_at: UtcMs(claims.exp.saturating_mul(1000)).min(UtcMs::MAX),
        })
    }
}

impl fmt::Debug for DelegationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelegationKey")
    }
}

impl DelegationTokens {
    /// The tokens of this key that are issued for `audience`.
    pub fn new(key: DelegationKey, audience: &str) -> DelegationTokens {
        DelegationTokens { key, audience: audience.to_string() }
    }
}

impl Authenticator for DelegationTokens {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let token = jwt::token_of(credential).filter(|token| is_one(token))?;
        let Delegation { principal, audience: _, lease, expires_at } = self
            .key
            .check(token, &self.audience)
            .inspect_err(|why| log(format_args!("arcp: a delegation token was not accepted: {why}")))
            .ok()?;
        let ceiling = Ceiling { expires_at: Some(expires_at), ..Ceiling::new(lease) };
        let ceiling = Some(Box::new(ceiling));
        Some(Verdict { expires_at: Some(expires_at), ceiling, ..Verdict::from(principal) })
    }

    fn is_instant(&self) -> bool {
        true
    }
}

/// Whether the header of a JWT says that it is a delegation token.
pub(super) fn is_one(token: &Secret) -> bool {
    jsonwebtoken::decode_header(token.expose()).is_ok_and(|header| header.typ.as_deref() == Some(KIND))
}

/// The claims of a JWT as JSON, without any verification. `None` if the text is not a JWT.
pub fn unverified_claims(token: &Secret) -> Option<Json> {
    jsonwebtoken::dangerous::insecure_decode_claims(token.expose()).ok()
}
