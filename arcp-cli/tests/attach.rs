//! `arcp attach`: stdin and output of a job, in a pipe and on a terminal, and while a runtime is killed. Streams that
//! are cancelled, and streams that do not match their frames.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// Says back each chunk that it reads, until it reads the end.
const ECHO: &str = r#"#!/bin/sh
read -r input
echo '{"kind":"stream.open","body":{"stream":"o","kind":"text"}}'
while read -r line; do
    case "$line" in
    *stream.open*) ;;
    *stream.close*) printf '{"result":"done"}\n'; exit 0 ;;
    *) data=${line#*'"data":'}
       printf '%s\n' '{"kind":"stream.chunk","body":{"stream":"o","data":'"$data"'}' ;;
    esac
done
"#;

fn home() -> (Home, Vec<String>) {
    let mut home = Home::new(ARCP);
    home.variables = vec![("ARCP_TOKEN", "t")];
    let folder = home.dir.join("agents");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, toml) in [("echo", "input = true\n"), ("deaf", "answered = true\n")] {
        fs::write(folder.join(name), ECHO).expect("written");
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).expect("set");
        fs::write(folder.join(format!("{name}.toml")), toml).expect("written");
    }
    let (agents, store) = (folder.display().to_string(), home.dir.join("jobs.db").display().to_string());
    let options = ["--agents", &agents, "--store", &store, "--token", "t=alice"];
    (home, options.map(str::to_string).to_vec())
}

fn serve(home: &mut Home, options: &[String]) {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    home.serve(&options);
}

/// Submits a job, and waits until its agent runs.
fn running(home: &Home, agent: &str) -> String {
    let output = home.run(&["submit", agent, "--detach"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let job = stdout(&output).trim().to_string();
    until("its agent has opened its stream", || {
        let logs = home.run(&["logs", &job]);
        format!("{}{}", stdout(&logs), stderr(&logs)).contains("opens").then_some(())
    });
    job
}

#[test]
fn stdin_goes_to_a_job_and_comes_back_on_stdout_in_both_families() {
    let (mut home, options) = home();
    serve(&mut home, &options);
    for family in ["hello", "open"] {
        home.variables.push(("ARCP_FAMILY", family));
        let job = running(&home, "echo");
        let mut attach = home.arcp(&["attach", &job]);
        let attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut attach = attach.expect("it runs");
        attach.stdin.take().expect("a pipe").write_all(b"one\ntwo \xc3\xa9\n").expect("written");
        let output = attach.wait_with_output().expect("it ends");
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "one\ntwo \u{e9}\n"), "{}", stderr(&output));
    }
    let job = running(&home, "deaf");
    let mut attach = home.arcp(&["attach", &job]);
    let attach = attach.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    assert_eq!(code(&home.run(&["cancel", &job])), 0);
    let output = attach.wait_with_output().expect("it ends");
    assert!(stderr(&output).contains("stdin is not sent: `deaf` takes no input"), "{}", stderr(&output));
}

#[test]
fn whoever_types_ctrl_p_ctrl_q_leaves_the_job_running() {
    let (mut home, options) = home();
    serve(&mut home, &options);
    let job = running(&home, "echo");
    let mut terminal = home.on_terminal(&["attach", &job]);
    let shows = |terminal: &arcp_tests::home::Terminal, what: &str, times: usize| {
        let shown = String::from_utf8_lossy(&terminal.shown()).into_owned();
        (shown.matches(what).count() >= times).then_some(())
    };
    // Typed before it is read, it would be echoed alone.
    until("it is attached", || {
        let logs = home.run(&["logs", &job]);
        format!("{}{}", stdout(&logs), stderr(&logs)).contains("(binary)").then_some(())
    });
    terminal.type_keys("hi");
    until("it is echoed by the terminal and by the agent", || shows(&terminal, "hi", 2));
    terminal.type_keys("\u{10}\u{11}");
    assert!(terminal.wait().success());
    shows(&terminal, "detached, the job goes on", 1).expect("it says so");
    let list = home.run(&["ls"]);
    assert!(stdout(&list).contains("running"), "{}", stdout(&list));
    assert_eq!(code(&home.run(&["cancel", &job])), 0);
}

#[test]
fn a_killed_runtime_ends_the_streams_of_both_directions_with_their_job() {
    let (mut home, options) = home();
    serve(&mut home, &options);
    let job = running(&home, "echo");
    let mut attach = home.arcp(&["attach", &job]);
    let attach = attach.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut attach = attach.expect("it runs");
    let mut typed = attach.stdin.take().expect("a pipe");
    typed.write_all(b"before\n").expect("written");
    let logs = |home: &Home| {
        let logs = home.run(&["logs", &job]);
        format!("{}{}", stdout(&logs), stderr(&logs))
    };
    until("both are open", || logs(&home).contains("before").then_some(()));
    home.signal("KILL");
    serve(&mut home, &options);
    let after = until("its job has ended", || Some(logs(&home)).filter(|logs| logs.matches("is over").count() == 2));
    assert!(after.contains("before") && after.contains("its job has ended: error"), "{after}");
    drop(typed);
    attach.kill().expect("it is there");
    attach.wait().expect("it ends");
}

#[test]
fn a_stream_is_cancelled_from_the_command_line_and_its_job_goes_on() {
    let (mut home, options) = home();
    serve(&mut home, &options);
    for family in ["hello", "open"] {
        home.variables.push(("ARCP_FAMILY", family));
        let job = running(&home, "deaf");
        let logs = |home: &Home| stdout(&home.run(&["logs", &job]));
        let said = logs(&home);
        let stream = said.split_whitespace().find(|word| word.starts_with("str_")).expect("it is named").to_string();
        let cancelled = home.run(&["cancel", &stream, "--reason", "enough"]);
        assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
        assert!(stderr(&cancelled).contains("its job goes on"), "{}", stderr(&cancelled));
        until("the stream is over", || logs(&home).contains("breaks off: enough").then_some(()));
        assert!(stdout(&home.run(&["show", &job])).contains("running"), "{family}");
        let again = home.run(&["cancel", &stream]);
        assert_eq!(code(&again), 1, "{}", stderr(&again));
        assert!(stderr(&again).contains("over already"), "{}", stderr(&again));
        assert_eq!(code(&home.run(&["cancel", &job])), 0);
    }
    let none = home.run(&["cancel", "str_01M7VD85KQ9SZXPW6NX4X2SFJ9_1"]);
    assert_eq!(code(&none), 1);
    assert!(stderr(&none).contains("there is no stream") && stderr(&none).contains("arcp watch"), "{}", stderr(&none));
    for mistake in [&["cancel", "str_1_1", "job_1"][..], &["cancel", "str_1_1", "--dry-run"]] {
        let refused = home.run(mistake);
        assert_eq!(code(&refused), 2, "{mistake:?}: {}", stderr(&refused));
    }
}

/// A runtime of one job that says something in a stream, whose digest is that of `DATA`.
const THEIRS: &str = r#"
while read -r frame; do
    case "$frame" in
    *session.hello*) printf '%s\n' '{"id":"w","type":"session.welcome","session_id":"s","payload":{"session_id":"s","resume_token":"t","resume_window_sec":600,"runtime":{"name":"theirs","version":"1"},"capabilities":{"features":["ack","subscribe","list_jobs","result_chunk"]}}}' ;;
    *job.submit*)
        printf '%s\n' '{"id":"a","type":"job.accepted","session_id":"s","job_id":"job_1","payload":{"job_id":"job_1","agent":"it","lease":{}}}'
        event='{"id":"e","type":"job.event","session_id":"s","job_id":"job_1"'
        body='"payload":{"kind":"x-vendor.arcp.stream","ts":"2026-01-01T00:00:00Z","body":{"stream_id":"str_1_1"'
        printf '%s\n' "$event,\"event_seq\":1,$body,\"type\":\"stream.open\",\"kind\":\"text\"}}}"
        printf '%s\n' "$event,\"event_seq\":2,$body,\"type\":\"stream.chunk\",\"sequence\":0,\"data\":\"DATA\",\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}}}"
        printf '%s\n' '{"id":"r","type":"job.result","session_id":"s","job_id":"job_1","event_seq":3,"payload":{"final_status":"success","job_id":"job_1","result":1}}' ;;
    esac
done
"#;

#[test]
fn a_chunk_that_is_not_what_its_digest_says_is_not_shown_and_is_one_error() {
    let home = Home::new(ARCP);
    for (data, exit) in [("abc", 0), ("forged", 7)] {
        fs::create_dir_all(&home.dir).expect("a folder");
        let script = home.dir.join(format!("exits-{exit}.sh"));
        fs::write(&script, THEIRS.replace("DATA", data)).expect("written");
        let url = format!("exec:sh {}", script.display());
        for output in ["text", "jsonl"] {
            let shown = home.run(&["submit", "it", "--url", &url, "--output", output]);
            let said = format!("{}{}", stdout(&shown), stderr(&shown));
            assert_eq!(code(&shown), exit, "{data}: {said}");
            assert_eq!(said.contains(data), exit == 0, "{data}: {said}");
            assert_eq!(said.matches("a stream is not whole").count(), usize::from(exit != 0), "{data}: {said}");
        }
    }
}
