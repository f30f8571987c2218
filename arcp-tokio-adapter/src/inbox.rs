//! Waiting for questions to people.

use arcp_host::client::{ClientError, Command};

use crate::client::Client;

/// Waits until people are asked something in a job that this session may see: not at
/// all the first time on a connection, and where something was asked since it last did.
/// Whoever waits for the next time before it lists the jobs that are blocked misses
/// none; waiting again ends the wait before.
///
/// # Errors
///
/// If the runtime has no word for it, or the session is over.
pub async fn next_prompt(client: &Client) -> Result<(), ClientError> {
    client.ask(Command::AwaitPrompt).await
}
