//! Authenticators, one file for each scheme. The feature `jwt` adds JSON Web Tokens, of other
//! issuers and of the runtime itself; the feature `oauth` adds requests to an identity provider.

mod bearer;
#[cfg(feature = "jwt")]
mod delegation;
#[cfg(feature = "oauth")]
mod introspection;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "oauth")]
mod key_url;
#[cfg(feature = "oauth")]
mod oauth2;
#[cfg(feature = "oauth")]
mod provider;
#[cfg(feature = "jwt")]
mod signed_jwt;
mod token_file;
pub(crate) mod watched_file;

use std::collections::BTreeSet;
use std::fmt;

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;

pub use bearer::BearerTokens;
#[cfg(feature = "jwt")]
pub use delegation::{Delegation, DelegationKey, DelegationTokens, unverified_claims};
#[cfg(feature = "oauth")]
pub use introspection::{CheckTimes, Introspection};
#[cfg(feature = "jwt")]
pub use jwt::Untrusted;
#[cfg(feature = "oauth")]
pub use key_url::KeyTimes;
#[cfg(feature = "oauth")]
pub use oauth2::OAuth2;
#[cfg(feature = "oauth")]
pub use provider::{Answer, Endpoint, EndpointError, ProviderClient, ProviderError, form_encoded, form_fields};
#[cfg(feature = "jwt")]
pub use signed_jwt::SignedJwt;
pub use token_file::{AUDITOR, NewToken, OPERATOR, TokenEntry, TokenFile};
pub use watched_file::CredentialFileError;
#[cfg(feature = "https")]
pub(crate) use watched_file::read_private;

/// Judges credentials.
pub trait Authenticator: Send + Sync {
    /// The verdict on a credential: its principal, expiry and bounds. `None` if the credential is
    /// not accepted.
    fn verify(&self, credential: &Credential) -> Option<Verdict>;

    /// As [`verify`](Self::verify), for authenticators that may be unable to judge because a
    /// provider does not answer. The credential is then refused, but does not count as a wrong one.
    ///
    /// # Errors
    ///
    /// [`NotJudged`] if the credential cannot be judged at present.
    fn judge(&self, credential: &Credential) -> Result<Option<Verdict>, NotJudged> {
        Ok(self.verify(credential))
    }

    /// Whether `verify` never waits. It is then called on the loop instead of on a thread of its
    /// own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// The credential cannot be judged at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can tell now whose the credential is")]
pub struct NotJudged;

/// A source of credentials that can change while a runtime runs.
pub trait CredentialSource: Send + 'static {
    /// The roles of principals, according to the credentials that are valid at present.
    fn roles(&self) -> Roles;

    /// Whether anything has changed since the last call: if so, the principals of which a
    /// credential has become invalid, or expires earlier than was said. Their sessions are ended,
    /// and their clients may reconnect with a valid credential. It is called each second on a
    /// thread of its own, and may wait.
    fn changed(&mut self) -> Option<BTreeSet<Principal>>;
}

/// The principals that see the jobs of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// As [`Config::operators`](arcp_proto::runtime::Config::operators).
    pub operators: BTreeSet<Principal>,
    /// As [`Config::auditors`](arcp_proto::runtime::Config::auditors).
    pub auditors: BTreeSet<Principal>,
}

/// Several authenticators: the first that accepts a credential decides.
///
/// ```
/// use arcp_host::auth::{Authenticator, Authenticators, BearerTokens};
/// use arcp_proto::{id::Principal, model::request::Credential, secret::Secret};
/// let mut tokens = BearerTokens::default();
/// tokens.add(&Secret::new("t0p".into()), Principal::new("alice").unwrap());
/// let judges = Authenticators::default().with(BearerTokens::default()).with(tokens);
/// assert!(judges.verify(&Credential::Bearer(Secret::new("t0p".into()))).is_some());
/// assert!(judges.verify(&Credential::Bearer(Secret::new("t1p".into()))).is_none());
/// ```
#[derive(Default)]
pub struct Authenticators(Vec<Box<dyn Authenticator>>);

impl Authenticators {
    /// Adds an authenticator.
    #[must_use]
    pub fn with(mut self, authenticator: impl Authenticator + 'static) -> Authenticators {
        self.0.push(Box::new(authenticator));
        self
    }

    /// Whether there is no authenticator.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Authenticator for Authenticators {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        self.judge(credential).unwrap_or_default()
    }

    fn judge(&self, credential: &Credential) -> Result<Option<Verdict>, NotJudged> {
        let mut judged = Ok(None);
        for authenticator in &self.0 {
            match authenticator.judge(credential) {
                Ok(None) => {}
                Ok(verdict) => return Ok(verdict),
                Err(NotJudged) => judged = Err(NotJudged),
            }
        }
        judged
    }

    fn is_instant(&self) -> bool {
        self.0.iter().all(|authenticator| authenticator.is_instant())
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} authenticators", self.0.len())
    }
}
