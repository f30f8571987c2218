//! What credentials are made of, and what a test does to them: files, keys, an
//! authority, a provider.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcp_blocking::Identity;
use arcp_host::auth::{CredentialSource as _, Delegation, DelegationKey, TokenFile};
use arcp_host::tls::Certificates;
use arcp_proto::id::{Issuer, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::Lease;
use arcp_proto::time::UtcMs;
use arcp_tests::certificates::{Authority, Pair};
use arcp_tests::kept::Folder;
use arcp_tests::provider::{Answering, Asked, Provider};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://login.example";
pub const HERE: &str = "wss://agents.example/arcp";
/// A token that counts wherever bearer tokens do, whatever else is asked for.
pub const PLAIN: &str = "tok-plain";

/// What a peer shows.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `auth` of its opening.
    pub auth: Value,
    /// Its certificate.
    pub identity: Option<Identity>,
    /// `client.fingerprint` of its opening.
    pub fingerprint: Option<String>,
}

impl Given {
    pub fn new(scheme: &str, token: &str) -> Given {
        Given { auth: json!({"scheme": scheme, "token": token}), ..Given::default() }
    }

    /// A scheme without anything that goes with it.
    pub fn bare(scheme: &str) -> Given {
        Given { auth: json!({"scheme": scheme}), ..Given::default() }
    }

    pub fn showing(self, identity: &Identity) -> Given {
        Given { identity: Some(identity.clone()), ..self }
    }
}

/// Everything that credentials of a server are made of.
pub struct Desk {
    pub folder: Folder,
    pub server: Pair,
    pub authority: Authority,
    pub certificates: Arc<Certificates>,
    /// The key of the issuer, which delegates too, and one that nobody trusts.
    pub keys: [KeyPair; 2],
    pub provider: Provider,
    /// The file of tokens, as each server has read it.
    tokens: Mutex<Vec<TokenFile>>,
    said: Arc<Mutex<BTreeMap<String, Value>>>,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub fn issuer() -> Issuer {
    Issuer::new(ISSUER).expect("an issuer")
}

pub fn name(text: &str) -> Principal {
    Principal::new(text).expect("a name")
}

impl Desk {
    /// One by a name that no other test has.
    pub fn new(title: &str) -> Desk {
        let server = Pair::new(&format!("{title}-server"), &["127.0.0.1"]);
        let authority = Authority::new(&format!("{title}-authority"));
        let certificates = authority.certificates(&server, None);
        let said = Arc::<Mutex<BTreeMap<String, Value>>>::default();
        let shared = said.clone();
        let provider = Provider::start(move |asked: &Asked| {
            let said = shared.lock().expect("no panic");
            let of = if asked.path == "/keys" { "keys" } else { asked.form.get("token").map_or("", String::as_str) };
            Answering::Json(200, said.get(of).cloned().unwrap_or_else(|| json!({"active": false})))
        });
        let keys = [(), ()].map(|()| KeyPair::generate().expect("a key"));
        let folder = Folder::new(&format!("{title}-desk"));
        TokenFile::add(&folder.0.join("tokens"), name("owner"), None, BTreeSet::new()).expect("a token");
        let tokens = Mutex::default();
        let desk = Desk { folder, server, authority, certificates, keys, provider, tokens, said };
        desk.trust(&desk.keys[0]);
        desk.write("delegating", &desk.keys[0].serialize_pem(), 0o600);
        desk.write("delegating-other", &desk.keys[1].serialize_pem(), 0o600);
        desk
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        // As a whole: whoever reads it again sees one or the other.
        let (new, file) = (self.file(&format!("{name}.new")), self.file(name));
        fs::write(&new, text).and_then(|()| fs::set_permissions(&new, Permissions::from_mode(mode))).expect("written");
        fs::rename(new, file).expect("renamed");
    }

    /// The issuer signs by this key from now on.
    pub fn trust(&self, key: &KeyPair) {
        self.write("public", &key.public_key_pem(), 0o644);
        let jwk = Jwk::from_encoding_key(&signing(key), Algorithm::ES256).expect("a key");
        self.says("keys", json!({"keys": [jwk]}));
    }

    /// What the provider answers about a token, or where its keys are.
    pub fn says(&self, of: &str, answer: Value) {
        self.said.lock().expect("no panic").insert(of.to_string(), answer);
    }

    /// A JWT of the issuer about alice, with some of it changed.
    pub fn jwt(&self, key: usize, changes: Value) -> String {
        let said = json!({"iss": ISSUER, "aud": HERE, "sub": "alice", "exp": now() + 600, "nbf": now() - 5});
        encode(&Header::new(Algorithm::ES256), &changed(said, changes), &signing(&self.keys[key]))
            .expect("it is signed")
    }

    /// JWTs that nobody signed, or whoever has read the public key.
    pub fn weak_jwts(&self) -> Vec<String> {
        let claims = json!({"iss": ISSUER, "aud": HERE, "sub": "alice", "exp": now() + 600});
        let part = |value: &Value| BASE64.encode(value.to_string());
        let unsigned = |alg: &str| format!("{}.{}.", part(&json!({"alg": alg, "typ": "JWT"})), part(&claims));
        let public = EncodingKey::from_secret(self.keys[0].public_key_pem().as_bytes());
        let by_public_key = encode(&Header::new(Algorithm::HS256), &claims, &public).expect("it is signed");
        let right = self.jwt(0, json!({}));
        let stripped = format!("{}.", right.rsplit_once('.').expect("three parts").0);
        vec![unsigned("none"), unsigned("NONE"), unsigned("HS256"), by_public_key, stripped]
    }

    /// What a runtime delegates to somebody.
    pub fn delegation(&self, to: &str, (key, audience): (&str, &str), until: u64) -> String {
        let lease = Json::parse(r#"{"tool.call":["search.*"]}"#).expect("JSON");
        let lease = Lease::parse(&lease).expect("a lease");
        let (audience, expires_at) = (audience.to_string(), UtcMs(until * 1000));
        let said = Delegation { principal: name(to), audience, lease, expires_at };
        let minted = DelegationKey::read(&self.file(key)).expect("a key").mint(&said, UtcMs((until - 600) * 1000));
        minted.expect("a token").expose().to_string()
    }

    /// The file of tokens for one more server.
    pub fn tokens(&self) -> TokenFile {
        let tokens = TokenFile::open(&self.file("tokens")).expect("tokens");
        self.tokens.lock().expect("no panic").push(tokens.clone());
        tokens
    }

    /// A token of a file.
    pub fn token(&self, principal: &str, lasts: Option<i64>) -> String {
        let until = lasts.map(|seconds| UtcMs(now().checked_add_signed(seconds).expect("in range") * 1000));
        let added = TokenFile::add(&self.file("tokens"), name(principal), until, BTreeSet::new()).expect("a token");
        // A server does so within a second.
        self.tokens.lock().expect("no panic").iter_mut().for_each(|tokens| drop(tokens.changed()));
        added.token.expose().to_string()
    }

    /// An access token of alice, about which the provider says this.
    pub fn access(&self, token: &str, changes: Value) -> Given {
        let said = json!({"active": true, "iss": ISSUER, "aud": [HERE], "sub": "alice", "exp": now() + 600});
        self.says(token, changed(said, changes));
        Given::new("oauth2", token)
    }

    /// Who shows a certificate of the authority, or of another one.
    pub fn identity(&self, serial: u64, change: fn(&mut CertificateParams)) -> Identity {
        self.authority.issue(serial, &[&format!("spiffe://example/{serial}")], change).0
    }
}

/// Null takes a member away.
fn changed(mut said: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        said[name] = value.clone();
    }
    said.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    said
}

pub fn signing(key: &KeyPair) -> EncodingKey {
    EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a private key")
}

/// A certificate whose time is over.
pub fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2020, 1, 1);
}

/// A certificate whose time has not begun.
pub fn early(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3000, 1, 1);
}

/// A certificate whose time is over soon.
pub fn brief(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now() + 4);
}
