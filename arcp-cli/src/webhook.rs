//! `arcp serve --webhook`: an HTTP request for each ended job, signed according to [Standard
//! Webhooks](https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp` and `webhook-signature`, an
//! HMAC-SHA256 over `ID.TIMESTAMP.BODY`.

use std::time::Duration;

use arcp_host::client::Trust;
use arcp_host::{https, tls};
use arcp_proto::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use ureq::Agent;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use crate::exit::Failure;
use crate::telling::{Listener, News, Receipt};
use crate::times::now;

/// How long a receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The prefix of a secret in the form of the standard.
const PREFIX: &str = "whsec_";
/// The least length of a secret in bytes: shorter ones can be guessed.
const SECRET_BYTES: usize = 16;

/// A receiver of webhooks.
pub struct Webhook {
    url: String,
    secret: Secret,
    agent: Agent,
}

impl Webhook {
    /// A receiver at this URL, whose certificate is verified by `trust`. Messages are signed with the secret.
    pub fn new(url: &str, secret: Option<&str>, trust: &Trust) -> Result<Webhook, Failure> {
        let mend = "give --webhook-secret or ARCP_WEBHOOK_SECRET, of at least 16 bytes, such as whsec_ and base64";
        let secret = secret.ok_or_else(|| Failure::usage(format!("--webhook {}: {mend}", host(url))))?;
        if key(secret).is_none_or(|key| key.len() < SECRET_BYTES) {
            return Err(Failure::usage(format!("--webhook-secret: it is too short, or no base64: {mend}")));
        }
        let is_secure = url.parse::<Uri>().is_ok_and(|url| url.scheme() == Some(&Scheme::HTTPS));
        let agent = https::agent(ANSWER, is_secure.then_some(trust));
        let agent = agent.map_err(|error| Failure::usage(format!("--webhook {}: {error}", host(url))))?;
        Ok(Webhook { url: url.to_string(), secret: Secret::new(secret.to_string()), agent })
    }

    fn signature(&self, id: &str, timestamp: u64, body: &str) -> String {
        let key = key(self.secret.expose()).unwrap_or_default();
        // A key of any length is valid.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
            return String::new();
        };
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// Why no answer came.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
fn why(error: &ureq::Error) -> String {
    let untrusted = match error {
        ureq::Error::Io(error) => tls::refusal(error),
        _ => None,
    };
    let advice = "; --webhook-ca FILE trusts the authority, or the certificate, in that file";
    untrusted.map_or_else(|| error.to_string(), |why| format!("{why}{advice}"))
}

/// The URL without user, path and query, which may be secrets.
fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// The bytes of a secret.
fn key(secret: &str) -> Option<Vec<u8>> {
    match secret.strip_prefix(PREFIX) {
        Some(encoded) => BASE64.decode(encoded).ok(),
        None => Some(secret.as_bytes().to_vec()),
    }
}

impl Listener for Webhook {
    fn name(&self) -> String {
        format!("--webhook {}", self.url)
    }

    fn shown(&self) -> String {
        format!("--webhook {}", host(&self.url))
    }

    /// A receiver that refuses a message would refuse it again, unless it says that it is busy.
    fn tell(&self, news: &News) -> Receipt {
        let (id, timestamp) = (&news.id, now().0 / 1000);
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", self.signature(id, timestamp, &news.json));
        match request.send(news.json.as_str()) {
            Ok(answer) => match answer.status().as_u16() {
                200..300 => Receipt::Taken,
                status @ (408 | 425 | 429) => Receipt::Later(format!("it answered {status}")),
                status @ 400..500 => Receipt::Refused(format!("it answered {status}")),
                status => Receipt::Later(format!("it answered {status}")),
            },
            Err(error) => Receipt::Later(why(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_standard() {
        // The example of the published libraries.
        let webhook =
            Webhook::new("http://x", Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &Trust::System).expect("a secret");
        let signature = webhook.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        for secret in [None, Some("short"), Some("whsec_c2hvcnQ="), Some("whsec_no base64 at all, but long")] {
            assert!(Webhook::new("http://x", secret, &Trust::System).is_err(), "{secret:?}");
        }
    }

    #[test]
    fn what_may_be_a_secret_in_an_address_is_not_shown() {
        for url in ["https://x:1/hook/SECRET", "https://me:SECRET@x:1/hook", "https://x:1?token=SECRET#SECRET"] {
            let webhook =
                Webhook::new(url, Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &Trust::System).expect("a secret");
            assert_eq!(webhook.shown(), "--webhook https://x:1", "{url}");
            assert!(webhook.name().ends_with(url), "its cursor is its own");
        }
    }
}
