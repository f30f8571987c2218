//! Waiting for questions to people.

use arcp_host::client::{ClientError, Command};

use crate::client::Client;

/// Waits until people are asked something in a job that this session may see. It returns at once
/// for the first call on a connection, or if something was asked since it last returned. To miss no
/// question, call it again before listing the blocked jobs. A new call ends the previous wait.
///
/// # Errors
///
/// If the runtime does not support it, or the session has ended.
pub async fn next_prompt(client: &Client) -> Result<(), ClientError> {
    client.ask(Command::AwaitPrompt).await
}
