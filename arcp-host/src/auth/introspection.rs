//! Opaque tokens: their provider is asked what they are (RFC 7662), and asked again while they are
//! valid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcp_proto::id::{Issuer, Principal};
use arcp_proto::runtime::Verdict;
use arcp_proto::scope::Scopes;
use arcp_proto::secret::{Secret, SecretDigest};
use arcp_proto::time::UtcMs;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::NotJudged;
use super::provider::{Endpoint, ProviderClient, ProviderError};
use super::signed_jwt::Claims;
use super::watched_file::{self, CredentialFileError};
use crate::clock::utc_now;
use crate::server_log::log;

/// How many tokens are remembered. Beyond that, a token is valid only until it would be checked
/// again.
const TOKENS: usize = 4096;
/// The longest token, in bytes.
const LONGEST: usize = 16 * 1024;
/// How long a token is valid if its provider names no expiry.
const WITHOUT_END: Duration = Duration::from_secs(24 * 3600);

/// Asks a provider about tokens. Clones share the answers.
#[derive(Clone, Debug)]
pub struct Introspection {
    endpoint: Endpoint,
    client: ProviderClient,
    issuer: Issuer,
    audience: String,
    times: CheckTimes,
    known: Arc<Known>,
}

/// How often a provider is asked about a token, and how long its answers are valid while it does
/// not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTimes {
    /// How long an answer is valid, and so how soon a revocation is noticed; 30 seconds by default.
    pub every: Duration,
    /// How long after its last answer a token stays valid while the provider does not answer; 10
    /// minutes by default.
    pub silence: Duration,
}

#[derive(Debug, Default)]
struct Known {
    tokens: Mutex<BTreeMap<SecretDigest, Token>>,
    /// Principals of tokens that became invalid since the last call of `ceased`.
    ceased: Mutex<BTreeSet<Principal>>,
    /// Whether a thread is checking tokens that are due.
    checking: AtomicBool,
}

#[derive(Debug)]
struct Token {
    token: Secret,
    /// `None`: the token is not valid.
    verdict: Option<Verdict>,
    /// When the provider was last asked, and when it last answered.
    asked: Instant,
    answered: Instant,
}

/// The answer of a provider about a token (RFC 7662 §2.2).
#[derive(Deserialize)]
struct Introspected {
    active: bool,
    iss: Option<String>,
    aud: Option<Audience>,
    nbf: Option<f64>,
    token_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
    Other(IgnoredAny),
}

/// The client credentials of a runtime at a provider, as a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    client_id: String,
    client_secret: Secret,
}

impl Default for CheckTimes {
    fn default() -> CheckTimes {
        CheckTimes { every: Duration::from_secs(30), silence: Duration::from_secs(600) }
    }
}

impl ProviderClient {
    /// Reads the credentials from a file that nobody else can read:
    /// `{"client_id": "...", "client_secret": "..."}`.
    ///
    /// # Errors
    ///
    /// If the file is missing or invalid, or others may read it.
    pub fn read(path: &Path) -> Result<ProviderClient, CredentialFileError> {
        let text = watched_file::read_private(path)?;
        // The parser's message may quote the secret.
        let expected = r#"expected {"client_id": "...", "client_secret": "..."}"#;
        let ClientFile { client_id, client_secret } =
            serde_json::from_str(&text).map_err(|_| CredentialFileError::whole(path, expected))?;
        Ok(ProviderClient { id: client_id, secret: client_secret })
    }
}

impl Introspection {
    /// Asks at this address, as this client, about tokens that an issuer has issued for `audience`,
    /// the name of this runtime at the provider.
    pub fn new(
        endpoint: Endpoint,
        client: ProviderClient,
        (issuer, audience): (Issuer, &str),
        times: CheckTimes,
    ) -> Introspection {
        let audience = audience.to_string();
        Introspection { endpoint, client, issuer, audience, times, known: Arc::default() }
    }

    /// The verdict on a token, according to the provider or to its last answer.
    ///
    /// # Errors
    ///
    /// If the provider does not answer, and has no earlier answer that is still valid.
    pub(super) fn verify(&self, token: &Secret) -> Result<Option<Verdict>, NotJudged> {
        if token.expose().is_empty() || token.expose().len() > LONGEST {
            return Ok(None);
        }
        let digest = token.digest();
        if let Some(known) = self.tokens().get(&digest)
            && known.asked.elapsed() < self.times.every
        {
            return Ok(known.verdict.clone().filter(is_not_over));
        }
        self.ask(digest, token)
    }

    /// The principals of which a token has become invalid since the last call. Starts a thread that
    /// checks the tokens that are due.
    pub(super) fn ceased(&self) -> BTreeSet<Principal> {
        if !self.known.checking.swap(true, Ordering::AcqRel) {
            let checking = Checking(self.clone());
            // If no thread starts, `checking` is dropped, and the next call tries again.
            let _ = std::thread::Builder::new().name("introspect".to_string()).spawn(move || checking.0.check_again());
        }
        std::mem::take(&mut self.known.ceased.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks each token that is due, and forgets tokens that cannot become valid.
    fn check_again(&self) {
        let every = self.times.every;
        self.tokens().retain(|_, known| match &known.verdict {
            Some(verdict) => is_not_over(verdict),
            None => known.asked.elapsed() < every,
        });
        let is_due = |known: &Token| known.asked.elapsed() >= every;
        let due: Vec<(SecretDigest, Secret)> = {
            let tokens = self.tokens();
            tokens.iter().filter(|(_, known)| is_due(known)).map(|(at, known)| (*at, known.token.clone())).collect()
        };
        let mut silent = None;
        for (digest, token) in due {
            let said = silent.clone().map_or_else(|| self.introspect(&token), Err);
            // The other tokens would wait just as long.
            if let Err(ProviderError::Silent(_)) = &said {
                silent = said.as_ref().err().cloned();
            }
            // A known token stays valid for a while without an answer. No caller waits here.
            let _ = self.learn(digest, &token, said);
        }
    }

    /// Asks the provider about a token, and remembers the answer.
    fn ask(&self, digest: SecretDigest, token: &Secret) -> Result<Option<Verdict>, NotJudged> {
        self.learn(digest, token, self.introspect(token))
    }

    /// Remembers the answer of the provider about a token, and returns the verdict.
    fn learn(
        &self,
        digest: SecretDigest,
        token: &Secret,
        said: Result<Option<Verdict>, ProviderError>,
    ) -> Result<Option<Verdict>, NotJudged> {
        let now = Instant::now();
        let mut tokens = self.tokens();
        let before = tokens.get(&digest);
        let mut is_known = true;
        let (verdict, answered) = match said {
            Ok(verdict) => (verdict, now),
            Err(error) => {
                log(format_args!("arcp: a token was not asked about at {}: {error}", self.endpoint.url()));
                // If the provider does not answer, an unknown token is not accepted.
                let before = before.ok_or(NotJudged)?;
                let counts = before.answered.elapsed() < self.times.silence;
                is_known = counts || before.verdict.is_none();
                (before.verdict.clone().filter(|_| counts), before.answered)
            }
        };
        let verdict = verdict.filter(is_not_over);
        let had = before.and_then(|known| known.verdict.as_ref());
        // A token that expired by itself is not reported: its session ended with it, or was
        // renewed.
        let had = had.filter(|had| is_not_over(had));
        if let Some(had) = had.filter(|had| verdict.as_ref().is_none_or(|now| now.principal != had.principal)) {
            self.cease(had.principal.clone());
        }
        if !is_known {
            tokens.remove(&digest);
            return Err(NotJudged);
        }
        if before.is_none() && tokens.len() >= TOKENS && !make_room(&mut tokens) {
            let until = utc_now().plus(self.times.every);
            return Ok(verdict.map(|verdict| bounded(verdict, until)));
        }
        tokens.insert(digest, Token { token: token.clone(), verdict: verdict.clone(), asked: now, answered });
        Ok(verdict)
    }

    fn cease(&self, principal: Principal) {
        self.known.ceased.lock().unwrap_or_else(PoisonError::into_inner).insert(principal);
    }

    /// The answer of the provider about a token; `None`: the token is not valid here.
    fn introspect(&self, token: &Secret) -> Result<Option<Verdict>, ProviderError> {
        let form = [("token", token.expose()), ("token_type_hint", "access_token")];
        let answer = self.endpoint.post(&form, Some(&self.client))?;
        // The answer about an inactive token has no other members.
        let judged = self.judge(answer.json()?, answer.json().ok());
        if let Err(why) = &judged {
            log(format_args!("arcp: a token of {} was not accepted: {why}", self.issuer));
        }
        Ok(judged.ok())
    }

    fn judge(&self, said: Introspected, claims: Option<Claims>) -> Result<Verdict, &'static str> {
        let Introspected { active, iss, aud, nbf, token_type } = said;
        if !active {
            return Err("it is not active");
        }
        if iss.is_some_and(|iss| iss != self.issuer.as_str()) {
            return Err("another issuer is in `iss`");
        }
        let is_for_us = match aud {
            Some(Audience::One(name)) => name == self.audience,
            Some(Audience::Several(names)) => names.contains(&self.audience),
            Some(Audience::Other(_)) | None => false,
        };
        if !is_for_us {
            return Err("`aud` does not name this runtime");
        }
        if token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("`token_type` is another than Bearer: its holder would have to prove more");
        }
        let now = utc_now();
        if nbf.is_some_and(|nbf| nbf * 1000.0 > now.0 as f64) {
            return Err("it does not count yet: `nbf` is in the future");
        }
        let claims = claims.ok_or("`sub` is missing, or a claim cannot be read")?;
        let end = claims.end().unwrap_or(now.plus(WITHOUT_END)).min(UtcMs::MAX);
        if end <= now {
            return Err("it has expired");
        }
        claims.verdict(&self.issuer, end).map_err(|_| "`sub`, `cnf` or `arcp_lease` cannot be used")
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<SecretDigest, Token>> {
        // The lock may be poisoned by a panic elsewhere, but each entry is whole.
        self.known.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this exists, no other thread checks tokens.
struct Checking(Introspection);

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.known.checking.store(false, Ordering::Release);
    }
}

fn is_not_over(verdict: &Verdict) -> bool {
    verdict.expires_at.is_none_or(|at| utc_now() < at)
}

/// Removes an invalid token; returns false if all tokens are valid.
fn make_room(tokens: &mut BTreeMap<SecretDigest, Token>) -> bool {
    let idle = tokens.iter().filter(|(_, known)| known.verdict.as_ref().is_none_or(|verdict| !is_not_over(verdict)));
    let oldest = idle.min_by_key(|(_, known)| known.asked).map(|(digest, _)| *digest);
    oldest.is_some_and(|digest| tokens.remove(&digest).is_some())
}

/// A verdict that is not remembered, and so not checked again, is valid only until `until`.
fn bounded(verdict: Verdict, until: UtcMs) -> Verdict {
    Verdict { expires_at: Some(verdict.expires_at.map_or(until, |at| at.min(until))), ..verdict }
}

/// Whether a verdict has all of these scopes.
pub(super) fn has_each(verdict: &Verdict, required: &Scopes) -> bool {
    required.iter().all(|scope| verdict.scopes.contains(scope))
}

#[cfg(test)]
mod tests;
