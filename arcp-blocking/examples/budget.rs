//! A budget bounds what a job may spend (1.1 §9.6). An agent that knows a price reserves it before it spends, reports
//! the cost afterwards, and is told when too little is left.
//!
//! ```text
//! cargo run -p arcp-blocking --example budget
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{CallError, Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Currency, Namespace};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let (usd, price, cost): (Currency, Amount, Amount) = ("USD".parse()?, "0.40".parse()?, "0.30".parse()?);
    let mut registry = Registry::default();
    registry.add("searcher", None, move |job: &Context| {
        let mut searches = 0;
        loop {
            let held = match job.reserve(&Namespace::ToolCall, "search.web", (&usd, price)) {
                Ok(held) => held,
                Err(CallError::Refused(error)) if error.code == ErrorCode::BudgetExhausted => break,
                Err(error) => return Err(error.into()),
            };
            // It was cheaper than it might have been: the rest is back in the budget.
            job.cost("cost.search", (&usd, cost), held)?;
            searches += 1;
        }
        Outcome::of(&searches)
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let job = client.submit(Submit {
        lease_request: Some(Json::parse(r#"{"tool.call": ["search.*"], "cost.budget": ["USD:1"]}"#)?),
        ..Submit::new(AgentRef::parse("searcher")?)
    })?;
    let mut left = Vec::new();
    for event in job.events() {
        if let JobEvent::Emitted { kind: EventKind::Metric, body } = event {
            println!("{body}");
            let members = body.members()?;
            if members.get_str("name").as_deref() == Some("cost.budget.remaining") {
                left.extend(members.get("value").map(str::to_string));
            }
        }
    }
    println!("searches: {:?}", job.wait()?.result);
    assert_eq!(job.wait()?.result, ResultData::Inline(Json::parse("3")?), "0.10 is left, and a search may cost 0.40");
    assert_eq!(left, ["0.7", "0.4", "0.1"], "decimals, counted exactly");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
