//! The suite's library: a virtual world around the core, and oracles that watch it. It runs on one thread, from one
//! seed, without a real clock.

pub mod agents;
pub mod artifact_log;
pub mod canaries;
#[cfg(feature = "sockets")]
pub mod certificates;
pub mod cut;
pub mod fuzz;
pub mod generator;
pub mod globs;
pub mod graphs;
#[cfg(feature = "sockets")]
pub mod home;
pub mod kept;
pub mod ledger;
#[cfg(feature = "sockets")]
pub mod lone;
pub mod model_proxy;
pub mod oracle;
pub mod pages;
pub mod ports;
#[cfg(feature = "sockets")]
pub mod provider;
pub mod raw;
pub mod reasons;
pub mod scene;
pub mod schedule_log;
pub mod script;
#[cfg(feature = "sockets")]
pub mod server;
pub mod sidecars;
#[cfg(feature = "sockets")]
pub mod sign_in;
pub mod steward;
pub mod store;
#[cfg(feature = "sockets")]
pub mod strangers;
pub mod stream_log;
#[cfg(feature = "sockets")]
pub mod turns;
#[cfg(feature = "sockets")]
pub mod until;
#[cfg(feature = "sockets")]
pub mod witness;
pub mod world;

/// The Rust code of the README, run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
