//! The open family (RFC 0001): a tool is invoked with a priority, emits events, and completes (RFC §10.1, §6.5). The
//! agent is the same as in the other family, and does not know which family its client uses.
//!
//! ```text
//! cargo run -p arcp-blocking --example tool_invocation
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Invocation, Priority, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("sum", None, |job: &Context| {
        let numbers: Vec<u64> = job.parse()?;
        job.progress(0, Some(numbers.len() as u64), Some("numbers"))?;
        Outcome::of(&numbers.iter().sum::<u64>())
    });
    registry.add("wait", None, |job: &Context| {
        job.sleep(Duration::from_secs(3600))?;
        Ok(Outcome::Empty)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let mut config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));
    config.family = Family::Open;
    let client = Client::connect(url.parse()?, config)?;
    let open = client.open().ok_or("this client speaks the open family")?;

    let submit = Submit { input: Some(Json::parse("[1, 2, 3]")?), ..Submit::new(AgentRef::parse("sum")?) };
    let job = open.submit_as(submit, Invocation { priority: Priority::High, ..Invocation::default() })?;
    for event in job.events() {
        if let JobEvent::Emitted { kind, body } = event {
            println!("{kind}: {body}");
        }
    }
    println!("{:?}", job.wait()?.result);
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::parse("6")?));

    // An agent that has not stopped in a second is made to.
    let job = client.submit(Submit::new(AgentRef::parse("wait")?))?;
    open.cancel_within(job.id.clone(), Some("enough".into()), Duration::from_secs(1))?;
    println!("{}", job.wait()?.terminal.status);
    assert_eq!(job.wait()?.terminal.status, FinalStatus::Cancelled);

    assert_eq!(open.echo(Some("are you there".into()))?.as_deref(), Some("are you there"));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
