//! `arcp completions`.

use std::io::{self, Write as _};

use clap_complete::{Shell, generate};

use crate::args;
use crate::exit::{Exit, Failure};

/// Print shell completions.
///
/// For bash: arcp completions bash > ~/.local/share/bash-completion/completions/arcp
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the completion script of the shell.
pub fn run(args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut args::command(), "arcp", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Success)
}
