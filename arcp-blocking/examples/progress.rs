//! The progress of a job, with a total and a unit (1.1 §8.2.1, RFC §10).
//!
//! ```text
//! cargo run -p arcp-blocking --example progress
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
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
    let mut registry = Registry::default();
    registry.add("copy", None, |job: &Context| {
        for file in 1..=4 {
            job.progress(file, Some(4), Some("files"))?;
        }
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("copy")?))?;
    let mut seen = Vec::new();
    for event in job.events() {
        if let JobEvent::Emitted { kind: EventKind::Progress, body } = event {
            let said = body.members()?;
            let number = |name| said.get(name).unwrap_or("?").to_string();
            println!("{} of {} {}", number("current"), number("total"), number("units"));
            seen.push(number("current"));
        }
    }
    assert_eq!(seen, ["1", "2", "3", "4"]);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
