//! A runtime on stdin and stdout, one frame per line, as a parent process starts it (1.1 §4, RFC §22). This program is
//! the parent, and with the argument `serve` its child. The parent needs no credential.
//!
//! ```text
//! cargo run -p arcp-blocking --example stdio
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Target, stdio};
use arcp_host::agent::Outcome;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::{AgentSpec, Config};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        _ => talk(),
    }
}

/// The child. What it prints beside frames belongs on stderr.
fn serve() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_inline("echo", None, |job: &AgentSpec| Ok(Outcome::Json(job.input.clone())));
    let host = Host::new(Config::new("child", "1.0.0"), registry);
    Ok(stdio::serve(host, Principal::new("parent"), std::io::stdin(), std::io::stdout())?)
}

fn talk() -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let command = format!("'{}' serve", program.to_str().ok_or("a path that a shell can read")?);
    let config = ClientConfig::new("example", "1.0.0", Credential::Anonymous);
    let client = Client::connect(Target::Program(command), config)?;
    println!("started {} {}", client.welcome().runtime.name, client.welcome().runtime.version);

    let submit = Submit { input: Some(Json::string("hi")), ..Submit::new(AgentRef::parse("echo")?) };
    let job = client.submit(submit)?;
    println!("{:?}", job.wait()?.result);
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::string("hi")));
    // Dropping the client closes the session, and the child ends.
    Ok(())
}
