//! Streams in both directions: an agent returns its input in capitals, while more input comes (RFC §11).
//!
//! ```text
//! cargo run -p arcp-blocking --example streams
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, JobUpdate, Server, ServerConfig, StreamSender};
use arcp_host::agent::{AgentError, Context, Outcome, StreamInput, StreamWriter};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::{Registry, Terms};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::model::stream::{StreamEvent, StreamKind, StreamReader, StreamSays, StreamTerms};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// Waits for a stream of a client, and answers each chunk in one of its own.
fn shout(job: &Context) -> Result<Outcome, AgentError> {
    let mut out = StreamWriter::open(job, StreamKind::Text)?;
    let Some(mut input) = StreamInput::within(job, Duration::from_secs(60))? else {
        return Err(AgentError::failed("nobody says anything"));
    };
    let mut chunks = 0;
    while let Some(said) = input.next_chunk()? {
        out.text(String::from_utf8_lossy(&said).to_uppercase())?;
        chunks += 1;
    }
    out.close(Some("that was all"))?;
    Outcome::of(&chunks)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("shout", None, shout);
    // Without this nobody can open a stream to its jobs.
    registry.set_terms("shout", Terms { takes_input: true, ..Terms::default() });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());

    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;
    let job = client.submit(Submit::new(AgentRef::parse("shout")?))?;
    let (mut reader, mut heard, mut sender) = (StreamReader::default(), String::new(), None);
    loop {
        match job.next_update().ok_or("the job ends")? {
            JobUpdate::Event { event, .. } => match reader.read(&event).transpose()? {
                // Its agent runs.
                Some(StreamEvent { says: StreamSays::Opened { inbound: false, .. }, .. }) => {
                    let terms = StreamTerms::new(StreamKind::Text);
                    let mut stream = StreamSender::open(&client, job.id.clone(), "words".parse()?, terms)?;
                    stream.send(b"one ")?;
                    stream.send(b"two")?;
                    sender = Some(stream);
                }
                Some(StreamEvent { says: StreamSays::Chunk { sequence, data, .. }, .. }) => {
                    println!("chunk {sequence}: {}", String::from_utf8_lossy(&data));
                    heard.push_str(&String::from_utf8_lossy(&data));
                    if let Some(stream) = sender.take_if(|_| sequence == 1) {
                        stream.close(None)?;
                    }
                }
                Some(StreamEvent { says, .. }) => println!("{says:?}"),
                None => {}
            },
            JobUpdate::Ended { result, .. } => {
                println!("{result:?}");
                break;
            }
            other @ (JobUpdate::Reconnecting { .. }
            | JobUpdate::Reconnected { .. }
            | JobUpdate::Missed { .. }
            | JobUpdate::Gone(_)
            | JobUpdate::Lost(_)) => println!("{other:?}"),
        }
    }
    assert_eq!(heard, "ONE TWO");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
