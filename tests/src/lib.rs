//! The suite's library: a virtual world around the core, and the oracles
//! that watch it. One thread, one seed, no clock.

pub mod agents;
pub mod artifact_log;
pub mod canaries;
pub mod certificates;
pub mod cut;
pub mod fuzz;
pub mod generator;
pub mod globs;
pub mod graphs;
pub mod home;
pub mod kept;
pub mod ledger;
pub mod model_proxy;
pub mod oracle;
pub mod pages;
pub mod provider;
pub mod raw;
pub mod reasons;
pub mod scene;
pub mod schedule_log;
pub mod script;
pub mod server;
pub mod sidecars;
pub mod sign_in;
pub mod steward;
pub mod store;
pub mod strangers;
pub mod stream_log;
pub mod until;
pub mod witness;
pub mod world;

/// The README's Rust, run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
