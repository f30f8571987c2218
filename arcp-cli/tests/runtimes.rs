//! Several runtimes of one user, the jobs of each, and how commands find them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn runtimes(home: &Home) -> Vec<Value> {
    let listed = home.run(&["runtimes", "--output", "jsonl"]);
    stdout(&listed).lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

fn entries(home: &Home) -> Vec<PathBuf> {
    let files = fs::read_dir(home.dir.join("runtimes")).expect("a folder").map(|file| file.expect("one").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

fn submit(home: &Home, more: &[&str]) -> std::process::Output {
    home.run(&[&["submit", "echo", "--input", "7"], more].concat())
}

#[test]
fn stopping_a_runtime_hides_no_other() {
    let mut home = Home::new(ARCP);
    let first = home.serve(&["--samples"]);
    let second = home.serve(&["--agent", "hi=echo hello"]);
    let third = home.serve(&["--samples", "--token", "given=me"]);
    let listed = runtimes(&home);
    let urls: Vec<&str> = listed.iter().filter_map(|runtime| runtime["url"].as_str()).collect();
    assert_eq!(urls, [&third, &second, &first], "the newest first");
    assert_eq!((&listed[1]["agents"], &listed[1]["unfinished_jobs"]), (&serde_json::json!(["hi"]), &0.into()));
    assert!(listed[0].get("agents").is_none(), "its token is not kept: {}", listed[0]);
    for entry in entries(&home) {
        assert_eq!(fs::metadata(&entry).expect("kept").permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&entry).expect("text").contains("given"), "a token that was given is kept nowhere");
    }
    assert!(home.signal("TERM").success());
    assert_eq!(stdout(&home.run(&["submit", "hi"])), "hello\n", "the one before it is found");
    // One that cannot take its word back.
    assert!(!home.signal("KILL").success());
    assert_eq!(stdout(&submit(&home, &[])), "7\n", "one that was killed is not");
    assert_eq!(runtimes(&home).len(), 1);
    home.serve(&["--samples"]);
    assert_eq!(entries(&home).len(), 2, "nor is it kept");
}

#[test]
fn a_runtime_that_is_named_is_given_the_token_that_is_kept_for_it() {
    let mut home = Home::new(ARCP);
    let first = home.serve(&["--samples"]);
    let given = home.serve(&["--samples", "--token", "given=me"]);
    let port = |url: &str| url.trim_end_matches("/arcp").rsplit(':').next().expect("a port").to_string();
    let (first_port, given_port) = (port(&first), port(&given));
    for name in [first.clone(), format!("localhost:{first_port}"), format!(":{first_port}")] {
        let let_in = submit(&home, &["--url", &name]);
        assert_eq!((code(&let_in), stdout(&let_in).as_str()), (0, "7\n"), "{name}: {}", stderr(&let_in));
    }
    let refused = submit(&home, &["--url", &format!(":{given_port}")]);
    assert_eq!(code(&refused), 8, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("give --token, set ARCP_TOKEN, or `arcp login`"), "{}", stderr(&refused));
    assert_eq!(code(&submit(&home, &["--url", &format!(":{given_port}"), "--token", "given"])), 0);
    // By any of its names it is the runtime to which the job was submitted.
    let slow = ["submit", "slow", "--input", r#"{"ms":60000}"#, "--detach", "--url", &first];
    let job = stdout(&home.run(&slow)).trim().to_string();
    let cancelled = home.run(&["cancel", &job, "--url", &format!("localhost:{first_port}")]);
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    let elsewhere = home.run(&["cancel", &job, "--url", &given, "--token", "given"]);
    assert!(
        code(&elsewhere) == 2 && stderr(&elsewhere).contains(&format!("give --url {first}")),
        "{}",
        stderr(&elsewhere)
    );
}

#[test]
fn a_runtime_that_is_starting_is_waited_for() {
    let mut home = Home::new(ARCP);
    let mut waiting = home.arcp(&["submit", "echo", "--input", "7"]);
    let waiting = waiting.stdout(std::process::Stdio::piped()).spawn().expect("it runs");
    // It has looked for one in vain.
    until("it waits", || asleep(waiting.id()).then_some(()));
    home.serve(&["--samples"]);
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "7\n"));
}

/// Whether a process waits for time to pass.
fn asleep(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|wait| wait.contains("nanosleep"))
        || fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("230 "))
}

#[test]
fn a_second_runtime_on_a_port_is_told_of_the_port() {
    let mut home = Home::new(ARCP);
    let free = arcp_tests::ports::free().to_string();
    home.serve_at(&free, &["--samples"]);
    let second = home.run(&["serve", "--samples", "--listen", &free]);
    assert_eq!(code(&second), 1, "{}", stderr(&second));
    let said = stderr(&second);
    assert!(said.contains(&format!("cannot listen on {free}")) && said.contains("arcp runtimes"), "{said}");
    assert!(!said.contains("store"), "its store is another's for the same reason: {said}");
    assert_eq!(runtimes(&home).len(), 1, "the other one's word stays");
}

#[test]
fn nobody_leaves_a_job_behind_that_nobody_can_watch() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--anonymous", "--token", "given=me"]);
    let stranger = Home::new(ARCP);
    assert_eq!(stdout(&submit(&stranger, &["--url", &url])), "7\n", "who stays sees it");
    let refused = submit(&stranger, &["--url", &url, "--detach"]);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("give --token"), "{}", stderr(&refused));
    let mine = submit(&stranger, &["--url", &url, "--detach", "--token", "given"]);
    let job = stdout(&mine).trim().to_string();
    assert_eq!(stdout(&stranger.run(&["watch", &job, "--url", &url, "--token", "given"])), "7\n");
    let listed = stdout(&stranger.run(&["list", "--url", &url, "--token", "given"]));
    assert_eq!(listed.lines().count(), 1, "the refused one was not submitted: {listed}");
}

#[test]
fn jobs_are_listed_newest_first_and_what_is_left_out_is_counted() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let jobs: Vec<String> =
        (0..6).map(|_| stdout(&home.run(&["submit", "echo", "--detach"])).trim().to_string()).collect();
    let newest_first: Vec<&String> = jobs.iter().rev().collect();
    let listed = |args: &[&str]| {
        let output = home.run(&[&["list"], args].concat());
        let ids: Vec<String> =
            stdout(&output).lines().map(|line| line.split(' ').next().expect("a column").to_string()).collect();
        (ids, stderr(&output))
    };
    let (ids, said) = listed(&[]);
    assert_eq!(ids.iter().collect::<Vec<_>>(), newest_first);
    assert!(said.starts_with("JOB ") && said.contains(" AGE") && !said.contains("--limit"), "{said}");
    let columns: Vec<&str> = said.lines().next().expect("a heading").split_whitespace().collect();
    assert_eq!(columns, ["JOB", "STATUS", "AGENT", "AGE", "TOOK", "OWNER"]);
    let first = stdout(&home.run(&["list", "--limit", "1"]));
    let first: Vec<&str> = first.split_whitespace().collect();
    assert!(first.len() == 6 && first[4].ends_with('s') && first[5] == "local", "{first:?}");
    let (ids, said) = listed(&["--limit", "4"]);
    assert_eq!(ids.iter().collect::<Vec<_>>(), newest_first[..4]);
    assert!(said.contains("4 of 6 jobs: --limit 0 for all"), "{said}");
    assert_eq!(listed(&["--limit", "0"]).0.len(), 6);
    assert_eq!(listed(&["--status", "error"]).0.len(), 0);
}

#[test]
fn the_beginning_of_an_id_is_enough_if_no_other_begins_so() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let input = r#"{"ms":60000}"#;
    let submit = || stdout(&home.run(&["submit", "slow", "--input", input, "--detach"])).trim().to_string();
    let one = submit();
    // Ids begin with their time.
    let beginning = one[.."job_".len() + 12].to_string();
    let cancelled = home.run(&["cancel", &beginning]);
    assert!(code(&cancelled) == 0 && stderr(&cancelled).contains(&one), "{}", stderr(&cancelled));
    assert_eq!(code(&home.run(&["watch", &beginning.to_lowercase()["job_".len()..]])), 3);
    let two = submit();
    let ambiguous = home.run(&["watch", "job_01"]);
    let said = stderr(&ambiguous);
    assert_eq!(code(&ambiguous), 2, "{said}");
    assert!(said.contains("`job_01` begins the ids of 2 jobs") && said.contains(&one) && said.contains(&two), "{said}");
}
