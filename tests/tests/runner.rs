//! What happens to agents when their runner ends, and to programs when their runtime ends.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use arcp_host::agent::{AgentError, Context, Inbox, Outcome};
use arcp_host::registry::Registry;
use arcp_host::runner::Runner;
use arcp_host::{orphans, server_log};
use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentExit, Input};
use arcp_tests::kept::Folder;
use arcp_tests::lone::{job, spec};
use arcp_tests::server::PATIENCE;

struct Sent(Sender<Input>);

impl Inbox for Sent {
    fn put(&self, input: Input) {
        let _ = self.0.send(input);
    }
}

/// A runner of agents that end once they are told to; what they have said, and how they
/// have ended.
fn runner() -> (Runner, Receiver<Input>, Arc<Mutex<Vec<JobId>>>) {
    let (sender, inputs) = channel();
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let kept = stopped.clone();
    let mut registry = Registry::default();
    registry.add("waits", None, move |job: &Context| -> Result<Outcome, AgentError> {
        let slept = job.sleep(PATIENCE);
        // Whoever waits for it sees this.
        kept.lock().expect("nobody panics").extend(slept.is_err().then(|| job.job()));
        Ok(Outcome::Json(Json::null()))
    });
    (Runner::new(registry, Arc::new(Sent(sender))), inputs, stopped)
}

fn other() -> JobId {
    JobId::parse("job_00000000000000000000000002").expect("an id")
}

#[test]
fn all_are_told_to_stop_or_one_is_and_who_has_ended_runs_no_more() {
    let (mut runner, inputs, stopped) = runner();
    for id in [job(), other()] {
        runner.start(id, spec("waits", "{}"));
    }
    assert_eq!(runner.running(), 2);
    runner.stop(other(), false);
    let exit = inputs.recv_timeout(PATIENCE).expect("it ends");
    assert!(matches!(exit, Input::AgentExited { job, exit: AgentExit::Success { .. } } if job == other()));
    assert_eq!(runner.running(), 2, "nobody has told so yet");
    runner.takes(&exit);
    assert_eq!((runner.running(), stopped.lock().expect("nobody panics").clone()), (1, vec![other()]));
    runner.stop_all();
    runner.takes(&inputs.recv_timeout(PATIENCE).expect("it ends"));
    assert_eq!((runner.running(), stopped.lock().expect("nobody panics").clone()), (0, vec![other(), job()]));
}

#[test]
fn a_runner_that_is_dropped_has_its_agents_end() {
    let (mut runner, inputs, stopped) = runner();
    runner.start(job(), spec("waits", "{}"));
    drop(runner);
    assert!(matches!(inputs.recv_timeout(PATIENCE), Ok(Input::AgentExited { .. })));
    assert_eq!(*stopped.lock().expect("nobody panics"), [job()]);
}

#[test]
fn a_job_of_an_agent_that_is_gone_ends_and_says_so() {
    let (mut runner, inputs, _) = runner();
    runner.start(job(), spec("elsewhere", "{}"));
    match inputs.recv_timeout(PATIENCE) {
        Ok(Input::AgentExited { exit: AgentExit::Failure(error), .. }) => {
            assert_eq!(error.code.as_str(), "AGENT_NOT_AVAILABLE");
            assert!(error.message.contains("`elsewhere` is not hosted any more"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(runner.running(), 0);
}

/// What a test of this file does as a process of its own.
const PART: &str = "ARCP_TEST_PART";

/// Runs one test of this file in a process of its own; whether it succeeds, and what it
/// says on stderr.
fn apart(test: &str, change: impl FnOnce(&mut Command)) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args(["--exact", "--nocapture", test]).env(PART, "1").stdin(Stdio::null()).stdout(Stdio::null());
    change(&mut command);
    let output = command.output().expect("it runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn whoever_ends_orphans_is_none_by_its_own_mark() {
    if std::env::var_os(PART).is_some() {
        let mark = std::env::var("ARCP_STORE").expect("a mark");
        assert_eq!(orphans::end(&mark).expect("looked for"), 0);
        return;
    }
    let folder = Folder::new("own-mark");
    let (succeeded, said) = apart("whoever_ends_orphans_is_none_by_its_own_mark", |command| {
        command.env("ARCP_STORE", folder.0.display().to_string());
    });
    assert!(succeeded, "{said}");
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    if std::env::var_os(PART).is_some() {
        server_log::log_panics();
        let thread = std::thread::Builder::new().name("of-its-own".into());
        let joined = thread.spawn(|| panic!("on purpose")).expect("a thread").join();
        assert!(joined.is_err());
        return;
    }
    let (succeeded, said) = apart("a_panic_is_a_line_of_the_log", |_| {});
    let line = said.lines().find(|line| line.starts_with("arcp: thread of-its-own: panicked at "));
    assert!(succeeded && line.is_some_and(|line| line.ends_with("on purpose")), "{said}");
}
