//! The parts that a host gives to its runtime.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use arcp_proto::error::ConfigError;
use arcp_proto::id::SessionId;
use arcp_proto::model::request::Extension;
use arcp_proto::runtime::{Config, Notice};

use super::Fenced;
use crate::agent::Task;
use crate::auth::{Authenticator, BearerTokens, CredentialSource};
use crate::blobs::{Blobs, MemoryBlobs};
use crate::handoff::Courier;
use crate::provisioner::Provisioner;
use crate::registry::{AgentSource, Registry};
use crate::runner::TaskRunner;
use crate::spans::SpanCounts;
use crate::store::{MemoryStore, Store, StoreError};

/// Everything a runtime needs besides its sockets.
#[non_exhaustive]
pub struct Host {
    /// The configuration of the runtime. What it says about agents is taken from `registry`, about
    /// history from `store`, and about issuing credentials from `provisioner`.
    pub config: Config,
    /// The agents.
    pub registry: Registry,
    /// The source of agents that replace those of `registry` while the runtime runs.
    pub source: Option<Box<dyn AgentSource>>,
    /// Judges credentials.
    pub authenticator: Arc<dyn Authenticator>,
    /// The sources of credentials that can change while the runtime runs.
    pub credentials: Vec<Box<dyn CredentialSource>>,
    /// Issues credentials for jobs whose leases grant `model.use`. They are sent to clients
    /// unchanged: a host that sets a provisioner must make sure that nobody can read the
    /// connections.
    pub provisioner: Option<Arc<dyn Provisioner>>,
    /// Asks other runtimes to take jobs, if the configuration
    /// [names any](arcp_proto::runtime::Handoffs::receivers).
    pub courier: Option<Arc<dyn Courier>>,
    /// Makes records durable.
    pub store: Box<dyn Store>,
    /// Keeps the bytes of artifacts, if the configuration
    /// [says for how long](arcp_proto::runtime::Timing::artifact_retention).
    pub blobs: Box<dyn Blobs>,
    /// Where to write a recording. It will hold secrets.
    pub record: Option<Box<dyn Write + Send>>,
    /// Is told of each notice.
    pub observer: Option<Observer>,
    /// Takes messages of the extensions in `config.extensions`.
    pub extensions: Option<ExtensionTaker>,
    /// Polls the jobs of async agents; `None`: each has a thread.
    pub run_task: Option<TaskRunner>,
    /// The counts of exported and lost [spans](crate::spans), for the metrics.
    pub span_counts: SpanCounts,
}

/// Takes notices. It runs on the loop and must not wait.
pub type Observer = Box<dyn FnMut(&Notice) + Send>;

/// Takes messages of extensions. It runs on the loop and must not wait.
pub type ExtensionTaker = Box<dyn FnMut(SessionId, Extension) + Send>;

impl Host {
    /// A host with these agents that accepts no credentials and keeps jobs in memory only.
    pub fn new(config: Config, registry: Registry) -> Host {
        Host {
            config,
            registry,
            source: None,
            authenticator: Arc::new(BearerTokens::default()),
            credentials: Vec::new(),
            provisioner: None,
            courier: None,
            store: Box::<MemoryStore>::default(),
            blobs: Box::<MemoryBlobs>::default(),
            record: None,
            observer: None,
            extensions: None,
            run_task: None,
            span_counts: SpanCounts::default(),
        }
    }

    /// Replaces the agents of `registry` by those of this source, once it gives any. Running jobs
    /// keep the agent with which they were started.
    #[must_use]
    pub fn with_agents_from(self, source: impl AgentSource) -> Host {
        Host { source: Some(Box::new(source)), ..self }
    }

    /// Has credentials judged by this authenticator.
    #[must_use]
    pub fn with_authenticator(self, authenticator: impl Authenticator + 'static) -> Host {
        Host { authenticator: Arc::new(authenticator), ..self }
    }

    /// Looks each second in this source for credentials that were withdrawn, and for roles in
    /// addition to those of the configuration.
    #[must_use]
    pub fn with_credentials_from(mut self, source: impl CredentialSource) -> Host {
        self.credentials.push(Box::new(source));
        self
    }

    /// Has this provisioner issue credentials for jobs whose leases grant `model.use`.
    #[must_use]
    pub fn with_provisioner(self, provisioner: Arc<dyn Provisioner>) -> Host {
        Host { provisioner: Some(provisioner), ..self }
    }

    /// Has this courier ask other runtimes to take jobs.
    #[must_use]
    pub fn with_courier(self, courier: Arc<dyn Courier>) -> Host {
        Host { courier: Some(courier), ..self }
    }

    /// Keeps records in this store.
    #[must_use]
    pub fn with_store(self, store: Box<dyn Store>) -> Host {
        Host { store, ..self }
    }

    /// Keeps the bytes of artifacts here. With a store in a file, use blobs that outlive the
    /// process as well.
    #[must_use]
    pub fn with_blobs(self, blobs: Box<dyn Blobs>) -> Host {
        Host { blobs, ..self }
    }

    /// Writes a recording, which will hold secrets. It is written on the loop.
    #[must_use]
    pub fn recorded_to(self, out: impl Write + Send + 'static) -> Host {
        Host { record: Some(Box::new(out)), ..self }
    }

    /// Calls this function with each notice. It runs on the loop and must not wait.
    #[must_use]
    pub fn observed_by(self, observer: impl FnMut(&Notice) + Send + 'static) -> Host {
        Host { observer: Some(Box::new(observer)), ..self }
    }

    /// Has this function poll the jobs of async agents. It must not wait for them.
    #[must_use]
    pub fn with_tasks_run_by(self, run_task: impl Fn(Task) + Send + Sync + 'static) -> Host {
        Host { run_task: Some(Arc::new(run_task)), ..self }
    }

    /// Shows the counts of [spans](crate::spans) in the metrics. The exporter of spans counts in
    /// `span_counts`.
    #[must_use]
    pub fn counting_spans(self, span_counts: SpanCounts) -> Host {
        Host { span_counts, ..self }
    }

    /// Calls this function with messages of extensions. It runs on the loop and must not wait.
    #[must_use]
    pub fn with_extensions(self, take: impl FnMut(SessionId, Extension) + Send + 'static) -> Host {
        Host { extensions: Some(Box::new(take)), ..self }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.config).field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Why a runtime could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The configuration is invalid.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// An operation of the system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Another runtime owns the store.
    #[error("{0}")]
    Fenced(#[from] Fenced),
    /// Others on the network path to this address could read tokens.
    #[error("{0} is open to other machines without TLS, so that others could read tokens on their way")]
    Cleartext(SocketAddr),
    /// There is no certificate for this listener.
    #[error("{0} needs a certificate")]
    NoCertificate(String),
}
