//! A cancel is cooperative (1.1 §7.4, RFC §10.4). It is acknowledged, the agent is told and may still emit events, and
//! the job ends as cancelled whatever the agent returns.
//!
//! ```text
//! cargo run -p arcp-blocking --example cancel
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Level, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

fn patient(job: &Context) -> Result<Outcome, AgentError> {
    job.status("waiting", None)?;
    // Waits, but not beyond a cancel.
    if let Err(stopped) = job.sleep(Duration::from_secs(3600)) {
        job.log(Level::Info, "cleaning up")?;
        return Err(stopped.into());
    }
    Ok(Outcome::Empty)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("patient", None, patient);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("patient")?))?;
    let waits = |event: &JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Status, .. });
    job.events().find(waits).ok_or("the agent waits")?;
    client.cancel(job.id.clone(), Some("changed my mind".into()))?;
    println!("the cancel is acknowledged");
    let goodbye = |event: &JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Log, .. });
    assert!(job.events().any(|event| goodbye(&event)), "the agent may say goodbye");
    let end = job.wait()?;
    println!("{}: {}", end.terminal.status, end.terminal.error.as_ref().map_or("", |error| error.message.as_str()));
    assert_eq!(end.terminal.status, FinalStatus::Cancelled);

    let again = client.cancel(job.id.clone(), None);
    println!("once more: {}", again.err().ok_or("what has ended cannot be cancelled")?);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
