//! The authority of jobs, as users see it: permissions that are shorter than intended, trust levels, credentials of
//! their jobs, and child jobs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::model_proxy::{Fault, MASTER, Proxy};
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

#[test]
fn a_permission_that_ends_earlier_than_whoever_granted_it_wanted_says_so() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    for family in ["hello", "open"] {
        home.variables = vec![("ARCP_FAMILY", family)];
        for (given, is_said) in [("1h", true), ("1m", false), ("30s", false)] {
            let job = stdout(&home.run(&["submit", "permitter", "--input", r#"{"seconds": 60}"#, "--detach"]));
            let asked = until("it asks", || {
                let open = stdout(&home.run(&["inbox", "-o", "id"]));
                (!open.is_empty()).then(|| open.trim().to_string())
            });
            let granted = home.run(&["approve", &asked, "--for", given]);
            let said = stderr(&granted);
            assert_eq!(
                (code(&granted), said.contains("it ends in 1m, not in 1h")),
                (0, is_said),
                "{family} {given}: {said}"
            );
            assert_eq!(said.contains(&format!("arcp extend {}", asked.replace("prm_", "lease_"))), is_said, "{said}");
            assert!(stdout(&granted).contains("expires_at"), "{granted:?}");
            assert_eq!(code(&home.run(&["wait", job.trim()])), 0);
        }
    }
}

#[test]
fn how_far_a_job_is_trusted_is_shown() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let job = stdout(&home.run(&["submit", "echo", "--input", "1", "--detach"]));
    for family in ["hello", "open"] {
        let shown = home.run(&["show", job.trim(), "--family", family, "-o", "json"]);
        let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap_or_else(|e| panic!("{e}: {shown:?}"));
        assert_eq!(shown["trust_level"], "trusted", "{family}: {shown}");
    }
    let shown = stdout(&home.run(&["show", job.trim()]));
    assert!(shown.lines().any(|line| line.starts_with("trust ") && line.ends_with(" trusted")), "{shown}");
}

#[test]
fn whoever_submits_a_job_has_its_credentials_in_a_file_and_nowhere_else() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    home.serve(&["--samples", "--store", &store]);
    let file = home.dir.join("credentials.json");
    let path = file.to_str().expect("text");
    for family in ["hello", "open"] {
        // A file that everybody reads is replaced.
        fs::write(&file, "old").expect("written");
        let lease = ["--lease", "model.use=gpt-*", "--family", family, "-o", "jsonl"];
        let done = home.run(&[&["submit", "creds", "--credentials", path][..], &lease].concat());
        assert_eq!(code(&done), 0, "{family}: {}", stderr(&done));
        let all: Value = serde_json::from_str(&fs::read_to_string(&file).expect("written")).expect("JSON");
        let value = all[0]["value"].as_str().expect("a value");
        assert!(value.starts_with("sk-sample-job_") && all[0]["endpoint"].is_string(), "{family}: {all}");
        assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert!(!format!("{}{}", stdout(&done), stderr(&done)).contains("sk-sample"), "{done:?}");

        let none = home.run(&["submit", "echo", "--input", "1", "--family", family, "--credentials", path]);
        assert!(code(&none) == 0 && stderr(&none).contains("no credentials were issued"), "{}", stderr(&none));
        assert_eq!(fs::read_to_string(&file).expect("written").trim(), "[]", "those of before do not stay");
    }
    let before = stdout(&home.run(&["ls", "-o", "id"]));
    let lost = home.run(&["submit", "creds", "--credentials", "/nowhere/file", "--lease", "model.use=gpt-*"]);
    assert!(code(&lost) == 1 && stderr(&lost).contains("/nowhere/file: "), "{}", stderr(&lost));
    assert_eq!(stdout(&home.run(&["ls", "-o", "id"])), before, "no job has credentials that nobody gets");
}

#[test]
fn whoever_asks_a_runtime_for_credentials_that_offers_none_is_told_so() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples", "--store", "memory"]);
    let file = home.dir.join("credentials.json");
    let path = file.to_str().expect("text");
    for family in ["hello", "open"] {
        let asked = ["submit", "echo", "--input", "1", "--lease", "model.use=gpt-*", "--credentials", path];
        let done = home.run(&[&asked[..], &["--family", family]].concat());
        let said = stderr(&done);
        assert_eq!(code(&done), 0, "{family}: {said}");
        assert!(said.contains("its runtime offers none") && said.contains("a store in a file"), "{family}: {said}");
        assert!(!said.contains("its lease grants no"), "{family}: {said}");
        assert_eq!(fs::read_to_string(&file).expect("written").trim(), "[]");
    }
}

#[test]
fn a_job_that_nothing_can_be_put_below_is_named() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let ended = stdout(&home.run(&["submit", "echo", "--input", "1", "--detach"]));
    home.run(&["wait", ended.trim()]);
    for (parent, why) in [(ended.trim(), "has ended"), ("job_01ARZ3NDEKTSV4RRFFQ69G5FAV", "no such job")] {
        for family in ["hello", "open"] {
            let refused = home.run(&["submit", "echo", "--input", "1", "--parent", parent, "--family", family]);
            let said = stderr(&refused);
            assert!(
                code(&refused) == 1 && said.contains(&format!("--parent {parent}: ")) && said.contains(why),
                "{said}"
            );
        }
    }
}

/// A runtime whose jobs have keys of this proxy.
fn provisioned(home: &mut Home, proxy: &Proxy) -> String {
    fs::create_dir_all(&home.dir).expect("a folder");
    let key = home.dir.join("master");
    fs::write(&key, MASTER).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    let (named, key) = (format!("litellm:{}", proxy.url), key.to_str().expect("text").to_string());
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let agents = ["--agent", "it=sleep 1; printf '%s' \"$ARCP_CREDENTIALS\" | wc -c"];
    home.serve(&[&["--store", &store, "--provisioner", &named, "--provisioner-key-file", &key][..], &agents].concat())
}

#[test]
fn a_job_of_the_program_has_a_key_of_a_proxy_whatever_that_does() {
    let (mut home, proxy) = (Home::new(ARCP), Proxy::start());
    provisioned(&mut home, &proxy);
    let submit = ["submit", "it", "--lease", "model.use=gpt-*"];
    let ran = home.run(&submit);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert!(stdout(&ran).trim().parse::<u32>().is_ok_and(|bytes| bytes > 20), "its agent had one: {}", stdout(&ran));
    let (issued, counting) = {
        let state = proxy.state();
        (state.issued, state.keys.len())
    };
    assert_eq!((issued, counting), (1, 0), "and it is revoked");
    // Nothing usable comes, though something was issued: the job is refused, and that revoked.
    for fault in [Fault::Status500, Fault::Cut, Fault::Garbage] {
        proxy.state().fault = Some(fault);
        let refused = home.run(&submit);
        let said = stderr(&refused);
        assert!(code(&refused) == 1 && said.contains("gets no credentials"), "{fault:?}: {said}");
        assert!(!said.contains("sk-"), "{said}");
        until("it is revoked", || proxy.state().keys.is_empty().then_some(()));
    }
    proxy.state().fault = None;

    // One that deletes late holds the end up for five seconds at most, and one that cannot is asked again.
    proxy.state().holds_deletes = true;
    let begun = Instant::now();
    let ran = home.run(&submit);
    let took = begun.elapsed();
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert!(Duration::from_secs(5) < took, "{took:?}");
    proxy.answers_deletes();
    proxy.state().cannot_delete = true;
    let left = stdout(&home.run(&[&submit[..], &["--detach"]].concat())).trim().to_string();
    assert_eq!(code(&home.run(&["wait", &left])), 0);
    let shown = |named: &str| stdout(&home.run(&["show", named, "-o", "json"]));
    let facts: Value = serde_json::from_str(&shown(&left)).expect("JSON");
    assert_eq!(facts["credentials"], "unrevoked", "{facts}");
    assert!(stdout(&home.run(&["show", &left])).contains("not revoked, though it ended"));
    proxy.state().cannot_delete = false;
    until("it is revoked", || (!shown(&left).contains("unrevoked")).then_some(()));
    until("those of all jobs are", || proxy.state().keys.is_empty().then_some(()));
}
