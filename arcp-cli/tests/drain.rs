//! The runtime stops on signals: it gives jobs their time, and reports those that were cut off.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A runtime whose stderr is read line by line.
struct Serve {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Serve {
    fn start(home: &Home, args: &[&str]) -> Serve {
        let mut command = home.arcp(&[&["serve", "--listen", "127.0.0.1:0", "--samples"], args].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut serve = Serve { child, said };
        serve.said("READY");
        // Commands find it from here on.
        serve.said("jobs and sessions are");
        serve
    }

    /// Reads until a line has this in it.
    fn said(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).expect("text"), 0, "it ended without saying `{text}`");
        }
        line
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
    }

    /// How it ends, and what it said until then.
    fn ended(mut self) -> (ExitStatus, String) {
        let status = until("it ends", || self.child.try_wait().expect("asked"));
        let mut rest = String::new();
        let _ = self.said.read_to_string(&mut rest);
        (status, rest)
    }
}

/// What `nohup` starts ignores SIGHUP, and so does all that it starts.
fn needs_sighup() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    assert!(ignored.is_none_or(|mask| mask & 1 == 0), "SIGHUP is ignored here: run this test without `nohup`");
}

fn submit(home: &Home, agent: &str, input: &str) -> String {
    let submitted = home.run(&["submit", agent, "--input", input, "--detach"]);
    assert_eq!(code(&submitted), 0, "{}", stderr(&submitted));
    stdout(&submitted).trim().to_string()
}

#[test]
fn while_it_drains_jobs_are_listed_watched_and_cancelled_and_none_is_accepted() {
    drains(&["--drain", "forever"]);
    drains(&["--drain", "forever", "--tokio"]);
}

fn drains(args: &[&str]) {
    let home = Home::new(ARCP);
    let mut serve = Serve::start(&home, args);
    let job = submit(&home, "slow", r#"{"ms":600000}"#);
    serve.signal("TERM");
    assert!(serve.said("SIGTERM").contains("as long as they take"));
    assert!(serve.said("waiting for").contains(&job));
    assert!(stdout(&home.run(&["list"])).contains(&job));
    let mut watching = home.arcp(&["watch", &job]).stderr(Stdio::null()).spawn().expect("it runs");
    let refused = home.run(&["submit", "echo", "--input", "7"]);
    assert!(code(&refused) == 1 && stderr(&refused).contains("shutting down"), "{}", stderr(&refused));
    assert_eq!(code(&home.run(&["cancel", &job])), 0);
    let (status, said) = serve.ended();
    assert_eq!(status.code(), Some(0), "nothing was cut: {said}");
    assert!(watching.wait().expect("it ends").code().is_some_and(|code| code == 3 || code == 7));
}

#[test]
fn a_job_that_ends_in_its_time_is_not_cut_and_one_that_does_not_is() {
    let home = Home::new(ARCP);
    let mut serve = Serve::start(&home, &["--drain", "1m"]);
    submit(&home, "slow", r#"{"ms":300}"#);
    serve.signal("TERM");
    serve.said("SIGTERM");
    let (status, said) = serve.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    let serve = Serve::start(&home, &["--drain", "0"]);
    submit(&home, "slow", r#"{"ms":600000}"#);
    serve.signal("INT");
    let (status, said) = serve.ended();
    assert_eq!(status.code(), Some(9), "{said}");
    assert!(said.contains("stopped while 1 job had not ended"), "{said}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let home = Home::new(ARCP);
    let mut serve = Serve::start(&home, &["--drain", "1h"]);
    submit(&home, "slow", r#"{"ms":600000}"#);
    serve.signal("TERM");
    assert!(serve.said("SIGTERM").contains("1h"));
    serve.signal("TERM");
    let (status, said) = serve.ended();
    assert_eq!(status.code(), Some(9), "{said}");
}

#[test]
fn the_end_of_a_terminal_kills_nothing_silently() {
    needs_sighup();
    let home = Home::new(ARCP);
    let mut serve = Serve::start(&home, &["--drain", "forever"]);
    let job = submit(&home, "slow", r#"{"ms":600000}"#);
    serve.signal("HUP");
    serve.said("SIGHUP, the terminal is gone");
    serve.said("waiting for");
    // Terminals that close may say so twice.
    serve.signal("HUP");
    assert!(stdout(&home.run(&["list"])).contains(&job));
    serve.signal("TERM");
    let (status, said) = serve.ended();
    assert_eq!(status.code(), Some(9), "{said}");
}

#[test]
fn with_nohup_the_end_of_a_terminal_is_nothing() {
    let home = Home::new(ARCP);
    let log = home.dir.join("log");
    fs::create_dir_all(&home.dir).expect("a folder");
    let script = format!("trap '' HUP; exec \"$0\" serve --listen 127.0.0.1:0 --samples 2> {}", log.display());
    let mut child =
        Command::new("sh").args(["-c", &script, ARCP]).env("ARCP_STATE_DIR", &home.dir).spawn().expect("sh");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    until("it is ready", || said().contains("jobs and sessions are").then_some(()));
    let kill = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(kill("-HUP").success());
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7"])), "7\n");
    assert!(kill("-TERM").success());
    let status = until("it ends", || child.try_wait().expect("asked"));
    assert!(status.code() == Some(0) && !said().contains("SIGHUP"), "{}", said());
}

#[test]
fn a_signal_to_a_runtime_on_stdin_and_stdout_leaves_no_program_behind() {
    needs_sighup();
    let said = concat!(
        r#"{"id":"1","type":"session.hello","payload":{}}"#,
        "\n",
        r#"{"id":"2","type":"job.submit","payload":{"agent":"sleeper"}}"#,
        "\n"
    );
    for adapter in [&[][..], &["--tokio"]] {
        for signal in ["TERM", "INT", "HUP"] {
            let home = Home::new(ARCP);
            fs::create_dir_all(&home.dir).expect("a folder");
            let pid = home.dir.join("pid");
            let sleeper = format!("sleeper=echo $$ > {}; exec sleep 600", pid.display());
            let mut serve = home.arcp(&[&["serve", "--stdio", "--agent", &sleeper], adapter].concat());
            let mut serve = serve.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
            let mut input = serve.stdin.take().expect("a pipe");
            input.write_all(said.as_bytes()).expect("written");
            let number = || fs::read_to_string(&pid).ok().filter(|number| number.ends_with('\n'));
            let program = Path::new("/proc").join(until("the program runs", number).trim());
            let kill = Command::new("kill").args([format!("-{signal}"), serve.id().to_string()]).status();
            assert!(kill.expect("kill").success());
            let status = until("it ends", || serve.try_wait().expect("asked"));
            assert_eq!(status.code(), Some(0), "{adapter:?} SIG{signal}");
            until("the program's end", || (!program.exists()).then_some(()));
            drop(input);
        }
    }
}
