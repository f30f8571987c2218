//! A subscription by filter, in the open family (RFC §13). An observer is shown the events of all jobs of its
//! principal, here only their ends, those of the past included. It writes frames over a WebSocket, as a dashboard in
//! any language would.
//!
//! ```text
//! cargo run -p arcp-blocking --example filter_subscription
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::net::TcpStream;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::{AgentSpec, Config};
use arcp_proto::secret::Secret;
use tungstenite::{Message, WebSocket};

const OPEN: &str = r#"{"arcp": "1.0", "id": "1", "type": "session.open", "payload": {
    "auth": {"scheme": "bearer", "token": "a-token"}, "client": {"kind": "dashboard", "version": "1.0.0"},
    "capabilities": {"subscriptions": true}}}"#;
const SUBSCRIBE: &str = r#"{"arcp": "1.0", "id": "2", "type": "subscribe", "payload": {
    "filter": {"types": ["job.completed", "job.failed"]}, "since": {}}}"#;

/// The next frame that holds this.
fn until(socket: &mut WebSocket<TcpStream>, needle: &str) -> Result<String, Box<dyn Error>> {
    loop {
        if let Message::Text(frame) = socket.read()? {
            println!("{frame}");
            if frame.contains(needle) {
                return Ok(frame.to_string());
            }
        }
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_inline("good", None, |_: &AgentSpec| Ok(Outcome::Empty));
    registry.add_inline("bad", None, |_: &AgentSpec| Err(AgentError::failed("it is broken")));
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, address, stop) = (server.url(), server.address(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;
    let run =
        |agent| client.submit(Submit::new(AgentRef::parse(agent)?))?.wait().map(drop).map_err(Box::<dyn Error>::from);
    run("good")?;

    let (mut socket, _) = tungstenite::client(&url, TcpStream::connect(address)?).map_err(|e| e.to_string())?;
    socket.send(Message::text(OPEN))?;
    until(&mut socket, "session.accepted")?;
    socket.send(Message::text(SUBSCRIBE))?;
    until(&mut socket, "subscribe.accepted")?;
    let past = until(&mut socket, "subscribe.event")?;
    assert!(past.contains("job.completed"), "{past}");
    until(&mut socket, "subscription.backfill_complete")?;

    run("bad")?;
    let live = until(&mut socket, "subscribe.event")?;
    assert!(live.contains("job.failed") && live.contains("it is broken"), "{live}");
    socket.close(None)?;

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
