//! Lists the jobs of a principal, by status and agent, page by page (1.1 §6.6).
//!
//! ```text
//! cargo run -p arcp-blocking --example list_jobs
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::JobStatus;
use arcp_proto::model::request::{Credential, ListQuery, Submit};
use arcp_proto::runtime::{AgentSpec, Config};
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_inline("quick", None, |_: &AgentSpec| Ok(Outcome::Empty));
    registry.add("slow", None, |job: &Context| {
        job.status("waiting", None)?;
        job.sleep(Duration::from_secs(3600))?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    for _ in 0..5 {
        client.submit(Submit::new(AgentRef::parse("quick")?))?.wait()?;
    }
    let slow = client.submit(Submit::new(AgentRef::parse("slow")?))?;
    let waits = |event: &JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Status, .. });
    slow.events().find(waits).ok_or("the agent waits")?;

    let running = client.list(ListQuery { status: vec![JobStatus::Running], ..ListQuery::default() })?;
    println!("running: {} of {}", running.jobs[0].job, running.jobs[0].agent);
    assert_eq!(running.jobs.iter().map(|job| &job.job).collect::<Vec<_>>(), [&slow.id]);

    let mut query = ListQuery { agent: Some(AgentRef::parse("quick")?), limit: Some(2), ..ListQuery::default() };
    let mut sizes = Vec::new();
    loop {
        let page = client.list(query.clone())?;
        println!("a page of {}", page.jobs.len());
        sizes.push(page.jobs.len());
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    client.cancel(slow.id.clone(), None)?;

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
