//! Targets of operations, in the canonical form that patterns are compared with.
//!
//! A target without such a form is refused, not repaired: a path with `..` may mean something else
//! to the program that opens it.

use alloc::string::{String, ToString as _};
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::namespace::{Namespace, Shape};

/// The longest target or pattern, in bytes.
pub(super) const LONGEST: usize = 4096;
/// The separator of the parts of a URL. No part can contain it, and no wildcard matches it.
pub(super) const PART: char = '\0';

/// The target of an operation: a path, URL or name that was checked.
///
/// ```
/// use arcp_proto::lease::{Namespace, Target};
/// let target = Target::new(&Namespace::NetFetch, "HTTPS://Example.com:443/a%20b")?;
/// assert_eq!(target, Target::new(&Namespace::NetFetch, "https://example.com/a%20b")?);
/// assert!(Target::new(&Namespace::FsRead, "/home/../etc/passwd").is_err());
/// # Ok::<(), arcp_proto::lease::Refused>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(String);

/// Why a target or pattern has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It has more than 4,096 bytes.
    #[error("it has more than 4096 bytes")]
    TooLong,
    /// A path that does not begin with `/`.
    #[error("a path begins with `/`")]
    NotAbsolute,
    /// A name that begins with `/`.
    #[error("a name does not begin with `/`")]
    Absolute,
    /// `//`, or a `/` at the end.
    #[error("it has an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("it has a segment `.` or `..`")]
    DotSegment,
    /// `\`, which some programs read as `/`.
    #[error("it has a backslash")]
    Backslash,
    /// A control character.
    #[error("it has a control character")]
    Control,
    /// `%2f`, `%2e`, `%5c` or `%25`: a program that decodes it sees another target.
    #[error("it has an encoded `/`, `.`, `\\` or `%`")]
    EncodedSeparator,
    /// `%` without two hexadecimal digits, or not UTF-8.
    #[error("it has a `%` that encodes no text")]
    BadEncoding,
    /// `scheme://` is missing.
    #[error("a URL begins with a scheme and `://`")]
    NoScheme,
    /// `user@` before the host.
    #[error("a URL may not name a user")]
    UserInfo,
    /// A host that is neither a list of labels nor an address in the usual form.
    #[error("the host is not written as lower-case labels or a usual address")]
    BadHost,
    /// A port that is not a number from 1 to 65535.
    #[error("the port is not 1 to 65535")]
    BadPort,
    /// `**` that is not a whole segment, as in `a**`.
    #[error("`**` is a whole segment")]
    BadWildcard,
    /// A space or a `#` in a URL.
    #[error("a URL has no spaces and no fragment")]
    BadUrl,
    /// More than 255 characters and wildcards after the first wildcard.
    #[error("it has more than 255 characters behind its first wildcard")]
    TooComplex,
}

impl Target {
    /// Checks the target of an operation.
    ///
    /// # Errors
    ///
    /// Why it cannot be compared with patterns.
    pub fn new(namespace: &Namespace, text: &str) -> Result<Target, Refused> {
        bounded(text)?;
        match namespace.shape() {
            Shape::Path => path(text).map(Target),
            Shape::Name => name(text).map(Target),
            Shape::Url => url(text).map(Target),
        }
    }

    /// The target that a walk over patterns found.
    pub(super) fn from_canonical(text: String) -> Target {
        Target(text)
    }

    /// The form that patterns are compared with.
    pub(super) fn canonical(&self) -> &str {
        &self.0
    }
}

/// The form for people. Encoded characters of a URL's path are shown decoded.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.split(PART);
        let (Some(scheme), Some(port), Some(labels), Some(path)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return f.write_str(&self.0);
        };
        write!(f, "{scheme}://{}", labels.replace('/', "."))?;
        if !port.is_empty() && default_port(scheme) != Some(port) {
            write!(f, ":{port}")?;
        }
        write!(f, "/{path}")
    }
}

pub(super) fn bounded(text: &str) -> Result<(), Refused> {
    match text {
        "" => Err(Refused::Empty),
        _ if text.len() > LONGEST => Err(Refused::TooLong),
        _ if text.contains('\\') => Err(Refused::Backslash),
        _ if text.contains(char::is_control) => Err(Refused::Control),
        _ => Ok(()),
    }
}

fn path(text: &str) -> Result<String, Refused> {
    let rest = text.strip_prefix('/').ok_or(Refused::NotAbsolute)?;
    if !rest.is_empty() {
        rest.split('/').try_for_each(segment)?;
    }
    Ok(text.to_string())
}

fn name(text: &str) -> Result<String, Refused> {
    if text.starts_with('/') {
        return Err(Refused::Absolute);
    }
    text.split('/').try_for_each(segment)?;
    Ok(text.to_string())
}

/// Checks a segment of a path or name, encoded or not.
pub(super) fn segment(text: &str) -> Result<(), Refused> {
    match text {
        "" => Err(Refused::EmptySegment),
        "." | ".." => Err(Refused::DotSegment),
        _ if hides_a_separator(text) => Err(Refused::EncodedSeparator),
        _ => Ok(()),
    }
}

fn hides_a_separator(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|w| w[0] == b'%' && is_separator(w[1], w[2]))
}

fn is_separator(high: u8, low: u8) -> bool {
    matches!((high, low.to_ascii_lowercase()), (b'2', b'f' | b'e' | b'5') | (b'5', b'c'))
}

/// The parts of a URL, or of a pattern of URLs, as written.
pub(super) struct Url<'a> {
    /// In lower case.
    pub(super) scheme: String,
    pub(super) host: &'a str,
    pub(super) port: Option<&'a str>,
    /// The text after the `/` that ends the host.
    pub(super) path: &'a str,
}

impl<'a> Url<'a> {
    /// Splits a URL at its separators.
    pub(super) fn split(text: &'a str) -> Result<Url<'a>, Refused> {
        if text.contains([' ', '#']) {
            return Err(Refused::BadUrl);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Refused::NoScheme)?;
        let is_scheme = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return Err(Refused::NoScheme);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(Refused::UserInfo);
        }
        let after_address = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_address..].rfind(':') {
            Some(at) => (&authority[..after_address + at], Some(&authority[after_address + at + 1..])),
            None => (authority, None),
        };
        Ok(Url { scheme: scheme.to_ascii_lowercase(), host, port, path })
    }
}

fn url(text: &str) -> Result<String, Refused> {
    // The query is left to the server: patterns cannot name it.
    let asked = text.split_once('?').map_or(text, |(resource, _)| resource);
    let url = Url::split(asked)?;
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(&url.scheme);
    out.push(PART);
    match url.port {
        Some(port) => out.push_str(checked_port(port)?),
        None => out.push_str(default_port(&url.scheme).unwrap_or_default()),
    }
    out.push(PART);
    host(url.host, &mut out)?;
    out.push(PART);
    let mut segments = url.path.split('/').peekable();
    while let Some(segment) = segments.next() {
        // The last segment may be empty: the URL is then another resource.
        if !segment.is_empty() || segments.peek().is_some() {
            self::segment(segment)?;
        }
        for character in decoded(segment)? {
            out.push(character);
        }
        if segments.peek().is_some() {
            out.push('/');
        }
    }
    Ok(out)
}

pub(super) fn checked_port(text: &str) -> Result<&str, Refused> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0 && text.as_bytes()[0].is_ascii_digit());
    // `080` would be a second text for the same port.
    number.filter(|_| !text.starts_with('0')).map(|_| text).ok_or(Refused::BadPort)
}

pub(super) fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" | "ws" => Some("80"),
        "https" | "wss" => Some("443"),
        _ => None,
    }
}

/// Adds a host without wildcards: its labels separated by `/`, or an IPv6 address in brackets.
pub(super) fn host(text: &str, out: &mut String) -> Result<(), Refused> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| Refused::BadHost)?;
        out.push_str(&alloc::format!("[{address}]"));
        return Ok(());
    }
    let lower = text.to_ascii_lowercase();
    if !lower.split('.').all(is_label) {
        return Err(Refused::BadHost);
    }
    // Some programs read `0x7f.1`, `127.1` and `2130706433` as addresses.
    let last = lower.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
    if numeric && lower.parse::<Ipv4Addr>().is_err() {
        return Err(Refused::BadHost);
    }
    out.push_str(&lower.replace('.', "/"));
    Ok(())
}

pub(super) fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|c| is_host_byte(c.to_ascii_lowercase()))
}

/// Whether a label of a host may contain this byte.
pub(super) fn is_host_byte(c: u8) -> bool {
    matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// The characters of a segment of a URL's path, decoded once.
pub(super) fn decoded(segment: &str) -> Result<alloc::vec::Vec<char>, Refused> {
    let mut bytes = alloc::vec::Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (Some(&high), Some(&low)) = (tail.first(), tail.get(1)) else { return Err(Refused::BadEncoding) };
        if is_separator(high, low) {
            return Err(Refused::EncodedSeparator);
        }
        let digits = core::str::from_utf8(&tail[..2]).map_err(|_| Refused::BadEncoding)?;
        if !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(Refused::BadEncoding);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| Refused::BadEncoding)?);
        rest = &tail[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| Refused::BadEncoding)?;
    if text.contains(char::is_control) {
        return Err(Refused::Control);
    }
    Ok(text.chars().collect())
}
