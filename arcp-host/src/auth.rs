//! Who holds which credential: one file for each scheme. With the feature `jwt` also
//! JSON Web Tokens, of others and of the runtime itself; with the feature `oauth` what
//! an identity provider is asked for.

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
    /// Whose credential this is, and how far that goes; `None` if nobody's.
    fn verify(&self, credential: &Credential) -> Option<Verdict>;

    /// The same, where it may be that nobody can tell: whoever is asked does not answer. Then the
    /// credential lets nobody in, and does not count as a wrong one.
    ///
    /// # Errors
    ///
    /// [`NotJudged`] if nobody can tell.
    fn judge(&self, credential: &Credential) -> Result<Option<Verdict>, NotJudged> {
        Ok(self.verify(credential))
    }

    /// Whether `verify` never waits for anything: then it is called on the
    /// loop instead of on a thread of its own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// Nobody can tell now whose a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can tell now whose the credential is")]
pub struct NotJudged;

/// Where credentials are kept that change while a runtime runs.
pub trait CredentialSource: Send + 'static {
    /// Who has which role by the credentials that count now.
    fn roles(&self) -> Roles;

    /// Whether anything has changed since the last call, and of whom a credential
    /// has ceased to count, or will earlier than was said: sessions of those are
    /// taken from them, and they may come back with a credential that counts. May
    /// wait: it has a thread of its own, which calls it each second.
    fn changed(&mut self) -> Option<BTreeSet<Principal>>;
}

/// Who sees the jobs of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// As [`Config::operators`](arcp_proto::runtime::Config::operators).
    pub operators: BTreeSet<Principal>,
    /// As [`Config::auditors`](arcp_proto::runtime::Config::auditors).
    pub auditors: BTreeSet<Principal>,
}

/// Several judges: the first that vouches for a credential counts.
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
    /// One more.
    #[must_use]
    pub fn with(mut self, authenticator: impl Authenticator + 'static) -> Authenticators {
        self.0.push(Box::new(authenticator));
        self
    }

    /// Whether there are none.
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
