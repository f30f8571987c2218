//! The load generator, which measures how fast a server is. It speaks both families on one thread, and decodes every
//! frame into types. Beside it are a server of canned answers, whose figures are the ceiling of what the generator can
//! measure, and the command that measures `arcp serve` and published servers in turn.
//!
//! The generator shares no code with the servers that are measured: it knows sockets, WebSocket frames and JSON. If a
//! server leaves a frame out, sends one twice or sends a wrong one, the outcome is a [`Fault`](fault::Fault) and not a
//! figure.

pub mod bench;
pub mod canned;
pub mod client;
pub mod fault;
pub mod frames;
pub mod link;
pub mod report;
pub mod rows;
pub mod server;
pub mod session;
