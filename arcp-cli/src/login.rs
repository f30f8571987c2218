//! `arcp login` and `arcp logout`: access tokens of an identity provider for a runtime,
//! by a browser (RFC 6749 with PKCE, RFC 7636) or by a code that is typed in elsewhere
//! (RFC 8628).

mod device;
mod kept;
mod metadata;
mod redirect;

use std::io::{self, IsTerminal as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use arcp_blocking::Target;
use arcp_host::auth::{Endpoint, ProviderError, form_encoded};
use arcp_host::entropy;
use arcp_host::stderr::say;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use clap::Args;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::metadata::Metadata;
use self::redirect::Redirect;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::state::State;
use crate::times::{local, now};
use crate::values;

pub use self::kept::{Kept, access_token, keep_renewed};

/// How long the user may take to sign in by a browser.
const SIGNING_IN: Duration = Duration::from_secs(10 * 60);

/// Log in to a runtime through an identity provider.
#[derive(Debug, Args)]
pub struct Login {
    /// The runtime [default: the latest `arcp serve` of this user].
    #[arg(long, env = "ARCP_URL", value_parser = values::runtime)]
    url: Option<Target>,
    /// The identity provider's issuer, its `iss` [default: that of the last login to this
    /// runtime].
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// This program's client id at the provider, of a public client [default: that of the
    /// last login to this runtime].
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Request this scope; may be repeated. Many providers issue refresh tokens only for
    /// offline_access.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// The runtime's name at providers that need `audience`.
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// The runtime's name at providers that need `resource` (RFC 8707).
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Log in on another device, with a code that is printed.
    #[arg(long)]
    device: bool,
    /// Print the login address instead of opening a browser.
    #[arg(long, conflicts_with = "device")]
    no_browser: bool,
}

/// Log out of a runtime: forget its tokens and revoke them at the provider.
#[derive(Debug, Args)]
pub struct Logout {
    /// The runtime [default: the latest `arcp serve` of this user].
    #[arg(long, env = "ARCP_URL", value_parser = values::runtime)]
    url: Option<Target>,
}

/// The identity provider, and what is requested from it as which client.
#[derive(Clone, Debug, serde::Serialize, Deserialize)]
pub struct Asking {
    /// The identity provider.
    issuer: String,
    client_id: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    resource: Option<String>,
}

/// The token response of a provider (RFC 6749 §5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    token_type: String,
    expires_in: Option<f64>,
    refresh_token: Option<Secret>,
}

/// The error response of a provider (RFC 6749 §5.2).
#[derive(Debug, Deserialize)]
struct Refused {
    error: String,
    error_description: Option<String>,
}

/// Logs in.
pub fn login(args: &Login) -> Result<Exit, Failure> {
    let state = state()?;
    let target = connect::target(args.url.as_ref())?;
    let asking = Asking::of(args, Kept::of(&state, &target).as_ref())?;
    let metadata = Metadata::of(&asking.issuer)?;
    let granted = if args.device {
        device::grant(&asking, &metadata)?
    } else {
        by_browser(&asking, &metadata, !args.no_browser)?
    };
    let kept = Kept::new(&target, asking, &metadata, granted)?;
    kept.put(&state)?;
    let until = kept.expires_at().map(|at| format!(" until {}", local(at))).unwrap_or_default();
    let renewed = if kept.is_renewed() { "; it is renewed by itself" } else { "" };
    say(format_args!("arcp: logged in at {target}{until}{renewed}"));
    Ok(Exit::Success)
}

/// Logs out.
pub fn logout(args: &Logout) -> Result<Exit, Failure> {
    let state = state()?;
    let target = connect::target(args.url.as_ref())?;
    let none = || Failure::new(Exit::Failed, format!("nobody is logged in at {target}"));
    let kept = Kept::of(&state, &target).ok_or_else(none)?;
    kept.remove(&state)?;
    match kept.revoke() {
        Ok(true) => say(format_args!("arcp: logged out at {target}")),
        Ok(false) => say(format_args!(
            "arcp: logged out at {target}; its provider revokes nothing: who has the token has it until it expires"
        )),
        Err(error) => say(format_args!(
            "arcp: logged out at {target}; its provider did not revoke the token: {error}: who has it has it until it expires"
        )),
    }
    Ok(Exit::Success)
}

fn state() -> Result<State, Failure> {
    State::of_user()
        .ok_or_else(|| Failure::new(Exit::Failed, "no place for a login: neither HOME nor ARCP_STATE_DIR is set"))
}

impl Asking {
    fn of(args: &Login, before: Option<&Kept>) -> Result<Asking, Failure> {
        let before = before.map(|kept| kept.asking().clone());
        // Another provider does not know the client and the scopes of the last login.
        let before = before.filter(|before| args.issuer.as_ref().is_none_or(|issuer| *issuer == before.issuer));
        let wanted = |what: &str| Failure::usage(format!("{what} is not known for this runtime: give it"));
        let had = |part: fn(&Asking) -> Option<String>| before.as_ref().and_then(part);
        let scopes = if args.scopes.is_empty() { before.as_ref().map(|before| before.scopes.clone()) } else { None };
        Ok(Asking {
            issuer: args.issuer.clone().or(had(|a| Some(a.issuer.clone()))).ok_or_else(|| wanted("--issuer"))?,
            client_id: args
                .client_id
                .clone()
                .or(had(|a| Some(a.client_id.clone())))
                .ok_or_else(|| wanted("--client-id"))?,
            scopes: scopes.unwrap_or_else(|| args.scopes.clone()),
            audience: args.audience.clone().or(had(|a| a.audience.clone())),
            resource: args.resource.clone().or(had(|a| a.resource.clone())),
        })
    }

    /// The fields for these in a request.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("client_id", self.client_id.clone())];
        if !self.scopes.is_empty() {
            fields.push(("scope", self.scopes.join(" ")));
        }
        fields.extend(self.audience.iter().map(|audience| ("audience", audience.clone())));
        fields.extend(self.resource.iter().map(|resource| ("resource", resource.clone())));
        fields
    }
}

impl Granted {
    /// Checks that this is a bearer token, which can be sent in a header.
    fn checked(self) -> Result<Granted, Failure> {
        if !self.token_type.eq_ignore_ascii_case("bearer") {
            return Err(failed("it gave a token of another type than Bearer"));
        }
        Ok(self)
    }

    /// When the access token expires, if that is known.
    fn expires_at(&self) -> Option<UtcMs> {
        let lasts = Duration::try_from_secs_f64(self.expires_in?.max(0.0)).unwrap_or(Duration::MAX);
        Some(now().plus(lasts).min(UtcMs::MAX))
    }
}

impl Refused {
    /// The error for a terminal: the provider is not trusted to send control characters.
    fn shown(&self) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        match &self.error_description {
            Some(description) => format!("{}: {}", plain(&self.error), plain(description)),
            None => plain(&self.error),
        }
    }
}

/// Requests tokens.
fn tokens(endpoint: &Endpoint, form: &[(&str, &str)]) -> Result<Result<Granted, Refused>, ProviderError> {
    let answer = endpoint.post(form, None)?;
    if (200..300).contains(&answer.status) {
        return answer.json().map(Ok);
    }
    // A failure without an OAuth error is reported by its HTTP status.
    answer.json_of_any_status().map(Err).map_err(|_| ProviderError::Status(answer.status))
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unauthenticated, format!("the identity provider did not log you in: {why}"))
}

/// Has the user sign in by a browser on this machine, which is redirected to a port of this program.
fn by_browser(asking: &Asking, metadata: &Metadata, open: bool) -> Result<Granted, Failure> {
    let fresh = || entropy::token().map(Secret::new).map_err(|error| failed(&error));
    let (state, verifier) = (fresh()?, fresh()?);
    let redirect = Redirect::listen(&state, &asking.issuer).map_err(|error| failed(&error))?;
    let address = redirect.address();
    let mut fields = asking.fields();
    fields.extend([
        ("response_type", "code".to_string()),
        ("redirect_uri", address.clone()),
        ("state", state.expose().to_string()),
        ("code_challenge", BASE64_URL.encode(Sha256::digest(verifier.expose()))),
        ("code_challenge_method", "S256".to_string()),
    ]);
    let at = metadata.authorization()?;
    let url = format!("{}{}{}", at.url(), if at.url().contains('?') { '&' } else { '?' }, form_encoded(&fields));
    say(format_args!("arcp: sign in at\n{url}"));
    if open && io::stderr().is_terminal() {
        browse(&url);
    }
    let code = redirect.wait(SIGNING_IN).map_err(failed)?;
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", &address),
        ("client_id", &asking.client_id),
        ("code_verifier", verifier.expose()),
    ];
    form.extend(asking.resource.as_deref().map(|resource| ("resource", resource)));
    let granted = tokens(metadata.token(), &form).map_err(failed)?;
    granted.map_err(|refused| failed(refused.shown()))?.checked()
}

/// Tries to open a URL in a browser. Failures are ignored: the URL was printed.
fn browse(url: &str) {
    let named = std::env::var("BROWSER").ok().and_then(|all| all.split(':').next().map(str::to_string));
    let usual = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let browser = named.filter(|named| !named.is_empty()).unwrap_or(usual.to_string());
    let quiet = Stdio::null;
    let _ = Command::new(browser).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
}
