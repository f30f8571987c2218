//! Access tokens, as an operator configures and clients use them, with an identity provider on the loopback.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use arcp_tests::home::{Home, code, stderr};
use arcp_tests::provider::{Answering, Asked, Provider};
use arcp_tests::until::until;
use serde_json::json;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const HERE: &str = "wss://agents.example/arcp";

/// The file by which a runtime is known to its provider.
fn client(home: &Home) -> String {
    fs::create_dir_all(&home.dir).expect("a folder");
    let file = home.dir.join("client.json");
    fs::write(&file, r#"{"client_id":"runtime","client_secret":"pr1vate"}"#).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    file.to_str().expect("text").to_string()
}

#[test]
fn who_has_an_access_token_is_let_in_until_it_is_revoked() {
    let counting = Arc::new(Mutex::new(vec!["t0p".to_string()]));
    let shared = counting.clone();
    let provider = Provider::start(move |asked: &Asked| {
        let active = shared.lock().expect("no panic").contains(&asked.form["token"]);
        let said = json!({"active": active, "sub": "alice", "aud": HERE, "scope": "agents"});
        Answering::Json(200, said)
    });
    let mut home = Home::new(ARCP);
    let (client, introspect) = (client(&home), provider.url("/introspect"));
    let issued = ["--oauth2-issuer", "https://login.example", "--audience", HERE];
    let asked = ["--oauth2-introspect", &introspect, "--oauth2-client", &client, "--oauth2-check", "1s"];
    let url = home.serve(&[&["--samples", "--operator", "https://login.example#alice"][..], &issued, &asked].concat());
    let list = |token: &str| code(&home.run(&["ls", "--url", &url, "--token", token]));
    assert_eq!([list("t0p"), list("t1p")], [0, 8]);
    counting.lock().expect("no panic").clear();
    until("it is noticed", || (list("t0p") == 8).then_some(()));

    for (more, expected) in [
        (&["--oauth2-issuer", "https://login.example", "--audience", "here"][..], "--oauth2-introspect"),
        (&["--oauth2-introspect", &introspect], "--oauth2-issuer"),
        (&[&issued[..], &["--oauth2-introspect", &introspect]].concat(), "--oauth2-client"),
        (
            &[&issued[..], &["--oauth2-introspect", "http://login.example/", "--oauth2-client", &client]].concat(),
            "https",
        ),
        (&[&issued[..], &["--oauth2-jwks", "https://me:pr1vate@login.example/"]].concat(), "a user or a password"),
        (&[&issued[..], &asked, &["--oauth2-jwks", &introspect]].concat(), "cannot be used with"),
        (&["--jwt-issuer", "https://login.example", "--audience", HERE], "--jwt-jwks"),
    ] {
        let refused = home.run(&[&["serve", "--samples", "--listen", "127.0.0.1:0"], more].concat());
        let said = stderr(&refused);
        assert!(code(&refused) == 2 && said.contains(expected), "{more:?}: {said}");
    }
    fs::set_permissions(&client, Permissions::from_mode(0o644)).expect("set");
    let refused = home.run(&[&["serve", "--listen", "127.0.0.1:0"][..], &issued, &asked].concat());
    let said = stderr(&refused);
    assert!(code(&refused) == 2 && said.contains("others may read it") && !said.contains("pr1vate"), "{said}");
}
