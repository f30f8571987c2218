//! The pipes of a program: its input, and its output until it has exited.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};

use super::answers::Answers;

/// The longest line taken as one, in bytes.
pub(super) const LINE_BYTES: usize = 900 << 10;
/// How many bytes of a longer line are counted, to report its size.
const COUNTED_BYTES: u64 = 64 << 20;
/// How long the processes that the program started may still print after its exit, and how long its
/// exit may go unnoticed while they hold its pipes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long it may go unnoticed that a held stream can go on.
const HELD: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 16 << 10;

/// A printed line, without its line end. Empty lines are skipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// The beginning of a line longer than [`LINE_BYTES`], and its size in bytes, as far as it was
    /// counted.
    TooLong {
        start: Vec<u8>,
        bytes: u64,
    },
}

/// The output that a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

/// Our ends of a program's pipes. One thread waits for all of them.
pub(super) struct Pipes {
    input: Option<Input>,
    out: Output<File>,
    err: Output<ChildStderr>,
}

impl Pipes {
    /// The pipes of a program that was just started, and its input. With `answers`, its stdin stays
    /// open for them. With a `terminal`, that is read instead of pipes.
    ///
    /// # Errors
    ///
    /// If its stdin cannot be made non-blocking.
    pub(super) fn new(
        child: &mut Child,
        terminal: Option<File>,
        input: Vec<u8>,
        answers: Option<Answers>,
    ) -> io::Result<Pipes> {
        let stdin = child.stdin.take();
        if let Some(pipe) = &stdin {
            ioctl_fionbio(pipe, true)?;
        }
        let stdout = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        Ok(Pipes {
            input: stdin.map(|pipe| Input { pipe, bytes: input, written: 0, answers }),
            out: Output::new(Source::Stdout, terminal.or(stdout)),
            err: Output::new(Source::Stderr, child.stderr.take()),
        })
    }

    /// Writes the input and passes on every line, until `take` breaks off, all pipes are closed, or
    /// the program has exited and the time for last lines has passed, even if another process still
    /// holds its pipes. `exited` is called often, and more often while `waits` says that something
    /// waits for a stream.
    ///
    /// # Errors
    ///
    /// If polling the pipes fails.
    pub(super) fn run(
        mut self,
        mut exited: impl FnMut() -> bool,
        waits: impl Fn() -> bool,
        take: &mut impl FnMut(Source, Line) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut until = None;
        while self.is_open() {
            let ready = self.wait(if waits() { HELD } else { LAST_WORDS })?;
            if ready.input {
                self.input = self.input.take().and_then(Input::write);
            }
            let mut taken = ControlFlow::Continue(());
            if ready.out {
                taken = self.out.read(READ_BYTES, take);
            } else if self.out.size > LINE_BYTES as u64 {
                // The program has stopped reading and writing, but its long line has no end yet:
                // its size so far is reported.
                taken = self.out.end_line(take);
            }
            if ready.err && taken.is_continue() {
                taken = self.err.read(READ_BYTES, take);
            }
            if taken.is_break() {
                return Ok(());
            }
            if until.is_none() && exited() {
                until = Some(Instant::now() + LAST_WORDS);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
        }
        // The program has exited or closed its pipes, so that breaking off ends nothing.
        let _ = self.out.drain(take);
        let _ = self.err.drain(take);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.input.as_ref().is_some_and(Input::has_more) || self.out.pipe.is_some() || self.err.pipe.is_some()
    }

    fn wait(&self, at_most: Duration) -> io::Result<Ready> {
        let (input, err) = (self.input.as_ref().filter(|input| input.has_more()), self.err.pipe.as_ref());
        let reads = !self.input.as_ref().is_some_and(Input::is_unread);
        let out = self.out.pipe.as_ref().filter(|_| reads);
        let mut fds = Vec::with_capacity(3);
        fds.extend(input.map(|input| PollFd::new(&input.pipe, PollFlags::OUT)));
        fds.extend(out.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(err.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let span = Timespec { tv_sec: 0, tv_nsec: i64::from(at_most.subsec_nanos()) };
        match poll(&mut fds, Some(&span)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // A pipe whose other end is closed is ready too.
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |open: bool| open && ready.next().unwrap_or(false);
        Ok(Ready { input: next(input.is_some()), out: next(out.is_some()), err: next(err.is_some()) })
    }
}

struct Ready {
    input: bool,
    out: bool,
    err: bool,
}

struct Input {
    pipe: ChildStdin,
    bytes: Vec<u8>,
    written: usize,
    /// Answers for the program; the pipe stays open for them.
    answers: Option<Answers>,
}

impl Input {
    fn has_more(&self) -> bool {
        self.written < self.bytes.len() || self.answers.as_ref().is_some_and(|answers| !answers.is_empty())
    }

    fn is_unread(&self) -> bool {
        self.answers.as_ref().is_some_and(Answers::are_unread)
    }

    /// Writes as much as the pipe takes; `None` when everything is written, or the program has
    /// closed its stdin.
    fn write(mut self) -> Option<Input> {
        if self.written == self.bytes.len() {
            self.answers.as_ref()?.write(&mut self.pipe).ok()?;
            return Some(self);
        }
        match self.pipe.write(&self.bytes[self.written..]) {
            Ok(n) => self.written += n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
        (self.written < self.bytes.len() || self.answers.is_some()).then_some(self)
    }
}

/// One of the two outputs, with the line that is being read.
struct Output<R> {
    source: Source,
    pipe: Option<R>,
    /// At most one byte longer than the longest line.
    line: Vec<u8>,
    /// The size of the whole line, in bytes.
    size: u64,
}

impl<R: Read + AsFd> Output<R> {
    fn new(source: Source, pipe: Option<R>) -> Output<R> {
        Output { source, pipe, line: Vec::new(), size: 0 }
    }

    /// Reads once.
    fn read(&mut self, most: usize, take: &mut impl FnMut(Source, Line) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut buffer = [0; READ_BYTES];
        let most = most.min(buffer.len());
        match self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer[..most])) {
            Some(Ok(n)) if n > 0 => return self.feed(&buffer[..n], take),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Ok(_) | Err(_)) | None => self.pipe = None,
        }
        ControlFlow::Continue(())
    }

    /// Reads what is in the pipe after the exit, and no more. The last line may have no line end.
    fn drain(&mut self, take: &mut impl FnMut(Source, Line) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut left = self.pipe.as_ref().map_or(0, |pipe| ioctl_fionread(pipe).unwrap_or(0));
        while left > 0 && self.pipe.is_some() {
            let most = left.min(READ_BYTES as u64);
            self.read(most as usize, take)?;
            left -= most;
        }
        self.end_line(take)
    }

    fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(Source, Line) -> ControlFlow<()>) -> ControlFlow<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = (LINE_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..room.min(text.len())]);
            self.size += text.len() as u64;
            if text.len() < part.len() || self.size >= COUNTED_BYTES {
                self.end_line(take)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn end_line(&mut self, take: &mut impl FnMut(Source, Line) -> ControlFlow<()>) -> ControlFlow<()> {
        let (mut line, size) = (std::mem::take(&mut self.line), std::mem::take(&mut self.size));
        if line.len() as u64 == size && line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            return ControlFlow::Continue(());
        }
        let line = if line.len() > LINE_BYTES { Line::TooLong { start: line, bytes: size } } else { Line::Whole(line) };
        take(self.source, line)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Feeds pieces as they come from a pipe; returns the lines.
    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let mut output = Output::<std::fs::File>::new(Source::Stdout, None);
        let mut lines = Vec::new();
        let mut take = |_, line| {
            lines.push(line);
            ControlFlow::Continue(())
        };
        for piece in pieces {
            let _ = output.feed(piece, &mut take);
        }
        let _ = output.drain(&mut take);
        lines
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_are_put_together_from_any_pieces() {
        let (a, b) = (whole("a"), whole("bc"));
        assert_eq!(lines(&[b"a\nb", b"c"]), [a, b]);
        assert_eq!(lines(&[b"a\r", b"\n\n\r\nbc\r\n"]), [whole("a"), whole("bc")]);
        assert_eq!(lines(&[b"", b"\n"]), []);
    }

    /// Whether that is taken which is printed once the program is seen to have exited.
    fn has_last_words() -> bool {
        let (pipe, writer) = std::io::pipe().expect("a pipe");
        let out = Output::new(Source::Stdout, Some(File::from(OwnedFd::from(pipe))));
        let pipes = Pipes { input: None, out, err: Output::new(Source::Stderr, None) };
        let (exited, writer) = (Cell::new(false), Cell::new(Some(writer)));
        let exits = || {
            exited.set(true);
            true
        };
        let print = || {
            if exited.get()
                && let Some(mut writer) = writer.take()
            {
                writer.write_all(b"last words").expect("there is room");
            }
            true
        };
        let mut lines = Vec::new();
        let mut take = |_, line| {
            lines.push(line);
            ControlFlow::Continue(())
        };
        pipes.run(exits, print, &mut take).expect("they are waited for");
        lines == [whole("last words")]
    }

    #[test]
    fn what_others_print_after_the_exit_is_taken_for_a_while() {
        // A machine may be held up for longer than that.
        assert!((0..5).any(|_| has_last_words()));
    }

    #[test]
    fn what_stands_in_a_pipe_is_read_to_its_last_byte_and_nothing_is_waited_for() {
        for bytes in [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES] {
            let (pipe, mut writer) = std::io::pipe().expect("a pipe");
            io::Write::write_all(&mut writer, &vec![b'x'; bytes]).expect("there is room");
            let mut output = Output::new(Source::Stdout, Some(File::from(OwnedFd::from(pipe))));
            let mut sizes = Vec::new();
            let _ = output.drain(&mut |_, line| {
                let Line::Whole(line) = line else { panic!("{bytes} bytes are a line") };
                sizes.push(line.len());
                ControlFlow::Continue(())
            });
            assert_eq!(sizes, Vec::from_iter((bytes > 0).then_some(bytes)));
            drop(writer);
        }
    }

    #[test]
    fn a_line_as_long_as_may_be_is_whole_and_the_size_of_a_longer_one_is_known() {
        let most = vec![b'x'; LINE_BYTES];
        assert_eq!(lines(&[&most, b"\r\n"]), [Line::Whole(most.clone())]);
        let found = lines(&[&most, b"y", b"zz\nafter\n"]);
        let [Line::TooLong { start, bytes }, after] = found.as_slice() else { panic!("{} lines", found.len()) };
        assert_eq!((start.len(), *bytes), (LINE_BYTES + 1, LINE_BYTES as u64 + 3));
        assert_eq!(*after, whole("after"));
    }

    #[test]
    fn a_line_without_end_is_given_up_and_held_no_longer_than_may_be() {
        let piece = vec![b'x'; 1 << 20];
        let mut output = Output::<std::fs::File>::new(Source::Stdout, None);
        let mut given = None;
        for n in 1..=65 {
            let taken = output.feed(&piece, &mut |_, line| {
                let Line::TooLong { bytes, .. } = line else { panic!("a whole line") };
                given = Some((n, bytes));
                ControlFlow::Break(())
            });
            assert!(output.line.capacity() <= 2 * LINE_BYTES + 2, "{}", output.line.capacity());
            if taken.is_break() {
                break;
            }
        }
        assert_eq!(given, Some((64, COUNTED_BYTES)));
    }
}
