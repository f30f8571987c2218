//! A Unix socket: one frame a line, from the first byte on.

use std::io;
use std::net::Shutdown;
use std::path::Path;
use std::time::Duration;

use arcp_host::framing::Framing;

use super::{Closer, WRITE_TIMEOUT, Wire};

pub(super) fn connect(path: &Path, within: Duration, frame_bytes: usize) -> io::Result<Wire> {
    let socket = arcp_host::unix::connect(path, within)?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(Wire {
        reader: Box::new(socket.try_clone()?),
        writer: Box::new(socket.try_clone()?),
        framing: Framing::lines(frame_bytes),
        closer: Closer(Box::new(move || drop(socket.shutdown(Shutdown::Both)))),
    })
}
