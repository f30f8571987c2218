//! Notifications of ended jobs: programs, and receivers of webhooks that misbehave.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::server::PATIENCE;
use arcp_tests::until::until;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::Sha256;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const SECRET: &str = "a secret that nobody guesses";

/// What a receiver was sent.
#[derive(Debug)]
struct Sent {
    headers: Vec<(String, String)>,
    body: String,
}

impl Sent {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        &found.unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).1
    }

    fn job(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body["job_id"], self.header("webhook-id"), "the id of the message is the job's");
        self.header("webhook-id").to_string()
    }

    fn is_signed(&self) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        mac.update(format!("{id}.{timestamp}.{}", self.body).as_bytes());
        let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature") == expected
    }
}

/// A receiver that answers with these in turn, then with 200; 0: it closes the
/// connection without an answer.
fn receive(listener: TcpListener, answers: &'static [u16]) -> Receiver<Sent> {
    receive_with(listener, |n, _| answers.get(n).copied().unwrap_or(200))
}

/// A receiver that answers each attempt with this.
fn receive_with(listener: TcpListener, mut answer: impl FnMut(usize, &Sent) -> u16 + Send + 'static) -> Receiver<Sent> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (n, mut stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let sent = read(&mut stream);
            let status = answer(n, &sent);
            if tell.send(sent).is_err() {
                return;
            }
            if status != 0 {
                write_status(&mut stream, status);
            }
        }
    });
    told
}

/// A receiver with TLS that takes everything.
fn receive_over_tls(listener: TcpListener, certificate: &Path, key: &Path) -> Receiver<Sent> {
    let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let (config, (tell, told)) = (Arc::new(config), channel());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut session = ServerConnection::new(config.clone()).expect("a session");
            // Whoever does not trust it goes.
            if session.complete_io(&mut socket).is_err() {
                continue;
            }
            let mut stream = StreamOwned::new(session, socket);
            let sent = read(&mut stream);
            write_status(&mut stream, 200);
            if tell.send(sent).is_err() {
                return;
            }
        }
    });
    told
}

fn write_status(stream: &mut impl Write, status: u16) {
    drop(write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
}

fn read(stream: &mut impl Read) -> Sent {
    let mut reader = BufReader::new(stream);
    let (mut headers, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a line");
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_string())),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").expect("a length").1.parse().expect("one");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Sent { headers, body: String::from_utf8(body).expect("text") }
}

fn next(told: &Receiver<Sent>) -> Sent {
    told.recv_timeout(PATIENCE).expect("it is told")
}

/// A home with a store, and what to serve with.
fn home() -> (Home, String) {
    let home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    (home, store)
}

fn ended(home: &Home, agent: &str, input: &str) -> String {
    let job = stdout(&home.run(&["submit", agent, "--input", input, "--detach"])).trim().to_string();
    home.run(&["wait", &job]);
    job
}

#[test]
fn a_receiver_that_misbehaves_is_told_again_until_it_takes_it() {
    let (mut home, store) = home();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ended", listener.local_addr().expect("an address"));
    let told = receive(listener, &[0, 503, 429]);
    home.serve(&["--samples", "--store", &store, "--webhook", &url, "--webhook-secret", SECRET]);
    let job = ended(&home, "echo", r#"{"a":1}"#);
    for attempt in 0..4 {
        let sent = next(&told);
        assert_eq!(sent.job(), job, "attempt {attempt}");
        assert!(sent.is_signed(), "attempt {attempt}: {sent:?}");
    }
    let failed = ended(&home, "failer", "{}");
    let sent = next(&told);
    let body: Value = serde_json::from_str(&sent.body).expect("JSON");
    assert_eq!((sent.job(), &body["status"], &body["agent"]), (failed, &"error".into(), &"failer".into()));
    assert_eq!((&body["error"]["message"], &body["principal"]), (&"boom".into(), &"local".into()));
}

#[test]
fn a_receiver_with_tls_is_told_once_it_is_trusted() {
    let (mut home, store) = home();
    let out = home.dir.join("pair");
    let made = home.run(&["tls", "self-signed", "--out", out.to_str().expect("text")]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let (certificate, key) = (out.join("arcp-cert.pem"), out.join("arcp-key.pem"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}/ended", listener.local_addr().expect("an address").port());
    let told = receive_over_tls(listener, &certificate, &key);
    let webhook = ["--samples", "--store", &store, "--webhook", &url, "--webhook-secret", SECRET];

    // This machine knows nobody who vouches for it.
    let serve = [&["serve", "--listen", "127.0.0.1:0"][..], &webhook].concat();
    let mut server = home.arcp(&serve).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(server.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(said.next().is_some_and(|line| line.starts_with("READY")));
    let job = ended(&home, "echo", "1");
    let why = said.find(|line| line.contains("could not be told")).expect("it says so");
    assert!(why.contains("nobody who is trusted") && why.contains("--webhook-ca FILE"), "{why}");
    server.kill().expect("it runs");
    server.wait().expect("it ends");

    home.serve(&[&webhook[..], &["--webhook-ca", certificate.to_str().expect("text")]].concat());
    let sent = next(&told);
    assert!(sent.job() == job && sent.is_signed(), "what it was not sent before: {sent:?}");
    let second = ended(&home, "echo", "2");
    assert_eq!(next(&told).job(), second);
}

#[test]
fn what_nobody_could_be_told_is_told_after_a_restart() {
    let (mut home, store) = home();
    home.serve(&["--samples", "--store", &store]);
    ended(&home, "echo", "0");
    assert!(home.signal("TERM").success());
    // Nobody listens there yet.
    let address = arcp_tests::ports::free();
    let url = format!("http://{address}/ended");
    let serve = ["--samples", "--store", &store, "--webhook", &url, "--webhook-secret", SECRET];
    home.serve(&serve);
    let jobs = [ended(&home, "echo", "1"), ended(&home, "echo", "2")];
    assert!(!home.signal("KILL").success());
    let told = receive(TcpListener::bind(address).expect("the same port"), &[]);
    home.serve(&serve);
    assert_eq!([next(&told).job(), next(&told).job()], jobs, "in order, and nothing that ended before it was named");
    let third = ended(&home, "echo", "3");
    assert_eq!(next(&told).job(), third, "what was taken is not told again");
    let fourth = ended(&home, "echo", "4");
    assert_eq!(next(&told).job(), fourth);
    // Nor after a restart; only of the last one it is perhaps not known.
    assert!(home.signal("TERM").success());
    home.serve(&serve);
    let fifth = ended(&home, "echo", "5");
    let again = next(&told).job();
    assert!(again == fifth || again == fourth && next(&told).job() == fifth, "{again}");
}

#[test]
fn a_receiver_that_refuses_one_is_told_the_next() {
    let (mut home, store) = home();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ended", listener.local_addr().expect("an address"));
    let told = receive(listener, &[400]);
    home.serve(&["--samples", "--store", &store, "--webhook", &url, "--webhook-secret", SECRET]);
    let jobs = [ended(&home, "echo", "1"), ended(&home, "echo", "2")];
    assert_eq!([next(&told).job(), next(&told).job()], jobs);
}

#[test]
fn a_receiver_that_never_takes_one_is_told_the_next_in_the_end() {
    let (mut home, store) = home();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ended", listener.local_addr().expect("an address"));
    let mut first = None;
    let told = receive_with(
        listener,
        move |_, sent| {
            if sent.job() == *first.get_or_insert_with(|| sent.job()) { 500 } else { 200 }
        },
    );
    let webhook = ["--webhook", &url, "--webhook-secret", SECRET, "--tell-for", "1s"];
    home.serve(&[&["--samples", "--store", &store][..], &webhook].concat());
    let jobs = [ended(&home, "echo", "1"), ended(&home, "echo", "2"), ended(&home, "echo", "3")];
    let mut heard: Vec<String> = Vec::new();
    while heard.last() != Some(&jobs[2]) {
        heard.push(next(&told).job());
        assert!(heard.len() < 100, "it is told again and again");
    }
    heard.dedup();
    assert_eq!(heard, jobs, "each is told, in order");
}

#[test]
fn a_program_is_run_for_each_job_that_has_ended() {
    let (mut home, store) = home();
    let file = home.dir.join("ended").display().to_string();
    let said = "$ARCP_STATUS $ARCP_AGENT $ARCP_JOB_ID ${ARCP_WEBHOOK_SECRET-and no secret}";
    let command = format!("cat > {file}.json; echo {said} >> {file}");
    home.variables.push(("ARCP_WEBHOOK_SECRET", SECRET));
    home.serve(&["--samples", "--store", &store, "--on-end", &command]);
    let jobs = [ended(&home, "echo", "1"), ended(&home, "failer", "{}")];
    let lines = until("both are told", || fs::read_to_string(&file).ok().filter(|text| text.lines().count() == 2));
    assert_eq!(
        lines,
        format!("success echo@2.0.0 {} and no secret\nerror failer {} and no secret\n", jobs[0], jobs[1])
    );
    let body: Value =
        serde_json::from_str(&fs::read_to_string(format!("{file}.json")).expect("written")).expect("JSON");
    assert_eq!((&body["type"], &body["job_id"]), (&"job.ended".into(), &jobs[1].as_str().into()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_is_told_an_end_outlives_the_agent_that_ends_late() {
    let (mut home, store) = home();
    let at = |name: &str| home.dir.join(name).display().to_string();
    let (pid, began, file) = (at("pid"), at("began"), at("ended"));
    // The agent ends once the program runs, and the program once the agent has gone.
    let waits = format!("while [ ! -e {began} ]; do sleep 0.02; done; exit 0");
    let agent = format!("slow=echo $$ > {pid}; trap '{waits}' TERM; while :; do sleep 0.02; done");
    let told =
        format!("echo > {began}; while [ -e /proc/$(cat {pid}) ]; do sleep 0.02; done; echo $ARCP_STATUS > {file}");
    home.serve(&["--store", &store, "--cancel-grace", "1m", "--agent", &agent, "--on-end", &told]);
    home.run(&["submit", "slow", "--max-runtime", "1s"]);
    let status = until("it is told", || fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')));
    assert_eq!(status, "timed_out\n");
}

#[test]
fn a_watch_runs_a_program_when_its_job_has_ended() {
    let (mut home, _) = home();
    home.serve(&["--samples"]);
    let job = ended(&home, "failer", "{}");
    let file = home.dir.join("notified").display().to_string();
    let watched = home.run(&["watch", &job, "--notify", &format!("echo $ARCP_STATUS $ARCP_JOB_ID > {file}")]);
    assert_eq!(code(&watched), 1, "the code is the job's");
    assert_eq!(fs::read_to_string(&file).expect("written"), format!("error {job}\n"));
    let failing = home.run(&["watch", &job, "--notify", "exit 7"]);
    assert!(
        code(&failing) == 1 && stderr(&failing).contains("--notify exit 7: exit status: 7"),
        "{}",
        stderr(&failing)
    );
}

#[test]
fn what_cannot_be_told_for_sure_is_refused_before_serving() {
    let (home, store) = home();
    let refused = |args: &[&str], needles: &[&str]| {
        let output = home.run(&[&["serve", "--samples", "--listen", "127.0.0.1:0"][..], args].concat());
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        for needle in needles {
            assert!(stderr(&output).contains(needle), "{args:?}: no {needle:?} in {}", stderr(&output));
        }
    };
    let secret = ["--webhook-secret", SECRET];
    refused(&["--webhook", "ftp://x/y"], &["'ftp://x/y'", "https://HOST:PORT/PATH"]);
    refused(&["--webhook", "x"], &["'x'", "https://HOST:PORT/PATH"]);
    let unreadable = ["--store", &store, "--webhook", "https://x/y", "--webhook-ca", "/no/such.pem"];
    refused(&[&unreadable[..], &secret].concat(), &["--webhook https://x:", "/no/such.pem"]);
    refused(&["--webhook-ca", "/no/such.pem"], &["--webhook <URL>"]);
    refused(&["--store", &store, "--webhook", "http://x/y"], &["--webhook http://x:", "ARCP_WEBHOOK_SECRET"]);
    refused(&["--store", &store, "--webhook", "http://x/y", "--webhook-secret", "short"], &["too short", "16 bytes"]);
    refused(&[&["--webhook", "http://x/y"][..], &secret].concat(), &["--webhook", "give --store FILE"]);
    refused(&["--on-end", "true"], &["--on-end", "give --store FILE"]);
    refused(&["--on-prompt", "true"], &["--on-prompt", "give --store FILE"]);
}
