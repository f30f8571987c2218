//! Handoffs from one `arcp serve` to another.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::ports;
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// An agent of which one job runs at a time: it says `where` once the file `go` is there.
fn agent(go: &Path, place: &str) -> String {
    format!("slow=read -r x; while [ ! -e {} ]; do sleep 0.02; done; echo {place} $x", go.display())
}

/// The file of a token, which nobody else reads.
fn token_file(home: &Home, token: &str) -> String {
    let file = home.dir.join(format!("{token}.token"));
    fs::create_dir_all(&home.dir).expect("a folder");
    fs::write(&file, format!("{token}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("private");
    file.display().to_string()
}

/// A job that runs and one that waits behind it.
fn running_and_waiting(home: &Home, url: &str) -> [String; 2] {
    let jobs = ["1", "2"].map(|input| {
        let submitted = home.run(&["submit", "slow", "-i", input, "--detach", "--url", url, "--token", "t"]);
        assert_eq!(code(&submitted), 0, "{}", stderr(&submitted));
        stdout(&submitted).trim().to_string()
    });
    until("the first one runs", || (listed(home, url, "t", "running") == [jobs[0].clone()]).then_some(()));
    jobs
}

/// The ids of the jobs with this status.
fn listed(home: &Home, url: &str, token: &str, status: &str) -> Vec<String> {
    let list = home.run(&["ls", "-o", "id", "--status", status, "--url", url, "--token", token]);
    assert_eq!(code(&list), 0, "{}", stderr(&list));
    stdout(&list).lines().map(str::to_string).collect()
}

/// How a job has ended, as JSON.
fn end_of(home: &Home, url: &str, job: &str) -> Option<Value> {
    let watched = home.run(&["watch", job, "-o", "jsonl", "--url", url, "--token", "t"]);
    let lines = stdout(&watched);
    let last: Value = serde_json::from_str(lines.lines().last()?).ok()?;
    Some(last)
}

#[test]
fn a_job_goes_to_another_server_which_is_known_by_its_key_and_is_found_there() {
    let mut home = Home::new(ARCP);
    let token = token_file(&home, "giver");
    let (go, certificates) = (home.dir.join("go"), home.dir.join("tls"));
    let made = home.run(&["tls", "self-signed", "--out", certificates.to_str().expect("text")]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let file = |name: &str| certificates.join(name).display().to_string();
    let (certificate, key) = (file("arcp-cert.pem"), file("arcp-key.pem"));
    let there = agent(&go, "there");
    let east =
        home.serve(&["--agent", &there, "--token", "giver=from-west", "--tls-cert", &certificate, "--tls-key", &key]);
    // Whoever has connected once has its fingerprint.
    let seen = home.run(&["ls", "--url", &east, "--token", "giver", "--ca", &certificate]);
    assert_eq!(code(&seen), 0, "{}", stderr(&seen));
    let known = fs::read_to_string(home.dir.join("known_runtimes")).expect("it is kept");
    let fingerprint = known.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a key").to_string();
    let (named, pinned) = (format!("east={east}"), format!("east={fingerprint}"));
    let wrong = format!("wrong={east}");
    let other = format!("wrong=sha256:{}", "0b".repeat(32));
    let tokens = ["east", "wrong"].map(|name| format!("{name}={token}"));
    let here = agent(&go, "here");
    let store = home.dir.join("west.db").display().to_string();
    let west = home.serve(&[
        "--agent",
        &here,
        "--concurrency",
        "slow=1",
        "--token",
        "t=alice",
        "--store",
        &store,
        "--handoff-to",
        &named,
        "--handoff-token",
        &tokens[0],
        "--handoff-fingerprint",
        &pinned,
        "--handoff-to",
        &wrong,
        "--handoff-token",
        &tokens[1],
        "--handoff-fingerprint",
        &other,
    ]);
    let run = |args: &[&str]| home.run(&[args, &["--url", &west, "--token", "t"]].concat());
    let [first, job] = running_and_waiting(&home, &west);
    for (args, exit, says) in [
        (["handoff", &job, "--to-runtime", "north"], 5, "`east`, `wrong`"),
        (["handoff", &first, "--to-runtime", "east"], 1, "waits for a slot"),
        // Somebody else's key: it is told nothing, and the job stays.
        (["handoff", &job, "--to-runtime", "wrong"], 8, "another key"),
    ] {
        let refused = run(&args);
        assert_eq!(code(&refused), exit, "{args:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(says), "{args:?}: {}", stderr(&refused));
    }
    assert_eq!(listed(&home, &west, "t", "pending"), std::slice::from_ref(&job));
    let given = run(&["handoff", &job, "--to-runtime", "east", "--fingerprint", &fingerprint, "--reason", "load"]);
    assert_eq!(code(&given), 0, "{}", stderr(&given));
    let name = stdout(&given).trim().to_string();
    let at_east =
        |args: &[&str]| home.run(&[args, &["--url", &east, "--token", "giver", "--ca", &certificate]].concat());
    assert_eq!(stdout(&at_east(&["ls", "-o", "id"])).trim(), name);
    // Who cancels it here is told where it is, and who cancels it there ends it.
    let refused = run(&["cancel", &job]);
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains(&name), "{}", stderr(&refused));
    fs::write(&go, "").expect("written");
    let waited = at_east(&["wait", &name]);
    assert_eq!(code(&waited), 0, "{}", stderr(&waited));
    assert_eq!(stdout(&at_east(&["result", &name])).trim(), "there 2");
    let waited = run(&["wait", &first]);
    assert_eq!(code(&waited), 0, "{}", stderr(&waited));
    assert_eq!(code(&run(&["wait", &job])), 3, "here it has ended");
    let trail = stdout(&home.run(&["audit", "--store", &store]));
    assert!(trail.contains("to the runtime east: load"), "{trail}");
}

#[test]
fn a_job_stays_where_no_other_server_takes_it_and_whoever_asked_is_told_why() {
    let mut home = Home::new(ARCP);
    let (token, stranger) = (token_file(&home, "giver"), token_file(&home, "stranger"));
    let go = home.dir.join("go");
    // It has another agent, and knows another token.
    let other = home.serve(&["--agent", "other=true", "--token", "giver=from-west"]);
    let nowhere = ports::free();
    let receivers = [
        ("refuses", other.clone(), &token, 1, "AGENT_NOT_AVAILABLE"),
        ("strict", other, &stranger, 8, "UNAUTHENTICATED"),
        ("nowhere", format!("ws://{nowhere}/arcp"), &token, 1, "UNAVAILABLE"),
    ];
    let here = agent(&go, "here");
    let mut args = vec!["--agent".to_string(), here, "--concurrency".into(), "slow=1".into()];
    args.extend(["--token", "t=alice"].map(String::from));
    for (name, url, token, ..) in &receivers {
        args.extend([
            "--handoff-to".into(),
            format!("{name}={url}"),
            "--handoff-token".into(),
            format!("{name}={token}"),
        ]);
    }
    let west = home.serve(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let [_, job] = running_and_waiting(&home, &west);
    for (name, _, _, exit, says) in &receivers {
        let refused = home.run(&["handoff", &job, "--to-runtime", name, "--url", &west, "--token", "t"]);
        assert_eq!(code(&refused), *exit, "{name}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(says) && stderr(&refused).contains("stays here"), "{}", stderr(&refused));
    }
    fs::write(&go, "").expect("written");
    let waited = home.run(&["wait", &job, "--url", &west, "--token", "t"]);
    assert_eq!(code(&waited), 0, "{}", stderr(&waited));
    let result = home.run(&["result", &job, "--url", &west, "--token", "t"]);
    assert_eq!(stdout(&result).trim(), "here 2");
}

/// Lets everything through.
const OPEN: u8 = 0;
/// Lets nothing through.
const SHUT: u8 = 1;
/// Lets no acceptance back.
const MUTE: u8 = 2;

/// Stands before a server, at a port of its own.
struct Line {
    url: String,
    mode: Arc<AtomicU8>,
    /// Connections that came.
    came: Arc<AtomicUsize>,
    /// Acceptances that were kept.
    kept: Arc<AtomicUsize>,
}

impl Line {
    fn to(server: &str, mode: u8) -> Line {
        let target = server.trim_start_matches("ws://").split('/').next().expect("an address").to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}/arcp", listener.local_addr().expect("an address"));
        let (mode, came, kept) = (Arc::new(AtomicU8::new(mode)), Arc::default(), Arc::default());
        let line = Line { url, mode, came, kept };
        let (mode, came, kept) = (line.mode.clone(), line.came.clone(), line.kept.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                came.fetch_add(1, Ordering::SeqCst);
                if mode.load(Ordering::SeqCst) == SHUT {
                    // It is held open, and nobody answers.
                    std::thread::spawn(move || drop(std::io::copy(&mut { near }, &mut std::io::sink())));
                    continue;
                }
                let far = TcpStream::connect(&target).expect("it is there");
                let (mut from, mut to) = (near.try_clone().expect("a clone"), far.try_clone().expect("a clone"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let (mode, kept) = (mode.clone(), kept.clone());
                std::thread::spawn(move || back(far, near, &mode, &kept));
            }
        });
        line
    }
}

/// Carries what a server says, but for what is kept.
fn back(mut far: TcpStream, mut near: TcpStream, mode: &AtomicU8, kept: &AtomicUsize) {
    let mut buffer = [0; 64 << 10];
    while let Ok(length @ 1..) = far.read(&mut buffer) {
        let said = String::from_utf8_lossy(&buffer[..length]);
        if mode.load(Ordering::SeqCst) == MUTE && said.contains("job.accepted") {
            kept.fetch_add(1, Ordering::SeqCst);
            // Nothing more comes, and nobody hangs up.
            let _ = std::io::copy(&mut far, &mut std::io::sink());
            return;
        }
        if near.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}

#[test]
fn a_server_that_is_killed_on_the_way_hands_its_job_over_once() {
    for mode in [SHUT, MUTE] {
        let mut home = Home::new(ARCP);
        let token = token_file(&home, "giver");
        let go = home.dir.join("go");
        let (here, there) = (agent(&go, "here"), agent(&go, "there"));
        let east = home.serve(&["--agent", &there, "--token", "giver=from-west"]);
        let line = Line::to(&east, mode);
        let store = home.dir.join("west.db").display().to_string();
        let (to, file) = (format!("east={}", line.url), format!("east={token}"));
        let args = [
            "--agent",
            &here,
            "--concurrency",
            "slow=1",
            "--token",
            "t=alice",
            "--store",
            &store,
            "--handoff-to",
            &to,
            "--handoff-token",
            &file,
        ];
        let west = home.serve(&args);
        let [_, job] = running_and_waiting(&home, &west);
        let begun = home.run(&["handoff", &job, "--to-runtime", "east", "--detach", "--url", &west, "--token", "t"]);
        assert_eq!(code(&begun), 0, "{}", stderr(&begun));
        // It is asked, and in the second case has taken it: the giver does not know.
        let signs = if mode == SHUT { &line.came } else { &line.kept };
        until("the receiver is asked", || (signs.load(Ordering::SeqCst) > 0).then_some(()));
        assert_eq!(listed(&home, &west, "t", "pending"), std::slice::from_ref(&job));
        home.signal("KILL");
        line.mode.store(OPEN, Ordering::SeqCst);
        let west = home.serve(&args);
        let end = until("it is known where the job is", || {
            (listed(&home, &west, "t", "cancelled") == [job.clone()]).then(|| end_of(&home, &west, &job))?
        });
        let at_east = home.run(&["ls", "-o", "id", "--url", &east, "--token", "giver"]);
        let name = stdout(&at_east).trim().to_string();
        assert!(!name.is_empty() && name.lines().count() == 1, "it is there once: {name}");
        assert!(end.to_string().contains(&name), "{end}");
        // Asked for again it is done.
        let again = home.run(&["handoff", &job, "--to-runtime", "east", "--url", &west, "--token", "t"]);
        assert_eq!((code(&again), stdout(&again).trim()), (0, name.as_str()), "{}", stderr(&again));
        fs::write(&go, "").expect("written");
        let result = until("it has ended there", || {
            let result = home.run(&["result", &name, "--url", &east, "--token", "giver"]);
            (code(&result) == 0).then(|| stdout(&result))
        });
        assert_eq!(result.trim(), "there 2");
    }
}
