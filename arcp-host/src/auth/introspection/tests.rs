use arcp_proto::model::request::Credential;

use super::*;
use crate::auth::{Authenticator as _, CredentialSource as _, OAuth2};

/// A provider at an address where nothing listens.
fn asks(times: CheckTimes) -> Introspection {
    let client = ProviderClient { id: "r".into(), secret: Secret::new("s".into()) };
    let endpoint = Endpoint::new("http://127.0.0.1:1/ask").expect("an address");
    Introspection::new(endpoint, client, (Issuer::new("i").expect("an issuer"), "r"), times)
}

fn holder(name: &str) -> Verdict {
    Verdict::from(Principal::new(name).expect("a name"))
}

fn over(name: &str) -> Verdict {
    Verdict { expires_at: Some(UtcMs(1)), ..holder(name) }
}

fn silent() -> ProviderError {
    ProviderError::Silent("nobody is there".into())
}

/// The verdict on a token after this answer of the provider.
fn learn(
    of: &Introspection,
    token: &str,
    said: Result<Option<Verdict>, ProviderError>,
) -> Result<Option<String>, NotJudged> {
    let token = Secret::new(token.into());
    of.learn(token.digest(), &token, said).map(|verdict| verdict.map(|verdict| verdict.principal.to_string()))
}

fn ceased(of: &Introspection) -> Vec<String> {
    let ceased = std::mem::take(&mut *of.known.ceased.lock().expect("nobody panics"));
    ceased.into_iter().map(|principal| principal.to_string()).collect()
}

#[test]
fn beyond_the_tokens_that_are_remembered_one_counts_for_as_long_as_an_answer_does() {
    let of = asks(CheckTimes::default());
    for n in 0..TOKENS {
        assert_eq!(learn(&of, &n.to_string(), Ok(Some(holder("a")))), Ok(Some("a".into())));
    }
    let verdict = |token: &str, verdict| {
        let token = Secret::new(token.into());
        of.learn(token.digest(), &token, Ok(Some(verdict))).expect("it is said").expect("it counts").expires_at
    };
    let at = utc_now();
    let until = verdict("more", holder("b")).expect("not for ever");
    assert!(until >= at.plus(Duration::from_secs(30)) && until <= utc_now().plus(Duration::from_secs(30)));
    assert_eq!(of.tokens().len(), TOKENS);
    assert_eq!(verdict("7", holder("a")), None, "one that is known stays");
    // Only an invalid token makes room.
    assert_eq!(learn(&of, "7", Ok(None)), Ok(None));
    assert_eq!(verdict("more", holder("b")), None);
    assert_eq!(of.tokens().len(), TOKENS);
    assert!(!of.tokens().contains_key(&Secret::new("7".into()).digest()));
    assert_eq!(bounded(over("a"), UtcMs(2)).expires_at, Some(UtcMs(1)));
    assert_eq!(bounded(over("a"), UtcMs(0)).expires_at, Some(UtcMs(0)));
}

#[test]
fn whose_token_counts_no_more_is_told_once_and_whose_ran_out_is_not() {
    let of = asks(CheckTimes::default());
    let mut source = OAuth2::introspected(of.clone());
    assert_eq!(learn(&of, "1", Ok(Some(holder("a")))), Ok(Some("a".into())));
    assert_eq!(learn(&of, "2", Ok(Some(holder("b")))), Ok(Some("b".into())));
    assert_eq!(learn(&of, "1", Ok(None)), Ok(None));
    assert_eq!(learn(&of, "2", Ok(Some(holder("b")))), Ok(Some("b".into())), "it counts on");
    assert_eq!(source.changed(), Some([Principal::new("a").expect("a name")].into()));
    assert_eq!(source.changed(), Some(BTreeSet::new()));
    assert_eq!(learn(&of, "2", Ok(Some(holder("c")))), Ok(Some("c".into())), "it is another's now");
    assert_eq!(ceased(&of), ["b"]);
    assert_eq!(learn(&of, "3", Ok(Some(over("d")))), Ok(None));
    assert_eq!(learn(&of, "3", Ok(None)), Ok(None));
    assert!(ceased(&of).is_empty());
    assert_eq!(source.roles(), crate::auth::Roles::default());
}

#[test]
fn silence_leaves_what_was_said_for_a_while_and_lets_nobody_in() {
    let of = asks(CheckTimes { silence: Duration::from_secs(3600), ..CheckTimes::default() });
    assert_eq!(learn(&of, "1", Err(silent())), Err(NotJudged));
    assert_eq!(learn(&of, "1", Ok(Some(holder("a")))), Ok(Some("a".into())));
    assert_eq!(learn(&of, "1", Err(silent())), Ok(Some("a".into())));
    assert_eq!(learn(&of, "2", Ok(None)), Ok(None));
    assert_eq!(learn(&of, "2", Err(silent())), Ok(None), "that it is nobody's stays");
    assert_eq!((ceased(&of), of.tokens().len()), (vec![], 2));
    let of = asks(CheckTimes { silence: Duration::ZERO, ..CheckTimes::default() });
    assert_eq!(learn(&of, "1", Ok(Some(holder("a")))), Ok(Some("a".into())));
    assert_eq!(learn(&of, "1", Err(silent())), Err(NotJudged));
    assert_eq!((ceased(&of), of.tokens().len()), (vec!["a".to_string()], 0), "it is not known any more");
    assert_eq!(learn(&of, "2", Ok(None)), Ok(None));
    assert_eq!(learn(&of, "2", Err(silent())), Ok(None));
}

#[test]
fn what_is_known_is_not_asked_for_until_it_is_due_and_what_is_over_counts_no_more() {
    let of = asks(CheckTimes { every: Duration::from_secs(3600), ..CheckTimes::default() });
    let judge = OAuth2::introspected(of.clone());
    let whose = |token: &str| {
        let judged = judge.judge(&Credential::Bearer(Secret::new(token.into())));
        judged.map(|verdict| verdict.map(|verdict| verdict.principal.to_string()))
    };
    assert_eq!(learn(&of, "1", Ok(Some(holder("a")))), Ok(Some("a".into())));
    assert_eq!(learn(&of, "2", Ok(None)), Ok(None));
    assert_eq!([whose("1"), whose("2"), whose("3")], [Ok(Some("a".into())), Ok(None), Err(NotJudged)]);
    assert_eq!(whose(""), Ok(None));
    assert_eq!([whose(&"x".repeat(LONGEST)), whose(&"x".repeat(LONGEST + 1))], [Err(NotJudged), Ok(None)]);
    let entry =
        |verdict| Token { token: Secret::new("1".into()), verdict, asked: Instant::now(), answered: Instant::now() };
    of.tokens().insert(Secret::new("1".into()).digest(), entry(Some(over("a"))));
    assert_eq!(whose("1"), Ok(None));
    of.check_again();
    assert_eq!(of.tokens().len(), 1, "what is over is forgotten, and what counts for nothing is not asked for");
    let of = asks(CheckTimes { every: Duration::ZERO, silence: Duration::from_secs(3600) });
    of.tokens().insert(Secret::new("1".into()).digest(), entry(Some(holder("a"))));
    of.tokens().insert(Secret::new("2".into()).digest(), entry(None));
    of.check_again();
    let before = of.tokens().values().map(|known| known.verdict.is_some()).collect::<Vec<_>>();
    assert_eq!(before, [true], "it was asked for in vain, and goes on counting");
}

#[test]
fn what_a_provider_says_counts_if_all_of_it_fits() {
    let of = asks(CheckTimes::default());
    let now = utc_now().0 as f64 / 1000.0;
    let judged = |change: &[(&str, serde_json::Value)]| {
        let mut said = serde_json::json!({"active": true, "sub": "a", "aud": "r"});
        for (name, value) in change {
            said[*name] = value.clone();
        }
        let claims = serde_json::from_value(said.clone()).ok();
        of.judge(serde_json::from_value(said).expect("it is readable"), claims)
    };
    let refused = |change: &[(&str, serde_json::Value)]| judged(change).expect_err("it does not count");
    let verdict = judged(&[]).expect("it counts");
    assert_eq!(verdict.principal.to_string(), "i#a");
    let end = verdict.expires_at.expect("not for ever").0 as f64 / 1000.0;
    assert!(end >= now + 24.0 * 3600.0 - 1.0 && end < now + 25.0 * 3600.0, "a day");
    let end = judged(&[("exp", (now.floor() + 60.0).into())]).expect("it counts").expires_at;
    assert_eq!(end, Some(UtcMs((now.floor() as u64 + 60) * 1000)));
    assert!(judged(&[("iss", "i".into()), ("aud", ["x", "r"].as_slice().into())]).is_ok());
    assert!(judged(&[("token_type", "bEaReR".into()), ("nbf", (now - 60.0).into())]).is_ok());
    assert_eq!(refused(&[("active", false.into())]), "it is not active");
    assert_eq!(refused(&[("iss", "j".into())]), "another issuer is in `iss`");
    for aud in [serde_json::Value::Null, "x".into(), ["x"].as_slice().into(), 5.into()] {
        assert_eq!(refused(&[("aud", aud)]), "`aud` does not name this runtime");
    }
    assert!(refused(&[("token_type", "DPoP".into())]).starts_with("`token_type` is another"));
    assert!(refused(&[("nbf", (now + 60.0).into())]).starts_with("it does not count yet"));
    assert_eq!(refused(&[("exp", (now - 1.0).into())]), "it has expired");
    assert!(refused(&[("sub", 5.into())]).starts_with("`sub` is missing"));
    assert!(refused(&[("arcp_lease", 5.into())]).contains("cannot be used"));
}

#[test]
fn a_scope_that_is_wanted_has_to_be_there() {
    let scopes = |names: &str| names.split_whitespace().collect::<Scopes>();
    let verdict = Verdict { scopes: scopes("x y"), ..holder("a") };
    for (wanted, has) in [("", true), ("x", true), ("y x", true), ("z", false), ("x z", false)] {
        assert_eq!(has_each(&verdict, &scopes(wanted)), has, "{wanted}");
    }
    assert!(!has_each(&holder("a"), &scopes("x")));
}
