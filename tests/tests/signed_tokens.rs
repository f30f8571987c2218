//! JWTs of an issuer, and delegation tokens of a runtime itself: which are valid, and what attackers send instead.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use arcp_blocking::{JobUpdate, Target};
use arcp_host::auth::{
    Authenticator, Authenticators, BearerTokens, CredentialSource as _, Delegation, DelegationKey, DelegationTokens,
    SignedJwt,
};
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::{Issuer, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::Lease;
use arcp_proto::model::request::{Credential, ListQuery};
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use arcp_proto::wire::Family;
use arcp_tests::kept::Folder;
use arcp_tests::server::{PATIENCE, Running, expect, next, send, submit};
use arcp_tests::until::until;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

const ISSUER: &str = "https://login.example";
const HERE: &str = "wss://agents.example/arcp";
/// Making one takes a while.
static RSA: LazyLock<[KeyPair; 2]> =
    LazyLock::new(|| [(), ()].map(|()| KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key")));

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What the issuer says of alice, with some of it changed; null takes it away.
fn claims(changes: Value) -> Value {
    let now = now();
    let mut claims =
        json!({"iss": ISSUER, "aud": HERE, "sub": "alice", "exp": now + 600, "nbf": now - 5, "scope": "job.submit x"});
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn signing(pair: &KeyPair, algorithm: Algorithm) -> EncodingKey {
    let pem = pair.serialize_pem();
    let read = match algorithm.family() {
        jsonwebtoken::AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem.as_bytes())),
    };
    read.expect("a private key")
}

fn signed(pair: &KeyPair, algorithm: Algorithm, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &signing(pair, algorithm)).expect("it is signed")
}

/// A token by hand: whatever header and claims, and this signature.
fn raw(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

fn write(file: &Path, text: &str, mode: u32) {
    fs::write(file, text).expect("written");
    fs::set_permissions(file, Permissions::from_mode(mode)).expect("set");
}

/// Keys in a file, and who believes them.
struct Trusting {
    folder: Folder,
    jwt: SignedJwt,
}

impl Trusting {
    fn new(name: &str, keys: &str) -> Trusting {
        let folder = Folder::new(name);
        write(&folder.0.join("keys"), keys, 0o644);
        let issuer = Issuer::new(ISSUER).expect("an issuer");
        let jwt = SignedJwt::new(issuer, HERE, &folder.0.join("keys")).expect("keys");
        Trusting { folder, jwt }
    }

    fn judge(&self, token: &str) -> Option<Verdict> {
        judged(&self.jwt, token)
    }
}

fn judged(authenticator: &impl Authenticator, token: &str) -> Option<Verdict> {
    authenticator.verify(&Credential::Bearer(Secret::new(token.to_string())))
}

#[test]
fn a_jwt_of_each_kind_of_key_names_a_principal_of_its_issuer() {
    let (p256, p384, ed) = (
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"),
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key"),
        KeyPair::generate_for(&PKCS_ED25519).expect("a key"),
    );
    let pairs = [&RSA[0], &p256, &p384, &ed];
    let trusting = Trusting::new("kinds", &pairs.map(KeyPair::public_key_pem).concat());
    let alice = Principal::issued(&Issuer::new(ISSUER).expect("an issuer"), "alice").expect("a subject");
    for (pair, algorithm) in [
        (&RSA[0], Algorithm::RS256),
        (&RSA[0], Algorithm::RS512),
        (&RSA[0], Algorithm::PS256),
        (&p256, Algorithm::ES256),
        (&p384, Algorithm::ES384),
        (&ed, Algorithm::EdDSA),
    ] {
        let claims = claims(json!({}));
        let token = signed(pair, algorithm, &claims);
        let verdict = trusting.judge(&token).unwrap_or_else(|| panic!("{algorithm:?}"));
        assert_eq!(verdict.principal, alice);
        assert_eq!(verdict.scopes.iter().collect::<Vec<_>>(), ["job.submit", "x"]);
        let exp = claims["exp"].as_u64().expect("seconds");
        assert_eq!(verdict.expires_at, Some(UtcMs((exp + 30) * 1000)), "the clocks may be 30 s apart");
        for (scheme, accepted) in [("signed_jwt", true), ("jwt", true), ("oauth2", false), ("none", false)] {
            let sent = Credential::Other { scheme: scheme.to_string(), token: Secret::new(token.clone()) };
            assert_eq!(trusting.jwt.verify(&sent).is_some(), accepted, "{scheme}");
        }
    }
}

#[test]
fn what_is_not_exactly_as_it_must_be_counts_for_nothing() {
    let [rsa, other] = &*RSA;
    let trusting = Trusting::new("attacks", &rsa.public_key_pem());
    let by = |changes: Value| signed(rsa, Algorithm::RS256, &claims(changes));
    let right = by(json!({}));
    for changes in [
        json!({}),
        json!({"exp": now() - 1}),
        json!({"nbf": now() + 5}),
        json!({"nbf": null, "scope": null}),
        json!({"aud": ["somebody", HERE]}),
    ] {
        assert!(trusting.judge(&by(changes.clone())).is_some(), "{changes}");
    }
    for changes in [
        json!({"exp": now() - 120}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"exp": -1}),
        json!({"exp": 0}),
        json!({"nbf": now() + 120}),
        json!({"nbf": "now"}),
        json!({"aud": null}),
        json!({"aud": "wss://other.example/arcp"}),
        json!({"aud": format!("{HERE}/more")}),
        json!({"aud": ["somebody"]}),
        json!({"aud": []}),
        json!({"iss": null}),
        json!({"iss": "https://login.example.evil"}),
        json!({"iss": ["https://evil.example"]}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "a".repeat(300)}),
        json!({"sub": "al\nice"}),
        json!({"scope": ["job.submit"]}),
        json!({"scope": "x".repeat(20_000)}),
    ] {
        let shown: String = changes.to_string().chars().take(80).collect();
        assert_eq!(trusting.judge(&by(changes)), None, "{shown}");
    }
    let (head, rest) = right.split_once('.').expect("three parts");
    let (body, signature) = rest.split_once('.').expect("three parts");
    let other_body = BASE64.encode(claims(json!({"sub": "root"})).to_string());
    let pem = rsa.public_key_pem();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(der).expect("base64");
    let by_public_key = [pem.trim().as_bytes().to_vec(), pem.clone().into_bytes(), der, Vec::new()].map(|secret| {
        encode(&Header::new(Algorithm::HS256), &claims(json!({})), &EncodingKey::from_secret(&secret)).expect("signed")
    });
    let mut critical = Header::new(Algorithm::RS256);
    critical.crit = Some(vec!["exp".to_string()]);
    let critical = encode(&critical, &claims(json!({})), &signing(rsa, Algorithm::RS256)).expect("it is signed");
    let none = |alg: &str| raw(&json!({"alg": alg, "typ": "JWT"}), &claims(json!({})), "");
    let attacks = [
        signed(other, Algorithm::RS256, &claims(json!({}))),
        format!("{head}.{other_body}.{signature}"),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        format!("{right}.{signature}"),
        raw(&json!({"alg": "HS256", "typ": "JWT"}), &claims(json!({})), signature),
        raw(&json!({"alg": "RS256", "typ": "JWT", "jwk": {"kty": "oct", "k": ""}}), &claims(json!({})), signature),
        critical,
        none("none"),
        none("None"),
        none("nOnE"),
        none(""),
        String::new(),
        "..".to_string(),
        "ey..".to_string(),
        "ey.ey.ey".to_string(),
        "ey\u{0}.é.💥".to_string(),
        format!("ey{}.a.b", "J".repeat(1 << 20)),
    ];
    for attack in attacks.iter().chain(&by_public_key) {
        let shown: String = attack.chars().take(120).collect();
        assert_eq!(trusting.judge(attack), None, "{shown}");
        let as_jwt = Credential::Other { scheme: "signed_jwt".to_string(), token: Secret::new(attack.clone()) };
        assert_eq!(trusting.jwt.verify(&as_jwt), None, "{shown}");
    }
    assert!(trusting.judge(&right).is_some(), "it may come again until it expires");
}

#[test]
fn a_key_is_for_the_algorithms_and_the_id_that_its_set_says() {
    let [rsa, other] = &*RSA;
    let entry = |pair: &KeyPair, changes: Value| {
        let jwk = Jwk::from_encoding_key(&signing(pair, Algorithm::RS256), Algorithm::RS256).expect("a key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        for (name, value) in changes.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        jwk
    };
    let set = |keys: Value| json!({"keys": keys}).to_string();
    let keys = set(json!([entry(rsa, json!({"kid": "one"})), entry(other, json!({"kid": "two", "alg": null}))]));
    let mut trusting = Trusting::new("set", &keys);
    let by = |pair: &KeyPair, algorithm, id: Option<&str>| {
        let header = Header { kid: id.map(str::to_string), ..Header::new(algorithm) };
        encode(&header, &claims(json!({})), &signing(pair, algorithm)).expect("it is signed")
    };
    for (pair, algorithm, id, counts) in [
        (rsa, Algorithm::RS256, Some("one"), true),
        (rsa, Algorithm::RS256, None, true),
        (rsa, Algorithm::RS256, Some("two"), false),
        (rsa, Algorithm::RS256, Some("three"), false),
        (rsa, Algorithm::RS512, Some("one"), false),
        (other, Algorithm::RS256, Some("two"), true),
        (other, Algorithm::PS384, Some("two"), true),
        (other, Algorithm::RS256, None, true),
    ] {
        assert_eq!(trusting.judge(&by(pair, algorithm, id)).is_some(), counts, "{algorithm:?} {id:?}");
    }
    // A key that is gone counts no longer, and a file that makes no sense changes nothing.
    let file = trusting.folder.0.join("keys");
    let change = |text: &str| write(&file, text, 0o644);
    change(&set(json!([entry(other, json!({"kid": "two"}))])));
    let (old, new) = (by(rsa, Algorithm::RS256, Some("one")), by(other, Algorithm::RS256, Some("two")));
    assert!(trusting.jwt.changed().is_some());
    assert_eq!([&old, &new].map(|token| trusting.judge(token).is_some()), [false, true]);
    let secret = json!([{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]);
    for bad in [
        "",
        "{}",
        "nonsense",
        r#"{"keys":[]}"#,
        &set(secret),
        &rsa.serialize_pem(),
        "-----BEGIN PUBLIC KEY-----",
        &set(json!([entry(other, json!({"use": "enc"}))])),
        "-----BEGIN X-----\nAAAA\n-----END X-----",
    ] {
        change(bad);
        assert_eq!(trusting.jwt.changed(), None, "{bad}");
        assert!(trusting.judge(&new).is_some());
        let issuer = Issuer::new(ISSUER).expect("an issuer");
        let refused = SignedJwt::new(issuer, HERE, &file).expect_err(bad).to_string();
        assert!(refused.contains("keys: ") && !refused.contains("c2VjcmV0"), "{refused}");
    }
}

fn lease(text: &str) -> Lease {
    Lease::parse(&Json::parse(text).expect("JSON")).expect("a lease")
}

fn delegation(seconds: u64) -> Delegation {
    Delegation {
        principal: Principal::new("alice").expect("a name"),
        audience: HERE.to_string(),
        lease: lease(r#"{"tool.call":["search.*"],"cost.budget":["USD:5"]}"#),
        expires_at: UtcMs((now() + seconds) * 1000),
    }
}

fn key_file(folder: &Folder, name: &str, pair: &KeyPair) -> PathBuf {
    let file = folder.0.join(name);
    write(&file, &pair.serialize_pem(), 0o600);
    file
}

#[test]
fn a_delegation_token_says_what_was_delegated_and_only_to_its_runtime() {
    let folder = Folder::new("delegation");
    let [ours, theirs] = [(), ()].map(|()| KeyPair::generate().expect("a key"));
    let read = |name: &str, pair: &KeyPair| DelegationKey::read(&key_file(&folder, name, pair)).expect("a key");
    let (key, other) = (read("ours", &ours), read("theirs", &theirs));
    let now = UtcMs(now() * 1000);
    let said = delegation(600);
    let token = key.mint(&said, now).expect("a token");
    assert!(!format!("{key:?} {token:?}").contains(token.expose()));
    let runtime = DelegationTokens::new(read("ours", &ours), HERE);
    let verdict = judged(&runtime, token.expose()).expect("it counts");
    assert_eq!((verdict.principal, verdict.expires_at), (said.principal.clone(), Some(said.expires_at)));
    let ceiling = verdict.ceiling.expect("bounds");
    assert_eq!((&ceiling.lease, ceiling.expires_at), (&said.lease, Some(said.expires_at)));

    assert_eq!(judged(&DelegationTokens::new(read("ours", &ours), "wss://other.example"), token.expose()), None);
    assert_eq!(judged(&DelegationTokens::new(other, HERE), token.expose()), None);
    // Neither is a JWT of an issuer one, nor the other way round, not even by the same key.
    write(&folder.0.join("public"), &ours.public_key_pem(), 0o644);
    let issuer = Issuer::new(HERE).expect("an issuer");
    let jwt = SignedJwt::new(issuer, HERE, &folder.0.join("public")).expect("keys");
    assert_eq!(judged(&jwt, token.expose()), None);
    let own = claims(json!({"iss": HERE, "iat": 1, "jti": "1", "lease": {}}));
    let alike = signed(&ours, Algorithm::ES256, &own);
    assert!(judged(&jwt, &alike).is_some());
    assert_eq!(judged(&runtime, &alike), None);
    // Signed by the key and yet not what the runtime issues.
    let header = Header { typ: Some("arcp-delegation+jwt".to_string()), ..Header::new(Algorithm::ES256) };
    let by = |claims: &Value| encode(&header, claims, &signing(&ours, Algorithm::ES256)).expect("it is signed");
    assert!(judged(&runtime, &by(&own)).is_some());
    for (name, value) in [
        ("lease", Value::Null),
        ("lease", json!({"fs.read": ["relative"]})),
        ("aud", json!([HERE])),
        ("iss", json!("https://login.example")),
        ("exp", json!(now.0 / 1000 - 2)),
        ("exp", Value::Null),
        ("sub", json!("")),
        ("sub", json!("anonymous-01ARZ3NDEKTSV4RRFFQ69G5FAV")),
    ] {
        let mut claims = own.clone();
        claims[name] = value.clone();
        assert_eq!(judged(&runtime, &by(&claims)), None, "{name}: {value}");
    }
    assert!(key.mint(&Delegation { expires_at: now, ..said.clone() }, now).is_err());
    assert!(key.mint(&Delegation { audience: String::new(), ..said }, now).is_err());
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    let folder = Folder::new("exposed");
    let file = key_file(&folder, "key", &KeyPair::generate().expect("a key"));
    for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("set");
        assert_eq!(DelegationKey::read(&file).is_ok(), used, "{mode:o}");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    for bad in [String::new(), "nonsense".to_string(), RSA[0].serialize_pem(), RSA[0].public_key_pem()] {
        fs::write(&file, bad).expect("written");
        let refused = DelegationKey::read(&file).expect_err("no key").to_string();
        assert!(refused.contains("`arcp token key` makes one"), "{refused}");
    }
}

/// A server that takes JWTs of the issuer and delegation tokens.
fn server(folder: &Folder, delegating: &KeyPair) -> (Running, DelegationKey) {
    server_on(Box::<MemoryStore>::default(), folder, delegating)
}

/// The same with a store, and a bearer token of alice that has no bounds.
fn server_on(store: Box<dyn Store>, folder: &Folder, delegating: &KeyPair) -> (Running, DelegationKey) {
    write(&folder.0.join("public"), &RSA[0].public_key_pem(), 0o644);
    let issuer = Issuer::new(ISSUER).expect("an issuer");
    let jwt = SignedJwt::new(issuer, HERE, &folder.0.join("public")).expect("keys");
    let key = || DelegationKey::read(&key_file(folder, "key", delegating)).expect("a key");
    let mut tokens = BearerTokens::default();
    tokens.add(&Secret::new("wide".to_string()), Principal::new("alice").expect("a name"));
    let judges = Authenticators::default().with(tokens).with(jwt).with(DelegationTokens::new(key(), HERE));
    let host = Running::host(store, &[], |_| {});
    (Running::serve(host.with_authenticator(judges)), key())
}

#[test]
fn a_jwt_opens_a_session_as_bearer_and_as_signed_jwt_and_a_wrong_one_none() {
    let folder = Folder::new("jwt-sockets");
    let (server, _) = server(&folder, &KeyPair::generate().expect("a key"));
    let right = signed(&RSA[0], Algorithm::RS256, &claims(json!({})));
    let wrong = signed(&RSA[1], Algorithm::RS256, &claims(json!({})));
    for scheme in ["bearer", "signed_jwt"] {
        for (kind, opened, refused) in [
            ("session.hello", "session.welcome", "session.error"),
            ("session.open", "session.accepted", "session.rejected"),
        ] {
            for (token, answer) in [(&right, opened), (&wrong, refused)] {
                let mut socket = server.websocket();
                let client = json!({"name": "c", "kind": "c", "version": "1"});
                send(&mut socket, "1", kind, json!({"auth": {"scheme": scheme, "token": token}, "client": client}));
                let answered = expect(&mut socket, answer);
                if answer == refused {
                    assert!(answered.to_string().contains("UNAUTHENTICATED"), "{answered}");
                }
            }
        }
    }
}

#[test]
fn what_is_done_by_a_delegation_token_stays_within_it_and_ends_with_it() {
    let folder = Folder::new("delegated-sockets");
    let (server, key) = server(&folder, &KeyPair::generate().expect("a key"));
    let open = |token: &Secret| {
        let mut socket = server.websocket();
        let features = ["cost.budget", "lease_expires_at"];
        let payload = json!({
            "auth": {"scheme": "bearer", "token": token.expose()},
            "client": {"name": "c", "version": "1"},
            "capabilities": {"features": features},
        });
        send(&mut socket, "1", "session.hello", payload);
        expect(&mut socket, "session.welcome");
        socket
    };
    let token = key.mint(&delegation(600), UtcMs(now() * 1000)).expect("a token");
    // It may be used again, for as much each time.
    for _ in 0..2 {
        let mut socket = open(&token);
        let asked = json!({"tool.call": ["**"], "fs.write": ["/**"], "cost.budget": ["USD:100"]});
        send(&mut socket, "2", "job.submit", json!({"agent": "echo", "lease_request": asked}));
        let accepted = expect(&mut socket, "job.accepted");
        let granted = accepted["payload"]["lease"].clone();
        assert_eq!(granted, json!({"tool.call": ["search.*"], "cost.budget": ["USD:5"]}), "{accepted}");
    }
    let short = key.mint(&delegation(2), UtcMs(now() * 1000)).expect("a token");
    let mut socket = open(&short);
    let ended = expect(&mut socket, "session.error");
    assert_eq!(ended["payload"]["code"], "LEASE_EXPIRED", "{ended}");
}

#[test]
fn what_was_delegated_bounds_a_session_over_a_restart_whoever_takes_it_up() {
    let (folder, pair) = (Folder::new("delegated-restart"), KeyPair::generate().expect("a key"));
    let store = || Box::new(SqliteStore::open(&folder.0.join("store"), Durability::Normal).expect("a store"));
    let open = |server: &Running, token: &str, resume: &Value| {
        let mut socket = server.websocket();
        let mut payload = json!({
            "auth": {"scheme": "bearer", "token": token},
            "client": {"name": "c", "version": "1"},
            "capabilities": {"features": ["cost.budget", "lease_expires_at"]},
        });
        if !resume.is_null() {
            payload["resume"] = json!({"session_id": resume["payload"]["session_id"],
                "resume_token": resume["payload"]["resume_token"], "last_event_seq": 0});
        }
        send(&mut socket, "1", "session.hello", payload);
        let welcome = expect(&mut socket, "session.welcome");
        (socket, welcome)
    };
    let (server, key) = server_on(store(), &folder, &pair);
    let token = key.mint(&delegation(600), UtcMs(now() * 1000)).expect("a token");
    let (socket, welcome) = open(&server, token.expose(), &Value::Null);
    drop(socket);
    drop(server);
    let (server, _) = server_on(store(), &folder, &pair);
    let asked = json!({"tool.call": ["**"], "fs.write": ["/**"]});
    for (resume, granted) in [(&Value::Null, &asked), (&welcome, &json!({"tool.call": ["search.*"]}))] {
        let (mut socket, back) = open(&server, "wide", resume);
        if !resume.is_null() {
            assert_eq!(back["payload"]["session_id"], welcome["payload"]["session_id"], "it is the same one");
        }
        send(&mut socket, "2", "job.submit", json!({"agent": "echo", "lease_request": asked}));
        let mut lease = expect(&mut socket, "job.accepted")["payload"]["lease"].clone();
        lease.as_object_mut().expect("an object").remove("cost.budget");
        assert_eq!(&lease, granted);
    }
}

#[test]
fn a_session_ends_thirty_seconds_after_its_jwt_unless_a_newer_one_came() {
    let folder = Folder::new("jwt-ends");
    let (server, _) = server(&folder, &KeyPair::generate().expect("a key"));
    let by = |exp: u64| signed(&RSA[0], Algorithm::RS256, &claims(json!({"exp": exp})));
    let exp = now() - 15;
    let open = |token: &str| {
        let mut socket = server.websocket();
        let auth = json!({"scheme": "signed_jwt", "token": token});
        send(&mut socket, "1", "session.open", json!({"auth": auth, "client": {"kind": "c", "version": "1"}}));
        let accepted = expect(&mut socket, "session.accepted");
        (socket, accepted["payload"]["lease"]["expires_at"].clone())
    };
    let old = by(exp);
    let ((mut kept, until), (mut left, _)) = (open(&old), open(&old));
    assert_eq!(until, json!(UtcMs((exp + 30) * 1000).to_string()));
    // One that is no better does not help, and somebody else's is none.
    let of_bob = signed(&RSA[0], Algorithm::RS256, &claims(json!({"sub": "bob"})));
    send(&mut kept, "2", "session.authenticate", json!({"token": of_bob}));
    assert_eq!(expect(&mut kept, "session.unauthenticated")["payload"]["code"], "UNAUTHENTICATED");
    let newer = now() + 600;
    send(&mut kept, "3", "session.authenticate", json!({"token": by(newer)}));
    let done = expect(&mut kept, "ack")["payload"]["detail"].to_string();
    assert!(done.contains(&UtcMs((newer + 30) * 1000).to_string()), "{done}");
    expect(&mut left, "session.refresh");
    let ended = expect(&mut left, "session.evicted");
    assert_eq!(ended["payload"]["code"], "LEASE_EXPIRED", "{ended}");
    assert!(now() >= exp + 30);
    send(&mut kept, "4", "ping", json!({"nonce": "n"}));
    assert_eq!(expect(&mut kept, "pong")["payload"]["nonce"], "n");
}

#[test]
fn a_lease_in_a_jwt_bounds_what_jobs_are_granted_by_it() {
    let folder = Folder::new("jwt-lease");
    let (server, _) = server(&folder, &KeyPair::generate().expect("a key"));
    let by = |lease: Value| signed(&RSA[0], Algorithm::RS256, &claims(json!({"arcp_lease": lease})));
    let mut socket = server.websocket();
    let token = by(json!({"tool.call": ["search.*"]}));
    let auth = json!({"scheme": "bearer", "token": token});
    send(&mut socket, "1", "session.hello", json!({"auth": auth, "client": {"name": "c", "version": "1"}}));
    expect(&mut socket, "session.welcome");
    let asked = json!({"tool.call": ["**"], "fs.write": ["/**"]});
    send(&mut socket, "2", "job.submit", json!({"agent": "echo", "lease_request": asked}));
    assert_eq!(expect(&mut socket, "job.accepted")["payload"]["lease"], json!({"tool.call": ["search.*"]}));
    let trusting = Trusting::new("jwt-lease-claim", &RSA[0].public_key_pem());
    let verdict = trusting.judge(&token).expect("it counts");
    let ceiling = verdict.ceiling.expect("bounds");
    assert_eq!((&ceiling.lease, ceiling.expires_at), (&lease(r#"{"tool.call":["search.*"]}"#), verdict.expires_at));
    for wrong in [json!("all"), json!(7), json!([]), json!({"fs.read": ["relative"]}), json!({"tool.call": "x"})] {
        assert_eq!(trusting.judge(&by(wrong.clone())), None, "{wrong}");
    }
    let null = signed(&RSA[0], Algorithm::RS256, &{
        let mut claims = claims(json!({}));
        claims["arcp_lease"] = Value::Null;
        claims
    });
    assert_eq!(trusting.judge(&null), None, "what bounds nothing is no bound");
}

#[test]
fn a_session_agrees_to_no_more_than_the_capabilities_of_its_jwt_in_either_family() {
    let folder = Folder::new("jwt-capabilities");
    let (server, _) = server(&folder, &KeyPair::generate().expect("a key"));
    let by = |names: Value| signed(&RSA[0], Algorithm::RS256, &claims(json!({"arcp_capabilities": names})));
    let listing = by(json!(["list_jobs", "ack", "x-vendor.arcp.cancel_anywhere", "of another program"]));
    let offered =
        json!({"features": ["ack", "list_jobs", "subscribe", "cost.budget", "x-vendor.arcp.cancel_anywhere"]});
    let hello = |token: &str, resume: &Value| {
        let auth = json!({"scheme": "bearer", "token": token});
        let mut payload = json!({"auth": auth, "client": {"name": "c", "version": "1"}, "capabilities": offered});
        if !resume.is_null() {
            payload["resume"] = json!({"session_id": resume["payload"]["session_id"],
                "resume_token": resume["payload"]["resume_token"], "last_event_seq": 0});
        }
        let mut socket = server.websocket();
        send(&mut socket, "1", "session.hello", payload);
        let answer = next(&mut socket).expect("an answer");
        (socket, answer)
    };
    let (mut socket, welcome) = hello(&listing, &Value::Null);
    let agreed = json!(["ack", "list_jobs", "x-vendor.arcp.cancel_anywhere"]);
    assert_eq!(welcome["payload"]["capabilities"]["features"], agreed, "{welcome}");
    send(&mut socket, "2", "session.list_jobs", json!({}));
    expect(&mut socket, "session.jobs");
    send(&mut socket, "3", "job.submit", json!({"agent": "echo", "lease_request": {"cost.budget": ["USD:1"]}}));
    let refused = expect(&mut socket, "session.error");
    assert!(refused["payload"]["message"].as_str().is_some_and(|why| why.contains("cost.budget")), "{refused}");
    drop(socket);
    // Nobody comes back by a credential that allows less, and by one that allows more to no more.
    let (_, refused) = hello(&by(json!(["ack"])), &welcome);
    assert_eq!(refused["payload"]["code"], "PERMISSION_DENIED", "{refused}");
    assert!(refused["payload"]["message"].as_str().is_some_and(|why| why.contains("list_jobs")), "{refused}");
    let (_, back) = hello(&by(json!(["ack", "list_jobs", "cancel_anywhere", "subscribe"])), &welcome);
    assert_eq!(back["payload"]["capabilities"]["features"], agreed, "{back}");

    let mut socket = server.websocket();
    let auth = json!({"scheme": "signed_jwt", "token": listing});
    let payload = json!({"auth": auth, "client": {"kind": "c", "version": "1"},
        "capabilities": {"cost_budget": true, "artifacts": true}});
    send(&mut socket, "1", "session.open", payload);
    let accepted = expect(&mut socket, "session.accepted");
    let agreed = &accepted["payload"]["capabilities"];
    assert!(agreed["cost_budget"] != true && agreed["artifacts"] != true, "{accepted}");
    let watch_is_refused = |socket: &mut _, id: &str| {
        send(socket, id, "job.subscribe", json!({"job_id": "job_none"}));
        let refused = expect(socket, "nack");
        assert!(refused["payload"]["message"].as_str().is_some_and(|why| why.contains("subscribe")), "{refused}");
    };
    watch_is_refused(&mut socket, "2");
    // A refresh keeps what was agreed on, or is none.
    let more = by(json!(["list_jobs", "ack", "subscribe", "cancel_anywhere"]));
    for (id, token, counts) in [("3", &more, true), ("4", &by(json!([])), false), ("5", &listing, true)] {
        send(&mut socket, id, "session.authenticate", json!({"token": token}));
        expect(&mut socket, if counts { "ack" } else { "session.unauthenticated" });
        watch_is_refused(&mut socket, &format!("{id}w"));
    }
    let trusting = Trusting::new("jwt-capabilities-claim", &RSA[0].public_key_pem());
    for wrong in [json!("all"), json!(7), json!({}), json!([7]), json!([null])] {
        assert_eq!(trusting.judge(&by(wrong.clone())), None, "{wrong}");
    }
    let mut null = claims(json!({}));
    null["arcp_capabilities"] = Value::Null;
    assert_eq!(trusting.judge(&signed(&RSA[0], Algorithm::RS256, &null)), None, "what bounds nothing is no bound");
}

#[test]
fn a_client_of_either_adapter_renews_its_session_before_its_credential_expires() {
    let folder = Folder::new("jwt-renewed");
    let (server, _) = server(&folder, &KeyPair::generate().expect("a key"));
    let by = |exp: u64| {
        let token = signed(&RSA[0], Algorithm::RS256, &claims(json!({"exp": exp})));
        Credential::Bearer(Secret::new(token))
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for family in [Family::Hello, Family::Open] {
        // Each counts for thirty seconds more.
        let exp = now() - 27;
        let config = |name: &str| ClientConfig { family, ..ClientConfig::new(name, "1", by(exp)) };
        let target = || server.url().parse::<Target>().expect("a URL");
        let blocking = arcp_blocking::Client::connect(target(), config("blocking")).expect("a session");
        let job = blocking.submit(submit("slow", r#"{"ms":5000}"#)).expect("accepted");
        blocking.renew(by(now() + 600)).expect("it is there");
        tokio.block_on(async {
            let client = arcp_tokio_adapter::Client::connect(target(), config("tokio")).await.expect("a session");
            client.renew(by(now() + 600)).await.expect("it is there");
            let expired = move || until("the first has expired", || (now() > exp + 31).then_some(()));
            tokio::task::spawn_blocking(expired).await.expect("it came");
            client.list(ListQuery::default()).await.expect("its session goes on");
            client.close().await;
        });
        // What happened meanwhile is told, and the session is the same one.
        let mut ended = false;
        while !ended {
            match job.next_update_in(PATIENCE).expect("in time") {
                JobUpdate::Ended { .. } => ended = true,
                JobUpdate::Reconnected { resumed } => assert!(resumed, "{family:?}"),
                JobUpdate::Event { .. } | JobUpdate::Reconnecting { .. } => {}
                JobUpdate::Missed { .. } | JobUpdate::Gone(_) | JobUpdate::Lost(_) => panic!("{family:?}: it is lost"),
            }
        }
    }
}
