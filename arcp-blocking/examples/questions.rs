//! An agent asks people to choose an option, and for a value that fits a schema (RFC §12). Its job is blocked until an
//! answer comes from any session. An answer that does not fit leaves the question open.
//!
//! ```text
//! cargo run -p arcp-blocking --example questions
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::{PromptAnswer, Question};
use arcp_proto::model::request::{Answering, Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

fn release(job: &Context) -> Result<Outcome, AgentError> {
    let channel = job.choose("Where to?", &[("beta", "Beta testers"), ("all", "Everybody")])?;
    let schema = Json::parse(r#"{"type": "integer", "minimum": 1, "maximum": 100}"#)?;
    let prompt = "To how many percent of them?".to_string();
    let percent = job.ask_people(Question::Input { prompt, schema, default: None }, None)?.value;
    Outcome::of(&format!("{percent} % of {channel}"))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("release", None, release);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit::new(AgentRef::parse("release")?))?;
    for event in job.events() {
        let JobEvent::Emitted { kind, body } = event else {
            continue;
        };
        let members = body.members()?;
        let Some(prompt) = members.get_str("prompt_id").and_then(|id| WireId::new(&id)) else {
            continue;
        };
        println!("{kind}: {body}");
        let answer = |answer| client.answer(Answering { prompt: prompt.clone(), answer });
        if kind == EventKind::ChoiceRequest {
            answer(PromptAnswer::Choice("beta".to_string()))?;
        } else if kind == EventKind::InputRequest {
            let Err(ClientError::Refused(refusal)) = answer(PromptAnswer::Value(Json::parse("400")?)) else {
                return Err("nobody has 400 percent".into());
            };
            println!("400: {}", refusal.message);
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
            answer(PromptAnswer::Value(Json::parse("20")?))?;
        }
    }
    println!("{:?}", job.wait()?.result);
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::string("20 % of beta")));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
