//! A runtime that is a program: it serves on its stdin and stdout.

use std::io;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use arcp_host::framing::Framing;

use super::{Closer, Wire};

pub(super) fn start(command: &str, frame_bytes: usize) -> io::Result<Wire> {
    let mut child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the program has no pipes"));
    };
    let child = Mutex::new(child);
    let end = move || {
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    };
    Ok(Wire {
        reader: Box::new(stdout),
        writer: Box::new(stdin),
        framing: Framing::lines(frame_bytes),
        closer: Closer(Box::new(end)),
    })
}
