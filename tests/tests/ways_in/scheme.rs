//! The schemes by which peers prove who they are: what each takes, what it does not,
//! and which cases it does not know.

use std::time::Duration;

use arcp_blocking::Host;
use arcp_host::auth::{
    Authenticators, BearerTokens, CheckTimes, DelegationKey, DelegationTokens, Endpoint, Introspection, KeyTimes,
    OAuth2, ProviderClient, SignedJwt, TokenFile,
};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use serde_json::json;

use crate::desk::{Desk, Given, HERE, PLAIN, brief, early, expired, issuer, name, now};
use crate::transport::{Site, Transport};

/// One scheme.
pub struct Scheme {
    /// As the page has it.
    pub name: &'static str,
    /// Its word in `auth`.
    pub word: &'static str,
    /// Has credentials judged so.
    pub guard: fn(&Desk, Host) -> Host,
    pub change: fn(&mut Config),
    /// Whether what proves it comes by a secured transport alone.
    pub secured: bool,
    /// What lets alice in, and somebody else.
    pub right: fn(&Desk) -> [Given; 2],
    pub expired: Case,
    pub early: Case,
    pub other_audience: Case,
    pub other_key: Case,
    /// What counts for a few seconds.
    pub brief: Case,
    pub revoked: Revoked,
    /// What is offered in its place.
    pub weaker: fn(&Desk, Transport) -> Vec<(&'static str, Given)>,
    /// Whether who opens without a proof is asked for one, and alice's answer.
    pub answer: Option<fn(&Desk) -> String>,
}

/// What a credential comes to.
#[derive(Clone, Copy)]
pub enum Case {
    /// It is refused with `UNAUTHENTICATED`; or counts, where that is what is asked.
    Of(fn(&Desk) -> Given),
    /// It cannot be, and why.
    Never(&'static str),
}

/// What becomes of a session whose credential is taken back.
#[derive(Clone, Copy)]
pub enum Revoked {
    /// It is taken from its client with `UNAUTHENTICATED`.
    Taken(fn(&Desk, &Site<'_>)),
    /// It goes on until its credential expires, and nobody comes in any more.
    Kept(fn(&Desk), &'static str),
    /// Nothing takes one back.
    Never(&'static str),
}

pub const ALL: [&Scheme; 8] =
    [&TOKEN, &TOKEN_FILE, &SIGNED_JWT, &DELEGATION, &INTROSPECTED, &OAUTH2_KEYS, &MTLS, &NONE];

const HAS_NO_BEGINNING: Case = Case::Never("it counts from when it is made");
/// The key that delegates here, and for whom.
const OURS: (&str, &str) = ("delegating", HERE);
const OF_ONE_RUNTIME: Case = Case::Never("it is a secret of one runtime");

pub const TOKEN: Scheme = Scheme {
    name: "bearer, `--token`",
    word: "bearer",
    guard: |_, host| host.with_authenticator(Authenticators::default().with(plain())),
    change: |_| {},
    secured: false,
    right: |_| ["tok-alice", "tok-bob"].map(|token| Given::new("bearer", token)),
    expired: Case::Never("it has no end"),
    early: HAS_NO_BEGINNING,
    other_audience: OF_ONE_RUNTIME,
    other_key: Case::Of(|_| Given::new("bearer", "tok-alicf")),
    brief: Case::Never("it has no end"),
    revoked: Revoked::Never("it counts as long as the runtime runs; an operator takes its sessions"),
    weaker: |_, transport| {
        let mut weaker = unproven(transport);
        weaker.push(("its token under another scheme", Given::new("signed_jwt", "tok-alice")));
        weaker
    },
    answer: Some(|_| "tok-alice".to_string()),
};

pub const TOKEN_FILE: Scheme = Scheme {
    name: "bearer, `--tokens`",
    guard: |desk, host| {
        let file = desk.tokens();
        host.with_credentials_from(file.clone()).with_authenticator(Authenticators::default().with(file))
    },
    right: |desk| ["alice", "bob"].map(|whose| Given::new("bearer", &desk.token(whose, None))),
    expired: Case::Of(|desk| Given::new("bearer", &desk.token("late", Some(-1)))),
    other_key: Case::Of(|_| Given::new("bearer", "arcp_0123456789")),
    brief: Case::Of(|desk| Given::new("bearer", &desk.token("brief", Some(4)))),
    revoked: Revoked::Taken(|desk, _| {
        let gone = TokenFile::revoke(&desk.file("tokens"), |entry| entry.principal == name("alice"));
        assert!(!gone.expect("they are taken out").is_empty());
    }),
    weaker: |_, transport| unproven(transport),
    answer: Some(|desk| desk.token("alice", None)),
    ..TOKEN
};

pub const SIGNED_JWT: Scheme = Scheme {
    name: "signed_jwt",
    word: "signed_jwt",
    guard: |desk, host| {
        let jwt = SignedJwt::new(issuer(), HERE, &desk.file("public")).expect("keys");
        host.with_credentials_from(jwt.clone()).with_authenticator(Authenticators::default().with(plain()).with(jwt))
    },
    right: |desk| ["alice", "bob"].map(|sub| Given::new("signed_jwt", &desk.jwt(0, json!({"sub": sub})))),
    expired: Case::Of(|desk| Given::new("signed_jwt", &desk.jwt(0, json!({"exp": now() - 60})))),
    early: Case::Of(|desk| Given::new("signed_jwt", &desk.jwt(0, json!({"nbf": now() + 60})))),
    other_audience: Case::Of(|desk| Given::new("signed_jwt", &desk.jwt(0, json!({"aud": "wss://other.example"})))),
    other_key: Case::Of(|desk| Given::new("signed_jwt", &desk.jwt(1, json!({})))),
    brief: Case::Of(|desk| Given::new("signed_jwt", &desk.jwt(0, json!({"exp": now() - 26})))),
    revoked: Revoked::Kept(|desk| desk.trust(&desk.keys[1]), "its key is taken away"),
    weaker: |desk, transport| {
        let mut weaker = unproven(transport);
        for token in desk.weak_jwts() {
            weaker.push(("a JWT that nobody signed", Given::new("signed_jwt", &token)));
        }
        weaker.push(("a bearer token under its scheme", Given::new("signed_jwt", PLAIN)));
        let bound = desk.jwt(0, json!({"cnf": {"x5t#S256": "A".repeat(43)}}));
        weaker.push(("a bound JWT without its certificate", Given::new("signed_jwt", &bound)));
        weaker.push(("a bound JWT as a bearer token", Given::new("bearer", &bound)));
        weaker
    },
    answer: Some(|desk| desk.jwt(0, json!({}))),
    ..TOKEN
};

pub const DELEGATION: Scheme = Scheme {
    name: "delegation token",
    word: "bearer",
    guard: |desk, host| {
        let key = DelegationKey::read(&desk.file("delegating")).expect("a key");
        let judges = Authenticators::default().with(plain()).with(DelegationTokens::new(key, HERE));
        host.with_authenticator(judges)
    },
    right: |desk| ["alice", "bob"].map(|to| Given::new("bearer", &desk.delegation(to, OURS, now() + 600))),
    expired: Case::Of(|desk| Given::new("bearer", &desk.delegation("alice", OURS, now() - 2))),
    early: HAS_NO_BEGINNING,
    other_audience: Case::Of(|desk| Given::new("bearer", &desk.delegation("alice", (OURS.0, "there"), now() + 600))),
    other_key: Case::Of(|desk| {
        Given::new("bearer", &desk.delegation("alice", ("delegating-other", HERE), now() + 600))
    }),
    brief: Case::Of(|desk| Given::new("signed_jwt", &desk.delegation("alice", OURS, now() + 4))),
    revoked: Revoked::Never("it counts until it expires; an operator takes its sessions"),
    weaker: |desk, transport| {
        let mut weaker = unproven(transport);
        for token in desk.weak_jwts() {
            weaker.push(("a JWT that nobody signed", Given::new("bearer", &token)));
        }
        weaker.push(("a JWT of an issuer by the same key", Given::new("bearer", &desk.jwt(0, json!({"iss": HERE})))));
        weaker.push(("as an access token", Given::new("oauth2", &desk.delegation("alice", OURS, now() + 600))));
        weaker
    },
    answer: Some(|desk| desk.delegation("alice", OURS, now() + 600)),
    ..SIGNED_JWT
};

pub const INTROSPECTED: Scheme = Scheme {
    name: "oauth2, asked for",
    word: "oauth2",
    guard: |desk, host| {
        let client = ProviderClient { id: "runtime".into(), secret: Secret::new("s3cret".into()) };
        let endpoint = Endpoint::new(&desk.provider.url("/introspect")).expect("an address");
        let times = CheckTimes { every: Duration::from_millis(100), ..CheckTimes::default() };
        let judge = OAuth2::introspected(Introspection::new(endpoint, client, (issuer(), HERE), times));
        let judges = Authenticators::default().with(plain()).with(judge.clone());
        host.with_credentials_from(judge).with_authenticator(judges)
    },
    right: |desk| ["alice", "bob"].map(|sub| desk.access(&format!("access-{sub}"), json!({"sub": sub}))),
    expired: Case::Of(|desk| desk.access("expired", json!({"exp": now() - 1}))),
    early: Case::Of(|desk| desk.access("early", json!({"nbf": now() + 60}))),
    other_audience: Case::Of(|desk| desk.access("elsewhere", json!({"aud": "wss://other.example"}))),
    other_key: Case::Of(|_| Given::new("oauth2", "nobody knows it")),
    brief: Case::Of(|desk| desk.access("brief", json!({"exp": now() + 4, "sub": "brief"}))),
    revoked: Revoked::Taken(|desk, _| desk.says("access-alice", json!({"active": false}))),
    weaker: |desk, transport| {
        let mut weaker = unproven(transport);
        weaker.push(("a bearer token under its scheme", Given::new("oauth2", PLAIN)));
        weaker.push(("a token that wants another proof", desk.access("dpop", json!({"token_type": "DPoP"}))));
        weaker.push(("a bound token without its proof", desk.access("bound", json!({"cnf": {"jkt": "x"}}))));
        weaker
    },
    answer: Some(|desk| desk.access("answer", json!({})).auth["token"].as_str().expect("text").to_string()),
    ..SIGNED_JWT
};

pub const OAUTH2_KEYS: Scheme = Scheme {
    name: "oauth2, by keys",
    word: "oauth2",
    guard: |desk, host| {
        let endpoint = Endpoint::new(&desk.provider.url("/keys")).expect("an address");
        let times = KeyTimes { fresh: Duration::from_millis(100), again: Duration::ZERO, ..KeyTimes::default() };
        let judge = OAuth2::signed(SignedJwt::with_keys_at(issuer(), HERE, endpoint, times));
        host.with_authenticator(Authenticators::default().with(plain()).with(judge))
    },
    right: |desk| ["alice", "bob"].map(|sub| Given::new("oauth2", &desk.jwt(0, json!({"sub": sub})))),
    expired: Case::Of(|desk| Given::new("oauth2", &desk.jwt(0, json!({"exp": now() - 60})))),
    early: Case::Of(|desk| Given::new("oauth2", &desk.jwt(0, json!({"nbf": now() + 60})))),
    other_audience: Case::Of(|desk| Given::new("oauth2", &desk.jwt(0, json!({"aud": "wss://other.example"})))),
    other_key: Case::Of(|desk| Given::new("oauth2", &desk.jwt(1, json!({})))),
    brief: Case::Of(|desk| Given::new("oauth2", &desk.jwt(0, json!({"exp": now() - 26})))),
    weaker: |desk, transport| {
        let mut weaker = unproven(transport);
        for token in desk.weak_jwts() {
            weaker.push(("a JWT that nobody signed", Given::new("oauth2", &token)));
        }
        weaker
    },
    ..SIGNED_JWT
};

pub const MTLS: Scheme = Scheme {
    name: "mtls",
    word: "mtls",
    secured: true,
    right: |desk| [1, 2].map(|serial| Given::bare("mtls").showing(&desk.identity(serial, |_| {}))),
    expired: Case::Of(|desk| Given::bare("mtls").showing(&desk.identity(3, expired))),
    early: Case::Of(|desk| Given::bare("mtls").showing(&desk.identity(4, early))),
    other_audience: Case::Never("a certificate names no runtime"),
    other_key: Case::Of(|desk| {
        let server = &desk.server;
        Given::bare("mtls").showing(&arcp_blocking::Identity { certificates: server.certificate(), key: server.key() })
    }),
    brief: Case::Of(|desk| Given::bare("mtls").showing(&desk.identity(5, brief))),
    revoked: Revoked::Taken(|desk, site| {
        desk.authority.revoke(&[1]);
        desk.certificates.read_again().expect("they can be read");
        site.handle().expect("a port").check_clients();
    }),
    weaker: |desk, transport| {
        let mut weaker = unproven(transport);
        weaker.push(("no certificate", Given::bare("mtls")));
        let shown = Given::bare("mtls").showing(&desk.identity(6, |_| {}));
        weaker.push(("the fingerprint of another", Given { fingerprint: Some("0b".repeat(32)), ..shown }));
        weaker
    },
    answer: None,
    ..TOKEN
};

pub const NONE: Scheme = Scheme {
    name: "none",
    word: "none",
    change: |config| config.anonymous = true,
    right: |_| ["none", "anonymous"].map(Given::bare),
    expired: Case::Never("there is none"),
    early: Case::Never("there is none"),
    other_audience: Case::Never("there is none"),
    other_key: Case::Never("there is none"),
    brief: Case::Never("there is none"),
    revoked: Revoked::Never("there is none; an operator takes its sessions"),
    weaker: |_, _| vec![("a token that counts for nothing", Given::new("bearer", "nonsense"))],
    answer: None,
    ..TOKEN
};

/// Bearer tokens of everybody, beside what a scheme takes.
fn plain() -> BearerTokens {
    let mut tokens = BearerTokens::default();
    for (token, whose) in [("tok-alice", "alice"), ("tok-bob", "bob"), (PLAIN, "plain")] {
        tokens.add(&Secret::new(token.to_string()), name(whose));
    }
    tokens
}

/// What proves nothing anywhere.
fn unproven(transport: Transport) -> Vec<(&'static str, Given)> {
    let mut all = vec![("a scheme that is none", Given::new("bogus", "x"))];
    // Where somebody vouches for who comes, no credential is needed.
    if !transport.vouches {
        all.extend(["none", "anonymous"].map(|none| ("no credential", Given::bare(none))));
    }
    if !transport.secured {
        all.push(("a certificate on what shows none", Given::bare("mtls")));
    }
    all
}
