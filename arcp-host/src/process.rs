//! An agent that runs any executable.
//!
//! | the program | becomes |
//! |---|---|
//! | reads its stdin | gets the input: one line of JSON, then the end |
//! | prints `{"kind": ..., "body": {...}}` | that event; `result_chunk` a piece of the result |
//! | prints `{"kind": "heartbeat"}` | a heartbeat, which is not an event |
//! | prints `{"kind": "checkpoint", "body": {"state": ...}}` | a checkpoint with this state; `label` is optional |
//! | prints `{"kind": "stream.open", "body": {"stream": NAME, "kind": "text"}}` | a stream of its job, under a name of its choice; then `stream.chunk` with `data`, optionally `"encoding": "base64"`, `attributes`, `role`, `redacted`, `sha256` or `"priority": "low"`, and `stream.close` or `stream.error` |
//! | prints `{"kind": "artifact", "path": ...}` | that file, beneath its working directory, as an artifact; `media_type` and `retain_seconds` are optional; with `"result": true` it is the result |
//! | prints `{"result": ...}` last | the result; `{"result_ref": ID}` for an artifact that it has left |
//! | prints any other line | a `log` event with `{"stream": "stdout"}` in its `attributes`; all such lines together, up to 1 MiB, are the result if it prints no other |
//! | prints on stderr | a `log` event with `{"stream": "stderr"}` |
//! | exits with 0 | success |
//! | exits otherwise | a failure with the exit code |
//!
//! With another [`Format`], the output of coding agents becomes events too.
//!
//! With [`answered`](ProcessAgent::answered), the stdin of the program stays open. For each line
//! that the program prints with an `id` (any JSON), it reads a line from stdin:
//!
//! | it prints | it reads, with the same `id` |
//! |---|---|
//! | an event, a `result_chunk` or a `checkpoint` with an `id` | `{"id": ..., "ok": true, "event": N}` once event N of the job is durable |
//! | the same, and the runtime refuses it | `{"id": ..., "ok": false, "error": {"code": ..., "message": ...}}`; the job goes on |
//! | `{"kind": "artifact", "id": ..., "path": ...}` | `{"id": ..., "ok": true, "artifact": {"artifact_id": ..., "uri": ..., ...}}` once the artifact is kept |
//! | `{"kind": "authorize", "id": ..., "body": {"operation": ..., "target": ..., "price": ...}}` | `{"id": ..., "ok": true, "pattern": ..., "reservation": ...}`: its lease allows the operation, and the price, if there is one, is reserved |
//! | `{"kind": "delegate", "id": ..., "body": {"agent": ..., "input": ..., "lease_request": ...}}` | `{"id": ..., "ok": true, "job_id": ...}`: the child job, which another agent does |
//! | `{"kind": "await", "id": ..., "body": {"job_id": ...}}` | `{"id": ..., "ok": true, "job_id": ..., "status": ..., "result": ..., "error": ...}` once that child has ended; until then no further line of the program is read |
//! | `{"kind": "remaining", "id": ...}` | `{"id": ..., "ok": true, "remaining": {"time_ms": ..., "calls": ..., "bytes": ...}}`: the time until it is stopped, if there is a limit, and how much it may emit without waiting |
//! | nothing; its job was interrupted | `{"kind": "interrupt", "interrupt": N, "prompt": ..., "by": ...}`; the job is blocked until it prints `{"kind": "go_on", "body": {"interrupt": N}}`; without a body, that answers the first one. Only if the agent [observes interrupts](crate::registry::Terms::observes_interrupts) |
//! | nothing; a client opened a stream to its job | `{"kind": "stream.open", "stream": N, "of": "binary"}`, then `{"kind": "stream.chunk", "stream": N, "data": ...}`, with `"encoding": "base64"` if the bytes are not text, and `{"kind": "stream.close", "stream": N}`, with an `error` if the stream failed. Only if the agent [takes input](crate::registry::Terms::takes_input) |
//! | any of these, after the job was told to stop | the error `CANCELLED`, at once |
//!
//! With [`restartable`](ProcessAgent::restartable), the program reads a second line: the state of
//! its last checkpoint, or `null`.
//!
//! With [`on_terminal`](ProcessAgent::on_terminal), stdout and stderr are one terminal, and
//! everything counts as printed on stdout.
//!
//! A line on stdout of more than 900 KiB fails the job, and so does a `result_chunk` that cannot be
//! read: a result is whole, or there is none. On stderr such a line is cut.
//!
//! A cancel sends SIGTERM to the process group of the program, and SIGKILL after the grace, then also to processes that
//! it started in other groups. When the program has exited, the processes in its group have 200 ms to print their last
//! lines, and are then killed.
//!
//! From the environment of its runtime a program gets `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`,
//! `LANG`, `LANGUAGE`, `LC_*`, `TZ`, `TMPDIR` and `TERM`, and the variables that were
//! [added](ProcessAgent::with_variable). It also gets `ARCP_JOB_ID`, `ARCP_TRACE_ID`, `TRACEPARENT`
//! if the trace is one of W3C, and `PYTHONUNBUFFERED=1`, because Python would otherwise buffer its
//! output. The token of a runtime (`ARCP_TOKEN`) is never passed on, even if it was added.
//!
//! With [`confined`](ProcessAgent::confined), the program can use only what the lease of its job
//! grants and what every program needs to start. `TMPDIR` and `HOME` are a folder of its own, which
//! is deleted after the job.

mod answers;
mod asks;
mod files;
mod format;
mod pipes;
mod said;
mod streams;
mod terminal;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

pub use self::format::{Format, UnknownFormat};

use self::answers::Answers;
use self::files::Files;
use self::pipes::Pipes;
use self::said::Said;
use self::terminal::Terminal;
use crate::agent::{Agent, AgentError, Context, Outcome, credentials, traceparent};
use crate::sandbox::{Confined, Sandbox};
use crate::{entropy, orphans};

/// The variables that a program inherits from its runtime, besides `LC_*`.
const PASSED: [&str; 10] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"];

/// Variables that no program gets, even if they were added: with these it could act as the user of
/// its runtime.
const SECRETS: [&str; 2] = ["ARCP_TOKEN", CREDENTIALS];
/// The credentials of a job, as a JSON array, in the environment of its program.
const CREDENTIALS: &str = "ARCP_CREDENTIALS";

/// An agent that runs a shell command for each job.
///
/// ```
/// use arcp_host::{process::ProcessAgent, registry::Registry};
/// let mut registry = Registry::default();
/// registry.add("upper", None, ProcessAgent::shell("tr a-z A-Z"));
/// ```
#[derive(Clone, Debug)]
pub struct ProcessAgent {
    command: String,
    restartable: bool,
    answered: bool,
    terminal: bool,
    mark: Option<String>,
    variables: BTreeMap<OsString, OsString>,
    limits: ProcessLimits,
    directory: Option<PathBuf>,
    format: Format,
    /// The path of the executable, if it is known.
    executable: Option<PathBuf>,
    sandbox: Option<Sandbox>,
}

/// Soft limits of a program, which it can raise up to those of its runtime. `None`: the limit of
/// its runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Files open at once (`ulimit -n`).
    pub open_files: Option<u64>,
    /// Memory in KiB of each of its processes (`ulimit -v`).
    pub memory_kib: Option<u64>,
    /// Processor time in seconds of each of its processes (`ulimit -t`).
    pub cpu_seconds: Option<u64>,
}

impl ProcessLimits {
    /// The shell commands that set the limits.
    fn script(self) -> String {
        let limits = [("n", self.open_files), ("v", self.memory_kib), ("t", self.cpu_seconds)];
        let limits = limits.into_iter().filter_map(|(flag, limit)| Some((flag, limit?)));
        limits.map(|(flag, limit)| format!("ulimit -S -{flag} {limit} && ")).collect()
    }
}

impl ProcessAgent {
    /// An agent that runs `sh -c command`.
    pub fn shell(command: &str) -> ProcessAgent {
        ProcessAgent {
            command: command.to_string(),
            restartable: false,
            answered: false,
            terminal: false,
            mark: None,
            variables: BTreeMap::new(),
            limits: ProcessLimits::default(),
            directory: None,
            format: Format::default(),
            executable: None,
            sandbox: None,
        }
    }

    /// This agent with the command `sh -c command`.
    #[must_use]
    pub fn with_command(self, command: &str) -> ProcessAgent {
        ProcessAgent { command: command.to_string(), executable: None, ..self }
    }

    /// This agent with this executable as its command.
    #[must_use]
    pub fn with_executable(self, path: &Path) -> ProcessAgent {
        let quoted = path.display().to_string().replace('\'', "'\\''");
        ProcessAgent { command: format!("exec '{quoted}'"), executable: Some(path.to_path_buf()), ..self }
    }

    /// Runs the program in this folder instead of that of the runtime.
    #[must_use]
    pub fn in_directory(self, directory: &Path) -> ProcessAgent {
        ProcessAgent { directory: Some(directory.to_path_buf()), ..self }
    }

    /// Sets the format of the program's output.
    #[must_use]
    pub fn printing(self, format: Format) -> ProcessAgent {
        ProcessAgent { format, ..self }
    }

    /// Sets the limits of the program.
    #[must_use]
    pub fn within(self, limits: ProcessLimits) -> ProcessAgent {
        ProcessAgent { limits, ..self }
    }

    /// Gives the program the state of its last checkpoint: see
    /// [`Registry::add_restartable`](crate::registry::Registry::add_restartable).
    #[must_use]
    pub fn restartable(self) -> ProcessAgent {
        ProcessAgent { restartable: true, ..self }
    }

    /// Answers the program's lines with an `id` on its stdin, which stays open.
    #[must_use]
    pub fn answered(self) -> ProcessAgent {
        ProcessAgent { answered: true, ..self }
    }

    /// Makes stdout and stderr a pseudo-terminal, so that the program prints line by line instead
    /// of in blocks. The terminal is raw, and the program is asked to print no colours
    /// (`TERM=dumb`, `NO_COLOR=1`, unless they are [set](ProcessAgent::with_variable)). Its stderr
    /// cannot be told from its stdout; its stdin stays a pipe.
    #[must_use]
    pub fn on_terminal(self) -> ProcessAgent {
        ProcessAgent { terminal: true, ..self }
    }

    /// Marks the program, so that [`orphans::end`] finds and ends it if it outlives its runtime.
    #[must_use]
    pub fn marked(self, mark: &str) -> ProcessAgent {
        ProcessAgent { mark: Some(mark.to_string()), ..self }
    }

    /// Has the kernel confine the program to what the lease of each job grants.
    #[must_use]
    pub fn confined(self, sandbox: Sandbox) -> ProcessAgent {
        ProcessAgent { sandbox: Some(sandbox), ..self }
    }

    /// Adds a variable to the environment of the program.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> ProcessAgent {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The limits of the program.
    pub fn limits(&self) -> ProcessLimits {
        self.limits
    }

    /// Sets the soft limit of open files (`ulimit -n`), which the program can raise; by default it
    /// is that of the runtime.
    #[must_use]
    pub fn with_descriptors(self, descriptors: u64) -> ProcessAgent {
        let limits = ProcessLimits { open_files: Some(descriptors), ..self.limits };
        ProcessAgent { limits, ..self }
    }

    /// Starts the program for a job. The file is the terminal that it prints on, if it has one.
    fn spawn<'a>(&self, job: &'a Context, confined: Option<&Confined>) -> io::Result<(Program<'a>, Option<File>)> {
        let mark = format!("{:032x}", entropy::number()?);
        let mut command = confined.map_or_else(|| Ok(Command::new("sh")), |confined| confined.command("sh"))?;
        self.set_variables(&mut command, job, confined);
        command.env(orphans::PROGRAM, &mark);
        if self.limits == ProcessLimits::default() {
            command.args(["-c", &self.command]);
        } else {
            // Another shell, which is replaced by the command: no shell remains between a cancel
            // and the program.
            let limited = format!("{}exec sh -c \"$1\"", self.limits.script());
            command.args(["-c", &limited, "sh", &self.command]);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let (stdout, stderr, ours) = if self.terminal {
            let Terminal { ours, theirs } = Terminal::open()?;
            (Stdio::from(theirs.try_clone()?), Stdio::from(theirs), Some(ours))
        } else {
            (Stdio::piped(), Stdio::piped(), None)
        };
        command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
        // A group of its own, so that a cancel reaches the processes that it starts.
        let child = command.process_group(0).spawn()?;
        Ok((Program::new(job, child, mark), ours))
    }

    fn set_variables(&self, command: &mut Command, job: &Context, confined: Option<&Confined>) {
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed(name)));
        if let Some(confined) = confined {
            command.env("TMPDIR", confined.folder()).env("HOME", confined.folder());
        }
        command.env("PYTHONUNBUFFERED", "1");
        if self.terminal {
            command.envs(terminal::VARIABLES);
        }
        command.envs(&self.variables);
        if let Some(mark) = &self.mark {
            command.env(orphans::STORE, mark);
        }
        for name in SECRETS {
            command.env_remove(name);
        }
        command.env("ARCP_JOB_ID", job.job().to_string()).env("ARCP_TRACE_ID", job.trace());
        if let Some(parent) = traceparent(job) {
            command.env("TRACEPARENT", parent);
        }
        if let (false, Ok(all)) = (credentials(job).is_empty(), serde_json::to_string(credentials(job))) {
            command.env(CREDENTIALS, all);
        }
    }

    /// The bytes for the program's stdin: first the preamble for the sandbox.
    fn input(&self, job: &Context, confined: Option<&Confined>) -> Vec<u8> {
        let mut input = confined.map_or_else(Vec::new, |confined| confined.preamble.clone());
        input.extend_from_slice(job.input().as_str().as_bytes());
        input.push(b'\n');
        if self.restartable {
            input.extend_from_slice(job.restored().unwrap_or(b"null"));
            input.push(b'\n');
        }
        input
    }
}

impl Agent for ProcessAgent {
    fn run(&self, job: &Context) -> Result<Outcome, AgentError> {
        let confined = match &self.sandbox {
            Some(sandbox) => sandbox.confine(job, self.executable.as_deref())?,
            None => None,
        };
        let directory = self.directory.clone().map_or_else(std::env::current_dir, Ok);
        let own = confined.as_ref().map(|confined| (confined.folder(), confined.readable.clone()));
        let files = directory.and_then(|directory| Files::within(&directory, own));
        let files = files.map_err(|e| AgentError::failed(format!("the working directory is lost: {e}")))?;
        let (program, terminal) = self
            .spawn(job, confined.as_ref())
            .map_err(|e| AgentError::failed(format!("`{}` could not be started: {e}", self.command)))?;
        let answers = self.answered.then(Answers::default);
        let said = RefCell::new(Said::new(&program.child, self.format, answers.clone(), files));
        let asked = answers.clone();
        let status = std::thread::scope(|scope| {
            // It is dropped here whatever happens: the thread below ends only then.
            let mut program = program;
            let group = program.group;
            std::thread::Builder::new()
                .name(format!("{}", job.job()))
                .spawn_scoped(scope, move || stop_when_told(job, group))?;
            let pipes = Pipes::new(&mut program.child, terminal, self.input(job, confined.as_ref()), answers)?;
            let mut broken_off = false;
            let exited = || {
                asked.iter().for_each(|asked| asked.look(job));
                // An error means that the job is over; the program finds that out with its next
                // line.
                let _ = said.borrow_mut().go_on(job);
                has_exited(group) && !stops_in_time(job)
            };
            let waits = || said.borrow().waits();
            pipes.run(exited, waits, &mut |source, line| {
                let taken = said.borrow_mut().line(job, source, line);
                broken_off |= taken.is_break();
                taken
            })?;
            if broken_off {
                program.kill();
            } else {
                said.borrow_mut().finish(job);
            }
            program.wait()
        });
        let said = said.into_inner();
        let status = status.map_err(|e: io::Error| AgentError::failed(format!("the program was lost: {e}")))?;
        said.outcome(job, status)
    }
}

/// Whether a program inherits this variable from its runtime.
fn is_passed(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| PASSED.contains(&name) || name.starts_with("LC_"))
}

/// A running program with the processes that it started. They are killed when this is dropped.
struct Program<'a> {
    job: &'a Context,
    child: Child,
    /// The value of [`orphans::PROGRAM`] in its environment.
    mark: String,
    group: Pid,
    reaped: bool,
}

impl<'a> Program<'a> {
    fn new(job: &'a Context, child: Child, mark: String) -> Program<'a> {
        Program { job, group: Pid::from_child(&child), child, mark, reaped: false }
    }

    /// Called before the program is reaped, so that its process id still belongs to it.
    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    /// Waits for its exit, and kills the processes that it left in its group. Those in other groups are killed only if the
    /// job was told to stop: a search through all processes takes as long as many a program.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        let exit = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(self.group), exit) {}
        self.job.link.change(|state| state.done = true);
        self.kill();
        if self.job.cancelled() {
            let _ = orphans::end_of(&self.mark);
        }
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            let _ = self.wait();
        }
    }
}

fn has_exited(group: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(group), options), Ok(Some(_)))
}

/// Whether a program was told to stop and is within its grace: its processes may take that long,
/// although it has exited itself.
fn stops_in_time(job: &Context) -> bool {
    let state = job.link.state();
    state.stopping && !state.over
}

/// Passes a cancel on to the program, until the program has exited.
fn stop_when_told(job: &Context, group: Pid) {
    let link = &job.link;
    let mut state = link.state();
    let mut told = false;
    while !state.done {
        // The state is locked and not done: the program is not reaped, so its process id still
        // belongs to it.
        if state.over {
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        if state.stopping && !told {
            told = true;
            let _ = kill_process_group(group, Signal::TERM);
        }
        state = link.wait(state, None);
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;
    use crate::agent::streams::tests::job;

    #[test]
    fn a_program_that_is_lost_does_not_go_on() {
        let (job, _) = job();
        let child = Command::new("sleep").arg("60").process_group(0).spawn().expect("it starts");
        let program = Program::new(&job, child, String::from("lost"));
        let pid = program.group;
        assert!(!has_exited(pid) && test_kill_process(pid).is_ok());
        drop(program);
        assert!(test_kill_process(pid).is_err(), "it has ended and was waited for");
        assert!(job.link.state().done);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_program_has_started_in_a_session_of_its_own_ends_with_a_cancel_and_not_with_its_exit() {
        use std::io::{BufRead as _, BufReader};

        for cancelled in [false, true] {
            let (job, _) = job();
            // It does not become another program after it has printed: the environment of a process that does so is
            // empty for a moment.
            let script = "setsid sh -c 'echo $$; while :; do sleep 1; done' & read line";
            let mark = format!("{:032x}", entropy::number().expect("random"));
            let mut command = Command::new("sh");
            command.args(["-c", script]).env(orphans::PROGRAM, &mark).process_group(0);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
            let mut program = Program::new(&job, child, mark);
            let mut line = String::new();
            let stdout = program.child.stdout.take().expect("a pipe");
            BufReader::new(stdout).read_line(&mut line).expect("text");
            let away = line.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
            job.link.change(|state| state.stopping = cancelled);
            program.kill();
            program.wait().expect("it ends");
            // The command line of a process that has exited is empty, or gone with its entry.
            let command = format!("/proc/{}/cmdline", away.as_raw_pid());
            let runs = || std::fs::read(&command).is_ok_and(|command| !command.is_empty());
            if cancelled {
                while runs() {
                    std::thread::yield_now();
                }
            }
            assert_eq!(runs(), !cancelled);
            let _ = kill_process_group(away, Signal::KILL);
        }
    }

    #[test]
    fn a_program_is_waited_for_however_long_it_takes() {
        let (job, _) = job();
        let mut command = Command::new("sh");
        let child = command.args(["-c", "read line; exit 3"]).stdin(Stdio::piped()).process_group(0);
        let mut program = Program::new(&job, child.spawn().expect("it starts"), String::from("waited for"));
        let (stdin, group) = (program.child.stdin.take(), program.group);
        assert!(!has_exited(group));
        let ends = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(stdin);
        });
        assert_eq!(program.wait().expect("it ends").code(), Some(3));
        ends.join().expect("nobody panics");
    }

    #[test]
    fn what_a_program_may_have_of_its_runtime_s_environment_is_on_a_list() {
        for (name, passed) in
            [("PATH", true), ("LC_ALL", true), ("LC", false), ("HOME", true), ("HOMES", false), ("ARCP_TOKEN", false)]
        {
            assert_eq!(is_passed(OsStr::new(name)), passed, "{name}");
        }
    }
}
