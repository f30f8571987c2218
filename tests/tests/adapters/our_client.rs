//! Our clients.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use arcp_blocking::{ClientError, JobUpdate, Target};
use arcp_host::client::Welcome;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::WireId;
use arcp_proto::model::artifact::{ArtifactRef, PutArtifact};
use arcp_proto::model::reply::{FetchedArtifact, JobPage};
use arcp_proto::model::request::{Credential, Extension, ListQuery, ResumeClaim, Watch};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::server::{PATIENCE, submit};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::carried::stream;
use crate::site::Adapter::{self, Blocking, Tokio};
use crate::site::{Site, runtime};

/// Our client over an adapter.
pub enum OurClient {
    Blocking(arcp_blocking::Client),
    Tokio(Runtime, arcp_tokio_adapter::Client),
}

/// A job that one of them follows.
pub enum OurJob<'a> {
    Blocking(arcp_blocking::Job),
    Tokio(&'a Runtime, arcp_tokio_adapter::Job),
}

/// A server on stdin and stdout has one connection.
fn gone() -> io::Error {
    io::Error::other("there was one pipe")
}

impl OurClient {
    pub fn connect(adapter: Adapter, site: &Site, resume: Option<ResumeClaim>) -> OurClient {
        OurClient::connect_as(adapter, site, resume, Family::Hello)
    }

    pub fn connect_as(adapter: Adapter, site: &Site, resume: Option<ResumeClaim>, family: Family) -> OurClient {
        let target = site.target.clone();
        let mut config = ClientConfig::new("test", "1", Credential::Bearer(Secret::new("tok-a".into())));
        config.extensions = vec!["arcpx.acme".into()];
        (config.resume, config.family) = (resume, family);
        match adapter {
            // It does not speak what carries others.
            Blocking if matches!(target, Target::Http2 { .. } | Target::Quic { .. }) => {
                let (to, security) = (target.clone(), site.security.clone());
                let open = move |_| Ok(stream(&to, &security));
                let client = arcp_blocking::Client::connect_over(target, &site.security, open, config);
                OurClient::Blocking(client.expect("a session"))
            }
            Blocking if matches!(target, Target::Program(_)) => {
                let parent = Mutex::new(Some(site.parent()));
                let open = move |_| parent.lock().expect("no panic").take().ok_or_else(gone);
                let client = arcp_blocking::Client::connect_over(target, &site.security, open, config);
                OurClient::Blocking(client.expect("a session"))
            }
            Tokio if matches!(target, Target::Program(_)) => {
                let parent = Mutex::new(Some(site.parent()));
                let connect = move || {
                    let parent = parent.lock().expect("no panic").take();
                    async {
                        let parent = parent.ok_or_else(gone)?;
                        parent.set_nonblocking(true)?;
                        tokio::net::UnixStream::from_std(parent)
                    }
                };
                let runtime = runtime();
                let client = runtime.block_on(arcp_tokio_adapter::Client::connect_by(connect, config));
                OurClient::Tokio(runtime, client.expect("a session"))
            }
            Blocking => {
                let client = arcp_blocking::Client::connect_with(target, &site.security, config);
                OurClient::Blocking(client.expect("a session"))
            }
            Tokio => {
                let runtime = runtime();
                let client = runtime.block_on(arcp_tokio_adapter::Client::connect_with(target, &site.security, config));
                OurClient::Tokio(runtime, client.expect("a session"))
            }
            Adapter::EventLoop => unreachable!("it has no client"),
        }
    }

    pub fn welcome(&self) -> &Welcome {
        match self {
            OurClient::Blocking(client) => client.welcome(),
            OurClient::Tokio(_, client) => client.welcome(),
        }
    }

    pub fn submit(&self, agent: &str, input: &str) -> Result<OurJob<'_>, ClientError> {
        let submit = submit(agent, input);
        Ok(match self {
            OurClient::Blocking(client) => OurJob::Blocking(client.submit(submit)?),
            OurClient::Tokio(runtime, client) => OurJob::Tokio(runtime, runtime.block_on(client.submit(submit))?),
        })
    }

    pub fn watch(&self, job: WireId) -> Result<OurJob<'_>, ClientError> {
        let watch = Watch { job, after: None, history: Some(true) };
        Ok(match self {
            OurClient::Blocking(client) => OurJob::Blocking(client.watch(watch)?),
            OurClient::Tokio(runtime, client) => OurJob::Tokio(runtime, runtime.block_on(client.watch(watch))?),
        })
    }

    pub fn list(&self) -> Result<JobPage, ClientError> {
        match self {
            OurClient::Blocking(client) => client.list(ListQuery::default()),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.list(ListQuery::default())),
        }
    }

    pub fn cancel(&self, job: WireId) -> Result<(), ClientError> {
        match self {
            OurClient::Blocking(client) => client.cancel(job, None),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.cancel(job, None)),
        }
    }

    /// Paces a stream that is not there, and cancels it.
    pub fn steer(&self, stream: &WireId) -> Result<(), ClientError> {
        let slowly = Some(Duration::from_secs(1));
        match self {
            OurClient::Blocking(client) => {
                let streams = arcp_blocking::Streams::of(client);
                streams.pace(stream.clone(), slowly)?;
                streams.cancel(stream.clone(), None)
            }
            OurClient::Tokio(runtime, client) => runtime.block_on(async {
                let streams = arcp_tokio_adapter::Streams::of(client);
                streams.pace(stream.clone(), slowly).await?;
                streams.cancel(stream.clone(), None).await
            }),
        }
    }

    pub fn put(&self, put: PutArtifact) -> ArtifactRef {
        match self {
            OurClient::Blocking(client) => client.put_artifact(put),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.put_artifact(put)),
        }
        .expect("it is kept")
    }

    pub fn fetch(&self, id: WireId) -> FetchedArtifact {
        match self {
            OurClient::Blocking(client) => client.fetch_artifact(id),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.fetch_artifact(id)),
        }
        .expect("it is there")
    }

    /// The next message of an extension.
    pub fn next_extension(&self) -> Option<Extension> {
        match self {
            OurClient::Blocking(client) => client.open()?.next_extension_in(PATIENCE),
            OurClient::Tokio(runtime, client) => runtime.block_on(async { client.open()?.next_extension().await }),
        }
    }

    pub fn cut(&self) {
        match self {
            OurClient::Blocking(client) => client.break_connection(),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.break_connection()),
        }
        .expect("it goes on");
    }

    pub fn leave(self) -> Option<ResumeClaim> {
        match self {
            OurClient::Blocking(client) => client.leave(),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.leave()),
        }
    }

    pub fn close(self) {
        match self {
            OurClient::Blocking(client) => drop(client),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.close()),
        }
    }
}

impl OurJob<'_> {
    pub fn id(&self) -> WireId {
        match self {
            OurJob::Blocking(job) => job.id.clone(),
            OurJob::Tokio(_, job) => job.id.clone(),
        }
    }

    /// The next update that is the same each time: how often and how long it takes
    /// to connect again is not.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let update = match self {
                OurJob::Blocking(job) => job.next_update()?,
                OurJob::Tokio(runtime, job) => runtime.block_on(job.next_update())?,
            };
            match update {
                JobUpdate::Event { seq, event, .. } => return Some(json!([seq, format!("{event:?}")])),
                JobUpdate::Ended { seq, terminal, result } => {
                    return Some(json!([seq, format!("{terminal:?}"), format!("{result:?}")]));
                }
                JobUpdate::Reconnecting { .. } => {}
                JobUpdate::Reconnected { resumed } => return Some(json!({"resumed": resumed})),
                JobUpdate::Missed { events } => return Some(json!({"missed": events})),
                JobUpdate::Gone(refusal) => return Some(json!(format!("{refusal:?}"))),
                JobUpdate::Lost(end) => return Some(json!(format!("{end:?}"))),
            }
        }
    }

    /// The artifact that its job ends with.
    pub fn stored(mut self) -> ArtifactRef {
        loop {
            let update = match &mut self {
                OurJob::Blocking(job) => job.next_update(),
                OurJob::Tokio(runtime, job) => runtime.block_on(job.next_update()),
            };
            let update = update.expect("it ends");
            if let JobUpdate::Ended { result: ResultData::Stored(stored), .. } = update {
                return *stored;
            }
            assert!(matches!(update, JobUpdate::Event { .. }), "{update:?}");
        }
    }

    /// Up to where a `gate` says that it waits.
    pub fn until_it_waits(&mut self) -> Vec<Value> {
        self.until("waiting")
    }

    /// Up to an update that has this word.
    pub fn until(&mut self, word: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|update: &Value| update.to_string().contains(word)) {
            seen.push(self.next().unwrap_or_else(|| panic!("it ends before `{word}`: {seen:?}")));
        }
        seen
    }

    pub fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
