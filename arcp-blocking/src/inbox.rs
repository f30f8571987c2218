//! Waiting for questions to people.

use std::sync::mpsc::Receiver;

use arcp_host::client::Command;

use crate::client::{Client, ClientError};

/// Returns a channel that receives one message when people are asked something in a job that this
/// session may see: at once for the first call on a connection, or if something was asked since the
/// last message. To miss no question, call it again before listing the blocked jobs. A new call
/// ends the previous wait.
///
/// # Errors
///
/// If the session has ended. The message is an error if the runtime does not support it.
pub fn next_prompt(client: &Client) -> Result<Receiver<Result<(), ClientError>>, ClientError> {
    client.asked(Command::AwaitPrompt)
}
