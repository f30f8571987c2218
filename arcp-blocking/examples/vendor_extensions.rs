//! Extensions of the protocol (1.1 §8.2, RFC §21): events of a vendor's kind, in both families; and messages of a
//! namespace that both sides know, between the two applications, in the open family.
//!
//! ```text
//! cargo run -p arcp-blocking --example vendor_extensions
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::mpsc::channel;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Extension, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let kind = EventKind::from("x-vendor.acme.forecast");
    let said = kind.clone();
    let mut registry = Registry::default();
    registry.add("weather", None, move |job: &Context| {
        job.emit(&said, &Json::parse(r#"{"rain": 0.30}"#)?)?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let mut config = Config::new("example", "1.0.0");
    config.extensions = vec!["arcpx.acme".into()];
    // Whoever takes messages is on the loop and must not wait: a channel does the rest.
    let (taken, messages) = channel();
    let host = Host::new(config, registry).with_authenticator(tokens);
    let host = host.with_extensions(move |session, message| drop(taken.send((session, message))));
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let mut config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));
    config.family = Family::Open;
    config.extensions = vec!["arcpx.acme".into()];
    let client = Client::connect(url.parse()?, config)?;

    let job = client.submit(Submit::new(AgentRef::parse("weather")?))?;
    let mut events = job.events();
    let body = events.find_map(|event| match event {
        JobEvent::Emitted { kind: said, body } if said == kind => Some(body),
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    });
    let body = body.ok_or("a forecast")?;
    println!("{body}");
    assert_eq!(body.as_str(), r#"{"rain":0.30}"#, "numbers keep their digits");

    let open = client.open().ok_or("the open family")?;
    let message = |kind: &str| Extension { kind: kind.into(), payload: Json::empty_object(), optional: false };
    open.send(message("arcpx.acme.question"))?;
    let (session, question) = messages.recv_timeout(PATIENCE)?;
    stop.send_extension(session, message("arcpx.acme.answer"));
    let answer = open.next_extension_in(PATIENCE).ok_or("an answer")?;
    println!("{} and {}", question.kind, answer.kind);
    assert_eq!((question.kind.as_str(), answer.kind.as_str()), ("arcpx.acme.question", "arcpx.acme.answer"));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
