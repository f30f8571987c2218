//! How fast is a server? A load generator that speaks both wire families with
//! one thread and decodes every frame into types; a server of canned answers,
//! the ceiling of what it can see; and the command that runs both against
//! `arcp serve` and published servers, in turn.
//!
//! Nothing here is shared with the servers that are measured: it knows sockets,
//! WebSocket frames and JSON. A server that leaves something out, says it twice
//! or says something else is a [`Fault`](fault::Fault), never a figure.

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
