//! Waiting for questions of jobs.

use arcp_host::client::{ClientError, Command};

use crate::client::Client;

/// Waits until a job that this session may see has asked a question. Returns at once for the first call on a
/// connection, and if a question was asked since the last return.
///
/// A client misses no question if it calls this again before it lists the blocked jobs. A new call ends the earlier
/// wait.
///
/// # Errors
///
/// If the runtime does not support it, or the session has ended.
pub async fn next_prompt(client: &Client) -> Result<(), ClientError> {
    client.ask(Command::AwaitPrompt).await
}
