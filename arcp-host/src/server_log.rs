//! The log of a server: lines on stderr for which no thread waits.
//!
//! A thread of its own writes them. In each second the first [`LINES`] different lines are shown,
//! of which fewer may be caused by peers. Repetitions and further lines are counted, and the counts
//! are shown at the end of the second. The same window is the queue while stderr is not read.

use std::fmt::Arguments;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::log_line::{Filter, Level, Line, LogFormat, timed};

/// How many different lines are shown in one second, and held while stderr is not read.
pub const LINES: usize = 128;
/// How many of these may be caused by peers, so that there is always room for messages of the
/// program about itself.
pub const LINES_OF_PEERS: usize = 96;

const WINDOW: Duration = Duration::from_secs(1);

static STDERR: LazyLock<ServerLog> = LazyLock::new(|| {
    let (format, filter) = SETTINGS.get().cloned().unwrap_or_default();
    ServerLog::start(io::stderr(), format, filter)
});
static SETTINGS: OnceLock<(LogFormat, Filter)> = OnceLock::new();

/// Sets the format of this process's log, and which lines it shows. It has no effect after the
/// first line.
pub fn configure(format: LogFormat, filter: Filter) {
    let _ = SETTINGS.set((format, filter));
}

/// Adds a line about the program itself to the log of this process.
///
/// ```
/// arcp_host::server_log::log(format_args!("arcp: {} jobs", 3));
/// ```
pub fn log(line: Arguments<'_>) {
    STDERR.log(line);
}

/// Whether the log of this process shows such lines. If not, the caller need not make them.
///
/// ```
/// use arcp_host::log_line::Level;
/// use arcp_host::server_log::shows;
/// assert!(shows(Level::Info, "refused") && !shows(Level::Debug, "job"), "unless it is configured otherwise");
/// ```
pub fn shows(level: Level, event: &str) -> bool {
    STDERR.0.filter.shows(level, event)
}

/// Adds a line to the log of this process.
pub fn add(line: &Line) {
    STDERR.add(line);
}

/// Waits until the log of this process is written, but not longer than `patience`: stderr may have
/// no reader.
pub fn flush(patience: Duration) {
    STDERR.flush(patience);
}

/// Writes panics to the log. The hook of the standard library would block the panicking thread
/// until stderr is read.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log(format_args!("arcp: thread {}: {panic}", thread.name().unwrap_or("unnamed")));
        // The process may end with this thread.
        flush(Duration::from_millis(200));
    }));
}

/// A log with a writer thread.
pub struct ServerLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    format: LogFormat,
    filter: Filter,
    window: Mutex<Window>,
    changed: Condvar,
}

/// The lines that were logged since the window opened.
#[derive(Default)]
struct Window {
    lines: Vec<Shown>,
    /// How many of `lines` are caused by peers.
    of_peers: usize,
    /// How many of `lines` the writer has taken.
    taken: usize,
    /// The number of lines that found no room.
    dropped: u64,
    /// The time at which the counts are shown; `None` while the window is empty.
    closes: Option<Instant>,
    /// Whether the writer is writing.
    writing: bool,
}

struct Shown {
    text: String,
    at: SystemTime,
    repetitions: u64,
}

impl ServerLog {
    /// Starts the writer thread. If it cannot be started, nothing is logged.
    pub fn start(out: impl Write + Send + 'static, format: LogFormat, filter: Filter) -> ServerLog {
        let shared = Arc::new(Shared { format, filter, ..Shared::default() });
        let writer = shared.clone();
        let _ = std::thread::Builder::new().name("log".to_string()).spawn(move || writer.write_to(out));
        ServerLog(shared)
    }

    /// Adds a line about the program itself. It never waits.
    pub fn log(&self, line: Arguments<'_>) {
        self.add(&Line::new(Level::Info, "runtime", line));
    }

    /// Adds a line, if the filter shows it. It never waits.
    pub fn add(&self, line: &Line) {
        if line.passes(&self.0.filter) {
            self.0.window().add(line.shown(self.0.format), line.is_of_peers());
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, including the counts, but not longer than `patience`.
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
    fn add(&mut self, text: String, of_peers: bool) {
        self.closes.get_or_insert_with(|| Instant::now() + WINDOW);
        let has_room = self.lines.len() < LINES && (!of_peers || self.of_peers < LINES_OF_PEERS);
        if let Some(line) = self.lines.iter_mut().find(|line| line.text == text) {
            line.repetitions += 1;
        } else if has_room {
            self.of_peers += usize::from(of_peers);
            self.lines.push(Shown { text, at: SystemTime::now(), repetitions: 0 });
        } else {
            self.dropped += 1;
        }
    }

    /// Takes the lines that were not taken yet.
    fn take(&mut self, format: LogFormat) -> String {
        let new = &self.lines[self.taken..];
        self.taken = self.lines.len();
        let shown = new.iter().map(|line| match format {
            LogFormat::Text => line.text.clone() + "\n",
            LogFormat::Json => timed(&line.text, line.at, None) + "\n",
        });
        shown.collect()
    }

    /// Empties the window; returns the counts.
    fn close(&mut self, format: LogFormat) -> String {
        let (mut counts, now) = (String::new(), SystemTime::now());
        for line in self.lines.iter().filter(|line| line.repetitions > 0) {
            let _ = match format {
                LogFormat::Text => writeln!(counts, "{} ({} more times)", line.text, line.repetitions),
                LogFormat::Json => writeln!(counts, "{}", timed(&line.text, now, Some(line.repetitions))),
            };
        }
        if self.dropped > 0 {
            let why = format!("arcp: {} lines of this log were left out", self.dropped);
            let line = Line::new(Level::Warn, "runtime", why).shown(format);
            let _ = match format {
                LogFormat::Text => writeln!(counts, "{line}"),
                LogFormat::Json => writeln!(counts, "{}", timed(&line, now, None)),
            };
        }
        *self = Window::default();
        counts
    }
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        // No holder of this lock panics.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        loop {
            let text = self.next_text();
            // A closed stderr is not an error.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            self.window().writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for text to write.
    fn next_text(&self) -> String {
        let mut window = self.window();
        loop {
            let left = window.closes.map(|at| at.saturating_duration_since(Instant::now()));
            let text = match left {
                _ if window.taken < window.lines.len() => window.take(self.format),
                Some(Duration::ZERO) => window.close(self.format),
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
    use crate::log_line::PART_BYTES;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A stderr that accepts a write only when the test allows it.
    struct Held {
        go: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // When the test has dropped its end, every write is accepted.
            let _ = self.go.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn held() -> (ServerLog, Sender<()>, Receiver<String>) {
        held_as(LogFormat::Text, "info")
    }

    fn held_as(format: LogFormat, filter: &str) -> (ServerLog, Sender<()>, Receiver<String>) {
        let ((hold, go), (written, lines)) = (channel(), channel());
        let filter = filter.parse().expect("a filter");
        (ServerLog::start(Held { go, written }, format, filter), hold, lines)
    }

    fn refused(code: &str) -> Line {
        Line::new(Level::Info, "refused", "a request was refused").with("code", Some(&code))
    }

    #[test]
    fn what_peers_do_leaves_room_for_what_the_program_says() {
        let (log, hold, written) = held();
        (0..1000).for_each(|n| log.add(&refused(&n.to_string())));
        log.log(format_args!("arcp: the store fails"));
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        assert_eq!(text.lines().filter(|line| line.contains("refused")).count(), LINES_OF_PEERS);
        assert!(text.contains("arcp: the store fails\n"), "{text}");
    }

    #[test]
    fn as_json_each_line_is_an_object_with_its_time_and_counts_are_too() {
        let (log, hold, written) = held_as(LogFormat::Json, "info");
        log.log(format_args!("arcp: \"quoted\"\n\x1b[2J"));
        (0..3).for_each(|_| log.add(&refused("a\u{202e}b")));
        (0..LINES).for_each(|n| log.log(format_args!("line {n}")));
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        assert!(lines.iter().all(|line| line["time"].as_str().is_some_and(|time| time.ends_with('Z'))), "{text}");
        assert_eq!(lines[0]["message"], "\"quoted\"\\n\\u{1b}[2J");
        assert_eq!((&lines[1]["event"], &lines[1]["level"]), (&"refused".into(), &"info".into()));
        assert_eq!(lines[1]["code"], "a\\u{202e}b");
        let last = &lines[lines.len() - 2..];
        assert_eq!((&last[0]["code"], &last[0]["repeated"]), (&lines[1]["code"], &2.into()), "{text}");
        assert_eq!(last[1]["message"], "2 lines of this log were left out");
    }

    #[test]
    fn a_filter_leaves_out_what_nobody_asked_for() {
        let (log, hold, written) = held_as(LogFormat::Text, "warn,refused=info");
        log.log(format_args!("arcp: hello"));
        log.add(&refused("CANCELLED"));
        log.add(&Line::new(Level::Info, "decision", "granted"));
        log.add(&Line::new(Level::Error, "store", "it fails"));
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        assert_eq!(text, "arcp: a request was refused (code=CANCELLED)\narcp: it fails\n");
        for (wrong, said) in [("loud", "`loud` is no level"), ("noise=info", "`noise` is no event")] {
            assert!(wrong.parse::<Filter>().expect_err("refused").contains(said));
        }
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
        log.log(format_args!("a\nb {}", "é".repeat(PART_BYTES)));
        drop(hold);
        log.flush(PATIENCE);
        let text: String = written.try_iter().collect();
        assert!(text.starts_with("a\\nb ") && text.len() <= PART_BYTES + 1 && text.lines().count() == 1);
    }
}
