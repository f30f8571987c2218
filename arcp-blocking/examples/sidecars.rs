//! Bytes go beside their frames as binary WebSocket messages, if both sides agree on that (RFC §11.3); otherwise they
//! go in base64. Nothing else differs: the bytes and the numbers are the same.
//!
//! ```text
//! cargo run -p arcp-blocking --example sidecars
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::{ChunkData, Config};
use arcp_proto::secret::Secret;

/// A picture of 300,000 bytes, in pieces; an agent need not know how they go.
fn paint(job: &Context) -> Result<Outcome, AgentError> {
    for shade in [0, 127] {
        job.chunk_bytes(vec![shade; 100_000])?;
    }
    job.last_chunk(ChunkData::Binary(vec![255; 100_000]))?;
    Ok(Outcome::Streamed { summary: None })
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("paint", None, paint);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());

    let mut pictures = Vec::new();
    for beside in [true, false] {
        let mut config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token.clone()));
        if !beside {
            config.features = config.features.without(Feature::Sidecars);
        }
        let client = Client::connect(url.parse()?, config)?;
        assert_eq!(client.welcome().features.has(Feature::Sidecars), beside, "both sides have to say so");
        let job = client.submit(Submit::new(AgentRef::parse("paint")?))?;
        let ResultData::Streamed { bytes, text: false } = job.wait()?.result.clone() else {
            return Err("its result are bytes".into());
        };
        println!("{} bytes came {}", bytes.len(), if beside { "beside their frames" } else { "in base64" });
        pictures.push(bytes);
    }
    assert!(pictures[0] == pictures[1] && pictures[0].len() == 300_000);

    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
