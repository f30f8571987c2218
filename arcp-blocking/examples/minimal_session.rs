//! A session from its opening to its end (1.1 §6, RFC §8): the client's principal, the features of both sides, and the
//! agents of the runtime.
//!
//! ```text
//! cargo run -p arcp-blocking --example minimal_session
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::Outcome;
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{AgentSpec, Config};
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_inline("echo", Some("1.0.0"), |job: &AgentSpec| Ok(Outcome::Json(job.input.clone())));
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());

    // Nobody comes in without a credential, or with a wrong one.
    let stranger = ClientConfig::new("example", "1.0.0", Credential::Bearer(Secret::new("a guess".into())));
    let refused = Client::connect(url.parse()?, stranger);
    println!("a stranger: {}", refused.err().ok_or("a wrong token is refused")?);

    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;
    let welcome = client.welcome();
    println!("session {} with {} {}", welcome.session, welcome.runtime.name, welcome.runtime.version);
    for agent in &welcome.agents {
        println!("agent {} in versions {:?}", agent.name, agent.versions);
    }
    assert_eq!(welcome.runtime.name, "example");
    assert_eq!(welcome.agents[0].name, "echo");
    assert!(welcome.features.has(Feature::ResultChunk));

    // Dropping the client closes the session.
    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
