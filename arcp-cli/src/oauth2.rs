//! Access tokens that `arcp serve` accepts, and keys of issuers at an address.

use std::path::PathBuf;
use std::time::Duration;

use arcp_host::auth::{CheckTimes, Endpoint, Introspection, KeyTimes, OAuth2, ProviderClient, SignedJwt};
use arcp_proto::id::Issuer;
use clap::Args;

use crate::exit::Failure;
use crate::values;

/// Whose access tokens count, and how that is found out.
#[derive(Debug, Args)]
pub struct AccessTokens {
    /// Accept OAuth 2.0 access tokens whose `iss` is this. The principal is
    /// ISSUER#SUBJECT.
    #[arg(long, value_name = "ISSUER", requires = "oauth2_judge", requires = "audience")]
    oauth2_issuer: Option<Issuer>,
    /// The introspection endpoint (RFC 7662): https, or http on this machine.
    #[arg(long, value_name = "URL", value_parser = values::endpoint, group = "oauth2_judge", requires = "oauth2_issuer", requires = "oauth2_client")]
    oauth2_introspect: Option<Endpoint>,
    /// This runtime's client at the provider, in a private file: {"client_id": "...",
    /// "client_secret": "..."}.
    #[arg(long, value_name = "FILE", requires = "oauth2_introspect")]
    oauth2_client: Option<PathBuf>,
    /// How long an introspection is cached: a revoked token ends its session within this
    /// time.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = values::some_span, requires = "oauth2_introspect")]
    oauth2_check: Duration,
    /// Accept access tokens signed with a key of the JSON Web Key Set at this URL.
    #[arg(long, value_name = "URL", value_parser = values::endpoint, group = "oauth2_judge", requires = "oauth2_issuer")]
    oauth2_jwks: Option<Endpoint>,
    /// Accept only access tokens with this scope; may be repeated.
    #[arg(long = "oauth2-scope", value_name = "SCOPE", requires = "oauth2_issuer")]
    scopes: Vec<String>,
}

impl AccessTokens {
    /// The issuer of accepted tokens, if any are accepted.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.oauth2_issuer.as_ref()
    }

    /// The authenticator for access tokens.
    pub fn judge(&self, audience: &str) -> Result<Option<OAuth2>, Failure> {
        let Some(issuer) = self.oauth2_issuer.clone() else {
            return Ok(None);
        };
        let judge = match (&self.oauth2_introspect, &self.oauth2_client, &self.oauth2_jwks) {
            (Some(endpoint), Some(client), _) => {
                let client = ProviderClient::read(client);
                let client = client.map_err(|error| Failure::usage(format!("--oauth2-client: {error}")))?;
                let times = CheckTimes { every: self.oauth2_check, ..CheckTimes::default() };
                OAuth2::introspected(Introspection::new(endpoint.clone(), client, (issuer, audience), times))
            }
            (_, _, Some(keys)) => {
                OAuth2::signed(SignedJwt::with_keys_at(issuer, audience, keys.clone(), KeyTimes::default()))
            }
            // Clap requires one of the two.
            (_, _, None) => return Ok(None),
        };
        Ok(Some(judge.with_scopes(self.scopes.iter().map(String::as_str).collect())))
    }
}
