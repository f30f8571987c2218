//! A large result is sent in pieces while it is made, and the client joins them (1.1 §8.4, RFC §10): text or bytes,
//! checked to be complete.
//!
//! ```text
//! cargo run -p arcp-blocking --example result_in_pieces
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("report", None, |job: &Context| {
        for page in 1..=3 {
            job.chunk(format!("page {page}\n"))?;
        }
        Ok(Outcome::Streamed { summary: Some("three pages".into()) })
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("report")?))?;
    let mut pieces = 0;
    for event in job.events() {
        if let JobEvent::Chunk(piece) = event {
            println!("piece {} of {}: {:?}", piece.chunk_seq, piece.result_id, piece.data);
            pieces += 1;
        }
    }
    let end = job.wait()?;
    println!("whole: {:?}", end.result);
    assert!(pieces >= 3, "a piece may be cut further");
    assert_eq!(end.terminal.summary.as_deref(), Some("three pages"));
    assert_eq!(end.result, ResultData::Streamed { bytes: b"page 1\npage 2\npage 3\n".to_vec(), text: true });

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
