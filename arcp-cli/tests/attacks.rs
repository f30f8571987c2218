//! Attacks of an outsider on the program, while a well-behaved client is served: its memory, processor time,
//! descriptors, stderr and end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arcp_tests::ports;
use arcp_tests::server::{PATIENCE, connect_to, expect, send, session_with, websocket_on, websocket_to};
use arcp_tests::until::until;
use arcp_tests::witness::Witness;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// The program, with the samples and two principals.
struct Program {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
    /// What it has said so far.
    said: Arc<Mutex<String>>,
    /// Reads that until it has ended.
    reader: Option<JoinHandle<()>>,
}

impl Program {
    fn start(args: &[&str]) -> Program {
        Program::run(Command::new(env!("CARGO_BIN_EXE_arcp")), args)
    }

    /// Allowed so many open files.
    fn start_with_descriptors(most: u32, args: &[&str]) -> Program {
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_arcp")]);
        Program::run(shell, args)
    }

    fn run(mut command: Command, args: &[&str]) -> Program {
        let dir = folder();
        command.args(["serve", "--listen", "127.0.0.1:0", "--samples", "--token", "good=good", "--token", "evil=evil"]);
        command.args(args).env("ARCP_STATE_DIR", &dir).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut ready = String::new();
        stderr.read_line(&mut ready).expect("text");
        let address =
            ready.trim().trim_start_matches("READY ws://").trim_end_matches("/arcp").parse().expect("an address");
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                *heard.lock().expect("no panic") += &format!("{}\n", line.expect("text"));
            }
        });
        Program { child, address, dir, said, reader: Some(reader) }
    }

    fn witness(&self) -> Witness {
        Witness::start(&format!("ws://{}/arcp", self.address), "good")
    }

    /// Kilobytes of memory in use.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Hundredths of a second of processor used so far.
    fn processor(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
    }

    /// Ends it by SIGTERM; what it has said.
    fn end(self) -> String {
        self.ended().1
    }

    /// The same, and with which status.
    fn ended(mut self) -> (ExitStatus, String) {
        let status = terminate(&mut self.child);
        self.reader.take().expect("not ended").join().expect("read");
        (status, self.said())
    }

    fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!("arcp-attacks-{}-{n}", std::process::id()))
}

/// Asks a program to end, and waits.
fn terminate(child: &mut Child) -> ExitStatus {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    until("it ends", || child.try_wait().expect("a child"))
}

#[test]
fn a_stderr_that_nobody_reads_stops_nothing() {
    let (unread, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b'x'; 64 << 10]).expect("as much as a pipe takes");
    let dir = folder();
    let free = ports::free();
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcp"));
    command.args(["serve", "--listen", &free.to_string(), "--samples", "--token", "good=good", "--store", "memory"]);
    command.env("ARCP_STATE_DIR", &dir).stdin(Stdio::null()).stderr(full);
    let mut child = command.spawn().expect("it runs");
    until("it listens", || TcpStream::connect(free).ok());
    let witness = Witness::start(&format!("ws://{free}/arcp"), "good");
    witness.is_served(3);
    drop(witness);
    assert_eq!(terminate(&mut child).code(), Some(0), "SIGTERM drains");
    drop(unread);
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_flood_of_refusals_is_a_few_lines_of_the_log() {
    let program = Program::start(&[]);
    let witness = program.witness();
    let mut socket = websocket_to(program.address);
    // A client that cannot be told of a refused cancel: the operator is.
    let hello = json!({
        "client": {"name": "raw", "version": "1"},
        "auth": {"scheme": "bearer", "token": "evil"},
        "capabilities": {"encodings": ["json"], "features": [], "agents": []},
    });
    send(&mut socket, "01JZZZZZZZZZZZZZZZZZZZZZZZ", "session.hello", hello);
    expect(&mut socket, "session.welcome");
    for n in 0..5000 {
        send(&mut socket, &format!("c{n}"), "job.cancel", json!({"job_id": "job_none"}));
    }
    send(&mut socket, "p", "session.ping", json!({}));
    expect(&mut socket, "session.pong");
    witness.is_served(2);
    drop((witness, socket));
    let said = program.end();
    assert!(said.contains("its client cannot be told") && said.contains(" more times)"), "{said}");
    assert!(said.len() < 16 << 10, "{} bytes of log", said.len());
}

#[test]
fn pongs_that_nobody_reads_take_no_memory() {
    const PEERS: usize = 8;
    let program = Program::start(&[]);
    let witness = program.witness();
    witness.is_served(2);
    let before = program.resident();
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[7; 125]].concat().repeat(1000);
    let mut peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let socket = connect_to(program.address);
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 16 << 10).expect("a small window");
            socket.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            websocket_on(socket).expect("a WebSocket")
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..60 {
        for peer in &mut peers {
            // Their windows are shut: now and then a write waits for nothing.
            if begun.elapsed() < Duration::from_secs(5) {
                let _ = peer.get_mut().write_all(&ping);
            }
        }
    }
    witness.is_served(2);
    let grown = program.resident().saturating_sub(before);
    assert!(grown < 12 << 10, "{grown} kB for {PEERS} connections");
}

/// What this thread has used of a processor.
fn own_processor() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(used).expect("it only grows")
}

#[test]
fn answered_requests_that_stay_open_use_no_processor() {
    let program = Program::start(&[]);
    let held: Vec<_> = (0..4)
        .map(|_| {
            let mut socket = connect_to(program.address);
            socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).expect("an answer and its end");
            socket
        })
        .collect();
    let before = program.processor();
    // A busy loop uses as much as a busy test does meanwhile, however loaded the machine is.
    let busy = own_processor();
    while own_processor() - busy < Duration::from_secs(1) {}
    let used = program.processor() - before;
    assert!(used < 10, "{used} hundredths of a second");
    program.witness().is_served(2);
    drop(held);
}

#[test]
fn connections_leave_descriptors_to_the_store_and_to_agents() {
    let dir = folder();
    let store = dir.join("jobs.db");
    fs::create_dir_all(&dir).expect("a folder");
    let store = store.to_str().expect("text");
    let program = Program::start_with_descriptors(96, &["--store", store, "--agent", "hi=echo hello"]);
    let (mut owner, _) = session_with(program.address, "good");
    let mut held = Vec::new();
    // The operator is told as soon as others wait to be accepted.
    let begun = Instant::now();
    while !program.said().contains("ulimit -n") {
        assert!(held.len() < 90 && begun.elapsed() < 2 * PATIENCE, "{} sessions, and it is not told", held.len());
        let socket = connect_to(program.address);
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let Some(mut socket) = websocket_on(socket) else {
            continue;
        };
        socket.get_mut().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        send(&mut socket, "h", "session.hello", arcp_tests::raw::hello_payload("evil"));
        expect(&mut socket, "session.welcome");
        held.push(socket);
    }
    assert!((40..80).contains(&held.len()), "{} sessions", held.len());
    for n in 0..5 {
        send(&mut owner, &format!("s{n}"), "job.submit", json!({"agent": "hi"}));
        let end = expect(&mut owner, "job.result");
        assert_eq!(end["payload"]["final_status"], "success", "{end}");
    }
    held.truncate(20);
    program.witness().is_served(2);
    drop((owner, held));
    program.end();
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn agents_that_only_beat_take_no_memory() {
    let program = Program::start(&["--agent", r#"beats=yes '{"kind": "heartbeat"}'"#]);
    let witness = program.witness();
    witness.is_served(2);
    let before = program.resident();
    let (mut socket, _) = session_with(program.address, "evil");
    for n in 0..4 {
        send(&mut socket, &format!("s{n}"), "job.submit", json!({"agent": "beats"}));
        expect(&mut socket, "job.accepted");
    }
    witness.is_served(10);
    let grown = program.resident().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} kB for four agents");
}

#[test]
fn an_input_that_asks_for_more_memory_than_there_is_fails_its_own_job() {
    let program = Program::start(&[]);
    let witness = program.witness();
    let (mut socket, _) = session_with(program.address, "evil");
    for (n, input) in
        [json!({"chunks": 1, "bytes": 17_592_186_044_416_u64}), json!({"chunks": u64::MAX, "bytes": u64::MAX})]
            .into_iter()
            .enumerate()
    {
        send(&mut socket, &format!("s{n}"), "job.submit", json!({"agent": "chunker", "input": input}));
        let end = expect(&mut socket, "job.error");
        assert_eq!(end["payload"]["final_status"], "error", "{end}");
    }
    witness.is_served(2);
}

/// The lines of a file, once there are so many.
fn lines_of(file: &Path, count: usize) -> Vec<String> {
    until("the programs run", || {
        let lines: Vec<String> = fs::read_to_string(file).ok()?.lines().map(str::to_string).collect();
        (lines.len() == count).then_some(lines)
    })
}

#[test]
fn programs_that_do_not_stop_do_not_hold_up_the_end_and_none_stays() {
    const JOBS: usize = 3;
    let dir = folder();
    fs::create_dir_all(&dir).expect("a folder");
    let pids = dir.join("pids");
    // Deaf, one a child of the other, both with its pipes.
    let deaf = format!("deaf=trap '' TERM; (sleep 1000; :) & echo $$ $! >> {}; wait; sleep 1000", pids.display());
    let program = Program::start(&["--agent", &deaf, "--drain", "1"]);
    let witness = program.witness();
    let (mut socket, _) = session_with(program.address, "evil");
    for n in 0..JOBS {
        send(&mut socket, &format!("s{n}"), "job.submit", json!({"agent": "deaf"}));
        expect(&mut socket, "job.accepted");
    }
    let pids: Vec<String> =
        lines_of(&pids, JOBS).iter().flat_map(|line| line.split(' ').map(str::to_string).collect::<Vec<_>>()).collect();
    witness.is_served(3);
    // No new jobs from here on.
    drop(witness);
    // A second to drain, a second in which agents may stop and are killed: none of them
    // would end in the time that is waited for.
    let (status, said) = program.ended();
    assert_eq!(status.code(), Some(9), "{said}");
    for pid in pids {
        until("it does not go on", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            (stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))).then_some(())
        });
    }
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn lines_of_a_program_that_do_not_end_fail_their_job_and_take_no_memory() {
    let program = Program::start(&["--agent", "long=head -c 50000000 /dev/zero | tr '\\0' x; echo"]);
    let witness = program.witness();
    witness.is_served(2);
    let before = program.resident();
    let (mut socket, _) = session_with(program.address, "evil");
    for n in 0..4 {
        send(&mut socket, &format!("s{n}"), "job.submit", json!({"agent": "long"}));
    }
    for _ in 0..4 {
        let end = expect(&mut socket, "job.error");
        let message = end["payload"]["message"].as_str().expect("a message");
        assert!(message.contains("a line of 50000000 bytes"), "{message}");
    }
    witness.is_served(2);
    let grown = program.resident().saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} kB for four lines");
}

#[test]
fn a_store_that_is_in_use_is_refused_by_any_of_its_names() {
    let dir = folder();
    fs::create_dir_all(&dir).expect("a folder");
    let [store, symbolic, hard] = ["jobs.db", "symbolic.db", "hard.db"].map(|name| dir.join(name));
    let program = Program::start(&["--store", store.to_str().expect("text")]);
    let witness = program.witness();
    witness.is_served(1);
    std::os::unix::fs::symlink(&store, &symbolic).expect("a link");
    fs::hard_link(&store, &hard).expect("a link");
    for name in [&store, &symbolic, &hard] {
        let mut second = Command::new(env!("CARGO_BIN_EXE_arcp"));
        second.args(["serve", "--listen", "127.0.0.1:0", "--samples", "--token", "good=good", "--store"]).arg(name);
        let refused = second.env("ARCP_STATE_DIR", &dir).stdin(Stdio::null()).output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(name.to_str().expect("text")) && said.contains("in use by another process"), "{said}");
        assert!(!said.contains("READY"), "{said}");
    }
    witness.is_served(2);
    drop(witness);
    assert_eq!(program.ended().0.code(), Some(0));
    let mut check = Command::new(env!("CARGO_BIN_EXE_arcp"));
    let checked = check.args(["store", "check"]).arg(&store).output().expect("it runs");
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    let _ = fs::remove_dir_all(dir);
}
