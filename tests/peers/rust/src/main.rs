//! The published crate `arcp` 2.0.0, as a server, a client and a reader.
//!
//! ```text
//! their-rust serve                      its runtime, on a port of its own
//! their-rust cases URL                  its client and transport against a server of ours
//! their-rust invoke URL TOKEN TOOL ARGS its client, for a script
//! their-rust watch URL TOKEN JOB        its transport, for a script
//! their-rust holds URL TOKEN JOB...     its transport: jobs are watched, then `echo` runs over the same connection
//! their-rust decode                     its reader over the frames on stdin
//! ```

mod cases;
mod script;
mod server;
mod wire;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve"] => server::serve().await,
        ["cases", url] => return cases::run(url).await,
        ["invoke", url, token, tool, input] => script::invoke(url, token, tool, input).await,
        ["watch", url, token, job] => script::watch(url, token, job).await,
        ["holds", url, token, jobs @ ..] => script::holds(url, token, jobs).await,
        ["decode"] => return script::decode(),
        _ => {
            eprintln!("usage: their-rust serve | cases URL | invoke ... | watch ... | holds ... | decode");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
