//! What a runtime is run with.

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
    /// The runtime's configuration. What it says of agents is taken from
    /// `registry`, of history from `store`, and of whether credentials are issued from
    /// `provisioner`.
    pub config: Config,
    /// The agents.
    pub registry: Registry,
    /// Where the agents come from that take their place while it runs.
    pub source: Option<Box<dyn AgentSource>>,
    /// Who judges credentials.
    pub authenticator: Arc<dyn Authenticator>,
    /// Where those are kept that change while it runs.
    pub credentials: Vec<Box<dyn CredentialSource>>,
    /// Who issues credentials for jobs whose leases grant `model.use`. They are sent to
    /// clients as they are: whoever has one sees to it that nobody can listen.
    pub provisioner: Option<Arc<dyn Provisioner>>,
    /// Who asks other runtimes to take jobs, if the configuration
    /// [names any](arcp_proto::runtime::Handoffs::receivers).
    pub courier: Option<Arc<dyn Courier>>,
    /// Where records are made durable.
    pub store: Box<dyn Store>,
    /// Where the bytes of artifacts are kept, if the configuration
    /// [says for how long](arcp_proto::runtime::Timing::artifact_retention).
    pub blobs: Box<dyn Blobs>,
    /// Where to write a recording. It will hold secrets.
    pub record: Option<Box<dyn Write + Send>>,
    /// Who is told what happens.
    pub observer: Option<Observer>,
    /// Who takes messages of the extensions in `config.extensions`.
    pub extensions: Option<ExtensionTaker>,
    /// Who polls the jobs of async agents; `None`: a thread for each.
    pub run_task: Option<TaskRunner>,
    /// What becomes of its [spans](crate::spans), for its metrics.
    pub span_counts: SpanCounts,
}

/// Takes notices, on the loop: it must not wait.
pub type Observer = Box<dyn FnMut(&Notice) + Send>;

/// Takes messages of extensions, on the loop: it must not wait.
pub type ExtensionTaker = Box<dyn FnMut(SessionId, Extension) + Send>;

impl Host {
    /// These agents, nobody's credentials, and jobs that are kept in memory
    /// only.
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

    /// Hosts what this gives, once it gives anything, instead of the agents at the
    /// start. Jobs that run keep the agent they were started with.
    #[must_use]
    pub fn with_agents_from(self, source: impl AgentSource) -> Host {
        Host { source: Some(Box::new(source)), ..self }
    }

    /// Has credentials judged by this.
    #[must_use]
    pub fn with_authenticator(self, authenticator: impl Authenticator + 'static) -> Host {
        Host { authenticator: Arc::new(authenticator), ..self }
    }

    /// Looks here each second for credentials that do not count any more, and for
    /// roles besides those of the configuration.
    #[must_use]
    pub fn with_credentials_from(mut self, source: impl CredentialSource) -> Host {
        self.credentials.push(Box::new(source));
        self
    }

    /// Has credentials issued by this for jobs whose leases grant `model.use`.
    #[must_use]
    pub fn with_provisioner(self, provisioner: Arc<dyn Provisioner>) -> Host {
        Host { provisioner: Some(provisioner), ..self }
    }

    /// Has other runtimes asked by this to take jobs.
    #[must_use]
    pub fn with_courier(self, courier: Arc<dyn Courier>) -> Host {
        Host { courier: Some(courier), ..self }
    }

    /// Keeps records in this store.
    #[must_use]
    pub fn with_store(self, store: Box<dyn Store>) -> Host {
        Host { store, ..self }
    }

    /// Keeps the bytes of artifacts here: with a store in a file, what outlives the
    /// process as that does.
    #[must_use]
    pub fn with_blobs(self, blobs: Box<dyn Blobs>) -> Host {
        Host { blobs, ..self }
    }

    /// Writes a recording, in which secrets will be. It is written on the loop.
    #[must_use]
    pub fn recorded_to(self, out: impl Write + Send + 'static) -> Host {
        Host { record: Some(Box::new(out)), ..self }
    }

    /// Tells this what happens, on the loop: it must not wait.
    #[must_use]
    pub fn observed_by(self, observer: impl FnMut(&Notice) + Send + 'static) -> Host {
        Host { observer: Some(Box::new(observer)), ..self }
    }

    /// Has the jobs of async agents polled by this: it must not wait for them.
    #[must_use]
    pub fn with_tasks_run_by(self, run_task: impl Fn(Task) + Send + Sync + 'static) -> Host {
        Host { run_task: Some(Arc::new(run_task)), ..self }
    }

    /// Shows in its metrics what becomes of its [spans](crate::spans): whoever exports
    /// them counts here.
    #[must_use]
    pub fn counting_spans(self, span_counts: SpanCounts) -> Host {
        Host { span_counts, ..self }
    }

    /// Gives messages of extensions to this, on the loop: it must not wait.
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
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The system did not give what was asked of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What was kept cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store is somebody else's by now.
    #[error("{0}")]
    Fenced(#[from] Fenced),
    /// Whoever is on the way to this address could read tokens.
    #[error("{0} is open to other machines without TLS, so that others could read tokens on their way")]
    Cleartext(SocketAddr),
    /// There is no certificate that this place could show.
    #[error("{0} needs a certificate")]
    NoCertificate(String),
}
