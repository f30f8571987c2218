//! `arcp job-token`, and reading tokens of jobs.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use arcp_blocking::{Client, ClientError, Job, JobTokens};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job_token::{ExchangeToken, JobToken};

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure, of_refusal};
use crate::list::find;
use crate::tls;

/// The most bytes that are read; every token is shorter.
const LONGEST: u64 = 4096;

/// Print a token with which `arcp watch --job-token` follows the rest of a job in any
/// session of the same principal, and can cancel it.
///
/// It is valid as long as the job is kept. Each job has a few; a new one replaces the
/// oldest.
#[derive(Debug, clap::Args)]
pub struct OfJob {
    /// The job.
    pub job: String,
    /// Write it to this file, readable by this user only, instead of stdout.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Has the runtime issue a token.
pub fn run(args: &OfJob) -> Result<Exit, Failure> {
    if let Some(file) = &args.file {
        // If the file cannot be written, no token is issued.
        tls::can_write(file)?;
    }
    let client = Chosen::of(&args.place)?.connect()?;
    check(&client)?;
    let job = find(&client, &args.job)?;
    let issued = JobTokens::of(&client).issue(job.clone()).map_err(|error| refused(error, job.as_str()))?;
    let text = format!("{}\n", issued.token.secret().expose());
    match &args.file {
        Some(file) => tls::write(file, &text, 0o600)?,
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(Exit::Success)
}

/// Redeems the token in a file, or on stdin (`-`): gives the job, with its events since the token was issued.
pub fn redeem(client: &Client, file: &Path) -> Result<Job, Failure> {
    let token = read(file)?;
    check(client)?;
    let exchange = |after| JobTokens::of(client).exchange(ExchangeToken { token: token.clone(), after });
    let mut job = exchange(None);
    if let Err(ClientError::Refused(refusal)) = &job
        && let Some(kept) = refusal.history_after()
    {
        say(format_args!("arcp: the first {kept} events of this job are no longer kept"));
        job = exchange(Some(kept));
    }
    job.map_err(|error| refused(error, token.job().as_str()))
}

fn read(file: &Path) -> Result<JobToken, Failure> {
    let shown = if file == Path::new("-") { "stdin".to_string() } else { file.display().to_string() };
    let mut text = String::new();
    let read = match shown.as_str() {
        "stdin" => std::io::stdin().take(LONGEST).read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::new(Exit::Failed, format!("{shown}: {error}")))?;
    JobToken::parse(text.trim()).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!("{shown} has no token of a job: `arcp job-token JOB --file {shown}` makes one"),
        )
    })
}

fn check(client: &Client) -> Result<(), Failure> {
    if client.welcome().features.has(Feature::JobTokens) {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "this runtime issues no tokens of jobs: `arcp watch JOB` follows a job by its id"))
}

fn refused(error: ClientError, job: &str) -> Failure {
    let ClientError::Refused(refusal) = &error else {
        return error.into();
    };
    let advice = if refusal.code == ErrorCode::JobNotFound { ": `arcp ls` shows what there is" } else { "" };
    Failure::new(of_refusal(refusal), format!("{job}: {}{advice}", visible(&refusal.message)))
}
