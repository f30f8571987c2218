//! The vocabulary that both wire families share.
//!
//! The spellings of each family are in [`crate::wire`].

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
