//! The program, as a user runs it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{io, thread};

use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::json::Json;
use arcp_proto::model::request::Credential;
use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::server::{Running, submit};
use arcp_tests::until::until;
use arcp_tokio_adapter::Client;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

#[test]
fn version_and_usage() {
    let home = Home::new(ARCP);
    let version = stdout(&home.run(&["version"]));
    assert!(version.starts_with("arcp ") && version.contains("hello") && version.contains("open"), "{version}");
    let usage = home.run(&["nonsense"]);
    assert!(code(&usage) == 2 && stderr(&usage).contains("Usage: arcp"), "{}", stderr(&usage));
}

#[test]
fn a_newcomer_pastes_no_token() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples"]);
    let port = url.trim_end_matches("/arcp").rsplit(':').next().expect("a port");
    let state = home.dir.join(format!("runtimes/127-0-0-1-{port}.json"));
    assert_eq!(fs::metadata(&state).expect("kept").permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_str(&fs::read_to_string(&state).expect("text")).expect("JSON");
    assert_eq!(kept["url"], url);
    let output = home.run(&["submit", "echo", "--input", r#"{"a": 1.50}"#]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "{\"a\": 1.50}\n"));
    let listed = home.run(&["list", "--output", "jsonl"]);
    assert_eq!(json_lines(&listed)[0]["status"], "success");
    assert_eq!(home.signal("TERM").code(), Some(0), "SIGTERM drains");
    assert!(!state.exists(), "the word is taken back");
}

#[test]
fn without_a_token_nobody_comes_in_unless_the_operator_says_so() {
    let (mut home, stranger) = (Home::new(ARCP), Home::new(ARCP));
    let ask = |url: &str| stranger.run(&["submit", "echo", "--input", "7", "--url", url]);
    let (made, given) = (home.serve(&["--samples"]), home.serve(&["--samples", "--token", "secret=me"]));
    for url in [&made, &given] {
        let refused = ask(url);
        assert_eq!(code(&refused), 8, "{}", stderr(&refused));
        assert!(stderr(&refused).contains("--token"), "{}", stderr(&refused));
    }
    for more in [&["--token", "secret=me"][..], &[]] {
        let anonymous = home.serve(&[&["--samples", "--anonymous"], more].concat());
        let let_in = ask(&anonymous);
        assert_eq!((code(&let_in), stdout(&let_in).as_str()), (0, "7\n"), "{}", stderr(&let_in));
    }
    // Its user comes in without pasting anything, by the URL alone as well.
    let local = home.run(&["submit", "echo", "--input", "7", "--url", &made.replace("127.0.0.1", "localhost")]);
    assert_eq!((code(&local), stdout(&local).as_str()), (0, "7\n"), "{}", stderr(&local));
    let port = made.trim_end_matches("/arcp").rsplit(':').next().expect("a port");
    let token = home.dir.join(format!("token-{port}.json"));
    assert_eq!(fs::metadata(&token).expect("kept").permissions().mode() & 0o777, 0o600);
}

#[test]
fn commands_find_a_runtime_that_was_given_its_tokens_and_ask_for_one() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    home.serve(&["--samples", "--token", "secret=me"]);
    let refused = home.run(&["submit", "echo", "--input", "7"]);
    assert_eq!(code(&refused), 8, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("give --token, set ARCP_TOKEN, or `arcp login`"), "{}", stderr(&refused));
    let let_in = home.run(&["submit", "echo", "--input", "7", "--token", "secret"]);
    assert_eq!((code(&let_in), stdout(&let_in).as_str()), (0, "7\n"), "{}", stderr(&let_in));
    // It takes its word back.
    assert!(home.signal("TERM").success());
    assert!(home.signal("TERM").success());
    assert!(stderr(&home.run(&["list"])).contains("no runtime is known"));
}

#[test]
fn a_made_token_that_cannot_be_kept_is_not_used() {
    let mut serve = Command::new(ARCP);
    serve.args(["serve", "--samples", "--listen", "127.0.0.1:0"]).env_clear();
    let output = serve.output().expect("it runs");
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("give --token TOKEN=NAME"), "{}", stderr(&output));
}

#[test]
fn the_same_port_has_the_same_token_unless_others_could_read_it() {
    let home = Home::new(ARCP);
    let port = arcp_tests::ports::free().port();
    let file = home.dir.join(format!("token-{port}.json"));
    let token = || {
        let mut serve = home.arcp(&["serve", "--samples", "--listen", &format!("127.0.0.1:{port}")]);
        let mut child = serve.stderr(Stdio::piped()).spawn().expect("it runs");
        let said: Vec<_> = BufReader::new(child.stderr.take().expect("a pipe")).lines().take(3).collect();
        let told = said[2].as_ref().expect("text");
        assert!(
            told.contains(&file.display().to_string()) && told.contains("arcp token add NAME --tokens FILE"),
            "{told}"
        );
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert_eq!(fs::metadata(&file).expect("kept").permissions().mode() & 0o777, 0o600);
        fs::read_to_string(&file).expect("text")
    };
    let first = token();
    assert_eq!(token(), first);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
    assert_ne!(token(), first, "whoever read it must not come in with it");
}

#[test]
fn submit_prints_data_on_stdout_and_talk_on_stderr() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples", "--agent", "hi=echo hello; echo careful >&2"]);
    let output = home.run(&["submit", "hi"]);
    assert_eq!(stdout(&output), "hello\n");
    let said = stderr(&output);
    assert!(said.lines().any(|line| line == "hello") && said.lines().any(|line| line == "stderr careful"), "{said}");
    let lines = json_lines(&home.run(&["submit", "slow", "--input", r#"{"ms":200}"#, "--output", "json"]));
    assert_eq!(lines[0]["type"], "accepted");
    let seqs: Vec<u64> = lines.iter().filter_map(|line| line["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=5).collect::<Vec<_>>());
    let end = lines.last().expect("an end");
    assert_eq!(
        (&end["type"], &end["status"], &end["result"]["ticks"]),
        (&"ended".into(), &"success".into(), &2.into())
    );
    let mut child = home
        .arcp(&["submit", "echo", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"[1,2]\n").expect("written");
    assert_eq!(stdout(&child.wait_with_output().expect("it ends")), "[1,2]\n");
    let pieces = home.run(&["submit", "chunker", "--input", r#"{"chunks":3,"bytes":5}"#]);
    assert_eq!(stdout(&pieces), "abcdefghijklmno");
}

#[test]
fn exit_codes_mean_something() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples"]);
    for (code_name, expected) in [
        ("INTERNAL_ERROR", 1),
        ("MY_OWN", 1),
        ("CANCELLED", 3),
        ("TIMEOUT", 4),
        ("PERMISSION_DENIED", 5),
        ("LEASE_EXPIRED", 5),
        ("BUDGET_EXHAUSTED", 6),
    ] {
        let input = format!(r#"{{"code":"{code_name}"}}"#);
        let output = home.run(&["submit", "failer", "--input", &input]);
        assert_eq!(code(&output), expected, "{code_name}: {}", stderr(&output));
    }
    assert_eq!(code(&home.run(&["submit", "slow", "--input", r#"{"ms":60000}"#, "--max-runtime", "1"])), 4);
    assert_eq!(code(&home.run(&["submit", "nobody"])), 1);
    assert_eq!(code(&home.run(&["submit", "echo", "--url", &url, "--token", "wrong"])), 8);
    assert_eq!(code(&home.run(&["submit", "echo", "--url", "ws://127.0.0.1:1/arcp"])), 7);
    assert_eq!(code(&home.run(&["watch", "job_nobody"])), 1);
}

#[test]
fn a_cut_stream_is_never_a_success() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let mut child = home
        .arcp(&["submit", "slow", "--input", r#"{"ms":60000}"#, "--give-up-after", "1"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    while !lines.next().expect("a line").expect("text").contains("working") {}
    home.signal("KILL");
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    assert!(reader.join().expect("read").iter().any(|line| line.contains("arcp watch job_")));
}

#[test]
fn ctrl_c_detaches_and_says_how_to_come_back() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let mut child =
        home.arcp(&["submit", "gate", "--input", r#"{"key":"c"}"#]).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut talk = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("waiting") {
        line.clear();
        assert!(talk.read_line(&mut line).expect("text") > 0);
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let mut rest = String::new();
    talk.read_to_string(&mut rest).expect("text");
    let job = rest.split("arcp watch ").nth(1).expect("how to come back").trim().to_string();
    home.run(&["submit", "opengate", "--input", r#"{"key":"c"}"#]);
    let watched = home.run(&["watch", &job]);
    assert_eq!((code(&watched), stdout(&watched).as_str()), (0, "{\"gate\":\"c\"}\n"));
}

#[test]
fn cancel_holds_the_submitters_right_and_evicts_no_follower() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let mut follower = home
        .arcp(&["submit", "slow", "--input", r#"{"ms":60000}"#, "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let first: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
    lines.next().expect("an event").expect("text");
    let job = first["job_id"].as_str().expect("a job");
    let cancelled = home.run(&["cancel", job, "--reason", "enough"]);
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(follower.wait().expect("it ends").code(), Some(3));
    assert!(rest.last().expect("an end").contains("\"cancelled\""));
    assert!(!rest.iter().any(|line| line.contains("Reconnect")));
    assert_eq!(code(&home.run(&["cancel", job])), 1, "it has ended already");
    assert_eq!(code(&home.run(&["cancel", "job_nobody"])), 1);
}

#[test]
fn a_principal_cancels_from_another_machine_what_it_submitted_on_this_one() {
    for family in ["hello", "open"] {
        let (mut home, elsewhere) = (Home::new(ARCP), Home::new(ARCP));
        let served = home.serve(&["--samples", "--token", "ta=alice", "--token", "tb=bob"]);
        let at = |token: &'static str| ["--url", served.as_str(), "--token", token, "--family", family];
        let submit = [["submit", "slow", "--input", r#"{"ms":60000}"#, "--detach"].as_slice(), &at("ta")].concat();
        let job = stdout(&home.run(&submit)).trim().to_string();
        let cancel = |token| elsewhere.run(&[["cancel", job.as_str()].as_slice(), &at(token)].concat());
        assert_eq!(code(&cancel("tb")), 1, "it is not his");
        let cancelled = cancel("ta");
        assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
        let watched = home.run(&[["watch", job.as_str()].as_slice(), &at("ta")].concat());
        assert_eq!(code(&watched), 3, "{}", stderr(&watched));
    }
}

/// A runtime as it was before it let every session of a principal cancel: what it
/// says of that does not reach its clients.
fn of_an_earlier_version(url: &str) -> String {
    const SAID: &[u8] = b"cancel_anywhere";
    let address = url.trim_start_matches("ws://").trim_end_matches("/arcp").to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = listener.local_addr().expect("an address");
    let relay = |mut client: TcpStream, mut runtime: TcpStream| {
        let (mut from, mut to) = (client.try_clone().expect("a socket"), runtime.try_clone().expect("a socket"));
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = runtime.read(&mut buffer) {
            let said = &mut buffer[..read];
            if let Some(at) = said.windows(SAID.len()).position(|window| window == SAID) {
                said[at] = b'_';
            }
            if client.write_all(said).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let runtime = TcpStream::connect(&address).expect("the runtime");
            thread::spawn(move || relay(client, runtime));
        }
    });
    format!("ws://{here}/arcp")
}

#[test]
fn cancel_resumes_the_session_that_submitted_and_left() {
    for family in ["hello", "open"] {
        let mut home = Home::new(ARCP);
        let url = of_an_earlier_version(&home.serve(&["--samples", "--token", "t=me"]));
        let at = ["--url", url.as_str(), "--token", "t", "--family", family];
        let submit = || {
            let input = r#"{"ms":60000}"#;
            let submitted = home.run(&[&["submit", "slow", "--input", input, "--detach"][..], &at].concat());
            let job = stdout(&submitted).trim().to_string();
            let entry = home.dir.join(format!("jobs/{job}.json"));
            assert_eq!(fs::metadata(&entry).expect("an entry").permissions().mode() & 0o777, 0o600);
            (job, entry)
        };
        // What is kept, with one text in place of another.
        let change = |entry: &PathBuf, change: &dyn Fn(&mut Value)| {
            let mut kept: Value = serde_json::from_str(&fs::read_to_string(entry).expect("text")).expect("JSON");
            change(&mut kept);
            fs::write(entry, kept.to_string()).expect("written");
        };
        let cancel = |job: &str| home.run(&[&["cancel", job][..], &at].concat());
        let watch = |job: &str| home.run(&[&["watch", job][..], &at].concat());
        let (job, entry) = submit();
        change(&entry, &|kept| kept["key"] = "another".into());
        let cancelled = cancel(&job);
        assert_eq!(code(&cancelled), 0, "the session alone is enough: {}", stderr(&cancelled));
        assert!(!fs::read_to_string(&entry).expect("text").contains("session"), "its token holds once");
        assert_eq!(code(&watch(&job)), 3);
        let (job, entry) = submit();
        change(&entry, &|kept| kept["session"]["token"] = "rtk_another".into());
        let cancelled = cancel(&job);
        assert_eq!(code(&cancelled), 0, "the key alone is enough: {}", stderr(&cancelled));
        assert_eq!(code(&watch(&job)), 3);
    }
}

#[test]
fn an_operator_cancels_what_somebody_else_submitted_elsewhere() {
    let (mut home, elsewhere) = (Home::new(ARCP), Home::new(ARCP));
    let names = ["--token", "ta=alice", "--token", "tb=bob", "--token", "tc=carol"];
    let rights = ["--samples", "--operator", "bob", "--auditor", "carol"];
    let served = home.serve(&[&names[..], &rights].concat());
    let at = |token: &'static str| ["--url", served.as_str(), "--token", token];
    let submit = [["submit", "slow", "--input", r#"{"ms":60000}"#, "--detach"].as_slice(), &at("ta")].concat();
    let job = stdout(&elsewhere.run(&submit)).trim().to_string();
    let cancel = |token| [["cancel", job.as_str(), "--operator"].as_slice(), &at(token)].concat();
    let refused = home.run(&cancel("tc"));
    assert!(code(&refused) == 5 && stderr(&refused).contains("--operator"), "{}", stderr(&refused));
    let cancelled = home.run(&cancel("tb"));
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    let watched = home.run(&[["watch", job.as_str()].as_slice(), &at("ta")].concat());
    assert_eq!(code(&watched), 3, "{}", stderr(&watched));
    let unknown = ["serve", "--samples", "--token", "ta=alice", "--operator", "bob"];
    assert_eq!(code(&home.run(&unknown)), 2);
}

#[test]
fn one_bearer_and_its_principal() {
    let mut home = Home::new(ARCP);
    let others = ["--token", "secret-too=alice@example.com", "--token", "secret-bob=bob@example.com"];
    let alice = ["--samples", "--bearer", "secret-token", "--principal", "alice@example.com"];
    let url = home.serve(&[&alice[..], &others].concat());
    assert_eq!(code(&home.run(&["submit", "echo", "--url", &url, "--token", "secret-token"])), 0);
    assert_eq!(code(&home.run(&["submit", "echo", "--url", &url, "--token", "secret-tokem"])), 8);
    let listed = |token: &str| stdout(&home.run(&["list", "--url", &url, "--token", token])).lines().count();
    assert_eq!((listed("secret-too"), listed("secret-bob")), (1, 0), "the job is alice's");
}

#[test]
fn the_same_key_gives_the_same_job() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let submit = || json_lines(&home.run(&["submit", "counter", "--key", "k", "--output", "json"]));
    let (one, two) = (submit(), submit());
    assert_eq!(one[0]["job_id"], two[0]["job_id"]);
    assert_eq!(two.last().expect("an end")["result"]["runs"], 1);
    let detached = home.run(&["submit", "counter", "--key", "k", "--detach"]);
    assert_eq!(stdout(&detached).trim(), one[0]["job_id"].as_str().expect("a job"));
}

#[test]
fn a_recording_is_its_owners_also_in_a_file_that_others_could_read() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let file = home.dir.join("kept.jsonl");
    fs::write(&file, "of an earlier run").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("readable by all");
    home.serve(&["--samples", "--record", file.to_str().expect("text")]);
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_recording_over_either_adapter_replays_and_a_changed_one_does_not() {
    for adapter in [&[][..], &["--tokio"]] {
        replays_until_it_is_changed(adapter);
    }
}

fn replays_until_it_is_changed(adapter: &[&str]) {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a directory");
    let file = home.dir.join("run.arcplog");
    let name = file.to_str().expect("text");
    home.serve(&[&["--samples", "--record", name], adapter].concat());
    home.run(&["submit", "chatty", "--input", r#"{"kind":"all"}"#]);
    home.signal("TERM");
    assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o600);
    let replayed = home.run(&["replay", name]);
    assert_eq!(code(&replayed), 0, "{}", stderr(&replayed));
    assert!(stdout(&replayed).contains("byte for byte"));
    let changed = fs::read_to_string(&file).expect("text").replacen("demo.echo", "demo.other", 1);
    fs::write(&file, changed).expect("written");
    assert_eq!(code(&home.run(&["replay", name])), 1);
}

#[test]
fn stdio_serves_the_parent_as_local() {
    serves_its_parent(&[]);
    serves_its_parent(&["--tokio"]);
}

fn serves_its_parent(adapter: &[&str]) {
    let home = Home::new(ARCP);
    let mut child = home
        .arcp(&[&["serve", "--stdio", "--samples"], adapter].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON") };
    input.write_all(b"{\"id\":\"1\",\"type\":\"session.hello\",\"payload\":{}}\r\n\n").expect("written");
    assert_eq!(next()["type"], "session.welcome");
    input.write_all(b"sw84 not json\n").expect("written");
    assert_eq!(next()["payload"]["code"], "INVALID_REQUEST");
    input
        .write_all(b"{\"id\":\"2\",\"type\":\"job.submit\",\"payload\":{\"agent\":\"echo\",\"input\":[1]}}\n")
        .expect("written");
    assert_eq!(next()["type"], "job.accepted");
    assert_eq!(next()["type"], "job.event");
    assert_eq!(next()["payload"]["result"].to_string(), "[1]");
    drop(input);
    assert_eq!(child.wait().expect("it ends with its parent").code(), Some(0));
}

#[test]
fn a_client_over_stdio() {
    let home = Home::new(ARCP);
    let url = format!("exec:{ARCP} serve --stdio --samples");
    let output = home.run(&["submit", "slow", "--input", r#"{"ms":200}"#, "--url", &url]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "{\"done\":true,\"ticks\":2}\n"), "{}", stderr(&output));
}

#[test]
fn a_client_over_stdio_and_tokio_ends_the_program_with_its_session() {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let pid = home.dir.join("pid");
    // Whoever does not notice the end of its input is killed.
    let target = format!("exec:echo $$ > {}; {ARCP} serve --stdio --samples; sleep 600", pid.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = ClientConfig::new("test", "1", Credential::Anonymous);
        let client = Client::connect(target.parse().expect("a target"), config).await.expect("a session");
        let mut job = client.submit(submit("slow", r#"{"ms":200}"#)).await.expect("it is accepted");
        let end = job.wait().await.expect("it ended");
        let expected = Json::parse(r#"{"done":true,"ticks":2}"#).expect("JSON");
        assert_eq!(end.result, ResultData::Inline(expected));
        client.close().await;
        let pid = fs::read_to_string(pid).expect("its own number");
        let ended =
            move || until("the program's end", || (!Path::new("/proc").join(pid.trim()).exists()).then_some(()));
        tokio::task::spawn_blocking(ended).await.expect("it ends");
    });
}

#[test]
fn the_demo_proves_what_it_says() {
    let home = Home::new(ARCP);
    let output = home.run(&["demo"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("0 missing, 0 twice"));
}

#[test]
fn agents_cannot_command_the_terminal() {
    let mut home = Home::new(ARCP);
    home.serve(&["--agent", r#"evil=printf '\033]0;owned\007\n'; echo '{"result":1}'"#]);
    let output = home.run(&["submit", "evil"]);
    assert!(!output.stderr.contains(&0x1b) && stderr(&output).contains("\\u{1b}"), "{}", stderr(&output));
}

#[test]
fn both_families_see_one_set_of_jobs() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let submitted = home.run(&[
        "submit",
        "chatty",
        "--family",
        "open",
        "--priority",
        "high",
        "-i",
        r#"{"count":5}"#,
        "--output",
        "json",
    ]);
    assert_eq!(code(&submitted), 0, "{}", stderr(&submitted));
    let job = json_lines(&submitted)[0]["job_id"].as_str().expect("a job").to_string();
    let told = |family: &str| {
        let watched = home.run(&["watch", &job, "--family", family, "--output", "json"]);
        assert_eq!(code(&watched), 0, "{}", stderr(&watched));
        let events = json_lines(&watched).into_iter().filter(|line| line["type"] == "event");
        events.map(|line| (line["kind"].clone(), line["body"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told("hello"), told("open"));
    assert_eq!(told("open").len(), 6);
    // What the other family has no word for is a mistake, not passed over.
    for args in [["submit", "echo", "--priority", "high"], ["cancel", &job, "--deadline", "5s"]] {
        let refused = home.run(&args);
        assert_eq!(code(&refused), 2, "{args:?}");
        assert!(stderr(&refused).contains("--family open"), "{}", stderr(&refused));
    }
}

#[test]
fn a_cancel_with_a_deadline_from_another_process() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples", "--agent", "deaf=trap '' TERM; echo deaf; sleep 60 & wait; wait"]);
    let submitted = home.run(&["submit", "deaf", "--family", "open", "--detach"]);
    let job = stdout(&submitted).trim().to_string();
    until("it hears nothing", || {
        stdout(&home.run(&["logs", &job])).lines().any(|line| line.ends_with("deaf")).then_some(())
    });
    let cancelled = home.run(&["cancel", &job, "--family", "open", "--deadline", "200ms", "--reason", "late"]);
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    let watched = home.run(&["watch", &job, "--output", "json"]);
    assert_eq!(code(&watched), 3);
    assert!(stdout(&watched).contains("did not stop in time"), "{}", stdout(&watched));
}

#[test]
fn a_job_whose_beginning_is_no_longer_kept_is_watched_from_where_it_is() {
    let home = Home::new(ARCP);
    let says = r#"{"kind":"log","body":{"level":"info","message":"m"}}"#;
    let agent = format!("i=0; while [ $i -lt 3000 ]; do echo '{says}'; i=$((i+1)); done");
    let running = Running::start(&[("long", &agent)], |config| {
        config.limits.history.job_events = 1000;
        config.limits.history.kept_job_events = 1000;
    });
    let url = format!("ws://{}/arcp", running.address);
    let place = ["--url", &url, "--token", "tok-a"];
    let submitted = home.run(&[&["submit", "long", "--detach"][..], &place].concat());
    let job = stdout(&submitted).trim().to_string();
    home.run(&[&["wait", &job][..], &place].concat());
    for family in ["hello", "open"] {
        let watched = home.run(&[&["watch", &job, "--output", "jsonl", "--family", family][..], &place].concat());
        assert_eq!(code(&watched), 0, "{}", stderr(&watched));
        let told = stderr(&watched);
        assert!(told.contains("the first") && told.contains("are no longer kept"), "{told}");
        let events = stdout(&watched).lines().filter(|line| line.contains("\"m\"")).count();
        assert!(events > 100 && events < 3000, "{events}");
    }
}

#[test]
fn an_auditor_lists_and_watches_jobs_of_others() {
    let mut home = Home::new(ARCP);
    let tokens = ["--token", "secret-a=a", "--token", "secret-b=b", "--token", "secret-c=c"];
    let url = home.serve(&[&["--samples", "--auditor", "c"][..], &tokens].concat());
    let as_who = |command: &[&str], token: &str| home.run(&[command, &["--url", &url, "--token", token]].concat());
    let submitted = as_who(&["submit", "echo", "--input", "7", "--detach"], "secret-a");
    let job = stdout(&submitted).trim().to_string();
    let watched = as_who(&["watch", &job], "secret-c");
    assert_eq!((code(&watched), stdout(&watched).trim()), (0, "7"), "{}", stderr(&watched));
    assert!(stdout(&as_who(&["list"], "secret-c")).contains(&job));
    assert_eq!(stdout(&as_who(&["list"], "secret-b")), "");
    assert_eq!(code(&as_who(&["watch", &job], "secret-b")), 1);
    let unknown = home.run(&["serve", "--samples", "--auditor", "nobody"]);
    assert_eq!(code(&unknown), 2);
    assert!(stderr(&unknown).contains("--auditor nobody"), "{}", stderr(&unknown));
}

#[test]
fn a_server_whose_terminal_is_gone_goes_on_and_ends_when_it_is_told_to() {
    let mut home = Home::new(ARCP);
    let mut serve = home.arcp(&["serve", "--listen", "127.0.0.1:0", "--samples"]);
    let mut child = serve.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let ready = lines.next().expect("a line").expect("text");
    let url = ready.strip_prefix("READY ").expect("a URL").to_string();
    // As with `| head -1`.
    drop(lines);
    let submitted = home.run(&["submit", "echo", "--input", "7", "--url", &url]);
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    home.servers.push(child);
    let ended = until("it ends", || home.servers[0].try_wait().expect("asked"));
    assert_eq!(ended.code(), Some(0), "{}", stderr(&submitted));
}

/// The text of a file, once its line has an end.
fn written(file: &Path) -> String {
    until("the file is written", || fs::read_to_string(file).ok().filter(|text| text.ends_with('\n')))
}

#[test]
fn programs_are_told_to_stop_when_the_runtime_ends_and_none_stays() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let (pids, told) = (home.dir.join("pids"), home.dir.join("told"));
    let polite = format!(
        "polite=trap 'echo told > {}; exit 0' TERM; sleep 1000 & echo $$ $! >> {}; wait",
        told.display(),
        pids.display()
    );
    let deaf = format!("deaf=trap '' TERM; sleep 1000 & echo $$ $! >> {}; wait; sleep 1000", pids.display());
    home.serve(&["--agent", &polite, "--agent", &deaf, "--drain", "0"]);
    for agent in ["polite", "deaf"] {
        assert_eq!(code(&home.run(&["submit", agent, "--detach"])), 0);
    }
    let lines = || fs::read_to_string(&pids).unwrap_or_default().lines().count();
    until("the programs start", || (lines() == 2).then_some(()));
    assert_eq!(home.signal("TERM").code(), Some(9));
    assert_eq!(written(&told), "told\n", "who can stop is asked to");
    for pid in fs::read_to_string(&pids).expect("text").split_whitespace() {
        until("it does not go on", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            (stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))).then_some(())
        });
    }
}

#[test]
fn agents_get_a_clean_environment_and_the_descriptor_limit_of_a_program() {
    let mut home = Home::new(ARCP);
    let limited = "ulimit -S -n 512; exec \"$0\" \"$@\"";
    let mut server = Command::new("sh")
        .args(["-c", limited, ARCP, "serve", "--listen", "127.0.0.1:0"])
        .args(["--agent", "env=env", "--agent", "files=ulimit -S -n"])
        .args(["--agent-env", "GIVEN=a=b", "--agent-env", "HANDED_ON"])
        .env("ARCP_STATE_DIR", &home.dir)
        .env("HANDED_ON", "as it is")
        .env("SECRET_OF_THE_RUNTIME", "hush")
        .env("LC_TIME", "C")
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    assert!(lines.next().expect("a line").expect("text").starts_with("READY "));
    std::thread::spawn(move || lines.for_each(drop));
    home.servers.push(server);
    let environment = stdout(&home.run(&["submit", "env"]));
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(environment.contains("GIVEN=a=b\n") && environment.contains("HANDED_ON=as it is\n"), "{names:?}");
    assert!(names.contains(&"PATH") && names.contains(&"LC_TIME") && names.contains(&"ARCP_JOB_ID"), "{names:?}");
    assert!(!names.contains(&"SECRET_OF_THE_RUNTIME") && !names.contains(&"ARCP_STATE_DIR"), "{names:?}");
    assert!(environment.contains("PYTHONUNBUFFERED=1\n"), "{names:?}");
    let raised = fs::read_to_string(format!("/proc/{}/limits", home.servers[0].id())).expect("limits");
    let files = raised.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert!(!files.contains(" 512 "), "the runtime raised its own: {files}");
    assert_eq!(stdout(&home.run(&["submit", "files"])), "512\n");
    let unset = home.run(&["serve", "--samples", "--agent-env", "NOT_SET_ANYWHERE"]);
    assert!(code(&unset) == 2 && stderr(&unset).contains("it is not set here"), "{}", stderr(&unset));
}

#[test]
fn a_store_is_checked_backed_up_and_repaired() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let (file, copy) = (home.dir.join("jobs.db"), home.dir.join("copy.db"));
    let [path, to] = [&file, &copy].map(|path| path.to_str().expect("text").to_string());
    home.serve(&["--samples", "--store", &path]);
    for input in ["1", "\"to be damaged\"", "2"] {
        assert_eq!(code(&home.run(&["submit", "echo", "--input", input])), 0);
    }
    // Beside the runtime that has it.
    let checked = home.run(&["store", "check", &path]);
    assert!(code(&checked) == 0 && stdout(&checked).contains("nothing is damaged"), "{}", stderr(&checked));
    assert_eq!(code(&home.run(&["store", "backup", &path, &to])), 0);
    let refused = home.run(&["store", "repair", &path]);
    assert!(code(&refused) == 1 && stderr(&refused).contains("in use by another process"), "{}", stderr(&refused));
    let again = home.run(&["store", "backup", &path, &to]);
    assert!(code(&again) == 2 && stderr(&again).contains("it exists: name another file"), "{}", stderr(&again));
    assert_eq!(home.signal("TERM").code(), Some(0));
    let mut bytes = fs::read(&copy).expect("read");
    let damaged = b"to be damaged";
    for at in 0..bytes.len() - damaged.len() {
        if bytes[at..].starts_with(damaged) {
            bytes[at] ^= 1;
        }
    }
    fs::write(&copy, bytes).expect("written");
    let checked = home.run(&["store", "check", &to]);
    let found = stdout(&checked);
    assert!(code(&checked) == 1 && found.contains("job_") && found.contains("checksum does not match"), "{found}");
    let repaired = home.run(&["store", "repair", &to]);
    let done = stdout(&repaired);
    assert!(code(&repaired) == 0 && done.contains("was taken out") && done.contains("copy.db.damaged-1"), "{done}");
    home.serve(&["--samples", "--store", &to]);
    let listed = json_lines(&home.run(&["list", "--output", "jsonl"]));
    assert_eq!(listed.len(), 2, "the other jobs are there");
}
