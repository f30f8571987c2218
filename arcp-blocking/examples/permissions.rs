//! An agent asks people for what its lease does not grant (RFC §15.4). They grant all of it or a part, for a time or
//! for one use, or deny it. A client may have rules of its own, which decide first.
//!
//! ```text
//! cargo run -p arcp-blocking --example permissions
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, CallError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::client::{Decision, PermissionAsked};
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::lease::Namespace;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::{PermissionRequest, PromptAnswer, Question};
use arcp_proto::model::request::{Answering, Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// Asks for an operation on what a pattern means; says in a word what became of it.
fn ask(job: &Context, operation: &Namespace, pattern: &str) -> Result<String, CallError> {
    let asked = PermissionRequest {
        permission: format!("{operation} on {pattern}"),
        resource: pattern.to_string(),
        operation: operation.to_string(),
        reason: Some("the report is there".to_string()),
        lease_seconds: Some(600),
    };
    match job.ask_people(Question::Permission(asked), None) {
        Ok(answered) => Ok(format!("granted by {}", answered.by)),
        Err(CallError::Refused(error)) => Ok(error.code.to_string()),
        Err(stopped) => Err(stopped),
    }
}

fn reporter(job: &Context) -> Result<Outcome, AgentError> {
    let may = |target: &str| job.authorize(&Namespace::FsRead, target).is_ok();
    let before = may("/srv/reports/may.txt");
    let answers = [ask(job, &Namespace::FsRead, "/srv/**")?, ask(job, &Namespace::FsWrite, "/srv/**")?];
    let after = [may("/srv/reports/may.txt"), may("/srv/salaries.txt")];
    Outcome::of(&(before, answers, after))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add("reporter", None, reporter);
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    // Nothing is written, whatever anybody in this program says later.
    client.decide_permissions(|asked: &PermissionAsked| match asked.request.operation.as_str() {
        "fs.write" => Decision::Deny { reason: Some("nothing is written here".to_string()) },
        _ => Decision::Leave,
    })?;
    let job = client.submit(Submit::new(AgentRef::parse("reporter")?))?;
    for event in job.events() {
        let JobEvent::Emitted { kind, body } = event else {
            continue;
        };
        println!("{kind}: {body}");
        let members = body.members()?;
        if kind == EventKind::PermissionRequest && members.get_str("operation").as_deref() == Some("fs.read") {
            // Less than was asked for, and for a minute.
            let resource = Some("/srv/reports/**".to_string());
            let answer = PromptAnswer::Grant { lease_seconds: Some(60), resource, once: false };
            let prompt = members.get_str("prompt_id").and_then(|id| WireId::new(&id)).ok_or("a question has an id")?;
            client.answer(Answering { prompt, answer })?;
        }
    }
    let expected = r#"[false,["granted by alice","PERMISSION_DENIED"],[true,false]]"#;
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::parse(expected)?));

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
