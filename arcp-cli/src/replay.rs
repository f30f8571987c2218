//! `arcp replay` and `arcp version`.

use std::io::Write as _;

use arcp_proto::record::{ReplayError, replay};

use crate::args::Replay;
use crate::exit::{Exit, Failure};

/// Replays a recording.
pub fn run(args: &Replay) -> Result<Exit, Failure> {
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file).map_err(|e| Failure::usage(format!("{shown}: {e}")))?;
    match replay(&text) {
        Ok(done) => {
            let (inputs, outputs) = (done.inputs, done.outputs);
            writeln!(std::io::stdout(), "{shown}: {inputs} inputs gave the same {outputs} outputs, byte for byte")?;
            Ok(Exit::Success)
        }
        Err(error @ (ReplayError::Different { .. } | ReplayError::CutShort { .. })) => {
            Err(Failure::new(Exit::Failed, format!("{shown}: {error}")))
        }
        Err(error) => Err(Failure::usage(format!("{shown}: not a recording that can be replayed: {error}"))),
    }
}

/// Prints the versions.
pub fn version() -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(std::io::stdout(), "arcp {version} (ARCP 1.1, the hello and the open family)")?;
    Ok(Exit::Success)
}
