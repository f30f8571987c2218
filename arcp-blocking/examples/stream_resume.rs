//! A connection is cut in the middle of a stream (RFC §11, §19). The client resumes, and the stream continues with the
//! next chunk. `StreamReader` would report a chunk that is missing or comes twice.
//!
//! ```text
//! cargo run -p arcp-blocking --example stream_resume
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Barrier};

use arcp_blocking::{Client, Host, JobUpdate, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome, StreamWriter};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::model::stream::{StreamKind, StreamReader, StreamSays};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

const CHUNKS: u64 = 100;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let cut = Arc::new(Barrier::new(2));
    let agents_cut = cut.clone();
    let mut registry = Registry::default();
    registry.add("tell", None, move |job: &Context| {
        let mut story = StreamWriter::open(job, StreamKind::Text)?;
        for n in 0..CHUNKS {
            if n == 50 {
                agents_cut.wait();
            }
            story.text(format!("{n} "))?;
        }
        story.close(Some("that was all"))?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("tell")?))?;
    let (mut reader, mut story, mut resumes, mut last) = (StreamReader::default(), String::new(), 0, None);
    for update in job.updates() {
        match update {
            JobUpdate::Event { event, .. } => match reader.read(&event).transpose()?.map(|event| event.says) {
                Some(StreamSays::Chunk { sequence, data, .. }) => {
                    story.push_str(std::str::from_utf8(&data)?);
                    if sequence == 49 {
                        client.break_connection()?;
                    }
                }
                Some(StreamSays::Closed { final_sequence, .. }) => last = final_sequence,
                Some(StreamSays::Failed { message, .. }) => return Err(message.into()),
                Some(StreamSays::Opened { .. }) | None => {}
            },
            // The rest is said while nobody is connected.
            JobUpdate::Reconnecting { attempt: 1, why, .. } => {
                println!("behind {story:?}: {why}");
                cut.wait();
            }
            JobUpdate::Reconnected { resumed } => resumes += u32::from(resumed),
            JobUpdate::Missed { .. } | JobUpdate::Gone(_) | JobUpdate::Lost(_) => {
                return Err("something was lost".into());
            }
            JobUpdate::Reconnecting { .. } | JobUpdate::Ended { .. } => {}
        }
    }
    println!("resumed {resumes} times, the last chunk is {last:?}");
    assert_eq!(story, (0..CHUNKS).map(|n| format!("{n} ")).collect::<String>());
    assert!(resumes >= 1 && last == Some(CHUNKS - 1));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
