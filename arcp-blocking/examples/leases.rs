//! A lease says what a job may do, and until when (1.1 §9, RFC §15). The agent asks before it does something, and is
//! told which pattern allows it or why it is refused. When its lease ends, the job ends.
//!
//! ```text
//! cargo run -p arcp-blocking --example leases
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, CallError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::lease::Namespace;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

fn reader(job: &Context) -> Result<Outcome, AgentError> {
    let files: Vec<String> = job.parse()?;
    let mut verdicts = Vec::new();
    for file in &files {
        verdicts.push(match job.authorize(&Namespace::FsRead, file) {
            Ok(pattern) => pattern, // It would be opened here.
            Err(CallError::Refused(error)) => error.code.to_string(),
            Err(stopped) => return Err(stopped.into()),
        });
    }
    Outcome::of(&verdicts)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("reader", None, reader);
    registry.add("sleeper", None, |job: &Context| {
        job.sleep(Duration::from_secs(3600))?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit {
        input: Some(Json::parse(r#"["/srv/notes.txt", "/etc/passwd", "/srv/../etc/passwd"]"#)?),
        lease_request: Some(Json::parse(r#"{"fs.read": ["/srv/**"]}"#)?),
        ..Submit::new(AgentRef::parse("reader")?)
    })?;
    let verdicts = &job.wait()?.result;
    println!("{verdicts:?}");
    let expected = r#"["/srv/**","PERMISSION_DENIED","PERMISSION_DENIED"]"#;
    assert_eq!(*verdicts, ResultData::Inline(Json::parse(expected)?), "a detour is refused, not resolved");

    let job = client.submit(Submit {
        lease_request: Some(Json::parse(r#"{"fs.read": ["/srv/**"]}"#)?),
        lease_constraints: Some(Json::parse(r#"{"expires_in_s": 1}"#)?),
        ..Submit::new(AgentRef::parse("sleeper")?)
    })?;
    let end = job.wait()?.terminal.error.as_ref().ok_or("it does not end well")?;
    println!("{}: {}", end.code, end.message);
    assert_eq!(end.code, ErrorCode::LeaseExpired);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
