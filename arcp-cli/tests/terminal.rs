//! Commands on a terminal, where stdout and stderr are the same.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::server::PATIENCE;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// How often a line was shown.
fn count(shown: &str, line: &str) -> usize {
    shown.lines().filter(|shown| *shown == line).count()
}

#[test]
fn plain_lines_are_shown_while_they_come_and_not_again_as_the_result() {
    let mut home = Home::new(ARCP);
    home.serve(&[
        "--agent",
        "plain=echo one; echo careful >&2; echo two",
        "--agent",
        r#"both=echo one; echo '{"result":"one"}'; exit 0"#,
        "--agent",
        r#"other=echo one; echo '{"result":{"n":2}}'"#,
        "--agent",
        "silent=true",
    ]);
    let (status, shown) = home.run_on_terminal(&["submit", "plain"]);
    assert_eq!(status.code(), Some(0), "{shown}");
    assert_eq!((count(&shown, "one"), count(&shown, "two"), count(&shown, "stderr careful")), (1, 1, 1), "{shown}");
    let (_, shown) = home.run_on_terminal(&["submit", "other"]);
    assert_eq!((count(&shown, "one"), count(&shown, r#"{"n":2}"#)), (1, 1), "{shown}");
    // A text that happens to be what was printed is the same to a reader.
    let (_, shown) = home.run_on_terminal(&["submit", "both"]);
    assert_eq!(count(&shown, "one"), 1, "{shown}");
    let (status, shown) = home.run_on_terminal(&["submit", "silent"]);
    assert_eq!((status.code(), count(&shown, "status running")), (Some(0), 1), "{shown}");
    // In a pipe the result is there, and nothing else.
    assert_eq!(stdout(&home.run(&["submit", "plain"])), "one\ntwo\n");
}

#[test]
fn a_program_in_python_is_shown_while_it_runs() {
    let mut home = Home::new(ARCP);
    home.serve(&["--agent", "py=python3 -c 'print(\"begun\"); import time; time.sleep(1000)'"]);
    let mut submit = home.arcp(&["submit", "py"]).stderr(Stdio::piped()).spawn().expect("it runs");
    let said = BufReader::new(submit.stderr.take().expect("a pipe")).lines();
    let (tell, begun) = channel();
    let reader = std::thread::spawn(move || {
        // Its end is of no interest here.
        let _ = said.map_while(Result::ok).find(|line| line == "begun").map(|_| tell.send(()));
    });
    let seen = begun.recv_timeout(PATIENCE);
    submit.kill().and_then(|()| submit.wait()).expect("gone");
    reader.join().expect("no panic");
    assert!(seen.is_ok(), "it is held back");
}

#[test]
fn an_end_says_nothing_twice() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let job = stdout(&home.run(&["submit", "slow", "--input", r#"{"ms":60000}"#, "--detach"])).trim().to_string();
    assert_eq!(code(&home.run(&["cancel", &job])), 0);
    let watched = home.run(&["watch", &job]);
    assert_eq!(code(&watched), 3);
    assert_eq!(stderr(&watched).lines().last(), Some("arcp: cancelled: client.cancel"), "{}", stderr(&watched));
    let failed = home.run(&["submit", "failer"]);
    assert_eq!(stderr(&failed).lines().last(), Some("arcp: error: boom (INTERNAL_ERROR)"), "{}", stderr(&failed));
}

#[test]
fn talk_after_a_result_in_pieces_begins_on_a_line_of_its_own() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let (_, shown) = home.run_on_terminal(&["submit", "chunker"]);
    assert_eq!(count(&shown, "arcp: 10 chunks of 1000 bytes"), 1, "{shown}");
    assert_eq!(stdout(&home.run(&["submit", "chunker"])).len(), 10_000, "in a pipe it is as it is");
}

#[test]
fn whoever_follows_a_job_is_told_that_it_reconnects_and_that_nothing_was_lost() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    let free = arcp_tests::ports::free().to_string();
    let serve = ["--samples", "--store", &store];
    home.serve_at(&free, &serve);
    let job = stdout(&home.run(&["submit", "slow", "--input", r#"{"ms":600000}"#, "--detach"]));
    let mut watch = home.arcp(&["watch", job.trim()]).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(watch.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "status running"));
    assert!(!home.signal("KILL").success());
    assert!(said.any(|line| line.starts_with("arcp: reconnecting (attempt 1): ")));
    home.serve_at(&free, &serve);
    assert!(said.any(|line| line == "arcp: reconnected, no events lost"));
    // What ran when its runtime ended cannot go on.
    assert!(said.any(|line| line.contains("INTERNAL_ERROR")));
    assert_eq!(watch.wait().expect("it ends").code(), Some(1));
}
