//! Credentials for models are issued for one job (1.1 §9.8). The lease says which models; the agent and the submitter
//! are sent the credentials, which are valid no longer than the job.
//!
//! ```text
//! cargo run -p arcp-blocking --example credentials
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{AgentError, Context, Outcome, credentials};
use arcp_host::auth::BearerTokens;
use arcp_host::provisioner::{ProvisionError, Provisioner};
use arcp_host::registry::Registry;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::{JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Revocation};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

/// Stands for a gateway of models, which issues keys over HTTP: the keys that count.
#[derive(Default)]
struct Gateway(Mutex<BTreeMap<JobId, Secret>>);

impl Gateway {
    fn takes(&self, key: &Secret) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().any(|known| known == key)
    }
}

impl Provisioner for Gateway {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        let value =
            Secret::new(format!("sk-{}", arcp_host::entropy::token().map_err(|e| ProvisionError::new(e.to_string()))?));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(order.job, value.clone());
        Ok(vec![ProvisionedCredential {
            id: format!("key-of-{}", order.job),
            scheme: "bearer".to_string(),
            value,
            endpoint: "https://models.example/v1".to_string(),
            profile: None,
            constraints: Some(order.constraints()), // the models, the budget and the end of the lease
        }])
    }

    fn revoke(&self, job: JobId, _: &Revocation) -> Result<(), ProvisionError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        Ok(())
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let gateway = Arc::new(Gateway::default());
    let mut registry = Registry::default();
    let models = gateway.clone();
    registry.add("writer", None, move |job: &Context| {
        let key = credentials(job).first().ok_or_else(|| AgentError::failed("it has no key"))?;
        Outcome::of(&models.takes(&key.value))
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(Config::new("example", "1.0.0"), registry).with_authenticator(tokens);
    // What is to be revoked outlives the process: credentials take a store in a file.
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(&folder.path().join("jobs.db"), Durability::Full)?;
    let host = host.with_store(Box::new(store)).with_provisioner(gateway.clone());
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let mut config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token));
    // Who does not want to see them is not told them.
    config.features = config.features.with(Feature::ProvisionedCredentials);
    let client = Client::connect(url.parse()?, config)?;

    let job = client.submit(Submit {
        lease_request: Some(Json::parse(r#"{"model.use": ["gpt-*"], "cost.budget": ["USD:5"]}"#)?),
        ..Submit::new(AgentRef::parse("writer")?)
    })?;
    let key = job.credentials.first().ok_or("whoever submits is told")?;
    println!("{key:?}");
    let end = job.wait()?;
    println!("{}: {:?}", end.terminal.status, end.result);
    assert_eq!(end.terminal.status, FinalStatus::Success);
    assert!(!gateway.takes(&key.value), "once the end is seen, it does not count");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
