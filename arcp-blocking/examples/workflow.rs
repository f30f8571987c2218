//! A graph of steps runs as one job (RFC §6.2). Each step is a job of an agent, with arguments from the input and from
//! earlier results. A step that fails is tried again; an ended one is not run again.
//!
//! ```text
//! cargo run -p arcp-blocking --example workflow
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

use arcp_blocking::{Client, Host, JobUpdate, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// What it cannot fetch the first time.
static IS_AWAKE: AtomicBool = AtomicBool::new(false);

fn fetch(_: &Context) -> Result<Outcome, AgentError> {
    match IS_AWAKE.swap(true, Ordering::SeqCst) {
        false => Err(AgentError::failed("nobody answers yet")),
        true => Outcome::of(&"one two three"),
    }
}

fn count(job: &Context) -> Result<Outcome, AgentError> {
    Outcome::of(&job.parse::<String>()?.split(' ').count())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("fetch", None, fetch);
    registry.add("count", None, count);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let mut config = Config::new("example", "1.0.0");
    config.authority.workflows = true;
    let server = Server::bind(
        &ServerConfig::new(([127, 0, 0, 1], 0).into()),
        Host::new(config, registry).with_authenticator(tokens),
    )?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let steps = Json::parse(
        r#"[
            {"id": "page", "tool": "fetch", "retry": {"limit": 2}},
            {"id": "words", "tool": "count", "needs": ["page"], "arguments": {"$from": "/steps/page/result"}},
            {"id": "more", "tool": "count", "needs": ["words"], "when": {"$from": "/input/more"}}
        ]"#,
    )?;
    let job = client.start_workflow(&steps, Some(&Json::parse(r#"{"more": false}"#)?))?;
    let result = loop {
        let update = job.next_update().ok_or("the job ends")?;
        if let JobUpdate::Event { event: JobEvent::Emitted { kind, body }, .. } = update {
            println!("{} {body}", kind.as_str());
        } else if let JobUpdate::Ended { result, .. } = update {
            break result;
        }
    };
    assert_eq!(result, ResultData::Inline(Json::parse(r#"{"page":"one two three","words":3}"#)?));

    // What is wrong is said of the step, before anything is begun.
    let wrong = Json::parse(r#"[{"id": "words", "tool": "count", "needs": ["page"]}]"#)?;
    let refused = client.start_workflow(&wrong, None).err().ok_or("there is no step `page`")?;
    println!("{refused}");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
