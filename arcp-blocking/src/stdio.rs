//! A server on stdin and stdout: one connection, one line a frame. The
//! parent process is who it serves.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use arcp_host::agent::Inbox as _;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{CloseReason, Input, Transport};

use crate::engine::{Engine, Host, HostError, Links, Mailbox, Wake};
use crate::framing::{Framed, Framing};

const CONN: ConnId = ConnId(1);
/// Bytes and frames in flight to the writer.
const WINDOW_BYTES: u32 = 256 << 10;
const WINDOW_FRAMES: u32 = 512;
/// How long agents may go on after the parent has left.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// The inbox is waited on directly: there is nothing to wake.
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Serves one peer until it leaves. `peer` is who it is, unless it has to
/// prove it.
///
/// # Errors
///
/// If the configuration cannot work or a thread cannot be started.
pub fn serve(
    host: Host,
    peer: Option<Principal>,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), HostError> {
    let frame_bytes = host.config.limits.frame_bytes;
    let mut engine = Engine::new(host, Box::new(NoWake))?;
    let (frames, to_write) = channel();
    let mailbox = engine.mailbox();
    let writer = mailbox.clone();
    let written =
        std::thread::Builder::new().name("writer".to_string()).spawn(move || write(output, &to_write, &writer))?;
    engine.input(Input::Opened { conn: CONN, transport: Transport::Lines, address: None, peer });
    engine.input(Input::Credit { conn: CONN, bytes: WINDOW_BYTES, frames: WINDOW_FRAMES });
    let (gate, permits) = channel();
    std::thread::Builder::new()
        .name("reader".to_string())
        .spawn(move || read(input, &mailbox, &permits, frame_bytes))?;
    let mut link = Link { frames: Some(frames), gate, paused: false };
    run(&mut engine, &mut link)?;
    drop(link);
    let _ = written.join();
    Ok(())
}

struct Link {
    frames: Option<Sender<String>>,
    /// One permit lets the reader hand over one frame.
    gate: Sender<()>,
    paused: bool,
}

impl Links for Link {
    fn send(&mut self, _: ConnId, frame: String) {
        if let Some(frames) = &self.frames {
            // A writer that is gone is a parent that is gone.
            let _ = frames.send(frame);
        }
    }

    fn close(&mut self, _: ConnId, _: CloseReason) {
        self.frames = None;
    }

    fn admit(&mut self, _: ConnId) {}

    fn fragment(&mut self, _: ConnId, _: usize) {}

    fn pause(&mut self, _: ConnId, paused: bool) {
        if self.paused && !paused {
            let _ = self.gate.send(());
        }
        self.paused = paused;
    }
}

fn run(engine: &mut Engine, link: &mut Link) -> io::Result<()> {
    let mut leave_at = None;
    let _ = link.gate.send(());
    loop {
        engine.drain(link);
        if link.frames.is_none() && leave_at.is_none() {
            leave_at = Some(Instant::now() + LAST_GRACE);
        }
        if let Some(at) = leave_at
            && (engine.running_agents() == 0 || Instant::now() >= at)
        {
            return Ok(());
        }
        let wait = engine.wait().unwrap_or(Duration::from_secs(3600)).min(if leave_at.is_some() {
            LAST_GRACE
        } else {
            Duration::MAX
        });
        let input = match engine.inbox.recv_timeout(wait) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::Tick,
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the inbox is gone")),
        };
        let received = matches!(input, Input::Received { .. } | Input::TooLong { .. });
        if matches!(input, Input::Closed { .. }) {
            link.frames = None;
        }
        engine.input(input);
        engine.drain(link);
        if received && !link.paused {
            let _ = link.gate.send(());
        }
    }
}

/// Hands frames over one at a time, each with a permit.
fn read(mut input: impl Read, mailbox: &Arc<Mailbox>, permits: &Receiver<()>, frame_bytes: usize) {
    let mut framing = Framing::lines(frame_bytes);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => framing.feed(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        while let Some(framed) = framing.next() {
            if permits.recv().is_err() {
                return;
            }
            match framed {
                Framed::Frame(frame) => mailbox.put(Input::Received { conn: CONN, frame }),
                Framed::TooLong => mailbox.put(Input::TooLong { conn: CONN }),
                // A pipe says so by itself.
                Framed::End(_) | Framed::TooLarge(_) => {}
            }
        }
    }
    mailbox.put(Input::Closed { conn: CONN });
}

/// Writes what is queued with one write; what is written is credit.
fn write(mut output: impl Write, frames: &Receiver<String>, mailbox: &Arc<Mailbox>) {
    let mut buffer = Vec::new();
    while let Ok(first) = frames.recv() {
        let (mut bytes, mut count) = (0, 0);
        for frame in std::iter::once(first).chain(frames.try_iter()) {
            bytes += frame.len();
            count += 1;
            buffer.extend_from_slice(frame.as_bytes());
            buffer.push(b'\n');
        }
        if output.write_all(&buffer).and_then(|()| output.flush()).is_err() {
            return mailbox.put(Input::Closed { conn: CONN });
        }
        buffer.clear();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        mailbox.put(Input::Credit { conn: CONN, bytes, frames: count });
    }
}
