//! ARCP over blocking threads and one readiness loop: WebSocket and stdio,
//! server and client. No async runtime.
//!
//! The thread that owns the [driver](arcp_host::driver) of the protocol core is
//! also the IO loop. It waits in one place, until the next deadline; everybody
//! else may wait for it, and it waits for nobody.

#![forbid(unsafe_code)]

mod admission;
pub mod client;
mod connections;
mod dial;
mod framing;
mod http;
mod open;
mod partial;
pub mod server;
pub mod stdio;

pub use arcp_host::driver::{Host, HostError};
pub use client::{Client, ClientError, Job, JobUpdate};
pub use dial::{Target, TargetError};
pub use open::OpenClient;
pub use server::{Port, Server, ServerConfig, ServerHandle};
