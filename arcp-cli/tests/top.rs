//! `arcp top` on a terminal.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use arcp_tests::home::{Home, Terminal, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// What stands on the screen.
fn screen(terminal: &Terminal) -> String {
    let mut parser = vt100::Parser::new(30, 120, 0);
    parser.process(&terminal.shown());
    parser.screen().contents()
}

/// Waits until the screen shows all of this; gives it.
fn shows(terminal: &Terminal, needles: &[&str]) -> String {
    until(&format!("{needles:?} on the screen"), || {
        Some(screen(terminal)).filter(|screen| needles.iter().all(|needle| screen.contains(needle)))
    })
}

fn left(home: &Home, agent: &str, input: &str) -> String {
    stdout(&home.run(&["submit", agent, "--input", input, "--detach"])).trim().to_string()
}

#[test]
fn jobs_are_shown_as_they_go_and_are_watched_and_cancelled_with_a_key() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--cancel-grace", "100ms"]);
    let (older, newer) = (left(&home, "slow", r#"{"ms":600000}"#), left(&home, "slow", r#"{"ms":600000}"#));
    let mut top = home.on_terminal(&["top", "--every", "50ms"]);
    let seen = shows(
        &top,
        &[&older, &newer, "running", "jobs 2 (2 running, 0 waiting)", "sessions 3 (1 connected)", "lag 0 B"],
    );
    assert!(seen.starts_with(&url), "{seen}");
    assert!(seen.find(&newer) < seen.find(&older), "the newest first: {seen}");
    until("events per second", || {
        let screen = screen(&top);
        let rate = screen.split("events/s ").nth(1)?.split(' ').next()?.parse::<f64>().ok()?;
        (rate > 0.0).then_some(())
    });
    // Only a yes cancels, and the one that is selected.
    top.type_keys("c");
    shows(&top, &[&format!("cancel {newer}? y/n")]);
    top.type_keys("n");
    shows(&top, &["q quit"]);
    top.type_keys("jc");
    shows(&top, &[&format!("cancel {older}? y/n")]);
    top.type_keys("y");
    shows(&top, &["cancelled", "jobs 1 (1 running, 0 waiting)"]);
    // A watch is in the terminal itself, and comes back.
    top.type_keys("kw");
    until("the job is followed", || {
        String::from_utf8_lossy(&top.shown()).contains(&format!("{newer} slow")).then_some(())
    });
    assert_eq!(code(&home.run(&["cancel", &newer])), 0);
    until("its end", || String::from_utf8_lossy(&top.shown()).contains("Enter goes back").then_some(()));
    top.type_keys("\n");
    shows(&top, &["jobs 0 (0 running, 0 waiting)"]);
    top.type_keys("q");
    assert!(top.wait().success());
}

#[test]
fn what_a_runtime_counts_is_told_to_operators_alone() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--token", "one=me", "--token", "two=boss", "--operator", "boss"]);
    let ask = |token: &str| {
        let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = format!("GET /stats HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
        stream.write_all(head.as_bytes()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let told = ask("Authorization: Bearer two\r\n");
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("\"sessions\":0"), "{told}");
    for (token, status) in
        [("", "401"), ("Authorization: Bearer one\r\n", "403"), ("Authorization: Bearer x\r\n", "403")]
    {
        let refused = ask(token);
        assert!(refused.starts_with(&format!("HTTP/1.1 {status}")) && !refused.contains("sessions"), "{refused}");
    }
    home.variables.push(("ARCP_TOKEN", "one"));
    let job = left(&home, "slow", r#"{"ms":600000}"#);
    let top = home.on_terminal(&["top", "--every", "50ms"]);
    shows(&top, &[&job, "sessions and lag: for operators"]);
}

#[test]
fn without_a_terminal_another_command_is_named() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let refused = home.run(&["top"]);
    assert!(code(&refused) == 2 && stderr(&refused).contains("arcp ls -o json"), "{}", stderr(&refused));
}
