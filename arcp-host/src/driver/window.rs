//! How much a connection may have in flight.

use arcp_proto::id::ConnId;
use arcp_proto::runtime::Input;

/// Bytes and frames that are queued for a connection and not yet written: at most 256 KiB and 512
/// frames. What is written is returned to the core as credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteWindow {
    bytes: u32,
    frames: u32,
}

impl WriteWindow {
    /// The maximum of bytes in flight.
    pub const BYTES: u32 = 256 << 10;
    /// The maximum of frames in flight.
    pub const FRAMES: u32 = 512;

    /// The credit for a connection that was just opened.
    pub fn opening_credit(conn: ConnId) -> Input {
        Input::Credit { conn, bytes: WriteWindow::BYTES, frames: WriteWindow::FRAMES }
    }

    /// Counts a queued frame.
    pub fn queued(&mut self, frame: &str) {
        self.queued_message(frame.as_bytes());
        self.frames += 1;
    }

    /// Counts the binary message of the frame before: both are one frame.
    pub fn queued_message(&mut self, message: &[u8]) {
        self.bytes = self.bytes.saturating_add(u32::try_from(message.len()).unwrap_or(u32::MAX));
    }

    /// Counts `bytes` written bytes, including the framing around frames. Returns the credit for
    /// them, with frames in proportion; `None` if nothing was queued.
    pub fn written(&mut self, conn: ConnId, bytes: usize) -> Option<Input> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes);
        let frames = match bytes {
            0 => return None,
            some => (u64::from(self.frames) * u64::from(some) / u64::from(self.bytes)) as u32,
        };
        *self = WriteWindow { bytes: self.bytes - bytes, frames: self.frames - frames };
        Some(Input::Credit { conn, bytes, frames })
    }

    /// Counts everything queued as written.
    pub fn all_written(&mut self, conn: ConnId) -> Option<Input> {
        self.written(conn, usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_queued_comes_back_as_credit_once() {
        let (conn, mut window) = (ConnId(1), WriteWindow::default());
        assert_eq!(window.all_written(conn), None);
        for frame in ["12345678", "1234", ""] {
            window.queued(frame);
        }
        assert_eq!(window.written(conn, 0), None);
        assert_eq!(window.written(conn, 5), Some(Input::Credit { conn, bytes: 5, frames: 1 }));
        window.queued("1");
        // The framing around frames is written as well.
        assert_eq!(window.written(conn, 100), Some(Input::Credit { conn, bytes: 8, frames: 3 }));
        assert_eq!(window, WriteWindow::default());
    }
}
