//! A second session watches a job: first the events so far, then new ones (1.1 §7.6). A job of another principal looks
//! like one that does not exist.
//!
//! ```text
//! cargo run -p arcp-blocking --example watch
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Barrier};

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit, Watch};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let watched = Arc::new(Barrier::new(2));
    let agents = watched.clone();
    let mut registry = Registry::default();
    registry.add("count", None, move |job: &Context| {
        for n in 1..=10 {
            if n == 6 {
                agents.wait();
            }
            job.progress(n, Some(10), None)?;
        }
        Ok(Outcome::Empty)
    });
    let mut tokens = BearerTokens::default();
    for name in ["alice", "bob"] {
        tokens.add(&Secret::new(format!("{name}'s")), Principal::new(name).ok_or("a principal has a name")?);
    }
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = |name: &str| {
        let credential = Credential::Bearer(Secret::new(format!("{name}'s")));
        Ok::<Client, Box<dyn Error>>(Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", credential))?)
    };

    let client = connect("alice")?;
    let job = client.submit(Submit::new(AgentRef::parse("count")?))?;
    let progress = |event: &JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Progress, .. });
    assert_eq!(job.events().filter(progress).take(5).count(), 5);

    let observer = connect("alice")?;
    let seen = observer.watch(Watch { job: job.id.clone(), after: None, history: Some(true) })?;
    watched.wait();
    let count = seen.events().filter(progress).count();
    println!("the observer saw {count} events, five of them from before, then: {}", seen.wait()?.terminal.status);
    assert_eq!(count, 10);
    assert_eq!(seen.wait()?.terminal.status, FinalStatus::Success);

    let bob = connect("bob")?;
    let Err(ClientError::Refused(refusal)) = bob.watch(Watch { job: job.id.clone(), after: None, history: None })
    else {
        return Err("the jobs of others are not shown".into());
    };
    println!("bob: {}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::JobNotFound);
    drop((observer, bob));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
