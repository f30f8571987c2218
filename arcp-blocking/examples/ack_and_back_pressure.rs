//! A client acknowledges what it has processed (1.1 §6.5, RFC §11.2), so that the runtime need not keep that for a
//! resume. A client that falls behind with it is told once, with a `status` event of phase `back_pressure`, and loses
//! nothing.
//!
//! ```text
//! cargo run -p arcp-blocking --example ack_and_back_pressure
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Level, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

const LINES: usize = 500;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("talkative", None, |job: &Context| {
        for n in 1..=LINES {
            // Waits while it is too far ahead of the store or of its submitter: a flood is slowed, not buffered.
            job.log(Level::Info, &format!("line {n}"))?;
        }
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let mut config = Config::new("example", "1.0.0");
    config.limits.delivery.ack_lag = 100;
    let host = Host::new(config, registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let mut lazy = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));
    // By default a client acknowledges every 64 events. This one says nothing.
    lazy.limits.ack_every = u64::MAX;
    let client = Client::connect(url.parse()?, lazy)?;

    let job = client.submit(Submit::new(AgentRef::parse("talkative")?))?;
    let (mut lines, mut told) = (0, 0);
    for event in job.events() {
        match event {
            JobEvent::Emitted { kind: EventKind::Log, .. } => lines += 1,
            JobEvent::Emitted { kind: EventKind::Status, body } if body.as_str().contains("back_pressure") => {
                println!("after {lines} lines: {body}");
                told += 1;
            }
            JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => {}
        }
    }
    println!("{lines} lines");
    assert_eq!((lines, told), (LINES, 1));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
