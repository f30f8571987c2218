//! Tokens in a file, as operators manage and clients use them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::sign_in::SignIn;
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A file of tokens in the state directory.
fn file(home: &Home) -> String {
    fs::create_dir_all(&home.dir).expect("a folder");
    home.dir.join("tokens").to_str().expect("text").to_string()
}

/// Makes a token; it is all that stdout has.
fn add(home: &Home, args: &[&str]) -> String {
    let file = file(home);
    let made = home.run(&[&["token", "add", "--tokens", &file], args].concat());
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let said = stdout(&made);
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim().to_string()
}

fn list(home: &Home, url: &str, token: &str) -> i32 {
    code(&home.run(&["ls", "--url", url, "--token", token]))
}

#[test]
fn a_token_of_a_file_lets_its_principal_in_until_it_is_revoked() {
    let mut home = Home::new(ARCP);
    let (alice, bob) = (add(&home, &["alice"]), add(&home, &["bob", "--role", "operator"]));
    let late = add(&home, &["late", "--expires", "1s"]);
    let file = file(&home);
    let url = home.serve(&["--samples", "--tokens", &file]);
    assert_eq!([&alice, &bob].map(|token| list(&home, &url, token)), [0, 0]);
    assert_eq!(list(&home, &url, "arcp_wrong"), 8);
    until("it expires", || (list(&home, &url, &late) == 8).then_some(()));

    let follow = ["submit", "slow", "--input", r#"{"ms":600000}"#, "--url", &url, "--token", &alice];
    let running = home.arcp(&follow).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let all = || stdout(&home.run(&["ls", "--url", &url, "--token", &bob]));
    until("an operator sees it", || all().contains("slow").then_some(()));
    let shown = stdout(&home.run(&["token", "list", "--tokens", &file, "--no-header"]));
    let id = shown.lines().find(|line| line.contains("alice")).and_then(|line| line.split(' ').next()).expect("an id");
    assert_eq!(code(&home.run(&["token", "revoke", &id[..6], "--tokens", &file])), 0);
    // Its session is taken from it, and it cannot come back.
    let ended = running.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(8), "{}", stderr(&ended));
    assert_eq!((list(&home, &url, &alice), list(&home, &url, &bob)), (8, 0));
    assert!(all().contains("slow"), "its job goes on");

    // One that is added counts, and roles go as they came.
    let carol = add(&home, &["carol"]);
    until("it is read", || (list(&home, &url, &carol) == 0).then_some(()));
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&file, text.replace(" roles=operator", "")).expect("written");
    until("its role is gone", || (!all().contains("slow")).then_some(()));
    // What makes no sense changes nothing.
    fs::File::options().append(true).open(&file).and_then(|mut file| file.write_all(b"dave oops\n")).expect("written");
    assert_eq!(code(&home.run(&["token", "add", "dave", "--tokens", &file])), 1);
    assert_eq!(list(&home, &url, &carol), 0);
}

#[test]
fn an_operator_sees_who_is_in_and_takes_sessions_from_their_clients() {
    let mut home = Home::new(ARCP);
    let given = ["--samples", "--token", "a=alice", "--token", "b=bob", "--token", "c=clerk", "--token", "o=boss"];
    let url = home.serve(&[&given[..], &["--auditor", "clerk", "--operator", "boss"]].concat());
    let on = |token: &str, args: &[&str]| home.run(&[args, &["--url", &url, "--token", token]].concat());
    let follow = |token: &str, family: &str| {
        let submit = ["submit", "slow", "--input", r#"{"ms":600000}"#, "--family", family];
        let mut arcp = home.arcp(&[&submit[..], &["--url", &url, "--token", token]].concat());
        arcp.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs")
    };
    let (alice, bob) = (follow("a", "open"), follow("b", "hello"));
    let listed = |token: &str, whose: &str| {
        let all = stdout(&on(token, &["sessions", "list", "--principal", whose, "--no-header"]));
        let connected = all.lines().filter(|line| line.contains(" yes "));
        connected.map(|line| line.split(' ').next().expect("an id").to_string()).collect::<Vec<String>>()
    };
    until("both are in", || (listed("o", "alice").len() == 1 && listed("c", "bob").len() == 1).then_some(()));
    let id = listed("o", "alice").remove(0);
    for (token, args, exit, expected) in [
        ("a", &["sessions", "list"][..], 5, "operators and auditors"),
        ("c", &["sessions", "evict", &id], 5, "only an operator"),
        ("o", &["sessions", "evict", "nonsense"], 1, "no session is `nonsense`"),
        ("o", &["sessions", "evict", "--principal", "carol"], 1, "carol has no session"),
        ("o", &["sessions", "evict", ""], 1, "no session is ``"),
        ("o", &["sessions", "evict"], 2, "<SESSION...|--principal <NAME>>"),
    ] {
        let refused = on(token, args);
        let said = stderr(&refused);
        assert!(code(&refused) == exit && said.contains(expected), "{args:?}: {} {said}", code(&refused));
    }
    let taken = on("o", &["sessions", "evict", &id[..id.len() - 2], "--reason", "a new laptop"]);
    assert_eq!((code(&taken), stdout(&taken).trim()), (0, id.as_str()), "{}", stderr(&taken));
    let ended = alice.wait_with_output().expect("it ends");
    assert!(code(&ended) == 7 && stderr(&ended).contains("a new laptop"), "{}", stderr(&ended));
    let taken = on("o", &["sessions", "evict", "--principal", "bob"]);
    assert_eq!((code(&taken), stdout(&taken).lines().count()), (0, 1), "{}", stderr(&taken));
    let ended = bob.wait_with_output().expect("it ends");
    let said = stderr(&ended);
    assert!(code(&ended) == 7 && said.contains("an operator ended the session"), "{said}");
    assert!(!said.contains("reconnecting"), "it does not come back: {said}");
    let jobs = stdout(&on("o", &["ls", "--status", "running", "-o", "id"]));
    assert_eq!(jobs.lines().count(), 2, "their jobs go on: {jobs}");
}

#[test]
fn who_gives_tokens_on_the_command_line_is_told_that_others_can_read_them() {
    let home = Home::new(ARCP);
    let file = file(&home);
    add(&home, &["alice"]);
    for (given, warned) in [
        (&["--token", "s3cret=alice"][..], true),
        (&["--bearer", "s3cret", "--principal", "alice"], true),
        (&["--tokens", &file], false),
    ] {
        let serve = [&["serve", "--samples", "--listen", "127.0.0.1:0"], given].concat();
        let mut child = home.arcp(&serve).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut all = String::new();
        said.read_line(&mut all).expect("text");
        assert!(all.starts_with("READY "), "{all}");
        Command::new("kill").arg(child.id().to_string()).status().expect("kill");
        said.read_to_string(&mut all).expect("text");
        child.wait().expect("it ends");
        assert_eq!(all.contains("everybody on this machine can read the tokens"), warned, "{given:?}: {all}");
        assert!(!all.contains("s3cret"), "{all}");
    }
}

#[test]
fn mistakes_with_tokens_are_named() {
    let home = Home::new(ARCP);
    let file = file(&home);
    let missing = home.run(&["serve", "--samples", "--tokens", &file]);
    let said = stderr(&missing);
    assert!(code(&missing) == 2 && said.contains(&file) && said.contains("arcp token add"), "{said}");
    let token = add(&home, &["alice"]);
    add(&home, &["alice"]);
    for (args, exit, expected) in [
        (&["add", "two words"][..], 1, "without spaces"),
        (&["add", "bob", "--expires", "0"], 2, "more than 0"),
        (&["add", "bob", "--role", "b ss"], 2, "expected a role of 1 to 64"),
        (&["add", "alice", "--role", "auditor"], 1, "other roles"),
        (&["revoke", "0123456789abcdef"], 1, "no token"),
        (&["revoke", ""], 1, "no token"),
        (&["revoke"], 2, "required"),
        (&["revoke", "--principal", "bob"], 1, "no such token of bob"),
    ] {
        let refused = home.run(&[&["token"], args, &["--tokens", &file]].concat());
        let said = stderr(&refused);
        assert!(code(&refused) == exit && said.contains(expected), "{args:?}: {said}");
        assert!(!said.contains(&token));
    }
    assert_eq!(code(&home.run(&["token", "revoke", "--principal", "alice", "--tokens", &file])), 0);
    let left = home.run(&["token", "list", "--tokens", &file, "-o", "json"]);
    assert_eq!(stdout(&left), "[]\n");
    // Whoever names an operator names somebody.
    let unknown = home.run(&["serve", "--samples", "--tokens", &file, "--operator", "alice"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("--operator alice"), "{}", stderr(&unknown));
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let page = include_str!("../../docs/authentication.md");
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let steps: Vec<&str> = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(steps.len() >= 7, "the blocks are found");
    let folder = arcp_tests::kept::Folder::new("authentication-page");
    let port = arcp_tests::ports::free().port();
    let sign_in = SignIn::default();
    let here = |step: &str| step.replace("https://login.example", &sign_in.issuer());
    // Each of them: a step that fails leaves none behind.
    let mut script = String::from("trap 'arcp stop --all --now > stopped 2>&1' EXIT\n");
    for (n, step) in steps.iter().enumerate() {
        script.push_str(&format!("{}\nstatus=$?; echo \"step {n} $status\"\n", here(step)));
    }
    let path =
        format!("{}:{}", Path::new(ARCP).parent().expect("a folder").display(), std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -s 2>&1"]).env_clear().env("PATH", path).env("HOME", &folder.0);
    shell.current_dir(&folder.0).env("ARCP_LISTEN", format!("127.0.0.1:{port}"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = shell.wait_with_output().expect("it ends");
    let all = String::from_utf8_lossy(&output.stdout);
    for (n, step) in steps.iter().enumerate() {
        assert!(all.lines().any(|line| line == format!("step {n} 0")), "`{step}` does not work:\n{all}");
    }
}

#[test]
fn a_delegation_token_is_made_shown_and_lets_its_holder_do_as_much_as_it_says() {
    let mut home = Home::new(ARCP);
    file(&home);
    let key = home.dir.join("key.pem").to_str().expect("text").to_string();
    let made = home.run(&["token", "key", &key]);
    assert_eq!((code(&made), stdout(&made).trim()), (0, key.as_str()), "{}", stderr(&made));
    let again = home.run(&["token", "key", &key]);
    assert!(code(&again) == 1 && stderr(&again).contains("already"), "{}", stderr(&again));
    let mint = |more: &[&str]| {
        let base = ["token", "mint", "--principal", "alice", "--audience", "here", "--key", &key];
        home.run(&[&base[..], more].concat())
    };
    let minted = mint(&["--lease", "tool.call=search.*", "--budget", "USD:5", "--expires", "1h"]);
    assert_eq!(code(&minted), 0, "{}", stderr(&minted));
    let token = stdout(&minted).trim().to_string();
    assert!(stderr(&minted).contains(r#"{"tool.call":["search.*"],"cost.budget":["USD:5"]}"#), "{}", stderr(&minted));
    for (more, expected) in [
        (&["--expires", "1h"][..], "give --lease"),
        (&["--lease", "tool.call=x"], "--expires"),
        (&["--lease", "nonsense=x", "--expires", "1h"], "nonsense"),
    ] {
        let refused = mint(more);
        assert!(code(&refused) == 2 && stderr(&refused).contains(expected), "{more:?}: {}", stderr(&refused));
    }

    let said = home.run(&["token", "inspect", &token]);
    assert!(code(&said) == 0 && stdout(&said).contains(r#""sub":"alice""#), "{}", stdout(&said));
    let counts = |audience: &str| {
        let asked = home.run(&["token", "inspect", &token, "--key", &key, "--audience", audience]);
        (code(&asked), stderr(&asked))
    };
    assert!(matches!(counts("here"), (0, said) if said.contains("it counts: alice until")));
    assert!(matches!(counts("there"), (8, said) if said.contains("counts for nothing")));
    let other = home.run(&["token", "inspect", "arcp_secret"]);
    assert!(code(&other) == 2 && !stderr(&other).contains("arcp_secret"), "{}", stderr(&other));

    let url = home.serve(&["--samples", "--delegation-key", &key, "--audience", "here", "--token", "t=boss"]);
    let asked = ["submit", "echo", "--lease", "fs.write=/**", "--lease", "tool.call=search.web", "--detach"];
    let job = home.run(&[&asked[..], &["--url", &url, "--token", &token]].concat());
    assert_eq!(code(&job), 0, "{}", stderr(&job));
    let shown = home.run(&["show", stdout(&job).trim(), "--url", &url, "--token", &token, "-o", "json"]);
    let shown = stdout(&shown);
    assert!(shown.contains("search.web") && shown.contains("USD") && !shown.contains("fs.write"), "{shown}");
    assert_eq!(list(&home, &url, &format!("{token}x")), 8);
    let without = home.run(&["serve", "--samples", "--delegation-key", &key]);
    assert!(code(&without) == 2 && stderr(&without).contains("--audience"), "{}", stderr(&without));
}
