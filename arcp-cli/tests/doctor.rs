//! `arcp doctor`: what works, what does not, what to do, and what will fail next.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use arcp_tests::home::{Home, code, stderr, stdout};
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn findings(home: &Home) -> (i32, Vec<Value>, String) {
    let output = home.run(&["doctor", "-o", "jsonl"]);
    let lines = stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    (code(&output), lines, stderr(&output))
}

fn states<'a>(findings: &'a [Value], check: &str) -> Vec<(&'a str, &'a str)> {
    let of_check = findings.iter().filter(|finding| finding["check"] == check);
    of_check.map(|f| (f["state"].as_str().expect("a state"), f["found"].as_str().expect("words"))).collect()
}

#[test]
fn a_machine_that_is_well_is_told_what_would_run_out_first() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    fs::set_permissions(&home.dir, Permissions::from_mode(0o700)).expect("ours");
    let store = home.dir.join("jobs.db").display().to_string();
    let url = home.serve(&["--samples", "--store", &store]);
    home.run(&["submit", "echo", "--input", "1"]);
    let (exit, findings, said) = findings(&home);
    assert_eq!(exit, 0, "{findings:?}");
    for check in ["versions", "state directory", "clock", "store", "runtime"] {
        let states = states(&findings, check);
        assert!(states.len() == 1 && states[0].0 == "ok", "{check}: {findings:?}");
    }
    assert!(states(&findings, "store")[0].1.starts_with(&store) && states(&findings, "runtime")[0].1.contains(&url));
    assert!(states(&findings, "disk sync")[0].1.contains(" ms to write 4 KiB"), "{findings:?}");
    assert!(states(&findings, "open files").iter().any(|(_, found)| found.contains(&url)), "of the one that runs");
    assert!(findings.iter().any(|finding| finding["left_percent"].is_u64()), "{findings:?}");
    assert!(said.contains("would"), "{said}");
    let table = stdout(&home.run(&["doctor"]));
    assert!(table.lines().any(|line| line.starts_with("free space") && line.contains(" are free for ")), "{table}");
}

#[test]
fn what_is_wrong_is_told_with_its_mend_and_is_the_code() {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    fs::set_permissions(&home.dir, Permissions::from_mode(0o755)).expect("ours");
    fs::write(home.dir.join("store-7777.db"), "no store").expect("written");
    let (exit, findings, said) = findings(&home);
    assert_eq!(exit, 1, "{findings:?}");
    let (state, found) = states(&findings, "state directory")[0];
    assert!(state == "warning" && found.contains("chmod 700"), "{found}");
    let (state, found) = states(&findings, "store")[0];
    assert!(state == "failing" && found.contains("store-7777.db is not a store"), "{found}");
    assert!(said.contains("failing now: store"), "what fails comes before what is only worse: {said}");
}

#[test]
fn few_open_files_are_a_warning() {
    let home = Home::new(ARCP);
    let doctor = format!("ulimit -n 100; exec {ARCP} doctor -o jsonl");
    let output = Command::new("sh").args(["-c", &doctor]).env("ARCP_STATE_DIR", &home.dir).output().expect("it runs");
    let line = stdout(&output).lines().find(|line| line.contains("\"open files\"")).expect("it is told").to_string();
    assert!(line.contains("\"warning\"") && line.contains("may open 100") && line.contains("ulimit"), "{line}");
}

#[test]
fn a_clock_that_was_set_back_is_noticed() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    home.serve(&["--samples", "--store", &store]);
    home.run(&["submit", "echo", "--input", "1"]);
    home.signal("TERM");
    // As if the newest job were of the year 2200.
    let future = (7_258_118_400_000_u64 << 16).to_be_bytes();
    let hex: String = future.iter().chain(&[0; 8]).map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "import sqlite3, sys\nfile = sqlite3.connect(sys.argv[1])\n\
         file.execute(\"UPDATE records SET job = x'{hex}' WHERE pos = (SELECT max(pos) FROM records WHERE job IS NOT NULL)\")\nfile.commit()"
    );
    let changed = Command::new("python3").args(["-c", &script, &store]).status().expect("python");
    assert!(changed.success());
    let (_, findings, _) = findings(&home);
    let (state, found) = states(&findings, "clock")[0];
    assert!(state == "warning" && found.contains("accepted at 2") && found.contains("set back"), "{found}");
}
