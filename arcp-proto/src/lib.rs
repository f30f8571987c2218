//! ARCP, the Agent Runtime Control Protocol, as pure state machines.
//!
//! No IO, no clock, no randomness, no `std`: bytes and completions go in, frames and actions come
//! out. [`runtime::Runtime`] is the side that hosts agents, [`client::Client`] the side that
//! submits jobs. The driver of either is one loop:
//!
//! ```text
//! loop {
//!     while let Some(output) = machine.poll_output() { perform(output) }
//!     wait until something happens, or machine.next_deadline()
//!     machine.handle(now, what_happened)
//! }
//! ```
//!
//! Sections are cited as `1.1 §7.2` (the draft of the hello family) and `RFC §10.4` (RFC-0001-v2,
//! the open family).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod entropy;
pub mod error;
pub mod id;
pub mod json;
pub mod lease;
pub mod limits;
pub mod model;
pub mod policy;
mod principal;
pub mod record;
pub mod runtime;
pub mod scope;
pub mod secret;
pub mod time;
pub mod trust;
pub mod wire;
