//! What both wire families say, in one vocabulary.
//!
//! Nothing here knows how a family spells it; [`crate::wire`] does.

pub mod agent;
pub mod artifact;
pub mod checkpoint;
pub mod credential;
pub mod event;
pub mod feature;
pub mod handoff;
pub mod job;
pub mod job_token;
pub mod prompt;
pub mod reply;
pub mod request;
pub mod schedule;
pub mod session;
mod stored_form;
pub mod stream;
pub mod upload;
pub mod workflow;
