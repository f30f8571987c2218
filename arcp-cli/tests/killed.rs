//! The program is killed at various moments of its jobs and started again with the same store: no client misses an event
//! or gets one twice. `ARCP_KILLS=200` kills it more often.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Job, JobUpdate};
use arcp_proto::client::{ClientConfig, ResultData, SessionEnd};
use arcp_proto::id::{IdempotencyKey, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::{FinalStatus, JobStatus};
use arcp_proto::model::request::{Credential, ListQuery, Submit};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::ports;
use arcp_tests::until::until;

const EVENTS: u64 = 300;

/// A server that can be killed, on one port and one store.
struct Mortal {
    port: u16,
    store: PathBuf,
    more: Vec<String>,
    child: Child,
}

impl Mortal {
    fn start(dir: &Path) -> Mortal {
        Mortal::start_with(dir, &[])
    }

    fn start_with(dir: &Path, more: &[String]) -> Mortal {
        let port = ports::free().port();
        let store = dir.join("jobs.db");
        let child = Mortal::run(port, &store, more);
        Mortal { port, store, more: more.to_vec(), child }
    }

    fn run(port: u16, store: &Path, more: &[String]) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_arcp"))
            .args(["serve", "--samples", "--token", "tok=me", "--listen", &format!("127.0.0.1:{port}")])
            // Listed for as long as the longest run takes.
            .args(["--resume-window", "86400", "--store"])
            .arg(store)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let ready = lines.next().expect("a line").expect("text");
        assert!(ready.starts_with("READY "), "{ready}");
        std::thread::spawn(move || lines.for_each(drop));
        child
    }

    /// SIGKILL, then another process in its place.
    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.child = Mortal::run(self.port, &self.store, &self.more);
    }

    fn client(&self, family: Family) -> Client {
        let target = format!("ws://127.0.0.1:{}/arcp", self.port).parse().expect("a target");
        let credential = Credential::Bearer(Secret::new("tok".to_string()));
        let config = ClientConfig { family, ..ClientConfig::new("killed", "1", credential) };
        Client::connect(target, config).expect("a session")
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn submit(client: &Client) -> Job {
    // Slower than whoever reads it on a loaded machine: a kill meets it.
    let input = Json::parse(&format!(r#"{{"count":{EVENTS},"delay_ms":2}}"#)).expect("JSON");
    let agent = AgentRef::parse("chatty").expect("a name");
    client.submit(Submit { input: Some(input), ..Submit::new(agent) }).expect("accepted")
}

/// Follows a job to its end and kills the server after `kill_at` updates.
fn follow(job: &Job, server: &mut Mortal, kill_at: usize) -> FinalStatus {
    let (mut values, mut last, mut seen) = (Vec::new(), 0, 0);
    loop {
        if seen == kill_at {
            server.kill();
        }
        seen += 1;
        match job.next_update().expect("an update") {
            JobUpdate::Event { seq, event, .. } => {
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                if let JobEvent::Emitted { body, .. } = event {
                    let value = body.members().ok().and_then(|members| members.get("value")?.parse::<u64>().ok());
                    values.extend(value);
                }
            }
            JobUpdate::Reconnecting { .. } => {}
            JobUpdate::Reconnected { resumed } => assert!(resumed, "the same session comes back"),
            JobUpdate::Ended { terminal, .. } => {
                assert_eq!(values, (0..values.len() as u64).collect::<Vec<_>>(), "no gap, nothing twice");
                let whole = values.len() as u64 == EVENTS;
                let lost = terminal.error.as_ref().is_some_and(|error| error.message.contains("restarted"));
                assert!(terminal.status == FinalStatus::Success && whole || lost, "{terminal:?}: {}", values.len());
                return terminal.status;
            }
            JobUpdate::Missed { events } => panic!("{events} events were missed"),
            JobUpdate::Gone(refusal) => panic!("{}", refusal.message),
            JobUpdate::Lost(end) => panic!("{end}"),
        }
    }
}

/// Runs a job that leaves a trace of its start.
fn run_counted(client: &Client, round: usize) -> (WireId, FinalStatus) {
    let input = Some(Json::parse(&round.to_string()).expect("JSON"));
    let key = IdempotencyKey::new(&format!("round {round}"));
    let submit = Submit { input, key, ..Submit::new(AgentRef::parse("counted").expect("a name")) };
    let job = client.submit(submit).expect("accepted");
    loop {
        match job.next_update().expect("an update") {
            JobUpdate::Ended { terminal, .. } => return (job.id.clone(), terminal.status),
            JobUpdate::Missed { events } => panic!("{events} events were missed"),
            JobUpdate::Gone(refusal) => panic!("{}", refusal.message),
            JobUpdate::Lost(end) => panic!("{end}"),
            _ => {}
        }
    }
}

/// Every job there is, and how it ended.
fn listed(client: &Client) -> Vec<(WireId, FinalStatus)> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.list(ListQuery { cursor, ..ListQuery::default() }).expect("a page");
        for job in page.jobs {
            let Some(JobStatus::Ended(status)) = job.status else { panic!("{job:?}") };
            all.push((job.job, status));
        }
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_that_was_seen() {
    let dir = std::env::temp_dir().join(format!("arcp-killed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let starts = dir.join("starts");
    let counted = format!("counted=echo $ARCP_JOB_ID >> {}; cat", starts.display());
    let mut server = Mortal::start_with(&dir, &["--agent".to_string(), counted]);
    let clients = [server.client(Family::Hello), server.client(Family::Open)];
    let rounds: usize = std::env::var("ARCP_KILLS").map_or(10, |kills| kills.parse().expect("ARCP_KILLS=NUMBER"));
    let (mut jobs, mut counted) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let job = submit(&clients[round % 2]);
        let kill_at = (round * 37) % 290;
        let (status, once) = std::thread::scope(|scope| {
            // Another one is on its way when the kill comes: its key is
            // claimed once, whichever attempt gets through.
            let other = scope.spawn(|| run_counted(&clients[(round + 1) % 2], round));
            (follow(&job, &mut server, kill_at), other.join().expect("it ends"))
        });
        jobs.push((job.id.clone(), status));
        counted.push(once);
    }
    assert!(jobs.iter().any(|(_, status)| *status == FinalStatus::Error), "no kill ever hit a job that ran");
    let followed: BTreeSet<&WireId> = jobs.iter().chain(&counted).map(|(job, _)| job).collect();
    assert_eq!(followed.len(), 2 * rounds, "each submit has a job of its own");
    // Every job that was accepted is there, as its client saw it.
    let listed = listed(&clients[0]);
    for job in jobs.iter().chain(&counted) {
        assert!(listed.contains(job), "{job:?}");
    }
    assert_eq!(listed.len(), 2 * rounds, "and no other");
    // No agent was started twice, and who succeeded was started.
    let started: Vec<String> = std::fs::read_to_string(&starts).expect("text").lines().map(String::from).collect();
    let once: BTreeSet<&String> = started.iter().collect();
    assert_eq!(once.len(), started.len(), "an agent was started twice");
    for (job, status) in &counted {
        assert!(*status != FinalStatus::Success || once.contains(&job.as_str().to_string()), "{job:?}");
    }
    drop(clients);
    drop(server);
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_store_that_cannot_be_used_says_why_and_is_left_alone() {
    let dir = std::env::temp_dir().join(format!("arcp-stores-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let serve = |path: &Path| {
        let command = ["serve", "--samples", "--token", "t=me", "--listen", "127.0.0.1:0", "--store"];
        let output = Command::new(env!("CARGO_BIN_EXE_arcp")).args(command).arg(path).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = dir.join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to look like one: ".repeat(20)).expect("written");
    let (code, why) = serve(&text);
    assert!(code == Some(2) && why.contains("is not a store of this program"), "{why}");
    assert!(std::fs::read_to_string(&text).expect("text").starts_with("not a database"));
    let (code, why) = serve(&dir.join("nowhere/jobs.db"));
    assert!(code == Some(2) && why.contains("nowhere"), "{why}");
    let server = Mortal::start(&dir);
    let (code, why) = serve(&server.store);
    assert!(code == Some(1) && why.contains("in use by another process"), "{why}");
    drop(server);
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_store_that_became_another_ends_the_program_without_a_goodbye() {
    let dir = std::env::temp_dir().join(format!("arcp-fenced-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let store = dir.join("jobs.db");
    let mut child = Command::new(env!("CARGO_BIN_EXE_arcp"))
        .args(["serve", "--samples", "--token", "tok=me", "--listen", "127.0.0.1:0", "--store"])
        .arg(&store)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let target = lines.find_map(|line| Some(line.strip_prefix("READY ")?.parse().expect("a target"))).expect("a line");
    let config = ClientConfig::new("fenced", "1", Credential::Bearer(Secret::new("tok".to_string())));
    let client = Client::connect(target, ClientConfig { give_up_after: Some(Duration::from_secs(1)), ..config });
    let client = client.expect("a session");
    std::fs::rename(&store, dir.join("ours.db")).expect("renamed");
    std::fs::write(&store, "another").expect("written");
    let submit = Submit::new(AgentRef::parse("echo").expect("a name"));
    let lost = client.submit(submit).expect_err("it is not accepted");
    assert!(matches!(lost, ClientError::Ended(SessionEnd::Lost(_))), "{lost:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let said: Vec<String> = lines.collect();
    assert!(said.iter().any(|line| line.contains("somebody else owns its store now")), "{said:?}");
    assert_eq!(std::fs::read_to_string(&store).expect("text"), "another");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn without_a_word_jobs_are_kept_in_the_state_directory_and_memory_is_said() {
    let state = std::env::temp_dir().join(format!("arcp-default-{}", std::process::id()));
    let port = ports::free().port();
    let serve = |more: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_arcp"))
            .args(["serve", "--samples", "--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .env("ARCP_STATE_DIR", &state)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let said: Vec<String> = lines.take(2).map(|line| line.expect("text")).collect();
        (child, said)
    };
    let arcp = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_arcp")).args(args).env("ARCP_STATE_DIR", &state).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    };
    let file = state.join(format!("store-{port}.db"));
    let (mut first, said) = serve(&[]);
    assert!(said[0].starts_with("READY ") && said[1].contains(&file.display().to_string()), "{said:?}");
    assert_eq!(arcp(&["submit", "echo", "--input", "7"]), "7\n");
    // Who follows a job follows it over the end of the runtime.
    let follower = Command::new(env!("CARGO_BIN_EXE_arcp"))
        .args(["submit", "slow", "--input", r#"{"ms":600000}"#])
        .env("ARCP_STATE_DIR", &state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    while !arcp(&["list"]).contains("running") {}
    first.kill().expect("killed");
    first.wait().expect("gone");
    let (mut second, _) = serve(&[]);
    let followed = follower.wait_with_output().expect("it ends");
    let why = String::from_utf8_lossy(&followed.stderr);
    assert!(followed.status.code() == Some(1) && why.contains("restarted"), "{why}");
    assert!(arcp(&["list"]).contains("echo"), "what was submitted before is listed");
    second.kill().expect("killed");
    second.wait().expect("gone");
    let (mut third, said) = serve(&["--store", "memory"]);
    assert!(said[1].contains("nothing survives"), "{said:?}");
    assert!(!arcp(&["list"]).contains("echo"));
    third.kill().expect("killed");
    third.wait().expect("gone");
    std::fs::remove_dir_all(&state).expect("removed");
}

#[test]
fn an_agent_that_ends_its_runtime_goes_on_from_its_checkpoint_and_programs_do_not_stay() {
    let dir = std::env::temp_dir().join(format!("arcp-restarts-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let (lasting, counting) = (format!("echo $$ > {0}/pid; sleep 1000", dir.display()), COUNTING);
    let agents = [format!("lasting={lasting}"), format!("counting={counting}")];
    let more = ["--samples-may-crash", "--agent", &agents[0], "--agent", &agents[1], "--restartable", "counting"];
    let mut server = Mortal::start_with(&dir, &more.map(str::to_string));
    let client = server.client(Family::Hello);
    let run = |agent: &str, input: &str| {
        let input = Some(Json::parse(input).expect("JSON"));
        client.submit(Submit { input, ..Submit::new(AgentRef::parse(agent).expect("a name")) }).expect("accepted")
    };
    let lasting = run("lasting", "{}");
    let pid_file = dir.join("pid");
    let pid = loop {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_string();
        }
    };
    let counting = run("counting", "20");
    let mut said = counting.events();
    let is_kept = |event: JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Checkpoint, .. });
    assert!(said.any(is_kept), "it has something to go on from");
    let stepper = run("stepper", r#"{"steps":5,"step_ms":100,"crash_at":3}"#);
    // The stepper ends its runtime, and with it ours is gone.
    server.child.wait().expect("it ended itself");
    server.child = Mortal::run(server.port, &server.store, &server.more);
    let result = |job: &Job| loop {
        match job.next_update_in(Duration::from_secs(60)).expect("in time") {
            JobUpdate::Ended { terminal, result, .. } => return (terminal.status, result),
            JobUpdate::Missed { events } => panic!("{events} events were missed"),
            JobUpdate::Gone(refusal) => panic!("{}", refusal.message),
            JobUpdate::Lost(end) => panic!("{end}"),
            JobUpdate::Event { .. } | JobUpdate::Reconnecting { .. } | JobUpdate::Reconnected { .. } => {}
        }
    };
    let json = |data: ResultData| match data {
        ResultData::Inline(json) => json.as_str().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(json(result(&stepper).1), r#"{"steps":5,"restarts":1}"#);
    let counted: [u32; 2] = serde_json::from_str(&json(result(&counting).1)).expect("two numbers");
    assert!(counted[0] > 0 && counted[1] == 20, "it went on from {}", counted[0]);
    assert_eq!(result(&lasting).0, FinalStatus::Error, "it cannot go on");
    until("the program that outlived its runtime was ended", || {
        let alive = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        (!alive).then_some(())
    });
    drop(client);
    drop(server);
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// Counts to its input from where it was; gives from where, and to where.
const COUNTING: &str = r#"read last; read state; [ "$state" = null ] && state=0; n=$state
while [ "$n" -lt "$last" ]; do
    sleep 0.1; n=$((n+1)); echo '{"kind":"checkpoint","body":{"state":'$n'}}'
done
echo '{"result":['$state','$n']}'"#;

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing() {
    let dir = std::env::temp_dir().join(format!("arcp-full-disk-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    // No file may grow beyond half a megabyte, and growing is a signal that ends
    // a program which does not expect it.
    let limited = "ulimit -S -f 512; exec \"$0\" \"$@\"";
    let mut child = Command::new("bash")
        .args(["-c", limited, env!("CARGO_BIN_EXE_arcp"), "serve", "--samples", "--token", "tok=me"])
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(dir.join("jobs.db"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let ready = lines.next().expect("a line");
    let url = ready.strip_prefix("READY ").expect("it listens").to_string();
    let credential = Credential::Bearer(Secret::new("tok".to_string()));
    let client =
        Client::connect(url.parse().expect("a target"), ClientConfig::new("full", "1", credential)).expect("a session");
    let input = Json::parse(r#"{"count":20000}"#).expect("JSON");
    let agent = || AgentRef::parse("chatty").expect("a name");
    let job = client.submit(Submit { input: Some(input), ..Submit::new(agent()) }).expect("accepted");
    let failed = lines.find(|line| line.contains("cannot write to the store; events are paused")).expect("it says so");
    assert!(failed.contains("no new jobs"), "{failed}");
    let refused = client.submit(Submit::new(agent())).expect_err("no new jobs");
    assert!(refused.to_string().contains("store"), "{refused}");
    let pid = rustix::process::Pid::from_child(&child);
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, unlimited).expect("there is room");
    std::thread::spawn(move || lines.for_each(drop));
    let mut seen = 0;
    let status = loop {
        match job.next_update_in(Duration::from_secs(60)).expect("in time") {
            JobUpdate::Event { event: JobEvent::Emitted { body, .. }, .. } => {
                seen += u64::from(body.as_str().contains("\"tick\""));
            }
            JobUpdate::Ended { terminal, .. } => break terminal.status,
            JobUpdate::Lost(end) => panic!("{end}"),
            _ => {}
        }
    };
    assert_eq!((status, seen), (FinalStatus::Success, 20_000));
    child.kill().expect("killed");
    child.wait().expect("gone");
    std::fs::remove_dir_all(&dir).expect("removed");
}
