//! ARCP over blocking threads and one readiness loop: WebSocket, Unix sockets and
//! stdio, server and client. No async runtime.
//!
//! The thread that owns the [driver](arcp_host::driver) of the protocol core is also the IO loop. It waits in one
//! place for sockets and the next deadline, and never blocks elsewhere; other threads may wait for it.
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `websocket` | the server of WebSockets and Unix sockets, and clients of `ws://` | yes |
//! | `tls` | the server, and clients of `wss://`, over TLS 1.2 and 1.3: see `arcp_host::tls` | no |
//! | `stdio` | a server on stdin and stdout, and clients of programs that they start | yes |
//!
//! With either feature there is a client, which also connects to `unix:` URLs. Without both, only [`Host`] and the
//! parts for a loop of one's own remain.
//!
#![cfg_attr(feature = "websocket", doc = "```")]
#![cfg_attr(not(feature = "websocket"), doc = "```ignore")]
//! use arcp_blocking::{Client, Host, Server, ServerConfig};
//! use arcp_host::agent::{Context, Outcome};
//! use arcp_host::auth::BearerTokens;
//! use arcp_host::registry::Registry;
//! use arcp_proto::client::{ClientConfig, ResultData};
//! use arcp_proto::id::Principal;
//! use arcp_proto::json::Json;
//! use arcp_proto::model::agent::AgentRef;
//! use arcp_proto::model::event::{EventKind, JobEvent};
//! use arcp_proto::model::request::{Credential, Submit};
//! use arcp_proto::runtime::Config;
//! use arcp_proto::secret::Secret;
//!
//! // A server with one agent, for whoever has the token.
//! let mut registry = Registry::default();
//! registry.add("count", None, |job: &Context| {
//!     let to: u64 = job.parse()?;
//!     for n in 1..=to {
//!         job.progress(n, Some(to), None)?;
//!     }
//!     Outcome::of("done")
//! });
//! let (mut tokens, token) = (BearerTokens::default(), Secret::new("t0p".into()));
//! tokens.add(&token, Principal::new("alice").unwrap());
//! let host = Host::new(Config::new("doc", "1"), registry).with_authenticator(tokens);
//! let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
//! let (target, handle) = (server.url().parse()?, server.handle());
//! let serving = std::thread::spawn(move || server.run());
//!
//! // Anywhere else: a client that runs it.
//! let client = Client::connect(target, ClientConfig::new("doc", "1", Credential::Bearer(token)))?;
//! let submit = Submit { input: Some(Json::parse("3")?), ..Submit::new(AgentRef::parse("count")?) };
//! let job = client.submit(submit)?;
//! let steps = job.events().filter(|event| matches!(event, JobEvent::Emitted { kind: EventKind::Progress, .. })).count();
//! assert_eq!(steps, 3);
//! assert_eq!(job.wait()?.result, ResultData::Inline(Json::parse(r#""done""#)?));
//!
//! drop(client);
//! handle.shutdown();
//! serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(any(feature = "websocket", feature = "stdio"))]
pub mod artifacts;
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub mod client;
#[cfg(any(feature = "websocket", feature = "stdio"))]
mod dial;
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub mod inbox;
#[cfg(any(feature = "websocket", feature = "stdio"))]
mod job;
#[cfg(any(feature = "websocket", feature = "stdio"))]
mod job_tokens;
#[cfg(any(feature = "websocket", feature = "stdio"))]
mod open;
#[cfg(feature = "websocket")]
pub mod server;
#[cfg(feature = "stdio")]
pub mod stdio;
#[cfg(any(feature = "websocket", feature = "stdio"))]
mod stream;

#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use arcp_host::client::{
    Decision, Identity, JobEnd, JobUpdate, PermissionAsked, PermissionHandler, Security, Target, TargetError, Trust,
};
pub use arcp_host::driver::{Host, HostError};
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use client::{Checkpoints, Client, ClientError, Renewer};
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use job::Job;
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use job_tokens::JobTokens;
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use open::OpenClient;
#[cfg(any(feature = "websocket", feature = "stdio"))]
pub use stream::{StreamSender, Streams};

#[cfg(feature = "websocket")]
pub use server::{Listen, ListenError, Listener, Server, ServerConfig, ServerHandle, Stopped};
