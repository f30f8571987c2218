//! Waiting for questions to people.

use std::sync::mpsc::Receiver;

use arcp_host::client::Command;

use crate::client::{Client, ClientError};

/// Where it is received, once, that people are asked something in a job that this
/// session may see: at once the first time on a connection, and where something was
/// asked since that was received last. Whoever asks for the next time before it lists
/// the jobs that are blocked misses none; asking again ends the wait before.
///
/// # Errors
///
/// If the session is over; what is received is an error if the runtime has no word for
/// it.
pub fn next_prompt(client: &Client) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
    client.asked(Command::AwaitPrompt)
}
