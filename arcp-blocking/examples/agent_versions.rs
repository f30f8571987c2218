//! Several versions of an agent (1.1 §7.5). A bare name means the version that was added last, `name@version` means
//! that version, and an unknown version is refused before there is a job.
//!
//! ```text
//! cargo run -p arcp-blocking --example agent_versions
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::Outcome;
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::{AgentSpec, Config};
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    for version in ["1.0.0", "2.0.0"] {
        registry.add_inline("greet", Some(version), move |_: &AgentSpec| Outcome::of(&format!("hello from {version}")));
    }
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;
    let agent = &client.welcome().agents[0];
    println!("{} in {:?}, by default {:?}", agent.name, agent.versions, agent.default);
    assert_eq!(agent.default.as_deref(), Some("2.0.0"));

    for (asked, resolved) in [("greet", "greet@2.0.0"), ("greet@1.0.0", "greet@1.0.0")] {
        let job = client.submit(Submit::new(AgentRef::parse(asked)?))?;
        println!("{asked} is {}: {:?}", job.agent, job.wait()?.result);
        assert_eq!(job.agent, resolved);
    }

    let Err(ClientError::Refused(refusal)) = client.submit(Submit::new(AgentRef::parse("greet@3.0.0")?)) else {
        return Err("a version that is not there is refused".into());
    };
    println!("{}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::AgentVersionNotAvailable);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
