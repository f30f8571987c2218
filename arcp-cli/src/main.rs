//! `arcp`: serve agents, submit jobs, watch them.

mod args;
mod demo;
mod exit;
mod follow;
mod jobs;
mod replay;
mod serve;
mod state;

use std::process::ExitCode;

use arcp_host::stderr::say;
use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = match args.command {
        args::Command::Version => replay::version(),
        args::Command::Serve(args) => serve::run(args),
        args::Command::Submit(args) => jobs::submit(args),
        args::Command::Watch(args) => jobs::watch(args),
        args::Command::List(args) => jobs::list(args),
        args::Command::Cancel(args) => jobs::cancel(args),
        args::Command::Replay(args) => replay::run(&args),
        args::Command::Demo => demo::run(),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                let lines: Vec<String> = failure.message.lines().map(follow::visible).collect();
                say(format_args!("arcp: {}", lines.join("\n")));
            }
            failure.exit.into()
        }
    }
}
