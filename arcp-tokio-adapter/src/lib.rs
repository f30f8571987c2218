//! ARCP over tokio: a server and a client of WebSockets and of any byte stream, and agents that are async functions.
//!
//! One task owns the [driver](arcp_host::driver) of the protocol core and every connection. It waits in one place, and
//! never blocks. What a peer can observe is decided in [`arcp_host::server`], for this adapter and for `arcp-blocking`
//! alike: the two differ only in how they wait.
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `tls` | the same over TLS, 1.2 and 1.3: see [`arcp_host::tls`] | no |
//! | `http2` | sessions as streams of HTTP/2, with TLS and without: `h2://` and `h2c://` | no |
//! | `quic` | sessions over QUIC: `quic://` | no |
//! | `tower` | [`Acceptor`] is a service that takes upgrades: an axum application mounts it | no |
//!
//! ```
//! use arcp_host::agent::{AgentError, AsyncContext, Outcome};
//! use arcp_host::auth::BearerTokens;
//! use arcp_host::registry::Registry;
//! use arcp_proto::client::{ClientConfig, ResultData};
//! use arcp_proto::id::Principal;
//! use arcp_proto::json::Json;
//! use arcp_proto::model::agent::AgentRef;
//! use arcp_proto::model::request::{Credential, Submit};
//! use arcp_proto::runtime::Config;
//! use arcp_proto::secret::Secret;
//! use arcp_tokio_adapter::{Client, Host, Server, ServerConfig};
//!
//! async fn count(job: AsyncContext, _input: Json) -> Result<Outcome, AgentError> {
//!     for n in 1..=3 {
//!         job.progress(n, Some(3), None).await?;
//!     }
//!     Outcome::of("done")
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // A server with one agent, for whoever has the token.
//! let mut registry = Registry::default();
//! registry.add_async("count", None, count);
//! let (mut tokens, token) = (BearerTokens::default(), Secret::new("t0p".into()));
//! tokens.add(&token, Principal::new("alice").unwrap());
//! let host = Host::new(Config::new("doc", "1"), registry).with_authenticator(tokens);
//! let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host).await?;
//! let (target, handle) = (format!("ws://{}/arcp", server.address()?).parse()?, server.handle());
//! let serving = tokio::spawn(server.run());
//!
//! // Anywhere else: a client that runs it. A job is a `Stream` of its events.
//! let client = Client::connect(target, ClientConfig::new("doc", "1", Credential::Bearer(token))).await?;
//! let mut job = client.submit(Submit::new(AgentRef::parse("count")?)).await?;
//! let mut events = 0;
//! while let Some(_event) = job.next_event().await {
//!     events += 1;
//! }
//! assert!(events >= 3);
//! assert_eq!(job.wait().await?.result, ResultData::Inline(Json::parse(r#""done""#)?));
//!
//! client.close().await;
//! handle.shutdown();
//! serving.await??;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod artifacts;
#[cfg(any(feature = "http2", feature = "quic"))]
mod carrier;
pub mod client;
mod dial;
#[cfg(feature = "http2")]
mod http2;
pub mod inbox;
mod job;
mod job_tokens;
#[cfg(feature = "quic")]
mod quic;
mod readiness;
pub mod server;
mod socket;
mod stream;
#[cfg(feature = "tower")]
mod tower;

pub use arcp_host::client::{
    ClientError, Decision, Identity, JobEnd, JobUpdate, PermissionAsked, PermissionHandler, Security, Target,
    TargetError, Trust, Welcome,
};
pub use arcp_host::driver::{Host, HostError};
pub use arcp_host::server::{ServerConfig, ServerHandle, Stopped};
pub use client::{Checkpoints, Client, OpenClient};
pub use dial::open_lines;
pub use job::Job;
pub use job_tokens::JobTokens;
pub use server::{Acceptor, Listen, ListenError, Listener, Server, serve};
pub use socket::ByteStream;
pub use stream::{StreamSender, Streams};
