//! Bearer tokens that are fixed when a runtime starts.

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::{Secret, SecretDigest};
use subtle::ConstantTimeEq as _;

use super::Authenticator;

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
    tokens: Vec<(SecretDigest, Principal)>,
}

impl BearerTokens {
    /// Adds a token. Only its digest is kept.
    pub fn add(&mut self, token: &Secret, principal: Principal) {
        self.tokens.push((token.digest(), principal));
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl Authenticator for BearerTokens {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let Credential::Bearer(token) = credential else {
            return None;
        };
        let all = self.tokens.iter().map(|(digest, principal)| (digest, principal));
        holder(all, token).cloned().map(Verdict::from)
    }

    fn is_instant(&self) -> bool {
        true
    }
}

/// The value that belongs to a token. The token is compared with every digest, even after a match,
/// so that the time reveals nothing.
pub(super) fn holder<'a, T>(all: impl Iterator<Item = (&'a SecretDigest, &'a T)>, token: &Secret) -> Option<&'a T> {
    let sent = token.digest().0;
    all.fold(None, |found, (digest, holder)| if digest.0.ct_eq(&sent).into() { Some(holder) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Authenticators;

    #[test]
    fn whoever_judges_by_no_token_or_by_nobody_says_so() {
        let mut tokens = BearerTokens::default();
        assert!(tokens.is_empty() && Authenticators::default().is_empty());
        tokens.add(&Secret::new("t0p".into()), Principal::new("alice").expect("a name"));
        assert!(!tokens.is_empty() && !Authenticators::default().with(tokens).is_empty());
    }
}
