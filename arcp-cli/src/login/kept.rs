//! Kept logins, one for each runtime, in files that only their user can read.

use std::time::Duration;

use arcp_blocking::{Renewer, Target};
use arcp_host::auth::{Endpoint, ProviderError};
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::metadata::Metadata;
use super::{Asking, Granted, tokens};
use crate::exit::{Exit, Failure};
use crate::state::State;
use crate::times::now;

const FOLDER: &str = "logins";
/// A token that expires within this time is renewed before it is used.
const SOON_MS: u64 = 60_000;
/// The least time between two looks at a login during a session.
const PAUSE: Duration = Duration::from_secs(1);

/// A login at a runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The runtime.
    url: String,
    asking: Asking,
    token_endpoint: String,
    #[serde(default)]
    revocation_endpoint: Option<String>,
    access_token: Secret,
    #[serde(default)]
    refresh_token: Option<Secret>,
    #[serde(default)]
    expires_at: Option<UtcMs>,
}

/// The access token for a runtime, renewed if it is about to expire; `None` if the user is not logged in there.
pub fn access_token(state: &State, target: &Target) -> Result<Option<Secret>, Failure> {
    let Some(kept) = Kept::of(state, target) else {
        return Ok(None);
    };
    if !kept.expires_within(SOON_MS) {
        return Ok(Some(kept.access_token));
    }
    // One command renews the login, and the others use its new tokens: most providers accept a refresh token once.
    let _renewing = state.lock(FOLDER).map_err(|error| kept.not_renewed(&error))?;
    let Some(kept) = Kept::of(state, target) else {
        return Ok(None);
    };
    let renewed = if kept.expires_within(SOON_MS) { kept.renewed(state)? } else { kept };
    Ok(Some(renewed.access_token))
}

/// Keeps a session valid with each new access token for as long as the session lasts. If no new token can be had, the
/// session ends with the last one, and its command reports that.
pub fn keep_renewed(state: State, target: Target, token: Secret, renewer: Renewer) {
    let renew = move || {
        let mut used = token;
        loop {
            let Some(wait) = Kept::of(&state, &target).and_then(|kept| kept.renewed_in()) else {
                return; // The user has logged out, or the token does not expire.
            };
            std::thread::sleep(wait);
            // Another command may have renewed the login already. If the provider could not be reached, the next turn
            // tries again.
            let Ok(Some(token)) = access_token(&state, &target) else { continue };
            if token != used && renewer.renew(Credential::Bearer(token.clone())).is_err() {
                return; // The session has ended.
            }
            used = token;
        }
    };
    // Without the thread, the session ends with its token.
    let _ = std::thread::Builder::new().name("arcp-login".to_string()).spawn(renew);
}

impl Kept {
    pub(super) fn new(target: &Target, asking: Asking, metadata: &Metadata, granted: Granted) -> Result<Kept, Failure> {
        Ok(Kept {
            url: target.to_string(),
            asking,
            token_endpoint: metadata.token().url().to_string(),
            revocation_endpoint: metadata.revocation().map(|endpoint| endpoint.url().to_string()),
            expires_at: granted.expires_at(),
            access_token: granted.access_token,
            refresh_token: granted.refresh_token,
        })
    }

    /// The login at this runtime.
    pub fn of(state: &State, target: &Target) -> Option<Kept> {
        let url = target.to_string();
        state.private(&file(&url)).filter(|kept: &Kept| kept.url == url)
    }

    /// What the login was requested with.
    pub(super) fn asking(&self) -> &Asking {
        &self.asking
    }

    /// When the access token expires, if that is known.
    pub(super) fn expires_at(&self) -> Option<UtcMs> {
        self.expires_at
    }

    /// Whether the login can be renewed without the user.
    pub(super) fn is_renewed(&self) -> bool {
        self.refresh_token.is_some()
    }

    pub(super) fn put(&self, state: &State) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("the login cannot be kept: {error}"));
        state.write(&file(&self.url), self).map_err(failed)
    }

    pub(super) fn remove(&self, state: &State) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("the login cannot be forgotten: {error}"));
        state.remove(&file(&self.url)).map_err(failed)
    }

    /// Has the provider revoke both tokens (RFC 7009); false if it has no endpoint for that.
    pub(super) fn revoke(&self) -> Result<bool, ProviderError> {
        let endpoint = self.revocation_endpoint.as_deref().and_then(|url| Endpoint::new(url).ok());
        let Some(endpoint) = endpoint else {
            return Ok(false);
        };
        let both = self.refresh_token.iter().map(|token| (token, "refresh_token"));
        for (token, kind) in both.chain([(&self.access_token, "access_token")]) {
            let form = [("token", token.expose()), ("token_type_hint", kind), ("client_id", &self.asking.client_id)];
            let answer = endpoint.post(&form, None)?;
            if !(200..300).contains(&answer.status) {
                return Err(ProviderError::Status(answer.status));
            }
        }
        Ok(true)
    }

    /// How long to wait before the token is renewed during a session; `None` if it does not expire. A short-lived
    /// token is renewed when half of its time has passed.
    fn renewed_in(&self) -> Option<Duration> {
        let left = self.expires_at?.0.saturating_sub(now().0);
        Some(Duration::from_millis(left.saturating_sub(SOON_MS).max(left / 2)).max(PAUSE))
    }

    fn expires_within(&self, ms: u64) -> bool {
        self.expires_at.is_some_and(|at| at.0 <= now().0.saturating_add(ms))
    }

    /// Renews the tokens, and stores them.
    fn renewed(self, state: &State) -> Result<Kept, Failure> {
        let Some(refresh) = self.refresh_token.clone() else {
            return if self.expires_within(0) { Err(self.over("it cannot be renewed")) } else { Ok(self) };
        };
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.expose()),
            ("client_id", self.asking.client_id.as_str()),
        ];
        form.extend(self.asking.resource.as_deref().map(|resource| ("resource", resource)));
        let endpoint = Endpoint::new(&self.token_endpoint).map_err(|error| self.not_renewed(&error))?;
        match tokens(&endpoint, &form) {
            Ok(Ok(granted)) => {
                let granted = granted.checked()?;
                let renewed = Kept {
                    expires_at: granted.expires_at(),
                    refresh_token: granted.refresh_token.or(self.refresh_token),
                    access_token: granted.access_token,
                    ..self
                };
                renewed.put(state)?;
                Ok(renewed)
            }
            Ok(Err(refused)) => Err(self.over(&refused.shown())),
            // The present token is still valid.
            Err(_) if !self.expires_within(0) => Ok(self),
            Err(error) => Err(self.not_renewed(&error)),
        }
    }

    fn over(&self, why: &str) -> Failure {
        let url = &self.url;
        Failure::new(
            Exit::Unauthenticated,
            format!("the login at {url} has expired: {why}: log in again with `arcp login --url {url}`"),
        )
    }

    fn not_renewed(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::new(Exit::Lost, format!("the login at {} was not renewed: {why}", self.url))
    }
}

/// The file of a login: a digest, because a URL may contain characters that file names cannot.
fn file(url: &str) -> String {
    let digits: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{FOLDER}/{digits}.json")
}
