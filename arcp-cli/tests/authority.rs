//! What a job may do, as people see it: permissions that are shorter than they were meant, trust levels, credentials of
//! their own jobs, and jobs below others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use arcp_tests::home::{Home, code, stderr, stdout};
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
