//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use arcp_blocking::{Listen, Target};
use arcp_host::auth::Endpoint;
use arcp_host::log_line::{self, Filter};
use arcp_host::process::Format;
use arcp_proto::id::{IdempotencyKey, Issuer};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::JobStatus;
use arcp_proto::wire::Compat;
use arcp_proto::wire::Family;
use clap::{Arg, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::courier::HandingOver;
use crate::drain::Drain;
use crate::exit::EXIT_CODES;
use crate::filter::{self, Condition};
use crate::follow::Following;
use crate::oauth2::AccessTokens;
use crate::output::Printing;
use crate::provisioner::Provisioning;
use crate::values::{self, AgentCommand, OfAgent};
use crate::{
    agents, answer, artifact, attach, audit, checkpoint, completions, doctor, handoff, inbox, interrupt, job_token,
    lease, login, logs, man, policy, result, retry, sandbox, schedule, sessions, show, stop, take, tls, token, top,
    tree, wait, workflow,
};

/// Serve agents, submit jobs, watch them.
///
/// A job is named by its id or by how it begins. Durations are written as 90s,
/// 10m or 1h30m; a number alone is seconds.
#[derive(Debug, Parser)]
#[command(name = "arcp", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The command line with what is the same for every command: an empty variable is none.
pub fn command() -> clap::Command {
    with_codes(Args::command())
}

fn with_codes(command: clap::Command) -> clap::Command {
    command.after_help(EXIT_CODES).mut_args(empty_is_unset).mut_subcommands(with_codes)
}

/// Whoever sets a variable to nothing takes it away.
fn empty_is_unset(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None::<&'static str>) } else { arg }
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
    /// Submit the same job again, under a new key.
    Retry(retry::Retry),
    /// Follow a job that runs, or see how it went.
    Watch(Watch),
    /// Send stdin to a job that takes input, and show what it says.
    Attach(attach::Attach),
    /// Wait until jobs have ended.
    Wait(wait::Wait),
    /// List jobs.
    #[command(name = "ls", visible_aliases = ["list", "ps"])]
    List(List),
    /// Show jobs, sessions, events per second and lag, as they go.
    Top(top::Top),
    /// Show a job, session, subscription or runtime.
    Show(show::Show),
    /// Show a job and those below it, with their budgets.
    Tree(tree::Tree),
    /// Print the result of a job.
    Result(result::ResultOf),
    /// Print what a job has said.
    Logs(logs::Logs),
    /// Cancel jobs.
    Cancel(Cancel),
    /// Say something to the agent of a job while it runs.
    Interrupt(interrupt::Interrupt),
    /// Print a token for the rest of a job.
    JobToken(job_token::OfJob),
    /// Make a job somebody else's while it goes on, or hand one that waits to another
    /// runtime (--to-runtime).
    Handoff(handoff::Handoff),
    /// Wait for a job that somebody hands over, and follow it.
    Take(take::Take),
    /// List what jobs ask people.
    Inbox(inbox::Inbox),
    /// Answer what a job asks.
    Answer(answer::AnswerTo),
    /// Grant the permission that a job asks for.
    Approve(answer::Approve),
    /// Refuse the permission that a job asks for.
    Deny(answer::Deny),
    /// Prolong a permission that was granted.
    Extend(answer::Extend),
    /// Take back a permission that was granted.
    Revoke(answer::Revoke),
    /// List the agents of a runtime.
    Agents(agents::Agents),
    /// List the runtimes that this user has started here; forget the key of another.
    Runtimes(Runtimes),
    /// Stop runtimes that this user has started here.
    Stop(stop::Stop),
    /// Ask what leases allow.
    #[command(subcommand)]
    Lease(lease::Leases),
    /// Ask what a policy allows.
    #[command(subcommand)]
    Policy(policy::Policies),
    /// List who was granted what, or refused, and why.
    Audit(audit::Audit),
    /// Say whether this machine is fit to serve, and what would fail next.
    Doctor(doctor::Doctor),
    /// Check, repair or back up what a runtime keeps.
    #[command(subcommand)]
    Store(Store),
    /// Replay a recording and compare every output.
    Replay(Replay),
    /// See it work: a runtime, some agents, a connection cut and resumed.
    Demo,
    /// Enter a sandbox and become a program: what a runtime starts agents with.
    #[command(hide = true)]
    Exec(sandbox::Exec),
    /// Make a certificate for TLS.
    #[command(subcommand)]
    Tls(tls::Tls),
    /// Change who may come in to a runtime: make, list and revoke tokens.
    #[command(subcommand)]
    Token(token::Tokens),
    /// Log in to a runtime at an identity provider.
    Login(login::Login),
    /// Forget the login at a runtime.
    Logout(login::Logout),
    /// List the sessions of a runtime, or take them from their clients.
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Leave files with a runtime for a while, and fetch them from anywhere.
    #[command(visible_alias = "artifacts")]
    Artifact(artifact::Artifacts),
    /// Have jobs submitted at times, whoever is there then.
    #[command(subcommand, visible_alias = "schedules")]
    Schedule(schedule::Schedule),
    /// Run graphs of steps as one job.
    #[command(subcommand, visible_alias = "workflows")]
    Workflow(workflow::Workflow),
    /// Go back to where a job was, and on from there.
    #[command(subcommand, visible_alias = "checkpoints")]
    Checkpoint(checkpoint::Checkpoint),
    /// Print completions for a shell.
    Completions(completions::Completions),
    /// Print the manual.
    Man(man::Manual),
}

/// Host agents.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Take what neither an option nor a variable says from this TOML file, whose keys
    /// are the options without `--`.
    #[arg(long, value_name = "FILE", env = "ARCP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Say whether all of it can be served: reads every file, and opens no port and no
    /// store.
    #[arg(long, conflicts_with = "background")]
    pub check: bool,
    /// Where to listen: HOST:PORT, ws://HOST:PORT, wss:// with TLS, h2://HOST:PORT, h2c://
    /// without TLS, quic://HOST:PORT, unix:///PATH or stdio:; HTTP/2 and QUIC as with --tokio;
    /// may be repeated, or several with commas between them. Without a host, on this
    /// machine alone; without a scheme, with TLS if there is a certificate; port 0 picks
    /// one. A Unix socket is for the user of this program, or with ?mode=660 or ?mode=666
    /// behind it for its group or everybody.
    #[arg(long, default_value = "127.0.0.1:7777", value_name = "PLACE", value_delimiter = ',', env = "ARCP_LISTEN")]
    pub listen: Vec<Listen>,
    /// The path of WebSockets, and of sessions over HTTP/2.
    #[arg(long, default_value = "/arcp", value_parser = values::path)]
    pub path: String,
    /// Serve the parent process on stdin and stdout, and end with it: --listen stdio:
    /// alone.
    #[arg(long, conflicts_with = "listen")]
    pub stdio: bool,
    /// Move bytes by tokio, not by threads, as is done anyway where HTTP/2 or QUIC is
    /// served: peers see no difference.
    #[arg(long)]
    pub tokio: bool,
    /// Go on without this terminal; says where the log is. `arcp stop` ends it.
    #[arg(long, conflicts_with = "stdio")]
    pub background: bool,
    /// Leave the terminal: what `--background` starts.
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Host the sample agents.
    #[arg(long)]
    pub samples: bool,
    /// Let the sample `stepper` obey `crash_at`: any client may then end this
    /// program, to see it start again.
    #[arg(long, requires = "samples")]
    pub samples_may_crash: bool,
    #[command(flatten)]
    pub provisioning: Provisioning,
    #[command(flatten)]
    pub handing_over: HandingOver,
    /// Host a shell command as an agent; may be repeated.
    #[arg(long = "agent", value_name = "NAME[@VERSION]=COMMAND", value_parser = values::agent_command)]
    pub agents: Vec<AgentCommand>,
    /// Host every executable of this folder, each called as its file without the
    /// extension; `NAME.toml` beside it says more of it. What changes there is
    /// taken up at once.
    #[arg(long = "agents", value_name = "FOLDER")]
    pub agent_folder: Option<PathBuf>,
    /// What this agent prints: text, jsonl, claude-json or codex-json; may be
    /// repeated [default: text].
    #[arg(long = "format", value_name = "NAME=FORMAT", value_parser = values::agent_format)]
    pub formats: Vec<OfAgent<Format>>,
    /// How many jobs of this agent run at once; more wait, in turn by principal;
    /// may be repeated.
    #[arg(long = "concurrency", value_name = "NAME=N", value_parser = values::agent_concurrency)]
    pub concurrency: Vec<OfAgent<NonZeroU32>>,
    /// Give the agents this variable, with this value or the one it has here;
    /// may be repeated. Besides those they get PATH, HOME, USER, LOGNAME, SHELL,
    /// LANG, LANGUAGE, LC_*, TZ, TMPDIR and TERM, and PYTHONUNBUFFERED=1.
    #[arg(long = "agent-env", value_name = "NAME[=VALUE]")]
    pub agent_env: Vec<String>,
    /// Answer this agent: for each line that it prints with an `id` it reads one on
    /// its stdin, which stays open for that; may be repeated.
    #[arg(long = "answered", value_name = "NAME")]
    pub answered: Vec<String>,
    /// Let people interrupt this agent: it reads what they say on its stdin, and
    /// prints when it goes on; implies --answered; may be repeated.
    #[arg(long = "interrupts", value_name = "NAME")]
    pub interrupts: Vec<String>,
    /// Let clients send this agent input while it runs: it reads that on its stdin, a
    /// line for each piece; implies --answered; may be repeated.
    #[arg(long = "takes-input", value_name = "NAME")]
    pub takes_input: Vec<String>,
    /// Let people ask this agent for checkpoints: it reads that on its stdin, and prints
    /// one; implies --restartable and --answered; may be repeated.
    #[arg(long = "checkpoints", value_name = "NAME")]
    pub checkpoints: Vec<String>,
    /// Run jobs of this agent before they are on the disk, and once more when the
    /// runtime has ended under them: nothing comes of it but what it prints; may be
    /// repeated.
    #[arg(long = "pure", value_name = "NAME")]
    pub pure: Vec<String>,
    /// Give this agent a pseudo-terminal as its stdout and stderr, so that it shows
    /// line by line what it would keep in a buffer; both count as stdout then, and
    /// TERM=dumb and NO_COLOR=1 ask for no colours.
    #[arg(long = "pty", value_name = "NAME")]
    pub pty: Vec<String>,
    /// Let the kernel keep the programs of agents within the leases of their jobs:
    /// `auto` as far as it can, `required` or not at all; a job without a lease may
    /// use what every program needs to start, and nothing else.
    #[arg(long, value_enum, default_value_t = sandbox::Confinement::Off, value_name = "auto|required|off", hide_possible_values = true)]
    pub sandbox: sandbox::Confinement,
    /// What every confined program may use besides its lease: a TOML file with
    /// `read` and `write`, lists of paths; `default = false` for these alone.
    #[arg(long, value_name = "FILE")]
    pub sandbox_base: Option<PathBuf>,
    /// Start this agent again, with what it kept, when the runtime has ended
    /// under its job; may be repeated.
    #[arg(long = "restartable", value_name = "NAME")]
    pub restartable: Vec<String>,
    /// Accept a bearer token, which everybody on this machine can read on the
    /// command line; may be repeated [default: one that is made, and kept where the
    /// commands of this user find it].
    #[arg(long = "token", value_name = "TOKEN=PRINCIPAL")]
    pub tokens: Vec<String>,
    /// Accept one bearer token, for `--principal`.
    #[arg(long, value_name = "TOKEN", requires = "principal")]
    pub bearer: Option<String>,
    /// Whose token `--bearer` is.
    #[arg(long, value_name = "NAME", requires = "bearer")]
    pub principal: Option<String>,
    /// Accept the bearer tokens of this file, which `arcp token` changes and which
    /// is read again when it has changed.
    #[arg(long = "tokens", value_name = "FILE", env = "ARCP_TOKENS")]
    pub token_file: Option<PathBuf>,
    /// Accept JWTs of this issuer, its `iss`: who has one is the principal
    /// ISSUER#SUBJECT.
    #[arg(long, value_name = "ISSUER", requires = "keys_of_jwts", requires = "audience")]
    pub jwt_issuer: Option<Issuer>,
    /// The public keys of that issuer: PEM, or a JSON Web Key Set. The file is read
    /// again when it has changed.
    #[arg(long, value_name = "FILE", group = "keys_of_jwts", requires = "jwt_issuer")]
    pub jwt_keys: Option<PathBuf>,
    /// Where the public keys of that issuer are, a JSON Web Key Set: https, or http to
    /// this machine. They are read again when a token names one that is not there.
    #[arg(long, value_name = "URL", value_parser = values::endpoint, group = "keys_of_jwts", requires = "jwt_issuer")]
    pub jwt_jwks: Option<Endpoint>,
    /// Whose access tokens count.
    #[command(flatten)]
    pub access_tokens: AccessTokens,
    /// Accept the delegation tokens that `arcp token mint` signs with this key;
    /// `arcp token key` makes one.
    #[arg(long, value_name = "FILE", requires = "audience")]
    pub delegation_key: Option<PathBuf>,
    /// What JWTs and delegation tokens call this runtime: those that are made out to
    /// another one are refused.
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,
    /// Let this principal list and watch everybody's jobs, and change none; may
    /// be repeated.
    #[arg(long = "auditor", value_name = "PRINCIPAL")]
    pub auditors: Vec<String>,
    /// Let this principal list, watch and cancel everybody's jobs; may be
    /// repeated. Whoever has the token that `arcp serve` makes may.
    #[arg(long = "operator", value_name = "PRINCIPAL")]
    pub operators: Vec<String>,
    /// Let people do only what this policy says, a TOML file: who may submit which
    /// agents, watch whose jobs and have how much; read again at SIGHUP. `arcp policy`
    /// checks and explains it.
    #[arg(long, value_name = "FILE", env = "ARCP_POLICY")]
    pub policy: Option<PathBuf>,
    /// Grant no job more than this, whatever it asks for: a grant such as
    /// fs.read=/srv/**, an amount such as cost.budget=USD:5, a file or JSON; may be
    /// repeated. A job that asks for no lease is granted all of it.
    #[arg(long = "lease-ceiling", value_name = "NAMESPACE=PATTERN|LEASE")]
    pub lease_ceilings: Vec<String>,
    /// End what a job may do after this time, whatever it asks for.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds, requires = "lease_ceilings")]
    pub longest_lease: Option<NonZeroU32>,
    /// Let jobs do this only at a trust level, untrusted, constrained, trusted or
    /// privileged, whatever their leases grant, such as
    /// privileged:tool.call=deploy.*; may be repeated. Operators elevate to privileged.
    #[arg(long, value_name = "LEVEL:NAMESPACE=PATTERN")]
    pub needs_trust: Vec<String>,
    /// Percent of what the others leave of slots, jobs and waiting inputs that
    /// one principal may hold; 100: whoever comes first takes everything.
    #[arg(long, default_value_t = 25, value_name = "PERCENT", value_parser = values::percent)]
    pub principal_share: u32,
    /// How many jobs one principal may submit in a second, and as many at once
    /// [default: no bound].
    #[arg(long, value_name = "N", value_parser = values::rate)]
    pub submit_rate: Option<NonZeroU32>,
    /// Speak TLS, and show this certificate with those of its issuers, in PEM; it
    /// is read again at SIGHUP. `arcp tls self-signed` makes one to try.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "stdio")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Know clients by their certificates, of these authorities (PEM): scheme `mtls`.
    /// Its one URI, or else its one DNS name, is the principal.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// What those authorities have revoked (PEM), read again at SIGHUP: a list of each
    /// issuer in a chain.
    #[arg(long, value_name = "FILE", requires = "tls_client_ca")]
    pub tls_client_crl: Option<PathBuf>,
    /// Whose certificates are whose, and nobody else's count: lines such as
    /// `uri:spiffe://example/alice alice`, with sha256:HEX, uri:URI or dns:NAME. Read
    /// again at SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_client_ca")]
    pub tls_client_names: Option<PathBuf>,
    /// Listen to other machines, and send spans to them, without TLS: whoever is on the
    /// way can take tokens.
    #[arg(long)]
    pub insecure: bool,
    /// How the log is written: text, or a JSON object in each line.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "text|json", hide_possible_values = true)]
    pub log_format: LogFormat,
    /// Which lines of the log are written: off, error, warn, info or debug; and of some
    /// events others, such as info,refused=off,job=debug. Events are runtime, refused,
    /// decision, policy, session, job, store and artifact.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ARCP_LOG")]
    pub log: Filter,
    /// Show `/metrics` to who has the token in this file [default: to everybody on this
    /// machine]. Operators and auditors see it from anywhere.
    #[arg(long, value_name = "FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// Send spans of sessions, jobs and operations to this collector, by OTLP over HTTP:
    /// such as http://localhost:4318; with https://, or --insecure, on another machine.
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp: Option<String>,
    /// Let everybody in who reaches the port, without a credential.
    #[arg(long)]
    pub anonymous: bool,
    /// Serve this host name too; may be repeated.
    #[arg(long = "allow-host", value_name = "HOST", value_parser = values::host_name)]
    pub allow_hosts: Vec<String>,
    /// Let pages of this web origin connect; may be repeated.
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = values::origin)]
    pub allow_origins: Vec<String>,
    /// Which published clients get frames of their own.
    #[arg(long, default_value = "auto", value_parser = values::compat())]
    pub compat: Compat,
    /// Between two heartbeats; 0 switches them off.
    #[arg(long, default_value = "30s", value_name = "SPAN", value_parser = values::heartbeat)]
    pub heartbeat: Duration,
    /// How long clients may reconnect after a loss and go on with their sessions;
    /// acknowledged events are kept as long.
    #[arg(long, default_value = "10m", value_name = "SPAN", value_parser = values::resume_window)]
    pub resume_window: Duration,
    /// How long ended jobs are kept, to be listed and watched: at most 16,384 of
    /// one principal, and what --store-max allows; a number needs its unit
    /// [default: 30d; 1h in memory].
    #[arg(long, value_name = "SPAN", value_parser = values::kept_jobs)]
    pub keep: Option<Duration>,
    /// How long entries of the audit trail are kept: 65,536 at most, and a minute at
    /// least; a number needs its unit.
    #[arg(long, default_value = "90d", value_name = "SPAN", value_parser = values::kept_audit)]
    pub keep_audit: Duration,
    /// Bytes of events that the store keeps, at least 1MiB, and 1 GiB of one job;
    /// the jobs that ended first go first.
    #[arg(long, default_value = "8GiB", value_name = "SIZE", value_parser = values::size)]
    pub store_max: u64,
    /// How long artifacts are kept whose clients do not say, 30 days at most; 0: there
    /// are none.
    #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = values::span)]
    pub keep_artifacts: Duration,
    /// Bytes of artifacts of everybody, beside the store: a client may have a share.
    #[arg(long, default_value = "4GiB", value_name = "SIZE", value_parser = values::size)]
    pub artifacts_max: u64,
    /// How long an open session is lent before its client must prove again who
    /// it is [default: no end].
    #[arg(long, value_name = "SPAN", value_parser = values::session_lease)]
    pub session_lease: Option<Duration>,
    /// An agent that must say something at least every two heartbeats; may
    /// be repeated.
    #[arg(long = "require-heartbeat", value_name = "NAME")]
    pub require_heartbeat: Vec<String>,
    /// How long a cancelled agent may take to stop [default: 30s, 5s with
    /// --samples].
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub cancel_grace: Option<Duration>,
    /// How long jobs may go on after SIGTERM, SIGINT or SIGHUP, or `forever`; a
    /// second signal ends them at once. Meanwhile they can be listed, watched and
    /// cancelled. Exits with 9 if some had not ended.
    #[arg(long, alias = "drain-grace", default_value = "10s", value_name = "SPAN|forever", value_parser = values::drain)]
    pub drain: Drain,
    /// The database file of jobs and sessions, which survives restarts, or
    /// `memory` [default: a file for the port or the Unix socket in the state directory;
    /// memory with stdio or port 0 alone].
    #[arg(long, value_name = "FILE|memory")]
    pub store: Option<PathBuf>,
    /// Run this shell command for each job that has ended; may be repeated. It
    /// gets a JSON object on stdin, and ARCP_JOB_ID, ARCP_STATUS and ARCP_AGENT.
    #[arg(long, value_name = "COMMAND")]
    pub on_end: Vec<String>,
    /// Run this shell command for each question that a job asks people, at least once;
    /// may be repeated. It gets a JSON object on stdin, and ARCP_PROMPT_ID,
    /// ARCP_PROMPT_KIND, ARCP_JOB_ID and ARCP_AGENT. It has a minute.
    #[arg(long, value_name = "COMMAND")]
    pub on_prompt: Vec<String>,
    /// Send a signed HTTP request for each job that has ended, at least once;
    /// may be repeated. Its `webhook-id` is the job's. To other machines give
    /// https://: it says what the job came to.
    #[arg(long = "webhook", value_name = "URL", value_parser = values::webhook)]
    pub webhooks: Vec<String>,
    /// Trust these authorities or certificates of receivers with https://, a PEM file
    /// [default: the authorities that this machine knows].
    #[arg(long, value_name = "FILE", requires = "webhooks")]
    pub webhook_ca: Option<PathBuf>,
    /// For how long after the end of a job those who cannot be told of it are told
    /// again; then they are passed over, and the log says so.
    #[arg(long, default_value = "1d", value_name = "SPAN", value_parser = values::some_span)]
    pub tell_for: Duration,
    /// What webhooks are signed with, by HMAC-SHA256: whsec_ and base64, or text
    /// of at least 16 bytes.
    #[arg(long, value_name = "SECRET", env = "ARCP_WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<String>,
    /// Do not wait for the disk at every commit: a power cut may then take
    /// what clients have seen.
    #[arg(long)]
    pub relaxed: bool,
    /// Write a recording for `arcp replay`. It holds tokens and everything
    /// clients send: keep it secret.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object in each line.
    Json,
}

impl From<LogFormat> for log_line::LogFormat {
    fn from(format: LogFormat) -> log_line::LogFormat {
        match format {
            LogFormat::Text => log_line::LogFormat::Text,
            LogFormat::Json => log_line::LogFormat::Json,
        }
    }
}

/// Which runtime, and as whom.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The runtime: ws://HOST:PORT/PATH, wss:// with TLS, HOST:PORT, h2:// or h2c://,
    /// quic://HOST:PORT, unix:///PATH, or exec:COMMAND [default: the one that `arcp serve`
    /// started here last and that is still there].
    #[arg(long, env = "ARCP_URL", value_parser = values::runtime)]
    pub url: Option<Target>,
    /// The bearer token [default: the one that runtime made, if it is on this
    /// machine].
    #[arg(long, env = "ARCP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Trust these authorities or certificates with TLS, a PEM file [default: the
    /// authorities that this machine knows].
    #[arg(long, value_name = "FILE", env = "ARCP_CA")]
    pub ca: Option<PathBuf>,
    /// Show this certificate with those of its issuers, a PEM file, to be known by it
    /// where no --token is given.
    #[arg(long, value_name = "FILE", env = "ARCP_CERT", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// The key of that certificate, a PEM file.
    #[arg(long, value_name = "FILE", env = "ARCP_CERT_KEY", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Send the token to other machines without TLS: whoever is on the way can
    /// take it.
    #[arg(long)]
    pub insecure: bool,
    /// The wire family to speak.
    #[arg(long, default_value_t, env = "ARCP_FAMILY", value_parser = values::family())]
    pub family: Family,
    /// How long to go on trying after the connection is lost.
    #[arg(long, default_value = "1m", value_name = "SPAN", value_parser = values::span)]
    pub give_up_after: Duration,
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

/// Run a job and follow it.
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
    /// What the job may do, its time and its money.
    #[command(flatten)]
    pub authority: lease::Authority,
    /// Whether it goes before your other jobs; open family only.
    #[arg(long, value_enum)]
    pub priority: Option<Priority>,
    /// Have it done below this job of yours, which must not have ended: within its
    /// lease, out of its budget, and ended with it if it fails or is cancelled.
    #[arg(long, value_name = "JOB", value_parser = values::id)]
    pub parent: Option<String>,
    /// Write the credentials that are issued for the job to this file, which only this
    /// user reads: a JSON array, as agents find it in ARCP_CREDENTIALS. They count until
    /// the job ends, and are shown nowhere else.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Print the job's id and leave.
    #[arg(long)]
    pub detach: bool,
    /// How to follow it.
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
    /// Go on with the job whose token is in this file, or on stdin (-), from where
    /// `arcp job-token` made it.
    #[arg(long, value_name = "FILE")]
    pub job_token: Option<PathBuf>,
    /// Run this shell command when it has ended. It gets a JSON object on stdin,
    /// and ARCP_JOB_ID, ARCP_STATUS and ARCP_AGENT.
    #[arg(long, value_name = "COMMAND")]
    pub notify: Option<String>,
    /// How to follow it.
    #[command(flatten)]
    pub following: Following,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// List jobs, the newest first.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only these; may be repeated.
    #[arg(long, value_parser = values::status())]
    pub status: Vec<JobStatus>,
    /// Only of this agent, `name` or `name@version`.
    #[arg(long, value_parser = values::agent)]
    pub agent: Option<AgentRef>,
    /// Only those that meet this: status=STATUS, agent=NAME, older=SPAN or
    /// newer=SPAN; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter::condition)]
    pub filter: Vec<Condition>,
    /// At most so many, 0 for all.
    #[arg(long, default_value_t = 100, value_parser = values::count)]
    pub limit: usize,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Cancel jobs, or streams of jobs that go on.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The jobs, or streams (str_...) as `arcp watch` shows them.
    #[arg(value_parser = values::id, value_name = "JOB", required_unless_present = "filter", conflicts_with = "filter")]
    pub jobs: Vec<String>,
    /// Every job that is not over and meets this: status=STATUS, agent=NAME,
    /// older=SPAN or newer=SPAN; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter::condition)]
    pub filter: Vec<Condition>,
    /// Only show which jobs they are.
    #[arg(long)]
    pub dry_run: bool,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
    /// Cancel it as an operator, whoever submitted it.
    #[arg(long)]
    pub operator: bool,
    /// How long its agent may take before it is made to stop, at most 10m; open
    /// family only.
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
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
}

/// What else is done with runtimes.
#[derive(Debug, Subcommand)]
pub enum RuntimesAction {
    /// Forget the key that a runtime with TLS showed first: the next one that it shows is
    /// remembered.
    Forget {
        /// Its address: wss://HOST:PORT/PATH, or HOST:PORT.
        #[arg(value_name = "RUNTIME")]
        runtime: String,
    },
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
