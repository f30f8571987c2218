//! An identity provider where users sign in: codes with PKCE, device codes, and tokens that can be refreshed, revoked
//! and introspected.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::provider::{Answering, Asked, Provider};

/// The client id of programs there.
pub const CLIENT: &str = "arcp";

/// An identity provider. It ends when this is dropped.
pub struct SignIn {
    /// Its HTTP server.
    pub provider: Provider,
    state: Arc<Mutex<State>>,
}

/// What the provider knows, and how it behaves.
pub struct State {
    /// How long further access tokens are valid.
    pub lasts: Duration,
    /// Answers to polls with a device code, before a token is issued.
    pub delays: Vec<&'static str>,
    /// Answers that replace the usual ones, by path.
    pub instead: BTreeMap<&'static str, Answering>,
    /// Valid access tokens, and when they expire.
    pub active: BTreeMap<String, Instant>,
    /// All requests.
    pub seen: Vec<Asked>,
    refresh: Vec<String>,
    /// Authorization codes, with their challenge and redirect URL.
    codes: BTreeMap<String, (String, String)>,
    given: usize,
}

impl Default for SignIn {
    fn default() -> SignIn {
        let state = Arc::new(Mutex::new(State {
            lasts: Duration::from_secs(3600),
            delays: Vec::new(),
            instead: BTreeMap::new(),
            active: BTreeMap::new(),
            seen: Vec::new(),
            refresh: Vec::new(),
            codes: BTreeMap::new(),
            given: 0,
        }));
        let shared = state.clone();
        SignIn { provider: Provider::start(move |asked| shared.lock().expect("no panic").answer(asked)), state }
    }
}

impl SignIn {
    /// The URL of its issuer.
    pub fn issuer(&self) -> String {
        self.provider.url("")
    }

    /// The state of the provider, to be read and changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

impl State {
    /// How often this path was requested.
    pub fn asked(&self, path: &str) -> usize {
        self.seen.iter().filter(|asked| asked.path == path).count()
    }

    fn answer(&mut self, asked: &Asked) -> Answering {
        self.seen.push(asked.clone());
        if let Some(answer) = self.instead.get(asked.path.as_str()) {
            return answer.clone();
        }
        let field = |name: &str| asked.form.get(name).cloned().unwrap_or_default();
        let issuer = format!("http://{}", asked.host);
        match asked.path.as_str() {
            "/.well-known/openid-configuration" => {
                let at = |path: &str| format!("{issuer}{path}");
                Answering::Json(
                    200,
                    json!({"issuer": issuer, "token_endpoint": at("/token"), "authorization_endpoint": at("/authorize"),
                        "device_authorization_endpoint": at("/device"), "revocation_endpoint": at("/revoke")}),
                )
            }
            "/authorize" => {
                let usual = field("response_type") == "code" && field("code_challenge_method") == "S256";
                assert!(usual && field("client_id") == CLIENT && field("state").len() >= 32, "{asked:?}");
                let code = self.next("code");
                self.codes.insert(code.clone(), (field("code_challenge"), field("redirect_uri")));
                Answering::Redirect(format!(
                    "{}?code={code}&state={}&iss={issuer}",
                    field("redirect_uri"),
                    field("state")
                ))
            }
            "/device" => Answering::Json(
                200,
                json!({"device_code": "dev1ce", "user_code": "WDJB-MJHT", "verification_uri": format!("{issuer}/activate"),
                    "expires_in": 300, "interval": 0.01}),
            ),
            "/token" => self.token(&field),
            "/introspect" => {
                let until = self.active.get(&field("token")).copied();
                let left = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
                let counts = !left.is_zero();
                let exp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + left;
                let of = json!({"active": true, "iss": issuer, "sub": "alice", "aud": "here", "token_type": "Bearer",
                    "exp": exp.as_secs_f64()});
                Answering::Json(200, if counts { of } else { json!({"active": false}) })
            }
            "/revoke" => {
                let token = field("token");
                self.active.remove(&token);
                self.refresh.retain(|known| *known != token);
                Answering::Json(200, json!({}))
            }
            "/keys" => Answering::Json(200, json!({"keys": []})),
            _ => Answering::Json(404, json!({})),
        }
    }

    fn token(&mut self, field: &dyn Fn(&str) -> String) -> Answering {
        let refused = |error: &str| Answering::Json(400, json!({"error": error, "error_description": "no\u{1b}[31m"}));
        let grant = field("grant_type");
        if field("client_id") != CLIENT {
            return refused("invalid_client");
        }
        let granted = match grant.as_str() {
            "authorization_code" => {
                let challenge = BASE64.encode(Sha256::digest(field("code_verifier")));
                self.codes.remove(&field("code")) == Some((challenge, field("redirect_uri")))
            }
            // Each refresh token is valid once.
            "refresh_token" => {
                let known = self.refresh.len();
                self.refresh.retain(|token| *token != field("refresh_token"));
                self.refresh.len() < known
            }
            _ => {
                if !self.delays.is_empty() {
                    return refused(self.delays.remove(0));
                }
                field("device_code") == "dev1ce"
            }
        };
        if granted { self.grant() } else { refused("invalid_grant") }
    }

    fn grant(&mut self) -> Answering {
        let (access, refresh) = (self.next("access"), self.next("refresh"));
        self.active.insert(access.clone(), Instant::now() + self.lasts);
        self.refresh.push(refresh.clone());
        let lasts = self.lasts.as_secs_f64();
        let granted: Value =
            json!({"access_token": access, "token_type": "Bearer", "expires_in": lasts, "refresh_token": refresh});
        Answering::Json(200, granted)
    }

    fn next(&mut self, kind: &str) -> String {
        self.given += 1;
        format!("{kind}-s3cret-{}", self.given)
    }
}

/// Opens a URL as a browser does, and follows redirects; returns the last answer.
pub fn browse(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").expect("http").split_once('/').expect("a path");
    let mut socket = TcpStream::connect(host).expect("a connection");
    write!(socket, "GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n").expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    match answer.split("\r\nlocation: ").nth(1) {
        Some(location) => browse(location.lines().next().expect("a line")),
        None => answer,
    }
}
