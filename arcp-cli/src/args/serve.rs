//! The options of `arcp serve`, by what they are about: each group is a section of its help.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use arcp_blocking::Listen;
use arcp_host::auth::Endpoint;
use arcp_host::log_line::{self, Filter};
use arcp_host::process::Format;
use arcp_proto::id::Issuer;
use arcp_proto::wire::Compat;
use clap::{Args, ValueEnum};

use crate::courier::HandingOver;
use crate::drain::Drain;
use crate::oauth2::AccessTokens;
use crate::provisioner::Provisioning;
use crate::sandbox;
use crate::values::{self, AgentCommand, OfAgent};

/// Start a runtime that hosts agents.
#[derive(Debug, Args)]
pub struct Serve {
    /// Read options from this TOML file. Keys are long options without `--`; the command
    /// line and environment variables take precedence.
    #[arg(long, value_name = "FILE", env = "ARCP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Check the options and the files they name, then exit. Opens no port and no store.
    #[arg(long, conflicts_with = "background")]
    pub check: bool,
    /// Run in the background and print where the log is. Stop it with `arcp stop`.
    #[arg(long, conflicts_with = "stdio")]
    pub background: bool,
    /// Leave the terminal: what `--background` starts.
    #[arg(long, hide = true)]
    pub detached: bool,
    #[command(flatten)]
    pub listening: Listening,
    #[command(flatten)]
    pub tls: Tls,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub agents: Agents,
    #[command(flatten)]
    pub jobs: Jobs,
    #[command(flatten)]
    pub keeping: Keeping,
    #[command(flatten)]
    pub telling: Telling,
    #[command(flatten)]
    pub observing: Observing,
    #[command(flatten)]
    pub provisioning: Provisioning,
    #[command(flatten)]
    pub handing_over: HandingOver,
}

/// Where connections come in, and how they are spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
pub struct Listening {
    /// The address to listen on: HOST:PORT, ws://HOST:PORT, wss:// (TLS), h2:// or h2c://
    /// (HTTP/2 with or without TLS), quic://HOST:PORT, unix:///PATH or stdio:. May be
    /// repeated or separated by commas. Without a host: loopback only. Without a scheme:
    /// TLS if there is a certificate. Port 0: any free port. A Unix socket admits this
    /// user only; append ?mode=660 for its group, ?mode=666 for everybody.
    #[arg(long, default_value = "127.0.0.1:7777", value_name = "PLACE", value_delimiter = ',', env = "ARCP_LISTEN")]
    pub listen: Vec<Listen>,
    /// The URL path of WebSocket and HTTP/2 sessions.
    #[arg(long, default_value = "/arcp", value_parser = values::path)]
    pub path: String,
    /// Serve the parent process on stdin and stdout, and exit when stdin ends or at a
    /// signal. Same as `--listen stdio:`.
    #[arg(long, conflicts_with = "listen")]
    pub stdio: bool,
    /// Use tokio for sockets instead of threads. Peers see no difference; HTTP/2 and QUIC
    /// always use it.
    #[arg(long)]
    pub tokio: bool,
    /// Accept this name in the HTTP `Host` header too; may be repeated.
    #[arg(long = "allow-host", value_name = "HOST", value_parser = values::host_name)]
    pub allow_hosts: Vec<String>,
    /// Let web pages of this origin connect; may be repeated.
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = values::origin)]
    pub allow_origins: Vec<String>,
    /// Adapt frames to published clients: `auto` recognises them, `off` adapts nothing,
    /// a name treats every client as that one.
    #[arg(long, default_value = "auto", value_parser = values::compat())]
    pub compat: Compat,
    /// The heartbeat interval; 0 turns heartbeats off.
    #[arg(long, default_value = "30s", value_name = "SPAN", value_parser = values::heartbeat)]
    pub heartbeat: Duration,
    /// How long a session can be resumed after its connection is lost. Acknowledged
    /// events are kept as long.
    #[arg(long, default_value = "10m", value_name = "SPAN", value_parser = values::resume_window)]
    pub resume_window: Duration,
    /// How long a session of the open family lasts before its client must authenticate
    /// again [default: no limit].
    #[arg(long, value_name = "SPAN", value_parser = values::session_lease)]
    pub session_lease: Option<Duration>,
}

/// How connections are encrypted, and who clients with certificates are.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct Tls {
    /// The certificate chain of this server (PEM); enables TLS. Read again at SIGHUP.
    /// `arcp tls self-signed` makes one to try.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "stdio")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authenticate clients by certificates that these authorities issued (PEM), scheme
    /// `mtls`. The principal is the certificate's only URI, or else its only DNS name.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Certificate revocation lists of those authorities (PEM), one for each issuer in a
    /// chain. Read again at SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_client_ca")]
    pub tls_client_crl: Option<PathBuf>,
    /// Map certificates to principals and refuse all others. A line is a certificate's
    /// sha256:HEX, uri:URI or dns:NAME and a principal: `uri:spiffe://example/alice alice`.
    /// Read again at SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_client_ca")]
    pub tls_client_names: Option<PathBuf>,
    /// Allow other machines to connect, and spans to be sent to them, without TLS. Anyone
    /// on the network path can read tokens.
    #[arg(long)]
    pub insecure: bool,
}

/// Who may come in, and with which credential.
#[derive(Debug, Args)]
#[command(next_help_heading = "Authentication")]
pub struct Access {
    /// Accept this bearer token for this principal; may be repeated. Other users of this
    /// machine can read it in the process list: prefer --tokens [default: a generated
    /// token, stored where this user's commands find it].
    #[arg(long = "token", value_name = "TOKEN=PRINCIPAL")]
    pub tokens: Vec<String>,
    /// Accept this bearer token for `--principal`.
    #[arg(long, value_name = "TOKEN", requires = "principal")]
    pub bearer: Option<String>,
    /// The principal of `--bearer`.
    #[arg(long, value_name = "NAME", requires = "bearer")]
    pub principal: Option<String>,
    /// Accept the bearer tokens in this file, which `arcp token` manages. Read again
    /// whenever it changes.
    #[arg(long = "tokens", value_name = "FILE", env = "ARCP_TOKENS")]
    pub token_file: Option<PathBuf>,
    /// Accept JWTs whose `iss` is this. The principal is ISSUER#SUBJECT.
    #[arg(long, value_name = "ISSUER", requires = "keys_of_jwts", requires = "audience")]
    pub jwt_issuer: Option<Issuer>,
    /// The public keys of that issuer: PEM, or a JSON Web Key Set. Read again whenever
    /// the file changes.
    #[arg(long, value_name = "FILE", group = "keys_of_jwts", requires = "jwt_issuer")]
    pub jwt_keys: Option<PathBuf>,
    /// The URL of that issuer's JSON Web Key Set: https, or http on this machine. Fetched
    /// again when a token names an unknown key.
    #[arg(long, value_name = "URL", value_parser = values::endpoint, group = "keys_of_jwts", requires = "jwt_issuer")]
    pub jwt_jwks: Option<Endpoint>,
    /// Access tokens of OAuth 2.0.
    #[command(flatten)]
    pub access_tokens: AccessTokens,
    /// Accept delegation tokens that `arcp token mint` signed with this key. `arcp token
    /// key` makes one.
    #[arg(long, value_name = "FILE", requires = "audience")]
    pub delegation_key: Option<PathBuf>,
    /// This runtime's name in the `aud` of JWTs and delegation tokens. Tokens for another
    /// audience are refused.
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,
    /// Admit clients without a credential. Anyone who reaches the port can run agents.
    #[arg(long)]
    pub anonymous: bool,
}

/// Which agents are hosted, and what they can do besides printing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Agents")]
pub struct Agents {
    /// Host a shell command as an agent; may be repeated.
    #[arg(long = "agent", value_name = "NAME[@VERSION]=COMMAND", value_parser = values::agent_command)]
    pub commands: Vec<AgentCommand>,
    /// Host every executable in this folder as an agent named after the file without its
    /// extension. `NAME.toml` beside it configures the agent. Changes take effect at once.
    #[arg(long = "agents", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Host the sample agents.
    #[arg(long)]
    pub samples: bool,
    /// Let clients crash this program with the sample `stepper` and its input `crash_at`,
    /// to try a restart.
    #[arg(long, requires = "samples")]
    pub samples_may_crash: bool,
    /// The output format of an agent: text, jsonl, claude-json or codex-json; may be
    /// repeated [default: text].
    #[arg(long = "format", value_name = "NAME=FORMAT", value_parser = values::agent_format)]
    pub formats: Vec<OfAgent<Format>>,
    /// How many jobs of an agent run at once; others are queued, fairly by principal. May
    /// be repeated.
    #[arg(long = "concurrency", value_name = "NAME=N", value_parser = values::agent_concurrency)]
    pub concurrency: Vec<OfAgent<NonZeroU32>>,
    /// Pass this variable to agents, with this value or the one it has here; may be
    /// repeated. Agents always get PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE, LC_*,
    /// TZ, TMPDIR and TERM, PYTHONUNBUFFERED=1, and variables about their job.
    #[arg(long = "agent-env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Answer this agent on its stdin: one line for each line it prints with an `id`. May
    /// be repeated.
    #[arg(long = "answered", value_name = "NAME")]
    pub answered: Vec<String>,
    /// Allow interrupts of this agent: it reads them on stdin and prints when it resumes.
    /// Implies --answered; may be repeated.
    #[arg(long = "interrupts", value_name = "NAME")]
    pub interrupts: Vec<String>,
    /// Let clients send input to this agent's running jobs: it reads each piece as a line
    /// on stdin. Implies --answered; may be repeated.
    #[arg(long = "takes-input", value_name = "NAME")]
    pub takes_input: Vec<String>,
    /// Let people request checkpoints from this agent: it reads the request on stdin and
    /// prints a checkpoint. Implies --restartable and --answered; may be repeated.
    #[arg(long = "checkpoints", value_name = "NAME")]
    pub checkpoints: Vec<String>,
    /// Declare that this agent has no effects besides its output: its jobs start before
    /// they are on the disk, and run again if the runtime exits. May be repeated.
    #[arg(long = "pure", value_name = "NAME")]
    pub pure: Vec<String>,
    /// Run this agent on a pseudo-terminal, so that it does not buffer its output. stderr
    /// counts as stdout; TERM=dumb and NO_COLOR=1 are set. May be repeated.
    #[arg(long = "pty", value_name = "NAME")]
    pub pty: Vec<String>,
    /// Restart this agent from its last checkpoint if the runtime exits while its job
    /// runs; may be repeated.
    #[arg(long = "restartable", value_name = "NAME")]
    pub restartable: Vec<String>,
    /// Fail jobs of this agent that print nothing for two heartbeat intervals; may be
    /// repeated.
    #[arg(long = "require-heartbeat", value_name = "NAME")]
    pub require_heartbeat: Vec<String>,
}

/// What principals may do, what jobs may do, and how jobs are ended.
#[derive(Debug, Args)]
#[command(next_help_heading = "Jobs and authority")]
pub struct Jobs {
    /// Let this principal list and watch everybody's jobs, but change none; may be
    /// repeated.
    #[arg(long = "auditor", value_name = "PRINCIPAL")]
    pub auditors: Vec<String>,
    /// Let this principal list, watch, cancel, interrupt and hand over everybody's jobs,
    /// and answer their questions; may be repeated. The generated token is an operator's.
    #[arg(long = "operator", value_name = "PRINCIPAL")]
    pub operators: Vec<String>,
    /// Restrict who may submit which agents, watch whose jobs and use how much, by this
    /// TOML file. Read again at SIGHUP. `arcp policy` checks and explains it.
    #[arg(long, value_name = "FILE", env = "ARCP_POLICY")]
    pub policy: Option<PathBuf>,
    /// The most that any job is granted: a grant such as fs.read=/srv/**, an amount such
    /// as cost.budget=USD:5, a file, or JSON; may be repeated. A job that requests no
    /// lease gets all of it.
    #[arg(long = "lease-ceiling", value_name = "NAMESPACE=PATTERN|LEASE")]
    pub lease_ceilings: Vec<String>,
    /// The longest lease that any job is granted.
    #[arg(long, value_name = "SPAN", value_parser = values::seconds, requires = "lease_ceilings")]
    pub longest_lease: Option<NonZeroU32>,
    /// Require this trust level (untrusted, constrained, trusted or privileged) for an
    /// operation, in addition to a lease: privileged:tool.call=deploy.*; may be repeated.
    /// Operators elevate jobs to privileged.
    #[arg(long, value_name = "LEVEL:NAMESPACE=PATTERN")]
    pub needs_trust: Vec<String>,
    /// Percentage of the free agent slots, jobs and queued inputs that one principal may
    /// use; 100 removes the bound.
    #[arg(long, default_value_t = 25, value_name = "PERCENT", value_parser = values::percent)]
    pub principal_share: u32,
    /// Jobs per second that one principal may submit, and the size of a burst
    /// [default: no limit].
    #[arg(long, value_name = "N", value_parser = values::rate)]
    pub submit_rate: Option<NonZeroU32>,
    /// Have the kernel confine agents' programs to their jobs' leases: `auto` as far as
    /// this kernel can, `required` to refuse what it cannot. A job without a lease gets
    /// only what every program needs to start.
    #[arg(long, value_enum, default_value_t = sandbox::Confinement::Off, value_name = "auto|required|off", hide_possible_values = true)]
    pub sandbox: sandbox::Confinement,
    /// Paths that every confined program may use besides its lease: a TOML file with the
    /// lists `read` and `write`. `default = false` drops the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub sandbox_base: Option<PathBuf>,
    /// How long a cancelled agent has to stop before it is killed [default: 30s, 5s with
    /// --samples].
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub cancel_grace: Option<Duration>,
    /// How long running jobs have to finish after SIGTERM, SIGINT or SIGHUP, or `forever`.
    /// A second signal stops them at once. Meanwhile clients can list, watch and cancel
    /// jobs. The exit code is 9 if some did not finish.
    #[arg(long, alias = "drain-grace", default_value = "10s", value_name = "SPAN|forever", value_parser = values::drain)]
    pub drain: Drain,
}

/// What is kept, where and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub struct Keeping {
    /// The database file of jobs and sessions, or `memory`, which does not survive a
    /// restart [default: a file in the state directory, named after the port or Unix
    /// socket; memory if only stdio or port 0 is served].
    #[arg(long, value_name = "FILE|memory")]
    pub store: Option<PathBuf>,
    /// Do not wait for the disk at each commit. After a power failure, clients may have
    /// seen what the store has lost.
    #[arg(long)]
    pub relaxed: bool,
    /// How long finished jobs are kept, within --store-max and 16,384 per principal. The
    /// unit is required [default: 30d; 1h in memory].
    #[arg(long, value_name = "SPAN", value_parser = values::kept_jobs)]
    pub keep: Option<Duration>,
    /// How long audit entries are kept, at least one minute and at most 65,536 entries.
    /// The unit is required.
    #[arg(long, default_value = "90d", value_name = "SPAN", value_parser = values::kept_audit)]
    pub keep_audit: Duration,
    /// Bytes of events in the store: at least 1MiB, and at most 1 GiB of one job. The jobs
    /// that finished first are deleted first.
    #[arg(long, default_value = "8GiB", value_name = "SIZE", value_parser = values::size)]
    pub store_max: u64,
    /// How long artifacts are kept if their client does not say, at most 30 days; 0 turns
    /// artifacts off.
    #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = values::span)]
    pub keep_artifacts: Duration,
    /// Bytes of all artifacts, stored beside the database. Each principal has a share.
    #[arg(long, default_value = "4GiB", value_name = "SIZE", value_parser = values::size)]
    pub artifacts_max: u64,
}

/// Who is notified of ended jobs and of questions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Notifications")]
pub struct Telling {
    /// Run this shell command for each finished job; may be repeated. It gets a JSON
    /// object on stdin, and ARCP_JOB_ID, ARCP_STATUS and ARCP_AGENT.
    #[arg(long, value_name = "COMMAND")]
    pub on_end: Vec<String>,
    /// Run this shell command, at least once, for each question that a job asks people;
    /// may be repeated. It gets a JSON object on stdin, and ARCP_PROMPT_ID,
    /// ARCP_PROMPT_KIND, ARCP_JOB_ID and ARCP_AGENT, and has one minute.
    #[arg(long, value_name = "COMMAND")]
    pub on_prompt: Vec<String>,
    /// POST a signed request, at least once, for each finished job; may be repeated. Its
    /// `webhook-id` is the job's id. Over http:// everybody on the way can read the
    /// results.
    #[arg(long = "webhook", value_name = "URL", value_parser = values::webhook)]
    pub webhooks: Vec<String>,
    /// Trust these authorities or certificates of webhooks, a PEM file [default: the
    /// system's authorities].
    #[arg(long, value_name = "FILE", requires = "webhooks")]
    pub webhook_ca: Option<PathBuf>,
    /// How long failed notifications of a finished job are retried; then they are dropped,
    /// which the log says.
    #[arg(long, default_value = "1d", value_name = "SPAN", value_parser = values::some_span)]
    pub tell_for: Duration,
    /// The key that signs webhooks by HMAC-SHA256: whsec_ and base64, or text of at least
    /// 16 bytes.
    #[arg(long, value_name = "SECRET", env = "ARCP_WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<String>,
}

/// What operators can see.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs, metrics and recordings")]
pub struct Observing {
    /// The format of the log: text, or one JSON object per line.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "text|json", hide_possible_values = true)]
    pub log_format: LogFormat,
    /// The log level: off, error, warn, info or debug; per event too, such as
    /// info,refused=off,job=debug. Events are runtime, refused, decision, policy, session,
    /// job, store and artifact.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ARCP_LOG")]
    pub log: Filter,
    /// Require the token in this file for `/metrics` [default: anyone on this machine].
    /// Operators and auditors can read it from anywhere.
    #[arg(long, value_name = "FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// Send spans of sessions, jobs and operations to this OTLP/HTTP collector, such as
    /// http://localhost:4318. Another machine needs https:// or --insecure.
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp: Option<String>,
    /// Write a recording for `arcp replay`. It contains tokens and everything that clients
    /// send: keep it secret.
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
