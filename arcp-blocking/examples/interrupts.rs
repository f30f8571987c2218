//! A client sends a message to a running agent (RFC §10.5). The job is blocked until the agent continues; before that,
//! the agent may ask what is meant.
//!
//! ```text
//! cargo run -p arcp-blocking --example interrupts
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::{Registry, Terms};
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::request::{Answering, Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// Works until it is told something, and asks how that is meant.
fn tidy(job: &Context) -> Result<Outcome, AgentError> {
    job.progress(1, Some(2), Some("folders"))?;
    let Some(interrupt) = job.interrupt_within(Duration::from_secs(60))? else {
        return Err(AgentError::failed("nobody says anything"));
    };
    let asked = format!("{} said: {}. For how long?", interrupt.by(), interrupt.prompt());
    let chosen = job.choose(&asked, &[("now", "Only this time"), ("always", "Always")])?;
    job.go_on(interrupt)?;
    job.progress(2, Some(2), Some("folders"))?;
    Outcome::of(&chosen)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("tidy", None, tidy);
    registry.add("deaf", None, |job: &Context| Ok(job.sleep(Duration::from_secs(60)).map(|()| Outcome::Empty)?));
    // Without this nobody can interrupt its jobs.
    registry.set_terms("tidy", Terms { observes_interrupts: true, ..Terms::default() });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("tidy")?))?;
    let (mut is_told, mut phases) = (false, Vec::new());
    for event in job.events() {
        let JobEvent::Emitted { kind, body } = event else {
            continue;
        };
        println!("{kind}: {body}");
        let members = body.members()?;
        if kind == EventKind::Progress && !is_told {
            client.interrupt(job.id.clone(), "leave the tests alone".to_string())?;
            is_told = true;
        } else if kind == EventKind::ChoiceRequest {
            let prompt = members.get_str("prompt_id").and_then(|id| WireId::new(&id)).ok_or("a question has an id")?;
            client.answer(Answering { prompt, answer: PromptAnswer::Choice("always".to_string()) })?;
        } else if kind == EventKind::Status {
            phases.extend(members.get_str("phase"));
        }
    }
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::string("always")));
    assert!(phases.iter().any(|phase| phase == "blocked"), "it was blocked: {phases:?}");

    // Who observes no interrupts is told of none.
    let deaf = client.submit(Submit::new(AgentRef::parse("deaf")?))?;
    let Err(ClientError::Refused(refusal)) = client.interrupt(deaf.id.clone(), "stop".to_string()) else {
        return Err("nobody hears it".into());
    };
    println!("{}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::Unimplemented);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
