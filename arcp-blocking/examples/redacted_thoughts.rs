//! An agent emits thoughts, some of them redacted (RFC §11). The submitter reads all of them; an auditor sees only
//! that there was a thought, both live and in the history.
//!
//! ```text
//! cargo run -p arcp-blocking --example redacted_thoughts
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Job, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome, StreamWriter};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit, Watch};
use arcp_proto::model::stream::{ChunkNotes, StreamEvent, StreamKind, StreamReader, StreamSays};
use arcp_proto::runtime::{ChunkData, Config};
use arcp_proto::secret::Secret;

fn refund(job: &Context) -> Result<Outcome, AgentError> {
    let mut thoughts = StreamWriter::open(job, StreamKind::Thought)?;
    thoughts.text("A refund is asked for.")?;
    let redacted = ChunkNotes { redacted: true, ..ChunkNotes::default() };
    thoughts.chunk(ChunkData::Text("The account is 4711.".to_string()), redacted)?;
    thoughts.text("It is within what I may give.")?;
    thoughts.close(None)?;
    Outcome::of(&"given")
}

/// What is shown of each thought; of one that is redacted perhaps nothing.
fn thoughts(job: &Job) -> Result<Vec<String>, Box<dyn Error>> {
    let (mut reader, mut shown) = (StreamReader::default(), Vec::new());
    for event in job.events() {
        if let Some(StreamEvent { says: StreamSays::Chunk { data, notes, .. }, .. }) =
            reader.read(&event).transpose()?
        {
            let text = String::from_utf8(data)?;
            println!("  {}{text}", if notes.redacted { "(redacted) " } else { "" });
            shown.push(text);
        }
    }
    Ok(shown)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("refund", None, refund);
    let mut tokens = BearerTokens::default();
    for name in ["alice", "audit"] {
        tokens.add(&Secret::new(format!("{name}'s")), Principal::new(name).ok_or("a principal has a name")?);
    }
    let mut config = Config::new("example", "1.0.0");
    // Who may watch everybody's jobs.
    config.auditors = [Principal::new("audit").ok_or("a principal has a name")?].into();
    let host = Host::new(config, registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = |name: &str| {
        let credential = Credential::Bearer(Secret::new(format!("{name}'s")));
        Ok::<Client, Box<dyn Error>>(Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", credential))?)
    };

    let client = connect("alice")?;
    let job = client.submit(Submit::new(AgentRef::parse("refund")?))?;
    println!("alice:");
    let all = ["A refund is asked for.", "The account is 4711.", "It is within what I may give."];
    assert_eq!(thoughts(&job)?, all);

    let auditor = connect("audit")?;
    let seen = auditor.watch(Watch { job: job.id.clone(), after: None, history: Some(true) })?;
    println!("audit:");
    assert_eq!(thoughts(&seen)?, [all[0], "", all[2]], "it has its place, and nothing else");

    drop((client, auditor));
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
