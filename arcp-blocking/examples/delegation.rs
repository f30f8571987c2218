//! An agent delegates work to other agents (1.1 §10, RFC §14). Each child gets a part of its parent's lease and budget
//! and never more; what it leaves of its budget returns to the parent.
//!
//! ```text
//! cargo run -p arcp-blocking --example delegation
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, CallError, Context, Level, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::lease::Namespace;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, ListQuery, Submit};
use arcp_proto::runtime::{Config, Delegation};
use arcp_proto::secret::Secret;

/// Has two workers count, and adds up what they found.
fn planner(job: &Context) -> Result<Outcome, AgentError> {
    let lease = Json::parse(r#"{"tool.call": ["count.*"], "cost.budget": ["USD:0.40"]}"#)?;
    let mut workers = Vec::new();
    for part in ["one two", "three four five"] {
        let (input, lease_request) = (Some(Json::string(part)), Some(lease.clone()));
        workers.push(job.delegate(Delegation { input, lease_request, ..Delegation::new("worker") })?);
    }
    let lease_request = Some(Json::parse(r#"{"fs.read": ["/srv/**"]}"#)?);
    match job.delegate(Delegation { lease_request, ..Delegation::new("worker") }) {
        Err(CallError::Refused(error)) if error.code == ErrorCode::LeaseSubsetViolation => {
            job.log(Level::Info, &error.message)?;
        }
        Ok(_) => return Err(AgentError::failed("a child may do nothing that its parent may not")),
        Err(error) => return Err(error.into()),
    }
    let mut words = 0;
    for worker in workers {
        let found = worker.wait()?.result.ok_or_else(|| AgentError::failed("a worker found nothing"))?;
        words += found.decode::<usize>()?;
    }
    Outcome::of(&words)
}

fn worker(job: &Context) -> Result<Outcome, AgentError> {
    job.authorize(&Namespace::ToolCall, "count.words")?;
    job.metric("cost.count", &Json::parse("0.05")?, Some("USD"))?;
    Outcome::of(&job.parse::<String>()?.split(' ').count())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("planner", None, planner);
    registry.add("worker", None, worker);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let lease = r#"{"agent.delegate": ["worker"], "tool.call": ["count.*"], "cost.budget": ["USD:1"]}"#;
    let job = client
        .submit(Submit { lease_request: Some(Json::parse(lease)?), ..Submit::new(AgentRef::parse("planner")?) })?;
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::parse("5")?));

    // The tree: each job says which one it is below.
    let jobs = client.list(ListQuery::default())?.jobs;
    let parent = jobs.iter().find(|listed| listed.job == job.id).ok_or("it is listed")?;
    let children = jobs.iter().filter(|listed| listed.parent.as_ref() == Some(&job.id));
    println!("{} {}: {:?}", parent.job, parent.agent, parent.budget);
    let children = children.inspect(|child| println!("  {} {}: {:?}", child.job, child.agent, child.budget));
    assert_eq!(children.count(), 2);
    assert_eq!(parent.budget.left("USD").map(|left| left.to_string()).as_deref(), Some("0.9"));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
