//! `arcp artifact`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_blocking::artifacts::{self, PART_BYTES, TransferError};
use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, WireId};
use arcp_proto::json::Object;
use arcp_proto::model::artifact::{ArtifactRef, ArtifactTerms, MediaType, PutArtifact};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::upload::ArtifactQuery;

use crate::args::Where;
use crate::connect::Chosen;
use crate::deliver::{failure, fetch_to};
use crate::exit::{Exit, Failure};
use crate::list::find;
use crate::output::{self, Cell, Printing, Row};
use crate::times::{local, now};
use crate::values;

const HEADER: [&str; 4] = ["ARTIFACT", "TYPE", "SIZE", "EXPIRES"];
/// The most bytes that are read from stdin: they are held in memory until they are sent.
const MOST: u64 = 64 << 20;
/// Artifacts in one page of a listing.
const PAGE: u64 = 500;

/// Store files with a runtime and fetch them from anywhere.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Artifacts {
    #[command(subcommand)]
    what: Option<Artifact>,
    /// Without a subcommand, lists them.
    #[command(flatten)]
    list: List,
}

/// What is done with files that are left.
#[derive(Debug, clap::Subcommand)]
pub enum Artifact {
    /// List your artifacts, or those of a job's agent.
    #[command(visible_alias = "list")]
    Ls(List),
    /// Store a file and print its artifact id.
    Put(Put),
    /// Write an artifact to stdout or to a file.
    Get(Get),
    /// Delete artifacts.
    Rm(Rm),
}

/// List files.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only artifacts of this job's agent [default: yours and those of your jobs].
    #[arg(long, value_name = "JOB", value_parser = values::id)]
    job: Option<String>,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Leave a file.
#[derive(Debug, clap::Args)]
pub struct Put {
    /// The file, or `-` for stdin.
    file: PathBuf,
    /// Its media type.
    #[arg(long = "type", default_value = "application/octet-stream", value_name = "MEDIA-TYPE")]
    media_type: MediaType,
    /// The artifact id [default: chosen by the runtime].
    #[arg(long, value_name = "ID", value_parser = id)]
    id: Option<WireId>,
    /// How long to keep it, within the runtime's limit [default: the runtime's].
    #[arg(long, value_name = "SPAN", value_parser = values::kept)]
    keep: Option<Duration>,
    /// The output format.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Fetch a file.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// Its id.
    #[arg(value_name = "ARTIFACT", value_parser = id)]
    id: WireId,
    /// Where to write it [default: stdout]. An existing file is replaced only when the
    /// download is complete. Until then it is in FILE.partial, from which the same
    /// command resumes.
    #[arg(short, long, visible_alias = "out", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Let go of files.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// Their ids.
    #[arg(required = true, value_name = "ARTIFACT", value_parser = id)]
    ids: Vec<WireId>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

fn id(text: &str) -> Result<WireId, String> {
    WireId::new(text).ok_or_else(|| format!("the id of an artifact has 1 to {} bytes", WireId::MAX))
}

/// Runs the subcommand.
pub fn run(asked: &Artifacts) -> Result<Exit, Failure> {
    match &asked.what {
        None => list(&asked.list),
        Some(Artifact::Ls(args)) => list(args),
        Some(Artifact::Put(args)) => put(args),
        Some(Artifact::Get(args)) => get(args),
        Some(Artifact::Rm(args)) => rm(args),
    }
}

fn list(args: &List) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let job = args.job.as_deref().map(|job| find(&client, job)).transpose()?;
    let mut query = ArtifactQuery { job, limit: Some(PAGE), ..ArtifactQuery::default() };
    let mut rows = Vec::new();
    loop {
        let page = artifacts::list(&client, query.clone())?;
        rows.extend(page.artifacts.iter().map(|listed| row(&listed.artifact, listed.job)));
        match page.next {
            Some(after) => query.after = Some(after),
            None => break,
        }
    }
    output::rows(args.printing, &HEADER, &rows)?;
    Ok(Exit::Success)
}

fn connect(place: &Where) -> Result<Client, Failure> {
    let client = Chosen::of(place)?.connect()?;
    if !client.welcome().features.has(Feature::Artifacts) {
        return Err(Failure::new(Exit::Failed, "this runtime keeps no artifacts"));
    }
    Ok(client)
}

fn put(args: &Put) -> Result<Exit, Failure> {
    let unusable = |why: &dyn Display| Failure::usage(format!("{}: {why}", args.file.display()));
    let mut source = Source::open(&args.file).map_err(|error| unusable(&error))?;
    let terms = artifacts::terms_of(args.media_type.clone(), &mut source).map_err(|error| unusable(&error))?;
    let terms = ArtifactTerms { id: args.id.clone(), retain: args.keep, ..terms };
    let client = connect(&args.place)?;
    let kept = leave(&client, terms, &mut source).map_err(|error| {
        let Failure { message, exit } = failure(error);
        Failure::new(exit, format!("{}: {message}", args.file.display()))
    })?;
    // The two clocks may differ a little.
    let least = args.keep.map(|asked| now().plus(asked.saturating_sub(asked / 100)));
    if least.is_some_and(|least| kept.expires_at < least) {
        say(format_args!("arcp: the runtime keeps it for less than --keep asks: until {}", local(kept.expires_at)));
    }
    output::rows(args.printing, &HEADER, &[row(&kept, None)])?;
    Ok(Exit::Success)
}

/// Stores it in one frame if it fits, otherwise in parts.
fn leave(client: &Client, terms: ArtifactTerms, source: &mut Source) -> Result<ArtifactRef, TransferError> {
    if terms.size > PART_BYTES as u64 {
        return artifacts::upload(client, terms, source);
    }
    let mut data = Vec::new();
    source.rewind()?;
    source.take(terms.size).read_to_end(&mut data)?;
    let ArtifactTerms { id, media_type, size, digest, retain } = terms;
    let put = PutArtifact { id, size: Some(size), digest: Some(digest), retain, ..PutArtifact::new(media_type, data) };
    Ok(client.put_artifact(put)?)
}

/// The bytes to store: a file, or everything that was read from stdin.
enum Source {
    File(File),
    Stdin(io::Cursor<Vec<u8>>),
}

impl Source {
    fn open(path: &Path) -> io::Result<Source> {
        if path.as_os_str() != "-" {
            return File::open(path).map(Source::File);
        }
        let mut data = Vec::new();
        io::stdin().lock().take(MOST + 1).read_to_end(&mut data)?;
        match data.len() as u64 > MOST {
            true => Err(io::Error::other(format!("more than {MOST} bytes come: leave them as a file"))),
            false => Ok(Source::Stdin(io::Cursor::new(data))),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read(buffer),
            Source::Stdin(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match self {
            Source::File(file) => file.seek(to),
            Source::Stdin(bytes) => bytes.seek(to),
        }
    }
}

fn get(args: &Get) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    let failed = |error: TransferError| match error {
        TransferError::Client(error) => gone(error, &args.id),
        TransferError::File(_) | TransferError::Damaged(_) => failure(error),
    };
    let Some(file) = &args.file else {
        artifacts::stream(&client, &args.id, &mut io::stdout().lock()).map_err(failed)?;
        return Ok(Exit::Success);
    };
    fetch_to(&client, &args.id, file).map_err(|error| error.told("--file", file, failed))?;
    Ok(Exit::Success)
}

fn rm(args: &Rm) -> Result<Exit, Failure> {
    let client = connect(&args.place)?;
    for id in &args.ids {
        client.release_artifact(id.clone())?;
    }
    Ok(Exit::Success)
}

fn gone(error: ClientError, id: &WireId) -> Failure {
    if let ClientError::Refused(refusal) = &error
        && refusal.code == ErrorCode::JobNotFound
    {
        let why = format!("{id}: no such artifact of yours is kept there; its time may be over");
        return Failure::new(Exit::Failed, why);
    }
    error.into()
}

fn row(kept: &ArtifactRef, job: Option<JobId>) -> Row {
    let id = kept.id.as_str().to_string();
    let cells = [id.as_str(), kept.media_type.as_str(), &kept.size.to_string(), &local(kept.expires_at)];
    let mut json = Object::new();
    for (name, value) in &kept.to_json().members().unwrap_or_default().0 {
        json.member(name, value);
    }
    if let Some(job) = job {
        json.display("job_id", job);
    }
    Row { cells: cells.map(Cell::from).into(), id, json: json.done() }
}
