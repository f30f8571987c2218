//! `arcp`: serve agents, submit jobs, watch them.

mod args;
mod connect;
mod demo;
mod exit;
mod follow;
mod jobs;
mod list;
mod replay;
mod runtimes;
mod serve;
mod state;
mod store;
mod values;

use std::process::ExitCode;
use std::time::Duration;

use arcp_host::server_log::{flush, log};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = match args.command {
        args::Command::Version => replay::version(),
        args::Command::Serve(args) => serve::run(args),
        args::Command::Submit(args) => jobs::submit(args),
        args::Command::Watch(args) => jobs::watch(args),
        args::Command::List(args) => list::run(args),
        args::Command::Cancel(args) => jobs::cancel(args),
        args::Command::Runtimes(args) => runtimes::list(&args),
        args::Command::Store(args) => store::run(args),
        args::Command::Replay(args) => replay::run(&args),
        args::Command::Demo => demo::run(),
    };
    let exit = result.unwrap_or_else(|failure| {
        // Not `say`: the stderr of a server that ends is perhaps not read.
        for (at, line) in failure.message.lines().enumerate() {
            log(format_args!("{}{line}", if at == 0 { "arcp: " } else { "" }));
        }
        failure.exit
    });
    flush(Duration::from_secs(1));
    exit.into()
}
