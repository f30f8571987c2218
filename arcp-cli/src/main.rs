//! `arcp`: serve agents, submit jobs, watch them.

mod adapter;
mod agents;
mod answer;
mod args;
mod artifact;
mod asked;
mod asking;
mod attach;
mod audit;
mod background;
mod bridge;
mod caller;
mod cancel;
mod checkpoint;
mod completions;
mod config_file;
mod connect;
mod counts;
mod courier;
mod credentials;
mod delegation;
mod deliver;
mod demo;
mod doctor;
mod drain;
mod ends;
mod exit;
mod filter;
mod follow;
mod graph;
mod handoff;
mod hints;
mod hosting;
mod inbox;
mod interrupt;
mod job_token;
mod lease;
mod list;
mod login;
mod logs;
mod man;
mod notify;
mod oauth2;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod parent;
mod places;
mod policy;
mod provisioner;
mod question;
mod replay;
mod result;
mod retry;
mod runtimes;
mod sandbox;
mod schedule;
mod serve;
mod service;
mod sessions;
mod show;
mod state;
mod stop;
mod store;
mod submit;
mod take;
mod telemetry;
mod telling;
mod times;
mod tls;
mod token;
mod top;
mod tree;
mod values;
mod wait;
mod watch;
mod webhook;
mod workflow;

use std::process::ExitCode;
use std::time::Duration;

use arcp_host::server_log::{flush, log};
use clap::FromArgMatches as _;

use crate::exit::{Exit, Failure};

/// An event consists of many small allocations that another thread frees: with this allocator they cost a fifth of
/// what they cost with that of glibc. It uses no huge pages (`no_thp`): a huge page is cleared as a whole when a small
/// part of it is touched, and the program held a quarter more memory with them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = parse().and_then(run);
    let exit = result.unwrap_or_else(|failure| {
        // `log` and not `say`: the stderr of a server that stops may not be read.
        for (at, line) in failure.message.lines().enumerate() {
            log(format_args!("{}{line}", if at == 0 { "arcp: " } else { "" }));
        }
        failure.exit
    });
    bridge::flush(Duration::from_secs(1));
    flush(Duration::from_secs(1));
    exit.into()
}

/// Parses the command line, with what a configuration file adds to it.
fn parse() -> Result<args::Args, Failure> {
    let (mut command, given) = config_file::added_to(args::command(), std::env::args_os().collect())?;
    let matches = command.try_get_matches_from_mut(&given);
    let matches = matches.unwrap_or_else(|error| hints::added_to(error, &command, &given).exit());
    Ok(args::Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit()))
}

/// Runs the command.
fn run(args: args::Args) -> Result<Exit, Failure> {
    match args.command {
        args::Command::Version => replay::version(),
        args::Command::Serve(args) => serve::run(args),
        args::Command::Submit(args) => submit::run(args),
        args::Command::Retry(args) => retry::run(args),
        args::Command::Watch(args) => watch::run(args),
        args::Command::Attach(args) => attach::run(&args),
        args::Command::Wait(args) => wait::run(&args),
        args::Command::List(args) => list::run(args),
        args::Command::Top(args) => top::run(&args),
        args::Command::Show(args) => show::run(&args),
        args::Command::Tree(args) => tree::run(&args),
        args::Command::Result(args) => result::run(&args),
        args::Command::Logs(args) => logs::run(&args),
        args::Command::Cancel(args) => cancel::run(args),
        args::Command::Interrupt(args) => interrupt::run(args),
        args::Command::JobToken(args) => job_token::run(&args),
        args::Command::Handoff(args) => handoff::run(args),
        args::Command::Take(args) => take::run(&args),
        args::Command::Inbox(args) => inbox::run(&args),
        args::Command::Policy(asked) => policy::run(&asked),
        args::Command::Audit(args) => audit::run(&args),
        args::Command::Answer(args) => answer::run(&args),
        args::Command::Approve(args) => answer::approve(&args),
        args::Command::Deny(args) => answer::deny(args),
        args::Command::Extend(args) => answer::extend(&args),
        args::Command::Revoke(args) => answer::revoke(args),
        args::Command::Agents(args) => agents::run(&args),
        args::Command::Runtimes(args) => runtimes::run(&args),
        args::Command::Stop(args) => stop::run(&args),
        args::Command::Lease(asked) => lease::run(&asked),
        args::Command::Doctor(args) => doctor::run(&args),
        args::Command::Store(args) => store::run(args),
        args::Command::Replay(args) => replay::run(&args),
        args::Command::Demo => demo::run(),
        args::Command::Exec(args) => sandbox::exec(&args),
        args::Command::Tls(args) => tls::run(&args),
        args::Command::Login(args) => login::login(&args),
        args::Command::Logout(args) => login::logout(&args),
        args::Command::Token(asked) => token::run(asked),
        args::Command::Sessions(asked) => sessions::run(&asked),
        args::Command::Artifact(asked) => artifact::run(&asked),
        args::Command::Schedule(asked) => schedule::run(&asked),
        args::Command::Workflow(asked) => workflow::run(asked),
        args::Command::Checkpoint(asked) => checkpoint::run(asked),
        args::Command::Completions(args) => completions::run(&args),
        args::Command::Man(args) => man::run(&args),
    }
}
