//! Programs that are run when a job has ended: `arcp serve --on-end` and `arcp
//! watch --notify`.

use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use crate::ends::{Ended, Listener, Receipt};

/// A shell command. It gets what is told of the end on stdin, and the job,
/// status and agent as `ARCP_JOB_ID`, `ARCP_STATUS` and `ARCP_AGENT`.
#[derive(Debug)]
pub struct Program(String);

impl Program {
    /// What the shell runs.
    pub fn new(command: &str) -> Program {
        Program(command.to_string())
    }

    /// Runs it to its end.
    pub fn run(&self, job: &str, status: &str, agent: &str, json: &str) -> io::Result<ExitStatus> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.0]).stdin(Stdio::piped()).stdout(Stdio::null());
        // It has no use for what signs the messages of others.
        command.env_remove("ARCP_WEBHOOK_SECRET");
        command.env("ARCP_JOB_ID", job).env("ARCP_STATUS", status).env("ARCP_AGENT", agent);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It need not read it.
            let _ = writeln!(stdin, "{json}");
        }
        child.wait()
    }
}

impl Listener for Program {
    fn name(&self) -> String {
        format!("--on-end {}", self.0)
    }

    /// A program that fails would fail again.
    fn tell(&self, end: &Ended) -> Receipt {
        match self.run(&end.job.to_string(), end.status, &end.agent, &end.json) {
            Ok(status) if status.success() => Receipt::Taken,
            Ok(status) => Receipt::Refused(status.to_string()),
            Err(error) => Receipt::Later(error.to_string()),
        }
    }
}
