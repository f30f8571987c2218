//! A runtime with a policy, and the commands that explain it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::pages;
use arcp_tests::until::until;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

const POLICY: &str = r#"
[[rule]]
name = "ci"
principals = ["ci-*"]
agents = ["echo", "slow"]
jobs = 1

[[rule]]
name = "watchers"
principals = ["w"]
watch = ["ci-*"]
"#;

fn written(home: &Home, text: &str) -> PathBuf {
    fs::create_dir_all(&home.dir).expect("a folder");
    let file = home.dir.join("policy.toml");
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn a_runtime_goes_by_its_policy_and_reads_it_again_without_losing_sessions() {
    let mut home = Home::new(ARCP);
    let file = written(&home, POLICY);
    let policy = file.to_str().expect("text").to_string();
    let tokens = ["--token", "c=ci-1", "--token", "d=ci-2", "--token", "w=w", "--token", "o=other"];
    let log = home.dir.join("log");
    let mut server =
        home.arcp(&[&["serve", "--listen", "127.0.0.1:0", "--samples", "--policy", &policy], &tokens[..]].concat());
    let server = server.stderr(fs::File::create(&log).expect("a file")).spawn().expect("it runs");
    let pid = server.id().to_string();
    home.servers.push(server);
    let home = home;
    let said = |text: &str| fs::read_to_string(&log).is_ok_and(|log| log.contains(text));
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("it runs").success());
    let url = until("it listens", || {
        let log = fs::read_to_string(&log).ok()?;
        Some(log.split_once('\n')?.0.strip_prefix("READY ")?.to_string())
    });
    let on = |token: &str, args: &[&str]| home.run(&[args, &["--url", &url, "--token", token]].concat());
    let submit = |token: &str, agent: &str| on(token, &["submit", agent, "--input", "1"]);
    assert_eq!(stdout(&submit("c", "echo")).trim(), "1");
    for (token, agent) in [("c", "chatty"), ("w", "echo"), ("o", "echo")] {
        let refused = submit(token, agent);
        assert_ne!(code(&refused), 0);
        assert!(stderr(&refused).contains(&format!("no agent is called `{agent}`")), "{}", stderr(&refused));
    }
    assert_eq!(stdout(&on("o", &["agents", "--no-header"])), "");
    let shown = stdout(&on("c", &["agents", "--no-header"]));
    assert!(shown.contains("echo") && shown.contains("slow") && !shown.contains("chatty"), "{shown}");

    let long = ["submit", "slow", "--input", r#"{"ms":600000}"#, "--detach"];
    let job = stdout(&on("c", &long)).trim().to_string();
    let full = on("c", &long);
    assert!(stderr(&full).contains("1 jobs that have not ended"), "{}", stderr(&full));
    assert_eq!(code(&on("d", &["show", &job])), code(&on("o", &["show", &job])), "both see no such job");
    assert!(stdout(&on("w", &["ls"])).contains(&job[..8]));
    assert!(!stdout(&on("o", &["ls"])).contains(&job[..8]));
    assert_ne!(code(&on("w", &["cancel", &job])), 0);

    let follow = ["watch", &job, "--url", &url, "--token", "c"];
    let mut following = home.arcp(&follow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    fs::write(&file, "[[rule]]\nname = \"broken\"\n").expect("written");
    hang_up();
    until("it says why", || said("the policy stays as it was").then_some(()));
    assert!(said(":2:8: name: the rule is for nobody"), "with the place");
    assert_eq!(code(&submit("c", "chatty")), code(&submit("o", "echo")), "it stayed as it was");
    fs::write(&file, POLICY.replace("\"ci-*\"]\nagents", "\"other\"]\nagents")).expect("written");
    hang_up();
    until("it is read", || (code(&submit("o", "echo")) == 0).then_some(()));
    assert_ne!(code(&submit("c", "echo")), 0, "who may submit nothing by now");
    assert!(stdout(&on("c", &["ls"])).contains(&job[..8]), "sees its job");
    assert_eq!(following.try_wait().expect("it is there"), None, "and loses no session");
    assert_eq!(code(&on("c", &["cancel", &job])), 0, "and cancels it");
    following.wait().expect("it ends with its job");
    assert!(said("policy refused ci-1: "), "the log says so");
    assert!(said("no rule lets it submit `chatty`"));
}

#[test]
fn a_policy_is_checked_and_explained_without_a_runtime() {
    let home = Home::new(ARCP);
    let plain = written(&home, POLICY);
    let checked = stdout(&home.run(&["policy", "check", plain.to_str().expect("text")]));
    assert!(checked.ends_with(": 2 rules, 0 roles of issuers\n"), "{checked}");
    let file = written(&home, &format!("[roles]\nlead = [\"https://l#a*\"]\n{POLICY}"));
    let file = file.to_str().expect("text").to_string();
    let checked = home.run(&["policy", "check", &file]);
    assert_eq!((code(&checked), stdout(&checked)), (0, format!("{file}: 2 rules, 1 role of issuers\n")));
    for (args, exit, said) in [
        (
            &["--principal", "ci-1", "--agent", "echo"][..],
            0,
            "submit echo: allow, by rule `ci`\njobs: at most 1, by rule `ci`\n",
        ),
        (&["--principal", "ci-1", "--agent", "chatty"], 5, "submit chatty: deny, no rule allows it\n"),
        (
            &["--principal", "w", "--owner", "ci-1"],
            5,
            "watch jobs of ci-1: allow, by rule `watchers`\noversee jobs of ci-1: deny",
        ),
        (&["--principal", "w", "--owner", "w"], 0, "watch and oversee jobs of w: allow, they are its own\n"),
        (&["--principal", "nobody"], 0, "no rule is for it"),
        (&["--principal", "https://m#a", "--role", "lead"], 0, "role lead: counts for nothing"),
        (&["--principal", "w"], 0, "rule `watchers`\n  watch jobs of ci-*\n"),
    ] {
        let answer = home.run(&[&["policy", "explain", &file], args].concat());
        assert_eq!(code(&answer), exit, "{args:?}: {}", stderr(&answer));
        assert!(stdout(&answer).starts_with(said), "{args:?}: {}", stdout(&answer));
    }
    fs::write(&file, "[[rule]]\nname = \"r\"\nprincipals = [\"a\"]\nagents = [\"a//b\"]\n").expect("written");
    for args in [&["policy", "check", &file][..], &["serve", "--samples", "--policy", &file]] {
        let refused = home.run(args);
        let said = stderr(&refused);
        assert!(code(&refused) == 2 && said.contains(":4:11: agents: `a//b`: it has an empty segment"), "{said}");
    }
}

#[test]
fn who_has_as_many_sessions_as_the_policy_allows_is_told_so() {
    let mut home = Home::new(ARCP);
    let file = written(&home, "[[rule]]\nname = \"all\"\nprincipals = [\"**\"]\nagents = [\"**\"]\nsessions = 1\n");
    home.serve(&["--samples", "--policy", file.to_str().expect("text")]);
    let mut following = followed(&home, &["submit", "slow", "--input", r#"{"ms":600000}"#]);
    let refused = home.run(&["ls", "--give-up-after", "1s"]);
    let said = stderr(&refused);
    assert!(code(&refused) == 7 && said.contains("takes no session from you now: you may have 1"), "{said}");
    assert!(!said.contains("start one with"), "{said}");
    following.kill().and_then(|()| following.wait()).expect("it ends");
}

/// A command that follows a job, and shows it by now.
fn followed(home: &Home, args: &[&str]) -> Child {
    let mut child = home.arcp(&[args, &["-o", "jsonl"]].concat()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut shown = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    assert!(shown.read_line(&mut line).expect("text") > 0, "it is followed");
    std::thread::spawn(move || shown.lines().for_each(drop));
    child
}

#[test]
fn no_command_leaves_a_session_that_keeps_its_user_out() {
    let mut home = Home::new(ARCP);
    let file = written(&home, "[[rule]]\nname = \"all\"\nprincipals = [\"**\"]\nagents = [\"**\"]\nsessions = 1\n");
    home.serve(&["--samples", "--policy", file.to_str().expect("text")]);
    let mut job = String::new();
    for family in ["hello", "open"] {
        for _ in 0..2 {
            let submit = ["submit", "slow", "--input", r#"{"ms":600000}"#, "--detach", "--family", family];
            let left = home.run(&submit);
            assert_eq!(code(&left), 0, "{}", stderr(&left));
            job = stdout(&left).trim().to_string();
        }
        let waited = home.run(&["wait", &job, "--timeout", "1ms", "--family", family]);
        assert_eq!(code(&waited), 4, "{}", stderr(&waited));
        for signal in ["-INT", "-TERM", "-HUP"] {
            let mut watching = followed(&home, &["watch", &job, "--family", family]);
            Command::new("kill").args([signal, &watching.id().to_string()]).status().expect("kill");
            assert_eq!(watching.wait().expect("it ends").code(), Some(130), "{signal}");
        }
    }
    let listed = home.run(&["ls", "--no-header"]);
    assert_eq!((code(&listed), stdout(&listed).lines().count()), (0, 4), "{}", stderr(&listed));
    assert_eq!(code(&home.run(&["cancel", &job])), 0, "what was left can be ended from anywhere");
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let commands = pages::script(include_str!("../../docs/policy.md"));
    let all = pages::paste(ARCP, &arcp_tests::kept::Folder::new("policy-page"), &commands);
    assert!(all.contains("submit echo: allow, by rule `ci`"), "{all}");
}

#[test]
fn the_roles_of_a_jwt_count_as_far_as_policy_lets_its_issuer_say_them() {
    let mut home = Home::new(ARCP);
    let policy = written(
        &home,
        "[roles]\ndev = [\"https://login.example#a*\"]\n\n\
         [[rule]]\nname = \"devs\"\nroles = [\"dev\"]\nagents = [\"echo\"]\n\n\
         [[rule]]\nname = \"roots\"\nroles = [\"root\"]\nagents = [\"**\"]\n",
    );
    let pair = KeyPair::generate().expect("a key");
    let keys = home.dir.join("keys.pem");
    fs::write(&keys, pair.public_key_pem()).expect("written");
    let signing = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
    let token = |subject: &str, roles: Value, capabilities: Value| {
        let mut claims = json!({"iss": "https://login.example", "aud": "here", "sub": subject, "exp": 4_000_000_000_u64,
            "roles": roles});
        if !capabilities.is_null() {
            claims["arcp_capabilities"] = capabilities;
        }
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signing).expect("it is signed")
    };
    let [policy, keys] = [&policy, &keys].map(|path| path.to_str().expect("text").to_string());
    let issued = ["--jwt-issuer", "https://login.example", "--audience", "here", "--jwt-keys", &keys];
    let url = home.serve(&[&["--samples", "--policy", &policy][..], &issued].concat());
    for family in ["hello", "open"] {
        let on = |token: &str, args: &[&str]| {
            home.run(&[args, &["--url", &url, "--token", token, "--family", family]].concat())
        };
        for (subject, roles, agent, exit) in [
            ("alice", json!(["dev"]), "echo", 0),
            ("alice", json!("dev"), "echo", 0),
            ("alice", json!(["dev"]), "chatty", 1),
            ("alice", json!([]), "echo", 1),
            ("alice", json!(["root"]), "echo", 1),
            ("bob", json!(["dev"]), "echo", 1),
        ] {
            let ran = on(&token(subject, roles.clone(), Value::Null), &["submit", agent, "--input", "1"]);
            assert_eq!(code(&ran), exit, "{family} {subject} {roles} {agent}: {}", stderr(&ran));
        }
        // Capabilities are bounded by the same token.
        let bounded = token("alice", json!("dev"), json!(["ack"]));
        let listed = on(&bounded, &["ls"]);
        assert!(code(&listed) != 0 && stderr(&listed).contains("list_jobs"), "{family}: {}", stderr(&listed));
        assert_eq!(code(&on(&bounded, &["submit", "echo", "--input", "1"])), 0);
        assert_eq!(code(&on(&token("alice", json!("dev"), json!(["list_jobs"])), &["ls"])), 0);
    }
}
