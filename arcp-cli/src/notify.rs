//! Programs that are run when something has happened: `arcp serve --on-end` and
//! `--on-prompt`, and `arcp watch --notify`.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::telling::{Listener, News, Receipt};

/// How long a program may run for a question, since the next question waits for it.
const NOTIFIER: Duration = Duration::from_secs(60);
/// The time between two looks whether the program has exited.
const LOOK: Duration = Duration::from_millis(20);

/// A shell command. It gets the message on stdin, and its most important parts in environment variables.
#[derive(Debug)]
pub struct Program {
    /// The option that named it.
    option: &'static str,
    /// The command line for the shell.
    command: String,
    /// How long it may run.
    limit: Option<Duration>,
}

impl Program {
    /// A command for jobs that have ended. It may run as long as it wants.
    pub fn on_end(command: &str) -> Program {
        Program { option: "--on-end", command: command.to_string(), limit: None }
    }

    /// A command for questions of jobs.
    pub fn on_prompt(command: &str) -> Program {
        Program { option: "--on-prompt", command: command.to_string(), limit: Some(NOTIFIER) }
    }

    /// Runs the command until it exits. `None` if it took too long: then it was killed with all that it had started.
    pub fn run(&self, variables: &[(&str, String)], json: &str) -> io::Result<Option<ExitStatus>> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]).stdin(Stdio::piped()).stdout(Stdio::null());
        // The program has no use for the secret that signs webhooks.
        command.env_remove("ARCP_WEBHOOK_SECRET");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        if self.limit.is_some() {
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            let line = format!("{json}\n");
            // The program need not read its stdin.
            let write = move || drop(stdin.write_all(line.as_bytes()));
            std::thread::Builder::new().name("told".to_string()).spawn(write)?;
        }
        match self.limit {
            None => child.wait().map(Some),
            Some(limit) => wait(&mut child, limit),
        }
    }
}

/// Waits for a program that leads its process group, and kills the group at the limit.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return child.wait().map(|_| None);
        }
        std::thread::sleep(LOOK);
    }
}

impl Listener for Program {
    fn name(&self) -> String {
        format!("{} {}", self.option, self.command)
    }

    /// A program that fails is not run again: it would fail again.
    fn tell(&self, news: &News) -> Receipt {
        match self.run(&news.variables, &news.json) {
            Ok(Some(status)) if status.success() => Receipt::Taken,
            Ok(Some(status)) => Receipt::Refused(status.to_string()),
            Ok(None) => Receipt::Refused(format!("it was not done after {NOTIFIER:?}, and was killed")),
            Err(error) => Receipt::Later(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_what_it_has_started_whether_it_reads_or_not() {
        let limit = Some(Duration::from_millis(50));
        let slow = Program { limit, ..Program::on_prompt("sleep 1000 & sleep 1000") };
        assert_eq!(slow.run(&[], &"x".repeat(1 << 20)).expect("it runs"), None);
        let quick = Program::on_prompt("test \"$ARCP_JOB_ID\" = job_1 && read -r line && test \"$line\" = '{}'");
        let status = quick.run(&[("ARCP_JOB_ID", "job_1".to_string())], "{}").expect("it runs");
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}
