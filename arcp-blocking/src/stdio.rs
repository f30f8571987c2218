//! A server on stdin and stdout: one connection, one frame per line. Its peer is the parent process.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arcp_host::driver::{Driver, Fenced, Host, HostError, Sockets, WriteWindow};
use arcp_host::framing::{Framed, Framing};
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{CloseReason, Input, Transport};

const CONN: ConnId = ConnId(1);
/// The most frames of the parent that are handled before agents get their turn.
const TURN: usize = 64;
/// How long agents may continue after the parent has left.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// How long a peer that has closed its side is still sent answers.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// Serves one peer until it leaves. `peer` is its principal; with `None` it must present a credential.
///
/// # Errors
///
/// If the configuration cannot work, a thread cannot be started, or another process has taken over the store: then
/// nothing more is written.
pub fn serve(
    host: Host,
    peer: Option<Principal>,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), HostError> {
    let frame_bytes = host.config.limits.frame.frame_bytes;
    let this = std::thread::current();
    let (reader, writer) = (this.clone(), this.clone());
    let mut driver = Driver::new(host, move || this.unpark())?;
    let ((frames, to_write), (told, written)) = (channel(), channel());
    let cut = Arc::new(AtomicBool::new(false));
    let (tell, its_cut) = (Tell { told, waiter: writer }, cut.clone());
    let write = move || write(output, &to_write, &tell, &its_cut);
    let writer = std::thread::Builder::new().name("writer".to_string()).spawn(write)?;
    // At most one frame is read ahead.
    let (arrived, received) = sync_channel(1);
    let read = move || read(input, &arrived, &reader, frame_bytes);
    std::thread::Builder::new().name("reader".to_string()).spawn(read)?;
    let mut pipes = Pipes { frames: Some(frames), paused: false, ended: None };
    driver.handle(
        Input::Opened {
            conn: CONN,
            transport: Transport::Lines,
            address: None,
            binding: None,
            peer: peer.map(Into::into),
        },
        &mut pipes,
    )?;
    driver.handle(WriteWindow::opening_credit(CONN), &mut pipes)?;
    if let Err(fenced) = run(&mut driver, &mut pipes, &received, &written) {
        cut.store(true, Ordering::SeqCst);
        return Err(fenced.into());
    }
    drop(pipes);
    // Agents end although the peer reads nothing: the writer waits for it as long as it keeps its side open.
    drop(driver);
    let _ = writer.join();
    Ok(())
}

struct Pipes {
    /// `None` when nothing more is to be written.
    frames: Option<Sender<String>>,
    paused: bool,
    /// When the peer closed its side.
    ended: Option<Instant>,
}

impl Sockets for Pipes {
    fn send(&mut self, _: ConnId, frame: &str) {
        if let Some(frames) = &self.frames {
            // If the writer has ended, the parent has gone.
            let _ = frames.send(frame.to_string());
        }
    }

    fn send_sidecar(&mut self, _: ConnId, message: Vec<u8>) {
        debug_assert!(message.is_empty(), "a line is a frame");
    }

    fn close(&mut self, _: ConnId, _: CloseReason) {
        self.frames = None;
    }

    fn pause_reading(&mut self, _: ConnId) {
        self.paused = true;
    }

    fn resume_reading(&mut self, _: ConnId) {
        self.paused = false;
    }
}

fn run(
    driver: &mut Driver,
    pipes: &mut Pipes,
    received: &Receiver<Input>,
    written: &Receiver<Input>,
) -> Result<(), Fenced> {
    let mut leave_at = None;
    loop {
        driver.take_inbox(pipes)?;
        while let Ok(input) = written.try_recv() {
            hand_over(driver, pipes, input)?;
        }
        let mut turn = 0;
        while turn < TURN
            && !pipes.paused
            && let Ok(input) = received.try_recv()
        {
            if matches!(input, Input::Closed { .. }) {
                // The peer sends nothing more, but still gets the answers that it is owed.
                pipes.ended = Some(Instant::now());
            } else {
                hand_over(driver, pipes, input)?;
            }
            turn += 1;
        }
        driver.tick(turn < TURN, pipes)?;
        let ended = pipes.ended.filter(|_| pipes.frames.is_some());
        if ended.is_some_and(|since| since.elapsed() >= LONGEST_ANSWER || !driver.owes(CONN)) {
            pipes.frames = None;
            driver.handle(Input::Closed { conn: CONN }, pipes)?;
        }
        if pipes.frames.is_none() && leave_at.is_none() {
            leave_at = Some(Instant::now() + LAST_GRACE);
        }
        let left = leave_at.map(|at| at.saturating_duration_since(Instant::now()));
        let answered =
            pipes.ended.filter(|_| leave_at.is_none()).map(|since| LONGEST_ANSWER.saturating_sub(since.elapsed()));
        if left.is_some_and(|left| left.is_zero() || driver.running_agents() == 0) {
            return Ok(());
        }
        let more = (turn == TURN).then_some(Duration::ZERO);
        match driver.next_wait().into_iter().chain(left).chain(answered).chain(more).min() {
            Some(wait) => std::thread::park_timeout(wait),
            None => std::thread::park(),
        }
    }
}

fn hand_over(driver: &mut Driver, pipes: &mut Pipes, input: Input) -> Result<(), Fenced> {
    if matches!(input, Input::Closed { .. }) {
        pipes.frames = None;
    }
    driver.handle(input, pipes)
}

/// Reads frames and hands them over one at a time; at the end of the input, reports that it was closed.
fn read(mut input: impl Read, arrived: &SyncSender<Input>, waiter: &Thread, frame_bytes: usize) {
    let mut framing = Framing::lines(frame_bytes);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => framing.feed(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        while let Some(framed) = framing.next_frame() {
            let input = match framed {
                Framed::Frame(frame) => Input::Received { conn: CONN, frame },
                Framed::Binary(message) => Input::ReceivedBinary { conn: CONN, message },
                Framed::TooLong => Input::TooLong { conn: CONN },
                // These come from WebSockets; a pipe reports its end by itself.
                Framed::End(_) | Framed::TooLarge(_) => continue,
            };
            if arrived.send(input).is_err() {
                return;
            }
            waiter.unpark();
        }
    }
    let _ = arrived.send(Input::Closed { conn: CONN });
    waiter.unpark();
}

/// Tells the loop what was written.
struct Tell {
    told: Sender<Input>,
    waiter: Thread,
}

impl Tell {
    fn tell(&self, input: Input) {
        // The loop ends only with everything else.
        let _ = self.told.send(input);
        self.waiter.unpark();
    }
}

/// Writes all queued frames at once, and returns their size as credit. Writes nothing after a cut.
fn write(mut output: impl Write, frames: &Receiver<String>, told: &Tell, cut: &AtomicBool) {
    let mut buffer = Vec::new();
    while let Ok(first) = frames.recv() {
        let (mut bytes, mut count) = (0, 0);
        for frame in std::iter::once(first).chain(frames.try_iter()) {
            bytes += frame.len();
            count += 1;
            buffer.extend_from_slice(frame.as_bytes());
            buffer.push(b'\n');
        }
        if cut.load(Ordering::SeqCst) {
            return;
        }
        if output.write_all(&buffer).and_then(|()| output.flush()).is_err() {
            return told.tell(Input::Closed { conn: CONN });
        }
        buffer.clear();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        told.tell(Input::Credit { conn: CONN, bytes, frames: count });
    }
}
