//! JSON Web Tokens (RFC 7519): the keys of issuers, and the conditions under which a token is
//! accepted.

use std::fmt;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::watched_file::CredentialFileError;

/// The longest token, in bytes.
const LONGEST: usize = 16 * 1024;
/// The most keys of one issuer.
const KEYS: usize = 64;
/// Every RSA algorithm. An RSA key that names no algorithm is for all of them.
const OF_RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Public keys of an issuer.
pub(super) struct Keys(Vec<Key>);

/// A public key with its algorithms. The algorithm in a token's header never decides which
/// algorithms are allowed.
struct Key {
    id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// The conditions for every token.
pub(super) struct Terms<'a> {
    /// The required issuer.
    pub(super) issuer: &'a str,
    /// The required audience.
    pub(super) audience: &'a str,
    /// The required `typ` in the header, if there is one.
    pub(super) kind: Option<&'a str>,
    /// How far the clocks of issuer and runtime may differ.
    pub(super) leeway: Duration,
}

/// Why a token is not accepted. It contains no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It does not have three parts of base64 with JSON, or is longer than 16 KiB.
    #[error("it is no JWT, or one of more than 16 KiB")]
    Malformed,
    /// Its header has critical extensions that are not understood, or it is another kind of token.
    #[error("it is a JWT of another kind")]
    OtherKind,
    /// The keys of the issuer could not be read.
    #[error("the keys of the issuer cannot be read")]
    NoKeys,
    /// No key of the issuer has this key id and algorithm.
    #[error("no key of the issuer has its key id and is for its algorithm")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("its signature is wrong")]
    Forged,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it does not count yet: `nbf` is in the future")]
    Early,
    /// Another issuer issued it.
    #[error("another issuer is in `iss`")]
    OtherIssuer,
    /// It is for another runtime.
    #[error("`aud` does not name this runtime")]
    OtherAudience,
    /// Its holder has to prove something else than a certificate (`cnf`), which is not supported.
    #[error("it counts with another proof alone (`cnf`) than a certificate")]
    Bound,
    /// A claim is missing or invalid.
    #[error("`exp`, `iss`, `aud` or `sub` is missing, or a claim cannot be read")]
    Claims,
}

impl Keys {
    /// Reads public keys: one or several PEM blocks, or a JSON Web Key Set.
    ///
    /// # Errors
    ///
    /// If there is no key, or one that is not public.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Keys, CredentialFileError> {
        let refused = |why: String| CredentialFileError::whole(path, why);
        let keys = if text.trim_start().starts_with('{') { of_set(text) } else { of_pem(text) };
        keys.and_then(Keys::bounded).map_err(refused)
    }

    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    #[cfg(feature = "oauth")]
    pub(super) fn of_set(text: &str) -> Result<Keys, String> {
        of_set(text).and_then(Keys::bounded)
    }

    fn bounded(keys: Vec<Key>) -> Result<Keys, String> {
        match keys.len() {
            0 => Err("it has no key for signatures: expected PEM public keys, or a JSON Web Key Set".into()),
            1..=KEYS => Ok(Keys(keys)),
            many => Err(format!("it has {many} keys, at most {KEYS} are read")),
        }
    }

    /// The public half of a signing key, for this algorithm alone.
    pub(super) fn of_signing(key: &EncodingKey, algorithm: Algorithm) -> Result<Keys, String> {
        let jwk = Jwk::from_encoding_key(key, algorithm).map_err(|error| error.to_string())?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        Ok(Keys(vec![Key { id: None, key, algorithms: vec![algorithm] }]))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The claims of a token, if the token is accepted.
    pub(super) fn claims<T: DeserializeOwned>(&self, token: &Secret, terms: &Terms<'_>) -> Result<T, Untrusted> {
        let token = token.expose();
        if token.len() > LONGEST {
            return Err(Untrusted::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Untrusted::Malformed)?;
        if header.crit.is_some() || terms.kind.is_some_and(|kind| header.typ.as_deref() != Some(kind)) {
            return Err(Untrusted::OtherKind);
        }
        let named = header.kid.as_deref();
        let fits = |key: &&Key| {
            let is_named = named.is_none() || key.id.is_none() || key.id.as_deref() == named;
            is_named && key.algorithms.contains(&header.alg)
        };
        let mut untrusted = Untrusted::UnknownKey;
        for key in self.0.iter().filter(fits) {
            match jsonwebtoken::decode(token, &key.key, &validation(header.alg, terms)) {
                Ok(read) => return Ok(read.claims),
                // Another key may be the right one.
                Err(error) => untrusted = why(error.kind()),
            }
            if untrusted != Untrusted::Forged {
                break;
            }
        }
        Err(untrusted)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (&key.id, &key.algorithms))).finish()
    }
}

/// The token of a credential that may hold a JWT: clients send it with the scheme `signed_jwt`, or
/// as a bearer token.
pub(super) fn token_of(credential: &Credential) -> Option<&Secret> {
    match credential {
        Credential::Bearer(token) => Some(token).filter(|token| looks_like_one(token)),
        Credential::Other { scheme, token } if scheme == "signed_jwt" || scheme == "jwt" => Some(token),
        Credential::Other { .. } | Credential::Anonymous => None,
    }
}

/// Whether a text looks like a JWT.
pub(super) fn looks_like_one(token: &Secret) -> bool {
    token.expose().starts_with("ey") && token.expose().matches('.').count() == 2
}

fn validation(algorithm: Algorithm, terms: &Terms<'_>) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = terms.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[terms.issuer]);
    validation.set_audience(&[terms.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors: most mean that it is no JWT")]
fn why(error: &ErrorKind) -> Untrusted {
    match error {
        ErrorKind::InvalidSignature => Untrusted::Forged,
        ErrorKind::ExpiredSignature => Untrusted::Expired,
        ErrorKind::ImmatureSignature => Untrusted::Early,
        ErrorKind::InvalidIssuer => Untrusted::OtherIssuer,
        ErrorKind::InvalidAudience => Untrusted::OtherAudience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => Untrusted::Claims,
        _ => Untrusted::Malformed,
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Box<RawValue>>,
}

/// The keys for signatures in a set; other keys are ignored.
fn of_set(text: &str) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_str(text).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let mut keys = Vec::new();
    // Unknown kinds of keys are ignored (RFC 7517 §5).
    for jwk in set.keys.iter().filter_map(|key| serde_json::from_str::<Jwk>(key.get()).ok()) {
        let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let Some(possible) = algorithms_of(&jwk.algorithm)?.filter(|_| for_signatures) else {
            continue;
        };
        let algorithms = match jwk.common.key_algorithm {
            None => possible,
            Some(named) => {
                let named = Algorithm::from_str(&named.to_string()).ok();
                possible.into_iter().filter(|algorithm| Some(*algorithm) == named).collect()
            }
        };
        if !algorithms.is_empty() {
            let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("a key cannot be used: {error}"))?;
            keys.push(Key { id: jwk.common.key_id.clone(), key, algorithms });
        }
    }
    Ok(keys)
}

/// The algorithms that a key can be for; `None` if its kind is not supported.
#[allow(clippy::wildcard_enum_match_arm, reason = "kinds of keys that the library may come to know")]
fn algorithms_of(key: &AlgorithmParameters) -> Result<Option<Vec<Algorithm>>, String> {
    Ok(match key {
        AlgorithmParameters::RSA(_) => Some(OF_RSA.to_vec()),
        AlgorithmParameters::EllipticCurve(of) => match of.curve {
            EllipticCurve::P256 => Some(vec![Algorithm::ES256]),
            EllipticCurve::P384 => Some(vec![Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Some(vec![Algorithm::EdDSA]),
        AlgorithmParameters::OctetKey(_) => {
            return Err("it has a secret key (`oct`): whoever could check tokens with it could make them".into());
        }
        _ => None,
    })
}

/// Keys in PEM, which have no ids.
fn of_pem(text: &str) -> Result<Vec<Key>, String> {
    const END: &str = "-----END ";
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let block = &rest[begin..];
        let end = block.find(END).and_then(|end| Some(end + END.len() + block[end + END.len()..].find("-----")? + 5));
        let (block, after) = block.split_at(end.ok_or("a PEM block has no end")?);
        rest = after;
        if block.contains("PRIVATE KEY-----") {
            return Err("it has a private key: give the public one (`openssl pkey -in KEY -pubout`)".into());
        }
        keys.push(public_key(block.as_bytes())?);
    }
    Ok(keys)
}

fn public_key(pem: &[u8]) -> Result<Key, String> {
    /// The length of an uncompressed point, in bytes.
    const P256: usize = 65;
    const P384: usize = 97;
    let read = DecodingKey::from_rsa_pem(pem).or_else(|_| DecodingKey::from_ec_pem(pem));
    let key = read.or_else(|_| DecodingKey::from_ed_pem(pem));
    let key = key.map_err(|_| "a PEM block is no public key of RSA, EC or Ed25519: expected `PUBLIC KEY`")?;
    let algorithms = match (key.family(), key.try_get_as_bytes().map(<[u8]>::len)) {
        (AlgorithmFamily::Rsa, _) => OF_RSA.to_vec(),
        (AlgorithmFamily::Ed, _) => vec![Algorithm::EdDSA],
        (AlgorithmFamily::Ec, Ok(P256)) => vec![Algorithm::ES256],
        (AlgorithmFamily::Ec, Ok(P384)) => vec![Algorithm::ES384],
        (AlgorithmFamily::Ec | AlgorithmFamily::Hmac, _) => {
            return Err("a PEM block is a key of another curve: expected P-256 or P-384".into());
        }
    };
    Ok(Key { id: None, key, algorithms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_set_is_for_the_algorithms_of_its_kind_and_curve() {
        let ec = |curve: &str| format!(r#"{{"kty":"EC","crv":"{curve}","x":"AA","y":"AA"}}"#);
        let ed = r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#;
        let rsa = r#"{"kty":"RSA","n":"AQ","e":"AQAB"}"#;
        for (key, expected) in [
            (rsa, vec![OF_RSA.to_vec()]),
            (&ec("P-256"), vec![vec![Algorithm::ES256]]),
            (&ec("P-384"), vec![vec![Algorithm::ES384]]),
            (&ec("P-521"), vec![]),
            (ed, vec![vec![Algorithm::EdDSA]]),
            (r#"{"kty":"of another time"}"#, vec![]),
        ] {
            let keys = of_set(&format!(r#"{{"keys":[{key}]}}"#)).expect("a set");
            assert_eq!(keys.into_iter().map(|key| key.algorithms).collect::<Vec<_>>(), expected, "{key}");
        }
        assert!(of_set(r#"{"keys":[{"kty":"oct","k":"AA"}]}"#).is_err_and(|why| why.contains("secret key")));
    }

    #[test]
    fn a_jwt_comes_by_a_scheme_of_its_own_or_as_a_bearer_token_that_looks_like_one() {
        let other = |scheme: &str| Credential::Other { scheme: scheme.into(), token: Secret::new("x".into()) };
        let bearer = |token: &str| Credential::Bearer(Secret::new(token.into()));
        for (credential, taken) in [
            (other("signed_jwt"), true),
            (other("jwt"), true),
            (other("oauth2"), false),
            (bearer("eyJ.eyJ.x"), true),
            (bearer("eyJ.x"), false),
            (bearer("x.y.z"), false),
            (Credential::Anonymous, false),
        ] {
            assert_eq!(token_of(&credential).is_some(), taken, "{credential:?}");
        }
    }
}
