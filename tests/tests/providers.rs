//! Identity providers that a runtime asks for keys and about tokens. Many are slow, wrong or unreachable.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arcp_host::auth::{
    Authenticator, Authenticators, BearerTokens, CheckTimes, Endpoint, Introspection, KeyTimes, OAuth2, ProviderClient,
    SignedJwt,
};
use arcp_host::store::MemoryStore;
use arcp_proto::id::{Issuer, Principal};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use arcp_tests::kept::Folder;
use arcp_tests::provider::{Answering, Asked, Provider};
use arcp_tests::server::{Running, expect, next, send};
use arcp_tests::until::until;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

const ISSUER: &str = "https://login.example";
const HERE: &str = "wss://agents.example/arcp";
/// What nobody in a test waits for.
const LONG: Duration = Duration::from_secs(3600);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn issuer() -> Issuer {
    Issuer::new(ISSUER).expect("an issuer")
}

fn of(subject: &str) -> Option<Principal> {
    Principal::issued(&issuer(), subject)
}

/// A key of the issuer, with its name.
struct Key {
    id: &'static str,
    signing: EncodingKey,
}

impl Key {
    fn new(id: &'static str) -> Key {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        Key { id, signing: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key") }
    }

    fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.signing, Algorithm::ES256).expect("a key");
        jwk.common.key_id = Some(self.id.to_string());
        serde_json::to_value(jwk).expect("JSON")
    }

    /// A token of alice, with some of it changed.
    fn token(&self, changes: Value) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": HERE, "sub": "alice", "exp": now() + 600, "scope": "agents"});
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(self.id.to_string()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &self.signing).expect("it is signed")
    }
}

/// A provider whose answer changes.
fn changing(first: Answering) -> (Provider, Arc<Mutex<Answering>>) {
    let said = Arc::new(Mutex::new(first));
    let shared = said.clone();
    (Provider::start(move |_| shared.lock().expect("no panic").clone()), said)
}

fn set(said: &Mutex<Answering>, answer: Answering) {
    *said.lock().expect("no panic") = answer;
}

fn keys(keys: &[&Key]) -> Answering {
    Answering::Json(200, json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}))
}

fn signed(provider: &Provider, times: KeyTimes) -> SignedJwt {
    let endpoint = Endpoint::new(&provider.url("/keys")).expect("an address");
    SignedJwt::with_keys_at(issuer(), HERE, endpoint, times)
}

fn whose(judge: &impl Authenticator, token: &str) -> Option<Principal> {
    judge.verify(&Credential::Bearer(Secret::new(token.to_string()))).map(|verdict| verdict.principal)
}

/// What providers answer that makes no sense.
fn nonsense() -> Vec<Answering> {
    vec![
        Answering::Json(500, json!({"keys": []})),
        Answering::Json(404, json!({})),
        Answering::Json(200, json!([])),
        Answering::Json(200, json!({"keys": []})),
        Answering::Text("<html>sign in</html>".to_string()),
        Answering::Text(String::new()),
        Answering::Redirect("http://127.0.0.1:1/keys".to_string()),
        Answering::Endless(64 << 20),
        Answering::Json(200, json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})),
    ]
}

#[test]
fn keys_at_an_address_are_read_once_and_again_for_a_key_that_is_not_there() {
    let (first, second) = (Key::new("1"), Key::new("2"));
    let (provider, said) = changing(keys(&[&first]));
    let again = Duration::from_millis(50);
    let jwt = signed(&provider, KeyTimes { again, ..KeyTimes::default() });
    assert!(!jwt.is_instant(), "whoever asks a provider does not do so on the loop");
    assert_eq!(provider.asked(), 0, "nobody is asked before the first token comes");
    for _ in 0..3 {
        assert_eq!(whose(&jwt, &first.token(json!({}))), of("alice"));
    }
    assert_eq!(provider.asked(), 1);
    set(&said, keys(&[&second]));
    until("the next reading", || whose(&jwt, &second.token(json!({}))).map(|_| ()));
    assert_eq!(provider.asked(), 2);
    assert_eq!(whose(&jwt, &first.token(json!({}))), None, "a key that is gone counts no more");
    for (changes, why) in [
        (json!({"iss": "https://other.example"}), "another issuer"),
        (json!({"aud": "another"}), "another runtime"),
        (json!({"exp": now() - 60}), "over"),
        (json!({"nbf": now() + 60}), "not yet"),
    ] {
        assert_eq!(whose(&jwt, &second.token(changes)), None, "{why}");
    }
}

#[test]
fn tokens_that_name_unknown_keys_have_the_provider_asked_no_more_often_for_it() {
    let known = Key::new("1");
    let (provider, _) = changing(keys(&[&known]));
    let jwt = signed(&provider, KeyTimes { again: LONG, ..KeyTimes::default() });
    assert_eq!(whose(&jwt, &known.token(json!({}))), of("alice"));
    for id in ["2", "3", "4", "5"] {
        assert_eq!(whose(&jwt, &Key::new(id).token(json!({}))), None);
    }
    assert_eq!((provider.asked(), whose(&jwt, &known.token(json!({})))), (1, of("alice")));
}

#[test]
fn known_keys_go_on_counting_while_the_provider_makes_no_sense_and_no_longer_than_is_said() {
    let key = Key::new("1");
    for answer in nonsense() {
        let (provider, said) = changing(keys(&[&key]));
        let times = KeyTimes { fresh: Duration::ZERO, usable: LONG, again: Duration::ZERO };
        let jwt = signed(&provider, times);
        assert_eq!(whose(&jwt, &key.token(json!({}))), of("alice"));
        set(&said, answer.clone());
        assert_eq!(whose(&jwt, &key.token(json!({}))), of("alice"), "{answer:?}");
        assert_eq!(provider.asked(), 2, "{answer:?}");
        assert_eq!(whose(&signed(&provider, times), &key.token(json!({}))), None, "nobody had read them: {answer:?}");
        set(&said, keys(&[&key]));
        assert_eq!(whose(&jwt, &key.token(json!({}))), of("alice"));
    }
    let (provider, said) = changing(keys(&[&key]));
    let old = Duration::from_secs(1);
    let jwt = signed(&provider, KeyTimes { fresh: Duration::ZERO, usable: old, again: Duration::ZERO });
    assert_eq!(whose(&jwt, &key.token(json!({}))), of("alice"));
    set(&said, Answering::Json(503, json!({})));
    until("the keys are too old", || whose(&jwt, &key.token(json!({}))).is_none().then_some(()));
}

#[test]
fn a_provider_that_never_answers_is_waited_for_once_and_not_for_ever() {
    let key = Key::new("1");
    let (provider, _said) = changing(Answering::Never);
    let jwt = signed(&provider, KeyTimes { again: LONG, ..KeyTimes::default() });
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let (jwt, token) = (jwt.clone(), key.token(json!({})));
            std::thread::spawn(move || whose(&jwt, &token))
        })
        .collect();
    assert!(asked.into_iter().all(|judged| judged.join().expect("no panic").is_none()));
    assert_eq!(provider.asked(), 1);
}

#[test]
fn keys_of_kinds_that_are_not_known_hide_no_others() {
    let key = Key::new("1");
    let odd = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "9", "pub": "AA"});
    let (provider, _) = changing(Answering::Json(200, json!({"keys": [odd, 7, key.public()]})));
    assert_eq!(whose(&signed(&provider, KeyTimes::default()), &key.token(json!({}))), of("alice"));
}

#[test]
fn a_token_that_is_bound_to_a_certificate_counts_with_that_alone() {
    let key = Key::new("1");
    let (provider, _) = changing(keys(&[&key]));
    let jwt = signed(&provider, KeyTimes::default());
    let judged = |cnf: Value| {
        let token = Secret::new(key.token(json!({"cnf": cnf})));
        jwt.verify(&Credential::Other { scheme: "signed_jwt".into(), token })
    };
    let digest = "A".repeat(43);
    let bound = judged(json!({"x5t#S256": digest})).expect("it counts");
    assert_eq!(bound.binding, Some(format!("sha256:{}", "00".repeat(32))));
    for other in [
        json!({"jkt": digest}),
        json!({"x5t#S256": digest, "jkt": digest}),
        json!({"x5t#S256": "AAAA"}),
        json!({}),
        json!("x"),
    ] {
        assert_eq!(judged(other.clone()), None, "{other}");
    }
}

/// What a provider says of alice's token, with some of it changed; null takes it away.
fn said_of(changes: Value) -> Value {
    let mut said = json!({"active": true, "iss": ISSUER, "aud": [HERE, "others"], "sub": "alice",
        "exp": now() + 600, "scope": "agents jobs", "token_type": "Bearer", "client_id": "c"});
    for (name, value) in changes.as_object().expect("an object") {
        said[name] = value.clone();
    }
    said.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    said
}

fn client() -> ProviderClient {
    ProviderClient { id: "runtime".into(), secret: Secret::new("s3cret".into()) }
}

fn introspected(provider: &Provider, times: CheckTimes) -> OAuth2 {
    let endpoint = Endpoint::new(&provider.url("/introspect")).expect("an address");
    OAuth2::introspected(Introspection::new(endpoint, client(), (issuer(), HERE), times))
}

fn judged(judge: &OAuth2, token: &str) -> Option<Verdict> {
    judge.verify(&Credential::Other { scheme: "oauth2".into(), token: Secret::new(token.to_string()) })
}

#[test]
fn what_a_provider_says_of_a_token_is_who_has_it_and_how_far_it_goes() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let exp = now() + 600;
    let provider = Provider::start(move |request: &Asked| {
        seen.lock().expect("no panic").push(request.clone());
        let lease = json!({"tool.call": ["search.*"]});
        Answering::Json(200, said_of(json!({"exp": exp, "arcp_lease": lease})))
    });
    let judge = introspected(&provider, CheckTimes::default());
    assert!(!judge.is_instant());
    let verdict = judged(&judge, "t0p").expect("it counts");
    assert_eq!((Some(&verdict.principal), verdict.expires_at), (of("alice").as_ref(), Some(UtcMs(exp * 1000))));
    assert_eq!(verdict.scopes.iter().collect::<Vec<_>>(), ["agents", "jobs"]);
    assert!(verdict.ceiling.is_some());
    let first = asked.lock().expect("no panic")[0].clone();
    assert_eq!((first.method.as_str(), first.form["token"].as_str()), ("POST", "t0p"));
    // base64 of runtime:s3cret
    assert_eq!(first.authorization.as_deref(), Some("Basic cnVudGltZTpzM2NyZXQ="));
    // The answer counts for a while, for this token alone.
    assert_eq!((judged(&judge, "t0p").is_some(), provider.asked()), (true, 1));
    assert_eq!((whose(&judge, "t1p"), provider.asked()), (of("alice"), 2));
    // What the runtime made itself, and what is no access token, the provider never sees.
    for (scheme, token) in [("bearer", "arcp_0123"), ("signed_jwt", "t"), ("none", "t"), ("oauth2", "")] {
        let token = Secret::new(token.to_string());
        let sent = match scheme {
            "bearer" => Credential::Bearer(token),
            other => Credential::Other { scheme: other.into(), token },
        };
        assert_eq!((judge.verify(&sent), provider.asked()), (None, 2), "{scheme}");
    }
    let strict = introspected(&provider, CheckTimes::default()).with_scopes(["jobs", "admin"].into_iter().collect());
    assert_eq!(judged(&strict, "t0p"), None, "a scope is missing");
}

#[test]
fn a_token_counts_for_nothing_unless_the_provider_says_all_that_it_must() {
    for (changes, why) in [
        (json!({"active": false}), "not active"),
        (json!({"active": null}), "not said to be active"),
        (json!({"active": "true"}), "not a truth value"),
        (json!({"iss": "https://other.example"}), "another issuer"),
        (json!({"aud": "another"}), "another runtime"),
        (json!({"aud": ["another"]}), "another runtime"),
        (json!({"aud": null}), "for nobody"),
        (json!({"aud": 7}), "nonsense"),
        (json!({"sub": null}), "of nobody"),
        (json!({"exp": now() - 1}), "over"),
        (json!({"nbf": now() + 60}), "not yet"),
        (json!({"token_type": "DPoP"}), "another proof"),
        (json!({"cnf": {"jkt": "x"}}), "another proof"),
        (json!({"arcp_lease": "all"}), "a lease that is none"),
    ] {
        let (provider, _) = changing(Answering::Json(200, said_of(changes)));
        assert_eq!(judged(&introspected(&provider, CheckTimes::default()), "t0p"), None, "{why}");
    }
    for (changes, why) in
        [(json!({"iss": null}), "RFC 7662 has it optional"), (json!({"token_type": "bearer"}), "case")]
    {
        let (provider, _) = changing(Answering::Json(200, said_of(changes)));
        assert!(judged(&introspected(&provider, CheckTimes::default()), "t0p").is_some(), "{why}");
    }
    let (provider, _) = changing(Answering::Json(200, said_of(json!({"exp": null}))));
    let day = judged(&introspected(&provider, CheckTimes::default()), "t0p").expect("it counts").expires_at;
    let (from, to) = (UtcMs((now() + 86_300) * 1000), UtcMs((now() + 86_500) * 1000));
    assert!(day.is_some_and(|at| from < at && at < to), "one that names no end counts for a day: {day:?}");
    for answer in nonsense() {
        let (provider, _) = changing(answer.clone());
        assert_eq!(judged(&introspected(&provider, CheckTimes::default()), "t0p"), None, "{answer:?}");
    }
}

#[test]
fn while_a_provider_is_silent_what_it_said_goes_on_counting_for_a_while() {
    let (provider, said) = changing(Answering::Json(200, said_of(json!({}))));
    let silence = Duration::from_millis(200);
    let judge = introspected(&provider, CheckTimes { every: Duration::ZERO, silence });
    assert!(judged(&judge, "t0p").is_some());
    let answered = Instant::now();
    set(&said, Answering::Json(500, json!({})));
    let counted = judged(&judge, "t0p").is_some();
    assert!(counted || answered.elapsed() >= silence);
    assert_eq!(judged(&judge, "t1p"), None, "nobody new comes in");
    until("it is silent for too long", || judged(&judge, "t0p").is_none().then_some(()));
    set(&said, Answering::Json(200, said_of(json!({}))));
    assert!(judged(&judge, "t0p").is_some());
}

/// A server whose clients have access tokens, beside a bearer token `tok`.
fn server(provider: &Provider, times: CheckTimes) -> Running {
    let judge = introspected(provider, times);
    let mut tokens = BearerTokens::default();
    tokens.add(&Secret::new("tok".into()), Principal::new("local").expect("a name"));
    let host = Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    Running::serve(
        host.with_credentials_from(judge.clone())
            .with_authenticator(Authenticators::default().with(tokens).with(judge)),
    )
}

#[test]
fn a_session_by_an_access_token_goes_when_that_is_revoked_and_others_stay() {
    let revoked = Arc::new(Mutex::new(None::<String>));
    let shared = revoked.clone();
    let provider = Provider::start(move |request: &Asked| {
        let token = request.form["token"].clone();
        if shared.lock().expect("no panic").as_ref() == Some(&token) {
            return Answering::Json(200, json!({"active": false}));
        }
        Answering::Json(200, said_of(json!({"sub": token})))
    });
    let server = server(&provider, CheckTimes { every: Duration::from_millis(100), ..CheckTimes::default() });
    let open = |token: &str| {
        let mut socket = server.websocket();
        let auth = json!({"scheme": "oauth2", "token": token});
        send(&mut socket, "1", "session.open", json!({"auth": auth, "client": {"kind": "c", "version": "1"}}));
        expect(&mut socket, "session.accepted");
        socket
    };
    let (mut alice, mut bob) = (open("alice"), open("bob"));
    *revoked.lock().expect("no panic") = Some("alice".to_string());
    let ended = expect(&mut alice, "session.evicted");
    assert_eq!(ended["payload"]["code"], "UNAUTHENTICATED", "{ended}");
    send(&mut bob, "2", "ping", json!({"nonce": "n"}));
    assert_eq!(expect(&mut bob, "pong")["payload"]["nonce"], "n");
    // Hello clients have one scheme word for it or the other.
    for scheme in ["oauth2", "bearer"] {
        let mut socket = server.websocket();
        let auth = json!({"scheme": scheme, "token": "bob"});
        send(&mut socket, "1", "session.hello", json!({"auth": auth, "client": {"name": "c", "version": "1"}}));
        expect(&mut socket, "session.welcome");
        let mut socket = server.websocket();
        let auth = json!({"scheme": scheme, "token": "alice"});
        send(&mut socket, "1", "session.hello", json!({"auth": auth, "client": {"name": "c", "version": "1"}}));
        assert_eq!(expect(&mut socket, "session.error")["payload"]["code"], "UNAUTHENTICATED");
    }
}

#[test]
fn a_session_goes_when_its_provider_was_silent_for_too_long() {
    let (provider, said) = changing(Answering::Json(200, said_of(json!({}))));
    let (every, silence) = (Duration::from_millis(50), Duration::from_millis(500));
    let server = server(&provider, CheckTimes { every, silence });
    let mut socket = server.websocket();
    let auth = json!({"scheme": "oauth2", "token": "t0p"});
    send(&mut socket, "1", "session.open", json!({"auth": auth, "client": {"kind": "c", "version": "1"}}));
    expect(&mut socket, "session.accepted");
    set(&said, Answering::Json(503, json!({})));
    assert_eq!(expect(&mut socket, "session.evicted")["payload"]["code"], "UNAUTHENTICATED");
}

#[test]
fn a_session_ends_with_its_access_token_unless_a_newer_one_came() {
    let ends = [("short", now() + 6), ("long", now() + 600)];
    let provider = Provider::start(move |request: &Asked| {
        let named = ends.iter().find(|(name, _)| request.form["token"] == *name);
        Answering::Json(200, named.map_or(json!({"active": false}), |(_, exp)| said_of(json!({"exp": exp}))))
    });
    let server = server(&provider, CheckTimes::default());
    let open = || {
        let mut socket = server.websocket();
        let auth = json!({"scheme": "oauth2", "token": "short"});
        send(&mut socket, "1", "session.open", json!({"auth": auth, "client": {"kind": "c", "version": "1"}}));
        expect(&mut socket, "session.accepted");
        socket
    };
    let (mut kept, mut left) = (open(), open());
    send(&mut kept, "2", "session.authenticate", json!({"token": "wrong"}));
    assert_eq!(expect(&mut kept, "session.unauthenticated")["payload"]["code"], "UNAUTHENTICATED");
    send(&mut kept, "3", "session.authenticate", json!({"token": "long"}));
    expect(&mut kept, "ack");
    expect(&mut left, "session.refresh");
    assert_eq!(expect(&mut left, "session.evicted")["payload"]["code"], "LEASE_EXPIRED");
    send(&mut kept, "4", "ping", json!({"nonce": "n"}));
    expect(&mut kept, "pong");
}

#[test]
fn who_opens_without_a_proof_is_challenged_in_its_scheme_and_let_in_by_the_answer() {
    let key = Key::new("1");
    let (provider, _) = changing(keys(&[&key]));
    let introspecting = Provider::start(|request: &Asked| {
        let active = request.form["token"] == "t0p";
        Answering::Json(200, if active { said_of(json!({})) } else { json!({"active": false}) })
    });
    let mut tokens = BearerTokens::default();
    tokens.add(&Secret::new("tok".into()), Principal::new("local").expect("a name"));
    let judges = Authenticators::default().with(tokens).with(signed(&provider, KeyTimes::default()));
    let judges = judges.with(introspected(&introspecting, CheckTimes::default()));
    let host = Running::host(Box::<MemoryStore>::default(), &[], |config| config.anonymous = true);
    let server = Running::serve(host.with_authenticator(judges));
    for (scheme, proof) in
        [("bearer", "tok".to_string()), ("signed_jwt", key.token(json!({}))), ("oauth2", "t0p".into())]
    {
        let mut socket = server.websocket();
        let client = json!({"kind": "c", "version": "1"});
        send(&mut socket, "1", "session.open", json!({"auth": {"scheme": scheme}, "client": client}));
        let challenge = expect(&mut socket, "session.challenge");
        assert_eq!(challenge["payload"]["scheme"], scheme);
        let nonce = &challenge["payload"]["nonce"];
        send(&mut socket, "2", "session.authenticate", json!({"response": "wrong", "nonce": nonce}));
        expect(&mut socket, "session.unauthenticated");
        send(&mut socket, "3", "session.authenticate", json!({"response": proof, "nonce": nonce}));
        expect(&mut socket, "session.accepted");
    }
    let mut socket = server.websocket();
    let open = json!({"auth": {"scheme": "none"}, "client": {"kind": "c", "version": "1"}});
    send(&mut socket, "1", "session.open", open);
    expect(&mut socket, "session.accepted");
}

#[test]
fn nobody_waits_for_a_provider_but_whoever_it_is_asked_about() {
    let (provider, _said) = changing(Answering::Never);
    let server = server(&provider, CheckTimes::default());
    let mut waiting = server.websocket();
    let auth = json!({"scheme": "oauth2", "token": "t0p"});
    send(&mut waiting, "1", "session.hello", json!({"auth": auth, "client": {"name": "c", "version": "1"}}));
    until("it is asked", || (provider.asked() == 1).then_some(()));
    let (mut socket, _) = server.session("tok");
    send(&mut socket, "2", "session.ping", json!({"nonce": "n"}));
    expect(&mut socket, "session.pong");
    let refused = expect(&mut waiting, "session.error");
    assert_eq!(refused["payload"]["details"]["open_code"], "UNAVAILABLE", "{refused}");
}

#[test]
fn a_credential_that_a_silent_provider_could_not_judge_is_no_wrong_one() {
    let (provider, said) = changing(Answering::Json(500, json!({})));
    let server = server(&provider, CheckTimes::default());
    let hello = |token: &str| {
        let mut socket = server.websocket();
        let auth = json!({"scheme": "oauth2", "token": token});
        send(&mut socket, "1", "session.hello", json!({"auth": auth, "client": {"name": "c", "version": "1"}}));
        next(&mut socket).expect("an answer")
    };
    // More than are judged wrong in a minute.
    for n in 0..40 {
        let refused = hello(&format!("t{n}"));
        assert_eq!(refused["payload"]["details"]["open_code"], "UNAVAILABLE", "{refused}");
        assert_eq!(refused["payload"]["retryable"], true, "{refused}");
    }
    set(&said, Answering::Json(200, said_of(json!({}))));
    assert_eq!(hello("t0p")["type"], "session.welcome", "whoever is there may come in at once");
    set(&said, Answering::Json(200, json!({"active": false})));
    let wrong =
        (0..40).map(|n| hello(&format!("w{n}"))).filter(|refused| refused["payload"]["code"] == "UNAUTHENTICATED");
    assert_eq!(wrong.count(), 30, "and wrong ones count");
    assert_eq!(hello("t0p")["type"], "session.welcome", "one that was right is judged all the same");
}

#[test]
fn the_file_of_a_client_is_private_and_its_secret_is_in_no_message() {
    let folder = Folder::new("provider-client");
    let file = folder.0.join("client");
    let write = |text: &str, mode: u32| {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("set");
        ProviderClient::read(&file)
    };
    let good = r#"{"client_id":"runtime","client_secret":"s3cret"}"#;
    let read = write(good, 0o600).expect("a client");
    assert_eq!((read.id.as_str(), read.secret.expose()), ("runtime", "s3cret"));
    assert!(write(good, 0o640).is_err_and(|error| error.to_string().contains("others may read it")));
    for bad in ["", r#"{"client_id":"runtime","client_secret":7}"#, r#"{"client_secret":"s3cret"}"#, "s3cret"] {
        let said = write(bad, 0o600).expect_err(bad).to_string();
        assert!(said.contains("client_id") && !said.contains("s3cret\""), "{said}");
    }
}
