//! `arcp serve --sandbox`, and the step with which sandboxed programs are started.

use std::ffi::OsString;

use arcp_host::sandbox::{Base, Kernel, Mode, Sandbox, become_program};
use arcp_host::server_log::log;
use clap::ValueEnum;

use crate::args::Serve;
use crate::exit::{Exit, Failure};

/// The running executable, even if its file was replaced since, and the subcommand of the step.
const STEP: [&str; 2] = ["/proc/self/exe", "exec"];

/// Whether agents are confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Confinement {
    /// Confine them as far as the kernel can.
    Auto,
    /// Refuse to start what cannot be confined.
    Required,
    /// Do not confine them.
    Off,
}

/// Enter a sandbox and become a program.
#[derive(Debug, clap::Args)]
pub struct Exec {
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// The sandbox that the options ask for, if any.
pub fn of(args: &Serve) -> Result<Option<Sandbox>, Failure> {
    let mode = match args.jobs.sandbox {
        Confinement::Auto => Mode::Auto,
        Confinement::Required => Mode::Required,
        Confinement::Off if args.jobs.sandbox_base.is_some() => {
            return Err(Failure::usage("--sandbox-base: nothing is confined: give --sandbox auto or required"));
        }
        Confinement::Off => return Ok(None),
    };
    let base = match &args.jobs.sandbox_base {
        None => Base::default(),
        Some(file) => {
            Base::open(file).map_err(|error| Failure::usage(format!("--sandbox-base {}: {error}", file.display())))?
        }
    };
    let refused = |error| Failure::new(Exit::Failed, format!("--sandbox: {error}; or give --sandbox auto"));
    Sandbox::new(mode, Kernel::of_this_machine(), base, &STEP).map(Some).map_err(|error| refused(error.to_string()))
}

/// Logs what the sandbox enforces, if there is one.
pub fn tell(args: &Serve) {
    match args.jobs.sandbox {
        Confinement::Auto | Confinement::Required => {
            log(format_args!("arcp: sandbox: {}", Kernel::of_this_machine()));
        }
        Confinement::Off => {}
    }
}

/// Becomes the program, or returns why it cannot.
pub fn exec(args: &Exec) -> Result<Exit, Failure> {
    let Some((program, arguments)) = args.words.split_first() else {
        return Err(Failure::usage("exec: no program is given"));
    };
    Err(Failure::from(become_program(program, arguments)))
}
