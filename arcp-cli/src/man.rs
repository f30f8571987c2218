//! `arcp man`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::args;
use crate::exit::{Exit, Failure};

/// Print a manual page, or write all of them to a folder.
///
/// To read it: arcp man | man -l -
#[derive(Debug, clap::Args)]
pub struct Manual {
    /// The command to describe [default: the program].
    pub command: Option<String>,
    /// Write the pages of the program and of every command to this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    pub to: Option<PathBuf>,
}

/// Prints a page, or writes all.
pub fn run(args: &Manual) -> Result<Exit, Failure> {
    let mut program = args::command();
    program.build();
    if let Some(folder) = &args.to {
        write_all(&program, folder).map_err(|error| Failure::usage(format!("--to {}: {error}", folder.display())))?;
        return Ok(Exit::Success);
    }
    let page = match &args.command {
        None => page(program.clone())?,
        Some(named) => {
            let command = program.find_subcommand(named).cloned().ok_or_else(|| unknown(&program, named))?;
            page(command)?
        }
    };
    io::stdout().write_all(&page)?;
    Ok(Exit::Success)
}

fn unknown(program: &Command, named: &str) -> Failure {
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<&str> = shown.map(Command::get_name).collect();
    Failure::usage(format!("no command is called `{named}`: there are {}", names.join(", ")))
}

fn write_all(program: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("arcp.1"), page(program.clone())?)?;
    let shown = program.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set());
    for command in shown {
        fs::write(folder.join(format!("arcp-{}.1", command.get_name())), page(command.clone())?)?;
    }
    Ok(())
}

/// The page of a command. Its name is that of its file, such as `arcp-ls`.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let name = command.get_bin_name().unwrap_or("arcp").replace(' ', "-");
    let mut page = Vec::new();
    Man::new(command).title(name.to_uppercase()).render(&mut page)?;
    Ok(page)
}
