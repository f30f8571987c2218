//! A client asks a running agent for a checkpoint, and later another job begins there (RFC §19). That job is given the
//! state that the agent saved, and does not repeat what came before.
//!
//! ```text
//! cargo run -p arcp-blocking --example checkpoints
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Job, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome, checkpoint_wanted_within};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::{Registry, Terms};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::checkpoint::{CreateCheckpoint, RestoreCheckpoint};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// Reads five pages; behind the third one it waits for somebody who wants a checkpoint.
fn read(job: &Context) -> Result<Outcome, AgentError> {
    let state = job.restored().map(String::from_utf8_lossy);
    let done: u64 = state.and_then(|state| state.parse().ok()).unwrap_or(0);
    for page in done + 1..=5 {
        job.progress(page, Some(5), Some("pages"))?;
        if page == 3 && checkpoint_wanted_within(job, Duration::from_secs(60))?.is_some() {
            job.checkpoint(page.to_string(), None)?;
        }
    }
    Ok(Outcome::Empty)
}

/// The next page that a job has read.
fn next_page(job: &Job) -> Option<u64> {
    job.events().find_map(|event| match event {
        JobEvent::Emitted { kind: EventKind::Progress, body } => body.members().ok()?.get("current")?.parse().ok(),
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    })
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_restartable("read", None, read);
    // Without this nobody can ask its jobs for any.
    registry.set_terms("read", Terms { gives_checkpoints: true, ..Terms::default() });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("read")?))?;
    while next_page(&job) != Some(3) {}
    let wish = CreateCheckpoint { job: job.id.clone(), label: Some("half-way".to_string()) };
    let kept = client.checkpoints().create(wish)?;
    println!("{} of {} bytes is kept as {:?}", kept.id, kept.size, kept.label);
    let rest: Vec<u64> = std::iter::from_fn(|| next_page(&job)).collect();
    assert_eq!(rest, [4, 5], "it goes on");
    let listed = client.checkpoints().list(job.id.clone())?.checkpoints;
    assert_eq!(listed, std::slice::from_ref(&kept));

    let again = client.checkpoints().restore(RestoreCheckpoint { checkpoint: kept.id, key: None })?;
    let pages: Vec<u64> = std::iter::from_fn(|| next_page(&again)).collect();
    println!("{} begins there and reads {pages:?}", again.id);
    assert_eq!(pages, [4, 5], "what came before is not done again");
    assert_ne!(again.id, job.id);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
