//! Runtimes that listen at several places at once, Unix sockets among them, and how commands find them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::pages;
use arcp_tests::until::until;
use serde_json::{Value, json};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn home() -> Home {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    home
}

/// A socket in the state directory: its file, and its URL.
fn socket(home: &Home, name: &str) -> (PathBuf, String) {
    let path = home.dir.join(name);
    let url = format!("unix://{}", path.display());
    (path, url)
}

/// A runtime, and what it says until it has said what it serves; it ends with the value.
struct Serve(Child);

impl Serve {
    fn start(home: &Home, args: &[&str], ready: usize) -> (Serve, Vec<String>) {
        let mut command = home.arcp(&[&["serve", "--samples"], args].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let said: Vec<String> = lines.by_ref().take(ready).map(|line| line.expect("text")).collect();
        std::thread::spawn(move || lines.for_each(drop));
        let url = |line: &String| line.strip_prefix("READY ").unwrap_or_else(|| panic!("{line}")).to_string();
        (Serve(child), said.iter().map(url).collect())
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        Command::new("kill").args([format!("-{signal}"), self.0.id().to_string()]).status().expect("kill");
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn runtimes(home: &Home) -> Vec<Value> {
    let listed = home.run(&["runtimes", "--output", "jsonl"]);
    stdout(&listed).lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

#[test]
fn one_runtime_is_found_at_each_of_its_places() {
    for tokio in [&[][..], &["--tokio"]] {
        let home = home();
        let (path, at_socket) = socket(&home, "a.sock");
        let args = [&["--listen", "ws://127.0.0.1:0", "--listen", &at_socket, "--listen", ":0"][..], tokio].concat();
        let (serve, ready) = Serve::start(&home, &args, 3);
        assert!(ready[0].starts_with("ws://127.0.0.1:") && ready[0].ends_with("/arcp"), "{ready:?}");
        assert_eq!(ready[1], at_socket);
        let submitted = home.run(&["submit", "echo", "--input", "7", "--detach"]);
        let job = stdout(&submitted).trim().to_string();
        assert!(job.starts_with("job_"), "with nothing given: {}", stderr(&submitted));
        for url in &ready {
            let listed = home.run(&["ls", "-o", "id", "--url", url]);
            assert_eq!((code(&listed), stdout(&listed).trim()), (0, &*job), "{url}: {}", stderr(&listed));
        }
        let found = runtimes(&home);
        assert_eq!((found.len(), found[0]["url"].as_str()), (1, Some(&*ready[0])), "{found:?}");
        assert_eq!(found[0]["other_urls"], json!([ready[2], at_socket]), "{found:?}");
        // Pages are for ports.
        let address = ready[2].trim_start_matches("ws://").trim_end_matches("/arcp");
        let mut port = TcpStream::connect(address).expect("it listens");
        port.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
        let mut page = String::new();
        port.read_to_string(&mut page).expect("a page");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        let mut none = UnixStream::connect(&path).expect("it listens");
        none.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
        let mut told = String::new();
        let _ = none.read_to_string(&mut told);
        assert!(!told.contains("HTTP/1.1") && told.contains("INVALID_REQUEST"), "{told}");
        let stopped = home.run(&["stop", &at_socket]);
        assert_eq!(code(&stopped), 0, "{}", stderr(&stopped));
        assert!(!path.exists() && runtimes(&home).is_empty());
        drop(serve);
    }
}

#[test]
fn every_command_works_on_a_runtime_that_has_a_unix_socket_alone() {
    for tokio in [&[][..], &["--tokio"]] {
        let home = home();
        let (path, url) = socket(&home, "only.sock");
        let (serve, ready) = Serve::start(&home, &[&["--listen", &url][..], tokio].concat(), 1);
        assert_eq!(ready, [&*url]);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let ran = |args: &[&str]| {
            let output = home.run(args);
            assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
            stdout(&output)
        };
        assert_eq!(ran(&["submit", "echo", "--input", "7"]), "7\n");
        let job = ran(&["submit", "slow", "--input", r#"{"ms":600000}"#, "--detach"]).trim().to_string();
        assert!(ran(&["ls"]).contains("local"), "its owner");
        assert!(ran(&["show", &job]).contains("running"));
        assert!(ran(&["tree", &job]).contains("slow"));
        assert!(ran(&["agents", "-o", "id"]).contains("echo"));
        ran(&["inbox"]);
        assert!(ran(&["sessions", "list", "-o", "jsonl"]).contains("local"), "who is an operator");
        ran(&["audit"]);
        let artifact = home.dir.join("letter");
        fs::write(&artifact, "hello").expect("written");
        let put = ran(&["artifact", "put", artifact.to_str().expect("text")]);
        let id = put.split_whitespace().next().expect("an id");
        assert_eq!(ran(&["artifact", "get", id]), "hello");
        ran(&["cancel", &job]);
        assert_eq!(code(&home.run(&["wait", &job])), 3, "it was cancelled");
        ran(&["logs", &job]);
        assert!(ran(&["runtimes"]).contains(&url));
        assert!(ran(&["show", &url]).contains(&url));
        assert!(ran(&["doctor"]).contains(&format!("{url} answers")));
        // By whatever name it has here.
        let relative = home.arcp(&["ls", "-o", "id", "--url", "unix:only.sock"]).current_dir(&home.dir).output();
        assert!(stdout(&relative.expect("it runs")).contains(&job));
        assert_eq!(serve.end("TERM"), Some(0));
        assert_eq!(code(&home.run(&["ls", "--url", &url])), 7, "nobody is there any more");
        // Its store was named after its place: what it knew is known.
        let (_serve, _) = Serve::start(&home, &["--listen", &url], 1);
        assert!(ran(&["ls", "-o", "id"]).contains(&job));
    }
}

#[test]
fn what_a_dead_runtime_left_is_replaced_and_a_live_one_is_not() {
    let home = home();
    let (path, url) = socket(&home, "a.sock");
    let (serve, _) = Serve::start(&home, &["--listen", &url], 1);
    let second = home.run(&["serve", "--samples", "--listen", &url]);
    assert_eq!(code(&second), 1);
    let said = stderr(&second);
    assert!(said.contains(&format!("cannot listen on {url}: a server listens there")), "{said}");
    assert!(said.contains("arcp runtimes") && !said.contains("store"), "{said}");
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7"])), "7\n", "the first one serves on");
    assert_eq!(serve.end("KILL"), None);
    assert!(path.exists(), "nobody took it away");
    let (serve, _) = Serve::start(&home, &["--listen", &format!("{url}?mode=660")], 1);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o660);
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7"])), "7\n");
    drop(serve);
    fs::remove_file(&path).expect("it was left");
    fs::write(&path, "a letter").expect("written");
    let refused = home.run(&["serve", "--samples", "--listen", &url]);
    assert!(code(&refused) == 1 && stderr(&refused).contains("no socket"), "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "a letter");
}

#[test]
fn the_parent_is_served_beside_others_and_they_go_on_without_it() {
    for tokio in [&[][..], &["--tokio"]] {
        let home = home();
        let (_, url) = socket(&home, "a.sock");
        let args = [&["--listen", "stdio:", "--listen", &url][..], tokio].concat();
        let (mut serve, ready) = Serve::start(&home, &args, 2);
        assert_eq!(ready, ["stdio:", &*url]);
        let mut stdin = serve.0.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(serve.0.stdout.take().expect("a pipe")).lines();
        let mut ask = |kind: &str, payload: Value, answer: &str| loop {
            if answer.is_empty() {
                let frame = json!({"arcp": "1.1", "id": kind, "type": kind, "payload": payload});
                break writeln!(stdin, "{frame}").map(|()| Value::Null).expect("written");
            }
            let line = lines.next().expect("an answer").expect("text");
            let frame: Value = serde_json::from_str(&line).expect("JSON");
            if frame["type"] == answer {
                break frame;
            }
        };
        ask("session.hello", json!({"client": {"name": "c", "version": "1"}, "auth": {"scheme": "none"}}), "");
        ask("", Value::Null, "session.welcome");
        ask("job.submit", json!({"agent": "echo", "input": 7}), "");
        assert_eq!(ask("", Value::Null, "job.result")["payload"]["result"], 7);
        assert!(stdout(&home.run(&["ls"])).contains("local"), "its owner's, who sees it elsewhere too");
        drop(stdin);
        assert!(lines.next().is_none(), "its end is the end of this peer");
        assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "8"])), "8\n", "and of nobody else");
        assert_eq!(serve.end("TERM"), Some(0));
    }
}

#[test]
fn a_runtime_in_the_background_and_the_list_of_runtimes_show_every_place() {
    let home = home();
    let (_, url) = socket(&home, "a.sock");
    let started = home.run(&["serve", "--samples", "--background", "--listen", "ws://127.0.0.1:0", "--listen", &url]);
    let places = stdout(&started);
    let places: Vec<&str> = places.lines().collect();
    assert!(places.len() == 2 && places[0].starts_with("ws://127.0.0.1:") && places[1] == url, "{places:?}");
    let listed = stdout(&home.run(&["runtimes"]));
    assert!(listed.contains(&places.join(" ")), "{listed}");
    assert_eq!(code(&home.run(&["stop", &url])), 0);
}

#[test]
fn a_parent_that_says_everything_at_once_is_answered_before_its_runtime_ends() {
    let frame =
        |id: &str, kind: &str, payload: Value| json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
    let hello = json!({"client": {"name": "c", "version": "1"}, "auth": {"scheme": "none"}});
    let said = format!(
        "{}\n{}\n",
        frame("1", "session.hello", hello),
        frame("2", "job.submit", json!({"agent": "echo", "input": 7}))
    );
    for tokio in [&[][..], &["--tokio"]] {
        for store in [&[][..], &["--store", "jobs.db"]] {
            let home = home();
            let args = [&["serve", "--stdio", "--samples"][..], tokio, store].concat();
            let mut serve = home.arcp(&args);
            let serve =
                serve.current_dir(&home.dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut serve = serve.spawn().expect("it runs");
            serve.stdin.take().expect("a pipe").write_all(said.as_bytes()).expect("written");
            let output = serve.wait_with_output().expect("it ends");
            let told = stdout(&output);
            assert!(
                told.contains("session.welcome") && told.contains("job.accepted"),
                "{args:?}: {told}{}",
                stderr(&output)
            );
        }
    }
}

#[test]
fn the_rule_about_cleartext_is_each_place_s_own() {
    let home = home();
    let pair = home.dir.join("pair");
    assert_eq!(code(&home.run(&["tls", "self-signed", "--out", pair.to_str().expect("text")])), 0);
    let (certificate, key) = (pair.join("arcp-cert.pem"), pair.join("arcp-key.pem"));
    let tls = ["--tls-cert", certificate.to_str().expect("text"), "--tls-key", key.to_str().expect("text")];
    let check = |args: &[&str]| {
        let output = home.run(&[&["serve", "--check", "--samples"], args].concat());
        (code(&output), stderr(&output))
    };
    for (args, said) in [
        (&["--listen", "wss://:0"][..], "give --tls-cert"),
        (&["--listen", ":0", "--listen", "ws://0.0.0.0:0"], "ws://0.0.0.0:0 "),
        (&["--listen", "h2://:1"], "h2://127.0.0.1:1 needs a certificate"),
        (&["--listen", "stdio:", "--listen", "stdio:"], "one stdin"),
    ] {
        let (code, told) = check(args);
        assert!(code == 2 && told.contains(said.trim_end()), "{args:?}: {code} {told}");
    }
    let (code_, told) = check(&[&["--listen", "wss://0.0.0.0:0", "--listen", "ws://0.0.0.0:0"][..], &tls].concat());
    assert!(code_ == 2 && told.contains("ws://0.0.0.0:0: ") && told.contains("--insecure"), "{told}");
    assert!(told.contains("give wss://, or") && !told.contains("--tls-cert"), "it was given: {told}");
    for tokio in [&[][..], &["--tokio"]] {
        let places = ["--listen", "wss://127.0.0.1:0", "--listen", "ws://127.0.0.1:0", "--listen", "127.0.0.1:0"];
        let (_serve, ready) = Serve::start(&home, &[&places[..], &tls, tokio].concat(), 3);
        let schemes: Vec<&str> = ready.iter().filter_map(|url| url.split(':').next()).collect();
        assert_eq!(schemes, ["wss", "ws", "wss"], "without a scheme as the certificate says");
        for url in &ready {
            let listed = home.run(&["ls", "--url", url]);
            assert_eq!(code(&listed), 0, "{url}: {}", stderr(&listed));
        }
    }
}

#[test]
fn a_file_and_a_variable_name_several_places() {
    let mut home = home();
    let (_, url) = socket(&home, "a.sock");
    let file = home.dir.join("arcp.toml");
    fs::write(&file, format!("samples = true\nlisten = [\"ws://127.0.0.1:0\", \"{url}\"]\n")).expect("written");
    let file = file.to_str().expect("text").to_string();
    let (serve, ready) = Serve::start(&home, &["--config", &file], 2);
    assert_eq!(ready[1], url);
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7", "--url", &url])), "7\n");
    drop(serve);
    fs::write(&file, "samples = true\nlisten = [\":0\", \"http://:1\"]\n").expect("written");
    let refused = home.run(&["serve", "--check", "--config", &file]);
    assert!(code(&refused) == 2 && stderr(&refused).contains(":2: `listen`"), "{}", stderr(&refused));
    let places: &'static str = Box::leak(format!("ws://127.0.0.1:0,{url}").into_boxed_str());
    home.variables.push(("ARCP_LISTEN", places));
    let (_serve, ready) = Serve::start(&home, &[], 2);
    assert_eq!(ready[1], url);
}

#[test]
fn stdio_on_the_command_line_goes_before_a_variable_and_a_file_that_say_where_to_listen() {
    let mut home = home();
    let file = home.dir.join("arcp.toml");
    let tls = "tls-cert = \"cert.pem\"\ntls-key = \"key.pem\"\n";
    fs::write(&file, format!("samples = true\nlisten = [\":0\", \":0\"]\n{tls}")).expect("written");
    home.variables.push(("ARCP_LISTEN", "127.0.0.1:0"));
    let file = file.to_str().expect("text");
    for more in [&["--samples"][..], &["--config", file]] {
        let served = home.run(&[&["serve", "--stdio"], more].concat());
        assert_eq!((code(&served), stderr(&served).contains("READY ws:")), (0, false), "{}", stderr(&served));
    }
    let both = home.run(&["serve", "--stdio", "--samples", "--listen", ":0"]);
    assert!(code(&both) == 2 && stderr(&both).contains("cannot be used with"), "{}", stderr(&both));
}

#[test]
fn a_user_of_a_socket_may_be_named_as_an_operator() {
    let home = home();
    let (_, url) = socket(&home, "a.sock");
    let check = |listen: &str| {
        let args = ["serve", "--check", "--samples", "--token", "t=me", "--operator", "unix#1234", "--listen", listen];
        code(&home.run(&args))
    };
    assert_eq!((check(&url), check(":0")), (0, 2), "nobody else is known by a user");
}

#[test]
fn who_runs_as_the_runtime_s_user_is_its_owner_and_a_token_goes_before_that() {
    let home = home();
    let (_, url) = socket(&home, "a.sock");
    let (_serve, _) = Serve::start(&home, &["--listen", &url, "--token", "given=me"], 1);
    for (args, owner) in [(&[][..], "local"), (&["--token", "given"], "me")] {
        let job = [&["submit", "echo", "--input", "7", "--detach"], args].concat();
        let job = stdout(&home.run(&job)).trim().to_string();
        let shown = stdout(&home.run(&[&["show", &job], args].concat()));
        let told = shown.lines().find_map(|line| line.strip_prefix("owner")).map(str::trim);
        assert_eq!(told, Some(owner), "{shown}");
    }
    let wrong = home.run(&["ls", "--token", "wrong"]);
    assert_eq!(code(&wrong), 8, "{}", stderr(&wrong));
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let commands = pages::commands(include_str!("../../docs/transports.md"));
    assert!(commands.lines().count() > 5, "{commands}");
    let folder = arcp_tests::kept::Folder::new("transports-page");
    let here = folder.0.display().to_string();
    pages::paste(ARCP, &folder, &commands.replace("/run/arcp", &here));
    until("it has ended", || (!folder.0.join("arcp.sock").exists()).then_some(()));
}
