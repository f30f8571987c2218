//! The host of an ARCP runtime: the [`driver`], which does what the core asks for, and the clock,
//! entropy, store, authentication and agents that it needs.
//!
//! The feature `websocket` adds the `server` around the driver, without its sockets: those belong
//! to the adapters. The feature `tls` adds TLS to that server, and `https` adds a client for HTTPS
//! requests.

#![forbid(unsafe_code)]

pub mod agent;
pub mod auth;
pub mod beneath;
pub mod blobs;
mod checks;
pub mod client;
pub mod clock;
pub mod directory;
pub mod driver;
pub mod entropy;
pub mod framing;
pub mod handoff;
#[cfg(feature = "websocket")]
pub mod http;
#[cfg(feature = "https")]
pub mod https;
pub mod input_schema;
pub mod log_line;
mod metrics;
pub mod orphans;
pub mod policy_file;
pub mod process;
pub mod provisioner;
pub mod recurrence;
pub mod registry;
pub mod replace_file;
pub mod runner;
pub mod samples;
pub mod sandbox;
#[cfg(feature = "websocket")]
pub mod server;
pub mod server_log;
pub mod spans;
pub mod sqlite;
pub mod stderr;
pub mod store;
#[cfg(feature = "tls")]
pub mod tls;
mod trace_context;
pub mod unix;
