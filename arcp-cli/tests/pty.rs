//! Programs that buffer their output in a pipe, and write it line by line on a terminal.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::mpsc::channel;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::server::PATIENCE;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

#[test]
fn on_a_pseudo_terminal_a_line_is_shown_while_its_program_runs() {
    let mut home = Home::new(ARCP);
    home.serve(&["--pty", "buffers", "--agent", "buffers=(echo one; sleep 60) | sed s/one/two/"]);
    let mut submit = home.arcp(&["submit", "buffers"]).stderr(Stdio::piped()).spawn().expect("it runs");
    let said = BufReader::new(submit.stderr.take().expect("a pipe")).lines();
    let (tell, shown) = channel();
    let reader = std::thread::spawn(move || {
        // Its end is of no interest here.
        let _ = said.map_while(Result::ok).find(|line| line == "two").map(|_| tell.send(()));
    });
    let seen = shown.recv_timeout(PATIENCE);
    submit.kill().and_then(|()| submit.wait()).expect("gone");
    reader.join().expect("no panic");
    assert!(seen.is_ok(), "it is held back");
}

#[test]
fn a_pseudo_terminal_is_stdout_and_stderr_and_echoes_nothing() {
    let mut home = Home::new(ARCP);
    let show = "show=test -t 0 && exit 7; test -t 1 && test -t 2 || exit 8; read -r line; printf 'a\\tb\\n'; \
                echo careful >&2; printf 'c\\r\\n'; echo \"$line $TERM\"";
    home.serve(&["--pty", "show", "--agent", show]);
    let shown = home.run(&["submit", "show", "--input", "{}"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    assert_eq!(stdout(&shown), "a\tb\ncareful\nc\n{} dumb\n");
}

#[test]
fn what_is_left_on_a_pseudo_terminal_at_the_end_of_its_program_is_read() {
    let mut home = Home::new(ARCP);
    let folder = home.dir.join("agents");
    fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("much.sh");
    let text = "#!/bin/sh\ntest -t 1 || exit 7\ni=0; while [ $i -lt 5000 ]; do echo \"line $i\"; i=$((i+1)); done; printf last\n";
    fs::write(&program, text).expect("written");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("executable");
    fs::write(folder.join("much.toml"), "pty = true\n").expect("written");
    home.serve(&["--agents", folder.to_str().expect("text")]);
    let shown = home.run(&["submit", "much"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    let lines: Vec<String> = stdout(&shown).lines().map(str::to_string).collect();
    assert_eq!((lines.len(), lines[4999].as_str(), lines[5000].as_str()), (5001, "line 4999", "last"));
}

#[test]
fn a_pseudo_terminal_for_an_agent_that_is_not_there_is_refused() {
    let home = Home::new(ARCP);
    let refused = home.run(&["serve", "--listen", "127.0.0.1:0", "--samples", "--pty", "nobody"]);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--pty nobody: no --agent has that name"), "{}", stderr(&refused));
}
