//! A submit that is repeated with the same key is the same job (1.1 §7.2, RFC §6.4). A client that did not get the
//! answer submits again, and nothing is done twice. Another request with the key is refused.
//!
//! ```text
//! cargo run -p arcp-blocking --example idempotent_retry
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{IdempotencyKey, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let mut registry = Registry::default();
    registry.add("pay", None, move |job: &Context| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome::Json(job.input().clone()))
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));

    let pay = |amount: u64| -> Result<Submit, Box<dyn Error>> {
        let key = IdempotencyKey::new("invoice-17").ok_or("a key has 1 to 256 bytes")?;
        let input = Some(Json::from_value(&amount)?);
        Ok(Submit { input, key: Some(key), ..Submit::new(AgentRef::parse("pay")?) })
    };
    let first = Client::connect(url.parse()?, config.clone())?;
    let job = first.submit(pay(100)?)?;
    let result = job.wait()?.result.clone();

    // A crash later, in another session of the same principal.
    let client = Client::connect(url.parse()?, config)?;
    let again = client.submit(pay(100)?)?;
    println!("job {} and job {}, paid {} time", job.id, again.id, runs.load(Ordering::SeqCst));
    assert_eq!(job.id, again.id);
    assert_eq!(again.wait()?.result, result);
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let Err(ClientError::Refused(refusal)) = client.submit(pay(200)?) else {
        return Err("another request under the key is refused".into());
    };
    println!("{}", refusal.message);
    assert_eq!(refusal.code, ErrorCode::DuplicateKey);

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
