//! ARCP over blocking threads and one readiness loop: WebSocket and stdio,
//! server and client. No async runtime.
//!
//! The thread that owns the protocol core is also the IO loop. It waits in
//! one place, until the next deadline; everybody else may wait for it, and
//! it waits for nobody.

#![forbid(unsafe_code)]

mod admission;
pub mod client;
mod connections;
mod dial;
mod engine;
mod framing;
mod http;
mod open;
mod partial;
mod readers;
pub mod server;
pub mod stdio;

pub use client::{Client, ClientError, Job, JobUpdate};
pub use dial::{Target, TargetError};
pub use engine::{ExtensionTaker, Host, HostError, Observer};
pub use open::OpenClient;
pub use server::{Server, ServerConfig, ServerHandle};
