//! The output of commands that read: tables, JSON and ids, on a terminal and in a pipe.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use arcp_tests::home::{Home, code, stderr, stdout};
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// A WebSocket by hand.
struct RawSocket(TcpStream);

impl RawSocket {
    fn connect(url: &str) -> RawSocket {
        let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = "GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("asked");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(byte(&mut stream));
        }
        RawSocket(stream)
    }

    /// Sends a message; the first answer of this type.
    fn ask(&mut self, message: &str, answer: &str) -> Value {
        let length = u16::try_from(message.len()).expect("short").to_be_bytes();
        // A mask of zeros leaves the text as it is.
        let head = [0x81, 0xfe, length[0], length[1], 0, 0, 0, 0];
        self.0.write_all(&[&head[..], message.as_bytes()].concat()).expect("sent");
        loop {
            let received = self.receive();
            let received: Value = serde_json::from_slice(&received).expect("JSON");
            if received["type"] == answer {
                return received;
            }
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let [_, length] = [byte(&mut self.0), byte(&mut self.0)];
        let length = match length {
            126 => usize::from(u16::from_be_bytes([byte(&mut self.0), byte(&mut self.0)])),
            short => usize::from(short),
        };
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).expect("a frame");
        text
    }
}

fn byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("a byte");
    byte[0]
}

/// Submits a job and leaves it; its id.
fn left(home: &Home, agent: &str, input: &str) -> String {
    let output = home.run(&["submit", agent, "--input", input, "--detach"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output).trim().to_string()
}

/// Submits a job and waits for its end; its id.
fn ended(home: &Home, agent: &str, input: &str) -> String {
    let job = left(home, agent, input);
    home.run(&["wait", &job]);
    job
}

#[test]
fn what_is_read_comes_as_a_table_json_lines_or_ids() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let jobs = [ended(&home, "echo", "1"), ended(&home, "echo", "2")];
    for name in ["ls", "list", "ps"] {
        assert_eq!(stdout(&home.run(&[name, "-o", "id"])), format!("{}\n{}\n", jobs[1], jobs[0]), "{name}");
    }
    let all = json(&home.run(&["ls", "-o", "json"]));
    assert_eq!(all.as_array().expect("an array").len(), 2);
    assert_eq!((&all[0]["job_id"], &all[0]["status"]), (&jobs[1].as_str().into(), &"success".into()));
    assert!(all[0]["created_at"].as_str().expect("a time").ends_with('Z'), "UTC: {}", all[0]);
    let lines = stdout(&home.run(&["ls", "-o", "jsonl"]));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines, all.as_array().expect("an array")[..]);
    let table = home.run(&["ls"]);
    assert!(stderr(&table).starts_with("JOB ") && stdout(&table).lines().count() == 2, "the header is talk");
    let bare = home.run(&["ls", "--no-header"]);
    assert_eq!((stderr(&bare).as_str(), stdout(&bare)), ("", stdout(&table)));
    assert_eq!(stdout(&home.run(&["ls", "-o", "json", "--filter", "newer=0"])), "[]\n");
}

#[test]
fn jobs_are_filtered_by_status_agent_and_age() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let (echo, failer) = (ended(&home, "echo", "1"), ended(&home, "failer", "{}"));
    let ids = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        stdout(&home.run(&[&["ls", "-o", "id"][..], &filters].concat()))
    };
    assert_eq!(ids(&["status=error"]), format!("{failer}\n"));
    assert_eq!(ids(&["agent=echo", "newer=1h"]), format!("{echo}\n"));
    assert_eq!(ids(&["status=error", "status=success"]).lines().count(), 2);
    assert_eq!(ids(&["older=1h"]), "");
}

#[test]
fn colours_are_for_terminals_and_for_who_wants_them() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    ended(&home, "echo", "1");
    let (_, shown) = home.run_on_terminal(&["ls"]);
    assert!(shown.contains("\x1b[32msuccess\x1b[0m"), "{shown:?}");
    assert!(!stdout(&home.run(&["ls"])).contains('\x1b'), "none in a pipe");
    home.variables.push(("NO_COLOR", "1"));
    let (_, shown) = home.run_on_terminal(&["ls"]);
    assert!(shown.contains("success") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn an_agent_is_shown_with_its_versions() {
    let mut home = Home::new(ARCP);
    home.serve(&["--agent", "hi=echo hello", "--agent", "two@1.0=true", "--agent", "two@2.0=true"]);
    assert_eq!(stdout(&home.run(&["agents", "-o", "id"])), "hi\ntwo\n");
    let table = stdout(&home.run(&["agents"]));
    assert!(table.lines().any(|line| line.starts_with("two") && line.contains("1.0 2.0")), "{table}");
    let shown = json(&home.run(&["agents", "two", "-o", "json"]));
    assert_eq!((&shown["name"], &shown["versions"]), (&"two".into(), &serde_json::json!(["1.0", "2.0"])));
    assert_eq!(code(&home.run(&["agents", "two@3.0"])), 1);
}

#[test]
fn a_job_is_shown_with_its_input_and_result() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let echo = ended(&home, "echo", r#"{"a":1}"#);
    home.variables.push(("TZ", "Asia/Kolkata"));
    let shown = stdout(&home.run(&["show", &echo]));
    let fact =
        |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_string();
    assert_eq!(
        (fact("job "), fact("status "), fact("agent ")),
        (echo.clone(), "success".into(), "echo@2.0.0".into()),
        "{shown}"
    );
    assert_eq!((fact("input "), fact("result ")), (r#"{"a":1}"#.to_string(), r#"{"a":1}"#.to_string()), "{shown}");
    assert_eq!(fact("owner "), "local", "{shown}");
    assert!(fact("took ").ends_with('s'), "{shown}");
    let json = json(&home.run(&["show", &echo, "-o", "json"]));
    // The text is local, the JSON in UTC.
    let utc: Vec<&str> = json["created_at"].as_str().expect("a time").split(['-', 'T', ':', '.']).collect();
    let minute: u32 = utc[4].parse().expect("a minute");
    let local = fact("submitted ");
    assert_eq!(local[14..16].parse(), Ok((minute + 30) % 60), "{local} of {utc:?}");
    assert_eq!(json["result"], serde_json::json!({"a": 1}));
    let failer = ended(&home, "failer", "{}");
    let shown = stdout(&home.run(&["show", &failer[..22]]));
    let error = shown.lines().find_map(|line| line.strip_prefix("error ")).map(str::trim);
    assert_eq!(error, Some("boom (INTERNAL_ERROR)"), "{shown}");
}

/// Submits a job below another one and leaves it; its id.
fn below(home: &Home, parent: &str, args: &[&str]) -> String {
    let output = home.run(&[&["submit", "--detach", "--parent", parent], args].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output).trim().to_string()
}

#[test]
fn a_job_and_those_below_it_are_shown_with_what_became_of_their_budgets() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let authority = ["--lease", "agent.delegate=*", "--lease", "tool.call=**"];
    let keys = ["a", "b", "c", "d"].map(|key| format!(r#"{{"key":"{key}"}}"#));
    let first = [&["submit", "gate", "--detach", "--budget", "USD:5", "--input", &keys[0]][..], &authority].concat();
    let first = stdout(&home.run(&first)).trim().to_string();
    let child = [&["gate", "--budget", "USD:2", "--input", &keys[1]][..], &authority].concat();
    let child = below(&home, &first, &child);
    let spends = [&["spender", "--budget", "USD:1", "--input", r#"{"amounts":[0.25]}"#][..], &authority[2..]].concat();
    let ended = below(&home, &first[..24], &spends);
    assert_eq!(code(&home.run(&["wait", &ended])), 0);
    let grandchild = below(&home, &child, &["gate", "--budget", "USD:0.5", "--input", &keys[2]]);
    left(&home, "gate", &keys[3]);
    let shown = home.run(&["tree", &first]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<&str>>().join(" ");
    assert_eq!(
        stdout(&shown).lines().map(words).collect::<Vec<String>>(),
        [
            format!("{first} running gate 5 USD: 0.25 spent, 2 below, 2.75 left"),
            format!("├─ {child} running gate 2 USD: 0 spent, 0.5 below, 1.5 left"),
            format!("│ └─ {grandchild} running gate 0.5 USD: 0 spent, 0.5 left"),
            format!("└─ {ended} success spender 1 USD: 0.25 spent, 0.75 left"),
        ]
    );
    assert!(stderr(&shown).starts_with("JOB "), "{}", stderr(&shown));
    assert_eq!(stdout(&home.run(&["tree", &child, "-o", "id"])), format!("{child}\n{grandchild}\n"));
    let nested = json(&home.run(&["tree", &first, "-o", "json"]));
    assert_eq!(
        (&nested["spent"]["USD"], &nested["below"]["USD"], &nested["budget"]["USD"], &nested["granted"]["USD"]),
        (&0.25.into(), &2.into(), &2.75.into(), &5.into()),
        "{nested}"
    );
    assert_eq!(nested["children"][0]["children"][0]["job_id"], grandchild.as_str(), "{nested}");
    assert_eq!(nested["children"][1]["parent_job_id"], first.as_str(), "{nested}");
    let lines = stdout(&home.run(&["tree", &first, "-o", "jsonl"]));
    assert_eq!((lines.lines().count(), lines.contains("children")), (4, false), "{lines}");
    // Again with its key, to cancel it, and again below the same job.
    assert_eq!(code(&home.run(&["cancel", &child])), 0);
    assert_eq!(code(&home.run(&["wait", &grandchild])), 3, "it goes with its parent");
    let again = stdout(&home.run(&["retry", &ended, "--detach"])).trim().to_string();
    assert!(stdout(&home.run(&["tree", &first, "-o", "id"])).contains(&again));
    assert_eq!(code(&home.run(&["cancel", &first])), 0);
    assert_eq!(code(&home.run(&["wait", &first])), 3);
    let refused = home.run(&["submit", "echo", "--parent", &first]);
    assert!(code(&refused) != 0 && stderr(&refused).contains("has ended"), "{}", stderr(&refused));
}

#[test]
fn a_runtime_is_shown_by_its_address_or_process() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples"]);
    let pid = home.servers[0].id().to_string();
    let port = url.trim_end_matches("/arcp").rsplit(':').next().expect("a port").to_string();
    for named in [url.as_str(), &format!(":{port}"), &pid] {
        let shown = stdout(&home.run(&["show", named]));
        assert!(
            shown.starts_with("runtime ") && shown.contains(&url) && shown.contains("in memory"),
            "{named}: {shown}"
        );
        assert!(shown.contains("chatty") && shown.contains(&pid), "{shown}");
    }
}

#[test]
fn a_session_and_a_subscription_are_shown_from_the_store_of_ones_runtime() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    let url = home.serve(&["--samples", "--store", &store, "--token", "t=me"]);
    home.variables.push(("ARCP_TOKEN", "t"));
    let mut raw = RawSocket::connect(&url);
    let opened = raw.ask(
        r#"{"id":"1","type":"session.open","payload":{"auth":{"scheme":"bearer","token":"t"},"capabilities":{"subscriptions":true}}}"#,
        "session.accepted",
    );
    let session = opened["session_id"].as_str().expect("a session").to_string();
    let frame = format!(
        r#"{{"id":"2","type":"subscribe","session_id":"{session}","payload":{{"filter":{{"types":["log"]}}}}}}"#
    );
    let subscribed = raw.ask(&frame, "subscribe.accepted");
    let subscription = subscribed["payload"]["subscription_id"].as_str().expect("one").to_string();
    let shown = json(&home.run(&["show", &session, "-o", "json"]));
    assert_eq!(
        (&shown["session_id"], &shown["principal"], &shown["family"]),
        (&session.as_str().into(), &"me".into(), &"open".into())
    );
    assert_eq!(shown["subscriptions"], serde_json::json!([subscription]));
    let text = stdout(&home.run(&["show", &subscription]));
    assert!(text.starts_with("subscription ") && text.contains(&session) && text.contains("log"), "{text}");
    let gone = home.run(&["show", "sess_00000000000000000000000000"]);
    assert!(code(&gone) == 1 && stderr(&gone).contains("no session is called"), "{}", stderr(&gone));
    // Of a runtime elsewhere nobody is told.
    let stranger = Home::new(ARCP).run(&["show", &session, "--url", &url, "--token", "t"]);
    assert!(code(&stranger) == 1 && stderr(&stranger).contains("a store of yours"), "{}", stderr(&stranger));
}

#[test]
fn the_result_of_an_ended_job_is_printed_as_it_is() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let (echo, pieces) =
        (ended(&home, "echo", r#"{"a": 1.50}"#), ended(&home, "chunker", r#"{"chunks":3,"bytes":10}"#));
    assert_eq!(stdout(&home.run(&["result", &echo])), "{\"a\": 1.50}\n");
    assert_eq!(stdout(&home.run(&["result", &pieces])).len(), 30);
    assert_eq!(json(&home.run(&["result", &echo, "-o", "json"]))["status"], "success");
    assert_eq!(stdout(&home.run(&["result", &echo, "-o", "id"])), format!("{echo}\n"));
    let failed = home.run(&["result", &ended(&home, "failer", "{}")]);
    assert_eq!((code(&failed), stdout(&failed).as_str()), (1, ""));
    assert!(stderr(&failed).contains("boom"), "{}", stderr(&failed));
    let slow = left(&home, "slow", r#"{"ms":60000}"#);
    let early = home.run(&["result", &slow]);
    assert!(code(&early) == 1 && stderr(&early).contains(&format!("arcp wait {slow}")), "{}", stderr(&early));
}

#[test]
fn the_logs_of_a_job_are_what_it_has_said_so_far() {
    let mut home = Home::new(ARCP);
    home.serve(&["--agent", "talk=echo one; echo two >&2; echo three", "--agent", "stuck=echo begun; sleep 1000"]);
    let job = ended(&home, "talk", "null");
    let logs = stdout(&home.run(&["logs", &job]));
    let said: Vec<&str> = logs.lines().map(|line| &line[21..]).collect();
    assert_eq!(said.first(), Some(&"status running"), "{logs}");
    assert!(said.contains(&"one") && said.contains(&"stderr two") && said.last() == Some(&"success"), "{logs}");
    let kinds = stdout(&home.run(&["logs", &job, "--kind", "log", "-o", "jsonl"]));
    assert!(kinds.lines().filter(|line| line.contains("\"kind\":\"log\"")).count() == 3, "{kinds}");
    assert_eq!(stdout(&home.run(&["logs", &job, "--tail", "1"])).lines().count(), 1);
    assert!(json(&home.run(&["logs", &job, "-o", "json"])).as_array().expect("an array").len() >= 5);
    // Of a job that goes on it is what there is; who wants more follows it.
    let stuck = left(&home, "stuck", "null");
    arcp_tests::until::until("it has begun", || {
        stdout(&home.run(&["logs", &stuck])).lines().any(|line| line.ends_with("begun")).then_some(())
    });
    let follow =
        home.arcp(&["logs", &stuck, "--follow"]).stdout(std::process::Stdio::piped()).spawn().expect("it runs");
    assert_eq!(code(&home.run(&["cancel", &stuck])), 0);
    let followed = follow.wait_with_output().expect("it ends");
    assert!(stdout(&followed).lines().last().is_some_and(|line| line.contains("cancelled")), "{}", stdout(&followed));
}

#[test]
fn several_jobs_are_waited_for_and_the_first_failure_is_the_code() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let jobs = [left(&home, "slow", r#"{"ms":300}"#), left(&home, "failer", "{}"), left(&home, "echo", "1")];
    let [slow, failer, echo] = &jobs;
    let waited = home.run(&["wait", slow, failer, echo, slow, "-o", "jsonl"]);
    assert_eq!(code(&waited), 1, "{}", stderr(&waited));
    let ends: Vec<Value> = stdout(&waited).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let statuses: Vec<&Value> = ends.iter().map(|end| &end["status"]).collect();
    assert_eq!(statuses, ["success", "error", "success"], "each once, in the order given");
    assert_eq!(code(&home.run(&["wait", slow, echo])), 0, "what has ended is not waited for");
    let endless = left(&home, "slow", r#"{"ms":60000}"#);
    let gave_up = home.run(&["wait", &endless, "--timeout", "100ms"]);
    assert!(code(&gave_up) == 4 && stderr(&gave_up).contains("--timeout"), "{}", stderr(&gave_up));
}

#[test]
fn several_jobs_are_cancelled_by_id_or_by_filter_and_shown_before() {
    let mut home = Home::new(ARCP);
    home.serve(&["--samples"]);
    let slow = || left(&home, "slow", r#"{"ms":600000}"#);
    let (one, two, three) = (slow(), slow(), slow());
    ended(&home, "echo", "1");
    let ids = |status: &str| stdout(&home.run(&["ls", "-o", "id", "--filter", &format!("status={status}")]));
    let shown = home.run(&["cancel", "--filter", "agent=slow", "--dry-run"]);
    assert!(stderr(&shown).contains("3 jobs would be cancelled"), "{}", stderr(&shown));
    assert!([&one, &two, &three].iter().all(|job| stdout(&shown).contains(*job)), "{}", stdout(&shown));
    assert_eq!(ids("running").lines().count(), 3, "nothing was cancelled");
    // One that is not there stops it before anything is done.
    let mistaken = home.run(&["cancel", &one, "job_01"]);
    assert!(code(&mistaken) == 2 && stderr(&mistaken).contains("begins the ids of 4 jobs"), "{}", stderr(&mistaken));
    assert_eq!(ids("running").lines().count(), 3, "nothing was cancelled");
    for nobody in ["job_nobody", "job_01JZZZZZZZZZZZZZZZZZZZZZZZ"] {
        let mistaken = home.run(&["cancel", &one, nobody]);
        assert!(code(&mistaken) == 1 && stderr(&mistaken).contains(nobody), "{}", stderr(&mistaken));
        assert_eq!(ids("running").lines().count(), 3, "nothing was cancelled");
    }
    assert_eq!(code(&home.run(&["cancel", &one, &two])), 0);
    assert_eq!(code(&home.run(&["wait", &one, &two])), 3);
    let rest = home.run(&["cancel", "--filter", "status=running", "--filter", "newer=1h"]);
    assert!(code(&rest) == 0 && stderr(&rest).contains(&three), "{}", stderr(&rest));
    assert_eq!(code(&home.run(&["wait", &three])), 3);
    let late = home.run(&["cancel", &three]);
    assert!(code(&late) == 1 && stderr(&late).contains(&format!("{three}: the job has ended")), "{}", stderr(&late));
    let none = home.run(&["cancel", "--filter", "agent=slow"]);
    assert!(code(&none) == 0 && stderr(&none).contains("nothing was cancelled"), "{}", stderr(&none));
}

#[test]
fn a_job_is_submitted_again_under_a_new_key() {
    let mut home = Home::new(ARCP);
    let store = home.dir.join("jobs.db").display().to_string();
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let url = home.serve(&["--samples", "--store", &store]);
    let first = ended(&home, "counter", r#"{"n":1}"#);
    let again = home.run(&["retry", &first, "--detach"]);
    let second = stdout(&again).trim().to_string();
    assert!(code(&again) == 0 && second.starts_with("job_") && second != first, "{}", stderr(&again));
    let input = |job: &str| json(&home.run(&["show", job, "-o", "json"]))["input"].clone();
    assert_eq!((input(&first), input(&second)), (serde_json::json!({"n": 1}), serde_json::json!({"n": 1})));
    let changed = home.run(&["retry", &first, "--input", "2", "--detach"]);
    assert_eq!(input(stdout(&changed).trim()), 2);
    // What others submitted is in the store of the runtime, which is its user's.
    let token: Value = serde_json::from_str(
        &std::fs::read_to_string(
            std::fs::read_dir(home.dir.join("runtimes"))
                .expect("a folder")
                .map(|file| file.expect("one").path())
                .find(|path| path.extension().is_some_and(|extension| extension == "json"))
                .expect("an entry"),
        )
        .expect("text"),
    )
    .expect("JSON");
    let token = token["token"].as_str().expect("a token").to_string();
    let other = Home::new(ARCP);
    let theirs = other.run(&["submit", "echo", "--input", "5", "--detach", "--url", &url, "--token", &token]);
    let theirs = stdout(&theirs).trim().to_string();
    let retried = home.run(&["retry", &theirs]);
    assert_eq!((code(&retried), stdout(&retried).as_str()), (0, "5\n"), "{}", stderr(&retried));
    let unknown = Home::new(ARCP).run(&["retry", &theirs, "--url", &url, "--token", &token]);
    assert!(code(&unknown) == 1 && stderr(&unknown).contains("not known here"), "{}", stderr(&unknown));
}

#[test]
fn every_help_names_every_exit_code() {
    let home = Home::new(ARCP);
    for command in [&[][..], &["ls"], &["submit"], &["watch"], &["wait"], &["serve"], &["show"], &["store", "check"]] {
        let help = stdout(&home.run(&[command, &["--help"]].concat()));
        for code in [
            "0  success",
            "1  ",
            "2  the command line",
            "3  ",
            "4  ",
            "5  ",
            "6  ",
            "7  ",
            "8  ",
            "9  ",
            "130  interrupted",
        ] {
            assert!(help.contains(code), "{command:?} does not name {code:?}: {help}");
        }
    }
}
