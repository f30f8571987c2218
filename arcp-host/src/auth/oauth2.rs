//! OAuth 2.0 access tokens: the runtime is a resource server.

use std::collections::BTreeSet;

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::scope::Scopes;
use arcp_proto::secret::Secret;

use super::introspection::{Introspection, has_each};
use super::signed_jwt::SignedJwt;
use super::{Authenticator, CredentialSource, NotJudged, Roles, delegation, jwt, token_file};
use crate::server_log::log;

/// Access tokens, sent with the scheme `oauth2` or as bearer tokens. Either their provider is asked
/// about them, or they are signed JWTs (RFC 9068).
#[derive(Clone, Debug)]
pub struct OAuth2 {
    judge: Judge,
    required: Scopes,
}

#[derive(Clone, Debug)]
enum Judge {
    Introspection(Introspection),
    Signed(SignedJwt),
}

impl OAuth2 {
    /// Tokens about which a provider is asked.
    pub fn introspected(introspection: Introspection) -> OAuth2 {
        OAuth2 { judge: Judge::Introspection(introspection), required: Scopes::default() }
    }

    /// Tokens that an issuer has signed.
    pub fn signed(jwt: SignedJwt) -> OAuth2 {
        OAuth2 { judge: Judge::Signed(jwt), required: Scopes::default() }
    }

    /// Accepts only tokens that have all of these scopes.
    #[must_use]
    pub fn with_scopes(mut self, required: Scopes) -> OAuth2 {
        self.required = required;
        self
    }
}

impl Authenticator for OAuth2 {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        self.judge(credential).unwrap_or_default()
    }

    fn judge(&self, credential: &Credential) -> Result<Option<Verdict>, NotJudged> {
        let Some(token) = token_of(credential) else {
            return Ok(None);
        };
        let judged = match &self.judge {
            Judge::Introspection(introspection) => introspection.verify(token)?,
            Judge::Signed(signed) if jwt::looks_like_one(token) => signed.verify_token(token)?,
            Judge::Signed(_) => None,
        };
        let lacks = judged.as_ref().filter(|verdict| !has_each(verdict, &self.required));
        if let Some(verdict) = lacks {
            log(format_args!("arcp: a token of {} was not accepted: it lacks a scope", verdict.principal));
            return Ok(None);
        }
        Ok(judged)
    }
}

impl CredentialSource for OAuth2 {
    fn roles(&self) -> Roles {
        Roles::default()
    }

    fn changed(&mut self) -> Option<BTreeSet<Principal>> {
        match &self.judge {
            Judge::Introspection(introspection) => Some(introspection.ceased()),
            Judge::Signed(_) => None,
        }
    }
}

/// The access token of a credential. Tokens that the runtime itself issued are not sent to a
/// provider.
fn token_of(credential: &Credential) -> Option<&Secret> {
    match credential {
        Credential::Bearer(token) => {
            let is_ours = token_file::is_one(token) || delegation::is_one(token);
            Some(token).filter(|_| !is_ours)
        }
        Credential::Other { scheme, token } => Some(token).filter(|_| scheme == "oauth2"),
        Credential::Anonymous => None,
    }
}
