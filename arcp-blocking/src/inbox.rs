//! Waiting for questions of jobs.

use std::sync::mpsc::Receiver;

use arcp_host::client::Command;

use crate::client::{Client, ClientError};

/// Returns a receiver on which one message comes when a job that this session may see has asked a question. The
/// message comes at once for the first call on a connection, and if a question was asked since the last message.
///
/// A client misses no question if it calls this again before it lists the blocked jobs. A new call ends the earlier
/// wait.
///
/// # Errors
///
/// If the session has ended. The message is an error if the runtime does not support this.
pub fn next_prompt(client: &Client) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
    client.asked(Command::AwaitPrompt)
}
