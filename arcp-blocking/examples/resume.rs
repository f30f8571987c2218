//! A connection is cut in the middle of a job, and no event is lost or comes twice (1.1 §6.3, RFC §19). The client
//! resumes with its token and the last number that it has. A session can also be left, and resumed by another process.
//!
//! ```text
//! cargo run -p arcp-blocking --example resume
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Barrier};

use arcp_blocking::{Client, Host, JobUpdate, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let cut = Arc::new(Barrier::new(2));
    let agents_cut = cut.clone();
    let mut registry = Registry::default();
    registry.add("count", None, move |job: &Context| {
        for n in 1..=100 {
            if n == 51 {
                agents_cut.wait();
            }
            job.progress(n, Some(100), None)?;
        }
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));
    let client = Client::connect(url.parse()?, config.clone())?;

    let job = client.submit(Submit::new(AgentRef::parse("count")?))?;
    let (mut seen, mut resumes) = (Vec::new(), 0);
    for update in job.updates() {
        match update {
            JobUpdate::Event { event: JobEvent::Emitted { kind: EventKind::Progress, body }, .. } => {
                let current = body.members()?.get("current").ok_or("a number")?.parse::<u64>()?;
                seen.push(current);
                if current == 50 {
                    client.break_connection()?;
                }
            }
            JobUpdate::Reconnecting { attempt: 1, why, .. } => {
                println!("after {} events: {why}", seen.len());
                cut.wait();
            }
            JobUpdate::Reconnected { resumed } => resumes += u32::from(resumed),
            JobUpdate::Missed { .. } | JobUpdate::Gone(_) | JobUpdate::Lost(_) => {
                return Err("an event was lost".into());
            }
            JobUpdate::Event { .. } | JobUpdate::Reconnecting { .. } | JobUpdate::Ended { .. } => {}
        }
    }
    println!("{} events, resumed {resumes} times", seen.len());
    assert_eq!(seen, (1..=100).collect::<Vec<u64>>(), "each once, in order");
    assert!(resumes >= 1);

    // Another process goes on with the session that this one leaves.
    let session = client.welcome().session.clone();
    let resume = client.leave();
    let client = Client::connect(url.parse()?, ClientConfig { resume, ..config })?;
    println!("session {} is back: {}", client.welcome().session, client.welcome().resumed);
    assert!(client.welcome().resumed && client.welcome().session == session);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
