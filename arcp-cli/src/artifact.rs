//! `arcp artifact`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arcp_blocking::{Client, ClientError};
use arcp_host::replace_file::replace_file;
use arcp_host::stderr::say;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::model::artifact::{ArtifactRef, BlobDigest, MediaType, PutArtifact};
use arcp_proto::model::feature::Feature;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::output::{self, Cell, Printing, Row};
use crate::times::{local, now};
use crate::values;

const HEADER: [&str; 4] = ["ARTIFACT", "TYPE", "SIZE", "EXPIRES"];
/// The largest file that is read; runtimes of ours take 1 MiB at once.
const MOST: u64 = 64 << 20;

/// Leave files with a runtime for a while, and fetch them from anywhere.
#[derive(Debug, clap::Subcommand)]
pub enum Artifact {
    /// Leave a file with the runtime; prints what it is known by.
    Put(Put),
    /// Fetch a file that was left, to stdout or to a file.
    Get(Get),
    /// Let go of files before their time.
    Rm(Rm),
}

/// Leave a file.
#[derive(Debug, clap::Args)]
pub struct Put {
    /// The file; `-` is stdin.
    file: PathBuf,
    /// What it is.
    #[arg(long = "type", default_value = "application/octet-stream", value_name = "MEDIA-TYPE")]
    media_type: MediaType,
    /// What it is to be known by [default: the runtime says].
    #[arg(long, value_name = "ID", value_parser = id)]
    id: Option<WireId>,
    /// For how long, at most as long as the runtime allows [default: the runtime says].
    #[arg(long, value_name = "SPAN", value_parser = values::kept)]
    keep: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    printing: Printing,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Fetch a file.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// What it is known by.
    #[arg(value_name = "ARTIFACT", value_parser = id)]
    id: WireId,
    /// Where to write it [default: stdout]. A file that is there is replaced once all
    /// of it has come.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

/// Let go of files.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// What they are known by.
    #[arg(required = true, value_name = "ARTIFACT", value_parser = id)]
    ids: Vec<WireId>,
    /// The runtime.
    #[command(flatten)]
    place: Where,
}

fn id(text: &str) -> Result<WireId, String> {
    WireId::new(text).ok_or_else(|| format!("the id of an artifact has 1 to {} bytes", WireId::MAX))
}

/// Does what was asked.
pub fn run(asked: &Artifact) -> Result<Exit, Failure> {
    match asked {
        Artifact::Put(args) => put(args),
        Artifact::Get(args) => get(args),
        Artifact::Rm(args) => rm(args),
    }
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
    let data = read(&args.file).map_err(|error| unusable(&error))?;
    if data.len() as u64 > MOST {
        return Err(unusable(&format_args!("it has more than {MOST} bytes, which no runtime takes at once")));
    }
    let (size, digest) = (Some(data.len() as u64), Some(BlobDigest::of(&data)));
    let put = PutArtifact {
        id: args.id.clone(),
        size,
        digest,
        retain: args.keep,
        ..PutArtifact::new(args.media_type.clone(), data)
    };
    let kept = connect(&args.place)?.put_artifact(put).map_err(|error| {
        let Failure { message, exit } = error.into();
        Failure::new(exit, format!("{}: {message}", args.file.display()))
    })?;
    // Clocks may be apart by a little.
    let least = args.keep.map(|asked| now().plus(asked.saturating_sub(asked / 100)));
    if least.is_some_and(|least| kept.expires_at < least) {
        say(format_args!("arcp: the runtime keeps it for less than --keep asks: until {}", local(kept.expires_at)));
    }
    output::rows(args.printing, &HEADER, &[row(&kept)])?;
    Ok(Exit::Success)
}

/// All of a file, or as much as shows that it is too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    match path.as_os_str() == "-" {
        true => io::stdin().lock().take(MOST + 1).read_to_end(&mut data)?,
        false => File::open(path)?.take(MOST + 1).read_to_end(&mut data)?,
    };
    Ok(data)
}

fn get(args: &Get) -> Result<Exit, Failure> {
    let fetched = connect(&args.place)?.fetch_artifact(args.id.clone()).map_err(|error| gone(error, &args.id))?;
    if BlobDigest::of(&fetched.data) != fetched.artifact.digest {
        return Err(Failure::new(Exit::Failed, format!("{}: what came is not what was left", args.id)));
    }
    match &args.file {
        Some(file) => replace_file(file, 0o666, &fetched.data)
            .map_err(|error| Failure::new(Exit::Failed, format!("--file {}: {error}", file.display())))?,
        None => io::stdout().lock().write_all(&fetched.data)?,
    }
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

fn row(kept: &ArtifactRef) -> Row {
    let id = kept.id.as_str().to_string();
    let cells = [id.as_str(), kept.media_type.as_str(), &kept.size.to_string(), &local(kept.expires_at)];
    let mut json = Object::new();
    json.str("artifact_id", &id)
        .str("uri", &kept.uri())
        .str("media_type", kept.media_type.as_str())
        .u64("size", kept.size)
        .display("sha256", kept.digest)
        .display("expires_at", kept.expires_at);
    Row { cells: cells.map(Cell::from).into(), id, json: json.done() }
}
