//! `arcp serve` as a service: its configuration file, and what it reports to its manager.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arcp_tests::home::{Home, code, stderr, stdout};
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const PATIENCE: Duration = Duration::from_secs(30);

/// A home with a configuration file, and its name.
fn configured(text: &str) -> (Home, String) {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let file = home.dir.join("arcp.toml");
    fs::write(&file, text).expect("written");
    (home, file.to_str().expect("text").to_string())
}

/// What `--check` says of a configuration file, with these arguments besides.
fn checked(text: &str, args: &[&str]) -> (i32, String) {
    let (home, file) = configured(text);
    let output = home.run(&[&["serve", "--check", "--config", &file], args].concat());
    (code(&output), stdout(&output) + &stderr(&output))
}

fn packaged(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(path)
}

#[test]
fn what_a_file_says_is_served() {
    let text = "path = \"/from-file\"\nsamples = true\nconcurrency = { shout = 1 }\n[agent]\nshout = \"tr a-z A-Z\"\n";
    let (mut home, file) = configured(text);
    let url = home.serve(&["--config", &file]);
    assert!(url.ends_with("/from-file"), "{url}");
    assert_eq!(stdout(&home.run(&["submit", "shout", "--input", "\"hi\""])), "\"HI\"\n");
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7"])), "7\n");
    assert!(home.serve(&["--config", &file, "--path", "/from-flag"]).ends_with("/from-flag"), "a flag goes first");
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    // Nobody may listen there without TLS.
    const ELSEWHERE: &str = "192.0.2.1:7";
    let (mut home, file) = configured("listen = \"192.0.2.1:7\"\nsamples = true\n");
    let check =
        |home: &Home, args: &[&str]| code(&home.run(&[&["serve", "--check", "--config", &file], args].concat()));
    assert_eq!(check(&home, &[]), 2, "the file goes before the default");
    assert_eq!(check(&home, &["--listen", ":0"]), 0, "a flag before the file");
    home.variables.push(("ARCP_LISTEN", "127.0.0.1:0"));
    assert_eq!(check(&home, &[]), 0, "the environment before the file");
    assert_eq!(check(&home, &["--listen", ELSEWHERE]), 2, "a flag before the environment");
    home.variables.push(("ARCP_CONFIG", "/no/such/file"));
    assert_eq!(check(&home, &[]), 0, "for the name of the file too");
    assert_eq!(code(&home.run(&["serve", "--check", "--samples"])), 2);
}

#[test]
fn mistakes_in_a_file_are_named_with_line_and_key() {
    for (text, said) in [
        ("samples = true\nlisen = \":1\"\n", ":2: `lisen` is no option of `arcp serve`"),
        ("# a comment\n\nallow_host = [\"a\"]\n", ":3: `allow_host` is no option of `arcp serve`: write `allow-host`"),
        ("samples = true\nheartbeat = \"soon\"\n", ":2: `heartbeat`: invalid value 'soon'"),
        ("samples = \"yes\"\n", ":1: `samples`: expected true or false, and it is a string"),
        ("path = [\"/a\"]\n", ":1: `path`: expected a text or a number, and it is a array"),
        ("agent = [1.5]\n", ":1: `agent`: expected a list of texts or numbers"),
        ("background = true\n", ":1: `background` is said when the program is started"),
        ("samples = true\nsamples = true\n", "duplicate key"),
        ("samples\n", "arcp.toml:1: "),
        ("samples = true\nwebhook-secret = [\"hunter2\"\n", ":2: not TOML: unclosed array"),
        ("webhook-secret = \"a\" \"hunter2\"\n", ":1: not TOML: unexpected key or value"),
        ("\nwebhook = \"ftp://me:hunter2@host/\"\n", ":2: `webhook`: invalid value '...' for"),
        ("samples = true\ntls-cert = \"c.pem\"\n", "--tls-key"),
        ("", "nothing to host"),
    ] {
        let (code, shown) = checked(text, &[]);
        assert!(code == 2 && shown.contains(said), "{text}: {code} {shown}");
        assert!(!shown.contains("hunter2"), "a manager keeps what is said: {shown}");
    }
    let (_, shown) = checked("samples = true\ntls-cert = \"c.pem\"\n", &["--tls-key", "k.pem"]);
    assert!(shown.contains("c.pem") && !shown.contains("required"), "both were given: {shown}");
    let (home, _) = configured("");
    let missing = home.run(&["serve", "--check", "--config", "/no/such/file"]);
    assert!(code(&missing) == 2 && stderr(&missing).contains("--config /no/such/file: No such file"));
}

#[test]
fn a_check_opens_neither_the_port_nor_the_store() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let (home, file) = configured(&format!("listen = \"{listen}\"\nsamples = true\nstore = \"jobs.db\"\n"));
    let output = home.arcp(&["serve", "--check", "--config", &file]).current_dir(&home.dir).output().expect("it runs");
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "arcp: this can be served\n"), "{}", stderr(&output));
    let left: Vec<_> =
        fs::read_dir(&home.dir).expect("a folder").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(left, ["arcp.toml"]);
    for (args, said) in [
        (["--agents", "/no/such/folder"], "/no/such/folder"),
        (["--tokens", "/no/such/file"], "/no/such/file"),
        (["--on-end", "true"], ""),
        (["--resume-window", "0"], "expected at least 1s"),
    ] {
        let output = home.run(&[&["serve", "--check", "--samples"], &args[..]].concat());
        assert_eq!(code(&output), if said.is_empty() { 0 } else { 2 }, "{args:?}");
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
    let nowhere = home.run(&["serve", "--check", "--samples", "--store", "memory", "--on-end", "true"]);
    assert!(code(&nowhere) == 2 && stderr(&nowhere).contains("need a store in a file"), "{}", stderr(&nowhere));
}

/// What a manager hears, one word at a time.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self) -> String {
        let mut buffer = [0; 256];
        let n = self.0.recv(&mut buffer).expect("a word in time");
        String::from_utf8_lossy(&buffer[..n]).trim().to_string()
    }

    fn next_but(&self, passed_over: &str) -> String {
        loop {
            let word = self.next();
            if word != passed_over {
                return word;
            }
        }
    }
}

#[test]
fn a_manager_is_told_when_it_serves_that_it_turns_and_when_it_drains() {
    for adapter in [&[][..], &["--tokio"]] {
        let home = Home::new(ARCP);
        fs::create_dir_all(&home.dir).expect("a folder");
        let socket = home.dir.join("notify");
        let manager = Manager(UnixDatagram::bind(&socket).expect("a socket"));
        manager.0.set_read_timeout(Some(PATIENCE)).expect("set");
        let args = ["serve", "--listen", "127.0.0.1:0", "--drain", "forever", "--agent", "wait=read line < fifo"];
        let fifo = home.dir.join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
        let mut command = home.arcp(&[&args, adapter].concat());
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000").current_dir(&home.dir);
        let mut server = command.stderr(Stdio::null()).spawn().expect("it runs");
        assert_eq!(manager.next(), "READY=1");
        assert_eq!((manager.next(), manager.next()), ("WATCHDOG=1".to_string(), "WATCHDOG=1".to_string()));
        assert_eq!(code(&home.run(&["submit", "wait", "--detach"])), 0);
        Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill");
        assert_eq!(manager.next_but("WATCHDOG=1"), "STOPPING=1");
        assert_eq!(manager.next(), "WATCHDOG=1", "it drains, and its loop turns");
        // The job ends, and with it the drain.
        fs::write(&fifo, "go\n").expect("somebody reads");
        assert_eq!(server.wait().expect("it ends").code(), Some(0), "nothing was cut");
    }
}

#[test]
fn the_unit_starts_what_there_is() {
    let unit = fs::read_to_string(packaged("arcp.service")).expect("the unit");
    let of = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!((of("Type="), of("KillSignal=")), ("notify", "SIGTERM"));
    assert_eq!(of("SuccessExitStatus="), "9", "jobs that were cut");
    let start = of("ExecStart=").strip_prefix("/usr/bin/arcp ").expect("the program").to_string();
    assert_eq!(of("ExecStartPre="), format!("/usr/bin/arcp {start} --check"));
    let here = start.replace("/etc/arcp/arcp.toml", packaged("arcp.toml").to_str().expect("text"));
    let args: Vec<&str> = here.split(' ').chain(["--check"]).collect();
    let home = Home::new(ARCP);
    let checked = home.run(&args);
    assert_eq!(code(&checked), 0, "{}", stderr(&checked));
}

#[test]
fn a_program_continues_the_trace_of_its_job() {
    let mut home = Home::new(ARCP);
    home.serve(&["--agent", "trace=echo $TRACEPARENT $ARCP_TRACE_ID"]);
    let shown = stdout(&home.run(&["submit", "trace", "--input", "1"]));
    let words: Vec<&str> = shown.trim().trim_matches('"').split(' ').collect();
    let [parent, trace] = words[..] else { panic!("{shown}") };
    let parts: Vec<&str> = parent.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[1], parts[3]), (4, "00", trace, "01"), "{shown}");
    assert_eq!((trace.len(), parts[2].len()), (32, 16), "{shown}");
}

#[test]
fn a_refusal_and_a_decision_are_lines_of_the_log_with_whose_they_are_and_why() {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let args =
        ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--samples", "--lease-ceiling", "tool.call=a.*"];
    let mut command = home.arcp(&args);
    let mut server = command.env("ARCP_LOG", "info,job=debug").stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    let mut line_of = |event: &str| {
        let lines = lines.by_ref().map(|line| line.expect("text"));
        let mut objects = lines.map(|line| serde_json::from_str::<Value>(&line).expect("an object in each line"));
        objects.find(|line| line["event"] == event).expect("the log goes on")
    };
    let ready = line_of("runtime");
    assert!(ready["message"].as_str().expect("text").starts_with("READY ws://"), "{ready}");
    assert_eq!(code(&home.run(&["submit", "echo", "--lease", "tool.call=a.b"])), 0);
    let granted = line_of("decision");
    assert_eq!(
        (&granted["act"], &granted["outcome"], &granted["principal"]),
        (&"submit".into(), &"done".into(), &"local".into())
    );
    let job = granted["job"].as_str().expect("its job").to_string();
    let ended = line_of("job");
    assert_eq!((&ended["job"], &ended["level"]), (&job.as_str().into(), &"debug".into()));
    assert_ne!(code(&home.run(&["cancel", &job])), 0);
    let refused = line_of("refused");
    assert_eq!((&refused["job"], &refused["principal"]), (&job.as_str().into(), &"local".into()), "{refused}");
    for name in ["code", "session", "reason", "time"] {
        assert!(refused[name].as_str().is_some_and(|text| !text.is_empty()), "{name} of {refused}");
    }
    server.kill().expect("it runs");
    let _ = server.wait();
}
