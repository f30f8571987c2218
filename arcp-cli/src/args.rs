//! The command line.

use std::io::IsTerminal as _;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use arcp_blocking::Target;
use arcp_proto::id::IdempotencyKey;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::JobStatus;
use arcp_proto::wire::Family;
use clap::{Arg, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub use self::serve::Serve;
use crate::exit::EXIT_CODES;
use crate::filter::{self, Condition};
use crate::follow::Following;
use crate::output::Printing;
use crate::values;
use crate::{
    agents, answer, artifact, attach, audit, checkpoint, completions, doctor, handoff, inbox, interrupt, job_token,
    lease, login, logs, man, policy, result, retry, sandbox, schedule, sessions, show, stop, take, tls, token, top,
    tree, wait, workflow,
};

mod serve;

/// Run a runtime, submit jobs to it and watch them.
///
/// Name a job by its id or a unique prefix of it. Durations are 90s, 10m or 1h30m; a
/// plain number is seconds.
#[derive(Debug, Parser)]
#[command(name = "arcp", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The command line, with what is the same for every command.
pub fn command() -> clap::Command {
    let command = with_codes(Args::command());
    // Piped help keeps each description on one line, so that it can be searched.
    if std::io::stdout().is_terminal() { command.max_term_width(100) } else { command.term_width(0) }
}

fn with_codes(command: clap::Command) -> clap::Command {
    command.after_help(EXIT_CODES).mut_args(empty_is_unset).mut_subcommands(with_codes)
}

/// A variable that is set to nothing counts as not set.
fn empty_is_unset(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None::<&'static str>) } else { arg }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the versions of this program and the protocol.
    Version,
    /// Start a runtime that hosts agents.
    Serve(Box<Serve>),
    /// Submit a job and follow it.
    Submit(Submit),
    /// Submit the same job again, under a new key.
    Retry(retry::Retry),
    /// Follow a job, or show the events of a finished one.
    Watch(Watch),
    /// Connect stdin and stdout to a job.
    Attach(attach::Attach),
    /// Wait until jobs finish.
    Wait(wait::Wait),
    /// List jobs.
    #[command(name = "ls", visible_aliases = ["list", "ps"])]
    List(List),
    /// Show jobs, sessions, event rates and lag, live.
    Top(top::Top),
    /// Show a job, session, subscription or runtime.
    Show(show::Show),
    /// Show a job and its children, with their budgets.
    Tree(tree::Tree),
    /// Print the result of a job.
    Result(result::ResultOf),
    /// Print the events of a job.
    Logs(logs::Logs),
    /// Cancel jobs.
    Cancel(Cancel),
    /// Send a message to the agent of a running job.
    Interrupt(interrupt::Interrupt),
    /// Print a token with which another session of the principal follows a job.
    JobToken(job_token::OfJob),
    /// Hand a job to another principal, or a queued one to another runtime
    /// (--to-runtime).
    Handoff(handoff::Handoff),
    /// Wait for a job that is handed over to you, and follow it.
    Take(take::Take),
    /// List the open questions of jobs.
    Inbox(inbox::Inbox),
    /// Answer a question of a job.
    Answer(answer::AnswerTo),
    /// Grant a permission that a job requests.
    Approve(answer::Approve),
    /// Refuse a permission that a job requests.
    Deny(answer::Deny),
    /// Extend a granted permission.
    Extend(answer::Extend),
    /// Revoke a granted permission.
    Revoke(answer::Revoke),
    /// List the agents of a runtime.
    Agents(agents::Agents),
    /// List the runtimes this user started here, or forget the key of a remote one.
    Runtimes(Runtimes),
    /// Stop runtimes this user started here.
    Stop(stop::Stop),
    /// Check what leases allow.
    #[command(subcommand)]
    Lease(lease::Leases),
    /// Check and explain a policy.
    #[command(subcommand)]
    Policy(policy::Policies),
    /// List grants, refusals and uses of authority.
    Audit(audit::Audit),
    /// Check this machine, its stores and runtimes for problems.
    Doctor(doctor::Doctor),
    /// Check, repair or back up the store of a runtime.
    #[command(subcommand)]
    Store(Store),
    /// Replay a recording and compare each output.
    Replay(Replay),
    /// Watch a demo: a runtime, some agents, a cut and resumed connection.
    Demo,
    /// Enter a sandbox and become a program: what a runtime starts agents with.
    #[command(hide = true)]
    Exec(sandbox::Exec),
    /// Make a TLS certificate.
    #[command(subcommand)]
    Tls(tls::Tls),
    /// Make, list and revoke the tokens of a runtime.
    #[command(subcommand)]
    Token(token::Tokens),
    /// Log in to a runtime through an identity provider.
    Login(login::Login),
    /// Log out of a runtime.
    Logout(login::Logout),
    /// List or end the sessions of a runtime.
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Store files with a runtime and fetch them from anywhere.
    #[command(visible_alias = "artifacts")]
    Artifact(artifact::Artifacts),
    /// Submit jobs at set times.
    #[command(subcommand, visible_alias = "schedules")]
    Schedule(schedule::Schedule),
    /// Run a graph of steps as one job.
    #[command(subcommand, visible_alias = "workflows")]
    Workflow(workflow::Workflow),
    /// List and make checkpoints, and start jobs from them.
    #[command(subcommand, visible_alias = "checkpoints")]
    Checkpoint(checkpoint::Checkpoint),
    /// Print shell completions.
    Completions(completions::Completions),
    /// Print manual pages.
    Man(man::Manual),
}

/// Which runtime to connect to, and with which credential.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The runtime: ws://HOST:PORT/PATH, wss:// (TLS), HOST:PORT, h2:// or h2c://,
    /// quic://HOST:PORT, unix:///PATH, or exec:COMMAND [default: the latest `arcp serve`
    /// of this user that still runs].
    #[arg(long, env = "ARCP_URL", value_parser = values::runtime)]
    pub url: Option<Target>,
    /// The bearer token [default: the generated token of a runtime on this machine].
    #[arg(long, env = "ARCP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Trust these authorities or certificates, a PEM file [default: the system's
    /// authorities].
    #[arg(long, value_name = "FILE", env = "ARCP_CA")]
    pub ca: Option<PathBuf>,
    /// Authenticate with this certificate chain, a PEM file, if no --token is given.
    #[arg(long, value_name = "FILE", env = "ARCP_CERT", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// The key of that certificate, a PEM file.
    #[arg(long, value_name = "FILE", env = "ARCP_CERT_KEY", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Send the token to another machine without TLS. Anyone on the network path can read
    /// it.
    #[arg(long)]
    pub insecure: bool,
    /// The wire family.
    #[arg(long, default_value_t, env = "ARCP_FAMILY", value_parser = values::family())]
    pub family: Family,
    /// How long to try to reconnect after the connection is lost.
    #[arg(long, default_value = "1m", value_name = "SPAN", value_parser = values::span)]
    pub give_up_after: Duration,
}

/// How urgent a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// Started after other jobs.
    Low,
    /// The default.
    Normal,
    /// Started before normal jobs.
    High,
    /// Started before all other jobs.
    Critical,
}

/// How to print what happens in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: the result on stdout, everything else on stderr.
    #[value(alias = "table")]
    Text,
    /// One JSON object per line on stdout.
    #[value(alias = "json")]
    Jsonl,
}

/// Submit a job and follow it.
#[derive(Debug, clap::Args)]
pub struct Submit {
    /// The agent, `name` or `name@version`.
    #[arg(value_parser = values::agent)]
    pub agent: AgentRef,
    /// Its input: JSON, @FILE, or - for stdin.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// The idempotency key: the same key gives the same job.
    #[arg(long)]
    pub key: Option<IdempotencyKey>,
    /// Time limit.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds)]
    pub max_runtime: Option<NonZeroU32>,
    /// The lease of the job: what it may do, for how long and at what cost.
    #[command(flatten)]
    pub authority: lease::Authority,
    /// The priority among your jobs; open family only.
    #[arg(long, value_enum)]
    pub priority: Option<Priority>,
    /// Make it a child of this unfinished job of yours: within its lease and budget, and
    /// cancelled if it fails or is cancelled.
    #[arg(long, value_name = "JOB", value_parser = values::id)]
    pub parent: Option<String>,
    /// Write the credentials issued for the job to this file, readable by this user only:
    /// a JSON array, as in the agent's ARCP_CREDENTIALS. They are revoked when the job
    /// ends, and shown nowhere else.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Print the job's id and exit.
    #[arg(long)]
    pub detach: bool,
    /// How to follow the job.
    #[command(flatten)]
    pub following: Following,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Follow a job.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The job.
    #[arg(value_parser = values::id, required_unless_present = "job_token", conflicts_with = "job_token")]
    pub job: Option<String>,
    /// Follow the job whose token is in this file, or on stdin (-), from the point where
    /// `arcp job-token` made it.
    #[arg(long, value_name = "FILE")]
    pub job_token: Option<PathBuf>,
    /// Run this shell command when the job finishes. It gets a JSON object on stdin, and
    /// ARCP_JOB_ID, ARCP_STATUS and ARCP_AGENT.
    #[arg(long, value_name = "COMMAND")]
    pub notify: Option<String>,
    /// How to follow the job.
    #[command(flatten)]
    pub following: Following,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// List jobs, newest first.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only jobs with this status; may be repeated.
    #[arg(long, value_parser = values::status())]
    pub status: Vec<JobStatus>,
    /// Only jobs of this agent, `name` or `name@version`.
    #[arg(long, value_parser = values::agent)]
    pub agent: Option<AgentRef>,
    /// Only jobs that match: status=STATUS, agent=NAME, older=SPAN or newer=SPAN; may be
    /// repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter::condition)]
    pub filter: Vec<Condition>,
    /// The most jobs to list, 0 for all.
    #[arg(long, default_value_t = 100, value_parser = values::count)]
    pub limit: usize,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Cancel jobs, or single streams of running jobs.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The jobs, or streams (str_...) as `arcp watch` shows them.
    #[arg(value_parser = values::id, value_name = "JOB", required_unless_present = "filter", conflicts_with = "filter")]
    pub jobs: Vec<String>,
    /// Cancel every unfinished job that matches: status=STATUS, agent=NAME, older=SPAN or
    /// newer=SPAN; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter::condition)]
    pub filter: Vec<Condition>,
    /// Print the jobs without cancelling them.
    #[arg(long)]
    pub dry_run: bool,
    /// The reason.
    #[arg(long)]
    pub reason: Option<String>,
    /// Cancel jobs of any principal, as an operator.
    #[arg(long)]
    pub operator: bool,
    /// How long the agent has to stop before it is killed, at most 10m; open family only.
    #[arg(long, value_name = "SPAN", value_parser = values::deadline)]
    pub deadline: Option<Duration>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// List runtimes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Runtimes {
    /// What else to do with them.
    #[command(subcommand)]
    pub action: Option<RuntimesAction>,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
}

/// What else is done with runtimes.
#[derive(Debug, Subcommand)]
pub enum RuntimesAction {
    /// Forget the TLS key remembered for a runtime. The next key it shows is remembered
    /// instead.
    Forget {
        /// Its address: wss://HOST:PORT/PATH, or HOST:PORT.
        #[arg(value_name = "RUNTIME")]
        runtime: String,
    },
}

/// Replay a recording.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The recording that `arcp serve --record` wrote.
    pub file: PathBuf,
}

/// What a runtime keeps.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Report damage and where it is. A runtime may have the store open. Exits with 1 if
    /// there is any.
    Check {
        /// The store.
        file: PathBuf,
    },
    /// Keep only the readable records, so that a runtime can start, and save the original
    /// beside it. No runtime may have the store open.
    Repair {
        /// The store.
        file: PathBuf,
    },
    /// Copy the store. A runtime may have it open.
    Backup {
        /// The store.
        file: PathBuf,
        /// The copy, a new file [default: the store's name with `.backup` appended].
        to: Option<PathBuf>,
    },
}
