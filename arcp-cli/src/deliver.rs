//! Delivers the result of a job to stdout or to a file, also if the result is an artifact.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use arcp_blocking::artifacts::{self, TransferError};
use arcp_blocking::{Client, ClientError};
use arcp_host::stderr::{say, visible};
use arcp_proto::client::ResultData;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::ArtifactRef;

use crate::exit::{Exit, Failure};
use crate::follow::visible_lines;
use crate::times::local;

/// Prints a result, or writes it to a file. If the result is an artifact, a terminal shows its id; a pipe or a file
/// gets its bytes.
pub fn deliver(client: &Client, result: &ResultData, file: Option<&Path>) -> Result<(), Failure> {
    match (result, file) {
        (ResultData::Stored(stored), None) if io::stdout().is_terminal() => {
            writeln!(io::stdout(), "{}", line_of(stored))?;
        }
        (ResultData::Stored(stored), None) => {
            artifacts::stream(client, &stored.id, &mut io::stdout().lock()).map_err(|error| lost(error, stored))?;
            io::stdout().flush()?;
        }
        (ResultData::Stored(stored), Some(file)) => {
            let fetched = fetch_to(client, &stored.id, file);
            fetched.map_err(|error| error.told("--save", file, |error| lost(error, stored)))?;
        }
        (ResultData::Inline(_) | ResultData::Streamed { .. }, Some(file)) => {
            let unusable = |error: io::Error| Failure::new(Exit::Failed, format!("--save {}: {error}", file.display()));
            let mut into = File::create(file).map_err(unusable)?;
            write_result(&mut into, result, false).map_err(unusable)?;
        }
        (ResultData::None, Some(file)) => {
            say(format_args!("arcp: --save {}: the job has no result, nothing was written", file.display()));
        }
        (ResultData::Inline(_) | ResultData::Streamed { .. } | ResultData::None | ResultData::Broken { .. }, None) => {
            print_result(result)?;
        }
        // The caller reports that the result is incomplete.
        (ResultData::Broken { .. }, Some(_)) => {}
    }
    Ok(())
}

/// Prints a result: a string as plain text, anything else as JSON. On a terminal, control characters are made visible.
fn print_result(result: &ResultData) -> io::Result<()> {
    let out = io::stdout();
    let on_terminal = out.is_terminal();
    write_result(&mut out.lock(), result, on_terminal)
}

fn write_result(out: &mut impl io::Write, result: &ResultData, on_terminal: bool) -> io::Result<()> {
    let shown = |text: String| if on_terminal { visible_lines(&text) } else { text };
    match result {
        ResultData::Inline(json) => {
            let text = json.decode::<String>().unwrap_or_else(|_| json.to_string());
            writeln!(out, "{}", shown(text))?;
        }
        ResultData::Streamed { bytes, .. } if on_terminal => {
            // The next output begins on a line of its own.
            let end = if bytes.is_empty() || bytes.ends_with(b"\n") { "" } else { "\n" };
            write!(out, "{}{end}", visible_lines(&String::from_utf8_lossy(bytes)))?;
        }
        ResultData::Streamed { bytes, .. } => out.write_all(bytes)?,
        // These have no bytes to print here.
        ResultData::Stored(_) | ResultData::None | ResultData::Broken { .. } => {}
    }
    out.flush()
}

/// The line that is shown for a result that is an artifact.
pub fn line_of(stored: &ArtifactRef) -> String {
    let ArtifactRef { id, media_type, size, expires_at, .. } = stored;
    let line = format!(
        "artifact {id}: {size} bytes of {}, until {}; `arcp artifact get {id} --file FILE` fetches it",
        media_type.as_str(),
        local(*expires_at),
    );
    visible(&line)
}

fn lost(error: TransferError, stored: &ArtifactRef) -> Failure {
    if let TransferError::Client(ClientError::Refused(refusal)) = &error
        && refusal.code == ErrorCode::JobNotFound
    {
        let id = &stored.id;
        let why = format!(
            "the result is the artifact {id}, which is not kept any more: it was released, or its time is over"
        );
        return Failure::new(Exit::Failed, why);
    }
    failure(error)
}

/// Why an artifact was not written to a file.
pub enum NotFetched {
    /// The file cannot be written.
    File(io::Error),
    /// The artifact cannot be fetched.
    Transfer(TransferError),
}

impl NotFetched {
    /// The failure for a command whose option `option` named the file.
    pub fn told(self, option: &str, file: &Path, of_transfer: impl FnOnce(TransferError) -> Failure) -> Failure {
        match self {
            NotFetched::File(error) => Failure::new(Exit::Failed, format!("{option} {}: {error}", file.display())),
            NotFetched::Transfer(error) => of_transfer(error),
        }
    }
}

/// Fetches an artifact to a file, which is replaced once the artifact is complete. Until then its bytes are in
/// FILE.partial, from which the next fetch continues.
pub fn fetch_to(client: &Client, id: &WireId, file: &Path) -> Result<(), NotFetched> {
    let mut partial = file.to_path_buf().into_os_string();
    partial.push(".partial");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut into = options.open(&partial).map_err(NotFetched::File)?;
    if let Err(error) = artifacts::download(client, id, &mut into) {
        let is_empty = into.metadata().is_ok_and(|about| about.len() == 0);
        if is_empty || matches!(error, TransferError::Damaged(_)) {
            drop(fs::remove_file(&partial));
        }
        return Err(NotFetched::Transfer(error));
    }
    into.sync_all().and_then(|()| fs::rename(&partial, file)).map_err(NotFetched::File)
}

/// The failure for an artifact that could not be transferred.
pub fn failure(error: TransferError) -> Failure {
    match error {
        TransferError::Client(error) => error.into(),
        TransferError::File(_) | TransferError::Damaged(_) => Failure::new(Exit::Failed, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::json::Json;

    use super::*;

    #[test]
    fn a_result_steers_no_terminal_and_is_as_it_is_elsewhere() {
        let text = "a\tb\n\u{1b}[2Jc\n";
        let inline = ResultData::Inline(Json::string(text));
        let streamed = ResultData::Streamed { bytes: text.as_bytes().to_vec(), text: true };
        for (result, end) in [(inline, "\n"), (streamed, "")] {
            for (on_terminal, expected) in [(false, text), (true, "a\tb\n\\u{1b}[2Jc\n")] {
                let mut out = Vec::new();
                write_result(&mut out, &result, on_terminal).expect("memory");
                assert_eq!(String::from_utf8_lossy(&out), format!("{expected}{end}"));
            }
        }
    }
}
