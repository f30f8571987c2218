//! A job is submitted on one device and followed on another. With a token of the job, a session of the same principal
//! in either family is shown the rest of the job. An extension of ours (RFC §21).
//!
//! ```text
//! cargo run -p arcp-blocking --example job_tokens
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Barrier};

use arcp_blocking::{Client, ClientError, Host, Job, JobTokens, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job_token::ExchangeToken;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

/// What a job counts from here on.
fn counted(job: &Job) -> impl Iterator<Item = u64> {
    job.events().filter_map(|event| match event {
        JobEvent::Emitted { kind: EventKind::Progress, body } => body.members().ok()?.get("current")?.parse().ok(),
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    })
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let half_way = Arc::new(Barrier::new(2));
    let agents = half_way.clone();
    let mut registry = Registry::default();
    registry.add("count", None, move |job: &Context| {
        for n in 1..=10 {
            if n == 6 {
                agents.wait();
            }
            job.progress(n, Some(10), None)?;
        }
        Ok(Outcome::Empty)
    });
    let mut tokens = BearerTokens::default();
    for name in ["alice", "bob"] {
        tokens.add(&Secret::new(format!("{name}'s")), Principal::new(name).ok_or("a principal has a name")?);
    }
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = |name: &str, family| {
        let credential = Credential::Bearer(Secret::new(format!("{name}'s")));
        let config = ClientConfig { family, ..ClientConfig::new("example", "1.0.0", credential) };
        Ok::<Client, Box<dyn Error>>(Client::connect(url.parse()?, config)?)
    };

    let desk = connect("alice", Family::Hello)?;
    let job = desk.submit(Submit::new(AgentRef::parse("count")?))?;
    assert_eq!(counted(&job).take(5).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let token = JobTokens::of(&desk).issue(job.id.clone())?.token;
    println!("the token {token:?} is never printed");
    drop((job, desk));

    let phone = connect("alice", Family::Open)?;
    let rest = JobTokens::of(&phone).exchange(ExchangeToken { token: token.clone(), after: None })?;
    half_way.wait();
    let came: Vec<u64> = counted(&rest).collect();
    println!("the phone saw {came:?}, then: {}", rest.wait()?.terminal.status);
    assert_eq!(came, [6, 7, 8, 9, 10], "the rest, and nothing twice");

    // It is of no use to anybody else.
    let bob = connect("bob", Family::Hello)?;
    let Err(ClientError::Refused(refusal)) = JobTokens::of(&bob).exchange(ExchangeToken { token, after: None }) else {
        return Err("the jobs of others are not shown".into());
    };
    println!("bob: {}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::JobNotFound);

    drop((phone, bob));
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
