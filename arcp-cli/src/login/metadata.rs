//! The endpoints of an identity provider, from its metadata (RFC 8414, OpenID Connect Discovery).

use arcp_host::auth::{Endpoint, ProviderError};
use serde::Deserialize;

use super::failed;
use crate::exit::{Exit, Failure};

/// The endpoints of a provider.
#[derive(Debug)]
pub struct Metadata {
    token: Endpoint,
    authorization: Option<Endpoint>,
    device: Option<Endpoint>,
    revocation: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: String,
    authorization_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

impl Metadata {
    /// Fetches the metadata of a provider.
    pub fn of(issuer: &str) -> Result<Metadata, Failure> {
        let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("--issuer {issuer}: {error}"));
        let root = issuer.trim_end_matches('/');
        Endpoint::new(issuer).map_err(|error| bad(&error))?;
        if issuer.contains(['?', '#']) {
            return Err(bad(&"an issuer has neither a query nor a fragment"));
        }
        let host_ends = root.find("://").and_then(|at| root[at + 3..].find('/').map(|slash| at + 3 + slash));
        let (host, path) = root.split_at(host_ends.unwrap_or(root.len()));
        // A provider may serve only one of these documents.
        let places = [
            format!("{host}/.well-known/oauth-authorization-server{path}"),
            format!("{root}/.well-known/openid-configuration"),
        ];
        let mut why = None;
        for place in places {
            let read = Endpoint::new(&place).map_err(|error| bad(&error))?.get();
            match read.and_then(|answer| answer.json::<Document>()) {
                Ok(document) => return Metadata::read(issuer, document),
                Err(error) => why = why.or(Some(error)),
            }
        }
        let why = why.as_ref().map(ProviderError::to_string).unwrap_or_default();
        Err(Failure::new(
            Exit::Failed,
            format!("the identity provider {issuer} does not say where it takes what: {why}"),
        ))
    }

    /// A document that names another issuer is refused (RFC 8414 §3.3).
    fn read(issuer: &str, document: Document) -> Result<Metadata, Failure> {
        if document.issuer != issuer {
            let plain: String = document.issuer.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(failed(format!("{issuer} says that it is `{plain}`: give that as --issuer if you trust it")));
        }
        let endpoint = |url: &str| Endpoint::new(url).map_err(|error| failed(format!("it names `{url:?}`: {error}")));
        Ok(Metadata {
            token: endpoint(&document.token_endpoint)?,
            authorization: document.authorization_endpoint.as_deref().map(endpoint).transpose()?,
            device: document.device_authorization_endpoint.as_deref().map(endpoint).transpose()?,
            revocation: document.revocation_endpoint.as_deref().map(endpoint).transpose()?,
        })
    }

    /// The endpoint that issues tokens.
    pub fn token(&self) -> &Endpoint {
        &self.token
    }

    /// The endpoint where users sign in.
    pub fn authorization(&self) -> Result<&Endpoint, Failure> {
        self.authorization.as_ref().ok_or_else(|| failed("it lets nobody sign in by a browser: try --device"))
    }

    /// The endpoint that issues codes for sign-in on another device.
    pub fn device(&self) -> Result<&Endpoint, Failure> {
        self.device.as_ref().ok_or_else(|| failed("it knows no sign-in on another device: try without --device"))
    }

    /// The endpoint that revokes tokens.
    pub fn revocation(&self) -> Option<&Endpoint> {
        self.revocation.as_ref()
    }
}
