//! Lines of the log, and their formats.

use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::time::SystemTime;

use arcp_proto::json::Object;
use arcp_proto::time::UtcMs;

use crate::stderr::visible;

/// The longest text of one part of a line, in bytes; the rest is left out.
pub const PART_BYTES: usize = 4 << 10;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something fails.
    Error,
    /// Something will fail unless an operator acts.
    Warn,
    /// Something that an operator may want to know.
    Info,
    /// Every session and job.
    Debug,
}

impl Level {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Which lines are shown: a level for all, and other levels for some events.
///
/// ```
/// use arcp_host::log_line::{Filter, Level};
/// let filter: Filter = "warn,refused=info,session=off".parse()?;
/// assert!(filter.shows(Level::Info, "refused") && !filter.shows(Level::Info, "decision"));
/// assert!(!filter.shows(Level::Error, "session"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    most: Option<Level>,
    of_events: Vec<(String, Option<Level>)>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { most: Some(Level::Info), of_events: Vec::new() }
    }
}

impl Filter {
    /// Whether a line of an event is shown.
    pub fn shows(&self, level: Level, event: &str) -> bool {
        let own = self.of_events.iter().rev().find(|(name, _)| name == event);
        own.map_or(self.most, |(_, most)| *most).is_some_and(|most| level <= most)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let level = |word: &str| match word.trim() {
            "off" => Ok(None),
            "error" => Ok(Some(Level::Error)),
            "warn" => Ok(Some(Level::Warn)),
            "info" => Ok(Some(Level::Info)),
            "debug" => Ok(Some(Level::Debug)),
            other => Err(format!("`{other}` is no level: expected off, error, warn, info or debug")),
        };
        let mut filter = Filter::default();
        for part in text.split(',') {
            match part.split_once('=') {
                None => filter.most = level(part)?,
                Some((event, word)) if EVENTS.contains(&event.trim()) => {
                    filter.of_events.push((event.trim().to_string(), level(word)?));
                }
                Some((event, _)) => {
                    return Err(format!("`{event}` is no event: expected one of {}", EVENTS.join(", ")));
                }
            }
        }
        Ok(filter)
    }
}

/// The events that a line can be about; `runtime` is for messages of the program about itself.
pub const EVENTS: [&str; 8] = ["runtime", "refused", "decision", "policy", "session", "job", "store", "artifact"];

/// The format of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// A line. Its contents may be shown: a [`Secret`](arcp_proto::secret::Secret) has no text form,
/// and so cannot get into a line.
///
/// ```
/// use arcp_host::log_line::{LogFormat, Level, Line};
/// let line = Line::new(Level::Info, "refused", "a request was refused").with("code", Some(&"CANCELLED"));
/// assert_eq!(line.shown(LogFormat::Text), "arcp: a request was refused (code=CANCELLED)");
/// ```
#[derive(Clone, Debug)]
pub struct Line {
    level: Level,
    event: &'static str,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    /// A line with this message.
    pub fn new(level: Level, event: &'static str, message: impl Display) -> Line {
        Line { level, event, message: cut(&message), fields: Vec::new() }
    }

    /// Adds a field, if its value is known.
    #[must_use]
    pub fn with(self, name: &'static str, value: Option<&dyn Display>) -> Line {
        let mut line = self;
        line.fields.extend(value.map(|value| (name, cut(value))));
        line
    }

    /// Whether a filter shows the line.
    pub fn passes(&self, filter: &Filter) -> bool {
        filter.shows(self.level, self.event)
    }

    /// Whether peers cause the line: peers may not fill the log.
    pub(crate) fn is_of_peers(&self) -> bool {
        matches!(self.event, "refused" | "decision" | "policy" | "session" | "job" | "artifact")
    }

    /// The line in a format; a JSON object without its time.
    pub fn shown(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Text => self.text(),
            LogFormat::Json => self.json(),
        }
    }

    fn text(&self) -> String {
        let mut text = if self.event == "runtime" { self.message.clone() } else { format!("arcp: {}", self.message) };
        let mut before = " (";
        for (name, value) in &self.fields {
            let plain = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && c != '"' && c != ')');
            let _ =
                if plain { write!(text, "{before}{name}={value}") } else { write!(text, "{before}{name}={value:?}") };
            before = " ";
        }
        if !self.fields.is_empty() {
            text.push(')');
        }
        text
    }

    fn json(&self) -> String {
        let mut object = Object::new();
        let message = self.message.strip_prefix("arcp: ").unwrap_or(&self.message);
        object.str("level", self.level.as_str()).str("event", self.event).str("message", message);
        for (name, value) in &self.fields {
            object.str(name, value);
        }
        object.done()
    }
}

/// A JSON object with its time, and the number of repetitions.
pub(crate) fn timed(object: &str, at: SystemTime, repeated: Option<u64>) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let rest = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    let repeated = repeated.map(|more| format!(",\"repeated\":{more}")).unwrap_or_default();
    format!("{{\"time\":\"{time}\",{rest}{repeated}}}")
}

fn cut(part: &dyn Display) -> String {
    let mut text = visible(&part.to_string());
    text.truncate(text.floor_char_boundary(PART_BYTES));
    text
}
