//! Who holds which credential.

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::Secret;
use subtle::{Choice, ConstantTimeEq as _};

/// Judges credentials.
pub trait Authenticator: Send + Sync {
    /// Whose credential this is, and how far that goes; `None` if nobody's.
    fn verify(&self, credential: &Credential) -> Option<Verdict>;

    /// Whether `verify` never waits for anything: then it is called on the
    /// loop instead of on a thread of its own.
    fn is_instant(&self) -> bool {
        false
    }
}

/// Bearer tokens, each with its principal.
///
/// ```
/// use arcp_host::auth::{Authenticator, BearerTokens};
/// use arcp_proto::{id::Principal, model::request::Credential, secret::Secret};
/// let mut tokens = BearerTokens::default();
/// tokens.add(&Secret::new("t0p".into()), Principal::new("alice").unwrap());
/// let sent = Credential::Bearer(Secret::new("t0p".into()));
/// assert_eq!(tokens.verify(&sent).map(|verdict| verdict.principal), Principal::new("alice"));
/// assert_eq!(tokens.verify(&Credential::Anonymous), None);
/// ```
#[derive(Debug, Default)]
pub struct BearerTokens {
    tokens: Vec<([u8; 32], Principal)>,
}

impl BearerTokens {
    /// Adds a token. Only its digest is kept.
    pub fn add(&mut self, token: &Secret, principal: Principal) {
        self.tokens.push((token.digest().0, principal));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl Authenticator for BearerTokens {
    /// Compares with every token, whichever fits, so that time tells nothing.
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let Credential::Bearer(token) = credential else {
            return None;
        };
        let digest = token.digest().0;
        let mut found = None;
        for (known, principal) in &self.tokens {
            let same: Choice = known.ct_eq(&digest);
            if same.into() {
                found = Some(principal);
            }
        }
        found.cloned().map(Verdict::from)
    }

    fn is_instant(&self) -> bool {
        true
    }
}
