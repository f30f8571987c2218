//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Serve agents, submit jobs, watch them.
///
/// Exit codes: 0 success, 1 job error, 2 usage, 3 cancelled, 4 timed out,
/// 5 permission, 6 budget, 7 connection lost for good, 8 authentication,
/// 130 interrupted (the job goes on).
#[derive(Debug, Parser)]
#[command(name = "arcp", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the versions of program and protocol.
    Version,
    /// Host agents.
    Serve(Box<Serve>),
    /// Run a job and follow it.
    Submit(Submit),
    /// Follow a job that runs, or see how it went.
    Watch(Watch),
    /// List jobs.
    List(List),
    /// Cancel a job submitted from here, or as an operator any.
    Cancel(Cancel),
    /// Check, repair or back up what a runtime keeps.
    #[command(subcommand)]
    Store(Store),
    /// Replay a recording and compare every output.
    Replay(Replay),
    /// See it work: a runtime, some agents, a connection cut and resumed.
    Demo,
}

/// Host agents.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:7777", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The path of the WebSocket.
    #[arg(long, default_value = "/arcp")]
    pub path: String,
    /// Serve the parent process on stdin and stdout instead of a port.
    #[arg(long)]
    pub stdio: bool,
    /// Host the sample agents.
    #[arg(long)]
    pub samples: bool,
    /// Let the sample `stepper` obey `crash_at`: any client may then end this
    /// program, to see it start again.
    #[arg(long, requires = "samples")]
    pub samples_may_crash: bool,
    /// Host a shell command as an agent; may be repeated.
    #[arg(long = "agent", value_name = "NAME[@VERSION]=COMMAND")]
    pub agents: Vec<String>,
    /// Give the agents this variable, with this value or the one it has here;
    /// may be repeated. Besides those they get PATH, HOME, USER, LOGNAME, SHELL,
    /// LANG, LANGUAGE, LC_*, TZ, TMPDIR and TERM.
    #[arg(long = "agent-env", value_name = "NAME[=VALUE]")]
    pub agent_env: Vec<String>,
    /// Start this agent again, with what it kept, when the runtime has ended
    /// under its job; may be repeated.
    #[arg(long = "restartable", value_name = "NAME")]
    pub restartable: Vec<String>,
    /// Accept a bearer token; may be repeated [default: one that is made, and
    /// kept where the commands of this user find it].
    #[arg(long = "token", value_name = "TOKEN=PRINCIPAL")]
    pub tokens: Vec<String>,
    /// Accept one bearer token, for `--principal`.
    #[arg(long, value_name = "TOKEN", requires = "principal")]
    pub bearer: Option<String>,
    /// Whose token `--bearer` is.
    #[arg(long, value_name = "NAME", requires = "bearer")]
    pub principal: Option<String>,
    /// Let this principal list and watch everybody's jobs, and change none; may
    /// be repeated.
    #[arg(long = "auditor", value_name = "PRINCIPAL")]
    pub auditors: Vec<String>,
    /// Let this principal list, watch and cancel everybody's jobs; may be
    /// repeated. Whoever has the token that `arcp serve` makes may.
    #[arg(long = "operator", value_name = "PRINCIPAL")]
    pub operators: Vec<String>,
    /// Percent of what the others leave of slots, jobs and waiting inputs that
    /// one principal may hold; 100: whoever comes first takes everything.
    #[arg(long, default_value_t = 25, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub principal_share: u32,
    /// Let everybody in who reaches the port, without a credential.
    #[arg(long)]
    pub anonymous: bool,
    /// Serve this host name too; may be repeated.
    #[arg(long = "allow-host", value_name = "HOST")]
    pub allow_hosts: Vec<String>,
    /// Let pages of this web origin connect; may be repeated.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub allow_origins: Vec<String>,
    /// Frames for published clients: auto, off, python-1.1.3, typescript-2,
    /// go-1.1, java-fsharp, ruby-1, csharp-1, php-2, rust-2.0.0, swift-1.
    #[arg(long, default_value = "auto")]
    pub compat: String,
    /// Seconds between heartbeats; 0 switches them off.
    #[arg(long, default_value_t = 30, value_name = "S")]
    pub heartbeat: u64,
    /// Seconds after a loss in which a session can be resumed, and for which
    /// jobs are listed after their end and acknowledged events are kept.
    #[arg(long, default_value_t = 600, value_name = "S")]
    pub resume_window: u64,
    /// Seconds an open session is lent before its client must prove again who
    /// it is [default: no end].
    #[arg(long, value_name = "S")]
    pub session_lease: Option<u64>,
    /// An agent that must say something at least every two heartbeats; may
    /// be repeated.
    #[arg(long = "must-beat", value_name = "NAME")]
    pub must_beat: Vec<String>,
    /// Seconds a cancelled agent may take to stop [default: 30, 5 with
    /// --samples].
    #[arg(long, value_name = "S")]
    pub cancel_grace: Option<u64>,
    /// Seconds that jobs may go on after SIGTERM or SIGINT; a second signal ends
    /// them at once.
    #[arg(long, default_value_t = 10, value_name = "S")]
    pub drain_grace: u64,
    /// Keep jobs and sessions in this file, over the end of the program, or in
    /// `memory` [default: a file for the port in the state directory; memory
    /// with --stdio or port 0].
    #[arg(long, value_name = "FILE|memory")]
    pub store: Option<PathBuf>,
    /// Do not wait for the disk at every commit: a power cut may then take
    /// what clients have seen.
    #[arg(long)]
    pub relaxed: bool,
    /// Write a recording for `arcp replay`. It holds tokens and everything
    /// clients send: keep it secret.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Which runtime, and as whom.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The runtime [default: the one `arcp serve` started here last].
    #[arg(long, env = "ARCP_URL")]
    pub url: Option<String>,
    /// The bearer token [default: the one `arcp serve` made on this machine].
    #[arg(long, env = "ARCP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The wire family to speak.
    #[arg(long, value_enum, default_value_t = Family::Hello, env = "ARCP_FAMILY")]
    pub family: Family,
    /// Seconds to go on trying after the connection is lost.
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub give_up_after: u64,
}

/// The two wire families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// `session.hello`, `job.submit`: the SDKs for Python, TypeScript, Go.
    Hello,
    /// `session.open`, `tool.invoke`: the SDKs for Rust and Swift.
    Open,
}

/// How urgent a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// After the others.
    Low,
    /// As the others.
    Normal,
    /// Before the others.
    High,
    /// Before everything.
    Critical,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: the result on stdout, everything else on stderr.
    Text,
    /// One JSON object per line on stdout.
    Json,
}

/// Run a job and follow it.
#[derive(Debug, clap::Args)]
pub struct Submit {
    /// The agent, `name` or `name@version`.
    pub agent: String,
    /// Its input: JSON, @FILE, or - for stdin.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// The idempotency key: the same key gives the same job.
    #[arg(long)]
    pub key: Option<String>,
    /// Time limit in seconds.
    #[arg(long, value_name = "S")]
    pub max_runtime: Option<std::num::NonZeroU32>,
    /// Whether it goes before your other jobs; open family only.
    #[arg(long, value_enum)]
    pub priority: Option<Priority>,
    /// Print the job's id and leave.
    #[arg(long)]
    pub detach: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Follow a job.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The job.
    pub job: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// List jobs.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only these: pending, running, blocked, paused, success, error,
    /// cancelled, timed_out.
    #[arg(long)]
    pub status: Vec<String>,
    /// Only of this agent, `name` or `name@version`.
    #[arg(long)]
    pub agent: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Cancel a job.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The job.
    pub job: String,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
    /// Cancel it as an operator, whoever submitted it.
    #[arg(long)]
    pub operator: bool,
    /// Milliseconds after which its agent is made to stop, at most 600000;
    /// open family only.
    #[arg(long, value_name = "MS")]
    pub deadline: Option<u64>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Replay a recording.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// What `arcp serve --record` wrote.
    pub file: PathBuf,
}

/// What a runtime keeps.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Say what is damaged, and where; a runtime may have it open. Exits with 1
    /// if anything is.
    Check {
        /// The store.
        file: PathBuf,
    },
    /// Leave what can be read, so that a runtime starts with it, and keep the
    /// whole beside it. No runtime may have it open.
    Repair {
        /// The store.
        file: PathBuf,
    },
    /// Copy it as it is now; a runtime may have it open.
    Backup {
        /// The store.
        file: PathBuf,
        /// The copy, a file that does not exist [default: the store's name and
        /// `.backup`].
        to: Option<PathBuf>,
    },
}
