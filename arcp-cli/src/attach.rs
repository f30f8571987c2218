//! `arcp attach`.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use arcp_blocking::{Client, ClientError, JobUpdate, StreamSender};
use arcp_host::stderr::{say, visible};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::stream::{StreamEvent, StreamKind, StreamReader, StreamSays, StreamTerms};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::args::Where;
use crate::connect::Chosen;
use crate::deliver::deliver;
use crate::exit::{Exit, Failure, of_end, of_refusal, of_terminal};
use crate::follow::{interrupted, not_whole, spoken, visible_lines, why_ended};
use crate::list::find;
use crate::watch::watched;

/// Bytes of stdin in one chunk.
const CHUNK: usize = 16 << 10;
/// How long one wait for the job or for stdin lasts.
const LOOK: Duration = Duration::from_millis(20);

/// Connect stdin and stdout to a job.
///
/// Streams of the agent go to stdout, everything else to stderr. On a terminal, Ctrl-P
/// Ctrl-Q or Ctrl-C detaches and leaves the job running; Ctrl-D ends the input. For a job
/// that takes no input, or has finished, only its output is shown.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// The job.
    pub job: String,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Attaches to a job.
pub fn run(args: &Attach) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let id = find(&client, &args.job)?;
    let (job, _) = watched(&client, &id, &args.job)?;
    let interrupted = interrupted()?;
    let mut input = Input::open(&client, &id)?;
    let mut shown = Shown::default();
    loop {
        let left = input.as_mut().is_some_and(|input| input.left);
        if left || interrupted.load(Ordering::SeqCst) {
            say(format_args!("arcp: detached, the job goes on; come back with: arcp attach {id}"));
            return Ok(if left { Exit::Success } else { Exit::Interrupted });
        }
        if let Some(open) = &mut input
            && !open.turn()?
        {
            input = None;
        }
        // Pending input does not wait for output of the job.
        let busy = input.as_ref().is_some_and(|input| input.busy);
        let Some(update) = job.next_update_in(if busy { Duration::ZERO } else { LOOK }) else {
            continue;
        };
        match update {
            JobUpdate::Event { event, .. } => shown.event(&event)?,
            JobUpdate::Ended { terminal, result, .. } => {
                drop(input);
                if !shown.any {
                    deliver(&client, &result, None)?;
                }
                if let Some(error) = &terminal.error {
                    say(format_args!("arcp: {}", visible(&why_ended(&terminal, error))));
                }
                return Ok(of_terminal(&terminal));
            }
            JobUpdate::Reconnecting { attempt, why, .. } => {
                say(format_args!("arcp: reconnecting (attempt {attempt}): {why}"));
            }
            JobUpdate::Reconnected { .. } => say(format_args!("arcp: reconnected")),
            JobUpdate::Missed { events } => {
                shown.reader = StreamReader::default();
                say(format_args!("arcp: {events} events are no longer kept and were missed"));
            }
            JobUpdate::Gone(refusal) => {
                let message = format!("the runtime does not know {id} any more: {}", refusal.message);
                return Err(Failure::new(of_refusal(&refusal), message));
            }
            JobUpdate::Lost(end) => {
                return Err(Failure::new(of_end(&end), format!("{end}; the job may go on: arcp attach {id}")));
            }
        }
    }
}

/// Stdin and the stream that carries it to the job.
struct Input<'c> {
    stream: Option<StreamSender<'c>>,
    terminal: Option<RawTerminal>,
    /// Bytes that were read and not sent yet.
    read: Vec<u8>,
    ended: bool,
    /// Whether the last turn sent something.
    busy: bool,
    /// Whether the last key was Ctrl-P.
    escapes: bool,
    /// Whether the user asked to detach.
    left: bool,
}

impl<'c> Input<'c> {
    /// Opens a stream to the agent of the job; `None` if the agent takes no input.
    fn open(client: &'c Client, job: &WireId) -> Result<Option<Input<'c>>, Failure> {
        let name = WireId::new(&format!("stdin-{}", std::process::id()));
        let name = name.ok_or_else(|| Failure::usage("a stream has a name".to_string()))?;
        let stream = match StreamSender::open(client, job.clone(), name, StreamTerms::new(StreamKind::Binary)) {
            Ok(stream) => stream,
            Err(ClientError::Refused(refusal)) if refusal.code != ErrorCode::PermissionDenied => {
                say(format_args!("arcp: stdin is not sent: {}", visible(&refusal.message)));
                return Ok(None);
            }
            Err(ClientError::Misuse(_)) => {
                say(format_args!("arcp: stdin is not sent: no agent of this runtime takes input"));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let terminal = RawTerminal::new()?;
        let input = Input {
            stream: Some(stream),
            terminal,
            read: Vec::new(),
            ended: false,
            busy: false,
            escapes: false,
            left: false,
        };
        Ok(Some(input))
    }

    /// Reads and sends what is there. Returns false when nothing more can be sent.
    fn turn(&mut self) -> Result<bool, Failure> {
        self.busy = false;
        if self.read.is_empty() && !self.ended {
            self.read_some()?;
        }
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        if !self.read.is_empty() {
            match stream.try_send(&self.read) {
                Ok(true) => {
                    self.read.clear();
                    self.busy = true;
                }
                Ok(false) => {}
                // The job has ended or takes no more input. The updates of the job say so.
                Err(ClientError::Refused(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        if self.ended && self.read.is_empty() {
            if let Some(stream) = self.stream.take() {
                // As above: a refusal shows in the updates of the job.
                let _ = stream.close(None);
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn read_some(&mut self) -> Result<(), Failure> {
        let stdin = io::stdin();
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if !matches!(poll(&mut waiting, Some(&at_once)), Ok(1..)) {
            return Ok(());
        }
        let mut bytes = vec![0; CHUNK];
        let n = stdin.lock().read(&mut bytes)?;
        self.ended = n == 0;
        for byte in &bytes[..n] {
            if self.terminal.is_none() {
                self.read.push(*byte);
                continue;
            }
            match byte {
                0x10 if !self.escapes => self.escapes = true,
                0x11 if self.escapes => self.left = true,
                0x04 => self.ended = true,
                byte => {
                    if std::mem::take(&mut self.escapes) {
                        self.read.push(0x10);
                    }
                    self.read.push(*byte);
                }
            }
        }
        Ok(())
    }
}

/// The terminal in raw mode, until this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn new() -> io::Result<Option<RawTerminal>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON);
        // Without flow control, Ctrl-Q is an ordinary key.
        raw.input_modes.remove(InputModes::IXON);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(RawTerminal(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What was shown of a job so far.
#[derive(Default)]
struct Shown {
    reader: StreamReader,
    /// Whether anything was written to stdout.
    any: bool,
}

impl Shown {
    fn event(&mut self, event: &JobEvent) -> Result<(), Failure> {
        match self.reader.read(event) {
            Some(Ok(StreamEvent { says: StreamSays::Chunk { data, .. }, .. })) => return Ok(self.put(&data)?),
            Some(Ok(_)) => return Ok(()),
            Some(Err(why)) => return Err(not_whole(&why)),
            None => {}
        }
        match event {
            JobEvent::Emitted { kind: EventKind::Log, body } if is_stdout(body) => {
                let message = body.members().unwrap_or_default().get_str("message").unwrap_or_default();
                self.put(format!("{message}\n").as_bytes())?;
            }
            JobEvent::Emitted { kind, body } => say(format_args!("{}", spoken(kind, body))),
            JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => {}
        }
        Ok(())
    }

    /// Writes to stdout. On a terminal, control characters are made visible, so that output cannot steer it.
    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.any = true;
        let mut out = io::stdout().lock();
        match out.is_terminal() {
            true => out.write_all(visible_lines(&String::from_utf8_lossy(data)).as_bytes())?,
            false => out.write_all(data)?,
        }
        out.flush()
    }
}

/// Whether the body of a log event says that the line is from the stdout of a program.
fn is_stdout(body: &arcp_proto::json::Json) -> bool {
    let members = body.members().unwrap_or_default();
    members.get("attributes").is_some_and(|attributes| attributes.contains(r#""stream":"stdout""#))
}
