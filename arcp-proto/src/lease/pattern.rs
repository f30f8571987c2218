//! Patterns of a lease (1.1 §9.2).
//!
//! `/` is the only separator. Within a segment `*` matches any number of characters, and `?`
//! matches one. `**` is a whole segment. It matches any number of segments, including none, if more
//! follows, and one or more at the end. So `/a/**` matches everything below `/a` but not `/a`
//! itself, `/a/**/b` also matches `/a/b`, and `/**` matches every path.
//!
//! Patterns of URLs have a scheme, a host, an optional port, and a path. The labels of the host are
//! segments as well: `https://*.example.com/**`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::automaton::Program;
use super::fuel::{Fuel, Spent};
use super::namespace::{Namespace, Shape};
use super::target::{self, PART, Refused, Target, Url};

/// A pattern, with its original text and its compiled form.
///
/// ```
/// use arcp_proto::lease::{Namespace, Pattern, Target};
/// let pattern = Pattern::new(&Namespace::FsRead, "/workspace/**/*.rs")?;
/// let matches = |path| Target::new(&Namespace::FsRead, path).is_ok_and(|target| pattern.matches(&target));
/// assert!(matches("/workspace/lib.rs") && matches("/workspace/src/a/b.rs"));
/// assert!(!matches("/workspace-2/lib.rs") && !matches("/workspace/../etc/x.rs"));
/// # Ok::<(), arcp_proto::lease::Refused>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    program: Program,
}

/// The port of a pattern of URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `*`
    Any,
    /// The written one, or the default of the scheme.
    Is(u16),
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A literal character.
    Char(char),
    /// `?`: one character within a segment.
    One,
    /// `*`: any number of characters within a segment.
    Run,
    /// `**/`: any number of segments with their separators.
    Deep,
    /// `**` at the end of a part: the rest of the part.
    Rest,
}

impl Pattern {
    /// Parses a pattern of a namespace.
    ///
    /// # Errors
    ///
    /// Why it is not one.
    pub fn new(namespace: &Namespace, text: &str) -> Result<Pattern, Refused> {
        target::bounded(text)?;
        let mut steps = Vec::with_capacity(text.len() + 8);
        match namespace.shape() {
            Shape::Path => {
                let rest = text.strip_prefix('/').ok_or(Refused::NotAbsolute)?;
                steps.push(Step::Char('/'));
                if !rest.is_empty() {
                    segments(rest, Part::Plain, &mut steps)?;
                }
            }
            Shape::Name if text.starts_with('/') => return Err(Refused::Absolute),
            Shape::Name => segments(text, Part::Plain, &mut steps)?,
            Shape::Url => url(text, &mut steps)?,
        }
        Ok(Pattern { text: text.into(), program: Program::new(steps)? })
    }

    /// Whether the pattern matches a target.
    pub fn matches(&self, target: &Target) -> bool {
        self.matches_with(target, &mut Fuel::new(u32::MAX)).is_ok_and(|matches| matches)
    }

    pub(super) fn matches_with(&self, target: &Target, fuel: &mut Fuel) -> Result<bool, Spent> {
        self.program.matches(target.canonical(), fuel)
    }

    /// The original text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The port of a pattern of URLs. `None` if it names no port and its scheme has no default, or
    /// if it is not a pattern of URLs.
    pub fn port(&self) -> Option<Port> {
        let url = Url::split(&self.text).ok()?;
        match url.port.or_else(|| target::default_port(&url.scheme))? {
            "*" => Some(Port::Any),
            number => number.parse().ok().map(Port::Is),
        }
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// The parts that consist of segments, each with its own rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A file path or a name.
    Plain,
    Host,
    /// The path of a URL.
    UrlPath,
}

/// Adds the steps of the segments of a part.
fn segments(text: &str, part: Part, steps: &mut Vec<Step>) -> Result<(), Refused> {
    let mut rest = text.split(if part == Part::Host { '.' } else { '/' }).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match (segment, part) {
            ("**", _) if last => steps.push(Step::Rest),
            ("**", _) => steps.push(Step::Deep),
            _ if segment.contains("**") => return Err(Refused::BadWildcard),
            // A URL may end with `/`, a path may not.
            ("", Part::UrlPath) if last => {}
            (_, Part::Plain) => plain(segment, steps)?,
            (_, Part::Host) => label(segment, steps)?,
            (_, Part::UrlPath) => url_segment(segment, steps)?,
        }
        if !last && segment != "**" {
            steps.push(Step::Char('/'));
        }
    }
    Ok(())
}

fn plain(segment: &str, steps: &mut Vec<Step>) -> Result<(), Refused> {
    target::segment(segment)?;
    steps.extend(segment.chars().map(|c| match c {
        '*' => Step::Run,
        '?' => Step::One,
        c => Step::Char(c),
    }));
    Ok(())
}

/// An encoded character is never a wildcard.
fn url_segment(segment: &str, steps: &mut Vec<Step>) -> Result<(), Refused> {
    target::segment(segment)?;
    let mut rest = segment;
    while !rest.is_empty() {
        let end = rest.find(['*', '?']).unwrap_or(rest.len());
        steps.extend(target::decoded(&rest[..end])?.into_iter().map(Step::Char));
        let wildcard = rest[end..].chars().next();
        steps.extend(wildcard.map(|c| if c == '*' { Step::Run } else { Step::One }));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Ok(())
}

fn label(segment: &str, steps: &mut Vec<Step>) -> Result<(), Refused> {
    let lower = segment.to_ascii_lowercase();
    if !lower.bytes().all(|c| target::is_host_byte(c) || matches!(c, b'*' | b'?')) {
        return Err(Refused::BadHost);
    }
    plain(&lower, steps).map_err(|_| Refused::BadHost)
}

fn url(text: &str, steps: &mut Vec<Step>) -> Result<(), Refused> {
    let url = Url::split(text)?;
    let literal = |text: &str, steps: &mut Vec<Step>| steps.extend(text.chars().map(Step::Char));
    literal(&url.scheme, steps);
    steps.push(Step::Char(PART));
    match url.port {
        Some("*") => steps.extend([Step::One, Step::Run]),
        Some(port) => literal(target::checked_port(port)?, steps),
        None => literal(target::default_port(&url.scheme).unwrap_or_default(), steps),
    }
    steps.push(Step::Char(PART));
    if url.host.contains(['*', '?']) {
        segments(url.host, Part::Host, steps)?;
    } else {
        let mut host = String::new();
        target::host(url.host, &mut host)?;
        literal(&host, steps);
    }
    steps.push(Step::Char(PART));
    segments(url.path, Part::UrlPath, steps)
}
