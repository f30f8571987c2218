//! A job is submitted, and its events are printed as they come (1.1 §7.1 and §8, RFC §10): a log line, a thought, a
//! status, a tool call and its result, a metric; then the result.
//!
//! ```text
//! cargo run -p arcp-blocking --example submit_and_stream
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Level, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

fn research(job: &Context) -> Result<Outcome, AgentError> {
    job.status("searching", None)?;
    job.log(Level::Info, "looking for sources")?;
    job.thought("the newest ones first")?;
    job.tool_call("search", "call-1", job.input())?;
    job.tool_result("call-1", Ok(&Json::from_value(&["a.txt", "b.txt"])?))?;
    job.metric("sources", &Json::from_value(&2)?, None)?;
    Outcome::of("two sources agree")
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("research", None, research);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let input = Some(Json::parse(r#"{"question": "is water wet?"}"#)?);
    let job = client.submit(Submit { input, ..Submit::new(AgentRef::parse("research")?) })?;
    println!("job {} of {}", job.id, job.agent);
    let mut kinds = Vec::new();
    for event in job.events() {
        if let JobEvent::Emitted { kind, body } = event {
            println!("{kind}: {body}");
            kinds.push(kind);
        }
    }
    let end = job.wait()?;
    println!("{}: {:?}", end.terminal.status, end.result);
    assert!(kinds.contains(&EventKind::Thought) && kinds.contains(&EventKind::ToolResult));
    assert_eq!(end.terminal.status, FinalStatus::Success);
    assert_eq!(end.result, ResultData::Inline(Json::string("two sources agree")));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
