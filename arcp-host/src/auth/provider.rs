//! Requests to an identity provider over HTTP. Each answer is bounded in time and size, and secrets
//! go to other machines only over TLS.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcp_proto::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use ureq::http::Uri;
use ureq::{Agent, Body};

use crate::client::Trust;
use crate::https;

/// How long an answer may take, from the look-up of the host name to the last byte.
pub const ANSWER: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
pub const ANSWER_BYTES: u64 = 256 * 1024;
/// The longest address, in bytes.
const ADDRESS_BYTES: usize = 2048;

/// An address of an identity provider: `https://`, or `http://` on this machine. Certificates are
/// checked against the authorities that this machine trusts.
///
/// ```
/// use arcp_host::auth::Endpoint;
/// assert!(Endpoint::new("https://login.example/keys").is_ok());
/// assert!(Endpoint::new("http://127.0.0.1:8080/keys").is_ok());
/// assert!(Endpoint::new("http://login.example/keys").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    /// Made with the first request, because that reads the authorities of this machine.
    agent: Arc<OnceLock<Result<Agent, String>>>,
}

/// The client credentials of a runtime or program at a provider.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: Secret,
}

/// The answer of a provider.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    text: Secret,
}

/// The text is not an address of a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no address of an identity provider: {0}")]
pub struct EndpointError(&'static str);

/// Why a request to a provider failed. It contains nothing of the request and of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// There was no answer, a broken one, or one that took too long.
    #[error("it does not answer: {0}")]
    Silent(String),
    /// The answer is too large.
    #[error("its answer has more than {ANSWER_BYTES} bytes")]
    TooLarge,
    /// The answer has an unexpected status.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer cannot be understood.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

impl Endpoint {
    /// The endpoint at this address.
    ///
    /// # Errors
    ///
    /// If it is neither `https://` nor on this machine, contains a user, or is too long.
    pub fn new(url: &str) -> Result<Endpoint, EndpointError> {
        let bad = EndpointError("expected https://HOST[:PORT][/PATH], of at most 2048 bytes");
        let parsed: Uri = url.parse().ok().filter(|_| url.len() <= ADDRESS_BYTES).ok_or(bad.clone())?;
        let authority = parsed.authority().ok_or(bad.clone())?;
        if authority.as_str().contains('@') {
            return Err(EndpointError("a user or a password in it would be shown in logs"));
        }
        match parsed.scheme_str() {
            Some("https") => {}
            Some("http") if is_of_this_machine(authority.host()) => {}
            Some("http") => return Err(EndpointError("http:// counts for this machine alone: give https://")),
            _ => return Err(bad),
        }
        Ok(Endpoint { url: url.to_string(), agent: Arc::default() })
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn agent(&self) -> Result<&Agent, ProviderError> {
        let made = self.agent.get_or_init(|| {
            let is_secure = !self.url.starts_with("http://");
            https::agent(ANSWER, is_secure.then_some(&Trust::System)).map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|why| ProviderError::Silent(why.clone()))
    }

    /// Sends a GET request.
    ///
    /// # Errors
    ///
    /// If no usable answer comes in time.
    pub fn get(&self) -> Result<Answer, ProviderError> {
        Answer::read(self.agent()?.get(&self.url).header("accept", "application/json").call())
    }

    /// Sends a form, with the credentials of a client if one is given.
    ///
    /// # Errors
    ///
    /// If no usable answer comes in time.
    pub fn post(&self, form: &[(&str, &str)], client: Option<&ProviderClient>) -> Result<Answer, ProviderError> {
        let mut request = self.agent()?.post(&self.url).header("accept", "application/json");
        if let Some(client) = client {
            request = request.header("authorization", client.basic());
        }
        Answer::read(request.send_form(form.iter().copied()))
    }
}

impl ProviderClient {
    /// RFC 6749 §2.3.1: id and secret are form-encoded before they are joined.
    fn basic(&self) -> String {
        let pair = format!("{}:{}", encoded(&self.id), encoded(self.secret.expose()));
        format!("Basic {}", BASE64.encode(pair))
    }
}

impl Answer {
    fn read(answered: Result<ureq::http::Response<Body>, ureq::Error>) -> Result<Answer, ProviderError> {
        let mut answer = answered.map_err(|error| ProviderError::of(&error))?;
        let status = answer.status().as_u16();
        let read = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
        let text = Secret::new(read.map_err(|error| ProviderError::of(&error))?);
        Ok(Answer { status, text })
    }

    /// The JSON of a successful answer.
    ///
    /// # Errors
    ///
    /// If the status is no success, or the body has another form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        if !(200..300).contains(&self.status) {
            return Err(ProviderError::Status(self.status));
        }
        self.json_of_any_status()
    }

    /// The JSON of an answer with any status.
    ///
    /// # Errors
    ///
    /// If the body has another form.
    pub fn json_of_any_status<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        serde_json::from_str(self.text.expose()).map_err(|error| {
            // The parser's message may quote the answer.
            let (line, column) = (error.line(), error.column());
            ProviderError::Nonsense(format!("line {line}, column {column} is not what was expected"))
        })
    }

    /// The text of a successful answer.
    pub(super) fn text(&self) -> Result<&str, ProviderError> {
        if (200..300).contains(&self.status) { Ok(self.text.expose()) } else { Err(ProviderError::Status(self.status)) }
    }
}

impl ProviderError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
    fn of(error: &ureq::Error) -> ProviderError {
        match error {
            ureq::Error::BodyExceedsLimit(_) => ProviderError::TooLarge,
            ureq::Error::Timeout(_) => ProviderError::Silent(format!("nothing came within {ANSWER:?}")),
            ureq::Error::Io(error) => {
                ProviderError::Silent(crate::tls::refusal(error).unwrap_or_else(|| error.to_string()))
            }
            other => ProviderError::Silent(other.to_string()),
        }
    }
}

fn is_of_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Encodes fields as a form or a query.
///
/// ```
/// use arcp_host::auth::{form_encoded, form_fields};
/// let form = form_encoded(&[("scope", "a b".to_string()), ("state", "x&y".to_string())]);
/// assert_eq!(form, "scope=a%20b&state=x%26y");
/// assert_eq!(form_fields(&form)[0], ("scope".to_string(), "a b".to_string()));
/// ```
pub fn form_encoded(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    fields.join("&")
}

/// The fields of a form or a query; malformed fields are ignored.
pub fn form_fields(form: &str) -> Vec<(String, String)> {
    let fields = form.split('&').filter_map(|field| field.split_once('='));
    fields.filter_map(|(name, value)| Some((decoded(name)?, decoded(value)?))).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes a text.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_over_the_network_in_cleartext_is_no_address() {
        for good in ["https://a.example", "http://localhost:1/x", "http://[::1]:1", "http://127.9.9.9/?a=b"] {
            assert!(Endpoint::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a.example", "ftp://a", "http://a.example", "http://localhost.evil", "https://u:p@a", "https://"]
        {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_is_named_as_the_rfc_says_and_its_secret_is_never_shown() {
        let client = ProviderClient { id: "a:b".into(), secret: Secret::new("p w%".into()) };
        assert_eq!(client.basic(), format!("Basic {}", BASE64.encode("a%3Ab:p%20w%25")));
        assert!(!format!("{client:?}").contains("p w"));
    }
}
