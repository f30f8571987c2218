//! The log of a server: lines on stderr that no thread waits for.
//!
//! A thread of its own writes them. In each second the first [`LINES`]
//! different lines are shown; repetitions and what is more than that are
//! counted, and the counts are shown at the end of the second. The same
//! window is the queue when stderr is not read.

use std::fmt::Arguments;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stderr::visible;

/// Different lines shown in one second, and held while stderr is not read.
pub const LINES: usize = 128;
/// Longest line in bytes; the rest of a longer one is left out.
pub const LINE_BYTES: usize = 4 << 10;

const WINDOW: Duration = Duration::from_secs(1);

static STDERR: LazyLock<ServerLog> = LazyLock::new(|| ServerLog::start(io::stderr()));

/// Adds a line to the log of this process.
///
/// ```
/// arcp_host::server_log::log(format_args!("arcp: {} jobs", 3));
/// ```
pub fn log(line: Arguments<'_>) {
    STDERR.log(line);
}

/// Waits until the log of this process is written, but no longer than this:
/// perhaps nobody reads stderr.
pub fn flush(patience: Duration) {
    STDERR.flush(patience);
}

/// Writes panics to the log. The hook of the standard library would hold up
/// the thread that panics until stderr is read.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log(format_args!("arcp: thread {}: {panic}", thread.name().unwrap_or("unnamed")));
        // Perhaps the process ends with this thread.
        flush(Duration::from_millis(200));
    }));
}

/// A log with a writer of its own.
pub struct ServerLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    window: Mutex<Window>,
    changed: Condvar,
}

/// What was logged since the window opened.
#[derive(Default)]
struct Window {
    lines: Vec<Line>,
    /// How many of `lines` the writer has taken.
    taken: usize,
    /// Lines that found no room.
    dropped: u64,
    /// When the counts are due; `None` while there is nothing.
    closes: Option<Instant>,
    /// The writer is in the middle of a write.
    writing: bool,
}

struct Line {
    text: String,
    repetitions: u64,
}

impl ServerLog {
    /// Starts the thread that writes. Without threads there is no log.
    pub fn start(out: impl Write + Send + 'static) -> ServerLog {
        let shared = Arc::new(Shared::default());
        let writer = shared.clone();
        let _ = std::thread::Builder::new().name("log".to_string()).spawn(move || writer.write_to(out));
        ServerLog(shared)
    }

    /// Adds a line. It never waits.
    pub fn log(&self, line: Arguments<'_>) {
        let mut text = visible(&line.to_string());
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        self.0.window().add(text);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, counts included, but no longer than
    /// this.
    pub fn flush(&self, patience: Duration) {
        let mut window = self.0.window();
        if window.closes.is_some() {
            window.closes = Some(Instant::now());
        }
        self.0.changed.notify_all();
        let unwritten = |window: &mut Window| window.writing || window.closes.is_some();
        drop(self.0.changed.wait_timeout_while(window, patience, unwritten));
    }
}

impl Window {
    fn add(&mut self, text: String) {
        self.closes.get_or_insert_with(|| Instant::now() + WINDOW);
        if let Some(line) = self.lines.iter_mut().find(|line| line.text == text) {
            line.repetitions += 1;
        } else if self.lines.len() < LINES {
            self.lines.push(Line { text, repetitions: 0 });
        } else {
            self.dropped += 1;
        }
    }

    /// The lines that were not taken yet.
    fn take(&mut self) -> String {
        let new = &self.lines[self.taken..];
        self.taken = self.lines.len();
        new.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }

    /// Begins anew; gives the counts.
    fn close(&mut self) -> String {
        let mut counts = String::new();
        for line in self.lines.iter().filter(|line| line.repetitions > 0) {
            let _ = writeln!(counts, "{} ({} more times)", line.text, line.repetitions);
        }
        if self.dropped > 0 {
            let _ = writeln!(counts, "arcp: {} lines of this log were left out", self.dropped);
        }
        *self = Window::default();
        counts
    }
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        // Nothing that holds it panics.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        loop {
            let text = self.next_text();
            // Perhaps nobody is there any more: that ends nothing.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            self.window().writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for something to write.
    fn next_text(&self) -> String {
        let mut window = self.window();
        loop {
            let left = window.closes.map(|at| at.saturating_duration_since(Instant::now()));
            let text = match left {
                _ if window.taken < window.lines.len() => window.take(),
                Some(Duration::ZERO) => window.close(),
                Some(_) | None => String::new(),
            };
            if !text.is_empty() {
                window.writing = true;
                return text;
            }
            self.changed.notify_all();
            let (next, _) = self
                .changed
                .wait_timeout(window, left.unwrap_or(Duration::MAX))
                .unwrap_or_else(PoisonError::into_inner);
            window = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A stderr that takes a write only when it is told to.
    struct Held {
        go: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once nobody tells it any more, it takes everything.
            let _ = self.go.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn held() -> (ServerLog, Sender<()>, Receiver<String>) {
        let ((hold, go), (written, lines)) = (channel(), channel());
        (ServerLog::start(Held { go, written }), hold, lines)
    }

    #[test]
    fn an_unread_log_holds_up_nobody_and_counts_what_it_leaves_out() {
        let (log, hold, written) = held();
        (0..10_000).for_each(|n| log.log(format_args!("line {n}")));
        log.flush(Duration::ZERO);
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        assert_eq!(text.lines().filter(|line| line.starts_with("line ")).count(), LINES);
        assert!(text.ends_with(&format!("arcp: {} lines of this log were left out\n", 10_000 - LINES)), "{text}");
    }

    #[test]
    fn a_repeated_line_is_shown_once_and_counted() {
        let (log, hold, written) = held();
        (0..10_000).for_each(|_| log.log(format_args!("refused")));
        drop(hold);
        log.flush(PATIENCE);
        assert_eq!(written.try_iter().collect::<String>(), "refused\nrefused (9999 more times)\n");
    }

    #[test]
    fn a_line_is_one_line_and_not_too_long() {
        let (log, hold, written) = held();
        log.log(format_args!("a\nb {}", "é".repeat(LINE_BYTES)));
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        assert!(text.starts_with("a\\nb ") && text.len() <= LINE_BYTES + 1 && text.lines().count() == 1);
    }
}
