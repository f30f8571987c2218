//! Heartbeats. A connection that is silent for two intervals counts as lost, so both sides send pings (1.1 §6.4). A
//! watched agent that is silent for two intervals is lost too: its job ends with `HEARTBEAT_LOST` (RFC §10.3).
//!
//! ```text
//! cargo run -p arcp-blocking --example heartbeat
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("steady", None, |job: &Context| {
        for _ in 0..30 {
            job.heartbeat()?;
            job.sleep(Duration::from_millis(100))?;
        }
        Outcome::of("nothing to say, but alive")
    });
    registry.add("silent", None, |job: &Context| {
        job.sleep(Duration::from_secs(3600))?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let mut config = Config::new("example", "1.0.0");
    config.timing.heartbeat = Some(Duration::from_secs(1));
    config.heartbeat_agents = ["steady".to_string(), "silent".to_string()].into();
    let host = Host::new(config, registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;
    assert!(client.welcome().features.has(Feature::Heartbeat));

    let steady = client.submit(Submit::new(AgentRef::parse("steady")?))?;
    let silent = client.submit(Submit::new(AgentRef::parse("silent")?))?;
    let lost = silent.wait()?.terminal.error.clone().ok_or("it is lost")?;
    println!("the silent agent: {}", lost.message);
    assert_eq!(lost.code, ErrorCode::HeartbeatLost);
    // Nobody has written a word for three intervals, and the session is still there.
    println!("the steady one: {}", steady.wait()?.terminal.status);
    assert_eq!(steady.wait()?.terminal.status, FinalStatus::Success);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
