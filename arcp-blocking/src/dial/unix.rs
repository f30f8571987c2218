//! A Unix socket: one frame per line, without a handshake.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Wire, lines};

pub(super) fn connect(path: &Path, within: Duration, frame_bytes: usize) -> io::Result<Wire> {
    lines(arcp_host::unix::connect(path, within)?, frame_bytes)
}
