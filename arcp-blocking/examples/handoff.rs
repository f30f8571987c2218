//! A running job is handed over (RFC §14). Its new owner follows it and may cancel it; the earlier owner is shown no
//! more of it.
//!
//! ```text
//! cargo run -p arcp-blocking --example handoff
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Credential, HandOver, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let handed_over = Arc::new(Barrier::new(2));
    let agents = handed_over.clone();
    let mut registry = Registry::default();
    registry.add("night-shift", None, move |job: &Context| {
        job.status("working", None)?;
        agents.wait();
        Outcome::of("done")
    });
    let (alice, bob) = (Principal::new("alice"), Principal::new("bob").ok_or("a principal has a name")?);
    let mut tokens = BearerTokens::default();
    tokens.add(&Secret::new("alice's".into()), alice.ok_or("a principal has a name")?);
    tokens.add(&Secret::new("bob's".into()), bob.clone());
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = |token: &str| {
        let mut config = ClientConfig::new("example", "1.0.0", Credential::Bearer(Secret::new(token.to_string())));
        // Only who says so hands jobs over, and is handed any.
        config.features = config.features.with(Feature::AgentHandoff);
        Ok::<Client, Box<dyn Error>>(Client::connect(url.parse()?, config)?)
    };
    let (giver, taker) = (connect("alice's")?, connect("bob's")?);

    let job = giver.submit(Submit::new(AgentRef::parse("night-shift")?))?;
    let reason = Some("my shift is over".to_string());
    giver.hand_over(HandOver { reason, ..HandOver::to(job.id.clone(), bob) })?;
    let taken = taker.next_handed_job(Duration::from_secs(10))?.ok_or("it is handed over")?;
    println!("{} is bob's", taken.id);
    assert_eq!(taken.id, job.id);
    let Err(ClientError::Refused(refusal)) = giver.cancel(job.id.clone(), None) else {
        return Err("it is not alice's any more".into());
    };
    println!("alice: {}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::JobNotFound);
    handed_over.wait();
    println!("{:?}", taken.wait()?.result);
    assert_eq!(taken.wait()?.result, ResultData::Inline(Json::string("done")));

    drop((giver, taker));
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
