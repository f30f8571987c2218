//! `arcp login` as a user runs it, with an identity provider on the loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::provider::Answering;
use arcp_tests::sign_in::{CLIENT, SignIn, browse};
use arcp_tests::until::until;
use serde_json::{Value, json};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A runtime that asks this provider.
fn serve(home: &mut Home, at: &SignIn) -> String {
    fs::create_dir_all(&home.dir).expect("a folder");
    let file = home.dir.join("client.json");
    fs::write(&file, r#"{"client_id":"runtime","client_secret":"pr1vate"}"#).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let (issuer, introspect) = (at.issuer(), at.provider.url("/introspect"));
    let file = file.to_str().expect("text");
    let oauth2 = ["--oauth2-issuer", &issuer, "--oauth2-introspect", &introspect, "--oauth2-client", file];
    home.serve(&[&["--samples", "--audience", "here"][..], &oauth2].concat())
}

/// A login that goes on, and what it says.
struct LoggingIn {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl LoggingIn {
    fn start(home: &Home, at: &SignIn, more: &[&str]) -> LoggingIn {
        let issuer = at.issuer();
        let mut command = home.arcp(&[&["login", "--issuer", &issuer, "--client-id", CLIENT][..], more].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        LoggingIn { child, said }
    }

    /// The line after the one that says this.
    fn after(&mut self, text: &str) -> String {
        let mut lines = self.said.by_ref().map_while(Result::ok);
        lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("it did not say `{text}`"));
        lines.next().expect("a line")
    }

    fn end(mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self.said.by_ref().map_while(Result::ok).collect();
        (self.child.wait().expect("it ends").code(), rest.join("\n"))
    }
}

fn logins(home: &Home) -> Vec<PathBuf> {
    let all = fs::read_dir(home.dir.join("logins")).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

fn kept(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(&logins(home)[0]).expect("a login")).expect("JSON")
}

#[test]
fn who_signs_in_by_a_browser_is_let_in_until_the_logout() {
    let (mut home, at) = (Home::new(ARCP), SignIn::default());
    serve(&mut home, &at);
    let list = |home: &Home| home.run(&["ls"]);
    let before = list(&home);
    assert!(code(&before) == 8 && stderr(&before).contains("arcp login"), "{}", stderr(&before));
    let mut login = LoggingIn::start(&home, &at, &["--scope", "offline_access", "--scope", "agents"]);
    let url = login.after("sign in at");
    // What is not the answer to this request changes nothing.
    let form: Vec<(String, String)> = arcp_host::auth::form_fields(url.split_once('?').expect("a query").1);
    let back = &form.iter().find(|(name, _)| name == "redirect_uri").expect("an address").1;
    assert!(back.starts_with("http://127.0.0.1:"), "{back}");
    assert!(form.contains(&("scope".to_string(), "offline_access agents".to_string())), "{url}");
    for forged in ["", "?code=forged", "?code=forged&state=guessed"] {
        assert!(browse(&format!("{back}{forged}")).starts_with("HTTP/1.1 400"), "{forged}");
    }
    assert!(browse(&url).contains("you can close this page"));
    let (ended, said) = login.end();
    assert!(ended == Some(0) && said.contains("logged in at ws://127.0.0.1:") && !said.contains("s3cret"), "{said}");

    let file = logins(&home).remove(0);
    let mode = |path: &PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&home.dir.join("logins"))), (0o600, 0o700));
    let after = list(&home);
    assert_eq!(code(&after), 0, "{}", stderr(&after));
    // A file that others could read is none.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    assert_eq!(code(&list(&home)), 8);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");

    let out = home.run(&["logout"]);
    assert!(code(&out) == 0 && stderr(&out).contains("logged out"), "{}", stderr(&out));
    assert!(at.state().active.is_empty() && logins(&home).is_empty(), "its provider revoked it");
    assert_eq!((code(&list(&home)), code(&home.run(&["logout"]))), (8, 1));
}

#[test]
fn a_login_is_renewed_before_it_expires_and_by_one_command_at_a_time() {
    let (mut home, at) = (Home::new(ARCP), SignIn::default());
    serve(&mut home, &at);
    // Each command finds a token that is about to expire.
    at.state().lasts = Duration::from_secs(30);
    let login = LoggingIn::start(&home, &at, &["--device"]);
    assert_eq!(login.end().0, Some(0));
    let first = kept(&home)["access_token"].clone();
    assert_eq!(code(&home.run(&["ls"])), 0);
    assert_ne!(kept(&home)["access_token"], first);
    at.state().lasts = Duration::from_secs(3600);
    let tokens = at.state().asked("/token");
    let all: Vec<Child> = (0..4).map(|_| home.arcp(&["ls"]).stderr(Stdio::piped()).spawn().expect("it runs")).collect();
    for child in all {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    assert_eq!(at.state().asked("/token"), tokens + 1, "who waited took what the first was given");

    // A provider that fails does not take what still counts.
    at.state().lasts = Duration::from_secs(30);
    let set = |part: &str, value: Value| {
        let mut login = kept(&home);
        login[part] = value;
        fs::write(&logins(&home)[0], login.to_string()).expect("written");
    };
    let soon = now_ms() + 20_000;
    set("expires_at", json!(soon));
    at.state().instead.insert("/token", Answering::Json(500, json!("down")));
    assert_eq!(code(&home.run(&["ls"])), 0);
    set("expires_at", json!(now_ms() - 1));
    let lost = home.run(&["ls"]);
    assert!(code(&lost) == 7 && stderr(&lost).contains("was not renewed"), "{}", stderr(&lost));
    at.state().instead.clear();
    set("refresh_token", json!("stolen"));
    let over = home.run(&["ls"]);
    let said = stderr(&over);
    assert!(code(&over) == 8 && said.contains("invalid_grant: no[31m") && said.contains("arcp login --url"), "{said}");
    assert!(!said.contains("s3cret") && !said.contains('\u{1b}'), "{said}");
    // Who logs in again says no more than that.
    assert_eq!(code(&home.run(&["login", "--device"])), 0);
    assert_eq!(code(&home.run(&["ls"])), 0);
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("in range")
}

#[test]
fn who_signs_in_on_another_device_is_waited_for_as_the_provider_says() {
    let (mut home, at) = (Home::new(ARCP), SignIn::default());
    serve(&mut home, &at);
    at.state().delays = vec!["authorization_pending", "authorization_pending"];
    let mut login = LoggingIn::start(&home, &at, &["--device"]);
    assert!(login.after("sign in at").ends_with("/activate"));
    let (ended, said) = login.end();
    assert!(ended == Some(0) && said.contains("WDJB-MJHT"), "{said}");
    let asked = at.state().asked("/token");
    assert_eq!((asked, code(&home.run(&["ls"]))), (3, 0));
    for (delays, expected) in
        [(vec!["authorization_pending", "access_denied"], "access_denied"), (vec!["expired_token"], "expired_token")]
    {
        at.state().delays = delays;
        let (ended, said) = LoggingIn::start(&home, &at, &["--device"]).end();
        assert!(ended == Some(8) && said.contains(expected), "{said}");
    }
}

#[test]
fn a_provider_that_is_wrong_or_says_nothing_logs_nobody_in() {
    let (mut home, at) = (Home::new(ARCP), SignIn::default());
    let url = serve(&mut home, &at);
    let metadata = "/.well-known/openid-configuration";
    let issuer = at.issuer();
    let said = |part: &str, value: &str| {
        let mut document = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token"),
            "authorization_endpoint": format!("{issuer}/authorize"), "device_authorization_endpoint": format!("{issuer}/device")});
        document[part] = json!(value);
        Answering::Json(200, document)
    };
    for (path, answer, exit, expected) in [
        (metadata, said("issuer", "https://evil.example"), 8, "says that it is `https://evil.example`"),
        (metadata, said("token_endpoint", "http://evil.example/token"), 8, "http:// counts for this machine alone"),
        (metadata, Answering::Text("<html>".into()), 1, "does not say where it takes what"),
        (metadata, Answering::Json(500, json!({})), 1, "does not say where it takes what"),
        ("/device", Answering::Json(400, json!({"error": "unauthorized_client"})), 8, "it answered 400"),
        ("/token", Answering::Json(200, json!({"access_token": "s3cret", "token_type": "DPoP"})), 8, "another type"),
        ("/token", Answering::Json(200, json!({"access_token": 7})), 8, "makes no sense"),
        ("/token", Answering::Endless(64 << 20), 8, "more than"),
    ] {
        at.state().instead = [(path, answer)].into();
        let (ended, said) = LoggingIn::start(&home, &at, &["--device"]).end();
        assert!(ended == Some(exit) && said.contains(expected) && !said.contains("s3cret"), "{path}: {ended:?} {said}");
    }
    at.state().instead.clear();
    assert!(logins(&home).is_empty());
    for (args, exit, expected) in [
        (&["login", "--device"][..], 2, "--issuer is not known"),
        (&["login", "--issuer", &issuer], 2, "--client-id is not known"),
        (
            &["login", "--issuer", "http://login.example", "--client-id", "c"],
            2,
            "http:// counts for this machine alone",
        ),
    ] {
        let refused = home.run(args);
        assert!(code(&refused) == exit && stderr(&refused).contains(expected), "{args:?}: {}", stderr(&refused));
    }
    // A login is sent to its own runtime alone.
    assert_eq!(LoggingIn::start(&home, &at, &["--device"]).end().0, Some(0));
    let elsewhere = url.replace("/arcp", "/other");
    let lost = home.run(&["submit", "echo", "--detach", "--url", &elsewhere, "--give-up-after", "0"]);
    let said = stderr(&lost);
    assert!(code(&home.run(&["ls", "--url", &url])) == 0 && said.contains("without a token"), "{said}");
    assert_eq!(code(&home.run(&["ls", "--token", "wrong"])), 8, "a token that is given counts before it");
}

#[test]
fn a_command_that_goes_on_stays_in_by_the_tokens_that_follow_that_of_its_login() {
    for family in ["hello", "open"] {
        let (mut home, at) = (Home::new(ARCP), SignIn::default());
        serve(&mut home, &at);
        at.state().lasts = Duration::from_secs(4);
        let login = LoggingIn::start(&home, &at, &["--device"]);
        assert_eq!(login.end().0, Some(0));
        let submit = ["submit", "slow", "--input", r#"{"ms":13000}"#, "--family", family, "-o", "jsonl"];
        let following = home.arcp(&submit).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        // A provider that fails for a while is asked again.
        until("it was renewed", || (at.state().asked("/token") >= 3).then_some(()));
        at.state().instead.insert("/token", Answering::Json(503, json!({})));
        let asked = at.state().asked("/token");
        until("it was asked", || (at.state().asked("/token") > asked).then_some(()));
        at.state().instead.clear();
        let ended = following.wait_with_output().expect("it ends");
        let (shown, said) = (stdout(&ended), stderr(&ended));
        assert_eq!(ended.status.code(), Some(0), "{family}: {shown} {said}");
        assert!(at.state().asked("/token") > asked + 1, "more than one token was used");
        assert!(!said.contains("missed") && !said.contains("s3cret") && !shown.contains("s3cret"), "{said}");
        assert!(!said.contains("new session"), "it is the same session: {said}");
    }
}

#[test]
fn a_command_whose_login_cannot_be_renewed_ends_with_its_token_and_says_so() {
    let (mut home, at) = (Home::new(ARCP), SignIn::default());
    serve(&mut home, &at);
    at.state().lasts = Duration::from_secs(3);
    let login = LoggingIn::start(&home, &at, &["--device"]);
    assert_eq!(login.end().0, Some(0));
    let submit = ["submit", "slow", "--input", r#"{"ms":600000}"#, "--family", "open"];
    let following = home.arcp(&submit).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    until("it has renewed its token to come in", || (at.state().asked("/token") >= 2).then_some(()));
    at.state().instead.insert("/token", Answering::Json(400, json!({"error": "invalid_grant"})));
    let ended = following.wait_with_output().expect("it ends");
    assert_ne!(ended.status.code(), Some(0));
    assert!(stderr(&ended).contains("the session was not refreshed in time"), "{}", stderr(&ended));
}
